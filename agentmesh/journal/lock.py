"""The lock file beside a run's file: it names the one process that may write, and is held as long as that lives.

On one machine the system's lock on the file tells whether its process lives, and it cannot be fooled by a pid that was
given to another. Between machines such a lock may not hold. There the file itself is the lock (`exclusive`): who makes
it has it, and another machine's is never taken over, since nobody here can know whether its process lives.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError
from .ids import short_id

__all__ = ["Holder", "lock_holder", "lock_path", "release_lock", "take_lock"]

_EXCLUSIVE = "exclusive"
_TRIES, _PAUSE_S = 5, 0.01  # who asks for the holder has the lock for microseconds


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that writes a run; `pid` is None in the instant before it has written its name down.

    `exclusive`: the run's file is on a network, and that process alone can open it.
    """

    pid: int | None
    host: str
    exclusive: bool = False

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}" if self.pid is not None else "another process"

    @property
    def here(self) -> bool:
        """Whether it is a process of this machine."""
        return self.host == socket.gethostname()

    @property
    def locks_out(self) -> bool:
        """Whether the run's file cannot be opened by this process."""
        return self.exclusive and not (self.here and self.pid == os.getpid())


def lock_path(path: Path) -> Path:
    """Where the lock file of the run file at `path` is."""
    return path.with_suffix(".lock")


def take_lock(path: Path, *, exclusive: bool = False) -> int:
    """Lock the file at `path`, write this process's pid and host into it, and return the descriptor that holds it.

    Raises UserError that names the process which already holds it, OSError where the file cannot be made.
    """
    mode = f" {_EXCLUSIVE}" if exclusive else ""
    for _ in range(_TRIES):
        descriptor, made = _open(path)
        try:
            holder = None if made else _read_holder(descriptor)
            if holder is not None and (exclusive or holder.exclusive) and not holder.here:
                raise UserError(_refusal(path, holder))
            if _locked(descriptor, fcntl.LOCK_EX, without=made and exclusive) and _is_at(descriptor, path):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()} {socket.gethostname()}{mode}\n".encode(), 0)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # released, and so deleted, between opening and locking: the next one is ours; or held
        time.sleep(_PAUSE_S)
    raise UserError(_refusal(path, holder or Holder(None, "")))


def release_lock(descriptor: int, path: Path) -> None:
    """Give the lock back and delete its file."""
    try:
        path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def lock_holder(path: Path) -> Holder | None:
    """Who writes the run whose lock file is `path`; None when nobody does, whether it ended or was killed.

    Of a process on another machine nobody here knows whether it was killed: it counts as alive.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        holder = _read_holder(descriptor)
        if holder.exclusive and not holder.here:
            return holder
        return None if _locked(descriptor, fcntl.LOCK_SH) else holder
    finally:
        os.close(descriptor)


def _refusal(path: Path, holder: Holder) -> str:
    text = f"run {short_id(path.stem)} is being written by {holder}; one process writes a run"
    if holder.here or not (holder.exclusive or holder.pid is None):
        return text
    return f"{text}. If that one is no more, delete {path}"


def _open(path: Path) -> tuple[int, bool]:
    """The lock file, and whether it is new: of several machines, one makes it."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), True
    except FileExistsError:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o600), False


def _locked(descriptor: int, kind: int, *, without: bool = False) -> bool:
    """Lock it now, or return False when another process has it. `without`: the answer where there are no locks."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return without
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _read_holder(descriptor: int) -> Holder:
    pid, host, mode = (*os.pread(descriptor, 400, 0).decode("utf-8", "replace").split(), "", "", "")[:3]
    return Holder(int(pid) if pid.isdigit() else None, host, mode == _EXCLUSIVE)
