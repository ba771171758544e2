"""Chat Completions: what is written for a request, and what is read from whole replies."""

from __future__ import annotations

from typing import Any

import pytest

from agentmesh.dialects import dialect
from agentmesh.dialects.base import LimitLevel, MalformedReply, Refusal, RequestRejected
from agentmesh.dialects.json_text import read_json, write_json
from agentmesh.dialects.openai_chat import OpenAIChat, parse_messages
from agentmesh.errors import ErrorInfo, UserError
from agentmesh.messages import Message, Opaque, Reply, Request, Settings, Tokens, ToolCall, ToolSpec
from agentmesh.rates import Limit

CHAT = OpenAIChat()
HELLO = (Message("user", "Hello"),)
SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}
RAIN = ToolSpec("rain", "mm today", {"type": "object", "properties": {"city": {"type": "string"}}})


def written(request: Request, *quirks: str) -> dict[str, Any]:
    body: dict[str, Any] = read_json(CHAT.encode(request, frozenset(quirks)).body)
    return body


def test_dialects_are_found_by_name() -> None:
    assert dialect("openai-chat").name == "openai-chat"
    with pytest.raises(UserError, match="no dialect 'openai'; known are anthropic, openai-chat"):
        dialect("openai")


def test_a_plain_question_is_sent_as_it_is() -> None:
    wire = CHAT.encode(Request("m", HELLO))
    assert wire.body == b'{"model":"m","messages":[{"role":"user","content":"Hello"}]}'
    assert wire.path == "/chat/completions"
    assert wire.headers == {"content-type": "application/json"}


def test_settings_of_every_kind() -> None:
    settings = Settings(
        max_tokens=9, temperature=0, top_p=0.5, seed=3, stop=("#",), reasoning_effort="low", extra={"top_k": 4}
    )
    body = written(Request("m", HELLO, settings=settings, stream=True))
    del body["messages"]
    assert body == {
        "model": "m",
        "max_completion_tokens": 9,
        "temperature": 0,
        "top_p": 0.5,
        "seed": 3,
        "stop": ["#"],
        "reasoning_effort": "low",
        "stream": True,
        "stream_options": {"include_usage": True},
        "top_k": 4,
    }


def test_extra_settings_win_and_maps_are_joined() -> None:
    settings = Settings(reasoning_effort="low", extra={"reasoning": {"exclude": True}, "model": "other"})
    body = written(Request("m", HELLO, settings=settings), "reasoning_object")
    assert body["reasoning"] == {"effort": "low", "exclude": True}
    assert body["model"] == "other"


@pytest.mark.parametrize(
    ("quirk", "has", "has_not"),
    [
        ("max_tokens", {"max_tokens": 9}, ["max_completion_tokens"]),
        ("no_stream_usage", {"stream": True}, ["stream_options"]),
        ("no_json_schema", {"response_format": {"type": "json_object"}}, []),
        ("no_tool_choice", {}, ["tool_choice"]),
        ("no_sampling", {}, ["temperature", "top_p"]),
        ("reasoning_object", {"reasoning": {"effort": "low"}}, ["reasoning_effort"]),
        ("tools_without_reasoning", {"reasoning_effort": "low"}, []),
    ],
)
def test_quirks(quirk: str, has: dict[str, Any], has_not: list[str]) -> None:
    settings = Settings(max_tokens=9, temperature=0.1, top_p=0.5, reasoning_effort="low")
    request = Request("m", HELLO, tools=(RAIN,), tool_choice="required", schema=SCHEMA, settings=settings, stream=True)
    plain, body = written(request), written(request, quirk)
    assert {key: body[key] for key in has} == has
    assert not set(has_not) & set(body)
    assert set(has_not) <= set(plain)
    assert quirk in CHAT.known_quirks


def test_tools_may_need_an_effort_of_none() -> None:
    request = Request("m", HELLO, tools=(RAIN,))
    assert written(request, "tools_without_reasoning")["reasoning_effort"] == "none"
    assert "reasoning_effort" not in written(request)
    assert "reasoning_effort" not in written(Request("m", HELLO), "tools_without_reasoning")


@pytest.mark.parametrize(
    ("quirks", "role"),
    [([], "system"), (["developer_role"], "developer"), (["developer_role", "system_role"], "system")],
)
def test_the_name_of_the_system_role(quirks: list[str], role: str) -> None:
    body = written(Request("m", (Message("system", "Brief."), *HELLO)), *quirks)
    assert body["messages"][0] == {"role": role, "content": "Brief."}


