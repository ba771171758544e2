"""A tournament as a task of a run: entrants join as they appear, matches run all the while, standings are its value.

`ranking` decides who meets whom and when it is over; here the matches are asked of the judge, through its lane, as
many at a time as useful. There are no rounds: whenever one match ends, the next may begin.
"""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from dataclasses import replace
from typing import Any

import anyio

from ..agents.agent import Agent, Handle
from ..agents.output import OutputType
from ..clock import monotonic, wall
from ..errors import BudgetExceeded, CallFailed, ErrorInfo
from ..events import MatchEnded, Standing, StandingsChanged
from ..flow.graph import Node
from ..outcome import Address
from ..ranking import Match, Stop, Tournament, TournamentStatistics, Verdict, judge_prompt, score_of
from ..template import Template
from .perform import answer
from .run import Run
from .task import Task
from .work import FAIL, Job, OnFailure, Work

__all__ = ["Contest", "Matches", "contest_work", "start_contest"]

_MATCHES_AT_A_TIME = 64  # and twice the field at most: beyond that, matches in flight teach little new
_SHOWN = 5
_TELL_S = 0.2  # between two standings told: more often nobody can read, and each costs a refit and a record


class Matches:
    """The play of one tournament: `enter` and `complete` are told from outside, `perform` runs the matches.

    `entrant` is the template of what the judge sees of an item; a match is a call of the task, found at
    `TASK/FIRST+SECOND/NUMBER`.
    """

    def __init__(
        self, judge: Agent[Any], *, criteria: str, entrant: str | Callable[[Any], str], stop: Stop | None, seed: str
    ) -> None:  # fmt: skip
        self.judge = _as_judge(judge)
        self._criteria = criteria
        template = Template(entrant, name="entrant") if isinstance(entrant, str) else None
        self._show: Callable[[Any], str] = (
            entrant if callable(entrant) else lambda item: template.render({"item": item})  # type: ignore[union-attr]
        )
        self._tournament = Tournament(random.Random(seed), stop=stop)
        self._texts: dict[str, str] = {}
        self._changed = anyio.Event()
        self._last_error: ErrorInfo | None = None
        self._over: BudgetExceeded | None = None
        self._told_at = -math.inf

    def __repr__(self) -> str:
        return f"<Matches {self._tournament!r}>"

    def enter(self, key: str, item: Any) -> None:
        """An entrant has appeared."""
        self._texts[key] = self._show(item)
        self._tournament.add(key, item)
        self.notify()

    def complete(self) -> None:
        """No more entrants will come."""
        self._tournament.complete_entrants()
        self.notify()

    def standings(self) -> tuple[Standing, ...]:
        """The newest standings."""
        return self._tournament.standings()

    def statistics(self) -> TournamentStatistics:
        """How far it is."""
        return self._tournament.statistics()

    async def changed(self) -> None:
        """Wait for the next change."""
        await self._changed.wait()

    async def perform(self, job: Job) -> tuple[Standing, ...]:
        """Run matches until the tournament is over. Raises CallFailed if none of them could be judged."""
        async with anyio.create_task_group() as group:
            while not self._tournament.finished and self._over is None:
                while self._tournament.statistics().in_flight < self._width():
                    match = self._tournament.next_match()
                    if match is None:
                        break
                    group.start_soon(self._play, match, job)
                if not self._tournament.finished:
                    await self._changed.wait()
            if self._over is None:
                group.cancel_scope.cancel()  # what is still in flight can change nothing any more
        if self._over is not None:
            raise self._over
        statistics = self.statistics()
        if statistics.entrants > 1 and not statistics.matches:
            raise CallFailed(self._last_error or ErrorInfo("internal", "no match was judged"))
        self._tell(job, last=True)
        return self.standings()

    def _width(self) -> int:
        return min(_MATCHES_AT_A_TIME, 2 * self._tournament.statistics().entrants)

    async def _play(self, match: Match, job: Job) -> None:
        address = f"{job.node.address}/{match.first}+{match.second}/{match.meeting}"
        caller = replace(job.caller, address=address)
        score, error = None, None
        try:
            prompt = judge_prompt(self._criteria, self._texts[match.first], self._texts[match.second])
            score = score_of(await answer(replace(job, caller=caller), self.judge, prompt))
        except CallFailed as failure:
            self._last_error = error = failure.error
        except BudgetExceeded as over:
            self._over = over
        self._tournament.record(match, score)
        if self._over is None:
            job.run.record.emit(
                MatchEnded(
                    at=wall(), address=address, first=match.first, second=match.second, score=score,
                    judge=self.judge.name, error=error,
                )
            )  # fmt: skip
            self._tell(job)
        self.notify()

    def _tell(self, job: Job, *, last: bool = False) -> None:
        """The newest standings, unless others were told a moment ago."""
        at = monotonic()
        if not last and at - self._told_at < _TELL_S:
            return
        self._told_at = at
        now = self.statistics()
        job.run.record.emit(
            StandingsChanged(
                at=wall(), task=job.node.address.task, entrants=now.entrants, matches=now.matches, failed=now.failed,
                limit=now.limit, regret=now.regret, top=self.standings()[:_SHOWN],
            )
        )  # fmt: skip

    def notify(self) -> None:
        """Wake who waits for a change."""
        self._changed.set()
        self._changed = anyio.Event()


