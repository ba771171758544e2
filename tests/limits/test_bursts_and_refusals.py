"""How a burst begins before anything was sent, and what one refusal teaches."""

from __future__ import annotations

import math

import pytest

from agentmesh.limits.admission import Admission, Row, Ticket
from agentmesh.rates import Limit

REQUESTS = Limit("requests", 6000)  # 100 a second, 100 at once
TOKENS = Limit("tokens", 600_000)  # 10,000 a second, 100,000 at once


def lane(*limits: Limit, waiting: int = 200, told_sent: bool = False) -> tuple[Admission, Row]:
    admission = Admission("acme", limits, 0.0, told_sent=told_sent)
    row = admission.row("large", (), 0.0)
    for age in range(waiting):
        admission.enqueue(row, characters=400, kind="ask", max_tokens=None, order=(0.0, 0.0, age), now=0.0)
    return admission, row


def admitted(admission: Admission, now: float) -> list[Ticket]:
    return admission.admit(now)[0]


def refuse(admission: Admission, ticket: Ticket, wait: float, now: float, unit: str | None = None) -> None:
    admission.push_back(ticket, wait, now, unit=unit)
    admission.put_back(ticket, now)


def used_up(admission: Admission) -> Ticket:
    """All that goes at once has gone, and one more: returns that one."""
    *_, last = admitted(admission, 0.0)
    return last


def test_no_time_passes_for_limits_before_the_first_call_is_sent() -> None:
    admission, _ = lane(REQUESTS, told_sent=True)
    first, *others = admitted(admission, 0.0)
    assert 50 <= 1 + len(others) <= 60  # what is kept spare at the start is not lost, but comes later
    assert admitted(admission, 0.3) == []
    admission.sent(first, 0.3)
    assert len(admitted(admission, 0.4)) in (11, 12)  # ten came back, and the start has passed a little
    later = 1 + len(others) + 12
    assert later + sum(len(admitted(admission, 0.4 + k / 100)) for k in range(190)) == 200


def test_a_lane_that_is_told_nothing_counts_from_admission() -> None:
    admission, _ = lane(REQUESTS)
    assert len(admitted(admission, 0.0)) == 95
    assert len(admitted(admission, 0.3)) == 30


@pytest.mark.parametrize("ok", [True, False])
def test_an_answer_means_that_the_provider_counts(ok: bool) -> None:
    admission, _ = lane(REQUESTS, told_sent=True)
    first, *_ = admitted(admission, 0.0)
    admission.settle(first, 0.3, outcome="success" if ok else "ignored")
    assert len(admitted(admission, 0.5)) >= 20


def test_a_probe_is_through_when_no_refusal_came_in_the_time_that_one_takes() -> None:
    admission, _ = lane(REQUESTS)
    last = used_up(admission)
    refuse(admission, last, 0.5, now=0.2)  # the refusal took 0.2 s
    (probe,), wait = admission.admit(0.8)  # when it fits, with what is kept spare
    assert probe is last
    assert wait == pytest.approx(0.4)
    nobody, wait = admission.admit(1.1)
    assert not nobody
    assert wait == pytest.approx(0.1)
    assert len(admitted(admission, 1.21)) > 30


def test_a_probe_that_succeeds_opens_the_row_at_once() -> None:
    admission, _ = lane(REQUESTS)
    refuse(admission, used_up(admission), 0.5, now=0.2)
    (probe,) = admitted(admission, 0.8)
    admission.settle(probe, 0.82)
    assert len(admitted(admission, 1.0)) > 10


def test_a_probe_that_is_refused_freezes_again() -> None:
    admission, _ = lane(REQUESTS)
    refuse(admission, used_up(admission), 0.5, now=0.2)
    (probe,) = admitted(admission, 0.8)
    refuse(admission, probe, 2.0, now=0.85)
    nobody, wait = admission.admit(1.0)
    assert not nobody
    assert wait == pytest.approx(1.85)
    assert admitted(admission, 2.95) == [probe]


def test_a_call_may_be_refused_thousands_of_times() -> None:
    admission, _ = lane(REQUESTS)
    assert admission.push_back(used_up(admission), None, 0.2, times=5000).seconds == 30.0


@pytest.mark.parametrize(("unit", "left"), [("requests", True), ("tokens", False), (None, False)])
def test_only_the_limit_that_the_provider_named_is_believed_to_be_used_up(unit: str | None, left: bool) -> None:
    admission, row = lane(REQUESTS, TOKENS)
    last = used_up(admission)
    refuse(admission, last, 0.1, now=0.05, unit=unit)
    tokens = next(gauge for gauge in row.gauges if gauge.limit.unit == "tokens")
    assert (tokens.meter.level(0.05) > 50_000) is left


def test_calls_that_were_in_flight_together_teach_the_guard_once() -> None:
    admission, _ = lane(REQUESTS, waiting=300)
    *_, second, third = admitted(admission, 0.0)
    refuse(admission, second, 0.1, now=0.05, unit="requests")
    refuse(admission, third, 0.1, now=0.05, unit="requests")
    (probe,) = admitted(admission, 0.25)
    admission.settle(probe, 0.3)
    assert len(admitted(admission, 20.0)) == math.floor(100 - 100 * 0.05 * 1.25)


def test_calls_that_wait_are_expected_to_be_as_long_as_the_replies_that_came_meanwhile() -> None:
    admission, row = lane(Limit("tokens", 60_000), waiting=100)  # 10,000 at once, 1,000 a second
    going = admitted(admission, 0.0)
    assert len(going) == 16  # 100 tokens each, a reply that is guessed to be long, and what all may differ by
    for ticket in going:
        admission.settle(ticket, 0.0, input_tokens=100, output_tokens=10)
    assert len(admitted(admission, 0.0)) > 60
    assert row.waiting
