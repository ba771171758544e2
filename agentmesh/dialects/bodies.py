"""What both client halves need to read a body: a JSON object or a clear refusal, counts, and streams put together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from ..messages import Reply
from .base import Delta, MalformedReply, Refusal, StreamRefused
from .excerpts import excerpt, is_page
from .json_text import read_json
from .sse import EventReader, ServerEvent

__all__ = ["StreamedReply", "count", "part", "read_object", "unexpected"]


def unexpected(body: bytes, *, what: str) -> MalformedReply:
    """What to raise for a body that is not what it should be: an excerpt of what it is instead."""
    hint = " (is base_url right? is there a proxy that asks for a sign-in?)" if is_page(body) else ""
    return MalformedReply(f"a 200 with {excerpt(body)}, where {what} was expected{hint}")


def read_object(body: bytes, *, what: str) -> dict[str, Any]:
    """The JSON object that a body is. Raises MalformedReply with an excerpt of what it is instead."""
    try:
        value = read_json(body)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise unexpected(body, what=what)
    return value


def count(value: Any) -> int | None:
    """A number of tokens; None for everything that is none."""
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return value if whole else None


def part(value: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The object under a key, or an empty one."""
    found = value.get(key)
    return found if isinstance(found, dict) else {}


class StreamedReply(ABC):
    """Reads events until the end mark. A body without any event is read as a whole reply.

    Some servers answer at once although a stream was asked for, and so do proxies with their HTML pages: until the
    first event comes, the bytes are kept.
    """

    end_mark: str

    def __init__(self) -> None:
        self._events = EventReader()
        self._raw: bytearray | None = bytearray()
        self._done = False

    @abstractmethod
    def _event(self, event: ServerEvent) -> Sequence[Delta]:
        """Take one event in; sets `_done` at the end mark."""

    @abstractmethod
    def _ended(self) -> bool:
        """Whether what came may be the whole reply."""

    @abstractmethod
    def _reply(self) -> Reply | Refusal:
        """The reply that the events made."""

    @abstractmethod
    def _decode(self, body: bytes) -> Reply | Refusal:
        """The reply in a body that is no stream."""

    def feed(self, data: bytes) -> list[Delta]:
        """The text that these bytes completed. Raises MalformedReply and StreamRefused."""
        if self._raw is not None:
            self._raw += data
        return self._read(self._events.feed(data))

    def close(self) -> Reply:
        """The whole reply. Raises MalformedReply if the stream broke off, StreamRefused if it ended in an error."""
        self._read(self._events.close())
        if self._raw is not None:
            found = self._decode(bytes(self._raw))
        elif self._ended():
            found = self._reply()
        else:
            raise MalformedReply(f"the stream broke off before its end mark {self.end_mark}")
        if isinstance(found, Refusal):
            raise StreamRefused(found)
        return found

    def _read(self, events: Sequence[ServerEvent]) -> list[Delta]:
        deltas: list[Delta] = []
        for event in events:
            self._raw = None
            if not self._done:
                deltas += self._event(event)
        return deltas