def _as_judge(agent: Agent[Any]) -> Agent[Any]:
    """The agent with the verdict as its output: a judge brings none of its own."""
    return Agent[Any](
        agent.name, model=agent.models, instructions=agent.instructions, output=OutputType.of_type(Verdict),
        tools=list(agent.tools.values()), settings=agent.settings, max_turns=agent.max_turns, repairs=agent.repairs,
        retry=agent.retry, timeout=agent.timeout, budget=agent.budget, priority=agent.priority,
    )  # fmt: skip


class Contest(Handle):
    """The handle of a tournament. Awaiting it gives the final standings, a tuple of rows from the best on."""

    __slots__ = ("_matches", "_task")

    def __init__(self, task: Task[tuple[Standing, ...]], matches: Matches) -> None:
        self._task = task
        self._matches = matches

    def __repr__(self) -> str:
        return f"<Contest {self._task.address}: {self._matches.statistics()}>"

    @property
    def _node(self) -> Node:
        return self._task._node

    @property
    def address(self) -> Address:
        """Where it is found in the run."""
        return self._task.address

    def __await__(self) -> Generator[Any, Any, tuple[Standing, ...]]:
        return self._task.__await__()

    async def changes(self) -> AsyncIterator[tuple[Standing, ...]]:
        """The newest standings each time they have changed, never a queue of old ones; ends with the tournament."""
        shown = -1
        while True:
            now = self._matches.statistics()
            if now.matches != shown:
                shown = now.matches
                yield self._matches.standings()
            elif self._task.ended:
                return
            else:
                await self._matches.changed()


def start_contest(
    run: Run, judge: Agent[Any], *, entrants: Sequence[Task[Any]], criteria: str, entrant: str, stop: Stop | None,
    name: str, priority: float,
) -> Contest:  # fmt: skip
    """Put a tournament of these tasks' values into the graph; those that do not succeed do not join."""
    matches = Matches(judge, criteria=criteria, entrant=entrant, stop=stop, seed=f"{run.seed}/{name}")
    nodes = [one._node for one in entrants]
    field = run.runner.state.group(name, nodes)
    field.on_item.append(lambda node: _join(matches, node))
    field.on_complete.append(matches.complete)
    for node in nodes:
        if node.ended:
            _join(matches, node)
    if field.complete:
        matches.complete()
    node = run.add(contest_work(matches, judge), address=Address(name), priority=priority)
    run.runner.state.group(name, [node]).on_complete.append(matches.notify)  # who follows the changes hears of the end
    return Contest(Task(run, node), matches)


def contest_work(matches: Matches, judge: Agent[Any], *, on_failure: OnFailure = FAIL) -> Work:
    """The work of a tournament's task."""
    return Work(
        matches.perform, agent=judge.name, retry=judge.retry, attempt_timeout=judge.timeout,
        budgets=() if judge.budget is None else (judge.budget,), on_failure=on_failure,
    )  # fmt: skip


def _join(matches: Matches, node: Node) -> None:
    if node.outcome is not None and node.outcome.ok:
        address = node.address
        matches.enter(address.tail or address.task, node.outcome.value)
