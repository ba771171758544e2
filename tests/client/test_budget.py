"""Budgets by themselves: what fits, who waits, what is told when nothing is left."""

from __future__ import annotations

import math
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh.client.budget import Budget, Budgets, Reservation
from agentmesh.clock import monotonic, sleep
from agentmesh.errors import BudgetExceeded
from agentmesh.simulate.virtual import run_virtual

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time, pytest.mark.both_backends]


@pytest.mark.parametrize("wrong", [{"usd": -1}, {"tokens": math.inf}, {"calls": math.nan}, {"time": -0.1}])
def test_figures_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be a number from 0 on"):
        Budget(**wrong)


def test_what_makes_lengths_and_prices_matter() -> None:
    plain, tokens, usd = Budget(calls=1, time=1), Budget(tokens=1), Budget(usd=1)
    assert [Budgets([one]).bound_size for one in (plain, tokens, usd)] == [False, True, True]
    assert [Budgets([None, plain, one]).bound_usd for one in (tokens, usd)] == [False, True]
    assert len(Budgets([None, plain])) == 1


@pytest.mark.parametrize(
    ("budget", "need", "words"),
    [
        ({"usd": 2.0}, (2.1, 0), r"the trip of \$2.00 has \$2.0000 left, and the next call could cost \$2.1000"),
        ({"tokens": 1500}, (0, 2000), "the trip of 1,500 tokens has 1,500 left, and the next call could need 2,000"),
        ({"calls": 0}, (0, 0), "the trip of 0 calls has 0 left, and the next call could need 1"),
        ({"time": 0.0}, (0, 0), "the trip of 0 s is used up"),
    ],
)
async def test_what_can_never_fit_is_told_at_once(
    budget: dict[str, float], need: tuple[float, float], words: str
) -> None:
    one = Budget(**budget, name="trip")
    with pytest.raises(BudgetExceeded, match=words) as raised:
        await Budgets([one]).reserve(usd=need[0], tokens=need[1])
    assert raised.value.budget is one
    assert raised.value.unit == next(iter(budget))


async def test_the_outermost_that_has_ended_is_named() -> None:
    inner, outer = Budget(calls=0, name="inner"), Budget(calls=0, name="outer")
    with pytest.raises(BudgetExceeded, match="the outer"):
        await Budgets([inner, outer]).reserve(usd=0, tokens=0)


async def test_who_does_not_fit_yet_waits_for_what_comes_back() -> None:
    inner, outer = Budget(usd=10.0), Budget(usd=15.0)
    first = await Budgets([inner, outer]).reserve(usd=8.0, tokens=0)
    got: list[float] = []

    async def reserve(budgets: Budgets, usd: float) -> None:
        began = monotonic()
        (await budgets.reserve(usd=usd, tokens=0)).settle(usd=usd)
        got.append(round(monotonic() - began, 6))

    async with anyio.create_task_group() as group:
        group.start_soon(reserve, Budgets([inner, outer]), 6.0)
        await sleep(5.0)
        assert (inner.statistics().waiting, got) == (1, [])
        assert outer.statistics().reserved_usd == 8.0  # who waits for one holds nothing of another
        first.settle(usd=3.0)
        first.settle(usd=99.0)  # a reservation is settled once
    assert got == [5.0]
    assert (inner.statistics().spent_usd, outer.statistics().spent_usd) == (9.0, 9.0)
    assert inner.statistics().reserved_usd == 0.0


async def test_who_waits_is_told_when_what_comes_back_is_too_little() -> None:
    budget = Budget(tokens=100)
    held = await Budgets([budget]).reserve(usd=0, tokens=60)

    async def reserve() -> None:
        with pytest.raises(BudgetExceeded, match="has 40 left"):
            await Budgets([budget]).reserve(usd=0, tokens=60)

    async with anyio.create_task_group() as group:
        group.start_soon(reserve)
        await anyio.lowlevel.checkpoint()
        held.settle_whole()


