"""What headers tell and what refusals show, as tables: whose figure holds, what is frozen, how it goes on."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh.errors import CallFailed
from agentmesh.limits.admission import Admission, Row, Ticket
from agentmesh.limits.gate import Gate
from agentmesh.limits.refused import Blame, blame
from agentmesh.rates import Limit, Told

REQUESTS = Limit("requests", 500)


def flying(*limits: Limit, calls: int = 1, max_tokens: int = 10) -> tuple[Admission, Row, list[Ticket]]:
    """A lane of which so many calls are in flight since the first second."""
    lane = Admission("acme", (), 0.0)
    row = lane.row("m", limits, 0.0)
    for age in range(calls):
        lane.enqueue(row, characters=40, kind="ask", max_tokens=max_tokens, order=(0.0, 0.0, age), now=0.0)
    return lane, row, lane.admit(0.0)[0]


def figures(row: Row) -> dict[str, float]:
    return {gauge.limit.name: gauge.limit.limit for gauge in row.gauges if gauge.scope == "m"}


# --- what headers tell


@pytest.mark.parametrize(
    ("limits", "told", "found"),
    [
        ([REQUESTS], Told("requests", 60.0, 300, None, None), {"requests_per_minute": 300}),
        ([REQUESTS], Told("requests", 60.0, 900, None, None), {"requests_per_minute": 900}),
        ([REQUESTS], Told("requests", 60.0, 503, None, None), {"requests_per_minute": 500}),  # rounded per second
        ([REQUESTS], Told("requests", None, 300, None, None), {"requests_per_minute": 500}),  # of which window?
        ([REQUESTS], Told("requests", None, 500, 3, None), {"requests_per_minute": 500}),
        ([REQUESTS], Told("requests", 60.0, 300, None, None, "priority"), {"requests_per_minute": 500}),
        ([REQUESTS], Told("requests", 60.0, 300, None, None, "project"), {"requests_per_minute": 300}),
        ([REQUESTS], Told("requests", 60.0, None, 100, 1.0), {"requests_per_minute": 500}),
        ([REQUESTS], Told("requests", 86400.0, 9000, 5, None),
         {"requests_per_minute": 500, "requests_per_day": 9000}),
        ([Limit("requests", 500, ceiling=True)], Told("requests", 60.0, 900, None, None), {"requests_per_minute": 500}),
        ([Limit("requests", 500, ceiling=True)], Told("requests", 60.0, 300, None, None), {"requests_per_minute": 300}),
        ([], Told("tokens", 60.0, 6000, 5000, 10.0), {"tokens_per_minute": 6000}),
        ([], Told("tokens", 60.0, None, 5000, 10.0), {}),
        ([], Told("tokens", None, 6000, 5000, 10.0), {}),
    ],
)  # fmt: skip
def test_whose_figure_holds(limits: list[Limit], told: Told, found: dict[str, float]) -> None:
    lane, row, [ticket] = flying(*limits)
    before = {gauge.limit.name: gauge.limit for gauge in row.gauges if gauge.scope == "m"}
    adopted = lane.hear(ticket, [told], now=1.0)
    assert figures(row) == found
    changed = {name for name, figure in found.items() if name not in before or before[name].limit != figure}
    assert {one.limit.name for one in adopted} == changed
    assert all(one.before == before.get(one.limit.name) for one in adopted)
    assert lane.hear(ticket, [told], now=1.0) == []  # said once
    assert {gauge.limit.name for gauge in row.gauges if gauge.told} == changed
    assert set(row.gauges) <= set(lane.gauges)


def test_of_several_limits_of_a_unit_and_window_the_nearest_is_meant() -> None:
    lane = Admission("acme", (Limit("requests", 3000),), 0.0)
    row = lane.row("m", (Limit("requests", 600),), 0.0)
    lane.enqueue(row, characters=4, kind="", max_tokens=1, order=(0.0, 0.0, 0), now=0.0)
    [ticket] = lane.admit(0.0)[0]
    lane.hear(ticket, [Told("requests", 60.0, 500, None, None)], now=1.0)
    lane.hear(ticket, [Told("requests", 60.0, 2500, None, None)], now=1.0)
    found = [gauge.limit.limit for gauge in row.gauges if gauge.limit.unit == "requests"]
    assert found == [2500, 500]


def test_a_burst_grows_and_shrinks_with_the_limit() -> None:
    lane, row, [ticket] = flying(Limit("requests", 600, burst=20))
    lane.hear(ticket, [Told("requests", 60.0, 300, None, None)], now=1.0)
    assert row.gauges[-1].limit.burst == 10
    lane.hear(ticket, [Told("requests", 60.0, 3, None, None)], now=1.0)
    assert row.gauges[-1].limit.burst == 1


def test_what_is_learned_is_as_full_as_it_was_told_and_counts_who_is_in_flight() -> None:
    lane, row, tickets = flying(calls=3, max_tokens=90)
    lane.hear(tickets[0], [Told("tokens", 60.0, 6000, 700.0, 3.0)], now=1.0)  # full 3 s later: a burst of 1,000
    [gauge] = [gauge for gauge in row.gauges if gauge.limit.unit == "tokens"]
    assert gauge.limit.capacity == 1000
    assert gauge.meter.level(1.0) <= 700.0
    assert all(any(hold.gauge is gauge for hold in ticket.held) for ticket in tickets)
    for ticket in tickets:
        lane.settle(ticket, 1.0, input_tokens=10, output_tokens=10)
    assert gauge.meter.level(100.0) == 1000
    assert gauge.doubt == 0.0


@pytest.mark.parametrize("figure", [0.0, -5.0, math.inf, -math.inf, math.nan, 1e-300, 5e-324, 1e13, 1e300])
@pytest.mark.parametrize("known", [True, False])
def test_a_limit_that_nobody_can_mean_is_not_believed(figure: float, known: bool) -> None:
    lane, row, [ticket] = flying(*[REQUESTS] if known else [])
    assert lane.hear(ticket, [Told("requests", 60.0, figure, None, None)], now=1.0) == []
    assert figures(row) == ({"requests_per_minute": 500} if known else {})


absurd = st.one_of(st.none(), st.floats(), st.sampled_from([0.0, -1.0, 1.0, 500.0, 1e12]))


@given(
    st.lists(
        st.builds(
            Told, st.sampled_from(["requests", "tokens", "input_tokens", "output_tokens"]),
            st.sampled_from([None, 1.0, 60.0, 3600.0, 86400.0]), absurd, absurd, absurd,
            st.sampled_from([None, "fast"]),
        ),
        max_size=6,
    )
)  # fmt: skip
def test_garbage_crashes_nothing_and_nobody_waits_for_ever(told: list[Told]) -> None:
    lane, row, tickets = flying(REQUESTS, Limit("tokens", 60_000), calls=3)
    for number, one in enumerate(told):
        lane.hear(tickets[number % 3], [one], now=1.0 + number)
    for ticket in tickets:
        lane.settle(ticket, 20.0, input_tokens=10, output_tokens=5)
    try:
        lane.enqueue(row, characters=4, kind="ask", max_tokens=1, order=(0.0, 0.0, 9), now=20.0)
    except CallFailed:  # of one token a second: then it was said at once
        assert lane.waiting == 0
        return
    now = 20.0
    for _ in range(50):
        admitted, wait = lane.admit(now)
        if admitted:
            break
        assert 0.0 < wait < math.inf
        now += wait
    assert admitted
    lane.cancel(admitted[0], now)
    assert (lane.in_flight, lane.waiting) == (0, 0)


# --- what a refusal shows


@pytest.mark.parametrize(
    ("limits", "calls", "wait", "unit", "times", "found"),
    [
        # unit, too many at once, learns a pace, seconds to freeze
        ([REQUESTS], 1, 3.0, None, 1, Blame(None, False, False, 3.0)),
        ([REQUESTS], 1, None, None, 1, Blame(None, False, False, 1.0)),
        ([REQUESTS], 1, None, None, 3, Blame(None, True, False, 4.0)),
        ([REQUESTS], 1, None, None, 99, Blame(None, True, False, 30.0)),
        ([REQUESTS], 1, 5.0, "tokens", 1, Blame("tokens", False, False, 5.0)),
        ([REQUESTS], 4, None, "in_flight", 1, Blame("in_flight", True, False, None)),  # until one of them ends
        ([REQUESTS], 4, 2.0, "in_flight", 1, Blame("in_flight", True, False, None)),
        ([REQUESTS], 1, None, "in_flight", 1, Blame("in_flight", True, False, 1.0)),  # alone: others were there
        ([REQUESTS, Limit("in_flight", 9)], 4, None, "in_flight", 1, Blame("in_flight", True, False, 1.0)),
        ([], 2, None, None, 1, Blame(None, True, True, None)),  # what is learned says when
        ([], 2, 7.0, None, 1, Blame(None, True, True, 7.0)),
        ([], 2, None, "requests", 1, Blame("requests", False, True, None)),
        ([], 2, None, "in_flight", 1, Blame("in_flight", True, False, None)),
    ],
)
def test_blame(limits: list[Limit], calls: int, wait: float | None, unit: str | None, times: int, found: Blame) -> None:
    _, _, tickets = flying(*limits, calls=calls)
    assert len(tickets) == calls
    assert blame(tickets[0], wait, unit=unit, times=times) == found


def test_what_headers_show_beside_a_refusal_is_blamed() -> None:
    lane, _, tickets = flying(REQUESTS, Limit("tokens", 60_000), calls=2)
    lane.hear(tickets[0], [Told("requests", 60.0, 500, 400, None), Told("tokens", 60.0, 60_000, 3, None)], now=0.1)
    assert blame(tickets[0], 1.0, unit=None, times=1).unit == "tokens"
    lane.hear(tickets[1], [Told("requests", 60.0, 500, 400, None), Told("tokens", 60.0, 60_000, 9000, None)], now=0.1)
    assert blame(tickets[1], None, unit=None, times=1) == Blame("in_flight", True, False, None)


# --- the gate


def gate(*, in_flight: int = 8, ramps: bool = True, answer_s: float = 0.25) -> Gate:
    one = Gate()
    one.note_refusal(answer_s)
    one.freeze(10.0, in_flight=in_flight, ramps=ramps)
    return one


def passes(one: Gate, ticket: Ticket, now: float) -> bool:
    """As a row does it: the gate is asked, and asked again when it has opened."""
    if one.wait(now) > 0.0:
        return False
    one.open(now)
    if one.wait(now) > 0.0:
        return False
    ticket.sent_at = now
    one.passed(ticket)
    return True


def test_nothing_passes_a_frozen_gate_then_one_then_twice_as_many_each_time_a_refusal_takes() -> None:
    one = gate()
    _, _, tickets = flying(calls=4)
    ticket = tickets[0]
    assert one.wait(4.0) == pytest.approx(6.0)
    assert not passes(one, ticket, 9.99)
    assert passes(one, ticket, 10.0)
    assert one.wait(10.0) == pytest.approx(0.5)  # twice what a refusal takes
    one.ended(ticket, 10.1, ok=True)
    went = []
    for tick in range(200):
        now = 10.1 + tick / 100
        while passes(one, tickets[1], now):
            went.append(round(now - 10.1, 2))
            if len(went) > 20:
                break
    assert went[:7] == pytest.approx([0.0, 0.5, 0.8, 1.0, 1.17, 1.3, 1.41], abs=0.02)
    assert went[8] == went[20]  # as many as were in flight before, and it is open


def test_a_gate_whose_calls_a_bucket_paces_is_open_after_the_probe() -> None:
    one = gate(ramps=False)
    _, _, (probe, other, *_) = flying(calls=4)
    assert passes(one, probe, 10.0)
    assert not passes(one, other, 10.4)
    assert passes(one, other, 10.5)  # no refusal came in the time that one takes
    assert [one.wait(10.5), one.wait(0.0)] == [0.0, 0.0]


def test_a_probe_that_says_nothing_hands_on_and_one_that_is_refused_freezes_again() -> None:
    one = gate()
    _, _, (probe, other, *_) = flying(calls=4)
    assert passes(one, probe, 10.0)
    one.ended(probe, 10.1, ok=False)
    assert passes(one, other, 10.1)
    assert not passes(one, probe, 10.2)
    one.freeze(20.0, in_flight=1, ramps=True)
    one.freeze(15.0, in_flight=1, ramps=True)  # a shorter one does not end a longer one
    assert one.wait(11.0) == pytest.approx(9.0)
    one.ended(other, 11.0, ok=True)  # it was sent before
    assert not passes(one, probe, 19.9)
    assert passes(one, probe, 20.0)


def test_a_clock_that_jumps_over_a_freeze_lets_one_probe_go() -> None:
    one = gate()
    _, _, (probe, other, *_) = flying(calls=4)
    assert passes(one, probe, 9 * 3600.0)
    assert not passes(one, other, 9 * 3600.0)
