"""What each kind of task does: its work, with the options that agent, task and workflow say, the nearer winning."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from ..agents.agent import Agent
from ..agents.loop import MAX_TURNS, REPAIRS
from ..client.budget import Budget
from ..client.caller import Retry
from ..mesh.contest import Matches, contest_work
from ..mesh.perform import answer, call_python
from ..mesh.run import PYTHON_LANE, UNDECIDED_LANE, Run
from ..mesh.work import FAIL, Job, OnFailure, Perform, SkipTask, Work
from ..outcome import Outcome
from ..ranking import Stop
from ..references import TemplateProblem
from .asked import Asked, reviver
from .plan import AgentPlan, Limits, RankPlan, TaskPlan, Text, Workflow
from .spec import BudgetSpec
from .views import CollectionView, Item, Scoped

__all__ = ["Works", "budget_name", "budget_of", "ended_budgets"]

Scope = Callable[[Scoped | None], dict[str, Any]]
WaitFor = Callable[[TaskPlan], Awaitable[None]]


class Works:
    """Makes the works of one workflow in one run.

    `scope` gives what an item sees when it is performed; `wait_for` waits for all that a fallback reads.
    """

    def __init__(self, run: Run, workflow: Workflow, *, scope: Scope, wait_for: WaitFor) -> None:
        self._run = run
        self._workflow = workflow
        self._scope = scope
        self._wait_for = wait_for
        self._agents: dict[str, Agent[Any]] = {}
        self._budgets: dict[tuple[str, str], Budget | None] = {}
        self._terms: dict[str, Work] = {}
        self._lanes: dict[str, str] = {}
        self._asked = Asked(workflow)

    def of(self, plan: TaskPlan, item: Scoped) -> Work:
        """The work of one item of a task that is no tournament."""
        work = self._work(plan, item, perform=self._conditional(plan, item, perform=self._perform(plan, item)))
        return work if plan.on_failure.action == "fail" else work.with_on_failure(self._on_failure(plan, item))

    def _work(self, plan: TaskPlan, item: Scoped, *, perform: Perform) -> Work:
        """The work on the terms of its task, which are the same for all of its items."""
        terms = self._terms.get(plan.name)
        if terms is None:
            self._run.tell_lost(plan.name, plan.function)
            agent = self._workflow.agents[plan.agent] if plan.agent is not None else None
            terms = self._terms[plan.name] = Work(
                perform, is_call=agent is not None, agent=plan.agent, retry=self._retry(plan, agent),
                timeout=plan.limits.timeout, attempt_timeout=agent.limits.timeout if agent is not None else None,
                budgets=self._budgets_of(plan, agent), weight=agent.weight if agent is not None else None,
                revive=reviver(plan, agent),
            )  # fmt: skip
        about = item.about
        asked = self._asked.of(plan, item) if self._run.is_kept else None
        return terms.of_item(perform, item=None if isinstance(about, Item) else about, asked=asked)

    def _perform(self, plan: TaskPlan, item: Scoped) -> Perform:
        match plan.kind:
            case "agent":
                return self._ask(plan, item)
            case "python":
                return self._call(plan, item)
            case _:

                async def evaluate(job: Job) -> Any:
                    return None if plan.value is None else _as_given(plan.value.evaluate(self._scope(item)))

                return evaluate

    def _ask(self, plan: TaskPlan, item: Scoped, *, model: str | None = None) -> Perform:
        async def ask(job: Job) -> Any:
            scope = self._scope(item)
            models = self._models(plan, scope) if model is None else self._workflow.routes(model)
            await self._run.mesh.read_models(models)
            return await answer(job, self._agent(plan), _text(plan.prompt, scope), models=models)

        return ask

    def _call(self, plan: TaskPlan, item: Scoped) -> Perform:
        async def call(job: Job) -> Any:
            assert plan.function is not None
            scope = self._scope(item)
            arguments = {name: _as_given(value.evaluate(scope)) for name, value in plan.arguments.items()}
            retry = self._retry(plan, None)
            return await call_python(job, plan.function, kwargs=arguments, retry=retry, timeout=plan.limits.timeout)

        return call

    def _conditional(self, plan: TaskPlan, item: Scoped, *, perform: Perform) -> Perform:
        if plan.condition is None:
            return perform
        condition = plan.condition

        async def if_true(job: Job) -> Any:
            if not condition.evaluate(self._scope(item)):
                raise SkipTask
            return await perform(job)

        return if_true

    def _on_failure(self, plan: TaskPlan, item: Scoped) -> OnFailure:
        given = plan.on_failure
        match given.action:
            case "skip":
                return OnFailure("skip")
            case "default":
                return OnFailure("default", given.value)
            case "task" if given.task is not None:
                return OnFailure("fallback", work=self._fallback(self._workflow.tasks[given.task], item))
            case "model" if given.model is not None:
                ask = self._ask(plan, item, model=given.model)
                return OnFailure("fallback", work=self._work(plan, item, perform=ask))
            case _:
                return FAIL

    def _fallback(self, other: TaskPlan, item: Scoped) -> Work:
        """The work of another task, tried for this item. What it reads is waited for only when it is tried."""
        work = self.of(other, item)

        async def try_it(job: Job) -> Any:
            await self._wait_for(other)
            return await work.perform(job)

        return replace(work, perform=try_it) if other.waits or other.order else work

    # --- agents

    def _agent(self, plan: TaskPlan) -> Agent[Any]:
        """The task's agent, with the task's settings over its own."""
        if plan.name not in self._agents:
            assert plan.agent is not None
            self._agents[plan.name] = self._make_agent(self._workflow.agents[plan.agent], plan.limits)
        return self._agents[plan.name]

    def _make_agent(self, plan: AgentPlan, nearer: Limits) -> Agent[Any]:
        return Agent[Any](
            plan.name, model=self._workflow.routes(plan.model or ""), output=plan.output, tools=plan.tools,
            instructions=_text(plan.instructions, self._scope(None)), timeout=plan.limits.timeout,
            settings=nearer.settings.over(plan.limits.settings).over(self._workflow.limits.settings),
            max_turns=MAX_TURNS if plan.max_turns is None else plan.max_turns,
            repairs=REPAIRS if plan.repairs is None else plan.repairs, weight=plan.weight,
        )  # fmt: skip

    def _models(self, plan: TaskPlan, scope: dict[str, Any]) -> tuple[str, ...]:
        if plan.model is not None:
            return self._workflow.routes(plan.model.render(scope))
        assert plan.agent is not None
        return self._workflow.routes(self._workflow.agents[plan.agent].model or "")

    def lane(self, plan: TaskPlan, item: Scoped) -> str:
        """The account in whose backlog an item waits until there is room for it."""
        if plan.name in self._lanes:
            return self._lanes[plan.name]
        match plan.kind:
            case "python":
                lane = PYTHON_LANE
            case "agent":
                lane = self._lane_of_call(plan, item)
            case _:
                lane = ""
        if plan.model is None:
            self._lanes[plan.name] = lane
        return lane

    def _lane_of_call(self, plan: TaskPlan, item: Scoped) -> str:
        try:
            models = self._models(plan, self._scope(item))
        except TemplateProblem:  # its model's name depends on a value that is not there yet
            return UNDECIDED_LANE
        return self._run.lane_of(models) if self._run.mesh.has_read(models) else UNDECIDED_LANE

    # --- tournaments

    def matches(self, plan: TaskPlan, rank: RankPlan) -> Matches:
        """The tournament of a task. Raises TemplateProblem if the judge's instructions cannot be made."""
        judge = self._make_agent(self._workflow.agents[rank.judge], plan.limits)
        return Matches(
            judge, criteria=lambda: _text(rank.criteria, self._scope(None)), seed=f"{self._run.seed}/{plan.name}",
            stop=Stop(regret=rank.regret, matches=rank.matches),
        )  # fmt: skip

    def shown(self, rank: RankPlan, item: Scoped) -> str:
        """What the judge sees of an entrant. Raises TemplateProblem."""
        return _text(rank.entrant, self._scope(item))

    def contest(self, plan: TaskPlan, matches: Matches, *, joins: Callable[[], bool]) -> Work:
        """The work of a tournament's task: skipped if nobody entered. `joins`: whether all who enter were recalled."""
        assert plan.rank is not None
        judge = self._workflow.agents[plan.rank.judge]
        work = contest_work(matches, matches.judge, on_failure=self._on_failure(plan, Scoped()))
        return replace(
            work, perform=self._conditional(plan, Scoped(), perform=matches.perform), retry=self._retry(plan, judge),
            timeout=plan.limits.timeout, budgets=self._budgets_of(plan, judge), joins=joins,
            asked=self._asked.of(plan, Scoped()) if self._run.is_kept else None, revive=reviver(plan, None),
        )  # fmt: skip

    # --- the words that all levels share

    def priority(self, plan: TaskPlan) -> float:
        """The nearest priority that is said: the task's, its agent's, the workflow's."""
        name = plan.agent if plan.rank is None else plan.rank.judge
        agent = self._workflow.agents[name].limits if name is not None else Limits()
        said = (plan.limits.priority, agent.priority, self._workflow.limits.priority)
        return next((priority for priority in said if priority is not None), 0.0)

    def _retry(self, plan: TaskPlan, agent: AgentPlan | None) -> Retry | None:
        levels = (plan.limits, agent.limits if agent is not None else Limits(), self._workflow.limits)
        said = [limits.retry for limits in levels if limits.retry is not None]
        attempts = next((retry.attempts for retry in said if retry.attempts is not None), Retry().attempts)
        on = next((retry.on for retry in said if retry.on is not None), None)
        return Retry(attempts, on) if said else None

    def _budgets_of(self, plan: TaskPlan, agent: AgentPlan | None) -> list[Budget]:
        found = [self._budget("task", plan.name, spec=plan.limits.budget)]
        if agent is not None:
            found.insert(0, self._budget("agent", agent.name, spec=agent.limits.budget))
        return [budget for budget in found if budget is not None]

    def _budget(self, level: str, name: str, *, spec: BudgetSpec | None) -> Budget | None:
        if (level, name) not in self._budgets:
            budget = self._budgets[level, name] = budget_of(spec, name=budget_name(level, name))
            if budget is not None:
                self._run.carrying.note(budget, **{level: name})
        return self._budgets[level, name]


