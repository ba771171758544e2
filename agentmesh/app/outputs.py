"""A workflow's outputs as a person reads them on a terminal: texts as they are, rows as tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .wording import clean_lines

__all__ = ["print_outputs"]

_CELL = 200  # characters of a value in a table


def print_outputs(outputs: Mapping[str, Any], console: Console | None = None) -> None:
    """Print each output under its name, on stdout unless a console is given."""
    console = console or Console()
    for name, value in outputs.items():
        console.print(Text(name, style="bold"))
        if value is None:
            console.print(Text("no value: the task it reads has none", style="dim"))
        elif isinstance(value, str):
            console.print(Text(clean_lines(value.strip())))
        elif _is_rows(value):
            console.print(_table(value))
        else:
            console.print(Text(clean_lines(json.dumps(value, ensure_ascii=False, indent=2))))
        console.print()


def _is_rows(value: Any) -> bool:
    return isinstance(value, Sequence) and bool(value) and all(isinstance(row, Mapping) for row in value)


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(box=box.SIMPLE, pad_edge=False)
    for name in columns:
        numeric = all(isinstance(row.get(name), int | float) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(name)) for name in columns))
    return table


def _cell(value: Any) -> Text:
    if value is None:
        return Text("")
    if isinstance(value, Mapping):
        text = "\n".join(f"{name}: {inner}" for name, inner in value.items())
    else:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return Text(clean_lines(text if len(text) <= _CELL * 3 else text[: _CELL * 3] + "…"))
