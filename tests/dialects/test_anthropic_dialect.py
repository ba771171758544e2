"""The Messages API: what is written for a request, and what is read from whole and streamed replies."""

from __future__ import annotations

from typing import Any

import pytest

from agentmesh.dialects.anthropic import DEFAULT_MAX_TOKENS, Anthropic
from agentmesh.dialects.base import LimitLevel, MalformedReply, Refusal, RequestRejected, StreamRefused
from agentmesh.dialects.json_text import read_json, write_json
from agentmesh.messages import Message, Opaque, Reply, Request, Settings, Tokens, ToolCall, ToolSpec
from agentmesh.rates import Limit

CLAUDE = Anthropic()
HELLO = (Message("user", "Hello"),)
RAIN = ToolSpec("rain", "mm today", {"type": "object", "properties": {"city": {"type": "string"}}})
SCHEMA = {"type": "object", "properties": {"a": {"type": "number", "minimum": 0}}, "required": ["a"]}


def written(request: Request, *quirks: str) -> dict[str, Any]:
    body: dict[str, Any] = read_json(CLAUDE.encode(request, frozenset(quirks)).body)
    return body


def turns(*messages: Message, model: str = "m") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = written(Request(model, messages))["messages"]
    return found


def test_a_plain_question() -> None:
    wire = CLAUDE.encode(Request("m", HELLO))
    assert read_json(wire.body) == {
        "model": "m",
        "max_tokens": DEFAULT_MAX_TOKENS,
        "messages": [{"role": "user", "content": "Hello"}],
    }
    assert wire.path == "/messages"
    assert wire.headers["anthropic-version"] == "2023-06-01"


def test_settings_of_every_kind() -> None:
    settings = Settings(
        max_tokens=9, temperature=0, top_p=0.5, seed=3, stop=("#",), reasoning_effort="low", extra={"top_k": 4}
    )
    body = written(Request("m", HELLO, schema=SCHEMA, settings=settings, stream=True))
    del body["messages"]
    number = {"type": "number", "description": "(minimum: 0)"}
    schema = {"type": "object", "properties": {"a": number}, "required": ["a"], "additionalProperties": False}
    assert body == {
        "model": "m",
        "max_tokens": 9,
        "temperature": 0,
        "top_p": 0.5,
        "stop_sequences": ["#"],
        "output_config": {"format": {"type": "json_schema", "schema": schema}, "effort": "low"},
        "stream": True,
        "top_k": 4,
    }


def test_quirks() -> None:
    settings = Settings(temperature=1, top_p=1, reasoning_effort="high")
    request = Request("m", HELLO, tools=(RAIN,), tool_choice="required", schema=SCHEMA, settings=settings)
    assert not {"temperature", "top_p"} & written(request, "no_sampling").keys()
    assert "effort" not in written(request, "no_effort")["output_config"]
    assert "tool_choice" not in written(request, "no_forced_tools")
    in_words = written(request, "no_json_schema")
    assert in_words["output_config"] == {"effort": "high"}
    assert "JSON Schema" in in_words["system"]
    assert in_words["messages"] == [{"role": "user", "content": "Hello"}]
    assert {"no_sampling", "no_effort", "no_forced_tools", "no_json_schema"} == CLAUDE.known_quirks.keys()


def test_a_schema_that_cannot_be_compiled_is_told_in_words() -> None:
    body = written(Request("m", HELLO, schema={"type": "object"}))
    assert "output_config" not in body
    assert body["system"].endswith('{"type":"object"}')


@pytest.mark.parametrize(
    ("effort", "found"),
    [
        ("none", {"thinking": {"type": "disabled"}}),
        ("minimal", {"output_config": {"effort": "low"}}),
        ("max", {"output_config": {"effort": "max"}}),
    ],
)
def test_efforts(effort: str, found: dict[str, Any]) -> None:
    body = written(Request("m", HELLO, settings=Settings(reasoning_effort=effort)))
    assert {key: body[key] for key in body.keys() & {"thinking", "output_config"}} == found


@pytest.mark.parametrize(
    ("choice", "found"),
    [
        ("auto", None),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ("rain", {"type": "tool", "name": "rain"}),
    ],
)
def test_tool_choice(choice: str, found: dict[str, str] | None) -> None:
    body = written(Request("m", HELLO, tools=(RAIN,), tool_choice=choice))
    assert body.get("tool_choice") == found
    assert body["tools"] == [{"name": "rain", "description": "mm today", "input_schema": dict(RAIN.parameters)}]


