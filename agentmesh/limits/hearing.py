"""What a provider's headers tell of limits, believed by a row: figures that the file does not have, and levels.

A limit that the provider states differently than the file is the provider's; one that the file does not have is added
to the row. Levels correct the count by what others have used (`others.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..rates import Limit, Told, impractical
from .gauge import Gauge
from .guard import reserved
from .row import Row, Ticket

__all__ = ["Adopted", "hear"]

_OTHERS_LIMITS = frozenset({"priority", "fast", "uncached", "trial"})  # of other tiers and kinds of use than ours
_SAME = 0.01  # share by which figures may differ: some are told per second and rounded
_LEAST_BURST = 1.0
_MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Adopted:
    """A limit whose figure the provider told, of `scope`; `before` is the one that was thought to hold, if any."""

    scope: str
    limit: Limit
    before: Limit | None


def hear(ticket: Ticket, told: Sequence[Told], *, now: float) -> list[Adopted]:
    """Believe what the answer to a call says. Returns the limits that are new, or have another figure."""
    adopted = []
    for one in told:
        if one.scope_hint in _OTHERS_LIMITS or not _makes_sense(one, ticket.row):
            continue
        gauge = _gauge_of(ticket.row, one)
        if gauge is None:
            if (new := _learn(ticket, one, now=now)) is not None:
                adopted.append(Adopted(new.scope, new.limit, None))
            continue
        if one.limit is not None and ticket.sent_at >= gauge.figure_at:  # an older call's answer tells older figures
            gauge.figure_at = ticket.sent_at
            if _differ(one.limit, gauge.limit.limit) and not _keeps(gauge.limit, one.limit):
                adopted.append(Adopted(gauge.scope, _with_figure(gauge.limit, one.limit), gauge.limit))
                gauge.adopt(adopted[-1].limit, now)
        hold = next((hold for hold in ticket.held if hold.gauge is gauge), None)
        if one.remaining is not None and hold is not None:
            if "tokens" not in one.unit or not ticket.blind:
                gauge.hear(hold, now, remaining=one.remaining, within=one.within, since=ticket.sent_at)
            if one.remaining + one.within < hold.units:
                ticket.suspect = one.unit
            elif ticket.suspect is None:
                ticket.suspect = "in_flight"  # if it was refused at all
    return adopted


def _makes_sense(told: Told, row: Row) -> bool:
    """Whether somebody can mean these figures. Those that are known need not be asked about again."""
    if not all(figure is None or 0.0 <= figure < math.inf for figure in (told.remaining, told.reset_s)):
        return False
    if told.limit is None or any(gauge.limit.limit == told.limit for gauge in row.gauges):
        return True
    window = _MINUTE if told.window_s is None else told.window_s
    return 0.0 < told.limit < math.inf and impractical(Limit(told.unit, told.limit, window)) is None


def _gauge_of(row: Row, told: Told) -> Gauge | None:
    """The gauge that a figure speaks of. Where it leaves the window open, the one of the same figure."""
    same = [gauge for gauge in row.gauges if gauge.limit.unit == told.unit]
    if told.window_s is None:
        same = [gauge for gauge in same if told.limit is not None and not _differ(told.limit, gauge.limit.limit)]
        return same[0] if same else None
    same = [gauge for gauge in same if gauge.limit.window == told.window_s]
    if told.limit is not None and len(same) > 1:  # an account's and a model's: whichever is nearer
        same.sort(key=lambda gauge: abs(gauge.limit.limit - told.limit))  # type: ignore[operator]  # not None, see above
    return same[0] if same else None


def _differ(one: float, other: float) -> bool:
    return abs(one - other) > _SAME * other


def _keeps(limit: Limit, figure: float) -> bool:
    """Whether a limit stays as the user set it: lower than what the provider would allow."""
    return limit.ceiling and figure > limit.limit


def _with_figure(limit: Limit, figure: float) -> Limit:
    burst = None if limit.burst is None else max(_LEAST_BURST, limit.burst * figure / limit.limit)
    return replace(limit, limit=figure, burst=burst)


def _learn(ticket: Ticket, told: Told, *, now: float) -> Gauge | None:
    """A limit that no file has. What was sent after this call was not counted when the provider wrote its figures."""
    if told.limit is None or told.window_s is None:
        return None
    row = ticket.row
    limit = Limit(told.unit, told.limit, told.window_s)
    if told.remaining is not None and told.reset_s is not None and limit.shape == "bucket":
        full = told.remaining + told.within + told.reset_s * limit.per_second
        limit = replace(limit, burst=max(_LEAST_BURST, min(limit.capacity, full)))
    gauge = Gauge(limit, row.model, now)
    gauge.told, gauge.written = True, None
    row.add((gauge,))
    row.know_rates()
    newer = [other for other in row.flying if other.admitted_at > ticket.sent_at]
    for other in row.flying:
        if other not in newer:
            other.held.append(gauge.take(reserved(gauge, other), now))
    if told.remaining is not None:
        gauge.meter.lower(told.remaining, now)
    for other in newer:
        other.held.append(gauge.take(reserved(gauge, other), now))
    return gauge
