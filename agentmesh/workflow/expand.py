"""From `for_each` and `rank` to elements: each is told the moment it is known, and never waits for others.

Over another task's items an element is known as soon as the item is in the graph. Where elements or keys have to be
computed from values, it is known when these are there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from ..data import MissingField, kind_of, plain, read_field
from ..errors import ErrorInfo
from ..flow.graph import Node
from ..keys import key_of
from ..messages import digest
from ..references import TemplateProblem
from .plan import Source
from .tasks import TaskState
from .views import Item, Scoped

__all__ = ["Element", "Expansion"]


@dataclass(frozen=True, slots=True)
class Element:
    """One element of one source: `item` is the task's item it stands for, if it is one; `value` else what it is.

    `needs` have to succeed for it to be of use; `error` says why it is of none.
    """

    key: str
    position: tuple[int, ...]
    value: Any = None
    item: Item | None = None
    chain: Mapping[str, Item] = field(default_factory=dict)
    names: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[Node, ...] = ()
    error: ErrorInfo | None = None

    @property
    def there(self) -> bool:
        """Whether what it needs has succeeded."""
        return all(need.state == "done" for need in self.needs)

    @property
    def shown(self) -> Any:
        """What its name stands for: the item, whose value may be on its way, or the value."""
        return self.value if self.item is None else self.item


class Expansion:
    """Tells of one task's elements: `make` is called for each combination of them, `close` after the last.

    `waits_for_values` says that elements must have ended before a combination of them can be used.
    """

    def __init__(
        self, sources: tuple[Source, ...], states: Mapping[str, TaskState], *, scope: Callable[[], dict[str, Any]],
        make: Callable[[tuple[Element, ...]], None], close: Callable[[], None], waits_for_values: bool,
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
        """Begin to listen; elements that are there already are told at once. Raises TemplateProblem."""
        ways = [self._way(index, source) for index, source in enumerate(self._sources)]
        for begin in ways:
            begin()

    def _way(self, index: int, source: Source) -> Callable[[], None]:
        """How the elements of one source come. Raises TemplateProblem before any of them has come."""

        def arrive(element: Element) -> None:
            self._arrive(index, element)

        def all_at_once(elements: list[Element]) -> None:
            for element in elements:
                arrive(element)
            self._exhausted()

        if source.form in ("items", "flat"):
            assert source.task is not None
            state = self._states[source.task]
            if source.form == "flat":
                return lambda: state.each_end(lambda item: _flatten(source, item, arrive), self._exhausted)
            listen = state.each_end if self._after_end else state.each_item
            return lambda: listen(lambda item: arrive(_over_item(item)), self._exhausted)
        values = _elements(source.value.evaluate(self._scope()), source.name)
        make = self._of_row if source.form == "rows" else _of_value
        found = [make(source, number, value=value) for number, value in enumerate(values)]
        return lambda: all_at_once(found)

    def _of_row(self, source: Source, number: int, *, value: Any) -> Element:
        """A row of standings keeps the key of its entrant, the chain, and the names that are visible along it."""
        key = str(read_field(value, "key"))
        entrant = self._states[source.task].entrants.get(key) if source.task is not None else None
        entrant = entrant or Scoped()
        names = {name: one for name, one in entrant.names.items() if name != "item"}
        return Element(key, (number,), value, chain=entrant.chain, names=names)

    def _arrive(self, index: int, element: Element) -> None:
        if len(self._seen) == 1:
            self._make((element,))
            return
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


def _of_value(source: Source, number: int, *, value: Any) -> Element:
    """An element that is a value. One that is no data has no key of its own, and cannot be used."""
    try:
        return Element(key_of(value), (number,), value)
    except TypeError as error:
        key = digest(repr(value))
        return Element(key, (number,), error=ErrorInfo("bad_request", f"for_each: element {number}: {error}"))


def _flatten(source: Source, item: Item, arrive: Callable[[Element], None]) -> None:
    """The list in a field of an item; where the item did not succeed, one element that needs it."""
    above = _over_item(item)
    if not above.there:
        arrive(above)
        return
    assert source.field is not None
    try:
        values = _elements(read_field(item.value, source.field) or (), f"the field {source.field}")
    except (MissingField, TemplateProblem) as problem:
        error = ErrorInfo("bad_request", f"{item.node.address}: {problem}")
        arrive(Element(above.key, above.position, chain=above.chain, names=above.names, error=error))
        return
    for number, value in enumerate(values):
        child = _of_value(source, number, value=value)
        arrive(
            Element(
                f"{above.key}+{child.key}", (*above.position, number), value, chain=above.chain, names=above.names,
                needs=above.needs, error=child.error,
            )
        )  # fmt: skip


def _elements(values: Any, name: str) -> list[Any]:
    """What a list expands to. Raises TemplateProblem for what is no list."""
    if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__iter__"):
        shown = "" if values is None else f": {_in_short(values)}"
        raise TemplateProblem(f"a list is needed for {name}, not {kind_of(values)}{shown}")
    return list(values)


def _in_short(value: Any) -> str:
    try:
        text = str(plain(value))
    except TypeError:
        text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
