"""Reads rows from csv, tsv, json and jsonl files; a mistake is told with its file and line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..errors import InputProblems, Problem

__all__ = ["read_json", "read_rows", "read_text"]

MAX_CELL = 2**31 - 1
"""Longer cells than csv's usual 128 kB are common where whole documents stand in a column."""


def read_text(path: Path, *, shown: str) -> str:
    """A file's text, in UTF-8. Raises InputProblems."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _problem(f"cannot be read: {error.strerror}", shown) from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _problem(f"this is not UTF-8 (byte 0x{data[error.start]:02x})", shown, line) from None


def read_rows(path: Path, *, shown: str) -> list[dict[str, Any]]:
    """The rows of a file, by the ending of its name. Raises InputProblems with every broken line."""
    ending = path.suffix.lower()
    if ending in (".xlsx", ".xls"):
        raise _problem(f"{ending[1:]} is not supported yet", shown, hint="save it as csv")
    if ending not in _READERS:
        raise _problem(f"rows are read from {', '.join(_READERS)}, not from '{ending}'", shown)
    return _READERS[ending](read_text(path, shown=shown), shown)


def read_json(text: str, *, shown: str) -> Any:
    """One JSON value. Raises InputProblems."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise _problem(f"this is not JSON: {error.msg}", shown, error.lineno, error.colno) from None
    except RecursionError:
        raise _problem("this JSON is nested too deep", shown) from None


def _problem(
    message: str, shown: str, line: int | None = None, column: int | None = None, hint: str | None = None
) -> InputProblems:
    return InputProblems([Problem(message, file=shown, line=line, column=column, hint=hint)])


def _json(text: str, shown: str) -> list[dict[str, Any]]:
    rows = read_json(text, shown=shown)
    if not isinstance(rows, list):
        raise _problem("rows are a list of objects", shown, 1)
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise _problem(f"row {number} is no object", shown)
    return rows


def _jsonl(text: str, shown: str) -> list[dict[str, Any]]:
    rows, problems = [], []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            why, column = getattr(error, "msg", "nested too deep"), getattr(error, "colno", None)
            problems.append(Problem(f"this line is not JSON: {why}", file=shown, line=number, column=column))
            continue
        if isinstance(row, dict):
            rows.append(row)
        else:
            problems.append(Problem("this line is no object", file=shown, line=number))
    if problems:
        raise InputProblems(problems)
    return rows


def _table(delimiter: str) -> Callable[[str, str], list[dict[str, Any]]]:
    def read(text: str, shown: str) -> list[dict[str, Any]]:
        csv.field_size_limit(MAX_CELL)
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        rows: list[dict[str, Any]] = []
        problems: list[Problem] = []
        header: list[str] | None = None
        for line, cells in _numbered(lines, shown, problems):
            if header is None:
                header = [cell.strip() for cell in cells]
                problems += _wrong_header(header, shown, line)
            elif len(cells) == len(header):
                rows.append(dict(zip(header, cells, strict=True)))
            else:
                message = f"this row has {len(cells)} fields, and the header has {len(header)}"
                problems.append(Problem(message, file=shown, line=line))
        if header is None and not problems:
            problems.append(Problem("the file is empty", file=shown, hint="the first line names the columns"))
        if problems:
            raise InputProblems(problems)
        return rows

    return read


def _numbered(lines: Any, shown: str, problems: list[Problem]) -> Iterator[tuple[int, list[str]]]:
    """Each row with the line that it begins on; empty lines are passed over."""
    begins = 1
    try:
        for cells in lines:
            if cells:
                yield begins, cells
            begins = lines.line_num + 1
    except csv.Error as error:
        problems.append(Problem(f"this row is broken: {error}", file=shown, line=begins))


def _wrong_header(header: list[str], shown: str, line: int) -> list[Problem]:
    if not all(header):
        return [Problem("a column has no name", file=shown, line=line, column=header.index("") + 1)]
    twice = sorted({name for name in header if header.count(name) > 1})
    return [Problem(f"two columns are called '{name}'", file=shown, line=line) for name in twice]


_READERS: dict[str, Callable[[str, str], list[dict[str, Any]]]] = {
    ".csv": _table(","), ".tsv": _table("\t"), ".json": _json, ".jsonl": _jsonl,
}  # fmt: skip
