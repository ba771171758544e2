"""The journal of a run while it is being written: append in the event loop, commit in groups on one thread.

How it works. `append` encodes an event and puts it into the newest group; it never waits. A thread commits the oldest
group when it is due. While it is away, everything that comes in makes the next group, so that a slow disk gets larger
groups and a fast one shorter waits. Everybody who waits in `durable` waits for their own group's one event, and so
wakes once. Only one group is ever away, so the connection has one thread at a time.

A commit costs CPU (0.5 ms and two thread switches, when little is going on), so there is none that nobody needs. A
group is due at once when somebody waits in `durable`, or when it has grown large; where there are hundreds of commits a
second, they keep 4 to 10 ms from each other, the more the more wait, so that several calls share one. What nobody waits
for goes with the next commit, 0.1 s later at the latest; so does what is waited for with patience, 0.1 s after the last
commit at the latest. Then calls that follow each other closely take one commit each, that of their intent.

A disk error ends it: the group that met it and all that wait are given up, and every waiter and the owner are told.
"""

from __future__ import annotations

import math
import sqlite3
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import anyio

from ..clock import Alarm, Worker, in_thread, monotonic, wall
from ..errors import AgentmeshError, UserError
from ..events import Event, RunStatus
from .encode import Row, encode
from .ids import short_id
from .read import RunFile
from .store import Store
from .tally import Tally

__all__ = ["Journal", "JournalStatistics", "NullJournal"]

_GROUP_RECORDS = 2000  # the most that one commit takes, so that no waiter waits for ever more
_GROUP_BYTES = 1_000_000  # a group of this weight waits for nobody
_LINGER_S = 0.1  # longer than from call to call at the rates where commits cost most, too short for anybody to notice
_APART_S, _APART_MOST_S = 0.004, 0.010  # commits that are waited for keep such a distance, and within these bounds
_APART_EACH_S = 0.002  # so much for each who waited for the last one: the bound is reached at 250 calls a second
_AHEAD_S = 0.04  # they may be early by this in all, so that who has not asked for a while waits for nothing
_ROOM_BYTES = 16_000_000  # pending above this: a disk that is slower than the run must slow the run
_ROW_BYTES = 200  # what a row weighs beside its body, in memory
_SUMMARY_SECONDS = 1.0  # between two summaries; a reader counts what came after the last one


@dataclass(frozen=True, slots=True)
class JournalStatistics:
    """How far a journal is: records given and on disk, groups committed, bytes waiting in memory and written."""

    appended: int = 0
    durable: int = 0
    groups: int = 0
    pending_bytes: int = 0
    written_bytes: int = 0


@dataclass(slots=True)
class _Group:
    """Rows that one commit will take at `due`. `last` is the number of the newest, `waiters` how many asked for it."""

    due: float
    rows: list[Row] = field(default_factory=list)
    weight: int = 0
    last: int = 0
    waiters: int = 0
    finished: anyio.Event = field(default_factory=anyio.Event)


