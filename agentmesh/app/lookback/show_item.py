"""What `show` prints of one item: its prompts, replies and attempts, and where its time went."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Sequence
from dataclasses import asdict
from itertools import takewhile
from typing import Any

from pydantic_core import to_jsonable_python
from rich.console import Console
from rich.text import Text

from ...events import CallEnded, CallSpared, ToolEnded
from ...journal import CallHistory, ItemHistory
from ...messages import Message, Reply
from ..wording import plural
from .tables import cost, lasted, outcome_json, status_text, text_of, when

__all__ = ["item_json", "print_item"]

_NOTICEABLE = 0.05  # seconds
_INDENT = 14  # columns before a text
_LEAST_WIDTH = 20


def print_item(console: Console, item: ItemHistory) -> None:
    """Print an item with all its calls; of each prompt only what the one before did not have."""
    outcome = item.outcome
    head = Text.assemble((item.address, "bold"))
    if outcome is not None:
        head.append("  ").append_text(status_text(outcome.state))
        simulated = [end.simulated for call in item.calls.values() for end in call.ends]
        spent = cost(outcome.usd, simulated=any(simulated) and all(simulated))
        head.append(f"  {lasted(outcome.seconds)}  {spent}")
    elif item.dropped:
        head.append("  not asked for any more", "dim")
    elif item.added is not None or item.started is not None:
        head.append("  unfinished", "yellow")
    console.print(head, soft_wrap=True)
    if outcome is not None and outcome.error is not None:
        console.print(text_of(f"  {outcome.error}", "red"))
    if spent := _spent(item):
        console.print(text_of(f"  {spent}", "dim"))
    for match in item.matches:
        score = "no verdict" if match.score is None else f"score {match.score:g}"
        console.print(text_of(f"  match of {match.first} and {match.second}: {score} for the first, by {match.judge}"))
    seen: tuple[Message, ...] = ()
    for call in item.calls.values():
        seen = _print_call(console, call, seen, item.tools)
    if not item.calls and outcome is not None and outcome.value is not None:
        _print_said(console, "value", _readable(outcome.value))
    console.print()


def item_json(item: ItemHistory) -> dict[str, Any]:
    """All that is known of an item; `times` are seconds."""
    return {
        "address": item.address,
        "outcome": None if item.outcome is None else outcome_json(item.outcome),
        "times": _times(item),
        "calls": [asdict(call) for call in item.calls.values()],
        "tools": [asdict(tool) for tool in item.tools],
        "matches": [asdict(match) for match in item.matches],
        "reopened": item.reopened,
        "dropped": item.dropped,
    }


def _times(item: ItemHistory) -> dict[str, float]:
    """Where an item's time went: before it began, in lanes, until answers came, between attempts, in tools."""
    before = 0.0 if item.added is None or item.started is None else item.started - item.added
    return {
        "before": max(0.0, before),
        "lane": sum(call.waited for call in item.calls.values()),
        "answers": sum(call.answered for call in item.calls.values()),
        "pauses": sum(call.paused for call in item.calls.values()),
        "tools": sum(tool.seconds for tool in item.tools),
    }


def _spent(item: ItemHistory) -> str:
    """The same in words, and how often it was begun anew."""
    words = {
        "before": "for its inputs and its turn", "lane": "in the lane", "answers": "for answers",
        "pauses": "between attempts", "tools": "in tools",
    }  # fmt: skip
    times = {name: seconds for name, seconds in _times(item).items() if seconds >= _NOTICEABLE}
    parts = [f"{lasted(seconds)} {words[name]}" for name, seconds in times.items()]
    said = "waited " + ", ".join(parts) if parts else ""
    again = f"done anew {plural(item.reopened, 'time')}" if item.reopened else ""
    return "; ".join(filter(None, (said, again)))


