"""Fixed and sliding windows: arithmetic that never waits and reads no clock; `now` is monotonic seconds."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator

from ..rates import Limit

__all__ = ["FixedWindow", "SlidingWindow"]

_EPSILON = 1e-9
_LONGER = 0.02  # share of a sliding window by which a guard may make it longer


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

    With the guard that `wait` was last asked for, the window is that much longer: `span` seconds.
    """

    __slots__ = ("_entries", "_moment", "_used", "limit", "span")

    def __init__(self, limit: Limit, now: float) -> None:
        self.limit = limit
        self._entries: deque[list[float]] = deque()  # [time, amount], oldest first
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
        for at, used in self._entries:
            leaving, missing = at + self.span, missing - used
            if missing <= _EPSILON:
                break
        return max(0.0, leaving - now)

    def take(self, amount: float, now: float) -> None:
        """Count `amount` now."""
        self._expire(now)
        if amount > 0:
            self._entries.append([now, amount])
            self._used += amount
            self._moment += amount * now

    def give(self, amount: float, now: float, *, since: float | None = None) -> None:
        """Give back `amount` of what was taken at `since`, unless that has left the window; take more if negative.

        Without `since`, give back of the newest use.
        """
        self._expire(now)
        if amount < 0:
            self.take(-amount, now)
            return
        if since is not None and now - since >= self.span - _EPSILON:
            return
        for entry in self._newest() if since is None else self._from(since):
            part = min(amount, entry[1])
            entry[1] -= part
            self._used -= part
            self._moment -= part * entry[0]
            amount -= part
            if amount <= _EPSILON:
                break

    def lower(self, level: float, now: float) -> None:
        """Believe that not more than `level` is left."""
        self.take(max(0.0, self.level(now) - level), now)

    def reset(self, now: float) -> float:
        """Seconds until all that was used has left the window."""
        self._expire(now)
        newest = next((at for at, used in self._newest() if used > _EPSILON), None)
        return 0.0 if newest is None else max(0.0, newest + self.span - now)

    def uses(self, now: float) -> list[tuple[float, float]]:
        """What was used in the window that ends now."""
        self._expire(now)
        return [(at, amount) for at, amount in self._entries if amount > _EPSILON]

    def lived(self, now: float) -> tuple[float, float]:
        """Units in the window now, and the sum of units x seconds for which they have been in it."""
        self._expire(now)
        return self._used, self._used * now - self._moment

    def _newest(self) -> Iterator[list[float]]:
        return reversed(self._entries)

    def _from(self, since: float) -> list[list[float]]:
        """The entries from this time on, oldest first."""
        found: list[list[float]] = []
        for entry in self._newest():
            if entry[0] < since:
                break
            found.append(entry)
        found.reverse()
        return found

    def _expire(self, now: float) -> None:
        while self._entries and now - self._entries[0][0] >= self.span - _EPSILON:
            at, amount = self._entries.popleft()
            self._used -= amount
            self._moment -= amount * at
        if not self._entries:
            self._used = self._moment = 0.0  # sums of floats drift
