"""The calls of one row that wait: in their order on behalf of one share, and all by how long they have waited."""

from __future__ import annotations

import heapq
from bisect import insort
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .gauge import Gauge
    from .row import OrderKey, Row, Ticket

__all__ = ["ALONE", "Ages", "Queue", "Share"]

_FRONT = 32  # calls that may be looked at for one that fits where the first does not
_NOT_ASKED: tuple[Gauge | None, float] = (None, 0.0)
_LEAST_GONE = 64  # cancelled calls that may lie in a heap before it is swept


@dataclass(frozen=True, slots=True)
class Share:
    """Whose calls they are (a run, an agent of it), and its weight beside others that use the same lane."""

    name: str = ""
    weight: float = 1.0


ALONE = Share()
"""The share of those who do not say."""


class Ages:
    """The waiting tickets of a row as they came; those that have left are passed over."""

    __slots__ = ("_enough", "_tickets")

    def __init__(self) -> None:
        self._tickets: deque[Ticket] = deque()
        self._enough = _LEAST_GONE  # that may lie there before those that have left are swept out

    def __repr__(self) -> str:
        return f"<Ages of up to {len(self._tickets)} tickets>"

    def add(self, ticket: Ticket) -> None:
        """A ticket waits; one that was taken before is older than all that wait."""
        tickets = self._tickets
        if tickets and ticket.number < tickets[0].number:
            tickets.appendleft(ticket)
        else:
            tickets.append(ticket)
        if len(tickets) > self._enough:
            self._tickets = deque(one for one in tickets if one.state == "waiting")
            self._enough = 2 * len(self._tickets) + _LEAST_GONE

    def oldest(self) -> Ticket | None:
        """Who has waited longest."""
        tickets = self._tickets
        while tickets and tickets[0].state != "waiting":
            tickets.popleft()
        return tickets[0] if tickets else None


class Queue:
    """Waiting tickets. Adding, taking the first and cancelling cost the same, however many wait.

    A few of the first are kept in a sorted list, the others in a heap. A ticket that has left lies in the heap until
    it comes to the top, until half of the heap is such, or until it waits again, in the place where it still lies.
    """

    __slots__ = ("_front", "_gone", "_heap", "_size", "least", "row", "share")

    def __init__(self, row: Row, share: Share) -> None:
        self.row = row
        self.share = share
        self._front: list[Ticket] = []
        self._heap: list[Ticket] = []
        self._size = 0
        self.least = _NOT_ASKED  # what the next ones need of a limit, at the least, while they stay the same
        self._gone: set[Ticket] = set()  # of those in the heap

    def __repr__(self) -> str:
        return f"<Queue {self.row.model} {self.share.name}: {self._size} waiting>"

    def __len__(self) -> int:
        return self._size

    def add(self, ticket: Ticket) -> None:
        """Put a ticket in its place."""
        ticket.state = "waiting"
        self.row.ages.add(ticket)
        self._size += 1
        if ticket in self._gone:
            self._gone.remove(ticket)
            return
        front = self._front
        if front and ticket < front[-1]:
            insort(front, ticket)
            self.least = _NOT_ASKED
            if len(front) > _FRONT:
                heapq.heappush(self._heap, front.pop())
        else:
            heapq.heappush(self._heap, ticket)
            if len(front) < _FRONT // 2:
                self.least = _NOT_ASKED

    def remove(self, ticket: Ticket, *, state: str) -> None:
        """A waiting ticket leaves, whatever for."""
        ticket.state = state
        self._size -= 1
        if self._front and self._front[0] is ticket:
            del self._front[0]
            self.least = _NOT_ASKED
        elif ticket in self._front:
            self._front.remove(ticket)
            self.least = _NOT_ASKED
        else:
            self._gone.add(ticket)
            if len(self._gone) > max(_LEAST_GONE, len(self._heap) // 2):
                self._sweep()

    def place(self) -> tuple[OrderKey, int] | None:
        """Where the first stands among those of its share; None if nobody waits, or the row sleeps."""
        if self.row.asleep:
            return None
        if self._front:
            return self._front[0].place
        return self.head().place if self._size else None

    def head(self) -> Ticket:
        """The first in order. There must be one."""
        if not self._front:
            self._refill()
        return self._front[0]

    def next_ones(self) -> list[Ticket]:
        """A few that follow the first, in order."""
        if len(self._front) < _FRONT // 2:
            self._refill()
        return self._front[1:]

    def _refill(self) -> None:
        while self._heap and len(self._front) < _FRONT:
            ticket = heapq.heappop(self._heap)
            if ticket in self._gone:
                self._gone.remove(ticket)
            else:
                self._front.append(ticket)

    def _sweep(self) -> None:
        self._heap = [ticket for ticket in self._heap if ticket not in self._gone]
        heapq.heapify(self._heap)
        self._gone.clear()