def _print_call(
    console: Console, call: CallHistory, seen: Sequence[Message], tools: Sequence[ToolEnded]
) -> tuple[Message, ...]:
    """One call: what is new in its prompt since `seen`, then its attempts. Returns all that has been shown now."""
    sent = call.intents[0] if call.intents else call.spared
    facts = [f"call {call.call}", call.agent or "", call.model]
    if sent is not None:
        facts += [when(sent.at, full=True)]
    if call.intents:
        facts += [f"waited {lasted(call.intents[0].waited)}"]
    console.print(text_of("  " + "  ".join(fact for fact in facts if fact), "cyan"))
    messages: tuple[Message, ...] = () if call.request is None else call.request.messages
    known = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(seen, messages, strict=False)))
    for message in messages[known:]:
        _print_said(console, message.role, _said(message))
    reply: Reply | None = None
    for place, end in enumerate(call.ends):
        if place and (again := _again(call, place)):
            console.print(text_of(f"    {again}", "dim"))
        if end.reply is not None:
            reply = end.reply
            _print_said(console, "reply", _said(reply))
        console.print(text_of("    " + _attempt(end), "dim" if end.result == "ok" else "red"))
    if call.spared is not None:
        reply = call.spared.reply
        if reply is not None:
            _print_said(console, "reply", _said(reply))
        console.print(text_of("    " + _known(call.spared), "dim"))
    if len(call.ends) < len(call.intents):
        console.print(text_of("    sent; no end was recorded: it may have been paid", "yellow"))
    wanted = {one.id for one in reply.tool_calls} if reply is not None else set()
    for tool in tools:
        if tool.call_id in wanted:
            _print_tool(console, tool)
    return messages if reply is None else (*messages, reply.as_message())


def _again(call: CallHistory, place: int) -> str:
    """What lay between an attempt and the one before it."""
    if place >= len(call.intents):
        return ""
    intent = call.intents[place]
    pause = intent.at - intent.waited - call.ends[place - 1].at
    spans = ((pause, "until it was tried again"), (intent.waited, "in the lane"))
    return ", then ".join(f"{lasted(seconds)} {what}" for seconds, what in spans if seconds >= _NOTICEABLE)


def _attempt(end: CallEnded) -> str:
    tokens = [f"{n} {word}" for n, word in ((end.usage.input_tokens, "in"), (end.usage.output_tokens, "out")) if n]
    facts = [f"attempt {end.attempt}: {end.result.replace('_', ' ')}", f"{lasted(end.seconds)}"]
    facts += [", ".join(tokens), cost(end.usd, simulated=end.simulated) if end.usd is not None else ""]
    facts += [f"finish {end.reply.finish}" if end.reply is not None else "", str(end.error or "")]
    facts += ["it may have been paid" if end.uncertain else ""]
    return "  ".join(fact for fact in facts if fact)


def _known(spared: CallSpared) -> str:
    if spared.source == "recording":
        return "replayed: not sent"
    return "from the cache: not sent" + (
        "" if spared.usd is None else f"  {cost(spared.usd, simulated=spared.simulated)} saved"
    )


def _print_tool(console: Console, tool: ToolEnded) -> None:
    """That a tool ran; what it gave stands in the next prompt."""
    how = "failed" if tool.is_error else "ok"
    console.print(text_of(f"    tool {tool.name}: {how}  {lasted(tool.seconds)}", "red" if tool.is_error else "dim"))


def _said(said: Message | Reply) -> str:
    calls = [f"{call.name}({call.arguments})" for call in said.tool_calls]
    return "\n".join([part for part in (said.text, *calls) if part])


def _print_said(console: Console, role: str, text: str) -> None:
    """Who said it, and beside that the text, whose lines end where their words do."""
    lines = text_of(text).wrap(console, max(_LEAST_WIDTH, console.width - _INDENT), overflow="fold")
    for number, line in enumerate(lines):
        name = "" if number else f"    {role}"
        shown = Text.assemble((f"{name:{_INDENT}}", "bold"), line)
        shown.rstrip()
        console.print(shown, soft_wrap=True)


def _readable(value: Any) -> str:
    return value if isinstance(value, str) else jsonlib.dumps(to_jsonable_python(value, fallback=repr), indent=2)
