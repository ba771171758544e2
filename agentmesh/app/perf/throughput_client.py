"""The client of a throughput scenario: asks all its calls through a mesh and notes what came of each attempt.

Run as `python -m agentmesh.app.perf.throughput_client SCENARIO SECONDS SEED BASE_URL` it asks a server elsewhere, in a
process whose CPU time and memory are its own, and prints what it found as one line of JSON.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from ...catalog import Catalog
from ...clock import monotonic, sleep
from ...events import CallEnded, CallIntent, Event, TaskEnded
from ...mesh.mesh import Mesh
from ...mesh.run import Run
from ...mesh.work import Job as Performed
from ...mesh.work import Work
from ...outcome import Address
from ...simulate.provider import SimulatedProvider
from ...simulate.strict import ServerStatistics
from ...simulate.transport import InProcessTransport
from ...simulate.virtual import run_virtual
from .throughput_jobs import MODEL, Job, JobReplies, request_of
from .throughput_scenarios import SCENARIOS, Scenario, jobs_of, served_of

__all__ = ["Attempt", "Found", "ask_in_process", "ask_over_http", "main"]

_PROVIDER = "measured"
_MODEL = f"{_PROVIDER}/{MODEL}"
_TASK = "call"
_AT_ONCE = 100  # calls that enter the graph before others get a turn
_PATIENCE = 2.0  # times the length of a scenario that it may take, before it is cut short
_PATIENCE_S = 60.0
_FAILURES = 5  # that are kept in words


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of a job: when it was admitted and when it ended, in seconds since the start.

    `result` is ok, pushed_back or failed.
    """

    number: int
    admitted: float
    ended: float
    result: str


@dataclass(slots=True)
class Found:
    """What a client saw, in seconds from when its first call could be sent.

    CPU seconds and peak memory in bytes are those of its process; None where a server is in it. `failures` has the
    first errors in words.
    """

    makespan: float = 0.0
    answered: int = 0
    failures: list[str] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    bounded_by: str | None = None
    cpu: float | None = None
    peak: int | None = None


class _Notes:
    """Hears the events of a run and keeps when each attempt began and ended."""

    def __init__(self) -> None:
        self.found = Found()
        self._start = monotonic()
        self._admitted: dict[str, float] = {}

    def hear(self, event: Event) -> None:
        match event:
            case CallIntent():
                self._admitted[event.address] = monotonic() - self._start
            case CallEnded():
                began, now = self._admitted[event.address], monotonic() - self._start
                number = int(event.address.rpartition("/")[2])
                self.found.attempts.append(Attempt(number, began, now, event.result))
            case TaskEnded():
                self.found.makespan = monotonic() - self._start
                self.found.answered += event.outcome.ok
                if event.outcome.error is not None and len(self.found.failures) < _FAILURES:
                    self.found.failures.append(str(event.outcome.error))


def ask_over_http(scenario: Scenario, base_url: str, *, seconds: float, seed: int) -> Found:
    """Ask the server at this address, in real time, with a journal and everything else that a user has."""
    jobs = jobs_of(scenario, seconds=seconds, seed=seed)
    with _folder(scenario, base_url, seconds=seconds) as (folder, catalog):

        async def ask() -> Found:
            mesh = Mesh(catalog=catalog, journal=folder / "journal", seed=seed, remembers=False)  # all begin alike
            async with mesh:
                return await _ask(mesh, jobs, seconds=seconds)

        found = anyio.run(ask)
    found.peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return found


def ask_in_process(scenario: Scenario, *, seconds: float, seed: int) -> tuple[Found, ServerStatistics]:
    """Ask a server of one's own on a virtual clock. No journal: its thread would be all that takes time."""
    jobs = jobs_of(scenario, seconds=seconds, seed=seed)
    replies = JobReplies(jobs)
    provider = SimulatedProvider(served_of(scenario, seconds=seconds, seed=seed), replies, fates=replies.fate)
    with _folder(scenario, "http://simulated.invalid/v1", seconds=seconds) as (_, catalog):

        async def ask() -> Found:
            async with Mesh(catalog=catalog, journal=None, seed=seed, http=InProcessTransport(provider)) as mesh:
                return await _ask(mesh, jobs, seconds=seconds)

        found = run_virtual(ask)
    found.cpu = None  # the server's is in it
    return found, provider.statistics()


@contextlib.contextmanager
def _folder(scenario: Scenario, base_url: str, *, seconds: float) -> Iterator[tuple[Path, Catalog]]:
    """A folder to work in, and what a user would have written down of the server."""
    limits = {limit.name: {"limit": limit.limit, "shape": limit.shape} for limit in scenario.known(seconds)}
    spec = {
        "provider": _PROVIDER, "dialect": "openai-chat", "base_url": base_url, "limits": limits,
        "models": {MODEL: {"prices": "free"}},
    }  # fmt: skip
    with TemporaryDirectory(prefix="agentmesh-perf-") as name:
        path = Path(name, f"{_PROVIDER}.yaml")
        path.write_text(json.dumps(spec), encoding="utf-8")  # JSON is YAML
        yield path.parent, Catalog.load([path])


async def _ask(mesh: Mesh, jobs: Sequence[Job], *, seconds: float) -> Found:
    mesh.route([_MODEL])  # what is only imported now is no call's doing
    notes = _Notes()
    before = time.process_time()
    async with mesh.open_run("throughput", failures="report", watchers=[notes.hear]) as run:
        with anyio.move_on_after(_PATIENCE * seconds + _PATIENCE_S) as scope:
            await _start(run, jobs)
            await run.runner.wait_finished()
        if scope.cancelled_caught:
            await run.cancel(grace=0.0)
    notes.found.cpu = time.process_time() - before
    notes.found.bounded_by = next((lane.bounded_by for lane in mesh.statistics()), None)
    return notes.found


async def _start(run: Run, jobs: Sequence[Job]) -> None:
    """Put every job into the graph when it is due."""
    start = monotonic()
    lane = run.lane_of([_MODEL])

    async def perform(performed: Performed) -> None:
        request = request_of(jobs[int(performed.node.address.key or 0)])
        await performed.run.mesh.route([_MODEL]).call(request, performed.caller)

    work = Work(perform)
    for place, job in enumerate(sorted(jobs, key=lambda job: job.at)):
        if (early := start + job.at - monotonic()) > 0.0:
            await sleep(early)
        run.add(work, address=Address(_TASK, str(job.number)), lane=lane, priority=job.priority)
        if place % _AT_ONCE == _AT_ONCE - 1:
            await run.record.journal.room()
            await sleep(0)


def main(arguments: Sequence[str]) -> None:
    """Ask over HTTP and print what was found."""
    name, seconds, seed, base_url = arguments
    found = ask_over_http(SCENARIOS[name], base_url, seconds=float(seconds), seed=int(seed))
    sys.stdout.write(json.dumps(asdict(found)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
