"""Recorded replies in runs: through routes, tools and budgets, without a word to any endpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scripted import Scripted, call_tools

import agentmesh as am
from agentmesh.outcome import Outcome
from agentmesh.simulate.recording import Recorder
from agentmesh.simulate.replayed import Replayed

pytestmark = [pytest.mark.anyio, pytest.mark.both_backends, pytest.mark.virtual_time]


async def run(server: Scripted, agent: am.Agent[Any], *, budget: am.Budget | None = None, **options: Any) -> Outcome:
    made = am.open_mesh(**server.options)
    async with made as mesh, mesh.open_run("r", failures="report", budget=budget, **options) as one:
        return await one.start(agent.on("What is it?")).outcome()


async def recorded(folder: Path, server: Scripted, agent: am.Agent[Any]) -> tuple[Outcome, Replayed]:
    recorder = Recorder(folder / "calls.jsonl")
    outcome = await run(server, agent, watchers=[recorder.event])
    await recorder.flush()
    return outcome, Replayed.of_file(recorder.path)


async def test_the_model_that_stood_in_stands_in_again(tmp_path: Path) -> None:
    server = Scripted(tmp_path, 401, "from b")
    agent = am.Agent[str]("a", model=["scripted/a", "scripted/b"])
    first, replayed = await recorded(tmp_path, server, agent)
    assert (first.value, first.model, len(server.asked)) == ("from b", "scripted/b", 2)
    again = await run(server, agent, known=[replayed])
    assert (again.value, again.model, again.usage.calls, len(server.asked)) == ("from b", "scripted/b", 0, 2)


async def test_nobody_is_asked_for_what_is_missing(tmp_path: Path) -> None:
    server = Scripted(tmp_path, "yes")
    _, replayed = await recorded(tmp_path, server, am.Agent[str]("a", model="scripted/a"))
    other = am.Agent[str]("a", model=["scripted/c", "scripted/d"])
    outcome = await run(server, other, known=[replayed])
    assert len(server.asked) == 1
    assert outcome.error is not None
    assert (outcome.error.kind, outcome.attempts, outcome.usage.calls) == ("bad_request", 0, 0)
    assert "of a, none of c" in outcome.error.message


async def test_tools_do_their_work_again_and_replies_follow(tmp_path: Path) -> None:
    done: list[int] = []

    @am.tool
    def double(n: int) -> int:
        """Twice as much."""
        done.append(n)
        return 2 * n

    server = Scripted(tmp_path, call_tools(("double", {"n": 4})), "It is 8.")
    agent = am.Agent[str]("a", model="scripted/a", tools=[double])
    first, replayed = await recorded(tmp_path, server, agent)
    again = await run(server, agent, known=[replayed])
    assert first.value == again.value == "It is 8."
    assert (done, len(server.asked)) == ([4, 4], 2)


async def test_what_is_known_passes_no_budget(tmp_path: Path) -> None:
    server = Scripted(tmp_path, "yes")
    agent = am.Agent[str]("a", model="scripted/a")
    _, replayed = await recorded(tmp_path, server, agent)
    outcome = await run(server, agent, known=[replayed], budget=am.Budget(usd=1e-9))
    assert (outcome.value, outcome.usd) == ("yes", 0.0)
