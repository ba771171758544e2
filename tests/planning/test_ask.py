"""Asking models the cases of a benchmark, on a virtual clock."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from asynchow_samples import row, write_pickle, write_rows

from agentmesh.errors import UserError
from agentmesh.events import CollectionClosed, Event, TaskAdded
from agentmesh.mesh.mesh import Mesh
from agentmesh.science.planning.ask import ask
from agentmesh.science.planning.asynchow import load_items
from agentmesh.science.planning.bench import Answer, Case, plan_asynchow, score_answer
from agentmesh.science.planning.recordings import read_recordings
from agentmesh.simulate.behaviour import Served, ServedModel
from agentmesh.simulate.provider import SimulatedProvider
from agentmesh.simulate.replay import RecordedReplies, load_recordings
from agentmesh.simulate.transport import InProcessTransport

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

LABS = """
provider: {name}
dialect: openai-chat
base_url: https://{name}.example/v1
limits: {{requests_per_minute: {limit}}}
models: {{"*": {{prices: free}}}}
"""


class Bench:
    """Three questions, a provider that has replies to the first two, and two accounts that lead there."""

    def __init__(self, folder: Path) -> None:
        items = load_items(write_pickle(folder / "async_benchmark.pkl"))
        rows = [row(item, seconds=int(item.gold.low)) for item in items]
        self.cases = plan_asynchow(items=items, prompts=read_recordings([write_rows(folder / "all.jsonl", rows)]).rows)
        recorded = load_recordings([write_rows(folder / "some.jsonl", rows[:2])])
        provider = SimulatedProvider(Served({"*": ServedModel("*")}, title="replay"), RecordedReplies(recorded))
        self.events: list[Event] = []
        files = [folder / f"{name}.yaml" for name in ("fast", "slow")]
        for file, limit in zip(files, (6000, 60), strict=True):
            file.write_text(LABS.format(name=file.stem, limit=limit))
        http = InProcessTransport(provider)
        self.mesh = Mesh(journal=None, provider_files=files, http=http, watchers=[self.events.append])

    async def ask(
        self, models: Sequence[str], cases: Sequence[Case] | None = None, stop_after: int = 99
    ) -> list[Answer]:
        answers: list[Answer] = []
        async with self.mesh as mesh, mesh.open_run("bench", failures="report") as run:
            async for answer in ask(run, self.cases if cases is None else cases, models):
                answers.append(answer)
                if len(answers) == stop_after:
                    run.stop("stopped", "enough")
        return answers


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_answers_come_as_they_arrive_and_failures_with_their_error(bench: Bench) -> None:
    answers = await bench.ask(["slow/m", "fast/m"])
    assert [answer.model for answer in answers[-2:]] == ["slow/m"] * 2  # no fast one waits for them
    assert sorted((answer.model, answer.case.id, answer.reply is not None) for answer in answers) == [
        (model, f"async-{k}", k < 2) for model in ("fast/m", "slow/m") for k in range(3)
    ]
    right = [answer for answer in answers if answer.reply is not None]
    assert all(score_answer(answer).correct and answer.finish == "stop" and answer.attempts == 1 for answer in right)
    assert all(answer.usage is not None and answer.usage.calls == 1 and answer.usd == 0.0 for answer in right)
    assert {str(answer.error) for answer in answers if answer.reply is None} == {
        f"bad_request: {model}: no reply is recorded for exactly these messages" for model in ("fast/m", "slow/m")
    }


async def test_each_model_is_a_task_with_a_key_for_each_case(bench: Bench) -> None:
    await bench.ask(["fast/m", "slow/m"])
    added = [(event.task, event.key, event.lane) for event in bench.events if isinstance(event, TaskAdded)]
    assert added == [(f"{lane}_m", f"async-{k}", lane) for k in range(3) for lane in ("fast", "slow")]
    assert [(e.task, e.items) for e in bench.events if isinstance(e, CollectionClosed)] == [
        ("fast_m", 3),
        ("slow_m", 3),
    ]


async def test_a_stopped_run_ends_with_what_is_there(bench: Bench) -> None:
    many = [Case(f"again-{k}", bench.cases[0].messages, 900) for k in range(400)]
    answers = await bench.ask(["slow/m"], many, stop_after=5)
    assert 5 <= len(answers) < 400  # what was waiting in the lane is still asked, the rest is not
    assert all(answer.error is None for answer in answers)


async def test_a_model_that_nobody_serves_is_told_before_anything_is_asked(bench: Bench) -> None:
    with pytest.raises(UserError, match="nobody"):
        await bench.ask(["fast/m", "nobody/m"])
    assert not [event for event in bench.events if isinstance(event, TaskAdded)]
