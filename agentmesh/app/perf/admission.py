"""`agentmesh perf admission`: what it costs a lane to admit one call, however many wait in it.

Three parts are timed apart: `enqueue` puts a call in its place, `admit` is every look of the lane at who may go, and
`settle` ends a call. The bound is for `admit`: all looks there were, those in vain too, divided by the calls that went.
The other two and the sum stand beside it. Reading the clock, some 0.3 µs each time, is in the figures.
"""

from __future__ import annotations

import gc
import math
import random
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import typer
from rich.console import Console

from ...limits.admission import Admission, Ticket
from ...limits.queue import Share
from ...rates import Limit
from ..options import JsonFlag, OutputOption
from .figures import new_table, publish, say

__all__ = ["SCENARIOS", "Cost", "Parts", "Scenario", "admission_command", "measure"]

_WAITING, _QUICK_WAITING = (1_000, 10_000, 100_000), (1_000, 10_000)
_ADMISSIONS, _ROUNDS, _QUICK_ROUNDS = 2_000, 7, 3
_MOST_S, _FLAT = (
    20e-6,
    1.5,
)  # seconds of `admit` for one call, and how many times as much with the most as with the fewest waiting
_PER_SECOND = 1000.0  # calls that may go, of all rows
_TOKENS = 400.0  # of a call, on average
_PRIORITIES = (-1.0, 0.0, 0.0, 0.0, 1.0)
_SPREAD = 1.2  # of the logarithm of a call's size: its largest are a thousand times its smallest
_IN_FLIGHT = 64
_DRAWN = 9973  # calls that are drawn once and asked again and again: chance is not what is measured


@dataclass(frozen=True, slots=True)
class Scenario:
    """What a lane is like: `by` is what holds its calls back, for each row by itself if `own`."""

    name: str
    rows: int
    shares: int
    by: str
    own: bool = False

    def limits(self) -> tuple[Limit, Limit]:
        """Requests and tokens, of which one binds."""
        per_second = _PER_SECOND / (self.rows if self.own else 1)
        spare = {"requests": 1.0, "tokens": 1.0} | {"tokens" if self.by == "requests" else "requests": 20.0}
        return (
            Limit("requests", 60 * per_second * spare["requests"]),
            Limit("tokens", 60 * per_second * spare["tokens"] * _TOKENS),
        )


SCENARIOS = (
    Scenario("one row, requests bind", 1, 1, "requests"),
    Scenario("one row, tokens bind", 1, 1, "tokens"),
    Scenario("300 rows, 10 shares, the account's requests bind", 300, 10, "requests"),
    Scenario("300 rows, 10 shares, the account's tokens bind", 300, 10, "tokens"),
    Scenario("300 rows, 10 shares, each row's requests bind", 300, 10, "requests", own=True),
    Scenario("300 rows, 10 shares, each row's tokens bind", 300, 10, "tokens", own=True),
)


@dataclass(frozen=True, slots=True)
class Parts:
    """Seconds of processor time for one call that went."""

    enqueue: float
    admit: float
    settle: float

    @property
    def sum(self) -> float:
        return self.enqueue + self.admit + self.settle


@dataclass(frozen=True, slots=True)
class Cost:
    """What one call costs in a scenario, by the number of calls that wait."""

    scenario: Scenario
    parts: dict[int, Parts]

    @property
    def most(self) -> Parts:
        """With the most calls waiting."""
        return self.parts[max(self.parts)]

    @property
    def growth(self) -> float:
        """Of `admit`: with the most calls waiting, divided by that with the fewest."""
        return self.most.admit / self.parts[min(self.parts)].admit

    @property
    def ok(self) -> bool:
        return self.most.admit <= _MOST_S and self.growth <= _FLAT

    def as_json(self) -> dict[str, Any]:
        """As it is written to files."""
        parts = {
            f"{name}_us": {str(waiting): 1e6 * getattr(one, name) for waiting, one in self.parts.items()}
            for name in ("admit", "enqueue", "settle", "sum")
        }
        return {
            "scenario": self.scenario.name, "rows": self.scenario.rows, "shares": self.scenario.shares, **parts,
            "growth": self.growth, "bound_us": 1e6 * _MOST_S, "bound_growth": _FLAT, "ok": self.ok,
        }  # fmt: skip


