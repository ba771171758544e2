"""Who shares a lane is served by weight: runs, agents of a run, single calls; and priorities at every level."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from scripted import provider_file

import agentmesh as am
from agentmesh.clock import monotonic
from agentmesh.events import CallIntent
from agentmesh.limits.lane import LOOK_AHEAD
from agentmesh.limits.statistics import LaneStatistics
from agentmesh.mesh.run import Run

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

TEN_PER_SECOND = """
provider: lab
dialect: openai-chat
base_url: inprocess://lab
limits: {requests_per_minute: {limit: 600, burst: 1}}
models: {"*": {max_output: 4000, prices: free}}
simulate: {latency: {first_token: 1.0, per_token: 0.0, jitter: 0.0}, length: 20}
"""


class Sent:
    """When calls left the lane, by the name of their agent."""

    def __init__(self) -> None:
        self.at: dict[str, list[float]] = {}

    def __call__(self, event: Any) -> None:
        if isinstance(event, CallIntent):
            self.at.setdefault(event.agent or "", []).append(monotonic())

    def counts(self, *, since: float = -math.inf, until: float = math.inf) -> Counter[str]:
        return Counter({name: sum(since <= at < until for at in times) for name, times in self.at.items()})

    def last(self, name: str) -> float:
        return max(self.at[name])


@asynccontextmanager
async def lab(folder: Path, sent: Sent) -> AsyncIterator[am.Mesh]:
    """A mesh with one lane that lets ten calls go in a second."""
    async with am.open_mesh(
        journal=None, provider_files=[provider_file(folder, TEN_PER_SECOND)], watchers=[sent]
    ) as mesh:
        yield mesh


def agent(name: str, **options: Any) -> am.Agent[str]:
    return am.Agent[str](name, model=options.pop("model", "lab/m"), settings={"max_tokens": 100}, **options)


def start(run: Run, one: am.Agent[str], calls: int, **options: Any) -> None:
    for number in range(calls):
        run.start(one.on("Say {{ n }}.", n=number), key=str(number), **options)


def lane(mesh: am.Mesh) -> LaneStatistics:
    [found] = mesh.statistics()
    return found


# --- runs


async def test_a_small_run_beside_a_huge_one_takes_twice_its_time_alone(tmp_path: Path) -> None:
    sent = Sent()
    async with lab(tmp_path, sent) as mesh, mesh.open_run("huge") as huge:
        start(huge, agent("huge"), 1500)
        await anyio.sleep(60)
        before = monotonic()
        async with mesh.open_run("small") as small:
            start(small, agent("small"), 50)
        assert sent.last("small") - before == pytest.approx(10.0, rel=0.1)  # alone it takes 5 s
        meanwhile = sent.counts(since=before, until=sent.last("small"))
        assert meanwhile["huge"] == pytest.approx(50, abs=3), "and the huge one goes on"
        assert lane(mesh).pushed_back == 0
        await huge.cancel(grace=0)


@pytest.mark.both_backends
async def test_runs_are_served_by_weight(tmp_path: Path) -> None:
    sent = Sent()
    async with lab(tmp_path, sent) as mesh, anyio.create_task_group() as group:

        async def go(name: str, weight: float) -> None:
            async with mesh.open_run(name, weight=weight) as run:
                start(run, agent(name), 800)
                await anyio.sleep(60)
                await run.cancel(grace=0)

        for name, weight in (("one", 1.0), ("two", 2), ("half", 0.5)):
            group.start_soon(go, name, weight)
    assert sent.counts() == pytest.approx({"one": 171, "two": 343, "half": 86}, abs=10)


async def test_what_a_run_did_not_use_is_not_owed_to_it(tmp_path: Path) -> None:
    """A run that was idle takes its part from now on, and no more."""
    sent = Sent()
    async with lab(tmp_path, sent) as mesh, mesh.open_run("idle") as idle, mesh.open_run("busy") as busy:
        start(idle, agent("idle"), 1)
        start(busy, agent("busy"), 1200)
        await anyio.sleep(60)
        start(idle, agent("idle"), 500, name="later")
        before = monotonic()
        await anyio.sleep(30)
        assert sent.counts(since=before) == pytest.approx({"idle": 150, "busy": 150}, abs=10)
        await idle.cancel(grace=0)
        await busy.cancel(grace=0)


async def test_what_is_urgent_costs_a_run_that_comes_later_nothing(tmp_path: Path) -> None:
    """The stream of one run's urgent calls has used most of the lane; others share what it leaves from the start."""
    sent = Sent()
    async with (
        lab(tmp_path, sent) as mesh,
        anyio.create_task_group() as group,
        mesh.open_run("urgent") as urgent,
        mesh.open_run("plain") as plain,
    ):

        async def stream() -> None:
            for number in range(10_000):
                urgent.start(agent("urgent").on("Say u{{ n }}.", n=number), key=str(number), priority="high")
                await anyio.sleep(0.15)

        start(plain, agent("plain"), 800)
        group.start_soon(stream)
        await anyio.sleep(60)
        before = monotonic()
        async with mesh.open_run("late") as late:
            start(late, agent("late"), 30)
        assert sent.last("late") - before < 25.0, "a third of the lane is left, and half of that is ours"
        group.cancel_scope.cancel()
        await plain.cancel(grace=0)
        await urgent.cancel(grace=0)


