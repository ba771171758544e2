"""Every shape of limit, from a provider file or from `--rate` to the wire: no call is refused, none waits in vain.

The whole client sends to a strict server in this process that has the same limits, in virtual time. What the server saw
is held against a queue that admits the same calls, in the same order, at the first moment that the limits allow.
"""

from __future__ import annotations

import heapq
import itertools
import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, get_args

import anyio
import pytest

import agentmesh as am
from agentmesh.catalog import Catalog, override_rate
from agentmesh.clock import monotonic
from agentmesh.limits.meter import meter
from agentmesh.rates import WINDOW_SECONDS, Limit, Reserves, Settles
from agentmesh.simulate.strict import Admitted, Refused, StrictLimits

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

CALLS = 40
LATENCY_S = 0.4
MEAN = {"requests": 1, "input_tokens": 120, "output_tokens": 40, "tokens": 160}  # of a call, about


@dataclass
class Seen:
    """What a server admitted, when, and what it cost in the end; and how often it refused."""

    admitted: list[Admitted] = field(default_factory=list)
    output: dict[int, int] = field(default_factory=dict)
    refused: int = 0

    @property
    def seconds(self) -> float:
        """From the first admission to the last."""
        return self.admitted[-1].since - self.admitted[0].since

    def earliest(self) -> float:
        """The same, of a queue without any margin."""
        meters = {id(one): meter(one.limit, 0.0, early=True) for call in self.admitted for _, one in call.meters}
        running: list[tuple[float, int]] = []
        now = 0.0
        for number, call in enumerate(self.admitted):
            mine = [meters[id(one)] for _, one in call.meters]
            while (wait := max((one.wait(self.held(number, one.limit), now) for one in mine), default=0.0)) > 0:
                now = min(now + wait, running[0][0] if running else now + wait)
                while running and running[0][0] <= now:
                    _, ended = heapq.heappop(running)
                    for _, one in self.admitted[ended].meters:
                        back = self.held(ended, one.limit) - self.used(ended, one.limit)
                        meters[id(one)].give(back, now, since=self.since[ended])
            for one in mine:
                one.take(self.held(number, one.limit), now)
            self.since[number] = now
            heapq.heappush(running, (now + LATENCY_S, number))
        return now

    def steady(self, limit: Limit) -> float:
        """What the limit alone needs for all that was used but for the last call's, whose debt nobody waits for."""
        touching = [n for n, call in enumerate(self.admitted) if any(one.limit == limit for _, one in call.meters)]
        units = sum(self.used(number, limit) for number in touching[:-1])
        if limit.shape == "bucket":
            return max(0.0, units - limit.capacity) / limit.per_second
        return max(0.0, math.ceil(units / limit.limit) - 1) * limit.window

    since: dict[int, float] = field(default_factory=dict)

    def held(self, number: int, limit: Limit) -> float:
        call = self.admitted[number]
        return limit.reserved(call.input_tokens, call.output_tokens)

    def used(self, number: int, limit: Limit) -> float:
        if limit.unit == "in_flight":
            return 0.0
        if limit.unit == "requests" or limit.settles == "reserved":
            return self.held(number, limit)
        return limit.used(self.admitted[number].input_tokens, self.output[id(self.admitted[number])])


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    found = Seen()

    admit, settle = StrictLimits.admit, StrictLimits.settle

    def watched_admit(self: StrictLimits, *args: Any, **kwargs: Any) -> Admitted | Refused:
        said = admit(self, *args, **kwargs)
        if isinstance(said, Admitted):
            found.admitted.append(said)
        else:
            found.refused += 1
        return said

    def watched_settle(self: StrictLimits, admitted: Admitted, now: float, **kwargs: Any) -> None:
        found.output[id(admitted)] = kwargs["output_tokens"]
        settle(self, admitted, now, **kwargs)

    monkeypatch.setattr(StrictLimits, "admit", watched_admit)
    monkeypatch.setattr(StrictLimits, "settle", watched_settle)
    return found


def catalog(tmp_path: Path, limits: Mapping[str, Any], *, where: str = "account") -> Catalog:
    """A simulated provider of two models of one pool, with these limits of one of its scopes."""
    file: dict[str, Any] = {
        "provider": "acme", "dialect": "openai-chat", "base_url": "inprocess://acme", "pools": {"both": {}},
        "models": {name: {"pool": "both"} for name in ("one", "two")},
        "simulate": {"latency": {"first_token": LATENCY_S, "per_token": 0, "jitter": 0}, "length": 40},
    }  # fmt: skip
    match where:
        case "account":
            file["limits"] = limits
        case "pool":
            file["pools"]["both"] = limits
        case "model":
            file["models"]["one"]["limits"] = limits
    path = tmp_path / "acme.yaml"
    path.write_text(json.dumps(file), encoding="utf-8")
    return Catalog.load([path], tmp_path, user_dir=tmp_path, environ={})


async def send(known: Catalog, *, models: Sequence[str] = ("one",)) -> None:
    """All calls at once, of sizes between 20 and 220 tokens, and with replies of 60 at most."""
    rng = random.Random(7)
    async with am.open_mesh(catalog=known, journal=None) as mesh:
        await mesh.read_models([f"acme/{model}" for model in models])  # in threads, which would mix up the calls
        async with anyio.create_task_group() as group:
            for number, model in zip(range(CALLS), itertools.cycle(models)):
                text = f"{number} ".ljust(4 * rng.randint(20, 220), "x")
                group.start_soon(partial(mesh.ask, f"acme/{model}", text, max_tokens=60))
        assert sum(lane.pushed_back for lane in mesh.statistics()) == 0


