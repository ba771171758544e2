"""The scenarios of the throughput benchmark: a strict server, what its client is told, what is asked and wanted."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from ...catalog.spec import Failure
from ...rates import Limit
from ...simulate.behaviour import Behaviour, Served, ServedModel
from ...simulate.beside import Change, Neighbour
from .bounds import Allowance
from .throughput_jobs import MODEL, Job

__all__ = ["SCENARIOS", "Scenario", "Target", "jobs_of", "served_of"]

FAULTS: dict[Failure, float] = {
    "500": 0.03, "503": 0.02, "529": 0.02, "drop": 0.02, "reset": 0.015, "truncate": 0.015, "stall": 0.01,
}  # fmt: skip
"""Shares of attempts: 13 % in all."""

_STALL_S = 8.0
_CHARACTERS = (3.5, 3.9)  # per token: not what anybody expects, and not the same for all texts
_DEFAULT = Behaviour(first_token_s=0.4, per_token_s=0.005, jitter=0.5, stall_s=_STALL_S)

Draw = Callable[[random.Random, float], Iterator[Job]]
"""Jobs without end, for a benchmark of so many seconds; numbers, texts and faults are added afterwards."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is wanted: makespan divided by the bound, refused divided by calls; how many seconds later than in the queue
    the largest twentieth may go. `after_s` leaves out the first seconds; in real time `real_makespan` holds, if said,
    and the client's CPU seconds per call and its peak memory in bytes.
    """

    makespan: float
    refused: float = 0.0
    late_s: float | None = None
    after_s: float = 0.0
    real_makespan: float | None = None
    cpu_s: float | None = None
    peak: float | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """One scenario. The client's provider file says `told`; None: the limits that the server begins with."""

    name: str
    about: str
    target: Target
    draw: Draw
    limits: tuple[Limit, ...]
    told: tuple[Limit, ...] | None = None
    behaviour: Behaviour = _DEFAULT
    changes: tuple[tuple[float, tuple[Limit, ...]], ...] = ()  # after which share of the time
    neighbour: float = 0.0  # the share of the limits that it takes
    faults: bool = False
    tells_limits: bool = True
    tells_wait: bool = True

    def known(self, seconds: float) -> tuple[Limit, ...]:
        """What the client's provider file says in a benchmark of so many seconds."""
        return tuple(_window(limit, seconds) for limit in (self.limits if self.told is None else self.told))


def served_of(scenario: Scenario, *, seconds: float, seed: int) -> Served:
    """The scenario's server, for a benchmark of so many seconds."""
    return Served(
        {MODEL: ServedModel(MODEL, scenario.behaviour)},
        tuple(_window(limit, seconds) for limit in scenario.limits),
        title=scenario.name,
        seed=seed,
        changes=tuple(Change(share * seconds, limits) for share, limits in scenario.changes),
        neighbour=_neighbour(scenario),
        tells_limits=scenario.tells_limits,
        tells_wait=scenario.tells_wait,
    )


def _window(limit: Limit, seconds: float) -> Limit:
    """A fixed window of a minute needs minutes: in less time it is one of a second, at the same rate."""
    if limit.shape == "bucket" or seconds >= 2 * limit.window:
        return limit
    return replace(limit, limit=limit.per_second, window=1.0)


def _neighbour(scenario: Scenario) -> Neighbour | None:
    if not scenario.neighbour:
        return None
    rates = {limit.unit: scenario.neighbour * limit.per_second for limit in scenario.limits}
    per_second = rates["requests"]
    return Neighbour(per_second, input_tokens=round(rates["tokens"] / per_second))


def jobs_of(scenario: Scenario, *, seconds: float, seed: int) -> list[Job]:
    """As many calls as the limits allow in so many seconds."""
    served = served_of(scenario, seconds=seconds, seed=seed)
    rng = random.Random(f"{scenario.name} {seed}")
    left = {limit.name: Allowance(limit, served).units(seconds) for limit in served.limits}
    found: list[Job] = []
    for number, drawn in enumerate(scenario.draw(rng, seconds)):
        job = replace(
            drawn, number=number, slowness=1.0 + scenario.behaviour.jitter * rng.uniform(-1.0, 1.0),
            characters=math.ceil(drawn.input_tokens * rng.uniform(*_CHARACTERS)),
            faults=tuple(_faults(rng)) if scenario.faults else (),
        )  # fmt: skip
        for limit in served.limits:
            for attempt in range(job.attempts):
                slot = job.seconds(attempt, scenario.behaviour) if limit.unit == "in_flight" else 1.0
                left[limit.name] -= slot * job.use(limit, attempt)
        if found and min(left.values()) < 0.0:
            return found
        found.append(job)
    return found


def _faults(rng: random.Random) -> Iterator[Failure]:
    kinds, shares = list(FAULTS), list(FAULTS.values())
    while rng.random() < sum(shares):
        yield rng.choices(kinds, shares)[0]