def test_tools_and_their_turns() -> None:
    turn = (
        *HELLO,
        Message("assistant", tool_calls=(ToolCall("call_9", "rain", '{"city":"Oslo"}'),)),
        Message("tool", "4.2", tool_call_id="call_9", is_error=True),
    )
    body = written(Request("m", turn, tools=(RAIN,), tool_choice="rain"))
    function = {"name": "rain", "arguments": '{"city":"Oslo"}'}
    assert body["messages"][1:] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_9", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "call_9", "content": "4.2"},
    ]
    assert body["tool_choice"] == {"type": "function", "function": {"name": "rain"}}
    described = {"name": "rain", "description": "mm today", "parameters": dict(RAIN.parameters)}
    assert body["tools"] == [{"type": "function", "function": described}]
    assert "tool_choice" not in written(Request("m", HELLO, tools=(RAIN,)))
    assert written(Request("m", HELLO, tools=(RAIN,), tool_choice="none"))["tool_choice"] == "none"


def test_schemas_are_strict_where_they_can_be() -> None:
    asked = written(Request("m", HELLO, schema=SCHEMA, schema_name="my answer!"))["response_format"]
    assert asked == {
        "type": "json_schema",
        "json_schema": {"name": "my_answer_", "schema": SCHEMA, "strict": True},
    }
    loose = Request("m", HELLO, schema={"type": "object"})
    assert "strict" not in written(loose)["response_format"]["json_schema"]
    assert "strict" not in written(Request("m", HELLO, schema=SCHEMA), "no_strict")["response_format"]["json_schema"]


def test_without_schemas_on_the_wire_the_prompt_tells_it() -> None:
    first, *rest = written(Request("m", HELLO, schema=SCHEMA), "no_json_schema")["messages"]
    assert first["role"] == "system"
    assert "JSON" in first["content"]
    assert rest == [{"role": "user", "content": "Hello"}]
    both = written(Request("m", (Message("system", "Brief."), *HELLO), schema=SCHEMA), "no_json_schema")["messages"]
    assert both[0]["content"].startswith("Brief.\n\n")
    assert len(both) == 2


def completion(message: dict[str, Any], finish: str | None = "stop", **fields: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return write_json({"id": "c-7", "model": "m-2031", "choices": [choice], **fields})


def decoded(body: bytes, *quirks: str, model: str = "") -> Reply:
    reply = CHAT.decode(body, frozenset(quirks), model=model)
    assert isinstance(reply, Reply)
    return reply


CALL = {"id": "call_9", "type": "function", "function": {"name": "rain", "arguments": '{"city":"Oslo"}'}}


@pytest.mark.parametrize(
    ("message", "reason", "finish", "calls"),
    [
        ({"content": "Hi"}, "stop", "stop", 0),
        ({"content": "Hi"}, None, "stop", 0),
        ({"content": "Hi"}, "tool_calls", "stop", 0),
        ({"content": "Hi"}, "eos", "stop", 0),
        ({"content": "Hi"}, "length", "length", 0),
        ({"content": "Hi"}, "model_length", "length", 0),
        ({"content": ""}, "content_filter", "filter", 0),
        ({"content": None, "refusal": "I will not."}, "stop", "refusal", 0),
        ({"content": None, "tool_calls": [CALL]}, "tool_calls", "tool", 1),
        ({"tool_calls": [CALL, CALL]}, "stop", "tool", 2),
        ({"content": "", "tool_calls": [CALL]}, "function_call", "tool", 1),
        ({"content": "Hi", "tool_calls": [CALL]}, "length", "length", 0),
        ({"content": "Hi", "tool_calls": [CALL]}, "content_filter", "filter", 0),
        ({"content": "Hi", "tool_calls": []}, "stop", "stop", 0),
    ],
)
def test_how_replies_end(message: dict[str, Any], reason: str | None, finish: str, calls: int) -> None:
    reply = decoded(completion(message, reason))
    assert (reply.finish, len(reply.tool_calls)) == (finish, calls)
    assert reply.text == (message.get("content") or message.get("refusal") or "")
    assert (reply.id, reply.model) == ("c-7", "m-2031")


@pytest.mark.parametrize("reason", ["error", "insufficient_system_resource", "abort"])
def test_a_provider_that_gave_up_is_tried_again(reason: str) -> None:
    refusal = CHAT.decode(completion({"content": "Hal"}, reason))
    assert isinstance(refusal, Refusal)
    assert (refusal.verdict, refusal.error.kind) == ("retry", "server")
    assert refusal.load == (reason == "insufficient_system_resource")


def test_an_error_in_a_choice_and_at_the_top() -> None:
    choice = {
        "error": {"code": 429, "message": "upstream is busy"},
        "message": {"content": ""},
        "finish_reason": "error",
    }
    for body in ({"choices": [choice]}, {"error": choice["error"]}, {"error": choice["error"], "choices": [choice]}):
        refusal = CHAT.decode(write_json(body))
        assert isinstance(refusal, Refusal)
        assert (refusal.verdict, refusal.error.message) == ("pushed_back", "upstream is busy")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [('{"a":1}', '{"a":1}'), ({"a": 1}, '{"a":1}'), ("", "{}"), (None, "{}"), ("{broken", "{broken")],
)
def test_arguments_stay_as_they_came(arguments: Any, expected: str) -> None:
    call = {"function": {"name": "rain", "arguments": arguments}}
    (found,) = decoded(completion({"tool_calls": [call]})).tool_calls
    assert found == ToolCall("call_c-7_0", "rain", expected)


