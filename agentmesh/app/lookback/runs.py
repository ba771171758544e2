"""The command `runs`: a table of the runs that have a journal."""

from __future__ import annotations

import time
from dataclasses import asdict

from rich.table import Table
from rich.text import Text

from ...journal import RunSummary, list_runs, run_files, short_id
from ..options import JournalOption, JsonFlag
from .tables import (
    GAP,
    SIMULATED_MARK,
    FirstOption,
    journal_of,
    lasted,
    marked_cost,
    new_console,
    new_table,
    print_json,
    status_text,
    text_of,
    when,
)

__all__ = ["runs_command"]

_ROOMY = 72  # characters of a line that has room for a title of two words


def runs_command(journal: JournalOption = None, json: JsonFlag = False, first: FirstOption = None) -> None:
    """List the runs that are in the journal, the newest first.

    Example: agentmesh runs
    """
    folder = journal_of(journal)
    found, names = list_runs(folder, first=first), [path.stem for path in run_files(folder)]
    if json:
        print_json({"runs": [asdict(run) | {"short": short_id(run.id, names)} for run in found]})
        return
    console = new_console()
    if not found:
        console.print(Text(f"There are no runs in {folder} yet."))
        return
    tasks = "done/failed" if console.width >= _ROOMY else "tasks"
    table = new_table(["when", "id", "workflow", "status"], numbers=[tasks, "calls", "cost", "time"])
    rows = [_cells(run, short_id(run.id, names)) for run in found]
    widths = [max(cell.cell_len for cell in column) for column in zip(_titles(table), *rows, strict=True)]
    room = console.width - sum(widths) + widths[2] - GAP * len(widths)
    for row in rows:
        row[2].truncate(max(4, room), overflow="ellipsis")  # names are the one thing that may be cut
        table.add_row(*row)
    console.print(table)
    if any(run.simulated for run in found):
        console.print(SIMULATED_MARK)
    for run in found:
        if run.problem is not None:
            console.print(text_of(run.problem, "red"), soft_wrap=True)


def _titles(table: Table) -> list[Text]:
    return [Text(str(column.header)) for column in table.columns]


def _cells(run: RunSummary, short: str) -> list[Text]:
    first = [Text(when(run.began)), Text(short), text_of(run.name), status_text(run.status)]
    if run.problem is not None:
        return [*first, *(Text() for _ in range(4))]
    tasks = Text(f"{run.done:,}")
    if run.failed:
        tasks.append(f"/{run.failed:,}", "red")
    seconds = run.seconds
    if seconds is None and run.is_running and run.began is not None:
        seconds = time.time() - run.began
    return [
        *first,
        tasks,
        Text(f"{run.calls:,}"),
        Text(marked_cost(run.usd, simulated=run.simulated)),
        Text(lasted(seconds)),
    ]
