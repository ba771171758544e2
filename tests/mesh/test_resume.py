"""Runs that another process goes on with: here two meshes after each other, over one folder, on a virtual clock."""

from __future__ import annotations

import dataclasses
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pydantic
import pytest
from scripted import Scripted, call_tools, said

import agentmesh as am
from agentmesh.events import (
    CallEnded,
    CallIntent,
    Event,
    MatchEnded,
    Notice,
    TaskAdded,
    TaskDropped,
    TaskEnded,
    TaskReopened,
    ToolEnded,
)
from agentmesh.journal import RunFile, item_histories, list_runs, run_history
from agentmesh.mesh.recall import Resume
from agentmesh.mesh.run import Run
from agentmesh.mesh.task import Task
from agentmesh.outcome import Outcome

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

writer = am.Agent[str]("writer", model="scripted/m")
performed: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_performed_yet() -> None:
    performed.clear()


class Stopped(Exception):
    """Ends a process of a run before its time."""


class Paper(pydantic.BaseModel):
    title: str


@dataclasses.dataclass
class Point:
    x: int


def echo(body: dict[str, Any]) -> str:
    return f"re: {said(body, 'user')[-1]}"


def run_path(folder: Path) -> Path:
    (run,) = list_runs(folder / "journal")
    return run.path


def events(folder: Path, *wanted: type[Any]) -> list[Any]:
    with RunFile.open(run_path(folder)) as run:
        return [event for _, event in run.events(*wanted)]


@dataclasses.dataclass
class Leg:
    """One process of a run: what the model was asked, how the tasks ended, and the run itself."""

    asked: list[str]
    ended: dict[str, Outcome]
    run: Run


async def go(
    folder: Path, build: Callable[[Run], list[Task[Any]]], *answers: Any, after: float | None = None,
    killed: bool = False, content: bool = True, resume: bool | Resume = True, seed: int | None = None,
) -> Leg:  # fmt: skip
    """One process. `after` seconds an exception ends it; with `killed` the folder is what it was at that instant."""
    model = Scripted(folder, *(answers or (echo,)))
    given: dict[str, Any] = {**model.options, "journal": folder / "journal", "content": content}
    tasks: list[Task[Any]] = []
    try:
        async with (
            am.open_mesh(**given) as mesh,
            mesh.open_run("r", resume=resume, failures="report", seed=seed) as run,
        ):
            tasks = build(run)
            if after is not None:
                await anyio.sleep(after)
                if killed:
                    (left := folder / "left" / "runs").mkdir(parents=True)
                    for part in run_path(folder).parent.glob("*.db*"):
                        if part.suffix != ".lock":
                            shutil.copy(part, left)
                raise Stopped
    except Stopped:
        pass
    if killed:
        shutil.rmtree(folder / "journal")
        (folder / "left").rename(folder / "journal")
    outcomes = [await task.outcome() for task in tasks]
    asked = [said(body, "user")[-1] for body in model.asked]
    return Leg(asked, {str(one.address): one for one in outcomes}, run)


def chain(run: Run) -> list[Task[Any]]:
    a = run.start(writer.on("A"), name="a")
    b = run.start(writer.on("B {{ a }}", a=a), name="b")
    return [a, b, run.start(writer.on("C {{ b }}", b=b), name="c")]


def values(leg: Leg) -> list[Any]:
    return [outcome.value for outcome in leg.ended.values()]


async def test_after_an_exception_only_what_is_missing_is_asked(tmp_path: Path) -> None:
    first = await go(tmp_path, chain, after=1.5, seed=5)
    assert first.asked == ["A", "B re: A"]
    second = await go(tmp_path, chain, seed=9)
    assert second.asked == ["B re: A", "C re: B re: A"]
    assert values(second) == ["re: A", "re: B re: A", "re: C re: B re: A"]
    assert (second.run.id, second.run.seed, second.run.status) == (first.run.id, 5, "done")
    assert (second.run.record.usage.calls, second.run.record.usage.uncertain) == (4, 1)
    assert second.run.record.usd == pytest.approx(3 * 15e-6)
    assert [intent.call for intent in events(tmp_path, CallIntent)] == [1, 2, 3, 4]
    (shown,) = list_runs(tmp_path / "journal")
    assert (shown.status, shown.added, shown.done, shown.calls, shown.resumes) == ("done", 3, 3, 4, 1)


