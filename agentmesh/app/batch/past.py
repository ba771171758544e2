"""Which earlier run a batch goes on with, and whose answers stand where its own are to go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...journal import RunSummary, list_runs, short_id
from ...messages import Settings
from ..going_on import began_as, goes_on_by
from ..wording import plural
from .answers import check_free, partial_of
from .lines import Line

__all__ = ["NAME", "LineHash", "check_place", "earlier_batches", "find_again", "identity_of", "newest_of", "owner_of"]

NAME = "batch"
_BYTES = 8  # of what a line asks: enough to see that it has changed


class LineHash:
    """Says what a line asks as a hash of its bytes, its model, and what holds for all lines."""

    def __init__(self, system: str | None, settings: Settings) -> None:
        self._common = blake2b(repr((system, asdict(settings))).encode("utf-8", "surrogatepass"), digest_size=_BYTES)

    def of(self, line: Line) -> str:
        """The hash of one line, whose bytes must still be there."""
        hashed = self._common.copy()
        hashed.update(f"{line.model}\n".encode("utf-8", "surrogatepass"))
        hashed.update(line.raw)
        return hashed.hexdigest()


def identity_of(lines: Iterable[Line], *, system: str | None, settings: Settings) -> str:
    """The hash of a whole batch: with another one, it is another batch."""
    hash_of, hashed = LineHash(system, settings).of, blake2b(digest_size=16)
    for line in lines:
        hashed.update(hash_of(line).encode())
    return hashed.hexdigest()


def earlier_batches(folder: Path | None) -> Sequence[RunSummary]:
    """All batches that have a journal in this folder, the newest first. Blocks."""
    return [] if folder is None else [run for run in list_runs(folder) if run.name == NAME]


def owner_of(output: Path, runs: Iterable[RunSummary]) -> RunSummary | None:
    """The newest batch that was told to write its answers there, if anything is there. Blocks."""
    if not (output.exists() or partial_of(output).exists()):
        return None
    place = str(output.absolute())
    return next((run for run in runs if _options(run).get("output") == place), None)


def _options(run: RunSummary) -> Mapping[str, Any]:
    try:
        return began_as(run.path).options
    except UserError:  # it cannot be read
        return {}


def newest_of(runs: Iterable[RunSummary], identity: str) -> RunSummary | None:
    """The newest batch that asks the same."""
    return next((run for run in runs if run.identity == identity), None)


def find_again(runs: Iterable[RunSummary], identity: str, *, failed: bool) -> RunSummary | None:
    """The newest batch that asks the same, if it is to be gone on with: unfinished, or `failed` in part.

    Raises UserError where another process writes it, and where `failed` lines are wanted and there are none.
    """
    newest = newest_of(runs, identity)
    if newest is None:
        if failed:
            raise UserError("--failed: these lines have not been asked with these options yet: leave it out")
        return None
    name = short_id(newest.id)
    if newest.is_running:
        raise UserError(
            f"run {name} of the same lines is being written by {newest.holder}: wait for it, or ask them once more "
            "with --fresh and another output"
        )
    if newest.is_unfinished:
        return newest
    if not failed:
        return None
    if not newest.failed:
        raise UserError(f"--failed: run {name} of these lines is finished, and none of them has failed")
    return newest


def check_place(
    output: Path, owner: RunSummary | None, *, identity: str, again: RunSummary | None, fresh: bool, overwrite: bool
) -> bool:
    """Whether what stands in the place of the output may go. Raises UserError where it belongs to another run.

    It may if it is of the run that goes on, if it is to be overwritten, or, with `fresh`, if it is what an interrupted
    batch of the same lines has left: the answers stay in the journal of that.
    """
    if owner is None:
        check_free(output, overwrite=overwrite)
        return overwrite
    name, partial = short_id(owner.id), partial_of(output)
    if owner.is_running:
        raise UserError(f"{output} is being written by run {name} ({owner.holder}): name another file")
    if overwrite or (again is not None and owner.id == again.id):
        check_free(output, overwrite=True)
        return True
    if output.exists():
        raise UserError(f"{output} has the answers of run {name}{_what(owner, identity)}; --overwrite replaces it")
    if fresh and owner.identity == identity:
        return True
    raise UserError(f"{partial} has answers of run {name}{_what(owner, identity)}; --overwrite drops them")


def _what(owner: RunSummary, identity: str) -> str:
    name, same = short_id(owner.id), owner.identity == identity
    if owner.is_unfinished:
        other = "" if same else " and of other lines or options"
        return f", which is unfinished{other}: `{goes_on_by(name, _options(owner))}` goes on with it"
    if same and owner.failed:
        return f", which is finished, and {plural(owner.failed, 'line')} failed: --failed asks these again"
    other = ", which asked the same and is finished" if same else " of other lines or options"
    return f"{other}: name another file"
