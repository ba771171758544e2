"""What a push-back concerns: of what there was too much, and which models are frozen because of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ..rates import Limit
from .guard import need
from .row import Row, Ticket

__all__ = ["Blame", "Frozen", "blame", "freeze"]

_SOON_S = 60.0
_MOST_DOUBLINGS = 10  # powers overflow
_FREEZE_S, _FREEZE_MAX_S = 1.0, 30.0  # after a push-back that does not say for how long: doubled each time


class Frozen(NamedTuple):
    """After a push-back, nothing is sent to these models for so many seconds."""

    models: tuple[str, ...] = ()
    seconds: float = 0.0


class Blame(NamedTuple):
    """Why a call was refused: the unit there was too much of, if anything shows it.

    `too_many` calls may have been in flight; `learns` says that no limit is known, so that a pace is to be learned.
    `seconds` to freeze; None where what was learned, or the end of another call, says when the next one goes.
    """

    unit: str | None
    too_many: bool
    learns: bool
    seconds: float | None


def blame(ticket: Ticket, wait: float | None, *, unit: str | None, times: int) -> Blame:
    """Judge the `times`-th push-back of an admitted call.

    `wait` is for how many seconds the provider asked, `unit` what it said that there was too much of; else its headers
    may show that.
    """
    row = ticket.row
    said, unit = unit is not None, unit or ticket.suspect
    learns_both = row.window is not None and not row.rates_known
    learns = learns_both and unit != "in_flight"
    # Where nothing says what it was, one who is refused again after a wait was probably one too many.
    too_many = unit == "in_flight" or (unit is None and (learns_both or times > 1))
    others_end = unit == "in_flight" and row.window is not None and row.in_flight > 1 and (said or wait is None)
    if others_end or (learns and wait is None):
        return Blame(unit, too_many, learns, None)
    if wait is None:
        wait = min(_FREEZE_MAX_S, _FREEZE_S * 2.0 ** min(times - 1, _MOST_DOUBLINGS))
    return Blame(unit, too_many, learns, wait)


def freeze(ticket: Ticket, seconds: float, *, now: float, unit: str | None, rows: Iterable[Row]) -> Frozen:
    """Freeze the model that refused a call, and of these rows all that share a limit with it (account, pool)."""
    row = ticket.row
    named = {id(gauge) for gauge in row.gauges if unit is not None and gauge.limit.unit.endswith(unit)}
    emptied = [g for g in row.gauges if _may_have_refused(g.limit, seconds) and (not named or id(g) in named)]
    for gauge in emptied:  # when the wait is over, one call of this size fits, and not more
        units = min(need(gauge, ticket), gauge.limit.capacity)
        gauge.empty(units - seconds * gauge.limit.per_second, now)
    shared = {id(gauge) for gauge in row.gauges if gauge.limit.unit != "in_flight"}
    concerned = [one for one in rows if one is row or not shared.isdisjoint(id(gauge) for gauge in one.gauges)]
    for one in concerned:
        one.gate.freeze(now + seconds, in_flight=one.in_flight, ramps=not emptied)
    return Frozen(tuple(one.model for one in concerned), seconds)


def _may_have_refused(limit: Limit, wait: float) -> bool:
    """Whether a bucket can be what asks for this wait: a day's burst is not used up for seconds."""
    bucket = limit.shape == "bucket" and limit.unit != "in_flight"
    return bucket and limit.capacity <= limit.per_second * max(_SOON_S, wait)
