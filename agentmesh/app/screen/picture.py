"""What a run looks like now: pure state that is folded from events, and a frozen snapshot of it to be drawn.

Every event costs the same however many tasks there are: only counts are kept, never the items. A snapshot costs as
much as it has rows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...events import (
    CallEnded,
    CallIntent,
    CollectionClosed,
    Event,
    LaneFrozen,
    Notice,
    RunEnded,
    RunStarted,
    RunStatus,
    StandingsChanged,
    TaskAdded,
    TaskEnded,
    TaskStarted,
)  # fmt: skip
from ...journal.ids import short_id
from ...limits.statistics import LaneStatistics
from ...outcome import Outcome
from ..wording import address_task, clean, show_command, title_of
from .forecast import Forecast, Row, expected_items

__all__ = ["Failure", "Picture", "Snapshot", "TaskRow", "TournamentRow", "endpoint_name", "failure_of"]

_NEWEST_FAILURES = 5
_NEWEST_NOTICES = 2
_NOTICES = 50
_TITLES = 3


@dataclass(frozen=True, slots=True)
class Failure:
    """A task that did not succeed: how it ended, why, and what to type to see it (None without a journal)."""

    state: str
    address: str
    error: str
    command: str | None


@dataclass(frozen=True, slots=True)
class TournamentRow:
    """How a tournament stands. `titles` are those of the first few entrants, the best first."""

    entrants: int
    matches: int
    failed: int
    limit: int | None
    regret: float | None
    titles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TaskRow:
    """One task of the workflow. While it is `open`, more items may come; `expected` is how many there will be.

    `waits_for` names the tasks that have not ended, as long as nothing of this one has begun.
    """

    name: str
    total: int
    open: bool
    expected: int | None
    started: bool
    done: int
    failed: int
    skipped: int
    cancelled: int
    waits_for: tuple[str, ...] = ()
    tournament: TournamentRow | None = None

    @property
    def ended(self) -> int:
        return self.done + self.failed + self.skipped + self.cancelled

    @property
    def complete(self) -> bool:
        return not self.open and self.ended >= self.total


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything a display shows. Seconds, dollars; None where something is not known yet.

    `usd` is the sum of the known prices, and `usd_known` whether there were no others. `live` are calls in flight.
    `waiting_for_budget` are calls that wait for what those may give back of a budget, `bounds` how that stands in other
    units than dollars, in words. `frozen` says what gets no calls
    at the moment, for how many seconds more, and why; of those with one reason it names the first.
    """

    name: str
    run: str
    elapsed: float
    forecast: float | None
    calls: int
    expected_calls: int | None
    live: int
    usd: float
    usd_known: bool
    budget_usd: float | None
    waiting_for_budget: int
    tasks: tuple[TaskRow, ...]
    lanes: tuple[LaneStatistics, ...]
    agents: tuple[tuple[str, int], ...]
    frozen: tuple[tuple[str, float, str], ...]
    notices: tuple[str, ...]
    failures: tuple[Failure, ...]
    failures_total: int
    status: RunStatus | None
    paused: bool = False
    bounds: str = ""


def failure_of(outcome: Outcome, *, run: str | None) -> Failure | None:
    """What to show of an outcome that is no success in itself; None for one that only follows from another.

    `run` is the short name of the run, None where there is no journal to look into.
    """
    error = outcome.error
    if outcome.state not in ("failed", "skipped") or (outcome.state == "skipped" and error is None):
        return None
    if error is not None and error.kind == "dependency":
        return None
    address = str(outcome.address)
    command = show_command(run, address) if run is not None else None
    return Failure(outcome.state, address, clean(str(error or "no reason recorded")), command)


def endpoint_name(event: LaneFrozen) -> str:
    """What is frozen: `acme/large`, or the account as a whole."""
    return event.account if event.concerns == event.account else f"{event.account}/{event.concerns}"


