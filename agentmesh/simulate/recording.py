"""Calls as rows of recorded replies: of a run that goes on, into a file, or of one that a journal has."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic_core import to_json

from ..clock import Worker, in_thread
from ..errors import UserError
from ..events import CallEnded, CallIntent, CallSpared, Event
from ..journal import RunFile
from ..journal.groups import Groups
from ..messages import Message, Reply, Request
from .replay import TOKEN_WORDS

__all__ = ["Calls", "Recorder", "calls_of", "recording"]

_SOME = 200  # rows that are written at once


def recording(request: Request, reply: Reply, *, call: int, address: str | None = None) -> dict[str, Any]:
    """A call as a row that `load_recordings` reads: its messages in the form of Chat Completions, and its reply."""
    usage = {word: getattr(reply.tokens, name) for name, word in TOKEN_WORDS.items()}
    return {
        "format": 1, "call": call, "address": address, "model": request.model,
        "messages": [_written(message) for message in request.messages], "reply": reply.text,
        "tool_calls": _written_calls(reply), "finish": reply.finish, "usage": usage,
    }  # fmt: skip


def _written(message: Message) -> dict[str, Any]:
    written: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.tool_calls:
        written["tool_calls"] = _written_calls(message)
    if message.tool_call_id is not None:
        written["tool_call_id"] = message.tool_call_id
    return written


def _written_calls(said: Message | Reply) -> list[dict[str, Any]]:
    return [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in said.tool_calls
    ]


class Calls:
    """Events in, rows out. `without` counts answered calls whose content was not kept."""

    def __init__(self) -> None:
        self.without = 0
        self._asked: dict[tuple[int, int], Request | None] = {}

    def __repr__(self) -> str:
        return f"<Calls: {len(self._asked)} under way>"

    def row(self, event: Event) -> dict[str, Any] | None:
        """The row of the call that this event has answered, if it is one that did."""
        match event:
            case CallIntent():
                self._asked[event.call, event.attempt] = event.request
                return None
            case CallEnded():
                request = self._asked.pop((event.call, event.attempt), None)
                if event.result != "ok":
                    return None
            case CallSpared():
                request = event.request
            case _:
                return None
        if request is None or event.reply is None:
            self.without += 1
            return None
        return recording(request, event.reply, call=event.call, address=event.address)


def calls_of(file: RunFile) -> Iterator[dict[str, Any]]:
    """The answered calls of a run as rows. Raises UserError, in the end, where the run kept no content of some."""
    calls = Calls()
    for _, event in file.events(CallIntent, CallEnded, CallSpared):
        if (row := calls.row(event)) is not None:
            yield row
    if calls.without:
        number = "1 call" if calls.without == 1 else f"{calls.without:,} calls"
        raise UserError(f"run {file.path.stem} keeps no content of {number}: they cannot be exported")


class Recorder:
    """Writes the calls of a run into a file (mode 600) as they are answered, gzipped if its name ends in .gz.

    It replaces a file that is there. Hears events; `flush` has all of it written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._thread = Worker("record")
        self._groups: Groups[dict[str, Any]] = Groups(self._write, worker=self._thread)
        self._calls = Calls()
        self._adds = False

    def __repr__(self) -> str:
        return f"<Recorder {self.path}>"

    def check(self) -> None:
        """Raise UserError for a place where nothing can be written. Blocks; nothing is changed."""
        if self.path.is_dir() or not os.access(self.path if self.path.exists() else self.path.parent, os.W_OK):
            raise UserError(f"--record {self.path}: this cannot be written")

    def begin_with(self, run: Path) -> None:
        """Write what earlier processes of a run were answered, by the file of the run. Blocks. Raises UserError."""
        with RunFile.open(run) as file:
            rows = calls_of(file)
            while some := list(islice(rows, _SOME)):
                self._write(some)

    def event(self, event: Event) -> None:
        """Take what happens in the run."""
        if (row := self._calls.row(event)) is not None:
            self._groups.add(row)

    def _write(self, rows: Sequence[dict[str, Any]]) -> None:
        data = b"".join(to_json(row, fallback=repr, inf_nan_mode="null") + b"\n" for row in rows)
        if self.path.suffix == ".gz" and data:
            data = gzip.compress(data, mtime=0)  # a member of its own, whole even if the next one will not be
        flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if self._adds else os.O_TRUNC)
        self._adds = True
        try:
            with os.fdopen(os.open(self.path, flags, 0o600), "wb") as file:
                file.write(data)
        except OSError as error:
            raise UserError(f"--record {self.path}: this cannot be written: {error.strerror}") from error

    async def flush(self) -> None:
        """Wait until all is written. Raises UserError when the disk refuses."""
        try:
            await self._groups.flush()
            await in_thread(partial(self._write, ()))  # of a run without calls there is a file, too
        finally:
            self._thread.close()
