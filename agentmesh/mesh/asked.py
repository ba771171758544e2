"""What a call asks, as far as it is known when it is started: one that asks the same is not performed a second time."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from pydantic import TypeAdapter

from ..agents.agent import Agent, Call, Handle
from ..agents.output import OutputType
from ..agents.tools import return_type
from ..data import plain
from ..events import as_recorded
from ..messages import digest
from .task import Task

__all__ = [
    "asked_of",
    "comes_back",
    "describe_agent",
    "describe_function",
    "is_restorable",
    "lost_result",
    "reviver_of",
    "told_of_lost",
    "type_adapter",
]

_LENGTH = 16  # hex digits


def asked_of(call: Call[Any]) -> str | None:
    """The hash of a call: its agent or function and what it is given, handles by their addresses.

    None where something in it is no data, so that nobody can say whether it is the same.
    """
    try:
        what = describe_function(call.function) if call.agent is None else _of_agent(call.agent)
        return digest([what, call.prompt, _data(call.args), _data(call.data)], length=_LENGTH)
    except (TypeError, ValueError):
        return None


def _of_agent(agent: Agent[Any]) -> str:
    if (known := _agents.get(agent)) is None:  # it is asked again and again
        known = _agents[agent] = digest(describe_agent(agent), length=_LENGTH)
    return known


_agents: WeakKeyDictionary[Agent[Any], str] = WeakKeyDictionary()


def describe_agent(agent: Agent[Any]) -> dict[str, Any]:
    """What of an agent has an influence on its answers."""
    return {
        "models": agent.models, "instructions": agent.instructions, "settings": plain(agent.settings),
        "output": None if agent.output is None else agent.output.schema, "tools": sorted(agent.tools),
        "max_turns": agent.max_turns, "repairs": agent.repairs,
    }  # fmt: skip


def describe_function(function: Callable[..., Any] | None) -> str:
    """A function by where it is found.

    Raises TypeError for one that has no name of its own, or is bound to something else's data.
    """
    name = getattr(function, "__qualname__", "<lambda>")
    bound = getattr(function, "__self__", None)
    alone = bound is None or isinstance(bound, ModuleType)
    if not alone or name.endswith("<lambda>") or getattr(function, "__closure__", None):
        raise TypeError("what this function does depends on more than its name")
    return f"{getattr(function, '__module__', '')}:{name}"


def _data(value: Any) -> Any:
    kind = type(value)
    if kind is str or kind is int:  # most data is, and to ask whether it is a mapping takes longer
        return value
    if kind is dict or isinstance(value, Mapping):
        return {str(name): _data(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_data(one) for one in value]
    if isinstance(value, Handle):
        assert isinstance(value, Task)
        return {"task": str(value.address)}
    return plain(value)


def reviver_of(call: Call[Any]) -> Callable[[Any], Any] | None:
    """What makes a value of the call's own type from the JSON it was recorded as; None where that is the value.

    What it returns raises ValueError for JSON that does not fit.
    """
    if call.agent is not None:
        output: OutputType | None = call.agent.output
        return None if output is None else output.revive
    adapter = type_adapter(return_type(call.function))
    return None if adapter is None else adapter.validate_python


@functools.lru_cache(maxsize=256)
def type_adapter(kind: Any) -> TypeAdapter[Any] | None:
    """What reads values of a type from JSON; None for no type, for `Any`, and for one that has no JSON form."""
    if kind is None or kind is Any or kind is type(None):
        return None
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(kind)
        adapter.json_schema()
    except Exception:  # noqa: BLE001 - pydantic, or the type itself: it is told where it matters, see is_restorable
        return None
    return adapter


def told_of_lost(task: str, kind: Any) -> str:
    """What a person should know of a function whose results of this type stay in this process alone."""
    name = getattr(kind, "__name__", None) or str(kind)
    return (
        f"{task} gives a {name}, which cannot be read back from the journal: a resume performs it again. Results of "
        "pydantic models, of dataclasses that the function is annotated with, and of plain data are kept"
    )


def lost_result(function: Callable[..., Any] | None) -> Any:
    """The type that a function says it returns, if values of it cannot be read back; else None."""
    kind = return_type(function)
    return None if kind in (None, Any, type(None)) or type_adapter(kind) is not None else kind


def comes_back(value: Any, revive: Callable[[Any], Any] | None) -> bool:
    """Whether a function's result will be the same when it is read from its record."""
    if is_restorable(value):
        return True
    try:
        return revive is not None and bool(revive(as_recorded(value)) == value)
    except ValueError:
        return False


def is_restorable(value: Any) -> bool:
    """Whether a value is the same after it was written as JSON and read again."""
    match value:
        case None | bool() | int() | float() | str():
            return type(value) in (type(None), bool, int, float, str)
        case dict():
            return all(type(name) is str and is_restorable(one) for name, one in value.items())
        case list():
            return all(map(is_restorable, value))
    return False
