"""Reading runs: one file read-only and slice by slice, and the folder of all of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from ..errors import UserError
from ..events import Event, RunStatus
from .encode import KIND_NUMBERS, decode
from .format import RUNS_FOLDER, open_to_read, readable
from .ids import run_time
from .lock import Holder, lock_holder
from .parts import read_parts
from .tally import TALLY_COLUMNS, Tally

__all__ = ["UNDER", "RunFile", "RunSummary", "address_span", "find_run", "list_runs", "run_files"]

_SLICE = 1000
UNDER = "(task = ? OR task >= ? AND task < ?)"
"""Whether a record is at an address or under it, which `address_span` gives the values for."""
_SHOWN_CANDIDATES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """One run, as a list of runs shows it.

    `status` is what the run said at its end, else `running` while a process writes it (`holder`), else `interrupted`;
    `unreadable` with a `problem`. `began` and `ended` are seconds since 1970; `usd` is None where a price is unknown.
    `resumes` is how often another process went on with it.
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
    holder: Holder | None = None
    problem: str | None = None


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
        """Open a run's file. Raises UserError when it is missing, no run, damaged, or of a newer version."""
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
        that was the last when it began. Raises UserError for a damaged file.
        """
        wanted = ",".join(str(KIND_NUMBERS[kind]) for kind in kinds)
        query = "SELECT id, kind, codec, body FROM event WHERE id > ? AND id <= ?"
        query += f" AND kind IN ({wanted})" if kinds else ""
        at = () if under is None else address_span(under)
        query += f" AND {UNDER}" if at else ""
        last = self.last()
        for low in range(after, last, slice):
            yield from self._decoded(self.rows(query + " ORDER BY id", low, min(low + slice, last), *at))

    def events_at(self, numbers: Iterable[int]) -> Iterator[tuple[int, Event]]:
        """The events with these numbers, in this order. Raises UserError for a damaged file."""
        wanted = iter(numbers)
        while some := list(islice(wanted, _SLICE)):
            marks = ",".join(map(str, some))
            rows = self.rows(f"SELECT id, kind, codec, body FROM event WHERE id IN ({marks})")  # noqa: S608 - numbers
            found = {row[0]: row for row in rows}
            yield from self._decoded(found[number] for number in some if number in found)

    def _decoded(self, rows: Iterable[Any]) -> Iterator[tuple[int, Event]]:
        for number, kind, codec, body in rows:
            try:
                yield number, decode(kind, codec, body)
            except Exception as error:  # noqa: BLE001 - one bad record never hides the good ones: it is counted
                self.unreadable[number] = f"{type(error).__name__}: {error}"

    def last(self) -> int:
        """The number of the newest record; 0 when there is none."""
        return int(self.rows("SELECT coalesce(max(id), 0) FROM event")[0][0])

    def tally(self, *, whole: bool = False) -> Tally:
        """The run's counts as of its newest record. Its parts have what came after the last summary, or the `whole`."""
        with readable(self.path):
            self._connection.execute("BEGIN")  # one snapshot: what is summed up is either in the tables or read below
            try:
                tally = self._summed(whole=whole)
            finally:
                self._connection.execute("COMMIT")
        for number, event in self.events(after=tally.last):
            tally.add(number, event)
        return tally

    def _summed(self, *, whole: bool) -> Tally:
        """What the last summary says; nothing yet, where an older file has no parts and they are wanted."""
        run = self._columns("run")
        if not run:
            raise UserError(f"{self.path} is no run of agentmesh")
        columns = [name for name in TALLY_COLUMNS if name in run]  # an older file has fewer
        rows = self.rows(f"SELECT {', '.join(columns)} FROM run")  # noqa: S608 - names of our own fields
        if not rows or (whole and not self._columns("task")):
            return Tally()
        tally = Tally(**dict(zip(columns, rows[0], strict=True)))
        if whole:
            tally.parts = read_parts(self._connection)
        return tally

    def _columns(self, table: str) -> set[str]:
        return {name for _, name, *_ in self.rows(f"PRAGMA table_info({table})")}

    def summary(self) -> RunSummary:
        """The run as a list of runs shows it. Raises UserError for a damaged file."""
        holder = lock_holder(self.path.with_suffix(".lock"))  # before the counts: it may end in between
        tally = self.tally()
        names = [field.name for field in fields(RunSummary) if field.name in TALLY_COLUMNS]
        values: dict[str, Any] = {name: getattr(tally, name) for name in names}
        values["status"] = values["status"] or ("running" if holder else "interrupted")
        values["began"] = values["began"] or run_time(self.run_id)
        if tally.unpriced:
            values["usd"] = None
        return RunSummary(id=self.run_id, path=self.path, holder=holder, **values)

    def rows(self, query: str, *values: object) -> list[Any]:
        """All rows that answer a query, which is over then. Raises UserError for a damaged file."""
        with readable(self.path):
            return self._connection.execute(query, values).fetchall()

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


def address_span(address: str) -> tuple[str, str, str]:
    """An address, and between which two texts all addresses under it are."""
    return address, f"{address}/", f"{address}0"  # the character after the slash


def run_files(folder: Path) -> list[Path]:
    """The files of all runs of a journal folder, the newest first."""
    return sorted((folder / RUNS_FOLDER).glob("*.db"), reverse=True)


def list_runs(folder: Path, *, first: int | None = None) -> list[RunSummary]:
    """The runs of a journal folder, the newest first, at most the `first` so many.

    A file that cannot be read says why and hides no other.
    """
    found = []
    for path in run_files(folder)[:first]:
        try:
            with RunFile.open(path) as run:
                found.append(run.summary())
        except UserError as error:
            began = run_time(path.stem)
            found.append(RunSummary(id=path.stem, path=path, status="unreadable", began=began, problem=str(error)))
    return found


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
