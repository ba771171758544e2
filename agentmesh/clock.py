"""The two faces of time, and the one door to threads.

Waiting goes by the monotonic face, dates by the wall face. All waiting goes through anyio, so a virtual event loop (or
trio's `MockClock`) moves the whole program; all threads pass `in_thread`, which counts them, so that a virtual clock
knows when something real is still pending.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import anyio
import anyio.to_thread

__all__ = ["beside_loop", "in_thread", "monotonic", "on_asyncio", "sleep", "threads_pending", "wall"]

P = ParamSpec("P")
T = TypeVar("T")

_pending = 0


def monotonic() -> float:
    """Seconds on the clock of the running event loop, virtual or real; only differences mean something."""
    try:
        return asyncio.get_running_loop().time()  # what anyio comes to after five calls; a call asks fifteen times
    except RuntimeError:
        return anyio.current_time()


def on_asyncio() -> bool:
    """Whether the running event loop is asyncio's; else it is trio's."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def wall() -> float:
    """Seconds since 1970, UTC: for dates, `Retry-After` and what people read."""
    return time.time()


async def sleep(seconds: float) -> None:
    """Wait by the monotonic face."""
    await anyio.sleep(seconds)


async def in_thread(function: Callable[..., T], *args: Any, limiter: anyio.CapacityLimiter | None = None) -> T:
    """Run a function that blocks in a worker thread; not interrupted by cancellation once it has begun."""
    global _pending
    _pending += 1
    try:
        return await anyio.to_thread.run_sync(function, *args, limiter=limiter)
    finally:
        _pending -= 1


def beside_loop(function: Callable[[], T]) -> T:
    """Run a function in a thread of its own and wait for it here: for code whose own thread runs a loop already."""
    with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="agentmesh") as thread:
        return thread.submit(function).result()


def threads_pending() -> int:
    """How many functions are in threads now: while this is not 0, virtual time stands still."""
    return _pending
