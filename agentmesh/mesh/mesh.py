"""What `open_mesh` returns: lanes, endpoints and budgets that runs share, and the shortest ways to ask."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar
from urllib.parse import unquote

import anyio
import anyio.abc
import httpx

from ..agents.agent import Agent, Call
from ..catalog import Catalog, RateOverride
from ..client.budget import Budget
from ..client.caller import check_weight
from ..client.known import Known
from ..client.route import Route
from ..client.transport import DEFAULT_TIMEOUTS, Timeouts
from ..clock import in_thread, on_asyncio, wall
from ..errors import RunFailed, UserError
from ..events import Event, Notice
from ..flow.graph import Node
from ..journal import Journal, NullJournal
from ..keys import key_of
from ..limits.statistics import LaneStatistics
from ..messages import Settings
from ..outcome import Outcome
from .cached import CacheMode, Replies
from .control import Control
from .endpoints import Endpoints
from .lone import lone_errors
from .memories import Memories
from .recall import Begun, Resume, begin, tell_begun
from .run import Run
from .session import Session

__all__ = ["Mesh"]

T = TypeVar("T")


class Mesh:
    """Runs and calls that share lanes. Use it as `async with open_mesh() as mesh`.

    On asyncio it may be opened and closed in different tasks. `budget` holds for all that is asked in it. `journal` is
    the folder of the runs' files, None for none. `provider_files` win over those that are found elsewhere; `settings`
    hold where nearer ones say nothing; `seed` is that of its runs and of the simulated provider. `http` takes the place
    of the network (any `httpx.AsyncBaseTransport`), `event_hooks` are httpx's. `watchers` hear every event of its runs.
    With `content=False` prompts and replies are kept out of the journal.
    With `cache` "use", what earlier runs asked is answered from `cache.db` in the journal's folder (or `.agentmesh`),
    and new replies are kept there; "read" keeps none, "refresh" asks everything anew.
    What it learns of accounts in the network is kept in the user's cache folder for the next one, if it `remembers`.

    Leaving it waits for single calls that are under way; an exception inside cancels them.
    """

    def __init__(
        self, *, budget: Budget | None = None, journal: str | Path | None = ".agentmesh",
        provider_files: Iterable[str | Path] = (), catalog: Catalog | None = None,
        settings: Settings | Mapping[str, Any] | None = None, seed: int | None = None,
        http: httpx.AsyncBaseTransport | None = None,
        event_hooks: Mapping[str, Sequence[Callable[..., Any]]] | None = None, timeouts: Timeouts = DEFAULT_TIMEOUTS,
        watchers: Sequence[Callable[[Event], None]] = (), remembers: bool = True, content: bool = True,
        cache: CacheMode = "off",
    ) -> None:  # fmt: skip
        self.budget = budget
        self.catalog = catalog if catalog is not None else Catalog.load(provider_files)
        self.seed = seed
        self._journal = None if journal is None else Path(journal)
        self._content = content
        self._settings = settings if isinstance(settings, Settings) else Settings.of(settings or {})
        self._http, self._hooks, self._timeouts = http, event_hooks, timeouts
        self._watchers = tuple(watchers)
        self._replies = Replies.of(cache, self._journal, content=content)
        self._remembers = remembers and http is None
        self._memories: Memories | None
        self._warnings: list[str] = []  # that no run has told yet
        self._services: anyio.abc.TaskGroup
        self._endpoints: Endpoints
        self._host: asyncio.Task[None] | None = None
        self._open = False
        self._runs: set[Run] = set()
        self._session: Session

    def __repr__(self) -> str:
        return f"<Mesh journal={self._journal}>"

    # --- opening and closing

    async def __aenter__(self) -> Self:
        if self._open:
            raise UserError("this mesh is open already")
        if on_asyncio():
            # The services live in a task of their own, so that another task than the opener's may close the mesh.
            ready = anyio.Event()
            self._host = asyncio.create_task(self._serve(ready), name="agentmesh services")
            await ready.wait()
        else:
            self._services = await anyio.create_task_group().__aenter__()
        self._session = Session(partial(self.open_run, "session", failures="report"), services=self._services)
        self._memories = Memories(self._warn) if self._remembers else None
        self._endpoints = Endpoints(
            self.catalog, self._services, seed=self.seed or 0, http=self._http, event_hooks=self._hooks,
            timeouts=self._timeouts, memories=self._memories,
        )  # fmt: skip
        self._open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.close()
        try:
            if error is None:
                await self._session.wait_ended()
        finally:
            self._open = False
            for run in tuple(self._runs):
                run.cut()
            with anyio.CancelScope(shield=True):
                await self._session.wait_ended()
                await self._remember()
                if self._replies is not None:
                    await self._replies.aclose()
                await self._endpoints.aclose()
            await self._end_services()
        if error is None and self._session.error is not None:
            raise self._session.error

    async def _end_services(self) -> None:
        self._services.cancel_scope.cancel()
        if self._host is None:
            await self._services.__aexit__(None, None, None)
            return
        await asyncio.wait([self._host])
        host, self._host = self._host, None
        host.result()

    def _check_open(self) -> None:
        if not self._open:
            raise UserError("the mesh is not open: use it inside of `async with am.open_mesh() as mesh`")

    async def _serve(self, ready: anyio.Event) -> None:
        async with anyio.create_task_group() as self._services:
            ready.set()
            await anyio.sleep_forever()

    # --- what runs need

    def route(self, models: Sequence[str]) -> Route:
        """The route over these models. Raises UserError for a name that nobody serves."""
        self._check_open()
        return self._endpoints.route(models)

    async def read_models(self, models: Iterable[str]) -> None:
        """Read in a thread what providers say of these models: files, and keys that commands give, take a while.

        Raises UserError for a name that nobody serves.
        """
        self._check_open()
        for name in models:
            if not self._endpoints.has_read(name):
                await in_thread(self._endpoints.read, name)

    def has_read(self, models: Iterable[str]) -> bool:
        """Whether nothing need be read any more before these models are asked."""
        return all(self._endpoints.has_read(name) for name in models)

    async def set_rates(self, rates: Sequence[RateOverride]) -> None:
        """From now on these limits hold, until others are set; calls that wait are looked at again.

        Raises UserError for a target that nobody serves or a figure that makes no sense, and then none of them holds.
        """
        self._check_open()
        self.catalog = await in_thread(self.catalog.with_rates, rates)
        self._endpoints.set_rates(rates, self.catalog)

    def turn_away(self, run: str) -> None:
        """Let all calls of a run that wait in lanes leave them: they ask again, if it goes on."""
        self._endpoints.turn_away(run)

    def room(self, backlog: str) -> int | None:
        """How many calls of a backlog may be live, once something has been asked of the accounts that pull from it."""
        return self._endpoints.room(backlog)

    def backlogs(self, account: str) -> Sequence[str]:
        """The backlogs from which the lane of an account pulls."""
        return self._endpoints.backlogs(account)

    def statistics(self) -> tuple[LaneStatistics, ...]:
        """How every lane stands now."""
        return self._endpoints.statistics()

    # --- runs

    def is_paused(self) -> bool:
        """Whether any of its runs is paused now."""
        return any(run.pause.on for run in self._runs)

    @asynccontextmanager
    async def open_run(
        self, name: str, *, budget: Budget | None = None, failures: Literal["raise", "report"] = "raise",
        settings: Settings | Mapping[str, Any] | None = None, seed: int | None = None,
        started: Mapping[str, Any] | None = None, watchers: Sequence[Callable[[Event], None]] = (), weight: float = 1.0,
        resume: bool | Resume = False, known: Sequence[Known] = (),
    ) -> AsyncIterator[Run]:  # fmt: skip
        """A run. Leaving it waits for its tasks; an exception inside cancels them, and comes out as it was raised.

        Runs that wait for the same limits are served in proportion to their `weight`, among calls of one priority;
        single calls (`ask`, `map`, `stream`) are together one run of weight 1. Raises RunFailed at the end if tasks
        failed, unless `failures` is "report". `started` are more fields of its first event (source, spec, inputs,
        tasks, waits_for).

        `resume` goes on with the newest unfinished run of that name, if there is one, or with the one that it names:
        tasks that ask what was asked before are not performed again, and calls that were answered are not sent.
        `known` may have answers to other calls.
        """
        self._check_open()
        check_weight(weight, of=f"the run {name}")
        if self._replies is not None:
            await self._replies.open()
        begun = await self._begin(name, started or {}, seed=self.seed if seed is None else seed, resume=resume)
        own = settings if isinstance(settings, Settings) else Settings.of(settings or {})
        run: Run | None = None
        cached = () if self._replies is None else (self._replies.for_run(begun.started.run, tell=self._warn),)
        try:
            with lone_errors():
                async with anyio.create_task_group() as group:
                    run = Run(
                        self, name, identity=begun.started.run, journal=begun.journal, group=group,
                        watchers=(*(one.event for one in cached), *self._watchers, *watchers), budget=budget,
                        settings=own.over(self._settings), seed=begun.started.seed, weight=weight, past=begun.past,
                        known=(*known, *cached),
                    )  # fmt: skip
                    self._runs.add(run)
                    self._services.start_soon(_serve_journal, begun.journal, run)
                    self._services.start_soon(Control(run, self._services).serve)
                    tell_begun(run, begun)
                    self._tell_warnings()
                    yield run
                    await run.runner.wait_finished()
        except BaseException:
            if run is not None and run.status is None:
                run.status, run.reason = "cancelled", "an exception ended the run"
            raise
        finally:
            with anyio.CancelScope(shield=True):
                if run is not None:
                    await self._remember()
                    for one in cached:
                        await one.flush()
                    self._runs.discard(run)
                    run.end()
                await begun.aclose()
        assert run is not None
        if run.record.broken is not None:
            raise run.record.broken
        failed = [outcome for outcome in run.failures if outcome.state == "failed"]
        if failed and failures == "raise":
            raise RunFailed(run.id, failed)

    async def _begin(self, name: str, started: Mapping[str, Any], *, seed: int | None, resume: bool | Resume) -> Begun:
        making = partial(begin, name, self._journal, started=started, seed=seed, resume=resume, content=self._content)
        return making() if self._journal is None and resume is False else await in_thread(making)

    async def _remember(self) -> None:
        """Keep what lanes know, if anything has happened there."""
        if self._memories is not None:
            await self._memories.save()

    def _warn(self, text: str) -> None:
        """Say something that is of no run, in one of them: now, or when there is one."""
        self._warnings.append(text)
        self._tell_warnings()

    def _tell_warnings(self) -> None:
        run = next((run for run in self._runs if run.record.broken is None), None)
        while run is not None and self._warnings:
            run.record.emit(Notice(at=wall(), level="warning", text=self._warnings.pop(0)))

    # --- single calls

    async def _single_calls(self) -> Run:
        self._check_open()
        return await self._session.run()

    async def ask(self, model: str, prompt: str, **settings: Any) -> str:
        """One call: the text of the reply. `settings` are as in `Settings`. Raises TaskFailed."""
        run = await self._single_calls()
        await self.read_models([model])
        return await run.start(Agent[str]("ask", model=model, settings=settings).on("{{ prompt }}", prompt=prompt))

    async def map(
        self, make: Callable[[Any], Call[Any]], items: Iterable[Any], *, name: str | None = None
    ) -> AsyncGenerator[Outcome]:
        """A call per item, all at once as far as the limits allow; their outcomes as they come.

        The outcomes of items that a budget left undone come last, as cancelled. Who leaves early wants no more: what
        has not been sent by then is cancelled, what is in flight goes on.
        """
        run = await self._single_calls()
        calls = [(item, make(item)) for item in items]
        await self.read_models(dict.fromkeys(model for _, call in calls if call.agent for model in call.agent.models))
        left = {
            task._node: task for task in (run.start(call, name=name, key=_key(item), item=item) for item, call in calls)
        }
        waiting = deque(node for node in left if node.ended)
        arrived = anyio.Event()

        def note(node: Node) -> None:
            waiting.append(node)
            arrived.set()

        def stopped() -> None:
            arrived.set()

        run.runner.state.group("map", list(left)).on_item.append(note)
        run.runner.on_stopped.append(stopped)
        try:
            while left:
                while waiting:
                    outcome = left.pop(waiting.popleft()).settled
                    assert outcome is not None
                    yield outcome
                if run.runner.over:
                    break
                if left:
                    arrived = anyio.Event()
                    await arrived.wait()
            for task in left.values():
                yield await task.outcome()
        finally:
            run.runner.on_stopped.remove(stopped)
            for node in left:
                run.runner.withdraw(node, "nobody waits for it any more")

    async def stream(self, model: str, prompt: str, **settings: Any) -> AsyncGenerator[str]:
        """One call whose text comes in pieces as the model writes it. Raises TaskFailed at the end if it failed."""
        from .stream import stream_text

        run = await self._single_calls()
        await self.read_models([model])
        async for piece in stream_text(run, model, prompt, settings=Settings.of(settings)):
            yield piece


def _key(item: Any) -> str | None:
    """The key that an item has by itself, as it is given to `start`."""
    try:
        return unquote(key_of(item), errors="surrogatepass")
    except TypeError:  # no data: the call's arguments tell it apart
        return None


async def _serve_journal(journal: Journal | NullJournal, run: Run) -> None:
    try:
        await journal.serve()
    except UserError as error:
        run.abort(error)
