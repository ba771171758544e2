"""Runs that are paused, cancelled and given other limits while they go on."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import anyio
import pytest
from scripted import provider_file

import agentmesh as am
from agentmesh.catalog import override_rate
from agentmesh.clock import in_thread, monotonic
from agentmesh.errors import UserError
from agentmesh.events import CallIntent, Notice, TaskStarted
from agentmesh.journal.inbox import Answer, inbox_path, tell_run
from agentmesh.mesh.run import Run

pytestmark = pytest.mark.anyio

POOLED = """
provider: lab
dialect: openai-chat
base_url: inprocess://lab
accounts: {a: {}, b: {}}
pools: {p: {requests_per_minute: {limit: 60, burst: 1}}}
models:
  m: {prices: free, pool: p}
  n: {prices: free, pool: p}
simulate: {latency: {first_token: 0.1, per_token: 0.0, jitter: 0.0}, length: 20}
"""


def options(folder: Path, text: str | None = None) -> dict[str, Any]:
    return {"provider_files": [provider_file(folder, text) if text else provider_file(folder)], "remembers": False}


def ask(run: Run, model: str, number: int, **more: Any) -> list[am.Task[str]]:
    agent = am.Agent("a", model=model)
    return [run.start(agent.on("{{ n }}", n=n), name="t", key=str(n), **more) for n in range(number)]


def of(kind: type[Any], events: list[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def figures(mesh: am.Mesh) -> dict[tuple[str, str, str], float]:
    """The limits of all lanes, by account, name and scope."""
    return {(lane.account, one.name, one.scope): one.limit for lane in mesh.statistics() for one in lane.limits}


@pytest.mark.virtual_time
@pytest.mark.both_backends
@pytest.mark.parametrize("bounded", [False, True])
async def test_a_pause_drains_and_nothing_is_lost(tmp_path: Path, *, bounded: bool) -> None:
    """What waits in the lane is not sent either, and holds nothing there nor of a budget."""
    budget = am.Budget(calls=40) if bounded else None
    events: list[Any] = []
    async with (
        am.open_mesh(journal=None, watchers=[events.append], **options(tmp_path)) as mesh,
        mesh.open_run("r", budget=budget) as run,
    ):
        tasks = ask(run, "lab/one", 30, timeout=5)
        await anyio.sleep(3.5)
        before = len(of(CallIntent, events))
        assert run.record.in_flight == 1
        run.set_paused(True)
        run.set_paused(True)
        assert mesh.is_paused()
        more = ask(run, "lab/free", 2)
        await anyio.sleep(100)
        assert (len(of(CallIntent, events)), run.record.in_flight) == (before, 0)
        assert len(of(TaskStarted, events)) == 30, "those that came later have not begun"
        (lane,) = mesh.statistics()
        assert sum(one.waiting for one in lane.endpoints) == 0
        if budget is not None:
            assert budget.statistics().spent_calls == before
            assert budget._reserved == [0.0, 0.0, 0.0]
        run.set_paused(False)
        began = monotonic()
        assert all([(await task.outcome()).ok for task in (*tasks, *more)])
        assert 20 <= monotonic() - began <= 30
    assert len(of(CallIntent, events)) == 32


@pytest.mark.virtual_time
async def test_python_tasks_and_their_dependents_wait_for_the_end_of_a_pause() -> None:
    async with am.open_mesh(journal=None) as mesh, mesh.open_run("r") as run:
        first = run.start(am.call(anyio.sleep, 1), name="first")
        second = run.start(am.call(anyio.sleep, 0), name="second", after=first)
        await anyio.sleep(0.5)
        run.set_paused(True)
        await anyio.sleep(10)
        assert (await first.outcome()).ok
        assert run.runner.statistics().ready == 1
        run.set_paused(False)
        assert (await second.outcome()).ok
        assert monotonic() == pytest.approx(10.5)


@pytest.mark.virtual_time
@pytest.mark.both_backends
async def test_a_paused_run_can_be_cancelled(tmp_path: Path) -> None:
    async with am.open_mesh(journal=None, **options(tmp_path)) as mesh:
        with contextlib.suppress(anyio.get_cancelled_exc_class()):
            async with mesh.open_run("r", failures="report") as run:
                ask(run, "lab/one", 20)
                await anyio.sleep(2.5)
                run.set_paused(True)
                await anyio.sleep(10)
                began = monotonic()
                await run.cancel(reason="enough")
        assert (run.status, run.reason) == ("cancelled", "enough")
        assert monotonic() - began < 1
        assert run.record.counts["t"]["done"] == 3


@pytest.mark.virtual_time
async def test_time_that_is_paused_does_not_count(tmp_path: Path) -> None:
    async with am.open_mesh(journal=None) as mesh, mesh.open_run("r") as run:
        with anyio.move_on_after(3) as scope, run.pause.stops(scope):
            await anyio.sleep(1)
            run.set_paused(True)
            await anyio.sleep(50)
            with anyio.move_on_after(1) as inner, run.pause.stops(inner):
                await anyio.sleep(20)
                run.set_paused(False)
                await anyio.sleep(20)
            assert inner.cancelled_caught
            await anyio.sleep(20)
        assert scope.cancelled_caught
        assert monotonic() == pytest.approx(73)


@pytest.mark.virtual_time
@pytest.mark.both_backends
async def test_no_budgets_time_runs_while_a_run_is_paused(tmp_path: Path) -> None:
    whole, own, shared = am.Budget(time=12), am.Budget(time=20), am.Budget(time=9000)
    async with (
        am.open_mesh(journal=None, budget=shared, **options(tmp_path)) as mesh,
        mesh.open_run("r", budget=whole, failures="report") as run,
    ):
        agent = am.Agent("a", model="lab/one", budget=own)
        tasks = [run.start(agent.on("{{ n }}", n=n), key=str(n)) for n in range(30)]
        for seconds in (2.5, 3.0):
            await anyio.sleep(seconds)
            run.set_paused(True)
            await anyio.sleep(500)
            assert run.record.in_flight == 0
            run.set_paused(False)
        assert [one.seconds for one in (whole, own)] == pytest.approx([5.5, 5.5])
        assert shared.seconds > 1000, "other runs of the mesh were not paused"
        await anyio.sleep(2)
        run.set_paused(True)
        await anyio.sleep(500)
        with contextlib.suppress(anyio.get_cancelled_exc_class()):
            await run.cancel()
    assert run.end().paused == pytest.approx(1500)
    assert not own._pauses, "the agent may have calls in another run"
    done = [task for task in tasks if task.ended and (await task.outcome()).ok]
    assert len(done) == run.record.counts["a"]["done"] >= 8


@pytest.mark.virtual_time
@pytest.mark.both_backends
async def test_a_call_that_waits_for_a_budget_outlasts_a_pause(tmp_path: Path) -> None:
    """What it waits for comes after the time that it would have had: another run's call ends in the pause."""
    both = am.Budget(tokens=1500, time=4)
    settings = {"max_tokens": 1000}
    async with (
        am.open_mesh(journal=None, settings=settings, **options(tmp_path)) as mesh,
        mesh.open_run("other", budget=both) as other,
        mesh.open_run("r", budget=both) as run,
    ):
        (slow,) = ask(other, "lab/slow", 1)
        await anyio.sleep(0.5)
        (task,) = ask(run, "lab/free", 1)
        await anyio.sleep(0.5)
        assert both.statistics().waiting == 1
        run.set_paused(True)
        await anyio.sleep(7)
        assert both.statistics().waiting == 1
        await anyio.sleep(90)
        assert both.seconds == pytest.approx(1)
        run.set_paused(False)
        assert (await slow.outcome()).ok
        assert (await task.outcome()).ok
        assert both.seconds == pytest.approx(2)


