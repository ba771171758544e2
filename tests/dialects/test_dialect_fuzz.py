"""Whatever a provider sends, a reader answers with a reply, a refusal, or one of its own exceptions."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh.dialects import DIALECTS
from agentmesh.dialects.base import MalformedReply, Refusal, RequestRejected, StreamRefused
from agentmesh.dialects.json_text import write_json
from agentmesh.messages import Reply, Request

each_dialect = pytest.mark.parametrize("name", sorted(DIALECTS))

_CHAT = {
    "id", "model", "choices", "message", "delta", "content", "refusal", "tool_calls", "function", "name", "arguments",
    "index", "finish_reason", "usage", "prompt_tokens", "cost", "error", "reasoning_details", "type", "text",
}  # fmt: skip
_MESSAGES = {"stop_reason", "input", "content_block", "partial_json", "thinking", "stop_details", "citations"}
_ASKED = {"messages", "tools", "tool_choice", "response_format", "role", "max_tokens", "system", "output_config"}
_WORDS = st.sampled_from([
    "message_start", "content_block_start", "content_block_delta", "message_delta", "message_stop", "text", "tool_use",
    "text_delta", "input_json_delta", "signature_delta", "citations_delta", "error", "length", "user", "assistant",
    "tool", "json_schema", "function",
])  # fmt: skip


def shapes(keys: set[str]) -> st.SearchStrategy[Any]:
    leaves = st.none() | st.booleans() | st.integers(-1, 9) | st.floats() | st.text(max_size=3) | _WORDS
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(keys)), inner, max_size=5),
        max_leaves=12,
    )


def complete(value: Any) -> Any:
    """The value as what a choice, an event or a message would hold, so that reading gets further than the door."""
    return {"choices": [{"message": value, "delta": value}], "content": [value], "index": 0, "delta": value}


REPLIES = shapes(_CHAT | _MESSAGES) | shapes(_CHAT | _MESSAGES).map(complete)


@each_dialect
@given(REPLIES)
def test_any_json_as_a_reply(name: str, value: Any) -> None:
    with contextlib.suppress(MalformedReply):
        assert isinstance(DIALECTS[name].decode(write_json(value)), Reply | Refusal)


@each_dialect
@given(st.lists(REPLIES, max_size=4))
def test_any_json_as_a_stream(name: str, values: list[Any]) -> None:
    reader = DIALECTS[name].read_stream()
    end = b'data: {"type":"message_stop"}\n\n' if name == "anthropic" else b"data: [DONE]\n\n"
    with contextlib.suppress(MalformedReply, StreamRefused):
        reader.feed(b"".join(b"data: " + write_json(value) + b"\n\n" for value in values) + end)
        assert isinstance(reader.close(), Reply)


@each_dialect
@given(shapes(_CHAT | _ASKED) | st.dictionaries(st.sampled_from(sorted(_ASKED)), shapes(_CHAT | _ASKED)))
def test_any_json_as_a_request(name: str, value: Any) -> None:
    asked = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}
    body = write_json({**asked, **value} if isinstance(value, dict) else value)
    with contextlib.suppress(RequestRejected):
        assert isinstance(DIALECTS[name].parse_request(body), Request)


@each_dialect
@given(st.binary())
def test_any_bytes(name: str, body: bytes) -> None:
    with pytest.raises(MalformedReply):
        DIALECTS[name].decode(body)
    with pytest.raises(RequestRejected):
        DIALECTS[name].parse_request(body)
