"""Recorded replies: rows with `messages` and `reply`; an exact match of the messages is answered, nothing else is.

A row with `"format": 1` may say more: `tool_calls`, `finish` and `usage` of the reply, the `model` that gave it, the
number of its `call` and the `address` where it was asked. Where one conversation has several replies, those of the
model that is asked come first; of rows that number their calls each is an answer of its own, given in turn and then
again from the first; of others the last row counts.
Tokens that `usage` does not tell are characters divided by four, rounded up: of the messages and of the reply.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast, get_args

from ..dialects.base import RequestRejected
from ..dialects.openai_chat import parse_messages
from ..errors import UserError
from ..messages import Finish, Message, Reply, Request, Tokens, digest
from .behaviour import ServedModel
from .replies import NoReply, token_count

__all__ = [
    "TOKEN_WORDS",
    "Key",
    "Recorded",
    "RecordedReplies",
    "Recordings",
    "collect",
    "conversation",
    "load_recordings",
]

Key = tuple[tuple[str, str, str | None, tuple[tuple[str, str], ...]], ...]

TOKEN_WORDS = {
    "input": "input_tokens",
    "cached": "cached_tokens",
    "output": "output_tokens",
    "reasoning": "reasoning_tokens",
}


@dataclass(frozen=True, slots=True)
class Recorded:
    """One row: a reply, whose it was, and which call it answered where, if the row says so."""

    reply: Reply
    model: str | None
    call: int | None
    address: str | None = None


@dataclass(frozen=True, slots=True)
class Recordings:
    """What files of recorded replies hold: the replies to each conversation, the models that are named in the rows, and
    what a person should know of the files."""

    replies: Mapping[Key, tuple[Recorded, ...]] = field(repr=False)
    models: tuple[str, ...]
    notices: tuple[str, ...]


class RecordedReplies:
    """A source of replies that answers what was recorded."""

    def __init__(self, recordings: Recordings) -> None:
        self._recorded = recordings.replies
        self._given: dict[tuple[Key, str | None], int] = {}

    def __repr__(self) -> str:
        return f"<RecordedReplies to {len(self._recorded)} conversations>"

    def weigh(self, request: Request) -> tuple[int, int]:
        """Tokens of the messages and of the reply. Raises NoReply where nothing is recorded for these messages."""
        tokens = self._find(request).tokens
        assert tokens.input is not None  # both are always known here
        assert tokens.output is not None
        return tokens.input, tokens.output

    def answer(self, request: Request, model: ServedModel, *, input_tokens: int) -> Reply:
        """The recorded reply. Raises NoReply."""
        reply = self._find(request, give=True)
        tokens = replace(reply.tokens, input=input_tokens)
        name = f"replay-{digest([reply.text, [call.id for call in reply.tool_calls]], length=16)}"
        return replace(reply, tokens=tokens, model=request.model, id=name)

    def _find(self, request: Request, *, give: bool = False) -> Reply:
        key = conversation(request.messages)
        found = self._recorded.get(key)
        if found is None:
            raise NoReply("no reply is recorded for exactly these messages")
        own = [one for one in found if one.model == request.model]
        choice = own or found
        if choice[-1].call is None:
            return choice[-1].reply
        asked = key, request.model if own else None
        turn = self._given.get(asked, 0)
        if give:
            self._given[asked] = turn + 1
        numbered = [one for one in choice if one.call is not None]
        return numbered[turn % len(numbered)].reply


def load_recordings(files: Iterable[str | Path]) -> Recordings:
    """Read JSONL files, gzipped if they end in .gz. Blocks on disk.

    A null or empty reply is an answer without text. Where several rows of one file answer the same, the notices say
    what becomes of them. Raises UserError with file and line for the first row that cannot be read.
    """
    return collect((path, _rows(path)) for path in map(Path, files))


def collect(files: Iterable[tuple[object, Iterable[tuple[str, Mapping[str, Any]]]]]) -> Recordings:
    """The rows of several sources, each with its place, as `load_recordings` reads them. Raises UserError."""
    replies: dict[Key, list[Recorded]] = {}
    models: dict[str, None] = {}
    notices: list[str] = []
    for path, found in files:
        again = rows = 0
        for place, row in found:
            key, recorded = _read_row(row, place)
            others = replies.setdefault(key, [])
            again += recorded.call is None and bool(others)
            rows += 1
            others.append(recorded)
            if isinstance(row.get("model"), str):
                models[row["model"]] = None
        if not rows:
            raise UserError(f"{path}: there is no row in it")
        if again:
            notices.append(
                f"{path}: {again} of {rows} rows have messages that were there before; the last reply counts"
            )
    ordered = {key: tuple(sorted(found, key=_order)) for key, found in replies.items()}
    return Recordings(ordered, tuple(models), tuple(notices))


def _order(recorded: Recorded) -> tuple[bool, int]:
    """Rows that number their calls in this order, and after them the others as they stand: of these the last counts."""
    return recorded.call is None, recorded.call or 0


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


def _read_row(row: Mapping[str, Any], place: str) -> tuple[Key, Recorded]:
    if "messages" not in row or "reply" not in row:
        missing = "messages" if "messages" not in row else "reply"
        raise UserError(f"{place}: the row has no {missing!r}")
    text = row["reply"]
    if not (text is None or isinstance(text, str)):
        raise UserError(f"{place}: 'reply' must be text or null")
    more = row if row.get("format") == 1 else {}  # what other rows may have under these names is their own matter
    said = {"role": "assistant", "content": text or "", "tool_calls": more.get("tool_calls")}
    try:
        messages = parse_messages(row["messages"])
        (answer,) = parse_messages([said])
    except RequestRejected as rejected:
        raise UserError(f"{place}: {rejected}") from None
    finish = more.get("finish") or ("tool" if answer.tool_calls else "stop")
    if finish not in get_args(Finish):
        raise UserError(f"{place}: 'finish' must be one of {', '.join(get_args(Finish))}, not {finish!r}")
    tokens = _tokens(more.get("usage"), place, messages=messages, answer=answer)
    reply = Reply(answer.text, cast("Finish", finish), answer.tool_calls, tokens)
    model, call, address = more.get("model"), more.get("call"), more.get("address")
    own = call if isinstance(call, int) and not isinstance(call, bool) else None
    return conversation(messages), Recorded(
        reply, model if isinstance(model, str) else None, own, address if isinstance(address, str) else None
    )  # fmt: skip


def _tokens(usage: Any, place: str, *, messages: Iterable[Message], answer: Message) -> Tokens:
    """What the row tells of its tokens; what it does not is counted."""
    usage = {} if usage is None else usage
    if not isinstance(usage, dict) or not all(n is None or (type(n) is int and n >= 0) for n in usage.values()):
        raise UserError(f"{place}: 'usage' must be an object of whole numbers such as input_tokens")
    counted = {"input": _characters(messages), "output": _characters([answer])}
    told = {name: usage.get(word) for name, word in TOKEN_WORDS.items()}
    for name, characters in counted.items():
        if told[name] is None:
            told[name] = token_count(characters)
    return Tokens(**{name: told[name] or 0 for name in told})


def conversation(messages: Iterable[Message]) -> Key:
    """What a conversation is found by."""
    return tuple(
        (m.role, m.text, m.tool_call_id, tuple((call.name, call.arguments) for call in m.tool_calls)) for m in messages
    )


def _characters(messages: Iterable[Message]) -> int:
    return sum(len(m.text) + sum(len(call.name) + len(call.arguments) for call in m.tool_calls) for m in messages)