async def test_a_call_that_was_in_flight_at_a_kill_is_asked_again_and_counted_as_uncertain(tmp_path: Path) -> None:
    await go(tmp_path, chain, after=1.5, killed=True)
    second = await go(tmp_path, chain)
    assert second.asked == ["B re: A", "C re: B re: A"]
    assert second.run.record.usage.uncertain == 1
    (lost,) = [one for one in events(tmp_path, CallEnded) if one.uncertain]
    assert (lost.call, lost.address.partition("/")[0]) == (2, "b")


async def test_a_call_that_was_in_flight_is_not_sent_again_where_that_is_wished(tmp_path: Path) -> None:
    await go(tmp_path, chain, after=1.5, killed=True)
    seen: list[str] = []

    def ask(open_calls: Any) -> Any:
        seen.extend(call.address.partition("/")[0] for call in open_calls)
        return "fail"

    second = await go(tmp_path, chain, resume=Resume(run_path(tmp_path), on_uncertain=ask))
    assert (seen, second.asked) == (["b"], [])
    a, b, c = second.ended.values()
    assert (a.state, b.state, c.state) == ("done", "failed", "skipped")
    assert b.error is not None
    assert "may have been paid, and is not sent again" in b.error.message


async def test_a_task_whose_end_cannot_be_read_is_performed_again_and_that_is_told(tmp_path: Path) -> None:
    await go(tmp_path, chain, after=1.5)
    with RunFile.open(run_path(tmp_path)) as run:
        (number,) = [number for number, event in run.events(TaskEnded) if event.outcome.ok]  # type: ignore[union-attr]
    with closing(sqlite3.connect(run_path(tmp_path), isolation_level=None)) as file:
        file.execute("UPDATE event SET body = x'00' WHERE id = ?", (number,))
    second = await go(tmp_path, chain)
    assert second.asked == ["B re: A", "C re: B re: A"]  # the reply to A is intact
    assert values(second) == ["re: A", "re: B re: A", "re: C re: B re: A"]
    (told,) = [notice.text for notice in events(tmp_path, Notice) if notice.level == "warning"]
    assert told.startswith("the record of how a/")
    assert told.endswith(" ended is damaged: it is performed again")


async def test_a_finished_run_is_gone_on_with_only_when_it_is_named(tmp_path: Path) -> None:
    await go(tmp_path, chain, 400)
    assert len(list_runs(tmp_path / "journal")) == 1
    again = await go(tmp_path, chain, resume=Resume(run_path(tmp_path)))
    assert again.asked == []
    assert [one.state for one in again.ended.values()] == ["failed", "skipped", "skipped"]
    failed = await go(tmp_path, chain, resume=Resume(run_path(tmp_path), failed=True))
    assert values(failed) == ["re: A", "re: B re: A", "re: C re: B re: A"]
    assert failed.run.status == "done"
    (shown,) = list_runs(tmp_path / "journal")
    assert (shown.added, shown.done, shown.failed, shown.skipped, shown.resumes) == (3, 3, 0, 0, 2)
    assert [event.state for event in events(tmp_path, TaskReopened)] == ["failed", "skipped", "skipped"]


async def test_changed_instructions_ask_again_what_they_concern(tmp_path: Path) -> None:
    def build(run: Run, instructions: str) -> list[Task[Any]]:
        critic = am.Agent[str]("critic", model="scripted/m", instructions=instructions)
        a = run.start(writer.on("A"), name="a")
        b = run.start(critic.on("B {{ a }}", a=a), name="b")
        c = run.start(writer.on("C {{ b }}", b=b), name="c")
        return [a, b, c, run.start(writer.on("D"), name="d"), run.start(writer.on("E {{ c }}", c=c), name="e")]

    first = await go(tmp_path, lambda run: build(run, "Be kind."), after=3.5)
    assert len(first.asked) == 5
    second = await go(tmp_path, lambda run: build(run, "Be strict."))
    # What the critic says is the same as before, so what reads it is not asked again.
    assert second.asked == ["B re: A", "E re: C re: B re: A"]