def test_system_messages_go_to_their_own_place() -> None:
    body = written(Request("m", (Message("system", "Be brief."), *HELLO, Message("system", "Be kind."))))
    assert body["system"] == "Be brief.\n\nBe kind."
    assert body["messages"] == [{"role": "user", "content": "Hello"}]


def test_results_of_one_turn_stand_first_in_one_user_turn() -> None:
    calls = (ToolCall("functions.rain:0", "rain", '{"city":"Oslo"}'), ToolCall("b", "rain", "{broken"))
    assert turns(
        *HELLO,
        Message("assistant", "Looking.", tool_calls=calls),
        Message("tool", "4.2", tool_call_id="functions.rain:0"),
        Message("user", "And hurry."),
        Message("tool", "no such city", tool_call_id="b", is_error=True),
    ) == [
        {"role": "user", "content": "Hello"},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "Looking."},
                {"type": "tool_use", "id": "functions_rain_0", "name": "rain", "input": {"city": "Oslo"}},
                {"type": "tool_use", "id": "b", "name": "rain", "input": {"arguments": "{broken"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "functions_rain_0", "content": "4.2"},
                {"type": "tool_result", "tool_use_id": "b", "content": "no such city", "is_error": True},
                {"type": "text", "text": "And hurry."},
            ],
        },
    ]


def test_empty_texts_and_white_space_at_the_end() -> None:
    assert turns(Message("user", "A"), Message("assistant", ""), Message("user", "B")) == [
        {"role": "user", "content": [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]}
    ]
    assert turns(*HELLO, Message("assistant", "It is \n"))[1] == {"role": "assistant", "content": "It is"}
    assert turns(*HELLO, Message("assistant", "It is "), *HELLO)[1] == {"role": "assistant", "content": "It is "}


USAGE = {
    "input_tokens": 12,
    "cache_creation_input_tokens": 5,
    "cache_read_input_tokens": 900,
    "output_tokens": 33,
    "output_tokens_details": {"thinking_tokens": 11},
}
TOOL_USE = {"type": "tool_use", "id": "toolu_5", "name": "rain", "input": {"city": "Oslo"}}
TEXT = {"type": "text", "text": "Checking."}


def message(*content: Any, stop: str | None = "end_turn", **fields: Any) -> bytes:
    return write_json(
        {"id": "msg_4", "type": "message", "model": "m-2031", "stop_reason": stop, "content": content, **fields}
    )


def decoded(body: bytes, model: str = "") -> Reply:
    reply = CLAUDE.decode(body, model=model)
    assert isinstance(reply, Reply)
    return reply


@pytest.mark.parametrize(
    ("content", "reason", "finish", "calls"),
    [
        ([TEXT], "end_turn", "stop", 0),
        ([TEXT], "stop_sequence", "stop", 0),
        ([TEXT], "pause_turn", "stop", 0),
        ([TEXT], None, "stop", 0),
        ([TEXT], "max_tokens", "length", 0),
        ([], "max_tokens", "length", 0),
        ([TEXT], "model_context_window_exceeded", "length", 0),
        ([TEXT, TOOL_USE], "tool_use", "tool", 1),
        ([TEXT, TOOL_USE], "end_turn", "tool", 1),
        ([TEXT, TOOL_USE], "max_tokens", "length", 0),
        ([TEXT], "refusal", "refusal", 0),
    ],
)
def test_how_replies_end(content: list[Any], reason: str | None, finish: str, calls: int) -> None:
    reply = decoded(message(*content, stop=reason))
    assert (reply.finish, len(reply.tool_calls)) == (finish, calls)
    assert reply.text == ("Checking." if content else "")


def test_a_refusal_explains_itself() -> None:
    assert decoded(message(stop="refusal", stop_details={"explanation": "Too dangerous."})).text == "Too dangerous."
    assert decoded(message(stop="refusal", stop_details=None)).text == ""


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (USAGE, Tokens(917, 900, 5, 33, 11)),
        ({"input_tokens": 12, "output_tokens": 0}, Tokens(input=12, output=0)),
        ({"cache_read_input_tokens": 9}, Tokens(cached=9)),
        (None, Tokens()),
    ],
)
def test_what_a_reply_used(usage: Any, tokens: Tokens) -> None:
    assert decoded(message(TEXT, usage=usage)).tokens == tokens


