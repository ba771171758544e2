"""What no file and no header tells, learned from refusals: how many calls at once, and how many in a second.

Both learners grow while nothing is refused and shrink when something is, and both remember what a refusal has taught,
so that afterwards they stay just below it and look only rarely whether it still holds. They are synchronous, read no
clock (`now` is monotonic seconds) and never wait.

`InFlightWindow` grows by additive increase and shrinks by multiplicative decrease (AIMD, as in TCP congestion control,
RFC 5681), with one difference: a cap on calls at once is a wall, and a refusal says where it stands. What was refused
with n calls under way says that n - 1 are allowed; the window goes back to there, not to half of it.

`RateWindow` spaces calls evenly. A server that has just refused is empty; what it lets through until it refuses again
is what came back to it meanwhile. So each refusal bounds the rate from both sides: calls went faster than it just now,
and on average slower since the refusal before. The truth is nearer to the lower bound at a server that saves up what
was not used (a large burst), and nearer to the upper one where it is lost (a burst of one).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

__all__ = [
    "InFlightState", "InFlightStatistics", "InFlightWindow", "Outcome", "RateState", "RateStatistics", "RateWindow",
    "Sent",
]  # fmt: skip

Outcome = Literal["success", "ignored", "pushed_back", "load"]
"""`ignored` says nothing about load: a bad request, a broken connection, a cancelled call."""

# --- calls in flight
_START = 4.0  # what small servers take, and 64 are reached in four round trips
_CAP = 500.0  # connections that a process can have open
_USED = 0.8  # of the window must be in use: what was not tried has not been proved
_NEAR = 0.9  # of a wall that was hit unawares: others may have stood at it too
_LOADED = 0.7  # after a sign of load, which says nothing about where the limit is; CUBIC's factor
_RECOVERY = 0.25  # of a window in each round trip, back to what was proved: two or three of them
_ADDITIVE = 1 / 16  # of the window in each round trip, beyond what was proved, and at least one call
_PROBE_AFTER, _PROBE_RARELY = 100, 800  # successes between looks above the wall: 1 % of calls, later an eighth of that
_LOAD_MEMORY, _LOAD_SHARE = 0.02, 0.25  # of the last fifty calls a quarter: fewer are faults that come by chance

# --- calls in a second
_START_RATE = 1.0
_DOUBLING_CALLS, _DOUBLING_S = 12.0, 1.0  # to double takes both: a burst is used up, and a refusal has time to arrive
_FIRST_BACK = 0.5  # after the first refusal, whose server had saved up nobody knows how much
_TOWARDS_LOWER = 0.7  # where to go on between the bounds (geometrically): most servers save up a burst
_FEW, _LOWEST, _LOWEST_OF_MANY = 10, 0.4, 0.1  # few calls bound nothing from below: not under this share of the upper
_FORGET = 1.05  # bounds widen by so much at each refusal: limits change
_APART = 0.98  # a lower bound above this share of the upper one contradicts it, and the newest counts
_SURE = 1.35  # bounds no farther apart than this: the rate is known, and looking above it can wait
_QUIET, _QUIET_SURE, _QUIET_LONG = 50.0, 150.0, 400.0  # calls until the pace is back at the upper bound
_QUIET_S = 180.0  # but no longer than that, so that a pace that was far too low comes back in minutes
_QUIET_WAITS = 60.0  # and so many times as long as a refusal makes us stand still
_LEAST_GROWTH = 0.06  # octaves in that time, at the least
_FASTER, _OFTEN = 3.0, 10  # the factor from each such time to the next, and until when: powers overflow
_SAVED = 5.0  # calls that a server may have saved up while we sent nothing
_PAUSE_S, _PAUSE_MAX_S = 0.25, 10.0  # between calls to a server that lets none through: doubled each time
_ANSWERS = 2.0  # times as long as a refusal took: what was not refused by then has passed
_CATCH_UP, _CATCH_UP_S = 0.5, 0.005  # of an interval, and seconds: timers are late


class Sent(NamedTuple):
    """A call under way: its number, and how it was when it was sent: calls at once, or calls per second, and when."""

    number: int
    level: float
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class InFlightState:
    """What a window of calls in flight has learned; `ceiling` is None until a refusal has shown it.

    Raises ValueError for figures that nothing can have taught.
    """

    limit: float
    ceiling: float | None = None

    def __post_init__(self) -> None:
        if not (1 <= self.limit < math.inf and (self.ceiling is None or 1 <= self.ceiling < math.inf)):
            raise ValueError("a window of calls in flight holds at least 1")


@dataclass(frozen=True, slots=True)
class InFlightStatistics:
    """`limit` calls may be in flight, `in_flight` are; `ceiling` were proved to be the most, if that is known."""

    limit: int
    in_flight: int
    ceiling: int | None
    sent: int
    refused: int


class InFlightWindow:
    """Learns how many calls may be under way at once, up to `cap`.

    `sent` when a call goes, `ended` when it is over, whatever became of it. The window grows only while at least 80 %
    of it are in use: by one for each success until the first refusal (it doubles each round trip), then quickly up to
    what was proved, and beyond that slowly and rarely. It shrinks at most once for all calls that were under way
    together, and is never below 1.
    """

    __slots__ = ("_cap", "_ceiling", "_in_flight", "_last", "_limit", "_load", "_number", "_probe_after", "_proved",
                 "_quiet", "_refused")  # fmt: skip

    def __init__(self, *, start: float = _START, cap: float = _CAP) -> None:
        if not (start >= 1 and cap >= 1):
            raise ValueError(f"a window holds at least 1 call, not {min(start, cap):g}")
        self._cap = cap
        self._limit = min(start, cap)
        self._ceiling: float | None = None
        self._in_flight = 0
        self._number = 0
        self._last = 0  # the newest call when the window shrank last
        self._proved = 0.0  # calls at once, of which the last succeeded
        self._quiet = 0  # successes since the last refusal
        self._probe_after = _PROBE_AFTER
        self._load = 0.0
        self._refused = 0

    def __repr__(self) -> str:
        ceiling = "" if self._ceiling is None else f", ceiling {self._ceiling:.0f}"
        return f"<InFlightWindow {self._in_flight} of {self.limit}{ceiling}>"

    @classmethod
    def restore(cls, state: InFlightState, *, cap: float = _CAP) -> InFlightWindow:
        """A window that goes on with what an earlier one has learned."""
        window = cls(start=max(1.0, min(state.limit, state.ceiling or state.limit)), cap=cap)
        window._ceiling = None if state.ceiling is None else max(1.0, min(state.ceiling, cap))
        return window

    def state(self) -> InFlightState:
        """What was learned, to be kept."""
        return InFlightState(self._limit, self._ceiling)

    @property
    def limit(self) -> int:
        """Calls that may be in flight."""
        return int(self._limit)

    def room(self) -> int:
        """Calls that may be sent now; never negative."""
        return max(0, self.limit - self._in_flight)

    def sent(self) -> Sent:
        """A call goes. What is returned must be given to `ended`."""
        self._number += 1
        self._in_flight += 1
        return Sent(self._number, self._in_flight)

    def ended(self, call: Sent, outcome: Outcome) -> None:
        """A call is over."""
        used = self._in_flight >= _USED * self.limit
        self._in_flight -= 1
        if outcome == "success":
            self._load *= 1 - _LOAD_MEMORY
            self._quiet += 1
            if call.number > self._last:
                self._proved = max(self._proved, call.level)
                if self._ceiling is not None:
                    self._ceiling = max(self._ceiling, call.level)
            if used:
                self._grow()
        elif outcome == "pushed_back":
            self._refused += 1
            if call.number > self._last:
                self._shrink(call.level)
        elif outcome == "load":
            self._load += _LOAD_MEMORY * (1 - self._load)
            if self._load >= _LOAD_SHARE and call.number > self._last:
                self._shrink(None)

    def widen(self) -> None:
        """Other limits are known, and pace the calls: nothing but a refusal tells that too many are in flight."""
        if self._ceiling is None:
            self._limit = self._cap

    def _grow(self) -> None:
        if self._ceiling is None:
            self._limit += 1.0
        elif self._limit < self._ceiling:
            self._limit = min(self._ceiling, self._limit + _RECOVERY)
        elif self._quiet >= self._probe_after:
            self._limit += max(1 / self._limit, _ADDITIVE)
        self._limit = min(self._limit, self._cap)

    def _shrink(self, level: float | None) -> None:
        """A refusal with `level` calls under way, itself included; None for a sign of load."""
        known, before = self._ceiling, self._limit
        if level is not None and (level > self._proved or level >= _USED * before):  # the wall
            self._ceiling = max(1.0, level - 1)
            looked = known is not None and self._ceiling >= known
            self._limit = self._ceiling if looked else _NEAR * self._ceiling
            moved = known is not None and self._ceiling > known + 1
            self._probe_after = _PROBE_AFTER if moved or known is None else min(2 * self._probe_after, _PROBE_RARELY)
        else:  # something else is full: as many as now were all right before
            self._ceiling = before if known is None else max(known, before)
            self._limit = _LOADED * before
        self._limit = max(1.0, min(self._limit, before))
        self._proved = min(self._proved, self._limit)
        self._last = self._number
        self._quiet = 0
        self._load = 0.0

    def statistics(self) -> InFlightStatistics:
        """A truthful picture."""
        ceiling = None if self._ceiling is None else int(self._ceiling)
        return InFlightStatistics(self.limit, self._in_flight, ceiling, self._number, self._refused)


@dataclass(frozen=True, slots=True)
class RateState:
    """What a learner of calls per second has learned; bounds are None until refusals have shown them.

    Raises ValueError for figures that nothing can have taught.
    """

    rate: float
    lower: float | None = None
    upper: float | None = None

    def __post_init__(self) -> None:
        lower, upper = self.lower or 0.0, math.inf if self.upper is None else self.upper
        if not (0 < self.rate < math.inf and 0 <= lower <= upper and upper > 0):
            raise ValueError("a rate and its bounds are numbers above 0, the lower bound below the upper one")


@dataclass(frozen=True, slots=True)
class RateStatistics:
    """Calls go at `rate` per second; the true limit was seen to be between `lower` and `upper`, as far as known."""

    rate: float
    lower: float | None
    upper: float | None
    sent: int
    refused: int


class RateWindow:
    """Learns how many calls per second a server takes, up to `cap`.

    `wait` until the next call may go, `sent` when it goes, `pushed_back` when it was refused; other ends of calls say
    nothing here. Until the first refusal the pace doubles every dozen calls, at most once a second; after each it goes
    on between what was proved to be possible and what was not, and from there slowly back up. It grows only with calls
    that go as soon as they may.
    """

    __slots__ = (
        "_answer_s", "_base", "_base_at", "_cap", "_closed", "_growth", "_idle", "_last", "_lower", "_next", "_number",
        "_pause", "_quiet", "_rate", "_refused", "_refused_since", "_saved", "_upper",
    )  # fmt: skip

    def __init__(self, *, start: float = _START_RATE, cap: float = math.inf) -> None:
        if not (0 < start < math.inf and cap > 0):
            raise ValueError(f"a rate must be a number above 0, not {start:g}")
        self._cap = cap
        self._rate = min(start, cap)
        self._lower: float | None = None
        self._upper: float | None = None
        self._next = -math.inf  # when the next call may go
        self._number = 0
        self._refused = 0
        self._last = 0  # the newest call when the rate was lowered last
        self._base = 0  # the call that found the server empty, and since then:
        self._base_at: float | None = None
        self._refused_since = 0
        self._idle = 0.0  # seconds in which nothing was sent although it might have been
        self._saved = 0.0  # calls that the server may have saved up in them
        self._pause = 0.0  # seconds, after a refusal
        self._closed = False  # whether nothing passed after it
        self._answer_s = 0.0  # until a refusal is here
        self._growth = 0.0  # octaves per call; 0 until the first refusals
        self._quiet = _QUIET

    def __repr__(self) -> str:
        lower = "" if self._lower is None else f", above {self._lower:.3g}"
        upper = "" if self._upper is None else f", below {self._upper:.3g}"
        return f"<RateWindow {self._rate:.3g} per second{lower}{upper}>"

    @classmethod
    def restore(cls, state: RateState, *, cap: float = math.inf) -> RateWindow:
        """A learner that goes on with what an earlier one has learned."""
        window = cls(start=state.rate, cap=cap)
        window._lower, window._upper = state.lower, state.upper
        if state.upper is not None:
            window._settle(0.0, calls=0)
        return window

    def state(self) -> RateState:
        """What was learned, to be kept."""
        return RateState(self._rate, self._lower, self._upper)

    @property
    def rate(self) -> float:
        """Calls per second, as they go now."""
        return self._rate

    def wait(self, now: float) -> float:
        """Seconds until the next call may go."""
        return max(0.0, self._next - now)

    def sent(self, now: float) -> Sent:
        """A call goes. What is returned belongs to `pushed_back`, if it comes to that."""
        self._number += 1
        late = now - self._next
        start = self._next
        if late > max(_CATCH_UP / self._rate, _CATCH_UP_S):  # there was nothing to send, or nothing might be sent
            start = now
            if late < math.inf:
                self._idle += late
                self._saved += min(_SAVED, late * self._rate)
        else:
            self._grow()
        interval = 1 / self._rate
        if self._closed and self._number == self._last + 1:  # a probe: the next one waits for what becomes of it
            interval = max(interval, _ANSWERS * self._answer_s)
        self._next = start + interval
        return Sent(self._number, self._rate, now)

    def _grow(self) -> None:
        growth = 1 / _DOUBLING_CALLS
        if self._growth:
            times = min(_OFTEN, (self._number - self._last) // self._quiet)
            growth = min(growth, self._growth * _FASTER**times)
        self._rate = min(self._cap, self._rate * 2.0 ** min(growth, 1 / (self._rate * _DOUBLING_S)))

    def pushed_back(self, call: Sent, now: float, *, wait: float = 0.0) -> None:
        """A call was refused as too fast; nothing goes for `wait` seconds because of it, as far as this is known."""
        self._refused += 1
        if call.number > self._base:
            self._refused_since += 1
        if call.number <= self._last:
            return  # sent at a pace that has been given up since
        self._last = self._number
        self._answer_s = now - call.at
        passed = call.number - self._base - self._refused_since
        if self._base_at is not None and passed <= 0:  # closed, and not only empty: that says nothing about a rate
            self._closed = True
            self._pause = min(_PAUSE_MAX_S, max(_PAUSE_S, 2 * self._pause))
            self._next = now + self._pause
            return
        if self._base_at is None and self._lower is None:
            self._upper = call.level
            self._rate = min(self._rate, _FIRST_BACK * call.level)
        else:
            seconds = math.inf if self._base_at is None else max(1e-3, call.at - self._base_at - self._idle)
            pace = call.level
            if self._closed:  # so it was never full since, and lost nothing of what came back
                pace = min(pace, max((passed + 1) / seconds, _LOWEST * pace))
            self._bound(max(0.0, passed - 1 - self._saved) / seconds, pace)
            self._settle(wait, calls=passed)
        self._closed = False
        self._base, self._base_at = call.number, call.at
        self._refused_since, self._idle, self._saved = 0, 0.0, 0.0
        self._pause = 1 / self._rate
        self._next = now + self._pause

    def _bound(self, passed: float, pace: float) -> None:
        """Of calls per second, `pace` was too fast and `passed` was not."""
        self._upper = pace if self._upper is None else min(pace, self._upper * _FORGET)
        self._lower = passed if self._lower is None else max(passed, self._lower / _FORGET)
        if self._lower > _APART * self._upper:
            self._upper, self._lower = pace, min(passed, _APART * pace)

    def _settle(self, wait: float, *, calls: int) -> None:
        """Go on between the bounds, and from there to the upper one: the more slowly the better they are known."""
        assert self._upper is not None
        lower = max(self._lower or 0.0, (_LOWEST if calls < _FEW else _LOWEST_OF_MANY) * self._upper)
        self._rate = min(self._cap, lower**_TOWARDS_LOWER * self._upper ** (1 - _TOWARDS_LOWER))
        sure = self._upper < _SURE * lower
        self._quiet = min(_QUIET_LONG, max(_QUIET_SURE, 1.5 * self._quiet)) if sure else max(_QUIET, 3.0 * calls)
        self._quiet = max(min(self._quiet, max(_FEW, _QUIET_S * self._rate)), _QUIET_WAITS * wait * self._rate)
        self._growth = max(_LEAST_GROWTH, math.log2(self._upper / self._rate)) / self._quiet

    def statistics(self) -> RateStatistics:
        """A truthful picture."""
        return RateStatistics(self._rate, self._lower, self._upper, self._number, self._refused)
