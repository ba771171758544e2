"""How long a call would wait in a lane, as a table; and calls that are sent on from one lane to another."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import anyio.lowlevel
import pytest

from agentmesh.clock import monotonic, sleep
from agentmesh.limits.admission import Admission, Row
from agentmesh.limits.lane import Elsewhere, Lane
from agentmesh.limits.outlook import outlook
from agentmesh.rates import Limit

FIRST, MIDDLE, LAST = (-1.0, 0.0, 0), (0.0, 0.0, 500), (1.0, 0.0, 0)


def asked(admission: Admission, row: Row, calls: int, *, now: float = 0.0, max_tokens: int = 100) -> None:
    """So many calls come and go as far as the limits allow; the others wait."""
    for age in range(calls):
        admission.enqueue(row, characters=0, kind="", max_tokens=max_tokens, order=(0.0, 0.0, age), now=now)
    admission.admit(now)


def look(admission: Admission, row: Row, *, order: tuple[float, float, int] = LAST, now: float = 0.0) -> float:
    rows = admission.rows.values()
    return outlook(row, rows, characters=0, max_tokens=100, order=order, now=now)


def lane(*limits: Limit, account: tuple[Limit, ...] = ()) -> tuple[Admission, Row]:
    admission = Admission("acme", account, 0.0)
    return admission, admission.row("m", limits, 0.0)


REQUESTS = Limit("requests", 60, burst=1)
TOKENS = Limit("tokens", 6000, burst=100)  # one call of 100 each second
SLOTS = Limit("in_flight", 2)


@pytest.mark.parametrize(
    ("limits", "calls", "order", "seconds"),
    [
        ([REQUESTS], 0, LAST, 0.0),
        ([REQUESTS], 1, LAST, 1.0),
        ([REQUESTS], 11, LAST, 11.0),
        ([REQUESTS], 11, FIRST, 1.0),  # nobody waits before the most urgent
        ([TOKENS], 11, LAST, 11.0),
        ([REQUESTS, Limit("tokens", 600, burst=100)], 3, LAST, 30.0),  # the slowest limit counts
        ([SLOTS], 1, LAST, 0.0),
        ([SLOTS], 12, LAST, 5.5),  # eleven of a second each, two at a time
        ([SLOTS], 12, FIRST, 0.5),
    ],
)
def test_what_waits_and_what_is_held(
    limits: list[Limit], calls: int, order: tuple[float, float, int], seconds: float
) -> None:
    admission, row = lane(*limits)
    asked(admission, row, calls)
    assert look(admission, row, order=order) == pytest.approx(seconds, abs=0.01)


def test_time_brings_the_moment_nearer() -> None:
    admission, row = lane(REQUESTS)
    asked(admission, row, 1)
    assert [look(admission, row, now=now) for now in (0.25, 0.9, 5.0)] == pytest.approx([0.75, 0.1, 0.0])


def test_models_of_the_account_wait_for_its_limits_together() -> None:
    admission, row = lane(account=(REQUESTS,))
    other = admission.row("other", (), 0.0)
    alone = admission.row("alone", (), 0.0)
    asked(admission, other, 5)
    assert look(admission, row) == pytest.approx(5.0)
    assert look(admission, alone, order=FIRST) == pytest.approx(1.0)


def test_calls_in_flight_for_long_let_expect_a_long_wait() -> None:
    admission, row = lane(SLOTS)
    asked(admission, row, 2)
    assert [look(admission, row, now=now) for now in (0.0, 1.0, 30.0)] == pytest.approx([0.5, 0.5, 15.0])


def test_a_freeze_comes_on_top() -> None:
    admission, row = lane(Limit("requests", 600))
    row.gate.frozen_until = 20.0
    assert [look(admission, row, now=now) for now in (0.0, 15.0)] == pytest.approx([20.0, 5.0])


# --- sent on

virtual = [pytest.mark.anyio, pytest.mark.virtual_time, pytest.mark.both_backends]


@pytest.fixture
def told() -> list[str]:
    return []


def marked(test: Callable[..., object]) -> Callable[..., object]:
    for mark in virtual:
        test = mark(test)
    return test


@marked
async def test_who_is_sent_on_leaves_nothing_behind(told: list[str]) -> None:
    async with anyio.create_task_group() as group:
        one = Lane("acme", (REQUESTS,))
        row = one.row("m")
        group.start_soon(one.serve)
        one.watchers.append(lambda: told.append("decided"))

        async def call(name: str, order: tuple[float, float, int], guest: object | None) -> None:
            try:
                await one.admit(row, characters=0, max_tokens=1, order=order, guest=guest)
            except Elsewhere:
                told.append(f"{name} elsewhere")
            else:
                told.append(f"{name} at {monotonic() - began:.0f}")

        began = monotonic()
        for name, order, guest in (("a", MIDDLE, None), ("b", MIDDLE, None), ("c", LAST, 1), ("d", FIRST, 2)):
            group.start_soon(call, name, order, guest)
            await anyio.lowlevel.checkpoint()
        await sleep(0.5)
        first = one.first_guest(row)
        assert first is not None
        assert first.guest == 2
        assert row.waiting == 3
        one.send_on(first)
        await anyio.lowlevel.checkpoint()
        second = one.first_guest(row)
        assert second is not None
        assert second.guest == 1
        await sleep(10)
        assert one.first_guest(row) is None
        assert [text for text in told if text != "decided"] == ["a at 0", "d elsewhere", "b at 1", "c at 2"]
        assert "decided" in told
        assert (one.statistics().waiting, one.statistics().in_flight) == (0, 3)
        group.cancel_scope.cancel()


@marked
async def test_a_call_that_is_sent_on_as_it_arrives_does_not_wait(told: list[str]) -> None:
    """A watcher hears of it before it has begun to wait."""
    async with anyio.create_task_group() as group:
        one = Lane("acme", (REQUESTS,))
        row = one.row("m")
        group.start_soon(one.serve)
        await one.admit(row, characters=0, max_tokens=1, order=FIRST)

        def at_once() -> None:
            if (ticket := one.first_guest(row)) is not None:
                one.send_on(ticket)

        one.watchers.append(at_once)
        with anyio.fail_after(0.1), pytest.raises(Elsewhere):
            await one.admit(row, characters=0, max_tokens=1, order=MIDDLE, guest=told)
        await one.admit(row, characters=0, max_tokens=1, order=LAST)
        assert row.waiting == 0
        group.cancel_scope.cancel()


@marked
async def test_a_call_that_leaves_lets_the_next_one_go_in_time(told: list[str]) -> None:
    """The lane's timer is set for who waits then, though a watcher of its own decision changed that."""
    async with anyio.create_task_group() as group:
        one = Lane("acme", (Limit("tokens", 600, burst=100),))
        row = one.row("m")
        group.start_soon(one.serve)
        await one.admit(row, characters=0, max_tokens=100, order=FIRST)

        def third_time() -> None:  # two calls arrived; now it is the lane's own turn
            told.append("decided")
            if len(told) == 3 and (ticket := one.first_guest(row)) is not None:
                one.send_on(ticket)

        async def large() -> None:
            with pytest.raises(Elsewhere):
                await one.admit(row, characters=0, max_tokens=100, order=FIRST, guest=1)

        one.watchers.append(third_time)
        group.start_soon(large)
        with anyio.fail_after(5.0):  # ten tokens come in a second, and a margin is kept before the first reply
            await one.admit(row, characters=0, max_tokens=10, order=LAST)
        group.cancel_scope.cancel()
