"""Runs from beginning to end: what fails and what does not, what comes out, what is told, on both event loops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from scripted import Scripted, kinds, provider_file

import agentmesh as am
from agentmesh.clock import monotonic
from agentmesh.events import RunEnded, RunStarted, TaskEnded, write_event
from agentmesh.journal import RunFile

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


async def after(seconds: float, value: Any = None) -> Any:
    await anyio.sleep(seconds)
    if isinstance(value, Exception):
        raise value
    return value


def add(*values: Any) -> Any:
    return sum(values)


@asynccontextmanager
async def lab(folder: Path, **options: Any) -> AsyncIterator[am.Mesh]:
    async with am.open_mesh(**{"journal": None, "provider_files": [provider_file(folder)], **options}) as mesh:
        yield mesh


@pytest.mark.both_backends
async def test_a_failure_skips_what_depends_on_it_and_nothing_else() -> None:
    events: list[Any] = []
    async with am.open_mesh(journal=None) as mesh:
        with pytest.raises(am.RunFailed) as failed:  # noqa: PT012 - leaving the run raises it
            async with mesh.open_run("r", watchers=[events.append]) as run:
                bad = run.start(am.call(after, 1, LookupError("gone")), key="bad")
                good = run.start(am.call(after, 5, 7), key="good")
                over_bad = run.start(am.call(add, bad, 1))
                over_both = run.start(am.call(add, over_bad, good))
                over_good = run.start(am.call(add, good, 1))
                with pytest.raises(am.TaskFailed) as error:
                    await over_both
                assert monotonic() < 100, "and nobody waits for that"
                assert str(error.value).endswith("skipped: dependency: add/bad was skipped")
                assert error.value.story[0].endswith("was waiting, then skipped")
                assert any("add/bad, which is skipped" in line for line in error.value.story)
        assert [str(outcome.address) for outcome in failed.value.failures] == ["after/bad"]
        assert str(failed.value) == f"1 of the tasks of run {run.id} failed: after/bad: tool: LookupError: gone"
        assert await over_good == 8
        assert await good == 7
        assert run.status == "partial"
    states = {str(e.outcome.address): e.outcome.state for e in events if isinstance(e, TaskEnded)}
    assert list(states.values()).count("skipped") == 2
    assert states["after/bad"] == "failed"


@pytest.mark.both_backends
async def test_failures_can_be_reported_instead_of_raised() -> None:
    async with am.open_mesh(journal=None) as mesh:
        async with mesh.open_run("r", failures="report") as run:
            task = run.start(am.call(after, 1, ValueError("no")))
        assert run.status == "partial"
        assert [outcome.error for outcome in run.failures] == [am.ErrorInfo("tool", "ValueError: no")]
        with pytest.raises(am.TaskFailed) as error:
            await task  # also after the end
        assert error.value.outcome.seconds == pytest.approx(1.0)
        assert error.value.story == (f"{task.address} was waiting, then ready, then running, then failed",)


class Odd(Exception):
    pass


@pytest.mark.both_backends
async def test_an_exception_inside_cancels_the_tasks_and_comes_out_as_it_was_raised() -> None:
    events: list[Any] = []
    ended: list[str] = []

    async def long() -> None:
        try:
            await anyio.sleep(1000)
        finally:
            ended.append("cleaned up")

    async with am.open_mesh(journal=None) as mesh:
        began = monotonic()
        with pytest.raises(Odd) as error:  # noqa: PT012 - leaving the run raises it
            async with mesh.open_run("r", watchers=[events.append]) as run:
                live = run.start(am.call(long))
                waiting = run.start(am.call(add, live))
                failed = run.start(am.call(after, 0.5, LookupError()))
                await anyio.sleep(1)
                try:
                    raise KeyError("the first")
                except KeyError as first:
                    raise Odd("mine") from first
        assert monotonic() - began == pytest.approx(1.0)
        assert repr(error.value.__cause__) == "KeyError('the first')"
        assert error.value.__context__ is error.value.__cause__
        assert ended == ["cleaned up"]
        assert (run.status, run.reason) == ("cancelled", "an exception ended the run")
        assert (await live.outcome()).state == "cancelled"
        assert (await failed.outcome()).state == "failed"
        unfinished = await waiting.outcome()  # it has no end state: nobody waits for it in vain
        assert (unfinished.state, str(unfinished.error)) == ("cancelled", "cancelled: an exception ended the run")
    assert kinds(events)[-2:] == ["TaskEnded", "RunEnded"]
    assert events[-1].unfinished == 1


@pytest.mark.both_backends
async def test_no_lone_error_ever_comes_in_a_group() -> None:
    async with am.open_mesh(journal=None) as mesh:
        with pytest.raises(am.TaskFailed):  # noqa: PT012 - leaving the run raises it
            async with mesh.open_run("r") as run:
                run.start(am.call(after, 100))
                await run.start(am.call(after, 1, ValueError()))
        with pytest.raises(ZeroDivisionError):
            async with mesh.open_run("r"), anyio.create_task_group():
                raise ZeroDivisionError

        async def group_within() -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(after, 100)
                group.start_soon(after, 1, ValueError("the one"))

        async with mesh.open_run("r", failures="report") as run:
            outcome = await run.start(am.call(group_within)).outcome()
        assert str(outcome.error) == "tool: ValueError: the one"


@pytest.mark.both_backends
async def test_tasks_may_start_tasks_and_await_them() -> None:
    async with am.open_mesh(journal=None) as mesh, mesh.open_run("grow") as run:

        async def plan(depth: int, number: int) -> int:
            if depth == 0:
                return 1
            children = [run.start(am.call(plan, depth - 1, n), key=f"{depth}.{number}.{n}") for n in range(3)]
            return sum([await child for child in children])

        assert await run.start(am.call(plan, 5, 0)) == 3**5  # far more parents than may be live at a time
        assert run.runner.statistics().done == sum(3**level for level in range(6))
        assert run.runner.live == {"python": 0}


@pytest.mark.both_backends
async def test_tasks_that_wait_for_each_other_are_told_instead_of_hanging() -> None:
    async with am.open_mesh(journal=None) as mesh, mesh.open_run("circle", failures="report") as run:
        handles: dict[str, am.Task[Any]] = {}

        async def wait_for(name: str) -> Any:
            await anyio.sleep(1)
            return await handles[name]

        handles["itself"] = run.start(am.call(wait_for, "itself"), key="itself")
        handles["first"] = run.start(am.call(wait_for, "reader"), key="first")
        handles["reader"] = run.start(am.call(add, handles["first"]), name="reader", key="r")
        itself, first, reader = [await handles[name].outcome() for name in ("itself", "first", "reader")]
        assert str(first.error) == (
            "tool: wait_for/first waits for reader/r, which waits for wait_for/first: neither could ever end"
        )
        assert itself.state == "failed"
        assert reader.state == "skipped"


async def test_a_run_belongs_to_its_loop_and_to_its_time() -> None:
    async with am.open_mesh(journal=None) as mesh:
        async with mesh.open_run("first", failures="report") as run:
            handle = run.start(am.call(after, 1, "value"))
            from_thread = await run.start(am.call(lambda: run.start(am.call(after, 1)))).outcome()
            assert "not in threads: make the function async" in str(from_thread.error)
        with pytest.raises(am.UserError, match="the run first has ended: nothing can be started in it"):
            run.start(am.call(after, 1))
        with pytest.raises(am.UserError, match="has ended"):
            run.tournament(am.Agent("judge", model="sim/small"), entrants=[])
        await run.cancel()  # too late to change anything
        assert run.status == "partial"
        async with mesh.open_run("second") as other:
            for call in (am.call(add, handle), am.call(add, [handle]), am.call(add, 1)):
                with pytest.raises(am.UserError, match="is a task of another run: await it, and give its value"):
                    other.start(call, after=handle if call.args == (1,) else ())
            with pytest.raises(am.UserError, match="another run"):
                other.tournament(am.Agent("judge", model="sim/small"), entrants=[handle])
            assert await other.start(am.call(after, 1, await handle)) == "value"


async def test_a_function_that_ends_as_cancelled_by_itself_has_failed() -> None:
    async def forged() -> None:
        raise asyncio.CancelledError

    async def awaits_cancelled() -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    async with am.open_mesh(journal=None) as mesh:
        async with mesh.open_run("r", failures="report") as run:
            tasks = [run.start(am.call(forged)), run.start(am.call(awaits_cancelled)), run.start(am.call(after, 5, 1))]
        assert [(await task.outcome()).state for task in tasks] == ["failed", "failed", "done"]
        assert run.status == "partial"


@pytest.mark.both_backends
async def test_what_failure_leads_to() -> None:
    async with am.open_mesh(journal=None) as mesh:
        async with mesh.open_run("r") as run:  # nothing fails in the end, so that nothing is raised
            skipped = run.start(am.call(after, 1, ValueError("a")), key="a", on_failure="skip")
            reader = run.start(am.call(add, skipped))
            default = run.start(am.call(after, 1, ValueError("b")), key="b", on_failure={"default": None})
            over_default = run.start(am.call(lambda x: x is None, default))
            assert await over_default is True
        assert run.status == "done"
        assert sorted((str(outcome.key), outcome.state, str(outcome.error)) for outcome in run.failures) == [
            ("a", "skipped", "tool: ValueError: a"), ("b", "done", "tool: ValueError: b"),
        ]  # fmt: skip
        assert (await reader.outcome()).state == "skipped"
        assert (await default.outcome()).ok


@pytest.mark.both_backends
async def test_a_fallback_model_answers_on_time_of_its_own(tmp_path: Path) -> None:
    async with lab(tmp_path) as mesh, mesh.open_run("r", failures="report") as run:
        agent = am.Agent("reader", model="lab/slow", retry=am.Retry(2))
        began = monotonic()
        task = run.start(agent.on("Hello."), timeout=3, on_failure={"fallback": {"model": "lab/free"}})
        assert (await task).startswith("(A simulated reply of free.)")
        assert monotonic() - began == pytest.approx(4.0, abs=0.1)
        outcome = await task.outcome()
        assert (outcome.model, outcome.usage.calls, outcome.usage.uncertain) == ("lab/free", 2, 1)
        both = run.start(agent.on("Hello."), timeout=3, on_failure={"fallback": {"model": "lab/broken"}})
        assert str((await both.outcome()).error).startswith("server: ")


@pytest.mark.both_backends
async def test_functions_are_tried_again_only_if_that_is_said() -> None:
    tried: dict[str, int] = {}

    async def flaky(name: str, error: Exception) -> int:
        tried[name] = tried.get(name, 0) + 1
        if tried[name] < 3:
            raise error
        return tried[name]

    async with am.open_mesh(journal=None) as mesh:
        async with mesh.open_run("r", failures="report") as run:
            once = run.start(am.call(flaky, "once", OSError("x")))
            thrice = run.start(am.call(flaky, "thrice", OSError("x")), retry=3)
            listed = run.start(am.call(flaky, "listed", TimeoutError("t")), retry={"attempts": 3, "on": ["timeout"]})
            others = run.start(am.call(flaky, "others", OSError("x")), retry=am.Retry(3, on=["timeout"]))
            too_long = run.start(am.call(after, 10), timeout=3, retry=5)
        assert (await thrice.outcome()).attempts == 3
        assert [await task for task in (thrice, listed)] == [3, 3]
        assert tried == {"once": 1, "thrice": 3, "listed": 3, "others": 1}
        assert str((await once.outcome()).error) == "tool: OSError: x"
        assert (await others.outcome()).state == "failed"
        assert str((await too_long.outcome()).error) == "timeout: no result within 3 s"


async def test_a_timeout_of_the_functions_own_is_not_taken_for_the_tasks() -> None:
    async with am.open_mesh(journal=None) as mesh, mesh.open_run("r", failures="report") as run:
        own = await run.start(am.call(after, 1, TimeoutError("the socket")), timeout=100).outcome()
        assert str(own.error) == "timeout: TimeoutError: the socket"


@pytest.mark.both_backends
async def test_timeouts_count_from_admission_never_the_wait_for_a_lane(tmp_path: Path) -> None:
    async with lab(tmp_path) as mesh, mesh.open_run("r", failures="report") as run:
        rare = am.Agent("rare", model="lab/rare")
        slow = am.Agent("slow", model="lab/slow", timeout=4, retry=am.Retry(3))
        waits = [run.start(rare.on(f"{number}"), timeout=1.5) for number in range(6)]  # 6 a minute, one second each
        outcomes = [await task.outcome() for task in waits]
        assert [outcome.state for outcome in outcomes] == ["done"] * 6
        assert 45 < max(outcome.seconds for outcome in outcomes) < 65
        began = monotonic()
        attempts = await run.start(slow.on("a")).outcome()  # three attempts of 4 s each
        assert (attempts.attempts, attempts.usage.uncertain) == (3, 3)
        assert 12 < monotonic() - began < 20
        began = monotonic()
        over_all = await run.start(slow.on("b"), timeout=6).outcome()  # over its attempts
        assert str(over_all.error).startswith("timeout: ")
        assert over_all.attempts == 2
        assert 6 < monotonic() - began < 8


@pytest.mark.both_backends
async def test_cancelling_gives_what_is_in_flight_its_time(tmp_path: Path) -> None:
    async with lab(tmp_path) as mesh:
        async with mesh.open_run("r", failures="report") as run:
            one = am.Agent("one", model="lab/one")
            queued = [run.start(one.on(f"{number}")) for number in range(5)]  # one at a time, a second each
            slow = run.start(am.Agent("slow", model="lab/slow").on("x"))
            await anyio.sleep(0.5)
            began = monotonic()
            await run.cancel(grace=3)
            await anyio.sleep(1000)  # the block of the run is cut short, too
        assert monotonic() - began == pytest.approx(3.0)
        assert (run.status, run.reason) == ("cancelled", "the run was cancelled")
        assert sorted([(await task.outcome()).state for task in queued]) == ["cancelled"] * 4 + ["done"]
        assert run.runner.statistics().cancelled == 1
        assert run.runner.statistics().unfinished == 4
        cut = await slow.outcome()
        assert cut.state == "cancelled"
        assert str(cut.error) == "cancelled: the run was cancelled while this task was running"
        assert run.record.usage.calls == 2
        assert run.record.usage.uncertain == 1


@pytest.mark.both_backends
async def test_cancelling_with_a_tournament_under_way_invents_no_failure(tmp_path: Path) -> None:
    async with lab(tmp_path) as mesh:
        async with mesh.open_run("r") as run:
            entrants = [run.start(am.call(after, 0, f"entrant {number}")) for number in range(6)]
            contest = run.tournament(am.Agent("judge", model="lab/one"), entrants=entrants, stop=am.Stop(matches=50))
            seen = 0
            async for _ in contest.changes():
                seen += 1
                if seen == 4:
                    await run.cancel(grace=0.5)
        assert run.failures == []
        assert run.status == "cancelled"
        assert (await contest.outcome()).state == "cancelled"


@pytest.mark.both_backends
async def test_outer_cancellation_leaves_no_orphan() -> None:
    async with am.open_mesh(journal=None) as mesh:
        with anyio.move_on_after(2) as scope:
            async with mesh.open_run("r") as run:
                live = run.start(am.call(after, 100))
        assert scope.cancelled_caught
        assert run.status == "cancelled"
        assert (await live.outcome()).state == "cancelled"


async def test_a_journal_has_all_events_in_a_sensible_order(tmp_path: Path) -> None:
    model = Scripted(tmp_path, "one", "two")
    events: list[Any] = []
    options = model.options | {"journal": tmp_path / "j", "watchers": [events.append]}
    async with am.open_mesh(**options) as mesh, mesh.open_run("told", seed=5) as run:
        agent = am.Agent("reader", model="scripted/m")
        first = run.start(agent.on("1"), key="a")
        run.start(agent.on("{{ f }}", f=first), name="second")
    assert kinds(events) == [
        "RunStarted", "TaskAdded", "TaskAdded", "TaskStarted", "CallIntent", "CallEnded", "TaskEnded", "TaskStarted",
        "CallIntent", "CallEnded", "TaskEnded", "RunEnded",
    ]  # fmt: skip
    assert isinstance(events[0], RunStarted)
    assert (events[0].name, events[0].seed, events[2].needs) == ("told", 5, ("reader/a",))
    assert isinstance(events[-1], RunEnded)
    assert (events[-1].status, events[-1].usage.calls) == ("done", 2)
    assert events[-1].usd == pytest.approx(30e-6)
    with RunFile.open(tmp_path / "j" / "runs" / f"{run.id}.db") as file:
        assert [write_event(event) for _, event in file.events()] == [write_event(event) for event in events]


async def test_the_same_seed_gives_the_same_results(tmp_path: Path) -> None:
    def draw(ctx: am.Context) -> float:
        return ctx.rng.random()

    async def once(seed: int | None) -> list[Any]:
        async with lab(tmp_path, seed=seed) as mesh, mesh.open_run("seeded") as run:
            agent = am.Agent("writer", model="lab/free")
            drafts = [run.start(agent.on("On {{ t }}", t=topic), key=topic) for topic in "abcdef"]
            drawn = [run.start(am.call(draw), key=str(number)) for number in range(3)]
            contest = run.tournament(agent, entrants=drafts, stop=am.Stop(matches=20))
            rows = [(row.key, row.rating) for row in await contest]
            return [[await task for task in (*drafts, *drawn)], rows]

    first, again, other = [await once(seed) for seed in (1, 1, 2)]
    assert first == again
    assert first[0] != other[0]
    assert len(set(first[0][-3:])) == 3, "each task has numbers of its own"


async def test_a_watcher_that_fails_is_dismissed_and_the_run_goes_on() -> None:
    heard: list[Any] = []

    def broken(event: Any) -> None:
        raise KeyError("watcher")

    async with am.open_mesh(journal=None, watchers=[broken, heard.append]) as mesh, mesh.open_run("r") as run:
        assert await run.start(am.call(add, 1, 2)) == 3
    notices = [event.text for event in heard if type(event).__name__ == "Notice"]
    assert notices == ["a watcher of this run failed and hears no more of it: KeyError: 'watcher'"]
