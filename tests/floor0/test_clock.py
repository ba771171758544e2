"""Time has two faces, and threads one door that is counted."""

from __future__ import annotations

import threading
import time

import anyio
import pytest

from agentmesh import clock

pytestmark = [pytest.mark.anyio, pytest.mark.both_backends]


@pytest.mark.virtual_time
async def test_waiting_goes_by_the_monotonic_face_alone() -> None:
    monotonic, wall = clock.monotonic(), clock.wall()
    await clock.sleep(3600.0)
    assert clock.monotonic() - monotonic == pytest.approx(3600.0)
    assert clock.wall() - wall < 60.0
    assert abs(clock.wall() - time.time()) < 60.0


@pytest.mark.virtual_time
async def test_deadlines_of_anyio_are_on_the_same_clock() -> None:
    with anyio.move_on_after(5.0) as scope:
        await clock.sleep(10.0)
    assert scope.cancelled_caught
    assert scope.deadline == pytest.approx(clock.monotonic())


async def test_threads_are_counted_while_they_run_also_when_they_raise() -> None:
    inside, leave = threading.Event(), threading.Event()

    def work(value: int) -> int:
        inside.set()
        assert leave.wait(10.0)
        return value + 1

    results: list[int] = []

    async def run() -> None:
        results.append(await clock.in_thread(work, 1))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        while not inside.is_set():
            await anyio.sleep(0.001)
        assert clock.threads_pending() == 1
        leave.set()
    assert (results, clock.threads_pending()) == ([2], 0)
    with pytest.raises(ZeroDivisionError):
        await clock.in_thread(lambda: 1 // 0)
    assert clock.threads_pending() == 0
