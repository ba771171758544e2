"""Performs what the state machine decides: starts ready tasks lane by lane, and tells who waits for them.

Ready tasks wait here as records, one heap per lane, ordered by (priority, longest remaining path, age). Each lane
pulls: `room(lane)` says how many of its tasks may be live at a time (what it has in flight plus a look-ahead), so a
full lane never holds up another, and waiting tasks are small records, not coroutines.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import anyio
import anyio.abc

from ..errors import InvalidTransition
from ..outcome import Address, Outcome
from .graph import Collection, Node, OrderKey, Require
from .state import Complete, Ended, FlowState, FlowStatistics, Instruction, Ready

__all__ = ["Runner"]


class Runner:
    """Runs one graph in `tasks`, a task group of the caller.

    `perform` does one task and returns its outcome, or None if the run stops before the task could end; it must not
    raise for a task's failure. `room` gives the live tasks a lane may have. `on_ended` hears of every end, once.
    """

    def __init__(
        self, tasks: anyio.abc.TaskGroup, *, perform: Callable[[Node], Awaitable[Outcome | None]],
        room: Callable[[str], float], on_ended: Callable[[Node], None],
    ) -> None:  # fmt: skip
        self.state = FlowState()
        self.live: dict[str, int] = {}
        self.stopping = False
        self._tasks = tasks
        self._perform = perform
        self._room = room
        self._on_ended = on_ended
        self._ready: dict[str, list[tuple[OrderKey, Node]]] = {}
        self._waiting_for: dict[Node, anyio.Event] = {}
        self._instructions: deque[Instruction] = deque()
        self._following = False
        self._changed = anyio.Event()

    def __repr__(self) -> str:
        return f"<Runner {self.state.statistics()}, live {self.live}>"

    def statistics(self) -> FlowStatistics:
        """How many tasks are in which state."""
        return self.state.statistics()

    # --- the graph grows

    def add(
        self, address: Address, payload: Any, *, lane: str = "", priority: float = 0.0, path: float = 0.0,
        needs: Sequence[Node] = (), requires: Sequence[tuple[Collection, Require]] = (),
        collection: Collection | None = None,
    ) -> Node:  # fmt: skip
        """Put a task in the graph; it starts as soon as its inputs and its lane allow. Never waits."""
        node, instructions = self.state.add(
            address, payload, lane=lane, priority=priority, path=path,
            needs=needs, requires=requires, collection=collection,
        )  # fmt: skip
        self._follow(instructions)
        return node

    def close(self, collection: Collection) -> None:
        """The last item of a collection is in the graph."""
        self._follow(self.state.close(collection))

    # --- lanes pull

    def pull(self, lane: str) -> None:
        """Start as many ready tasks of this lane as it has room for, in their order."""
        heap = self._ready.get(lane)
        if not heap or self.stopping:
            return
        live = self.live.get(lane, 0)
        room = self._room(lane)
        while heap and live < room:
            order, node = heapq.heappop(heap)
            if node.state != "ready" or order != node.order:
                continue  # it was skipped meanwhile, or stands in the heap once more with its newer order
            self.state.start(node)
            live = self.live[lane] = live + 1
            self._tasks.start_soon(self._live, node)

    async def _live(self, node: Node) -> None:
        outcome: Outcome | None = None
        try:
            outcome = await self._perform(node)
        except anyio.get_cancelled_exc_class():
            self.state.cancel(node)
            self._tell(node)
            raise
        finally:
            self.live[node.lane] -= 1
        if outcome is None:
            self.state.put_back(node)
            self.stop()
            return
        self._follow(self.state.end(node, outcome))
        self.pull(node.lane)

    def _follow(self, instructions: Iterable[Instruction]) -> None:
        """Carry out instructions; what they lead to is appended, not nested, so long chains need no deep stack."""
        self._instructions.extend(instructions)
        if self._following:
            return
        self._following = True
        lanes: set[str] = set()
        try:
            while self._instructions:
                match self._instructions.popleft():
                    case Ended(node):
                        self._tell(node)
                    case Complete(collection):
                        for complete in collection.on_complete:
                            complete()
                    case Ready(node):
                        heapq.heappush(self._ready.setdefault(node.lane, []), (node.order, node))
                        lanes.add(node.lane)
        finally:
            self._following = False
        for lane in lanes:
            self.pull(lane)
        self._note_change()

    def _tell(self, node: Node) -> None:
        self._on_ended(node)
        if (event := self._waiting_for.pop(node, None)) is not None:
            event.set()
        for collection in node.collections:
            for item in collection.on_item:
                item(node)

    # --- waiting for it

    async def wait_ended(self, node: Node) -> Outcome | None:
        """Wait for a task's end. None if the run stopped before it."""
        while not node.ended and not (self.stopping and self.idle):
            if node not in self._waiting_for:
                self._waiting_for[node] = anyio.Event()
            await self._waiting_for[node].wait()
        return node.outcome

    @property
    def idle(self) -> bool:
        """Whether no task is live."""
        return not any(self.live.values())

    async def wait_finished(self) -> None:
        """Wait until every task has ended, or, once the run is stopping, until nothing is live.

        Raises InvalidTransition with their stories if tasks are left that nothing can ever start.
        """
        while not self.idle or (self.statistics().unfinished and not self.stopping):
            if self.idle and not self.statistics().ready:
                raise InvalidTransition("tasks wait for what will never come", self._stories())
            await self.wait_changed()

    async def wait_changed(self) -> None:
        """Wait until something ended or became ready."""
        await self._changed.wait()

    def stop(self) -> None:
        """Start nothing new; what is live goes on to its end."""
        self.stopping = True
        self._note_change()

    def _note_change(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
        if self.stopping and self.idle:  # what waits for a task that was never started waits in vain
            for event in self._waiting_for.values():
                event.set()
            self._waiting_for.clear()

    def _stories(self) -> list[str]:
        waiting = [node for node in self.state.nodes.values() if node.state == "waiting"]
        return [line for node in waiting[:5] for line in self.state.story(node)]
