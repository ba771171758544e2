"""One execution of a graph: tasks are started in it, and it says how it ended."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import anyio
import anyio.abc

from ..agents.agent import Agent, Call, Handle
from ..client.asking import price_problem
from ..client.budget import Budget, Budgets
from ..client.caller import Retry
from ..client.known import Known
from ..client.pausing import Pause
from ..clock import monotonic, wall
from ..errors import BudgetExceeded, UserError
from ..events import Event, RunEnded, RunStatus
from ..flow.graph import Collection, Node, Require
from ..flow.runner import Runner
from ..journal import Journal, NullJournal
from ..journal.past import Past
from ..keys import Keys
from ..limits.lane import LOOK_AHEAD
from ..limits.queue import Share
from ..messages import Settings
from ..outcome import Address, Outcome
from ..ranking import Stop
from .asked import asked_of, comes_back, lost_result, reviver_of, told_of_lost
from .calls import check_prompt, dependencies, key_of_call, require_of, retry_of, task_name
from .carrying import Carrying
from .perform import on_failure_of, perform, work_of
from .recall import Recall
from .record import Record
from .task import Task
from .work import Work, priority_number

if TYPE_CHECKING:
    from .contest import Contest
    from .mesh import Mesh

__all__ = ["CANCEL_GRACE_S", "PYTHON_LANE", "UNDECIDED_LANE", "Run"]

T = TypeVar("T")

PYTHON_LANE = "python"
UNDECIDED_LANE = "undecided"
"""Where calls wait whose model is known only when they are performed."""
_PYTHON_LIVE = 64  # Python tasks at a time: enough for what waits for I/O, few enough for what is in threads
CANCEL_GRACE_S = 5.0  # what is in flight is paid for, and most of it is there within that
_LEAST_WEIGHT = 1e-6


class Run:
    """A growing graph. Made by `mesh.open_run`; leaving that waits for all tasks, like a task group."""

    def __init__(
        self, mesh: Mesh, name: str, *, identity: str, journal: Journal | NullJournal, group: anyio.abc.TaskGroup,
        watchers: Sequence[Callable[[Event], None]], settings: Settings, budget: Budget | None, seed: int | None,
        weight: float = 1.0, past: Past | None = None, known: Sequence[Known] = (),
    ) -> None:  # fmt: skip
        self.mesh = mesh
        self.name = name
        self.id = identity
        self.share = Share(identity, _within_reason(weight))
        self.settings = settings
        self.budget = budget
        self.seed = seed
        self.past = past
        self.record = Record(journal, watchers, self._pull, past=past)
        self.recall = None if past is None else Recall(past, self.record.tell_once)
        self.known: tuple[Known, ...] = tuple(known) if self.recall is None else (self.recall, *known)
        self.rng = random.Random(seed)
        self.pause = Pause()
        self.over = anyio.Event()
        self.status: RunStatus | None = None
        self.reason: str | None = None
        self.runner = Runner(
            group, perform=self._perform, room=self._room, on_ended=self._on_ended,
            spare=lambda lane: 0 if lane == PYTHON_LANE else LOOK_AHEAD, recall=self.recalled,
        )  # fmt: skip
        self._group = group
        self._keys: defaultdict[str, Keys] = defaultdict(Keys)
        self._shares: dict[tuple[str | None, float], Share] = {}  # of agents with a weight
        self._priced: set[tuple[str, ...]] = set()  # models whose prices are known to be known
        self._began = monotonic()
        self._ended = False
        self.carrying = Carrying(identity, self.recall, pause=self.pause)
        self.exceeded: BudgetExceeded | None = None
        if budget is not None:
            if budget.joins(identity) and past is not None:
                spent = past.spent()
                budget.carry(spent[:3], seconds=spent.seconds)
            budget.begin()
            self.pause.stops_time_of(budget)

    def __repr__(self) -> str:
        return f"<Run {self.name} {self.id}: {self.runner.statistics()}>"

    @property
    def failures(self) -> Sequence[Outcome]:
        """The outcomes that have an error of their own, in the order in which they ended."""
        return self.record.failures

    @property
    def seconds(self) -> float:
        """For how long the run has been going on, in all its processes."""
        return (0.0 if self.past is None else self.past.seconds) + monotonic() - self._began

    # --- tasks

    def start(
        self, call: Call[T], *, name: str | None = None, key: str | None = None,
        after: Task[Any] | Iterable[Task[Any]] = (), require: str | float = "any",
        priority: str | float | None = None, timeout: float | None = None,
        retry: Retry | Mapping[str, Any] | int | None = None, budget: Budget | None = None,
        on_failure: str | Mapping[str, Any] = "fail", item: Any = None,
    ) -> Task[T]:  # fmt: skip
        """Put a call into the graph and return its handle at once. Handles in its arguments are dependencies.

        Handles inside a list or dict argument form a collection, of which `require` (`any`, `all`, `95%`) must
        succeed. `after` orders without data. `priority` is `low`, `normal`, `high` or a number. `timeout` is seconds
        from admission over all attempts; `retry` a number of attempts, `Retry(...)` or its fields as a dict; functions
        are tried once if it is not given. `on_failure` is `fail`, `skip`, `{"default": VALUE}` or
        `{"fallback": {"model": NAME}}`. `item` is what the outcome will say that the task was about.

        Raises UserError for what makes no sense, before anything is asked, and when the run has ended.
        """
        agent, task = call.agent, task_name(call, name)
        self._check_place()
        check_prompt(call, task)
        if timeout is not None and not timeout > 0:
            raise UserError(f"a timeout is a number of seconds above 0, not {timeout!r}")
        single, collections = dependencies(call)
        single += [cast("Task[Any]", after)] if isinstance(after, Handle) else after
        self._check_own(single, *collections)
        need, attempts, order = require_of(require), retry_of(retry), priority
        urgency = priority_number(agent.priority if order is None and agent is not None else order)
        lane, needs = PYTHON_LANE if agent is None else self.lane_of(agent.models), [one._node for one in single]
        address = Address(task, self.unique_key(task, key_of_call(call, key)))
        self._note_budgets(agent, budget, address=address)
        requires = [(self.runner.state.group(task, [one._node for one in group]), need) for group in collections]
        asked, revive = (asked_of(call), reviver_of(call)) if self.is_kept else (None, None)
        if self.recall is not None:
            found = self.recall.outcome(address, asked, needs=needs, requires=requires, revive=revive, item=item)
            if found is not None:
                self._note_added(address, lane=lane, needs=needs)
                return Task(self, self.runner.add_ended(address, found))
        work = work_of(
            call, retry=attempts, timeout=timeout, budgets=[budget] if budget else [], item=item, asked=asked,
            revive=revive,
        )  # fmt: skip
        if on_failure != "fail":
            work = work.with_on_failure(on_failure_of(on_failure, call, work, run=self))
        if agent is not None:
            self.check_prices(agent.models, work.budgets)
        else:
            self.tell_lost(task, call.function)
        node = self.add(work, address=address, lane=lane, priority=urgency, needs=needs, requires=requires)
        return Task(self, node)

    def _check_place(self) -> None:
        if self._ended:
            raise UserError(f"the run {self.name} has ended: nothing can be started in it")
        try:
            monotonic()
        except RuntimeError:  # no event loop runs here, so this is a thread
            raise UserError("tasks are started in the event loop, not in threads: make the function async") from None

    def _note_budgets(self, agent: Agent[Any] | None, own: Budget | None, *, address: Address) -> None:
        """Whose earlier calls these budgets count."""
        if agent is not None and agent.budget is not None:
            self.carrying.note(agent.budget, agent=agent.name)
        if own is not None:
            self.carrying.note(own, task=str(address))

    def check_prices(self, models: Sequence[str], budgets: Sequence[Budget]) -> None:
        """Raises UserError for a model of unknown price whose calls a budget in dollars would count."""
        if (key := tuple(models)) in self._priced or not Budgets((*budgets, self.budget, self.mesh.budget)).bound_usd:
            return
        for endpoint in self.mesh.route(models).endpoints:
            if (problem := price_problem(endpoint.model)) is not None:
                raise UserError(problem)
        self._priced.add(key)

    def _check_own(self, *groups: Iterable[Task[Any]]) -> None:
        for group in groups:
            for handle in group:
                if handle._run is not self:
                    raise UserError(f"{handle!r} is a task of another run: await it, and give its value")

    def add(
        self, work: Work, *, address: Address, lane: str = "", priority: float = 0.0, path: float = 0.0,
        needs: Sequence[Node] = (), requires: Sequence[tuple[Collection, Require]] = (),
        collection: Collection | None = None,
    ) -> Node:  # fmt: skip
        """Put work into the graph: what `start`, tournaments and workflows stand on."""
        self._check_place()
        self._note_added(address, lane=lane, needs=needs)
        if self.recall is not None and work.joins is None:
            found = self.recall.outcome(
                address, work.asked, needs=needs, requires=requires, revive=work.revive, item=work.item
            )
            if found is not None:
                return self.runner.add_ended(address, found, collection=collection)
        return self.runner.add(
            address, work, lane=lane, priority=priority, path=path, share=self.share_of(work).name, needs=needs,
            requires=requires, collection=collection,
        )  # fmt: skip

    def _note_added(self, address: Address, *, lane: str, needs: Sequence[Node]) -> None:
        if address in self.runner.state.nodes:
            raise UserError(f"the run {self.name} has a task {address} already: give this one another name")
        self.record.add(address, lane=lane or None, needs=needs)

    def tournament(
        self, judge: Agent[Any], *, entrants: Iterable[Task[Any]], criteria: str = "", entrant: str = "{{ item }}",
        stop: Stop | None = None, name: str = "contest", priority: str | float | None = None,
    ) -> Contest:  # fmt: skip
        """A tournament of the values of `entrants`, who join as they appear; the judge sees `entrant` of each.

        `criteria` is what the judge compares by. Raises UserError for what makes no sense, before anything is asked.
        """
        from .contest import start_contest

        field = list(dict.fromkeys(entrants))
        self._check_place()
        self._check_own(field)
        return start_contest(
            self, judge, entrants=field, criteria=criteria, entrant=entrant, stop=stop, name=name,
            priority=priority_number(judge.priority if priority is None else priority),
        )  # fmt: skip

    def unique_key(self, task: str, key: str) -> str:
        """The key itself, or with `~2`, `~3` where the task has it already, in the order of starts."""
        return self._keys[task].unique(key)

    def lane_of(self, models: Sequence[str]) -> str:
        """The backlog in which calls of these models wait: an account, or several that share the work (`a#1+a#2`).

        Raises UserError for a model nobody serves.
        """
        return self.mesh.route(models).lane

    def share_of(self, work: Work) -> Share:
        """On whose behalf the calls of a work wait: its agent's, if that has a weight, else the run's.

        An agent's weight counts times the run's.
        """
        if work.weight is None:
            return self.share
        key = work.agent, work.weight
        if key not in self._shares:
            weight = _within_reason(self.share.weight * work.weight)
            self._shares[key] = Share(f"{self.id}/{work.agent}", weight)
        return self._shares[key]

    async def _perform(self, node: Node) -> Outcome | None:
        outcome = await perform(self, node)
        if outcome is not None and self.past is not None and not node.recalled:
            node.recalled = self.past.ended_so(outcome, asked=self._asked(node, outcome))
            if not node.recalled:  # else what depends on it need not be performed again
                self.record.done_anew(node)
        return outcome

    def _on_ended(self, node: Node) -> None:
        outcome = node.outcome
        assert outcome is not None
        asked = self._asked(node, outcome)
        self.record.end(outcome, address=str(node.address), asked=asked, recalled=node.recalled)

    def _asked(self, node: Node, outcome: Outcome) -> str | None:
        """What a later process finds a task's end by; None where it has to be performed again.

        That is one that has started others, which are to be started again, and one whose value cannot be read again.
        """
        work: Work | None = node.payload
        if work is None or node.grew:
            return None
        if self.is_kept and outcome.ok and not work.is_call and not comes_back(outcome.value, work.revive):
            self.record.tell_once(told_of_lost(node.address.task, type(outcome.value)))
            return None
        return work.asked

    # --- going on

    def tell_lost(self, task: str, function: Callable[..., Any] | None) -> None:
        """Say before anything is paid that a function's results will not be found by a later process."""
        if self.is_kept and (kind := lost_result(function)) is not None:
            self.record.tell_once(told_of_lost(task, kind))

    @property
    def is_kept(self) -> bool:
        """Whether what happens is recorded, so that another process can go on."""
        return self.record.journal.path is not None

    def recalled(self, node: Node) -> Outcome | None:
        """How a task ended in an earlier process; None if it is to be performed.

        It must ask what was asked then, and so must everything that it depends on.
        """
        work: Work = node.payload
        if self.recall is None or (work.joins is not None and not work.joins()):
            return None
        return self.recall.outcome(
            node.address, work.asked, needs=node.needs, requires=node.requires, revive=work.revive, item=work.item,
            joined=work.joins is not None,
        )  # fmt: skip

    def _room(self, lane: str) -> float:
        if lane == PYTHON_LANE:
            return _PYTHON_LIVE
        if lane == UNDECIDED_LANE:
            return LOOK_AHEAD
        room = self.mesh.room(lane)
        return math.inf if room is None else room

    def _pull(self, account: str) -> None:
        for backlog in self.mesh.backlogs(account):  # a call has left the lane's queue: there is room for one more
            self.runner.pull(backlog)

    # --- the end

    def stop(self, status: RunStatus, reason: str, *, exceeded: BudgetExceeded | None = None) -> None:
        """Start nothing new; what runs goes on. What is left has no end state: it is unfinished."""
        if self.status is None:
            self.status, self.reason, self.exceeded = status, reason, exceeded
        self.runner.stop()

    def set_paused(self, paused: bool) -> None:
        """Send nothing new and start no task until it is unpaused; what is in flight goes on to its end."""
        if paused:
            self.runner.pause()
            self.pause.begin()
            self.mesh.turn_away(self.id)
        else:
            self.pause.end()
            self.runner.unpause()

    async def cancel(self, *, grace: float = CANCEL_GRACE_S, reason: str = "the run was cancelled") -> None:
        """Start nothing new, give what is in flight `grace` seconds, then cut it short, and the run's own block too."""
        if self._ended:
            return
        self.status, self.reason = "cancelled", reason
        self.runner.stop()
        self.pause.end()  # who waits for that, or in a lane, is not sent any more
        self.mesh.turn_away(self.id)
        with anyio.move_on_after(grace):
            await self.runner.wait_finished()
        self.cut()

    def cut(self) -> None:
        """Cut short at once whatever is in flight, and the run's own block. What a stop cuts short is unfinished."""
        if self.status is None:
            self.status, self.reason = "cancelled", "the run was cut short"
        self.runner.puts_back = self.status == "stopped"
        self._group.cancel_scope.cancel()

    def halted(self) -> bool:
        """Whether calls that still wait in a lane shall not be sent any more."""
        return self.status == "cancelled"

    def abort(self, error: UserError) -> None:
        """The journal cannot be written any more: nothing can be kept, so nothing more may be paid."""
        self.record.broken = error
        self.status, self.reason = "cancelled", str(error)
        self._group.cancel_scope.cancel()

    def end(self) -> RunEnded:
        """Settle how the run ended, and say so. Whoever awaits what is unfinished need not wait any more."""
        self._ended = True
        self.over.set()
        self.runner.stop()
        self.pause.end()  # budgets may be of other runs, too
        statistics = self.runner.statistics()
        if self.status is None:
            self.status = "cancelled" if statistics.unfinished else "partial" if statistics.failed else "done"
        ended = RunEnded(
            at=wall(), status=self.status, seconds=self.seconds, usage=self.record.usage, usd=self.record.usd,
            unfinished=statistics.unfinished, reason=self.reason,
            paused=self.pause.seconds + (0.0 if self.past is None else self.past.paused),
        )  # fmt: skip
        if self.record.broken is None:
            if self.status in ("done", "partial"):  # else the graph may not be complete
                self.record.drop_all_but(self.runner.state.nodes)
            self.record.emit(ended)
        return ended


def _within_reason(weight: float) -> float:
    """From a millionth to a million: beyond that, what a share has used would drown that of all others."""
    return min(max(weight, _LEAST_WEIGHT), 1 / _LEAST_WEIGHT)
