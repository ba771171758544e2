"""Anthropic's Messages API: system and tool results in their own places, thinking that goes back as it came."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ..errors import ErrorInfo
from ..messages import Message, Reply, Request
from ..rates import Told
from . import anthropic_server as server
from .anthropic_reply import NAME, MessageStreamReader, reply_of
from .base import LimitLevel, Refusal, StreamReader, Wire
from .bodies import read_object
from .json_text import read_json, write_json
from .refusals import read_refusal
from .schemas import closed_schema
from .told import read_levels
from .writing import add_extra, own_state, with_schema_in_words

__all__ = ["DEFAULT_MAX_TOKENS", "Anthropic"]

DEFAULT_MAX_TOKENS = 8192
"""Said where a request has no `max_tokens`, which this API demands. It reserves nothing of a rate limit here."""

_HEADERS = MappingProxyType({"content-type": "application/json", "anthropic-version": "2023-06-01"})
_NOT_IN_AN_ID = re.compile(r"[^a-zA-Z0-9_-]")


class Anthropic:
    """The `anthropic` dialect: POST {base}/messages."""

    name = NAME
    path = "/messages"
    known_quirks: Mapping[str, str] = MappingProxyType({
        "no_json_schema": "tell the schema in the prompt: the model does not know output_config.format",
        "no_effort": "leave the effort out: the model does not know output_config.effort",
        "no_sampling": "leave temperature and top_p out: models from 4.7 on refuse them",
        "no_forced_tools": "ask for tools by auto where one is demanded: models of 5.5 refuse any and tool",
    })  # fmt: skip

    def __repr__(self) -> str:
        return f"<dialect {self.name}>"

    def encode(self, request: Request, quirks: frozenset[str] = frozenset()) -> Wire:
        """The request as JSON. There is no seed in this dialect, and a schema has no name."""
        format_, in_prompt = None, False
        if request.schema is not None:
            format_ = None if "no_json_schema" in quirks else closed_schema(request.schema)
            in_prompt = format_ is None
        messages = with_schema_in_words(request) if in_prompt else request.messages
        settings = request.settings
        max_tokens = DEFAULT_MAX_TOKENS if settings.max_tokens is None else settings.max_tokens
        body: dict[str, Any] = {"model": request.model, "max_tokens": max_tokens}
        if system := "\n\n".join(message.text for message in messages if message.role == "system" and message.text):
            body["system"] = system
        body["messages"] = _turns(messages, request)
        if request.tools:
            _add_tools(body, request, quirks=quirks)
        if format_ is not None:
            body["output_config"] = {"format": {"type": "json_schema", "schema": format_}}
        _add_settings(body, request, quirks=quirks)
        if request.stream:
            body["stream"] = True
        if settings.extra:
            add_extra(body, settings.extra)
        return Wire(self.path, write_json(body), _HEADERS)

    def decode(self, body: bytes, quirks: frozenset[str] = frozenset(), *, model: str = "") -> Reply | Refusal:
        """The reply in a 200 body. Raises MalformedReply."""
        return reply_of(read_object(body, what="a message"), model=model)

    def read_stream(self, quirks: frozenset[str] = frozenset(), *, model: str = "") -> StreamReader:
        """A reader for one streamed reply."""
        return MessageStreamReader(model=model)

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
        """The reply as named events, ended by message_stop; here the usage always comes."""
        return server.write_stream(reply, pieces, created=created)

    def write_refusal(self, status: int, error: ErrorInfo, *, param: str | None = None) -> bytes:
        """The body of an error; this dialect has no place for `param`."""
        return server.write_refusal(status, error)

    def limit_headers(self, levels: Sequence[LimitLevel], *, now: float) -> dict[str, str]:
        """`anthropic-ratelimit-*`; a reset is an instant, tokens are rounded to thousands."""
        return server.limit_headers(levels, now=now)


def _turns(messages: Sequence[Message], request: Request) -> list[dict[str, Any]]:
    """Turns of user and assistant by turns: neighbours of one role are merged, and tool results stand first."""
    turns: list[tuple[str, list[dict[str, Any]]]] = []
    for message in messages:
        if message.role == "system":
            continue
        role = "assistant" if message.role == "assistant" else "user"
        blocks = _assistant(message, request) if role == "assistant" else _user(message)
        if not blocks:
            continue  # empty text blocks are refused
        if turns and turns[-1][0] == role:
            turns[-1][1].extend(blocks)
        else:
            turns.append((role, blocks))
    if turns and turns[-1][0] == "assistant":
        _trim_end(turns[-1][1])
    return [{"role": role, "content": _content(role, blocks)} for role, blocks in turns]


def _content(role: str, blocks: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    if len(blocks) == 1 and blocks[0].keys() == {"type", "text"}:
        text: str = blocks[0]["text"]
        return text
    return blocks if role == "assistant" else sorted(blocks, key=lambda block: block["type"] != "tool_result")


def _user(message: Message) -> list[dict[str, Any]]:
    if message.role == "tool":
        result = {"type": "tool_result", "tool_use_id": _id(message.tool_call_id or ""), "content": message.text}
        return [result | ({"is_error": True} if message.is_error else {})]
    return [{"type": "text", "text": message.text}] if message.text else []


def _assistant(message: Message, request: Request) -> list[dict[str, Any]]:
    own = own_state(message, request, dialect=NAME)
    if isinstance(own, list):
        return list(own)
    blocks: list[dict[str, Any]] = [{"type": "text", "text": message.text}] if message.text else []
    return blocks + [
        {"type": "tool_use", "id": _id(call.id), "name": call.name, "input": _input(call.arguments)}
        for call in message.tool_calls
    ]


def _trim_end(blocks: list[dict[str, Any]]) -> None:
    """White space at the end of a last assistant turn is refused."""
    last = blocks[-1]
    if last.get("type") == "text" and last["text"] != last["text"].rstrip():
        blocks[-1:] = [{**last, "text": last["text"].rstrip()}] if last["text"].strip() else []


def _id(call_id: str) -> str:
    """Ids made by other providers may have characters that are refused here."""
    return _NOT_IN_AN_ID.sub("_", call_id) or "_"


def _input(arguments: str) -> dict[str, Any]:
    """Arguments as an object. What another model wrote badly is kept as a text, for the model to see."""
    try:
        value = read_json(arguments or "{}")
    except ValueError:
        value = arguments
    return value if isinstance(value, dict) else {"arguments": value}


def _add_tools(body: dict[str, Any], request: Request, *, quirks: frozenset[str]) -> None:
    body["tools"] = [
        {"name": tool.name, "description": tool.description, "input_schema": dict(tool.parameters)}
        for tool in request.tools
    ]
    match request.tool_choice:
        case "auto":
            pass
        case "none":
            body["tool_choice"] = {"type": "none"}
        case _ if "no_forced_tools" in quirks:
            pass
        case "required":
            body["tool_choice"] = {"type": "any"}
        case name:
            body["tool_choice"] = {"type": "tool", "name": name}


def _add_settings(body: dict[str, Any], request: Request, *, quirks: frozenset[str]) -> None:
    settings = request.settings
    if "no_sampling" not in quirks:
        if settings.temperature is not None:
            body["temperature"] = settings.temperature
        if settings.top_p is not None:
            body["top_p"] = settings.top_p
    if settings.stop:
        body["stop_sequences"] = list(settings.stop)
    effort = settings.reasoning_effort
    if effort is None or "no_effort" in quirks:
        return
    if effort == "none":
        body["thinking"] = {"type": "disabled"}
    else:
        effort = "low" if effort == "minimal" else effort
        body["output_config"] = {**body.get("output_config", {}), "effort": effort}
