"""A tournament as a task of a run: entrants join as they appear, matches run all the while, standings are its value.

`ranking` decides who meets whom and when it is over; here the matches are asked of the judge, through its lane, as
many at a time as useful. There are no rounds: whenever one match ends, the next may begin.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import anyio
from pydantic import TypeAdapter

from ..agents.agent import Agent
from ..agents.output import OutputType
from ..client.caller import Halted, Tally
from ..client.known import KnownMatches
from ..clock import monotonic, wall
from ..errors import CallFailed, ErrorInfo, UserError
from ..events import MatchEnded, Notice, Standing, StandingsChanged
from ..flow.graph import Node
from ..keys import Keys
from ..messages import digest
from ..outcome import Address
from ..ranking import Match, Stop, Tournament, TournamentStatistics, Verdict, judge_prompt, score_of
from ..template import Template
from .asked import describe_agent
from .perform import answer
from .record import Cost
from .run import Run
from .task import Task
from .work import FAIL, Job, OnFailure, SkipTask, Work

__all__ = ["Contest", "Matches", "contest_work", "read_standings", "start_contest"]

_MATCHES_AT_A_TIME = 64  # and twice the field at most: beyond that, matches in flight teach little new
_SHOWN = 5
_TELL_S = 0.2  # between two standings told: more often nobody can read, and each costs a refit and a record


class Matches:
    """The play of one tournament: `enter` and `complete` are told from outside, `perform` runs the matches.

    A match is a call of the task, found at `TASK/FIRST+SECOND/NUMBER`. `criteria` may be a function, which is asked
    when the matches begin.
    """

    def __init__(
        self, judge: Agent[Any], *, criteria: str | Callable[[], str], stop: Stop | None, seed: str
    ) -> None:  # fmt: skip
        self.judge = _as_judge(judge)
        self._criteria = criteria
        self._tournament = Tournament(random.Random(seed), stop=stop)
        self._arrived: list[tuple[str, Any, Callable[[], str]]] = []
        self._all_arrived = False
        self._refused: list[str] = []
        self._texts: dict[str, str] = {}
        self._changed = anyio.Event()
        self._last_error: ErrorInfo | None = None
        self._over: Exception | None = None
        self._tally: Tally | None = None
        self._played = 0  # matches that cost something: not those that a budget's end has kept from being asked
        self._told_at = -math.inf
        self._begun: list[tuple[str, str]] = []  # for each meeting before, or in a recording, its pair
        self._follows = False  # only those are played, so that a recorded tournament comes out as it did

    def __repr__(self) -> str:
        return f"<Matches {self._tournament!r}>"

    def enter(self, key: str, item: Any, *, show: Callable[[], str]) -> None:
        """An entrant has appeared. What the judge sees of it is asked for when it joins; see `refuse`."""
        self._arrived.append((key, item, show))
        self.notify()

    def refuse(self, key: str, error: ErrorInfo) -> None:
        """What appeared cannot be judged: it does not join, and the run says so."""
        self._refused.append(f"{key} does not take part: {error.message}")
        self.notify()

    def complete(self) -> None:
        """No more entrants will come."""
        self._all_arrived = True
        self.notify()

    def give_up(self, error: ErrorInfo) -> None:
        """There can be no tournament."""
        self._over = CallFailed(error)
        self.notify()

    def standings(self) -> tuple[Standing, ...]:
        """The newest standings."""
        return self._tournament.standings()

    def statistics(self) -> TournamentStatistics:
        """How far it is."""
        return self._tournament.statistics()

    def left(self) -> Cost | None:
        """What the matches that may still be played should cost, if each costs what it did so far; None if unknown."""
        limit, played, tally = self.statistics().limit, self._played, self._tally
        if not played or limit is None or tally is None:
            return None
        tokens = (tally.usage.input_tokens or 0) + (tally.usage.output_tokens or 0)
        unpriced = played if tally.usd is None else 0
        so_far, more = Cost(played, tally.usd or 0.0, tokens, tally.usage.calls, unpriced), Cost()
        more.add(so_far, max(0, limit - played) / played)
        return more

    async def changed(self) -> None:
        """Wait for the next change."""
        await self._changed.wait()

    async def perform(self, job: Job) -> tuple[Standing, ...]:
        """Run matches until the tournament is over. Raises CallFailed if none of them could be judged.

        Where the run stops, and nothing is in flight, there will be no more entrants: raises Halted.
        """
        criteria = self._criteria if isinstance(self._criteria, str) else self._criteria()
        if job.run.past is not None:
            self._begun = _meetings(job.run.past.asked_under(str(job.node.address)))
        for known in job.run.known:
            if isinstance(known, KnownMatches) and (pairs := known.matches(str(job.node.address))):
                self._begun, self._follows = list(pairs), True
        self._tally, job.run.record.matches[job.node.address.task] = job.caller.tally, self.left
        job.run.runner.on_stopped.append(self.notify)
        try:
            await self._play_all(job, criteria)
        finally:
            job.run.runner.on_stopped.remove(self.notify)
        if self._over is not None:
            raise self._over
        statistics = self.statistics()
        if not statistics.entrants:
            raise SkipTask(ErrorInfo("dependency", "there is nobody to rank"))
        if statistics.entrants > 1 and not statistics.matches:
            raise CallFailed(self._last_error or ErrorInfo("internal", "no match was judged"))
        self._tell(job, last=True)
        return self.standings()

    async def _play_all(self, job: Job, criteria: str) -> None:
        async with anyio.create_task_group() as group:
            while self._over is None:
                self._let_join(job)
                while not self._tournament.finished and self.statistics().in_flight < self._width():
                    match = self._again() or (None if self._follows else self._next())
                    if match is None:
                        break
                    group.start_soon(self._play, match, job, criteria)
                if self._tournament.finished or self._has_followed():
                    break
                if job.run.runner.stopping and not self.statistics().in_flight:
                    self._over = Halted()
                    break
                await self._changed.wait()

    def _again(self) -> Match | None:
        """A match that was begun before, so that no verdict that was paid for is lost."""
        pair = self._playable()
        if pair is None or (self._follows and not self._all_arrived):
            return None
        self._begun.remove(pair)
        match = self._tournament.play_again(*pair)
        if match is None:
            self._begun.clear()
        return match

    def _playable(self) -> tuple[str, str] | None:
        return next((one for one in self._begun if one[0] in self._texts and one[1] in self._texts), None)

    def _has_followed(self) -> bool:
        """Whether all matches of a recording have been played, and these are all that there are."""
        waits = not self._all_arrived or self._arrived or self._playable() or self.statistics().in_flight
        if not self._follows or waits:
            return False
        self._tournament.complete_entrants()
        return True

    def _next(self) -> Match | None:
        """Another match, unless all that are left are those begun before, whose entrants are still to come."""
        now = self.statistics()
        taken = now.matches + now.failed + now.in_flight + len(self._begun)
        if self._begun and not now.complete and now.limit is not None and taken >= now.limit:
            return None
        return self._tournament.next_match()

    def _let_join(self, job: Job) -> None:
        """Those who have appeared take part from now on; that there is a field, and its limit, is told at once."""
        arrived, self._arrived = self._arrived, []
        before = self.statistics().entrants
        for key, item, show in arrived:
            try:
                self._texts[key] = show()
            except UserError as problem:
                self._refused.append(f"{key} does not take part: {problem}")
                continue
            self._tournament.add(key, item)
        for refused in self._refused:
            text = f"{job.node.address}: {refused}"
            job.run.record.emit(Notice(at=wall(), level="warning", text=text))
        self._refused.clear()
        complete = self._all_arrived and not self._follows and not self.statistics().complete
        if complete:
            self._tournament.complete_entrants()
        if complete or self._told_at == -math.inf or before < 2 <= self.statistics().entrants:
            self._tell(job, last=True)

    def _width(self) -> int:
        return min(_MATCHES_AT_A_TIME, 2 * self.statistics().entrants)

    async def _play(self, match: Match, job: Job, criteria: str) -> None:
        address = f"{job.node.address}/{match.first}+{match.second}/{match.meeting}"
        caller = replace(job.caller, address=address, sample=match.meeting)
        score, error = None, None
        try:
            prompt = judge_prompt(criteria, self._texts[match.first], self._texts[match.second])
            score = score_of(await answer(replace(job, caller=caller), self.judge, prompt))
        except CallFailed as failure:
            self._last_error = error = failure.error
            if job.caller.stopwatch is not None and job.caller.stopwatch.left <= 0.0:
                self._over = self._over or failure
        except Exception as over:  # noqa: BLE001 - a budget or the run has ended, or something is broken: raised above
            self._over = self._over or over
        self._tournament.record(match, score)
        if score is not None or error is not None:
            self._played += 1
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
        top = self.standings()[:_SHOWN] if now.matches else ()
        job.run.record.emit(
            StandingsChanged(
                at=wall(), task=job.node.address.task, entrants=now.entrants, matches=now.matches, failed=now.failed,
                limit=now.limit, regret=now.regret, top=top,
            )
        )  # fmt: skip

    def notify(self) -> None:
        """Wake who waits for a change."""
        self._changed.set()
        self._changed = anyio.Event()


def _meetings(begun: Iterable[str]) -> list[tuple[str, str]]:
    """Each pair as often as it has met, from `FIRST+SECOND/NUMBER` of matches: one that is missing was not sent yet."""
    met: dict[tuple[str, str], int] = {}
    for match in begun:
        pair, _, number = match.rpartition("/")
        first, _, second = pair.partition("+")
        met[first, second] = max(met.get((first, second), 0), int(number) + 1)
    return [pair for pair, times in met.items() for _ in range(times)]


def _as_judge(agent: Agent[Any]) -> Agent[Any]:
    """The agent with the verdict as its output: a judge brings none of its own."""
    return Agent[Any](
        agent.name, model=agent.models, instructions=agent.instructions, output=OutputType.of_type(Verdict),
        tools=list(agent.tools.values()), settings=agent.settings, max_turns=agent.max_turns, repairs=agent.repairs,
        retry=agent.retry, timeout=agent.timeout, budget=agent.budget, priority=agent.priority,
        weight=agent.weight,
    )  # fmt: skip


class Contest(Task[tuple[Standing, ...]]):
    """The handle of a tournament. Awaiting it gives the final standings, a tuple of rows from the best on."""

    __slots__ = ("_matches",)

    def __init__(self, run: Run, node: Node, matches: Matches) -> None:
        super().__init__(run, node)
        self._matches = matches

    def __repr__(self) -> str:
        return f"<Contest {self.address}: {self._matches.statistics()}>"

    async def changes(self) -> AsyncGenerator[tuple[Standing, ...]]:
        """The newest standings each time they have changed, never a queue of old ones; ends with the tournament.

        Ends too when the run stops before that; awaiting the contest tells.
        """
        shown = -1
        while True:
            now = self._matches.statistics()
            if now.matches != shown:
                shown = now.matches
                yield self._matches.standings()
            elif self.ended or self._run.runner.over:
                return
            else:
                await self._matches.changed()


def start_contest(
    run: Run, judge: Agent[Any], *, entrants: Sequence[Task[Any]], criteria: str, entrant: str, stop: Stop | None,
    name: str, priority: float,
) -> Contest:  # fmt: skip
    """Put a tournament of these tasks' values into the graph; those that do not succeed do not join."""
    run.lane_of(judge.models)  # a name nobody serves is told now
    matches = Matches(judge, criteria=criteria, stop=stop, seed=f"{run.seed}/{name}")
    tasks = {one._node: one for one in entrants}
    nodes = list(tasks)
    keys, template = Keys(), Template(entrant, name=f"the entrant text of {name}")
    key_of_node = {node: keys.unique(node.address.tail or node.address.task) for node in nodes}

    def join(node: Node) -> None:
        outcome = tasks[node].settled
        if outcome is not None and outcome.ok:
            value = outcome.value
            matches.enter(key_of_node[node], value, show=lambda: template.render({"item": value}))

    field = run.runner.state.group(name, nodes)
    field.on_item.append(join)
    field.on_complete.append(matches.complete)
    for node in nodes:
        if node.ended:
            join(node)
    if field.complete:
        matches.complete()
    values = {key_of_node[node]: task for node, task in tasks.items()}

    def revive(rows: Any) -> tuple[Standing, ...]:
        standings = read_standings(rows)
        return tuple(replace(row, item=_value_of(values.get(row.key))) for row in standings)

    asked = None
    if run.is_kept:
        told = [describe_agent(judge), criteria, entrant, stop and (stop.regret, stop.matches), sorted(values)]
        asked = digest(told, length=16)
    work = replace(contest_work(matches, judge), asked=asked, revive=revive, joins=lambda: field.recalled)
    run.check_prices(judge.models, work.budgets)
    if judge.budget is not None:
        run.carrying.note(judge.budget, agent=judge.name)
    node = run.add(work, address=Address(name), priority=priority)
    run.runner.state.group(name, [node]).on_complete.append(matches.notify)  # who follows the changes hears of the end
    run.runner.on_stopped.append(matches.notify)
    return Contest(run, node, matches)


def read_standings(rows: Any) -> tuple[Standing, ...]:
    """Standings from the JSON that they were recorded as. Raises pydantic.ValidationError."""
    return _standings().validate_python(rows)


@functools.cache
def _standings() -> TypeAdapter[tuple[Standing, ...]]:
    return TypeAdapter(tuple[Standing, ...])


def _value_of(task: Task[Any] | None) -> Any:
    return None if task is None or task.settled is None else task.settled.value


def contest_work(matches: Matches, judge: Agent[Any], *, on_failure: OnFailure = FAIL) -> Work:
    """The work of a tournament's task."""
    return Work(
        matches.perform, agent=judge.name, weight=judge.weight, retry=judge.retry, attempt_timeout=judge.timeout,
        budgets=() if judge.budget is None else (judge.budget,), on_failure=on_failure,
    )  # fmt: skip
