"""Recorded replies: rows with `messages` and `reply`; an exact match of the messages is answered, nothing else is.

Tokens are characters divided by four, rounded up: of the messages and of the reply, both charged on admission.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..dialects.base import RequestRejected
from ..dialects.openai_chat import parse_messages
from ..errors import UserError
from ..messages import Message, Reply, Request, Tokens, digest
from .behaviour import ServedModel
from .replies import NoReply, token_count

__all__ = ["RecordedReplies", "Recordings", "load_recordings"]

Key = tuple[tuple[str, str, str | None, tuple[tuple[str, str], ...]], ...]


@dataclass(frozen=True, slots=True)
class Recordings:
    """What files of recorded replies hold: the reply to each conversation, the models that are named in the rows, and
    what a person should know of the files."""

    replies: Mapping[Key, str] = field(repr=False)
    models: tuple[str, ...]
    notices: tuple[str, ...]


class RecordedReplies:
    """A source of replies that answers what was recorded."""

    def __init__(self, recordings: Recordings) -> None:
        self._recorded = recordings.replies

    def __repr__(self) -> str:
        return f"<RecordedReplies to {len(self._recorded)} conversations>"

    def weigh(self, request: Request) -> tuple[int, int]:
        """Tokens of the messages and of the reply. Raises NoReply where nothing is recorded for these messages."""
        return token_count(_characters(request.messages)), token_count(len(self._find(request)))

    def answer(self, request: Request, model: ServedModel, *, input_tokens: int) -> Reply:
        """The recorded reply. Raises NoReply."""
        text = self._find(request)
        tokens = Tokens(input=input_tokens, cached=0, output=token_count(len(text)), reasoning=0)
        return Reply(text, "stop", tokens=tokens, model=request.model, id=f"replay-{digest(text, length=16)}")

    def _find(self, request: Request) -> str:
        text = self._recorded.get(_key(request.messages))
        if text is None:
            raise NoReply("no reply is recorded for exactly these messages")
        return text


def load_recordings(files: Iterable[str | Path]) -> Recordings:
    """Read JSONL files, gzipped if they end in .gz. Blocks on disk.

    A null or empty reply is an answer without text. Where several rows have the same messages the last one wins, and
    the notices say so. Raises UserError with file and line for the first row that cannot be read.
    """
    replies: dict[Key, str] = {}
    models: dict[str, None] = {}
    notices: list[str] = []
    for file in files:
        path = Path(file)
        again = rows = 0
        for place, row in _rows(path):
            key, reply = _read_row(row, place)
            again += key in replies
            rows += 1
            replies[key] = reply
            if isinstance(row.get("model"), str):
                models[row["model"]] = None
        if not rows:
            raise UserError(f"{path}: there is no row in it")
        if again:
            notices.append(
                f"{path}: {again} of {rows} rows have messages that were there before; the last reply counts"
            )
    return Recordings(replies, tuple(models), tuple(notices))


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row with its place. Blank lines are passed over."""
    number = 0
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise UserError(f"{path}:{number}: this line is no JSON: {error}") from None
                if not isinstance(row, dict):
                    raise UserError(f"{path}:{number}: a row must be a JSON object")
                yield f"{path}:{number}", row
    except (OSError, EOFError, zlib.error) as error:
        where = f"{path}:{number + 1}" if number else str(path)
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UserError(f"{where}: cannot be read: {reason}") from None


def _read_row(row: Mapping[str, Any], place: str) -> tuple[Key, str]:
    if "messages" not in row or "reply" not in row:
        missing = "messages" if "messages" not in row else "reply"
        raise UserError(f"{place}: the row has no {missing!r}")
    reply = row["reply"]
    if not (reply is None or isinstance(reply, str)):
        raise UserError(f"{place}: 'reply' must be text or null")
    try:
        return _key(parse_messages(row["messages"])), reply or ""
    except RequestRejected as rejected:
        raise UserError(f"{place}: {rejected}") from None


def _key(messages: Iterable[Message]) -> Key:
    return tuple(
        (m.role, m.text, m.tool_call_id, tuple((call.name, call.arguments) for call in m.tool_calls)) for m in messages
    )


def _characters(messages: Iterable[Message]) -> int:
    return sum(len(m.text) + sum(len(call.name) + len(call.arguments) for call in m.tool_calls) for m in messages)
