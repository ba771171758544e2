"""Ctrl-C and SIGTERM while a run goes on: once to end it in order, twice to end it at once."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.abc

from ..clock import wall
from ..events import Notice
from ..mesh.run import CANCEL_GRACE_S, Run
from .exits import INTERRUPTED, TERMINATED

__all__ = ["Signals", "handling_signals"]


class Signals:
    """What was received. `exit_code` is the command's, once something was: 130 or 143."""

    def __init__(self, group: anyio.abc.TaskGroup) -> None:
        self.exit_code: int | None = None
        self._group = group
        self._run: Run | None = None

    def __repr__(self) -> str:
        return f"<Signals exit_code={self.exit_code}>"

    def watch(self, run: Run) -> None:
        """This run is to be ended when a signal comes."""
        self._run = run

    def take(self, number: int) -> None:
        """A signal has come."""
        again = self.exit_code is not None
        self.exit_code = self.exit_code or (TERMINATED if number == signal.SIGTERM else INTERRUPTED)
        if self._run is None:
            raise KeyboardInterrupt
        if self._run.over.is_set():  # its journal is being closed: what is left takes a moment
            if again:
                raise KeyboardInterrupt
            return
        if again:
            self._run.cut()
            return
        text = f"interrupted: nothing new starts, and calls in flight have {CANCEL_GRACE_S:g} s; once more ends them"
        self._run.record.emit(Notice(at=wall(), level="warning", text=text))
        self._group.start_soon(self._run.cancel)

    async def listen(self) -> None:
        """Take signals until cancelled."""
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
            async for number in received:
                self.take(number)


@asynccontextmanager
async def handling_signals() -> AsyncIterator[Signals]:
    """While inside, signals end the watched run instead of the process; the run keeps what it has received."""
    async with anyio.create_task_group() as group:
        signals = Signals(group)
        group.start_soon(signals.listen)
        yield signals
        group.cancel_scope.cancel()
