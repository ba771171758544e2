"""Strict admission as tables: time is an argument, nothing waits."""

from __future__ import annotations

import math

import pytest

from agentmesh.rates import Limit
from agentmesh.simulate.behaviour import Behaviour, Served, ServedModel
from agentmesh.simulate.strict import Admitted, Refused, StrictLimits

MODEL = ServedModel("m", Behaviour(output_tokens=50))


def server(*limits: Limit, model: ServedModel = MODEL, **pools: tuple[Limit, ...]) -> StrictLimits:
    return StrictLimits(Served({model.name: model}, limits, pools), 0.0)


def ask(strict: StrictLimits, now: float, size: tuple[int, int | None] = (10, 10), model: ServedModel = MODEL) -> float:
    """Seconds that the request is told to wait; 0 if it was admitted."""
    found = strict.admit(model, model.name, input_tokens=size[0], output_tokens=size[1], now=now)
    return found.wait if isinstance(found, Refused) else 0.0


@pytest.mark.parametrize(
    ("limit", "asked"),
    [
        # 60 a minute: one second's worth at once, at least 1; then one each second.
        (Limit("requests", 60), [(0.0, 0.0), (0.0, 1.0), (0.5, 0.5), (1.0, 0.0), (1.0, 1.0)]),
        # 600 a minute: ten at once.
        (Limit("requests", 600), [(0.0, 0.0)] * 10 + [(0.0, 0.1), (0.1, 0.0), (60.0, 0.0)]),
        (Limit("requests", 2, window=1.0, shape="fixed"), [(0.5, 0.0), (0.5, 0.0), (0.9, 0.6), (1.5, 0.0)]),
        (
            Limit("requests", 2, window=1.0, shape="sliding"),
            [(0.0, 0.0), (0.6, 0.0), (0.8, 0.2), (1.0, 0.0), (1.2, 0.4)],
        ),
    ],
)
def test_requests(limit: Limit, asked: list[tuple[float, float]]) -> None:
    strict = server(limit)
    assert [ask(strict, now) for now, _ in asked] == pytest.approx([wait for _, wait in asked])


def test_tokens_have_ten_seconds_worth_and_a_larger_request_leaves_a_debt() -> None:
    strict = server(Limit("tokens", 600))  # ten a second, one hundred at once
    assert ask(strict, 0.0, (150, 50)) == 0.0  # above the burst, at a full bucket
    assert ask(strict, 0.0, (10, 10)) == pytest.approx(12.0)  # 100 of debt and 20 to have
    assert ask(strict, 12.0, (10, 10)) == 0.0


def test_a_request_above_the_limit_itself_can_never_come() -> None:
    assert ask(server(Limit("tokens", 600)), 0.0, (500, 101)) == math.inf
    assert ask(server(Limit("tokens", 600, debt=False)), 0.0, (90, 11)) == math.inf


@pytest.mark.parametrize(
    ("limit", "left"),
    [
        (Limit("tokens", 6000), (1000 - 140, 1000 - 60)),
        (Limit("tokens", 6000, reserves="max"), (1000 - 100, 1000 - 60)),
        (Limit("tokens", 6000, reserves="input"), (1000 - 40, 1000 - 60)),
        (Limit("tokens", 6000, settles="reserved"), (1000 - 140, 1000 - 140)),
        (Limit("input_tokens", 6000), (1000 - 40, 1000 - 40)),
        (Limit("output_tokens", 6000), (1000, 1000 - 20)),
        (Limit("in_flight", 4), (3, 4)),
    ],
)
def test_what_is_reserved_and_what_is_settled(limit: Limit, left: tuple[float, float]) -> None:
    strict = server(limit)
    admitted = strict.admit(MODEL, "m", input_tokens=40, output_tokens=100, now=0.0)
    assert isinstance(admitted, Admitted)
    assert strict.levels(MODEL, "m", now=0.0)[0][1] == left[0]
    strict.settle(admitted, 0.0, output_tokens=20, completed=True)
    assert strict.levels(MODEL, "m", now=0.0)[0][1] == left[1]


def test_without_max_tokens_the_length_learned_from_replies_is_reserved() -> None:
    strict = server(Limit("tokens", 60000))
    for expected, real in ((50, 400), (400, 400)):
        before = strict.levels(MODEL, "m", now=0.0)[0][1]
        admitted = strict.admit(MODEL, "m", input_tokens=10, output_tokens=None, now=0.0)
        assert isinstance(admitted, Admitted)
        assert before - strict.levels(MODEL, "m", now=0.0)[0][1] == pytest.approx(10 + expected)
        strict.settle(admitted, 0.0, output_tokens=real, completed=True)


def test_calls_in_flight_are_slots() -> None:
    strict = server(Limit("in_flight", 2))
    held = [strict.admit(MODEL, "m", input_tokens=1, output_tokens=1, now=0.0) for _ in range(2)]
    assert ask(strict, 0.0) == 1.0  # nobody knows yet how long a call takes
    assert isinstance(held[0], Admitted)
    strict.settle(held[0], 4.0, output_tokens=1, completed=True)
    assert ask(strict, 4.0) == 0.0
    assert ask(strict, 4.0) == pytest.approx(2.0)  # calls take 4 s, and there are two


def test_account_pool_and_model_are_decided_together() -> None:
    small = ServedModel("small", limits=(Limit("requests", 600),), pool="both")
    large = ServedModel("large", limits=(Limit("requests", 60),), pool="both")
    other = ServedModel("other")
    served = Served(
        {m.name: m for m in (small, large, other)}, (Limit("requests", 240),), {"both": (Limit("requests", 180),)}
    )
    strict = StrictLimits(served, 0.0)
    assert ask(strict, 0.0, model=large) == 0.0
    refused = strict.admit(large, "large", input_tokens=1, output_tokens=1, now=0.0)
    assert isinstance(refused, Refused)
    assert (refused.scope, refused.limit.limit) == ("large", 60)
    assert [ask(strict, 0.0, model=small) for _ in range(2)] == [0.0, 0.0]  # the refused one was counted nowhere
    assert ask(strict, 0.0, model=small) == pytest.approx(1 / 3)  # now the pool is empty
    assert ask(strict, 0.0, model=other) == 0.0
    assert ask(strict, 0.0, model=other) == pytest.approx(1 / 4)  # and the account


def test_statistics_tell_what_was() -> None:
    strict = server(Limit("requests", 60))
    for _ in range(2):
        strict.note_received()
    first = strict.admit(MODEL, "m", input_tokens=10, output_tokens=30, now=2.0)
    ask(strict, 2.5)
    assert isinstance(first, Admitted)
    now = strict.statistics()
    assert (now.received, now.accepted, now.refused, now.completed) == (2, 1, 1, 0)
    assert (now.in_flight, now.peak_in_flight, now.tokens, now.first_s, now.last_s) == (1, 1, 40, 2.0, 2.0)
    strict.settle(first, 3.0, output_tokens=5, completed=True)
    ask(strict, 7.0, (1, 1))
    now = strict.statistics()
    assert (now.completed, now.in_flight, now.tokens, now.first_s, now.last_s) == (1, 1, 17, 2.0, 7.0)
