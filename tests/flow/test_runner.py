"""The runner on a virtual clock: items flow one by one, lanes pull, waiting tasks are small, stalls are told."""

from __future__ import annotations

import gc
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from agentmesh.clock import monotonic, sleep
from agentmesh.errors import ErrorInfo, InvalidTransition, UserError
from agentmesh.flow.graph import Node, Require
from agentmesh.flow.runner import Runner
from agentmesh.outcome import Address, Outcome, State

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

Perform = Callable[[Node], Awaitable[Outcome | None]]


def done(node: Node, state: State = "done") -> Outcome:
    error = None if state == "done" else ErrorInfo("internal", state)
    return Outcome(node.address.task, node.address.key, state=state, error=error)


class Watched:
    """A runner whose tasks take as many seconds as their payload says, and when each of them began and ended."""

    def __init__(self, group: anyio.abc.TaskGroup, room: dict[str, float], perform: Perform | None) -> None:
        self.began: dict[str, float] = {}
        self.ended: dict[str, float] = {}
        self.ends: Counter[str] = Counter()
        self.peak: Counter[str] = Counter()
        self.room = room
        self._do = perform or self._sleep
        self.runner = Runner(group, perform=self._perform, room=self._room, on_ended=self._on_ended)

    def _room(self, lane: str) -> float:
        return self.room.get(lane, float("inf"))

    async def _sleep(self, node: Node) -> Outcome:
        await sleep(node.payload or 0)
        return done(node)

    async def _perform(self, node: Node) -> Outcome | None:
        self.began[str(node.address)] = monotonic()
        self.peak[node.lane] = max(self.peak[node.lane], self.runner.live[node.lane])
        return await self._do(node)

    def _on_ended(self, node: Node) -> None:
        self.ended[str(node.address)] = monotonic()
        self.ends[str(node.address)] += 1

    def add(self, task: str, key: Any = None, seconds: float = 0.0, **options: Any) -> Node:
        return self.runner.add(Address(task, None if key is None else str(key)), seconds, **options)


@asynccontextmanager
async def running(*, room: dict[str, float] | None = None, perform: Perform | None = None) -> AsyncIterator[Watched]:
    """A runner; at the end everything has ended, exactly once, and the state is sound."""
    async with anyio.create_task_group() as group:
        watched = Watched(group, room or {}, perform)
        yield watched
        await watched.runner.wait_finished()
    runner = watched.runner
    runner.state.validate()
    assert runner.idle
    assert watched.ends == {str(node.address): 1 for node in runner.state.nodes.values() if node.ended}
    if not runner.stopping:
        assert runner.statistics().unfinished == 0


@pytest.mark.both_backends
async def test_an_item_goes_on_the_moment_its_own_input_is_done() -> None:
    async with running() as watched:
        for number in range(10):
            first = watched.add("draft", number, seconds=100.0 if number == 0 else number)
            watched.add("review", number, seconds=1.0, needs=[first])
    assert watched.ended["draft/7"] == pytest.approx(watched.began["review/7"])
    assert watched.ended["review/7"] - watched.began["draft/7"] == pytest.approx(8.0)
    assert watched.ended["review/9"] < watched.ended["draft/0"]


@pytest.mark.both_backends
async def test_a_full_lane_blocks_no_other() -> None:
    async with running(room={"slow": 1, "stuck": 0.5}) as watched:
        for number in range(20):
            watched.add("a", number, seconds=50.0, lane="slow", priority=9)
            watched.add("b", number, seconds=1.0, lane="free")
        start = monotonic()
        reader = watched.add("c", None, lane="free", needs=[watched.add("d", None, seconds=2.0, lane="free")])
        await watched.runner.wait_ended(reader)
        assert monotonic() - start == pytest.approx(2.0)
        assert len(watched.ended) == 22
    assert watched.peak["slow"] == 1


