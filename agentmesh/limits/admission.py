"""Who of the waiting calls of one account may go now: the lane's decisions, without waiting and without a clock.

Each endpoint (a model of the account) is a row with its own queues, ordered by (priority, longest path, age). A call
reserves on every limit that it touches: the account's, its pool's, its model's. The heads of all queues are asked in
their common order (`lineup.py`). A head that does not fit claims the limits that held it back (`look.py`): later calls
go before it only while they fit beside it, and for no more than half a second of refill in all, so a long prompt is not
starved by short ones.

Each sixteenth call to go, of the account and of each row, is the one that has waited longest, whatever its place: so
nothing is starved by what is more urgent either. Whatever comes, a call before which n had come is passed by no more
than 16 (n + 1) that came later while there is room for it, and by what goes beside those that wait for their turn.

Those who use a lane together (runs, agents) have a share each. Among calls of one priority the next is of the share
that has used least, by weight (`shares.py`).

A provider's bucket stays full until the first call reaches it, and before that connections are made and journals
written. A lane that is told when calls are sent counts everything up to the first one as admitted at that moment.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..errors import CallFailed
from ..rates import Limit, Told
from .aimd import InFlightWindow, Outcome
from .gauge import Gauge
from .guard import Guard, ahead, correct, give_back, need, recount, too_large
from .hearing import Adopted, hear
from .ledger import LaneLedger
from .lineup import EPSILON_S, Lineup
from .look import OF_ALL, OF_SOME, Look
from .queue import ALONE, Queue, Share
from .refused import Frozen, blame, freeze
from .report import report
from .row import OrderKey, Row, Ticket
from .setting import set_limit
from .statistics import LaneStatistics

__all__ = ["IN_FLIGHT", "Admission", "Frozen", "OrderKey", "Row", "Ticket"]

IN_FLIGHT = 500
"""Calls in flight at a time for an account whose file names no such limit: each is an open connection, and systems
commonly allow a process about a thousand of them."""

_TURN = 16  # each so many-th call is the oldest: a sixteenth is little to lose, and enough to end every wait


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
        self._ranks = dict.fromkeys(self._account, OF_ALL)
        self._unbegun: dict[Gauge, None] = {}  # what was taken of them counts from the first call sent
        self._claimed: dict[Gauge, Ticket] = {}  # what holds which call back since the last decision, of rows awake
        self._woken: dict[Row, None] = {}
        self._lineup = Lineup()
        self._tickets = 0
        self._turn = 0
        self._stirred = True  # since the last decision something has happened that may let somebody go
        self._decided = self._due = -math.inf  # when that was, and when somebody may go by time alone
        self._bar: Gauge | None = None  # because of which limit nobody could go
        self._open = False  # whether one who comes might go before one who waits
        self._peak = 0
        self._ledger = LaneLedger()
        self.in_flight = self.waiting = 0

    def __repr__(self) -> str:
        return f"<Admission {self.account}: {self.in_flight} in flight, {self.waiting} waiting, {len(self.rows)} rows>"

    # --- rows

    def row(
        self, model: str, limits: Sequence[Limit], now: float, *, pool: str | None = None,
        pool_limits: Sequence[Limit] = (),
    ) -> Row:  # fmt: skip
        """The row of a model, made when it is first asked for."""
        if (row := self.rows.get(model)) is None:
            own = self._new_gauges(limits, model, now)
            shared: tuple[Gauge, ...] = ()
            if pool is not None:
                if pool not in self._pools:
                    self._pools[pool] = self._new_gauges(pool_limits, f"pool {pool}", now)
                    self.gauges += self._pools[pool]
                    self._ranks |= dict.fromkeys(self._pools[pool], OF_SOME)
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

    def set_limit(self, limit: Limit, *, of: Row | None, scope: str, now: float) -> None:
        """From now on this limit holds, whatever did before: of the account (None), or of a row or its pool."""
        own = () if of is None else [one for one in of.gauges if one.scope == scope and one not in self._account]
        known, rows = (self._account, self.rows.values()) if of is None else (own, [of])
        if (new := set_limit(known, limit, scope=scope, rows=rows, now=now)) is not None:
            self.gauges.append(new)
            if of is None:
                self._account, self._ranks[new] = (new, *self._account), OF_ALL
        for row in self.rows.values():
            self._wake(row)

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
        self._wait_in_queue(ticket, now)
        return ticket

    def put_back(self, ticket: Ticket, now: float) -> None:
        """A call that was pushed back waits again, in the place that its order gives it."""
        ticket.waiting_since = now
        self._wait_in_queue(ticket, now)

    def _wait_in_queue(self, ticket: Ticket, now: float) -> None:
        row = ticket.row
        first = self._lineup.join(ticket)
        self.waiting += 1
        if row.asleep:
            if not row.hard and self._guard.lets_go(ticket, before=row.wakes_at, claimed=row.claimed, now=now):
                self._wake(row)
        elif not self._stirred and self._bar is None and (first or self._open):
            self._stirred = self._guard.lets_go(ticket, before=self._due, claimed=self._claimed, now=now)

    # --- going

    def admit(self, now: float) -> tuple[list[Ticket], float]:
        """Everyone who may go now, and seconds until somebody else might (inf: not by time alone)."""
        if not self.waiting and not self._claimed:
            self._ledger.note((), waiting=0, in_flight=self.in_flight, now=now)
            return [], math.inf
        if not self._stirred and self._decided <= now < self._due - EPSILON_S:
            return [], self._due - now
        for gauge in self._unbegun:
            gauge.restart(now)
        look = Look(now, lineup=self._lineup, guard=self._guard, ranks=self._ranks)
        for row in self._lineup.due(now):
            self._wake(row)
        while not look.closed:
            if self._turn >= _TURN and not look.oldest_asked:
                self._ask_oldest(look)
                continue
            if (queue := self._lineup.first()) is None:
                break
            if not self._serve(queue, look) and not look.closed:
                self._lineup.step_out(queue)
                look.asked.append(queue)
        self._conclude(look)
        return look.admitted, self._due - now

    def _conclude(self, look: Look) -> None:
        """Who was asked in vain stands in line again, or sleeps until it may go."""
        now = look.now
        for row, wait in look.waits.items():
            if wait > 0.0 and not look.closed and not row.asleep:  # all of it was asked
                look.sleep(row, wait, hard=False)
        for queue in look.asked:
            self._lineup.put(queue)
        for row in look.aged:
            self._lineup.put_oldest(row)
        if look.claimers.keys() != self._claimed.keys():
            asleep = {gauge for row in look.slept for gauge in row.claimed}
            for gauge in self._claimed.keys() - look.claimers.keys() - asleep:
                gauge.note_bound(False, now)
            for gauge in look.claimers:
                gauge.note_bound(True, now)
        self._claimed = look.claimers
        self._stirred, self._bar, self._open = look.passed, look.bar, look.open
        self._decided, self._due = now, min(now + look.soonest, self._lineup.next_alarm())
        rows = {*look.waits, *self._woken, *(ticket.row for ticket in look.admitted)}
        self._woken.clear()
        self._ledger.note(rows, waiting=self.waiting, in_flight=self.in_flight, now=now)

    def _serve(self, queue: Queue, look: Look) -> bool:
        """Let the first call of a queue go, or one that fits beside it; each sixteenth of a row is its oldest."""
        row = queue.row
        aged = row.turn >= _TURN
        first = (row.oldest() if aged else None) or queue.head()
        if look.ask(first):
            self._let_go(first, look, in_order=not aged, aged=aged)
        elif row.asleep or look.closed or (other := look.beside(queue, first)) is None:
            return False
        else:
            self._let_go(other, look)
        return True

    def _ask_oldest(self, look: Look) -> None:
        """It is the turn of the call that has waited longest; if it does not fit, it claims what it needs.

        One that its own limits hold back does not keep the oldest of other rows from their turn.
        """
        while not look.closed and (row := self._lineup.pop_oldest()) is not None:
            look.aged.append(row)
            oldest = row.oldest()
            if oldest is not None and look.ask(oldest):
                self._let_go(oldest, look, aged=True)
                self._turn = 0
                return
        look.oldest_asked = True

    def _wake(self, row: Row) -> None:
        self._lineup.wake(row)
        self._claimed |= row.claimed
        self._woken[row] = None
        self._stirred = True
        row.claimed = {}

    def _freed(self, row: Row, gauges: Sequence[Gauge]) -> None:
        """Units of these limits came back, or whatever else holds a row has changed: somebody may go."""
        if row.asleep and (not row.claimed or any(gauge in row.claimed for gauge in gauges)):
            self._wake(row)
        self._stirred = self._stirred or any(gauge in self._claimed for gauge in gauges)

    def _doubt_less(self, gauge: Gauge, row: Row, *, now: float) -> None:
        """Less is kept spare of a limit: who waits for it goes sooner."""
        if (ticket := self._claimed.get(gauge)) is not None:
            self._due = min(self._due, now + self._guard.wait(gauge, ticket, now=now))
        elif (ticket := row.claimed.get(gauge)) is not None:
            until = now + max(self._guard.wait(one, ticket, now=now) for one in row.claimed)
            if until < row.wakes_at:
                self._lineup.sleep(row, until)
                self._due = min(self._due, until)

    def _let_go(self, ticket: Ticket, look: Look, *, in_order: bool = False, aged: bool = False) -> None:
        row, now = ticket.row, look.now
        ticket.doubt, ticket.blind = row.estimate.variance(ticket.input_tokens), row.estimate.blind
        ticket.suspect = None
        seconds = 0.0
        for gauge in row.gauges:
            units = need(gauge, ticket)
            if gauge.limit.unit != "in_flight":
                seconds = max(seconds, units / gauge.limit.per_second)
            ticket.held.append(gauge.take(units, now, ahead=ahead(gauge, ticket)))
            gauge.doubt += ticket.doubt
            if not gauge.begun:
                self._unbegun[gauge] = None
        if look.claimers:
            look.note_passed(ticket)
        ticket.admitted_at = ticket.sent_at = now
        self._lineup.went(ticket, seconds or 1.0, in_order=in_order)
        row.passed(ticket, now)
        row.turn = 0 if aged else row.turn + 1
        self._turn += 1
        self.in_flight += 1
        self.waiting -= 1
        self._peak = max(self._peak, self.in_flight)
        look.admitted.append(ticket)

    def sent(self, ticket: Ticket, now: float) -> None:
        """An admitted call is on its way: from now on, if not before, the provider counts."""
        ticket.sent_at = now
        self._begin(ticket, now)

    def _begin(self, ticket: Ticket, now: float) -> None:
        for hold in ticket.held:
            if not hold.gauge.begun:
                hold.gauge.restart(now)
                hold.gauge.begun = True
                self._unbegun.pop(hold.gauge, None)

    # --- ending

    def hear(self, ticket: Ticket, told: Sequence[Told], *, now: float) -> list[Adopted]:
        """What an answer to a call tells of limits, before the call is settled or pushed back.

        Returns the limits whose figures are the provider's from now on.
        """
        if ticket.state != "admitted":
            return []
        self._begin(ticket, now)
        adopted = hear(ticket, told, now=now)
        if adopted:
            self.gauges += [gauge for gauge in ticket.row.gauges if gauge not in self.gauges]
        self._freed(ticket.row, ticket.row.gauges)
        return adopted

    def settle(
        self, ticket: Ticket, now: float, *, input_tokens: int | None = None, output_tokens: int | None = None,
        outcome: Outcome = "success",
    ) -> None:  # fmt: skip
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
        freed = correct(ticket, now, input_tokens=input_tokens, output_tokens=output_tokens)
        self._leave(ticket, now, outcome)
        if blind and not row.estimate.blind:
            recount(row, now)
            freed = list(row.gauges)
        self._freed(row, freed)
        for gauge in row.gauges:
            if gauge.tokens and not self._stirred:
                self._doubt_less(gauge, row, now=now)

    def cancel(self, ticket: Ticket, now: float) -> None:
        """A call that will not be sent leaves nothing behind, waiting or already admitted."""
        if ticket.state == "waiting":
            self._lineup.leave(ticket)
            self.waiting -= 1
            self._wake(ticket.row)
        elif ticket.state == "admitted":
            give_back(ticket, now)
            self._leave(ticket, now, "ignored")
            self._freed(ticket.row, ticket.row.gauges)

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
        give_back(ticket, now)
        why = blame(ticket, wait, unit=unit, times=times)
        self._leave(ticket, now, "pushed_back" if why.too_many else "ignored")
        if why.learns:
            row.slow_down(ticket, now, wait=wait or 0.0)
        self._freed(row, row.gauges)
        if why.seconds is None:
            return Frozen()
        self._guard.grow(ticket, now)
        frozen = freeze(ticket, why.seconds, now=now, unit=why.unit, rows=self.rows.values())
        for model in frozen.models:
            self._wake(self.rows[model])
        return frozen

    def _leave(self, ticket: Ticket, now: float, outcome: Outcome) -> None:
        ticket.state = "gone"
        for gauge, *_ in ticket.held:
            gauge.doubt = max(0.0, gauge.doubt - ticket.doubt)
        ticket.held = []
        ticket.row.left(ticket, outcome, now=now)
        self.in_flight -= 1

    def statistics(self, now: float) -> LaneStatistics:
        """A truthful picture of the lane at `now`."""
        own = self._account[-1] if self._learns_in_flight and not self._account[-1].limit.ceiling else None
        return report(
            self.account, gauges=self.gauges, own=own, rows=self.rows, guard=self._guard, ledger=self._ledger,
            peak=self._peak, now=now,
        )  # fmt: skip
