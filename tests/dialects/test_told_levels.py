"""What headers tell of limits, family by family, and that garbage tells nothing."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh.dialects import DIALECTS
from agentmesh.dialects.anthropic_server import limit_headers as anthropic_headers
from agentmesh.dialects.base import LimitLevel
from agentmesh.dialects.openai_chat_server import limit_headers as openai_headers
from agentmesh.dialects.told import over_limit_hint, read_levels
from agentmesh.dialects.values import LONGEST_WAIT
from agentmesh.rates import Limit, Told, Unit

NOW = 1_934_976_000.0  # 2031-04-26T13:20:00Z
DATE = "Sat, 26 Apr 2031 13:20:00 GMT"
MINUTE, DAY, MONTH = 60.0, 86400.0, 30 * 86400.0


def read(headers: dict[str, str], *quirks: str, now: float = NOW) -> tuple[Told, ...]:
    return read_levels(headers, now=now, quirks=frozenset(quirks))


def told(
    unit: Unit, window: float | None, limit: float | None, left: float | None, reset: float | None = None, **more: Any
) -> Told:
    return Told(unit, window, limit, left, reset, **more)


def x(unit: str, limit: str, left: str, reset: str | None = None) -> dict[str, str]:
    names = {f"x-ratelimit-limit-{unit}": limit, f"x-ratelimit-remaining-{unit}": left}
    return names if reset is None else {**names, f"x-ratelimit-reset-{unit}": reset}


def anthropic(unit: str, limit: str, left: str, reset: str, tier: str = "ratelimit") -> dict[str, str]:
    start = f"anthropic-{tier}-{unit}"
    return {f"{start}-limit": limit, f"{start}-remaining": left, f"{start}-reset": reset}


FAMILIES: dict[str, tuple[dict[str, str], tuple[str, ...], list[Told]]] = {
    "OpenAI": (
        {**x("requests", "900", "897", "200ms"), **x("tokens", "180000", "175500", "1.5s")},
        (),
        [told("requests", MINUTE, 900, 897, 0.2), told("tokens", MINUTE, 180_000, 175_500, 1.5)],
    ),
    "OpenAI's project": (
        x("project-tokens", "70000", "69000", "857ms"),
        (),
        [told("tokens", MINUTE, 70_000, 69_000, 0.857, scope_hint="project")],
    ),
    "OpenAI, by use": (
        x("tokens_usage_based", "120000", "110000", "5s"),
        (),
        [told("tokens", MINUTE, 120_000, 110_000, 5.0, scope_hint="usage_based")],
    ),
    "OpenAI, a bucket of a day": (
        x("requests", "2000", "1500", "6h0m0s"),
        (),
        [told("requests", DAY, 2000, 1500, 21600.0)],
    ),
    "a bucket of an hour or a day that is nearly full": (
        x("requests", "8640", "8639", "10s"),
        (),
        [told("requests", None, 8640, 8639, 10.0)],
    ),
    "longer than a minute, who knows how long": (
        x("requests", "500", "490", "28m48s"),
        (),
        [told("requests", None, 500, 490, 1728.0)],
    ),
    "Azure": (
        {
            **x("requests", "50", "44", "7"), "x-ratelimit-renewalperiod-requests": "10",
            **x("tokens", "40000", "38000", "0"), "x-ratelimit-renewalperiod-tokens": "60",
        },
        (),
        [told("requests", 10.0, 50, 44, 7.0), told("tokens", MINUTE, 40_000, 38_000)],
    ),
    "Anthropic": (
        {
            "date": DATE,
            **anthropic("requests", "50", "49", "2031-04-26T13:20:01Z"),
            **anthropic("tokens", "36000", "35000", "2031-04-26T13:20:02Z"),
            **anthropic("input-tokens", "30000", "29000", "2031-04-26T13:20:02Z"),
            **anthropic("output-tokens", "8000", "8000", "2031-04-26T13:20:00Z"),
        },
        (),
        [
            told("requests", MINUTE, 50, 49, 1.0),
            told("tokens", MINUTE, 36_000, 35_000, 2.0, scope_hint="tightest", within=500.0),
            told("input_tokens", MINUTE, 30_000, 29_000, 2.0, within=500.0),
            told("output_tokens", MINUTE, 8000, 8000, 0.0, within=500.0),
        ],
    ),
    "Anthropic's other tiers": (
        {"date": DATE, **anthropic("input-tokens", "9000", "4000", "2031-04-26T13:20:30+00:00", "priority")},
        (),
        [told("input_tokens", MINUTE, 9000, 4000, 30.0, scope_hint="priority", within=500.0)],
    ),
    "Groq": (
        {**x("requests", "1300", "1295", "5m32.3s"), **x("tokens", "7000", "6300", "6s")},
        ("requests_per_day",),
        [told("requests", DAY, 1300, 1295, 332.3), told("tokens", MINUTE, 7000, 6300, 6.0)],
    ),
    "Mistral": (
        {**x("req-minute", "110", "109"), **x("tokens-minute", "420000", "418000"),
         "x-ratelimit-tokens-query-cost": "1900"},
        (),
        [told("requests", MINUTE, 110, 109), told("tokens", MINUTE, 420_000, 418_000)],
    ),
    "Mistral, before": (
        {
            "ratelimitbysize-limit": "450000", "ratelimitbysize-remaining": "420000", "ratelimitbysize-reset": "31",
            "ratelimitbysize-query-cost": "30000", "x-ratelimitbysize-limit-month": "200000000",
            "x-ratelimitbysize-remaining-month": "190000000",
        },
        (),
        [told("tokens", MINUTE, 450_000, 420_000, 31.0), told("tokens", MONTH, 2e8, 1.9e8)],
    ),
    "Cerebras": (
        {
            **x("requests-day", "14000", "13990", "8000.5"), **x("tokens-minute", "55000", "54000", "12.25"),
            **x("requests-minute", "25", "24", "12.25"), **x("tokens-hour", "900000", "899000", "600.75"),
        },
        (),
        [
            told("requests", DAY, 14_000, 13_990, 8000.5), told("tokens", MINUTE, 55_000, 54_000, 12.25),
            told("requests", MINUTE, 25, 24, 12.25), told("tokens", 3600.0, 900_000, 899_000, 600.75),
        ],
    ),
    "xAI": (
        {"date": DATE, **x("requests", "470", "469", str(int(NOW) + 20))},
        (),
        [told("requests", MINUTE, 470, 469, 20.0)],
    ),
    "Together": (
        {
            "x-ratelimit-limit": "9.5", "x-ratelimit-remaining": "8.25", "x-ratelimit-reset": "1",
            "x-tokenlimit-limit": "4400", "x-tokenlimit-remaining": "4000", "x-tokenlimit-limit-dynamic": "3900.5",
        },
        (),
        [told("requests", 1.0, 9.5, 8.25, 1.0), told("tokens", 1.0, 3900.5, None)],
    ),
    "Together, adapting": (
        {"x-ratelimit-limit": "9", "x-ratelimit-limit-dynamic": "6.5", "x-ratelimit-remaining": "2"},
        (),
        [told("requests", 1.0, 6.5, 2)],
    ),
    "Fireworks": (
        {
            **x("tokens-prompt", "50000", "48000"), **x("tokens-cache-adjusted-prompt", "12000", "11000"),
            **x("tokens-generated", "500", "450.5"),
        },
        (),
        [
            told("input_tokens", MINUTE, 3_000_000, 2_880_000),
            told("input_tokens", MINUTE, 720_000, 660_000, scope_hint="uncached"),
            told("output_tokens", MINUTE, 30_000, 27_030),
        ],
    ),
    "OpenRouter, the day": (
        {"date": DATE, "x-ratelimit-limit": "60", "x-ratelimit-remaining": "0",
         "x-ratelimit-reset": str(int(NOW + 38_400) * 1000)},
        (),
        [told("requests", DAY, 60, 0, 38_400.0)],
    ),
    "OpenRouter, the minute, or a gateway": (
        {"date": DATE, "x-ratelimit-limit": "25", "x-ratelimit-remaining": "0",
         "x-ratelimit-reset": str(int(NOW + 40) * 1000)},
        (),
        [told("requests", None, 25, 0, 40.0)],
    ),
    "a gateway whose file says what it means": (
        {"x-ratelimit-limit": "25", "x-ratelimit-remaining": "3"},
        ("requests_per_second",),
        [told("requests", 1.0, 25, 3)],
    ),
    "Cohere's trial": (
        {"x-trial-endpoint-call-limit": "30", "x-trial-endpoint-call-remaining": "11",
         "x-endpoint-monthly-call-limit": "1200"},
        (),
        [told("requests", MINUTE, 30, 11, scope_hint="trial"), told("requests", MONTH, 1200, None, scope_hint="trial")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_of_headers(family: str) -> None:
    headers, quirks, expected = FAMILIES[family]
    found = read(headers, *quirks)
    assert [replaced(one) for one in found] == [replaced(one) for one in expected]


def replaced(one: Told) -> dict[str, Any]:
    """Its fields, with floats that may be compared."""
    values = {field.name: getattr(one, field.name) for field in fields(one)}
    return {name: pytest.approx(value) if isinstance(value, float) else value for name, value in values.items()}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_reads_every_family(dialect: str) -> None:
    for headers, quirks, _ in FAMILIES.values():
        assert DIALECTS[dialect].read_levels(headers, now=NOW, quirks=quirks) == read(headers, *quirks)


def test_quirks_are_switches_that_the_dialect_knows() -> None:
    assert {"requests_per_day", "requests_per_second"} <= DIALECTS["openai-chat"].known_quirks.keys()


@pytest.mark.parametrize("limit", ["30000", "8000", "38000"])
def test_a_total_that_only_repeats_input_and_output_is_left_out(limit: str) -> None:
    at = "2031-04-26T13:20:02Z"
    headers = {
        **anthropic("tokens", limit, "1000", at), **anthropic("input-tokens", "30000", "1000", at),
        **anthropic("output-tokens", "8000", "1000", at),
    }  # fmt: skip
    assert [one.unit for one in read(headers)] == ["input_tokens", "output_tokens"]


def test_instants_are_measured_against_the_date_of_the_reply_whatever_the_clock_here_says() -> None:
    headers = {"date": DATE, **anthropic("requests", "50", "40", "2031-04-26T13:20:12Z")}
    assert {read(headers, now=now)[0].reset_s for now in (NOW, NOW - 3600, NOW + 3600)} == {12.0}
    del headers["date"]
    assert [read(headers, now=now)[0].reset_s for now in (NOW, NOW - 60, NOW + 60)] == [12.0, 72.0, None]


@pytest.mark.parametrize(
    "figure",
    ["", "-1", "-17", "nan", "inf", "1e9", "1_000", "0x10", "many", "12 requests", "٣", "9" * 16, "9" * 400, "800, 800",
     "1.", ".5", "+3"],
)  # fmt: skip
def test_a_figure_that_is_none_is_not_told(figure: str) -> None:
    assert read(x("requests", figure, figure, "1s")) == ()
    (found,) = read(x("requests", "600", figure, "1s"))
    assert found == told("requests", MINUTE, 600, None, 1.0)
    (found,) = read(x("requests", figure, "30", "1s"))
    assert found == told("requests", MINUTE, None, 30, 1.0)


@pytest.mark.parametrize(
    "reset", ["", "-3", "nan", "soon", "1e400", "9999999999999999999", "5000h", "1900-01-01T00:00:00Z"]
)
def test_a_reset_that_is_none_is_not_told(reset: str) -> None:
    assert read(x("requests", "600", "30", reset)) == (told("requests", MINUTE, 600, 30),)


def test_more_left_than_there_is_is_not_told_and_a_limit_of_nothing_is_no_limit() -> None:
    assert read(x("tokens", "600", "601")) == (told("tokens", MINUTE, 600, None),)
    assert read(x("tokens", "0", "0")) == (told("tokens", MINUTE, None, 0),)
    at = "2031-04-26T13:20:02Z"  # rounded up to the next thousand
    assert read(anthropic("input-tokens", "7600", "8000", at))[0].remaining == 8000


@pytest.mark.parametrize(
    "name",
    ["x-ratelimit-tokens-query-cost", "x-ratelimit-over-limit", "x-ratelimit-limit-images",
     "x-ratelimit-limit-tokens-week", "anthropic-ratelimit-requests", "x-ratelimit-limit-requests" + "-day" * 50,
     "limit", "retry-after"],
)  # fmt: skip
def test_other_headers_tell_nothing_of_levels(name: str) -> None:
    assert read({name: "5"}) == ()


@pytest.mark.parametrize(("text", "over"), [("yes", True), (" Yes", True), ("no", False), ("", False)])
def test_over_the_limit_and_served_all_the_same(text: str, over: bool) -> None:
    assert over_limit_hint({"x-ratelimit-over-limit": text}) is over
    assert not over_limit_hint({})


@pytest.mark.parametrize("shape", ["bucket", "sliding", "fixed"])
def test_what_our_own_servers_write_is_read_back(shape: Any) -> None:
    requests, tokens = Limit("requests", 600, shape=shape), Limit("tokens", 90_000, shape=shape)
    levels = [LimitLevel(requests, 480, 12.0), LimitLevel(tokens, 45_200, 29.867)]
    expected = [told("requests", MINUTE, 600, 480, 12.0), told("tokens", MINUTE, 90_000, 45_200, 29.867)]
    assert list(read(openai_headers(levels))) == expected
    first, second, third = read(
        anthropic_headers([*levels, LimitLevel(Limit("input_tokens", 70_000), 1400, 9)], now=NOW)
    )
    assert first == expected[0]
    assert second == told("tokens", MINUTE, 90_000, 45_000, 30.0, scope_hint="tightest", within=500.0)
    assert third == told("input_tokens", MINUTE, 70_000, 1000, 9.0, within=500.0)


def test_a_limit_of_an_hour_is_never_read_as_one_of_a_minute_or_a_day() -> None:
    for used in range(1, 1000):
        hour = LimitLevel(Limit("requests", 1000, 3600.0), 1000 - used, used * 3.6)
        (found,) = read(openai_headers([hour]))
        assert found.window_s is None


NAMES = [name for headers, _, _ in FAMILIES.values() for name in headers]
VALUES = st.one_of(
    st.text(max_size=30), st.floats().map(str), st.integers().map(str), st.just(DATE),
    st.floats(0, 1e5).map(lambda s: f"{s}s"), st.datetimes().map(lambda at: at.isoformat() + "Z"),
)  # fmt: skip


@given(
    st.dictionaries(st.one_of(st.sampled_from(NAMES), st.text(max_size=40)), VALUES, max_size=12),
    st.sets(st.sampled_from(["requests_per_day", "requests_per_second", "no_done"])),
)
def test_garbage_tells_nothing_absurd(headers: dict[str, str], quirks: set[str]) -> None:
    for one in read(headers, *quirks):
        assert one.limit is not None or one.remaining is not None
        assert one.window_s is None or one.window_s > 0
        for figure in (one.limit, one.remaining, one.reset_s):
            assert figure is None or (math.isfinite(figure) and 0 <= figure <= 1e12)
        assert one.limit != 0
        if one.limit is not None and one.remaining is not None:
            assert one.remaining <= one.limit + one.within
        assert one.reset_s is None or one.reset_s <= LONGEST_WAIT
    over_limit_hint(headers)
