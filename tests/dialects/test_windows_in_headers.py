"""Limits whose windows a provider has no headers for are told so that nobody takes them for those of a minute."""

from __future__ import annotations

import pytest

from agentmesh.dialects import DIALECTS
from agentmesh.dialects.base import LimitLevel
from agentmesh.dialects.told import read_levels
from agentmesh.rates import WINDOW_SECONDS, Limit, Unit

NOW = 1_934_976_000.0


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
@pytest.mark.parametrize("window", WINDOW_SECONDS.values())
@pytest.mark.parametrize("unit", ["requests", "tokens", "input_tokens"])
@pytest.mark.parametrize("left", [0, 450, 599])
def test_no_window_is_taken_for_another(dialect: str, window: float, unit: Unit, left: float) -> None:
    limit = Limit(unit, 600, window)
    level = LimitLevel(limit, left, (600 - left) / limit.per_second)
    told = read_levels(DIALECTS[dialect].limit_headers([level], now=NOW), now=NOW)
    assert all(one.window_s in (None, window) for one in told)


def test_seconds_and_minutes_are_told_beside_each_other() -> None:
    levels = [LimitLevel(Limit("requests", 20, 1.0), 5, 0.75), LimitLevel(Limit("requests", 600), 480, 12.0)]
    told = read_levels(DIALECTS["openai-chat"].limit_headers(levels, now=NOW), now=NOW)
    assert {(one.window_s, one.limit, one.remaining, one.reset_s) for one in told} == {
        (60.0, 600, 480, 12.0), (1.0, 20, 5, 0.75),
    }  # fmt: skip
