"""Everything about a workflow that can be known before its first call: all mistakes at once, or a plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..marked_yaml import MarkedYaml
from .agents import make_agent
from .assemble import make_outputs, plan_task
from .drafts import Draft, limits_of, make_draft
from .inputs import input_types, input_values
from .models import Models, Resolve
from .names import Names, classify, task_references
from .one_task import check_agent, check_function, check_names
from .order import dependency_order, find_cycles, remaining_paths
from .plan import AgentPlan, TaskPlan, Workflow
from .report import Report
from .sections import Sections, read_sections
from .shapes import ANY, TEXT, Shape, shape_of_data, shape_of_result
from .texts import Texts, Use

__all__ = ["Given", "check_workflow"]


@dataclass(frozen=True, slots=True)
class Given:
    """What a run adds to the file.

    `inputs` are data, `input_options` texts `NAME=VALUE` and `NAME=@file`, `model_options` texts `MODEL` and
    `NAME=MODEL`. `resolve` says what is wrong with a model. `required`: inputs without a value are mistakes.
    """

    inputs: Mapping[str, Any] = field(default_factory=dict)
    input_options: Sequence[str] = ()
    model_options: Sequence[str] = ()
    resolve: Resolve | None = None
    required: bool = True


def check_workflow(marked: MarkedYaml, *, text: str, name: str, folders: Sequence[Path], given: Given) -> Workflow:
    """The plan of a workflow. Raises InputProblems with every mistake, in the order of the file."""
    report = Report(marked)
    return _Check(report, read_sections(report), folders, given).plan(text=text, name=name)


class _Check:
    """One pass over one file. Mistakes are collected; what is wrong is left out of what follows."""

    def __init__(self, report: Report, sections: Sections, folders: Sequence[Path], given: Given) -> None:
        self.report, self.sections, self.folders = report, sections, tuple(folders)
        self.types = input_types(sections.inputs, report)
        self.inputs = input_values(
            self.types, given.inputs, options=given.input_options, known=sections.named["inputs"], report=report,
            required=given.required,
        )  # fmt: skip
        self.models = Models(sections.models, given.model_options, report=report)
        self.resolve = given.resolve
        self.agents: dict[str, AgentPlan] = {}
        self.once: list[Use] = []
        self.functions: dict[str, Callable[..., Any] | None] = {}
        self.fallback_of: dict[str, str] = {}

    def plan(self, *, text: str, name: str) -> Workflow:
        """The plan, after everything was looked at."""
        for agent, spec in self.sections.agents.items():
            self.agents[agent], uses = make_agent(
                agent, spec, models=self.models, folders=self.folders, report=self.report
            )
            self.once += uses
        drafts = self._drafts()
        needs = {draft.name: self._needs(draft, drafts) for draft in drafts.values()}
        order = dependency_order(needs)
        cyclic = self._cycles(needs)
        names = self._names(drafts, order, needs, cyclic)
        outputs = make_outputs(self.sections.outputs, names=names, report=self.report)
        self.models.resolve(self.resolve)
        self.report.finish()
        header = self.sections.header
        return Workflow(
            header.name or name, self.report.marked.file, text, self.inputs, self.models.routes, self.agents,
            self._tasks(drafts, order, needs, names), outputs, header.description, limits_of(header), self.folders,
            self.models.only, header.on_uncertain,
        )  # fmt: skip

    def _drafts(self) -> dict[str, Draft]:
        """Each task by itself."""
        drafts: dict[str, Draft] = {}
        for name, spec in self.sections.tasks.items():
            draft = make_draft(name, spec, texts=Texts(self.report, self.folders), report=self.report)
            if draft is not None:
                drafts[name] = draft
        named = self.sections.named
        for draft in drafts.values():
            draft.sources = [classify(source, drafts) for source in draft.sources]
            check_names(draft, agents=named["agents"], tasks=named["tasks"], report=self.report)
            agent = self.agents.get(draft.spec.judge or draft.spec.agent or "")
            if agent is not None:
                check_agent(draft, agent, inputs=self.inputs, models=self.models, report=self.report)
            if draft.kind == "python":
                self.functions[draft.name] = check_function(draft, folders=self.folders, report=self.report)
            if draft.fallback in drafts:
                self._fallback(draft, drafts[str(draft.fallback)])
        return drafts

    def _fallback(self, draft: Draft, other: Draft) -> None:
        """A fallback is tried in place of one item, so it has no elements of its own, and nobody else reads it."""
        path = ("tasks", draft.name, "on_failure", "fallback", "task")
        if other.sources or other.samples is not None:
            message = f"{other.name} has elements of its own, and a fallback is tried for the one item that failed"
            self.report.add(path, message, hint=f"take for_each and samples out of {other.name}")
        elif other.name in self.fallback_of:
            self.report.add(path, f"{other.name} is the fallback of {self.fallback_of[other.name]} already")
        else:
            self.fallback_of[other.name] = draft.name

    def _needs(self, draft: Draft, drafts: Mapping[str, Draft]) -> tuple[str, ...]:
        """Every task that must have something before this one ends; what is only read so far is none of them."""
        found = dict.fromkeys((*task_references(draft.uses), *draft.needs))
        return tuple(name for name in found if name in drafts)

    def _cycles(self, needs: Mapping[str, Sequence[str]]) -> set[str]:
        """The tasks that wait for each other. What a fallback needs is needed where it may be tried."""
        with_fallbacks = {name: list(needed) for name, needed in needs.items()}
        for fallback, owner in self.fallback_of.items():
            with_fallbacks[owner].append(fallback)
        cyclic: set[str] = set()
        for cycle in find_cycles(with_fallbacks):
            hint = "so_far(tasks.x) reads what is there without waiting"
            message = f"tasks wait for each other: {' -> '.join(cycle)}"
            if len({*cycle}) == 1:
                message = "this task waits for itself"
            self.report.add(("tasks", cycle[0]), message, hint=hint, of_key=True)
            cyclic |= {*cycle}
        return cyclic

    def _names(
        self, drafts: Mapping[str, Draft], order: Sequence[str], needs: Mapping[str, Sequence[str]], cyclic: set[str]
    ) -> Names:
        """Go through the tasks in dependency order and check every name in every text."""
        names = Names(
            drafts, inputs={name: self._input_shape(name) for name in self.sections.named["inputs"]},
            tasks=self.sections.named["tasks"], fallback_of=self.fallback_of, report=self.report,
        )  # fmt: skip
        for use in self.once:
            names.check(use, None)
        unknown = set(cyclic)
        for name in sorted(order, key=lambda name: self._stands_in(name)):
            if unknown & {name, *needs[name]}:
                unknown.add(name)
                continue
            names.enter(drafts[name])
            for use in drafts[name].uses:
                names.check(use, drafts[name])
            names.give(drafts[name], self._result(drafts[name], names))
        return names

    def _stands_in(self, name: str) -> int:
        """How many times over a task is a fallback: it is looked at after the task whose names it sees."""
        steps = 0
        while name in self.fallback_of and steps <= len(self.fallback_of):
            name, steps = self.fallback_of[name], steps + 1
        return steps

    def _input_shape(self, name: str) -> Shape:
        kind = self.types.get(name)
        if kind is None:
            return ANY
        value = self.inputs.get(name)
        if value is not None and kind.is_rows:
            return shape_of_data(value)
        return Shape({"type": "array"} if kind.is_rows else kind.schema)

    def _result(self, draft: Draft, names: Names) -> Shape:
        """The shape of what one item of a task gives."""
        match draft.kind:
            case "agent":
                spec = self.sections.agents.get(draft.spec.agent or "")
                agent = self.agents.get(draft.spec.agent or "")
                if spec is None or agent is None:
                    return ANY
                if agent.output is not None:
                    return Shape(agent.output.value_schema)
                said = spec.output is not None or spec.output_schema is not None or spec.output_model is not None
                return ANY if said else TEXT
            case "python":
                function = self.functions.get(draft.name)
                return ANY if function is None else shape_of_result(function)
            case "rank":
                return names.standings_shape(draft)
            case "value":
                return names.shape_of(draft.value, draft)

    def _tasks(
        self, drafts: Mapping[str, Draft], order: Sequence[str], needs: Mapping[str, Sequence[str]], names: Names
    ) -> dict[str, TaskPlan]:
        paths = remaining_paths(order, needs)
        return {
            name: plan_task(
                drafts[name], names.seen[name], function=self.functions.get(name),
                is_fallback=name in self.fallback_of, path=paths[name],
            )
            for name in order
        }  # fmt: skip