async def test_single_calls_are_a_run_of_their_own(tmp_path: Path) -> None:
    sent = Sent()
    async with lab(tmp_path, sent) as mesh, mesh.open_run("huge") as huge:
        start(huge, agent("huge"), 1200)
        await anyio.sleep(30)
        before = monotonic()
        assert await mesh.ask("lab/m", "Say hello.")
        assert monotonic() - before < 1.5, "next but one, and a second for the call itself"
        before = monotonic()
        assert len([one async for one in mesh.map(lambda n: agent("map").on("Say {{ n }}.", n=n), range(50))]) == 50
        assert monotonic() - before == pytest.approx(11.0, rel=0.1)
        await huge.cancel(grace=0)


async def test_a_workflow_has_the_weight_that_it_is_run_with(tmp_path: Path) -> None:
    sent = Sent()
    file = tmp_path / "w.yaml"
    file.write_text(
        "agentmesh: 1\nagents: {heavy: {model: lab/m}}\n"
        'tasks: {t: {samples: 150, agent: heavy, prompt: "Say {{ sample }}."}}\n'
    )
    async with lab(tmp_path, sent) as mesh, mesh.open_run("plain") as plain:
        start(plain, agent("plain"), 800)
        await anyio.sleep(10)
        before = monotonic()
        result = await mesh.workflow(file, weight=3)
        assert result["status"] == "done"
        assert sent.last("heavy") - before == pytest.approx(20.0, rel=0.05)
        await plain.cancel(grace=0)


async def test_the_look_ahead_of_each_run_is_bounded(tmp_path: Path) -> None:
    sent = Sent()
    async with lab(tmp_path, sent) as mesh, mesh.open_run("a") as one, mesh.open_run("b") as other:
        for run in (one, other):
            start(run, agent(run.name), 800)
        for _ in range(20):
            await anyio.sleep(1.7)
            assert lane(mesh).in_flight <= 12
            for run in (one, other):
                assert LOOK_AHEAD <= run.runner.live["lab"] <= LOOK_AHEAD + 12
            assert 2 * LOOK_AHEAD - 12 <= lane(mesh).waiting <= 2 * LOOK_AHEAD + 24
        await one.cancel(grace=0)
        await other.cancel(grace=0)


async def test_priority_is_before_fairness_and_reaches_over_the_look_ahead_of_all(tmp_path: Path) -> None:
    sent = Sent()
    async with lab(tmp_path, sent) as mesh, mesh.open_run("a", weight=100) as one, mesh.open_run("b") as other:
        start(one, agent("a"), 1000)
        start(other, agent("b"), 1000)
        await anyio.sleep(20)
        before = monotonic()
        start(other, agent("urgent"), 30, priority="high")
        await anyio.sleep(5)
        assert sent.last("urgent") - before < 4.0
        assert sent.counts(since=before, until=sent.last("urgent"))["a"] <= 4, "only what was the oldest"
        await one.cancel(grace=0)
        await other.cancel(grace=0)


# --- agents


async def test_agents_of_a_run_are_served_by_weight_whichever_came_first(tmp_path: Path) -> None:
    sent = Sent()
    async with lab(tmp_path, sent) as mesh, mesh.open_run("r") as run:
        start(run, agent("plain"), 800)
        start(run, agent("light", weight=1, model="lab/other"), 800)  # another row of the same lane
        start(run, agent("heavy", weight=3), 800)
        await anyio.sleep(60)
        assert sent.counts() == pytest.approx({"plain": 120, "light": 120, "heavy": 360}, abs=10)
        await run.cancel(grace=0)


async def test_without_weights_agents_of_a_run_go_by_age(tmp_path: Path) -> None:
    sent = Sent()
    async with lab(tmp_path, sent) as mesh:
        async with mesh.open_run("r") as run:
            start(run, agent("first"), 100)
            start(run, agent("second"), 100)
        assert sent.last("first") < min(sent.at["second"])


async def test_the_weight_of_an_agent_counts_times_that_of_its_run(tmp_path: Path) -> None:
    sent = Sent()
    async with lab(tmp_path, sent) as mesh, mesh.open_run("a", weight=2) as one, mesh.open_run("b", weight=4) as other:
        start(one, agent("in_a", weight=3), 800)
        start(other, agent("in_b", weight=0.5), 800)
        start(other, agent("rest_of_b"), 800)
        await anyio.sleep(60)
        assert sent.counts() == pytest.approx({"in_a": 300, "in_b": 100, "rest_of_b": 200}, abs=10)
        await one.cancel(grace=0)
        await other.cancel(grace=0)


