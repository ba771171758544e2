"""Reading runs: one file read-only and slice by slice, and the folder of all of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import datetime
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from pydantic_core import from_json

from ..errors import UserError
from ..events import EVENT_TYPES, Event, RunStatus
from .encode import KIND_NUMBERS, body_of, decode, kind_name
from .format import RUNS_FOLDER, open_to_read, readable
from .ids import new_run_id, run_time
from .lock import Holder, lock_holder, lock_path
from .parts import read_parts
from .status import read_status
from .tally import TALLY_COLUMNS, Tally

__all__ = [
    "UNDER", "RunFile", "RunSummary", "address_span", "find_run", "list_runs", "next_run_id", "run_files",
    "run_summary", "summary_of",
]  # fmt: skip

_SLICE = 1000
_SKELETON_SLICE = 50_000  # rows without their bodies
UNDER = "task < ? AND task >= ? AND (task = ? OR task >= ?)"
"""Whether a record is at an address or under it, which `address_span` gives the values for."""
_SHOWN_CANDIDATES = 8
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """One run, as a list of runs shows it.

    `status` is what the run said at its end, else `running` while a process writes it (`holder`), else `interrupted`;
    `unreadable` with a `problem`. `began` and `ended` are seconds since 1970; `usd` is None where a price is unknown.
    `resumes` is how often another process went on with it.
    `as_of` is when the counts were written down, in seconds since 1970, where they cannot be had as of now.
    """

    id: str
    path: Path
    status: RunStatus | Literal["running", "interrupted", "unreadable"]
    name: str = ""
    source: str | None = None
    began: float | None = None
    ended: float | None = None
    seconds: float | None = None
    added: int = 0
    done: int = 0
    failed: int = 0
    skipped: int = 0
    cancelled: int = 0
    calls: int = 0
    pushed_back: int = 0
    uncertain: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    usd: float | None = None
    resumes: int = 0
    spared: int = 0
    saved_usd: float = 0.0
    identity: str | None = None
    holder: Holder | None = None
    as_of: float | None = None
    problem: str | None = None

    @property
    def is_unfinished(self) -> bool:
        """Whether it was cut short, so that another process could go on with it."""
        return self.status in ("interrupted", "cancelled", "stopped")


class _DamagedError(UserError):
    """What was asked for lies on a damaged page, or on the way to it there is one; other things may be intact."""


class RunFile:
    """One run's file, open for reading while another process may write it. A context manager.

    `unreadable` grows while events are read: the number of each record that could not be, and why.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self.run_id = path.stem
        self.unreadable: dict[int, str] = {}
        self._connection = connection

    @classmethod
    def open(cls, path: Path) -> RunFile:
        """Open a run's file. Raises UserError when it is missing, no run, damaged throughout, of a newer version, or
        when another process has it to itself, as on a network file system."""
        holder = lock_holder(lock_path(path))
        if holder is not None and holder.locks_out:
            raise UserError(
                f"run {path.stem} is being written by {holder}, on a network file system, where nobody else can read "
                "it meanwhile; `agentmesh runs` shows how far it is"
            )
        return cls(path, open_to_read(path))

    def events(
        self,
        *kinds: type[Any],
        after: int = 0,
        slice: int = _SLICE,  # noqa: A002 - it is a slice, and the builtin is not wanted here
        under: str | None = None,
    ) -> Iterator[tuple[int, Event]]:
        """The events with their numbers, in order: of these kinds (all by default), after that number.

        `under` is an address: only the events of that task and of what lies under it. Read in slices of that many
        records, each a snapshot of its own that is over before the first event of it is given; ends with the record
        that was the last when it began. What is damaged is left out and noted in `unreadable`. Raises UserError when
        the file cannot be read at all.
        """
        wanted = ",".join(str(KIND_NUMBERS[kind]) for kind in kinds)
        query = "SELECT id, kind, codec, body FROM event WHERE id > ? AND id <= ?"
        query += f" AND kind IN ({wanted})" if kinds else ""
        at = () if under is None else address_span(under)
        query += f" AND {UNDER}" if at else ""
        last = self.last()
        for low in range(after, last, slice):
            yield from self._decoded(self._intact(query + " ORDER BY id", low, min(low + slice, last), at))

    def events_at(self, numbers: Iterable[int]) -> Iterator[tuple[int, Event]]:
        """The events with these numbers, in this order; what is damaged is left out and noted in `unreadable`."""
        query = "SELECT id, kind, codec, body FROM event WHERE id "
        wanted = iter(numbers)
        while some := list(islice(wanted, _SLICE)):
            try:
                rows = self.rows(f"{query} IN ({','.join(map(str, some))})")
            except _DamagedError:
                rows = [
                    row for number in some for row in self._intact(f"{query} > ? AND id <= ?", number - 1, number, ())
                ]
            found = {row[0]: row for row in rows}
            yield from self._decoded(found[number] for number in some if number in found)

    def bodies(self) -> Iterator[tuple[int, str, bytes]]:
        """All events as JSON, as they were written: number, name of the kind, text. Otherwise as `events`."""
        last = self.last()
        for low in range(0, last, _SLICE):
            query = "SELECT id, kind, codec, body FROM event WHERE id > ? AND id <= ? ORDER BY id"
            for number, kind, codec, body in self._intact(query, low, min(low + _SLICE, last), ()):
                try:
                    name, text = kind_name(kind), body_of(codec, body)
                    from_json(text)
                except Exception as error:  # noqa: BLE001 - as in _decoded
                    self.unreadable[number] = f"{type(error).__name__}: {error}"
                else:
                    yield number, name, text

    def _decoded(self, rows: Iterable[Any]) -> Iterator[tuple[int, Event]]:
        for number, kind, codec, body in rows:
            try:
                yield number, decode(kind, codec, body)
            except Exception as error:  # noqa: BLE001 - one bad record never hides the good ones: it is counted
                self.unreadable[number] = f"{type(error).__name__}: {error}"

    def _intact(self, query: str, low: int, high: int, at: tuple[str, ...]) -> Iterator[tuple[int, int, int, bytes]]:
        """The rows from above `low` to `high`, without those on damaged pages: a range that fails is halved.

        Numbers have no gaps, so where some are missing, a damaged page led past them.
        """
        why, rows = "it is missing", []
        try:
            ((there,),) = self.rows("SELECT count(*) FROM event WHERE id > ? AND id <= ?", low, high)
            rows = self.rows(query, low, high, *at)
        except _DamagedError as error:
            there, why = -1, str(error)
        if there == high - low and all(low < row[0] <= high for row in rows):
            yield from rows
        elif high - low == 1:
            self.unreadable[high] = why
        else:
            middle = (low + high) // 2
            yield from self._intact(query, low, middle, at)
            yield from self._intact(query, middle, high, at)

    def skeleton(self, *kinds: type[Any]) -> Iterator[tuple[int, type[Any], str, int | None]]:
        """Of each event of these kinds its number, kind, address and attempt, in order, without reading bodies."""
        wanted = ",".join(str(KIND_NUMBERS[kind]) for kind in kinds)
        query = "SELECT id, kind, task, attempt FROM event WHERE id > ? AND id <= ?"
        query += f" AND kind IN ({wanted}) ORDER BY id"
        last = self.last()
        for low in range(0, last, _SKELETON_SLICE):
            for number, kind, task, attempt in self.rows(query, low, min(low + _SKELETON_SLICE, last)):
                yield number, EVENT_TYPES[kind - 1], task, attempt

    def last_at(self) -> float:
        """When the newest record was made, in seconds since 1970; 0 when there is none."""
        rows = self.rows("SELECT at FROM event ORDER BY id DESC LIMIT 1")
        return float(rows[0][0]) if rows else 0.0

    def last(self) -> int:
        """The number of the newest record, 0 when there is none; of a damaged file the newest that is known of."""
        try:
            return int(self.rows("SELECT coalesce(max(id), 0) FROM event")[0][0])
        except _DamagedError:
            last = max(self._summed(whole=False).last, self._last_before_damage())
            if last == 0:
                raise
            return last

    def _last_before_damage(self) -> int:
        """The newest record that is found by doubling and halving: where a file was cut off, about there."""
        low, high = 0, 1
        while self._has(high):
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._has(middle) else (low, middle)
        return low

    def _has(self, number: int) -> bool:
        try:
            return bool(self.rows("SELECT 1 FROM event WHERE id = ?", number))
        except _DamagedError:
            return False

    def tally(self, *, whole: bool = False) -> Tally:
        """The run's counts as of its newest record. Its parts have what came after the last summary, or the `whole`."""
        with readable(self.path):
            self._connection.execute("BEGIN")  # one snapshot: what is summed up is either in the tables or read below
            try:
                tally = self._summed(whole=whole)
            finally:
                if self._connection.in_transaction:  # some damage has ended it already
                    self._connection.execute("ROLLBACK")
        for number, event in self.events(after=tally.last):
            tally.add(number, event)
        return tally

    def _summed(self, *, whole: bool) -> Tally:
        """What the last summary says; nothing yet, where it is damaged or an older file has no parts and they are
        wanted."""
        try:
            run = self._columns("run")
            if not run:
                raise UserError(f"{self.path} is no run of agentmesh")
            columns = [name for name in TALLY_COLUMNS if name in run]  # an older file has fewer
            rows = self.rows(f"SELECT {', '.join(columns)} FROM run")  # noqa: S608 - names of our own fields
            if not rows or (whole and not self._columns("task")):
                return Tally()
            tally = Tally(**dict(zip(columns, rows[0], strict=True)))
            if whole:
                with self._damage_named():
                    tally.parts = read_parts(self._connection)
        except _DamagedError:
            return Tally()
        return tally

    def _columns(self, table: str) -> set[str]:
        return {name for _, name, *_ in self.rows(f"PRAGMA table_info({table})")}

    def summary(self) -> RunSummary:
        """The run as a list of runs shows it. Raises UserError when the file cannot be read at all."""
        holder = lock_holder(lock_path(self.path))  # before the counts: it may end in between
        return _summary(self.path, self.tally(), holder)

    def rows(self, query: str, *values: object) -> list[Any]:
        """All rows that answer a query, which is over then. Raises UserError where the file is damaged."""
        with self._damage_named():
            return self._connection.execute(query, values).fetchall()

    @contextmanager
    def _damage_named(self) -> Iterator[None]:
        with readable(self.path):
            try:
                yield
            except sqlite3.DatabaseError as error:
                if error.sqlite_errorcode & 0xFF in _DAMAGE:
                    raise _DamagedError(f"{self.path} is damaged: {error}") from error
                raise

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<RunFile {self.path}>"


