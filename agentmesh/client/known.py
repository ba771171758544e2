"""Answers that are there already: what a call is found by, and who may know its answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Protocol, runtime_checkable

from ..events import Source, ToolEnded
from ..messages import Message, Reply, Request, Settings, ToolCall, ToolSpec
from ..outcome import Usage

__all__ = ["Found", "Known", "KnownMatches", "KnownTools", "request_key"]

_BYTES = 12  # of a key: among 10^9 calls two have the same one with a chance of 10^-11


@dataclass(frozen=True, slots=True)
class Found:
    """An answer that need not be asked for, and what it cost in this run: that counts for its task once more.

    One of another run has a `source`, costs nothing, and `saved_usd` is what it cost there (None: nobody knows).
    """

    reply: Reply
    usage: Usage = Usage()
    usd: float | None = 0.0
    attempts: int = 1
    source: Source | None = None
    saved_usd: float | None = None


class Known(Protocol):
    """Who may know answers: an earlier process of the run, an earlier run, a recording."""

    async def find(self, key: str, request: Request, *, address: str) -> Found | None:
        """The answer to the call with this key, asked at this address; None where it has to be asked.

        Raises CallFailed where it must not be asked. `key` begins with the model, as PROVIDER/MODEL and a space.
        """
        ...


class KnownTools(Protocol):
    """Who may know what tools gave: an earlier process of the run."""

    async def tool(self, call: ToolCall, *, address: str) -> ToolEnded | None:
        """What a tool gave for just this call of it, at this address; None where it has to do its work."""
        ...


@runtime_checkable
class KnownMatches(Protocol):
    """Who may know which matches of a tournament were played, and has their verdicts, and no others."""

    def matches(self, task: str) -> Sequence[tuple[str, str]]:
        """The pairs in their order, by the keys of the entrants; some that are no entrants may be among them."""
        ...


def request_key(request: Request, *, sample: int | None) -> str:
    """What a request is found by: messages, tools, schema and settings, and which of several samples it is.

    The model's name in it does not count: whoever asks adds under which name.
    """
    hashed = blake2b(digest_size=_BYTES)
    for message in request.messages:
        hashed.update(_message(message))
    told = (*(_tool(tool) for tool in request.tools), request.tool_choice, _schema(request), _settings(request), sample)
    hashed.update(repr(told).encode("utf-8", "surrogatepass"))
    return hashed.hexdigest()


def _message(message: Message) -> bytes:
    parts: tuple[Any, ...] = (message.role, message.text)
    if message.tool_calls or message.tool_call_id is not None or message.opaque is not None:
        opaque = None if message.opaque is None else _canonical(message.opaque.content)
        parts = (*parts, message.tool_calls, message.tool_call_id, message.is_error, opaque)
    return repr(parts).encode("utf-8", "surrogatepass")


def _tool(tool: ToolSpec) -> tuple[str, str, str]:
    return tool.name, tool.description, _of_mapping(tool.parameters)


def _schema(request: Request) -> str | None:
    return None if request.schema is None else _of_mapping(request.schema) + request.schema_name


def _settings(request: Request) -> tuple[Any, ...]:
    own = request.settings
    if own == _NONE:
        return ()
    stop = None if own.stop is None else tuple(own.stop)
    extra = _canonical(own.extra) if own.extra else ""
    return own.max_tokens, own.temperature, own.top_p, own.seed, stop, own.reasoning_effort, extra


_NONE = Settings()


def _of_mapping(value: Mapping[str, Any]) -> str:
    """The canonical text of a schema. An agent asks with one and the same object again and again."""
    return _remembered(_Same(value))


class _Same:
    """A mapping that is looked up by what it is, not by what is in it; it lives as long as it is remembered."""

    __slots__ = ("value",)

    def __init__(self, value: Mapping[str, Any]) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.value is self.value


@lru_cache(maxsize=256)
def _remembered(same: _Same) -> str:
    return _canonical(same.value)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