def _job(input_tokens: float, output_tokens: float, *, max_tokens: int | None = 200) -> Job:
    return Job(0, round(input_tokens), round(output_tokens), 0, max_tokens=max_tokens)


def _plain(rng: random.Random, seconds: float) -> Iterator[Job]:
    """Questions of a few hundred tokens."""
    while True:
        yield _job(rng.uniform(50, 300), rng.uniform(60, 180))


def _uneven(rng: random.Random, seconds: float) -> Iterator[Job]:
    """From twenty to twenty thousand tokens, each power of ten as often as the others."""
    while True:
        yield _job(10 ** rng.uniform(math.log10(20), math.log10(20_000)), rng.uniform(60, 180))


def _mixed(rng: random.Random, seconds: float) -> Iterator[Job]:
    """Short and long ones in turn, a few dozen each: now the one limit binds, now the other."""
    for stretch in itertools.count():
        middle = 400 if stretch % 2 == 0 else 1500
        for _ in range(rng.randint(20, 60)):
            yield _job(middle * rng.lognormvariate(0.0, 0.5), rng.uniform(60, 180))


def _talkative(rng: random.Random, seconds: float) -> Iterator[Job]:
    """Short questions whose replies are as long as they please: ten to four thousand tokens."""
    while True:
        output = min(4000.0, max(10.0, rng.lognormvariate(math.log(300), 0.9)))
        yield _job(rng.uniform(30, 120), output, max_tokens=None)


def _burst(rng: random.Random, seconds: float) -> Iterator[Job]:
    """Two fifths of what the limits allow at the beginning, the rest one by one at seven tenths of their rate."""
    plain = _plain(rng, seconds)
    yield from itertools.islice(plain, int(0.4 * _RPM / 60 * seconds))
    at = 0.0
    for job in plain:
        at += rng.expovariate(0.7 * _RPM / 60)
        yield replace(job, at=at)


def _ranked(rng: random.Random, seconds: float) -> Iterator[Job]:
    """Half of the calls at the beginning, half in the course of time, each of one of five priorities."""
    plain = _plain(rng, seconds)
    first = int(0.5 * _RPM / 60 * seconds)
    at = 0.0
    for number, job in enumerate(plain):
        at += 0.0 if number < first else rng.expovariate(0.6 * _RPM / 60)
        yield replace(job, at=at, priority=float(rng.randint(-2, 2)))


_RPM = 600.0
_BOTH = (Limit("requests", _RPM), Limit("tokens", 600_000))
_ALONE = Target(1.015, 0.001)

SCENARIOS: dict[str, Scenario] = {
    one.name: one
    for one in (
        Scenario("requests", "requests-bound", Target(1.015, 0.0, cpu_s=0.002, peak=80e6), _plain,
                 (Limit("requests", 900),)),
        Scenario("tokens", "tokens-bound, sizes over three orders", Target(1.01, 0.001, 10.0), _uneven,
                 (Limit("tokens", 600_000),)),
        Scenario("both", "requests and tokens in turn", _ALONE, _mixed, _BOTH),
        Scenario("output", "output-bound, lengths unpredictable", _ALONE, _talkative,
                 (Limit("requests", _RPM), Limit("output_tokens", 150_000)),
                 behaviour=replace(_DEFAULT, per_token_s=0.004)),
        Scenario("burst", "a burst, then steady", _ALONE, _burst, (Limit("requests", _RPM),)),
        Scenario("fixed", "a fixed window", _ALONE, _plain, (Limit("requests", _RPM, shape="fixed"),)),
        Scenario("changes", "limits that change in the middle", Target(1.05, 0.005), _plain,
                 (Limit("requests", _RPM),),
                 changes=((1 / 3, (Limit("requests", 360),)), (2 / 3, (Limit("requests", 900),)))),
        Scenario("headers", "limits told only by headers", Target(1.05, 0.005), _mixed, _BOTH, told=()),
        Scenario("unknown", "no headers: limits unknown", Target(1.15, 0.03, after_s=30.0), _plain,
                 (Limit("requests", _RPM),), told=(), tells_limits=False, tells_wait=False),
        Scenario("cap", "an untold cap of 64 in flight", Target(1.15, 0.02), _plain,
                 (Limit("requests", 1800), Limit("in_flight", 64)), told=(Limit("requests", 1800),),
                 behaviour=replace(_DEFAULT, first_token_s=4.4), tells_wait=False),
        Scenario("neighbour", "a neighbour who takes 30 %", Target(1.08, 0.02), _mixed, _BOTH, neighbour=0.3),
        Scenario("faults", "13 % of attempts faulty", Target(1.05, 0.005, real_makespan=1.2), _plain,
                 (Limit("requests", _RPM),), faults=True),
        Scenario("priorities", "five priorities", _ALONE, _ranked, (Limit("requests", _RPM),)),
    )
}  # fmt: skip