async def test_weights_of_agents_in_a_workflow(tmp_path: Path) -> None:
    sent = Sent()
    file = tmp_path / "w.yaml"
    file.write_text(
        "agentmesh: 1\ntimeout: 60s\n"
        "agents: {light: {model: lab/m}, heavy: {model: lab/m, weight: 3}, judge: {model: lab/m, weight: 2}}\n"
        "tasks:\n"
        '  a: {samples: 800, agent: light, prompt: "Say {{ sample }}."}\n'
        '  b: {samples: 800, agent: heavy, prompt: "Say {{ sample }}."}\n'
        "  c: {rank: [x, y, z, u, v, w], judge: judge, stop: {regret: 0, matches: 90}}\n"
    )
    async with lab(tmp_path, sent) as mesh:
        result = await mesh.workflow(file)
    assert result["status"] == "stopped"
    judged = sent.counts()["judge"]
    rest = sent.counts(since=sent.last("judge"))
    assert judged == 90
    assert sent.last("judge") - sent.at["judge"][0] == pytest.approx(27.0, rel=0.2), "a third: it waits for verdicts"
    assert rest["heavy"] / rest["light"] == pytest.approx(3.0, rel=0.1)


# --- priorities


async def test_priorities_of_agents_and_of_tasks_in_python(tmp_path: Path) -> None:
    sent = Sent()
    async with lab(tmp_path, sent) as mesh:
        async with mesh.open_run("r") as run:
            start(run, agent("low", priority="low"), 20)
            start(run, agent("normal"), 20)
            start(run, agent("by_agent", priority="high"), 20)
            start(run, agent("nearer", priority="low"), 20, priority=2)
            start(run, agent("number", priority=0.5), 20)
        last = {name: sent.last(name) for name in sent.at}
    assert sorted(last, key=last.__getitem__) == ["nearer", "by_agent", "number", "normal", "low"]


@pytest.mark.parametrize(
    ("workflow", "agent", "task"), [("low", None, None), ("high", "low", None), (5, "high", -1), (None, None, "low")]
)
async def test_priorities_at_the_levels_of_a_workflow(tmp_path: Path, workflow: Any, agent: Any, task: Any) -> None:
    """Whatever is nearest says that these are less urgent than those of a run beside it."""
    sent = Sent()

    def level(priority: Any) -> str:
        return "" if priority is None else f", priority: {priority}"

    file = tmp_path / "w.yaml"
    file.write_text(
        f"{{agentmesh: 1{level(workflow)}, agents: {{flow: {{model: lab/m{level(agent)}}}}},\n"
        f' tasks: {{t: {{samples: 100, agent: flow, prompt: "Say {{{{ sample }}}}."{level(task)}}}}}}}\n'
    )
    async with lab(tmp_path, sent) as mesh, anyio.create_task_group() as group:
        group.start_soon(mesh.workflow, file)
        await anyio.sleep(1)
        async with mesh.open_run("beside") as run:
            start(run, globals()["agent"]("beside"), 100)
    before = sent.counts(until=sent.last("beside"))["flow"]
    assert before < 25, "those that were gone before, and each sixteenth"


async def test_a_judge_has_its_own_priority_unless_the_tournament_has_one(tmp_path: Path) -> None:
    sent = Sent()
    async with lab(tmp_path, sent) as mesh, mesh.open_run("r") as run:
        start(run, agent("plain"), 100)
        entrants = [run.start(am.call(str, number), name="e", key=str(number)) for number in range(4)]
        stop = am.Stop(regret=None, matches=20)
        run.tournament(agent("own", priority="low"), entrants=entrants, stop=stop, name="own")
        run.tournament(agent("given", priority="low"), entrants=entrants, stop=stop, name="given", priority="high")
    assert sent.last("given") < sent.last("plain") - 5
    assert sent.last("own") > sent.last("plain") - 1


# --- what makes no sense


@pytest.mark.parametrize("weight", [0, -1, math.inf, math.nan, True, "3", 10**400])
async def test_a_weight_is_a_finite_number_above_0(weight: Any) -> None:
    with pytest.raises(am.UserError, match=r"the agent a: a weight is a finite number above 0, not "):
        agent("a", weight=weight)
    async with am.open_mesh(journal=None) as mesh:
        with pytest.raises(am.UserError, match=r"the run r: a weight is a finite number above 0, not "):
            async with mesh.open_run("r", weight=weight):
                pass


@pytest.mark.parametrize("weight", [1e-300, 1e300])
async def test_weights_without_measure_do_no_harm(tmp_path: Path, weight: float) -> None:
    sent = Sent()
    async with lab(tmp_path, sent) as mesh, mesh.open_run("odd", weight=weight) as run, mesh.open_run("even") as even:
        start(run, agent("odd", weight=weight), 20)
        start(run, agent("rest"), 20)
        start(even, agent("even"), 20)
    assert sent.counts() == {"odd": 20, "rest": 20, "even": 20}


@pytest.mark.parametrize("priority", [True, math.nan, "urgent"])
async def test_a_priority_is_a_word_or_a_number(priority: Any) -> None:
    async with am.open_mesh(journal=None) as mesh, mesh.open_run("r") as run:
        with pytest.raises(am.UserError, match="a priority is low, normal, high or a number, not "):
            run.start(am.call(str, 1), priority=priority)
