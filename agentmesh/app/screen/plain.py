"""A run as plain lines: one for each change worth a line, in the words of the picture, for logs and pipes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ...events import (
    CallEnded,
    Event,
    LaneFrozen,
    Notice,
    RunEnded,
    RunStarted,
    StandingsChanged,
    TaskEnded,
    TaskStarted,
)  # fmt: skip
from ..wording import address_task, clean, count, dollars, duration, plural, seconds
from .picture import Picture, TaskRow, endpoint_name, failure_of
from .view import task_words

__all__ = ["PlainLines"]

_FAILURES_PER_TASK = 10
"""Lines for failures of one task; after that they are only counted, in the lines of progress."""

_MANY = 12
"""Items of a task from which its progress is worth lines; of fewer, the end is."""

_FREEZE_S = 10.0  # one line for the freezes of an endpoint in so many seconds
_PUSHED_BACK = (1, 10, 100)  # calls of an endpoint that were pushed back which are worth a line; and each thousandth


class PlainLines:
    """Turns events into lines, most of them into none. It folds the `picture` itself and costs the same per event."""

    def __init__(self, picture: Picture) -> None:
        self._picture = picture
        self._began: float | None = None
        self._started: set[str] = set()
        self._quarters: dict[str, int] = {}
        self._failures: dict[str, int] = {}
        self._froze: dict[str, float] = {}
        self._pushed_back: dict[str, int] = {}
        self._answered_by: set[bool] = set()  # whether models are simulated
        self._reason = ""  # of the push-back that was told last
        self._writers: dict[type, Callable[[Any], Iterator[str]]] = {
            RunStarted: self._run_started, TaskStarted: self._task_started, TaskEnded: self._task_ended,
            StandingsChanged: self._standings, CallEnded: self._call_ended, LaneFrozen: self._frozen,
            Notice: self._notice, RunEnded: self._run_ended,
        }  # fmt: skip

    def __repr__(self) -> str:
        return f"<PlainLines of {self._picture!r}>"

    def lines(self, event: Event) -> list[str]:
        """The lines that this event is worth, each with the time since the run began before it."""
        self._picture.event(event)
        if self._began is None:
            self._began = event.at
        writer = self._writers.get(type(event))
        return [f"{duration(event.at - self._began)}  {line}" for line in writer(event)] if writer else []

    def _run_started(self, event: RunStarted) -> Iterator[str]:
        tasks = f": {', '.join(event.tasks)}" if event.tasks else ""
        yield f"{self._picture.name} {self._picture.run}{tasks}"

    def _task_started(self, event: TaskStarted) -> Iterator[str]:
        task = address_task(event.address)
        if task not in self._started:
            self._started.add(task)
            yield f"{task} started"

    def _task_ended(self, event: TaskEnded) -> Iterator[str]:
        outcome = event.outcome
        failure = failure_of(outcome, run=self._picture.run if self._picture.journal else None)
        if failure is not None:
            number = self._failures[outcome.task] = self._failures.get(outcome.task, 0) + 1
            if number <= _FAILURES_PER_TASK:
                command = f"   {failure.command}" if failure.command else ""
                yield f"{failure.state} {failure.address}: {failure.error}{command}"
            if number == _FAILURES_PER_TASK:
                yield f"{outcome.task}: what else does not succeed is only counted"
        ended, total = self._picture.items_of(outcome.task)
        if total is not None and ended >= total:
            yield f"{outcome.task} ended: {_progress(self._picture.task(outcome.task))}"
        elif total is not None and total >= _MANY and self._passed(outcome.task, ended, total=total):
            yield f"{outcome.task} {_progress(self._picture.task(outcome.task))}"

    def _passed(self, name: str, ended: int, *, total: int) -> bool:
        """Whether one more quarter is behind us."""
        quarter = 4 * ended // total if total else 0
        passed = quarter > self._quarters.get(name, 0)
        self._quarters[name] = max(quarter, self._quarters.get(name, 0))
        return passed

    def _standings(self, event: StandingsChanged) -> Iterator[str]:
        if event.limit is None or not self._passed(event.task, event.matches + event.failed, total=event.limit):
            return
        contest = self._picture.task(event.task).tournament
        assert contest is not None  # this event has just made it
        words = [f"match {count(contest.matches)} of at most {count(event.limit)}"]
        words += [f"regret {event.regret:.2f}"] if event.regret is not None else []
        words += [f"{count(event.failed)} failed"] if event.failed else []
        words += [f"{place}. {title}" for place, title in enumerate(contest.titles, 1)]
        yield f"{event.task} {'  '.join(words)}"

    def _call_ended(self, event: CallEnded) -> Iterator[str]:
        if event.result == "ok":
            self._answered_by.add(event.simulated)
        if event.result == "pushed_back":
            name = f"{event.account}/{event.model}"
            number = self._pushed_back[name] = self._pushed_back.get(name, 0) + 1
            if number == 1:
                self._reason = "" if event.error is None else event.error.message.removeprefix(f"{name}: ")
                yield f"{name} pushed a call back; it waits and goes again: {clean(self._reason)}"
            elif number in _PUSHED_BACK or number % 1000 == 0:
                yield f"{name} has pushed back {plural(number, 'call')} so far"

    def _frozen(self, event: LaneFrozen) -> Iterator[str]:
        name = endpoint_name(event)
        if event.at - self._froze.get(name, float("-inf")) >= _FREEZE_S:
            self._froze[name] = event.at
            reason = event.reason.removeprefix(f"{name}: ")
            why = "" if reason == self._reason else f": {clean(reason)}"
            self._reason = reason
            yield f"{name} frozen, no calls for {seconds(event.seconds)}{why}"

    def _notice(self, event: Notice) -> Iterator[str]:
        yield f"notice: {clean(event.text)}"

    def _run_ended(self, event: RunEnded) -> Iterator[str]:
        mark = " (simulated)" if self._answered_by == {True} else ""
        usd = "" if event.usd is None else f", {dollars(event.usd)}{mark}"
        left = f", {count(event.unfinished)} unfinished" if event.unfinished else ""
        reason = f" ({clean(event.reason)})" if event.reason else ""
        yield f"{event.status}{reason} after {duration(event.seconds)}: {plural(event.usage.calls, 'call')}{usd}{left}"


def _progress(row: TaskRow) -> str:
    return ", ".join([f"{count(row.done)}/{count(row.total)}", *task_words(row)])
