"""What a run's journal tells of its tasks and calls: the tables that people ask for afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from ..events import (
    CallEnded,
    CallIntent,
    CallSpared,
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
from ..messages import Request
from ..outcome import Address, Outcome
from .encode import KIND_NUMBERS
from .parts import Noted, TaskHistory
from .read import UNDER, RunFile, address_span

__all__ = ["CallHistory", "ItemHistory", "RunHistory", "item_histories", "run_history"]

_LOOK = 2000  # records looked at for addresses at first, four times as many the next time, up to
_LOOK_FAR = 100_000


@dataclass(slots=True)
class RunHistory:
    """All tasks of a run, in the workflow's order and then as they appeared, and what a person should know of it.

    `failures` are the outcomes with an error that hold, without those that only follow from another one; as many as
    were asked for. `causes` counts them all, `behind` those that follow.
    """

    tasks: dict[str, TaskHistory] = field(default_factory=dict)
    failures: list[Outcome] = field(default_factory=list)
    causes: int = 0
    behind: int = 0
    notices: list[Notice] = field(default_factory=list)
    started: RunStarted | None = None
    resumed: list[RunResumed] = field(default_factory=list)
    ended: RunEnded | None = None

    def took(self, task: TaskHistory) -> float | None:
        """Seconds between the beginning and the last end of a task in which a process went on with the run."""
        if task.first is None or task.last is None:
            return None
        return max(0.0, self._life_at(task.last) - self._life_at(task.first))

    def _life_at(self, at: float) -> float:
        seconds = next((one.at - one.seconds for one in reversed(self.resumed) if one.at <= at), None)
        return at - (seconds if seconds is not None else 0.0 if self.started is None else self.started.at)


@dataclass(slots=True)
class CallHistory:
    """One call over its attempts, or one that was spared. An intent without an end was in flight when the process
    died."""

    call: int
    address: str
    agent: str | None
    model: str
    intents: list[CallIntent] = field(default_factory=list)
    ends: list[CallEnded] = field(default_factory=list)
    spared: CallSpared | None = None

    @property
    def request(self) -> Request | None:
        """What was asked; None when the run keeps no content."""
        if self.spared is not None:
            return self.spared.request
        return self.intents[0].request if self.intents else None

    @property
    def waited(self) -> float:
        """Seconds in lanes."""
        return sum(intent.waited for intent in self.intents)

    @property
    def answered(self) -> float:
        """Seconds from sending to the end of an answer, over all attempts."""
        return sum(end.seconds for end in self.ends)

    @property
    def paused(self) -> float:
        """Seconds between attempts in which it did not wait in a lane: pauses before retries, waits for a budget."""
        again = zip(self.ends, self.intents[1:], strict=False)
        return sum(max(0.0, intent.at - intent.waited - end.at) for end, intent in again)


@dataclass(slots=True)
class ItemHistory:
    """One item: when it was added and begun (seconds since 1970), its calls in their order, and its outcome if it has
    one. `reopened` counts the end states that held no longer; `dropped`: it is not asked for any more."""

    address: str
    added: float | None = None
    started: float | None = None
    outcome: Outcome | None = None
    calls: dict[int, CallHistory] = field(default_factory=dict)
    tools: list[ToolEnded] = field(default_factory=list)
    matches: list[MatchEnded] = field(default_factory=list)
    reopened: int = 0
    dropped: bool = False


def run_history(run: RunFile, *, failures: int | None = None) -> RunHistory:
    """The tasks of a run, with the first so many failures (all by default). Raises UserError for a damaged file.

    Reads the sums that are kept and the few events that are noted, so a long run takes no longer than a short one.
    """
    parts = run.tally(whole=True).parts
    history = RunHistory()
    ends: dict[str, Noted] = {}
    few: list[int] = []
    for noted in parts.noted:
        if noted.kind in (TaskReopened, TaskDropped):
            ends.pop(noted.address or "", None)
        elif noted.kind is TaskEnded:
            ends[noted.address or ""] = noted
        else:
            few.append(noted.number)
    causes = [noted.number for noted in ends.values() if noted.error != "dependency"]
    history.causes, history.behind = len(causes), len(ends) - len(causes)
    for _, event in run.events_at(few):
        _note(history, event)
    for _, event in run.events_at(islice(sorted(causes), failures)):
        if isinstance(event, TaskEnded):
            history.failures.append(event.outcome)
    planned = () if history.started is None else history.started.tasks
    for name in dict.fromkeys([*planned, *parts.tasks]):
        history.tasks[name] = task = parts.tasks.get(name) or TaskHistory(name)
        if history.started is not None and name in history.started.waits_for:
            task.needs = "\n".join(history.started.waits_for[name])
    return history


def _note(history: RunHistory, event: Event) -> None:
    match event:
        case RunStarted():
            history.started = event
        case RunResumed():
            history.resumed.append(event)
            history.ended = None
        case RunEnded():
            history.ended = event
        case Notice():
            history.notices.append(event)
        case _:
            pass


_OF_ITEMS = (
    TaskAdded, TaskStarted, CallIntent, CallEnded, CallSpared, TaskEnded, TaskReopened, ToolEnded,
    MatchEnded, TaskDropped,
)  # fmt: skip


def item_histories(run: RunFile, address: str, *, first: int | None = None) -> Iterator[ItemHistory]:
    """The items at an address (`task`, `task/key`, `task/key/sample`, a match) in the order in which they appeared.

    At most the `first` so many, and then only their bodies are read. Raises UserError for a damaged file.
    """
    items: dict[str, ItemHistory] = {}
    for _, event in run.events_at(_numbers(run, address, first=first)):
        _tell(items, event)
    yield from items.values()


def _numbers(run: RunFile, address: str, *, first: int | None) -> Iterable[int]:
    """The numbers of the events of the first items at an address: one pass over the records, without their bodies."""
    low, high = _between(run, address)
    kinds = frozenset(KIND_NUMBERS[kind] for kind in _OF_ITEMS)  # asked here: SQLite would look at each record's first
    query = "SELECT id, kind, task FROM event WHERE id > ? AND id <= ? AND "
    where: str = UNDER
    values: tuple[str, ...] = address_span(address)
    wanted: dict[str, None] = {}
    numbers: list[int] = []
    step = _LOOK
    while low < high:
        for number, kind, at in run.rows(query + where, low, min(low + step, high), *values):
            if kind in kinds and (at in wanted or first is None or len(wanted) < first):
                wanted[at] = None
                numbers.append(number)
        if first is not None and len(wanted) >= first:  # from here on, SQLite passes over all others by itself
            where, values = f"task IN ({', '.join('?' * len(wanted))})", tuple(wanted)
        low, step = low + step, min(4 * step, _LOOK_FAR)
    return numbers


def _between(run: RunFile, address: str) -> tuple[int, int]:
    """After which number, and up to which, the events of an address's task are."""
    task = run.tally(whole=True).parts.tasks.get(address.partition("/")[0])
    if task is None or task.first_event is None or task.last_event is None:
        return 0, 0
    return task.first_event - 1, task.last_event


