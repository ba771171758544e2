"""Time has two faces, and threads one door that is counted."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Iterator
from functools import partial

import anyio
import pytest
import trio

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


@pytest.mark.virtual_time
async def test_time_stands_still_until_every_thread_is_done() -> None:
    may_end = threading.Event()
    polls: list[float] = []
    worker = clock.Worker("w")
    began = clock.monotonic()

    async def poll() -> None:
        while True:
            await clock.sleep(0.5)
            polls.append(clock.monotonic() - began)

    async def work() -> None:
        done = anyio.Event()
        worker.do(partial(may_end.wait, 10.0), then=lambda value, error: done.set())
        await clock.in_thread(int)  # one of two is done, and the other still holds
        timer = threading.Timer(0.05, may_end.set)
        timer.start()
        await done.wait()
        timer.join()

    async with anyio.create_task_group() as group:
        group.start_soon(poll)
        with counted_turns() as turns:
            await work()
        assert clock.monotonic() == began
        assert len(turns) < 20  # a loop that looks for its time to jump takes the interpreter from the thread
        await clock.sleep(5.2)
        group.cancel_scope.cancel()
    assert polls == pytest.approx([0.5 * number for number in range(1, 11)])
    worker.close()


@contextlib.contextmanager
def counted_turns() -> Iterator[list[float]]:
    """One entry for each turn of trio's event loop; asyncio's lets nobody watch."""
    turns: list[float] = []
    if clock.on_asyncio():
        yield turns
        return
    instrument = Turns(turns)
    trio.lowlevel.add_instrument(instrument)
    yield turns
    trio.lowlevel.remove_instrument(instrument)


class Turns(trio.abc.Instrument):
    def __init__(self, turns: list[float]) -> None:
        self._turns = turns

    def before_io_wait(self, timeout: float) -> None:
        self._turns.append(timeout)


async def test_a_worker_does_one_thing_after_another_and_tells_what_came_of_it() -> None:
    worker = clock.Worker("w")
    told: list[object] = []
    threads: set[int] = set()
    all_told = anyio.Event()

    def work(value: int) -> int:
        threads.add(threading.get_ident())
        return 6 // value

    def note(value: int | None, error: BaseException | None) -> None:
        told.append(value if error is None else type(error))
        threads.discard(threading.get_ident())
        if len(told) == 3:
            all_told.set()

    for value in (1, 0, 3):
        worker.do(lambda value=value: work(value), then=note)  # type: ignore[misc]
    assert clock.threads_pending() == 3
    with anyio.fail_after(10.0):
        await all_told.wait()
    assert told == [6, ZeroDivisionError, 2]
    assert len(threads) == 1
    assert clock.threads_pending() == 0
    worker.close()


async def test_a_workers_thread_ends_when_it_is_closed_or_forgotten() -> None:
    for forget in (False, True):
        worker = clock.Worker(f"short-lived {forget}")
        done = anyio.Event()
        worker.do(int, then=lambda value, error, done=done: done.set())  # type: ignore[misc]
        await done.wait()
        (thread,) = (one for one in threading.enumerate() if one.name == f"short-lived {forget}")
        if forget:
            del worker
        else:
            worker.close()
            worker.close()
        thread.join(10.0)
        assert not thread.is_alive()


@pytest.mark.virtual_time
async def test_an_alarm_rings_when_it_was_set_last() -> None:
    rang: list[float] = []
    alarm = clock.Alarm(lambda: rang.append(clock.monotonic() - began))
    began = clock.monotonic()
    async with anyio.create_task_group() as group:
        group.start_soon(alarm.serve)
        for at in (3.0, 9.0, 5.0):
            alarm.set(began + at)
            await clock.sleep(1.0)
        await clock.sleep(10.0)
        assert rang == [pytest.approx(5.0)]
        assert alarm.at == math.inf
        alarm.set(began + 20.0)
        alarm.set(math.inf)
        await clock.sleep(10.0)
        alarm.set(began + 24.0)
        await clock.sleep(2.0)
        assert rang == [pytest.approx(5.0), pytest.approx(24.0)]
        alarm.set(began + 30.0)
        alarm.close()
        alarm.set(began + 31.0)
    await clock.sleep(10.0)
    assert len(rang) == 2


@pytest.mark.virtual_time
async def test_who_serves_an_alarm_is_told_that_it_could_not_ring() -> None:
    def ring() -> None:
        raise ValueError("out of order")

    alarm = clock.Alarm(ring)
    alarm.set(clock.monotonic() + 1.0)
    with pytest.raises(ValueError, match="out of order"):
        await alarm.serve()
