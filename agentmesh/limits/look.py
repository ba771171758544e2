"""One look of an account's lane at its waiting calls."""

from __future__ import annotations

import math

from .gauge import Gauge
from .row import Ticket

__all__ = ["Look"]


class Look:
    """What one decision has found out so far: who goes, who claims which limits, when somebody else might go."""

    __slots__ = ("admitted", "claimers", "gauges", "now", "oldest_asked", "soonest")

    def __init__(self, now: float) -> None:
        self.now = now
        self.admitted: list[Ticket] = []
        self.soonest = math.inf
        self.gauges: dict[int, Gauge] = {}
        self.claimers: dict[int, Ticket] = {}
        self.oldest_asked = False

    def claim(self, gauge: Gauge, ticket: Ticket) -> None:
        """This limit is what holds the call back."""
        self.gauges[id(gauge)] = gauge
        self.claimers[id(gauge)] = ticket
