"""The lane on a virtual clock: one timer, nothing polls, and nobody who goes away leaves anything behind."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from agentmesh.clock import Alarm, monotonic, sleep
from agentmesh.errors import CallFailed
from agentmesh.limits import lane as module
from agentmesh.limits.admission import Row, Ticket
from agentmesh.limits.lane import IN_FLIGHT, LOOK_AHEAD, Lane
from agentmesh.rates import Limit

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time, pytest.mark.both_backends]

ONE_EACH_SECOND = Limit("requests", 60)


class Calls:
    """Calls of one row, each in a task of its own."""

    def __init__(self, lane: Lane, row: Row, group: anyio.abc.TaskGroup) -> None:
        self.lane, self.row, self.group = lane, row, group
        self.began = monotonic()
        self.admitted: list[tuple[float, int]] = []
        self.tickets: dict[int, Ticket] = {}

    def start(self, *ages: int, seconds: float | None = None, priority: float = 0.0) -> None:
        for age in ages:
            self.group.start_soon(self._call, age, seconds, priority)

    async def _call(self, age: int, seconds: float | None, priority: float) -> None:
        ticket = await self.lane.admit(self.row, characters=40, max_tokens=10, order=(-priority, 0.0, age))
        self.admitted.append((round(monotonic() - self.began, 3), age))
        self.tickets[age] = ticket
        if seconds is not None:
            await sleep(seconds)
            self.lane.settle(ticket, input_tokens=10, output_tokens=10)

    @property
    def ages(self) -> list[int]:
        return [age for _, age in self.admitted]


@asynccontextmanager
async def serving(*limits: Limit, **options: Any) -> AsyncIterator[Calls]:
    async with anyio.create_task_group() as group:
        lane = Lane("acme", (Limit("in_flight", 100),), **options)
        group.start_soon(lane.serve)
        yield Calls(lane, lane.row("m", limits), group)
        group.cancel_scope.cancel()


async def settled() -> None:
    """Let everything that can run now run."""
    for _ in range(10):
        await anyio.lowlevel.checkpoint()


async def test_calls_go_when_their_time_has_come_in_their_order() -> None:
    async with serving(ONE_EACH_SECOND) as calls:
        calls.start(7)
        await settled()
        calls.start(3, 1, 2, 0)
        await sleep(0.5)
        calls.start(9, priority=1)
        await sleep(10.0)
    assert calls.ages == [7, 9, 0, 1, 2, 3]
    assert [at for at, _ in calls.admitted] == pytest.approx([0.0, 1.02, 2.04, 3.06, 4.08, 5.1], abs=0.02)


async def test_one_timer_and_no_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour of waiting is one look at the limits when it begins, and one when it is over."""
    async with serving(Limit("requests", 1, 3600.0)) as calls:
        calls.start(0)
        await settled()
        looks: list[float] = []
        admit = calls.lane._admission.admit

        def look(now: float) -> tuple[list[Ticket], float]:
            looks.append(now - calls.began)
            return admit(now)

        monkeypatch.setattr(calls.lane._admission, "admit", look)
        calls.start(1, 2)
        await sleep(4000.0)
    assert calls.ages == [0, 1]
    assert len([at for at in looks if 1.0 < at < 3600.0]) == 0
    assert len(looks) <= 8


async def test_an_idle_lane_sets_no_timer_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float | None] = []
    real = anyio.move_on_after

    def move_on_after(seconds: float | None) -> anyio.CancelScope:
        waits.append(seconds)
        return real(seconds)

    monkeypatch.setattr(anyio, "move_on_after", move_on_after)
    async with serving(ONE_EACH_SECOND) as calls:
        calls.start(0, seconds=5.0)
        await sleep(1000.0)
    assert set(waits) == {None}


async def test_a_slot_that_comes_free_is_taken_at_once() -> None:
    async with serving(Limit("in_flight", 2)) as calls:
        calls.start(*range(5), seconds=7.0)
        await sleep(100.0)
    assert [at for at, _ in calls.admitted] == [0.0, 0.0, 7.0, 7.0, 14.0]
    statistics = calls.lane.statistics()
    assert (statistics.in_flight, statistics.waiting, statistics.admitted) == (0, 0, 5)
    assert statistics.bounded_by == "m in_flight"


async def test_an_earlier_call_moves_the_timer() -> None:
    """While the lane sleeps until a long prompt fits, a small call of another row sets it for sooner."""
    async with serving(Limit("tokens", 600, burst=100)) as calls:
        other = calls.lane.row("other", (ONE_EACH_SECOND,))
        first = await calls.lane.admit(calls.row, characters=360, max_tokens=10, order=(0.0, 0.0, 0))
        small = await calls.lane.admit(other, characters=40, max_tokens=10, order=(0.0, 0.0, 1))
        began, ends = monotonic(), dict[str, float]()

        async def wait(name: str, row: Row, characters: int) -> None:
            await calls.lane.admit(row, characters=characters, max_tokens=10, order=(0.0, 0.0, 2))
            ends[name] = monotonic() - began

        calls.group.start_soon(wait, "long", calls.row, 360)
        await sleep(0.3)
        calls.group.start_soon(wait, "small", other, 40)
        await sleep(30.0)
        assert ends["small"] == pytest.approx(1.02, abs=0.05)
        assert ends["long"] == pytest.approx(10.0, abs=0.5)
        assert (first.state, small.state) == ("admitted", "admitted")