class Picture:
    """Folds events; `snapshot` gives what there is to see.

    `budget_usd` is the run's budget in dollars; `waiting_for_budget` says how many calls wait for it now; `journal`
    whether the run can be looked into later with `agentmesh show`; `paused` whether it is, now; `bounds` how the budget
    stands in other units, in words.
    """

    def __init__(
        self, *, budget_usd: float | None = None, waiting_for_budget: Callable[[], int] = lambda: 0,
        journal: bool = True, paused: Callable[[], bool] = lambda: False, bounds: Callable[[], str] = lambda: "",
    ) -> None:  # fmt: skip
        self._bounds = bounds
        self.budget_usd = budget_usd
        self._waiting_for_budget = waiting_for_budget
        self._paused = paused
        self.name = ""
        self.run = ""
        self.usd = 0.0
        self.failures_total = 0
        self.status: RunStatus | None = None
        self.half_way_forecast: float | None = None  # seconds of the run, as forecast with half of the calls made
        self.journal = journal
        self._rows: dict[str, Row] = {}
        self._standings: dict[str, StandingsChanged] = {}
        self._waits_for: Mapping[str, tuple[str, ...]] = {}
        self._forecast = Forecast()
        self._began = 0.0
        self._ended: RunEnded | None = None
        self._usd_known = True
        self._agents: dict[str, int] = {}
        self._live = 0
        self._frozen: dict[str, tuple[float, str]] = {}  # until when, and why
        self.said: dict[str, None] = {}  # every notice so far, once
        self._failures: deque[Failure] = deque(maxlen=_NEWEST_FAILURES)
        self._readers: dict[type, Callable[[Any], None]] = {
            RunStarted: self._run_started, TaskAdded: self._task_added, CollectionClosed: self._closed,
            TaskStarted: self._task_started, CallIntent: self._call_intent, CallEnded: self._call_ended,
            TaskEnded: self._task_ended, StandingsChanged: self._standings_changed, Notice: self._notice,
            LaneFrozen: self._lane_frozen, RunEnded: self._run_ended,
        }  # fmt: skip

    def __repr__(self) -> str:
        return f"<Picture {self.name} {self.run}: {len(self._rows)} tasks, {self._forecast.calls} calls>"

    def event(self, event: Event) -> None:
        """Take in what happened."""
        if (reader := self._readers.get(type(event))) is not None:
            reader(event)

    def snapshot(self, now: float, lanes: Sequence[LaneStatistics] = ()) -> Snapshot:
        """What there is to see at wall time `now`."""
        elapsed = self._ended.seconds if self._ended else max(0.0, now - self._began) if self._began else 0.0
        expected = expected_items(self._rows, self._waits_for)
        calls, ends = self._forecast.at(now, self._rows, expected=expected)
        if calls is not None:
            calls = max(calls, self._forecast.calls + self._live)  # what is in flight will have been called
        forecast = None if ends is None else max(elapsed, ends - self._began)
        if forecast is not None and calls is not None and 2 * self._forecast.calls <= calls:
            self.half_way_forecast = forecast
        return Snapshot(
            name=self.name, run=self.run, elapsed=elapsed, forecast=forecast,
            calls=self._forecast.calls, expected_calls=calls, live=self._live,
            usd=self.usd, usd_known=self._usd_known, budget_usd=self.budget_usd,
            waiting_for_budget=self._waiting_for_budget(),
            tasks=tuple(self._task(name, expected[name]) for name in self._rows),
            lanes=tuple(lanes),
            agents=tuple(self._agents.items()), frozen=() if self._ended else self._freezes(now),
            notices=tuple(self.said)[-_NEWEST_NOTICES:],
            failures=tuple(reversed(self._failures)), failures_total=self.failures_total, status=self.status,
            paused=self.status is None and self._paused(), bounds=self._bounds(),
        )  # fmt: skip

    def items_of(self, name: str) -> tuple[int, int | None]:
        """How many items of a task have ended, and of how many; None while more may come. Raises KeyError as `task`."""
        row = self._rows[name]
        return row.ended, None if row.open else row.total

    def task(self, name: str) -> TaskRow:
        """One task as it stands, without what is expected. Raises KeyError for a name that no event had."""
        return self._task(name, self.items_of(name)[1])

    def _task(self, name: str, expected: int | None) -> TaskRow:
        row = self._rows[name]
        begun = row.started or row.ended
        waiting_for = self._waits_for.get(name, ())
        waits_for = () if begun else tuple(other for other in waiting_for if not self._complete(other))
        standings = self._standings.get(name)
        return TaskRow(
            name=name, total=row.total, open=row.open, expected=expected,
            started=row.started, done=row.done, failed=row.failed, skipped=row.skipped, cancelled=row.cancelled,
            waits_for=waits_for, tournament=None if standings is None else _tournament(standings),
        )  # fmt: skip

    def _complete(self, name: str) -> bool:
        row = self._rows.get(name)
        return row is not None and not row.open and row.ended >= row.total

    def _row(self, name: str) -> Row:
        if (row := self._rows.get(name)) is None:
            row = self._rows[name] = Row()
        return row

    # --- what happened

    def _run_started(self, event: RunStarted) -> None:
        self._began, self.name = event.at, clean(event.name, limit=40)
        self.run = short_id(event.run)
        self._waits_for = event.waits_for
        for name in event.tasks:
            self._row(name)

    def _task_added(self, event: TaskAdded) -> None:
        row = self._row(event.task)
        row.total += 1
        row.calls_models = row.calls_models or bool(event.lane)
        if event.key is None and event.sample is None:
            row.open, row.single = False, True

    def _closed(self, event: CollectionClosed) -> None:
        self._row(event.task).open = False

    def _task_started(self, event: TaskStarted) -> None:
        self._row(address_task(event.address)).started = True

    def _call_intent(self, event: CallIntent) -> None:
        self._live += 1
        if event.agent is not None:
            self._agents[event.agent] = self._agents.get(event.agent, 0) + 1

    def _call_ended(self, event: CallEnded) -> None:
        self._live = max(0, self._live - 1)
        if event.agent is not None:
            self._agents[event.agent] = max(0, self._agents.get(event.agent, 0) - 1)
        if event.usd is not None:
            self.usd += event.usd
        elif event.result == "ok" or event.uncertain:
            self._usd_known = False
        if event.result != "pushed_back":
            self._forecast.call_ended(event.at)
            if (row := self._rows.get(address_task(event.address))) is not None:
                row.calls += 1

    def _task_ended(self, event: TaskEnded) -> None:
        outcome = event.outcome
        self._row(outcome.task).end(outcome)
        if (failure := failure_of(outcome, run=self.run if self.journal else None)) is not None:
            self._failures.append(failure)
            self.failures_total += 1

    def _standings_changed(self, event: StandingsChanged) -> None:
        self._standings[event.task] = event
        row = self._row(event.task)
        row.is_tournament, row.at_most = True, event.limit

    def _lane_frozen(self, event: LaneFrozen) -> None:
        name = endpoint_name(event)
        self._frozen[name] = event.at + event.seconds, clean(event.reason.removeprefix(f"{name}: "))

    def _freezes(self, now: float) -> tuple[tuple[str, float, str], ...]:
        self._frozen = {name: freeze for name, freeze in self._frozen.items() if freeze[0] > now}
        named: dict[str, tuple[str, float, str]] = {}
        for name, (until, reason) in self._frozen.items():
            named.setdefault(reason, (name, until - now, reason))
        return tuple(named.values())[:_NEWEST_NOTICES]

    def _notice(self, event: Notice) -> None:
        if len(self.said) < _NOTICES:
            self.said[clean(event.text)] = None

    def _run_ended(self, event: RunEnded) -> None:
        self._ended, self.status = event, event.status
        if event.usd is not None:
            self.usd, self._usd_known = event.usd, True


def _tournament(event: StandingsChanged) -> TournamentRow:
    titles = tuple(title_of(standing.item) or clean(standing.key, limit=40) for standing in event.top[:_TITLES])
    return TournamentRow(event.entrants, event.matches, event.failed, event.limit, event.regret, titles)
