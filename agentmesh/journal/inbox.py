"""The inbox beside a run's file: how other processes speak to the one that runs it, and how it answers.

`ID.inbox` is made by the process that writes the run and deleted when that ends. Whoever has something to say appends
one line of JSON and keeps the file open: the answer is a line of the same file, and can be read there even when the
run has ended meanwhile and the file has no name any more. A file that has lost its name without an answer was never
read: what was said is said again, to the process that runs it then.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from ..errors import UserError
from .ids import short_id
from .lock import Holder, lock_holder

__all__ = ["Answer", "Inbox", "Message", "inbox_path", "tell_run"]

_FORMAT = 1
_ANSWER_S = 5.0  # a process reads its inbox twice a second; one that is that late is held up by something else
_LOOK_S = 0.02
_MOST_BYTES = 1_000_000  # of what is read at a time: nobody has so much to say


@dataclass(frozen=True, slots=True)
class Message:
    """What a run is told: `verb` and what belongs to it. `sender` is the process that says so, in words."""

    id: str
    verb: str
    sender: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the run says to a message: what has happened, or, if it is not `ok`, why nothing has."""

    ok: bool
    text: str


def inbox_path(run_file: Path) -> Path:
    """Where the inbox of the run in this file is."""
    return run_file.with_suffix(".inbox")


class Inbox:
    """The inbox of a run that this process writes. All but `has_news` block: in an event loop they go into a thread."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._read = 0

    @classmethod
    def open(cls, run_file: Path) -> Self:
        """A new one (mode 600), in the place of what an earlier process has left. Raises OSError."""
        path = inbox_path(run_file)
        path.unlink(missing_ok=True)
        return cls(path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600))

    def __repr__(self) -> str:
        return f"<Inbox {self.path}, {self._read} bytes read>"

    def has_news(self) -> bool:
        """Whether there is more to read. Asks the open file alone, which takes a microsecond."""
        return os.fstat(self._descriptor).st_size > self._read

    def read(self) -> list[Message]:
        """The messages that have come since the last time; what is none is passed over. Raises OSError."""
        data = os.pread(self._descriptor, _MOST_BYTES, self._read)
        whole = data[: data.rfind(b"\n") + 1] if len(data) < _MOST_BYTES else data
        self._read += len(whole)
        return [message for line in whole.splitlines() if (message := _message(line)) is not None]

    def answer(self, message: Message, answer: Answer) -> None:
        """Say what came of a message. Raises OSError."""
        _append(self._descriptor, {"answers": message.id, "ok": answer.ok, "text": answer.text})

    def close(self) -> None:
        """Delete it. May be called again."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            if os.fstat(descriptor).st_nlink:  # else it is that of another process, which has gone on with the run
                self.path.unlink(missing_ok=True)
            os.close(descriptor)


def tell_run(run_file: Path, verb: str, *, seconds: float = _ANSWER_S, **data: Any) -> Answer:
    """Tell the process that runs it, and wait up to `seconds` for what it answers. Blocks.

    Raises UserError when no process runs it, or when it does not answer.
    """
    message = Message(secrets.token_hex(8), verb, f"process {os.getpid()} on {socket.gethostname()}", data)
    run, ends = short_id(run_file.stem), time.monotonic() + seconds
    told: Holder | None = None
    while (holder := lock_holder(run_file.with_suffix(".lock"))) is not None and told in (None, holder):
        if holder.pid is not None:  # else it is about to write its name down
            told = holder
            if (answer := _ask_once(inbox_path(run_file), message, ends=ends)) is not None:
                return answer
        if time.monotonic() >= ends:
            raise UserError(f"run {run}: {holder}, which runs it, has not answered within {seconds:g} s")
        time.sleep(_LOOK_S)
    raise UserError(f"run {run} {'is not running' if told is None else 'has just ended'}")


def _ask_once(path: Path, message: Message, *, ends: float) -> Answer | None:
    """Put a message into this file and wait for its answer there. None if the file is not there any more."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
    except FileNotFoundError:  # the process has not made it yet, or has deleted it
        return None
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from None
    try:
        start = _append(descriptor, {"id": message.id, "verb": message.verb, "from": message.sender, **message.data})
        while True:
            gone = not os.fstat(descriptor).st_nlink  # before the look: what is answered last is seen all the same
            for line in os.pread(descriptor, _MOST_BYTES, start).splitlines():
                if (answer := _answer(line, message.id)) is not None:
                    return answer
            if gone or time.monotonic() >= ends:
                return None
            time.sleep(_LOOK_S)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from None
    finally:
        os.close(descriptor)


def _append(descriptor: int, said: Mapping[str, Any]) -> int:
    """One whole line, or nothing of it. Returns where it begins."""
    line = json.dumps({"format": _FORMAT, **said}).encode() + b"\n"
    with _alone(descriptor):
        size = os.fstat(descriptor).st_size
        if os.write(descriptor, line) != len(line):  # the disk is full
            os.ftruncate(descriptor, size)
            raise OSError(28, "no space left on the disk")
    return size


@contextmanager
def _alone(descriptor: int) -> Iterator[None]:
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _fields(line: bytes) -> Mapping[str, Any]:
    """What a line says; nothing if it is no object of this format."""
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) and said.get("format") == _FORMAT else {}


def _message(line: bytes) -> Message | None:
    match _fields(line):
        case {"format": _, "id": str(identity), "verb": str(verb), "from": str(sender), **data}:
            return Message(identity, verb, sender, data)
    return None


def _answer(line: bytes, identity: str) -> Answer | None:
    match _fields(line):
        case {"answers": str(answered), "ok": bool(ok), "text": str(text)} if answered == identity:
            return Answer(ok, text)
    return None
