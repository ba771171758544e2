"""What every text of a workflow may name, and of which shape it will be: tasks are gone through in dependency order.

For each task three things are settled, in this order: where its elements come from (and so which tasks are its own
chain), which names its texts see, and, once all of them are checked, the shape of what it gives.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from ..marked_yaml import did_you_mean
from ..references import ELEMENT, Reference
from ..template import Expression
from .drafts import Draft
from .plan import Source, Value
from .report import Report
from .shapes import ANY, NoSuchField, Shape, collection_of, shape_of_data, standings_of
from .texts import Use

__all__ = ["Names", "Seen", "classify", "task_references"]


def task_references(uses: Iterable[Use], *, so_far: bool = False) -> dict[str, None]:
    """The tasks that texts name, in order; those read with `so_far`, or all the others."""
    found = (reference for use in uses for reference in use.text.names())
    return {ref.path[0]: None for ref in found if ref.root == "tasks" and ref.path and ref.so_far == so_far}


def classify(source: Source, drafts: Mapping[str, Draft]) -> Source:
    """The source in the form in which its elements come, now that all tasks are known."""
    expression = source.value.data
    if not isinstance(expression, Expression):
        return source
    whole = expression.whole
    task = drafts.get(whole.path[0]) if whole is not None and whole.root == "tasks" and whole.path else None
    if whole is None or task is None or whole.so_far:
        return source
    steps = whole.path[1:]
    if expression.form == "reference" and not steps and task.is_collection:
        return replace(source, form="items", task=task.name)
    if expression.form in ("reference", "top") and not steps and task.kind == "rank":
        return replace(source, form="rows", task=task.name)
    if expression.form == "flat" and len(steps) == 2 and steps[0] == ELEMENT and task.is_collection:
        return replace(source, form="flat", task=task.name, field=steps[1])
    return source


@dataclass
class Seen:
    """What the texts of one task see: names with their shapes, and the tasks that stand for the item's own.

    `open`: there may be more names, since this task, or one of the chain, is wrong in itself.
    """

    names: dict[str, Shape] = field(default_factory=dict)
    chain: tuple[str, ...] = ()
    open: bool = False


class Names:
    """The names of a workflow.

    `inputs` are shapes; `tasks` all tasks that stand in the file, well formed or not; `fallback_of` says of each
    fallback which task it stands in for.
    """

    def __init__(
        self, drafts: Mapping[str, Draft], *, inputs: Mapping[str, Shape], tasks: Collection[str],
        fallback_of: Mapping[str, str], report: Report,
    ) -> None:  # fmt: skip
        self._drafts, self._inputs, self._tasks, self._report = drafts, inputs, tasks, report
        self._fallback_of = fallback_of
        self._given: dict[str, Shape] = {}
        self.seen: dict[str, Seen] = {}

    # --- elements, chain and names
    def enter(self, draft: Draft) -> None:
        """Settle what the texts of a task see. A fallback sees what the task it stands in for sees."""
        like = self._fallback_of.get(draft.name)
        if like is not None:
            self.seen[draft.name] = self.seen.get(like, Seen())
            return
        chains = Counter(name for source in draft.sources for name in self._chain(source))
        names: dict[str, Shape] = {}
        twice: set[str] = set()
        for source in draft.sources:
            for name, shape in self._inherited(source).items():
                twice |= {name} & {*names}
                names[name] = shape
        names = {name: shape for name, shape in names.items() if name not in twice}
        names |= {source.name: self._element(source, draft) for source in draft.sources}
        if draft.samples is not None:
            names["sample"] = Shape({"type": "integer"})
        chain = tuple(name for name, count in chains.items() if count == 1)
        self.seen[draft.name] = Seen(names, chain, draft.open or any(self._is_open(source) for source in draft.sources))

    def _is_open(self, source: Source) -> bool:
        if source.task is not None:
            return source.task not in self.seen or self.seen[source.task].open
        whole = source.value.data.whole if isinstance(source.value.data, Expression) else None
        return whole is not None and whole.root == "tasks" and bool(whole.path) and whole.path[0] not in self._drafts

    def _chain(self, source: Source) -> tuple[str, ...]:
        if source.task is None or source.task not in self.seen:
            return ()
        above = self.seen[source.task].chain
        return above if source.form == "rows" else (source.task, *above)

    def _inherited(self, source: Source) -> dict[str, Shape]:
        """The names of the chain that stay visible."""
        seen = self.seen.get(source.task or "")
        if seen is None:
            return {}
        if source.form != "rows":
            return seen.names
        return {name: shape for name, shape in seen.names.items() if name != "item"}

    def _element(self, source: Source, draft: Draft) -> Shape:
        if not isinstance(source.value.data, Expression):
            return shape_of_data(source.value.data).step(ELEMENT)
        shape = self.shape_of(source.value)
        if source.form == "items":
            return replace(shape, role="value")
        if shape.is_list is False:
            self._no_list(source, draft, shape)
            return ANY
        try:
            return shape.step(ELEMENT)
        except NoSuchField:
            return ANY

    def _no_list(self, source: Source, draft: Draft, shape: Shape) -> None:
        place = next(use.place for use in draft.uses if use.text is source.value.data)
        what, schema = source.value.data.whole, shape.schema
        properties = schema.get("properties", {}) if isinstance(schema, Mapping) else {}
        lists = [name for name, inner in properties.items() if isinstance(inner, dict) and inner.get("type") == "array"]
        hint = f"take its list: {what}.{lists[0]}" if lists else "a task is a collection with for_each or samples"
        key = "rank" if draft.kind == "rank" else "for_each"
        self._report.in_text(place, 1, message=f"{key} takes a list or a collection, and {what} is {shape}", hint=hint)

    # --- references
    def check(self, use: Use, draft: Draft | None) -> None:
        """Report every name in a text that will not be there. `draft` is the task it belongs to, if any."""
        told: set[tuple[str, ...]] = set()
        for reference in use.text.names():
            way = (reference.root, *reference.path)
            if not any(way[:length] in told for length in range(1, len(way) + 1)):
                told |= self._check(reference, use, draft)
        for called in use.text.uses():
            self._check_function(called.name, called.argument, called.line, use)

    def _visible(self, use: Use, draft: Draft | None) -> tuple[dict[str, Shape], tuple[str, ...]]:
        seen = self.seen.get(draft.name) if draft is not None else None
        if draft is None or seen is None or use.role == "source" or (draft.kind == "rank" and use.role == "item"):
            return {}, ()
        names = seen.names
        if use.role in ("key", "samples") and draft.samples is not None:
            inherited = [self._inherited(source) for source in draft.sources]
            if not any("sample" in above for above in inherited):
                names = {name: shape for name, shape in names.items() if name != "sample"}
        return names, seen.chain

    def _check(self, ref: Reference, use: Use, draft: Draft | None) -> set[tuple[str, ...]]:
        """The beginning of the reference that does not exist, after it was reported; nothing if all of it does."""
        names, chain = self._visible(use, draft)
        known = [*names, "inputs", *(["tasks"] if use.role != "once" else [])]
        if ref.root not in known:
            if draft is not None and use.role not in ("source", "once") and self.seen[draft.name].open:
                return set()
            hint = _MISSING.get(ref.root) if ref.root in ("item", "sample") else None
            hint = "only inputs are known here" if use.role == "once" else hint
            self._tell(use, ref.line, f"there is no name '{ref.root}' here", hint, ref.root, known)
            return {(ref.root,)}
        if ref.root in ("inputs", "tasks"):
            what, words = ("input", [*self._inputs]) if ref.root == "inputs" else ("task", [*self._tasks])
            if not ref.path and ref.root == "inputs":
                return set()
            word = ref.path[0].removeprefix('["').removesuffix('"]') if ref.path else ELEMENT
            if word == ELEMENT:  # who could be meant is neither waited for nor kept
                self._tell(use, ref.line, f"{ref.root} are named one by one", f"write {ref.root}.name", "", ())
                return {(ref.root, ELEMENT)}
            if word not in words:
                self._tell(use, ref.line, f"there is no {what} '{word}'", None, word, words)
                return {(ref.root, ref.path[0])}
            if ref.root == "tasks" and word in self._fallback_of:
                hint = f"write tasks.{self._fallback_of[word]}: it has the values of its fallback"
                self._tell(use, ref.line, f"{word} is a fallback, and has no items of its own", hint, "", ())
                return {(ref.root, ref.path[0])}
        shape, taken = self._begin(ref, names, chain)
        for number, step in enumerate(ref.path[taken:], taken):
            try:
                shape = shape.step(step)
            except NoSuchField as error:
                begin = _beginning(ref, len(ref.path) - number)
                hint = did_you_mean(error.word, error.candidates) if error.word else None
                self._tell(use, ref.line, f"{begin} {error}", hint, "", ())
                return {(ref.root, *ref.path[: number + 1])}
        return set()

    def _begin(self, ref: Reference, names: Mapping[str, Shape], chain: Collection[str]) -> tuple[Shape, int]:
        """The shape that a reference begins with, and how many steps of its path that took."""
        if ref.root in names:
            return names[ref.root], 0
        if not ref.path:
            return ANY, 0
        word = ref.path[0].removeprefix('["').removesuffix('"]')
        if ref.root == "inputs":
            return self._inputs.get(word, ANY), 1
        return self.task_shape(word, own=word in chain and not ref.so_far), 1

    def _check_function(self, name: str, argument: Reference | None, line: int, use: Use) -> None:
        if argument is None or argument.root != "tasks" or not argument.path:
            return
        task = self._drafts.get(argument.path[0])
        if name == "top" and task is not None and len(argument.path) == 1 and task.kind != "rank":
            hint = f"rank it first: rank: tasks.{task.name}"
            self._tell(use, line, f"top takes the standings of a rank task, and {task.name} is none", hint, "", ())
        if name == "so_far" and len(argument.path) != 1:
            self._tell(use, line, "so_far takes a task: so_far(tasks.name)", None, "", ())
        if name == "so_far" and use.role == "source":
            hint = f"write tasks.{argument.path[0]}: its items are taken as they come"
            self._tell(use, line, "so_far is for what is read, not for where elements come from", hint, "", ())

    def _tell(self, use: Use, line: int, message: str, hint: str | None, word: str, known: Iterable[str]) -> None:
        self._report.in_text(use.place, line, message=message, hint=hint, word=word, known=known)

    # --- shapes
    def give(self, draft: Draft, shape: Shape) -> None:
        """Settle the shape of what a task gives: of one item of it."""
        self._given[draft.name] = shape

    def task_shape(self, name: str, *, own: bool = False) -> Shape:
        """What `tasks.name` is: an item's own, one value, or a collection."""
        shape, draft = self._given.get(name, ANY), self._drafts.get(name)
        if draft is None:
            return ANY
        return collection_of(shape) if draft.is_collection and not own else shape

    def standings_shape(self, draft: Draft) -> Shape:
        """The standings of a rank task."""
        return standings_of(self.seen[draft.name].names.get("item", ANY))

    def shape_of(self, value: Value | None, draft: Draft | None = None) -> Shape:
        """The shape of a value, as far as its expressions tell."""
        if value is None:
            return ANY
        if isinstance(value.data, dict):
            inner = {name: self.shape_of(part, draft).schema for name, part in value.data.items()}
            return Shape({"type": "object", "properties": inner, "additionalProperties": False})
        if not isinstance(value.data, Expression):
            return shape_of_data(value.data)
        whole, seen = value.data.whole, self.seen.get(draft.name) if draft is not None else None
        if whole is None:
            return ANY
        seen = seen or Seen()
        shape, taken = self._begin(whole, seen.names, seen.chain)
        try:
            for step in whole.path[taken:]:
                shape = shape.step(step)
        except NoSuchField:
            return ANY
        return shape


_MISSING = {
    "item": "item is there in a task with for_each",
    "sample": "sample is there in a task with samples, and in those over its items",
}
_LAST = re.compile(r"(\.[^.\[\]| ]+|\[[^\]]*\]| \| \w+)$")


def _beginning(ref: Reference, steps: int) -> str:
    """A reference as it is written, without its last steps."""
    text = str(ref)
    for _ in range(steps):
        text = _LAST.sub("", text)
    return text or str(ref)
