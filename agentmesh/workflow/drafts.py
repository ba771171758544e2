"""From what is written of one task to its compiled parts; what needs other tasks to be known is left for later."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..flow.graph import Require
from ..messages import Settings
from ..template import Expression, Template
from .plan import Limits, OnFailure, Source, Text, Value, priority_number
from .report import Report
from .sections import is_reserved
from .spec import NAME, AgentSpec, DefaultOnFailure, FallbackOnFailure, HeaderSpec, StopSpec, TaskSpec
from .texts import Texts, Use

__all__ = ["Draft", "Kind", "limits_of", "make_draft", "stop_of"]

Kind = Literal["agent", "python", "value", "rank"]

_SAID_BY: dict[str, tuple[str, ...]] = {
    "agent": ("prompt", "model", "settings"),
    "python": ("with", "version"),
    "value": (),
    "rank": ("judge", "criteria", "entrant", "stop", "settings", "key"),
}
"""The keys that belong to some kinds of task only. Every other key belongs to all, but for those of collections."""
_NOT_IN_RANK = ("for_each", "samples")


@dataclass
class Draft:
    """One task with its texts compiled. `uses` are all of them; a part that was wrong is None, or left out.

    `open`: more names are meant to be there than are known, as what gives them is wrong in itself.
    """

    name: str
    spec: TaskSpec
    kind: Kind
    sources: list[Source] = field(default_factory=list)
    samples: Value | None = None
    key: Expression | None = None
    condition: Value | None = None
    prompt: Text | None = None
    model: Template | None = None
    arguments: dict[str, Value] = field(default_factory=dict)
    value: Value | None = None
    criteria: Text | None = None
    entrant: Text | None = None
    needs: tuple[str, ...] = ()
    on_failure: OnFailure = OnFailure()
    uses: list[Use] = field(default_factory=list)
    open: bool = False

    @property
    def is_collection(self) -> bool:
        """Whether this is many items rather than one."""
        return self.kind != "rank" and (self.spec.for_each is not None or self.spec.samples is not None)

    @property
    def fallback(self) -> str | None:
        """The task that is tried when this one fails."""
        return self.on_failure.task

    @property
    def require(self) -> Require:
        """How much of each collection it needs."""
        return Require.of(self.spec.require or "any")


def make_draft(name: str, spec: TaskSpec, *, texts: Texts, report: Report) -> Draft | None:
    """The parts of one task. Mistakes go to the report; None where it cannot be said what the task does."""
    kind = _kind(name, spec, report)
    if kind is None:
        return None
    path = ("tasks", name)
    draft = Draft(name, spec, kind)
    draft.sources = _sources(path, spec, texts, report)
    if isinstance(spec.samples, int) and spec.samples < 1:
        report.add((*path, "samples"), f"must be at least 1, not {spec.samples}")
    if spec.samples is not None:
        draft.samples = texts.value((*path, "samples"), spec.samples, role="samples")
    said = spec.for_each if spec.rank is None else spec.rank
    wanted = 0 if said is None else len(said) if isinstance(said, Mapping) else 1
    draft.open = len(draft.sources) < wanted or (spec.samples is not None and draft.samples is None)
    if spec.key is not None:
        draft.key = texts.expression((*path, "key"), spec.key, role="key")
        if not draft.sources and not draft.open:
            report.add((*path, "key"), "there are no elements to name", hint="a key goes with for_each", of_key=True)
    if spec.if_ is not None:
        draft.condition = texts.value((*path, "if"), spec.if_, role="item")
    if spec.value is not None:
        draft.value = texts.value((*path, "value"), spec.value, role="item")
    if spec.prompt is not None:
        draft.prompt = texts.prompt((*path, "prompt"), spec.prompt, role="item")
    if spec.model is not None:
        draft.model = texts.template((*path, "model"), spec.model, role="item")
    arguments = {n: texts.value((*path, "with", n), found, role="item") for n, found in (spec.with_ or {}).items()}
    draft.arguments = {n: value for n, value in arguments.items() if value is not None}
    if kind == "rank":
        draft.criteria = texts.template((*path, "criteria"), spec.criteria or _CRITERIA, role="item")
        draft.entrant = texts.template((*path, "entrant"), spec.entrant or "{{ item }}", role="entrant")
    draft.needs = (spec.needs,) if isinstance(spec.needs, str) else tuple(spec.needs or ())
    draft.on_failure = _on_failure(path, spec, report)
    draft.uses = texts.uses
    return draft


_CRITERIA = "which of the two is better"


def _kind(name: str, spec: TaskSpec, report: Report) -> Kind | None:
    """What a task does; and whether what else is said of it fits that."""
    path = ("tasks", name)
    written = report.marked.data["tasks"][name]
    kinds: list[Kind] = [kind for kind in ("agent", "python", "value", "rank") if kind in written]
    if not kinds:
        owner = next((kind for kind, keys in _SAID_BY.items() if any(key in written for key in keys)), None)
        hint = f"{owner}: is missing" if owner else "agent, python, value or rank says it"
        report.add(path, "nothing says what this task does", hint=hint, of_key=True)
        return None
    if len(kinds) > 1:
        report.add((*path, kinds[1]), f"a task is of one kind, and this one has {' and '.join(kinds)}", of_key=True)
        return None
    kind = kinds[0]
    for key in written:
        owners = [owner for owner, keys in _SAID_BY.items() if key in keys]
        if key != "key" and owners and kind not in owners:
            report.add(
                (*path, key), f"{key} belongs to {' and '.join(owners)} tasks, and this is {_a(kind)}", of_key=True
            )
    for key in _NOT_IN_RANK if kind == "rank" else ():
        if key in written:
            hint = "rank takes a collection by itself: rank: tasks.name"
            report.add((*path, key), f"a rank task is one tournament and has no {key}", hint=hint, of_key=True)
    for key in {"agent": ("prompt",), "rank": ("judge",)}.get(kind, ()):
        if written.get(key) is None:
            report.add(path, f"{key} is missing", of_key=True)
    if written[kind] is None:
        report.add((*path, kind), f"{kind} has no value", of_key=True)
        return None
    return kind


def _a(kind: str) -> str:
    return f"an {kind} task" if kind == "agent" else f"a {kind} task"


def _sources(path: tuple[str, str], spec: TaskSpec, texts: Texts, report: Report) -> list[Source]:
    """Where elements come from, all as `values` for now."""
    key, found = ("rank", spec.rank) if spec.rank is not None else ("for_each", spec.for_each)
    if found is None:
        return []
    if not isinstance(found, Mapping):
        value = texts.value((*path, key), found, role="source")
        return [] if value is None else [Source("item", "values", value)]
    sources = []
    for name, part in found.items():
        if not re.fullmatch(NAME, name) or is_reserved(name):
            why = (
                "this name is taken" if is_reserved(name) else "a name begins with a-z and goes on with a-z, 0-9 and _"
            )
            report.add((*path, key, name), why, of_key=True)
        value = texts.value((*path, key, name), part, role="source")
        if value is not None:
            sources.append(Source(name, "values", value))
    if not found:
        report.add((*path, key), "the product has no factors")
    return sources


def _on_failure(path: tuple[str, str], spec: TaskSpec, report: Report) -> OnFailure:
    match spec.on_failure:
        case None | "fail":
            return OnFailure()
        case "skip":
            return OnFailure("skip")
        case DefaultOnFailure(default=value):
            return OnFailure("default", value=value)
        case FallbackOnFailure(fallback=other):
            if (other.task is None) == (other.model is None):
                report.add((*path, "on_failure", "fallback"), "says either task or model", hint="{fallback: {task: x}}")
            elif other.task is not None:
                return OnFailure("task", task=other.task)
            else:
                return OnFailure("model", model=other.model)
    return OnFailure()


def limits_of(spec: HeaderSpec | AgentSpec | TaskSpec) -> Limits:
    """The words that all levels share."""
    said: dict[str, Any] = spec.settings.model_dump(exclude_none=True) if spec.settings is not None else {}
    return Limits(spec.budget, spec.retry, spec.timeout, priority_number(spec.priority), Settings.of(said))


def stop_of(spec: TaskSpec) -> StopSpec:
    """When a tournament is over."""
    return spec.stop if spec.stop is not None else StopSpec()