def _tell(items: dict[str, ItemHistory], event: Event) -> None:
    match event:
        case TaskAdded():
            item = _item(items, str(Address(event.task, event.key, event.sample)))
            item.added, item.dropped = event.at, False
        case TaskStarted():
            _item(items, event.address).started = event.at
        case CallIntent():
            _call(items, event).intents.append(event)
        case CallEnded():
            _call(items, event).ends.append(event)
        case CallSpared():
            _call(items, event).spared = event
        case ToolEnded():
            _item(items, event.address).tools.append(event)
        case TaskEnded(outcome=outcome):
            _item(items, str(outcome.address)).outcome = outcome
        case TaskReopened():
            item = _item(items, event.address)
            item.outcome, item.reopened = None, item.reopened + 1
        case TaskDropped():
            item = _item(items, event.address)
            item.outcome, item.dropped = None, True
        case MatchEnded():
            _item(items, event.address).matches.append(event)
        case _:
            pass


def _item(items: dict[str, ItemHistory], address: str) -> ItemHistory:
    return items.setdefault(address, ItemHistory(address))


def _call(items: dict[str, ItemHistory], event: CallIntent | CallEnded | CallSpared) -> CallHistory:
    calls = _item(items, event.address).calls
    return calls.setdefault(event.call, CallHistory(event.call, event.address, event.agent, event.model))
