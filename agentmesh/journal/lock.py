"""The lock file beside a run's file: it names the one process that may write, and is held as long as that lives."""

from __future__ import annotations

import fcntl
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError

__all__ = ["Holder", "lock_holder", "release_lock", "take_lock"]


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that writes a run; `pid` is None in the instant before it has written its name down."""

    pid: int | None
    host: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}" if self.pid is not None else "another process"


def take_lock(path: Path) -> int:
    """Lock the file at `path`, write this process's pid and host into it, and return the descriptor that holds it.

    Raises UserError that names the process which already holds it, OSError where the file cannot be made.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(descriptor, path):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"{os.getpid()} {socket.gethostname()}\n".encode())
                return descriptor
        except BlockingIOError:
            holder = _read_holder(descriptor)
            os.close(descriptor)
            raise UserError(f"run {path.stem} is being written by {holder}; one process writes a run") from None
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)  # it was released, and so deleted, between opening and locking: the next one is ours


def release_lock(descriptor: int, path: Path) -> None:
    """Give the lock back and delete its file."""
    try:
        path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def lock_holder(path: Path) -> Holder | None:
    """Who writes the run whose lock file is `path`; None when nobody does, whether it ended or was killed."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_holder(descriptor)
    else:
        return None
    finally:
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _read_holder(descriptor: int) -> Holder:
    pid, _, host = os.pread(descriptor, 400, 0).decode("utf-8", "replace").strip().partition(" ")
    return Holder(int(pid) if pid.isdigit() else None, host)
