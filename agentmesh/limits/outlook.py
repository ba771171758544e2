"""How long a call would wait in a lane: what is compared where several accounts may serve it.

An estimate, and cheap: nothing is asked one by one. Calls that wait count as large as the one that asks, and nobody
knows when calls in flight end; so a call that waits in one lane may later be better off in another.
"""

from __future__ import annotations

from collections.abc import Iterable

from .guard import need
from .row import OrderKey, Row, Ticket

__all__ = ["outlook"]

_CALL_S = 1.0  # what a call takes at the least, while none has been in flight for longer


def outlook(
    row: Row, rows: Iterable[Row], *, characters: int, max_tokens: int | None, order: OrderKey, now: float
) -> float:
    """Expected seconds until such a call would be admitted; 0 if now. `rows` are all of the account, `row` among them.

    Of each limit: the units of those that wait before it and its own, less what is free, at the rate at which they come
    back. The slowest limit counts; what a push-back froze comes on top.
    """
    ticket = Ticket(row, order, "", characters, max_tokens)
    ticket.estimate()
    before = {other: _waiting_before(other, order) for other in rows}
    call_s = _call_seconds(row, now)
    seconds = 0.0
    for gauge in row.gauges:
        calls = 1 + sum(waiting for other, waiting in before.items() if waiting and gauge in other.gauges)
        missing = calls * need(gauge, ticket) - gauge.meter.level(now)
        if missing > 0.0:
            per_second = gauge.limit.limit / call_s if gauge.limit.unit == "in_flight" else gauge.limit.per_second
            seconds = max(seconds, missing / per_second)
    if row.window is not None and (missing := 1 + before[row] - row.window.room()) > 0:
        seconds = max(seconds, missing * call_s / row.window.limit)
    if row.pace is not None:
        seconds = max(seconds, row.pace.wait(now) + before[row] / row.pace.rate)
    return row.gate.wait(now) + seconds


def _waiting_before(row: Row, order: OrderKey) -> int:
    """Calls that wait in this row, but for queues whose first call comes after."""
    return sum(len(queue) for queue in row.queues.values() if queue and queue.head().order < order)


def _call_seconds(row: Row, now: float) -> float:
    """How long a call of this row takes, as far as those in flight tell."""
    oldest = next(iter(row.flying), None)
    return _CALL_S if oldest is None else max(_CALL_S, now - oldest.sent_at)