async def test_what_a_later_process_does_not_ask_for_does_not_count_and_may_come_back(tmp_path: Path) -> None:
    def build(run: Run, names: str) -> list[Task[Any]]:
        drafts = [run.start(writer.on(name.upper()), name="draft", key=name) for name in names]
        return [*drafts, *(run.start(am.call(failing, one), name="check") for one in drafts)]

    def failing(draft: str) -> str:
        raise ValueError(draft)

    await go(tmp_path, lambda run: build(run, "abc"), after=1.5)  # all drafts have ended
    second = await go(tmp_path, lambda run: build(run, "ad"))
    assert second.asked == ["D"]
    (shown,) = list_runs(tmp_path / "journal")
    assert (shown.status, shown.added, shown.done, shown.failed, shown.calls) == ("partial", 4, 2, 2, 4)
    dropped = {event.address: event.state for event in events(tmp_path, TaskDropped)}
    assert dropped == {"draft/b": "done", "draft/c": "done", "check/b": "failed", "check/c": "failed"}
    with RunFile.open(run_path(tmp_path)) as file:
        history = run_history(file)
        (item,) = item_histories(file, "draft/b")
    assert [task.unfinished for task in history.tasks.values()] == [0, 0]
    assert [str(one.address) for one in history.failures] == ["check/a", "check/d"]
    assert (item.dropped, item.outcome, len(item.calls)) == (True, None, 1)

    third = await go(tmp_path, lambda run: build(run, "bad"), resume=Resume(run_path(tmp_path), failed=True))
    assert third.asked == []  # the answer to b is still there
    (shown,) = list_runs(tmp_path / "journal")
    assert (shown.added, shown.done, shown.failed, shown.calls) == (6, 3, 3, 4)


@pytest.mark.parametrize("several", [False, True])
async def test_what_was_done_anew_before_a_kill_is_heard_of_by_what_depends_on_it(
    tmp_path: Path, several: bool
) -> None:
    def judged(body: dict[str, Any]) -> str:
        return f"{'strict' if 'strict' in str(body) else 'kind'}: {said(body, 'user')[-1]}"

    def build(run: Run, instructions: str) -> list[Task[Any]]:
        critic = am.Agent[str]("critic", model="scripted/m", instructions=instructions)
        a = run.start(critic.on("A"), name="a")
        b = run.start(writer.on("B {{ a }}", a=[a]) if several else writer.on("B {{ a }}", a=a), name="b")
        return [a, b, run.start(writer.on("C {{ b }}", b=b), name="c")]

    first = await go(tmp_path, lambda run: build(run, "Be kind."), judged, after=2.5)
    assert len(first.asked) == 3  # a and b have ended
    second = await go(tmp_path, lambda run: build(run, "Be strict."), judged, after=1.5, killed=True)
    assert second.asked[0] == "A"  # and what was done anew is on disk, not so what depends on it
    (shown,) = list_runs(tmp_path / "journal")
    assert (shown.added, shown.done) == (3, 1)  # b holds no longer
    third = await go(tmp_path, lambda run: build(run, "Be strict."), judged)
    assert len(third.asked) == 2
    assert "A" not in third.asked
    assert "strict: A" in third.ended[next(one for one in third.ended if one.startswith("c/"))].value
    fourth = await go(tmp_path, lambda run: build(run, "Be strict."), judged, resume=Resume(run_path(tmp_path)))
    assert (fourth.asked, values(fourth)) == ([], values(third))


async def test_what_was_taken_back_and_comes_to_the_same_is_not_done_once_more_nor_what_depends_on_it(
    tmp_path: Path,
) -> None:
    def build(run: Run, instructions: str) -> list[Task[Any]]:
        critic = am.Agent[str]("critic", model="scripted/m", instructions=instructions)
        a = run.start(critic.on("A"), name="a")
        b = run.start(am.call(always_the_same, a), name="b")
        return [a, b, run.start(am.call(counted, b), name="c"), run.start(writer.on("D"), after=b, name="d")]

    def judged(body: dict[str, Any]) -> str:
        return f"{'strict' if 'strict' in str(body) else 'kind'}: {said(body, 'user')[-1]}"

    await go(tmp_path, lambda run: build(run, "Be kind."), judged, after=1.5)  # all but d have ended
    assert performed == ["same", "counted"]
    again = await go(tmp_path, lambda run: build(run, "Be strict."), judged)
    assert again.asked == ["A", "D"]
    assert performed == ["same", "counted", "same"]
    (shown,) = list_runs(tmp_path / "journal")
    assert (shown.status, shown.added, shown.done) == ("done", 4, 4)
    assert [event.address[0] for event in events(tmp_path, TaskReopened)] == ["a", "b", "d"]  # d was cut short


