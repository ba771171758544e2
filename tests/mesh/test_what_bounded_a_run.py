"""What a lane says of a run that is over: which limit it waited for, and what a smaller max_tokens would have gained.

The whole client sends to the strict simulated provider in this process, in virtual time.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

import agentmesh as am
from agentmesh.catalog import Catalog
from agentmesh.clock import monotonic
from agentmesh.limits.statistics import LaneStatistics

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

RESERVED = {"limit": 60_000, "reserves": "sum", "settles": "reserved"}


def catalog(folder: Path, limits: dict[str, Any], *, latency_s: float = 1.0) -> Catalog:
    file = {
        "provider": "acme", "dialect": "openai-chat", "base_url": "inprocess://acme",
        "models": {"large": {"limits": limits}},
        "simulate": {"latency": {"first_token": latency_s, "per_token": 0, "jitter": 0}, "length": 120},
    }  # fmt: skip
    (folder / "acme.yaml").write_text(json.dumps(file), encoding="utf-8")
    return Catalog.load([folder / "acme.yaml"], folder, user_dir=folder, environ={})


async def ran(known: Catalog, *, calls: int = 300, max_tokens: int = 800) -> tuple[float, LaneStatistics]:
    """Seconds until all calls were answered, and what the lane says of them."""
    began = monotonic()
    async with am.open_mesh(catalog=known, journal=None) as mesh:
        async with anyio.create_task_group() as group:
            for number in range(calls):
                group.start_soon(partial(mesh.ask, "acme/large", f"question {number}", max_tokens=max_tokens))
        return monotonic() - began, mesh.statistics()[0]


async def test_the_gain_of_a_smaller_max_tokens_is_what_a_run_with_it_gains(tmp_path: Path) -> None:
    known = catalog(tmp_path, {"tokens_per_minute": RESERVED})
    slow, lane = await ran(known)
    assert lane.bounded_by == "large tokens_per_minute"
    assert lane.bounded_share > 0.9
    gain = lane.endpoints[0].smaller_max_tokens
    assert gain is not None
    assert (gain.calls, gain.max_tokens) == (300, 800)
    assert gain.longest < gain.enough < 800
    assert gain.times_as_fast > 1.5
    fast, lane = await ran(known, max_tokens=gain.enough)
    assert slow / fast == pytest.approx(gain.times_as_fast, rel=0.1)
    assert lane.endpoints[0].smaller_max_tokens is None


async def test_what_answers_take_is_no_gain(tmp_path: Path) -> None:
    """With the smaller max_tokens all calls fit into the burst."""
    known = catalog(tmp_path, {"tokens_per_minute": RESERVED | {"limit": 200_000}, "requests_per_minute": 3000})
    slow, lane = await ran(known, calls=80)
    gain = lane.endpoints[0].smaller_max_tokens
    assert gain is not None
    fast, _ = await ran(known, calls=80, max_tokens=gain.enough)
    assert slow / fast == pytest.approx(gain.times_as_fast, rel=0.15)


async def test_the_gain_ends_where_the_next_limit_begins(tmp_path: Path) -> None:
    known = catalog(tmp_path, {"tokens_per_minute": RESERVED, "requests_per_minute": 90})
    slow, lane = await ran(known)
    gain = lane.endpoints[0].smaller_max_tokens
    assert gain is not None
    assert gain.times_as_fast < 1.5
    fast, lane = await ran(known, max_tokens=gain.enough)
    assert slow / fast == pytest.approx(gain.times_as_fast, rel=0.05)
    assert lane.bounded_by == "large requests_per_minute"


@pytest.mark.parametrize(
    "limits", [{"tokens_per_minute": 60_000}, {"tokens_per_minute": RESERVED | {"limit": 10_000_000}}]
)
async def test_nothing_is_suggested_where_nothing_would_be_gained(tmp_path: Path, limits: dict[str, Any]) -> None:
    """The real use is counted in the end, or the limit held nobody back."""
    _, lane = await ran(catalog(tmp_path, limits), calls=100)
    assert lane.endpoints[0].smaller_max_tokens is None


async def test_a_run_that_no_limit_bounded_waited_for_the_endpoint(tmp_path: Path) -> None:
    seconds, lane = await ran(catalog(tmp_path, {"requests_per_minute": 60_000}, latency_s=20), calls=10)
    assert lane.bounds[0].by == "latency"
    assert lane.bounds[0].share > 0.95
    assert lane.active_s == pytest.approx(seconds, abs=0.2)
    assert lane.peak_in_flight == lane.endpoints[0].peak_in_flight == 10
