"""Who of the waiting calls of one account may go now: the lane's decisions, without waiting and without a clock.

Each endpoint (a model of the account) is a row with its own queues, ordered by (priority, longest path, age). A call
reserves on every limit that it touches: the account's, its pool's, its model's. The heads of all queues are asked in
their common order. A head that does not fit claims the limits that held it back: later calls go before it only while
they fit beside it, and for no more than half a second of refill in all, so a long prompt is not starved by short ones.
Each sixteenth call to go is the one that has waited longest, whatever its place: so nothing is starved by what is more
urgent either.

Those who use a lane together (runs, agents) have a share each. Among calls of one priority the next is of the share
that has used least, by weight (`Shares`).

A provider's bucket stays full until the first call reaches it, and before that connections are made and journals
written. A lane that is told when calls are sent counts everything up to the first one as admitted at that moment.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence

from ..errors import CallFailed
from ..rates import Limit, Told
from .aimd import InFlightWindow, Outcome
from .gauge import Gauge
from .guard import Guard, need, recount, reserved, too_large
from .hearing import Adopted, hear
from .ledger import LaneLedger
from .look import Look
from .queue import ALONE, Queue, Share
from .refused import Frozen, blame, freeze
from .report import report
from .row import OrderKey, Row, Ticket
from .shares import Shares
from .statistics import LaneStatistics

__all__ = ["IN_FLIGHT", "Admission", "Frozen", "OrderKey", "Row", "Ticket"]

IN_FLIGHT = 500
"""Calls in flight at a time for an account whose file names no such limit: each is an open connection, and systems
commonly allow a process about a thousand of them."""

_TURN = 16  # each so many-th call is the oldest: a sixteenth is little to lose, and enough to end every wait
_PASSED_S = 0.5  # seconds of refill for which later calls may go before one that does not fit
_FEW_QUEUES = 16  # that may lie empty


class Admission:
    """All decisions of one account's lane. With `told_sent`, limits count from the first `sent` of a call on."""

    def __init__(self, account: str, account_limits: Sequence[Limit], now: float, *, told_sent: bool = False) -> None:
        self.account = account
        self._told_sent = told_sent
        self._guard = Guard(told_sent=told_sent)
        self.rows: dict[str, Row] = {}
        self._learns_in_flight = not any(limit.unit == "in_flight" for limit in account_limits)
        if self._learns_in_flight:
            account_limits = [*account_limits, Limit("in_flight", IN_FLIGHT)]
        self._account = self._new_gauges(account_limits, account, now)
        self._pools: dict[str, tuple[Gauge, ...]] = {}
        self.gauges: list[Gauge] = list(self._account)
        self._claimed: dict[int, Gauge] = {}  # what holds a call back since the last decision
        self._tickets = 0
        self._turn = 0
        self._shares = Shares()
        self._peak = 0
        self._ledger = LaneLedger()
        self.in_flight = 0
        self.waiting = 0

    def __repr__(self) -> str:
        return f"<Admission {self.account}: {self.in_flight} in flight, {self.waiting} waiting, {len(self.rows)} rows>"

    # --- rows

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
                    self.gauges += self._pools[pool]
                shared = self._pools[pool]
            self.gauges += own
            learns = self._learns_in_flight and not any(gauge.limit.unit == "in_flight" for gauge in shared + own)
            window = InFlightWindow(cap=IN_FLIGHT) if learns else None
            row = self.rows[model] = Row(model, self._account + shared + own, window=window)
            if row.rates_known:
                row.know_rates()
        return row

    def _new_gauges(self, limits: Sequence[Limit], scope: str, now: float) -> tuple[Gauge, ...]:
        gauges = tuple(Gauge(limit, scope, now) for limit in limits)
        for gauge in gauges:
            gauge.begun = gauge.limit.unit == "in_flight" or not self._told_sent
        return gauges

    # --- waiting

    def enqueue(
        self, row: Row, *, characters: int, kind: str, max_tokens: int | None, order: OrderKey, now: float,
        share: Share = ALONE,
    ) -> Ticket:  # fmt: skip
        """Put a call in its place. Raises CallFailed(bad_request) for one that a limit can never admit."""
        self._tickets += 1
        ticket = Ticket(row, order, kind, characters, max_tokens, share, self._tickets, waiting_since=now)
        ticket.estimate()
        for gauge in row.gauges:
            least = gauge.limit.reserved(ticket.input_tokens, max_tokens or 0)
            if least > gauge.limit.largest:
                raise CallFailed(too_large(gauge, least))
        self._wait_in_queue(ticket)
        return ticket

    def put_back(self, ticket: Ticket, now: float) -> None:
        """A call that was pushed back waits again, in the place that its order gives it."""
        ticket.waiting_since = now
        self._wait_in_queue(ticket)

    def _wait_in_queue(self, ticket: Ticket) -> None:
        self._shares.wait(ticket)
        ticket.row.queue(ticket.share).add(ticket)
        self.waiting += 1

    # --- going

    def admit(self, now: float) -> tuple[list[Ticket], float]:
        """Everyone who may go now, and seconds until somebody else might (inf: not by time alone)."""
        if not self.waiting and not self._claimed:
            self._ledger.note(self.rows.values(), waiting=0, in_flight=self.in_flight, now=now)
            return [], math.inf
        for gauge in self.gauges:
            if not gauge.begun:
                gauge.restart(now)
        look = Look(now)
        queues = [queue for row in self.rows.values() for queue in row.queues.values() if queue]
        heads = [(self._place(queue), index) for index, queue in enumerate(queues)]
        heapq.heapify(heads)
        while heads:
            if self._turn >= _TURN and not look.oldest_asked:
                self._ask_oldest(queues, look)
            _, index = heapq.heappop(heads)
            queue = queues[index]
            if not queue:
                continue
            ticket = queue.head()
            if self._ask(ticket, look):
                self._let_go(ticket, look, in_order=True)
            elif not self._let_go_beside(queue, look):
                continue
            if queue:
                heapq.heappush(heads, (self._place(queue), index))
        for key, gauge in (self._claimed | look.gauges).items():
            gauge.note_bound(key in look.gauges, now)
        self._claimed = look.gauges
        self._ledger.note(self.rows.values(), waiting=self.waiting, in_flight=self.in_flight, now=now)
        return look.admitted, look.soonest

    def _place(self, queue: Queue) -> tuple[float, float, float, int, int]:
        ticket = queue.head()
        priority, path, age = ticket.order
        return priority, self._shares.used(ticket), path, age, ticket.number

    def _ask_oldest(self, queues: Iterable[Queue], look: Look) -> None:
        """It is the turn of the call that has waited longest; if it does not fit, it claims what it needs."""
        look.oldest_asked = True
        oldest = min(
            (queue.oldest() for queue in queues if queue and queue.row.gate.wait(look.now) <= 0.0),
            key=lambda ticket: ticket.number, default=None,
        )  # fmt: skip
        if oldest is not None and self._ask(oldest, look):
            self._let_go(oldest, look)
            self._turn = 0

    def _ask(self, ticket: Ticket, look: Look) -> bool:
        """Whether a call may go now. If not, it claims the limits that hold it back."""
        now, row = look.now, ticket.row
        if (wait := row.wait(now)) > 0.0:
            look.soonest = min(look.soonest, wait)
            return False
        row.gate.open(now)
        if (wait := row.wait(now)) > 0.0:  # a ramp has begun
            look.soonest = min(look.soonest, wait)
            return False
        ticket.estimate()
        longest = 0.0
        for gauge in row.gauges:
            if (claimer := look.claimers.get(id(gauge))) is not None and not _may_pass(claimer, ticket, gauge):
                return False  # whoever claimed it says when
            if (wait := self._guard.wait(gauge, ticket, now=now)) > 0.0:
                longest = max(longest, wait)
                if claimer is None:
                    look.claim(gauge, ticket)
        if longest > 0.0:
            look.soonest = min(look.soonest, longest)
        return longest <= 0.0

    def _let_go_beside(self, queue: Queue, look: Look) -> bool:
        """Best fit: the head of this queue does not fit; let the first of the next ones go that does."""
        head = queue.head()
        held_back = [look.gauges[key] for key, ticket in look.claimers.items() if ticket is head]
        if not held_back or head.passed_s >= _PASSED_S or any("tokens" not in g.limit.unit for g in held_back):
            return False
        room = min(gauge.meter.level(look.now) for gauge in held_back)
        for ticket in queue.next_ones():
            if ticket.input_tokens > room or ticket.input_tokens >= head.input_tokens:
                continue
            if all(self._fits(gauge, ticket, look=look) for gauge in ticket.row.gauges):
                self._let_go(ticket, look)
                return True
        return False

    def _fits(self, gauge: Gauge, ticket: Ticket, *, look: Look) -> bool:
        claimer = look.claimers.get(id(gauge))
        return (claimer is None or _may_pass(claimer, ticket, gauge)) and self._guard.wait(
            gauge, ticket, now=look.now
        ) <= 0

    def _let_go(self, ticket: Ticket, look: Look, *, in_order: bool = False) -> None:
        row, now = ticket.row, look.now
        row.queues[ticket.share.name].remove(ticket, state="admitted")
        ticket.doubt, ticket.blind = row.estimate.variance(ticket.input_tokens), row.estimate.blind
        ticket.suspect = None
        seconds = 0.0
        for gauge in row.gauges:
            units = need(gauge, ticket)
            if gauge.limit.unit != "in_flight":
                seconds = max(seconds, units / gauge.limit.per_second)
            if (claimer := look.claimers.get(id(gauge))) is not None:
                claimer.passed_s += units / gauge.limit.per_second
            ticket.held.append(gauge.take(units, now))
            gauge.doubt += ticket.doubt
        ticket.admitted_at = ticket.sent_at = now
        row.passed(ticket, now)
        self._shares.go(ticket, seconds or 1.0, in_order=in_order)
        self._turn += 1
        self.in_flight += 1
        self.waiting -= 1
        self._peak = max(self._peak, self.in_flight)
        look.admitted.append(ticket)
        if len(row.queues) > _FEW_QUEUES:
            row.queues = {name: queue for name, queue in row.queues.items() if queue}

    def sent(self, ticket: Ticket, now: float) -> None:
        """An admitted call is on its way: from now on, if not before, the provider counts."""
        ticket.sent_at = now
        self._begin(ticket, now)

    def _begin(self, ticket: Ticket, now: float) -> None:
        for hold in ticket.held:
            if not hold.gauge.begun:
                hold.gauge.restart(now)
                hold.gauge.begun = True

    # --- ending

    def hear(self, ticket: Ticket, told: Sequence[Told], *, now: float) -> list[Adopted]:
        """What an answer to a call tells of limits, before the call is settled or pushed back.

        Returns the limits whose figures are the provider's from now on.
        """
        if ticket.state != "admitted":
            return []
        self._begin(ticket, now)
        adopted = hear(ticket, told, now=now)
        known = set(map(id, self.gauges))
        self.gauges += [gauge for gauge in ticket.row.gauges if id(gauge) not in known]
        return adopted

    def settle(
        self,
        ticket: Ticket,
        now: float,
        *,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        outcome: Outcome = "success",
    ) -> None:
        """A call has ended: slots come back, and what was reserved is corrected to what was really used, if known.

        A ticket that does not hold anything (any more) is passed over, here and in `push_back` and `cancel`.
        """
        if ticket.state != "admitted":
            return
        self._begin(ticket, now)  # whatever became of it, the provider may have counted it
        row = ticket.row
        known = outcome in ("success", "load") and input_tokens is not None
        if outcome == "success":
            self._guard.decay()
        blind = row.estimate.blind
        if known:
            row.estimate.observe(
                ticket.kind, ticket.characters, estimated=ticket.expected,
                input_tokens=input_tokens, output_tokens=output_tokens,
            )  # fmt: skip
        if known and ticket.max_tokens is not None and output_tokens is not None:
            row.ledger.outputs.note(
                ticket.kind, max_tokens=ticket.max_tokens, input_tokens=input_tokens or 0, output_tokens=output_tokens
            )
        for gauge, held, *_ in ticket.held:
            limit = gauge.limit
            if limit.unit == "in_flight":
                gauge.release(held, now)
            elif limit.unit != "requests" and limit.settles == "actual" and input_tokens is not None:
                # What we expected beyond what the provider reserves, it counts only now.
                since, counted = ticket.admitted_at, min(held, reserved(gauge, ticket))
                gauge.release(held - counted, now, since=since)
                gauge.release(counted - limit.used(input_tokens, output_tokens or 0), now, since=since)
        self._leave(ticket, now, outcome)
        if blind and not row.estimate.blind:
            recount(row, now)

    def cancel(self, ticket: Ticket, now: float) -> None:
        """A call that will not be sent leaves nothing behind, waiting or already admitted."""
        if ticket.state == "waiting":
            ticket.row.queues[ticket.share.name].remove(ticket, state="gone")
            self._shares.leave(ticket)
            self.waiting -= 1
        elif ticket.state == "admitted":
            self._give_back(ticket, now)
            self._leave(ticket, now, "ignored")

    def push_back(
        self, ticket: Ticket, wait: float | None, now: float, *, unit: str | None = None, times: int = 1
    ) -> Frozen:
        """The provider refused an admitted call as too fast, for the `times`-th time.

        Nothing of what it concerns goes for `wait` seconds: that is this model, and all that share a limit with it (of
        the account, of a pool). `unit` is `requests`, `tokens` or `in_flight` where the provider said of what there
        was too much; else all may have been.
        """
        if ticket.state != "admitted":
            return Frozen()
        self._begin(ticket, now)
        row = ticket.row
        row.pushed_back += 1
        row.gate.note_refusal(now - ticket.sent_at)
        self._give_back(ticket, now)
        why = blame(ticket, wait, unit=unit, times=times)
        self._leave(ticket, now, "pushed_back" if why.too_many else "ignored")
        if why.learns:
            row.slow_down(ticket, now, wait=wait or 0.0)
        if why.seconds is None:
            return Frozen()
        self._guard.grow(ticket, now)
        return freeze(ticket, why.seconds, now=now, unit=why.unit, rows=self.rows.values())

    def _give_back(self, ticket: Ticket, now: float) -> None:
        for gauge, held, *_ in ticket.held:
            gauge.release(held, now, since=ticket.admitted_at)

    def _leave(self, ticket: Ticket, now: float, outcome: Outcome) -> None:
        ticket.state = "gone"
        for gauge, *_ in ticket.held:
            gauge.doubt = max(0.0, gauge.doubt - ticket.doubt)
        ticket.held = []
        ticket.row.left(ticket, outcome, now=now)
        self.in_flight -= 1

    def statistics(self, now: float) -> LaneStatistics:
        """A truthful picture of the lane at `now`."""
        own = self._account[-1] if self._learns_in_flight else None
        return report(
            self.account, gauges=self.gauges, own=own, rows=self.rows, guard=self._guard, ledger=self._ledger,
            peak=self._peak, now=now,
        )  # fmt: skip


def _may_pass(claimer: Ticket, ticket: Ticket, gauge: Gauge) -> bool:
    """Whether a call may take of a limit that another one waits for: that one is passed for a short time only."""
    if "tokens" not in gauge.limit.unit:
        return False
    return claimer.passed_s + need(gauge, ticket) / gauge.limit.per_second <= _PASSED_S