async def test_live_tasks_never_exceed_the_room_and_always_fill_it() -> None:
    async with running(room={"a": 5}) as watched:
        start = monotonic()
        for number in range(50):
            watched.add("t", number, seconds=1.0 + number % 3, lane="a")
    assert watched.peak["a"] == 5
    assert monotonic() - start == pytest.approx((17 + 34 + 48) / 5, abs=3.0)


async def test_room_that_grows_is_used_when_the_lane_is_pulled() -> None:
    async with running(room={"a": 2}) as watched:
        for number in range(10):
            watched.add("t", number, seconds=10.0, lane="a")
        await sleep(1.0)
        watched.room["a"] = 6
        watched.runner.pull("a")
        await sleep(1.0)
        assert len(watched.began) == 6


async def test_a_lane_starts_what_is_first_in_order_when_there_is_room() -> None:
    async with running(room={"a": 1}) as watched:
        watched.add("t", "running", seconds=1.0, lane="a")
        watched.add("t", "plain", seconds=1.0, lane="a")
        needed = watched.add("t", "needed", seconds=1.0, lane="a")
        watched.add("t", "high", seconds=1.0, lane="a", priority=1)
        watched.add("u", "after", needs=[needed])  # now `needed` has a longer way before it than `plain`
    order = sorted((at, name) for name, at in watched.began.items() if name.startswith("t/"))
    assert [name for _, name in order] == ["t/running", "t/high", "t/needed", "t/plain"]


async def test_a_collection_grows_by_its_own_items_and_its_reader_waits_for_all() -> None:
    async with running() as watched:
        runner = watched.runner
        items = runner.state.open_collection("item")
        count = 0

        def grow(node: Node) -> None:
            nonlocal count
            if count == 99:
                runner.close(items)
            else:
                count += 1
                watched.add("item", count, seconds=1.0, collection=items)

        items.on_item.append(grow)
        reader = watched.add("reader", requires=[(items, Require.of("all"))])
        start = monotonic()
        watched.add("item", 0, seconds=1.0, collection=items)
        assert await runner.wait_ended(reader) == done(reader)
        assert monotonic() - start == pytest.approx(100.0)


async def test_failures_skip_what_depends_on_them_and_nothing_else() -> None:
    async def perform(node: Node) -> Outcome:
        await sleep(1.0)
        return done(node, "failed" if node.address == Address("a", "3") else "done")

    async with running(perform=perform) as watched:
        for number in range(5):
            watched.add("c", number, needs=[watched.add("b", number, needs=[watched.add("a", number)])])
    states = {str(node.address): node.state for node in watched.runner.state.nodes.values()}
    assert {name for name, state in states.items() if state != "done"} == {"a/3", "b/3", "c/3"}
    assert states["a/3"] == "failed"


async def test_a_chain_of_5000_without_recursion() -> None:
    async with running() as watched:
        node = watched.add("t", 0)
        for number in range(1, 5000):
            node = watched.add("t", number, needs=[node])
    assert watched.ends["t/4999"] == 1


async def test_a_failure_at_the_head_of_5000_skips_them_in_one_step() -> None:
    async def fail(node: Node) -> Outcome:
        return done(node, "failed")

    async with running(perform=fail) as watched:
        node = watched.add("t", 0)
        for number in range(1, 5000):
            node = watched.add("t", number, needs=[node])
        outcome = await watched.runner.wait_ended(node)
        assert outcome is not None
        assert outcome.state == "skipped"
    assert watched.runner.statistics().skipped == 4999


async def test_waiting_tasks_are_small() -> None:
    """Each is a record with its address and its place in the lane's heap; nothing is suspended for it."""
    async with running(room={"a": 1}) as watched:
        watched.add("t", "first", seconds=1.0, lane="a")
        gc.collect()
        tracemalloc.start()
        for number in range(25_000):
            watched.runner.add(Address("t", str(number)), None, lane="a")
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert watched.runner.statistics().ready == 25_000
        assert size / 25_000 < 900  # bytes; at most 2,000 are promised
        watched.runner.stop()


