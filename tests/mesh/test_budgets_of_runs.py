"""Budgets of meshes, runs, agents and tasks: never overshot; what they stop is unfinished, and nobody waits for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
from scripted import Scripted, provider_file

import agentmesh as am
from agentmesh.clock import monotonic
from agentmesh.events import RunEnded

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time, pytest.mark.both_backends]


async def test_a_budget_stops_its_run_and_is_not_overshot(tmp_path: Path) -> None:
    events: list[Any] = []
    async with am.open_mesh(journal=None, provider_files=[provider_file(tmp_path)], watchers=[events.append]) as mesh:
        async with mesh.open_run("r", budget=am.Budget(calls=7)) as run:
            agent = am.Agent("reader", model="lab/free")
            tasks = [run.start(agent.on(f"{number}")) for number in range(20)]
            reader = run.start(am.call(len, tasks), require="all")
            await anyio.sleep(10)
            left = next(task for task in tasks if not task.ended)
            with pytest.raises(am.TaskFailed, match="budget: the budget of 7 calls has 0 left"):
                await left
        assert run.status == "stopped"
        assert run.reason is not None
        assert run.reason.startswith("the budget of 7 calls has 0 left")
        outcomes = [await task.outcome() for task in tasks]
        assert sorted(outcome.state for outcome in outcomes) == ["cancelled"] * 13 + ["done"] * 7
        assert {str(outcome.error.kind) for outcome in outcomes if outcome.error} == {"budget"}
        assert (await reader.outcome()).state == "cancelled"
        assert run.failures == []
    ended = events[-1]
    assert isinstance(ended, RunEnded)
    assert (ended.status, ended.unfinished, ended.usage.calls) == ("stopped", 14, 7)


@pytest.mark.parametrize("unit", ["usd", "tokens"])
async def test_dollars_and_tokens_are_reserved_at_their_highest_and_settled_at_what_they_were(
    tmp_path: Path, unit: str
) -> None:
    model = Scripted(tmp_path, "yes")  # 10 and 5 tokens, each a dollar per million
    budget = am.Budget(tokens=300) if unit == "tokens" else am.Budget(usd=300e-6)
    options = {"budget": budget, "settings": {"max_tokens": 60}, **model.options}
    async with am.open_mesh(**options) as mesh, mesh.open_run("r") as run:
        agent = am.Agent("reader", model="scripted/m")
        for number in range(100):
            run.start(agent.on(f"Question {number}"))
    spent = budget.statistics().spent_usd * 1e6 if unit == "usd" else budget.statistics().spent_tokens
    assert run.status == "stopped"
    assert spent == pytest.approx(15 * len(model.asked))
    assert 300 - 60 - 20 - 15 < spent <= 300, "as much is used as can be without a risk"
    assert all(body.get("max_tokens", body.get("max_completion_tokens")) == 60 for body in model.asked)
    assert budget.statistics().reserved_usd == pytest.approx(0)


async def test_the_budget_of_an_agent_or_a_task_fails_what_does_not_fit_and_the_run_goes_on(tmp_path: Path) -> None:
    model = Scripted(tmp_path, "yes")
    async with am.open_mesh(**model.options) as mesh, mesh.open_run("r", failures="report") as run:
        frugal = am.Agent("frugal", model="scripted/m", budget=am.Budget(calls=2, name="budget of frugal"))
        spender = am.Agent("spender", model="scripted/m")
        shared = am.Budget(calls=1)
        tasks = [run.start(frugal.on(f"{number}")) for number in range(3)]
        tasks += [run.start(spender.on(f"{number}"), budget=shared) for number in range(2)]
        tasks.append(run.start(spender.on("free")))
        outcomes = [await task.outcome() for task in tasks]
    assert sorted(outcome.state for outcome in outcomes[:3]) == ["done", "done", "failed"]
    assert sorted(outcome.state for outcome in outcomes[3:5]) == ["done", "failed"]
    assert outcomes[5].ok
    assert sorted(str(outcome.error) for outcome in run.failures) == [
        "budget: the budget of 1 call has 0 left, and the next call could need 1",
        "budget: the budget of frugal of 2 calls has 0 left, and the next call could need 1",
    ]
    assert run.status == "partial"


async def test_what_functions_and_tools_ask_counts(tmp_path: Path) -> None:
    async def ask_twice(ctx: am.Context) -> str:
        async with anyio.create_task_group() as group:
            for number in range(2):
                group.start_soon(ctx.ask, "scripted/m", f"{number}")
        return "both"

    model = Scripted(tmp_path, "yes")
    async with am.open_mesh(**model.options) as mesh:
        async with mesh.open_run("r", budget=am.Budget(calls=3)) as run:
            tasks = [run.start(am.call(ask_twice), key=str(number)) for number in range(2)]
            states = sorted([(await task.outcome()).state for task in tasks])
        assert states == ["cancelled", "done"], "one of them stopped the run: it is unfinished, not failed"
        assert run.status == "stopped"
        assert run.record.usage.calls == 3
        done = next(task for task in tasks if task.ended)
        assert (await done.outcome()).usage.calls == 2


async def test_a_budget_of_time_does_not_wait_for_a_lane_beyond_it(tmp_path: Path) -> None:
    async with am.open_mesh(journal=None, provider_files=[provider_file(tmp_path)]) as mesh:
        began = monotonic()
        async with mesh.open_run("r", budget=am.Budget(time=25)) as run:
            agent = am.Agent("rare", model="lab/rare")  # 6 a minute
            tasks = [run.start(agent.on(f"{number}")) for number in range(30)]
        assert run.status == "stopped"
        assert monotonic() - began < 30
        assert sum([(await task.outcome()).ok for task in tasks]) == 3


async def test_tasks_that_await_what_a_budget_stopped_are_unfinished_too(tmp_path: Path) -> None:
    async with am.open_mesh(journal=None, provider_files=[provider_file(tmp_path)]) as mesh:
        async with mesh.open_run("r", budget=am.Budget(calls=2)) as run:
            agent = am.Agent("reader", model="lab/free")

            async def team(number: int) -> list[str]:
                members = [run.start(agent.on("{{ n }}.{{ m }}", n=number, m=m)) for m in range(3)]
                return [await member for member in members]

            tasks = [run.start(am.call(team, number), key=str(number)) for number in range(2)]
            contest = run.tournament(agent, entrants=tasks)
            changes = [standings async for standings in contest.changes()]
        assert run.status == "stopped"
        assert run.failures == []
        assert changes == [()]
        assert [(await task.outcome()).state for task in tasks] == ["cancelled"] * 2


async def test_the_budget_of_a_mesh_holds_for_all_of_it(tmp_path: Path) -> None:
    model = Scripted(tmp_path, "yes")
    async with am.open_mesh(budget=am.Budget(calls=5, name="budget of the mesh"), **model.options) as mesh:
        assert await mesh.ask("scripted/m", "Hello.") == "yes"
        async with mesh.open_run("r") as run:
            agent = am.Agent("reader", model="scripted/m")
            assert await run.start(agent.on("1")) == "yes"
        outcomes = [one async for one in mesh.map(lambda n: agent.on("{{ n }}", n=n), range(6))]
        assert [outcome.ok for outcome in outcomes] == [True] * 3 + [False] * 3
        assert sorted(str(outcome.key) for outcome in outcomes) == list("012345")
        assert str(outcomes[-1].error).startswith("budget: the budget of the mesh of 5 calls has 0 left")
        with pytest.raises(am.TaskFailed, match="budget of the mesh"):
            await mesh.ask("scripted/m", "Once more.")
        with pytest.raises(am.TaskFailed, match="budget of the mesh"):
            [piece async for piece in mesh.stream("scripted/m", "Once more.")]
        assert [one.ok async for one in mesh.map(lambda n: agent.on("{{ n }}", n=n), range(2))] == [False] * 2
    assert len(model.asked) == 5