class _Traffic:
    """A lane with so many calls waiting, of which one goes and one comes again and again."""

    def __init__(self, scenario: Scenario, waiting: int) -> None:
        chance = random.Random(waiting)
        limits = scenario.limits()
        account = (Limit("in_flight", 100_000), *(() if scenario.own else limits))
        self._lane = Admission("measured", account, 0.0)
        self._rows = [self._lane.row(f"m{n}", limits if scenario.own else (), 0.0) for n in range(scenario.rows)]
        shares = [Share(f"run {n}", 1.0 + n % 3) for n in range(scenario.shares)]
        sizes = (4 * _TOKENS * chance.lognormvariate(-(_SPREAD**2) / 2, _SPREAD) for _ in range(_DRAWN))
        self._drawn = [(min(40_000, int(size)), chance.choice(_PRIORITIES), chance.choice(shares)) for size in sizes]
        self._flying: deque[Ticket] = deque()
        self._now = 0.0
        self._age = 0
        self.went = 0
        self.spent = {"enqueue": 0.0, "admit": 0.0, "settle": 0.0}  # seconds
        for _ in range(waiting):
            self._arrive()

    def _arrive(self) -> None:
        self._age += 1
        characters, priority, share = self._drawn[self._age % _DRAWN]
        row, order = self._rows[self._age % len(self._rows)], (priority, 0.0, self._age)
        began = time.process_time()
        self._lane.enqueue(
            row, characters=characters, kind="ask", max_tokens=1, order=order, now=self._now, share=share
        )  # fmt: skip
        self.spent["enqueue"] += time.process_time() - began

    def _look(self) -> int:
        """Let go whoever may, as often as a lane does: after each arrival, each end, and each time a timer rings."""
        began = time.process_time()
        admitted, _ = self._lane.admit(self._now)
        self.spent["admit"] += time.process_time() - began
        self._flying += admitted
        self.went += len(admitted)
        return len(admitted)

    def _end(self) -> None:
        ticket = self._flying.popleft()
        began = time.process_time()
        self._lane.settle(ticket, self._now, input_tokens=int(ticket.input_tokens), output_tokens=1)
        self.spent["settle"] += time.process_time() - began

    def step(self) -> None:
        """The time that one call's share of the limits takes: for each call that goes one ends, and another comes."""
        self._now += 1.0 / _PER_SECOND
        went = self._look()
        while went:
            went -= 1
            if len(self._flying) > _IN_FLIGHT:
                self._end()
                went += self._look()
            self._arrive()
            went += self._look()


def measure(scenario: Scenario, *, waiting: int, admissions: int = _ADMISSIONS, rounds: int = _ROUNDS) -> Parts:
    """What one call costs; of each part the best of several rounds."""
    traffic = _Traffic(scenario, waiting)
    best = dict.fromkeys(traffic.spent, math.inf)
    for number in range(-1, rounds):  # what had been saved up goes in the first one, which is free
        gc.collect()
        first, before = traffic.went, dict(traffic.spent)
        while traffic.went - first < admissions:
            traffic.step()
        if number >= 0:
            went = traffic.went - first
            best = {name: min(s, (traffic.spent[name] - before[name]) / went) for name, s in best.items()}
    return Parts(**best)


def admission_command(
    quick: Annotated[bool, typer.Option("--quick", help="At most 10,000 waiting calls, fewer rounds.")] = False,
    out: OutputOption = None,
    json: JsonFlag = False,
) -> None:
    """Measure what admitting one call costs while many wait.

    The bound is for letting it go (admit): all looks of the lane at who may go, those in vain too, for each call that
    went. Putting a call in its place (enqueue) and ending it (settle) are timed apart, and the sum stands beside them.

    Each figure is the best of several rounds: whatever else the machine does only adds to them.

    Example: agentmesh perf admission --quick
    """
    costs = list(_measure(quick=quick))
    publish(costs, "admission", show=partial(_show, costs), quick=quick, json=json, out=out)


def _measure(*, quick: bool) -> Iterator[Cost]:
    sizes, rounds = (_QUICK_WAITING, _QUICK_ROUNDS) if quick else (_WAITING, _ROUNDS)
    for scenario in SCENARIOS:
        say(scenario.name)
        yield Cost(scenario, {waiting: measure(scenario, waiting=waiting, rounds=rounds) for waiting in sizes})


def _show(costs: Sequence[Cost], console: Console) -> None:
    table = new_table("What admitting one call costs, in µs: admit, and enqueue, settle and the sum beside it")
    table.add_column("lane")
    for waiting in costs[0].parts:
        table.add_column(f"{waiting:,} waiting", justify="right")
    for name in ("bound", "largest ÷ smallest", "bound"):
        table.add_column(name, justify="right")
    table.add_column("")
    for name in ("enqueue", "settle", "sum"):  # with the most waiting
        table.add_column(name, justify="right")
    for one in costs:
        table.add_row(
            one.scenario.name, *(f"{1e6 * parts.admit:.1f}" for parts in one.parts.values()), f"≤ {1e6 * _MOST_S:g}",
            f"{one.growth:.2f}", f"≤ {_FLAT:g}", "ok" if one.ok else "missed",
            *(f"{1e6 * seconds:.1f}" for seconds in (one.most.enqueue, one.most.settle, one.most.sum)),
        )  # fmt: skip
    console.print(table)
