"""The simulated provider as clients see it: dialects, limits, latency, failures, statistics; on asyncio and trio."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from agentmesh.catalog import Catalog
from agentmesh.catalog.spec import Failure, ProviderSpec
from agentmesh.dialects import DIALECTS, dialect
from agentmesh.messages import Message, Reply, Request, Settings, ToolSpec
from agentmesh.rates import Limit
from agentmesh.simulate.behaviour import STALL_S, Behaviour, Served, ServedModel, mixed_failures, served_by
from agentmesh.simulate.provider import SimulatedProvider
from agentmesh.simulate.replay import RecordedReplies, load_recordings
from agentmesh.simulate.transport import InProcessTransport

SLOW = Behaviour(first_token_s=1.0, per_token_s=0.05, output_tokens=60)

pytestmark = [pytest.mark.anyio, pytest.mark.both_backends, pytest.mark.virtual_time]


class Client:
    """Speaks one dialect to a simulated provider."""

    def __init__(
        self, *limits: Limit, behaviour: Behaviour | None = None, speaks: str = "openai-chat", **kwargs: Any
    ) -> None:
        served = Served({"*": ServedModel("*", behaviour or Behaviour())}, limits, **kwargs)
        self.provider = SimulatedProvider(served)
        self.dialect = dialect(speaks)
        self.http = httpx.AsyncClient(
            transport=InProcessTransport(self.provider), base_url="http://sim/v1", timeout=None
        )

    async def send(self, text: str = "Hello there", **kwargs: Any) -> httpx.Response:
        wire = self.dialect.encode(asked(text, **kwargs))
        return await self.http.post(wire.path, content=wire.body, headers=dict(wire.headers))

    async def ask(self, text: str = "Hello there", **kwargs: Any) -> Reply:
        answer = await self.send(text, **kwargs)
        assert answer.status_code == 200, answer.text
        reply = self.dialect.decode(answer.content)
        assert isinstance(reply, Reply)
        return reply

    async def stats(self) -> dict[str, Any]:
        told: dict[str, Any] = (await self.http.get("http://sim/stats")).json()
        return told


def asked(text: str, *, max_tokens: int | None = 500, **kwargs: Any) -> Request:
    return Request("large", (Message("user", text),), settings=Settings(max_tokens=max_tokens), **kwargs)


@pytest.mark.parametrize("speaks", sorted(DIALECTS))
async def test_every_dialect_is_served_whole_and_streamed(speaks: str) -> None:
    client = Client(speaks=speaks)
    reply = await client.ask()
    assert "simulated" in reply.text
    assert (reply.finish, reply.model) == ("stop", "large")
    reader = client.dialect.read_stream()
    for piece in (await client.send(stream=True)).iter_bytes(7):
        reader.feed(piece)
    streamed = reader.close()
    assert (streamed.text, streamed.finish, streamed.tokens.output) == (reply.text, "stop", reply.tokens.output)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("speaks", sorted(DIALECTS))
async def test_tools_and_schemas_pass_both_dialects(speaks: str, stream: bool) -> None:
    client = Client(speaks=speaks)
    tool = ToolSpec("rain", "mm", {"type": "object", "properties": {"mm": {"type": "integer"}}, "required": ["mm"]})

    async def said(**kwargs: Any) -> Reply:
        if not stream:
            return await client.ask(**kwargs)
        reader = client.dialect.read_stream()
        reader.feed((await client.send(stream=True, **kwargs)).content)
        return reader.close()

    reply = await said(tools=(tool,), tool_choice="required")
    assert reply.finish == "tool"
    assert isinstance(json.loads(reply.tool_calls[0].arguments)["mm"], int)
    reply = await said(schema=tool.parameters)
    assert isinstance(json.loads(reply.text)["mm"], int)


async def test_the_same_seed_serves_the_same_texts_at_the_same_times() -> None:
    async def run(seed: int) -> list[tuple[str, float]]:
        behaviour = Behaviour(first_token_s=1.0, per_token_s=0.01, jitter=0.5)
        client = Client(behaviour=behaviour, seed=seed)
        done = []
        for number in range(4):
            began = anyio.current_time()
            done.append(((await client.ask(str(number))).text, round(anyio.current_time() - began, 6)))
        return done

    first = await run(1)
    assert first == await run(1)
    assert len({seconds for _, seconds in first}) == 4
    assert first != await run(2)


async def test_a_whole_reply_takes_its_time() -> None:
    client, began = Client(behaviour=SLOW), anyio.current_time()
    reply = await client.ask()
    assert anyio.current_time() - began == pytest.approx(1.0 + 0.05 * (reply.tokens.output or 0))


async def test_a_streamed_reply_arrives_piece_by_piece_on_time() -> None:
    client, began = Client(behaviour=SLOW), anyio.current_time()
    wire, reader = client.dialect.encode(asked("Hello there", stream=True)), client.dialect.read_stream()
    arrived: list[float] = []
    async with client.http.stream("POST", wire.path, content=wire.body) as answer:
        assert anyio.current_time() == began
        async for piece in answer.aiter_raw():
            arrived += [anyio.current_time() - began] * bool(reader.feed(piece))
    tokens = reader.close().tokens.output or 0
    assert len(arrived) == pytest.approx(tokens, abs=1)
    assert 1.0 <= arrived[0] < 1.2
    assert arrived == sorted(arrived)
    assert anyio.current_time() - began == pytest.approx(1.0 + 0.05 * tokens)


@pytest.mark.parametrize("speaks", sorted(DIALECTS))
async def test_a_refusal_tells_the_time_to_wait_and_keeps_its_word(speaks: str) -> None:
    client = Client(Limit("requests", 40), speaks=speaks)  # one each 1.5 s
    await client.ask()
    refused = await client.send()
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "2"
    assert refused.headers["retry-after-ms"] == "1500"
    read = client.dialect.read_refusal(429, refused.headers, refused.content, now=0.0)
    assert (read.verdict, read.error.kind, read.wait) == ("pushed_back", "rate", 1.5)
    await anyio.sleep(1.49)
    assert (await client.send()).status_code == 429
    await anyio.sleep(0.01)
    assert (await client.send()).status_code == 200


@pytest.mark.parametrize(
    ("speaks", "left"),
    [("openai-chat", "x-ratelimit-remaining-requests"), ("anthropic", "anthropic-ratelimit-requests-remaining")],
)
async def test_every_reply_has_the_dialects_own_limit_headers(speaks: str, left: str) -> None:
    client = Client(Limit("requests", 120), speaks=speaks)
    assert [(await client.send()).headers[left] for _ in range(3)] == ["1", "0", "0"]
    client = Client(Limit("requests", 600), behaviour=Behaviour(failures={"500": 1.0}), speaks=speaks)
    assert (await client.send()).headers[left] == "9"


async def test_a_request_above_a_limit_itself_is_a_bad_request() -> None:
    client = Client(Limit("tokens", 600))
    answer = await client.send(max_tokens=700)
    refusal = client.dialect.read_refusal(answer.status_code, answer.headers, answer.content, now=0.0)
    assert (answer.status_code, refusal.verdict, refusal.error.kind) == (400, "fail", "bad_request")


async def test_an_exact_client_is_never_refused() -> None:
    client = Client(Limit("requests", 60), behaviour=Behaviour(first_token_s=0.3))
    statuses = set()
    for second in range(600):
        await anyio.sleep_until(float(second) + 3)
        statuses.add((await client.send()).status_code)
    assert statuses == {200}
    told = await client.stats()
    assert told["accepted"] == told["completed"] == 600
    assert told["last_s"] - told["first_s"] == pytest.approx(599, abs=1e-3)


@pytest.mark.parametrize("header", ["authorization", "x-api-key", "api-key"])
async def test_each_key_has_the_limits_for_itself(header: str) -> None:
    client = Client(Limit("requests", 60))

    async def send(key: str | None) -> int:
        wire = client.dialect.encode(asked("Hello there"))
        headers = dict(wire.headers) | ({} if key is None else {header: key})
        return (await client.http.post(wire.path, content=wire.body, headers=headers)).status_code

    assert [await send(key) for key in ("a", "b", None, "a", "b", None)] == [200, 200, 200, 429, 429, 429]
    await anyio.sleep(1.0)
    assert [await send(key) for key in ("a", "a")] == [200, 429]
    told = await client.stats()
    assert (told["received"], told["accepted"], told["refused"], told["peak_in_flight"]) == (8, 4, 4, 1)
    assert [(one["accepted"], one["refused"]) for one in told["keys"]] == [(2, 2), (1, 1), (1, 1)]
    assert (told["first_s"], told["last_s"]) == (0.0, 1.0)
    assert "keys" not in await Client().stats()


async def test_ever_new_keys_are_one_account_in_the_end() -> None:
    client = Client(Limit("requests", 60))
    wire = client.dialect.encode(asked("Hello there"))
    statuses = [
        (
            await client.http.post(
                wire.path, content=wire.body, headers={**dict(wire.headers), "authorization": f"Bearer {n}"}
            )
        ).status_code
        for n in range(100)
    ]
    assert statuses == [200] * 65 + [429] * 35
    told = await client.stats()
    assert (len(told["keys"]), told["accepted"], told["refused"]) == (65, 65, 35)


async def test_statistics_count_what_happened() -> None:
    client = Client(Limit("requests", 120), behaviour=Behaviour(first_token_s=5.0))
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(client.send)
        await anyio.sleep(1)
        during = await client.stats()
    after = await client.stats()
    wanted = {"received": 3, "accepted": 2, "refused": 1, "completed": 0, "in_flight": 2, "peak_in_flight": 2}
    assert {name: during[name] for name in wanted} == wanted
    assert {name: after[name] for name in wanted} == {**wanted, "completed": 2, "in_flight": 0}
    assert list(after) == [*wanted, "tokens", "first_s", "last_s"]
    assert after["tokens"] < during["tokens"]  # max_tokens was reserved, less was used


async def test_a_cancelled_request_leaves_nothing_in_flight() -> None:
    client = Client(behaviour=Behaviour(first_token_s=50.0))
    with anyio.move_on_after(1):
        await client.send()
    told = await client.stats()
    assert (told["accepted"], told["completed"], told["in_flight"]) == (1, 0, 0)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", ["500", "503", "529"])
async def test_error_statuses_on_demand(kind: Failure, stream: bool) -> None:
    client = Client(behaviour=Behaviour(failures={kind: 1.0}), speaks="anthropic" if kind == "529" else "openai-chat")
    answer = await client.send(stream=stream)
    refusal = client.dialect.read_refusal(answer.status_code, answer.headers, answer.content, now=0.0)
    assert (answer.status_code, refusal.verdict, refusal.error.kind) == (int(kind), "retry", "server")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", ["drop", "truncate", "stall"])
async def test_broken_connections_on_demand(kind: Failure, stream: bool) -> None:
    client, began = Client(behaviour=Behaviour(failures={kind: 1.0})), anyio.current_time()
    with pytest.raises(httpx.RemoteProtocolError):
        await client.send(stream=stream)
    assert anyio.current_time() - began == pytest.approx(STALL_S if kind == "stall" else 0.0)
    told = await client.stats()
    assert (told["accepted"], told["completed"], told["in_flight"]) == (1, 0, 0)


async def test_failures_come_at_their_rates_and_not_to_the_same_request_for_ever() -> None:
    client = Client(behaviour=Behaviour(failures=mixed_failures(0.3)))
    seen: dict[Any, int] = {}
    for _ in range(900):
        try:
            status: Any = (await client.send()).status_code
        except httpx.RemoteProtocolError:
            status = "drop"
        seen[status] = seen.get(status, 0) + 1
    assert set(seen) == {200, 500, 503, "drop"}
    assert abs(seen[200] / 900 - 0.7) < 0.06
    assert all(abs(seen[kind] / 900 - 0.1) < 0.04 for kind in (500, 503, "drop"))


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("POST", "/v1/chat/completions", b"not json", 400, "JSON"),
        ("POST", "/v1/chat/completions", b'{"model": "large"}', 400, "messages"),
        ("POST", "/v1/nothing", b"{}", 404, "/v1/nothing"),
        ("GET", "/", b"", 404, "nothing is served"),
        ("GET", "/v1/messages", b"", 405, "GET"),
        ("POST", "/stats", b"", 405, "POST"),
    ],
)
async def test_what_is_not_served_is_said_in_json(method: str, path: str, body: bytes, status: int, said: str) -> None:
    answer = await Client().http.request(method, f"http://sim{path}", content=body)
    assert answer.status_code == status
    assert said in answer.json()["error"]["message"]


async def test_models_are_listed_and_others_are_unknown() -> None:
    provider = SimulatedProvider(Served({"small": ServedModel("small")}))
    async with httpx.AsyncClient(transport=InProcessTransport(provider), base_url="http://sim") as http:
        assert [model["id"] for model in (await http.get("/v1/models")).json()["data"]] == ["small"]
        answer = await http.post(
            "/v1/chat/completions", json={"model": "big", "messages": [{"role": "user", "content": "x"}]}
        )
    assert answer.status_code == 404
    assert "'big'" in answer.json()["error"]["message"]


async def test_recorded_replies_are_served_and_charged_on_admission(tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "x" * 400}], "reply": "y" * 400}
    (tmp_path / "r.jsonl").write_text(json.dumps(row))
    served = Served({"*": ServedModel("*")}, (Limit("tokens", 1200),))
    provider = SimulatedProvider(served, RecordedReplies(load_recordings([tmp_path / "r.jsonl"])))
    async with httpx.AsyncClient(transport=InProcessTransport(provider), base_url="http://sim/v1") as http:

        async def ask(**changed: Any) -> httpx.Response:
            return await http.post("/chat/completions", json={"model": "m", "messages": row["messages"], **changed})

        first = await ask(max_tokens=1)  # the recording is what the model said: it is not cut
        assert first.json()["choices"][0]["message"]["content"] == row["reply"]
        assert first.json()["usage"]["total_tokens"] == 200
        assert first.headers["x-ratelimit-remaining-tokens"] == "0"
        assert (await ask()).status_code == 429
        other = await ask(messages=[{"role": "user", "content": "never asked"}])
        assert other.status_code == 404
        assert "no reply is recorded" in other.json()["error"]["message"]
        assert (await http.get("http://sim/stats")).json()["tokens"] == 200


SPEC: Mapping[str, Any] = {
    "provider": "acme", "dialect": "openai-chat", "base_url": "http://x/v1",
    "limits": {"requests_per_minute": 600}, "pools": {"p": {"in_flight": 3}},
    "models": {
        "a": {
            "pool": "p", "limits": {"tokens_per_minute": 100},
            "simulate": {"skill": 3.0, "latency": {"jitter": 0.1}},
        },
        "b": {},
    },
    "simulate": {
        "seed": 5, "latency": {"first_token": 2.0, "per_token": 0.5, "jitter": 0.0}, "length": 77,
        "failures": {"drop": 0.25, "500": 0.0},
    },
}  # fmt: skip


async def test_a_provider_file_says_how_it_is_simulated() -> None:
    served = served_by(ProviderSpec.model_validate(SPEC), seed=2)
    assert served.seed == 7
    assert [limit.name for limit in served.limits] == ["requests_per_minute"]
    assert [limit.name for limit in served.pools["p"]] == ["in_flight"]
    a, b = served.models["a"], served.models["b"]
    assert (a.pool, [limit.name for limit in a.limits]) == ("p", ["tokens_per_minute"])
    assert (a.behaviour.skill, a.behaviour.jitter, a.behaviour.first_token_s) == (3.0, 0.1, 2.0)
    assert (b.behaviour.per_token_s, b.behaviour.output_tokens, dict(b.behaviour.failures)) == (0.5, 77, {"drop": 0.25})
    assert served.model("c") is None


async def test_changes_of_a_server_hold_for_all_its_models() -> None:
    served = served_by(ProviderSpec.model_validate(SPEC))
    changed = served.changed(latency_s=(0.5, 1.5), failures={}, limits=(Limit("requests", 5), Limit("tokens", 9)))
    assert [(limit.unit, limit.limit) for limit in changed.limits] == [("requests", 5), ("tokens", 9)]
    behaviour = changed.models["a"].behaviour
    assert (behaviour.first_token_s, behaviour.per_token_s, behaviour.jitter) == (1.0, 0.0, 0.5)
    assert (behaviour.failures, behaviour.skill) == ({}, 3.0)


async def test_the_shipped_simulation_answers(tmp_path: Path) -> None:
    provider = SimulatedProvider.of(Catalog.load(project=tmp_path, user_dir=tmp_path, environ={}).provider("sim"))
    async with httpx.AsyncClient(transport=InProcessTransport(provider), base_url="http://sim", timeout=None) as http:
        for model in ("small", "large"):
            answer = await http.post(
                "/chat/completions", json={"model": model, "messages": [{"role": "user", "content": "x"}]}
            )
            assert f"simulated reply of {model}" in answer.json()["choices"][0]["message"]["content"]
