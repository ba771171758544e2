"""What the commands that look back at runs share: where the journals are, tables, and how times and texts are shown."""

from __future__ import annotations

import json as jsonlib
import os
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic_core import to_jsonable_python
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ...journal import RunFile
from ...outcome import Outcome
from ..settings import Options
from ..wording import dollars, plural

__all__ = [
    "GAP", "SIMULATED_MARK", "STYLES", "FirstOption", "cost", "explain_damage",
    "journal_of", "lasted", "marked_cost", "new_console", "new_table", "outcome_json", "print_json", "size",
    "status_text", "text_of", "when",
]  # fmt: skip

GAP = 1  # between columns, so that eight of them fit into 60
STYLES = {"done": "green", "running": "cyan", "partial": "yellow", "failed": "red", "unreadable": "red"}
SIMULATED_MARK = Text("* simulated", "dim")
"""What the stars of `marked_cost` mean: a line below a table."""
_CONTROLS = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160)])  # a reply must not steer the terminal
_UNITS = ("B", "kB", "MB", "GB", "TB")

FirstOption = Annotated[int | None, typer.Option("--first", metavar="N", min=1, help="Print only that many.")]


def journal_of(flag: Path | None) -> Path:
    """The folder of journals, as every command finds it. Raises InputProblems for a wrong variable or project file."""
    return Options.load(journal=flag).journal


def new_console() -> Console:
    """Standard output. Into a pipe lines are as long as they are, so that nothing in them is cut."""
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal and not os.environ.get("COLUMNS"):
        console.width = 10_000
    return console


def new_table(plain: Iterable[str], *, numbers: Iterable[str], folding: Iterable[str] = ()) -> Table:
    """A table without lines: columns that are not cut, then those that may be folded, then those of numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim")
    for title in plain:
        table.add_column(title, no_wrap=True)
    for title in folding:
        table.add_column(title, min_width=8)
    for title in numbers:
        table.add_column(title, justify="right", no_wrap=True)
    return table


def text_of(value: str, style: str = "") -> Text:
    """Foreign text, harmless for the terminal; its lines stay."""
    return Text(value.translate(_CONTROLS), style)


def status_text(status: str) -> Text:
    """How a run or an item ended, in its colour."""
    return Text(status, STYLES.get(status, "yellow"))


def when(at: float | None, *, full: bool = False) -> str:
    """A moment in local time: as short as it says something, or in full."""
    if at is None:
        return ""
    local, now = time.localtime(at), time.localtime()
    if full:
        return time.strftime("%Y-%m-%d %H:%M:%S", local)
    return time.strftime("%H:%M" if local[:3] == now[:3] else "%d %b" if local[0] == now[0] else "%Y-%m", local)


def lasted(seconds: float | None) -> str:
    """`0.5s`, `21s`, `3m07s`, `2h05m`, `3d04h`."""
    if seconds is None:
        return ""
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours:02}h"
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s" if minutes else f"{rest}s"


def cost(usd: float | None, *, simulated: bool = False) -> str:
    """Dollars; a question mark where a price is unknown."""
    return "?" if usd is None else dollars(usd) + (" (simulated)" if simulated else "")


def marked_cost(usd: float | None, *, simulated: bool) -> str:
    """The same in a narrow column, where a star says `simulated`."""
    return cost(usd) + ("*" if simulated else "")


def size(number: float) -> str:
    """`512 B`, `3.4 MB`."""
    unit = 0
    while number >= 1000 and unit < len(_UNITS) - 1:
        number, unit = number / 1000, unit + 1
    return f"{number:.1f} {_UNITS[unit]}" if unit and number < 100 else f"{number:.0f} {_UNITS[unit]}"


def outcome_json(outcome: Outcome) -> dict[str, Any]:
    """An outcome in the words of files."""
    return {"address": str(outcome.address), "ok": outcome.ok, **asdict(outcome)}


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON object that says its format."""
    typer.echo(jsonlib.dumps(to_jsonable_python({"format": 1, **value}, fallback=repr), indent=2))


def explain_damage(file: RunFile) -> None:
    """Say on stderr what could not be read, if anything."""
    if file.unreadable:
        number, why = next(iter(file.unreadable.items()))
        damaged = plural(len(file.unreadable), "damaged record")
        were = "was" if len(file.unreadable) == 1 else "were"
        typer.echo(f"{damaged} {were} left out; record {number}: {why}", err=True)