def address_span(address: str) -> tuple[str, str, str, str]:
    """The values of `UNDER`: before the first text all addresses under this one are, and from the last one on."""
    return f"{address}0", address, address, f"{address}/"  # the nought comes after the slash


def _summary(path: Path, tally: Tally, holder: Holder | None, as_of: float | None = None) -> RunSummary:
    names = [field.name for field in fields(RunSummary) if field.name in TALLY_COLUMNS]
    values: dict[str, Any] = {name: getattr(tally, name) for name in names}
    values["status"] = values["status"] or ("running" if holder else "interrupted")
    values["began"] = values["began"] or run_time(path.stem)
    if tally.unpriced:
        values["usd"] = None
    return RunSummary(id=path.stem, path=path, holder=holder, as_of=as_of, **values)


def run_summary(path: Path) -> RunSummary:
    """The run with the file `path` as a list of runs shows it, even where its process has that to itself.

    Raises UserError when the file cannot be read at all.
    """
    holder = lock_holder(lock_path(path))
    status = read_status(path) if holder is not None and holder.locks_out else None
    if status is not None:
        tally, at = status
        return _summary(path, tally, holder, at)
    with RunFile.open(path) as run:
        return run.summary()


def run_files(folder: Path) -> list[Path]:
    """The files of all runs of a journal folder, the newest first."""
    return sorted((folder / RUNS_FOLDER).glob("*.db"), reverse=True)


