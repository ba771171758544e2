"""What a throughput scenario came to: its figures beside the bounds, over several seeds, and beside what is wanted."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any, Literal

from ...simulate.behaviour import Served
from ...simulate.strict import ServerStatistics
from .bounds import Allowance, Queue, clairvoyant, first_in_first_out
from .throughput_client import Attempt, Found
from .throughput_jobs import Job
from .throughput_scenarios import Scenario

__all__ = ["Face", "Row", "Score", "score", "wait_ratio"]

Face = Literal["real", "virtual"]
"""Of the clock: with a server in another process over HTTP, or in this one on a virtual clock."""


@dataclass(frozen=True, slots=True)
class Score:
    """One seed of one scenario. Times are in seconds, shares between 0 and 1.

    `quota` is the share of what the limit that was used most allowed, from the first admission to the last. The waits
    are the longest from when a call was there until its last admission, of the largest tenth and of the others; `late`
    says how much later than in the queue one of the largest twentieth went at most. `waits` has the mean wait by
    priority, the queue's beside it. `after` is the ratio to the bound from the target's `after_s` on; None where there
    was no more time than that.
    """

    seed: int
    calls: int
    answered: int
    attempts: int
    refused: int
    makespan: float
    bound: float
    clairvoyant: float
    after: float | None
    quota: float
    wait_largest: float
    wait_rest: float
    late: float
    waits: dict[str, tuple[float, float]]
    cpu: float | None
    peak: int | None
    bounded_by: str | None
    failures: tuple[str, ...]


def score(found: Found, server: ServerStatistics, *, scenario: Scenario, jobs: Sequence[Job], served: Served) -> Score:
    """The figures of what a client found and its server counted."""
    queue = first_in_first_out(jobs, served)
    admitted = {one.number: one.admitted for one in found.attempts}  # the last attempt of each counts
    by_size = sorted(jobs, key=lambda job: job.input_tokens + job.output_tokens, reverse=True)
    tenth, twentieth = (by_size[: math.ceil(len(jobs) / parts)] for parts in (10, 20))
    in_queue = dict(zip((job.number for job in jobs), queue.admitted, strict=True))
    late = (admitted[job.number] - in_queue[job.number] for job in twentieth if job.number in admitted)
    return Score(
        seed=served.seed, calls=len(jobs), answered=found.answered, attempts=server.accepted, refused=server.refused,
        makespan=found.makespan, bound=queue.makespan, clairvoyant=clairvoyant(jobs, served),
        after=_after(scenario.target.after_s, found, queue, admitted=admitted, jobs=jobs, served=served),
        quota=_quota(found.attempts, jobs, served),
        wait_largest=_longest(tenth, admitted),
        wait_rest=_longest(by_size[len(tenth) :], admitted),
        late=max(late, default=0.0), waits=_waits(jobs, admitted, in_queue=in_queue),
        cpu=None if found.cpu is None else found.cpu / len(jobs),
        peak=found.peak, bounded_by=found.bounded_by, failures=tuple(found.failures),
    )  # fmt: skip


def _longest(jobs: Sequence[Job], admitted: dict[int, float]) -> float:
    return max((admitted[job.number] - job.at for job in jobs if job.number in admitted), default=0.0)


def _waits(
    jobs: Sequence[Job], admitted: dict[int, float], *, in_queue: dict[int, float]
) -> dict[str, tuple[float, float]]:
    found = {}
    for priority in sorted({job.priority for job in jobs}):
        of = [job for job in jobs if job.priority == priority and job.number in admitted]
        if of:
            ours, there = (fmean(when[job.number] - job.at for job in of) for when in (admitted, in_queue))
            found[f"{priority:g}"] = (ours, there)
    return found


def _after(
    after_s: float, found: Found, queue: Queue, *, admitted: dict[int, float], jobs: Sequence[Job], served: Served
) -> float | None:
    """How long what was admitted later took, divided by a queue of nothing else at limits that are unused."""
    if not after_s:
        return found.makespan / queue.makespan
    rest = [replace(job, at=max(0.0, job.at - after_s)) for job in jobs if admitted.get(job.number, after_s) >= after_s]
    if not rest:
        return None
    return (found.makespan - after_s) / first_in_first_out(rest, served).makespan


def _quota(attempts: Sequence[Attempt], jobs: Sequence[Job], served: Served) -> float:
    counted = sorted((one for one in attempts if one.result != "pushed_back"), key=lambda one: one.admitted)
    if not counted:
        return 0.0
    first, last = counted[0].admitted, counted[-1].admitted
    by_number = {job.number: job for job in jobs}
    used = dict.fromkeys((limit.name for limit in served.limits), 0.0)
    tries: dict[int, int] = {}
    for one in counted:
        number = tries[one.number] = tries.get(one.number, -1) + 1
        for limit in served.limits:
            slot = min(one.ended, last) - one.admitted if limit.unit == "in_flight" else 1.0
            used[limit.name] += slot * by_number[one.number].use(limit, number)
    return max(
        (
            used[limit.name] / allowed
            for limit in served.limits
            if (allowed := Allowance(limit, served).units(last - first))
        ),
        default=0.0,
    )


@dataclass(frozen=True, slots=True)
class Row:
    """A scenario in real or in virtual time, `seconds` long, over all of its seeds."""

    scenario: Scenario
    face: Face
    seconds: float
    scores: tuple[Score, ...]

    def mean(self, figure: Callable[[Score], float]) -> float:
        """The mean of a figure over the seeds."""
        return fmean(map(figure, self.scores))

    @property
    def ratio(self) -> float:
        """Makespan divided by the bound."""
        return self.mean(lambda one: one.makespan / one.bound)

    @property
    def refused(self) -> float:
        """Refusals divided by calls."""
        return sum(one.refused for one in self.scores) / sum(one.calls for one in self.scores)

    @property
    def wanted(self) -> float:
        """The target's ratio on this face of the clock."""
        target = self.scenario.target
        return target.makespan if self.face == "virtual" or target.real_makespan is None else target.real_makespan

    @property
    def missed(self) -> tuple[str, ...] | None:
        """Which targets were missed, in words; None if the time was too short to tell."""
        target, missed = self.scenario.target, []
        ratios = [one.after for one in self.scores if one.after is not None]
        if len(ratios) < len(self.scores):
            return None
        if fmean(ratios) > self.wanted:
            missed.append("makespan")
        if self.refused > target.refused:
            missed.append("refused")
        if target.late_s is not None and max(one.late for one in self.scores) > target.late_s:
            missed.append("largest late")
        if any(one.answered < one.calls for one in self.scores):
            missed.append("unanswered")
        if target.cpu_s is not None and any(one.cpu is not None and one.cpu > target.cpu_s for one in self.scores):
            missed.append("CPU")
        if target.peak is not None and any(one.peak is not None and one.peak > target.peak for one in self.scores):
            missed.append("memory")
        return tuple(missed)

    @property
    def verdict(self) -> str:
        """`ok`, what was missed, or that nobody can tell."""
        if self.missed is None:
            return "too short to tell"
        return f"missed: {', '.join(self.missed)}" if self.missed else "ok"

    def as_json(self) -> dict[str, Any]:
        """All figures, in plain data; `runs` has those of each seed."""
        return {
            "scenario": self.scenario.name, "about": self.scenario.about, "time": self.face, "seconds": self.seconds,
            "seeds": len(self.scores), "target": asdict(self.scenario.target),
            "makespan_to_bound": self.ratio,
            "makespan_to_bound_worst": max(one.makespan / one.bound for one in self.scores),
            "makespan_to_clairvoyant": self.mean(lambda one: one.makespan / one.clairvoyant),
            "refused_to_calls": self.refused, "quota_used": self.mean(lambda one: one.quota),
            "wait_largest_to_rest": self.mean(wait_ratio),
            "missed": None if self.missed is None else list(self.missed), "runs": [asdict(one) for one in self.scores],
        }  # fmt: skip


def wait_ratio(one: Score) -> float:
    """The longest wait of the largest tenth, divided by that of the rest; 1 where nobody waited."""
    return one.wait_largest / one.wait_rest if one.wait_rest > 0.0 else 1.0
