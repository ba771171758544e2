"""Client to server and back again in each dialect; and the official clients read what the server half writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh.dialects import DIALECTS
from agentmesh.dialects.base import Dialect
from agentmesh.errors import ErrorInfo
from agentmesh.messages import Finish, Message, Reply, Request, Settings, Tokens, ToolCall, ToolSpec

each_dialect = pytest.mark.parametrize("name", sorted(DIALECTS))
RAIN = ToolSpec("rain", "mm today", {"type": "object", "properties": {"city": {"type": "string"}}})
CALL = ToolCall("call_9", "rain", '{"city":"Oslo"}')
SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}
REQUESTS = [
    Request("m", (Message("user", "Hello"),), settings=Settings(max_tokens=5)),
    Request(
        "m",
        (
            Message("system", "Be brief."),
            Message("user", "Rain in Oslo? 😀"),
            Message("assistant", "Looking.", tool_calls=(CALL, ToolCall("b", "rain", "{}"))),
            Message("tool", "4.2", tool_call_id="call_9"),
            Message("tool", "none", tool_call_id="b"),
            Message("user", "And?"),
        ),
        tools=(RAIN,),
        tool_choice="rain",
        schema=SCHEMA,
        settings=Settings(max_tokens=5, temperature=0.5, top_p=1, stop=("#",), reasoning_effort="low", extra={"x": 1}),
    ),
    Request("m", (Message("user", "x"),), tools=(RAIN,), tool_choice="required", settings=Settings(max_tokens=1)),
    Request("m", (Message("user", "x"),), tools=(RAIN,), tool_choice="none", settings=Settings(max_tokens=1)),
]
TOKENS = Tokens(20, 8, 2, 7, 3)
REPLIES = [
    Reply("Hello 😀\n", "stop", tokens=TOKENS, model="m", id="r1"),
    Reply("Hel", "length", tokens=TOKENS, model="m", id="r1"),
    Reply("I will not.", "refusal", tokens=TOKENS, model="m", id="r1"),
    Reply("", "tool", tool_calls=(CALL,), tokens=TOKENS, model="m", id="r1"),
    Reply("Looking.", "tool", tool_calls=(CALL, ToolCall("b", "rain", "{}")), tokens=TOKENS, model="m", id="r1"),
    Reply("unknown use", "stop", model="m", id="r1"),
]


@each_dialect
@pytest.mark.parametrize("request_", REQUESTS)
def test_requests(name: str, request_: Request) -> None:
    assert DIALECTS[name].parse_request(DIALECTS[name].encode(request_).body) == request_


def streamed(one: Dialect, reply: Reply, *, cut: int = 1 << 20) -> tuple[Reply, str, list[bytes]]:
    pieces = [reply.text[at : at + 3] for at in range(0, len(reply.text), 3)]
    chunks = list(one.write_stream(reply, pieces, created=7))
    reader, stream = one.read_stream(), b"".join(chunks)
    deltas = [delta for at in range(0, len(stream), cut) for delta in reader.feed(stream[at : at + cut])]
    return reader.close(), "".join(delta.text for delta in deltas), chunks[1 : len(pieces) + 1]


@each_dialect
@pytest.mark.parametrize("reply", REPLIES)
def test_replies_whole_and_streamed(name: str, reply: Reply) -> None:
    one = DIALECTS[name]
    assert one.decode(one.write_reply(reply, created=7)) == reply
    for cut in (1, 7, 1 << 20):
        found, text, pieces = streamed(one, reply, cut=cut)
        assert found == reply
        assert text == reply.text
        assert all(chunk.count(b"data: ") == 1 for chunk in pieces)


FINISHES: list[Finish] = ["stop", "length", "refusal"]


@each_dialect
@given(st.text(min_size=1), st.sampled_from(FINISHES), st.none() | st.integers(0, 99), st.integers(1, 40))
def test_any_text_survives(name: str, text: str, finish: Finish, output: int | None, cut: int) -> None:
    tokens = Tokens() if output is None else Tokens(9, 0, 0, output, 0)
    reply = Reply(text, finish, tokens=tokens, model="m", id="r")
    assert DIALECTS[name].decode(DIALECTS[name].write_reply(reply, created=0)) == reply
    assert streamed(DIALECTS[name], reply, cut=cut)[:2] == (reply, text)


@each_dialect
def test_a_reply_without_an_id_gets_one(name: str) -> None:
    one = DIALECTS[name]
    ids = {one.decode(one.write_reply(Reply(text, "stop"), created=7)).id for text in "ab"}  # type: ignore[union-attr]
    assert len(ids) == 2
    assert all(len(made) > 20 for made in ids)


def test_usage_is_left_out_of_a_stream_where_nobody_asked() -> None:
    stream = b"".join(DIALECTS["openai-chat"].write_stream(REPLIES[0], ["Hello"], created=7, usage=False))
    assert b"usage" not in stream


def server(one: Dialect, reply: Reply) -> Callable[[httpx2.Request], httpx2.Response]:
    """Answers as a server would that has only the server half."""

    def answer(got: httpx2.Request) -> httpx2.Response:
        request = one.parse_request(got.read())
        if request.model == "busy":
            body = one.write_refusal(429, ErrorInfo("rate", "slow down"))
            return httpx2.Response(429, content=body, headers={"content-type": "application/json"})
        if request.stream:
            pieces = [reply.text] if reply.text else []
            stream = b"".join(one.write_stream(reply, pieces, created=7))
            return httpx2.Response(200, content=stream, headers={"content-type": "text/event-stream"})
        body = one.write_reply(reply, created=7)
        return httpx2.Response(200, content=body, headers={"content-type": "application/json"})

    return answer


def openai_client(reply: Reply) -> openai.OpenAI:
    transport = httpx2.MockTransport(server(DIALECTS["openai-chat"], reply))
    return openai.OpenAI(api_key="x", max_retries=0, http_client=httpx2.Client(transport=transport))


def anthropic_client(reply: Reply) -> anthropic.Anthropic:
    transport = httpx2.MockTransport(server(DIALECTS["anthropic"], reply))
    return anthropic.Anthropic(api_key="x", max_retries=0, http_client=httpx2.Client(transport=transport))


ASKED: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}


@pytest.mark.parametrize("reply", REPLIES)
def test_the_openai_client(reply: Reply) -> None:
    with openai_client(reply) as client:
        whole = client.chat.completions.create(**ASKED)
        type(whole).model_validate(whole.model_dump())
        with client.chat.completions.stream(**ASKED, stream_options={"include_usage": True}) as stream:
            final = stream.get_final_completion() if reply.finish != "length" else None
    for found in filter(None, (whole, final)):
        message = found.choices[0].message
        assert (message.refusal if reply.finish == "refusal" else message.content or "") == reply.text
        assert [call.function.arguments for call in message.tool_calls or ()] == [
            call.arguments for call in reply.tool_calls
        ]
        assert (found.usage.total_tokens if found.usage else None) == reply.tokens.total
    with openai_client(reply) as client:
        chunks = list(client.chat.completions.create(**ASKED, stream=True))
    for chunk in chunks:
        type(chunk).model_validate(chunk.model_dump())


@pytest.mark.parametrize("reply", REPLIES)
def test_the_anthropic_client(reply: Reply) -> None:
    with anthropic_client(reply) as client:
        whole = client.messages.create(**ASKED, max_tokens=5)
        with client.messages.stream(**ASKED, max_tokens=5) as stream:
            texts = "".join(stream.text_stream)
            final = stream.get_final_message()
    assert texts == reply.text
    for found in (whole, final):
        if reply.tokens.output is not None:
            type(found).model_validate(found.model_dump())
            assert (found.usage.input_tokens, found.usage.output_tokens) == (10, 7)
        blocks = [block.model_dump() for block in found.content]
        assert "".join(block["text"] for block in blocks if block["type"] == "text") == reply.text
        used = [block["name"] for block in blocks if block["type"] == "tool_use"]
        assert used == [call.name for call in reply.tool_calls]


def test_the_clients_raise_what_they_should() -> None:
    with openai_client(REPLIES[0]) as client, pytest.raises(openai.RateLimitError, match="slow down") as first:
        client.chat.completions.create(**ASKED | {"model": "busy"})
    assert first.value.code == "rate_limit_exceeded"
    with anthropic_client(REPLIES[0]) as other, pytest.raises(anthropic.RateLimitError, match="slow down") as second:
        other.messages.create(**ASKED | {"model": "busy"}, max_tokens=5)
    assert second.value.type == "rate_limit_error"
