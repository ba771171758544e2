"""The server half of Chat Completions: requests read strictly, replies written as OpenAI writes them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ..errors import ErrorInfo
from ..messages import Message, Reply, Request, Settings, Tokens, ToolCall, ToolSpec, digest
from .base import LimitLevel, RequestRejected
from .json_text import write_json
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
from .values import format_duration

__all__ = [
    "limit_headers", "parse_messages", "parse_request", "request_of", "write_refusal", "write_reply", "write_stream",
]  # fmt: skip

_FINISH = {"stop": "stop", "length": "length", "tool": "tool_calls", "filter": "content_filter", "refusal": "stop"}
_TYPE_AND_CODE: Mapping[str, tuple[str, str | None]] = MappingProxyType({
    "rate": ("requests", "rate_limit_exceeded"),
    "quota": ("insufficient_quota", "insufficient_quota"),
    "auth": ("invalid_request_error", "invalid_api_key"),
    "filtered": ("invalid_request_error", "content_filter"),
    "bad_request": ("invalid_request_error", None),
    "server": ("server_error", None),
    "timeout": ("timeout_error", None),
})  # fmt: skip


def parse_messages(items: Sequence[Any]) -> tuple[Message, ...]:
    """Messages from their Chat Completions form. Raises RequestRejected with the place: `messages[2].content`."""
    return tuple(
        _message(need_map(item, f"messages[{number}]"), f"messages[{number}]")
        for number, item in enumerate(need_list(items, "messages", empty=False))
    )


def _message(item: Mapping[str, Any], place: str) -> Message:
    role = item.get("role")
    text = text_of(item.get("content"), f"{place}.content")
    if role == "assistant":
        return Message("assistant", text, tool_calls=_calls(item.get("tool_calls") or [], f"{place}.tool_calls"))
    if item.get("content") is None:
        raise RequestRejected(f"{place}.content is missing or null", f"{place}.content")
    if role == "user":
        return Message("user", text)
    if role in ("system", "developer"):
        return Message("system", text)
    if role == "tool":
        return Message("tool", text, tool_call_id=need_text(item.get("tool_call_id"), f"{place}.tool_call_id"))
    raise RequestRejected(
        f"{place}.role must be system, developer, user, assistant or tool, not {role!r}", f"{place}.role"
    )


def _calls(items: Any, place: str) -> tuple[ToolCall, ...]:
    calls = []
    for number, item in enumerate(need_list(items, place)):
        here = f"{place}[{number}]"
        function = need_map(need_map(item, here).get("function"), f"{here}.function")
        arguments = function.get("arguments")
        if not isinstance(arguments, str):
            raise RequestRejected(f"{here}.function.arguments must be JSON in a text", f"{here}.function.arguments")
        name = need_text(function.get("name"), f"{here}.function.name")
        calls.append(ToolCall(need_text(item.get("id"), f"{here}.id"), name, arguments))
    return tuple(calls)


def parse_request(body: bytes) -> Request:
    """The neutral request in a body; fields without a neutral form go to `settings.extra`. Raises RequestRejected."""
    return request_of(read_body(body))


def request_of(left: dict[str, Any]) -> Request:
    """The same of a body that has been read: what has no neutral form is left in it. Raises RequestRejected."""
    model = need_text(left.pop("model", None), "model")
    messages = parse_messages(left.pop("messages", None))
    check_tool_turns(messages)
    tools = _tools(left.pop("tools", None) or [])
    choice = _tool_choice(left.pop("tool_choice", None), tools)
    schema, name = _schema(left.pop("response_format", None))
    if left.pop("n", 1) not in (1, None):
        raise RequestRejected("n must be 1: one reply for each request", "n")
    whole, older = take_whole(left, "max_completion_tokens", low=1), take_whole(left, "max_tokens", low=1)
    effort = left.pop("reasoning_effort", None)
    stream = take_flag(left, "stream")
    settings = Settings(
        max_tokens=older if whole is None else whole,
        temperature=take_number(left, "temperature", low=0, high=2),
        top_p=take_number(left, "top_p", low=0, high=1),
        seed=take_whole(left, "seed"),
        stop=take_texts(left, "stop"),
        reasoning_effort=None if effort is None else need_text(effort, "reasoning_effort"),
        extra=left,  # evaluated last: what the lines above did not take
    )
    return Request(
        model,
        messages,
        tools=tools,
        tool_choice=choice,
        schema=schema,
        schema_name=name,
        settings=settings,
        stream=stream,
    )


def _tools(items: Any) -> tuple[ToolSpec, ...]:
    tools = []
    for number, item in enumerate(need_list(items, "tools")):
        place = f"tools[{number}].function"
        function = need_map(need_map(item, f"tools[{number}]").get("function"), place)
        parameters = need_map(function.get("parameters") or {}, f"{place}.parameters")
        name = need_text(function.get("name"), f"{place}.name")
        tools.append(ToolSpec(name, str(function.get("description") or ""), parameters))
    return tuple(tools)


def _tool_choice(choice: Any, tools: Sequence[ToolSpec]) -> str:
    if choice is None:
        return "auto"
    if not tools and choice != "none":
        raise RequestRejected("tool_choice needs tools", "tool_choice")
    if isinstance(choice, str) and choice in ("auto", "none", "required"):
        return choice
    function = need_map(need_map(choice, "tool_choice").get("function"), "tool_choice.function")
    name = need_text(function.get("name"), "tool_choice.function.name")
    if name not in [tool.name for tool in tools]:
        raise RequestRejected(f"tool_choice names {name!r}, which is none of the tools", "tool_choice")
    return name


def _schema(asked: Any) -> tuple[Mapping[str, Any] | None, str]:
    kind = None if asked is None else need_map(asked, "response_format").get("type")
    if kind in (None, "text"):
        return None, "answer"
    if kind == "json_object":
        return {"type": "object"}, "answer"
    if kind != "json_schema":
        raise RequestRejected(
            f"response_format.type must be text, json_object or json_schema, not {kind!r}", "response_format"
        )
    place = "response_format.json_schema"
    inner = need_map(asked.get("json_schema"), place)
    return need_map(inner.get("schema"), f"{place}.schema"), need_text(inner.get("name"), f"{place}.name")


def _id(reply: Reply, created: int) -> str:
    return reply.id or "chatcmpl-" + digest([reply.text, reply.model, created], length=24)


def _usage(tokens: Tokens) -> dict[str, Any] | None:
    if tokens.input is None or tokens.output is None:
        return None
    usage: dict[str, Any] = {
        "prompt_tokens": tokens.input,
        "completion_tokens": tokens.output,
        "total_tokens": tokens.input + tokens.output,
        "prompt_tokens_details": {"cached_tokens": tokens.cached, "cache_write_tokens": tokens.cache_write},
        "completion_tokens_details": {"reasoning_tokens": tokens.reasoning},
    }
    if tokens.usd is not None:
        usage["cost"] = tokens.usd
    return usage


def _written_calls(reply: Reply) -> list[dict[str, Any]]:
    return [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in reply.tool_calls
    ]


def write_reply(reply: Reply, *, created: int) -> bytes:
    """The body of a 200: one chat completion. `created` is seconds since 1970."""
    refused = reply.finish == "refusal"
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if refused or (reply.tool_calls and not reply.text) else reply.text,
        "refusal": reply.text if refused else None,
        "annotations": [],
    }
    if reply.tool_calls:
        message["tool_calls"] = _written_calls(reply)
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _FINISH[reply.finish]}
    return write_json(
        {
            "id": _id(reply, created),
            "object": "chat.completion",
            "created": created,
            "model": reply.model,
            "choices": [choice],
            "usage": _usage(reply.tokens),
            "service_tier": "default",
            "system_fingerprint": None,
        }
    )


def write_stream(reply: Reply, pieces: Sequence[str], *, created: int, usage: bool = True) -> Iterator[bytes]:
    """The same reply as events: an opening with the role, one per piece, calls, finish, usage, [DONE]."""
    head = {"id": _id(reply, created), "object": "chat.completion.chunk", "created": created, "model": reply.model}
    head |= {"service_tier": "default", "system_fingerprint": None}

    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return write_event(write_json({**head, "choices": [choice]} | ({"usage": None} if usage else {})))

    yield chunk({"role": "assistant", "content": "", "refusal": None})
    kind = "refusal" if reply.finish == "refusal" else "content"
    for piece in pieces:
        yield chunk({kind: piece})
    for index, call in enumerate(_written_calls(reply)):
        function = call["function"]
        yield chunk({"tool_calls": [{**call, "index": index, "function": {**function, "arguments": ""}}]})
        yield chunk({"tool_calls": [{"index": index, "function": {"arguments": function["arguments"]}}]})
    yield chunk({}, _FINISH[reply.finish])
    if usage:
        yield write_event(write_json({**head, "choices": [], "usage": _usage(reply.tokens)}))
    yield write_event(b"[DONE]")


def write_refusal(status: int, error: ErrorInfo, *, param: str | None = None) -> bytes:
    """The body of an error."""
    kind, code = _TYPE_AND_CODE.get(error.kind, ("server_error" if status >= 500 else "invalid_request_error", None))
    return write_json({"error": {"message": error.message, "type": kind, "param": param, "code": code}})


def limit_headers(levels: Sequence[LimitLevel]) -> dict[str, str]:
    """`x-ratelimit-{limit,remaining,reset}-{requests,tokens}` of the limit of each unit that is nearest to its end.

    OpenAI has no headers for input or output tokens apart, and none for calls in flight. Where it has no limits, per
    second, the name says so: figures of seconds and of minutes look alike.
    """
    headers: dict[str, str] = {}
    for unit, window in itertools.product(("requests", "tokens"), ("", "-second")):
        found = [one for one in levels if one.limit.unit == unit and (one.limit.window <= 1.0) == bool(window)]
        if found:
            tight = min(found, key=lambda level: level.remaining / level.limit.limit)
            headers[f"x-ratelimit-limit-{unit}{window}"] = f"{tight.limit.limit:.0f}"
            headers[f"x-ratelimit-remaining-{unit}{window}"] = str(max(0, int(tight.remaining)))
            headers[f"x-ratelimit-reset-{unit}{window}"] = format_duration(tight.reset)
    return headers
