"""One look of an account's lane at its waiting calls: who may go, who claims which limits, who need not be asked."""

from __future__ import annotations

import math
from collections.abc import Mapping

from .gauge import Gauge
from .guard import Guard, need
from .lineup import Lineup
from .queue import Queue
from .row import Row, Ticket

__all__ = ["OF_ALL", "OF_SOME", "Look"]

OF_ALL, OF_SOME, _OF_ONE = 0, 1, 2
"""Whose a limit is: the account's, a pool's, a row's."""

_PASSED_S = 0.5  # seconds of refill for which later calls may go before one that does not fit
_TRIES = 8  # queues whose heads are asked whether they fit beside one that waits for what all need


class Look:
    """What one decision has found out so far.

    A call that does not fit claims the limits that hold it back, but none of more rows than the one it waits for
    longest: others may use those until then. `waits` has of each row that was asked in vain for how many seconds it may
    sleep if nothing of its own changes: 0 where it waits for what others use too.
    """

    __slots__ = (
        "_guard", "_lineup", "_ranks", "_rooms", "_tries", "admitted", "aged", "asked", "bar", "claimers", "closed",
        "now", "oldest_asked", "open", "passed", "slept", "soonest", "waits",
    )  # fmt: skip

    def __init__(self, now: float, *, lineup: Lineup, guard: Guard, ranks: Mapping[Gauge, int]) -> None:
        self.now = now
        self._lineup = lineup
        self._guard = guard
        self._ranks = ranks
        self._rooms: dict[Gauge, float] = {}  # units of claimed limits that others may take
        self._tries = 0
        self.admitted: list[Ticket] = []
        self.soonest = math.inf
        self.claimers: dict[Gauge, Ticket] = {}
        self.asked: list[Queue] = []  # in vain
        self.aged: list[Row] = []  # for their oldest
        self.waits: dict[Row, float] = {}
        self.slept: list[Row] = []
        self.oldest_asked = False
        self.closed = False  # nobody can go any more
        self.bar: Gauge | None = None  # because of this limit, of which the smallest call needs as much as the largest
        self.open = False  # whether a small call that comes may go before one that waits
        self.passed = False  # whether one has gone before one that waits: so that one waits longer than it said

    def ask(self, ticket: Ticket) -> bool:
        """Whether a call may go now. If not, it claims what holds it back."""
        now, row, claimers = self.now, ticket.row, self.claimers
        wait = row.wait(now)
        if wait <= 0.0 and row.gate.open(now):
            wait = row.wait(now)
        if wait > 0.0:
            self._may_sleep(row, wait)
            self.sleep(row, wait, hard=True)
            return False
        ticket.estimate()
        if claimers:
            for gauge in row.gauges:
                if gauge in claimers and not self._may_pass(ticket, gauge):
                    self._meet_claim(row, gauge)
                    return False
        guarded = self._guard.wait
        waits: dict[Gauge, float] | None = None
        for gauge in row.gauges:
            if (wait := guarded(gauge, ticket, now=now)) > 0.0:
                waits = {} if waits is None else waits
                waits[gauge] = wait
        if waits is None:
            return True
        self._claim(waits, ticket)
        return False

    def _rank(self, gauge: Gauge) -> int:
        return self._ranks.get(gauge, _OF_ONE)

    def _may_sleep(self, row: Row, seconds: float) -> None:
        self.waits[row] = min(self.waits.get(row, math.inf), seconds)

    def _claim(self, waits: Mapping[Gauge, float], ticket: Ticket) -> None:
        """A call waits for these limits. Where nobody may pass it, others need not be asked."""
        last = max(reversed(list(waits)), key=waits.__getitem__)  # of equals the one of fewest rows
        rank = self._rank(last)
        gauges = [gauge for gauge in waits if self._rank(gauge) >= rank]
        for gauge in gauges:
            if gauge not in self.claimers:
                self.claimers[gauge] = ticket
                self._rooms[gauge] = _room(gauge, ticket, waits[gauge], now=self.now)
        firm = [gauge for gauge in gauges if _firm(gauge, ticket)]
        bar = last if "tokens" not in last.limit.unit else None
        self.soonest = min(self.soonest, waits[last])
        self._may_sleep(ticket.row, waits[last] if rank == _OF_ONE else 0.0)
        if not firm:
            self.open = True
            self._note_try(rank)
        elif rank == _OF_ONE:
            if (wait := self.waits[ticket.row]) > 0.0:  # one that was asked before may go sooner
                self.sleep(ticket.row, wait, hard=bar is not None, bar=bar)
        elif any(self._rank(gauge) == OF_ALL for gauge in firm):
            self.closed, self.bar = True, bar

    def _meet_claim(self, row: Row, gauge: Gauge) -> None:
        """A call needs what another one has claimed, who says when."""
        rank = self._rank(gauge)
        self._may_sleep(row, math.inf if rank == _OF_ONE else 0.0)
        self._note_try(rank)

    def _note_try(self, rank: int) -> None:
        self._tries += rank == OF_ALL
        self.closed = self.closed or self._tries >= _TRIES

    def sleep(self, row: Row, wait: float, *, hard: bool, bar: Gauge | None = None) -> None:
        """Nobody of this row can go before that; if `hard`, nobody who comes either. `bar` is the limit, if one is."""
        row.hard, row.bar = hard, bar
        row.claimed = {}
        for gauge in row.gauges:
            if gauge in self.claimers and self._rank(gauge) == _OF_ONE:
                gauge.note_bound(True, self.now)
                row.claimed[gauge] = self.claimers.pop(gauge)
        self.slept.append(row)
        self._lineup.sleep(row, self.now + wait)

    def beside(self, queue: Queue, head: Ticket) -> Ticket | None:
        """Best fit: the first of a queue does not fit; this is the first of the next ones that does."""
        held_back = [gauge for gauge in head.row.gauges if self.claimers.get(gauge) is head]
        if not held_back or any(_firm(gauge, head) for gauge in held_back):
            return None
        rooms = self._rooms
        narrow = min(held_back, key=rooms.__getitem__)
        of, least = queue.least
        if (room := rooms[narrow]) <= 0.0 or (of is narrow and room < least):
            return None
        least = math.inf
        for ticket in queue.next_ones():
            if (units := need(narrow, ticket)) <= room and ticket is not head and self._fits(ticket):
                return ticket
            least = units if units < least else least
        queue.least = narrow, least
        return None

    def _fits(self, ticket: Ticket) -> bool:
        return all(
            (gauge not in self.claimers or self._may_pass(ticket, gauge))
            and self._guard.wait(gauge, ticket, now=self.now) <= 0.0
            for gauge in ticket.row.gauges
        )

    def note_passed(self, ticket: Ticket) -> None:
        """A call goes: whoever has claimed what it takes was passed, by as much as the slowest of these limits says."""
        passed: dict[Ticket, float] = {}
        for gauge, units, *_ in ticket.held:
            if (claimer := self.claimers.get(gauge)) is not None:
                self._rooms[gauge] -= units
                passed[claimer] = max(passed.get(claimer, 0.0), units / gauge.limit.per_second)
        for claimer, seconds in passed.items():
            claimer.passed_s += seconds
            self.passed = True

    def _may_pass(self, ticket: Ticket, gauge: Gauge) -> bool:
        """Whether a call may take of a limit that another one waits for: that one is passed for a short time only."""
        if "tokens" not in gauge.limit.unit:
            return False
        units = need(gauge, ticket)
        passed_s = self.claimers[gauge].passed_s + units / gauge.limit.per_second
        return units <= self._rooms[gauge] and passed_s <= _PASSED_S


def _firm(gauge: Gauge, ticket: Ticket) -> bool:
    """Whether nobody may pass a call that waits for this limit."""
    return "tokens" not in gauge.limit.unit or ticket.passed_s >= _PASSED_S


def _room(gauge: Gauge, ticket: Ticket, wait: float, *, now: float) -> float:
    """The most units that a smaller call can need and fit, where this one has to wait for so long."""
    if gauge.limit.shape != "bucket":
        return gauge.meter.level(now)
    return need(gauge, ticket) - wait * gauge.limit.per_second
