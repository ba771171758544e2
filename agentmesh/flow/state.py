"""The state machine of a graph: told what happened, it answers what to do. It does no I/O and reads no clock.

A task waits for its dependencies, is ready, runs, and ends in one of four ways. The moment its own inputs are there it
is ready: there are no rounds. A dependency that did not succeed, or a collection of which too little did, ends it as
skipped, and so on downwards; nothing else is touched.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ErrorInfo, InvalidTransition
from ..outcome import Address, Outcome
from .graph import Collection, Node, Require

__all__ = ["Complete", "Ended", "FlowState", "FlowStatistics", "Instruction", "Moved", "Ready"]


@dataclass(frozen=True, slots=True)
class Ready:
    """This task may be performed."""

    node: Node


@dataclass(frozen=True, slots=True)
class Moved:
    """The place of this ready task in the order has changed."""

    node: Node


@dataclass(frozen=True, slots=True)
class Ended:
    """This task has an end state: tell whoever waits for it."""

    node: Node


@dataclass(frozen=True, slots=True)
class Complete:
    """This collection is closed and all of its items have ended."""

    collection: Collection


Instruction = Ready | Moved | Ended | Complete

TRANSITIONS: dict[str, frozenset[str]] = {
    "waiting": frozenset({"ready", "skipped", "cancelled", "done", "failed"}),  # the last two where its end was found
    "ready": frozenset({"running", "skipped", "cancelled"}),
    "running": frozenset({"done", "failed", "skipped", "cancelled", "ready"}),  # ready again: a stop put it back
    "done": frozenset(),
    "failed": frozenset(),
    "skipped": frozenset(),
    "cancelled": frozenset(),
}

_LONGEST = 100.0  # paths longer than this are ordered alike, so that a chain of n tasks is not walked n times in whole

_INITIALS = {"w": "waiting", "y": "ready", "r": "running", "d": "done", "f": "failed", "s": "skipped", "c": "cancelled"}
_LETTERS = {state: letter for letter, state in _INITIALS.items()}


@dataclass(frozen=True, slots=True)
class FlowStatistics:
    """How many tasks are in which state."""

    waiting: int
    ready: int
    running: int
    done: int
    failed: int
    skipped: int
    cancelled: int

    @property
    def unfinished(self) -> int:
        return self.waiting + self.ready + self.running


class FlowState:
    """All tasks and collections of one run."""

    def __init__(self) -> None:
        self.nodes: dict[Address, Node] = {}
        self.collections: dict[str, Collection] = {}
        self._count = dict.fromkeys(TRANSITIONS, 0)
        self._cut: set[Node] = set()  # cut short by the end of the run: nobody was told that they ended

    def __repr__(self) -> str:
        return f"<FlowState {self.statistics()}>"

    def statistics(self) -> FlowStatistics:
        """How many tasks are in which state."""
        return FlowStatistics(**self._count)

    # --- events

    def add(
        self, address: Address, payload: Any, *, lane: str = "", priority: float = 0.0, path: float = 0.0,
        share: str = "", needs: Sequence[Node] = (), requires: Sequence[tuple[Collection, Require]] = (),
        collection: Collection | None = None,
    ) -> tuple[Node, list[Instruction]]:  # fmt: skip
        """A new task. Raises InvalidTransition for an address that is taken or a collection that is closed."""
        node = Node(len(self.nodes), address, payload, lane=lane, share=share, priority=priority, path=path)
        node.needs = tuple(needs)
        node.requires = tuple(requires)
        self._enter(node, collection)
        for need in node.needs:
            if not need.ended:
                node.missing += 1
                if need.dependents is None:
                    need.dependents = []
                need.dependents.append(node)
        for group, _ in node.requires:
            if not group.complete:
                node.missing += 1
                group.dependents.append(node)
        if not (needs or requires):  # as most are, where there are many
            self._move(node, "ready")
            return node, [Ready(node)]
        instructions: list[Instruction] = []
        self._lengthen(node, instructions)
        self._consequences(deque([(node, self._blocked_by(node))]), instructions)
        return node, instructions

    def add_ended(
        self, address: Address, outcome: Outcome, *, collection: Collection | None = None
    ) -> tuple[Node, list[Instruction]]:
        """A new task whose outcome is known already. Raises as `add`."""
        node = Node(len(self.nodes), address, None, lane="", share="", priority=0.0, path=0.0)
        node.recalled = True
        self._enter(node, collection)
        return node, self.end(node, outcome)

    def _enter(self, node: Node, collection: Collection | None) -> None:
        if node.address in self.nodes:
            raise InvalidTransition(f"{node.address} is in the graph already", self.story(self.nodes[node.address]))
        if collection is not None and not collection.open:
            raise InvalidTransition(f"{node.address} cannot join {collection.name}: it is closed")
        self.nodes[node.address] = node
        self._count["waiting"] += 1
        if collection is not None:
            node.collections = (collection,)
            node.path = max(node.path, collection.path)
            collection.members.append(node)

    def open_collection(self, name: str) -> Collection:
        """A collection that items can join until it is closed."""
        if name in self.collections:
            raise InvalidTransition(f"the collection {name} exists already")
        collection = self.collections[name] = Collection(name)
        return collection

    def close(self, collection: Collection) -> list[Instruction]:
        """No more items will join. Closing it again changes nothing."""
        instructions: list[Instruction] = []
        if not collection.open:
            return instructions
        collection.open = False
        if collection.complete:
            touched: _Touched = deque()
            self._count_off_collection(collection, touched, instructions)
            self._consequences(touched, instructions)
        return instructions

    def group(self, name: str, nodes: Sequence[Node]) -> Collection:
        """A closed collection of tasks that are in the graph already, for a reader of several handles."""
        group = Collection(name)
        group.open = False
        for node in nodes:
            group.members.append(node)
            if node.ended:
                group.ended += 1
                group.found += node.recalled
                group.succeeded += _succeeded(node)
            else:
                node.collections += (group,)
        return group

    def start(self, node: Node) -> None:
        """A ready task is being performed now."""
        self._move(node, "running")

    def put_back(self, node: Node) -> None:
        """A running task did not get to its end because the run stops: it has no end state."""
        self._move(node, "ready")

    def end(self, node: Node, outcome: Outcome) -> list[Instruction]:
        """A task has ended, with this outcome."""
        self._move(node, outcome.state)
        node.outcome = outcome
        instructions: list[Instruction] = [Ended(node)]
        if node.dependents or node.collections:
            touched: _Touched = deque()
            self._count_off(node, touched, instructions)
            self._consequences(touched, instructions)
        return instructions

    def cancel(self, node: Node) -> None:
        """A running task was cut short by the end of the run. What depends on it keeps waiting: it is unfinished."""
        self._move(node, "cancelled")
        self._cut.add(node)
        address = node.address
        node.outcome = Outcome(
            address.task, address.key, address.sample, state="cancelled",
            error=ErrorInfo("cancelled", "the run was cancelled while this task was running"),
        )  # fmt: skip

    # --- consequences

    def _consequences(self, touched: _Touched, instructions: list[Instruction]) -> None:
        """Make ready or skip whatever has just got its last input, and so on downwards, without recursion in depth.

        What has a reason to be skipped stands first in `touched`: a task that two inputs reach at once is made ready
        only when neither of them is such a reason.
        """
        while touched:
            node, reason = touched.popleft()
            if node.state != "waiting":
                continue
            if reason is not None:
                self._move(node, "skipped")
                node.outcome = Outcome(
                    node.address.task, node.address.key, node.address.sample, state="skipped",
                    error=ErrorInfo("dependency", reason),
                )  # fmt: skip
                instructions.append(Ended(node))
                self._count_off(node, touched, instructions)
            elif node.missing == 0:
                self._move(node, "ready")
                instructions.append(Ready(node))

    def _count_off(self, node: Node, touched: _Touched, instructions: list[Instruction]) -> None:
        reason = None if _succeeded(node) else f"{node.address} was {node.state}"
        for dependent in node.dependents or ():
            dependent.missing -= 1
            _touch(touched, dependent, reason)
        node.dependents = None
        for group in node.collections:
            group.ended += 1
            group.found += node.recalled
            group.succeeded += _succeeded(node)
            if group.complete:
                self._count_off_collection(group, touched, instructions)

    def _count_off_collection(self, group: Collection, touched: _Touched, instructions: list[Instruction]) -> None:
        instructions.append(Complete(group))
        for dependent in group.dependents:
            dependent.missing -= 1
            _touch(touched, dependent, _too_little(dependent, group))
        group.dependents = []

    def _blocked_by(self, node: Node) -> str | None:
        for need in node.needs:
            if need.ended and not _succeeded(need):
                return f"{need.address} was {need.state}"
        reasons = (_too_little(node, group) for group, _ in node.requires if group.complete)
        return next((reason for reason in reasons if reason is not None), None)

    def _lengthen(self, node: Node, instructions: list[Instruction]) -> None:
        """What others wait for has a longer path before it than they have."""
        pending = [node]
        while pending:
            current = pending.pop()
            path = min(current.path + 1.0, _LONGEST)
            before: list[Node] = list(current.needs)
            for group, _ in current.requires:
                if group.path < path:
                    group.path = path
                    before += group.members
            for need in before:
                if not need.ended and need.path < path:
                    need.path = path
                    pending.append(need)
                    if need.state == "ready":
                        instructions.append(Moved(need))

    def _move(self, node: Node, state: str) -> None:
        if state not in TRANSITIONS[node.state]:
            raise InvalidTransition(f"{node.address} cannot go from {node.state} to {state}", self.story(node))
        self._count[node.state] -= 1
        self._count[state] += 1
        node.state = state
        node.history += _LETTERS[state]

    # --- telling

    def story(self, node: Node) -> list[str]:
        """What happened to a task so far, and what it waits for."""
        lines = [f"{node.address} was " + ", then ".join(_INITIALS[letter] for letter in node.history)]
        lines += [f"it needs {need.address}, which is {need.state}" for need in node.needs]
        lines += [f"it reads {group!r}, {require} required" for group, require in node.requires]
        return lines

    def validate(self) -> None:
        """Check what must always hold. Raises InvalidTransition with the story of the task that breaks it."""
        counted = dict.fromkeys(TRANSITIONS, 0)
        for node in self.nodes.values():
            counted[node.state] += 1
            missing = sum(not need.ended or need in self._cut for need in node.needs)
            missing += sum(not group.complete for group, _ in node.requires)
            if node.state == "waiting" and (node.missing != missing or missing == 0):
                raise InvalidTransition(f"{node.address} waits for {node.missing}, not {missing}", self.story(node))
            if node.ended != (node.outcome is not None) and not (node.ended and node.handles == 0):
                raise InvalidTransition(f"{node.address} is {node.state} and its outcome is {node.outcome}")
        for group in self.collections.values():
            ended = sum(member.ended and member not in self._cut for member in group.members)
            if ended != group.ended:
                raise InvalidTransition(f"{group!r} counts {group.ended} ended, and {ended} are")
        if counted != self._count:
            raise InvalidTransition(f"counted {counted}, kept {self._count}")


_Touched = deque[tuple[Node, str | None]]
"""Tasks that have just got one more of their inputs, each with the reason if that input can never do."""


def _touch(touched: _Touched, node: Node, reason: str | None) -> None:
    touched.append((node, None)) if reason is None else touched.appendleft((node, reason))


def _succeeded(node: Node) -> bool:
    return node.state == "done"


def _too_little(node: Node, group: Collection) -> str | None:
    """Why the collection, now that it has ended, is not enough for a task that reads it; None if it is."""
    for read, require in node.requires:
        if read is group and not require.met(group.succeeded, len(group.members)):
            return f"{group.succeeded} of {len(group.members)} of {group.name} succeeded, {require} required"
    return None
