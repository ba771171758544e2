"""Who of the waiting calls of one account may go now: the lane's decisions, without waiting and without a clock.

Each endpoint (a model of the account) is a row with its own queue, ordered by (priority, longest path, age). A call
reserves on every limit that it touches: the account's, its pool's, its model's. The heads of all rows are asked in
their common order; a head that does not fit claims the limits that held it back, so that a later call passes it only
if it touches none of them: a long prompt is never starved by short ones.

A push-back freezes what it concerns. On thaw one probe goes first; the row is open again when it succeeds, or when it
has been under way for longer than a refusal takes: replies may take a minute, and refusals come at once.

A provider's bucket stays full until the first call reaches it, and before that connections are made and journals
written. A lane that is told when calls are sent counts everything up to the first one as admitted at that moment.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

from ..errors import CallFailed, ErrorInfo
from ..rates import Limit
from .gauge import Gauge
from .row import OrderKey, Row, Ticket
from .statistics import EndpointStatistics, LaneStatistics

__all__ = ["Admission", "OrderKey", "Row", "Ticket"]

_GUARD_S = 0.05  # how differently two calls' ways to the server may take: first connections, garbage collection
_GUARD_MAX_S = 2.0
_GUARD_GROWTH = 1.25  # at a refusal, which also tells where the limit stands: a little is enough
_GUARD_DECAY = 0.998  # what was learned from a refusal is forgotten over a few hundred calls that went well
_START_GUARD_S, _START_S = 0.4, 2.0  # by how much more where a burst begins, and how long until that has passed
_SOON_S = 60.0
_SPARE_DEVIATIONS = 2.0  # standard deviations kept spare for what calls in flight may cost beyond their estimates
_SPARE_SHARE = 0.25  # of what goes at once: a lane that cannot estimate at all still goes on


class Admission:
    """All decisions of one account's lane. With `told_sent`, limits count from the first `sent` of a call on."""

    def __init__(self, account: str, account_limits: Sequence[Limit], now: float, *, told_sent: bool = False) -> None:
        self.account = account
        self._told_sent = told_sent
        self.rows: dict[str, Row] = {}
        self._account = self._new_gauges(account_limits, account, now)
        self._pools: dict[str, tuple[Gauge, ...]] = {}
        self._gauges: list[Gauge] = list(self._account)
        self._claimed: dict[int, Gauge] = {}  # what holds a call back since the last decision
        self._tickets = 0
        self._guard_s = _GUARD_S
        self._guarded_at = -math.inf
        self._peak = 0
        self.in_flight = 0
        self.waiting = 0

    def __repr__(self) -> str:
        return f"<Admission {self.account}: {self.in_flight} in flight, {self.waiting} waiting, {len(self.rows)} rows>"

    def row(
        self,
        model: str,
        limits: Sequence[Limit],
        now: float,
        *,
        pool: str | None = None,
        pool_limits: Sequence[Limit] = (),
    ) -> Row:
        """The row of a model, made when it is first asked for."""
        if (row := self.rows.get(model)) is None:
            own = self._new_gauges(limits, model, now)
            shared: tuple[Gauge, ...] = ()
            if pool is not None:
                if pool not in self._pools:
                    self._pools[pool] = self._new_gauges(pool_limits, f"pool {pool}", now)
                    self._gauges += self._pools[pool]
                shared = self._pools[pool]
            self._gauges += own
            row = self.rows[model] = Row(model, self._account + shared + own)
        return row

    def _new_gauges(self, limits: Sequence[Limit], scope: str, now: float) -> tuple[Gauge, ...]:
        gauges = tuple(Gauge(limit, scope, now) for limit in limits)
        for gauge in gauges:
            gauge.begun = gauge.limit.unit == "in_flight" or not self._told_sent
        return gauges

    def enqueue(
        self, row: Row, *, characters: int, kind: str, max_tokens: int | None, order: OrderKey, now: float
    ) -> Ticket:
        """Put a call in its place. Raises CallFailed(bad_request) for one that a limit can never admit."""
        self._tickets += 1
        ticket = Ticket(row, order, kind, characters, max_tokens, self._tickets, waiting_since=now)
        ticket.estimate()
        for gauge in row.gauges:
            need = gauge.limit.reserved(ticket.input_tokens, max_tokens or 0)
            if need > gauge.limit.largest:
                raise CallFailed(_too_large(gauge, need))
        heapq.heappush(row.waiting, ticket)
        self.waiting += 1
        return ticket

    def put_back(self, ticket: Ticket, now: float) -> None:
        """A call that was pushed back waits again, in the place that its order gives it."""
        ticket.state = "waiting"
        ticket.waiting_since = now
        heapq.heappush(ticket.row.waiting, ticket)
        self.waiting += 1

    def admit(self, now: float) -> tuple[list[Ticket], float]:
        """Everyone who may go now, and seconds until somebody else might (inf: not by time alone)."""
        if not self.waiting and not self._claimed:
            return [], math.inf
        for gauge in self._gauges:
            if not gauge.begun:
                gauge.restart(now)
        admitted: list[Ticket] = []
        soonest = math.inf
        claimed: dict[int, Gauge] = {}
        heads = [(row.waiting[0].order, index, row) for index, row in enumerate(self.rows.values()) if row.waiting]
        heapq.heapify(heads)
        while heads:
            _, index, row = heapq.heappop(heads)
            wait = row.wait(now)
            if wait <= 0.0:
                row.thaw()
                wait = self._wait_of_limits(row, row.waiting[0], now, claimed)
            if wait > 0.0:
                soonest = min(soonest, wait)
                continue
            admitted.append(self._let_go(row, now))
            if row.waiting:
                heapq.heappush(heads, (row.waiting[0].order, index, row))
        for key, gauge in (self._claimed | claimed).items():
            gauge.note_bound(key in claimed, now)
        self._claimed = claimed
        return admitted, soonest

    def _wait_of_limits(self, row: Row, ticket: Ticket, now: float, claimed: dict[int, Gauge]) -> float:
        longest = 0.0
        ticket.estimate()
        for gauge in row.gauges:
            if id(gauge) in claimed:
                longest = math.inf  # whoever claimed it will say when
                continue
            wait = self._wait(gauge, ticket, now)
            if wait > 0.0:
                claimed[id(gauge)] = gauge
                longest = max(longest, wait)
        return longest

    def _let_go(self, row: Row, now: float) -> Ticket:
        ticket = heapq.heappop(row.waiting)
        ticket.doubt = row.estimate.variance
        for gauge in row.gauges:
            need = self._need(gauge, ticket)
            gauge.take(need, now)
            gauge.doubt += ticket.doubt
            ticket.held.append((gauge, need))
        ticket.state = "admitted"
        ticket.admitted_at = ticket.sent_at = now
        if row.probing:
            row.probe = ticket
        row.in_flight += 1
        row.admitted += 1
        self.in_flight += 1
        self.waiting -= 1
        self._peak = max(self._peak, self.in_flight)
        return ticket

    def sent(self, ticket: Ticket, now: float) -> None:
        """An admitted call is on its way: from now on, if not before, the provider counts."""
        ticket.sent_at = now
        self._begin(ticket, now)

    def _begin(self, ticket: Ticket, now: float) -> None:
        for gauge, _ in ticket.held:
            if not gauge.begun:
                gauge.restart(now)
                gauge.begun = True

    def settle(
        self,
        ticket: Ticket,
        now: float,
        *,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        ok: bool = True,
    ) -> None:
        """A call has ended: slots come back, and what was reserved is corrected to what was really used, if known.

        A ticket that does not hold anything (any more) is passed over, here and in `push_back` and `cancel`.
        """
        if ticket.state != "admitted":
            return
        self._begin(ticket, now)  # whatever became of it, the provider may have counted it
        row = ticket.row
        if ok:
            self._guard_s = max(_GUARD_S, self._guard_s * _GUARD_DECAY)
        if ok and input_tokens is not None:
            row.estimate.observe(
                ticket.kind, ticket.characters, estimated=ticket.expected,
                input_tokens=input_tokens, output_tokens=output_tokens,
            )  # fmt: skip
        for gauge, held in ticket.held:
            limit = gauge.limit
            if limit.unit == "in_flight":
                gauge.release(held, now)
            elif limit.unit != "requests" and limit.settles == "actual" and input_tokens is not None:
                # What we expected beyond what the provider reserves, it counts only now.
                since, counted = ticket.admitted_at, min(held, _reserved(gauge, ticket))
                gauge.release(held - counted, now, since=since)
                gauge.release(counted - limit.used(input_tokens, output_tokens or 0), now, since=since)
        self._leave(ticket)
        if row.probe is ticket:
            row.probe = None
            row.probing = not ok

    def cancel(self, ticket: Ticket, now: float) -> None:
        """A call that will not be sent leaves nothing behind, waiting or already admitted."""
        if ticket.state == "waiting":
            ticket.row.waiting.remove(ticket)
            heapq.heapify(ticket.row.waiting)
            ticket.state = "gone"
            self.waiting -= 1
        elif ticket.state == "admitted":
            for gauge, held in ticket.held:
                gauge.release(held, now, since=ticket.admitted_at)
            if ticket.row.probe is ticket:
                ticket.row.probe = None
            self._leave(ticket)

    def push_back(self, ticket: Ticket, wait: float, now: float, *, unit: str | None = None) -> tuple[str, ...]:
        """The provider refused an admitted call as too fast: nothing of what it concerns goes for `wait` seconds.

        That is this model, and all that share a limit with it (of the account, of a pool). Returns the models.
        `unit` is `requests` or `tokens` where the provider said which limit it was; else all may have been.
        """
        if ticket.state != "admitted":
            return ()
        self._begin(ticket, now)
        if ticket.admitted_at >= self._guarded_at:  # what was in flight already is refused for the same reason
            self._guard_s, self._guarded_at = min(_GUARD_MAX_S, self._guard_s * _GUARD_GROWTH), now
        row = ticket.row
        row.note_refusal(now - ticket.sent_at)
        named = {id(gauge) for gauge, _ in ticket.held if unit is not None and gauge.limit.unit.endswith(unit)}
        for gauge, held in ticket.held:
            gauge.release(held, now, since=ticket.admitted_at)
            if _may_have_refused(gauge.limit, wait) and (not named or id(gauge) in named):
                # When the wait is over, one call of this size fits, and not more.
                gauge.meter.lower(min(held, gauge.limit.capacity) - wait * gauge.limit.per_second, now)
        if row.probe is ticket:
            row.probe = None
        self._leave(ticket)
        shared = {id(gauge) for gauge in row.gauges if gauge.limit.unit != "in_flight"}
        rows = self.rows.values()
        concerned = [one for one in rows if one is row or not shared.isdisjoint(id(gauge) for gauge in one.gauges)]
        for other in concerned:
            other.frozen_until = max(other.frozen_until or 0.0, now + wait)
        return tuple(other.model for other in concerned)

    def _leave(self, ticket: Ticket) -> None:
        ticket.state = "gone"
        for gauge, _ in ticket.held:
            gauge.doubt = max(0.0, gauge.doubt - ticket.doubt)
        ticket.held = []
        ticket.row.in_flight -= 1
        self.in_flight -= 1

    def _need(self, gauge: Gauge, ticket: Ticket) -> float:
        """What the provider will count: what it reserves, where it reserves max_tokens; else what is likely used."""
        limit = gauge.limit
        if limit.reserves in ("sum", "max") or limit.settles == "reserved":
            need = _reserved(gauge, ticket)
        else:
            need = limit.used(ticket.input_tokens, ticket.output_tokens)
        return min(need, limit.largest)

    def _wait(self, gauge: Gauge, ticket: Ticket, now: float) -> float:
        """Seconds until a limit has room for a call, and for what may differ from what we know."""
        if gauge.limit.unit == "in_flight":
            return gauge.meter.wait(1.0, now)
        guard = self._guard_s
        if self._told_sent:  # the first calls of a burst wait for connections, and for each other
            guard += _START_GUARD_S * max(0.0, 1.0 - (now - gauge.full_at) / _START_S)
        spare = 0.0
        if gauge.limit.unit != "requests":
            spare = _SPARE_DEVIATIONS * math.sqrt(gauge.doubt + ticket.row.estimate.variance)
            spare = min(spare, _SPARE_SHARE * gauge.limit.capacity)
        return gauge.meter.wait(self._need(gauge, ticket), now, guard=guard, spare=spare)

    def statistics(self, now: float) -> LaneStatistics:
        """A truthful picture of the lane at `now`."""
        limits = tuple(gauge.statistics(now) for gauge in self._gauges)
        endpoints = tuple(self._endpoint(row, now) for row in self.rows.values())
        binding = max(limits, key=lambda one: one.bound_s, default=None)
        bound = sum(one.bound_s for one in limits)
        return LaneStatistics(
            account=self.account,
            in_flight=self.in_flight,
            peak_in_flight=self._peak,
            waiting=self.waiting,
            admitted=sum(row.admitted for row in self.rows.values()),
            pushed_back=sum(row.pushed_back for row in self.rows.values()),
            frozen_s=max((one.frozen_s for one in endpoints if one.frozen_s is not None), default=None),
            limits=limits,
            endpoints=endpoints,
            bounded_by=f"{binding.scope} {binding.name}" if binding and binding.bound_s > 0 else None,
            bounded_share=binding.bound_s / bound if binding and bound > 0 else 0.0,
        )

    def _endpoint(self, row: Row, now: float) -> EndpointStatistics:
        wait = None
        if row.waiting:
            waits = [self._wait(gauge, row.waiting[0], now) for gauge in row.gauges]
            wait = row.wait(now) or max(waits, default=0.0)
        frozen = row.frozen_until - now if row.frozen_until and row.frozen_until > now else None
        return EndpointStatistics(
            row.model, row.in_flight, len(row.waiting), wait, row.pushed_back, frozen, row.admitted
        )


def _reserved(gauge: Gauge, ticket: Ticket) -> float:
    """What the provider reserves for a call."""
    output = ticket.output_tokens if ticket.max_tokens is None else ticket.max_tokens
    return gauge.limit.reserved(ticket.input_tokens, output)


def _may_have_refused(limit: Limit, wait: float) -> bool:
    """Whether a bucket can be what asks for this wait: a day's burst is not used up for seconds."""
    bucket = limit.shape == "bucket" and limit.unit != "in_flight"
    return bucket and limit.capacity <= limit.per_second * max(_SOON_S, wait)


def _too_large(gauge: Gauge, need: float) -> ErrorInfo:
    limit = gauge.limit
    return ErrorInfo(
        "bad_request",
        f"this call needs about {need:,.0f} {limit.unit.replace('_', ' ')}, and {gauge.scope} allows "
        f"{limit.largest:,.0f} at once ({limit.name}): shorten it, lower max_tokens, or take a model that allows more",
    )
