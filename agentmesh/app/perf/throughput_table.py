"""The figures of the throughput benchmark as a table for people."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from rich.table import Table
from rich.text import Text

from .figures import new_table
from .throughput_score import Row, wait_ratio

__all__ = ["throughput_table"]

_NOTHING = "–"


def throughput_table(rows: Sequence[Row], *, title: str) -> Table:
    """One line for each scenario; all rows are of one face of the clock."""
    table = new_table(title)
    table.add_column("scenario")
    names = ("calls", "÷ bound", "÷ clairvoyant", "refused", "quota used", "wait large÷rest", "CPU ms", "MB", "target")
    for name in names:
        table.add_column(name, justify="right")
    table.add_column("")
    for row in rows:
        table.add_row(*map(Text, _cells(row)), Text(row.verdict, style="" if row.missed == () else "bold"))
    return table


def _cells(row: Row) -> list[str]:
    target = row.scenario.target
    wanted = f"≤ {row.wanted:g}, {target.refused:.1%}" + (f" after {target.after_s:g} s" if target.after_s else "")
    afters = [one.after for one in row.scores if one.after is not None]
    after = f" ({fmean(afters):.3f} after {target.after_s:g} s)" if target.after_s and afters else ""
    late = f" (late {max(one.late for one in row.scores):.1f} s)" if target.late_s is not None else ""
    cpu = [one.cpu for one in row.scores if one.cpu is not None]
    peak = [one.peak for one in row.scores if one.peak is not None]
    return [
        row.scenario.about,
        f"{sum(one.calls for one in row.scores):,}",
        f"{row.ratio:.3f}{after}",
        f"{row.mean(lambda one: one.makespan / one.clairvoyant):.3f}",
        f"{row.refused:.2%}",
        f"{row.mean(lambda one: one.quota):.1%}",
        f"{row.mean(wait_ratio):.2f}{late}",
        f"{1000 * fmean(cpu):.2f}" if cpu else _NOTHING,
        f"{max(peak) / 1e6:.0f}" if peak else _NOTHING,
        wanted,
    ]
