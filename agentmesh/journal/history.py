"""What a run's journal tells of its tasks and calls: the tables that people ask for afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ..events import CallEnded, CallIntent, CollectionClosed, MatchEnded, Notice, RunEnded, TaskAdded, TaskEnded
from ..messages import Request
from ..outcome import Address, Outcome
from .read import RunFile

__all__ = ["CallHistory", "ItemHistory", "RunHistory", "TaskHistory", "item_histories", "run_history"]


@dataclass(slots=True)
class TaskHistory:
    """The items of one task together. `seconds` of calls and `waited` in lanes are sums; `usd` is of known prices.

    `first` and `last` are when its first call was sent or its first item ended, and when its last item ended, in
    seconds since 1970.
    """

    task: str
    added: int = 0
    done: int = 0
    failed: int = 0
    skipped: int = 0
    cancelled: int = 0
    calls: int = 0
    pushed_back: int = 0
    matches: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    usd: float = 0.0
    unpriced: int = 0
    first: float | None = None
    last: float | None = None

    @property
    def unfinished(self) -> int:
        """Items that have no end state."""
        return max(0, self.added - self.done - self.failed - self.skipped - self.cancelled)

    def _span(self, begin: float, end: float | None = None) -> None:
        self.first = begin if self.first is None else min(self.first, begin)
        if end is not None:
            self.last = end if self.last is None else max(self.last, end)


@dataclass(slots=True)
class RunHistory:
    """All tasks of a run in the order in which they appeared, the outcomes with an error, warnings, and its end."""

    tasks: dict[str, TaskHistory] = field(default_factory=dict)
    failures: list[Outcome] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    ended: RunEnded | None = None


@dataclass(slots=True)
class CallHistory:
    """One call over its attempts. An intent without an end was in flight when the process died."""

    call: int
    address: str
    agent: str | None
    model: str
    intents: list[CallIntent] = field(default_factory=list)
    ends: list[CallEnded] = field(default_factory=list)

    @property
    def request(self) -> Request | None:
        """What was asked; None when the run keeps no content."""
        return self.intents[0].request if self.intents else None


@dataclass(slots=True)
class ItemHistory:
    """One item: its calls in their order, and its outcome unless it has none yet."""

    address: str
    outcome: Outcome | None = None
    calls: dict[int, CallHistory] = field(default_factory=dict)
    matches: list[MatchEnded] = field(default_factory=list)


def run_history(run: RunFile) -> RunHistory:
    """The tasks of a run. Raises UserError for a damaged file."""
    history = RunHistory()
    kinds = (TaskAdded, CollectionClosed, CallIntent, CallEnded, TaskEnded, MatchEnded, Notice, RunEnded)
    for _, event in run.events(*kinds):
        match event:
            case TaskAdded() | CollectionClosed():
                task = _task(history, event.task)
                task.added += isinstance(event, TaskAdded)
            case CallIntent():
                task = _task(history, event.address)
                task.waited += event.waited
                task._span(event.at)
            case CallEnded():
                _count_call(_task(history, event.address), event)
            case TaskEnded(outcome=outcome):
                task = _task(history, outcome.task)
                setattr(task, outcome.state, getattr(task, outcome.state) + 1)
                task._span(event.at - outcome.seconds, event.at)
                if outcome.error is not None:
                    history.failures.append(outcome)
            case MatchEnded():
                _task(history, event.address).matches += 1
            case Notice():
                history.notices.append(event)
            case RunEnded():
                history.ended = event
            case _:
                pass
    return history


def _count_call(task: TaskHistory, event: CallEnded) -> None:
    task.seconds += event.seconds
    if event.result == "pushed_back":
        task.pushed_back += 1
        return
    task.calls += 1
    task.usd += event.usd or 0.0
    task.unpriced += event.usd is None and event.result == "ok"


def _task(history: RunHistory, address: str) -> TaskHistory:
    name = address.partition("/")[0]
    return history.tasks.setdefault(name, TaskHistory(name))


def item_histories(run: RunFile, address: str) -> Iterator[ItemHistory]:
    """The items at an address (`task`, `task/key`, `task/key/sample`, a match) in the order in which they appeared.

    Raises UserError for a damaged file.
    """
    items: dict[str, ItemHistory] = {}
    for _, event in run.events(TaskAdded, CallIntent, CallEnded, TaskEnded, MatchEnded, under=address):
        match event:
            case CallIntent():
                _call(items, event).intents.append(event)
            case CallEnded():
                _call(items, event).ends.append(event)
            case TaskEnded(outcome=outcome):
                _item(items, str(outcome.address)).outcome = outcome
            case TaskAdded():
                _item(items, str(Address(event.task, event.key, event.sample)))
            case MatchEnded():
                _item(items, event.address).matches.append(event)
            case _:
                pass
    yield from items.values()


def _item(items: dict[str, ItemHistory], address: str) -> ItemHistory:
    return items.setdefault(address, ItemHistory(address))


def _call(items: dict[str, ItemHistory], event: CallIntent | CallEnded) -> CallHistory:
    calls = _item(items, event.address).calls
    return calls.setdefault(event.call, CallHistory(event.call, event.address, event.agent, event.model))
