"""Replies of earlier runs, found by what was asked: a file that several processes read and write. All here blocks.

An entry has the hash of a request and that of the address where it was asked. Whoever asks the same at the same address
gets that entry, others the first one of the request, so that a run that is repeated gets each reply where it was.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic_core import PydanticSerializationError
from zstandard import ZstdCompressor, ZstdDecompressor

from ..errors import UserError
from ..messages import Reply
from .place import file_system, is_network
from .store import make_folder

__all__ = ["CACHE_FILE", "CacheFile", "Cached", "Entry", "Wanted", "cache_key", "forget"]

CACHE_FILE = "cache.db"
_REQUEST_BYTES, _ADDRESS_BYTES = 16, 8  # of hashes: two of 10^9 requests share one with a chance of 10^-21
_APPLICATION, _VERSION = 0x616D6361, 1
_TOGETHER = 200  # lookups in one statement
_BUSY_S = 10.0  # another process has written by then
_TABLE = """
CREATE TABLE IF NOT EXISTS reply (
    key BLOB PRIMARY KEY, run TEXT NOT NULL, at REAL NOT NULL, usd REAL, body BLOB NOT NULL
)"""
_FIRST = "SELECT usd, body FROM reply WHERE key >= ? AND key <= ? AND run != ? ORDER BY key LIMIT 1"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody asks, and the run in whose name: its own replies are no answers to it."""

    key: bytes
    run: str


@dataclass(frozen=True, slots=True)
class Cached:
    """A reply and what it cost, in dollars; None where nobody knows."""

    reply: Reply
    usd: float | None


Entry = tuple[Wanted, float, Cached]
"""A reply to what was asked, and when it came, in seconds since 1970."""


def cache_key(key: str, *, address: str) -> bytes:
    """What a request with this key is found by that was asked at this address."""
    return _hash(key, _REQUEST_BYTES) + _hash(address, _ADDRESS_BYTES)


def _hash(text: str, size: int) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).digest()