@pytest.mark.both_backends
async def test_tasks_that_nothing_can_start_are_told_with_their_story() -> None:
    async with anyio.create_task_group() as group:
        watched = Watched(group, {}, None)
        never = watched.runner.state.open_collection("never")
        watched.add("fine", seconds=1.0)
        watched.add("reader", requires=[(never, Require.of("any"))])
        with pytest.raises(InvalidTransition, match="what will never come") as raised:
            await watched.runner.wait_finished()
    assert raised.value.story == (
        "reader was waiting",
        "it reads <Collection never open: 0 of 0 ended>, any required",
    )
    assert watched.ended.keys() == {"fine"}


@pytest.mark.both_backends
async def test_after_a_stop_what_runs_ends_and_nothing_starts() -> None:
    async with running(room={"a": 1}) as watched:
        first, second = (watched.add("t", n, seconds=5.0, lane="a") for n in range(2))
        after = watched.add("u", 0, needs=[first])
        await sleep(1.0)
        watched.runner.stop()
        with anyio.fail_after(10.0):
            assert await watched.runner.wait_ended(first) == done(first)
            assert await watched.runner.wait_ended(second) is None  # nobody has to leave the run for that
            assert await watched.runner.wait_ended(after) is None
    assert watched.began.keys() == {"t/0"}
    assert watched.runner.statistics().unfinished == 2


async def test_a_task_that_meets_the_stop_is_put_back() -> None:
    stopped = anyio.Event()

    async def perform(node: Node) -> Outcome | None:
        await stopped.wait()
        return None

    async with running(perform=perform) as watched:
        node = watched.add("t", 0)
        other = watched.add("t", 1)
        await sleep(1.0)
        stopped.set()
        with anyio.fail_after(10.0):
            assert await watched.runner.wait_ended(node) is None
    assert watched.runner.stopping
    assert (node.state, other.state, node.history) == ("ready", "ready", "wyry")


@pytest.mark.both_backends
async def test_cancellation_cuts_what_runs_and_leaves_the_rest_unfinished() -> None:
    async with anyio.create_task_group() as group:
        watched = Watched(group, {"a": 2}, None)
        nodes = [watched.add("t", n, seconds=100.0, lane="a") for n in range(3)]
        after = watched.add("u", needs=[nodes[0]])
        await sleep(1.0)
        group.cancel_scope.cancel()
    assert [node.state for node in [*nodes, after]] == ["cancelled", "cancelled", "ready", "waiting"]
    assert watched.ends == {"t/0": 1, "t/1": 1}
    assert watched.runner.idle
    watched.runner.state.validate()


async def test_tasks_whose_group_is_cancelled_before_they_began_are_cut_too() -> None:
    async with anyio.create_task_group() as group:
        watched = Watched(group, {}, None)
        node = watched.add("t", seconds=1.0)
        group.cancel_scope.cancel()
    assert node.state == "cancelled"
    assert watched.runner.idle


async def test_a_reader_of_ends_that_raises_does_not_stop_the_others() -> None:
    """What was still to be told is told with the next event, not lost."""
    async with anyio.create_task_group() as group:
        watched = Watched(group, {}, None)
        pair = watched.runner.state.open_collection("pair")

        def fail(node: Node) -> None:
            raise LookupError

        first = watched.runner.state.open_collection("first")
        first.on_item.append(fail)
        bad = watched.runner.state.add(Address("bad"), None, collection=first)[0]
        watched.runner.state.start(bad)
        watched.add("after", needs=[bad])
        with pytest.raises(LookupError):
            watched.runner._follow(watched.runner.state.end(bad, done(bad)))
        watched.runner.close(first)
        watched.runner.close(pair)
        await watched.runner.wait_finished()
    assert watched.ends == {"bad": 1, "after": 1}


