"""What a waiting task weighs: many of them in a lane that admits nothing."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Sequence

import anyio

from ...agents.agent import Agent
from ...mesh.mesh import Mesh
from .calls import MODEL, measured_mesh, measured_provider

__all__ = ["bytes_per_waiting_task"]

_NEVER_S = 3600.0


def bytes_per_waiting_task(tasks: int) -> float:
    """Bytes that each of so many waiting tasks holds beyond its prompt, its handle included."""
    prompts = [f"Is claim {place} supported by what is known today?" for place in range(tasks)]
    with measured_provider(limits="{in_flight: 1}", seconds=_NEVER_S) as path:
        return anyio.run(_held, measured_mesh(path, journal=False), prompts)


async def _held(mesh: Mesh, prompts: Sequence[str]) -> float:
    agent = Agent[str]("reader", model=MODEL)
    with anyio.CancelScope() as scope:
        async with mesh, mesh.open_run("waiting", failures="report") as run:
            run.start(agent.on("The first keeps the only place."))
            await anyio.wait_all_tasks_blocked()
            gc.collect()
            tracemalloc.start()
            try:
                kept = [run.start(agent.on("{{ prompt }}", prompt=prompt)) for prompt in prompts]
                await anyio.wait_all_tasks_blocked()
                gc.collect()
                held = tracemalloc.get_traced_memory()[0] / len(kept)
            finally:
                tracemalloc.stop()
            scope.cancel()
    return held
