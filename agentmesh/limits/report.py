"""Draws up what a lane tells of itself, from its gauges, its rows and its ledger."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from .gauge import Gauge
from .guard import Guard
from .ledger import LaneLedger
from .row import Row
from .statistics import EndpointStatistics, LaneStatistics, LimitStatistics, SmallerMaxTokens

__all__ = ["report"]

_SPARE = 1.2  # times the longest reply: what others of the kind may need
_STEPS = ((1024, 64), (8192, 256), (math.inf, 1024))  # suggestions below so many tokens are rounded up to so many
_WORTH = 1.05  # times as fast: less is not worth a word
_BOUND = 0.05  # of the time: a limit that held calls back for less has bounded nothing


def report(
    account: str, *, gauges: Iterable[Gauge], own: Gauge | None, rows: Mapping[str, Row], guard: Guard,
    ledger: LaneLedger, peak: int, now: float,
) -> LaneStatistics:  # fmt: skip
    """A truthful picture of the lane of this account at `now`. `own` is the gauge whose figure nobody named."""
    active_s = ledger.active_s(now)
    frozen_s, latency_s = (ledger.spans.of(what, now) for what in ("frozen", "latency"))
    limits = [gauge.statistics(now, own=gauge is own) for gauge in gauges]
    for row in rows.values():
        limits += _learned(row, now)
    endpoints = [
        _endpoint(row, guard, smaller=_smaller(row, active_s, latency_s=latency_s, now=now), now=now)
        for row in rows.values()
    ]
    return LaneStatistics.of(
        account, limits=limits, endpoints=endpoints,
        peak_in_flight=peak, active_s=active_s, frozen_s=frozen_s,
        push_backs_s=frozen_s + ledger.spans.of("probing", now), latency_s=latency_s,
    )  # fmt: skip


def _learned(row: Row, now: float) -> list[LimitStatistics]:
    """The limits of a row that nobody told. A window that was opened wide tells of none."""
    found = []
    held = row.ledger.held
    if (window := row.window) is not None and row.admitted:
        told = window.statistics()
        if told.ceiling is not None or not row.rates_known:
            found.append(
                LimitStatistics(
                    name="in_flight", scope=row.model, limit=told.limit, source="learned", used=told.in_flight,
                    recent=told.in_flight / told.limit, use=None, bound_s=held.of("in_flight", now),
                    binds=held.now_is == "in_flight",
                )
            )  # fmt: skip
    if (pace := row.pace) is not None:
        found.append(
            LimitStatistics(
                name="requests_per_second", scope=row.model, limit=pace.rate, source="learned", used=row.admitted,
                recent=row.ledger.pace(now) / pace.rate, use=None, bound_s=held.of("pace", now),
                binds=held.now_is == "pace",
            )
        )  # fmt: skip
    return found


def _endpoint(row: Row, guard: Guard, *, smaller: SmallerMaxTokens | None, now: float) -> EndpointStatistics:
    wait = None
    if heads := [queue.head() for queue in row.queues.values() if queue]:
        waits = [guard.wait(gauge, min(heads), now=now) for gauge in row.gauges]
        wait = row.wait(now) or max(waits, default=0.0)
    until = row.gate.frozen_until
    return EndpointStatistics(
        model=row.model, in_flight=row.in_flight, peak_in_flight=row.ledger.peak, waiting=row.waiting,
        next_s=None if wait == math.inf else wait, pushed_back=row.pushed_back,
        thaws_s=until - now if until is not None and until > now else None, frozen_s=row.ledger.held.of("frozen", now),
        admitted=row.admitted, smaller_max_tokens=smaller,
    )  # fmt: skip


def _smaller(row: Row, active_s: float, *, latency_s: float, now: float) -> SmallerMaxTokens | None:
    """What would have gained most, if a limit that counts max_tokens held calls back for long.

    No more time is gained than this limit took, and what other limits need and the last answers took remains.
    """
    counting = [
        gauge for gauge in row.gauges
        if gauge.limit.settles == "reserved" and gauge.limit.reserves in ("sum", "max")
        and gauge.bound_s(now) > _BOUND * active_s
    ]  # fmt: skip
    calls = row.ledger.outputs.calls
    found = []
    for gauge in counting:
        others_s = max((other.shortest_s(other.used) for other in row.gauges if other is not gauge), default=0.0)
        for (kind, max_tokens), (number, input_tokens, longest) in calls.items():
            enough = _enough(longest)
            each = input_tokens / number
            saved = number * (gauge.limit.reserved(each, max_tokens) - gauge.limit.reserved(each, enough))
            saved_s = min(saved / gauge.limit.per_second, gauge.bound_s(now))
            rest_s = min(active_s, max(active_s - saved_s, others_s + latency_s))
            faster = active_s / rest_s if rest_s > 0 else 1.0
            if enough < max_tokens and faster >= _WORTH:
                found.append(
                    SmallerMaxTokens(
                        name=gauge.limit.name, scope=gauge.scope, kind=kind if len(calls) > 1 else "", calls=number,
                        max_tokens=max_tokens, longest=longest, enough=enough, times_as_fast=faster,
                    )
                )  # fmt: skip
    return max(found, key=lambda one: one.times_as_fast, default=None)


def _enough(longest: int) -> int:
    wanted = _SPARE * longest
    step = next(step for below, step in _STEPS if wanted <= below)
    return step * math.ceil(wanted / step)
