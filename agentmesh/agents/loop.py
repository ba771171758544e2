"""An agent's turns: ask, call the tools the model wishes for, check the answer, send it back if it does not fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import anyio

from ..client.caller import Caller, Halted
from ..clock import monotonic, wall
from ..errors import BudgetExceeded, CallFailed, ErrorInfo
from ..events import ToolEnded
from ..messages import Message, Reply, Request, Settings, ToolCall, ToolSpec
from .context import Context
from .output import InvalidOutput, OutputType
from .tools import Tool, perform_tool

__all__ = ["MAX_TURNS", "REPAIRS", "Asks", "Turns", "refuse_unusable", "run_turns"]

MAX_TURNS = 10
"""Rounds of tool calls before one answer: enough for a search that goes astray once, few enough to notice a loop."""
REPAIRS = 2
"""How often a reply that does not fit is sent back: models that miss twice rarely hit the third time."""


class Asks(Protocol):
    """What answers a request: a route."""

    async def call(self, request: Request, caller: Caller, *, on_text: Callable[[str], None] | None = None) -> Reply:
        """The reply. Raises CallFailed."""
        ...


@dataclass(frozen=True, slots=True)
class Turns:
    """What one answer of an agent consists of, with everything resolved. `output` None: the reply's text."""

    prompt: str
    instructions: str = ""
    output: OutputType | None = None
    tools: dict[str, Tool] | None = None
    settings: Settings = Settings()
    max_turns: int = MAX_TURNS
    repairs: int = REPAIRS


async def run_turns(
    turns: Turns, route: Asks, *, caller: Caller, context: Context, on_text: Callable[[str], None] | None = None
) -> Any:
    """The agent's answer: text, or a value of its output type. Raises CallFailed."""
    messages = [Message("system", turns.instructions)] if turns.instructions else []
    messages.append(Message("user", turns.prompt))
    tools = turns.tools or {}
    specs = tuple(tool.spec for tool in tools.values())
    repairs = 0
    rounds = 0
    while True:
        reply = await route.call(_request(messages, turns, specs), caller, on_text=on_text)
        refuse_unusable(reply, structured=turns.output is not None)
        if reply.tool_calls:
            if rounds == turns.max_turns:
                times = "round" if rounds == 1 else "rounds"
                raise CallFailed(
                    ErrorInfo("tool", f"no answer after {rounds} {times} of tool calls, and one more asked")
                )
            rounds += 1
            messages.append(reply.as_message())
            messages += await _perform_all(tools, reply.tool_calls, caller=caller, context=context)
            continue
        if turns.output is None:
            return reply.text
        try:
            return turns.output.validate(reply.text)
        except InvalidOutput as error:
            if repairs == turns.repairs:
                after = f", after {repairs} repair{'s' * (repairs > 1)}" if repairs else ""
                raise CallFailed(ErrorInfo("invalid_output", f"{error}{after}")) from error
            repairs += 1
            messages.append(reply.as_message())
            messages.append(Message("user", _repair(error)))


def _request(messages: list[Message], turns: Turns, specs: tuple[ToolSpec, ...]) -> Request:
    output = turns.output
    return Request(
        model="",
        messages=tuple(messages),
        tools=specs,
        schema=output.schema if output is not None else None,
        settings=turns.settings,
    )


def refuse_unusable(reply: Reply, *, structured: bool) -> None:
    """Raise CallFailed for a reply that is no answer.

    A `structured` one that was cut off gets no repair: it would be cut off again.
    """
    match reply.finish:
        case "refusal":
            raise CallFailed(ErrorInfo("refused", reply.text.strip() or "the model refused to answer"))
        case "filter":
            raise CallFailed(ErrorInfo("filtered", "the provider's filter withheld the answer"))
        case "length" if structured or reply.tool_calls:
            raise CallFailed(
                ErrorInfo("truncated", f"the reply was cut off after {reply.tokens.output or 'max_tokens'} tokens: "
                          "raise max_tokens")
            )  # fmt: skip


async def _perform_all(
    tools: dict[str, Tool], calls: tuple[ToolCall, ...], *, caller: Caller, context: Context
) -> list[Message]:
    """All calls of one turn at once; their answers in the order of the calls."""
    answers: list[Message | None] = [None] * len(calls)
    over: list[BudgetExceeded | Halted] = []

    async def perform(index: int, one: ToolCall) -> None:
        try:
            answers[index] = await _perform_one(tools, one, caller=caller, context=context)
        except (BudgetExceeded, Halted) as error:
            over.append(error)  # raised below, as itself rather than inside a group

    async with anyio.create_task_group() as group:
        for index, one in enumerate(calls):
            group.start_soon(perform, index, one)
    if over:
        raise over[0]
    return [answer for answer in answers if answer is not None]


async def _perform_one(tools: dict[str, Tool], call: ToolCall, *, caller: Caller, context: Context) -> Message:
    """One call of a tool, and a record of what it gave: a tool that has done its work is not asked to do it again."""
    tools_known = caller.known_tools
    known = None if tools_known is None else await tools_known.tool(call, address=caller.address)
    if known is not None:
        return Message("tool", known.result, tool_call_id=call.id, is_error=known.is_error)
    began = monotonic()
    answer = await perform_tool(tools, call, context)
    caller.emit(
        ToolEnded(
            at=wall(), address=caller.address, call_id=call.id, name=call.name, arguments=call.arguments,
            result=answer.text, is_error=answer.is_error, seconds=monotonic() - began, grew=caller.grew(),
        )
    )  # fmt: skip
    await caller.durable()  # what it has done, it must not be asked to do again
    return answer


def _repair(error: InvalidOutput) -> str:
    return (
        f"That does not fit what was asked for: {error}. Answer again, with the whole corrected JSON and nothing else."
    )
