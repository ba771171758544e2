"""Whose turn it is among all calls of an account: the heads of its queues in their common order, and the oldest calls.

With thousands of queues nobody can look at each of them for every call that goes. So heads lie in heaps whose keys are
put right only when they come up, and a row that is held by itself (frozen, or by limits that no other row touches) is
asleep: it is not asked before the moment at which it may go, unless something of its own changes. Its queues drop out
of line as they come up, and stand in it again when it wakes.

Among calls of one priority the next is of the share that has used least, by weight (`shares.py`).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from .queue import Queue
from .row import Row, Ticket
from .shares import Shares

__all__ = ["EPSILON_S", "Heap", "Lineup"]

EPSILON_S = 1e-6  # far below what any timer keeps to, and far above how times are rounded

Item = TypeVar("Item")
Key = Any  # a number, or a tuple of numbers

_FEW = 64  # out-of-date entries, or shares without calls, that may lie about


class Heap(Generic[Item]):
    """Items in the order of their keys, which may grow unnoticed. An item without a key (None) drops out."""

    __slots__ = ("_entries", "_heap", "_key", "_number")

    def __init__(self, key: Callable[[Item], Key | None]) -> None:
        self._key = key
        self._heap: list[tuple[Key, int, Item]] = []
        self._entries: dict[Item, tuple[Key, int, Item]] = {}  # which entry of an item counts
        self._number = 0

    def __contains__(self, item: Item) -> bool:
        return item in self._entries

    def put(self, item: Item) -> bool:
        """An item is there, or its key is smaller than it was. Returns whether it may be the first now."""
        key = self._key(item)
        known = self._entries.get(item)
        if key is None or (known is not None and known[0] <= key):
            return False
        self._number += 1
        entry = self._entries[item] = key, self._number, item
        heapq.heappush(self._heap, entry)
        if len(self._heap) > 2 * len(self._entries) + _FEW:
            self._heap = list(self._entries.values())
            heapq.heapify(self._heap)
        return self._heap[0] is entry

    def drop(self, item: Item) -> None:
        """An item leaves, if it is there."""
        self._entries.pop(item, None)

    def first(self) -> Item | None:
        """The item with the smallest key; it stays."""
        heap = self._heap
        while heap:
            entry = heap[0]
            before, _, item = entry
            if self._entries.get(item) is not entry:
                heapq.heappop(heap)
                continue
            key = self._key(item)
            if key is None:
                heapq.heappop(heap)
                del self._entries[item]
            elif key == before:
                return item
            else:
                self._number += 1
                new = self._entries[item] = key, self._number, item
                heapq.heapreplace(heap, new)
        return None

    def pop(self) -> Item | None:
        """The item with the smallest key leaves."""
        if (item := self.first()) is not None:
            heapq.heappop(self._heap)
            del self._entries[item]
        return item


class _Standing:
    """The queues of one share."""

    __slots__ = ("_shares", "first", "queues")

    def __init__(self, shares: Shares) -> None:
        self._shares = shares
        self.first: Queue | None = None  # the queue whose place was asked for last
        self.queues: Heap[Queue] = Heap(Queue.place)

    def place(self) -> Key | None:
        """Where its first call stands among those of all shares."""
        self.first = queue = self.queues.first()
        if queue is None:
            return None
        ticket = queue.head()
        priority, path, age = ticket.order
        return priority, self._shares.used(ticket), path, age, ticket.number


def _oldest(row: Row) -> int | None:
    ticket = row.oldest()
    return None if ticket is None else ticket.number


class Lineup:
    """The queues of all rows of an account. Synchronous; `now` is monotonic seconds."""

    def __init__(self) -> None:
        self._standings: dict[str, _Standing] = {}
        self._order: Heap[_Standing] = Heap(_Standing.place)
        self._ages: Heap[Row] = Heap(_oldest)
        self._alarms: list[tuple[float, int, Row]] = []
        self._alarm_number = 0
        self.shares = Shares()
        self._most = _FEW  # shares, before those that have gone are forgotten
        self._newest = 0

    def __repr__(self) -> str:
        return f"<Lineup of {len(self._standings)} shares, {len(self._alarms)} rows asleep>"

    # --- queues and shares

    def join(self, ticket: Ticket) -> bool:
        """A call waits. Returns whether it is the first of its queue."""
        row = ticket.row
        queue = row.queue(ticket.share)
        self.shares.wait(ticket)
        queue.add(ticket)
        if row not in self._ages or ticket.number < self._newest:
            self.put_oldest(row)
        self._newest = max(self._newest, ticket.number)
        if queue.head() is not ticket:
            return False
        self.put(queue)
        return True

    def leave(self, ticket: Ticket) -> None:
        """A call that was cancelled waits no longer."""
        ticket.row.queues[ticket.share.name].remove(ticket, state="gone")
        self.shares.leave(ticket)

    def went(self, ticket: Ticket, seconds: float, *, in_order: bool) -> None:
        """A call goes, for which its limits need so many seconds; `in_order` as the next of its share."""
        ticket.row.queues[ticket.share.name].remove(ticket, state="admitted")
        self.shares.go(ticket, seconds, in_order=in_order)

    def put(self, queue: Queue) -> None:
        """A queue stands in line again, or its head has changed."""
        if not queue or queue.row.asleep:
            return
        name = queue.share.name
        if (standing := self._standings.get(name)) is None:
            if len(self._standings) >= self._most:  # runs come and go
                self._standings = {name: one for name, one in self._standings.items() if one in self._order}
                self._most = 2 * len(self._standings) + _FEW
            standing = self._standings[name] = _Standing(self.shares)
        if standing.queues.put(queue):
            self._order.put(standing)

    def first(self) -> Queue | None:
        """The queue whose head is next; it stays in line."""
        standing = self._order.first()
        return None if standing is None else standing.first

    def step_out(self, queue: Queue) -> None:
        """A queue leaves the line."""
        self._standings[queue.share.name].queues.drop(queue)

    # --- rows that sleep

    def sleep(self, row: Row, until: float) -> None:
        """Nobody of this row can go before then, or before something of its own changes."""
        row.asleep = True
        row.wakes_at = until
        if until < math.inf:
            self._alarm_number += 1
            heapq.heappush(self._alarms, (until, self._alarm_number, row))

    def wake(self, row: Row) -> None:
        """Something of this row has changed."""
        if not row.asleep:
            return
        row.asleep = False
        for queue in row.queues.values():
            self.put(queue)
        self._ages.put(row)

    def due(self, now: float) -> list[Row]:
        """The rows that have slept long enough."""
        rows = []
        while self._alarms and (self._alarms[0][0] <= now + EPSILON_S or not self._is_set(self._alarms[0])):
            alarm = heapq.heappop(self._alarms)
            if self._is_set(alarm):
                rows.append(alarm[2])
        return rows

    def next_alarm(self) -> float:
        """When the next row wakes; inf for never."""
        while self._alarms and not self._is_set(self._alarms[0]):
            heapq.heappop(self._alarms)
        return self._alarms[0][0] if self._alarms else math.inf

    @staticmethod
    def _is_set(alarm: tuple[float, int, Row]) -> bool:
        at, _, row = alarm
        return row.asleep and row.wakes_at == at

    # --- by age

    def pop_oldest(self) -> Row | None:
        """The row that is awake and whose oldest call is the oldest; it leaves the line of rows."""
        while (row := self._ages.pop()) is not None:
            if not row.asleep:
                return row
        return None

    def put_oldest(self, row: Row) -> None:
        """A row stands in the line of rows again."""
        if not row.asleep:
            self._ages.put(row)