def test_thinking_goes_back_unchanged_to_the_same_model_only() -> None:
    thinking = {"type": "thinking", "thinking": "Oslo… 4.2 mm\n", "signature": "EqQB+/="}
    redacted = {"type": "redacted_thinking", "data": "gAAA"}
    content = [thinking, redacted, TEXT, {"type": "text", "text": ""}, TOOL_USE]
    reply = decoded(message(*content, stop="tool_use"), model="m")
    kept = [thinking, redacted, TEXT, TOOL_USE]
    assert reply.opaque == Opaque("anthropic", "m", kept)
    assert reply.tool_calls == (ToolCall("toolu_5", "rain", '{"city":"Oslo"}'),)
    body = CLAUDE.encode(Request("m", (*HELLO, reply.as_message()))).body
    assert write_json(kept) in body
    assert turns(*HELLO, reply.as_message(), model="n")[1]["content"] == [TEXT, TOOL_USE]
    assert decoded(message(TEXT, TOOL_USE)).opaque is None
    assert decoded(message(*content, stop="max_tokens")).opaque is None


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html><title>Sign in</title>", "an HTML page"),
        (b"", "an empty body"),
        (b'{"type":"message"}', "where a message was expected"),
        (b'{"content":["x"]}', "where a message was expected"),
        (b'{"content":[{"type":"tool_use","id":"x"}]}', "without 'input'"),
    ],
)
def test_what_is_no_reply(body: bytes, said: str) -> None:
    with pytest.raises(MalformedReply, match=said):
        CLAUDE.decode(body)


def test_an_error_in_a_success() -> None:
    refusal = CLAUDE.decode(b'{"type":"error","error":{"type":"overloaded_error","message":"busy"}}')
    assert isinstance(refusal, Refusal)
    assert (refusal.verdict, refusal.load) == ("retry", True)


def events(*values: dict[str, Any]) -> bytes:
    return b"".join(
        b"event: " + str(value["type"]).encode() + b"\ndata: " + write_json(value) + b"\n\n" for value in values
    )


def start(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int, kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}}


OPENING = {"type": "message_start", "message": {"id": "msg_4", "model": "m-2031", "content": [], "usage": USAGE}}
STOP = {"type": "message_stop"}


def ending(reason: str, **usage: Any) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage}


def read(stream: bytes, model: str = "") -> tuple[str, Reply]:
    reader = CLAUDE.read_stream(model=model)
    text = "".join(delta.text for delta in reader.feed(stream))
    return text, reader.close()


def test_a_stream_with_every_kind_of_block() -> None:
    text, reply = read(
        events(
            OPENING,
            {"type": "ping"},
            start(0, type="thinking", thinking="", signature=""),
            delta(0, "thinking_delta", thinking="Let "),
            delta(0, "thinking_delta", thinking="me."),
            delta(0, "signature_delta", signature="EqQB"),
            {"type": "content_block_stop", "index": 0},
            start(1, type="text", text=""),
            delta(1, "text_delta", text="Check"),
            delta(1, "text_delta", text="ing."),
            delta(1, "citations_delta", citation={"title": "t"}),
            start(2, type="tool_use", id="toolu_5", name="rain", input={}),
            start(3, type="tool_use", id="toolu_6", name="wind", input={}),
            delta(2, "input_json_delta", partial_json='{"city":'),
            delta(3, "input_json_delta", partial_json=""),
            delta(2, "input_json_delta", partial_json='"Oslo"}'),
            {"type": "something_new", "x": 1},
            delta(1, "something_delta", x=1),
            ending("tool_use", output_tokens=40, input_tokens=None),
            STOP,
        ),
        model="m",
    )
    assert text == "Checking."
    assert reply.finish == "tool"
    assert reply.tool_calls == (ToolCall("toolu_5", "rain", '{"city":"Oslo"}'), ToolCall("toolu_6", "wind", "{}"))
    assert reply.tokens == Tokens(917, 900, 5, 40, 11)
    assert reply.opaque == Opaque(
        "anthropic",
        "m",
        [
            {"type": "thinking", "thinking": "Let me.", "signature": "EqQB"},
            {"type": "text", "text": "Checking.", "citations": [{"title": "t"}]},
            TOOL_USE,
            {"type": "tool_use", "id": "toolu_6", "name": "wind", "input": {}},
        ],
    )


