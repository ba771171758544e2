"""Agents over HTTP that a test answers: repairs, tools, settings and costs, and tournaments as tasks."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pydantic
import pytest
from scripted import Scripted, call_tools, provider_file, said

import agentmesh as am
from agentmesh.events import CallEnded, MatchEnded, StandingsChanged

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


class Review(pydantic.BaseModel):
    flaws: list[str]
    score: float = pydantic.Field(ge=0, le=10)


@pytest.mark.both_backends
async def test_a_repair_is_part_of_the_same_task(tmp_path: Path) -> None:
    model = Scripted(tmp_path, '{"flaws": [], "score": 11}', '{"flaws": ["a"], "score": 9}')
    async with am.open_mesh(**model.options) as mesh, mesh.open_run("r") as run:
        critic = am.Agent("critic", model="scripted/m", output=Review)
        task = run.start(critic.on("Review."))
        assert (await task).flaws == ["a"]
        outcome = await task.outcome()
    assert (outcome.usage.calls, outcome.attempts, outcome.usage.input_tokens) == (2, 2, 20)
    assert outcome.usd == pytest.approx(30e-6)
    schema = model.asked[0]["response_format"]["json_schema"]["schema"]
    assert schema["required"] == ["flaws", "score"]
    assert [message["role"] for message in model.asked[1]["messages"]] == ["user", "assistant", "user"]
    assert "score: must be at most 10" in said(model.asked[1], "user")[1]


@pytest.mark.both_backends
async def test_what_does_not_fit_after_all_repairs_is_an_error_and_counted(tmp_path: Path) -> None:
    model = Scripted(tmp_path, "none of it")
    async with am.open_mesh(**model.options) as mesh, mesh.open_run("r", failures="report") as run:
        critic = am.Agent("critic", model="scripted/m", output=Review, retry=am.Retry(5))
        outcome = await run.start(critic.on("Review.")).outcome()
    assert outcome.error is not None
    assert outcome.error.kind == "invalid_output"
    assert outcome.error.message.endswith(", after 2 repairs")
    assert outcome.usage.calls == 3
    assert outcome.usd == pytest.approx(45e-6)


@pytest.mark.parametrize(
    ("reply", "kind", "finish"),
    [
        ({"content": '{"flaws": [', "finish": "length"}, "truncated", "length"),
        ({"content": "", "finish": "content_filter"}, "filtered", "filter"),
        ({"refusal": "No."}, "refused", "refusal"),
    ],
)
async def test_replies_that_are_no_answer(tmp_path: Path, reply: Any, kind: str, finish: str) -> None:
    model = Scripted(tmp_path, reply)
    async with am.open_mesh(**model.options) as mesh, mesh.open_run("r", failures="report") as run:
        critic = am.Agent("critic", model="scripted/m", output=Review)
        outcome = await run.start(critic.on("Review.")).outcome()
    assert outcome.error is not None
    assert (outcome.error.kind, outcome.finish, outcome.usage.calls) == (kind, finish, 1)


@pytest.mark.both_backends
async def test_tools_go_back_and_forth(tmp_path: Path) -> None:
    @dataclasses.dataclass
    class Paper:
        title: str

    @am.tool
    def search(query: str, limit: int = 2) -> list[Paper]:
        """Search."""
        return [Paper(f"{query} {number}") for number in range(limit)]

    async def who(ctx: am.Context) -> str:
        return f"{ctx.address} asked: {await ctx.ask('scripted/other', 'Who?')}"

    model = Scripted(
        tmp_path, call_tools(("search", {"query": "x", "limit": "many"}), ("who", {})), "me",
        call_tools(("search", {"query": "x"})), "Found.",
    )  # fmt: skip
    async with am.open_mesh(**model.options) as mesh, mesh.open_run("r") as run:
        scientist = am.Agent("scientist", model="scripted/m", tools=[search, who], instructions="Look.")
        outcome = await run.start(scientist.on("Go."), key="k").outcome()
    assert (outcome.value, outcome.usage.calls) == ("Found.", 4)
    assert [tool["function"]["name"] for tool in model.asked[0]["tools"]] == ["search", "who"]
    wrong, asked = said(model.asked[2])
    assert wrong.endswith("limit: Input should be a valid integer, unable to parse string as an integer. They were: "
                          '{"query": "x", "limit": "many"}')  # fmt: skip
    assert asked == "scientist/k asked: me"
    assert json.loads(said(model.asked[3])[-1]) == [{"title": "x 0"}, {"title": "x 1"}]


async def test_settings_of_agent_run_and_mesh_the_nearer_wins(tmp_path: Path) -> None:
    model = Scripted(tmp_path, "yes")
    options = model.options | {"settings": {"temperature": 0.1, "top_p": 0.5, "stop": "END"}}
    async with am.open_mesh(**options) as mesh:
        async with mesh.open_run("r", settings={"temperature": 0.2, "service_tier": "flex"}) as run:
            await run.start(am.Agent("a", model="scripted/m", settings={"temperature": 0.3}).on("1"))
            await run.start(am.Agent("b", model="scripted/m").on("2"))
            await run.start(am.call(ask, "scripted/m"))
        await mesh.ask("scripted/m", "3", temperature=0.4)
    assert [body["temperature"] for body in model.asked] == [0.3, 0.2, 0.2, 0.4]
    assert {json.dumps([body["top_p"], body["stop"]]) for body in model.asked} == {'[0.5, ["END"]]'}
    assert [body.get("service_tier") for body in model.asked] == ["flex", "flex", "flex", None]


async def ask(model: str, ctx: am.Context) -> str:
    return await ctx.ask(model, "From a function.")


async def test_a_function_hears_of_refusals_like_an_agent(tmp_path: Path) -> None:
    model = Scripted(tmp_path, {"refusal": "No."})
    async with am.open_mesh(**model.options) as mesh, mesh.open_run("r", failures="report") as run:
        refused = await run.start(am.call(ask, "scripted/m")).outcome()
        unknown = await run.start(am.call(ask, "nosuch/m")).outcome()
    assert str(refused.error) == "refused: No."
    assert str(unknown.error).startswith("tool: ")
    assert "nosuch" in str(unknown.error)


async def test_a_second_model_is_asked_when_the_first_cannot_serve(tmp_path: Path) -> None:
    events: list[Any] = []
    model = Scripted(tmp_path, lambda body: 401 if body["model"] == "first" else "from the second")
    async with am.open_mesh(**model.options, watchers=[events.append]) as mesh, mesh.open_run("r") as run:
        agent = am.Agent("a", model=["scripted/first", "scripted/second"])
        tasks = [run.start(agent.on(f"{number}")) for number in range(3)]
        assert [await task for task in tasks] == ["from the second"] * 3
        assert (await tasks[-1].outcome()).model == "scripted/second"
    assert [event.model for event in events if isinstance(event, CallEnded) and event.reply] == ["second"] * 3


@pytest.mark.both_backends
async def test_entrants_of_a_tournament_join_as_they_appear(tmp_path: Path) -> None:
    events: list[Any] = []
    options: dict[str, Any] = {
        "journal": None,
        "provider_files": [provider_file(tmp_path)],
        "watchers": [events.append],
    }
    async with am.open_mesh(**options) as mesh, mesh.open_run("r", failures="report") as run:
        agent = am.Agent("writer", model="lab/free")
        other = am.Agent("other", model="lab/slow")
        drafts: list[am.Task[Any]] = [run.start(agent.on("{{ t }}", t=topic), key=topic) for topic in "abc"]
        drafts.append(run.start(other.on("late"), key="a"))  # of the same key, ten seconds late
        drafts.append(run.start(am.call(fail), key="failed"))
        contest = run.tournament(am.Agent("judge", model="lab/free"), entrants=[*drafts, drafts[0]],
                                 criteria="brevity", stop=am.Stop(matches=14))  # fmt: skip
        followed = [standings async for standings in contest.changes()]
        reader = run.start(am.call(len, contest))
        final = await contest
        assert [row.rank for row in final] == [1, 2, 3, 4]
        assert {row.key for row in final} == {"a", "b", "c", "a~2"}
        assert await reader == 4
        assert str(reader.address) == "len/contest"
    assert followed[-1] == final
    assert len(followed) < 20
    matches = [event for event in events if isinstance(event, MatchEnded)]
    assert len(matches) == 14
    assert len({event.address for event in matches}) == 14
    assert all(event.address.startswith("contest/") for event in matches)
    told = [event for event in events if isinstance(event, StandingsChanged)]
    assert told[-1].matches == 14
    assert next(event for event in told if event.entrants == 3).matches < 14


async def fail() -> None:
    raise LookupError("gone")


async def test_tournaments_of_one_of_none_and_of_the_unjudgeable(tmp_path: Path) -> None:
    model = Scripted(tmp_path, 400)
    judge = am.Agent("judge", model="scripted/m")
    async with am.open_mesh(**model.options) as mesh, mesh.open_run("r", failures="report") as run:
        one, two, lost = (run.start(am.call(lambda n=n: {"title": f"t{n}"}), key=str(n)) for n in (1, 2, 3))
        bad = run.start(am.call(fail))
        alone = run.tournament(judge, entrants=[one, bad], name="alone", entrant="{{ item.title }}")
        nobody = run.tournament(judge, entrants=[bad], name="nobody")
        nothing = run.tournament(judge, entrants=[], name="nothing")
        broken = run.tournament(judge, entrants=[one, two], name="broken", stop=am.Stop(matches=4))
        typo = run.tournament(judge, entrants=[one, two, lost], name="typo", entrant="{{ item.titel }}")
        with pytest.raises(am.UserError, match="has a task alone already: give this one another name"):
            run.tournament(judge, entrants=[one], name="alone")
        assert [row.key for row in await alone] == ["1"]
        for contest in (nobody, nothing, typo):
            outcome = await contest.outcome()
            assert (outcome.state, str(outcome.error)) == ("skipped", "dependency: there is nobody to rank")
        outcome = await broken.outcome()
        assert outcome.state == "failed"
        assert str(outcome.error).startswith("bad_request: ")
    assert len(model.asked) == 4
