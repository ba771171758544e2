"""How fast a list of calls can be done at all: a queue exactly at the limits, and who knows everything beforehand.

Both are pure arithmetic over the calls' true sizes, latencies and faults. The queue is first in, first out (by
priority, where calls have one): its head goes as soon as all limits have room for what it will really use, those behind
it wait, and a failed attempt takes its old place at once. What happens to the account beside (limits that change, a
neighbour) happens to the queue too.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

from ...limits.meter import Meter, meter
from ...rates import Limit
from ...simulate.behaviour import Behaviour, Served
from ...simulate.beside import Beside
from .throughput_jobs import MODEL, Job

__all__ = ["Allowance", "Queue", "clairvoyant", "first_in_first_out", "limit_seconds"]


@dataclass(frozen=True, slots=True)
class Queue:
    """What came of a queue: when each job's last attempt was admitted, in the order of the jobs, and the end of all."""

    admitted: tuple[float, ...]
    makespan: float


def first_in_first_out(jobs: Sequence[Job], served: Served) -> Queue:
    """The queue over these jobs, in seconds from the first one. Raises ValueError for a job that no limit ever fits."""
    return _Line(jobs, served).run()


class _Line:
    """The queue while it is simulated."""

    def __init__(self, jobs: Sequence[Job], served: Served) -> None:
        self._jobs = {job.number: job for job in jobs}
        self._behaviour = served.models[MODEL].behaviour
        self._meters: list[Meter] = [meter(limit, 0.0) for limit in served.limits]
        self._beside = Beside(served.changes, served.neighbour, seed=served.seed)
        self._coming = sorted(jobs, key=lambda job: (job.at, job.number), reverse=True)
        self._waiting: list[tuple[float, float, int, int]] = []  # (-priority, at, number, attempt)
        self._running: list[tuple[float, int, int]] = []  # (end, number, attempt)
        self._admitted: dict[int, float] = {}

    def run(self) -> Queue:
        now = 0.0
        while self._coming or self._waiting or self._running:
            self._arrive(now)
            self._beside.follow(self._meters, now)
            wait = self._wait(now)
            if wait <= 0.0:
                self._go(now)
                continue
            coming = self._coming[-1].at if self._coming else math.inf
            ends = self._running[0][0] if self._running else math.inf
            following = min(now + wait, coming, ends)
            if following < math.inf:
                now = following
            elif self._waiting:
                raise ValueError(f"no limit will ever have room for job {self._waiting[0][2]}")
        return Queue(tuple(self._admitted[number] for number in self._jobs), now)

    def _arrive(self, now: float) -> None:
        while self._coming and self._coming[-1].at <= now:
            job = self._coming.pop()
            heapq.heappush(self._waiting, (-job.priority, job.at, job.number, 0))
        while self._running and self._running[0][0] <= now:
            _, number, attempt = heapq.heappop(self._running)
            job = self._jobs[number]
            for one in self._meters:
                if one.limit.unit == "in_flight":
                    one.give(1.0, now)
            if job.failure(attempt) is not None:
                heapq.heappush(self._waiting, (-job.priority, job.at, number, attempt + 1))

    def _wait(self, now: float) -> float:
        if not self._waiting:
            return math.inf
        _, _, number, attempt = self._waiting[0]
        job = self._jobs[number]
        return max((one.wait(job.use(one.limit, attempt), now) for one in self._meters), default=0.0)

    def _go(self, now: float) -> None:
        _, _, number, attempt = heapq.heappop(self._waiting)
        job = self._jobs[number]
        self._beside.begin(now)
        for one in self._meters:
            one.take(job.use(one.limit, attempt), now)
        self._admitted[number] = now
        heapq.heappush(self._running, (now + job.seconds(attempt, self._behaviour), number, attempt))


class Allowance:
    """What one limit of a server allows in all, from the first call on; what a neighbour takes is not there."""

    def __init__(self, limit: Limit, served: Served) -> None:
        self._limit = limit
        self._pieces = [(0.0, limit)]  # (from when on, the limit)
        for change in sorted(served.changes, key=lambda change: change.after_s):
            self._pieces += [(change.after_s, one) for one in change.limits if one.name == limit.name]
        neighbour = served.neighbour
        self._taken = 0.0  # by the neighbour, units per second
        if neighbour is not None and limit.unit != "in_flight":
            self._taken = neighbour.per_second * limit.used(neighbour.input_tokens, neighbour.output_tokens)

    def _rate(self, limit: Limit) -> float:
        return max(0.0, (limit.limit if limit.unit == "in_flight" else limit.per_second) - self._taken)

    def units(self, seconds: float) -> float:
        """The most that can have been used by then: in the limit's unit, of calls in flight in seconds of a slot."""
        limit = self._limit
        if limit.shape != "bucket":
            return self._of_window(limit) * (math.floor(seconds / limit.window) + 1)
        total = 0.0 if limit.unit == "in_flight" else limit.capacity
        for (since, one), (until, _) in zip(self._pieces, [*self._pieces[1:], (math.inf, limit)], strict=True):
            total += self._rate(one) * max(0.0, min(seconds, until) - since)
        return total

    def seconds(self, units: float) -> float:
        """The earliest time by which so much can have been used; inf for never."""
        limit = self._limit
        if limit.shape != "bucket":
            return max(0.0, math.ceil(units / self._of_window(limit) - 1e-9) - 1) * limit.window
        left = units - (0.0 if limit.unit == "in_flight" else limit.capacity)
        at = 0.0
        for (since, one), (until, _) in zip(self._pieces, [*self._pieces[1:], (math.inf, limit)], strict=True):
            if left <= 0.0:
                break
            rate = self._rate(one)
            span = min(until - since, left / rate if rate else math.inf)
            at, left = since + span, left - rate * span if rate else left
        return at

    def _of_window(self, limit: Limit) -> float:
        return limit.limit - self._taken * limit.window


def limit_seconds(jobs: Sequence[Job], served: Served) -> dict[str, float]:
    """By the name of each limit, the seconds until all attempts of all jobs can have been admitted under it alone."""
    behaviour = served.models[MODEL].behaviour
    found = {}
    for limit in served.limits:
        uses = [_use(job, limit, behaviour) for job in jobs]
        # Who comes last may leave a debt that nobody waits for.
        owed = max(0.0, max(uses) - limit.capacity) if limit.debt and limit.unit.endswith("tokens") else 0.0
        found[limit.name] = Allowance(limit, served).seconds(sum(uses) - owed)
    return found


def _use(job: Job, limit: Limit, behaviour: Behaviour) -> float:
    if limit.unit == "in_flight":
        return sum(job.seconds(attempt, behaviour) for attempt in range(job.attempts))
    return sum(job.use(limit, attempt) for attempt in range(job.attempts))


def clairvoyant(jobs: Sequence[Job], served: Served) -> float:
    """Seconds that nobody can do better than, in whatever order: what the slowest limit needs, and the shortest tail;
    or the longest way of a single job, from when it is there to the end of its last attempt."""
    behaviour = served.models[MODEL].behaviour
    slots = {limit.name for limit in served.limits if limit.unit == "in_flight"}
    tail = min(job.seconds(job.attempts - 1, behaviour) for job in jobs)
    needed = limit_seconds(jobs, served)
    by_limit = max((s + (0.0 if name in slots else tail) for name, s in needed.items()), default=0.0)
    alone = max(job.at + sum(job.seconds(n, behaviour) for n in range(job.attempts)) for job in jobs)
    return max(by_limit, alone)