async def test_a_budget_of_time_ends_waits_for_others_too() -> None:
    budget = Budget(calls=1, time=30.0)
    await Budgets([budget]).reserve(usd=0, tokens=0)
    began = monotonic()
    with pytest.raises(BudgetExceeded) as raised:
        await Budgets([budget]).reserve(usd=0, tokens=0)
    assert raised.value.unit == "time"
    assert monotonic() - began == pytest.approx(30.0)
    assert budget.statistics().waiting == 0


costs = st.lists(
    st.tuples(st.floats(0, 1), st.floats(0, 1), st.sampled_from(["settle", "whole", "cancel"])), max_size=50
)


@given(st.floats(0.1, 5), costs)
def test_whatever_is_settled_what_is_reserved_and_spent_stays_within_the_bound(
    bound: float, plan: list[tuple[float, float, str]]
) -> None:
    budget = Budget(usd=bound)
    held: list[tuple[Reservation, float, str]] = []
    for usd, share, how in plan:
        need = (usd, 0.0, 1.0)
        if budget.fits(need):
            assert budget.over(need) is None
            budget.hold(need)
            held.append((Reservation((budget,), need), usd * share, how))
        elif held:
            end(*held.pop(0))
        statistics = budget.statistics()
        assert statistics.spent_usd + statistics.reserved_usd <= bound + 1e-6
        assert statistics.reserved_usd == pytest.approx(sum(one.need[0] for one, _, _ in held), abs=1e-9)
    for one in held:
        end(*one)
    assert budget.statistics().reserved_usd == pytest.approx(0.0, abs=1e-9)


def end(reservation: Reservation, usd: float, how: str) -> None:
    match how:
        case "settle":
            reservation.settle(usd=usd)
        case "whole":
            reservation.settle_whole()
        case _:
            reservation.cancel()


attempts = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.floats(0, 1),
        st.floats(0, 3),
        st.integers(0, 2),
        st.sampled_from(["settle", "whole", "cancel"]),
    ),
    max_size=40,
)


@given(st.floats(0.1, 4), st.floats(0.1, 4), st.integers(1, 30), attempts)
def test_nested_budgets_are_never_overshot_by_whoever_waits(
    outer_usd: float, inner_usd: float, calls: int, plan: list[tuple[float, float, float, int, str]]
) -> None:
    """Each attempt takes its time and costs at most what it reserved; many are under way at a time."""
    outer, inner, own = Budget(usd=outer_usd), Budget(usd=inner_usd), Budget(calls=calls)
    nests = [Budgets([own, inner, outer]), Budgets([inner, outer]), Budgets([outer])]
    paid = dict.fromkeys((outer, inner), 0.0)
    sent = 0

    async def attempt(usd: float, share: float, seconds: float, nest: int, how: str) -> None:
        nonlocal sent
        try:
            reservation = await nests[nest].reserve(usd=usd, tokens=0)
        except BudgetExceeded:
            return
        sent += own in nests[nest]
        for budget, bound in ((outer, outer_usd), (inner, inner_usd)):
            statistics = budget.statistics()
            assert statistics.spent_usd + statistics.reserved_usd <= bound + 1e-6
        await sleep(seconds)
        charged = {"settle": usd * share, "whole": usd, "cancel": 0.0}[how]
        for budget in (one for one in nests[nest] if one in paid):
            paid[budget] += charged
        sent -= how == "cancel" and own in nests[nest]
        end(reservation, usd * share, how)

    async def all_of_them() -> None:
        async with anyio.create_task_group() as group:
            for one in plan:
                group.start_soon(attempt, *one)

    run_virtual(all_of_them)
    assert paid[outer] <= outer_usd + 1e-6
    assert paid[inner] <= inner_usd + 1e-6
    assert sent <= calls
    for budget in (outer, inner):
        assert budget.statistics().spent_usd == pytest.approx(paid[budget])
        assert budget.statistics().waiting == 0
        assert budget.statistics().reserved_usd == pytest.approx(0.0, abs=1e-9)
