"""What `open_mesh` returns: lanes, endpoints and budgets that runs share, and the shortest ways to ask."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import anyio
import anyio.abc
import httpx
import sniffio

from ..agents.agent import Agent, Call
from ..catalog import Catalog
from ..client.budget import Budget
from ..client.route import Route
from ..client.transport import DEFAULT_TIMEOUTS, Timeouts
from ..clock import in_thread, wall
from ..errors import RunFailed, UserError
from ..events import Event, RunStarted
from ..flow.graph import Node
from ..journal import Journal, NullJournal, new_run_id
from ..limits.lane import Lane
from ..limits.statistics import LaneStatistics
from ..messages import Settings
from ..outcome import Outcome
from .endpoints import Endpoints
from .run import Run

__all__ = ["Mesh"]

T = TypeVar("T")


class Mesh:
    """Runs and calls that share lanes. Use it as `async with open_mesh() as mesh`.

    On asyncio it may be opened and closed in different tasks. `journal` is the folder of the runs' files, None for
    none; `http` takes the place of the network (any `httpx.AsyncBaseTransport`).
    """

    def __init__(
        self, *, budget: Budget | None = None, journal: str | Path | None = ".agentmesh",
        provider_files: Iterable[str | Path] = (), catalog: Catalog | None = None,
        settings: Settings | Mapping[str, Any] | None = None, seed: int | None = None,
        http: httpx.AsyncBaseTransport | None = None,
        event_hooks: Mapping[str, Sequence[Callable[..., Any]]] | None = None, timeouts: Timeouts = DEFAULT_TIMEOUTS,
        watchers: Sequence[Callable[[Event], None]] = (),
    ) -> None:  # fmt: skip
        self.budget = budget
        self.catalog = catalog if catalog is not None else Catalog.load(provider_files)
        self.seed = seed
        self._journal = None if journal is None else Path(journal)
        self._settings = settings if isinstance(settings, Settings) else Settings.of(settings or {})
        self._http, self._hooks, self._timeouts = http, event_hooks, timeouts
        self._watchers = tuple(watchers)
        self._services: anyio.abc.TaskGroup
        self._endpoints: Endpoints
        self._host: asyncio.Task[None] | None = None
        self._closing: anyio.Event
        self._session: Run | None = None
        self._session_lock: anyio.Lock
        self._session_ended: anyio.Event

    def __repr__(self) -> str:
        return f"<Mesh journal={self._journal}>"

    # --- opening and closing

    async def __aenter__(self) -> Self:
        self._closing, self._session_ended, self._session_lock = anyio.Event(), anyio.Event(), anyio.Lock()
        if sniffio.current_async_library() == "asyncio":
            # The services live in a task of their own, so that another task than the opener's may close the mesh.
            ready = anyio.Event()
            self._host = asyncio.create_task(self._serve(ready), name="agentmesh services")
            await ready.wait()
        else:
            self._services = await anyio.create_task_group().__aenter__()
        self._endpoints = Endpoints(
            self.catalog, self._services, seed=self.seed or 0, http=self._http, event_hooks=self._hooks,
            timeouts=self._timeouts,
        )  # fmt: skip
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        with anyio.CancelScope(shield=True):
            if self._session is not None:
                await self._session_ended.wait()
            await self._endpoints.aclose()
        if self._host is not None:
            self._services.cancel_scope.cancel()
            await asyncio.wait([self._host])
            self._host.result()
        else:
            self._services.cancel_scope.cancel()
            await self._services.__aexit__(None, None, None)

    async def _serve(self, ready: anyio.Event) -> None:
        async with anyio.create_task_group() as self._services:
            ready.set()
            await anyio.sleep_forever()

    # --- what runs need

    def route(self, models: Sequence[str]) -> Route:
        """The route over these models. Raises UserError for a name that nobody serves."""
        return self._endpoints.route(models)

    def lane(self, account: str) -> Lane | None:
        """The lane of an account, once something has been asked of it."""
        return self._endpoints.lane_of_account(account)

    def statistics(self) -> tuple[LaneStatistics, ...]:
        """How every lane stands now."""
        return self._endpoints.statistics()

    # --- runs

    @asynccontextmanager
    async def open_run(
        self, name: str, *, budget: Budget | None = None, failures: Literal["raise", "report"] = "raise",
        settings: Settings | None = None, seed: int | None = None, started: Mapping[str, Any] | None = None,
        watchers: Sequence[Callable[[Event], None]] = (),
    ) -> AsyncIterator[Run]:  # fmt: skip
        """A run. Leaving it waits for its tasks; an exception inside cancels them.

        Raises RunFailed at the end if tasks failed, unless `failures` is "report". `started` are more fields of its
        first event (source, spec, inputs, tasks, waits_for).
        """
        seed = self.seed if seed is None else seed
        identity = new_run_id(wall())
        journal = await self._open_journal(identity)
        run: Run | None = None
        try:
            async with anyio.create_task_group() as group:
                run = Run(
                    self, name, identity=identity, journal=journal, group=group, watchers=(*self._watchers, *watchers),
                    settings=(settings or Settings()).over(self._settings), budget=budget, seed=seed,
                )  # fmt: skip
                self._services.start_soon(_serve_journal, journal, run)
                run.record.emit(RunStarted(at=wall(), run=identity, name=name, seed=seed, **(started or {})))
                yield run
                await run.runner.wait_finished()
        except BaseException as error:
            if run is not None and run.status is None:
                run.status, run.reason = "cancelled", "an exception ended the run"
            if isinstance(error, BaseExceptionGroup):
                raise _alone(error) from None
            raise
        finally:
            with anyio.CancelScope(shield=True):
                if run is not None:
                    run.end()
                await journal.aclose()
        assert run is not None
        if run.record.broken is not None:
            raise run.record.broken
        failed = [outcome for outcome in run.failures if outcome.state == "failed"]
        if failed and failures == "raise":
            raise RunFailed(run.id, failed)

    async def _open_journal(self, identity: str) -> Journal | NullJournal:
        if self._journal is None:
            return NullJournal()
        return await in_thread(Journal.create, self._journal, identity)

    async def _open_session(self) -> Run:
        """The run that holds single calls: one for the life of the mesh, made by the first of them."""
        async with self._session_lock:
            if self._session is None:
                opened = anyio.Event()
                self._services.start_soon(self._serve_session, opened)
                await opened.wait()
        assert self._session is not None
        return self._session

    async def _serve_session(self, opened: anyio.Event) -> None:
        try:
            async with self.open_run("session", failures="report") as self._session:
                opened.set()
                await self._closing.wait()
        finally:
            opened.set()
            self._session_ended.set()

    # --- single calls

    async def ask(self, model: str, prompt: str, **settings: Any) -> str:
        """One call: the text of the reply. Raises TaskFailed."""
        run = await self._open_session()
        return await run.start(Agent[str]("ask", model=model, settings=settings).on("{{ prompt }}", prompt=prompt))

    async def map(
        self, make: Callable[[Any], Call[Any]], items: Iterable[Any], *, name: str | None = None
    ) -> AsyncIterator[Outcome]:
        """A call per item, all at once as far as the limits allow; their outcomes as they come."""
        run = await self._open_session()
        nodes = [run.start(make(item), name=name, item=item)._node for item in items]
        waiting = deque(node.outcome for node in nodes if node.ended)
        arrived = anyio.Event()

        def note(node: Node) -> None:
            waiting.append(node.outcome)
            arrived.set()

        run.runner.state.group("map", nodes).on_item.append(note)
        for _ in nodes:
            while not waiting:
                arrived = anyio.Event()
                await arrived.wait()
            outcome = waiting.popleft()
            assert outcome is not None
            yield outcome

    async def stream(self, model: str, prompt: str, **settings: Any) -> AsyncIterator[str]:
        """One call whose text comes in pieces as the model writes it. Raises TaskFailed at the end if it failed."""
        from .stream import stream_text

        run = await self._open_session()
        async for piece in stream_text(run, model, prompt, settings=Settings.of(settings)):
            yield piece


async def _serve_journal(journal: Journal | NullJournal, run: Run) -> None:
    try:
        await journal.serve()
    except UserError as error:
        run.abort(error)


def _alone(error: BaseException) -> BaseException:
    """The error itself where a group holds just one."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
