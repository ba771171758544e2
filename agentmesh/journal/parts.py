"""What is kept beside the events so that nobody has to read them all: sums of each task, and where the few events are
that people look for.

A writer adds up what has happened since its last summary, and the summary's commit adds that to the tables. So they say
what holds up to the event that the summary names, in one process after the other; a reader counts what came after it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, field, fields
from types import MappingProxyType
from typing import Any, NamedTuple

from ..events import (
    EVENT_TYPES,
    CallEnded,
    CallIntent,
    CallSpared,
    CollectionClosed,
    Event,
    MatchEnded,
    Notice,
    RunEnded,
    RunResumed,
    RunStarted,
    TaskAdded,
    TaskDropped,
    TaskEnded,
    TaskReopened,
    TaskStarted,
    ToolEnded,
)
from .encode import KIND_NUMBERS, storable

__all__ = ["PART_TABLES", "Noted", "Parts", "TaskHistory", "add_parts", "read_parts"]


@dataclass(slots=True)
class TaskHistory:
    """The items of one task together. `seconds` of calls and `waited` in lanes are sums; `usd` is of known prices.

    `first` and `last` are when its first call was sent or its first item ended, and when its last item ended, in
    seconds since 1970; `first_event` and `last_event` the numbers between which its events are. `needs` are the tasks
    that its items wait for, by a line each. `calls` leaves out those that were pushed back; `retries` of them were
    sent because an earlier attempt had failed, and `spared` ones were not sent, as their answer was known.
    """

    task: str
    needs: str = ""
    added: int = 0
    done: int = 0
    failed: int = 0
    skipped: int = 0
    cancelled: int = 0
    calls: int = 0
    retries: int = 0
    pushed_back: int = 0
    uncertain: int = 0
    tools: int = 0
    matches: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    usd: float = 0.0
    unpriced: int = 0
    first: float | None = None
    last: float | None = None
    first_event: int | None = None
    last_event: int | None = None
    spared: int = 0

    @property
    def unfinished(self) -> int:
        """Items that have no end state."""
        return max(0, self.added - self.done - self.failed - self.skipped - self.cancelled)

    def count(self, state: str, number: int = 1) -> None:
        """So many items more have ended like this."""
        setattr(self, state, getattr(self, state) + number)

    def span(self, begin: float, end: float | None = None) -> None:
        """Something of it began then, and an item ended."""
        self.first = begin if self.first is None else min(self.first, begin)
        if end is not None:
            self.last = end if self.last is None else max(self.last, end)


class Noted(NamedTuple):
    """An event that is worth finding: its number and kind, whom it concerns, and the kind of an outcome's error."""

    number: int
    kind: type[Any]
    address: str | None = None
    error: str | None = None


@dataclass(slots=True)
class Parts:
    """Sums by task, in the order in which the tasks appeared, and the events worth finding."""

    tasks: dict[str, TaskHistory] = field(default_factory=dict)
    noted: list[Noted] = field(default_factory=list)

    def add(self, number: int, event: Event) -> None:
        """Count one event."""
        kind = type(event)
        if kind in _NOTED:
            self.noted.append(Noted(number, kind, getattr(event, "address", None)))
        if (name_of := _NAMES.get(kind)) is None:
            return
        name = name_of(event)
        task = self.tasks.get(name)
        if task is None:
            task = self.tasks[name] = TaskHistory(name, first_event=number)
        task.last_event = number
        if (count := _COUNTS.get(kind)) is not None:
            count(task, event)
        if isinstance(event, TaskEnded) and event.outcome.error is not None:
            self.noted.append(Noted(number, kind, str(event.outcome.address), event.outcome.error.kind))


def _added(task: TaskHistory, event: TaskAdded) -> None:
    task.added += 1
    if event.needs and not task.needs:
        task.needs = "\n".join(dict.fromkeys(need.partition("/")[0] for need in event.needs))


def _sent(task: TaskHistory, event: CallIntent) -> None:
    task.waited += event.waited
    task.span(event.at)


def _answered(task: TaskHistory, event: CallEnded) -> None:
    task.seconds += event.seconds
    task.uncertain += event.uncertain
    if event.result == "pushed_back":
        task.pushed_back += 1
        return
    task.calls += 1
    task.retries += event.attempt > 1
    task.usd += event.usd or 0.0
    task.unpriced += event.usd is None and event.result == "ok"


def _ended(task: TaskHistory, event: TaskEnded) -> None:
    task.count(event.outcome.state)
    task.span(event.at - event.outcome.seconds, event.at)


