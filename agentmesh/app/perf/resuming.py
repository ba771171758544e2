"""How long a run of many finished tasks takes to go on: from opening it to its first new call."""

from __future__ import annotations

import time

import anyio

from ...agents.agent import Agent
from ...errors import UserError
from ...events import CallIntent, Event
from ...mesh.mesh import Mesh
from ...mesh.run import Run
from .calls import MODEL, measured_mesh, measured_provider

__all__ = ["seconds_to_go_on"]

_NAME = "many"
_READER = Agent[str]("reader", model=MODEL)


def seconds_to_go_on(tasks: int) -> tuple[float, float]:
    """Seconds, and seconds of CPU, until a run with so many finished tasks sends its first new call."""
    with measured_provider() as path:
        anyio.run(_finish, measured_mesh(path, journal=True), tasks)
        return anyio.run(_go_on, measured_mesh(path, journal=True), tasks)


async def _finish(mesh: Mesh, tasks: int) -> None:
    """As many tasks as that, and then a stop: the run is unfinished, and all in it is."""
    async with mesh, mesh.open_run(_NAME, failures="report") as run:
        _start(run, tasks)
        await run.runner.wait_finished()
        run.stop("stopped", "to be gone on with")


async def _go_on(mesh: Mesh, tasks: int) -> tuple[float, float]:
    sent: list[tuple[float, float]] = []

    def watch(event: Event) -> None:
        if isinstance(event, CallIntent) and not sent:
            sent.append((time.perf_counter() - began, time.process_time() - cpu))

    async with mesh:
        began, cpu = time.perf_counter(), time.process_time()
        async with mesh.open_run(_NAME, failures="report", resume=True, watchers=[watch]) as run:
            _start(run, tasks + 1)
        if run.record.usage.calls != tasks + 1:
            raise UserError(f"{run.record.usage.calls} calls were made for {tasks + 1} tasks")
    return sent[0]


def _start(run: Run, tasks: int) -> None:
    for number in range(tasks):
        run.start(_READER.on("{{ n }}", n=number), key=str(number))
