"""What a call says about its task: name, key, dependencies; and options in the forms that users write them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, cast

from ..agents.agent import Call, Handle, handles_in
from ..client.caller import Retry
from ..data import plain
from ..errors import UserError
from ..flow.graph import Require
from ..keys import encode_key
from ..messages import digest
from ..references import Reference, TemplateProblem
from ..template import Template
from .task import Task

__all__ = ["check_prompt", "dependencies", "is_template", "key_of_call", "require_of", "retry_of", "task_name"]


def task_name(call: Call[Any], name: str | None) -> str:
    """The name of a call's task: given, or its agent's or function's. Raises UserError for one that is no name."""
    if name is None:
        return _name_of(call.name)
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UserError(f"a task's name has lower-case letters, digits and _, and begins with a letter: not {name!r}")
    return name


@lru_cache(maxsize=1024)  # many calls have one name
def _name_of(text: str) -> str:
    name = re.sub(r"[^a-z0-9_]+", "_", text.lower()).strip("_") or "call"
    return name if name[0].isalpha() else f"call_{name}"


def is_template(prompt: str) -> bool:
    """Whether there is anything to fill in: what is not need not be compiled."""
    return "{{" in prompt or "{%" in prompt or "{#" in prompt


def check_prompt(call: Call[Any], task: str) -> None:
    """Raises TemplateProblem, before anything is asked, for a prompt that names what it was not given."""
    if call.agent is None or not is_template(call.prompt):
        return
    for name in _names_in(call.prompt, task):
        if name.root not in call.data:
            given = ", ".join(call.data) or "none"
            message = f"{name}: there is no such name here; there are {given}"
            raise TemplateProblem(message, line=name.line, name=task)


@lru_cache(maxsize=1024)  # many calls have one prompt
def _names_in(prompt: str, task: str) -> tuple[Reference, ...]:
    return Template(prompt, name=task).names()


def dependencies(call: Call[Any]) -> tuple[list[Task[Any]], list[list[Task[Any]]]]:
    """The handles that are arguments themselves, and those inside each list or dict argument."""
    single: list[Task[Any]] = []
    collections: list[list[Task[Any]]] = []
    for value in (*call.args, *call.data.values()):
        if isinstance(value, Handle):
            single.append(cast("Task[Any]", value))
        elif found := handles_in(value):
            collections.append(cast("list[Task[Any]]", found))
    return single, collections


def key_of_call(call: Call[Any], given: str | None) -> str:
    """The encoded key of a call's task: given, else that of its only handle, else the hash of its arguments."""
    if given is not None:
        return encode_key(given)
    handles = cast("list[Task[Any]]", handles_in([*call.args, *call.data.values()]))
    if len(handles) == 1:
        address = handles[0].address
        return address.tail or address.task
    arguments = [call.prompt, _as_data(call.args), _as_data(call.data)]
    return digest(arguments)


def _as_data(value: Any) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, Handle):
        return str(cast("Task[Any]", value).address)
    if isinstance(value, Mapping):
        return {str(name): _as_data(one) for name, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_as_data(one) for one in value]
    try:
        return plain(value)
    except (TypeError, ValueError):  # no data: a function may be given anything, and the order of starts tells it apart
        return f"{type(value).__module__}.{type(value).__qualname__}"


def retry_of(given: Retry | Mapping[str, Any] | int | None) -> Retry | None:
    """A retry option: `Retry(...)`, a number of attempts, or `{"attempts": 3, "on": ["timeout"]}`."""
    try:
        match given:
            case None | Retry():
                return given
            case int():
                return Retry(given)
        unknown = set(given) - {"attempts", "on"}
        if unknown:
            raise UserError(f"retry has attempts and on, not {', '.join(sorted(unknown))}")
        return Retry(**given)
    except (TypeError, ValueError) as error:
        raise UserError(f"retry={given!r}: {error}") from None


_ANY = Require.of("any")


def require_of(given: str | float) -> Require:
    """A require option. Raises UserError for what is none."""
    if given == "any":  # what nobody has said otherwise
        return _ANY
    try:
        return Require.of(given)
    except (TypeError, ValueError):
        raise UserError(f"require is any, all, a percentage like 95% or a share from 0 to 1, not {given!r}") from None
