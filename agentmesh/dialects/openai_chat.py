"""OpenAI's Chat Completions, the dialect that most providers speak, with switches for where they differ."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ..errors import ErrorInfo
from ..messages import Message, Reply, Request
from ..rates import Told
from . import openai_chat_server as server
from .base import LimitLevel, Refusal, StreamReader, Wire
from .bodies import read_object
from .json_text import write_json
from .openai_chat_reply import NAME, ChatStreamReader, reply_of
from .openai_chat_server import parse_messages
from .refusals import read_refusal
from .schemas import meets_strict_rules
from .told import read_levels
from .writing import add_extra, own_state, with_schema_in_words

__all__ = ["OpenAIChat", "parse_messages"]

_HEADERS = MappingProxyType({"content-type": "application/json"})
_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_-]")


class OpenAIChat:
    """The `openai-chat` dialect: POST {base}/chat/completions."""

    name = NAME
    path = "/chat/completions"
    known_quirks: Mapping[str, str] = MappingProxyType({
        "max_tokens": "say max_tokens where OpenAI says max_completion_tokens",
        "no_stream_usage": "do not ask for usage at the end of a stream: the server refuses stream_options",
        "no_done": "a stream may end without [DONE], once its finish_reason has come",
        "developer_role": "say developer where others say system",
        "system_role": "say system, even where developer_role is set",
        "no_json_schema": "ask for json_object and tell the schema in the prompt",
        "no_strict": "never ask for strict schemas",
        "no_tool_choice": "leave tool_choice out: the server does not know it",
        "no_sampling": "leave temperature and top_p out: the model refuses them",
        "reasoning_object": "write the effort as reasoning: {effort}, as OpenRouter does",
        "tools_without_reasoning": "with tools, set the effort to none unless a setting says otherwise",
        "requests_per_day": "the limit headers for requests tell the day's, as at Groq, not the minute's",
        "requests_per_second": "the limit headers for requests tell the second's",
        "output_without_reasoning": "completion_tokens leave the reasoning out: add it, as at xAI",
    })  # fmt: skip

    def __repr__(self) -> str:
        return f"<dialect {self.name}>"

    def encode(self, request: Request, quirks: frozenset[str] = frozenset()) -> Wire:
        """The request as JSON. Settings that are None are left out, and messages are sent as they are."""
        body: dict[str, Any] = {"model": request.model, "messages": _messages(request, quirks)}
        if request.tools:
            _add_tools(body, request, quirks=quirks)
        if request.schema is not None:
            body["response_format"] = _response_format(request, quirks)
        _add_settings(body, request, quirks=quirks)
        if request.stream:
            body["stream"] = True
            if "no_stream_usage" not in quirks:
                body["stream_options"] = {"include_usage": True}
        if request.settings.extra:
            add_extra(body, request.settings.extra)
        return Wire(self.path, write_json(body), _HEADERS)

    def decode(self, body: bytes, quirks: frozenset[str] = frozenset(), *, model: str = "") -> Reply | Refusal:
        """The reply in a 200 body. Raises MalformedReply."""
        return reply_of(read_object(body, what="a chat completion"), quirks, model=model)

    def read_stream(self, quirks: frozenset[str] = frozenset(), *, model: str = "") -> StreamReader:
        """A reader for one streamed reply."""
        return ChatStreamReader(quirks, model=model)

    def read_refusal(self, status: int, headers: Mapping[str, str], body: bytes, *, now: float) -> Refusal:
        """What a status other than 2xx means."""
        return read_refusal(status, headers, body, now=now)

    def read_levels(
        self, headers: Mapping[str, str], *, now: float, quirks: Collection[str] = frozenset()
    ) -> tuple[Told, ...]:
        """What the headers of any reply tell of limits."""
        return read_levels(headers, now=now, quirks=quirks)

    def parse_request(self, body: bytes) -> Request:
        """The neutral request in a body. Raises RequestRejected."""
        return server.parse_request(body)

    def write_reply(self, reply: Reply, *, created: int) -> bytes:
        """The body of a 200."""
        return server.write_reply(reply, created=created)

    def write_stream(self, reply: Reply, pieces: Sequence[str], *, created: int, usage: bool = True) -> Iterator[bytes]:
        """The reply as server-sent events, ended by [DONE]."""
        return server.write_stream(reply, pieces, created=created, usage=usage)

    def write_refusal(self, status: int, error: ErrorInfo, *, param: str | None = None) -> bytes:
        """The body of an error."""
        return server.write_refusal(status, error, param=param)

    def limit_headers(self, levels: Sequence[LimitLevel], *, now: float) -> dict[str, str]:
        """`x-ratelimit-*` for requests and tokens; a reset is a Go duration."""
        return server.limit_headers(levels)


def _messages(request: Request, quirks: frozenset[str]) -> list[dict[str, Any]]:
    in_prompt = request.schema is not None and "no_json_schema" in quirks
    system = "developer" if "developer_role" in quirks and "system_role" not in quirks else "system"
    out: list[dict[str, Any]] = []
    for message in with_schema_in_words(request) if in_prompt else request.messages:
        if message.role == "assistant":
            out.append(_assistant(message, request))
        elif message.role == "tool":
            out.append({"role": "tool", "tool_call_id": message.tool_call_id, "content": message.text})
        else:
            out.append({"role": system if message.role == "system" else "user", "content": message.text})
    return out


def _assistant(message: Message, request: Request) -> dict[str, Any]:
    written: dict[str, Any] = {"role": "assistant", "content": message.text}
    if message.tool_calls:
        written["content"] = message.text or None
        written["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    own = own_state(message, request, dialect=NAME)
    if isinstance(own, Mapping):
        written |= own
    return written


def _add_tools(body: dict[str, Any], request: Request, *, quirks: frozenset[str]) -> None:
    body["tools"] = [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)},
        }
        for tool in request.tools
    ]
    choice = request.tool_choice
    if choice == "auto" or "no_tool_choice" in quirks:
        return
    named = choice not in ("none", "required")
    body["tool_choice"] = {"type": "function", "function": {"name": choice}} if named else choice


def _response_format(request: Request, quirks: frozenset[str]) -> dict[str, Any]:
    assert request.schema is not None
    if "no_json_schema" in quirks:
        return {"type": "json_object"}
    asked: dict[str, Any] = {
        "name": _NOT_IN_A_NAME.sub("_", request.schema_name)[:64] or "answer",
        "schema": dict(request.schema),
    }
    if "no_strict" not in quirks and meets_strict_rules(request.schema):
        asked["strict"] = True
    return {"type": "json_schema", "json_schema": asked}


def _add_settings(body: dict[str, Any], request: Request, *, quirks: frozenset[str]) -> None:
    settings = request.settings
    if settings.max_tokens is not None:
        body["max_tokens" if "max_tokens" in quirks else "max_completion_tokens"] = settings.max_tokens
    if "no_sampling" not in quirks:
        if settings.temperature is not None:
            body["temperature"] = settings.temperature
        if settings.top_p is not None:
            body["top_p"] = settings.top_p
    if settings.seed is not None:
        body["seed"] = settings.seed
    if settings.stop:
        body["stop"] = list(settings.stop)
    effort = settings.reasoning_effort
    if effort is None and request.tools and "tools_without_reasoning" in quirks:
        effort = "none"
    if effort is not None and "reasoning_object" in quirks:
        body["reasoning"] = {"effort": effort}
    elif effort is not None:
        body["reasoning_effort"] = effort
