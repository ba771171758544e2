"""What others use of a limit, as far as the provider's own figures show it beside our count.

A reply says how much was left when it was written, at some moment between sending and reading; it says nothing about
which of our calls were counted by then. So a figure only teaches something where it lies outside of all that our own
count has been since. What it lies below is what others have used: it is taken at once, and what they use per second is
learned from it, so that the next figure finds less to correct. What a figure lies above gives back only what was taken
in this way: with many servers that answer, figures are old, and our own count is never exceeded.
"""

from __future__ import annotations

import math

from .meter import Meter

__all__ = ["Lows", "Others"]

_LEARN_S = 10.0  # how long it takes to believe in what others use per second
_LEARN_MIN_S = 1.0  # and at the least, when figures have only begun to come
_FORGET_S = 60.0  # without figures, or a whole window: what was learned must not keep us from ever asking again
_MOST = 0.6  # of a limit: two who both keep to what is left over must not leave everything to who came first
_WEIGHT = 0.05  # of the newest figure, in how far figures were off
_DEVIATIONS = 2.0  # standard deviations that are kept spare for what others may have used meanwhile
_ROUNDED = 1.0  # figures are whole numbers, cut off
_CELL_S, _CELLS = 0.25, 64


class Lows:
    """The lowest level of a limit in each quarter of a second, for the last sixteen seconds."""

    __slots__ = ("_cells",)

    def __init__(self) -> None:
        self._cells = [(-1, math.inf)] * _CELLS

    def note(self, level: float, now: float) -> None:
        """The level just after something was taken."""
        number = int(now / _CELL_S)
        at, lowest = self._cells[number % _CELLS]
        if at != number or level < lowest:
            self._cells[number % _CELLS] = (number, level)

    def since(self, at: float) -> float:
        """The lowest level from then on; inf if nothing was taken."""
        first = int(at / _CELL_S)
        return min((level for number, level in self._cells if number >= first), default=math.inf)

    def shift(self, by: float) -> None:
        """All levels were lower by so much than was thought."""
        self._cells = [(number, level - by) for number, level in self._cells]


class Others:
    """Corrects one meter by what the provider tells. Units are the limit's, `now` is monotonic seconds.

    `shifted` is the sum of all corrections: levels that were noted before one are lower by it.
    """

    __slots__ = ("_at", "_first", "_heard", "_owed", "_square", "rate", "shifted")

    def __init__(self, now: float) -> None:
        self.rate = 0.0  # units per second that others use
        self.shifted = 0.0
        self._owed = 0.0  # units taken for others that figures may give back
        self._square = 0.0  # mean of the squares of what figures had to correct
        self._at = now
        self._first: float | None = None  # when the first figure came
        self._heard = now  # and the newest

    def __repr__(self) -> str:
        return f"<Others {self.rate:.3g} per second>"

    def follow(self, meter: Meter, now: float) -> None:
        """Take what others have probably used since the last time."""
        if not (self.rate or self._owed):
            self._at = now
            return
        if now - self._heard > max(_FORGET_S, meter.limit.window):
            self.rate = 0.0
        if self.rate > 0.0 and now > self._at:
            self._owed += self.rate * (now - self._at)
            meter.drain(self.rate * (now - self._at), now)
        self._at = max(now, self._at)
        if meter.level(now) >= meter.limit.capacity:
            self._owed = 0.0

    def correct(
        self, meter: Meter, now: float, *, remaining: float, within: float, lowest: float, highest: float
    ) -> float:
        """A figure, true to `within` units, and the least and the most that our count has been since it was asked for.

        Returns by how many units the count was too high.
        """
        if self._first is None:
            self._first = now
        off = 0.0
        if remaining + within + _ROUNDED < lowest:
            off = lowest - remaining - within - _ROUNDED
            meter.take(off, now)
        elif remaining - within > highest:
            off = -min(remaining - within - highest, self._owed)
            meter.give(-off, now)
        self._learn(meter, off, now=now)
        return off

    def refused(self, meter: Meter, now: float, *, level: float) -> float:
        """A call was refused: not more than this was left. Returns by how many units the count was too high.

        Only where figures come too is it believed to be the work of others: else nothing would ever correct that.
        """
        off = max(0.0, meter.level(now) - level)
        meter.lower(level, now)
        if self._first is None:
            return 0.0
        self._learn(meter, off, now=now)
        return off

    def _learn(self, meter: Meter, off: float, *, now: float) -> None:
        assert self._first is not None
        self._heard = now
        self._owed += off
        self.shifted += off
        seconds = min(_LEARN_S, max(_LEARN_MIN_S, now - self._first))
        self.rate = min(max(0.0, self.rate + off / seconds), _MOST * meter.limit.per_second)
        self._square += _WEIGHT * (off * off - self._square)

    @property
    def seen(self) -> bool:
        """Whether the provider tells figures at all."""
        return self._first is not None

    @property
    def spare(self) -> float:
        """Units to keep for what others may use before the next figure comes."""
        if not self.rate:
            return 0.0
        return _ROUNDED + _DEVIATIONS * math.sqrt(self._square)
