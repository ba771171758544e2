"""The run of the proof: a graph of some 2,000 calls that grows while it runs, as one of the processes that work at it.

Run as `python proof_graph.py JSON` with the fields of `Leg`. It goes on with the unfinished run of the folder, if there
is one, and writes down what it has when it ends.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import anyio
import pydantic
from pydantic_core import to_jsonable_python

import agentmesh as am
from agentmesh.app.signals import handling_signals
from agentmesh.mesh.run import Run
from agentmesh.mesh.task import Task

__all__ = ["MATCHES", "Leg", "build", "main", "provider_text", "take_part"]

PRICES = 1.0, 2.0  # dollars per million input and output tokens
MATCHES = 0.08  # of all calls

_PROVIDER = """
provider: proof
dialect: openai-chat
base_url: {base_url}
limits: {{requests_per_minute: {{limit: 60000, burst: 100}}, in_flight: 200}}
models:
  m: {{max_output: 4000, supports: {{tools: true, json_schema: true}}, prices: {{input: 1.0, output: 2.0}}}}
simulate: {{latency: {{first_token: 0.05, per_token: 0.0, jitter: 0.8}}, length: 20, failures: {{{failures}}}}}
"""
FAULTS = '"500": 0.01, "503": 0.01, drop: 0.01, reset: 0.005, truncate: 0.01'


def provider_text(base_url: str, *, failures: str = "") -> str:
    """The provider file of the server, or of who asks it."""
    return _PROVIDER.format(base_url=base_url, failures=failures)


@dataclass(frozen=True)
class Leg:
    """What one process is told: where everything is, how large the graph is, and its budget in dollars."""

    folder: str
    provider: str
    result: str
    calls: int
    seed: int
    usd: float | None = None


class Review(pydantic.BaseModel):
    flaws: str
    score: int


@dataclass
class Thought:
    text: str
    length: int


_run: ContextVar[Run] = ContextVar("run")
_tools_log: ContextVar[str] = ContextVar("tools_log")


def measure(ctx: am.Context, sample: str) -> str:
    """Measure a sample."""
    with open(_tools_log.get(), "a") as file:
        file.write(f"{ctx.address} {os.getpid()}\n")
    return f"{len(sample)} units"


_SHORT = {"max_tokens": 60}
writer = am.Agent[str]("writer", model="proof/m", settings=_SHORT)
critic = am.Agent[Review]("critic", model="proof/m", output=Review, settings={"max_tokens": 300})
scientist = am.Agent[str]("scientist", model="proof/m", tools=[measure], settings={"max_tokens": 200})
judge = am.Agent[Any]("judge", model="proof/m", settings={"max_tokens": 300})
careful = am.Agent[str](
    "careful", model="proof/m", settings=_SHORT, budget=am.Budget(usd=100.0, calls=1_000_000, name="agent's budget")
)


async def grow(name: str, depth: int) -> str:
    """A task that asks, and starts others of its kind, for which it does not wait."""
    run = _run.get()
    text: str = await run.start(writer.on("Branch {{ name }}.", name=name), name="branch", key=name)
    for side in "ab" if depth else "":
        run.start(am.call(grow, f"{name}{side}", depth - 1), name="grow", key=f"{name}{side}")
    return text[::-1]


async def consider(number: int, ctx: am.Context) -> Thought:
    """A function that asks by itself."""
    text = await ctx.ask("proof/m", f"Consider {number}.")
    return Thought(text, len(text))


async def note(thought: Thought) -> int:
    return thought.length


async def fail(number: int) -> str:
    raise ValueError(f"{number} is none of ours")


def build(run: Run, calls: int) -> list[Task[Any]]:
    """Put the graph into the run. Returns some of its tasks, of all kinds."""
    kept: list[Task[Any]] = []
    share = calls // 20
    nested = am.Budget(usd=50.0, calls=10_000_000, name="shared budget")
    roots = range(max(1, 6 * share // 15))
    kept += [run.start(am.call(grow, str(number), 3), name="grow", key=str(number)) for number in roots]
    drafts = [run.start(writer.on("Draft {{ n }}.", n=n), name="draft", key=str(n)) for n in range(3 * share)]
    for number, draft in enumerate(drafts):
        review = run.start(
            critic.on("Review {{ n }}: {{ d }}", n=number, d=draft), name="review", key=str(number), budget=nested
        )
        run.start(
            careful.on("Mend {{ n }}: {{ d }}, {{ r.flaws }}", n=number, d=draft, r=review),
            name="mend",
            key=str(number),
        )
    for number in range(3 * share // 2):
        asked = scientist.on("Do measure sample {{ n }}.", n=number)
        kept.append(run.start(asked, name="probe", key=str(number), budget=nested))
    for number in range(share):
        thought = run.start(am.call(consider, number), name="consider", key=str(number))
        kept += thought, run.start(am.call(note, thought), name="note", key=str(number))
    refused = [run.start(am.call(fail, number), name="fail", key=str(number)) for number in range(5)]
    run.start(writer.on("After {{ one }}.", one=refused[0]), name="hopeless", key="0")
    run.start(writer.on("In all: {{ all | length }}.", all=drafts), name="summary", key="0", require="all")
    contest = run.tournament(
        judge, entrants=drafts[:24], criteria="the best", stop=am.Stop(regret=None, matches=round(MATCHES * calls))
    )  # by regret it would end sooner or later with the order of verdicts
    return [*kept, *drafts, contest]


async def take_part(leg: Leg) -> None:
    """Work at the run, from where others have left it, to its end or until it is stopped."""
    _tools_log.set(f"{leg.folder}/tools.txt")
    budget = None if leg.usd is None else am.Budget(usd=leg.usd, name="run's budget")
    async with (
        handling_signals() as signals,
        am.open_mesh(journal=f"{leg.folder}/journal", provider_files=[leg.provider], seed=leg.seed) as mesh,
        mesh.open_run("proof", resume=True, failures="report", seed=leg.seed, budget=budget) as run,
    ):
        signals.watch(run)
        _run.set(run)
        tasks = build(run, leg.calls)
    outcomes = [await task.outcome() for task in tasks]
    found = {str(outcome.address): to_jsonable_python(outcome.value) for outcome in outcomes if outcome.ok}
    told = {"status": run.status, "reason": run.reason, "usd": run.record.usd, "usage": asdict(run.record.usage)}
    Path(leg.result).write_text(json.dumps({**told, "values": found}))


def main(arguments: Sequence[str]) -> None:
    """One process of the run."""
    anyio.run(take_part, Leg(**json.loads(arguments[0])))


if __name__ == "__main__":
    main(sys.argv[1:])
