"""How long a run keeps the values of its tasks: as long as somebody can read them, and no longer."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from pathlib import Path

import anyio
import pytest
from scripted import Scripted, provider_file

import agentmesh as am

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


class Thing:
    """A value whose end can be seen."""

    made: list[weakref.ref[Thing]]

    def __init__(self, name: str) -> None:
        self.name = name


@pytest.fixture(autouse=True)
def no_things() -> None:
    Thing.made = []


async def make(name: str) -> Thing:  # not in a thread, which lets go of what it has returned a moment later
    thing = Thing(name)
    Thing.made.append(weakref.ref(thing))
    return thing


def living() -> list[str]:
    gc.collect()
    return sorted(thing.name for made in Thing.made if (thing := made()) is not None)


async def name_of(things: list[Thing] | Thing, seconds: float = 0.0) -> str:
    await anyio.sleep(seconds)
    return ", ".join(thing.name for thing in things) if isinstance(things, list) else things.name


async def test_a_value_goes_with_its_handle() -> None:
    async with am.open_mesh(journal=None) as mesh, mesh.open_run("values") as run:
        held = run.start(am.call(make, "held"))
        run.start(am.call(make, "dropped"))
        await run.runner.wait_finished()
        assert living() == ["held"]
        assert (await held).name == (await held).name == "held"
        assert (await held.outcome()).ok
    assert (await held).name == "held"  # after the end of the run, too
    del held
    assert living() == []


async def test_a_call_holds_the_values_that_it_was_given_until_it_has_ended() -> None:
    async with am.open_mesh(journal=None) as mesh, mesh.open_run("values") as run:
        one, two, three = (run.start(am.call(make, name)) for name in ("one", "two", "three"))
        first = run.start(am.call(name_of, one, seconds=10))
        both = run.start(am.call(name_of, [one, two], seconds=20))
        del one, two
        await three
        assert living() == ["one", "three", "two"]
        assert await first == "one"
        assert living() == ["one", "three", "two"]
        assert await both == "one, two"
        assert living() == ["three"]


async def test_a_dependent_that_starts_late_still_reads_it() -> None:
    async with am.open_mesh(journal=None) as mesh, mesh.open_run("values") as run:
        task = run.start(am.call(make, "early"))
        await task
        late = run.start(am.call(name_of, task))
        del task
        assert await late == "early"
        assert living() == []


async def test_an_entrant_of_a_tournament_is_read_after_its_end(tmp_path: Path) -> None:
    verdicts = Scripted(tmp_path, '{"reasons": "r", "winner": "first"}')
    async with am.open_mesh(**verdicts.options) as mesh, mesh.open_run("values") as run:
        entrants = [run.start(am.call(str.upper, name)) for name in ("a", "b")]
        await run.runner.wait_finished()
        judge = am.Agent("judge", model="scripted/m")
        contest = run.tournament(judge, entrants=entrants, entrant="{{ item }}", stop=am.Stop(matches=2))
        del entrants
        assert {row.item for row in await contest} == {"A", "B"}


async def test_map_gives_every_value_and_keeps_none() -> None:
    async with am.open_mesh(journal=None) as mesh:
        names = []
        async for outcome in mesh.map(lambda name: am.call(make, name), ["a", "b", "c"]):
            names.append(outcome.value.name)
            del outcome
            await anyio.sleep(1)
        assert sorted(names) == ["a", "b", "c"]
        assert living() == []


async def test_what_was_recorded_is_there_in_the_next_process(tmp_path: Path) -> None:
    async def draft_of(*, resume: bool, cut: bool) -> str:
        async with (
            am.open_mesh(journal=tmp_path, provider_files=[provider_file(tmp_path)]) as mesh,
            mesh.open_run("values", resume=resume) as run,
        ):
            draft = run.start(am.Agent("writer", model="lab/free").on("Write."))
            if cut:
                text = await draft
                run.stop("stopped", "for the test")
                return text
            assert draft.ended  # at once
            echoed = run.start(am.call(str.upper, draft))
            assert await echoed == (await draft).upper()
            assert run.record.usage.calls == 1
            return await draft

    assert await draft_of(resume=False, cut=True) == await draft_of(resume=True, cut=False)


async def test_long_answers_that_nobody_holds_take_no_room(tmp_path: Path) -> None:
    answers = Scripted(tmp_path, lambda body: f"{body['messages'][0]['content']} " * 2000)
    async with am.open_mesh(**answers.options) as mesh, mesh.open_run("values") as run:
        writer = am.Agent("writer", model="scripted/m")
        tracemalloc.start()
        try:
            for number in range(100):
                run.start(writer.on("{{ n }}", n=number))
            await run.runner.wait_finished()
            gc.collect()
            held = tracemalloc.get_traced_memory()[0] / 100
        finally:
            tracemalloc.stop()
    assert len(answers.asked) == 100
    assert held < 3000  # of answers of 4 to 6 kB