def one_limit(unit: str, window: str, shape: str) -> dict[str, Any]:
    """A limit that lets the calls through in some three windows."""
    limit: dict[str, Any] = {"limit": round(CALLS * MEAN[unit] / 3)}
    match shape:
        case "burst":
            limit |= {"shape": "bucket", "burst": 4 * MEAN[unit]}
        case "bucket" | "fixed" | "sliding":
            limit["shape"] = shape
    return {f"{unit}_per_{window}": limit}


def in_time(seen: Seen) -> None:
    """Nothing was refused, and all went nearly as early as the limits allow.

    Of tokens that the server counts only in the end the client keeps what a call or two may need, and of windows what
    will show in the next one.
    """
    limits = {one.limit for call in seen.admitted for _, one in call.meters}
    bound = max(seen.earliest(), *map(seen.steady, limits))
    slack = 0.1
    for limit in limits:
        if limit.unit in ("tokens", "output_tokens"):
            late = 2 if limit.reserved(1, 1) < 2 else 0
            slack += 2 * LATENCY_S + (
                late * MEAN["tokens"] / limit.per_second if limit.shape == "bucket" else max(1, late) * limit.window
            )
    assert (seen.refused, len(seen.admitted)) == (0, CALLS)
    assert bound <= seen.seconds + 1e-3 <= 1.02 * bound + slack


@pytest.mark.parametrize("window", WINDOW_SECONDS)
@pytest.mark.parametrize("unit", MEAN)
@pytest.mark.parametrize("shape", ["bucket", "burst", "fixed", "sliding"])
async def test_a_limit_of_any_unit_window_and_shape(
    tmp_path: Path, seen: Seen, unit: str, window: str, shape: str
) -> None:
    await send(catalog(tmp_path, one_limit(unit, window, shape)))
    in_time(seen)


@pytest.mark.parametrize("settles", get_args(Settles))
@pytest.mark.parametrize("reserves", get_args(Reserves))
async def test_what_is_reserved_and_what_is_settled(
    tmp_path: Path, seen: Seen, reserves: Reserves, settles: Settles
) -> None:
    limit = {"limit": 2000, "burst": 600, "reserves": reserves, "settles": settles}
    await send(catalog(tmp_path, {"tokens_per_minute": limit}))
    in_time(seen)


@pytest.mark.parametrize("where", ["account", "pool", "model"])
async def test_several_limits_at_once(tmp_path: Path, seen: Seen, where: str) -> None:
    several = {
        "requests_per_second": 3, "requests_per_minute": {"limit": 30, "shape": "sliding"}, "tokens_per_hour": 20_000,
        "input_tokens_per_minute": {"limit": 3000, "burst": 900}, "in_flight": 5,
    }  # fmt: skip
    await send(catalog(tmp_path, several, where=where))
    in_time(seen)


@pytest.mark.parametrize("where", ["account", "pool"])
async def test_models_share_the_limits_of_their_account_and_of_their_pool(
    tmp_path: Path, seen: Seen, where: str
) -> None:
    await send(catalog(tmp_path, {"requests_per_minute": 20}, where=where), models=("one", "two"))
    assert {call.model for call in seen.admitted} == {"one", "two"}
    in_time(seen)
    assert seen.seconds > 3 * (CALLS - 1)


async def test_a_limit_of_one_model_holds_nobody_else_up(tmp_path: Path, seen: Seen) -> None:
    await send(catalog(tmp_path, {"requests_per_minute": 20}, where="model"), models=("one", "two"))
    assert max(call.since for call in seen.admitted if call.model == "two") < 1
    in_time(seen)


async def test_calls_in_flight(tmp_path: Path, seen: Seen) -> None:
    await send(catalog(tmp_path, {"in_flight": 4}))
    in_time(seen)


@pytest.mark.parametrize("target", ["acme", "acme/one"])
async def test_a_rate_sets_a_limit_of_the_file_and_adds_one_that_it_does_not_have(
    tmp_path: Path, seen: Seen, target: str
) -> None:
    file = {"requests_per_minute": {"limit": 600, "burst": 20}}
    known = catalog(tmp_path, file, where="model" if "/" in target else "account")
    rates = [f"{target}.requests_per_minute=60", f"{target}.in_flight=3"]
    async with am.open_mesh(catalog=known.with_rates([override_rate(rate) for rate in rates]), journal=None) as mesh:
        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(mesh.ask, "acme/one", f"call {number}")
        (lane,) = mesh.statistics()
    assert {limit.name: limit.limit for limit in lane.limits}["requests_per_minute"] == 60
    assert lane.peak_in_flight <= 3
    assert seen.seconds == pytest.approx(8, abs=0.3)  # a burst of 2, in proportion; then one each second


@pytest.mark.parametrize("bounded", [True, False])
async def test_a_call_that_can_never_fit_is_told_at_once(tmp_path: Path, seen: Seen, bounded: bool) -> None:
    known = catalog(tmp_path, {"tokens_per_minute": 10})
    async with am.open_mesh(catalog=known, journal=None) as mesh:
        with pytest.raises(am.TaskFailed, match=r"this call needs about \d+ tokens, and acme allows 10 at once"):
            await mesh.ask("acme/one", "x" * 80, **({"max_tokens": 60} if bounded else {}))
        assert monotonic() < 1
    assert seen.admitted == []
