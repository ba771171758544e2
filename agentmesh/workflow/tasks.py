"""The tasks of a workflow while it runs: their items as they appear, and who wants to hear of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..clock import wall
from ..data import MissingField
from ..events import CollectionClosed
from ..flow.graph import Collection, Node
from ..keys import Keys, key_of
from ..mesh.contest import Matches
from ..mesh.run import Run
from ..outcome import Outcome
from .plan import TaskPlan
from .views import CollectionView, Item, Scoped

__all__ = ["TaskState"]


class TaskState:
    """One task of a workflow in one run: a single node, or a collection that grows until it is closed.

    A tournament has its `matches` and, by key, what each of its `entrants` sees. The values of a `lasting` task are
    kept to the end of the run.
    """

    def __init__(self, run: Run, plan: TaskPlan, *, lasting: bool) -> None:
        self.plan = plan
        self._lasting = lasting
        self._built = False
        self.items: list[Item] = []
        self.keys = Keys()
        self.node: Node | None = None
        self.collection: Collection | None = None
        self.matches: Matches | None = None
        self.entrants: dict[str, Scoped] = {}
        self._run = run
        self._by_key: dict[str, list[Item]] = {}
        self._not_told: dict[Node, Item] = {}
        self._on_item: list[Callable[[Item], None]] = []
        self._on_item_end: list[Callable[[Item], None]] = []
        self._on_closed: list[Callable[[], None]] = []
        self._on_ended: list[Callable[[], None]] = []
        self._whole: CollectionView | None = None
        if plan.is_collection:
            self.collection = run.runner.state.open_collection(plan.name)
            self.collection.on_item.append(self._tell_item_ended)
            self.collection.on_complete.append(self._tell_ended)

    def __repr__(self) -> str:
        return f"<TaskState {self.plan.name}: {self.collection or self.node}>"

    @property
    def recalled(self) -> bool:
        """Whether it has ended, and all of it in an earlier process."""
        if self.collection is not None:
            return self.collection.recalled
        return self.node is not None and self.node.recalled

    # --- growing

    def set_node(self, node: Node) -> None:
        """The task's only node."""
        self.node = node
        self._run.runner.state.group(self.plan.name, [node]).on_complete.append(self._tell_ended)

    def add(self, node: Node, item: Scoped) -> None:
        """An item has entered the graph."""
        holds = 1 if self._built else 2
        entered = Item(node, item.position, item.names, item.chain, lasting=self._lasting, holds=holds)
        for above in entered.chain.values():
            above.holds += 1
        self.items.append(entered)
        self._not_told[node] = entered
        self._by_key.setdefault(node.address.key or "", []).append(entered)
        for tell in tuple(self._on_item):
            tell(entered)
        if node.ended:
            self._tell_item_ended(node)

    def built(self) -> None:
        """All who want to hear of items are listening: those that nobody has taken up by now, nobody will."""
        self._built = True
        for item in self.items:
            item.release()

    def close(self) -> None:
        """The last item is in the graph."""
        assert self.collection is not None
        self._run.record.emit(CollectionClosed(at=wall(), task=self.plan.name, items=len(self.items)))
        self._run.runner.close(self.collection)
        for tell in tuple(self._on_closed):
            tell()

    # --- hearing of it

    def each_item(self, tell: Callable[[Item], None], closed: Callable[[], None]) -> None:
        """Hear of every item that enters the graph, past ones included, and of the last one having done so."""
        self._on_item.append(tell)
        self._on_closed.append(closed)
        for item in tuple(self.items):
            tell(item)
        if self.collection is not None and not self.collection.open:
            closed()

    def each_end(self, tell: Callable[[Item], None], complete: Callable[[], None]) -> None:
        """Hear of every item's end, past ones included, and of the end of the whole collection."""
        self._on_item_end.append(tell)
        for item in tuple(self.items):
            if item.node not in self._not_told:
                tell(item)
        self.when_ended(complete)

    def _tell_item_ended(self, node: Node) -> None:
        item = self._not_told.pop(node, None)
        if item is not None:  # else it ended while it was being added: `add` tells, or has told
            for tell in tuple(self._on_item_end):
                tell(item)
            item.release()
            for above in item.chain.values():
                above.release()

    def when_ended(self, tell: Callable[[], None]) -> None:
        """Hear of the task's end, at once if it has ended."""
        if self.ended:
            tell()
        else:
            self._on_ended.append(tell)

    async def wait_ended(self) -> bool:
        """Wait for the task's end. False if the run stops before it."""
        runner = self._run.runner
        members = self.collection.members if self.collection is not None else [self.node] if self.node else []
        seen = 0
        while not self.ended:
            while seen < len(members) and members[seen].ended:
                seen += 1
            if seen < len(members):
                if await runner.wait_ended(members[seen]) is None:
                    return False
            elif runner.stopping:
                return False
            else:
                await runner.wait_changed()
        return True

    @property
    def ended(self) -> bool:
        return self.collection.complete if self.collection is not None else self.node is not None and self.node.ended

    def _tell_ended(self) -> None:
        listeners, self._on_ended = self._on_ended, []
        for tell in listeners:
            tell()

    # --- its value

    @property
    def has_value(self) -> bool:
        """Whether there is something to read: a single task's value, or any collection."""
        return self.node is None or self.node.state == "done"

    def value(self) -> Any:
        """What `tasks.NAME` is outside of an item's own chain."""
        if self.plan.is_collection:
            if self._whole is None and self.ended:
                self._whole = CollectionView(self)
            return self._whole or CollectionView(self)
        outcome = self.node.outcome if self.node is not None else None
        return outcome.value if outcome is not None and outcome.ok else None

    def so_far(self) -> Any:
        """What is there now."""
        if self.plan.is_collection:
            return self.value()
        return self.matches.standings() if self.matches is not None else self.value()

    def succeeded(self) -> list[Item]:
        """The items that have a value, in input order."""
        return sorted((item for item in self.items if item.node.state == "done"), key=lambda item: item.position)

    def outcomes(self, *, succeeded: bool) -> list[Outcome]:
        """How those items ended that did, or did not, succeed, in input order."""
        ended = (item.outcome for item in sorted(self.items, key=lambda item: item.position))
        return [outcome for outcome in ended if outcome is not None and outcome.ok == succeeded]

    def has_numbers(self, key: int) -> bool:
        """Whether a number can be meant as a key here: it is one, or others are."""
        return str(key) in self._by_key or not self._by_key or any(known.isdigit() for known in self._by_key)

    def value_at(self, key: Any) -> Any:
        """The value of the item with this key; a list over several samples; None where there is none.

        A key is that of an address, or an element whose key it is.
        """
        found = self._by_key.get(str(key))
        if found is None and isinstance(key, str) and "/" in key:
            above, _, sample = key.rpartition("/")
            found = [item for item in self._by_key.get(above, []) if str(item.node.address.sample) == sample]
            return next((item.value for item in found if item.node.state == "done"), None)
        if found is None:
            found = self._by_key.get(_own_key(key), [])
        values = [item.value for item in sorted(found, key=lambda item: item.position) if item.node.state == "done"]
        if any(item.node.address.sample is not None for item in found):
            return values
        return values[0] if values else None


def _own_key(element: Any) -> str:
    """The key that an element has by itself; that of nothing where it has none."""
    try:
        return key_of(element)
    except (TypeError, MissingField):
        return ""