def _reopened(task: TaskHistory, event: TaskReopened) -> None:
    task.count(event.state, -1)


def _dropped(task: TaskHistory, event: TaskDropped) -> None:
    task.added -= 1
    if event.state is not None:
        task.count(event.state, -1)


def _played(task: TaskHistory, event: MatchEnded) -> None:
    task.matches += 1


def _spared(task: TaskHistory, event: CallSpared) -> None:
    task.spared += 1
    task.span(event.at)


def _used(task: TaskHistory, event: ToolEnded) -> None:
    task.tools += 1


def _at_address(event: Any) -> str:
    name: str = event.address.partition("/")[0]
    return name


def _by_name(event: Any) -> str:
    name: str = event.task
    return name


_NOTED = frozenset({RunStarted, RunResumed, RunEnded, Notice, TaskReopened, TaskDropped})
_NAMES: Mapping[type[Any], Callable[[Any], str]] = MappingProxyType({
    TaskAdded: _by_name, CollectionClosed: _by_name, TaskEnded: lambda event: event.outcome.task,
    **dict.fromkeys((TaskStarted, CallIntent, CallEnded, CallSpared, MatchEnded, ToolEnded), _at_address),
    **dict.fromkeys((TaskReopened, TaskDropped), _at_address),
})  # fmt: skip
_COUNTS: Mapping[type[Any], Callable[[TaskHistory, Any], None]] = MappingProxyType({
    TaskAdded: _added, CallIntent: _sent, CallEnded: _answered, TaskEnded: _ended, TaskReopened: _reopened,
    MatchEnded: _played, ToolEnded: _used, CallSpared: _spared, TaskDropped: _dropped,
})  # fmt: skip

_COLUMNS = tuple(column.name for column in fields(TaskHistory))
PART_TABLES = (
    f"CREATE TABLE task (task TEXT UNIQUE, {', '.join(_COLUMNS[1:])})",
    "CREATE TABLE noted (id INTEGER PRIMARY KEY, kind INTEGER, task TEXT, error TEXT)",
)


def _sum_of(column: str) -> str:
    """How a column takes up what has come since: the earliest, the latest, what was said first, or the sum."""
    old, new = f"task.{column}", f"excluded.{column}"
    if column == "needs":
        return f"needs = CASE {old} WHEN '' THEN {new} ELSE {old} END"
    for name, function in (("first", "min"), ("last", "max")):
        if column.startswith(name):
            return f"{column} = {function}(coalesce({old}, {new}), coalesce({new}, {old}))"
    return f"{column} = {old} + {new}"


def _values(columns: int) -> str:
    """Rows from one JSON text: many statements would each have to win the interpreter back from a busy event loop."""
    values = ", ".join(f"json_extract(value, '$[{number}]')" for number in range(columns))
    return f"SELECT {values} FROM json_each(?) WHERE true"  # noqa: S608 - only numbers


_ADD_TASKS = (
    f"INSERT INTO task {_values(len(_COLUMNS))} "
    f"ON CONFLICT (task) DO UPDATE SET {', '.join(map(_sum_of, _COLUMNS[1:]))}"
)
_ADD_NOTED = f"INSERT INTO noted {_values(4)}"


def add_parts(connection: sqlite3.Connection, parts: Parts) -> None:
    """Add to the tables what has come since the last time, within the caller's transaction. Raises sqlite3.Error."""
    tasks = [(storable(task.task), storable(task.needs), *astuple(task)[2:]) for task in parts.tasks.values()]
    noted = [
        (one.number, KIND_NUMBERS[one.kind], None if one.address is None else storable(one.address), one.error)
        for one in parts.noted
    ]
    connection.execute(_ADD_TASKS, (json.dumps(tasks),))
    connection.execute(_ADD_NOTED, (json.dumps(noted),))


def read_parts(connection: sqlite3.Connection) -> Parts:
    """What the tables say. Raises sqlite3.Error, also where a file is of before there were such tables."""
    tasks = [TaskHistory(*row) for row in connection.execute(f"SELECT {', '.join(_COLUMNS)} FROM task ORDER BY rowid")]  # noqa: S608 - as above
    noted = connection.execute("SELECT id, kind, task, error FROM noted ORDER BY id")
    return Parts(
        {task.task: task for task in tasks},
        [Noted(number, EVENT_TYPES[kind - 1], address, error) for number, kind, address, error in noted],
    )
