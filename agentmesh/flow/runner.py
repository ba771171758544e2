"""Performs what the state machine decides: starts ready tasks lane by lane, and tells who waits for them.

Ready tasks wait here as records, in a backlog for each lane and share, ordered by (priority, longest remaining path,
age). Each lane pulls: `room(lane)` says how many of its tasks may be live at a time (what it has in flight plus a
look-ahead), so a full lane never holds up another, and waiting tasks are small records, not coroutines. Each share has
this room for itself, so that the lane sees calls of all of them and can be fair.

A task that awaits another one from within takes no room meanwhile: else the tasks that fill a lane could all wait for
tasks that the lane has no room for. Where two would wait for each other, the second is told instead.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import chain
from typing import Any

import anyio
import anyio.abc

from ..errors import ErrorInfo, InvalidTransition, UserError
from ..outcome import Address, Outcome
from .backlog import Backlog
from .graph import Collection, Node, Require
from .state import Complete, Ended, FlowState, FlowStatistics, Instruction, Moved, Ready

__all__ = ["Runner"]

_performed: ContextVar[tuple[Runner, Node] | None] = ContextVar("performed", default=None)
"""The task within which this code runs."""


class Runner:
    """Runs one graph in `tasks`, a task group of the caller.

    `perform` does one task and returns its outcome, or None if the run stops before the task could end; it must not
    raise for a task's failure. `recall` is asked first, when a task is ready: one whose outcome is known already is not
    performed. `room` gives the live tasks that each share of a lane may have, `spare` how many more of those that are
    more urgent than what fills that room. `on_ended` hears of every end, once; those in `on_stopped` that it stops, and
    again when nothing is live any more.
    """

    def __init__(
        self, tasks: anyio.abc.TaskGroup, *, perform: Callable[[Node], Awaitable[Outcome | None]],
        room: Callable[[str], float], on_ended: Callable[[Node], None],
        spare: Callable[[str], float] = lambda lane: 0.0, recall: Callable[[Node], Outcome | None] = lambda node: None,
    ) -> None:  # fmt: skip
        self.state = FlowState()
        self.stopping = False
        self.paused = False
        self.puts_back = False
        self._tasks = tasks
        self._perform = perform
        self._room = room
        self._spare = spare
        self._recall = recall
        self._on_ended = on_ended
        self._backlogs: dict[str, dict[str, Backlog]] = {}  # by lane and share
        self.on_stopped: list[Callable[[], None]] = []
        self.unwanted: set[Node] = set()
        self._waiting_for: dict[Node, anyio.Event] = {}
        self._awaits: dict[Node, Counter[Node]] = {}
        self._instructions: deque[Instruction] = deque()
        self._following = False
        self._changed: anyio.Event | None = None  # made by the first who waits
        self._at_rest: anyio.Event | None = None  # the same

    def __repr__(self) -> str:
        return f"<Runner {self.state.statistics()}, live {self.live}>"

    def statistics(self) -> FlowStatistics:
        """How many tasks are in which state."""
        return self.state.statistics()

    @property
    def live(self) -> dict[str, int]:
        """How many tasks of each lane are being performed."""
        return {lane: sum(one.live for one in shares.values()) for lane, shares in self._backlogs.items()}

    # --- the graph grows

    def add(
        self, address: Address, payload: Any, *, lane: str = "", priority: float = 0.0, path: float = 0.0,
        share: str = "", needs: Sequence[Node] = (), requires: Sequence[tuple[Collection, Require]] = (),
        collection: Collection | None = None,
    ) -> Node:  # fmt: skip
        """Put a task in the graph; it starts as soon as its inputs and its lane allow. Never waits."""
        self._note_growth()
        node, instructions = self.state.add(
            address, payload, lane=lane, priority=priority, path=path, share=share,
            needs=needs, requires=requires, collection=collection,
        )  # fmt: skip
        self._follow(instructions)
        return node

    def add_ended(self, address: Address, outcome: Outcome, *, collection: Collection | None = None) -> Node:
        """Put a task in the graph whose outcome is known already."""
        self._note_growth()
        node, instructions = self.state.add_ended(address, outcome, collection=collection)
        self._follow(instructions)
        return node

    def _note_growth(self) -> None:
        if (task := self._task_here()) is not None:
            task.grew = True

    def close(self, collection: Collection) -> None:
        """The last item of a collection is in the graph."""
        self._follow(self.state.close(collection))

    # --- lanes pull

    def pull(self, lane: str) -> None:
        """Start as many ready tasks of this lane as it has room for, in their order."""
        if self.stopping or self.paused or lane not in self._backlogs:
            return
        room, spare = self._room(lane), self._spare(lane)
        for backlog in self._backlogs[lane].values():
            while (node := backlog.next(room, spare=spare)) is not None:
                self.state.start(node)
                backlog.begin(node)
                self._tasks.start_soon(self._live, node)

    def pause(self) -> None:
        """Start nothing for the time being; what is live goes on."""
        self.paused = True

    def unpause(self) -> None:
        """Start again what is ready."""
        self.paused = False
        for lane in tuple(self._backlogs):
            self.pull(lane)

    def _backlog(self, node: Node) -> Backlog:
        shares = self._backlogs.setdefault(node.lane, {})
        if (backlog := shares.get(node.share)) is None:
            backlog = shares[node.share] = Backlog()
        return backlog

    async def _live(self, node: Node) -> None:
        outcome: Outcome | None = None
        _performed.set((self, node))
        try:
            outcome = await self._perform(node)
        except anyio.get_cancelled_exc_class():
            if self.puts_back:
                self.state.put_back(node)
            else:
                self.state.cancel(node)
                self._tell(node)
            raise
        finally:
            self._backlog(node).leave(node)
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
                    case Ready(node) if (outcome := self._recall(node)) is not None:
                        node.recalled = True
                        self.state.start(node)
                        self._instructions.extend(self.state.end(node, outcome))
                    case Ready(node):
                        self._backlog(node).add(node)
                        lanes.add(node.lane)
                    case Moved(node):
                        self._backlog(node).move(node)
        finally:
            self._following = False
        for lane in lanes:
            self.pull(lane)
        self._note_change()

    def _tell(self, node: Node) -> None:
        self.unwanted.discard(node)
        self._on_ended(node)
        node.payload = None  # what it was asked with may be long, and is of no more use
        if (event := self._waiting_for.pop(node, None)) is not None:
            event.set()
        for collection in node.collections:
            for item in collection.on_item:
                item(node)
        node.let_go_unread()

    def withdraw(self, node: Node, reason: str) -> None:
        """End a task as cancelled if it has not begun; one that has is only noted in `unwanted`."""
        if node.state in ("waiting", "ready"):
            address = node.address
            error = ErrorInfo("cancelled", reason)
            outcome = Outcome(address.task, address.key, address.sample, state="cancelled", error=error)
            self._follow(self.state.end(node, outcome))
        elif node.state == "running":
            self.unwanted.add(node)

    # --- waiting for it

    async def wait_ended(self, node: Node) -> Outcome | None:
        """Wait for a task's end. None if the run stopped before it.

        Raises UserError, within a task, for a task that waits for this one in turn.
        """
        with self._aside(node):
            while not node.ended and not (self.stopping and self.idle and node.state != "running"):
                if node not in self._waiting_for:
                    self._waiting_for[node] = anyio.Event()
                await self._waiting_for[node].wait()
        return node.outcome

    @contextmanager
    def _aside(self, node: Node) -> Iterator[None]:
        """While a task awaits another one it is not live: its lane has room for one more."""
        task = self._task_here()
        if task is None or node.ended:
            yield
            return
        if self._waits_for(node, task):
            message = f"{task.address} waits for {node.address}, which waits for {task.address}: neither could ever end"
            raise UserError(message)
        awaited = self._awaits.setdefault(task, Counter())
        awaited[node] += 1
        if awaited.total() == 1:
            self._backlog(task).leave(task)
            self.pull(task.lane)
            self._note_change()
        try:
            yield
        finally:
            awaited[node] -= 1
            if not awaited.total():
                self._backlog(task).begin(task)
                del self._awaits[task]

    def _task_here(self) -> Node | None:
        """The task within which this code runs, while it is being performed."""
        runner, task = _performed.get() or (None, None)
        return task if runner is self and task is not None and task.state == "running" else None

    def _waits_for(self, node: Node, other: Node) -> bool:
        """Whether a task cannot end before another one has, by its dependencies or by what it awaits."""
        pending, seen = [node], {node}
        while pending:
            current = pending.pop()
            if current is other:
                return True
            groups = (group.members for group, _ in current.requires)
            for need in chain(current.needs, *groups, self._awaits.get(current, ())):
                if not need.ended and need not in seen:
                    seen.add(need)
                    pending.append(need)
        return False

    @property
    def idle(self) -> bool:
        """Whether no task is live."""
        return not any(one.live for shares in self._backlogs.values() for one in shares.values())

    @property
    def over(self) -> bool:
        """Whether nothing will end any more: the run stops, and nothing is being performed."""
        return self.stopping and not self.statistics().running

    async def wait_finished(self) -> None:
        """Wait until every task has ended, or, once the run is stopping, until nothing is being performed.

        Raises InvalidTransition with their stories if tasks are left that nothing can ever start.
        """
        while (now := self.statistics()).running or (now.unfinished and not self.stopping):
            if not now.running and not now.ready:
                raise InvalidTransition("tasks wait for what will never come", self._stories())
            if self._at_rest is None:
                self._at_rest = anyio.Event()
            await self._at_rest.wait()

    async def wait_changed(self) -> None:
        """Wait until something ended or became ready."""
        if self._changed is None:
            self._changed = anyio.Event()
        await self._changed.wait()

    def stop(self) -> None:
        """Start nothing new; what is live goes on to its end."""
        self.stopping = True
        self._tell_stopped()
        self._note_change()

    def _tell_stopped(self) -> None:
        for stopped in tuple(self.on_stopped):
            stopped()

    def _note_change(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None
        if self._at_rest is not None and self.idle:  # who waits for the end need not hear of every task
            self._at_rest.set()
            self._at_rest = None
        if self.stopping and self.idle:  # what waits for a task that was never started waits in vain
            for event in self._waiting_for.values():
                event.set()
            self._waiting_for.clear()
            self._tell_stopped()

    def _stories(self) -> list[str]:
        waiting = [node for node in self.state.nodes.values() if node.state == "waiting"]
        return [line for node in waiting[:5] for line in self.state.story(node)]
