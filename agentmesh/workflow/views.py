"""What texts and expressions see under `tasks`: values of tasks, an item's own chain, and whole collections."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..data import DataView, plain
from ..flow.graph import Node

if TYPE_CHECKING:
    from .tasks import TaskState

__all__ = ["CollectionView", "Item", "Scoped", "SoFarView", "TasksView"]


@dataclass(frozen=True, slots=True, eq=False)
class Scoped:
    """What an item sees beside inputs and other tasks, and its place in the order of the input.

    `names` are those of its sources, `sample`, and what its chain has; an Item among them stands for its value, which
    may still be on its way.
    """

    position: tuple[int, ...] = ()
    names: Mapping[str, Any] = field(default_factory=dict)
    chain: Mapping[str, Item] = field(default_factory=dict)

    def with_sample(self, sample: int) -> Scoped:
        """The same, as one of several samples."""
        return Scoped((*self.position, sample), {**self.names, "sample": sample}, self.chain)


@dataclass(eq=False, slots=True)
class Item:
    """One item of a task in the graph, with what it sees; the items over it see it in their chain."""

    node: Node
    position: tuple[int, ...]
    names: Mapping[str, Any]
    chain: Mapping[str, Item] = field(default_factory=dict)

    @property
    def value(self) -> Any:
        """Its value; None while there is none."""
        outcome = self.node.outcome
        return outcome.value if outcome is not None and outcome.ok else None


class CollectionView(DataView):
    """A whole collection: iterated, its values in input order; `[key]` is the value of that item or None."""

    __slots__ = ("_state",)

    def __init__(self, state: TaskState) -> None:
        self._state = state

    def _succeeded(self) -> list[Item]:
        found = [item for item in self._state.items if item.node.state == "done"]
        return sorted(found, key=lambda item: item.position)

    def __iter__(self) -> Iterator[Any]:
        return (item.value for item in self._succeeded())

    def __len__(self) -> int:
        return len(self._succeeded())

    def read_field(self, name: str) -> Any:
        if name == "failed":
            ended = (item.node.outcome for item in sorted(self._state.items, key=lambda item: item.position))
            return [outcome for outcome in ended if outcome is not None and not outcome.ok]
        raise KeyError(name)

    def read_item(self, key: Any) -> Any:
        if isinstance(key, int):
            return list(self)[key]
        return self._state.value_at(str(key))

    def field_names(self) -> Iterable[str]:
        return ("failed",)

    def plain(self) -> Any:
        return [plain(value) for value in self]


class TasksView(DataView):
    """All tasks, as one item sees them: in its own chain its own items, elsewhere whole collections and values."""

    __slots__ = ("_chain", "_states")

    def __init__(self, states: Mapping[str, TaskState], chain: Mapping[str, Item]) -> None:
        self._states = states
        self._chain = chain

    def read_field(self, name: str) -> Any:
        if (own := self._chain.get(name)) is not None:
            return own.value
        return self._states[name].value()

    def field_names(self) -> Iterable[str]:
        return self._states

    def plain(self) -> Any:
        return {name: plain(self.read_field(name)) for name in self._states}


class SoFarView(DataView):
    """All tasks as they stand now, whatever has not ended yet; what `so_far(tasks.x)` looks into."""

    __slots__ = ("_states",)

    def __init__(self, states: Mapping[str, TaskState]) -> None:
        self._states = states

    def read_field(self, name: str) -> Any:
        return self._states[name].so_far()

    def field_names(self) -> Iterable[str]:
        return self._states

    def plain(self) -> Any:
        return {name: plain(self.read_field(name)) for name in self._states}
