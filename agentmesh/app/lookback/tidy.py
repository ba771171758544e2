"""The commands `rm` and `gc`: deleting runs that nobody needs any more, never one that is running."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from ...errors import UserError
from ...journal import RunSummary, find_run, list_runs, short_id, short_of
from ...journal.cache import forget
from ...journal.delete import delete_run, files_of_run
from ...workflow.units import parse_duration
from ..options import JournalOption, JsonFlag
from ..wording import plural
from .tables import cost, journal_of, new_console, new_table, print_json, size, status_text, text_of, when

__all__ = ["gc_command", "rm_command"]

_NAMED = 20  # runs, in one line


def rm_command(
    runs: Annotated[list[str], typer.Argument(metavar="RUN", help="The end or beginning of ids, or `last`.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    journal: JournalOption = None,
    json: JsonFlag = False,
) -> None:
    """Delete runs: their files and all that lies beside them. A run that is running stays.

    Example: agentmesh rm last
    """
    folder = journal_of(journal)
    found = [RunSummary.readable_or_not(path) for path in dict.fromkeys(find_run(folder, name) for name in runs)]
    for run in found:
        if run.holder is not None:
            raise UserError(
                f"run {short_of(run.path)} is being written by {run.holder}: `agentmesh cancel {short_of(run.path)}` "
                "ends it"
            )
    if not yes:
        for run in found:
            typer.echo(_line(run), err=True)
        if not sys.stdin.isatty():
            raise UserError(
                f"nothing was deleted: to delete {plural(len(found), 'run')} without being asked, add --yes"
            )
        if not typer.confirm(f"Delete {'it' if len(found) == 1 else f'these {len(found)} runs'}?", err=True):
            typer.echo("nothing was deleted", err=True)
            return
    _delete(found, {run.path: short_of(run.path) for run in found}, json=json)


def gc_command(
    older_than: Annotated[
        str,
        typer.Option("--older-than", metavar="AGE", help="Runs that ended, or were last written, before: 30d, 12h."),
    ],
    *,
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Delete what could be gone on with, too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    journal: JournalOption = None,
    json: JsonFlag = False,
) -> None:
    """Delete the runs of an age that have got to their end, and answers of that age in the cache.

    What was cut short or stopped stays, since `agentmesh resume` goes on with it, and so does what is running.

    Example: agentmesh gc --older-than 30d --dry-run
    """
    try:
        before = time.time() - parse_duration(older_than, example="30d, 12h or 90m")
    except ValueError as error:
        raise UserError(f"--older-than: {error}") from None
    folder = journal_of(journal)
    runs = list_runs(folder)
    names = [run.id for run in runs]
    old = [run for run in runs if run.holder is None and _age(run) < before]
    shorts = {run.path: short_id(run.id, names) for run in old}
    kept = [] if unfinished else [run for run in old if run.is_unfinished]
    old = [run for run in old if run not in kept]
    answers = forget(folder, before=before, only_count=dry_run)
    told = {"kept": [_json(run, shorts[run.path], files_of_run(run.path).size) for run in kept], "answers": answers}
    if not dry_run:
        _delete(old, shorts, json=json, told=told, also=_cached(answers))
    elif json:
        rows = [_json(run, shorts[run.path], files_of_run(run.path).size) for run in old]
        print_json({"would_delete": rows, "bytes": sum(row["bytes"] for row in rows), **told})
    else:
        _show(old, shorts, also=_cached(answers))
    if kept and not json:
        typer.echo(_why_kept(kept, shorts))


def _show(old: list[RunSummary], shorts: dict[Path, str], *, also: str) -> None:
    """The runs that would be deleted."""
    sizes = [files_of_run(run.path).size for run in old]
    table = new_table(["when", "id", "workflow", "status"], numbers=["cost", "size"])
    for run, number in zip(old, sizes, strict=True):
        spent = Text("" if run.problem else cost(run.usd, simulated=run.simulated))
        name = text_of(run.name)
        table.add_row(when(run.began), shorts[run.path], name, status_text(run.status), spent, Text(size(number)))
    console = new_console()
    if old:
        console.print(table)
    console.print(text_of(f"would delete {plural(len(old), 'run')}, {size(sum(sizes))}{also}"))


def _why_kept(kept: list[RunSummary], shorts: dict[Path, str]) -> str:
    named = f" ({', '.join(shorts[run.path] for run in kept)})" if len(kept) <= _NAMED else ""
    return (
        f"kept {plural(len(kept), 'unfinished run')} of that age{named}: `agentmesh resume` can still go on; "
        "--unfinished deletes such runs, too"
    )


def _cached(answers: int) -> str:
    return f"; {plural(answers, 'answer')} in the cache" if answers else ""


def _age(run: RunSummary) -> float:
    """When it ended; of one that did not end in order, when it was last written."""
    if run.ended is not None:
        return run.ended
    times = [one.stat().st_mtime for one in files_of_run(run.path).paths if one.is_file()]
    return max(times, default=time.time())


def _delete(
    runs: list[RunSummary], shorts: dict[Path, str], *, json: bool, told: dict[str, Any] | None = None, also: str = ""
) -> None:
    """Delete and say what. What cannot be deleted ends it, after it was said what has been."""
    rows: list[dict[str, Any]] = []
    try:
        for run in runs:
            removed = delete_run(run.path)
            rows.append(_json(run, shorts[run.path], removed.size) | {"files": [str(path) for path in removed.paths]})
    finally:
        total = sum(row["bytes"] for row in rows)
        if json:
            print_json({"deleted": rows, "bytes": total, **(told or {})})
        else:
            named = f": {', '.join(row['short'] for row in rows)}" if 0 < len(rows) <= _NAMED else ""
            typer.echo(f"deleted {plural(len(rows), 'run')}, {size(total)}{named}{also}")


def _json(run: RunSummary, short: str, number: int) -> dict[str, Any]:
    return {"id": run.id, "short": short, "name": run.name, "status": run.status, "bytes": number}


def _line(run: RunSummary) -> str:
    """A run, and what is lost with one that could be gone on with."""
    parts = (when(run.began, full=True), short_of(run.path), run.name, run.status, size(files_of_run(run.path).size))
    spent = cost(run.usd, simulated=run.simulated)
    lost = f"{plural(run.done, 'task')} done for {spent} would be lost, since it is unfinished"
    return "  ".join(filter(None, (*parts, lost if run.is_unfinished else "")))
