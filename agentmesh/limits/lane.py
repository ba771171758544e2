"""The lane of one account: the only place where a call waits for a limit.

`Admission` decides; this module waits. A call that fits goes at once. The others wait, and one timer, set for the
earliest possible admission, wakes the lane; ends of calls and thaws wake it too. Nothing polls.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import anyio

from ..clock import monotonic
from ..rates import Limit
from .admission import Admission, OrderKey, Row, Ticket
from .statistics import LaneStatistics

__all__ = ["IN_FLIGHT", "LOOK_AHEAD", "Lane"]

IN_FLIGHT = 500
"""Calls in flight at a time for an account whose file names no such limit: each is an open connection, and systems
commonly allow a process about a thousand of them."""

LOOK_AHEAD = 256
"""Calls that may wait in a lane at a time: enough that a lane never runs dry while agents prepare their next call, few
enough that a suspended coroutine (8 kB) for each of them weighs nothing."""

_TICK_S = 0.001
"""The timer is not set for less: a wait so short that the clock cannot show it would be waited for again and again."""


class Lane:
    """One account's lane. `serve` must run in a task group of whoever owns it, until it is cancelled.

    With `told_sent`, no time passes for the limits until the first call is `sent`.
    """

    def __init__(
        self, account: str, account_limits: Sequence[Limit] = (), *, simulated: bool = False, told_sent: bool = False
    ) -> None:
        self.account = account
        self.simulated = simulated
        if not any(limit.unit == "in_flight" for limit in account_limits):
            account_limits = [*account_limits, Limit("in_flight", IN_FLIGHT)]
        self._admission = Admission(account, account_limits, monotonic(), told_sent=told_sent)
        self._admitted: dict[Ticket, anyio.Event] = {}
        self._wake = anyio.Event()
        self._alarm = math.inf  # when the timer rings

    def __repr__(self) -> str:
        return f"<Lane {self._admission!r}>"

    def row(
        self, model: str, limits: Sequence[Limit] = (), *, pool: str | None = None, pool_limits: Sequence[Limit] = ()
    ) -> Row:
        """The row of one of the account's models."""
        return self._admission.row(model, limits, monotonic(), pool=pool, pool_limits=pool_limits)

    def room(self) -> int:
        """How many calls may be live: those in flight plus the look-ahead. The rest stay records of the graph."""
        return self._admission.in_flight + LOOK_AHEAD

    async def admit(
        self, row: Row, *, characters: int, kind: str = "", max_tokens: int | None = None, order: OrderKey
    ) -> Ticket:
        """Wait until a call of this size may go. Every ticket must be settled, pushed back or cancelled.

        Raises CallFailed(bad_request) at once for a call that a limit can never admit.
        """
        ticket = self._admission.enqueue(
            row, characters=characters, kind=kind, max_tokens=max_tokens, order=order, now=monotonic()
        )
        await self._wait(ticket)
        return ticket

    async def admit_again(self, ticket: Ticket) -> None:
        """Wait once more with a ticket that was pushed back, in its old place."""
        self._admission.put_back(ticket, monotonic())
        await self._wait(ticket)

    async def _wait(self, ticket: Ticket) -> None:
        self._pump()
        if ticket.state == "admitted":
            return
        admitted = self._admitted[ticket] = anyio.Event()
        try:
            await admitted.wait()
        except BaseException:  # cancelled: leave nothing behind
            self._admitted.pop(ticket, None)
            self.cancel(ticket)
            raise

    def sent(self, ticket: Ticket) -> None:
        """The first bytes of an admitted call have left."""
        self._admission.sent(ticket, monotonic())

    def settle(
        self, ticket: Ticket, *, input_tokens: int | None = None, output_tokens: int | None = None, ok: bool = True
    ) -> None:
        """The call has ended; what it really used, if known, corrects what it reserved."""
        self._admission.settle(ticket, monotonic(), input_tokens=input_tokens, output_tokens=output_tokens, ok=ok)
        self._pump()

    def push_back(self, ticket: Ticket, wait: float, *, unit: str | None = None) -> tuple[str, ...]:
        """The provider said: too fast. Returns the models that are frozen now, for `wait` seconds.

        `unit` is `requests` or `tokens` where it said of what there was too much.
        """
        frozen = self._admission.push_back(ticket, wait, monotonic(), unit=unit)
        self._pump()
        return frozen

    def cancel(self, ticket: Ticket) -> None:
        """The call will not be sent, or nothing of it reached the provider."""
        self._admission.cancel(ticket, monotonic())
        self._pump()

    def statistics(self) -> LaneStatistics:
        """How the lane stands now."""
        return replace(self._admission.statistics(monotonic()), simulated=self.simulated)

    def _pump(self) -> float:
        """Let go whoever may; returns seconds until somebody else might."""
        now = monotonic()
        admitted, wait = self._admission.admit(now)
        for ticket in admitted:
            if (event := self._admitted.pop(ticket, None)) is not None:
                event.set()
        if now + wait < self._alarm:
            self._wake.set()
        return wait

    async def serve(self) -> None:
        """Admit by time, until cancelled."""
        while True:
            self._wake = anyio.Event()
            self._alarm = -math.inf  # this very pump need not wake us
            wait = max(self._pump(), _TICK_S)
            self._alarm = monotonic() + wait
            with anyio.move_on_after(None if wait == math.inf else wait):
                await self._wake.wait()
