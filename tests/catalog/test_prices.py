"""What a call costs, by conditions of date, weekday, hour and size; and the most it can cost."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from agentmesh.catalog import Price, Prices
from agentmesh.messages import Tokens

M = 1_000_000


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


NOW = at("2026-11-21T12:00")
FLAT = Prices((Price(input=1.0, cached_input=0.1, cache_write=1.25, output=4.0),))


@pytest.mark.parametrize(
    ("prices", "tokens", "dollars"),
    [
        (FLAT, Tokens(input=M, output=M), 5.0),
        (FLAT, Tokens(input=M, cached=M // 2, output=0), 0.55),
        (FLAT, Tokens(input=M, cached=M // 4, cache_write=M // 4, output=0), 0.5 + 0.025 + 0.3125),
        (FLAT, Tokens(input=10, cached=20, output=0), 20 * 0.1 / M),
        (FLAT, Tokens(input=None, output=5), None),
        (FLAT, Tokens(input=5, output=None), None),
        (FLAT, Tokens(), None),
        (FLAT, Tokens(usd=0.7), 0.7),
        (Prices((Price(input=1.0, output=4.0),)), Tokens(input=M, cached=M, output=0), 1.0),
        (Prices(None), Tokens(input=M, output=M), None),
        (Prices(None), Tokens(usd=0.7), 0.7),
        (Prices(()), Tokens(), 0.0),
    ],
)
def test_cost_of_a_reply(prices: Prices, tokens: Tokens, dollars: float | None) -> None:
    assert prices.cost(tokens, at=NOW) == (None if dollars is None else pytest.approx(dollars))


BY_TIME = Prices((
    Price(input=1, output=0),
    Price(input=2, output=0, days=["mon", "fri"], hours_utc=["01:00-04:00", "22:00-24:00"]),
    Price.model_validate({"input": 3, "output": 0, "hours_utc": "23:30-00:30", "until": "2026-11-21"}),
    Price.model_validate({"input": 4, "output": 0, "from": "2027-01-01"}),
    Price.model_validate({"input": 5, "output": 0, "above_input": M}),
))  # fmt: skip


@pytest.mark.parametrize(
    ("when", "millions", "price"),
    [
        ("2026-11-21T12:00", 1, 1),
        ("2026-11-23T01:00", 1, 2),  # a Monday
        ("2026-11-23T04:00", 1, 1),
        ("2026-11-24T01:00", 1, 1),
        ("2026-11-20T22:00", 1, 2),  # a Friday
        ("2026-11-20T23:30", 1, 3),
        ("2026-11-21T00:29", 1, 3),
        ("2026-11-21T00:30", 1, 1),
        ("2026-11-21T23:59", 1, 3),
        ("2026-11-22T23:59", 1, 1),
        ("2026-12-31T23:59", 1, 1),
        ("2027-01-01T00:00", 1, 4),
        ("2027-01-01T00:00", 2, 5),
    ],
)
def test_the_last_price_whose_conditions_hold_counts(when: str, millions: int, price: float) -> None:
    assert BY_TIME.cost(Tokens(input=millions * M, output=0), at=at(when)) == millions * price


def test_no_price_holds() -> None:
    prices = Prices((Price.model_validate({"input": 1, "output": 1, "from": "2027-01-01"}),))
    assert prices.cost(Tokens(input=1, output=1), at=NOW) is None


def test_the_highest_cost_bounds_every_cost() -> None:
    assert FLAT.highest(M, M) == 5.25
    assert BY_TIME.highest(M, 0) == 4.0
    assert BY_TIME.highest(2 * M, 0) == 10.0
    assert Prices(None).highest(M, M) is None
    assert Prices(()).highest(M, M) == 0.0
    above = Prices((Price(input=1, output=1, above_input=10),))
    assert above.highest(5, 5) is None
