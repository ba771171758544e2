"""Fixed and sliding windows: arithmetic that never waits and reads no clock; `now` is monotonic seconds."""

from __future__ import annotations

import math
from collections import deque

from ..rates import Limit

__all__ = ["FixedWindow", "SlidingWindow"]

_EPSILON = 1e-9


class FixedWindow:
    """A counter that is set to zero at each boundary; windows follow one another from the first use on."""

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

    def wait(self, amount: float, now: float, *, margin: float = 0.0) -> float:
        """Seconds until `amount` fits, a margin past the boundary if need be; inf for more than the whole window."""
        if amount > self.limit.limit:
            return math.inf
        left = self.level(now)
        if amount + min(margin, self.limit.limit - amount) <= left + _EPSILON:
            return 0.0
        return self.reset(now) + margin / self.limit.per_second

    def take(self, amount: float, now: float) -> None:
        """Count `amount` in this window."""
        self._roll(now)
        if self._start is None:
            self._start = now
        self._used += amount

    def give(self, amount: float, now: float) -> None:
        """Give `amount` back (or take more, if negative), unless its window is over."""
        self._roll(now)
        self._used = max(0.0, self._used - amount)

    def lower(self, level: float, now: float) -> None:
        """Believe that not more than `level` is left in this window."""
        self.take(max(0.0, self.level(now) - level), now)

    def reset(self, now: float) -> float:
        """Seconds until the counter is set to zero."""
        return 0.0 if self._start is None else max(0.0, self._start + self.limit.window - now)

    def _roll(self, now: float) -> None:
        if self._start is not None and now - self._start >= self.limit.window - _EPSILON:
            self._start, self._used = None, 0.0


class SlidingWindow:
    """The sum of what was used in the last `window` seconds."""

    __slots__ = ("_entries", "_used", "limit")

    def __init__(self, limit: Limit, now: float) -> None:
        self.limit = limit
        self._entries: deque[list[float]] = deque()  # [time, amount], oldest first
        self._used = 0.0

    def __repr__(self) -> str:
        return f"<SlidingWindow {self.limit.name} {self._used:.1f} of {self.limit.limit:g} used>"

    def level(self, now: float) -> float:
        """Units left in the window that ends now."""
        self._expire(now)
        return self.limit.limit - self._used

    def wait(self, amount: float, now: float, *, margin: float = 0.0) -> float:
        """Seconds until enough of the oldest use has left the window; inf for more than the whole window."""
        if amount > self.limit.limit:
            return math.inf
        missing = amount + min(margin, self.limit.limit - amount) - self.level(now)
        if missing <= _EPSILON:
            return 0.0
        leaving = now
        for at, used in self._entries:
            leaving, missing = at + self.limit.window, missing - used
            if missing <= _EPSILON:
                break
        # What leaves at our boundary leaves at the provider's a little later or earlier: keep the margin in time too.
        return max(0.0, leaving - now) + margin / self.limit.per_second

    def take(self, amount: float, now: float) -> None:
        """Count `amount` now."""
        self._expire(now)
        if amount > 0:
            self._entries.append([now, amount])
            self._used += amount

    def give(self, amount: float, now: float) -> None:
        """Give `amount` back, from the newest use on (or take more, if negative)."""
        if amount < 0:
            self.take(-amount, now)
            return
        self._expire(now)
        while amount > _EPSILON and self._entries:
            entry = self._entries[-1]
            part = min(amount, entry[1])
            entry[1] -= part
            self._used -= part
            amount -= part
            if entry[1] <= _EPSILON:
                self._entries.pop()

    def lower(self, level: float, now: float) -> None:
        """Believe that not more than `level` is left."""
        self.take(max(0.0, self.level(now) - level), now)

    def reset(self, now: float) -> float:
        """Seconds until all that was used has left the window."""
        self._expire(now)
        return max(0.0, self._entries[-1][0] + self.limit.window - now) if self._entries else 0.0

    def _expire(self, now: float) -> None:
        while self._entries and now - self._entries[0][0] >= self.limit.window - _EPSILON:
            self._used -= self._entries.popleft()[1]
        if not self._entries:
            self._used = 0.0  # sums of floats drift
