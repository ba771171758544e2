"""The virtual clock: an asyncio event loop whose time jumps to the next timer when nothing else can happen.

A program that waits only through the loop then takes no real time at all, and takes the same virtual time each run. The
jump is made where the loop would sleep: nothing is runnable, and the selector is about to wait for the next timer.
What is real may be under way just then, and must not be overtaken:

- A function in a thread (through `clock.in_thread` or the loop's executor): time stands still until it is done.
- An open socket, pipe or subprocess: something may arrive at any moment, nobody knows when, perhaps never. Time runs
  at its real pace, so that timeouts still end such waits.

If nothing is runnable, no timer is set and nothing real is pending, no event can ever come: the loop says so instead
of hanging. Threads that pass neither door are given a moment to show up first.

trio has `trio.testing.MockClock(autojump_threshold=0)` for the same purpose, which `clock` holds while functions are
in threads; of sockets and subprocesses it knows nothing.
"""

from __future__ import annotations

import asyncio
import math
import selectors
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio

from .. import clock

__all__ = ["VirtualLoop", "run_virtual"]

T = TypeVar("T")

_GRACE_S = 2.0  # real seconds for an uncounted thread to wake the loop, before it is called dead


class _JumpingSelector(selectors.DefaultSelector):
    """Instead of sleeping until the next timer it moves the loop's time there, if nothing real holds it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.executing = 0
        self.children: list[asyncio.SubprocessTransport] = []
        self.next_timer: Callable[[], float] = lambda: 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if self.next_timer() == math.inf:  # what sleeps for ever is no reason to move on, day after day
            timeout = None
        if self.executing or clock.threads_pending():
            return super().select(None)  # whoever ends a thread's work wakes the loop
        if self._outside_pending():
            began = time.monotonic()
            ready = super().select(timeout)
            self.now += time.monotonic() - began
            return ready
        if timeout is not None:
            self.now += timeout
            return ready
        if ready := super().select(_GRACE_S):
            return ready
        raise RuntimeError("every task waits for something that no timer, thread, socket or subprocess can bring about")

    def _outside_pending(self) -> bool:
        """Whether anything beside the loop's own wake-up pipe is watched, or a subprocess runs."""
        self.children = [child for child in self.children if child.get_returncode() is None]
        return len(self.get_map()) > 1 or bool(self.children)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop in virtual time, which begins at 0.

    For `asyncio.Runner(loop_factory=VirtualLoop)`, and for anyio's pytest plugin as the backend
    `("asyncio", {"loop_factory": VirtualLoop})`.
    """

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        self._jumping.next_timer = self._next_timer
        super().__init__(self._jumping)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._jumping.now

    def _next_timer(self) -> float:
        timers: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]  # not in the stubs
        return timers[0].when() if timers else 0.0

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """As in any loop; virtual time stands still until the function is done."""
        future = super().run_in_executor(executor, func, *args)
        self._jumping.executing += 1
        future.add_done_callback(self._executed)
        return future

    def _executed(self, future: asyncio.Future[Any]) -> None:
        self._jumping.executing -= 1

    async def _make_subprocess_transport(self, *args: Any, **kwargs: Any) -> asyncio.SubprocessTransport:
        transport: asyncio.SubprocessTransport = await super()._make_subprocess_transport(*args, **kwargs)  # type: ignore[misc]  # not in the stubs
        self._jumping.children.append(transport)
        return transport


def run_virtual(function: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Run an async function on a virtual clock, from time 0, and return what it returns."""
    return anyio.run(function, *args, backend="asyncio", backend_options={"loop_factory": VirtualLoop})