async def test_cancelled_while_waiting() -> None:
    async with serving(Limit("in_flight", 1)) as calls:
        calls.start(0, seconds=50.0)
        await settled()
        with anyio.move_on_after(5.0) as scope:
            await calls.lane.admit(calls.row, characters=40, order=(0.0, 0.0, 1))
        assert scope.cancelled_caught
        assert calls.lane.statistics().waiting == 0
        assert calls.lane._admitted == {}
        calls.start(2, seconds=1.0)
        await sleep(100.0)
    assert calls.admitted == [(0.0, 0), (50.0, 2)]
    assert calls.lane.statistics().in_flight == 0


@pytest.mark.parametrize("first", ["admission", "cancellation"])
async def test_cancelled_at_the_instant_of_admission(first: str) -> None:
    """Whichever comes first, the slot is not lost: the next one gets it."""
    async with serving(Limit("in_flight", 1)) as calls:
        holder = await calls.lane.admit(calls.row, characters=40, order=(0.0, 0.0, 0))
        scope = anyio.CancelScope()
        got: list[Ticket] = []

        async def wait() -> None:
            with scope:
                got.append(await calls.lane.admit(calls.row, characters=40, order=(0.0, 0.0, 1)))

        calls.group.start_soon(wait)
        await settled()
        calls.start(2)
        await settled()
        steps: list[Callable[[], None]] = [lambda: calls.lane.settle(holder), scope.cancel]
        for step in steps if first == "admission" else reversed(steps):
            step()
        await settled()
        for ticket in got:  # it may have been told before it was cancelled: then the slot is its own
            assert ticket.state == "admitted"
            calls.lane.cancel(ticket)
        await settled()
        statistics = calls.lane.statistics()
        assert (calls.ages, statistics.in_flight, statistics.waiting) == ([2], 1, 0)


async def test_many_who_are_cancelled_leave_a_lane_as_new() -> None:
    async with serving(ONE_EACH_SECOND, Limit("tokens", 6000)) as calls:
        with anyio.move_on_after(3.5):
            async with anyio.create_task_group() as group:
                several = Calls(calls.lane, calls.row, group)
                several.start(*range(200))
        for ticket in several.tickets.values():
            calls.lane.cancel(ticket)
        statistics = calls.lane.statistics()
        assert (statistics.in_flight, statistics.waiting, calls.row.waiting) == (0, 0, 0)
        assert [gauge.meter.level(monotonic()) for gauge in calls.row.gauges[1:]] == [1.0, 1000.0]


async def test_a_push_back_wakes_the_lane_when_it_is_over() -> None:
    async with serving(Limit("requests", 6000)) as calls:
        calls.start(0, 1)
        await settled()
        assert calls.lane.push_back(calls.tickets[0], 30.0).models == ("m",)
        again = anyio.Event()

        async def go_again() -> None:
            await calls.lane.admit_again(calls.tickets[0])
            again.set()

        calls.group.start_soon(go_again)
        calls.start(2, 3, seconds=1.0)
        await sleep(29.0)
        assert not again.is_set()
        await sleep(1.1)  # and what comes in the time by which clocks may differ
        assert again.is_set()
        assert sorted(calls.ages) == [0, 1]
        await sleep(0.2)  # the probe was not refused
        assert sorted(calls.ages) == [0, 1, 2, 3]


async def test_a_call_that_can_never_go_is_told_at_once() -> None:
    async with serving(Limit("tokens", 600)) as calls:
        with pytest.raises(CallFailed, match="needs about"):
            await calls.lane.admit(calls.row, characters=40_000, max_tokens=10, order=(0.0, 0.0, 0))
        assert calls.lane.statistics().waiting == 0


async def test_waits_too_short_for_the_clock_to_show_do_not_spin() -> None:
    """Far from zero, a clock's smallest step is longer than some waits: time must go on nevertheless."""
    await sleep(1.5e7)
    async with serving(Limit("tokens", 6e9, burst=1e9)) as calls:
        for age in range(20):
            with anyio.fail_after(60.0):
                await calls.lane.admit(calls.row, characters=4 * 10**8 + age, max_tokens=1, order=(0.0, 0.0, age))
    assert calls.lane.statistics().admitted == 20


async def test_room_is_what_is_in_flight_and_a_look_ahead() -> None:
    async with serving() as calls:
        assert calls.lane.room() == LOOK_AHEAD
        calls.start(0, 1, 2)
        await settled()
        assert calls.lane.room() == LOOK_AHEAD + 3


async def test_calls_in_flight_are_bounded_where_no_file_says_so() -> None:
    lane = Lane("acme", (ONE_EACH_SECOND,))
    assert [limit.name for limit in lane.statistics().limits] == ["requests_per_minute", "in_flight"]
    assert lane.statistics().limits[1].limit == IN_FLIGHT
    assert "acme" in repr(lane)


async def test_a_clock_that_jumps_grants_a_burst_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a machine that slept the bucket is full, not fuller. A clock that goes back grants nothing."""
    offset = 0.0

    class Jumping(Alarm):
        def set(self, at: float) -> None:
            super().set(at - offset)

    monkeypatch.setattr(module, "monotonic", lambda: monotonic() + offset)
    monkeypatch.setattr(module, "Alarm", Jumping)
    async with serving(Limit("requests", 600)) as calls:
        calls.start(*range(100))
        await settled()
        before = len(calls.admitted)
        offset = 8 * 3600.0
        calls.lane._pump()
        await settled()
        assert 9 <= len(calls.admitted) - before <= 10
        offset = -3600.0
        before = len(calls.admitted)
        calls.lane._pump()
        await settled()
        assert len(calls.admitted) == before
        offset = 8 * 3600.0
        calls.lane._pump()
        await sleep(3.0)
        assert 20 <= len(calls.admitted) - before <= 40
        use = calls.lane.statistics().limits[-1].use
        assert use is None or math.isfinite(use)
