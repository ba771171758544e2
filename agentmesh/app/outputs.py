"""A workflow's outputs as a person reads them on a terminal: texts as they are, rows as tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from .wording import clean, clean_lines, more

__all__ = ["print_outputs"]

_CELL = 160  # characters of a value in a table
_ROWS = 20
_NARROW = 12  # cells up to this width are not made narrower
_READABLE = 24  # cells; longer texts in narrower columns are hard to read


def print_outputs(outputs: Mapping[str, Any], console: Console | None = None) -> None:
    """Print each output under its name, on stdout unless a console is given."""
    console = console or Console()
    for name, value in outputs.items():
        console.print(Text(name, style="bold"))
        console.print(_shown(value, console.width))
        console.print()


def _shown(value: Any, width: int) -> RenderableType:
    match value:
        case None:
            return Text("no value: the task it reads has none", style="dim")
        case str():
            return Text(clean_lines(value.strip()))
        case [*parts] | dict(parts) if not parts:
            return Text("nothing", style="dim")
        case [*rows] if all(isinstance(row, Mapping) for row in rows):
            return _rows(rows, width)
        case [*parts] if not any(isinstance(part, Mapping | list) for part in parts):
            return Text(clean_lines(_list(parts)))
        case _:
            return Text(clean_lines(json.dumps(value, ensure_ascii=False, indent=2)))


def _list(parts: Sequence[Any]) -> str:
    """Short ones beside each other, long ones below each other."""
    texts = [_cell(part) for part in parts]
    if all(len(text) <= _READABLE and "\n" not in text for text in texts):
        return ", ".join(texts)
    hidden = [more(len(texts) - _ROWS)] if len(texts) > _ROWS else []
    return "\n".join([f"- {text}" for text in texts[:_ROWS]] + hidden)


def _rows(rows: Sequence[Mapping[str, Any]], width: int) -> RenderableType:
    """A table; where its texts would be squeezed into narrow columns, a block for each row."""
    shown = [{name: _cell(value) for name, value in row.items()} for row in rows[:_ROWS]]
    columns = list(dict.fromkeys(name for row in shown for name in row))
    widths = {name: max(len(line) for text in _column(name, shown) for line in text.split("\n")) for name in columns}
    short = {name for name in columns if widths[name] <= _NARROW}
    room = width - 3 * len(columns) - sum(widths[name] for name in short)
    squeezed = len(short) < len(columns) and room / (len(columns) - len(short)) < _READABLE
    caption = more(len(rows) - _ROWS) if len(rows) > _ROWS else None
    if squeezed:
        return _blocks(shown, columns, caption=caption)
    table = Table(box=box.SIMPLE, pad_edge=False, caption=caption, caption_justify="left")
    for name in columns:
        numeric = all(isinstance(row.get(name), int | float) and not isinstance(row.get(name), bool) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in shown:
        table.add_row(*(Text(row.get(name, "")) for name in columns))
    return table


def _column(name: str, rows: Sequence[Mapping[str, str]]) -> list[str]:
    return [name, *(row.get(name, "") for row in rows)]


def _blocks(rows: Sequence[Mapping[str, str]], columns: Sequence[str], *, caption: str | None) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for row in rows:
        for name in columns:
            if row.get(name):
                grid.add_row(name, Text(row[name]))
        grid.add_row()
    if caption is not None:
        grid.add_row(Text(caption, style="dim"))
    return Padding(grid, (0, 0, 0, 1))


def _cell(value: Any) -> str:
    """A value on one line, a map on one for each of its parts."""
    match value:
        case None:
            return ""
        case str():
            return clean(value, limit=_CELL)
        case float():
            return f"{value:.12g}"
        case Mapping():
            return "\n".join(f"{name}: {_cell(inner)}" for name, inner in value.items())
        case _:
            return clean(json.dumps(value, ensure_ascii=False), limit=_CELL)