def test_content_in_parts_without_the_thoughts() -> None:
    parts = [{"type": "thinking", "thinking": []}, {"type": "text", "text": "He"}, {"type": "text", "text": "llo"}]
    assert decoded(completion({"content": parts})).text == "Hello"


@pytest.mark.parametrize(
    ("usage", "quirks", "tokens"),
    [
        (None, [], Tokens()),
        ({}, [], Tokens()),
        ({"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}, [], Tokens(input=5, output=2)),
        (
            {
                "prompt_tokens": 5,
                "completion_tokens": 2,
                "prompt_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 1},
                "completion_tokens_details": {"reasoning_tokens": 0},
                "cost": 0.25,
            },
            [],
            Tokens(5, 3, 1, 2, 0, 0.25),
        ),
        ({"prompt_tokens": 5, "prompt_cache_hit_tokens": 4}, [], Tokens(input=5, cached=4)),
        ({"prompt_tokens": 5, "num_cached_tokens": 4, "prompt_tokens_details": None}, [], Tokens(input=5, cached=4)),
        ({"prompt_tokens": -1, "completion_tokens": "many", "cost": True}, [], Tokens()),
        (
            {"completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 7}},
            ["output_without_reasoning"],
            Tokens(output=9, reasoning=7),
        ),
        (
            {"completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 7}},
            [],
            Tokens(output=9, reasoning=7),
        ),
    ],
)
def test_what_a_reply_used(usage: Any, quirks: list[str], tokens: Tokens) -> None:
    assert decoded(completion({"content": "Hi"}, usage=usage), *quirks).tokens == tokens


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html><title>Sign in</title>", 'an HTML page: "Sign in"'),
        (b"", "an empty body"),
        (b"ok", '"ok"'),
        (b"[7]", "7"),
        (b'{"choices": []}', '{"choices":\\[\\]}'),
        (b'{"choices": [{"delta": {}}]}', "delta"),
        (b'{"choices": [{"message": {"content": 7}}]}', "neither text nor parts"),
        (b'{"choices": [{"message": {"tool_calls": [{"id": "x"}]}}]}', "without a function"),
        (b'{"choices": [{"message": {"tool_calls": "x"}}]}', "without a function"),
    ],
)
def test_what_is_no_reply(body: bytes, said: str) -> None:
    with pytest.raises(MalformedReply, match=said):
        CHAT.decode(body)


def test_own_state_goes_back_unchanged_to_the_same_model_only() -> None:
    details = [{"type": "reasoning.text", "text": "hm", "signature": "EqQ=", "index": 0}]
    signed = CALL | {"extra_content": {"google": {"thought_signature": "Ci=="}}}
    message = {"content": "", "reasoning_content": "hm", "reasoning_details": details, "tool_calls": [signed]}
    reply = decoded(completion(message), model="m")
    own = {"reasoning_content": "hm", "reasoning_details": details, "tool_calls": [signed]}
    assert reply.opaque == Opaque("openai-chat", "m", own)
    history = (*HELLO, reply.as_message(), Message("tool", "4", tool_call_id="call_9"))
    back = written(Request("m", history))["messages"][1]
    assert {key: back[key] for key in own} == own
    other = written(Request("n", history))["messages"][1]
    assert other == {"role": "assistant", "content": None, "tool_calls": [CALL]}
    assert decoded(completion(message)).opaque == Opaque("openai-chat", "m-2031", own)
    assert decoded(completion({"content": "Hi", "reasoning": "shown"})).opaque is None
    assert decoded(completion(message, "length")).opaque is None


@pytest.mark.parametrize(
    ("items", "place"),
    [
        ("Hello", "messages"),
        ([], "messages"),
        (["Hello"], "messages[0]"),
        ([{"content": "x"}], "messages[0].role"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "user", "content": 5}], "messages[0].content"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "messages[0].content[0]"),
        ([{"role": "user", "content": "x"}, {"role": "tool", "content": "y"}], "messages[1].tool_call_id"),
        ([{"role": "assistant", "tool_calls": [{}]}], "messages[0].tool_calls[0].function"),
        (
            [{"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": {}}}]}],
            "messages[0].tool_calls[0].function.arguments",
        ),
    ],
)
def test_messages_that_are_none(items: Any, place: str) -> None:
    with pytest.raises(RequestRejected) as rejected:
        parse_messages(items)
    assert rejected.value.param == place
    assert str(rejected.value).startswith(place)


