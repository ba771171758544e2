"""What keeps count of one limit, whatever its shape; the lane and the simulated provider use the same arithmetic."""

from __future__ import annotations

from typing import Protocol

from ..rates import Limit
from .bucket import Bucket, Slots
from .window import FixedWindow, SlidingWindow

__all__ = ["Meter", "meter"]


class Meter(Protocol):
    """Counts the use of one limit. Amounts are in its unit, `now` is monotonic seconds."""

    limit: Limit

    def level(self, now: float) -> float:
        """Units that are free now; negative in debt."""
        ...

    def wait(self, amount: float, now: float, *, guard: float = 0.0, spare: float = 0.0) -> float:
        """Seconds until `amount` fits with `spare` units left: 0 if now, inf if never or nobody knows.

        `guard` is by how many seconds the clock of who counts for us may differ, from one call to the next.
        """
        ...

    def take(self, amount: float, now: float) -> None:
        """Count `amount`, whether it fits or not."""
        ...

    def give(self, amount: float, now: float, *, since: float | None = None) -> None:
        """Give back `amount` of what was taken at `since` (None: lately); take more if it is negative."""
        ...

    def drain(self, amount: float, now: float) -> None:
        """Others have taken `amount` by and by since the last time; a limit that stays full is not touched by that."""
        ...

    def lower(self, level: float, now: float) -> None:
        """Believe that not more than `level` is free."""
        ...

    def reset(self, now: float) -> float:
        """Seconds until everything is free again."""
        ...

    def uses(self, now: float) -> list[tuple[float, float]]:
        """What still counts, as (time, amount), oldest first: a new meter that takes these then stands as this one."""
        ...


def meter(limit: Limit, now: float, *, early: bool = False) -> Meter:
    """A meter for this limit, with nothing used yet.

    Sliding windows count in small steps; `early` is for who enforces a limit, see `SlidingWindow`.
    """
    if limit.unit == "in_flight":
        return Slots(limit, now)
    match limit.shape:
        case "bucket":
            return Bucket(limit, now)
        case "fixed":
            return FixedWindow(limit, now)
        case _:
            return SlidingWindow(limit, now, early=early)