def budget_name(level: str, name: str) -> str:
    """How the messages of an agent's or a task's budget call it."""
    return f"budget of {level} {name}"


def ended_budgets(workflow: Workflow, failures: Iterable[Outcome]) -> Sequence[str]:
    """The fields in the workflow's file (`agents.critic.budget`) of the budgets that were too small for these."""
    said = [one.error.message for one in failures if one.error is not None and one.error.kind == "budget"]
    levels = [("agent", workflow.agents), ("task", workflow.tasks)]
    return [
        f"{level}s.{name}.budget"
        for level, plans in levels
        for name in plans
        if any(f"the {budget_name(level, name)} of " in message for message in said)
    ]


def budget_of(spec: BudgetSpec | None, *, name: str) -> Budget | None:
    """The budget that a file describes."""
    if spec is None:
        return None
    return Budget(usd=spec.usd, calls=spec.calls, tokens=spec.tokens, time=spec.time, name=name)


def _text(text: Text | None, scope: dict[str, Any]) -> str:
    return "" if text is None else text if isinstance(text, str) else text.render(scope)


def _as_given(value: Any) -> Any:
    """A value as functions and outcomes get it: a whole collection as a list of their own."""
    if isinstance(value, dict):
        return {name: _as_given(one) for name, one in value.items()}
    return list(value) if isinstance(value, CollectionView) else value
