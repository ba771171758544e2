"""The one connection that writes a run's file: everything here blocks, and one thread at a time may call it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from itertools import chain
from pathlib import Path

from zstandard import ZstdCompressor

from ..clock import wall
from ..errors import UserError
from .encode import Row, compress
from .format import RUNS_FOLDER, check_there, check_version, connect, make_tables, migrate
from .ids import short_id
from .lock import lock_path, release_lock, take_lock
from .parts import add_parts
from .place import file_system, is_network
from .status import status_path, write_status
from .tally import TALLY_COLUMNS, Tally

__all__ = ["Store", "make_folder"]

# A random key would cost more than all the rest, so events have no index but their number; a reader scans, without
# the bodies where it can. FULL, because what is called durable must survive a power cut. Pages of 8 kB hold three
# compressed replies of 6 kB where pages of 4 kB hold one. A checkpoint every 2,000 pages keeps the log near 16 MB.
# On a network (`alone`) there is no such log: one process has the file to itself and writes a status file for others.
# It locks them out in SQLite too, unless it goes on with a run: then it reads on its own what was there before.
_SETTINGS = ("page_size = 8192", "synchronous = FULL", "wal_autocheckpoint = 2000")
_REPLACE_RUN = f"INSERT OR REPLACE INTO run VALUES ({', '.join('?' * (1 + len(TALLY_COLUMNS)))})"  # noqa: S608 - only marks

_TOGETHER = 50
"""Rows in one statement. Each statement gives the interpreter away and has to win it back from a busy event loop, which
costs more than to write a row; and as many statements as this stay prepared in a connection."""


@cache
def _insert(rows: int) -> str:
    return "INSERT INTO event VALUES " + ", ".join(["(?, ?, ?, ?, ?, ?, ?)"] * rows)  # noqa: S608 - only marks


class Store:
    """A run's file, open for writing, and its lock. Made by `create` and `resume`; `close` gives both back."""

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: int, *, alone: bool) -> None:
        self.path = path
        self.closed = False
        self._connection = connection
        self._lock = lock
        self._alone = alone
        self._compressor = ZstdCompressor(level=1)

    @classmethod
    def create(cls, folder: Path, run_id: str, *, probe: Callable[[Path], str] = file_system) -> Store:
        """Make `folder/runs/run_id.db` (mode 600), and the folders where they are missing (mode 700).

        `probe` tells the kind of a folder's file system. Raises UserError when that run exists, is being written, or
        when nothing can be written there.
        """
        path = folder / RUNS_FOLDER / f"{run_id}.db"
        try:
            make_folder(folder)
            make_folder(path.parent)
            alone = is_network(probe(path.parent))
            lock = take_lock(lock_path(path), exclusive=alone)
        except OSError as error:
            raise UserError(f"cannot write a journal in {folder}: {error.strerror or error}") from error
        connection = None
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))  # the files beside it inherit its mode
            connection = _connect(path)
            make_tables(connection)  # before there is a log, so that without it the file is still a run's
            _choose_log(connection, alone=alone)
            if alone:
                connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        except (OSError, sqlite3.Error) as error:
            if connection is not None:
                connection.close()
            there = isinstance(error, FileExistsError)
            if not there:
                path.unlink(missing_ok=True)
            release_lock(lock, lock_path(path))
            if there:
                raise UserError(f"there is a run {run_id} in {folder} already") from None
            raise UserError(f"cannot write a journal in {folder}: {error}") from error
        return cls(path, connection, lock, alone=alone)

    @classmethod
    def resume(cls, path: Path, *, probe: Callable[[Path], str] = file_system) -> Store:
        """Open the file of a run to go on with it; one of an older version is brought to this one.

        What a killed process had committed is in it. Raises UserError, and nothing has changed, when the file is
        missing, no run's, damaged, of a newer version, being written (and says by whom), or cannot be written.
        """
        check_there(path)
        run, alone = short_id(path.stem), is_network(probe(path.parent))
        try:
            lock = take_lock(lock_path(path), exclusive=alone)
        except OSError as error:
            raise UserError(f"run {run} cannot be gone on with: {lock_path(path)}: {error.strerror}") from error
        connection = None
        try:
            connection = _connect(path)
            check_version(connection, path)
            _choose_log(connection, alone=alone)
            migrate(connection)
        except (OSError, sqlite3.Error, UserError) as error:
            if connection is not None:
                connection.close()
            release_lock(lock, lock_path(path))
            if isinstance(error, UserError):
                raise
            advice = "; `agentmesh export` saves what is intact" if "malformed" in str(error) else ""
            raise UserError(f"run {run} cannot be gone on with: {path}: {error}{advice}") from error
        return cls(path, connection, lock, alone=alone)

    def write(self, rows: Sequence[Row], *, run: tuple[str, Tally] | None = None) -> int:
        """Write rows, and the summary `run` (its id and counts) when given, in one durable commit.

        Returns how many bytes the packed bodies have. Raises sqlite3.Error, and then nothing of it is in the file.
        """
        packed = [compress(row, self._compressor) for row in rows]
        several = len(packed) > _TOGETHER or run is not None  # else it is one statement, and that is a commit by itself
        try:
            if several:
                self._connection.execute("BEGIN IMMEDIATE")
            for first in range(0, len(packed), _TOGETHER):
                some = packed[first : first + _TOGETHER]
                self._connection.execute(_insert(len(some)), tuple(chain.from_iterable(some)))
            if run is not None:
                self._connection.execute(_REPLACE_RUN, (run[0], *run[1].row()))
                add_parts(self._connection, run[1].parts)
            if several:
                self._connection.execute("COMMIT")
        except sqlite3.Error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        if self._alone and run is not None:
            with suppress(OSError):  # it is for who looks on; the next one may succeed
                write_status(self.path, run[1], at=wall())
        return sum(len(row.body) for row in packed)

    def close(self) -> None:
        """Bring everything into the one file, close it and release the lock, even where the disk refuses.

        Raises sqlite3.Error when the disk does refuse; what was committed is safe all the same.
        """
        if self.closed:
            return
        self.closed = True
        try:
            self._connection.execute("PRAGMA busy_timeout = 500")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._leave_wal()
        finally:
            self._connection.close()
            status_path(self.path).unlink(missing_ok=True)
            release_lock(self._lock, lock_path(self.path))

    def _leave_wal(self) -> None:
        """Make it a file that can be copied, and read where nothing can be written; not while somebody reads it."""
        try:
            self._connection.execute("PRAGMA journal_mode = DELETE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise


def _connect(path: Path) -> sqlite3.Connection:
    connection = connect(path, mode="rw")
    for setting in _SETTINGS:
        connection.execute(f"PRAGMA {setting}")
    return connection


def _choose_log(connection: sqlite3.Connection, *, alone: bool) -> None:
    """A write-ahead log, which shares memory between processes, where there is only this machine."""
    connection.execute(f"PRAGMA journal_mode = {'DELETE' if alone else 'WAL'}")


def make_folder(folder: Path) -> None:
    """Make a folder that is missing, and have git ignore all in it; a folder of the user's own is left as it is."""
    if folder.is_dir():
        return
    for above in reversed(folder.parents):
        above.mkdir(mode=0o700, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.joinpath(".gitignore").write_text("*\n")
