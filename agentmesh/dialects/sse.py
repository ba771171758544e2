"""Server-sent events: a reader that takes bytes as they come, cut anywhere, and a writer.

Grammar: the "event stream" format of the HTML standard. Lines end in LF, CRLF or CR; a blank line ends an event;
several `data` lines are joined by LF; lines that begin with a colon are comments. Here `id` and `retry` mean nothing,
and an event that the end of the stream cuts off before its blank line is still given.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["EventReader", "ServerEvent", "write_event"]

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event: its data, and its name if it has one."""

    data: str
    event: str | None = None


class EventReader:
    """Turns bytes into events. Works on bytes up to whole lines, so a character may be cut between reads."""

    def __init__(self) -> None:
        self._partial: list[bytes] = []  # what came of the line that is not complete yet
        self._after_cr = False  # a CR ended the last read: a LF that follows belongs to it
        self._first_line = True
        self._event: str | None = None
        self._data: list[str] = []

    def __repr__(self) -> str:
        return f"<EventReader partial={sum(map(len, self._partial))} bytes, data={len(self._data)} lines>"

    def feed(self, data: bytes) -> list[ServerEvent]:
        """The events that these bytes completed."""
        if self._after_cr and data:
            self._after_cr = False
            data = data.removeprefix(b"\n")
        if not data:
            return []
        if b"\n" not in data and b"\r" not in data:
            self._partial.append(data)
            return []
        self._after_cr = data.endswith(b"\r")
        *lines, rest = _LINE_END.split(b"".join(self._partial) + data)
        self._partial = [rest] if rest else []
        return [event for line in lines if (event := self._line(line)) is not None]

    def close(self) -> list[ServerEvent]:
        """What was left: a last line without its end, a last event without its blank line."""
        lines = [*([b"".join(self._partial)] if self._partial else []), b""]
        self._partial = []
        return [event for line in lines if (event := self._line(line)) is not None]

    def _line(self, raw: bytes) -> ServerEvent | None:
        if self._first_line:
            self._first_line = False
            raw = raw.removeprefix(_BYTE_ORDER_MARK)
        if not raw:
            return self._dispatch()
        field, _, value = raw.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._event = value
        return None

    def _dispatch(self) -> ServerEvent | None:
        found = ServerEvent("\n".join(self._data), self._event or None) if self._data else None
        self._event, self._data = None, []
        return found


def write_event(data: bytes, *, event: str | None = None) -> bytes:
    """One event in bytes. `data` may have several lines; CR is not kept apart from LF."""
    name = b"" if event is None else b"event: " + event.encode() + b"\n"
    if b"\n" in data or b"\r" in data:
        data = b"\ndata: ".join(_LINE_END.split(data))
    return name + b"data: " + data + b"\n\n"