def test_a_stream_that_was_cut_off_in_a_call() -> None:
    half = (start(0, type="tool_use", id="t", name="rain", input={}), delta(0, "input_json_delta", partial_json='{"c'))
    reply = read(events(OPENING, *half, ending("max_tokens"), STOP))[1]
    assert (reply.finish, reply.tool_calls, reply.opaque) == ("length", (), None)
    broken = read(events(OPENING, *half, ending("tool_use"), STOP))[1]
    assert broken.tool_calls == (ToolCall("t", "rain", '{"c'),)


def test_an_error_in_the_middle() -> None:
    reader = CLAUDE.read_stream()
    text = events(OPENING, start(0, type="text", text="Hel"))
    assert [delta.text for delta in reader.feed(text)] == ["Hel"]
    with pytest.raises(StreamRefused, match="busy") as refused:
        reader.feed(events({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}))
    assert (refused.value.refusal.verdict, refused.value.refusal.load) == ("retry", True)


def test_streams_that_are_none() -> None:
    with pytest.raises(MalformedReply, match="before its end mark message_stop"):
        read(events(OPENING, ending("end_turn")))
    with pytest.raises(MalformedReply, match="an HTML page"):
        read(b"<html>")
    with pytest.raises(MalformedReply, match="never began"):
        read(events(OPENING, delta(0, "text_delta", text="x")))
    with pytest.raises(MalformedReply, match="message_start without message"):
        read(events({"type": "message_start"}))
    assert read(message(TEXT))[1].text == "Checking."


GOOD: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}


def conversation(*content: Any) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[n % 2], "content": one} for n, one in enumerate(content)]}


RESULT = {"type": "tool_result", "tool_use_id": "toolu_5", "content": [{"type": "text", "text": "4"}]}


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": ""}, "model"),
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": 1.5}, "temperature"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "messages[0]"),
        (conversation(""), "messages[0].content[0].text"),
        (conversation([]), "messages[0].content"),
        (conversation([{"type": "image"}]), "messages[0].content[0]"),
        (conversation("x", [{"type": "image"}]), "messages[1].content[0]"),
        (conversation("x", "y "), "messages[1]"),
        (conversation("x", [TOOL_USE]), "messages"),
        (conversation("x", [TOOL_USE], "y"), "messages"),
        (conversation("x", [TOOL_USE], [{"type": "text", "text": "y"}, RESULT]), "messages[2].content[1]"),
        (conversation([RESULT]), "messages[0]"),
        ({"system": 5}, "system"),
        ({"tools": [{"name": "x"}]}, "tools[0].input_schema"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"output_config": {"format": {"type": "json"}}}, "output_config.format.type"),
        ({"stop_sequences": [""]}, "stop_sequences[0]"),
    ],
)
def test_requests_that_are_rejected(change: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestRejected) as rejected:
        CLAUDE.parse_request(write_json(GOOD | change))
    assert rejected.value.param == param


def test_a_request_with_thinking_and_system_blocks() -> None:
    thought = {"type": "thinking", "thinking": "hm", "signature": "x"}
    parsed = CLAUDE.parse_request(
        write_json(
            GOOD
            | conversation("x", [thought, TOOL_USE], [RESULT, {"type": "text", "text": "And?"}])
            | {"system": [{"type": "text", "text": "Brief."}], "thinking": {"type": "adaptive"}}
        )
    )
    assert parsed.messages == (
        Message("system", "Brief."),
        Message("user", "x"),
        Message("assistant", tool_calls=(ToolCall("toolu_5", "rain", '{"city":"Oslo"}'),)),
        Message("tool", "4", tool_call_id="toolu_5"),
        Message("user", "And?"),
    )
    assert parsed.settings == Settings(max_tokens=9, extra={"thinking": {"type": "adaptive"}})


def test_limit_headers() -> None:
    levels = [
        LimitLevel(Limit("requests", 50), 49.9, 0.12),
        LimitLevel(Limit("input_tokens", 30_000), 28_600, 2.8),
        LimitLevel(Limit("output_tokens", 8_000), 400, 57),
    ]
    headers = CLAUDE.limit_headers(levels, now=1_935_738_000.0)
    assert headers["anthropic-ratelimit-requests-remaining"] == "49"
    assert headers["anthropic-ratelimit-requests-reset"] == "2031-05-05T09:00:01Z"
    assert headers["anthropic-ratelimit-input-tokens-remaining"] == "29000"
    assert headers["anthropic-ratelimit-output-tokens-remaining"] == "0"
    assert headers["anthropic-ratelimit-tokens-limit"] == "8000"
    assert len(headers) == 12
    assert CLAUDE.limit_headers([], now=0) == {}