async def test_what_comes_to_the_same_the_second_time_is_not_done_anew_for_a_later_process(tmp_path: Path) -> None:
    def build(run: Run, instructions: str) -> list[Task[Any]]:
        critic = am.Agent[str]("critic", model="scripted/m", instructions=instructions)
        a = run.start(critic.on("A"), name="a")
        b = run.start(am.call(always_the_same, a), name="b")
        return [a, b, run.start(am.call(counted, b), name="c"), run.start(am.call(joined, [b]), name="d")]

    def judged(body: dict[str, Any]) -> str:
        return f"{'strict' if 'strict' in str(body) else 'kind'}: {said(body, 'user')[-1]}"

    await go(tmp_path, lambda run: build(run, "Be kind."), judged)
    assert performed == ["same", "counted", "joined"]
    for strictly, done in [("Be strict.", ["same"]), ("Be strict.", []), ("Be kind.", ["same"]), ("Be kind.", [])]:
        performed.clear()
        await go(tmp_path, lambda run, how=strictly: build(run, how), judged, resume=Resume(run_path(tmp_path)))  # type: ignore[misc]
        assert performed == done
        (shown,) = list_runs(tmp_path / "journal")
        assert (shown.status, shown.added, shown.done) == ("done", 4, 4)


async def test_what_was_skipped_stands_when_something_else_that_it_read_is_done_anew(tmp_path: Path) -> None:
    def answers(body: dict[str, Any]) -> Any:
        return 400 if said(body, "user")[-1] == "B" else f"{len(str(body))}: {said(body, 'user')[-1]}"

    def build(run: Run, instructions: str) -> list[Task[Any]]:
        critic = am.Agent[str]("critic", model="scripted/m", instructions=instructions)
        a, b = run.start(critic.on("A"), name="a"), run.start(writer.on("B"), name="b")
        c = run.start(writer.on("C {{ a }} {{ b }}", a=a, b=b), name="c")
        return [a, b, c, run.start(writer.on("D {{ c }}", c=c), name="d")]

    await go(tmp_path, lambda run: build(run, "Be kind."), answers)
    again = await go(tmp_path, lambda run: build(run, "Be strict."), answers, resume=Resume(run_path(tmp_path)))
    assert (again.asked, [one.state for one in again.ended.values()]) == (
        ["A"],
        ["done", "failed", "skipped", "skipped"],
    )
    (shown,) = list_runs(tmp_path / "journal")
    assert (shown.added, shown.done, shown.failed, shown.skipped) == (4, 1, 1, 2)
    assert [event.address[0] for event in events(tmp_path, TaskReopened)] == ["a"]


@pytest.mark.parametrize("killed", [False, True])
async def test_what_was_skipped_for_a_failure_is_done_once_that_has_succeeded(tmp_path: Path, killed: bool) -> None:
    await go(tmp_path, chain, 400)
    second = await go(tmp_path, chain, resume=Resume(run_path(tmp_path), failed=True), after=1.5, killed=killed)
    assert second.asked == ["A", "B re: A"]
    (shown,) = list_runs(tmp_path / "journal")
    assert (shown.added, shown.done, shown.failed, shown.skipped) == (3, 1, 0, 0)
    third = await go(tmp_path, chain)
    assert third.asked == ["B re: A", "C re: B re: A"]
    assert values(third) == ["re: A", "re: B re: A", "re: C re: B re: A"]


async def always_the_same(text: str) -> str:
    performed.append("same")
    return "same"


async def counted(text: str) -> str:
    performed.append("counted")
    return text


async def joined(texts: list[str]) -> str:
    performed.append("joined")
    return " ".join(texts)


async def papers(text: str) -> Paper:
    performed.append("annotated")
    return Paper(title=text)


async def points(text: str) -> Point:
    performed.append("dataclass")
    return Point(len(text))


async def plain(text: str):  # type: ignore[no-untyped-def]  # as users write it
    performed.append("plain")
    return {"text": text}


async def opaque(text: str):  # type: ignore[no-untyped-def]
    performed.append("opaque")
    return Paper(title=text)


async def title_of(one: Any) -> str:
    return type(one).__name__


