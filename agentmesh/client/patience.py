"""How long a refused call waits in its lane, and which waits are too long for that, so that an endpoint stops."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from ..clock import monotonic, wall
from ..dialects.base import Refusal
from ..dialects.refusals import PARK_AFTER
from ..errors import ErrorInfo
from ..limits.gauge import Gauge

__all__ = ["Stop", "is_bearable", "pause"]

_LONGEST_S = 3600.0  # nobody sits and waits for longer, whatever the reason
_LONG_WINDOW_S = 3600.0
_USED_UP = 0.75  # of a limit, by our own count
_JITTER, _JITTER_MAX_S = 0.1, 10.0
_LEAST_S, _LEAST_MAX_S, _MOST_DOUBLINGS = 0.05, 1.0, 5


def is_bearable(refusal: Refusal, gauges: Sequence[Gauge], *, waiting: float = 0.0) -> bool:
    """Whether to wait in the lane for as long as a provider asked; else the endpoint stops until then.

    Up to five minutes, always. Up to an hour, if it is no surprise: one of these limits has a window of at least an
    hour and is used up by our own count, and that does not free it sooner; or the endpoint waits for so long already,
    for `waiting` seconds from now. Beyond that, never.
    """
    wait = refusal.wait
    if wait is None or wait > _LONGEST_S:
        return False
    if wait <= max(PARK_AFTER, waiting + _JITTER_MAX_S):
        return True
    return any(_explains(gauge, wait, unit=refusal.unit) for gauge in gauges)


def _explains(gauge: Gauge, wait: float, *, unit: str | None) -> bool:
    limit, now = gauge.limit, monotonic()
    if limit.unit == "in_flight" or limit.window < _LONG_WINDOW_S or not limit.unit.endswith(unit or ""):
        return False
    return gauge.meter.level(now) <= (1 - _USED_UP) * limit.capacity and gauge.meter.reset(now) >= wait


def pause(told: float, *, times: int, rng: random.Random) -> float:
    """Seconds to wait after the `times`-th push-back of a call, when the provider asked for `told` of them.

    Some are added by chance, so that not all who wait go at the same instant. Who is refused again after a wait that
    was next to none, waits longer each time.
    """
    least = 0.0 if times < 2 else min(_LEAST_MAX_S, _LEAST_S * 2.0 ** min(times - 1, _MOST_DOUBLINGS))
    wait = max(told, least)
    return wait + min(_JITTER * wait, _JITTER_MAX_S) * rng.random()


@dataclass(frozen=True, slots=True)
class Stop:
    """Why an endpoint serves no calls, and until when by both faces of time: machines sleep, and clocks are set."""

    error: ErrorInfo
    until: float = math.inf
    wall_until: float = math.inf

    @classmethod
    def of(cls, error: ErrorInfo, wait: float | None) -> Stop:
        """From now on, for so many seconds, or for good."""
        return cls(error) if wait is None else cls(error, monotonic() + wait, wall() + wait)

    @property
    def is_over(self) -> bool:
        return self.until < math.inf and (monotonic() >= self.until or wall() >= self.wall_until)
