"""A run against recorded replies alone: what was recorded is answered, everything else is an error, nothing is asked.

An answer is found by the messages and the model. Of several, those come first that were given at the same address, the
n-th to who asks for the n-th time; others are given in turn.
"""

from __future__ import annotations

from bisect import bisect
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import takewhile
from pathlib import Path

from ..client.known import Found
from ..errors import CallFailed, ErrorInfo
from ..journal import RunFile, short_of
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
            return cls(collect([(path, rows)]), f"run {short_of(path)}")

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

    def matches(self, task: str) -> Sequence[tuple[str, str]]:
        """The pairs that were judged at TASK/FIRST+SECOND/NUMBER. Keys may have a plus: then each way is given."""
        played = self._played.get(task, ())
        return [(pair[:at], pair[at + 1 :]) for pair in played for at, sign in enumerate(pair) if sign == "+"]

    @cached_property
    def _played(self) -> Mapping[str, Sequence[str]]:
        rows = sorted((one.call or 0, one.address) for found in self._recorded.values() for one in found if one.address)
        played: dict[str, list[str]] = {}
        for address in dict.fromkeys(address for _, address in rows):
            task, _, rest = address.partition("/")
            pair, _, number = rest.rpartition("/")
            if "+" in pair and number.isdigit():
                played.setdefault(task, []).append(pair)
        return played

    # --- what is missing

    def _missing(self, messages: Key, model: str, among: Sequence[Recorded]) -> str:
        if among:
            models = ", ".join(dict.fromkeys(str(one.model) for one in among))
            return f"{self.name} has an answer to these messages of {models}, none of {model}"
        text = _text(messages)
        forwards, backwards = self._texts
        near = [*_beside(forwards, text), *(one[::-1] for one in _beside(backwards, text[::-1]))]
        nearest = max(near, key=lambda other: _alike(text, other) + _alike(text[::-1], other[::-1]))
        return f"{self.name} has no answer to these messages; {_difference(text, nearest)}"

    @cached_property
    def _texts(self) -> tuple[list[str], list[str]]:
        """The conversations in alphabetical order, read forwards and backwards.

        Beside the place of another one are those that begin, or end, most like it.
        """
        texts = [_text(messages) for messages in self._recorded]
        return sorted(texts), sorted(text[::-1] for text in texts)


def _beside(texts: Sequence[str], text: str) -> Sequence[str]:
    place = bisect(texts, text)
    return texts[max(0, place - 1) : place + 1]


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
