"""A limit as a record: its name, what may go at once, what is reserved and what is counted in the end."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, get_args

import pytest

from agentmesh.rates import (
    Limit,
    Reserves,
    Settles,
    Shape,
    Unit,
    impractical,
    limit_name_meant,
    limit_names,
    parse_limit_name,
)


@pytest.mark.parametrize(
    ("limit", "name", "capacity"),
    [
        (Limit("requests", 600), "requests_per_minute", 10),  # one second's worth
        (Limit("requests", 30), "requests_per_minute", 1),  # at least one
        (Limit("requests", 20_000, 86400.0), "requests_per_day", 20_000),  # a window, not one each 4.3 seconds
        (Limit("requests", 20_000, 86400.0, shape="bucket"), "requests_per_day", 1),
        (Limit("requests", 20_000, 86400.0, burst=50), "requests_per_day", 50),  # what names a burst is a bucket
        (Limit("requests", 50, 1.0), "requests_per_second", 50),
        (Limit("tokens", 200_000), "tokens_per_minute", pytest.approx(200_000 / 6)),  # ten seconds' worth
        (Limit("output_tokens", 3600, 3600.0, shape="bucket"), "output_tokens_per_hour", 10),
        (Limit("input_tokens", 6, 3600.0, shape="bucket"), "input_tokens_per_hour", 1),
        (Limit("tokens", 600, burst=30_000), "tokens_per_minute", 30_000),
        (Limit("tokens", 600, shape="fixed", burst=7), "tokens_per_minute", 600),
        (Limit("tokens", 600, shape="sliding"), "tokens_per_minute", 600),
        (Limit("in_flight", 64), "in_flight", 64),
        (Limit("requests", 10, 7.5), "requests_per_7.5s", pytest.approx(10 / 7.5)),
    ],
)
def test_names_and_bursts(limit: Limit, name: str, capacity: float) -> None:
    assert (limit.name, limit.capacity) == (name, capacity)


@pytest.mark.parametrize(
    ("limit", "reserved", "used"),
    [
        (Limit("requests", 1), 1, 1),
        (Limit("in_flight", 1), 1, 1),
        (Limit("tokens", 1), 300, 120),
        (Limit("tokens", 1, reserves="max"), 200, 120),
        (Limit("tokens", 1, reserves="input"), 100, 120),
        (Limit("tokens", 1, reserves="nothing"), 0, 120),
        (Limit("input_tokens", 1), 100, 100),
        (Limit("output_tokens", 1), 0, 20),
    ],
)
def test_what_a_call_reserves_and_costs(limit: Limit, reserved: float, used: float) -> None:
    """A call of 100 tokens that may answer with 200 and answers with 20."""
    assert limit.reserved(100, 200) == reserved
    assert limit.used(100, 20) == used


@pytest.mark.parametrize(
    "wrong",
    [{"limit": 0}, {"limit": -1}, {"limit": math.inf}, {"limit": math.nan}, {"burst": 0.5}, {"burst": math.inf}],
)
def test_figures_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Limit(**{"unit": "requests", "limit": 1, **wrong})


def test_every_name_is_read_as_it_is_written() -> None:
    names = limit_names()
    assert len(names) == len(set(names)) == 1 + 4 * 4
    for name in names:
        unit, window = parse_limit_name(name)
        assert Limit(unit, 1, window).name == name
    for wrong in ("tokens", "requests_per_week", "in_flight_per_minute", ""):
        with pytest.raises(KeyError):
            parse_limit_name(wrong)


@pytest.mark.parametrize(
    ("window", "shape"), [(1.0, "bucket"), (60.0, "bucket"), (3600.0, "sliding"), (86400.0, "sliding")]
)
def test_longer_limits_are_sliding_windows_unless_they_say_otherwise(window: float, shape: Shape) -> None:
    assert Limit("tokens", 5, window).shape == shape
    assert Limit("tokens", 5, window, burst=2).shape == "bucket"
    for said in get_args(Shape):
        assert Limit("tokens", 5, window, shape=said).shape == said
    assert Limit("in_flight", 5, window).shape == "bucket"


def test_another_figure_is_another_burst() -> None:
    limit = replace(Limit("tokens", 60_000), limit=6000)
    assert (limit.capacity, limit.per_second, limit.shape) == (1000, 100, "bucket")
    assert limit == Limit("tokens", 6000)


def test_every_unit_has_a_default_for_what_it_reserves() -> None:
    for unit in get_args(Unit):
        limit = Limit(unit, 1)
        assert limit.reserves in get_args(Reserves)
        assert (limit.shape, limit.settles) == ("bucket", "actual")
        assert limit.shape in get_args(Shape)
        assert limit.settles in get_args(Settles)


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("rpm", "requests_per_minute"), ("TPD", "tokens_per_day"), ("itps", "input_tokens_per_second"),
        ("otph", "output_tokens_per_hour"), ("max-concurrency", "in_flight"), ("concurrent_requests", "in_flight"),
        ("parallel", "in_flight"), ("requests", None), ("", None), ("xpm", None),
    ],
)  # fmt: skip
def test_names_of_other_programs(word: str, meant: str | None) -> None:
    assert limit_name_meant(word) == meant


def test_a_limit_below_one_lets_a_call_through_now_and_then() -> None:
    limit = Limit("requests", 0.5, 1.0)
    assert (limit.largest, limit.capacity, impractical(limit)) == (1, 1, None)
    assert Limit("requests", 0.5, 1.0, debt=False).largest == 1
