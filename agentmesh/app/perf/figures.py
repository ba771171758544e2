"""What was measured, as tables for people and as JSON for programs; figures beside their bounds are the usual kind."""

from __future__ import annotations

import json as jsonlib
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from ... import __version__
from ...clock import wall
from ...errors import UserError
from ...workflow.run import write_whole

__all__ = ["Figure", "Measured", "new_table", "publish", "report", "say"]

_PIPE_WIDTH = 200


class Measured(Protocol):
    """A row of what was measured."""

    def as_json(self) -> dict[str, Any]:
        """As it is written to files."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing measured, in `unit`, and its bound: at most, or at least where `least` is set."""

    name: str
    measured: float
    bound: float
    unit: str
    note: str
    least: bool = False

    @property
    def ratio(self) -> float:
        """The measured figure as a share of its bound."""
        return self.measured / self.bound

    @property
    def ok(self) -> bool:
        return self.ratio >= 1.0 if self.least else self.ratio <= 1.0

    def as_json(self) -> dict[str, Any]:
        """As it is written to files."""
        return {
            "name": self.name, "measured": self.measured, "unit": self.unit,
            "bound": self.bound, "bound_is": "least" if self.least else "most",
            "ratio": self.ratio, "ok": self.ok, "note": self.note,
        }  # fmt: skip


def say(text: str) -> None:
    """Tell what is being measured now."""
    typer.echo(text, err=True)


def report(
    figures: Sequence[Figure], benchmark: str, *, title: str, quick: bool, json: bool, out: Path | None
) -> None:  # fmt: skip
    """Print figures as a table, or as JSON, and write them as JSON to `out`. Raises UserError if that cannot be."""
    publish(figures, benchmark, show=lambda console: _show(figures, title, console), quick=quick, json=json, out=out)


def publish(
    rows: Sequence[Measured], benchmark: str, *, show: Callable[[Console], None], quick: bool, json: bool,
    out: Path | None, **facts: str,
) -> None:  # fmt: skip
    """Show what was measured, or print it as JSON, and write that to `out`. Raises UserError if that cannot be.

    `facts` are more of what the JSON says of all rows.
    """
    document = jsonlib.dumps(_document(rows, benchmark, quick=quick, **facts), indent=2, ensure_ascii=False) + "\n"
    if json:
        typer.echo(document, nl=False)
    else:
        console = Console(highlight=False, markup=False, emoji=False)
        if not console.is_terminal:
            console.width = _PIPE_WIDTH
        show(console)
    if out is not None:
        try:
            write_whole(out, document)
        except OSError as error:
            raise UserError(f"-o {out}: cannot be written: {error.strerror or error}") from None


def new_table(title: str) -> Table:
    """A table of what was measured, without columns yet."""
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)


def _document(rows: Sequence[Measured], benchmark: str, *, quick: bool, **facts: str) -> dict[str, Any]:
    return {
        "format": 1, "benchmark": benchmark, **facts, "agentmesh": __version__,
        "at": datetime.fromtimestamp(wall(), UTC).isoformat(timespec="seconds"), "python": platform.python_version(),
        "platform": platform.platform(), "cpus": os.cpu_count(), "quick": quick,
        "rows": [row.as_json() for row in rows],
    }  # fmt: skip


def _show(figures: Sequence[Figure], title: str, console: Console) -> None:
    table = new_table(title)
    table.add_column("figure")
    for name in ("measured", "bound", "÷ bound"):
        table.add_column(name, justify="right")
    table.add_column("")
    table.add_column("of")
    for one in figures:
        table.add_row(
            one.name, f"{_number(one.measured)} {one.unit}", f"{'≥' if one.least else '≤'} {_number(one.bound)}",
            f"{one.ratio:.2f}", "ok" if one.ok else "missed", one.note,
        )  # fmt: skip
    console.print(table)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
