"""Reading one run's file, read-only and slice by slice, while another process may write it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic_core import from_json

from ..errors import UserError
from ..events import EVENT_TYPES, Event
from .encode import KIND_NUMBERS, body_of, decode, kind_name
from .format import open_to_read, readable
from .ids import short_id
from .lock import lock_holder, lock_path
from .parts import read_parts
from .tally import TALLY_COLUMNS, Tally

__all__ = ["UNDER", "RunFile", "address_span"]

_SLICE = 1000  # records read at once, with their bodies: some milliseconds
_SKELETON_SLICE = 50_000  # rows without their bodies
UNDER = "task < ? AND task >= ? AND (task = ? OR task >= ?)"
"""Whether a record is at an address or under it, which `address_span` gives the values for."""
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR)


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
                f"run {short_id(path.stem)} is being written by {holder}, on a network file system, where nobody else "
                "can read it meanwhile; `agentmesh runs` shows how far it is"
            )
        return cls(path, open_to_read(path))

    def events(
        self,
        *kinds: type[Any],
        after: int = 0,
        under: str | None = None,
    ) -> Iterator[tuple[int, Event]]:
        """The events with their numbers, in order: of these kinds (all by default), after that number.

        `under` is an address: only the events of that task and of what lies under it. Read in slices, each a
        snapshot of its own that is over before the first event of it is given; ends with the record that was the last
        when it began. What is damaged is left out and noted in `unreadable`. Raises UserError when
        the file cannot be read at all.
        """
        wanted = ",".join(str(KIND_NUMBERS[kind]) for kind in kinds)
        query = "SELECT id, kind, codec, body FROM event WHERE id > ? AND id <= ?"
        query += f" AND kind IN ({wanted})" if kinds else ""
        at = () if under is None else address_span(under)
        query += f" AND {UNDER}" if at else ""
        last = self.last()
        for low in range(after, last, _SLICE):
            yield from self._decoded(self._intact(query + " ORDER BY id", low, min(low + _SLICE, last), at))

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
