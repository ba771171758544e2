"""The command `resume`: go on with a run as it was begun, whatever command that was."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..errors import UserError
from .budgets import BudgetOption
from .going_on import FailedFlag, OnUncertainOption, began_as, can_ask
from .options import DisplayOption, JournalOption, OutputOption, RunArgument
from .settings import Options
from .wording import plural

if TYPE_CHECKING:
    from ..journal import RunSummary

__all__ = ["resume_command"]

_SHOWN = 8


def resume_command(
    run: RunArgument = "last",
    failed: FailedFlag = False,
    on_uncertain: OnUncertainOption = None,
    budget: BudgetOption = None,
    journal: JournalOption = None,
    display: DisplayOption = None,
    output: OutputOption = None,
) -> int:
    """Go on with a run that was killed, interrupted, or stopped by a budget: nothing that is there is paid again.

    The budget that it was last given holds, but for what --budget says now.

    Example: agentmesh resume last
    """
    from ..journal import RunSummary, short_id

    options = Options.load(journal=journal, display=display)
    if options.journal_folder is None:
        raise UserError("without a journal there is nothing to go on with: leave out no_journal")
    path = _path_of(run, options.journal_folder, failed=failed)
    _check_resumable(RunSummary.at(path), failed=failed)
    started = began_as(path)
    given: dict[str, Any] = dict(started.options)
    options = Options.load(
        journal=journal, display=display, seed=started.seed,
        provider_file=[Path(one) for one in given.get("provider_file", ())], rate=list(given.get("rate", ())),
        cache=given.get("cache"), record=given.get("record"), replay=given.get("replay"),
        no_content=not started.content,
    )  # fmt: skip
    match given.get("command"):
        case "run":
            from .workflows import resume_workflow

            return resume_workflow(
                started, path, failed=failed, on_uncertain=on_uncertain, options=options, output=output, budget=budget
            )
        case "batch":
            from .batch.command import resume_batch

            return resume_batch(path, failed=failed, on_uncertain=on_uncertain, budget=budget, options=options)
    raise UserError(
        f"run {short_id(path.stem)} ({started.name}) was not begun by `agentmesh run` or `batch`: start that program "
        f"again, which goes on with it by `open_run({started.name!r}, resume=True)`"
    )


def _path_of(run: str, folder: Path, *, failed: bool) -> Path:
    """The file of the run that is meant. Raises UserError where `last` could mean several."""
    from ..journal import find_run, list_runs, short_id

    if run != "last":
        return find_run(folder, run)
    candidates = [one for one in list_runs(folder) if one.is_unfinished or (failed and one.status == "partial")]
    if len(candidates) < 2:
        return candidates[0].path if candidates else find_run(folder, run)
    lines = [f"  {short_id(one.id)}  {one.name}  {one.status}, {plural(one.done, 'task')} done" for one in candidates]
    listed = "\n".join(lines[:_SHOWN])
    if not can_ask():
        raise UserError(f"{len(candidates)} runs are unfinished; say which, as in agentmesh resume ID:\n{listed}")
    typer.echo(f"{len(candidates)} runs are unfinished:\n{listed}", err=True)
    return find_run(folder, typer.prompt("which one", default=short_id(candidates[0].id), err=True))


def _check_resumable(summary: RunSummary, *, failed: bool) -> None:
    from ..journal import short_id

    run = short_id(summary.id)
    match summary.status:
        case "running":
            raise UserError(f"run {run} is being written by {summary.holder}; one process writes a run")
        case "paused":
            raise UserError(f"run {run} is paused in {summary.holder}: `agentmesh unpause {run}` goes on with it")
        case "done" if not failed or not (summary.failed or summary.skipped):
            raise UserError(f"run {run} is finished: there is nothing to go on with")
        case "partial" if not failed:
            raise UserError(
                f"run {run} is finished, with {plural(summary.failed, 'failure')}: to try these again, type "
                f"agentmesh resume {run} --failed"
            )
        case "unreadable":
            raise UserError(summary.problem or f"run {run} cannot be read")
