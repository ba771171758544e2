"""Handles refuse to be values, find their way into arguments, and give tasks their keys and addresses."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pydantic
import pytest
from scripted import Scripted, provider_file, said

import agentmesh as am
from agentmesh.errors import HandleMisuse
from agentmesh.events import TaskAdded
from agentmesh.mesh.work import Work

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


class Pair(NamedTuple):
    left: Any
    right: Any


def echo(*args: Any, **kwargs: Any) -> Any:
    return args[0] if len(args) == 1 and not kwargs else (args, kwargs)


def fail(*args: Any) -> None:
    raise LookupError("gone")


def typed(text: str) -> str:
    return text


MISUSES: list[Callable[[Any], Any]] = [
    str, bool, list, "{}".format, "{:>10}".format, lambda task: f"Review: {task}", lambda task: f"{task!s:.3}",
    lambda task: "%s" % task,  # noqa: UP031 - people write it
    lambda task: not task, lambda task: 1 if task else 2, lambda task: [*task],
    lambda task: print(task, file=None), lambda task: ", ".join(map(str, [task])), any, tuple,
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(MISUSES)))
async def test_a_handle_is_not_its_value(number: int) -> None:
    async with am.open_mesh(journal=None) as mesh, mesh.open_run("misuse") as run:
        task = run.start(am.call(echo, 1), name="draft", key="k")
        contest = run.tournament(am.Agent("judge", model="sim/small"), entrants=[task])
        for handle, text in ((task, "<Task draft/k "), (contest, "<Contest contest:")):
            with pytest.raises(HandleMisuse, match="it is a task's handle, not its value; give it to a call") as error:
                MISUSES[number](handle)
            assert text in str(error.value)
        with pytest.raises(TypeError):  # as code that guards against wrong types expects
            MISUSES[number](task)


async def test_a_handle_that_hides_in_an_object_never_reaches_a_model(tmp_path: Path) -> None:
    class Box(pydantic.BaseModel):
        model_config = {"arbitrary_types_allowed": True}
        inside: Any

    model = Scripted(tmp_path, "never")
    async with am.open_mesh(**model.options) as mesh, mesh.open_run("hidden", failures="report") as run:
        task = run.start(am.call(echo, 1), name="draft", key="k")
        agent = am.Agent("reader", model="scripted/m")
        for prompt in ("{{ box.inside }}", "{% for x in box.inside %}{{ x }}{% endfor %}", "{{ box }}"):
            outcome = await run.start(agent.on(prompt, box=Box.model_construct(inside=task))).outcome()
            assert outcome.error is not None
            assert outcome.error.kind in ("bad_request", "internal")
    assert model.asked == []


async def test_values_take_the_place_of_handles_wherever_they_stand() -> None:
    async with am.open_mesh(journal=None) as mesh, mesh.open_run("values", failures="report") as run:
        one, two = run.start(am.call(echo, 1)), run.start(am.call(echo, "two"))
        bad = run.start(am.call(fail))
        given = run.start(am.call(echo, one, [two, bad, [bad, one]], named={"a": one, "b": bad, "c": 3}, t=(two, 5)))
        assert await given == ((1, ["two", [1]]), {"named": {"a": 1, "c": 3}, "t": ("two", 5)})
        pair = run.start(am.call(echo, Pair(one, bad)))
        assert await pair == Pair(1, None)
        assert await run.start(am.call(echo, {"untouched": {1, 2}, "of": frozenset("a")})) == {
            "untouched": {1, 2}, "of": frozenset("a"),
        }  # fmt: skip


async def test_keys_are_given_or_come_from_the_only_handle_or_from_the_arguments() -> None:
    async with am.open_mesh(journal=None) as mesh, mesh.open_run("keys") as run:
        agent = am.Agent("Agent X-1", model="sim/small")
        first = run.start(am.call(echo, 1), name="draft", key="a b/ü")
        alike = [run.start(am.call(echo, 1), name="draft", key="same") for _ in range(3)]
        hashed = [run.start(agent.on("On {{ t }}", t=topic)) for topic in ("x", "y", "x")]
        over = [run.start(agent.on("Review {{ d }} {{ n }}", d=first, n=number)) for number in range(2)]
        two = run.start(am.call(echo, first, alike[0]))
        bare = run.start(am.call(echo, run.tournament(agent, entrants=[first])))
        odd = [run.start(am.call(echo, value)) for value in (object(), object(), run, b"bytes")]
        lambdas = run.start(am.call(lambda: 1))
        assert [str(task.address) for task in (first, *alike)] == [
            "draft/a%20b%2F%C3%BC", "draft/same", "draft/same~2", "draft/same~3",
        ]  # fmt: skip
        names = [str(task.address) for task in hashed]
        assert names[0].startswith("agent_x_1/")
        assert len(names[0]) == len("agent_x_1/") + 8
        assert names[0] != names[1]
        assert names[2] == names[0] + "~2"
        assert [str(task.address) for task in over] == ["agent_x_1/a%20b%2F%C3%BC", "agent_x_1/a%20b%2F%C3%BC~2"]
        assert str(two.address).startswith("echo/")
        assert str(bare.address) == "echo/contest"
        assert str(odd[1].address) == f"{odd[0].address}~2"
        assert len({str(task.address).partition("~")[0] for task in odd}) == 3
        assert str(lambdas.address).startswith("lambda/")


async def test_the_same_program_gives_the_same_addresses(tmp_path: Path) -> None:
    async def addresses() -> list[str]:
        async with am.open_mesh(journal=None) as mesh, mesh.open_run("same") as run:
            drafts = [run.start(am.call(echo, {"b": 1, "a": [topic, object()]})) for topic in ("x", "y")]
            return [str(task.address) for task in (*drafts, run.start(am.call(echo, drafts)))]

    assert await addresses() == await addresses()


@pytest.mark.both_backends
async def test_a_collection_needs_as_much_as_is_required() -> None:
    async with am.open_mesh(journal=None) as mesh, mesh.open_run("require", failures="report") as run:
        tasks = [run.start(am.call(fail if number < 3 else echo, number)) for number in range(4)]
        outcomes = {
            require: await run.start(am.call(sum, tasks), require=require).outcome()
            for require in ("any", "all", "25%", 0.25, "26%", "0%")
        }
        assert {require: outcome.state for require, outcome in outcomes.items()} == {
            "any": "done", "all": "skipped", "25%": "done", 0.25: "done", "26%": "skipped", "0%": "done",
        }  # fmt: skip
        assert outcomes["any"].value == 3
        assert str(outcomes["all"].error) == "dependency: 1 of 4 of sum succeeded, 100% required"
        none = run.start(am.call(sum, tasks[:3]))
        assert (await none.outcome()).state == "skipped"
        assert await run.start(am.call(sum, tasks[:3]), require="0%") == 0
        assert await run.start(am.call(sum, [])) == 0


@pytest.mark.both_backends
async def test_after_orders_without_data_and_fails_like_a_dependency() -> None:
    order: list[str] = []

    async def note(name: str, seconds: float = 0.0) -> None:
        await anyio.sleep(seconds)
        order.append(name)

    async with am.open_mesh(journal=None) as mesh, mesh.open_run("after", failures="report") as run:
        slow = run.start(am.call(note, "slow", 5.0))
        run.start(am.call(note, "alone"), after=slow)
        run.start(am.call(note, "listed"), after=[slow])
        lost = run.start(am.call(note, "lost"), after=(task for task in [slow, run.start(am.call(fail))]))
    assert order == ["slow", "alone", "listed"] or order == ["slow", "listed", "alone"]
    assert (await lost.outcome()).state == "skipped"


async def test_prompts_are_templates_only_where_they_have_braces(tmp_path: Path) -> None:
    model = Scripted(tmp_path, "ok")
    async with am.open_mesh(**model.options) as mesh, mesh.open_run("prompts") as run:
        agent = am.Agent("reader", model="scripted/m")
        await run.start(agent.on("plain { text } 100%"))
        await run.start(agent.on("{{ tasks }} and {{ prompt }}: {{ n | round(1) }}", tasks="me", prompt="p", n=2.55))
        await run.start(agent.on("{% for x in xs %}{{ x.id }};{% endfor %}", xs=[{"id": 1}, {"id": 2}]))
        assert await mesh.ask("scripted/m", "Jinja looks like {{ this }} {% or this") == "ok"
    assert [said(body, "user") for body in model.asked] == [
        ["plain { text } 100%"], ["me and p: 2.5"], ["1;2;"], ["Jinja looks like {{ this }} {% or this"],
    ]  # fmt: skip


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("a name has lower-case letters", {"name": "Draft 1"}),
    ("a priority is low, normal, high or a number, not 'urgent'", {"priority": "urgent"}),
    ("a priority is low, normal, high or a number, not nan", {"priority": float("nan")}),
    ("require is any, all, a percentage like 95% or a share from 0 to 1, not 'most'", {"require": "most"}),
    ("not '101%'", {"require": "101%"}),
    ("not 95", {"require": 95}),
    ("a timeout is a number of seconds above 0, not 0", {"timeout": 0}),
    ("retry=0: attempts must be a whole number from 1 on", {"retry": 0}),
    ("retry has attempts and on, not attemps", {"retry": {"attemps": 3}}),
    ("there are no errors of kind time; there are rate", {"retry": {"attempts": 3, "on": ["time"]}}),
    ("retry=True: attempts must be a whole number", {"retry": True}),
    ("on_failure is fail, skip", {"on_failure": "ignore"}),
    ("on_failure is fail, skip", {"on_failure": {"fallback": {"task": "x"}}}),
    ("sim has no model called 'tiny'", {"on_failure": {"fallback": {"model": "sim/tiny"}}}),
]


@pytest.mark.parametrize(("message", "options"), WRONG)
async def test_options_that_make_no_sense_are_told_before_anything_is_asked(
    message: str, options: dict[str, Any]
) -> None:
    events: list[Any] = []
    async with am.open_mesh(journal=None, watchers=[events.append]) as mesh, mesh.open_run("wrong") as run:
        with pytest.raises(am.UserError) as error:
            run.start(am.Agent("reader", model="sim/small").on("Hello."), **options)
        assert message.replace("a name", "a task's name") in str(error.value)
        again = run.start(am.call(echo, 1), name="reader")
        assert "~" not in str(again.address), "what was refused has taken no key"
    assert [event.task for event in events if isinstance(event, TaskAdded)] == ["reader"]


async def test_what_calls_and_agents_lack_is_told_before_anything_is_asked() -> None:
    async with am.open_mesh(journal=None) as mesh, mesh.open_run("wrong") as run:
        agent = am.Agent("reader", model="sim/small")
        for prompt, message in (
            ("Goal: {{ goal }}", "reader, line 1: goal: there is no such name here; there are t"),
            ("x\n{{ t }} {{ tt.x }}", "reader, line 2: tt.x: there is no such name here; there are t"),
            ("{{ t ", "reader, line 1: "),
            ("{% if t %}", "reader, line 1: {% if %} is not closed"),
        ):
            with pytest.raises(am.UserError) as error:
                run.start(agent.on(prompt, t=1))
            assert message in str(error.value)
        with pytest.raises(am.UserError, match="sim has no model called 'tiny'"):
            run.start(am.Agent("reader", model="sim/tiny").on("Hello."))
        with pytest.raises(am.UserError, match="sim has no model called 'tiny'"):
            run.tournament(am.Agent("judge", model="sim/tiny"), entrants=[])
        with pytest.raises(am.UserError, match="nosuch"):
            await mesh.ask("nosuch/model", "Hello.")
        with pytest.raises(am.UserError, match="the entrant text of contest, line 1"):
            run.tournament(agent, entrants=[], entrant="{{ item")


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("the agent x has no model", {"model": []}),
        ("max_turns and repairs are numbers from 0 on", {"model": "sim/small", "max_turns": -1}),
        ("two tools of one name: typed, typed", {"model": "sim/small", "tools": [typed, am.tool(typed)]}),
    ],
)
def test_agents_that_make_no_sense(message: str, options: dict[str, Any]) -> None:
    with pytest.raises(am.UserError, match=message):
        am.Agent("x", **options)


async def test_a_provider_file_of_ones_own(tmp_path: Path) -> None:
    async with am.open_mesh(journal=None, provider_files=[provider_file(tmp_path)]) as mesh:
        assert (await mesh.ask("lab/free", "Hello.")).startswith("(A simulated reply of free.)")


def test_the_work_of_an_item_is_on_the_same_terms() -> None:
    names = [field.name for field in dataclasses.fields(Work)]
    terms = Work(**{name: f"its {name}" for name in names})  # type: ignore[arg-type]
    work = terms.of_item(echo, item=1, asked="2")
    own = {"perform": echo, "item": 1, "asked": "2"}
    assert {name: getattr(work, name) for name in names} == {name: f"its {name}" for name in names} | own