@pytest.mark.parametrize(
    ("function", "kind", "again"),
    [(papers, "Paper", False), (points, "Point", False), (plain, "dict", False), (opaque, "Paper", True)],
)
async def test_results_of_functions_come_back_as_what_they_were(
    tmp_path: Path, function: Any, kind: str, again: bool
) -> None:
    def build(run: Run) -> list[Task[Any]]:
        a = run.start(writer.on("A"), name="a")
        made = run.start(am.call(function, a), name="made")
        b = run.start(writer.on("B"), name="b", after=made)
        return [a, made, b, run.start(am.call(title_of, made), name="kind", after=b)]

    await go(tmp_path, build, after=1.5)
    assert len(performed) == 1
    second = await go(tmp_path, build)
    assert values(second)[-1] == kind
    assert type(values(second)[1]).__name__ == kind
    assert len(performed) == (2 if again else 1)  # what cannot be read from its record is made again
    assert second.asked == ["B"]


class Counted:
    """Something whose methods depend on more than their names."""

    def __init__(self, text: str) -> None:
        self.text = text

    async def told(self) -> str:
        return self.text


async def test_what_a_method_does_depends_on_its_object(tmp_path: Path) -> None:
    def build(run: Run, text: str) -> list[Task[Any]]:
        told = run.start(am.call(Counted(text).told), name="told", key="1")
        return [told, run.start(writer.on("A {{ told }}", told=told), name="a")]

    await go(tmp_path, lambda run: build(run, "x"), after=0.5)
    second = await go(tmp_path, lambda run: build(run, "y"))
    assert values(second) == ["y", "re: A y"]


current: list[Run] = []


async def grow(depth: int) -> int:
    performed.append(f"grow {depth}")
    if depth:
        current[-1].start(writer.on("at {{ depth }}", depth=depth), name="leaf", key=str(depth))
        current[-1].start(am.call(grow, depth - 1), name="grow", key=str(depth - 1))
    return depth


async def test_what_a_finished_task_has_started_is_started_again(tmp_path: Path) -> None:
    def build(run: Run) -> list[Task[Any]]:
        current.append(run)
        return [run.start(am.call(grow, 3), name="grow", key="3")]

    first = await go(tmp_path, build, after=0.5)
    assert sorted(first.asked) == ["at 1", "at 2", "at 3"]
    second = await go(tmp_path, build)
    assert sorted(second.asked) == ["at 1", "at 2", "at 3"]  # all were in flight
    (shown,) = list_runs(tmp_path / "journal")
    assert (shown.status, shown.added, shown.done) == ("done", 7, 7)
    assert len(events(tmp_path, TaskAdded)) == 7


@am.tool
async def search(query: str) -> str:
    """Search."""
    performed.append(query)
    return f"found {query}"


@am.tool
async def delegate(query: str) -> str:
    """Have somebody else look."""
    performed.append(query)
    current[-1].start(writer.on("look {{ query }}", query=query), name="helper", key=query)
    return "somebody looks"


@pytest.mark.parametrize(("tool", "times"), [(search, 1), (delegate, 2)])
async def test_a_tool_does_its_work_once_unless_it_starts_tasks(tmp_path: Path, tool: Any, times: int) -> None:
    def build(run: Run) -> list[Task[Any]]:
        current.append(run)
        agent = am.Agent[str]("scientist", model="scripted/m", tools=[tool])
        return [run.start(agent.on("Go."), name="probe", key="1")]

    def answers(body: dict[str, Any]) -> Any:
        if said(body, "user")[-1] != "Go.":
            return echo(body)
        return "Done." if said(body) else call_tools((tool.name, {"query": "x"}))

    await go(tmp_path, build, answers, after=1.5, killed=True)
    second = await go(tmp_path, build, answers)
    assert values(second) == ["Done."]
    assert performed == ["x"] * times
    assert len([event for event in events(tmp_path, ToolEnded) if not event.grew]) == (1 if times == 1 else 0)
    assert second.asked.count("Go.") == 1  # its second turn; the first was answered