@pytest.mark.both_backends
async def test_waiting_for_an_end_from_several_places() -> None:
    async with running() as watched, anyio.create_task_group() as group:
        node = watched.add("t", seconds=3.0)
        seen: list[tuple[float, Outcome | None]] = []
        start = monotonic()

        async def wait() -> None:
            outcome = await watched.runner.wait_ended(node)
            seen.append((monotonic() - start, outcome))

        for _ in range(3):
            group.start_soon(wait)
        await watched.runner.wait_ended(node)
        await anyio.lowlevel.checkpoint()
        await wait()
    assert [outcome for _, outcome in seen] == [done(node)] * 4
    assert [at for at, _ in seen] == pytest.approx([3.0] * 4)


# --- tasks that await tasks


@pytest.mark.both_backends
async def test_a_task_that_awaits_another_leaves_its_place_in_the_lane() -> None:
    runners: list[Runner] = []

    async def perform(node: Node) -> Outcome:
        if node.address.task == "parent":
            child = runners[0].add(Address("child", node.address.key), None, lane="x")
            async with anyio.create_task_group() as group:  # it may await several at once, and each of them often
                for _ in range(3):
                    group.start_soon(runners[0].wait_ended, child)
            assert await runners[0].wait_ended(child) == done(child)
        return done(node)

    async with running(room={"x": 2}, perform=perform) as watched:
        runners.append(watched.runner)
        for number in range(50):
            watched.add("parent", number, lane="x")
    assert watched.runner.statistics().done == 100
    assert watched.runner.live == {"x": 0}


@pytest.mark.both_backends
async def test_two_tasks_that_would_wait_for_each_other_are_told() -> None:
    runners: list[Runner] = []
    told: list[str] = []

    async def perform(node: Node) -> Outcome:
        awaited = {"itself": "itself", "parent": "after", "a": "b", "b": "a"}.get(node.address.task)
        if awaited is not None:
            await anyio.sleep(1)
            try:
                await runners[0].wait_ended(runners[0].state.nodes[Address(awaited)])
            except UserError as error:
                told.append(str(error))
        return done(node)

    async with running(perform=perform) as watched:
        runners.append(watched.runner)
        for name in ("itself", "parent", "a", "b"):
            watched.add(name)
        middle = watched.add("middle", needs=[watched.runner.state.nodes[Address("parent")]])
        group = watched.runner.state.group("middle", [middle])
        watched.add("after", requires=[(group, Require.of("any"))])
    pairs = {tuple(text.split(":")[0].split(" waits for ")) for text in told}
    assert {("itself", "itself, which", "itself"), ("parent", "after, which", "parent")} < pairs
    assert len(pairs & {("a", "b, which", "a"), ("b", "a, which", "b")}) == 1  # whoever came second
    assert len(told) == 3


@pytest.mark.both_backends
async def test_a_stop_releases_tasks_that_await_what_never_starts() -> None:
    runners: list[Runner] = []
    seen: list[Outcome | None] = []

    async def perform(node: Node) -> Outcome:
        if node.address.task == "parent":
            child = runners[0].add(Address("child"), None, lane="full")
            seen.append(await runners[0].wait_ended(child))
            await anyio.sleep(3)  # it goes on to its end
        return done(node)

    async with running(room={"full": 0}, perform=perform) as watched:
        runners.append(watched.runner)
        parent = watched.add("parent", lane="free")
        await anyio.sleep(1)
        watched.runner.stop()
        assert not watched.runner.over
        assert await watched.runner.wait_ended(parent) == done(parent)
        assert watched.runner.over
    assert seen == [None]
    assert watched.runner.statistics().unfinished == 1


async def test_what_has_not_begun_can_be_withdrawn() -> None:
    async with running(room={"x": 1}) as watched:
        first, second = (watched.add("t", number, seconds=5.0, lane="x") for number in range(2))
        reader = watched.add("reader", needs=[second])
        await anyio.sleep(1)
        for node in (first, second, reader):
            watched.runner.withdraw(node, "nobody wants it any more")
    assert [node.state for node in (first, second, reader)] == ["done", "cancelled", "skipped"]
    assert second.outcome is not None
    assert str(second.outcome.error) == "cancelled: nobody wants it any more"
