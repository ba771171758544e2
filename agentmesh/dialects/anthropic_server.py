"""The server half of the Messages API: requests read strictly, replies written as Anthropic writes them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from ..errors import ErrorInfo
from ..messages import Message, Reply, Request, Settings, Tokens, ToolCall, ToolSpec, digest
from ..rates import WINDOW_SECONDS
from .base import LimitLevel, RequestRejected
from .json_text import read_json, write_json
from .reading import (
    check_tool_turns,
    need_list,
    need_map,
    need_text,
    read_body,
    take_flag,
    take_number,
    take_texts,
    take_whole,
    text_of,
)
from .sse import write_event

__all__ = ["limit_headers", "parse_request", "write_refusal", "write_reply", "write_stream"]

_STOP_REASON = {
    "stop": "end_turn", "length": "max_tokens", "tool": "tool_use", "filter": "refusal", "refusal": "refusal",
}  # fmt: skip
_ERROR_TYPES: Mapping[int, str] = MappingProxyType({
    400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error",
    404: "not_found_error", 413: "request_too_large", 429: "rate_limit_error", 500: "api_error",
    504: "timeout_error", 529: "overloaded_error",
})  # fmt: skip
_FAMILIES = {
    "requests": "requests",
    "tokens": "tokens",
    "input_tokens": "input-tokens",
    "output_tokens": "output-tokens",
}


def parse_request(body: bytes) -> Request:
    """The neutral request in a body; fields without a neutral form go to `settings.extra`. Raises RequestRejected."""
    left = read_body(body)
    model = need_text(left.pop("model", None), "model")
    max_tokens = take_whole(left, "max_tokens", low=1)
    if max_tokens is None:
        raise RequestRejected("max_tokens is required", "max_tokens")
    messages = _system(left.pop("system", None)) + _messages(left.pop("messages", None))
    check_tool_turns(messages)
    tools = _tools(left.pop("tools", None) or [])
    choice = _tool_choice(left.pop("tool_choice", None), tools)
    schema, effort = _output_config(left.pop("output_config", None))
    stream = take_flag(left, "stream")
    settings = Settings(
        max_tokens=max_tokens,
        temperature=take_number(left, "temperature", low=0, high=1),
        top_p=take_number(left, "top_p", low=0, high=1),
        stop=take_texts(left, "stop_sequences"),
        reasoning_effort=effort,
        extra=left,
    )
    return Request(model, messages, tools=tools, tool_choice=choice, schema=schema, settings=settings, stream=stream)


def _system(system: Any) -> tuple[Message, ...]:
    text = text_of(system, "system")
    return (Message("system", text),) if text else ()


def _messages(items: Any) -> tuple[Message, ...]:
    found: list[Message] = []
    for number, item in enumerate(need_list(items, "messages", empty=False)):
        place = f"messages[{number}]"
        role, content = need_map(item, place).get("role"), item.get("content")
        if role not in ("user", "assistant"):
            raise RequestRejected(f"{place}.role must be user or assistant, not {role!r}", f"{place}.role")
        if number == 0 and role != "user":
            raise RequestRejected("the first message must be the user's", place)
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        blocks = need_list(blocks, f"{place}.content", empty=False)
        read = _user_blocks if role == "user" else _assistant_blocks
        found += read(blocks, f"{place}.content")
    last = found[-1]
    if last.role == "assistant" and last.text != last.text.rstrip():
        raise RequestRejected("the last message must not end in white space", place)
    return tuple(found)


def _block_text(block: Mapping[str, Any], place: str) -> str:
    text = block.get("text")
    if not isinstance(text, str) or not text:
        raise RequestRejected(f"{place}.text must be a text that is not empty", f"{place}.text")
    return text


def _user_blocks(blocks: Sequence[Any], place: str) -> list[Message]:
    results: list[Message] = []
    texts: list[str] = []
    for number, block in enumerate(blocks):
        here = f"{place}[{number}]"
        match need_map(block, here).get("type"):
            case "text":
                texts.append(_block_text(block, here))
            case "tool_result" if not texts:
                call_id = need_text(block.get("tool_use_id"), f"{here}.tool_use_id")
                text = text_of(block.get("content"), f"{here}.content")
                results.append(Message("tool", text, tool_call_id=call_id, is_error=block.get("is_error") is True))
            case "tool_result":
                raise RequestRejected(f"{here}: tool results must stand before text", here)
            case kind:
                raise RequestRejected(f"{here}: blocks of type {kind!r} cannot be taken from a user", here)
    return [*results, *([Message("user", "".join(texts))] if texts else [])]


def _assistant_blocks(blocks: Sequence[Any], place: str) -> list[Message]:
    texts: list[str] = []
    calls: list[ToolCall] = []
    for number, block in enumerate(blocks):
        here = f"{place}[{number}]"
        match need_map(block, here).get("type"):
            case "text":
                texts.append(_block_text(block, here))
            case "tool_use":
                given = need_map(block.get("input"), f"{here}.input")
                name, call_id = need_text(block.get("name"), f"{here}.name"), need_text(block.get("id"), f"{here}.id")
                calls.append(ToolCall(call_id, name, write_json(given).decode()))
            case "thinking" | "redacted_thinking":
                pass  # valid for the model that made it; nothing a neutral message could hold
            case kind:
                raise RequestRejected(f"{here}: blocks of type {kind!r} cannot be taken from an assistant", here)
    return [Message("assistant", "".join(texts), tool_calls=tuple(calls))]


def _tools(items: Any) -> tuple[ToolSpec, ...]:
    tools = []
    for number, item in enumerate(need_list(items, "tools")):
        place = f"tools[{number}]"
        schema = need_map(need_map(item, place).get("input_schema"), f"{place}.input_schema")
        name = need_text(item.get("name"), f"{place}.name")
        tools.append(ToolSpec(name, str(item.get("description") or ""), schema))
    return tuple(tools)


def _tool_choice(choice: Any, tools: Sequence[ToolSpec]) -> str:
    if choice is None:
        return "auto"
    match need_map(choice, "tool_choice").get("type"):
        case "auto" | "none" as plain:
            return str(plain)
        case "any" if tools:
            return "required"
        case "tool" if choice.get("name") in [tool.name for tool in tools]:
            return str(choice["name"])
    raise RequestRejected("tool_choice must be auto, none, any, or name one of the tools", "tool_choice")


def _output_config(config: Any) -> tuple[Mapping[str, Any] | None, str | None]:
    if config is None:
        return None, None
    effort, asked = need_map(config, "output_config").get("effort"), config.get("format")
    schema = None
    if asked is not None:
        place = "output_config.format"
        if need_map(asked, place).get("type") != "json_schema":
            raise RequestRejected(f"{place}.type must be json_schema", f"{place}.type")
        schema = need_map(asked.get("schema"), f"{place}.schema")
    return schema, None if effort is None else need_text(effort, "output_config.effort")


def _usage(tokens: Tokens) -> dict[str, Any]:
    """Input without what was read from and written to a cache. What is unknown is left out."""
    usage: dict[str, Any] = {
        "cache_creation_input_tokens": tokens.cache_write,
        "cache_read_input_tokens": tokens.cached,
        "output_tokens": tokens.output,
        "service_tier": "standard",
    }
    if tokens.input is not None:
        usage["input_tokens"] = tokens.input - (tokens.cached or 0) - (tokens.cache_write or 0)
    if tokens.reasoning is not None:
        usage["output_tokens_details"] = {"thinking_tokens": tokens.reasoning}
    return usage


def _head(reply: Reply, created: int) -> dict[str, Any]:
    made = "msg_" + digest([reply.text, reply.model, created], length=24)
    return {"id": reply.id or made, "type": "message", "role": "assistant", "model": reply.model}


def _end(reply: Reply) -> dict[str, Any]:
    refused = _STOP_REASON[reply.finish] == "refusal"
    details = {"type": "refusal", "category": None, "explanation": reply.text or None} if refused else None
    return {"stop_reason": _STOP_REASON[reply.finish], "stop_sequence": None, "stop_details": details}


def _input(arguments: str) -> Any:
    try:
        return read_json(arguments or "{}")
    except ValueError:
        return {}


def write_reply(reply: Reply, *, created: int) -> bytes:
    """The body of a 200: one message. `created` only goes into an id where the reply has none."""
    content: list[dict[str, Any]] = [{"type": "text", "text": reply.text, "citations": None}] if reply.text else []
    content += [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": _input(call.arguments)}
        for call in reply.tool_calls
    ]
    return write_json({**_head(reply, created), "content": content, **_end(reply), "usage": _usage(reply.tokens)})


def write_stream(reply: Reply, pieces: Sequence[str], *, created: int) -> Iterator[bytes]:
    """The same reply as events: an opening, one per piece of text, then calls, message_delta and message_stop."""

    def event(kind: str, **fields: Any) -> bytes:
        return write_event(write_json({"type": kind, **fields}), event=kind)

    usage = _usage(reply.tokens)
    start = {**_head(reply, created), "content": [], "stop_reason": None, "stop_sequence": None}
    begun = {**usage, "output_tokens": None if reply.tokens.output is None else 0}
    opening = event("message_start", message={**start, "usage": begun})
    if pieces:
        opening += event("content_block_start", index=0, content_block={"type": "text", "text": "", "citations": None})
    yield opening + event("ping")
    for piece in pieces:
        yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
    if pieces:
        yield event("content_block_stop", index=0)
    for index, call in enumerate(reply.tool_calls, start=1 if pieces else 0):
        block = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
        yield event("content_block_start", index=index, content_block=block)
        yield event(
            "content_block_delta", index=index, delta={"type": "input_json_delta", "partial_json": call.arguments}
        )
        yield event("content_block_stop", index=index)
    yield event("message_delta", delta=_end(reply), usage=usage)
    yield event("message_stop")


def write_refusal(status: int, error: ErrorInfo) -> bytes:
    """The body of an error."""
    kind = _ERROR_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    details = {"error_code": "enforced_spend_limit_reached"} if error.kind == "quota" and status == 429 else None
    said: dict[str, Any] = {"type": kind, "message": error.message} | ({"details": details} if details else {})
    made = "req_" + digest([status, error.message], length=24)
    return write_json({"type": "error", "error": said, "request_id": made})


def limit_headers(levels: Sequence[LimitLevel], *, now: float) -> dict[str, str]:
    """`anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,reset}`.

    They are of minutes alone. Of each unit the limit nearest to its end; `tokens` falls back on the nearer of input
    and output. A reset is the instant at which the limit is full again; remaining tokens are rounded to the nearest
    thousand.
    """
    levels = [level for level in levels if level.limit.window == WINDOW_SECONDS["minute"]]
    headers: dict[str, str] = {}
    for unit, family in _FAMILIES.items():
        found = [level for level in levels if level.limit.unit == unit]
        if not found and unit == "tokens":
            found = [level for level in levels if level.limit.unit in ("input_tokens", "output_tokens")]
        if not found:
            continue
        tight = min(found, key=lambda level: level.remaining / level.limit.limit)
        left = max(0.0, tight.remaining)
        full_at = datetime.fromtimestamp(math.ceil(now + tight.reset), UTC)
        headers[f"anthropic-ratelimit-{family}-limit"] = f"{tight.limit.limit:.0f}"
        headers[f"anthropic-ratelimit-{family}-remaining"] = str(int(left) if unit == "requests" else round(left, -3))
        headers[f"anthropic-ratelimit-{family}-reset"] = full_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return headers
