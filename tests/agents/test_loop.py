"""The turns of an agent: tools, repairs, and replies that are no answers; asked of a scripted model."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import anyio
import pydantic
import pytest

from agentmesh.agents.context import Context
from agentmesh.agents.loop import Turns, run_turns
from agentmesh.agents.output import OutputType
from agentmesh.agents.tools import Tool, as_tool
from agentmesh.client.caller import Caller
from agentmesh.clock import monotonic
from agentmesh.errors import BudgetExceeded, CallFailed
from agentmesh.messages import Opaque, Reply, Request, Settings, Tokens, ToolCall

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


async def no_wait() -> None:
    await anyio.lowlevel.checkpoint()


def caller() -> Caller:
    return Caller("t", "t", (0.0, 0.0, 0), lambda event: None, no_wait, lambda: 1, random.Random(0))


async def no_ask(model: str, prompt: str) -> str:
    raise AssertionError


CONTEXT = Context(run="r", address="t", agent="a", seed=0, ask=no_ask)


class Model:
    """Gives one reply after the other, the last one again and again."""

    def __init__(self, *replies: Reply | str) -> None:
        self.replies = [Reply(one, "stop") if isinstance(one, str) else one for one in replies]
        self.asked: list[Request] = []

    async def call(self, request: Request, caller: Caller, *, on_text: Callable[[str], None] | None = None) -> Reply:
        self.asked.append(request)
        await anyio.lowlevel.checkpoint()
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


def calls(*wished: tuple[str, str], text: str = "") -> Reply:
    made = tuple(ToolCall(f"c{number}", name, arguments) for number, (name, arguments) in enumerate(wished))
    return Reply(text, "tool", made)


async def turn(model: Model, *tools: Callable[..., Any] | Tool, **options: Any) -> Any:
    made = {one.name: one for one in map(as_tool, tools)}
    return await run_turns(Turns("Go.", tools=made, **options), model, caller=caller(), context=CONTEXT)


class Point(pydantic.BaseModel):
    x: int
    y: int = pydantic.Field(le=9)


POINT = OutputType.of_type(Point)


@pytest.mark.both_backends
async def test_without_tools_and_types_an_answer_is_the_text() -> None:
    model = Model("Fine.")
    assert await turn(model, instructions="Be brief.", settings=Settings(max_tokens=5)) == "Fine."
    (request,) = model.asked
    assert [(message.role, message.text) for message in request.messages] == [("system", "Be brief."), ("user", "Go.")]
    assert (request.tools, request.schema, request.settings.max_tokens) == ((), None, 5)


@pytest.mark.both_backends
async def test_tools_of_one_turn_run_at_once_and_answer_in_the_order_of_the_calls() -> None:
    async def wait(seconds: float) -> str:
        await anyio.sleep(seconds)
        return f"waited {seconds:g}"

    opaque = Opaque("d", "m", {"signature": "abc"})
    wish = Reply(
        "Let me see.", "tool", calls(("wait", '{"seconds": 3}'), ("wait", '{"seconds": 1}')).tool_calls, opaque=opaque
    )
    model = Model(wish, calls(("nosuch", "{}")), "Done.")
    began = monotonic()
    assert await turn(model, wait) == "Done."
    assert monotonic() - began == pytest.approx(3.0)
    _, assistant, first, second = model.asked[1].messages
    assert (assistant.text, assistant.tool_calls, assistant.opaque) == ("Let me see.", wish.tool_calls, opaque)
    assert [(m.role, m.tool_call_id, m.text) for m in (first, second)] == [
        ("tool", "c0", "waited 3"), ("tool", "c1", "waited 1"),
    ]  # fmt: skip
    assert model.asked[2].messages[-1].text == "There is no tool nosuch. There are: wait."


async def test_rounds_of_tool_calls_are_bounded_and_none_is_performed_in_vain() -> None:
    performed = 0

    async def look() -> str:
        nonlocal performed
        performed += 1
        return "more"

    model = Model(calls(("look", "{}")))
    with pytest.raises(CallFailed, match="tool: no answer after 3 rounds of tool calls"):
        await turn(model, look, max_turns=3)
    assert (performed, len(model.asked)) == (3, 4)
    assert await turn(Model(calls(("look", "{}")), "Done."), look, max_turns=1) == "Done."
    with pytest.raises(CallFailed, match="after 0 rounds"):
        await turn(model, look, max_turns=0)
    assert performed == 4


async def test_a_reply_that_does_not_fit_is_sent_back_with_what_is_wrong() -> None:
    model = Model('{"x": 1, "y": 10}', "no JSON", '{"x": 1, "y": 2}')
    assert await turn(model, output=POINT) == Point(x=1, y=2)
    assert model.asked[0].schema == POINT.schema
    repair = model.asked[1].messages[-1]
    assert repair.role == "user"
    assert repair.text.startswith("That does not fit what was asked for: y: must be at most 9, not 10. Answer again")
    assert [message.role for message in model.asked[2].messages] == ["user", "assistant", "user", "assistant", "user"]
    assert "this is not JSON" in model.asked[2].messages[-1].text


@pytest.mark.parametrize(
    ("repairs", "asked", "after"), [(2, 3, ", after 2 repairs"), (1, 2, ", after 1 repair"), (0, 1, "")]
)
async def test_repairs_are_bounded_whatever_the_turns(repairs: int, asked: int, after: str) -> None:
    model = Model('{"x": 1, "y": 11}')
    with pytest.raises(CallFailed) as failed:
        await turn(model, output=POINT, repairs=repairs, max_turns=1)
    assert str(failed.value) == f"invalid_output: y: must be at most 9, not 11{after}"
    assert len(model.asked) == asked


NO_ANSWERS = [
    (Reply("I would rather not.", "refusal"), None, "refused: I would rather not."),
    (Reply("", "refusal"), POINT, "refused: the model refused to answer"),
    (Reply("Half", "filter"), None, "filtered: the provider's filter withheld the answer"),
    (
        Reply('{"x": 1', "length", tokens=Tokens(output=4)),
        POINT,
        "truncated: the reply was cut off after 4 tokens: raise",
    ),
    (
        Reply("", "length", (ToolCall("c", "look", '{"a'),)),
        None,
        "truncated: the reply was cut off after max_tokens tok",
    ),
]


@pytest.mark.parametrize(("reply", "output", "message"), NO_ANSWERS)
async def test_replies_that_are_no_answers_fail_at_once(reply: Reply, output: OutputType | None, message: str) -> None:
    model = Model(reply)
    with pytest.raises(CallFailed) as failed:
        await turn(model, output=output)
    assert str(failed.value).startswith(message)
    assert len(model.asked) == 1


async def test_plain_text_that_was_cut_off_is_still_text() -> None:
    assert await turn(Model(Reply("Half a sen", "length"))) == "Half a sen"


async def test_tools_come_before_the_typed_answer() -> None:
    async def look() -> dict[str, int]:
        return {"x": 3}

    model = Model(calls(("look", "{}")), '{"x": 3, "y": 99}', '{"x": 3, "y": 4}')
    assert await turn(model, look, output=POINT) == Point(x=3, y=4)
    assert model.asked[1].messages[-1].text == '{"x":3}'


@pytest.mark.both_backends
async def test_a_budget_that_ends_in_a_tool_comes_out_alone_and_the_others_end() -> None:
    ended: list[str] = []

    async def spend() -> None:
        raise BudgetExceeded("over", unit="calls")

    async def write() -> None:
        await anyio.sleep(1)
        ended.append("written")

    with pytest.raises(BudgetExceeded, match="over"):
        await turn(Model(calls(("spend", "{}"), ("write", "{}"))), spend, write)
    assert ended == ["written"]
