"""The runs of a journal folder: which there are, which one is meant by a name, and how each of them stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self

from ..errors import UserError
from ..events import RunStatus
from .format import RUNS_FOLDER
from .ids import new_run_id, run_time, short_id
from .lock import Holder, lock_holder, lock_path
from .read import RunFile
from .status import read_status
from .tally import TALLY_COLUMNS, Tally

__all__ = ["RunSummary", "find_run", "list_runs", "next_run_id", "run_files", "short_of"]

_SHOWN_CANDIDATES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """One run, as a list of runs shows it.

    `status` is what the run said at its end, else `running` or `paused` while a process writes it (`holder`), else
    `interrupted`; `unreadable` with a `problem`. `began` and `ended` are seconds since 1970; `usd` is None where a
    price is unknown. `resumes` is how often another process went on with it.
    `as_of` is when the counts were written down, in seconds since 1970, where they cannot be had as of now. Dollars are
    `simulated` where no other model has answered.
    """

    id: str
    path: Path
    status: RunStatus | Literal["running", "paused", "interrupted", "unreadable"]
    name: str = ""
    source: str | None = None
    began: float | None = None
    ended: float | None = None
    seconds: float | None = None
    added: int = 0
    done: int = 0
    failed: int = 0
    skipped: int = 0
    cancelled: int = 0
    calls: int = 0
    pushed_back: int = 0
    uncertain: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    usd: float | None = None
    resumes: int = 0
    spared: int = 0
    saved_usd: float = 0.0
    simulated: bool = False
    identity: str | None = None
    holder: Holder | None = None
    as_of: float | None = None
    problem: str | None = None

    @classmethod
    def of(cls, file: RunFile) -> Self:
        """The run in an open file. Raises UserError when that cannot be read at all."""
        holder = lock_holder(lock_path(file.path))  # before the counts: it may end in between
        return cls._counted(file.path, file.tally(), holder)

    @classmethod
    def at(cls, path: Path) -> Self:
        """The run with the file `path`, even where its process has that to itself.

        Raises UserError when the file cannot be read at all.
        """
        holder = lock_holder(lock_path(path))
        status = read_status(path) if holder is not None and holder.locks_out else None
        if status is not None:
            tally, at = status
            return cls._counted(path, tally, holder, at)
        with RunFile.open(path) as file:
            return cls.of(file)

    @classmethod
    def readable_or_not(cls, path: Path) -> Self:
        """The same of a file that perhaps cannot be read: then it says why."""
        try:
            return cls.at(path)
        except UserError as error:
            return cls(
                id=path.stem, path=path, status="unreadable", began=run_time(path.stem), problem=str(error),
                holder=lock_holder(lock_path(path)),
            )  # fmt: skip

    @classmethod
    def _counted(cls, path: Path, tally: Tally, holder: Holder | None, as_of: float | None = None) -> Self:
        names = [field.name for field in fields(cls) if field.name in TALLY_COLUMNS]
        values: dict[str, Any] = {name: getattr(tally, name) for name in names}
        goes_on = "running" if tally.paused_at is None else "paused"
        values["status"] = values["status"] or (goes_on if holder else "interrupted")
        values["simulated"] = tally.is_simulated
        values["began"] = values["began"] or run_time(path.stem)
        if tally.unpriced:
            values["usd"] = None
        return cls(id=path.stem, path=path, holder=holder, as_of=as_of, **values)

    @property
    def is_running(self) -> bool:
        """Whether a process has it, be it paused or not."""
        return self.status in ("running", "paused")

    @property
    def is_unfinished(self) -> bool:
        """Whether it was cut short, so that another process could go on with it."""
        return self.status in ("interrupted", "cancelled", "stopped")


def run_files(folder: Path) -> list[Path]:
    """The files of all runs of a journal folder, the newest first."""
    return sorted((folder / RUNS_FOLDER).glob("*.db"), reverse=True)


def short_of(path: Path) -> str:
    """The short name of the run with the file `path`, which none beside it shares."""
    return short_id(path.stem, [other.stem for other in run_files(path.parent.parent)])


def next_run_id(folder: Path, now: float) -> str:
    """The name of a new run in a journal folder: it sorts behind those there are, even after a clock was set back."""
    newest = next((path.stem for path in run_files(folder) if run_time(path.stem) is not None), "")
    return new_run_id(now, after=newest)


def list_runs(folder: Path, *, first: int | None = None) -> list[RunSummary]:
    """The runs of a journal folder, the newest first, at most the `first` so many.

    A file that cannot be read says why and hides no other.
    """
    return [RunSummary.readable_or_not(path) for path in run_files(folder)[:first]]


def find_run(folder: Path, name: str) -> Path:
    """The file of the run called `name`: its id, the beginning or the end of it, `last`, or the path of a run's file.

    Raises UserError when there is none, or when several fit, and then lists them.
    """
    if name.endswith(".db") and Path(name).is_file():
        return Path(name)
    files = run_files(folder)
    if not files:
        raise UserError(f"there are no runs in {folder}")
    if name == "last":
        return files[0]
    wanted = name.lower()
    exact = [path for path in files if path.stem == wanted]
    fitting = exact or [path for path in files if path.stem.startswith(wanted) or path.stem.endswith(wanted)]
    if not wanted or not fitting:
        raise UserError(f"there is no run {name!r} in {folder}; `agentmesh runs` lists those there are")
    if len(fitting) > 1:
        raise UserError(f"{name!r} fits {len(fitting)} runs: {_candidates(fitting)}")
    return fitting[0]


def _candidates(files: Sequence[Path]) -> str:
    shown = []
    for path in files[:_SHOWN_CANDIDATES]:
        began = run_time(path.stem)
        when = "" if began is None else f" of {datetime.fromtimestamp(began).astimezone():%Y-%m-%d %H:%M}"
        shown.append(short_of(path) + when)
    more = len(files) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
