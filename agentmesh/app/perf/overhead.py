"""`agentmesh perf overhead`: what agentmesh itself costs, beside what it may cost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from ..options import JsonFlag, OutputOption
from .calls import SERVER_S, calls_in_process, calls_over_http
from .figures import Figure, report, say
from .starting import seconds_to_run
from .waiting import bytes_per_waiting_task

__all__ = ["Figure", "overhead_command"]

_CALLS, _TASKS = 5000, 100_000
_QUICK = 10  # so many times less
_HTTP_RATIO, _IN_PROCESS_RATE, _TASK_BYTES, _START_RATIO, _CHECK_S = 1.6, 3000.0, 2048.0, 3.0, 0.5
_WORKFLOW = "hypotheses"


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
    report(figures, "overhead", title="What agentmesh itself costs", quick=quick, json=json, out=out)


def _measure(divisor: int) -> Iterator[Figure]:
    calls, tasks = _CALLS // divisor, _TASKS // divisor
    for journal in (False, True):
        words = f"in process, {'with' if journal else 'without'} a journal"
        say(f"{calls:,} calls {words}")
        rate = calls_in_process(calls, journal=journal)
        yield Figure(f"calls per second {words}", rate, _IN_PROCESS_RATE, "/s", f"{calls:,} calls", least=True)
    yield from _over_http(calls)
    say(f"{tasks:,} waiting tasks")
    weight = bytes_per_waiting_task(tasks)
    yield Figure("a waiting task, beyond its prompt", weight, _TASK_BYTES, "B", f"{tasks:,} tasks")
    yield from _starts()


def _over_http(calls: int) -> Iterator[Figure]:
    """The whole path against a bare client of the same transport."""
    say(f"{calls:,} calls over HTTP, in three ways")
    costs = calls_over_http(calls)
    server = f"{calls:,} calls, a server at {1000 * SERVER_S:g} ms"
    for words, cost in (("without", costs.without_journal), ("with", costs.with_journal)):
        yield Figure(
            f"CPU per call over HTTP, {words} a journal", cost / costs.bare, _HTTP_RATIO, "x a bare client",
            f"{1000 * cost:.2f} against {1000 * costs.bare:.2f} ms; {server}",
        )  # fmt: skip


def _starts() -> Iterator[Figure]:
    say("starts of the command line")
    bare, version, check = seconds_to_run(
        ["-c", "import sys"], ["-m", "agentmesh", "--version"], ["-m", "agentmesh", "check", _WORKFLOW, "--no-keys"]
    )
    against = f"{1000 * version:.0f} against {1000 * bare:.0f} ms"
    yield Figure("agentmesh --version", version / bare, _START_RATIO, "x a bare interpreter", against)
    yield Figure(f"agentmesh check {_WORKFLOW}", check, _CHECK_S, "s", "the whole process")