@pytest.mark.parametrize("killed", [False, True])
async def test_matches_are_played_again_without_asking(tmp_path: Path, killed: bool) -> None:
    judge = am.Agent[Any]("judge", model="scripted/m")

    def build(run: Run) -> list[Task[Any]]:
        drafts = [run.start(writer.on("D {{ n }}", n=n), name="draft", key=str(n)) for n in range(4)]
        return [*drafts, run.tournament(judge, entrants=drafts, criteria="quality", stop=am.Stop(matches=20))]

    def answers(body: dict[str, Any]) -> Any:
        return '{"reasons": "r", "winner": "first"}' if "response_format" in body else echo(body)

    first = await go(tmp_path, build, answers, after=2.5, killed=killed)
    played = events(tmp_path, MatchEnded)
    assert 0 < len(played) < 20
    second = await go(tmp_path, build, answers)
    matches = events(tmp_path, MatchEnded)
    assert len(matches) == len({match.address for match in matches}) == 20
    assert matches[: len(played)] == played
    assert len(first.asked) + len(second.asked) == 4 + 20 + second.run.record.usage.uncertain
    assert sum(row.matches for row in second.ended["contest"].value) == 40


async def unpause_later():  # type: ignore[no-untyped-def]
    await anyio.sleep(2.0)
    current[-1].set_paused(False)
    return Paper(title="later")  # cannot be read from its record, so that it is done again


async def test_a_tournament_that_has_failed_is_found_as_it_ended_once_its_entrants_are(tmp_path: Path) -> None:
    judge = am.Agent[Any]("judge", model="scripted/m")

    def build(run: Run) -> list[Task[Any]]:
        current.append(run)
        run.start(am.call(unpause_later), name="later")
        theme = run.start(am.call(opaque, "x"), name="theme")
        run.set_paused(True)  # when the tournament begins, the theme has come to the same, and the drafts are found
        drafts = [run.start(writer.on("D {{ n }}", n=n), name="draft", key=str(n), after=theme) for n in range(2)]
        return [*drafts, run.tournament(judge, entrants=drafts, criteria="quality", stop=am.Stop(matches=1))]

    def answers(body: dict[str, Any]) -> Any:
        return 400 if "response_format" in body else echo(body)

    await go(tmp_path, build, answers)
    again = await go(tmp_path, build, answers, resume=Resume(run_path(tmp_path)))
    assert (again.asked, [one.state for one in again.ended.values()]) == ([], ["done", "done", "failed"])
    assert performed == ["opaque", "opaque"]
    assert events(tmp_path, TaskReopened) == []


async def test_a_run_that_keeps_no_content_asks_again_and_says_so(tmp_path: Path) -> None:
    await go(tmp_path, chain, after=1.5, content=False)
    assert b"re: A" not in run_path(tmp_path).read_bytes()
    second = await go(tmp_path, chain, content=False)
    assert second.asked == ["A", "B re: A", "C re: B re: A"]
    assert values(second)[-1] == "re: C re: B re: A"


async def test_a_run_that_keeps_no_content_keeps_none_when_one_forgets_to_say_so_again(tmp_path: Path) -> None:
    await go(tmp_path, chain, after=1.5, content=False)
    again = await go(tmp_path, chain)
    assert values(again) == ["re: A", "re: B re: A", "re: C re: B re: A"]
    assert {one.outcome.value for one in events(tmp_path, TaskEnded)} == {None}
    assert all(one.reply is None for one in events(tmp_path, CallEnded))


async def test_budgets_count_what_was_in_flight_at_a_kill(tmp_path: Path) -> None:
    await go(tmp_path, chain, after=1.5, killed=True)
    model = Scripted(tmp_path, echo)
    given: dict[str, Any] = {**model.options, "journal": tmp_path / "journal"}
    async with (
        am.open_mesh(**given) as mesh,
        mesh.open_run("r", resume=True, failures="report", budget=am.Budget(calls=3)) as run,
    ):
        chain(run)
    assert (run.status, len(model.asked)) == ("stopped", 1)  # one was answered, one in flight, one is left


class Opaque:
    """What has no JSON form."""


def hidden(number: int) -> Opaque:
    return Opaque()


def unannotated(number: int):  # type: ignore[no-untyped-def]  # that is what is tested
    return Opaque()


async def test_results_that_stay_in_this_process_are_told_before_anything_is_asked(tmp_path: Path) -> None:
    told: list[str] = []

    def watch(event: Event) -> None:
        if isinstance(event, Notice):
            told.append(event.text.partition(",")[0])

    async with am.open_mesh(journal=tmp_path, watchers=[watch]) as mesh, mesh.open_run("lost") as run:
        run.start(am.call(hidden, 1))
        assert told == ["hidden gives a Opaque"]
        await run.start(am.call(unannotated, 1))
        await run.start(am.call(unannotated, 2))
    assert told == ["hidden gives a Opaque", "unannotated gives a Opaque"]
