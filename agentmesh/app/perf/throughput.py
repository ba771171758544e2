"""`agentmesh perf throughput`: how near to what limits permit a whole client comes, against a strict simulated server.

Each scenario is measured in real time, with the server in a process of its own, and again in virtual time over several
seeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Annotated

import typer
from rich.console import Console

from ...errors import UserError
from ...marked_yaml import did_you_mean
from ..options import JsonFlag, OutputOption
from ..wording import plural
from .figures import publish, say
from .throughput_run import run_in_real_time, run_in_virtual_time
from .throughput_scenarios import SCENARIOS, Scenario
from .throughput_score import Face, Row
from .throughput_table import throughput_table

__all__ = ["throughput_command"]

_REAL_S, _QUICK_REAL_S = 50.0, 8.0  # of the queue at the limits, so that the slower client ends within 60 s and 10 s
_VIRTUAL_S, _QUICK_VIRTUAL_S = 600.0, 120.0
_SEEDS, _QUICK_SEEDS = 20, 3


def throughput_command(
    quick: Annotated[bool, typer.Option("--quick", help="Shorter runs, fewer seeds.")] = False,
    virtual: Annotated[
        bool, typer.Option("--virtual", help="In virtual time alone: no server process, no HTTP.")
    ] = False,
    scenario: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help=f"Only this one: {', '.join(SCENARIOS)}. Repeatable.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, metavar="N", help="Seeds in virtual time.")] = None,
    out: OutputOption = None,
    json: JsonFlag = False,
) -> None:
    """Measure how near to what rate limits permit the work is done, against a strict simulated server.

    The bound is a first-in-first-out queue exactly at the limits, with the same sizes, latencies and faults.

    Example: agentmesh perf throughput --quick --virtual --scenario tokens
    """
    chosen = [_scenario(name) for name in dict.fromkeys(scenario or SCENARIOS)]
    rows = list(_measure(chosen, quick=quick, virtual=virtual, seeds=seeds))
    publish(rows, "throughput", show=partial(_show, rows), quick=quick, json=json, out=out, provider="simulated")


def _scenario(name: str) -> Scenario:
    if name not in SCENARIOS:
        hint = did_you_mean(name, list(SCENARIOS))
        raise UserError(f"--scenario {name}: there is none of this name{f' ({hint})' if hint else ''}")
    return SCENARIOS[name]


def _measure(chosen: Sequence[Scenario], *, quick: bool, virtual: bool, seeds: int | None) -> Iterator[Row]:
    seconds = _QUICK_REAL_S if quick else _REAL_S
    for one in [] if virtual else chosen:
        say(f"{one.name}: {seconds:g} s in real time")
        yield Row(one, "real", seconds, (run_in_real_time(one, seconds=seconds, seed=0),))
    seconds, drawn = (_QUICK_VIRTUAL_S, _QUICK_SEEDS) if quick else (_VIRTUAL_S, _SEEDS)
    for one in chosen:
        say(f"{one.name}: {seconds / 60:g} virtual minutes, {plural(seeds or drawn, 'seed')}")
        scores = [run_in_virtual_time(one, seconds=seconds, seed=seed) for seed in range(seeds or drawn)]
        yield Row(one, "virtual", seconds, tuple(scores))


def _show(rows: Sequence[Row], console: Console) -> None:
    faces: dict[Face, str] = {"real": "in real time, over HTTP", "virtual": "in virtual time"}
    for face, words in faces.items():
        shown = [row for row in rows if row.face == face]
        if shown:
            length = f"{shown[0].seconds:g} s" + (
                f", {plural(len(shown[0].scores), 'seed')}" if face == "virtual" else ""
            )
            title = f"Throughput against a strict simulated provider, {words} ({length})"
            console.print(throughput_table(shown, title=title))
            for row in shown:
                _tell_failures(row)


def _tell_failures(row: Row) -> None:
    """What was not answered."""
    failed = sum(one.calls - one.answered for one in row.scores)
    if failed:
        why = next((text for one in row.scores for text in one.failures), "it was not done in time")
        say(f"{row.scenario.name}: {plural(failed, 'call')} not answered; the first: {why}")