@pytest.mark.virtual_time
async def test_rates_hold_for_every_account_for_waiting_calls_and_for_models_that_come_later(tmp_path: Path) -> None:
    """The simulated server keeps to its file, so only lowering shows at once; the pool's limit is both models'."""
    async with am.open_mesh(journal=None, **options(tmp_path, POOLED)) as mesh, mesh.open_run("r") as run:
        tasks = ask(run, "lab/m", 10)
        await anyio.sleep(2.5)
        await mesh.set_rates([override_rate("lab/m.requests_per_minute=6"), override_rate("lab#b.in_flight=1")])
        now = figures(mesh)
        assert now["lab#a", "requests_per_minute", "pool p"] == now["lab#b", "requests_per_minute", "pool p"] == 6
        assert (now["lab#a", "in_flight", "lab#a"], now["lab#b", "in_flight", "lab#b"]) == (500, 1)
        done = run.record.counts["t"]["done"]
        await anyio.sleep(10)
        assert run.record.counts["t"]["done"] - done <= 3
        await mesh.set_rates([override_rate("lab/n.requests_per_minute=60"), override_rate("lab/n.in_flight=7")])
        began, late = monotonic(), run.start(am.Agent("b", model="lab/n").on("x"), name="late")
        assert all([(await task.outcome()).ok for task in (*tasks, late)])
        assert monotonic() - began < 10
        assert figures(mesh)["lab#a", "in_flight", "n"] == 7, "nobody had asked it when this was set"
        for wrong in ("lab/x.in_flight=1", "nobody.in_flight=1"):
            with pytest.raises(UserError, match=f"the rate {wrong}"):
                await mesh.set_rates([override_rate("lab/m.in_flight=1"), override_rate(wrong)])
        assert ("lab#a", "in_flight", "m") not in figures(mesh), "all of them, or none"


