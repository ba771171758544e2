"""The answers of a batch on disk: appended to `OUT.partial` as they come, at the end put in the order of the input.

Only where each answer lies is kept in memory, never the answers.
"""

from __future__ import annotations

import errno
import os
from array import array
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Self

import anyio

from ...clock import in_thread
from ...errors import UserError

__all__ = ["Answers", "check_free", "partial_of"]


def partial_of(path: Path) -> Path:
    """Where the answers are while they come."""
    return path.with_name(path.name + ".partial")


class Answers:
    """The output of one batch of `count` lines. Open while it is entered; what has arrived is never removed by that.

    With `again` a run is gone on with, and the files are its own: they are left alone until `begin_again`. Raises
    UserError for a file that is there already, unless `overwrite`, and for one that cannot be written.
    """

    def __init__(self, path: Path, count: int, *, overwrite: bool = False, again: bool = False) -> None:
        self.path = path
        self.partial = partial_of(path)
        self.arrived = 0
        self.again = again
        self._overwrite = overwrite
        self._file: BinaryIO | None = None
        self._end = 0
        self._offsets = array("q", [-1]) * count
        self._lengths = array("q", [0]) * count
        self._pending: list[bytes] = []
        self._closing = False
        self._news = anyio.Event()

    def __repr__(self) -> str:
        return f"<Answers {self.path}: {self.arrived} of {len(self._offsets)}>"

    @property
    def complete(self) -> bool:
        """Whether every line has its answer."""
        return self.arrived == len(self._offsets)

    def __enter__(self) -> Self:
        if not self.again:
            check_free(self.path, overwrite=self._overwrite)
            self._open("wb" if self._overwrite else "xb")
        return self

    def begin_again(self) -> None:
        """Begin the partial file anew, once the run is ours: what was in it comes again. Blocks. Raises UserError."""
        self._open("wb")

    def _open(self, mode: Literal["wb", "xb"]) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.partial, mode, opener=_for_its_owner)  # noqa: SIM115 - closed on the way out
        except OSError as error:
            raise _cannot_write(self.partial, error) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is None:
            return
        with suppress(OSError):  # what it cannot write now was told when it was to be written
            self._file.close()
        if not self.arrived:
            self.partial.unlink(missing_ok=True)

    # --- while they come

    def put(self, place: int, row: bytes) -> None:
        """The answer to the line at `place` (from 0), as JSON. Never waits."""
        row += b"\n"
        self._offsets[place], self._lengths[place] = self._end, len(row)
        self._end += len(row)
        self.arrived += 1
        self._pending.append(row)
        self._news.set()

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """Answers go to the disk while this is entered, and all of them before it is left. Raises UserError."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._serve)
            try:
                yield
            finally:
                self._closing = True
                self._news.set()

    async def _serve(self) -> None:
        try:
            while self._pending or not self._closing:
                if self._pending:
                    await self._write()
                else:
                    self._news = anyio.Event()
                    await self._news.wait()
        finally:
            if self._pending:  # cancelled: what was received is kept
                await self._write()

    async def _write(self) -> None:
        """Append what has come; not interrupted, since a write cannot be called back."""
        rows, self._pending = self._pending, []
        with anyio.CancelScope(shield=True):
            await in_thread(self._append, b"".join(rows))

    def _append(self, rows: bytes) -> None:
        assert self._file is not None
        try:
            self._file.write(rows)
            self._file.flush()
        except OSError as error:
            raise _cannot_write(self.partial, error) from error

    # --- at the end

    def put_in_order(self, missing: Callable[[int], bytes]) -> None:
        """Write the output whole, in the order of the input, and remove the partial one; `missing` makes other rows.

        Blocks on disk. Raises UserError; then the partial one is still there.
        """
        unfinished = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        try:
            with self.partial.open("rb") as arrived, unfinished.open("wb") as out:
                for place, (offset, length) in enumerate(zip(self._offsets, self._lengths, strict=True)):
                    if offset < 0:
                        out.write(missing(place) + b"\n")
                        continue
                    arrived.seek(offset)
                    out.write(arrived.read(length))
                out.flush()
                os.fsync(out.fileno())
            unfinished.replace(self.path)
            self.partial.unlink()
        except OSError as error:
            raise _cannot_write(self.path, error, hint=f"; the answers are in {self.partial}") from error
        finally:
            unfinished.unlink(missing_ok=True)


def _for_its_owner(path: str, flags: int) -> int:
    """What is half done is nobody else's; the output itself is made as any file of the user's."""
    return os.open(path, flags, 0o600)


def check_free(path: Path, *, overwrite: bool) -> None:
    """Raises UserError where an output would take the place of another, or of what an interrupted batch has left."""
    if path.is_dir():
        raise UserError(f"{path} is a folder: name the file that the answers go to")
    if overwrite:
        return
    partial = partial_of(path)
    if partial.exists():
        raise UserError(
            f"{partial} has answers of a batch that was interrupted or still runs: move it away, or lose them "
            "with --overwrite"
        )
    if path.exists():
        raise UserError(f"{path} is there already: name another file, or replace it with --overwrite")


def _cannot_write(path: Path, error: OSError, *, hint: str = "") -> UserError:
    if error.errno == errno.ENOSPC:
        hint += "; make room, then give the same command again"
    return UserError(f"{path} cannot be written: {error.strerror or error}{hint}")
