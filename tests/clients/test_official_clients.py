"""The official openai and anthropic clients talk to `agentmesh serve sim`: they are the judges of our wire formats."""

from __future__ import annotations

import contextlib
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import pydantic
import pytest

if TYPE_CHECKING:
    import anthropic  # noqa: TC004 - see _clients
    import openai  # noqa: TC004

PROVIDER = """
provider: judged
title: Simulated for the official clients
dialect: openai-chat
base_url: inprocess://judged
models:
  free: {}
  tight: {limits: {requests_per_minute: 1}}
simulate: {latency: {first_token: 0.001, per_token: 0.0001}}
"""

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
QUESTION: list[Any] = [{"role": "user", "content": "Use the tool weather for Oslo."}]


class Verdict(pydantic.BaseModel):
    reason: str
    winner: Literal["first", "second", "tie"]


@pytest.fixture(scope="module", autouse=True)
def _clients() -> None:
    """The clients, which take more than a second to import: only where they are used."""
    globals().update({name: importlib.import_module(name) for name in ("anthropic", "openai")})


@pytest.fixture(scope="module")
def base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API of a simulated provider in a process of its own."""
    file = tmp_path_factory.mktemp("judged") / "judged.yaml"
    file.write_text(PROVIDER)
    command = [sys.executable, "-m", "agentmesh", "serve", "sim", "--provider-file", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["base_url"]
        finally:
            process.kill()


@pytest.fixture
def chat(base_url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=base_url, api_key="none", max_retries=0, timeout=10) as client:
        yield client


@pytest.fixture
def messages(base_url: str) -> Iterator[anthropic.Anthropic]:
    root = base_url.removesuffix("/v1")
    with anthropic.Anthropic(base_url=root, api_key="none", max_retries=0, timeout=10) as client:
        yield client


# --- openai


def test_openai_text(chat: openai.OpenAI) -> None:
    reply = chat.chat.completions.create(model="free", messages=[{"role": "user", "content": "Hello."}])
    assert "simulated" in (reply.choices[0].message.content or "")
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage is not None
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens


def test_openai_cut_off(chat: openai.OpenAI) -> None:
    reply = chat.chat.completions.create(
        model="free", messages=[{"role": "user", "content": "Hello."}], max_completion_tokens=5
    )
    assert reply.choices[0].finish_reason == "length"
    assert reply.usage is not None
    assert reply.usage.completion_tokens <= 5


def test_openai_stream(chat: openai.OpenAI) -> None:
    whole = chat.chat.completions.create(model="free", messages=[{"role": "user", "content": "Tell me."}])
    chunks = list(
        chat.chat.completions.create(
            model="free", messages=[{"role": "user", "content": "Tell me."}], stream=True,
            stream_options={"include_usage": True},
        )
    )  # fmt: skip
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"


def test_openai_tools(chat: openai.OpenAI) -> None:
    tools: list[Any] = [{"type": "function", "function": {"name": "weather", "parameters": WEATHER}}]
    asked = chat.chat.completions.create(model="free", messages=QUESTION, tools=tools)
    assert asked.choices[0].finish_reason == "tool_calls"
    (call,) = asked.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert 1 <= json.loads(call.function.arguments)["days"] <= 9
    answered = [*QUESTION, asked.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "It rains."}]
    final = chat.chat.completions.create(model="free", messages=answered, tools=tools)
    assert "It rains." in (final.choices[0].message.content or "")


def test_openai_tools_streamed(chat: openai.OpenAI) -> None:
    tools: list[Any] = [{"type": "function", "function": {"name": "weather", "parameters": WEATHER}}]
    with chat.chat.completions.stream(model="free", messages=QUESTION, tools=tools) as stream:
        final = stream.get_final_completion()
    (call,) = final.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert set(json.loads(call.function.arguments)) == {"city", "days"}


def test_openai_json_schema(chat: openai.OpenAI) -> None:
    reply = chat.chat.completions.parse(
        model="free", messages=[{"role": "user", "content": "Who wins?"}], response_format=Verdict
    )
    assert isinstance(reply.choices[0].message.parsed, Verdict)


def test_openai_too_fast(chat: openai.OpenAI) -> None:
    ask = [{"role": "user", "content": "Hello."}]
    with contextlib.suppress(openai.RateLimitError):  # the anthropic test may have used the only request already
        chat.chat.completions.create(model="tight", messages=ask)  # type: ignore[arg-type]
    with pytest.raises(openai.RateLimitError) as refused:
        chat.chat.completions.create(model="tight", messages=ask)  # type: ignore[arg-type]
    headers = refused.value.response.headers
    assert 1 <= int(headers["retry-after"]) <= 60
    assert headers["x-ratelimit-limit-requests"] == "1"
    assert headers["x-ratelimit-remaining-requests"] == "0"


def test_openai_errors(chat: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="messages"):
        chat.chat.completions.create(model="free", messages="no list")  # type: ignore[arg-type]
    with pytest.raises(openai.NotFoundError, match="nobody"):
        chat.chat.completions.create(model="nobody", messages=[{"role": "user", "content": "Hello."}])
    assert {model.id for model in chat.models.list()} == {"free", "tight"}


# --- anthropic


def test_anthropic_text(messages: anthropic.Anthropic) -> None:
    reply = messages.messages.create(model="free", max_tokens=400, messages=[{"role": "user", "content": "Hello."}])
    assert isinstance(reply.content[0], anthropic.types.TextBlock)
    assert "simulated" in reply.content[0].text
    assert reply.stop_reason == "end_turn"
    assert reply.usage.output_tokens > 0


def test_anthropic_cut_off(messages: anthropic.Anthropic) -> None:
    reply = messages.messages.create(model="free", max_tokens=5, messages=[{"role": "user", "content": "Hello."}])
    assert reply.stop_reason == "max_tokens"


def test_anthropic_stream(messages: anthropic.Anthropic) -> None:
    ask: Any = {"model": "free", "max_tokens": 400, "messages": [{"role": "user", "content": "Tell me."}]}
    whole = messages.messages.create(**ask)
    with messages.messages.stream(**ask) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert isinstance(whole.content[0], anthropic.types.TextBlock)
    assert text == whole.content[0].text
    assert (final.stop_reason, final.usage.output_tokens) == (whole.stop_reason, whole.usage.output_tokens)


@pytest.mark.parametrize("streamed", [False, True])
def test_anthropic_tools(messages: anthropic.Anthropic, *, streamed: bool) -> None:
    ask: Any = {
        "model": "free", "max_tokens": 400, "messages": QUESTION,
        "tools": [{"name": "weather", "input_schema": WEATHER}],
    }  # fmt: skip
    if streamed:
        with messages.messages.stream(**ask) as stream:
            asked = stream.get_final_message()
    else:
        asked = messages.messages.create(**ask)
    assert asked.stop_reason == "tool_use"
    call = asked.content[-1]
    assert isinstance(call, anthropic.types.ToolUseBlock)
    assert set(call.input) == {"city", "days"}
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "It rains."}
    ask["messages"] = [
        *QUESTION,
        {"role": "assistant", "content": asked.content},
        {"role": "user", "content": [result]},
    ]
    final = messages.messages.create(**ask)
    assert isinstance(final.content[0], anthropic.types.TextBlock)
    assert "It rains." in final.content[0].text


def test_anthropic_json_schema(messages: anthropic.Anthropic) -> None:
    reply = messages.messages.parse(
        model="free", max_tokens=800, messages=[{"role": "user", "content": "Who wins?"}], output_format=Verdict
    )
    assert isinstance(reply.parsed_output, Verdict)


def test_anthropic_errors(messages: anthropic.Anthropic) -> None:
    ask: Any = {"max_tokens": 400, "messages": [{"role": "user", "content": "Anthropic asks."}]}
    with pytest.raises(anthropic.NotFoundError, match="nobody"):
        messages.messages.create(model="nobody", **ask)
    with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
        messages.post("/v1/messages", cast_to=dict, body={"model": "free", "messages": ask["messages"]})
    with contextlib.suppress(anthropic.RateLimitError):  # the openai test may have used the only request already
        messages.messages.create(model="tight", **ask)
    with pytest.raises(anthropic.RateLimitError) as refused:
        messages.messages.create(model="tight", **ask)
    assert refused.value.response.headers["anthropic-ratelimit-requests-remaining"] == "0"
    assert refused.value.body["error"]["type"] == "rate_limit_error"  # type: ignore[index]
