"""Several keys of one provider are used together: against a server that counts each strictly, on a virtual clock."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from scripted import kinds, provider_file

import agentmesh as am
from agentmesh.catalog import Catalog
from agentmesh.clock import monotonic
from agentmesh.errors import ErrorInfo
from agentmesh.events import CallEnded, CallIntent, Notice, TaskAdded
from agentmesh.limits.lane import LOOK_AHEAD
from agentmesh.rates import Limit
from agentmesh.simulate.behaviour import Behaviour, Served, ServedModel
from agentmesh.simulate.provider import SimulatedProvider
from agentmesh.simulate.strict import ServerStatistics
from agentmesh.simulate.transport import InProcessTransport
from agentmesh.workflow.models import problem_of_model

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

BEHAVIOUR = Behaviour(first_token_s=1.0, output_tokens=20)


def acme(*names: str, limits: str = "requests_per_minute: 600", **own: str) -> str:
    """A provider file with accounts of these names; `own` are limits of single ones."""
    accounts = "".join(
        f"  {name}: {{api_key_env: KEY_{name.upper()}, limits: {{{own.get(name, limits)}}}}}\n" for name in names
    )
    return (
        "provider: acme\ndialect: openai-chat\nbase_url: http://acme.invalid/v1\n"
        f"models: {{m: {{max_output: 1000, prices: free}}, n: {{prices: free}}}}\naccounts:\n{accounts}"
    )


class Server(httpx.AsyncBaseTransport):
    """A strict server for each key, with these limits; some keys are refused from a moment on."""

    def __init__(self, **limits: Sequence[Limit]) -> None:
        models = {name: ServedModel(name, BEHAVIOUR) for name in ("m", "n")}
        self._providers = {
            f"Bearer key-{name}": SimulatedProvider(Served(models, limits=tuple(own))) for name, own in limits.items()
        }
        self.refusing: dict[str, tuple[int, dict[str, str]]] = {}
        self.began = monotonic()
        self.asked: list[tuple[float, str, str]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        key = request.headers["authorization"]
        text = next(word for word in request.content.decode().split('"') if word.startswith("Say "))
        self.asked.append((monotonic() - self.began, key[11:], text[4:]))
        if key[11:] in self.refusing:
            status, headers = self.refusing[key[11:]]
            await anyio.sleep(0.05)
            body = {"error": {"message": "not with this key"}}
            return httpx.Response(status, json=body, headers=headers, request=request)
        return await InProcessTransport(self._providers[key]).handle_async_request(request)

    def told(self, name: str) -> ServerStatistics:
        return self._providers[f"Bearer key-{name}"].statistics()


def keys(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    for name in names:
        monkeypatch.setenv(f"KEY_{name.upper()}", f"key-{name}")


async def ask(mesh: am.Mesh, calls: int, *, model: str = "acme/m", events: list[Any] | None = None) -> float:
    """Ask so many times; seconds until all have answered."""
    began = monotonic()
    watchers = [] if events is None else [events.append]
    agent = am.Agent[str]("a", model=model, settings={"max_tokens": 100})
    async with mesh.open_run("r", watchers=watchers) as run:
        for number in range(calls):
            run.start(agent.on(f"Say {number}"), key=str(number))
    return monotonic() - began


def rpm(limit: float) -> list[Limit]:
    return [Limit("requests", limit)]


async def test_two_keys_take_half_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys(monkeypatch, "one", "two")
    seconds: list[float] = []
    for names in (("one",), ("one", "two")):
        server = Server(**dict.fromkeys(names, rpm(600)))
        options: dict[str, Any] = {"http": server, "provider_files": [provider_file(tmp_path, acme(*names))]}
        async with am.open_mesh(**options, journal=None) as mesh:
            seconds.append(await ask(mesh, 800))
            told = [server.told(name) for name in names]
            assert [one.refused for one in told] == [0] * len(names)
            assert [one.completed for one in told] == pytest.approx([800 / len(names)] * len(names), abs=1)
            lanes = mesh.statistics()
            assert [lane.account for lane in lanes] == (["acme"] if len(names) == 1 else ["acme#one", "acme#two"])
            assert [lane.admitted for lane in lanes] == [one.completed for one in told]
    assert seconds[1] / seconds[0] == pytest.approx(0.5, rel=0.03)


@pytest.mark.parametrize("shape", ["requests", "tokens", "in_flight"])
async def test_unequal_keys_work_in_proportion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: str) -> None:
    """Each has the limits that its own entry says, and both end together."""
    keys(monkeypatch, "one", "two", "three")
    figures = {"one": 150, "two": 300, "three": 750}
    match shape:
        case "requests":
            texts = {name: f"requests_per_minute: {n}" for name, n in figures.items()}
            limits = {name: rpm(n) for name, n in figures.items()}
        case "tokens":
            texts = {name: f"tokens_per_minute: {n * 100}" for name, n in figures.items()}
            limits = {name: [Limit("tokens", n * 100)] for name, n in figures.items()}
        case _:
            texts = {name: f"in_flight: {n // 15}" for name, n in figures.items()}
            limits = {name: [Limit("in_flight", n // 15)] for name, n in figures.items()}
    server = Server(**limits)
    calls = sum(figures.values())
    files = [provider_file(tmp_path, acme(*figures, **texts))]
    async with am.open_mesh(http=server, provider_files=files, journal=None) as mesh:
        took = await ask(mesh, calls)
        told = {name: server.told(name) for name in figures}
        assert sum(one.refused for one in told.values()) == 0
        assert {name: one.completed for name, one in told.items()} == pytest.approx(figures, rel=0.05)
        if shape != "tokens":  # of which replies use less than they may
            assert took == pytest.approx(60.0 if shape == "requests" else 15.0, rel=0.03)
        last = {name: max(at for at, key, _ in server.asked if key == name) for name in figures}
        assert max(last.values()) - min(last.values()) < 2.0


async def test_the_others_do_the_work_of_a_bad_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys(monkeypatch, "one", "two")
    server = Server(one=rpm(600), two=rpm(600))
    server.refusing["one"] = (401, {})
    events: list[Any] = []
    files = [provider_file(tmp_path, acme("one", "two"))]
    async with am.open_mesh(http=server, provider_files=files, journal=None) as mesh:
        took = await ask(mesh, 600, events=events)
    assert server.told("two").completed == 600
    assert server.told("two").refused == 0
    assert took == pytest.approx(60.0, rel=0.03)
    [notice] = [event.text for event in events if isinstance(event, Notice)]
    assert notice == "acme#one/m stopped: auth: not with this key (its key is from KEY_ONE)"
    assert sum(key == "one" for _, key, _ in server.asked) < 20, "only those that were on their way"


async def test_a_missing_key_is_told_once_and_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys(monkeypatch, "two")
    server, events = Server(two=rpm(600)), list[Any]()
    files = [provider_file(tmp_path, acme("one", "two"))]
    async with am.open_mesh(http=server, provider_files=files, journal=None) as mesh:
        await ask(mesh, 20, events=events)
    assert server.told("two").completed == 20
    notices = [event.text for event in events if isinstance(event, Notice)]
    assert notices == ["acme#one/m: KEY_ONE is not set: the other accounts do without it"]


async def test_a_workflow_is_refused_only_where_no_key_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = provider_file(tmp_path, acme("one", "two"))
    assert problem_of_model(Catalog.load([file]))("acme/m") == "KEY_ONE is not set"
    keys(monkeypatch, "two")
    assert problem_of_model(Catalog.load([file]))("acme/m") is None
    assert problem_of_model(Catalog.load([file]))("acme#one/m") == "KEY_ONE is not set"


async def test_with_no_key_at_all_the_error_names_the_first(tmp_path: Path) -> None:
    files = [provider_file(tmp_path, acme("one", "two"))]
    async with am.open_mesh(http=Server(), provider_files=files, journal=None) as mesh:
        with pytest.raises(am.TaskFailed) as failed:
            await mesh.ask("acme/m", "Say 1")
    assert failed.value.outcome.error == ErrorInfo("auth", "acme#one/m: KEY_ONE is not set")


@pytest.mark.both_backends
async def test_what_waits_in_a_frozen_lane_goes_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys(monkeypatch, "one", "two")
    server = Server(one=rpm(600), two=rpm(600))
    server.refusing["one"] = (429, {"retry-after": "120"})
    events: list[Any] = []
    files = [provider_file(tmp_path, acme("one", "two"))]
    async with am.open_mesh(http=server, provider_files=files, journal=None) as mesh:
        took = await ask(mesh, 600, events=events)
        assert server.told("two").completed == 600
        assert took == pytest.approx(60.0, rel=0.03), "no call waits for the thaw"
        assert {lane.account: lane.waiting for lane in mesh.statistics()} == {"acme#one": 0, "acme#two": 0}
    assert kinds(events).count("TaskEnded") == 600
    ended = [event for event in events if isinstance(event, CallEnded) and event.result == "ok"]
    assert {event.account for event in ended} == {"acme#two"}
    order = [int(text) for _, key, text in server.asked if key == "two"]
    late = [number for place, number in enumerate(order) if number < place - 60]
    assert not late, "and those that came from there keep their place"


async def test_the_last_calls_wait_in_no_lane_while_another_has_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A neighbour in one of the lanes, of whom nothing was known when the calls went into it."""
    keys(monkeypatch, "one", "two")
    server = Server(one=rpm(600), two=rpm(600))
    files = [provider_file(tmp_path, acme("one", "two"))]
    async with am.open_mesh(http=server, provider_files=files, journal=None) as mesh:
        async with anyio.create_task_group() as group:
            group.start_soon(ask, mesh, 400)
            await anyio.sleep(5)
            urgent = am.Agent[str]("u", model="acme#one/n", priority="high", settings={"max_tokens": 100})
            async with mesh.open_run("urgent") as run:
                for number in range(100):
                    run.start(urgent.on(f"Say u{number}"), key=str(number))
        ends = {key: max(at for at, asked, _ in server.asked if asked == key) for key in ("one", "two")}
        assert (server.told("one").refused, server.told("two").refused) == (0, 0)
        assert server.told("one").completed + server.told("two").completed == 500
        assert ends["one"] == pytest.approx(ends["two"], abs=0.5)
        assert max(ends.values()) == pytest.approx(24.5, rel=0.03)


