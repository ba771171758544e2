"""Streamed chat completions, with what servers do to them."""

from __future__ import annotations

from typing import Any

import pytest

from agentmesh.dialects.base import MalformedReply, StreamRefused
from agentmesh.dialects.json_text import write_json
from agentmesh.dialects.openai_chat import OpenAIChat
from agentmesh.messages import Opaque, Reply, Tokens, ToolCall

CHAT = OpenAIChat()
END = b"data: [DONE]\n\n"


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **fields: Any) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return b"data: " + write_json({"id": "c", "model": "m-2031", "choices": choices, **fields}) + b"\n\n"


def pieces(*calls: dict[str, Any]) -> bytes:
    return b"".join(chunk({"tool_calls": [call]}) for call in calls) + chunk({}, "tool_calls") + END


def read(stream: bytes, *quirks: str, model: str = "") -> tuple[str, Reply]:
    reader = CHAT.read_stream(frozenset(quirks), model=model)
    text = "".join(delta.text for delta in reader.feed(stream))
    return text, reader.close()


def piece(index: int | None, call_id: str | None, name: str | None, arguments: Any) -> dict[str, Any]:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    return {
        key: value for key, value in (("index", index), ("id", call_id), ("function", function)) if value is not None
    }


def test_text_with_usage_in_its_own_chunk() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    stream = (
        chunk(None, prompt_filter_results=[])
        + b": keep-alive\n\n"
        + chunk({"role": "assistant", "content": ""}, usage=None)
        + chunk({"content": "Hel"})
        + chunk({"content": "lo"})
        + chunk({}, "stop")
        + chunk(None, usage=usage)
        + END
        + chunk({"content": "after the end"})
    )
    text, reply = read(stream)
    assert text == "Hello"
    assert reply == Reply("Hello", "stop", tokens=Tokens(input=3, output=2), model="m-2031", id="c")


@pytest.mark.parametrize(
    "last", [{"usage": {"prompt_tokens": 3}}, {"x_groq": {"usage": {"prompt_tokens": 3}}, "usage": None}]
)
def test_usage_on_the_last_chunk(last: dict[str, Any]) -> None:
    assert read(chunk({"content": "x"}, "stop", **last) + END)[1].tokens == Tokens(input=3)


def test_no_usage_is_unknown() -> None:
    assert read(chunk({"content": "x"}, "stop") + END)[1].tokens == Tokens()


A, B = ToolCall("a", "rain", '{"city":"Oslo"}'), ToolCall("b", "wind", '{"city":"Bern"}')


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(
            [
                piece(0, "a", "rain", ""),
                piece(0, None, None, '{"city":'),
                piece(0, None, None, '"Oslo"}'),
                piece(1, "b", "wind", '{"city":"Bern"}'),
            ],
            id="as documented",
        ),
        pytest.param(
            [
                piece(1, "a", "rain", '{"city":'),
                piece(4, "b", "wind", '{"city":"Bern"}'),
                piece(1, None, None, '"Oslo"}'),
            ],
            id="gaps and interleaved",
        ),
        pytest.param(
            [
                piece(0, "a", "rain", '{"city":'),
                piece(0, None, None, '"Oslo"}'),
                piece(0, "b", "wind", '{"city":'),
                piece(0, None, None, '"Bern"}'),
            ],
            id="always 0",
        ),
        pytest.param(
            [
                piece(0, "a", "rain", '{"city":'),
                piece(0, "b", "wind", '{"city":'),
                piece(0, "a", "rain", '"Oslo"}'),
                piece(0, "b", "wind", '"Bern"}'),
            ],
            id="always 0, interleaved by id",
        ),
        pytest.param(
            [
                piece(None, "a", "rain", '{"city":'),
                piece(None, None, None, '"Oslo"}'),
                piece(None, "b", "wind", {"city": "Bern"}),
            ],
            id="no index, object",
        ),
        pytest.param(
            [
                piece(0, "a", "rain", '{"city":'),
                piece(0, "a", "rain", '"Oslo"}'),
                piece(1, None, "wind", ""),
                piece(1, "b", None, '{"city":"Bern"}'),
            ],
            id="repeated and late ids",
        ),
    ],
)
def test_tool_calls_are_put_together(stream: list[dict[str, Any]]) -> None:
    reply = read(pieces(*stream))[1]
    assert reply.tool_calls == (A, B)
    assert reply.finish == "tool"


