"""The status file beside a run's file: how far a run is, for whom its process locks out of the file itself."""

from __future__ import annotations

import json
import os
from pathlib import Path

from .tally import TALLY_COLUMNS, Tally

__all__ = ["read_status", "status_path", "write_status"]


def status_path(path: Path) -> Path:
    """Where the status file of the run file at `path` is."""
    return path.with_suffix(".status.json")


def write_status(path: Path, tally: Tally, *, at: float) -> None:
    """Write, whole or not at all, the counts as of `at` (seconds since 1970). Raises OSError."""
    target = status_path(path)
    part = target.with_suffix(".part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump({"format": 1, "at": at, **dict(zip(TALLY_COLUMNS, tally.row(), strict=True))}, file)
        part.replace(target)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def read_status(path: Path) -> tuple[Tally, float] | None:
    """The counts that the status file of the run file at `path` has, and as of when; None where none can be read."""
    try:
        found = json.loads(status_path(path).read_text(encoding="utf-8"))
        return Tally(**{name: found[name] for name in TALLY_COLUMNS if name in found}), float(found["at"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
