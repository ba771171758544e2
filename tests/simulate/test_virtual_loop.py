"""The virtual clock: it jumps when nothing else can happen, and never over something real."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator

import anyio
import anyio.abc
import anyio.from_thread
import pytest

from agentmesh import clock
from agentmesh.simulate.virtual import VirtualLoop, run_virtual

DAY = 86400.0


pytestmark = pytest.mark.virtual_time


@pytest.mark.anyio
async def test_a_day_passes_at_once_and_to_the_moment() -> None:
    began, real = clock.monotonic(), time.monotonic()
    await clock.sleep(DAY)
    assert clock.monotonic() - began == pytest.approx(DAY, abs=1e-6)
    assert time.monotonic() - real < 5.0


def test_time_begins_at_zero_and_results_and_errors_come_through() -> None:
    async def add(a: int, b: int) -> tuple[float, int]:
        await clock.sleep(0.5)
        return clock.monotonic(), a + b

    async def fail() -> None:
        raise LookupError("gone")

    assert run_virtual(add, 2, 3) == (0.5, 5)
    with pytest.raises(LookupError, match="gone"):
        run_virtual(fail)


@pytest.mark.anyio
async def test_sleepers_wake_in_the_order_of_their_times() -> None:
    woken: list[float] = []

    async def sleeper(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(seconds)

    async with anyio.create_task_group() as group:
        for seconds in (3.0, 1.0, 0.0, 1000.0, 2.0):
            group.start_soon(sleeper, seconds)
    assert woken == [0.0, 1.0, 2.0, 3.0, 1000.0]


def test_to_sleep_for_ever_is_a_wait_that_nothing_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentmesh.simulate.virtual._GRACE_S", 0.01)
    with pytest.raises(RuntimeError, match="every task waits for something that no timer"):
        run_virtual(anyio.sleep_forever)


@pytest.mark.anyio
async def test_deadlines_are_virtual() -> None:
    began = clock.monotonic()
    with pytest.raises(TimeoutError):
        with anyio.fail_after(3600):
            await anyio.sleep_forever()
    assert clock.monotonic() - began == pytest.approx(3600)


@pytest.mark.anyio
async def test_a_thread_in_flight_holds_time() -> None:
    may_end = threading.Event()
    events: list[str] = []

    def blocking() -> float:
        may_end.wait(5.0)
        events.append("thread")
        return 7.0

    async def late() -> None:
        await clock.sleep(30.0)
        events.append("timer")

    began = clock.monotonic()
    async with anyio.create_task_group() as group:
        group.start_soon(late)
        timer = threading.Timer(0.05, may_end.set)
        timer.start()
        assert await clock.in_thread(blocking) == 7.0
        assert clock.monotonic() == began
    assert events == ["thread", "timer"]
    timer.join()


@pytest.mark.anyio
async def test_the_loops_own_executor_holds_time_too() -> None:
    began = clock.monotonic()
    with anyio.move_on_after(10.0) as scope:
        await asyncio.get_running_loop().run_in_executor(None, time.sleep, 0.02)
    assert not scope.cancelled_caught
    assert clock.monotonic() == began


@contextlib.asynccontextmanager
async def _connection() -> AsyncIterator[tuple[anyio.abc.ByteStream, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=ours)
    try:
        yield _Stream(reader), theirs
    finally:
        writer.close()
        await writer.wait_closed()
        theirs.close()


class _Stream(anyio.abc.ByteStream):
    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader

    async def receive(self, max_bytes: int = 100) -> bytes:
        return await self._reader.read(max_bytes)

    async def send(self, item: bytes) -> None:
        raise NotImplementedError

    async def send_eof(self) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        return


@pytest.mark.anyio
async def test_an_open_socket_lets_time_run_at_its_real_pace() -> None:
    async with _connection() as (stream, peer):
        timer = threading.Timer(0.05, peer.sendall, [b"here"])
        began = clock.monotonic()
        timer.start()
        with anyio.fail_after(20.0):  # a jump would end this at once
            assert await stream.receive() == b"here"
        assert clock.monotonic() - began < 5.0
        timer.join()
    await clock.sleep(DAY)  # and once it is closed, time jumps again


@pytest.mark.anyio
async def test_a_wait_on_a_silent_socket_still_ends() -> None:
    async with _connection() as (stream, _):
        with anyio.move_on_after(0.03) as scope:
            await stream.receive()
    assert scope.cancelled_caught


@pytest.mark.anyio
async def test_a_subprocess_holds_time() -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "pass", stdin=None, stdout=None)
    with anyio.fail_after(DAY):
        assert await process.wait() == 0
    assert clock.monotonic() < DAY / 2


def test_a_wait_that_nothing_can_end_is_told_instead_of_hanging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentmesh.simulate.virtual._GRACE_S", 0.01)
    loop = VirtualLoop()
    try:
        with pytest.raises(RuntimeError, match="no timer, thread, socket or subprocess"):
            loop.run_until_complete(loop.create_future())
    finally:
        loop.close()


def test_a_thread_that_passed_no_door_may_still_wake_the_loop() -> None:
    async def wait() -> str:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        timer = threading.Timer(0.02, future.get_loop().call_soon_threadsafe, [future.set_result, "woken"])
        timer.start()
        return await future

    assert run_virtual(wait) == "woken"
