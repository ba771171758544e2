"""What happens to an account beside the calls of its user: limits that change, and a neighbour who shares them.

Both begin with the user's first call. They are applied when somebody next asks, in the order in which they happened,
so nothing needs to run meanwhile; the same seed gives the same neighbour.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from ..limits.meter import Meter
from ..rates import Limit

__all__ = ["Beside", "Change", "Neighbour"]

_UNEVEN = 0.5  # gaps between a neighbour's calls lie evenly between 1 - this and 1 + this times their mean


@dataclass(frozen=True, slots=True)
class Change:
    """From `after_s` seconds after the first call on, these limits hold in place of those of the same names."""

    after_s: float
    limits: tuple[Limit, ...]


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Somebody else's calls on the same account, `per_second` on average, each of so many tokens; never refused."""

    per_second: float
    input_tokens: int = 0
    output_tokens: int = 0


class Beside:
    """Applies changes and a neighbour's calls to meters. Reads no clock; `now` is monotonic seconds."""

    def __init__(self, changes: Sequence[Change], neighbour: Neighbour | None, *, seed: int) -> None:
        self._changes = sorted(changes, key=lambda change: change.after_s, reverse=True)  # the next one is the last
        self._neighbour = neighbour
        self._rng = random.Random(seed)
        self._start: float | None = None
        self._next_call = math.inf

    def __repr__(self) -> str:
        return f"<Beside {len(self._changes)} changes to come, {self._neighbour or 'no neighbour'}>"

    def begin(self, now: float) -> None:
        """The first call has come."""
        if self._start is None:
            self._start = now
            self._next_call = now + self._gap()

    def follow(self, meters: Sequence[Meter], now: float) -> None:
        """Do to the account's meters what has happened by `now`."""
        while self._start is not None:
            change = self._start + self._changes[-1].after_s if self._changes else math.inf
            at = min(change, self._next_call)
            if at > now:
                return
            if change <= at:
                _replace(meters, self._changes.pop().limits, now=at)
            else:
                self._call(meters, at)
                self._next_call = at + self._gap()

    def _call(self, meters: Sequence[Meter], at: float) -> None:
        assert self._neighbour is not None
        for meter in meters:
            if meter.limit.unit != "in_flight":  # its calls are short: what they hold is nobody's bound
                meter.take(meter.limit.used(self._neighbour.input_tokens, self._neighbour.output_tokens), at)

    def _gap(self) -> float:
        if self._neighbour is None:
            return math.inf
        return self._rng.uniform(1.0 - _UNEVEN, 1.0 + _UNEVEN) / self._neighbour.per_second


def _replace(meters: Sequence[Meter], limits: Sequence[Limit], *, now: float) -> None:
    named = {limit.name: limit for limit in limits}
    for meter in meters:
        if (limit := named.get(meter.limit.name)) is not None:
            meter.take(0.0, now)  # what came back until now came at the old rate
            meter.limit = limit
