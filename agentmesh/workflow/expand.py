"""From `for_each` and `samples` to items: each element becomes one the moment it is known, and never waits for others.

Over another task's items an item enters the graph together with the item it stands over, and waits for it there. Where
elements or keys have to be computed from values, it enters when these are there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from ..data import MissingField, plain, read_field
from ..errors import ErrorInfo
from ..flow.graph import Node
from ..keys import encode_key, key_of
from ..references import TemplateProblem
from .plan import Source
from .tasks import TaskState
from .views import Item

__all__ = ["Element", "Expansion", "key_of_elements"]


@dataclass(frozen=True, slots=True)
class Element:
    """One element of one source: `item` is the task's item it stands for, if it is one; `value` else what it is."""

    key: str
    position: tuple[int, ...]
    value: Any = None
    item: Item | None = None
    chain: Mapping[str, Item] = field(default_factory=dict)
    names: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[Node, ...] = ()
    error: ErrorInfo | None = None


MakeItem = Callable[[tuple[Element, ...]], None]


class Expansion:
    """Feeds one task's items: `make` is called for each combination of elements, `close` after the last.

    `waits_for_values` says that elements must have ended before an item of them can be made (its key is computed).
    """

    def __init__(
        self, sources: tuple[Source, ...], states: Mapping[str, TaskState], *, scope: Callable[[], dict[str, Any]],
        make: MakeItem, close: Callable[[], None], waits_for_values: bool,
    ) -> None:  # fmt: skip
        self._states = states
        self._scope = scope
        self._make = make
        self._close = close
        self._after_end = waits_for_values
        self._sources = sources
        self._seen: list[list[Element]] = [[] for _ in sources]
        self._open = len(sources)

    def start(self) -> None:
        """Begin to listen; elements that are there already are taken at once."""
        for index, source in enumerate(self._sources):
            self._feed(index, source)

    def _feed(self, index: int, source: Source) -> None:
        def arrive(element: Element) -> None:
            self._arrive(index, element)

        match source.form:
            case "items":
                assert source.task is not None
                state = self._states[source.task]
                listen = state.each_end if self._after_end else state.each_item
                listen(lambda item: arrive(_over_item(item)), self._exhausted)
            case "flat":
                assert source.task is not None
                state = self._states[source.task]
                state.each_end(lambda item: self._flatten(source, item, arrive), self._exhausted)
            case "rows":
                for number, row in enumerate(source.value.evaluate(self._scope())):
                    arrive(self._of_row(source, number, row))
                self._exhausted()
            case _:
                for number, value in enumerate(_elements(source.value.evaluate(self._scope()), source)):
                    arrive(Element(key_of(value), (number,), value))
                self._exhausted()

    def _of_row(self, source: Source, number: int, row: Any) -> Element:
        """A row of standings keeps the key and the chain of its entrant."""
        entrant = self._entrant(source, str(read_field(row, "key")))
        chain = {} if entrant is None else {**entrant.chain, entrant.node.address.task: entrant}
        names = {} if entrant is None else entrant.names
        return Element(str(read_field(row, "key")), (number,), row, chain=chain, names=names)

    def _entrant(self, source: Source, key: str) -> Item | None:
        contest = self._states[source.task] if source.task is not None else None
        if contest is None or contest.plan.rank is None or contest.plan.rank.entrants.task is None:
            return None
        entrants = self._states[contest.plan.rank.entrants.task].items
        return next((item for item in entrants if item.node.address.tail == key), None)

    def _flatten(self, source: Source, item: Item, arrive: Callable[[Element], None]) -> None:
        """The list in a field of an item; one skipped item where there is no list because the item did not succeed."""
        above = _over_item(item)
        if item.node.state != "done":
            arrive(above)
            return
        assert source.field is not None
        try:
            values = _elements(read_field(item.value, source.field) or (), source)
        except (MissingField, TemplateProblem) as problem:
            error = ErrorInfo("bad_request", f"for_each: {item.node.address}: {problem}")
            arrive(Element(above.key, above.position, chain=above.chain, names=above.names, error=error))
            return
        for number, value in enumerate(values):
            arrive(
                Element(
                    f"{above.key}+{key_of(value)}", (*above.position, number), value, chain=above.chain,
                    names=above.names, needs=above.needs,
                )
            )  # fmt: skip

    def _arrive(self, index: int, element: Element) -> None:
        self._seen[index].append(element)
        others = [[element] if at == index else seen for at, seen in enumerate(self._seen)]
        for combination in product(*others):
            self._make(combination)

    def _exhausted(self) -> None:
        self._open -= 1
        if self._open == 0:
            self._close()


def _over_item(item: Item) -> Element:
    address = item.node.address
    chain = {**item.chain, address.task: item}
    return Element(address.tail or "", item.position, item=item, chain=chain, names=item.names, needs=(item.node,))


def _elements(values: Any, source: Source) -> list[Any]:
    """What a list expands to. Raises TemplateProblem for what is no list."""
    if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__iter__"):
        raise TemplateProblem(f"for_each needs a list for {source.name}, not {_in_short(values)}")
    return list(values)


def _in_short(value: Any) -> str:
    text = str(plain(value))
    return text if len(text) <= 40 else text[:37] + "..."


def key_of_elements(elements: tuple[Element, ...], computed: Any = None) -> str:
    """The key of a combination: computed, or the elements' own, joined with `+`."""
    return encode_key(computed) if computed is not None else "+".join(element.key for element in elements)