async def test_what_another_process_says(tmp_path: Path) -> None:
    """In real time, as both sides of the inbox wait; each message takes half a second at most."""
    events: list[Any] = []
    async with am.open_mesh(journal=tmp_path, watchers=[events.append], **options(tmp_path)) as mesh:
        async with mesh.open_run("r", failures="report") as run:
            ask(run, "lab/slow", 3)
            path = run.record.journal.path
            assert path is not None

            async def tell(verb: str, **data: Any) -> Answer:
                return await in_thread(lambda: tell_run(path, verb, **data))

            assert await tell("pause") == Answer(True, "paused; calls in flight go on to their end (3 now)")
            assert run.pause.on
            answers: dict[str, Answer] = {}

            async def keep(name: str, verb: str, **data: Any) -> None:
                answers[name] = await tell(verb, **data)

            async with anyio.create_task_group() as group:  # all in one look
                group.start_soon(keep, "again", "pause")
                group.start_soon(keep, "strange", "dance")
                group.start_soon(lambda: keep("no rate", "rate", rates=["sim"]))
                group.start_soon(lambda: keep("nobody", "rate", rates=["lab/x.in_flight=3"]))
                group.start_soon(lambda: keep("empty", "rate", rates=[]))
                group.start_soon(lambda: keep("rate", "rate", rates=["lab/slow.in_flight=3", "lab.tokens_per_day=9"]))
            assert answers["again"] == Answer(True, "was paused already")
            assert answers["rate"] == Answer(True, "lab/slow.in_flight is 3 now, lab.tokens_per_day is 9 now")
            assert not any(answers[name].ok for name in ("strange", "no rate", "nobody", "empty"))
            assert "has no model called 'x'" in answers["nobody"].text
            assert await tell("unpause") == Answer(True, "goes on")
            assert (await tell("cancel")).ok
            assert await tell("cancel") == Answer(True, "was cancelled already; now calls in flight are cut short")
            await anyio.sleep(20)
            pytest.fail("the run's own block is cut short, too")
        assert run.status == "cancelled"
        with anyio.fail_after(5):
            while inbox_path(path).exists():
                await anyio.sleep(0.01)
        with pytest.raises(UserError, match="is not running"):
            await tell("pause")
    said = [event.text.partition(" by process")[0] for event in of(Notice, events)]
    assert said[:2] == ["paused", "lab/slow.in_flight is 3 now, lab.tokens_per_day is 9 now, set"]
    assert said[2:] == ["unpaused", "cancelled", "cancelled"]


@pytest.mark.virtual_time
@pytest.mark.both_backends
async def test_calls_of_several_accounts_leave_their_lanes_and_come_again(tmp_path: Path) -> None:
    """Each account's pool lets one go each second; another run is not held up by those that wait for the end."""
    async with (
        am.open_mesh(journal=None, **options(tmp_path, POOLED)) as mesh,
        mesh.open_run("paused") as run,
        mesh.open_run("other") as other,
    ):
        tasks = ask(run, "lab/m", 20)
        await anyio.sleep(3.5)
        run.set_paused(True)
        await anyio.sleep(0.5)
        before, began = run.record.counts["t"]["done"], monotonic()
        assert 6 <= before <= 9
        assert all([(await task.outcome()).ok for task in ask(other, "lab/n", 20)])
        assert monotonic() - began < 13, "both accounts work for the other run"
        assert run.record.counts["t"]["done"] == before
        run.set_paused(False)
        began = monotonic()
        assert all([(await task.outcome()).ok for task in tasks])
        assert monotonic() - began < 10
