"""What a simulated server has in store beyond its limits: changes, a neighbour, silence about limits, chosen fates."""

from __future__ import annotations

from typing import Any

import anyio
import httpx
import pytest

from agentmesh.dialects import dialect
from agentmesh.limits.meter import Meter, meter
from agentmesh.messages import Message, Request
from agentmesh.rates import Limit
from agentmesh.simulate.behaviour import Behaviour, Fate, Served, ServedModel, served_by
from agentmesh.simulate.beside import Beside, Change, Neighbour
from agentmesh.simulate.provider import Fates, SimulatedProvider
from agentmesh.simulate.strict import Refused, StrictLimits
from agentmesh.simulate.transport import InProcessTransport

MODEL = ServedModel("m")


def levels(meters: list[Meter], now: float) -> list[float]:
    return [round(one.level(now), 6) for one in meters]


def test_a_change_holds_from_its_time_on_and_keeps_what_was_used() -> None:
    meters = [meter(Limit("requests", 600), 0.0), meter(Limit("in_flight", 8), 0.0)]
    beside = Beside(
        [Change(60.0, (Limit("requests", 300),)), Change(30.0, (Limit("requests", 60), Limit("in_flight", 2)))],
        None, seed=0,
    )  # fmt: skip
    beside.follow(meters, 100.0)
    assert levels(meters, 100.0) == [10, 8]  # nothing has begun
    beside.begin(100.0)
    for one in meters:
        one.take(4.0, 129.8)
    beside.follow(meters, 129.9)
    assert levels(meters, 129.9) == [7, 4]
    beside.follow(meters, 130.0)
    assert levels(meters, 130.0) == [1, -2]  # eight at the old rate, of which the new burst leaves one
    meters[0].take(3.0, 130.0)
    beside.follow(meters, 161.0)
    assert meters[0].limit.limit == 300
    assert levels(meters, 161.0) == [5, -2]


def test_a_neighbour_takes_its_share_whoever_asks_and_when() -> None:
    limits = (Limit("requests", 600, burst=600), Limit("tokens", 60_000, burst=60_000))
    once, often = ([meter(limit, 0.0) for limit in limits] for _ in "ab")
    for meters, step in ((once, 20.0), (often, 0.5)):
        beside = Beside([], Neighbour(5.0, input_tokens=30, output_tokens=20), seed=4)
        beside.begin(0.0)
        for one in meters:
            one.take(one.limit.capacity, 0.0)
        now = 0.0
        while now < 20.0:
            now += step
            beside.follow(meters, now)
    assert levels(once, 20.0) == levels(often, 20.0)
    assert levels(once, 20.0)[0] == pytest.approx(200 - 100, abs=5)
    assert levels(once, 20.0)[1] == pytest.approx(20_000 - 5_000, abs=250)


def test_strict_limits_change_and_are_shared() -> None:
    limit = Limit("requests", 60)
    changing = StrictLimits(Served({"m": MODEL}, (limit,), changes=(Change(5.0, (Limit("requests", 600),)),)), 0.0)
    shared = StrictLimits(Served({"m": MODEL}, (Limit("requests", 60, burst=9),), neighbour=Neighbour(10.0)), 0.0)

    def asked(strict: StrictLimits, now: float) -> bool:
        found = strict.admit(MODEL, "m", input_tokens=1, output_tokens=1, now=now)
        if not isinstance(found, Refused):
            strict.settle(found, now, output_tokens=1, completed=True)
        return not isinstance(found, Refused)

    assert [asked(changing, now) for now in (1.0, 1.5, 2.0, 6.2, 6.3, 6.4)] == [True, False, True, True, True, True]
    assert changing.levels(MODEL, "m", now=6.4)[0][0].limit == 600
    assert [asked(shared, now) for now in (0.0, 0.1, 2.0, 4.0)] == [True, True, False, False]


def client(*limits: Limit, behaviour: Behaviour | None = None, fates: Fates | None = None, **said: Any) -> Any:
    served = Served({"*": ServedModel("*", behaviour or Behaviour())}, limits, **said)
    return httpx.AsyncClient(
        transport=InProcessTransport(SimulatedProvider(served, fates=fates)), base_url="http://sim/v1", timeout=None
    )


async def send(http: httpx.AsyncClient, text: str = "Hello") -> httpx.Response:
    spoken = dialect("openai-chat")
    wire = spoken.encode(Request("m", (Message("user", text),)))
    return await http.post(wire.path, content=wire.body, headers=dict(wire.headers))


@pytest.mark.anyio
@pytest.mark.virtual_time
async def test_a_server_may_tell_nothing_of_its_limits() -> None:
    spoken = dialect("openai-chat")
    for told in (True, False):
        http = client(Limit("requests", 60), tells_limits=told, tells_wait=told)
        answers = [await send(http), await send(http)]
        assert [answer.status_code for answer in answers] == [200, 429]
        assert all(("x-ratelimit-limit-requests" in answer.headers) == told for answer in answers)
        refusal = spoken.read_refusal(429, answers[1].headers, answers[1].content, now=0.0)
        assert (refusal.verdict, refusal.wait is not None) == ("pushed_back", told)


@pytest.mark.anyio
@pytest.mark.virtual_time
async def test_fates_may_be_chosen() -> None:
    fates = {"slow": Fate(slowness=3.0), "reset": Fate("reset"), "stall": Fate("stall")}
    http = client(
        behaviour=Behaviour(first_token_s=1.0, stall_s=8.0), fates=lambda request: fates[request.messages[-1].text]
    )
    assert (await send(http, "slow")).status_code == 200
    assert anyio.current_time() == pytest.approx(3.0)
    with pytest.raises(httpx.ReadError, match="reset"):
        await send(http, "reset")
    assert anyio.current_time() == pytest.approx(3.0)
    with pytest.raises(httpx.RemoteProtocolError):
        await send(http, "stall")
    assert anyio.current_time() == pytest.approx(11.0)


def test_a_provider_file_says_how_long_a_stall_is() -> None:
    from agentmesh.catalog.spec import ProviderSpec

    spec = {"provider": "a", "dialect": "openai-chat", "base_url": "inprocess://a", "models": {"m": {}}}
    given = ProviderSpec.model_validate({**spec, "simulate": {"stall": 8.0, "failures": {"stall": 0.1, "reset": 0.2}}})
    behaviour = served_by(given).models["m"].behaviour
    assert (behaviour.stall_s, dict(behaviour.failures)) == (8.0, {"stall": 0.1, "reset": 0.2})
    assert served_by(ProviderSpec.model_validate(spec)).models["m"].behaviour.stall_s == 600.0
