"""The format of a run's file: its tables, its version, and how a file of an older version becomes one of this."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ..errors import UserError
from .lock import lock_path, release_lock, take_lock
from .parts import PART_TABLES
from .tally import TALLY_COLUMNS

__all__ = [
    "RUNS_FOLDER", "SCHEMA_VERSION", "check_there", "check_version", "connect", "make_tables", "migrate",
    "open_to_read", "readable",
]  # fmt: skip

SCHEMA_VERSION = 5
RUNS_FOLDER = "runs"

_RUN = f"CREATE TABLE run (id TEXT PRIMARY KEY, {', '.join(TALLY_COLUMNS)})"
_EVENT = """
CREATE TABLE event (
    id INTEGER PRIMARY KEY, at REAL, kind INTEGER, task TEXT, attempt INTEGER, codec INTEGER, body BLOB
)"""


def make_tables(connection: sqlite3.Connection) -> None:
    """Make the tables of a new file. Raises sqlite3.Error."""
    _at_once(connection, _RUN, _EVENT, *PART_TABLES)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring a file of an older version to this one. Raises sqlite3.Error, and then nothing has changed.

    All but the events only sums them up, and older sums lack some: they are thrown away and counted anew.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version < SCHEMA_VERSION:
        dropped = (f"DROP TABLE IF EXISTS {table}" for table in ("run", "task", "noted"))
        _at_once(connection, *dropped, _RUN, *PART_TABLES)


def _at_once(connection: sqlite3.Connection, *statements: str) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in (*statements, f"PRAGMA user_version = {SCHEMA_VERSION}"):
            connection.execute(statement)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def check_there(path: Path) -> None:
    """Raise UserError when there is no file, or nothing in it."""
    if not path.is_file():
        raise UserError(f"there is no run file {path}")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty: that run ended before its first event")


def check_version(connection: sqlite3.Connection, path: Path) -> None:
    """Raise UserError when it is no run's file, or one of a newer version; sqlite3.Error when it cannot be read."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == 0:
        raise UserError(f"{path} is no run of agentmesh, or one that ended before its first event")
    if version > SCHEMA_VERSION:
        raise UserError(
            f"{path} was written by a newer agentmesh (format {version}; this one reads {SCHEMA_VERSION}): "
            "update agentmesh to read it"
        )


def connect(path: Path, *, mode: str) -> sqlite3.Connection:
    """A connection to a file that is there; `mode` is `ro` or `rw`. Raises sqlite3.Error."""
    uri = f"{path.resolve().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)


def open_to_read(path: Path) -> sqlite3.Connection:
    """A connection that changes nothing. Raises UserError for a file that is missing, no run's, damaged, or newer."""
    check_there(path)
    with readable(path):
        connection = connect(path, mode="ro")
        try:
            try:
                check_version(connection, path)
            except sqlite3.DatabaseError as error:
                if error.sqlite_errorcode == sqlite3.SQLITE_READONLY_ROLLBACK:
                    _take_back(path)
                elif error.sqlite_errorcode == sqlite3.SQLITE_CORRUPT:
                    connection.execute(
                        "PRAGMA writable_schema = ON"
                    )  # then a file that was cut off is read up to there
                else:
                    raise
                check_version(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def _take_back(path: Path) -> None:
    """Undo what a process had half written when it was killed, unless another one is about to."""
    lock = take_lock(lock_path(path))
    try:
        with closing(connect(path, mode="rw")) as connection:
            connection.execute("SELECT id FROM run").fetchall()
    finally:
        release_lock(lock, lock_path(path))


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Say in a UserError what SQLite or the system says of a file that cannot be read."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise UserError(f"{path} cannot be read as a run: {error}") from error
