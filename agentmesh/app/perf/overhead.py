"""`agentmesh perf overhead`: what agentmesh itself costs, beside what it may cost."""

from __future__ import annotations

import json as jsonlib
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from ... import __version__
from ...clock import wall
from ...errors import UserError
from ...workflow.run import write_whole
from ..options import JsonFlag, OutputOption
from .calls import SERVER_S, calls_in_process, calls_over_http
from .starting import seconds_to_run
from .waiting import bytes_per_waiting_task

__all__ = ["Figure", "overhead_command"]

_CALLS, _TASKS = 5000, 100_000
_QUICK = 10  # so many times less
_HTTP_RATIO, _IN_PROCESS_RATE, _TASK_BYTES, _START_RATIO, _CHECK_S = 1.6, 3000.0, 2048.0, 3.0, 0.5
_WORKFLOW = "hypotheses"
_PIPE_WIDTH = 200


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


def overhead_command(
    quick: Annotated[bool, typer.Option("--quick", help="A tenth of the calls and tasks.")] = False,
    out: OutputOption = None,
    json: JsonFlag = False,
) -> None:
    """Measure what agentmesh itself costs: CPU per call, calls per second, bytes per waiting task, time to start.

    Each figure is the best of several rounds: whatever else the machine does only adds to them.

    Example: agentmesh perf overhead --quick
    """
    figures = list(_measure(_QUICK if quick else 1))
    document = jsonlib.dumps(_document(figures, quick=quick), indent=2, ensure_ascii=False) + "\n"
    if json:
        typer.echo(document, nl=False)
    else:
        _print(figures)
    if out is not None:
        try:
            write_whole(out, document)
        except OSError as error:
            raise UserError(f"-o {out}: cannot be written: {error.strerror or error}") from None


def _measure(divisor: int) -> Iterator[Figure]:
    calls, tasks = _CALLS // divisor, _TASKS // divisor
    for journal in (False, True):
        words = f"in process, {'with' if journal else 'without'} a journal"
        _say(f"{calls:,} calls {words}")
        rate = calls_in_process(calls, journal=journal)
        yield Figure(f"calls per second {words}", rate, _IN_PROCESS_RATE, "/s", f"{calls:,} calls", least=True)
    yield from _over_http(calls)
    _say(f"{tasks:,} waiting tasks")
    weight = bytes_per_waiting_task(tasks)
    yield Figure("a waiting task, beyond its prompt", weight, _TASK_BYTES, "B", f"{tasks:,} tasks")
    yield from _starts()


def _over_http(calls: int) -> Iterator[Figure]:
    """The whole path against a bare client of the same transport."""
    _say(f"{calls:,} calls over HTTP, in three ways")
    costs = calls_over_http(calls)
    server = f"{calls:,} calls, a server at {1000 * SERVER_S:g} ms"
    for words, cost in (("without", costs.without_journal), ("with", costs.with_journal)):
        yield Figure(
            f"CPU per call over HTTP, {words} a journal", cost / costs.bare, _HTTP_RATIO, "x a bare client",
            f"{1000 * cost:.2f} against {1000 * costs.bare:.2f} ms; {server}",
        )  # fmt: skip


def _starts() -> Iterator[Figure]:
    _say("starts of the command line")
    bare, version, check = seconds_to_run(
        ["-c", "import sys"], ["-m", "agentmesh", "--version"], ["-m", "agentmesh", "check", _WORKFLOW, "--no-keys"]
    )
    against = f"{1000 * version:.0f} against {1000 * bare:.0f} ms"
    yield Figure("agentmesh --version", version / bare, _START_RATIO, "x a bare interpreter", against)
    yield Figure(f"agentmesh check {_WORKFLOW}", check, _CHECK_S, "s", "the whole process")


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _document(figures: Sequence[Figure], *, quick: bool) -> dict[str, Any]:
    return {
        "format": 1, "benchmark": "overhead", "agentmesh": __version__,
        "at": datetime.fromtimestamp(wall(), UTC).isoformat(timespec="seconds"), "python": platform.python_version(),
        "platform": platform.platform(), "cpus": os.cpu_count(), "quick": quick,
        "rows": [figure.as_json() for figure in figures],
    }  # fmt: skip


def _print(figures: Sequence[Figure]) -> None:
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    table = Table(title="What agentmesh itself costs", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
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
