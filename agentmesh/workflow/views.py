"""What texts and expressions see under `tasks`: values of tasks, an item's own chain, and whole collections."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..data import DataView, MissingField, plain
from ..flow.graph import Node
from ..outcome import Outcome

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

    def values(self) -> dict[str, Any]:
        """The names with their values as they are now."""
        return {name: value.value if isinstance(value, Item) else value for name, value in self.names.items()}

    @property
    def about(self) -> Any:
        """The element it is about: an Item, or the value itself."""
        return self.names["item"] if "item" in self.names else next(iter(self.names.values()), None)


@dataclass(eq=False, slots=True)
class Item:
    """One item of a task in the graph, with what it sees; the items over it see it in their chain.

    `holds` counts who may still read it: itself until it has ended, the items over it until these have. With the last
    of them its value goes, unless it is of a task that is `lasting`.
    """

    node: Node
    position: tuple[int, ...]
    names: Mapping[str, Any]
    chain: Mapping[str, Item] = field(default_factory=dict)
    lasting: bool = True
    holds: int = 1

    def release(self) -> None:
        """One fewer may read it."""
        self.holds -= 1
        if not self.holds and not self.lasting:
            self.node.let_go()
            self.names = {}

    @property
    def value(self) -> Any:
        """Its value; None while there is none."""
        outcome = self.node.outcome
        return outcome.value if outcome is not None and outcome.ok else None

    @property
    def outcome(self) -> Outcome | None:
        """How it ended, with the element that it was about."""
        outcome = self.node.outcome
        if outcome is None or outcome.item is not None:
            return outcome
        about = Scoped(names=self.names).about
        return replace(outcome, item=about.value if isinstance(about, Item) else about)


class CollectionView(list[Any], DataView):
    """A whole collection: a list of its values in input order, in which `[key]` finds the value of an item, or None."""

    def __init__(self, state: TaskState) -> None:
        super().__init__(item.value for item in state.succeeded())
        self._state = state

    def read_field(self, name: str) -> Any:
        if name == "failed":
            return self._state.outcomes(succeeded=False)
        raise KeyError(name)

    def read_item(self, key: Any) -> Any:
        if isinstance(key, int) and not self._state.has_numbers(key):
            raise MissingField(f"items are found by their key, not by number {key}; `| first` gives the first")
        return self._state.value_at(key)

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

    def read_item(self, key: Any) -> Any:
        return self._states[key].so_far()

    def field_names(self) -> Iterable[str]:
        return self._states

    def plain(self) -> Any:
        return {name: plain(self.read_item(name)) for name in self._states}
