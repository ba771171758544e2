"""How many calls a run will make, and about how long it takes: from what is known, or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...outcome import Outcome

__all__ = ["Forecast", "Row", "expected_items"]

Answer = tuple[int | None, float | None]

_WINDOW_S = 30
"""Seconds whose calls give the rate: long enough to smooth bursts, short enough to follow a limit that changed."""

_ENOUGH_CALLS = 5  # finished calls before a rate says anything
_ENOUGH_S = 2.0  # and seconds since the first of them


class Row:
    """The counts of one task. `settled` are the calls of items that ended.

    `at_most` are the matches of a tournament, None as long as that depends on entrants still to come.
    """

    __slots__ = (
        "at_most", "calls", "calls_models", "cancelled", "done", "failed", "is_tournament", "open", "settled",
        "single", "skipped", "started", "total",
    )  # fmt: skip

    def __init__(self) -> None:
        self.total = self.done = self.failed = self.skipped = self.cancelled = self.calls = self.settled = 0
        self.started = self.calls_models = self.single = self.is_tournament = False
        self.open = True
        self.at_most: int | None = None

    @property
    def ended(self) -> int:
        return self.done + self.failed + self.skipped + self.cancelled

    def end(self, outcome: Outcome) -> None:
        """Count an item that reached its end."""
        setattr(self, outcome.state, getattr(self, outcome.state) + 1)
        self.settled += outcome.usage.calls

    def remaining_calls(self, expected: int | None) -> float | None:
        """Calls still to come if there are `expected` items, None if nobody knows."""
        if expected is None:
            return None
        if not self.open and self.ended >= expected:
            return 0.0
        if self.is_tournament:
            return None if self.at_most is None else max(0, self.at_most - self.calls)
        each = self.settled / self.ended if self.ended else float(self.calls_models)
        return max(0.0, each * (expected - self.ended) - (self.calls - self.settled))


def expected_items(rows: Mapping[str, Row], waits_for: Mapping[str, Sequence[str]]) -> dict[str, int | None]:
    """How many items each task will have, None where that is unknown.

    A task that is still open is taken to get an item for each one of the largest collection that it reads.
    """
    found: dict[str, int | None] = {}

    def find(name: str) -> int | None:
        if name not in found:
            row = rows[name]
            found[name] = None if row.open else row.total
            if row.open:
                read = [upstream for upstream in waits_for.get(name, ()) if upstream in rows]
                counts = [find(upstream) for upstream in read if not rows[upstream].single]
                known = [number for number in counts if number is not None]
                found[name] = max(row.total, *known) if known and len(known) == len(counts) else None
        return found[name]

    for name in rows:
        find(name)
    return found


class Forecast:
    """Counts calls that ended, and answers once a second, so that figures on a screen do not flutter.

    What is unknown is asked for again each time: it is shown as soon as it is known.
    """

    def __init__(self) -> None:
        self.calls = 0
        self._first: float | None = None
        self._cells = [(0, 0)] * _WINDOW_S  # (second, calls), a ring
        self._answered = -1
        self._answer: Answer = (None, None)

    def call_ended(self, at: float) -> None:
        """One more call ended at wall time `at`."""
        self.calls += 1
        if self._first is None:
            self._first = at
        second = int(at)
        then, number = self._cells[second % _WINDOW_S]
        self._cells[second % _WINDOW_S] = (second, number + 1 if then == second else 1)

    def rate(self, now: float) -> float | None:
        """Calls that end each second, lately; None before enough of them did."""
        span = 0.0 if self._first is None else min(float(_WINDOW_S), now - self._first)
        if span < _ENOUGH_S or self.calls < _ENOUGH_CALLS:
            return None
        return sum(number for second, number in self._cells if second > now - _WINDOW_S) / span or None

    def at(self, now: float, rows: Mapping[str, Row], *, expected: Mapping[str, int | None]) -> Answer:
        """How many calls there will be in all, and the wall time of the end; None where that is unknown."""
        if int(now) != self._answered or None in self._answer:
            self._answered = int(now)
            self._answer = self._ask(now, rows, expected=expected)
        calls, ends = self._answer
        return None if calls is None else max(calls, self.calls), ends

    def _ask(self, now: float, rows: Mapping[str, Row], *, expected: Mapping[str, int | None]) -> Answer:
        known = [row.remaining_calls(expected[name]) for name, row in rows.items()]
        remaining = sum(number for number in known if number is not None)
        if not known or None in known:
            return None, None
        rate = self.rate(now)
        return self.calls + round(remaining), None if rate is None else now + remaining / rate
