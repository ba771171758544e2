"""The run that holds single calls (`ask`, `map`, `stream`): one for the life of a mesh, made by the first of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import anyio
import anyio.abc

from ..errors import UserError
from .run import Run

__all__ = ["Session"]


class Session:
    """Opens its run in a task of `services`, which outlives whoever is the first to ask; `open_run` makes it.

    `error` is why its journal cannot be written, if that is so.
    """

    def __init__(
        self, open_run: Callable[[], AbstractAsyncContextManager[Run]], *, services: anyio.abc.TaskGroup
    ) -> None:
        self.error: UserError | None = None
        self._open_run = open_run
        self._services = services
        self._run: Run | None = None
        self._begun = False
        self._in_turn = anyio.Lock()  # nobody overtakes those who wait for the run to open
        self._opened, self._closing, self._ended = anyio.Event(), anyio.Event(), anyio.Event()

    def __repr__(self) -> str:
        return f"<Session {self._run!r}>"

    async def run(self) -> Run:
        """The run, opened if it is not yet. Raises UserError where its journal cannot be written."""
        async with self._in_turn:
            if not self._begun:
                self._begun = True
                self._services.start_soon(self._serve)
            if not self._opened.is_set():
                await self._opened.wait()
        if self.error is not None:
            raise self.error
        assert self._run is not None
        return self._run

    async def _serve(self) -> None:
        try:
            async with self._open_run() as self._run:
                self._opened.set()
                await self._closing.wait()
        except UserError as error:
            self.error = error
        finally:
            self._opened.set()
            self._ended.set()

    def close(self) -> None:
        """Have the run end once what was asked has ended."""
        self._closing.set()

    async def wait_ended(self) -> None:
        """Return when the run, if there was one, has ended."""
        if self._begun:
            await self._ended.wait()
