"""Fixed and sliding windows: arithmetic that never waits and reads no clock; `now` is monotonic seconds."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator

from ..rates import Limit

__all__ = ["FixedWindow", "SlidingWindow"]

_EPSILON = 1e-9
_LONGER = 0.02  # share of a sliding window by which a guard may make it longer
_STEP = 0.001  # share of a sliding window that is counted as one moment: what that loses is lost once, not each window


class FixedWindow:
    """A counter that is set to zero at each boundary; windows follow one another from the first use on.

    For servers. A client does not know where the server's windows begin, and counts in sliding ones.
    """

    __slots__ = ("_start", "_used", "limit")

    def __init__(self, limit: Limit, now: float) -> None:
        self.limit = limit
        self._start: float | None = None
        self._used = 0.0

    def __repr__(self) -> str:
        return f"<FixedWindow {self.limit.name} {self._used:.1f} of {self.limit.limit:g} used since {self._start}>"

    def level(self, now: float) -> float:
        """Units left in this window; negative where a settlement overdrew it."""
        self._roll(now)
        return self.limit.limit - self._used

    def wait(self, amount: float, now: float, *, guard: float = 0.0, spare: float = 0.0) -> float:
        """Seconds until `amount` fits with `spare` left; inf for more than the whole window. There is no guard."""
        if amount > self.limit.limit:
            return math.inf
        fits = amount + min(spare, self.limit.limit - amount) <= self.level(now) + _EPSILON
        return 0.0 if fits else self.reset(now)

    def take(self, amount: float, now: float) -> None:
        """Count `amount` in this window."""
        self._roll(now)
        if self._start is None:
            self._start = now
        self._used += amount

    def give(self, amount: float, now: float, *, since: float | None = None) -> None:
        """Give `amount` back, unless the window in which it was taken (at `since`) is over; take more if negative."""
        self._roll(now)
        if amount < 0:
            self.take(-amount, now)
        elif self._start is not None and (since is None or since >= self._start):
            self._used = max(0.0, self._used - amount)

    def drain(self, amount: float, now: float) -> None:
        """Others have taken `amount`."""
        self.take(amount, now)

    def lower(self, level: float, now: float) -> None:
        """Believe that not more than `level` is left in this window."""
        self.take(max(0.0, self.level(now) - level), now)

    def reset(self, now: float) -> float:
        """Seconds until the counter is set to zero."""
        return 0.0 if self._start is None else max(0.0, self._start + self.limit.window - now)

    def uses(self, now: float) -> list[tuple[float, float]]:
        """What was used in this window, at its beginning."""
        self._roll(now)
        return [] if self._start is None else [(self._start, self._used)]

    def _roll(self, now: float) -> None:
        if self._start is not None and now - self._start >= self.limit.window - _EPSILON:
            self._start, self._used = None, 0.0


class SlidingWindow:
    """The sum of what was used in the last `window` seconds.

    What was used within a thousandth of the window is one entry, so that a day of a million calls is a thousand of
    them. An entry leaves when the last of its uses does: never too early for who keeps to the limit. With `early` it
    leaves with the first, never too late for who enforces it; so the one is not refused by the other.

    With the guard that `wait` was last asked for, the window is that much longer: `span` seconds.
    """

    __slots__ = ("_counts", "_entries", "_moment", "_used", "limit", "span")

    def __init__(self, limit: Limit, now: float, *, early: bool = False) -> None:
        self.limit = limit
        self._entries: list[list[float]] = []  # [time of the first use, of the last, amount], oldest first
        self._counts = 0 if early else 1  # which of the two times an entry has
        self._used = 0.0
        self._moment = 0.0  # the sum of amount x time over the entries
        self.span = limit.window

    def __repr__(self) -> str:
        return f"<SlidingWindow {self.limit.name} {self._used:.1f} of {self.limit.limit:g} used>"

    def level(self, now: float) -> float:
        """Units left in the window that ends now; negative where a settlement overdrew it."""
        self._expire(now)
        return self.limit.limit - self._used

    def wait(self, amount: float, now: float, *, guard: float = 0.0, spare: float = 0.0) -> float:
        """Seconds until `amount` fits with `spare` left, as the oldest use leaves; inf for more than the window."""
        if amount > self.limit.limit:
            return math.inf
        self.span = self.limit.window + min(guard, _LONGER * self.limit.window)
        missing = amount + min(spare, self.limit.limit - amount) - self.level(now)
        if missing <= _EPSILON:
            return 0.0
        leaving = now
        for entry in self._entries:
            leaving, missing = entry[self._counts] + self.span, missing - entry[2]
            if missing <= _EPSILON:
                break
        return max(0.0, leaving - now)

    def take(self, amount: float, now: float) -> None:
        """Count `amount` now."""
        self._expire(now)
        if amount <= 0:
            return
        last = self._entries[-1] if self._entries else None
        if last is None or now - last[0] > _STEP * self.limit.window:
            last = [now, now, 0.0]
            self._entries.append(last)
        elif now > last[1]:
            if self._counts:
                self._moment += last[2] * (now - last[1])
            last[1] = now
        last[2] += amount
        self._used += amount
        self._moment += amount * last[self._counts]

    def give(self, amount: float, now: float, *, since: float | None = None) -> None:
        """Give back `amount` of what was taken at `since`, unless that has left the window; take more if negative.

        Without `since`, give back of the newest use.
        """
        self._expire(now)
        if amount < 0:
            self.take(-amount, now)
            return
        if since is not None and (now - since >= self.span - _EPSILON or not self._holds(since)):
            return
        for entry in reversed(self._entries) if since is None else self._from(since):
            part = min(amount, entry[2])
            entry[2] -= part
            self._used -= part
            self._moment -= part * entry[self._counts]
            amount -= part
            if amount <= _EPSILON:
                break

    def drain(self, amount: float, now: float) -> None:
        """Others have taken `amount`."""
        self.take(amount, now)

    def lower(self, level: float, now: float) -> None:
        """Believe that not more than `level` is left."""
        self.take(max(0.0, self.level(now) - level), now)

    def reset(self, now: float) -> float:
        """Seconds until all that was used has left the window."""
        self._expire(now)
        newest = next((entry[self._counts] for entry in reversed(self._entries) if entry[2] > _EPSILON), None)
        return 0.0 if newest is None else max(0.0, newest + self.span - now)

    def uses(self, now: float) -> list[tuple[float, float]]:
        """What was used in the window that ends now."""
        self._expire(now)
        return [(entry[self._counts], entry[2]) for entry in self._entries if entry[2] > _EPSILON]

    def lived(self, now: float) -> tuple[float, float]:
        """Units in the window now, and the sum of units x seconds for which they have been in it."""
        self._expire(now)
        return self._used, self._used * now - self._moment

    def _holds(self, since: float) -> bool:
        """Whether an entry may be of that time: an early one may have left though its last use would still count."""
        return bool(self._entries) and since >= self._entries[0][0]

    def _from(self, since: float) -> Iterator[list[float]]:
        """The entries from this time on, oldest first."""
        first = bisect_left(self._entries, since, key=_last_use)
        return (self._entries[number] for number in range(first, len(self._entries)))

    def _expire(self, now: float) -> None:
        gone = 0
        for entry in self._entries:
            if now - entry[self._counts] < self.span - _EPSILON:
                break
            self._used -= entry[2]
            self._moment -= entry[2] * entry[self._counts]
            gone += 1
        if gone:
            del self._entries[:gone]
        if not self._entries:
            self._used = self._moment = 0.0  # sums of floats drift


def _last_use(entry: list[float]) -> float:
    return entry[1]
