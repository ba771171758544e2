"""The format of a run's file: its tables, its version, and how a file of an older version becomes one of this."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import UserError
from .parts import PART_TABLES
from .tally import TALLY_COLUMNS

__all__ = ["RUNS_FOLDER", "SCHEMA_VERSION", "make_tables", "migrate", "open_to_read", "readable"]

SCHEMA_VERSION = 2
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


def open_to_read(path: Path) -> sqlite3.Connection:
    """A connection that changes nothing. Raises UserError for a file that is missing, no run's, damaged, or newer."""
    if not path.is_file():
        raise UserError(f"there is no run file {path}")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty: that run ended before its first event")
    with readable(path):
        connection = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
        )
    try:
        with readable(path):
            (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            raise UserError(f"{path} is no run of agentmesh, or one that ended before its first event")
        if version > SCHEMA_VERSION:
            raise UserError(
                f"{path} was written by a newer agentmesh (format {version}; this one reads {SCHEMA_VERSION}): "
                "update agentmesh to read it"
            )
    except UserError:
        connection.close()
        raise
    return connection


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Say in a UserError what SQLite or the system says of a file that cannot be read."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise UserError(f"{path} cannot be read as a run: {error}") from error