class CacheFile:
    """The cache of a folder, open. Made by `open`; used by one thread at a time."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._packer, self._unpacker = ZstdCompressor(level=3), ZstdDecompressor()

    def __repr__(self) -> str:
        return f"<CacheFile {self.path}>"

    @classmethod
    def open(cls, folder: Path, *, write: bool) -> CacheFile | None:
        """The cache in that folder. To write, it is made where there is none (mode 600); to read, that gives None.

        On a network file system there is no write-ahead log, which needs memory that processes share. Raises UserError
        for a file that is no cache, or cannot be read (or written).
        """
        path = folder / CACHE_FILE
        if not write:
            return cls._open(path, write=False) if path.is_file() else None
        try:
            make_folder(folder)
            with _alone(path.with_suffix(".lock")):
                return cls._open(path, write=True)
        except OSError as error:
            raise _unusable(path, error.strerror or str(error)) from error

    @classmethod
    def _open(cls, path: Path, *, write: bool) -> CacheFile:
        try:
            if write and not path.exists():
                os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # the files beside it inherit its mode
            connection = _connect(path, write=write)
        except OSError as error:
            raise _unusable(path, error.strerror or str(error)) from error
        except sqlite3.Error as error:
            raise _unusable(path, str(error)) from error
        try:
            if write:
                _make(connection)
            known = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
            if known != [_APPLICATION, _VERSION]:
                newer = known[0] == _APPLICATION and known[1] > _VERSION
                raise _unusable(path, "a newer agentmesh has written it" if newer else "it is no cache of replies")
            if write:
                connection.execute(
                    f"PRAGMA journal_mode = {'DELETE' if is_network(file_system(path.parent)) else 'WAL'}"
                )
                connection.execute("PRAGMA synchronous = NORMAL")  # what a power cut takes is only asked for once more
        except BaseException as error:
            connection.close()
            if isinstance(error, sqlite3.Error):
                raise _unusable(path, str(error)) from error
            raise
        return cls(path, connection)

    def find(self, wanted: Sequence[Wanted]) -> list[Cached | None]:
        """The reply to each, where there is one. Raises UserError when the file cannot be read."""
        try:
            exact = self._exact([one.key for one in wanted])
            rows = [
                row[1:] if (row := exact.get(one.key)) is not None and row[0] != one.run else self._first(one)
                for one in wanted
            ]
        except sqlite3.Error as error:
            raise _unusable(self.path, str(error)) from error
        return [None if row is None else self._read(*row) for row in rows]

    def _exact(self, keys: Sequence[bytes]) -> dict[bytes, tuple[str, float | None, bytes]]:
        """Run, price and body of the entries with these very keys.

        Each step of each statement has to win the interpreter back from a busy event loop, so there are few statements.
        """
        found: dict[bytes, tuple[str, float | None, bytes]] = {}
        for at in range(0, len(keys), _TOGETHER):
            some = keys[at : at + _TOGETHER]
            marks = ", ".join("?" * len(some))
            rows = self._connection.execute(f"SELECT key, run, usd, body FROM reply WHERE key IN ({marks})", some)  # noqa: S608 - only marks
            found.update((key, (run, usd, body)) for key, run, usd, body in rows.fetchall())
        return found

    def _first(self, wanted: Wanted) -> tuple[float | None, bytes] | None:
        """An entry of the same request that was asked elsewhere."""
        request = wanted.key[:_REQUEST_BYTES]
        span = request + bytes(_ADDRESS_BYTES), request + b"\xff" * _ADDRESS_BYTES
        row: tuple[float | None, bytes] | None = self._connection.execute(_FIRST, (*span, wanted.run)).fetchone()
        return row

    def _read(self, usd: float | None, body: bytes) -> Cached | None:
        try:
            return Cached(_reply().validate_json(self._unpacker.decompress(body)), usd)
        except Exception:  # noqa: BLE001 - a damaged entry is as good as none: it is asked for and written anew
            return None

    def put(self, entries: Sequence[Entry]) -> None:
        """Write replies over those that are there for the same.

        Raises UserError when the disk refuses, and then none of them is written.
        """
        rows = [
            (wanted.key, wanted.run, at, cached.usd, body)
            for wanted, at, cached in entries
            if (body := self._written(cached.reply)) is not None
        ]
        self._change("INSERT OR REPLACE INTO reply VALUES (?, ?, ?, ?, ?)", rows)

    def _written(self, reply: Reply) -> bytes | None:
        try:
            return self._packer.compress(_reply().dump_json(reply))
        except (PydanticSerializationError, UnicodeEncodeError):  # half a surrogate: what JSON cannot carry is not kept
            return None

    def count(self, *, before: float) -> int:
        """How many came before that time (seconds since 1970). Raises UserError."""
        try:
            (number,) = self._connection.execute("SELECT count(*) FROM reply WHERE at < ?", (before,)).fetchone()
        except sqlite3.Error as error:
            raise _unusable(self.path, str(error)) from error
        return int(number)

    def drop(self, *, before: float) -> int:
        """Forget what came before that time, and give the room back; how many. Raises UserError as `put` does."""
        dropped = self._change("DELETE FROM reply WHERE at < ?", [(before,)])
        if dropped:
            with suppress(sqlite3.Error):  # another process has it open just now: the room is used for what comes
                self._connection.execute("VACUUM")
        return dropped

    def _change(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> int:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                changed = self._connection.executemany(statement, rows).rowcount
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise _unusable(self.path, str(error)) from error
        return changed

    def close(self) -> None:
        """Close it; what was written is in the one file as soon as nobody has it open any more."""
        self._connection.close()


def forget(folder: Path, *, before: float, only_count: bool = False) -> int:
    """Drop, or only count, what the cache in a folder has from before that time; 0 where there is none.

    Raises UserError.
    """
    if not (folder / CACHE_FILE).is_file():
        return 0
    file = CacheFile.open(folder, write=not only_count)
    assert file is not None
    with closing(file):
        return file.count(before=before) if only_count else file.drop(before=before)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process at a time makes the file what it is to be: SQLite waits for nobody there. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _connect(path: Path, *, write: bool) -> sqlite3.Connection:
    """Read-only where it shall not be written; where nothing can be, without the lock that nobody could take."""
    mode = "rw" if write else "ro" if os.access(path.parent, os.W_OK) else "ro&immutable=1"
    uri = f"{path.resolve().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=_BUSY_S)


def _make(connection: sqlite3.Connection) -> None:
    """Make the table in an empty file."""
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if not tables:
        connection.execute("BEGIN IMMEDIATE")
        for statement in (_TABLE, f"PRAGMA application_id = {_APPLICATION}", f"PRAGMA user_version = {_VERSION}"):
            connection.execute(statement)
        connection.execute("COMMIT")


@cache
def _reply() -> TypeAdapter[Reply]:
    return TypeAdapter(Reply)


def _unusable(path: Path, reason: str) -> UserError:
    return UserError(f"the cache {path} cannot be used: {reason}; `--cache off` does without, or delete the file")
