"""What a call says about its task: name, key, dependencies; and options in the forms that users write them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from ..agents.agent import Call, Handle, handles_in
from ..client.caller import Retry
from ..data import plain
from ..errors import UserError
from ..keys import encode_key
from ..messages import digest
from .task import Task

__all__ = ["dependencies", "key_of_call", "retry_of", "task_name"]


def task_name(call: Call[Any], name: str | None) -> str:
    """The name of a call's task: given, or its agent's or function's. Raises UserError for one that is no name."""
    if name is None:
        name = re.sub(r"[^a-z0-9_]+", "_", call.name.lower()).strip("_") or "call"
        return name if name[0].isalpha() else f"call_{name}"
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UserError(f"a task's name has lower-case letters, digits and _, and begins with a letter: not {name!r}")
    return name


def dependencies(call: Call[Any]) -> tuple[list[Task[Any]], list[list[Task[Any]]]]:
    """The handles that are arguments themselves, and those inside each list or dict argument."""
    single: list[Task[Any]] = []
    collections: list[list[Task[Any]]] = []
    for value in (*call.args, *call.data.values()):
        found = cast("list[Task[Any]]", handles_in(value))
        if isinstance(value, Handle):
            single += found
        elif found:
            collections.append(found)
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
    if isinstance(value, Handle):
        return str(cast("Task[Any]", value).address)
    if isinstance(value, Mapping):
        return {str(name): _as_data(one) for name, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_as_data(one) for one in value]
    return plain(value)


def retry_of(given: Retry | Mapping[str, Any] | int | None) -> Retry | None:
    """A retry option: `Retry(...)`, a number of attempts, or `{"attempts": 3, "on": ["timeout"]}`."""
    match given:
        case None | Retry():
            return given
        case int():
            return Retry(given)
    unknown = set(given) - {"attempts", "on"}
    if unknown:
        raise UserError(f"retry has attempts and on, not {', '.join(sorted(unknown))}")
    return Retry(**given)