def next_run_id(folder: Path, now: float) -> str:
    """The name of a new run in a journal folder: it sorts behind those there are, even after a clock was set back."""
    newest = next((path.stem for path in run_files(folder) if run_time(path.stem) is not None), "")
    return new_run_id(now, after=newest)


def summary_of(path: Path) -> RunSummary:
    """The same of a file that perhaps cannot be read: then it says why."""
    try:
        return run_summary(path)
    except UserError as error:
        return RunSummary(
            id=path.stem, path=path, status="unreadable", began=run_time(path.stem), problem=str(error),
            holder=lock_holder(lock_path(path)),
        )  # fmt: skip


def list_runs(folder: Path, *, first: int | None = None) -> list[RunSummary]:
    """The runs of a journal folder, the newest first, at most the `first` so many.

    A file that cannot be read says why and hides no other.
    """
    return [summary_of(path) for path in run_files(folder)[:first]]


def find_run(folder: Path, name: str) -> Path:
    """The file of the run called `name`: its id, the beginning or the end of it, `last`, or the path of a run's file.

    Raises UserError when there is none, or when several fit, and then lists them.
    """
    if name.endswith(".db") and Path(name).is_file():
        return Path(name)
    files = run_files(folder)
    if not files:
        raise UserError(f"there are no runs in {folder}")
    if name == "last":
        return files[0]
    wanted = name.lower()
    exact = [path for path in files if path.stem == wanted]
    fitting = exact or [path for path in files if path.stem.startswith(wanted) or path.stem.endswith(wanted)]
    if not wanted or not fitting:
        raise UserError(f"there is no run {name!r} in {folder}; `agentmesh runs` lists those there are")
    if len(fitting) > 1:
        raise UserError(f"{name!r} fits {len(fitting)} runs: {_candidates(fitting)}")
    return fitting[0]


def _candidates(files: Sequence[Path]) -> str:
    shown = []
    for path in files[:_SHOWN_CANDIDATES]:
        began = run_time(path.stem)
        when = "" if began is None else f" of {datetime.fromtimestamp(began).astimezone():%Y-%m-%d %H:%M}"
        shown.append(path.stem + when)
    more = len(files) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