@pytest.mark.both_backends
async def test_one_backlog_has_the_room_of_all_lanes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys(monkeypatch, "one", "two")
    server, events = Server(one=rpm(60), two=rpm(60)), list[Any]()
    files = [provider_file(tmp_path, acme("one", "two", limits="requests_per_minute: 60"))]
    async with am.open_mesh(http=server, provider_files=files, journal=None) as mesh:
        assert mesh.room("acme#one+acme#two") is None
        async with mesh.open_run("r", watchers=[events.append], failures="report") as run:
            assert run.lane_of(["acme/m"]) == "acme#one+acme#two"
            assert run.lane_of(["acme#two/m"]) == "acme#two"
            assert mesh.room("acme#one+acme#two") == 2 * LOOK_AHEAD
            agent = am.Agent[str]("a", model="acme/m", settings={"max_tokens": 100})
            for number in range(700):
                run.start(agent.on(f"Say {number}"), key=str(number))
            await anyio.sleep(0.5)
            waiting = {lane.account: lane.waiting for lane in mesh.statistics()}
            assert waiting == {"acme#one": LOOK_AHEAD, "acme#two": LOOK_AHEAD}
            assert run.runner.statistics().ready == 700 - 2 * LOOK_AHEAD - 2
            await anyio.sleep(10)
            assert sum(lane.waiting for lane in mesh.statistics()) == 2 * LOOK_AHEAD
            await run.cancel(grace=0)
    assert {event.lane for event in events if isinstance(event, TaskAdded)} == {"acme#one+acme#two"}
    sent = [event.account for event in events if isinstance(event, CallIntent)]
    assert abs(sent.count("acme#one") - sent.count("acme#two")) <= 1


async def test_accounts_of_a_simulated_provider_have_limits_of_their_own(tmp_path: Path) -> None:
    text = (
        "provider: acme\ndialect: openai-chat\nbase_url: inprocess://acme\napi_key_optional: true\n"
        "models: {m: {max_output: 1000, prices: free}}\nsimulate: {latency: {first_token: 1.0, per_token: 0.0}}\n"
        "accounts:\n  one: {limits: {requests_per_minute: 600}}\n  two: {limits: {requests_per_minute: 1200}}\n"
    )
    events: list[Any] = []
    async with am.open_mesh(provider_files=[provider_file(tmp_path, text)], journal=None) as mesh:
        took = await ask(mesh, 900, events=events)
        shares = {lane.account: lane.admitted for lane in mesh.statistics()}
        assert shares == pytest.approx({"acme#one": 300, "acme#two": 600}, rel=0.03)
        assert [lane.pushed_back for lane in mesh.statistics()] == [0, 0]
    assert took == pytest.approx(30.0, rel=0.03)
