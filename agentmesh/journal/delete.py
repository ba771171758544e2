"""Deleting a run: its file, and what lies beside it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError
from .ids import short_id
from .lock import lock_path, release_lock, take_lock

__all__ = ["FilesOfRun", "delete_run", "files_of_run"]


@dataclass(frozen=True, slots=True)
class FilesOfRun:
    """The files of a run, the log itself first, and how many bytes they have together."""

    paths: tuple[Path, ...]
    size: int


def files_of_run(path: Path) -> FilesOfRun:
    """What belongs to the run whose file is `path`: SQLite's log, the inbox, all of its name but the lock."""
    names = (f"{path.name}-", f"{path.stem}.")
    own = (path, lock_path(path))
    beside = [one for one in path.parent.iterdir() if one not in own and one.name.startswith(names)]
    paths = (path, *sorted(beside))
    return FilesOfRun(paths, sum(_size(one) for one in paths))


def delete_run(path: Path) -> FilesOfRun:
    """Delete a run's file and what lies beside it, and say what that was.

    Raises UserError when a process writes the run (and says which), and when it cannot be deleted.
    """
    lock_at = lock_path(path)
    try:
        lock = take_lock(lock_at)  # so that nobody goes on with it meanwhile
    except OSError as error:
        raise UserError(f"run {short_id(path.stem)} cannot be deleted: {lock_at}: {error.strerror or error}") from error
    try:
        found = files_of_run(path)
        for one in found.paths:  # the run's file first: without its log it would be less than it was
            if one.is_dir() and not one.is_symlink():
                shutil.rmtree(one)
            else:
                one.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"run {short_id(path.stem)} cannot be deleted: {error}") from error
    finally:
        release_lock(lock, lock_at)
    return found


def _size(path: Path) -> int:
    try:
        return sum(_size(inner) for inner in path.iterdir()) if path.is_dir() else path.stat().st_size
    except FileNotFoundError:  # it was a temporary file of a process that has just ended
        return 0
