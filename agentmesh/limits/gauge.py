"""A limit in use: its meter, and how much of it was used, recently and in all, for the screen and the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from ..rates import Limit
from .ledger import Recent, Spans
from .meter import Meter, meter
from .others import Lows, Others
from .statistics import LimitStatistics, Source
from .window import SlidingWindow

__all__ = ["Gauge", "Hold"]

_DOUBTS = 2.0  # standard deviations of what calls in flight may differ from their estimates, that teach nothing
_SPARE_SHARE = 0.25  # of what goes at once: a lane that can foresee nothing at all still goes on


class Hold(NamedTuple):
    """What a call holds on a gauge: units, the level after they were taken, and what had been corrected by then.

    `ahead` of the units are taken before the provider counts them, which it does when the call ends.
    """

    gauge: Gauge
    units: float
    level: float = 0.0
    shifted: float = 0.0
    ahead: float = 0.0


class Gauge:
    """One limit of `scope` (the account, a pool or a model), with its meter and its history.

    `told` says whether the figure is the provider's own rather than the file's, which is `written`: None where no file
    has this limit.
    """

    __slots__ = (
        "_ahead", "_busy", "_changed", "_first", "_held", "_level_s", "_lived", "_lows", "_missing", "_others",
        "_recalled", "_recent", "_used", "begun", "doubt", "figure_at", "full_at", "limit", "meter", "scope", "slots",
        "tokens", "told", "written",
    )  # fmt: skip

    def __init__(self, limit: Limit, scope: str, now: float) -> None:
        self.limit = limit
        self.slots = limit.unit == "in_flight"
        self.tokens = "tokens" in limit.unit
        self.written: Limit | None = limit
        self.told = False
        self.figure_at = -math.inf  # when the call was sent whose answer told this figure
        self.scope = scope
        self._others = Others(now)
        self._lows = Lows()
        self.meter: Meter = _meter(limit, now)
        self._ahead = 0.0  # by how much a bucket is lower than the provider's: what calls in flight took ahead of it
        self.doubt = 0.0  # the sum over calls in flight of how far each may exceed its estimate, in units squared
        self.full_at = now  # when everything was free the last time
        self.begun = True  # whether the provider has begun to count
        self._used = 0.0  # units, in all; for slots: now
        self._level_s = 0.0  # for slots: units x seconds
        self._changed = now  # for slots: when that was
        self._recent = Recent()
        self._first: float | None = None
        self._recalled: Sequence[tuple[float, float]] = ()  # what an earlier process used: (time, units)
        self._missing = 0.0  # of it, what had not come back at the first call
        self._lived: tuple[float, float] = (0.0, 0.0)  # of windows, units and units x seconds of it at the first call
        self._busy: tuple[float, float] = (0.0, 0.0)  # when work last waited for this limit, and what was used by then
        self._held = Spans()  # `back`: a call, by this limit

    @property
    def asked(self) -> bool:
        """Whether any call has taken of it."""
        return self._first is not None

    def __repr__(self) -> str:
        return f"<Gauge {self.scope} {self.limit.name}: {self._used:.0f} used, {self.meter!r}>"

    def wait(self, amount: float, now: float, *, guard: float, doubt: float) -> float:
        """Seconds until there is room for `amount`, and for what may differ from what we know.

        `guard` is in seconds of refill, `doubt` in units.
        """
        others = self._others
        if others.seen:  # figures correct the rest, and a bucket that others use is never quite full
            others.follow(self.meter, now)
            guard = min(guard, _SPARE_SHARE * self.limit.capacity / self.limit.per_second)
            doubt += others.spare
        if doubt:
            doubt = min(doubt, _SPARE_SHARE * self.limit.capacity)
        return self.meter.wait(amount, now, guard=guard, spare=doubt)

    def take(self, amount: float, now: float, *, ahead: float = 0.0) -> Hold:
        """Count an admission; `ahead` of the amount the provider will count only when the call ends."""
        if self._first is None:
            self._note_first(now)
        meter = self.meter
        if self.slots:
            meter.take(amount, now)
            self._count(amount, now)
            return Hold(self, amount)
        level = meter.level(now)
        if level >= self.limit.capacity:
            self.full_at = now
        self._fill(now)
        self._ahead += ahead
        meter.take(amount, now)
        self._recent.add(amount, now)
        self._used += amount
        self._lows.note(level - amount, now)
        return Hold(self, amount, level - amount, self._others.shifted, ahead)

    def hear(self, hold: Hold, now: float, *, remaining: float, within: float, since: float) -> None:
        """The provider told how much was left, at some time after it was asked at `since` by a call with this hold."""
        before = hold.level - (self._others.shifted - hold.shifted)
        level = self.meter.level(now)
        if self.limit.unit != "requests":
            within += _DOUBTS * math.sqrt(self.doubt)
        # What has been corrected since may have been so then already, or not: both are allowed for.
        lowest, highest = min(before, level), max(hold.level, level)
        if remaining + within < lowest:
            lowest = min(lowest, self._lows.since(since))
        off = self._others.correct(
            self.meter, now, remaining=remaining, within=within, lowest=lowest, highest=highest
        )  # fmt: skip
        if off:
            self._lows.shift(off)

    def empty(self, level: float, now: float) -> None:
        """A refusal shows that not more than `level` is left."""
        if off := self._others.refused(self.meter, now, level=level):
            self._lows.shift(off)

    def adopt(self, limit: Limit, now: float) -> None:
        """From now on this limit holds: the provider said so."""
        self._fill(now)
        self.meter.take(0.0, now)  # what came back until now came at the old rate
        self.told = True
        self.limit = limit
        self.meter.limit = _counted(limit)

    def allow(self, limit: Limit, now: float) -> None:
        """From now on this limit holds: the user said so. What others use of the provider's is learned anew."""
        self.adopt(limit, now)
        self.told, self.written = False, limit
        self._others = Others(now)

    def recall(self, uses: Sequence[tuple[float, float]], now: float, *, told: Limit | None = None) -> None:
        """Begin where an earlier process ended: `uses` are (time, units), oldest first, `told` the limit that held."""
        if told is not None:
            self.limit, self.told = told, True
        self._recalled = uses
        self._renew(now)

    def restart(self, now: float) -> None:
        """The provider has seen nothing of ours yet: what was taken counts as taken now."""
        if self._first is not None:
            self._renew(now)
            self._note_first(now)
            self.full_at = now
            self.meter.take(self._used, now)
            self._others = Others(now)

    def _renew(self, now: float) -> None:
        self.meter = _meter(self.limit, now)
        for at, amount in self._recalled:
            self.meter.take(amount, at)

    def _note_first(self, now: float) -> None:
        self._first = now
        if self._recalled:
            self._missing = self.limit.capacity - self.meter.level(now)
            if isinstance(self.meter, SlidingWindow):
                self._lived = self.meter.lived(now)

    def release(self, amount: float, now: float, *, since: float = 0.0) -> None:
        """What was taken at `since` was not used, or is used no longer (slots); more than that was, if negative."""
        first = now if self._first is None else self._first
        self._fill(now)
        self.meter.give(amount, now, since=max(since, first))
        self._count(-amount, now)

    def release_ahead(self, amount: float, now: float, *, since: float) -> None:
        """What was taken ahead of the provider at `since` is no longer; more is, if negative.

        A bucket that was full meanwhile, there or here, has less to give back: it would be fuller than the provider's.
        """
        self._fill(now)
        given = min(amount, self._ahead) if self.limit.shape == "bucket" else amount
        self.release(given, now, since=since)
        self._ahead -= given
        self._count(given - amount, now)

    def _fill(self, now: float) -> None:
        """A full bucket is not lower than the provider's any more."""
        if self._ahead:
            self._ahead = min(self._ahead, max(0.0, self.limit.capacity - self.meter.level(now)))

    def note_bound(self, bound: bool, now: float) -> None:
        """Whether, from now on, this limit is what holds a call back."""
        if self._held.now_is is not None:
            self._busy = (now, self._total(now))
        self._held.note("back" if bound else None, now)

    def statistics(self, now: float, *, own: bool = False) -> LimitStatistics:
        """How the limit stands at `now`. An `own` one is in no file: nobody said that there is none."""
        limit = self.limit
        source: Source = "own" if own else "told" if self.told else "file"
        if limit.unit == "in_flight":
            recent = self._used / limit.limit
        elif limit.shape != "bucket":
            recent = 1.0 - self.meter.level(now) / limit.limit
        else:
            recent = self._recent.units(now) / self._allowed_recently(now)
        return LimitStatistics(
            name=limit.name, scope=self.scope, limit=limit.limit, source=source, used=self._used, recent=recent,
            use=self._use(now), bound_s=self.bound_s(now), binds=self._held.now_is is not None,
        )  # fmt: skip

    def bound_s(self, now: float) -> float:
        """For how many seconds this limit held a call back."""
        return self._held.of("back", now)

    def shortest_s(self, units: float) -> float:
        """In how many seconds the limit lets so many units go, at the least."""
        limit = self.limit
        return 0.0 if limit.unit == "in_flight" else max(0.0, units - limit.capacity) / limit.per_second

    @property
    def used(self) -> float:
        """Units in all; for slots: now."""
        return self._used

    def _allowed_recently(self, now: float) -> float:
        """Units that the limit allows in the last 10 s, or since the first call, whose burst then counts too."""
        age = now - (self._first if self._first is not None else now)
        span = Recent.span(age)
        burst = self._burst if age <= span else 0.0
        return self.limit.per_second * span + burst

    def _use(self, now: float) -> float:
        """Share of what the limit allowed, burst included, from the first call until work last waited for it.

        Of slots and windows, how full they were on average.
        """
        at, used = (now, self._total(now)) if self._held.now_is is not None else self._busy
        if self._first is None or at <= self._first:
            return 1.0 if self._recalled and at > 0.0 else 0.0  # an earlier process had used it up
        if self.limit.unit == "in_flight" or isinstance(self.meter, SlidingWindow):
            return used / (self.limit.limit * (at - self._first))
        return used / (self._burst + self.limit.per_second * (at - self._first))

    @property
    def _burst(self) -> float:
        """Units that were there at the first call."""
        return max(0.0, self.limit.capacity - self._missing)

    def _count(self, amount: float, now: float) -> None:
        if self.slots:
            self._level_s += self._used * max(0.0, now - self._changed)
            self._changed = now
        else:
            self._recent.add(amount, now)
        self._used += amount

    def _total(self, now: float) -> float:
        """Units in all; where they come back by and by (slots, windows), units x seconds for which they were taken."""
        if isinstance(self.meter, SlidingWindow):
            units, unit_seconds = self.meter.lived(now)
            before, lived = self._lived
            return max(0.0, self._used + before - units) * self.limit.window + unit_seconds - lived
        if self.limit.unit != "in_flight":
            return self._used
        return self._level_s + self._used * max(0.0, now - self._changed)


def _meter(limit: Limit, now: float) -> Meter:
    return meter(_counted(limit), now)


def _counted(limit: Limit) -> Limit:
    """The limit as it is kept to wherever the provider's windows begin, which nobody tells."""
    return replace(limit, shape="sliding") if limit.shape == "fixed" else limit
