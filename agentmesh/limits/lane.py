"""The lane of one account: the only place where a call waits for a limit.

`Admission` decides; this module waits. A call that fits goes at once. The others wait, and one timer, set for the
earliest possible admission, wakes the lane; ends of calls and thaws wake it too. Nothing polls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import anyio

from ..clock import Alarm, monotonic, wall
from ..rates import Limit, Told
from .admission import IN_FLIGHT, Admission, Frozen, OrderKey, Row, Ticket
from .aimd import Outcome
from .hearing import Adopted
from .memory import LaneMemory
from .outlook import outlook
from .queue import ALONE, Share
from .recall import recall_limits, recall_model, remember
from .statistics import LaneStatistics

__all__ = ["IN_FLIGHT", "LOOK_AHEAD", "Elsewhere", "Lane"]

LOOK_AHEAD = 256
"""Calls that may wait in a lane at a time: enough that a lane never runs dry while agents prepare their next call, few
enough that a suspended coroutine (8 kB) for each of them weighs nothing."""

_TICK_S = 0.001
"""The timer is not set for less: a wait so short that the clock cannot show it would be waited for again and again."""


class Elsewhere(Exception):
    """This call does not wait here any more: another lane has room for it."""


class Lane:
    """One account's lane. `serve` must run in a task group of whoever owns it, until it is cancelled.

    With `told_sent`, no time passes for the limits until the first call is `sent`. `memory` is what an earlier process
    knew, and the lane goes on from there. `watchers` are told after each decision.
    """

    def __init__(
        self, account: str, account_limits: Sequence[Limit] = (), *, simulated: bool = False, told_sent: bool = False,
        memory: LaneMemory | None = None,
    ) -> None:  # fmt: skip
        self.account = account
        self.simulated = simulated
        self._told_sent = told_sent
        self._recalled = memory or LaneMemory()
        self._admission = Admission(account, account_limits, monotonic(), told_sent=told_sent)
        recall_limits(self._recalled, self._admission.gauges, now=monotonic(), wall=wall())
        self._admitted: dict[Ticket, anyio.Event] = {}
        self._alarm = Alarm(self._pump)
        self.watchers: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"<Lane {self._admission!r}>"

    def row(
        self, model: str, limits: Sequence[Limit] = (), *, pool: str | None = None, pool_limits: Sequence[Limit] = ()
    ) -> Row:
        """The row of one of the account's models."""
        admission, now = self._admission, monotonic()
        if model in admission.rows:
            return admission.rows[model]
        known = len(admission.gauges)
        row = admission.row(model, limits, now, pool=pool, pool_limits=pool_limits)
        recall_limits(self._recalled, admission.gauges[known:], now=now, wall=wall())
        admission.gauges += recall_model(self._recalled, row, begun=not self._told_sent, now=now, wall=wall())
        return row

    def set_limit(self, limit: Limit, *, of: Row | None = None, pool: str | None = None) -> None:
        """From now on this limit holds for the account, for a row, or for the pool of a row.

        It is what the user allows: what the provider says beyond it changes nothing.
        """
        scope = self.account if of is None else of.model if pool is None else f"pool {pool}"
        self._admission.set_limit(replace(limit, ceiling=True), of=of, scope=scope, now=monotonic())
        self._pump()

    @property
    def rows(self) -> Sequence[Row]:
        """The rows that there are."""
        return tuple(self._admission.rows.values())

    @property
    def progress(self) -> tuple[int, int]:
        """Calls that have been admitted, and those in flight: as long as both stay the same, nothing has happened."""
        rows, in_flight = self._admission.rows.values(), self._admission.in_flight
        return sum(row.admitted for row in rows), in_flight

    def memory(self) -> LaneMemory:
        """What another process should know that goes on where this one ends."""
        admission = self._admission
        return remember(admission.gauges, admission.rows.values(), now=monotonic(), wall=wall())

    def room(self) -> int:
        """How many calls may be live: those in flight plus the look-ahead. The rest stay records of the graph."""
        return self._admission.in_flight + LOOK_AHEAD

    async def admit(
        self, row: Row, *, characters: int, kind: str = "", max_tokens: int | None = None, order: OrderKey,
        share: Share = ALONE, guest: object | None = None,
    ) -> Ticket:  # fmt: skip
        """Wait until a call of this size may go. Every ticket must be settled, pushed back or cancelled.

        Raises CallFailed(bad_request) at once for a call that a limit can never admit. A call with a `guest` may be
        sent on while it waits: then Elsewhere is raised, here or in `admit_again`.
        """
        ticket = self._admission.enqueue(
            row, characters=characters, kind=kind, max_tokens=max_tokens, order=order, now=monotonic(),
            share=share,
        )  # fmt: skip
        ticket.guest = guest
        await self._wait(ticket)
        return ticket

    async def admit_again(self, ticket: Ticket) -> None:
        """Wait once more with a ticket that was pushed back, in its old place."""
        self._admission.put_back(ticket, monotonic())
        await self._wait(ticket)

    async def _wait(self, ticket: Ticket) -> None:
        self._pump()
        if ticket.state == "waiting":
            admitted = self._admitted[ticket] = anyio.Event()
            try:
                await admitted.wait()
            except BaseException:  # cancelled: leave nothing behind
                self._admitted.pop(ticket, None)
                self.cancel(ticket)
                raise
        if ticket.state == "gone":
            raise Elsewhere

    def outlook(self, row: Row, *, characters: int, max_tokens: int | None = None, order: OrderKey) -> float:
        """Expected seconds until such a call would be admitted; 0 if now."""
        rows = self._admission.rows.values()
        return outlook(row, rows, characters=characters, max_tokens=max_tokens, order=order, now=monotonic())

    def first_guest(self, row: Row) -> Ticket | None:
        """The first in order of those that wait in a row and may be sent on; only the first few are looked at."""
        queues = [queue for queue in row.queues.values() if queue]
        first = (next((one for one in (q.head(), *q.next_ones()) if one.guest is not None), None) for q in queues)
        return min((ticket for ticket in first if ticket is not None), default=None)

    def send_on(self, ticket: Ticket) -> None:
        """Let a waiting call leave: where it waits, Elsewhere is raised."""
        event = self._admitted.pop(ticket, None)  # none while it is just arriving
        self.cancel(ticket)
        if event is not None:
            event.set()

    def turn_away(self, run: str) -> None:
        """Let all calls of a run that wait here leave: where they wait, Elsewhere is raised."""
        for ticket in tuple(self._admitted):
            if ticket.share.name.partition("/")[0] == run:
                self.send_on(ticket)

    def sent(self, ticket: Ticket) -> None:
        """The first bytes of an admitted call have left."""
        self._admission.sent(ticket, monotonic())

    def hear(self, ticket: Ticket, told: Sequence[Told]) -> list[Adopted]:
        """What the headers of an answer tell, before the call is settled or pushed back.

        Returns the limits whose figures are the provider's from now on.
        """
        return self._admission.hear(ticket, told, now=monotonic())

    def settle(
        self, ticket: Ticket, *, input_tokens: int | None = None, output_tokens: int | None = None,
        outcome: Outcome = "success",
    ) -> None:  # fmt: skip
        """The call has ended; what it really used, if known, corrects what it reserved."""
        self._admission.settle(
            ticket, monotonic(), input_tokens=input_tokens, output_tokens=output_tokens, outcome=outcome
        )
        self._pump()

    def push_back(self, ticket: Ticket, wait: float | None, *, unit: str | None = None, times: int = 1) -> Frozen:
        """The provider said: too fast, for the `times`-th time to this call. Returns what is frozen now.

        `wait` is for how many seconds it asked, if it did; `unit` is `requests`, `tokens` or `in_flight` where it said
        of what there was too much.
        """
        frozen = self._admission.push_back(ticket, wait, monotonic(), unit=unit, times=times)
        self._pump()
        return frozen

    def cancel(self, ticket: Ticket) -> None:
        """The call will not be sent, or nothing of it reached the provider."""
        self._admission.cancel(ticket, monotonic())
        self._pump()

    def statistics(self) -> LaneStatistics:
        """How the lane stands now."""
        return replace(self._admission.statistics(monotonic()), simulated=self.simulated)

    def _pump(self) -> None:
        """Let go whoever may, and have the timer ring when somebody else might."""
        now = monotonic()
        admitted, wait = self._admission.admit(now)
        for ticket in admitted:
            if (event := self._admitted.pop(ticket, None)) is not None:
                event.set()
        self._alarm.set(now + max(wait, _TICK_S))
        for watcher in self.watchers:  # may send a call on, and then the timer is set anew
            watcher()

    async def serve(self) -> None:
        """Admit by time, until cancelled."""
        self._pump()
        await self._alarm.serve()
