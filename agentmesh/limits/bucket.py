"""Token buckets and slots: arithmetic that never waits and reads no clock; `now` is monotonic seconds.

A bucket holds up to `capacity` units and refills all the time. Its level may go below zero: a settlement that cost more
than was reserved, or a request above the burst, leaves a debt that the refill pays back first.
"""

from __future__ import annotations

import math

from ..rates import Limit

__all__ = ["Bucket", "Slots"]

_EPSILON = 1e-9  # sums of floats must not make a caller wait for a billionth of a unit
_SMALL_MARGIN = 0.02  # where the capacity has no room for a margin, it costs rate: at most this share of it


class Bucket:
    """A bucket for one limit, full at `now`."""

    __slots__ = ("_at", "_level", "limit")

    def __init__(self, limit: Limit, now: float) -> None:
        self.limit = limit
        self._level = limit.capacity
        self._at = -math.inf  # it has been full for longer than any guard

    def __repr__(self) -> str:
        return f"<Bucket {self.limit.name} {self._level:.1f} of {self.limit.capacity:g} at {self._at:.3f}>"

    def level(self, now: float) -> float:
        """Units there now; negative while a debt is paid back."""
        filled = self._filled(now)
        return filled if filled < self.limit.capacity else self.limit.capacity

    def wait(self, amount: float, now: float, *, guard: float = 0.0, spare: float = 0.0) -> float:
        """Seconds until `amount` fits with `spare` units left, and what comes in `guard` seconds; inf if it never can.

        Where the capacity has no room for that it is cut, and what is left waited out beyond the full bucket.
        """
        limit = self.limit
        capacity, rate = limit.capacity, limit.per_second
        if amount > capacity:
            if not limit.debt:
                return math.inf
            amount = capacity
        margin, room = guard * rate + spare, capacity - amount
        if margin > room:
            margin = min(margin, max(room, _SMALL_MARGIN * amount))
        missing = amount + margin - self._level
        if now > self._at:
            missing -= (now - self._at) * rate
        return 0.0 if missing <= _EPSILON else missing / rate

    def take(self, amount: float, now: float) -> None:
        """Count `amount`, whether it fits or not."""
        self._level = self.level(now) - amount
        if now > self._at:
            self._at = now

    def give(self, amount: float, now: float, *, since: float | None = None) -> None:
        """Give `amount` back (or take more, if negative). When it was taken does not matter."""
        self.take(-amount, now)
        self._level = min(self._level, self.limit.capacity)

    def drain(self, amount: float, now: float) -> None:
        """Others have taken `amount` of what came back since the last time, and of the rest only if that was less."""
        self._level = self._filled(now) - amount
        self._at = max(now, self._at)

    def lower(self, level: float, now: float) -> None:
        """Believe that not more than `level` is there: the provider said so."""
        self._level = min(self.level(now), level)
        self._at = max(now, self._at)

    def reset(self, now: float) -> float:
        """Seconds until it is full."""
        return max(0.0, (self.limit.capacity - self._filled(now)) / self.limit.per_second)

    def uses(self, now: float) -> list[tuple[float, float]]:
        """What is missing now, as one use."""
        missing = self.limit.capacity - self.level(now)
        return [(now, missing)] if missing > _EPSILON else []

    def _filled(self, now: float) -> float:
        # Not cut at the capacity. A clock that went back adds nothing and takes nothing.
        return self._level + (now - self._at) * self.limit.per_second if now > self._at else self._level


class Slots:
    """So many calls at once. What was taken is given back by hand; time changes nothing."""

    __slots__ = ("_used", "limit")

    def __init__(self, limit: Limit, now: float = 0.0) -> None:
        self.limit = limit
        self._used = 0.0

    def __repr__(self) -> str:
        return f"<Slots {self._used:g} of {self.limit.limit:g} used>"

    def level(self, now: float) -> float:
        """Free slots."""
        return self.limit.limit - self._used

    def wait(self, amount: float, now: float, *, guard: float = 0.0, spare: float = 0.0) -> float:
        """0 if a slot is free, else inf: nobody knows when a call ends."""
        return 0.0 if self._used + amount <= self.limit.limit + _EPSILON else math.inf

    def take(self, amount: float, now: float) -> None:
        """Take a slot."""
        self._used += amount

    def give(self, amount: float, now: float, *, since: float | None = None) -> None:
        """Give a slot back. When it was taken does not matter."""
        self._used = max(0.0, self._used - amount)

    def drain(self, amount: float, now: float) -> None:
        """Nothing: what others hold is not seen."""

    def lower(self, level: float, now: float) -> None:
        """Nothing to correct: slots are counted by those who hold them."""

    def reset(self, now: float) -> float:
        """0: there is no window that could be waited out."""
        return 0.0

    def uses(self, now: float) -> list[tuple[float, float]]:
        """Nothing: calls in flight end with the process that sent them."""
        return []
