"""What a call costs: over HTTP beside a bare client, and in this process alone."""

from __future__ import annotations

import contextlib
import gc
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import httpx

from ...agents.agent import Agent
from ...client.budget import Budget
from ...client.transport import default_http
from ...errors import UserError
from ...limits.lane import IN_FLIGHT
from ...mesh.mesh import Mesh

__all__ = [
    "MODEL",
    "SERVER_S",
    "Costs",
    "calls_in_process",
    "calls_over_http",
    "canned_server",
    "measured_mesh",
    "measured_provider",
]

SERVER_S = 0.05
"""How long the server of `calls_over_http` takes to answer, in seconds."""

MODEL = "measured/canned"
_ROUNDS = 10  # short ones, in turns: what the machine does beside meets all alike, and the best has little of it
_PROMPT = "Is the following claim supported by what is known today? Answer briefly.\n\n{{ claim }}"
_SENTENCES = 12  # of 44 characters, in a prompt that is sent; what is measured in process is the way, not the load
_PROVIDER = """\
provider: measured
dialect: openai-chat
base_url: {url}
limits: {limits}
models: {{canned: {{max_output: 4096, prices: {{input: 1.0, output: 4.0}}}}}}
simulate: {{length: 20, latency: {{first_token: {seconds}, per_token: 0.0, jitter: 0.0}}}}
"""


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds of CPU per call: of a bare client, of the whole path without a journal, and with one."""

    bare: float
    without_journal: float
    with_journal: float


@contextlib.contextmanager
def measured_provider(*, url: str = "inprocess://measured", limits: str = "{}", seconds: float = 0.0) -> Iterator[Path]:
    """The file of a provider whose one model is `MODEL`, in a folder that lasts as long as this context."""
    with TemporaryDirectory(prefix="agentmesh-perf-") as folder:
        path = Path(folder, "measured.yaml")
        path.write_text(_PROVIDER.format(url=url, limits=limits, seconds=seconds), encoding="utf-8")
        yield path


def measured_mesh(provider: Path, *, journal: bool) -> Mesh:
    """A mesh with budgets that never bind; its journal, if it has one, is beside the provider's file. Reads files."""
    folder = provider.parent / "journal" if journal else None
    return Mesh(provider_files=[provider], journal=folder, budget=Budget(usd=1e9, calls=1e9), remembers=False)


def calls_over_http(calls: int) -> Costs:
    """Ask a server in another process by a bare client and through a mesh, as many calls at once."""
    with canned_server() as port, measured_provider(url=f"http://127.0.0.1:{port}/v1") as path:
        without, journalled = (measured_mesh(path, journal=journal) for journal in (False, True))

        async def measure() -> list[float]:
            client = httpx.AsyncClient(transport=default_http(), base_url=f"http://127.0.0.1:{port}/v1", timeout=60.0)
            async with client, without, journalled:
                ways = [partial(_ask_bare, client), partial(_ask, without), partial(_ask, journalled)]
                return await _best_rounds(ways, calls, clock=time.process_time, sentences=_SENTENCES)

        return Costs(*anyio.run(measure))


def calls_in_process(calls: int, *, journal: bool) -> float:
    """Calls per second through the whole path, to the simulated provider in this process."""
    with measured_provider() as path:
        mesh = measured_mesh(path, journal=journal)

        async def measure() -> list[float]:
            async with mesh:
                return await _best_rounds([partial(_ask, mesh)], calls, clock=time.perf_counter, sentences=1)

        (best,) = anyio.run(measure)
    return 1.0 / best


async def _best_rounds(
    ways: Sequence[Callable[[list[str]], Awaitable[None]]], calls: int, *, clock: Callable[[], float], sentences: int
) -> list[float]:
    """Seconds per call, by this clock, of the best round of each way; the first, which makes connections, is free."""
    count = max(1, calls // _ROUNDS)
    best = [float("inf")] * len(ways)
    for number in range(-1, _ROUNDS):
        claims = [f"Claim {number}.{place}: " + "more of it follows from less of the other. " * sentences
                  for place in range(count)]  # fmt: skip
        for place, ask in enumerate(ways):
            gc.collect()  # nobody pays for what another left
            began = clock()
            await ask(claims)
            if number >= 0:
                best[place] = min(best[place], (clock() - began) / count)
    return best


async def _ask(mesh: Mesh, claims: Sequence[str]) -> None:
    agent = Agent[str]("reader", model=MODEL)
    async for outcome in mesh.map(lambda claim: agent.on(_PROMPT, claim=claim), claims):
        if not outcome.ok:
            raise UserError(f"a call to be measured was not answered: {outcome.error}")


async def _ask_bare(client: httpx.AsyncClient, claims: Sequence[str]) -> None:
    """What somebody writes who needs no more than the answers."""
    waiting = iter(claims)

    async def ask_on() -> None:
        for claim in waiting:
            body = {
                "model": "canned", "max_completion_tokens": 4096,
                "messages": [{"role": "user", "content": _PROMPT.replace("{{ claim }}", claim)}],
            }  # fmt: skip
            response = await client.post("/chat/completions", json=body)
            response.raise_for_status()
            assert response.json()["choices"][0]["message"]["content"]

    async with anyio.create_task_group() as group:
        for _ in range(IN_FLIGHT):
            group.start_soon(ask_on)


@contextlib.contextmanager
def canned_server() -> Iterator[int]:
    """The canned server in a process of its own; its port."""
    command = [sys.executable, "-m", "agentmesh.app.perf.canned_server", str(SERVER_S)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603
        assert server.stdout is not None
        assert server.stdin is not None
        try:
            yield int(server.stdout.readline())
        finally:
            server.stdin.close()
