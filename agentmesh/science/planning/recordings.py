"""Reads recorded replies: JSON Lines, plain or gzipped, a row for each question that a model was asked."""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

from ...errors import InputProblems, Problem, UserError
from ...messages import Message, Role
from .asynchow import Item, find_items

__all__ = ["Recorded", "Recordings", "join_items", "read_recordings"]

_PLANNER = ("baselines", "planner")


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True)
    role: Role
    content: str


class _Row(BaseModel):
    """A line as it is in the file. `published_correct` is the verdict that was published with it."""

    model: str
    messages: tuple[_Message, ...]
    reply: str | None
    question: str | None = None
    gold_seconds: FiniteFloat | None = None
    published_correct: bool | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """One recorded reply. `place` is its file:line; `gold_seconds` and `published_correct` may be unknown."""

    place: str
    model: str
    messages: tuple[Message, ...]
    question: str
    reply: str | None
    gold_seconds: float | None = None
    published_correct: bool | None = None


@dataclass(frozen=True, slots=True)
class Recordings:
    """The rows of a planner on AsyncHow; `left_out` counts rows of other data sets and methods, by both names."""

    rows: tuple[Recorded, ...]
    left_out: Counter[str]


def read_recordings(paths: Sequence[Path]) -> Recordings:
    """Read files, and all `.jsonl` and `.jsonl.gz` files of folders, each file once.

    A row has `model`, `messages` ({role, content}), `reply` (text or null), and possibly `question`, `gold_seconds`,
    `published_correct`; rows whose `dataset` or `method` is another one are counted and left out. Raises UserError
    when a file cannot be read, InputProblems with the place (file:line) of every broken line.
    """
    rows: list[Recorded] = []
    left_out: Counter[str] = Counter()
    problems: list[Problem] = []
    for file in _files(paths):
        for number, line in _lines(file):
            try:
                content = json.loads(line)
                if not isinstance(content, dict):
                    raise ValueError("is no JSON object")
                if other := _other(content):
                    left_out[other] += 1
                else:
                    rows.append(_recorded(f"{file}:{number}", content))
            except ValidationError as error:
                for found in error.errors(include_url=False, include_input=False):
                    key = ".".join(str(part) for part in found["loc"])
                    problems.append(Problem(found["msg"], str(file), number, key=key))
            except (ValueError, RecursionError) as error:
                problems.append(Problem(f"a broken line: {error}", str(file), number))
    if problems:
        raise InputProblems(problems)
    return Recordings(tuple(rows), left_out)


def join_items(rows: Sequence[Recorded], items: Iterable[Item]) -> list[Item | None]:
    """For each row the item that its question was made of, by goal and steps; None where it is not among them."""
    return find_items([row.question for row in rows], items)


def _other(content: dict[str, object]) -> str | None:
    """What a row belongs to, if not to a planner on AsyncHow."""
    dataset, method = content.get("dataset", "asynchow"), content.get("method", _PLANNER[0])
    return None if dataset == "asynchow" and method in _PLANNER else f"{dataset} {method}"


def _recorded(place: str, content: dict[str, object]) -> Recorded:
    row = _Row.model_validate(content)
    asked = row.question or next((m.content for m in reversed(row.messages) if m.role == "user"), "")
    gold = row.gold_seconds
    return Recorded(
        place=place,
        model=row.model,
        messages=tuple(Message(message.role, message.content) for message in row.messages),
        question=asked,
        reply=row.reply,
        gold_seconds=int(gold) if gold is not None and gold.is_integer() else gold,
        published_correct=row.published_correct,
    )


def _files(paths: Sequence[Path]) -> list[Path]:
    files: dict[Path, Path] = {}
    for path in paths:
        found = sorted([*path.glob("*.jsonl"), *path.glob("*.jsonl.gz")]) if path.is_dir() else [path]
        if not found:
            raise UserError(f"{path}: has no .jsonl or .jsonl.gz file")
        for file in found:
            files.setdefault(file.resolve(), file)
    return list(files.values())


def _lines(file: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not empty, with their numbers from 1."""
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    yield number, line
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
