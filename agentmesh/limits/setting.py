"""A limit that somebody sets while calls go on: another figure for one that is there, or one more."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..rates import Limit
from .gauge import Gauge
from .guard import reserved
from .row import Row

__all__ = ["set_limit"]

_LEAST_BURST = 1.0


def set_limit(
    known: Iterable[Gauge], limit: Limit, *, scope: str, rows: Iterable[Row], now: float
) -> Gauge | None:  # fmt: skip
    """Give the one of these gauges that counts the same this figure. Returns the gauge that was added if none does.

    What was used so far stays used; a burst that was named changes in proportion. What is added is of `scope` and
    holds for `rows`, where it counts the calls in flight.
    """
    for gauge in known:
        if gauge.limit.name == limit.name:
            before = gauge.limit
            burst = None if before.burst is None else max(_LEAST_BURST, before.burst * limit.limit / before.limit)
            gauge.allow(replace(before, limit=limit.limit, burst=burst, ceiling=limit.ceiling), now)
            return None
    new = Gauge(limit, scope, now)
    for row in rows:
        row.add((new,))
        if row.rates_known:
            row.know_rates()
        for ticket in row.flying:
            ticket.held.append(new.take(reserved(new, ticket), now))
            new.doubt += ticket.doubt
    return new
