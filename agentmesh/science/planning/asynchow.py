"""The AsyncHow data set: everyday tasks whose steps have durations and an order; asked is the shortest time.

F. Lin et al., Graph-enhanced Large Language Models in Asynchronous Plan Reasoning, ICML 2024, arXiv 2402.02805.
"""

from __future__ import annotations

import datetime
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from pydantic import BaseModel, ValidationError

from ...errors import UserError
from .durations import Interval, parse_duration, seconds_of
from .pickles import read_pickle

__all__ = ["Item", "find_items", "load_items", "longest_path", "wrong_gold"]

_FILES = ("async_benchmark.pkl", "seq_benchmark.pkl", "para_benchmark.pkl")


@dataclass(frozen=True, slots=True)
class Item:
    """One question: step k (from 1) is `steps[k - 1]` and takes the text `durations[k - 1]`.

    `edges` are pairs (before, after) of step numbers. `gold` is the answer as the file stores it, `text_gold` the one
    that follows from the duration texts, which are all that a model sees; both in seconds. `ve_count` is the
    complexity: vertices and edges, with a start and an end added.
    """

    kind: str
    index: int
    title: str
    steps: tuple[str, ...]
    durations: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    gold: Interval
    text_gold: Interval
    ve_count: int

    @property
    def id(self) -> str:
        """The file's kind and the position in it: `async-163`."""
        return f"{self.kind}-{self.index}"

    @property
    def goal(self) -> str:
        """The title as the end of "to ...": "How to bake bread" gives "bake bread"."""
        return re.sub(r"^how to\s+", "", self.title.strip(), flags=re.IGNORECASE)


class _File(BaseModel):
    """What is used of a file: columns of equal length, row i of each is item i."""

    titles: list[str]
    steps: list[list[str]]
    step_deps: list[list[tuple[str, str]] | set[tuple[str, str]]]
    time_dic: list[dict[str, str]]
    ve_count: list[int]
    task_time: list[tuple[datetime.timedelta, datetime.timedelta]]


def load_items(path: Path) -> list[Item]:
    """The items of one of the original pickles, or of a folder with any of the three (in the order async, seq, para).

    Raises UserError, naming the file and the item, for what is missing, unsafe, or does not fit together.
    """
    if not path.is_dir():
        return _load_file(path)
    files = [path / name for name in _FILES if (path / name).is_file()]
    if not files:
        raise UserError(f"{path}: has none of {', '.join(_FILES)}")
    return [item for file in files for item in _load_file(file)]


def _load_file(path: Path) -> list[Item]:
    try:
        columns = _File.model_validate(read_pickle(path))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise UserError(f"{path}: is not the AsyncHow data set: {place}: {first['msg']}") from error
    lengths = {name: len(getattr(columns, name)) for name in _File.model_fields}
    if len(set(lengths.values())) > 1:
        raise UserError(f"{path}: its columns have different lengths: {lengths}")
    kind, items = path.stem.removesuffix("_benchmark"), []
    for index in range(len(columns.titles)):
        try:
            items.append(_item(columns, kind, index))
        except ValueError as error:
            raise UserError(f"{path}: item {index}: {error}") from error
    return items


def _item(columns: _File, kind: str, index: int) -> Item:
    steps, texts = columns.steps[index], columns.time_dic[index]
    numbers = [str(k) for k in range(1, len(steps) + 1)]
    if set(texts) != set(numbers):
        raise ValueError(f"has {len(steps)} steps, but durations for {', '.join(sorted(texts)) or 'none'}")
    if strangers := {end for edge in columns.step_deps[index] for end in edge} - set(numbers):
        raise ValueError(f"orders steps that it does not have: {', '.join(sorted(strangers))}")
    edges = tuple(sorted((int(before), int(after)) for before, after in columns.step_deps[index]))
    durations = tuple(texts[number] for number in numbers)
    low, high = columns.task_time[index]
    return Item(
        kind=kind,
        index=index,
        title=columns.titles[index],
        steps=tuple(steps),
        durations=durations,
        edges=edges,
        gold=Interval(seconds_of(low), seconds_of(high)),
        text_gold=longest_path([parse_duration(text) for text in durations], edges),
        ve_count=columns.ve_count[index],
    )


def longest_path(durations: Sequence[Interval], edges: Iterable[tuple[int, int]]) -> Interval:
    """When everything is done at the earliest, if as much as the order allows goes on at once.

    `durations[k - 1]` is that of step k. Each end of the result is longest by that end alone, so the two may come
    from different paths. Raises ValueError when the order is a circle.
    """
    before: dict[int, list[int]] = {step: [] for step in range(1, len(durations) + 1)}
    for first, then in edges:
        before[then].append(first)
    try:
        order = list(TopologicalSorter(before).static_order())
    except CycleError as error:
        raise ValueError(f"the order is a circle: {' -> '.join(str(step) for step in error.args[1])}") from error
    ends: dict[int, Interval] = {}
    for step in order:
        start = _latest([ends[other] for other in before[step]])
        ends[step] = start + durations[step - 1]
    return _latest(ends.values())


def _latest(ends: Iterable[Interval]) -> Interval:
    ends = list(ends)
    return Interval(max((end.low for end in ends), default=0), max((end.high for end in ends), default=0))


def wrong_gold(items: Iterable[Item]) -> list[Item]:
    """The items whose stored answer is not the one that follows from their texts."""
    return [item for item in items if item.gold != item.text_gold]


_STEP = re.compile(r"^Step [0-9]+[.:] (.*) \([^()]*\)$", re.MULTILINE)


def find_items(questions: Sequence[str], items: Iterable[Item]) -> list[Item | None]:
    """For each question the item it was made of, by its steps and its goal; None where none or several fit."""
    by_steps: Mapping[tuple[str, ...], list[Item]] = defaultdict(list)
    for item in items:
        by_steps[tuple(step.strip() for step in item.steps)].append(item)
    found: list[Item | None] = []
    for question in questions:
        steps = tuple(step.strip() for step in _STEP.findall(question))
        goal = question.partition("\nStep ")[0].lower()
        fitting = [item for item in by_steps.get(steps, ()) if item.goal.lower() in goal]
        found.append(fitting[0] if len(fitting) == 1 else None)
    return found
