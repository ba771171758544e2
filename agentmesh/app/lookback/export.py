"""The command `export`: a run as JSON lines, for other programs: its events, its results, or its calls."""

from __future__ import annotations

import gzip
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import chain, pairwise
from pathlib import Path
from typing import IO, Annotated

import typer
from pydantic_core import to_json

from ...errors import UserError
from ...events import TaskDropped, TaskEnded, TaskReopened
from ...journal import RunFile, find_run
from ...outcome import Outcome
from ...simulate.recording import calls_of
from ..exits import FAILED
from ..options import JournalOption, OutputOption, RunArgument
from ..wording import plural
from .tables import journal_of

__all__ = ["export_command"]

_SHOWN = 8  # spans of damaged records that a message names


def export_command(
    run: RunArgument = "last",
    *,
    events: Annotated[bool, typer.Option("--events", help="All events, as they happened.")] = False,
    results: Annotated[bool, typer.Option("--results", help="A row for each item that has ended.")] = False,
    calls: Annotated[
        bool, typer.Option("--calls", help="A row for each answered call, as `agentmesh serve replay` reads them.")
    ] = False,
    output: OutputOption = None,
    journal: JournalOption = None,
) -> int:
    """Write a run as JSON lines: to stdout, or with -o to a file, gzipped if its name ends in .gz.

    Of a damaged run all that is intact is written; what is lost is told, and the exit code is 1.

    Example: agentmesh export last --results
    """
    if events + results + calls != 1:
        raise UserError("say what to export: --events, --results or --calls, one of them")
    path = find_run(journal_of(journal), run)
    with RunFile.open(path) as file:
        rows = (
            _events(file) if events else _results(file) if results else (to_json(row) + b"\n" for row in calls_of(file))
        )
        number = _write(rows, output)
        if output is not None:
            typer.echo(f"{output}: {plural(number, 'row')}", err=True)
        if file.unreadable:
            typer.echo(_lost(file), err=True)
            return FAILED
    return 0


def _events(file: RunFile) -> Iterator[bytes]:
    for number, name, body in file.bodies():
        yield b'{"format":1,"number":%d,"event":"%s","data":%s}\n' % (number, name.encode(), body)


def _results(file: RunFile) -> Iterator[bytes]:
    """The outcomes that hold: what was done anew has its last one only, what is not asked for any more none."""
    taken_back: dict[str, int] = {}
    for number, event in file.events(TaskReopened, TaskDropped):
        if isinstance(event, (TaskReopened, TaskDropped)):
            taken_back[event.address] = number
    for number, event in file.events(TaskEnded):
        if isinstance(event, TaskEnded) and number > taken_back.get(str(event.outcome.address), 0):
            yield _row(event.outcome)


def _row(outcome: Outcome) -> bytes:
    values = asdict(outcome)
    names = ("task", "key", "sample", "state", "item")
    row = {"format": 1, **{name: values.pop(name) for name in names}, "ok": outcome.ok, **values}
    return to_json(row, fallback=repr) + b"\n"


def _write(rows: Iterable[bytes], output: Path | None) -> int:
    """Write the rows and say how many; a file is there whole or not at all."""
    number = 0
    rows = iter(rows)
    first = next(rows, None)  # what is wrong from the start is told before anything is written
    with _opened(output) as file:
        for number, row in enumerate(chain([] if first is None else [first], rows), start=1):  # noqa: B007 - counts
            file.write(row)
    return number


@contextmanager
def _opened(output: Path | None) -> Iterator[IO[bytes] | gzip.GzipFile]:
    """Standard output, or a file that appears under its name when it is complete. Raises UserError."""
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        handle, name = tempfile.mkstemp(prefix=f".{output.name}.", dir=output.parent)
    except OSError as error:
        raise UserError(f"-o {output}: cannot be written: {error.strerror}") from None
    try:
        with os.fdopen(handle, "wb") as plain:
            if output.suffix == ".gz":
                with gzip.GzipFile("", "wb", compresslevel=6, fileobj=plain, mtime=0) as packed:
                    yield packed
            else:
                yield plain
        os.replace(name, output)
    except OSError as error:
        raise UserError(f"-o {output}: cannot be written: {error.strerror or error}") from None
    finally:
        Path(name).unlink(missing_ok=True)


def _lost(file: RunFile) -> str:
    """Which records are damaged, as spans of their numbers."""
    numbers = sorted(file.unreadable)
    breaks = [place for place, (one, other) in enumerate(pairwise(numbers), start=1) if other != one + 1]
    spans = [(numbers[low], numbers[high - 1]) for low, high in pairwise([0, *breaks, len(numbers)])]
    shown = ", ".join(f"{low}" if low == high else f"{low}-{high}" for low, high in spans[:_SHOWN])
    more = f" and {plural(len(spans) - _SHOWN, 'more span')}" if len(spans) > _SHOWN else ""
    were = "record is" if len(numbers) == 1 else "records are"
    return f"{file.path}: {len(numbers):,} {were} damaged and left out: {shown}{more}"
