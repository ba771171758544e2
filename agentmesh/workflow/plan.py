"""A workflow that was checked: frozen, with every text compiled and every name resolved; a graph is built from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..agents.output import OutputType
from ..flow.graph import Require
from ..messages import Settings
from ..template import Expression, Template
from .spec import BudgetSpec, RetrySpec

__all__ = [
    "AgentPlan", "Limits", "OnFailure", "OutputPlan", "RankPlan", "Source", "TaskPlan", "Text", "Value", "Workflow",
    "priority_number",
]  # fmt: skip

Text = Template | str
"""A prompt: a template, or a text that is taken as it is."""


@dataclass(frozen=True, slots=True)
class Value:
    """Something that stands where a value is meant: an expression, a literal, or a map of such.

    `data` is an Expression, a dict of Values, or whatever else stands there, literally.
    """

    data: Any

    def evaluate(self, scope: Mapping[str, Any]) -> Any:
        """The value, with types kept. Raises TemplateProblem."""
        if isinstance(self.data, Expression):
            return self.data.evaluate(scope)
        if isinstance(self.data, dict):
            return {name: inner.evaluate(scope) for name, inner in self.data.items()}
        return self.data


@dataclass(frozen=True, slots=True)
class Source:
    """Where elements come from, each visible under `name`.

    `form` says how to take them: `items` of `task` as they come; `flat`: of each such item the list in `field`, as the
    items come (key `parent+child`); `rows`: of the standings of `task`, when they are final, where `value` says
    how many, each row with the key and chain of its entrant; `values`: the elements of `value`, evaluated when the
    tasks in it have ended.
    """

    name: str
    form: Literal["items", "flat", "rows", "values"]
    value: Value
    task: str | None = None
    field: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """The words that an agent, a task and the workflow share. Times in seconds; None: nothing is said here."""

    budget: BudgetSpec | None = None
    retry: RetrySpec | None = None
    timeout: float | None = None
    priority: float | None = None
    settings: Settings = field(default_factory=Settings)


@dataclass(frozen=True, slots=True)
class AgentPlan:
    """An agent. `model` is a name of `Workflow.models` or provider/model; None where every task of it says one."""

    name: str
    model: str | None
    instructions: Text | None = None
    output: OutputType | None = None
    tools: tuple[Callable[..., Any], ...] = ()
    max_turns: int | None = None
    repairs: int | None = None
    limits: Limits = Limits()
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class RankPlan:
    """A tournament: `entrants` as they come, what the judge sees of each, and when it is over."""

    entrants: Source
    judge: str
    criteria: Text
    entrant: Text
    regret: float | None = 0.05
    matches: int | None = None


@dataclass(frozen=True, slots=True)
class OnFailure:
    """What a failed item becomes: `fail`, `skip`, `default` (done, with `value`), or another try (`task`, `model`)."""

    action: Literal["fail", "skip", "default", "task", "model"] = "fail"
    value: Any = None
    task: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """One task. Which of `agent`, `function`, `value` and `rank` is set follows `kind`.

    `names` are visible in its texts beside `inputs` and `tasks`: those of its sources, `sample` and what its chain has.
    `chain`: tasks whose items its items stand over, the nearest first; in them `tasks.x` is the item's own.
    Dependencies: `streams` gives items one by one, `before` must have ended before elements are known, `waits` before
    an item starts (one value, or all of a collection), `order` for order alone, `so_far` is read and not waited for.
    `path` counts the tasks on the longest way from here to the end, this one included.
    """

    name: str
    kind: Literal["agent", "python", "value", "rank"]
    sources: tuple[Source, ...] = ()
    samples: Value | None = None
    key: Expression | None = None
    condition: Value | None = None
    agent: str | None = None
    prompt: Text | None = None
    model: Template | None = None
    function: Callable[..., Any] | None = None
    target: str | None = None
    version: str | None = None
    arguments: Mapping[str, Value] = field(default_factory=dict)
    value: Value | None = None
    rank: RankPlan | None = None
    on_failure: OnFailure = OnFailure()
    require: Require = Require(0.0)
    limits: Limits = Limits()
    is_collection: bool = False
    is_fallback: bool = False
    chain: tuple[str, ...] = ()
    names: frozenset[str] = frozenset()
    streams: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    waits: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    so_far: tuple[str, ...] = ()
    path: int = 1

    @property
    def needs(self) -> tuple[str, ...]:
        """Every task that must have something before this one can end, each once."""
        return tuple(dict.fromkeys((*self.streams, *self.before, *self.waits, *self.order)))


@dataclass(frozen=True, slots=True)
class OutputPlan:
    """One output: a value, and the file it is written to, if any. `needs` are the tasks it reads."""

    name: str
    value: Value
    file: str | None = None
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Workflow:
    """A whole workflow. `tasks` stand in an order in which each comes after what it needs.

    `models` has the models behind each short name, the preferred one first. `folders` are where what it names is
    looked for. `text` is the file as it was read.
    """

    name: str
    file: str
    text: str
    inputs: Mapping[str, Any]
    models: Mapping[str, tuple[str, ...]]
    agents: Mapping[str, AgentPlan]
    tasks: Mapping[str, TaskPlan]
    outputs: Mapping[str, OutputPlan]
    description: str | None = None
    limits: Limits = Limits()
    folders: tuple[Path, ...] = ()
    only_model: str | None = None
    on_uncertain: Literal["resend", "fail", "ask"] | None = None

    def routes(self, model: str) -> tuple[str, ...]:
        """The models behind a name as it is written: those of a short name, or the model itself.

        Where one model was asked for in place of all (`only_model`), that one.
        """
        return (self.only_model,) if self.only_model is not None else self.models.get(model, (model,))


def priority_number(priority: str | float | None) -> float | None:
    """`high`, `normal` and `low` as 1, 0 and -1."""
    return {"high": 1.0, "normal": 0.0, "low": -1.0}[priority] if isinstance(priority, str) else priority