def test_calls_without_ids_or_arguments() -> None:
    reply = read(pieces(piece(0, None, "rain", None), piece(1, None, "wind", "")))[1]
    assert reply.tool_calls == (ToolCall("call_c_0", "rain", "{}"), ToolCall("call_c_1", "wind", "{}"))


def test_calls_that_were_cut_off_are_dropped() -> None:
    stream = chunk({"tool_calls": [piece(0, "a", "rain", '{"ci')]}) + chunk({}, "length") + END
    reply = read(stream)[1]
    assert (reply.finish, reply.tool_calls) == ("length", ())


def test_a_refusal_is_text_and_a_finish() -> None:
    text, reply = read(chunk({"refusal": "I will "}) + chunk({"refusal": "not."}, "stop") + END)
    assert (text, reply.text, reply.finish) == ("I will not.", "I will not.", "refusal")


def test_reasoning_is_kept_whole_and_in_order() -> None:
    def detail(**fields: Any) -> bytes:
        return chunk({"reasoning_details": [fields]})

    stream = (
        chunk({"reasoning_content": "Let "})
        + chunk({"reasoning_content": "me."})
        + detail(type="reasoning.text", index=0, text="Let ", signature=None)
        + detail(type="reasoning.text", index=0, text="me.", signature=None)
        + detail(type="reasoning.text", index=0, signature="EqQ=")
        + detail(type="reasoning.encrypted", index=1, data="gAA=")
        + detail(type="reasoning.encrypted", data="x")
        + chunk({"content": "Yes"}, "stop")
        + END
    )
    text, reply = read(stream, model="m")
    assert text == "Yes"
    assert reply.opaque == Opaque(
        "openai-chat",
        "m",
        {
            "reasoning_content": "Let me.",
            "reasoning_details": [
                {"type": "reasoning.text", "index": 0, "text": "Let me.", "signature": "EqQ="},
                {"type": "reasoning.encrypted", "index": 1, "data": "gAA="},
                {"type": "reasoning.encrypted", "data": "x"},
            ],
        },
    )


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"error":{"code":429,"message":"slow"}}\n\n',
        b'event: error\ndata: {"message":"slow","code":429}\n\n',
        b'data: {"object":"error","message":"slow","code":429}\n\n',
        chunk({"content": ""}, "error", error={"code": 429, "message": "slow"}),
        b'data: {"choices":[{"delta":{},"finish_reason":"error","error":{"code":429,"message":"slow"}}]}\n\n',
    ],
)
def test_an_error_in_the_middle(event: bytes) -> None:
    reader = CHAT.read_stream()
    assert [delta.text for delta in reader.feed(chunk({"content": "Hel"}))] == ["Hel"]
    with pytest.raises(StreamRefused, match="slow") as refused:
        reader.feed(event)
    assert refused.value.refusal.verdict == "pushed_back"


def test_a_finish_that_is_an_error() -> None:
    with pytest.raises(StreamRefused, match="ended the reply with 'error'"):
        read(chunk({"content": "x"}, "error") + END)


def test_the_end_mark_is_needed() -> None:
    stream = chunk({"content": "x"}, "stop")
    with pytest.raises(MalformedReply, match=r"before its end mark \[DONE\]"):
        read(stream)
    assert read(stream, "no_done")[1].text == "x"
    with pytest.raises(MalformedReply, match="broke off"):
        read(chunk({"content": "x"}), "no_done")
    assert read(stream + b"data: [DONE]")[1].text == "x"


def test_a_body_that_is_no_stream() -> None:
    whole = CHAT.write_reply(Reply("Hello", "stop", model="m", id="c"), created=1)
    assert read(whole)[1].text == "Hello"
    with pytest.raises(MalformedReply, match='an HTML page: "Sign in"'):
        read(b"<html>\n<title>Sign in</title>\n</html>")
    with pytest.raises(MalformedReply, match="an empty body"):
        read(b"")
    with pytest.raises(StreamRefused, match="pay"):
        read(b'{"error":{"code":402,"message":"pay"}}')


@pytest.mark.parametrize(
    "data",
    [b"{", b"[]", b'{"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}', b'{"choices":[{"delta":{"content":5}}]}'],
)
def test_chunks_that_are_none(data: bytes) -> None:
    with pytest.raises(MalformedReply):
        CHAT.read_stream().feed(b"data: " + data + b"\n\n")
