"""The cache as the runs of a mesh see it: answers of earlier runs to the same requests, and theirs for later ones.

A run's own replies answer none of its calls, so that what is asked repeatedly is answered independently. A reply is
kept once its task has succeeded: one that was no use would be no better the next time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, Self, get_args

import anyio

from ..client.known import Found
from ..clock import Worker, in_thread
from ..errors import UserError
from ..events import CallEnded, CallIntent, Event, MatchEnded, TaskEnded
from ..journal.cache import Cached, CacheFile, Entry, Wanted, cache_key
from ..journal.groups import Groups
from ..messages import Reply, Request

__all__ = ["CacheMode", "Replies", "RunCache"]

CacheMode = Literal["off", "read", "use", "refresh"]
"""Whether earlier runs' replies answer (`read`, `use`) and new ones are kept (`use`, `refresh`)."""
_DEFAULT_FOLDER = Path(".agentmesh")


@dataclass(eq=False, slots=True)
class _Lookup:
    """What somebody waits for."""

    wanted: Wanted
    found: Cached | None = None
    done: anyio.Event = field(default_factory=anyio.Event)


class Replies:
    """The cache of a folder, for all runs of a mesh; opened when the first of them begins. Trouble ends its use only.

    Requests that are looked up while the thread is busy are looked up together.
    """

    def __init__(self, folder: Path, mode: CacheMode) -> None:
        self.mode = mode
        self.trouble: UserError | None = None
        self._folder = folder
        self._thread = Worker("cache")
        self._file: CacheFile | None = None
        self._opened = False
        self._groups: Groups[Entry] = Groups(self._put, worker=self._thread)
        self._lookups: list[_Lookup] = []
        self._looking = False

    def __repr__(self) -> str:
        return f"<Replies {self.mode} {self._file!r}>"

    @classmethod
    def of(cls, mode: CacheMode, folder: Path | None, *, content: bool) -> Self | None:
        """What a mesh with this journal folder has of a cache; None if it shall have none. Raises UserError."""
        if mode not in get_args(CacheMode):
            raise UserError(f"cache is {', '.join(get_args(CacheMode))}, not {mode!r}")
        if mode in ("use", "refresh") and not content:
            raise UserError(f'a cache keeps replies, and without content nothing may: cache "read", not "{mode}"')
        return None if mode == "off" else cls(folder or _DEFAULT_FOLDER, mode)

    def for_run(self, run: str, *, tell: Callable[[str], None]) -> RunCache:
        """The cache as a run sees it. `tell` gets a warning if it breaks down."""
        return RunCache(self, run, tell=tell)

    async def open(self) -> None:
        """Open the file, if that has not been done. Raises UserError for one that cannot be used."""
        if not self._opened:
            self._opened = True
            self._file = await in_thread(partial(CacheFile.open, self._folder, write=self.mode != "read"))

    async def find(self, wanted: Wanted) -> Cached | None:
        """The reply that is there, if this mode looks for any."""
        if self._file is None or self.mode == "refresh" or self.trouble is not None:
            return None
        lookup = _Lookup(wanted)
        self._lookups.append(lookup)
        self._look()
        await lookup.done.wait()
        return lookup.found

    def _look(self) -> None:
        if self._looking or not self._lookups:
            return
        lookups, self._lookups = self._lookups, []
        self._looking = True
        assert self._file is not None
        find = partial(self._file.find, [one.wanted for one in lookups])
        self._thread.do(find, then=partial(self._looked, lookups))

    def _looked(self, lookups: list[_Lookup], found: list[Cached | None] | None, error: BaseException | None) -> None:
        self._looking = False
        if error is not None:
            self._give_up(error)
        for one, reply in zip(lookups, found or [None] * len(lookups), strict=True):
            one.found = reply
            one.done.set()
        self._look()

    def put(self, entry: Entry) -> None:
        """Keep a reply, if this mode keeps any; never waits."""
        if self._file is not None and self.mode != "read":
            self._groups.add(entry)

    def _put(self, entries: Sequence[Entry]) -> None:
        assert self._file is not None
        self._file.put(entries)

    async def flush(self) -> None:
        """Wait until what was put is written."""
        try:
            await self._groups.flush()
        except UserError as error:
            self._give_up(error)

    def _give_up(self, error: BaseException) -> None:
        if not isinstance(error, UserError):
            raise error
        self.trouble = self.trouble or error

    async def aclose(self) -> None:
        """Write what is left and close the file."""
        await self.flush()
        self._thread.close()
        if self._file is not None:
            await in_thread(self._file.close)
            self._file = None
        self._opened = False


class RunCache:
    """The cache for one run: knows answers, and hears the run's events. `tell` gets a warning if it breaks down."""

    def __init__(self, replies: Replies, run: str, *, tell: Callable[[str], None]) -> None:
        self._replies, self._run, self._tell = replies, run, tell
        self._told = False
        self._keys: dict[int, str] = {}  # of calls that are under way
        self._held: dict[str, list[Entry]] = {}  # by address, until that has ended

    def __repr__(self) -> str:
        return f"<RunCache of {self._run}: {self._replies!r}>"

    async def find(self, key: str, request: Request, *, address: str) -> Found | None:
        """The reply that an earlier run has got to this."""
        cached = await self._replies.find(Wanted(cache_key(key, address=address), self._run))
        return None if cached is None else Found(cached.reply, attempts=0, source="cache", saved_usd=cached.usd)

    def event(self, event: Event) -> None:
        """Keep the replies of what has succeeded."""
        match event:
            case CallIntent(key=str(key)):
                self._keys[event.call] = key
            case CallEnded(reply=Reply() as reply) if reply.finish in ("stop", "tool"):
                key = self._keys.pop(event.call)
                wanted = Wanted(cache_key(key, address=event.address), self._run)
                self._held.setdefault(event.address, []).append((wanted, event.at, Cached(reply, event.usd)))
            case CallEnded(result="ok" | "failed"):
                self._keys.pop(event.call, None)
            case TaskEnded(outcome=outcome):
                self._settle(str(outcome.address), keep=outcome.ok and outcome.error is None)
            case MatchEnded():
                self._settle(event.address, keep=event.error is None)
            case _:
                pass

    def _settle(self, address: str, *, keep: bool) -> None:
        for entry in self._held.pop(address, ()) if keep else ():
            self._replies.put(entry)
        if not keep:
            self._held.pop(address, None)
        self._tell_trouble()

    async def flush(self) -> None:
        """Wait until what is to be kept is written."""
        await self._replies.flush()
        self._tell_trouble()

    def _tell_trouble(self) -> None:
        if self._replies.trouble is not None and not self._told:
            self._told = True
            self._tell(f"{self._replies.trouble}; this run goes on without it")
