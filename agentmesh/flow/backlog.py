"""The ready tasks of one lane that wait on behalf of one share: records, and which of them goes next."""

from __future__ import annotations

import heapq
from collections import Counter, deque

from .graph import Node, OrderKey

__all__ = ["Backlog"]

_TURN = 16  # each so many-th to go is the oldest, as in the lane: so nothing is starved by what is more urgent
_FEW = 64  # records that may lie here before those that have left are looked for


class Backlog:
    """Ready tasks by (priority, longest remaining path, age), and by when they became ready.

    Whoever has left by one way lies in the other until it comes up there, or until half of what lies here is such.
    `live` is how many tasks are being performed.
    """

    __slots__ = ("_ages", "_enough", "_heap", "_priorities", "_turn", "live")

    def __init__(self) -> None:
        self.live = 0
        self._priorities: Counter[float] = Counter()  # of those that are live
        self._heap: list[tuple[OrderKey, Node]] = []
        self._ages: deque[Node] = deque()
        self._enough = _FEW
        self._turn = 0

    def __repr__(self) -> str:
        return f"<Backlog: {self.live} live, at most {len(self._ages)} ready>"

    def add(self, node: Node) -> None:
        """A task has become ready."""
        self._ages.append(node)
        self.move(node)

    def move(self, node: Node) -> None:
        """The place of a ready task in the order has changed."""
        heapq.heappush(self._heap, (node.order, node))
        if max(len(self._heap), len(self._ages)) > self._enough:
            self._sweep()

    def next(self, room: float, *, spare: float = 0.0) -> Node | None:
        """Take out who goes next, if there is room for one more; None if there is nobody.

        `spare` is room for those who are more urgent than what fills the rest.
        """
        while self._ages and self._ages[0].state != "ready":
            self._ages.popleft()
        while self._heap and not _stands(*self._heap[0]):
            heapq.heappop(self._heap)
        if not self._ages or not self._heap or self.live >= room + spare:
            return None
        if self.live >= room:
            return self._pop() if self._live_from(self._heap[0][1].priority) < room else None
        self._turn += 1
        if self._turn < _TURN:
            return self._pop()
        self._turn = 0
        return self._ages.popleft()

    def begin(self, node: Node) -> None:
        """A task is being performed, or goes on."""
        self.live += 1
        self._priorities[node.priority] += 1

    def leave(self, node: Node) -> None:
        """A task has ended, or awaits another one."""
        self.live -= 1
        self._priorities[node.priority] -= 1
        if not self._priorities[node.priority]:
            del self._priorities[node.priority]

    def _pop(self) -> Node:
        return heapq.heappop(self._heap)[1]

    def _live_from(self, priority: float) -> int:
        return sum(number for one, number in self._priorities.items() if one >= priority)

    def _sweep(self) -> None:
        self._heap = [(order, node) for order, node in self._heap if _stands(order, node)]
        heapq.heapify(self._heap)
        self._ages = deque(node for node in self._ages if node.state == "ready")
        self._enough = max(_FEW, 2 * len(self._ages))


def _stands(order: OrderKey, node: Node) -> bool:
    """Whether a record is that of a ready task, in the place that the task has by now."""
    return node.state == "ready" and order == node.order
