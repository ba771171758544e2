"""Tasks and collections as small records: what the graph is made of, and how much of a collection a reader needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from ..outcome import Address, Outcome

__all__ = ["FINAL", "Collection", "Node", "OrderKey", "Require", "stand_recalled"]

OrderKey = tuple[float, float, int]
"""(-priority, -longest remaining path, age): one order from the graph to the lane; smaller goes first."""

FINAL = frozenset({"done", "failed", "skipped", "cancelled"})


@dataclass(frozen=True, slots=True)
class Require:
    """How much of a collection a reader needs: a share of its items, and one at least unless `share` is 0."""

    share: float
    at_least_one: bool = True

    def met(self, done: int, total: int) -> bool:
        """Whether `done` of `total` items are enough. An empty collection always is."""
        if total == 0:
            return True
        return done >= self.share * total - 1e-9 and (done > 0 or not self.at_least_one)

    @classmethod
    def of(cls, text: str | float) -> Require:
        """`any`, `all`, a percentage such as `95%`, or a share from 0 to 1. Raises ValueError."""
        match text:
            case "any":
                return cls(0.0)
            case "all":
                return cls(1.0)
            case str() if text.endswith("%"):
                share = float(text[:-1]) / 100
            case _:
                share = float(text)
        if not 0 <= share <= 1:
            raise ValueError(f"require is any, all or a percentage from 0% to 100%, not {text}")
        return cls(share, at_least_one=share > 0)

    def __str__(self) -> str:
        return "any" if self.share == 0 and self.at_least_one else f"{self.share:.0%}"


class Node:
    """One task as a record: under 700 bytes beside its payload, so that hundreds of thousands can wait.

    `payload` is whatever the performer needs; the graph never looks into it. `share` says on whose behalf it waits for
    its lane. `missing` counts dependencies that have not ended; `history` has the initials of its states so far.
    `recalled` says that its outcome is what an earlier process found, `grew` that it has put tasks into the graph while
    it was performed. `handles` counts those through whom its `outcome` is read, which is gone when they are; None says
    that it is read otherwise, and its value is let go by whoever knows that nobody will read it: a run of many long
    answers is not to need their size in memory.
    """

    __slots__ = (
        "address", "collections", "dependents", "grew", "handles", "history", "id", "lane", "missing", "needs",
        "outcome", "path", "payload", "priority", "recalled", "requires", "share", "state",
    )  # fmt: skip

    def __init__(
        self, number: int, address: Address, payload: Any, *, lane: str, share: str, priority: float, path: float
    ) -> None:
        self.id = number
        self.address = address
        self.payload = payload
        self.lane = lane
        self.share = share
        self.priority = priority
        self.path = path
        self.state = "waiting"
        self.history = "w"
        self.needs: tuple[Node, ...] = ()
        self.requires: tuple[tuple[Collection, Require], ...] = ()
        self.missing = 0
        self.dependents: list[Node] | None = None
        self.collections: tuple[Collection, ...] = ()
        self.outcome: Outcome | None = None
        self.recalled = False
        self.handles: int | None = None
        self.grew = False

    def __repr__(self) -> str:
        return f"<Node {self.address} {self.state}>"

    @property
    def order(self) -> OrderKey:
        return (-self.priority, -self.path, self.id)

    @property
    def ended(self) -> bool:
        return self.state in FINAL

    @property
    def readers(self) -> Iterator[Node]:
        """The tasks that wait for it, alone or among others."""
        return chain(self.dependents or (), *(group.dependents for group in self.collections))

    def take(self) -> None:
        """One more handle: the value is there as long as one of them is."""
        self.handles = (self.handles or 0) + 1

    def drop(self) -> None:
        """One handle fewer."""
        self.handles = (self.handles or 0) - 1
        self.let_go_unread()

    def let_go_unread(self) -> None:
        """Let the outcome go if it was to be read through handles, and none is left."""
        if self.handles == 0:
            self.outcome = None

    def let_go(self) -> None:
        """Nobody will read the value here any more."""
        if self.outcome is not None and (self.outcome.value is not None or self.outcome.item is not None):
            self.outcome = self.outcome.holding(item=None, value=None)


def stand_recalled(needs: Sequence[Node], requires: Sequence[tuple[Collection, Require]]) -> bool:
    """Whether all of these tasks and collections were found, not performed."""
    return not (
        (needs and not all(need.recalled for need in needs))
        or (requires and not all(group.recalled for group, _ in requires))
    )


class Collection:
    """The items of one task, growing until it is closed. It has ended when it is closed and all of its items have.

    `found` of them were not performed. `path` is that of its reader with the longest way to go: what joins has at
    least as long a one before it.
    """

    __slots__ = (
        "dependents",
        "ended",
        "found",
        "members",
        "name",
        "on_complete",
        "on_item",
        "open",
        "path",
        "succeeded",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.members: list[Node] = []
        self.open = True
        self.path = 0.0
        self.ended = 0
        self.found = 0
        self.succeeded = 0
        self.dependents: list[Node] = []
        self.on_item: list[Callable[[Node], None]] = []
        self.on_complete: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        state = "open" if self.open else "closed"
        return f"<Collection {self.name} {state}: {self.ended} of {len(self.members)} ended>"

    @property
    def complete(self) -> bool:
        return not self.open and self.ended == len(self.members)

    @property
    def recalled(self) -> bool:
        """Whether it is complete, and nothing in it was performed."""
        return self.complete and self.found == len(self.members)
