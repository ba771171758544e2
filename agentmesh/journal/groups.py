"""Things that are written by a thread, group after group, so that nobody waits for the disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, TypeVar

import anyio

from ..clock import Worker, monotonic

__all__ = ["Groups"]

T = TypeVar("T")

_EVERY_S = 1.0  # between two writings: so much is lost at most when a process is killed while things come closely
_MANY = 200  # things that wait for no second to pass


class Groups(Generic[T]):
    """Hands what is added to `write`, several at a time and in their order, in the thread of `worker`.

    What `write` raises ends it: what waits is given up, nothing more is taken, and `flush` raises it.
    """

    def __init__(self, write: Callable[[Sequence[T]], object], *, worker: Worker) -> None:
        self.failure: BaseException | None = None
        self._write = write
        self._worker = worker
        self._waiting: list[T] = []
        self._away = False
        self._hurry = False
        self._due = 0.0
        self._back = anyio.Event()

    def __repr__(self) -> str:
        return f"<Groups: {len(self._waiting)} wait{', some are being written' if self._away else ''}>"

    def add(self, thing: T) -> None:
        """Take one thing; never waits."""
        if self.failure is None:
            self._waiting.append(thing)
            self._next()

    async def flush(self) -> None:
        """Wait until everything that was added is written. Raises what `write` has raised."""
        self._hurry = True
        self._next()
        while self._away:
            await self._back.wait()
        self._hurry = False
        if self.failure is not None:
            raise self.failure

    def _next(self) -> None:
        due = self._hurry or len(self._waiting) >= _MANY or monotonic() >= self._due
        if self._away or not self._waiting or not due:
            return
        things, self._waiting = self._waiting, []
        self._away, self._back, self._due = True, anyio.Event(), monotonic() + _EVERY_S
        self._worker.do(partial(self._write, things), then=self._written)

    def _written(self, _: object, error: BaseException | None) -> None:
        self._away = False
        if error is not None:
            self.failure = error
            self._waiting.clear()
        self._back.set()
        self._next()