def test_messages_of_every_role() -> None:
    items = [
        {"role": "developer", "content": "Brief."},
        {"role": "user", "content": [{"type": "text", "text": "He"}, {"type": "text", "text": "llo"}], "name": "me"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "", "tool_call_id": "call_9"},
    ]
    assert parse_messages(items) == (
        Message("system", "Brief."),
        Message("user", "Hello"),
        Message("assistant", tool_calls=(ToolCall("call_9", "rain", '{"city":"Oslo"}'),)),
        Message("tool", tool_call_id="call_9"),
    )


GOOD: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
ASKED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
ANSWERED = {"role": "tool", "tool_call_id": "call_9", "content": "4"}


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 3}, "model"),
        ({"messages": None}, "messages"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": True}, "max_completion_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"seed": 1.5}, "seed"),
        ({"stop": 5}, "stop"),
        ({"stop": [""]}, "stop[0]"),
        ({"stream": "yes"}, "stream"),
        ({"n": 2}, "n"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [{"function": {"name": "f"}}], "tool_choice": {"function": {"name": "g"}}}, "tool_choice"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"messages": [ASKED]}, "messages"),
        ({"messages": [ASKED, {"role": "user", "content": "x"}]}, "messages"),
        ({"messages": [ANSWERED]}, "messages[0]"),
        ({"messages": [ASKED, ANSWERED, ANSWERED]}, "messages[2]"),
    ],
)
def test_requests_that_are_rejected(change: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestRejected) as rejected:
        CHAT.parse_request(write_json(GOOD | change))
    assert rejected.value.param == param
    assert (
        read_json(CHAT.write_refusal(400, ErrorInfo("bad_request", "because"), param=param))["error"]["param"] == param
    )


def test_a_body_that_is_no_json() -> None:
    with pytest.raises(RequestRejected, match="not valid JSON"):
        CHAT.parse_request(b"{")
    with pytest.raises(RequestRejected, match="body must be an object"):
        CHAT.parse_request(b"[]")


def test_requests_of_other_clients() -> None:
    request = CHAT.parse_request(
        write_json(
            GOOD
            | {"max_tokens": 5, "stop": "#", "n": 1, "user": "u", "response_format": {"type": "json_object"}}
            | {"stream": True, "stream_options": {"include_usage": False}}
        )
    )
    assert request.settings == Settings(
        max_tokens=5, stop=("#",), extra={"user": "u", "stream_options": {"include_usage": False}}
    )
    assert request.schema == {"type": "object"}
    assert request.stream


def test_limit_headers() -> None:
    minute, day = Limit("requests", 600), Limit("requests", 1000, 86400.0)
    levels = [
        LimitLevel(minute, 599.4, 0.06),
        LimitLevel(day, 3, 5000),
        LimitLevel(Limit("tokens", 240_000), -5, 60.0),
        LimitLevel(Limit("output_tokens", 10), 1, 1),
        LimitLevel(Limit("in_flight", 10), 1, 1),
    ]
    assert CHAT.limit_headers(levels, now=0) == {
        "x-ratelimit-limit-requests": "1000",
        "x-ratelimit-remaining-requests": "3",
        "x-ratelimit-reset-requests": "1h23m20s",
        "x-ratelimit-limit-tokens": "240000",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "1m0s",
    }
    assert CHAT.limit_headers([], now=0) == {}
