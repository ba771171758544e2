"""The tasks of a workflow while it runs: their items as they appear, and who wants to hear of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..clock import wall
from ..events import CollectionClosed
from ..flow.graph import Collection, Node
from ..keys import Keys
from ..mesh.contest import Matches
from ..mesh.run import Run
from .plan import TaskPlan
from .views import CollectionView, Item

__all__ = ["TaskState"]


class TaskState:
    """One task of a workflow in one run: a single node, or a collection that grows until it is closed."""

    def __init__(self, run: Run, plan: TaskPlan) -> None:
        self.plan = plan
        self.items: list[Item] = []
        self.keys = Keys()
        self.node: Node | None = None
        self.collection: Collection | None = None
        self.matches: Matches | None = None
        self._run = run
        self._by_key: dict[str, list[Item]] = {}
        self._by_node: dict[Node, Item] = {}
        self._on_item: list[Callable[[Item], None]] = []
        self._on_item_end: list[Callable[[Item], None]] = []
        self._on_closed: list[Callable[[], None]] = []
        self._on_ended: list[Callable[[], None]] = []
        if plan.is_collection:
            self.collection = run.runner.state.open_collection(plan.name)
            self.collection.on_item.append(self._tell_item_ended)
            self.collection.on_complete.append(self._tell_ended)

    def __repr__(self) -> str:
        return f"<TaskState {self.plan.name}: {self.collection or self.node}>"

    # --- growing

    def set_node(self, node: Node) -> None:
        """The task's only node."""
        self.node = node
        self._run.runner.state.group(self.plan.name, [node]).on_complete.append(self._tell_ended)

    def add(self, item: Item) -> None:
        """An item has entered the graph."""
        self.items.append(item)
        self._by_node[item.node] = item
        self._by_key.setdefault(item.node.address.key or "", []).append(item)
        for tell in self._on_item:
            tell(item)
        if item.node.ended:
            self._tell_item_ended(item.node)

    def close(self) -> None:
        """The last item is in the graph."""
        assert self.collection is not None
        self._run.record.emit(CollectionClosed(at=wall(), task=self.plan.name, items=len(self.items)))
        self._run.runner.close(self.collection)
        for tell in self._on_closed:
            tell()

    # --- hearing of it

    def each_item(self, tell: Callable[[Item], None], closed: Callable[[], None]) -> None:
        """Hear of every item that enters the graph, past ones included, and of the last one having done so."""
        self._on_item.append(tell)
        self._on_closed.append(closed)
        for item in list(self.items):
            tell(item)
        if self.collection is not None and not self.collection.open:
            closed()

    def each_end(self, tell: Callable[[Item], None], complete: Callable[[], None]) -> None:
        """Hear of every item's end, past ones included, and of the end of the whole collection."""
        self._on_item_end.append(tell)
        for item in list(self.items):
            if item.node.ended:
                tell(item)
        self.when_ended(complete)

    def _tell_item_ended(self, node: Node) -> None:
        item = self._by_node.get(node)
        if item is not None:  # else it ended while it was being added, and `add` tells
            for tell in self._on_item_end:
                tell(item)

    def when_ended(self, tell: Callable[[], None]) -> None:
        """Hear of the task's end, at once if it has ended."""
        if self.ended:
            tell()
        else:
            self._on_ended.append(tell)

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
            return CollectionView(self)
        outcome = self.node.outcome if self.node is not None else None
        return outcome.value if outcome is not None and outcome.ok else None

    def so_far(self) -> Any:
        """What is there now."""
        if self.plan.is_collection:
            return list(CollectionView(self))
        return self.matches.standings() if self.matches is not None else self.value()

    def value_at(self, key: str) -> Any:
        """The value of the item with this key; a list over several samples; None where there is none."""
        address, _, sample = key.rpartition("/")
        found = self._by_key.get(key) or [
            item for item in self._by_key.get(address, []) if str(item.node.address.sample) == sample
        ]
        values = [item.value for item in sorted(found, key=lambda item: item.position) if item.node.state == "done"]
        if any(item.node.address.sample is not None for item in found) and key in self._by_key:
            return values
        return values[0] if values else None
