"""What the items of a workflow's tasks ask, as hashes: what asks the same in a later process is not asked again.

A hash covers what stands in the file for a task and its agent (texts, model as it is written, settings, schema, tools,
function and `version`), and the element that an item is about where that is a value. What an item takes from other
tasks is theirs to answer for: it is found only if all of them are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ..agents.output import OutputType
from ..agents.tools import Tool, return_type
from ..data import plain
from ..mesh.asked import describe_function, type_adapter
from ..mesh.contest import read_standings
from ..messages import digest
from ..template import Expression, Template
from .plan import AgentPlan, Limits, TaskPlan, Workflow
from .views import Item, Scoped

__all__ = ["Asked", "reviver"]

_LENGTH = 16  # hex digits

_NOT_ASKED = frozenset(
    {
        "before", "chain", "is_collection", "is_fallback", "key", "name", "names", "order", "path", "repairs",
        "require", "samples", "so_far", "sources", "streams", "waits", "weight",
    }
)  # fmt: skip
"""Fields of a plan that say where items come from, when they are performed and how hard one tries."""


class Asked:
    """The hashes of one workflow."""

    def __init__(self, workflow: Workflow) -> None:
        self._workflow = workflow
        self._tasks: dict[str, str | None] = {}

    def of(self, plan: TaskPlan, item: Scoped) -> str | None:
        """The hash of an item; None where what it asks cannot be put into words."""
        if plan.name not in self._tasks:
            self._tasks[plan.name] = self._of_task(plan)
        task = self._tasks[plan.name]
        values = {name: value for name, value in item.names.items() if not isinstance(value, Item)}
        if task is None or not values:
            return task
        try:
            return digest([task, plain(values)], length=_LENGTH)
        except TypeError:
            return None

    def _of_task(self, plan: TaskPlan) -> str | None:
        names = [plan.agent, plan.rank.judge if plan.rank is not None else None]
        agents = [self._workflow.agents[name] for name in names if name is not None]
        told = [plan, agents, self._workflow.limits.settings]
        other = plan.on_failure.task
        if other is not None:
            told.append(self._of_task(self._workflow.tasks[other]))
        try:
            return digest(_described(told), length=_LENGTH)
        except TypeError:
            return None


def reviver(plan: TaskPlan, agent: AgentPlan | None) -> Any:
    """What makes a task's value of the JSON that was recorded; None where that is the value."""
    if plan.rank is not None:
        return read_standings
    if agent is not None:
        return None if agent.output is None else agent.output.revive
    adapter = type_adapter(return_type(plan.function))
    return None if adapter is None else adapter.validate_python


def _described(value: Any) -> Any:
    """A plan as plain data. Raises TypeError for a function that depends on more than its name."""
    match value:
        case None | str() | bool() | int() | float():
            return value
        case Template() | Expression():
            return {type(value).__name__: value.text}
        case OutputType():
            return value.schema
        case Limits():
            return _described(value.settings)
        case Tool():
            return [value.name, describe_function(value.function)]
        case Mapping():
            return {str(name): _described(one) for name, one in value.items()}
        case list() | tuple():
            return [_described(one) for one in value]
        case set() | frozenset():
            return sorted(map(str, value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        shown = (one.name for one in dataclasses.fields(value) if one.name not in _NOT_ASKED)
        return {name: _described(getattr(value, name)) for name in shown}
    if callable(value):
        return describe_function(value)
    return plain(value)
