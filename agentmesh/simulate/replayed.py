"""A run against recorded replies alone: what was recorded is answered, everything else is an error, nothing is asked.

An answer is found by the messages and the model. Of several, those come first that were given at the same address, the
n-th to who asks for the n-th time; others are given in turn.
"""

from __future__ import annotations

from bisect import bisect
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from itertools import takewhile
from pathlib import Path

from ..client.known import Found
from ..errors import CallFailed, ErrorInfo
from ..journal import RunFile
from ..messages import Request
from .recording import calls_of
from .replay import Key, Recorded, Recordings, collect, conversation, load_recordings

__all__ = ["Replayed"]

_SHOWN, _BEFORE = 60, 20  # characters of texts that differ, and of those before that do not


class Replayed:
    """Knows the recorded replies. Made by `of_file` and `of_run`, which block."""

    def __init__(self, recordings: Recordings, name: str) -> None:
        self.name = name
        self.notices = recordings.notices
        self._recorded = recordings.replies
        self._given: Counter[tuple[Key, str]] = Counter()

    def __repr__(self) -> str:
        return f"<Replayed {self.name}: {len(self._recorded)} conversations>"

    @classmethod
    def of_file(cls, path: Path) -> Replayed:
        """What a file has, in the format that `serve replay` reads. Raises UserError."""
        return cls(load_recordings([path]), str(path))

    @classmethod
    def of_run(cls, path: Path) -> Replayed:
        """What a run's file has. Raises UserError."""
        with RunFile.open(path) as file:
            rows = ((f"{path}: call {row['call']}", row) for row in calls_of(file))
            return cls(collect([(path, rows)]), f"run {file.run_id}")

    async def find(self, key: str, request: Request, *, address: str) -> Found:
        """The recorded reply. Raises CallFailed where there is none, and says how near the nearest one is."""
        model, _, asked = key.rpartition(" ")
        own = model.partition("/")[2]
        messages = conversation(request.messages)
        among = self._recorded.get(messages, ())
        fitting = [one for one in among if one.model in (None, own)]
        if not fitting:
            raise CallFailed(ErrorInfo("bad_request", self._missing(messages, own, among)))
        here = [one for one in fitting if one.address == address]
        number = int(asked.partition("~")[2] or 1)
        found = here[(number - 1) % len(here)] if here else self._in_turn(messages, own, fitting)
        return Found(found.reply, attempts=0, source="recording")

    def _in_turn(self, messages: Key, model: str, fitting: Sequence[Recorded]) -> Recorded:
        numbered = [one for one in fitting if one.call is not None]
        if not numbered:
            return fitting[-1]
        self._given[messages, model] += 1
        return numbered[(self._given[messages, model] - 1) % len(numbered)]

    # --- what is missing

    def _missing(self, messages: Key, model: str, among: Sequence[Recorded]) -> str:
        if among:
            models = ", ".join(dict.fromkeys(str(one.model) for one in among))
            return f"{self.name} has an answer to these messages of {models}, none of {model}"
        text = _text(messages)
        texts = self._texts
        place = bisect(texts, text)
        nearest = max(texts[max(0, place - 1) : place + 1], key=lambda other: _alike(text, other))
        return f"{self.name} has no answer to these messages; {_difference(text, nearest)}"

    @cached_property
    def _texts(self) -> list[str]:
        """The conversations in alphabetical order: the one that begins most alike is beside the place of another."""
        return sorted(map(_text, self._recorded))


def _text(messages: Key) -> str:
    return "\n".join(
        " ".join((role, text, *(f"{name}({arguments})" for name, arguments in calls)))
        for role, text, _, calls in messages
    )


def _difference(asked: str, recorded: str) -> str:
    same = _alike(asked, recorded)
    begin = max(0, same - _BEFORE)
    ours, theirs = (_excerpt(text, begin) for text in (asked, recorded))
    return f"the nearest one differs after {same:,} characters: it has {theirs}, asked is {ours}"


def _alike(one: str, other: str) -> int:
    """How many characters two texts have in common from their beginning."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _excerpt(text: str, begin: int) -> str:
    shown = text[begin : begin + _SHOWN]
    return repr(("…" if begin else "") + shown + ("…" if len(text) > begin + _SHOWN else ""))
