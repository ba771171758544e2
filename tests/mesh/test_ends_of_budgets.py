"""Budgets at their ends: prices that must be known, warnings, what is left, and what a later process counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scripted import Scripted, provider_file

import agentmesh as am
from agentmesh.clock import sleep
from agentmesh.errors import UserError
from agentmesh.events import Notice
from agentmesh.mesh.left import left_of

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time, pytest.mark.both_backends]

PRICELESS = """
provider: acme
dialect: openai-chat
base_url: inprocess://acme
models:
  "*": {}
  dear: {prices: {input: 1.0, output: 1.0}}
simulate: {latency: {first_token: 1.0}}
"""


async def test_a_model_of_unknown_price_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    files = [provider_file(tmp_path, PRICELESS)]
    words = "the price of acme/m is unknown, so a budget in dollars cannot be kept: give the model `prices:"
    plain, rich = am.Agent("plain", model="acme/m"), am.Agent("rich", model="acme/m", budget=am.Budget(usd=1))
    routed = am.Agent("routed", model=["acme/dear", "acme/m"])
    async with am.open_mesh(journal=None, provider_files=files) as mesh:
        async with mesh.open_run("r") as run:
            await run.start(plain.on("Hello."))  # no budget in dollars
            await run.start(plain.on("Hello."), budget=am.Budget(calls=5, tokens=100_000))
            with pytest.raises(UserError, match=words):
                run.start(rich.on("Hello."))
            with pytest.raises(UserError, match=words):
                run.start(plain.on("Hello."), budget=am.Budget(usd=1))
            with pytest.raises(UserError, match=words):
                run.tournament(rich, entrants=[])
        async with mesh.open_run("s", budget=am.Budget(usd=1)) as run:
            dear = am.Agent("dear", model="acme/dear")
            with pytest.raises(UserError, match=words):
                run.start(routed.on("Hello."))
            with pytest.raises(UserError, match=words):
                run.start(dear.on("Hello."), on_failure={"fallback": {"model": "acme/m"}})
            assert run.record.usage.calls == 0
    async with am.open_mesh(journal=None, provider_files=files, budget=am.Budget(usd=1)) as mesh:
        with pytest.raises(UserError, match=words):
            await mesh.ask("acme/m", "Hello.")
        assert await mesh.ask("acme/dear", "Hello.")


async def test_each_bound_is_warned_of_once_at_four_fifths(tmp_path: Path) -> None:
    said: list[str] = []

    def watch(event: object) -> None:
        if isinstance(event, Notice):
            said.append(event.text)

    model = Scripted(tmp_path, "yes")  # 15 tokens, each a dollar per million
    few = am.Budget(calls=2, name="few")
    whole = am.Budget(calls=10, usd=200e-6, tokens=1000, time=9, name="whole")
    agent = am.Agent("reader", model="scripted/m", settings={"max_tokens": 10})
    async with am.open_mesh(watchers=[watch], **model.options) as mesh, mesh.open_run("r", budget=whole) as run:
        for number in range(10):
            await run.start(agent.on(f"{number}"), budget=few if number < 2 else None)
            if number == 6:
                assert said == []
            if number == 7:
                assert said == ["whole: 8 of 10 calls are used (80 %)", "whole: 8 of 9 s are over (89 %)"]
                whole.time = 60
    assert len(said) == 2


async def test_what_is_left_is_estimated_by_what_the_same_tasks_have_cost(tmp_path: Path) -> None:
    model = Scripted(tmp_path, "yes")  # 15 tokens, each a dollar per million
    async with am.open_mesh(settings={"max_tokens": 60}, **model.options) as mesh:
        async with mesh.open_run("r", budget=am.Budget(usd=300e-6)) as run:
            agent, late = am.Agent("reader", model="scripted/m"), am.Agent("late", model="scripted/m")
            tasks = [run.start(agent.on(f"Question {number}")) for number in range(50)]
            run.start(late.on("{{ tasks }}", tasks=tasks), require="all")
            run.start(am.call(len, tasks), require="all")
        left = left_of(run)
        assert left is not None
        done = run.record.counts["reader"]["done"]
        assert left.tasks == {"reader": 50 - done, "late": 1, "len": 1}
        assert left.cost.usd == pytest.approx((50 - done) * 15e-6)
        assert left.unknown == ("late",)
        assert left.budget is not None
        unit, bound = left.budget
        assert unit == "usd"
        async with mesh.open_run("r", budget=am.Budget(usd=bound)) as run:
            for number in range(51):
                run.start(agent.on(f"Question {number}"))
        assert run.status == "done", "what it suggests is enough"
        assert left_of(run) is None


async def test_matches_that_may_still_be_played_are_counted_at_what_others_have_cost(tmp_path: Path) -> None:
    model = Scripted(tmp_path, '{"reasons": "it is better", "winner": "first"}')
    judge = am.Agent("judge", model="scripted/m")
    async with am.open_mesh(**model.options) as mesh:

        async def play(calls: float) -> am.Run:
            async with mesh.open_run("r", budget=am.Budget(calls=calls), failures="report") as run:
                field = [run.start(am.call(str, number), key=str(number)) for number in range(6)]
                run.tournament(judge, entrants=field, stop=am.Stop(regret=0.0, matches=40))
            return run

        left = left_of(await play(14))
        assert left is not None
        assert (left.tasks, left.matches, left.unknown) == ({"contest": 1}, {"contest": 26}, ())
        assert left.cost.calls == 26
        assert left.cost.usd == pytest.approx(26 * 15e-6)
        assert left.budget is not None
        finished = await play(left.budget[1])
        assert (finished.status, finished.record.usage.calls) == ("done", 40), "what it suggests is enough"
        assert left_of(finished) is None


@pytest.mark.parametrize(
    ("budget", "unit", "least"),
    [({"calls": 7}, "calls", 20), ({"tokens": 300}, "tokens", 300), ({"time": 3}, "time", 7)],
)
async def test_the_unit_that_has_ended_is_the_one_to_raise(
    tmp_path: Path, budget: dict[str, float], unit: str, least: float
) -> None:
    model = Scripted(tmp_path, "yes")
    async with am.open_mesh(settings={"max_tokens": 60}, **model.options) as mesh:
        async with mesh.open_run("r", budget=am.Budget(**budget)) as run:  # type: ignore[arg-type]
            agent, last = am.Agent("reader", model="scripted/m"), None
            for number in range(20):
                last = run.start(agent.on(f"Question {number}"), after=() if last is None or number < 4 else last)
        assert run.status == "stopped"
        left = left_of(run)
        assert left is not None
        assert left.budget is not None
        assert left.budget[0] == unit
        assert least <= left.budget[1] < 4 * max(least, 500)


async def test_a_run_that_goes_on_counts_what_was_spent_before_in_every_budget(tmp_path: Path) -> None:
    """A second process: another mesh, and budgets that are made anew."""
    model = Scripted(tmp_path, *["yes"] * 6, 400, "yes")
    options: dict[str, Any] = {**model.options, "journal": tmp_path / "j"}

    def budgets() -> list[am.Budget]:
        return [am.Budget(calls=30, time=100, name=name) for name in ("whole", "frugal", "own")]

    async def go(whole: am.Budget, frugal: am.Budget, own: am.Budget, *, more: int) -> None:
        agent = am.Agent("frugal", model="scripted/m", budget=frugal)
        other = am.Agent("other", model="scripted/m")
        async with (
            am.open_mesh(**options) as mesh,
            mesh.open_run("r", budget=whole, resume=True, failures="report") as run,
        ):
            for number in range(2 + more):
                await run.start(agent.on(f"a{number}"), key=f"a{number}").outcome()
            for number in range(2 + more):
                await run.start(other.on(f"b{number}"), key=f"b{number}", budget=own).outcome()
            if not more:
                run.set_paused(True)
                await sleep(1000)
                run.set_paused(False)
                await run.start(other.on("stop"), key="stop")
                run.stop("stopped", "for the test")
                run.start(other.on("never"), key="never")

    await go(*budgets(), more=0)
    await sleep(1000)  # between two processes no budget of time runs, nor in a pause
    whole, frugal, own = budgets()
    await go(whole, frugal, own, more=1)
    assert [one.statistics().spent_calls for one in (frugal, own, whole)] == [3, 3, 7]
    assert all(5 < one.seconds < 9 for one in (frugal, own, whole)), "not what lies between the processes"
