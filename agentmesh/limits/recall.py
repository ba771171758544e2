"""What of a lane the next process shall know, and how a lane begins that knows it: pure, times are arguments.

`now` is monotonic seconds, `wall` the wall time at the same moment. What is remembered is what was used; so a lane that
has not been asked for anything remembers nothing, and takes nothing away from what another process has written.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..rates import Limit
from .admission import IN_FLIGHT
from .aimd import InFlightWindow, RateWindow
from .estimate import TokenEstimate
from .gauge import Gauge
from .memory import (
    NO_FILE,
    LaneMemory,
    LimitMemory,
    ModelMemory,
    limits_digest,
    recall_freeze,
    recall_uses,
    remember_uses,
)
from .row import Row

__all__ = ["recall_limits", "recall_model", "remember"]


def remember(gauges: Iterable[Gauge], rows: Iterable[Row], *, now: float, wall: float) -> LaneMemory:
    """What there is to keep of an account's limits and models."""
    memory = LaneMemory()
    for gauge in gauges:
        if gauge.asked and (gauge.told or gauge.limit.unit != "in_flight"):
            memory = memory.with_limit(gauge.scope, gauge.limit, known=_limit(gauge, now=now, wall=wall))
    for row in rows:
        if row.admitted or row.gate.wait(now) > 0:
            memory = memory.with_model(row.model, _model(row, now=now, wall=wall))
    return memory


def _limit(gauge: Gauge, *, now: float, wall: float) -> LimitMemory:
    limit = gauge.limit
    return LimitMemory(
        wall, NO_FILE if gauge.written is None else limits_digest([gauge.written]),
        uses=remember_uses(gauge.meter.uses(now), window=limit.window, now=now, wall=wall),
        told=limit if gauge.told else None,
    )  # fmt: skip


def _model(row: Row, *, now: float, wall: float) -> ModelMemory:
    estimate, until = row.estimate.state(), row.gate.frozen_until
    return ModelMemory(
        wall, limits_digest(_written(row)), estimate=estimate if estimate.seen else None,
        in_flight=None if row.window is None else row.window.state(),
        rate=None if row.pace is None else row.pace.state(),
        frozen_until=None if until is None or until <= now else wall + until - now,
    )  # fmt: skip


def _written(row: Row) -> list[Limit]:
    return [gauge.written for gauge in row.gauges if gauge.written is not None]


def recall_limits(memory: LaneMemory, gauges: Iterable[Gauge], *, now: float, wall: float) -> None:
    """Let limits that nobody has asked yet stand as they do at the provider. One that the file has anew begins anew."""
    for gauge in gauges:
        if gauge.written is not None and (known := memory.limit(gauge.scope, gauge.written)) is not None:
            limit = known.told or gauge.limit
            gauge.recall(recall_uses(limit, known, now=now, wall=wall), now, told=known.told)


def recall_model(memory: LaneMemory, row: Row, *, begun: bool, now: float, wall: float) -> list[Gauge]:
    """Let a new row go on where an earlier one ended. Returns the limits that it adds, which no file has.

    `begun` is whether these count from now on, and not from the first call sent.
    """
    learned = []
    for limit, known in memory.told(row.model):
        if not any((one.limit.unit, one.limit.window) == (limit.unit, limit.window) for one in row.gauges):
            gauge = Gauge(limit, row.model, now)
            gauge.written, gauge.begun = None, begun or limit.unit == "in_flight"
            gauge.recall(recall_uses(limit, known, now=now, wall=wall), now, told=limit)
            learned.append(gauge)
    row.add(tuple(learned))
    if (model := memory.model(row.model, _written(row))) is not None:
        _go_on(row, model, now=now, wall=wall)
    if row.rates_known:
        row.know_rates()
    return learned


def _go_on(row: Row, known: ModelMemory, *, now: float, wall: float) -> None:
    if known.estimate is not None:
        row.estimate = TokenEstimate.restore(known.estimate)
    if row.window is not None and known.in_flight is not None:
        row.window = InFlightWindow.restore(known.in_flight, cap=IN_FLIGHT)
    if known.rate is not None:
        row.pace = RateWindow.restore(known.rate)
    if (seconds := recall_freeze(known, wall=wall)) > 0:
        row.gate.freeze(now + seconds, in_flight=0, ramps=not row.rates_known)
