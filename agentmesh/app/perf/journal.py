"""`agentmesh perf journal`: what it costs to keep a journal, and how long it takes to look into a large one.

Everything is a ratio within one run: beside the same work without a journal, in turns, so that whatever else the
machine does meets both alike; and each figure is the best of several rounds, since that only ever adds to it.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import anyio
import typer

from ...agents.agent import Agent
from ...clock import in_thread
from ...errors import UserError
from ...events import CallEnded
from ...journal import Journal, NullJournal, RunFile, new_run_id
from ...mesh.mesh import Mesh
from ...messages import Reply
from ...outcome import Usage
from ..options import JsonFlag, OutputOption
from .calls import MODEL, canned_server, measured_mesh, measured_provider
from .figures import Figure, report, say
from .large_journal import write_large_journal
from .resuming import seconds_to_go_on
from .starting import seconds_to_run

__all__ = ["Paced", "Streamed", "journal_command", "paced_calls", "streamed_events"]

_EVENTS_PER_S, _EVENT_BYTES, _TICK_S = 5000, 1000, 0.001
_BLOCK_MS, _KEPT, _TURNS = 5.0, 0.99, 3
_CALLS_PER_S, _PAIRS = 1000, 5
_MAKESPAN, _CPU = 1.10, 1.15
_LARGE_BYTES, _LOOK_S, _RESUME_S = 1_000_000_000, 1.0, 3.0
_LIMITS = f"{{requests_per_minute: {{limit: {60 * _CALLS_PER_S}, burst: 20}}}}"


def journal_command(
    quick: Annotated[bool, typer.Option("--quick", help="Shorter, and a journal of 100 MB, not 1 GB.")] = False,
    out: OutputOption = None,
    json: JsonFlag = False,
) -> None:
    """Measure what a journal costs: how long it holds up the event loop, what it adds to a run, how fast it is read.

    Example: agentmesh perf journal --quick
    """
    figures = list(_measure(quick=quick))
    report(figures, "journal", title="What a journal costs", quick=quick, json=json, out=out)


def _measure(*, quick: bool) -> Iterator[Figure]:
    yield from _streams(2.0 if quick else 10.0)
    yield from _runs(1000 if quick else 2500)
    yield _resume(10_000 if quick else 100_000)
    yield from _looks(_LARGE_BYTES // 10 if quick else _LARGE_BYTES)


def _streams(seconds: float) -> Iterator[Figure]:
    say(f"{_EVENTS_PER_S:,} events per second for {seconds:g} s, {_TURNS} times without a journal and with one")
    turns = [(streamed_events(seconds, journal=False), streamed_events(seconds, journal=True)) for _ in range(_TURNS)]
    bare, kept = (min(some, key=lambda one: one.late_ms) for some in zip(*turns, strict=True))
    load = f"{_EVENTS_PER_S:,}/s of {_EVENT_BYTES / 1000:g} kB for {seconds:g} s, the calmest of {_TURNS} times"
    yield Figure(
        "events on disk per second", kept.rate, _KEPT * _EVENTS_PER_S, "/s",
        f"{load}; without a journal {bare.rate:,.0f}", least=True,
    )  # fmt: skip
    yield Figure(
        "the event loop held up, p99.9", kept.late_ms, _BLOCK_MS, "ms",
        f"without a journal {bare.late_ms:.2f} ms; CPU {kept.cpu_us:.0f} against {bare.cpu_us:.0f} µs per event",
    )  # fmt: skip


def _runs(calls: int) -> Iterator[Figure]:
    say(f"{calls:,} calls at {_CALLS_PER_S:,}/s, {_PAIRS} times in turns without a journal and with one")
    bare, kept = paced_calls(calls)
    of = f"{calls:,} calls at {_CALLS_PER_S:,}/s, of {_PAIRS} times"
    yield Figure(
        "makespan with a journal", kept.seconds / bare.seconds, _MAKESPAN, "x without",
        f"{kept.seconds:.2f} against {bare.seconds:.2f} s; the least of {of}",
    )  # fmt: skip
    yield Figure(
        "CPU with a journal", kept.cpu / bare.cpu, _CPU, "x without",
        f"{1000 * kept.cpu / calls:.2f} against {1000 * bare.cpu / calls:.2f} ms per call; the least of {of}",
    )  # fmt: skip


def _resume(tasks: int) -> Figure:
    say(f"a run of {tasks:,} tasks is made, and gone on with")
    seconds, cpu = seconds_to_go_on(tasks)
    of = f"{tasks:,} finished tasks, {cpu:.2f} s of CPU; from opening the run in Python"
    return Figure("until the first new call of a resume", seconds, _RESUME_S, "s", of)


def _looks(size: int) -> Iterator[Figure]:
    say(f"a journal of {size / 1e6:,.0f} MB is written")
    with TemporaryDirectory(prefix="agentmesh-perf-") as name:
        folder = Path(name)
        path, item = write_large_journal(folder, size)
        with RunFile.open(path) as run:
            events = run.last()
        say("agentmesh runs and show look into it")
        commands = {"runs": ["runs"], "show last": ["show", "last"], "show last ITEM": ["show", "last", item]}
        command = ["-m", "agentmesh"]
        taken = seconds_to_run(*([*command, *words, "--journal", name] for words in commands.values()))
        of = f"{path.stat().st_size / 1e6:,.0f} MB, {events:,} events; the whole process"
        for words, seconds in zip(commands, taken, strict=True):
            yield Figure(f"agentmesh {words}", seconds, _LOOK_S, "s", of)


@dataclass(frozen=True, slots=True)
class Streamed:
    """Events per second that were kept, ms by which a timer was late at p99.9, and microseconds of CPU per event."""

    rate: float
    late_ms: float
    cpu_us: float


def streamed_events(seconds: float, *, journal: bool) -> Streamed:
    """Append events at their pace while a timer tells each millisecond how late it is; all are on disk at the end."""
    with TemporaryDirectory(prefix="agentmesh-perf-") as name:
        return anyio.run(_stream, Path(name) if journal else None, seconds)


async def _stream(folder: Path | None, seconds: float) -> Streamed:
    run_id = new_run_id(time.time())
    journal = NullJournal() if folder is None else await in_thread(Journal.create, folder, run_id)
    late: list[float] = []

    async def tick() -> None:
        while True:
            due = time.perf_counter() + _TICK_S
            await anyio.sleep(_TICK_S)
            late.append(time.perf_counter() - due)

    total = int(seconds * _EVENTS_PER_S)
    gc.collect()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(journal.serve)
        tasks.start_soon(tick)
        began, cpu = time.perf_counter(), time.process_time()
        given = 0
        while given < total:
            due = min(total, int((time.perf_counter() - began) * _EVENTS_PER_S))
            for number in range(given, due):
                journal.append(_event(number))
            given = due
            await journal.room()
            await anyio.sleep(_TICK_S)
        await journal.durable()
        taken, cpu = time.perf_counter() - began, time.process_time() - cpu
        tasks.cancel_scope.cancel()
    await journal.aclose("done")
    late.sort()
    return Streamed(total / taken, 1e3 * late[int(0.999 * len(late))], 1e6 * cpu / total)


_TEXT = "What follows from less of the one needs no more of the other. " * (_EVENT_BYTES // 62 - 4)


def _event(number: int) -> CallEnded:
    return CallEnded(
        at=time.time(), call=number, attempt=1, address=f"read/{number}", agent="reader", account="measured",
        model=MODEL, result="ok", seconds=0.5, reply=Reply(f"{number}: {_TEXT}", "stop"),
        usage=Usage(1, input_tokens=100, output_tokens=200), usd=0.001,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Paced:
    """Seconds that a run took, and seconds of CPU in it."""

    seconds: float
    cpu: float


def paced_calls(calls: int) -> tuple[Paced, Paced]:
    """Calls at the pace of a limit to a server in a process of its own: without a journal and with one.

    Of several runs of each, in turns, the least of both: whatever else the machine does only adds to them.
    """
    taken: dict[bool, list[Paced]] = {False: [], True: []}
    for number in range(-1, _PAIRS):  # the first pair warms up
        for journal in (False, True):
            with canned_server() as port, measured_provider(url=f"http://127.0.0.1:{port}/v1", limits=_LIMITS) as path:
                once = anyio.run(_ask_all, measured_mesh(path, journal=journal), calls if number >= 0 else 100)
            if number >= 0:
                taken[journal].append(once)
    bare, kept = (
        Paced(min(one.seconds for one in some), min(one.cpu for one in some)) for some in taken.values()
    )  # fmt: skip
    return bare, kept


async def _ask_all(mesh: Mesh, calls: int) -> Paced:
    agent = Agent[str]("reader", model=MODEL)
    gc.collect()
    async with mesh:
        began, cpu = time.perf_counter(), time.process_time()
        async for outcome in mesh.map(
            lambda claim: agent.on("{{ claim }}", claim=claim), [f"{n}" for n in range(calls)]
        ):
            if not outcome.ok:
                raise UserError(f"a call to be measured was not answered: {outcome.error}")
        return Paced(time.perf_counter() - began, time.process_time() - cpu)
