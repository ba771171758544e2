"""Tools: what a model is told of them, how its calls are performed, and what it hears when something is wrong."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import functools
import threading
from collections.abc import Callable
from typing import Annotated, Any, Literal

import anyio
import pydantic
import pytest

from agentmesh.agents.context import Context
from agentmesh.agents.tools import as_tool, perform_tool, tool
from agentmesh.client.caller import Halted
from agentmesh.clock import monotonic
from agentmesh.errors import BudgetExceeded, CallFailed, ErrorInfo, UserError
from agentmesh.messages import Message, ToolCall

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


async def no_ask(model: str, prompt: str) -> str:
    raise CallFailed(ErrorInfo("server", f"{model} is out"))


CONTEXT = Context(run="r", address="task/key", agent="scientist", seed=1, ask=no_ask)


async def use(function: Callable[..., Any], arguments: str = "{}", *, name: str | None = None) -> Message:
    made = as_tool(function)
    return await perform_tool({made.name: made}, ToolCall("c1", name or made.name, arguments), CONTEXT)


class Place(pydantic.BaseModel):
    name: str
    at: tuple[float, float] = (0.0, 0.0)


@tool
def find(
    query: Annotated[str, pydantic.Field(description="What to look for.")],
    kind: Literal["paper", "book"] = "paper",
    limit: int = 5,
    near: Place | None = None,
) -> list[str]:
    """Find publications.

    All of them.
    """
    return [f"{query}/{kind}/{limit}/{near.name if near else '-'}"] * 2


def test_a_model_is_told_names_types_defaults_and_what_they_are_for() -> None:
    assert (find.name, find.description) == ("find", "Find publications.\n\nAll of them.")
    parameters = dict(find.spec.parameters)
    assert parameters["required"] == ["query"]
    assert parameters["additionalProperties"] is False
    assert parameters["properties"]["query"] == {"description": "What to look for.", "title": "Query", "type": "string"}
    assert parameters["properties"]["kind"]["enum"] == ["paper", "book"]
    assert parameters["properties"]["limit"]["default"] == 5
    assert "Place" in parameters["$defs"]
    assert find("x", limit=1) == ["x/paper/1/-"] * 2, "outside of agents it is the function itself"


def test_the_context_is_not_shown_and_a_name_can_be_given() -> None:
    @tool(name="look", timeout=3)
    async def search(query: str, context: Context) -> str:
        return query

    assert (search.name, search.timeout, search.idempotent) == ("look", 3, False)
    assert list(search.spec.parameters["properties"]) == ["query"]
    assert search.description == "look"


UNUSABLE: list[tuple[Callable[..., Any], str]] = [
    (lambda query: query, "the parameter query of the tool <lambda> needs a type"),
    (eval("lambda *many: many"), "a model needs named parameters"),
    (eval("lambda **named: named"), "a model needs named parameters"),
]


@pytest.mark.parametrize(("function", "message"), UNUSABLE)
def test_functions_that_can_be_no_tools(function: Callable[..., Any], message: str) -> None:
    with pytest.raises(UserError, match=message.replace("<", ".").replace("*", ".")):
        as_tool(function)


def test_what_is_left_to_later_says_so() -> None:
    with pytest.raises(UserError, match="background=True is not supported yet"):
        tool(background=True)


@pytest.mark.both_backends
async def test_sync_functions_run_in_threads_and_async_ones_here() -> None:
    here = threading.get_ident()

    def sync() -> bool:
        return threading.get_ident() == here

    async def waits() -> bool:
        return threading.get_ident() == here

    class Callable_:  # noqa: N801
        __name__ = "object"

        async def __call__(self) -> bool:
            return threading.get_ident() == here

    def gives_awaitable() -> Any:
        return waits()

    async def takes(number: int, ctx: Context | None = None) -> list[Any]:
        return [number, ctx is not None]

    texts = [(await use(function)).text for function in (sync, waits, Callable_(), gives_awaitable)]
    assert texts == ["false", "true", "true", "true"]
    partial = as_tool(functools.partial(takes), name="partial")
    assert (await use(partial, '{"number": 3}')).text == "[3,true]"
    assert list(partial.spec.parameters["properties"]) == ["number"]


@dataclasses.dataclass
class Row:
    at: datetime.date
    n: int | None


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ("as it is", "as it is"), (None, "null"), (1.5, "1.5"), (["ü", True], '["ü",true]'),
        (Place(name="x"), '{"name":"x","at":[0.0,0.0]}'),
        (Row(datetime.date(2026, 1, 2), None), '{"at":"2026-01-02","n":null}'),
        ({"a": {1}}, '{"a":[1]}'),
    ],
)  # fmt: skip
async def test_results_become_text_or_json(result: Any, text: str) -> None:
    async def give() -> Any:
        return result

    answer = await use(give)
    assert (answer.text, answer.is_error, answer.role, answer.tool_call_id) == (text, False, "tool", "c1")


async def test_what_has_no_form_as_data_is_an_error_and_never_a_repr() -> None:
    async def give() -> Any:
        return object()

    answer = await use(give)
    assert answer.is_error
    assert "0x" not in answer.text


WRONG: list[tuple[str, str]] = [
    ('{"query": "x", "limit": "many"}', "limit: Input should be a valid integer"),
    ('{"limit": 3}', "query: Field required"),
    ('{"query": "x", "sort": "date"}', "sort: Extra inputs are not permitted"),
    ('{"query": "x", "near": {"name": 3}}', "near.name: Input should be a valid string"),
    ('{"query": "x"', "arguments: Invalid JSON"),
    ("[1]", "arguments: Input should be an object"),
    ("null", "arguments: Input should be an object"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
async def test_arguments_that_do_not_fit_go_back_to_the_model(arguments: str, message: str) -> None:
    answer = await use(find, arguments)
    assert answer.is_error
    assert answer.text.startswith("These arguments do not fit: ")
    assert message in answer.text
    assert answer.text.endswith(f"They were: {arguments}")


async def test_good_arguments_come_as_their_types() -> None:
    assert (await use(find, '{"query": "x", "near": {"name": "home"}}')).text == '["x/paper/5/home","x/paper/5/home"]'
    assert (await use(find, "")).is_error


async def test_a_tool_that_there_is_not() -> None:
    assert (await use(find, name="seek")).text == "There is no tool seek. There are: find."
    answer = await perform_tool({}, ToolCall("c", "seek", "{}"), CONTEXT)
    assert (answer.text, answer.is_error) == ("There is no tool seek. There are none at all.", True)


@pytest.mark.both_backends
async def test_what_a_tool_raises_is_told_to_the_model_once() -> None:
    tried = 0

    async def broken() -> None:
        nonlocal tried
        tried += 1
        raise KeyError("shelf")

    answer = await use(broken)
    assert (answer.text, answer.is_error, tried) == ("broken failed: KeyError: 'shelf'", True, 1)
    answer = await use(tool(idempotent=True)(broken))
    assert (answer.text, tried) == ("broken failed: KeyError: 'shelf'", 4)


@pytest.mark.both_backends
async def test_an_idempotent_tool_is_tried_again_until_it_works() -> None:
    tried = 0

    @tool(idempotent=True)
    async def flaky() -> int:
        nonlocal tried
        tried += 1
        if tried < 3:
            raise OSError("not now")
        return tried

    began = monotonic()
    assert (await use(flaky)).text == "3"
    assert monotonic() - began < 3


@pytest.mark.both_backends
async def test_a_timeout_is_over_all_tries_and_a_timeout_of_its_own_is_an_error_like_others() -> None:
    @tool(timeout=2, idempotent=True)
    async def slow() -> None:
        await anyio.sleep(1.5)
        raise OSError

    began = monotonic()
    assert (await use(slow)).text == "slow did not end within 2 s."
    assert monotonic() - began == pytest.approx(2.0)

    async def own() -> None:
        raise TimeoutError("the socket")

    answer = await use(own)
    assert (answer.text, answer.is_error) == ("own failed: TimeoutError: the socket", True)
    assert (await use(tool(timeout=9)(own))).text == "own failed: TimeoutError: the socket"


@pytest.mark.parametrize("error", [BudgetExceeded("over", unit="calls"), Halted()])
async def test_what_ends_the_run_is_no_answer_to_a_model(error: Exception) -> None:
    tried = 0

    @tool(idempotent=True)
    async def ask() -> None:
        nonlocal tried
        tried += 1
        raise error

    with pytest.raises(type(error)):
        await use(ask)
    assert tried == 1


@pytest.mark.both_backends
async def test_being_cancelled_is_not_an_answer_either() -> None:
    ended: list[str] = []

    async def long() -> None:
        try:
            await anyio.sleep(100)
        finally:
            ended.append("long")

    with anyio.move_on_after(1) as scope:
        await use(long)
    assert scope.cancelled_caught
    assert ended == ["long"]


async def test_a_tool_that_ends_as_cancelled_by_itself_has_failed() -> None:
    async def forged() -> None:
        raise asyncio.CancelledError

    answer = await use(forged)
    assert answer.text == "forged failed: RuntimeError: it ended as cancelled, and nobody had cancelled it"


@pytest.mark.both_backends
async def test_the_context_knows_the_task_and_has_numbers_of_its_own() -> None:
    async def about(ctx: Context, model: str = "m") -> str:
        try:
            await ctx.ask(model, "Hello?")
        except CallFailed as failed:
            return f"{ctx.run} {ctx.address} {ctx.agent} {failed.error.kind} {ctx.rng is ctx.rng}"
        return "answered"

    assert (await use(about)).text == "r task/key scientist server true".replace("true", "True")
    same = Context(run="other", address="task/key", agent=None, seed=1, ask=no_ask)
    other = Context(run="other", address="task/key", agent=None, seed=2, ask=no_ask)
    again = Context(run="third", address="task/key", agent=None, seed=1, ask=no_ask)
    assert (first := same.rng.random()) == again.rng.random()
    assert first != other.rng.random()
    assert repr(same) == "<Context of task/key in other>"