class Journal:
    """Writes the events of one run; nothing else may write to its file.

    The owner runs `serve` in a task group and calls `aclose` at the end. Not to be used from other threads.
    """

    def __init__(self, store: Store, run_id: str, *, content: bool = True) -> None:
        self.run_id = run_id
        self._store = store
        self._content = content
        self._groups: deque[_Group] = deque()  # the oldest first; one that is away stays until it is on disk
        self._away = False
        self._tally = Tally()
        self._summarised_at = -math.inf
        self._appended = self._durable = 0
        self._pending = self._written = self._commits = 0
        self._finishing = anyio.Lock()
        self._thread = Worker(f"journal {run_id}")
        self._alarm = Alarm(self._commit_due)
        self._committed_at = self._paced = -math.inf
        self._failure: str | None = None
        self._cause: BaseException | None = None
        self._owner_knows = False
        self._closing = False

    @classmethod
    def create(cls, folder: Path, run_id: str, *, content: bool = True) -> Journal:
        """A journal in the new file `folder/runs/run_id.db`; `content=False` keeps prompts and replies out of it.

        Blocks for some milliseconds: in an event loop call it through `clock.in_thread`. Raises UserError when the
        run exists, when another process writes it (and says which), or when nothing can be written there.
        """
        return cls(Store.create(folder, run_id), run_id, content=content)

    @classmethod
    def resume(cls, path: Path, *, content: bool = True) -> Journal:
        """A journal that goes on with the run file at `path`: numbers and counts go on where the last process ended.

        Blocks, for the longer the more the last process wrote after its last summary. Raises UserError, and nothing has
        changed, when the run is being written (and says by whom), or when its file is missing, no run's, damaged, of a
        newer version, or cannot be written.
        """
        journal = cls(Store.resume(path), path.stem, content=content)
        try:
            with RunFile.open(path) as run:
                journal._tally = run.tally()
                journal._appended = journal._durable = run.last()
        except BaseException:
            journal._store.close()
            raise
        return journal

    def abandon(self) -> None:
        """Close a journal in which nothing was written, before `serve` has begun. Blocks."""
        self._closing = True
        self._store.close()

    @property
    def path(self) -> Path:
        """The run's file."""
        return self._store.path

    def leave_out_content(self) -> None:
        """Keep prompts and replies out from now on."""
        self._content = False

    def append(self, event: Event) -> int:
        """Take an event and return its number: 1 for the first, without gaps. Never waits.

        After a disk error it is not kept; `durable`, `room`, `serve` and `aclose` tell of it. Raises AgentmeshError
        when the journal is closed.
        """
        if self._closing:
            raise AgentmeshError(f"the journal of run {self.run_id} is closed")
        self._appended += 1
        self._tally.add(self._appended, event)
        if self._failure is not None:
            return self._appended
        row = encode(self._appended, event, content=self._content)
        group = self._newest_group()
        weight = len(row.body) + _ROW_BYTES
        group.rows.append(row)
        group.weight += weight
        group.last = self._appended
        self._pending += weight
        if group.weight >= _GROUP_BYTES or len(group.rows) >= _GROUP_RECORDS:
            self._hurry(group)
        return self._appended

    def _newest_group(self) -> _Group:
        taken = 1 if self._away else 0
        if len(self._groups) == taken or len(self._groups[-1].rows) >= _GROUP_RECORDS:
            group = _Group(monotonic() + _LINGER_S)
            self._groups.append(group)
            if not self._away:
                self._alarm.set(group.due)
        return self._groups[-1]

    def _hurry(self, group: _Group, *, at: float = -math.inf) -> None:
        """Have a group committed at that time at the latest; those before it are due already."""
        if at < group.due:
            group.due = at
            self._commit_due()

    def _commit_due(self) -> None:
        """Give the oldest group to the thread if it is due; else set the alarm. While one is away, do nothing."""
        if self._away or not self._groups:
            return
        group, now = self._groups[0], monotonic()
        if group.due > now and not self._closing:
            self._alarm.set(group.due)
            return
        self._alarm.set(math.inf)
        apart = min(_APART_MOST_S, max(_APART_S, _APART_EACH_S * group.waiters))
        self._committed_at, self._paced = now, max(self._paced, now) + apart
        self._thread.do(partial(self._commit, group.rows, self._summary_due(group)), then=self._committed)
        self._away = True

    def _committed(self, written: int | None, error: BaseException | None) -> None:
        """The group that was away is on disk, or the disk has refused it."""
        self._away = False
        if written is None:  # whatever it is, nobody may wait for ever
            self._fail(error)
            return
        group = self._groups.popleft()
        self._written += written
        self._commits += 1
        self._pending -= group.weight
        self._durable = group.last
        group.finished.set()
        self._commit_due()

    async def durable(self, number: int | None = None, *, patient: bool = False) -> None:
        """Return when the record `number` is on disk; by default everything appended so far.

        The patient have a commit only within 0.1 s of the last one, unless somebody else has one before. Raises
        UserError when the disk refused, and says why.
        """
        number = self._appended if number is None else number
        while number > self._durable:
            self._raise_failure()
            group = next((group for group in self._groups if group.last >= number), None)
            if group is None:
                raise AgentmeshError(f"run {self.run_id} has no record {number}; the last is {self._appended}")
            group.waiters += 1
            self._hurry(group, at=self._due_at(patient=patient))
            await group.finished.wait()

    def _due_at(self, *, patient: bool) -> float:
        """When somebody who waits may have a commit."""
        if self._alarm.closed:  # later, nobody would think of it
            return -math.inf
        return self._committed_at + _LINGER_S if patient else self._paced - _AHEAD_S

    async def room(self) -> None:
        """Wait while more than 16 MB wait for the disk. Raises UserError when the disk refused."""
        self._raise_failure()
        while self._pending > _ROOM_BYTES:
            self._hurry(self._groups[0])
            await self._groups[0].finished.wait()
            self._raise_failure()

    async def serve(self) -> None:
        """Write what is appended, until `aclose`. Raises UserError when the disk refuses.

        When it is cancelled, what nobody waits for stays for `aclose`.
        """
        await self._alarm.serve()
        if self._failure is not None and not self._closing:
            self._owner_knows = True
            self._raise_failure()

    async def aclose(self, status: RunStatus | None = None) -> None:
        """Write what is left and the summary, bring all into one file, and close it; not interrupted by cancellation.

        `status` is how the run ended, if no `RunEnded` said so. May be called again. Raises UserError when the disk
        refused and `serve` has not already raised it.
        """
        self._closing = True
        self._alarm.close()
        self._commit_due()
        with anyio.CancelScope(shield=True):
            while self._groups:
                await self._groups[-1].finished.wait()
            async with self._finishing:
                await self._finish(status)
        if self._failure is not None and not self._owner_knows:
            self._owner_knows = True
            self._raise_failure()

    async def _finish(self, status: RunStatus | None) -> None:
        if self._store.closed:
            return
        if status is not None:
            self._tally.close(status, wall())
        alone = anyio.CapacityLimiter(1)  # so that busy tools cannot keep it waiting
        self._thread.close()
        try:
            if self._failure is None:
                await in_thread(self._commit, [], self._tally.take(), limiter=alone)
        except Exception as error:  # noqa: BLE001 - as in _committed
            self._fail(error)
        try:
            await in_thread(self._store.close, limiter=alone)
        except Exception as error:  # noqa: BLE001 - as in _committed
            self._fail(error)

    def _commit(self, rows: list[Row], summary: Tally | None) -> int:
        return self._store.write(rows, run=None if summary is None else (self.run_id, summary))

    def _summary_due(self, group: _Group) -> Tally | None:
        """The counts as of this group, when it is time: they are known only while it is the newest."""
        now = monotonic()
        if group.last < self._tally.last or now - self._summarised_at < _SUMMARY_SECONDS:
            return None
        self._summarised_at = now
        return self._tally.take()

    def _fail(self, error: BaseException | None) -> None:
        """Give up all that waits, and wake everybody who waits for it."""
        if self._failure is None:
            lost = self._appended - self._durable
            missing = f"; {lost} {'record is' if lost == 1 else 'records are'} not in it" if lost else ""
            advice = f": make room, then `agentmesh resume {short_id(self.run_id)}` goes on" if _is_full(error) else ""
            self._failure = f"the journal {self.path} cannot be written: {error}{missing}{advice}"
            self._cause = error
        groups = list(self._groups)
        self._groups.clear()
        self._pending = 0
        self._alarm.close()
        for group in groups:
            group.finished.set()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise UserError(self._failure) from self._cause

    def statistics(self) -> JournalStatistics:
        """How far it is, now."""
        return JournalStatistics(self._appended, self._durable, self._commits, self._pending, self._written)

    def __repr__(self) -> str:
        state = "failed" if self._failure else "closed" if self._store.closed else "open"
        return f"<Journal {self.run_id} {state}: {self._durable} of {self._appended} records on disk>"


def _is_full(error: BaseException | None) -> bool:
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL


class NullJournal:
    """A journal that keeps nothing, for runs that want none: the same interface, and it never waits."""

    run_id = None
    path = None

    def __init__(self) -> None:
        self._appended = 0

    def append(self, event: Event) -> int:
        """Count the event."""
        self._appended += 1
        return self._appended

    async def durable(self, number: int | None = None, *, patient: bool = False) -> None:
        """Return at once: nobody asked for anything to last."""

    async def room(self) -> None:
        """Return at once."""

    async def serve(self) -> None:
        """Return at once: there is nothing to write."""

    async def aclose(self, status: RunStatus | None = None) -> None:
        """Nothing to close."""

    def statistics(self) -> JournalStatistics:
        """What was appended; nothing of it is on disk."""
        return JournalStatistics(appended=self._appended)

    def __repr__(self) -> str:
        return f"<NullJournal: {self._appended} records, none kept>"
