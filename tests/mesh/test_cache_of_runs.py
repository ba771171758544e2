"""The cache in runs: what is answered from it, what is kept, and that a run never answers itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pydantic
import pytest
from scripted import Scripted

import agentmesh as am
from agentmesh.clock import monotonic
from agentmesh.errors import UserError
from agentmesh.events import CallEnded, CallSpared, Event, Notice
from agentmesh.journal.cache import CACHE_FILE, CacheFile
from agentmesh.mesh.run import Run
from agentmesh.outcome import Outcome

pytestmark = [pytest.mark.anyio, pytest.mark.both_backends, pytest.mark.virtual_time]

ECHO = am.Agent[str]("echo", model="scripted/m")


class Lab:
    """Runs in one folder, each with a mesh of its own; `asked` counts the requests of all."""

    def __init__(self, folder: Path, *answers: Any) -> None:
        self.folder = folder
        self.server = Scripted(folder, *(answers or ("yes",)))
        self.events: list[Event] = []
        self.last: Run

    @property
    def asked(self) -> int:
        return len(self.server.asked)

    async def run(
        self, *prompts: str, cache: Any = "use", agent: Any = ECHO, journal: bool = True, **options: Any
    ) -> list[Outcome]:
        self.events = []
        made = {**self.server.options, "journal": self.folder / "mesh" if journal else None}
        async with am.open_mesh(cache=cache, **made, **options) as mesh, mesh.open_run("r", failures="report") as run:
            run.record._watchers += (self.events.append,)
            tasks = [run.start(agent.on("{{ p }}", p=prompt), key=str(at)) for at, prompt in enumerate(prompts)]
            ended = [await task.outcome() for task in tasks]
            self.last = run
        return ended


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path, *(str(number) for number in range(100)))


def values(outcomes: Sequence[Outcome]) -> list[Any]:
    return [outcome.value for outcome in outcomes]


async def test_what_was_asked_is_answered_without_a_call_and_counted_as_saved(lab: Lab) -> None:
    first = await lab.run("a", "b")
    paid = lab.last.record.usd
    again = await lab.run("a", "b")
    assert lab.asked == 2
    assert values(again) == values(first)
    assert [(one.usage.calls, one.usd, one.attempts, one.finish) for one in again] == [(0, 0.0, 0, "stop")] * 2
    record = lab.last.record
    assert (record.usage.calls, record.usd, record.spared, record.saved_usd) == (0, 0.0, 2, paid)
    assert not record.waiting
    assert not [event for event in lab.events if isinstance(event, CallEnded)]
    spared = [event for event in lab.events if isinstance(event, CallSpared)]
    assert {(event.source, event.model, event.account) for event in spared} == {("cache", "m", "scripted")}
    assert {event.request.messages[0].text for event in spared if event.request is not None} == {"a", "b"}


async def test_a_run_does_not_answer_itself(lab: Lab) -> None:
    once = await lab.run("same", "same", "same")
    assert lab.asked == 3
    assert len(set(values(once))) == 3
    assert values(await lab.run("same", "same", "same")) == values(once)  # each where it was
    assert lab.asked == 3


async def test_modes(lab: Lab) -> None:
    await lab.run("a", cache="read")
    assert not (lab.folder / "mesh" / CACHE_FILE).exists()
    await lab.run("a", cache="refresh")
    assert lab.asked == 2
    assert values(await lab.run("a", "b", cache="read")) == ["1", "2"]
    assert values(await lab.run("b", cache="use")) == ["3"]  # what was only read was not kept
    assert values(await lab.run("a", cache="off")) == ["4"]
    assert values(await lab.run("a", cache="refresh")) == ["5"]
    assert values(await lab.run("a", cache="use")) == ["5"]


async def test_without_a_journal_too(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lab.folder)
    assert values(await lab.run("a", journal=False)) == values(await lab.run("a", journal=False))
    assert lab.asked == 1
    left = {path.name for path in (lab.folder / ".agentmesh").iterdir() if path.suffix}
    assert left == {CACHE_FILE, "cache.lock"}


async def test_single_calls_of_a_later_mesh_are_answered(lab: Lab) -> None:
    made = {**lab.server.options, "journal": lab.folder / "mesh", "cache": "use"}
    for _ in range(2):
        async with am.open_mesh(**made) as mesh:
            assert await mesh.ask("scripted/m", "hello") == "0"
            assert [one.value async for one in mesh.map(lambda text: ECHO.on(text), ["x"])] == ["1"]
    assert lab.asked == 2


async def test_a_changed_request_is_asked(lab: Lab) -> None:
    await lab.run("a")
    await lab.run("a", settings={"temperature": 0.5})
    await lab.run("a", agent=am.Agent[str]("echo", model="scripted/other"))
    await lab.run("a", agent=am.Agent[str]("echo", model="scripted/m", instructions="Be brief."))
    assert lab.asked == 4


class Point(pydantic.BaseModel):
    x: int


@pytest.mark.parametrize(
    ("answer", "agent"),
    [
        ({"content": "cut", "finish": "length"}, am.Agent("point", model="scripted/m", output=Point)),
        ({"content": "no", "finish": "content_filter"}, ECHO),
        ("no number", am.Agent("point", model="scripted/m", output=Point, repairs=0)),
    ],
    ids=["cut off", "filtered", "no use"],
)
async def test_what_was_no_success_is_asked_again(tmp_path: Path, answer: Any, agent: Any) -> None:
    lab = Lab(tmp_path, answer)
    for _ in range(2):
        (outcome,) = await lab.run("a", agent=agent)
        assert not outcome.ok
    assert lab.asked == 2


async def test_a_repaired_answer_is_kept_with_what_led_to_it(tmp_path: Path) -> None:
    lab = Lab(tmp_path, "no number", '{"x": 3}')
    agent = am.Agent("point", model="scripted/m", output=Point)
    assert values(await lab.run("a", agent=agent)) == values(await lab.run("a", agent=agent)) == [Point(x=3)]
    assert (lab.asked, lab.last.record.spared) == (2, 2)


async def test_many_hits_wait_for_no_lane(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    prompts = [f"p{number}" for number in range(600)]
    await lab.run(*prompts)
    assert len(await lab.run(*prompts)) == 600
    assert (lab.asked, lab.last.record.spared) == (600, 600)


async def test_no_time_passes_but_that_of_the_calls(lab: Lab) -> None:
    """Journal, cache and inbox work in threads, and virtual time stands still while they do."""
    began = monotonic()
    await lab.run("a", "b")
    assert monotonic() - began == pytest.approx(1.0)
    await lab.run("a", "b")
    assert monotonic() - began == pytest.approx(1.0)


async def test_a_cache_that_breaks_down_costs_no_run(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise UserError("the cache cannot be used: disk I/O error")

    monkeypatch.setattr(CacheFile, "put", fails)
    assert values(await lab.run("a")) == ["0"]
    monkeypatch.setattr(CacheFile, "find", fails)
    assert sorted(values(await lab.run("a", "b"))) == ["1", "2"]
    notices = [event.text for event in lab.events if isinstance(event, Notice)]
    assert notices == ["the cache cannot be used: disk I/O error; this run goes on without it"]


async def test_what_cannot_be_used_is_told_before_anything_begins(lab: Lab) -> None:
    (lab.folder / "mesh").mkdir()
    (lab.folder / "mesh" / CACHE_FILE).write_text("no database" * 200)
    with pytest.raises(UserError, match="cannot be used"):
        await lab.run("a")
    assert {path.name for path in (lab.folder / "mesh").iterdir()} == {CACHE_FILE, "cache.lock"}
    assert not lab.asked


async def test_words_that_make_no_sense(lab: Lab) -> None:
    with pytest.raises(UserError, match="cache is off, read, use, refresh, not 'yes'"):
        am.open_mesh(cache="yes")  # type: ignore[arg-type]
    with pytest.raises(UserError, match='cache "read", not "use"'):
        am.open_mesh(cache="use", content=False)
