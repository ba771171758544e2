"""For how long calls were held back, and by what."""

from __future__ import annotations

import math
from dataclasses import asdict

import pytest

from agentmesh.limits.admission import Admission, Row, Ticket
from agentmesh.limits.ledger import Outputs, Recent, Spans
from agentmesh.limits.statistics import LaneStatistics
from agentmesh.rates import Limit, Told


def enqueue(lane: Admission, row: Row, age: int, now: float = 0.0) -> Ticket:
    return lane.enqueue(row, characters=40, kind="k", max_tokens=None, order=(0.0, 0.0, age), now=now)


def shares(statistics: LaneStatistics) -> dict[str, float]:
    return {one.by: one.share for one in statistics.bounds}


def test_spans_add_up_and_an_open_one_counts_until_now() -> None:
    spans = Spans()
    for what, at in (("a", 1.0), ("a", 2.0), ("b", 3.0), (None, 4.0), ("a", 10.0)):
        spans.note(what, at)
    assert [spans.of("a", 12.0), spans.of("b", 12.0), spans.of("c", 12.0)] == [4.0, 1.0, 0.0]
    assert spans.of("a", 5.0) == 2.0, "a clock that went back takes nothing away"


def test_recent_units_are_those_of_ten_seconds() -> None:
    recent = Recent()
    for second in range(30):
        recent.add(2.0, float(second))
    assert recent.units(29.5) == 20.0
    assert recent.units(60.0) == 0.0
    assert [Recent.span(0.2), Recent.span(4.0), Recent.span(99.0)] == [1.0, 4.0, 10.0]


def test_the_time_is_shared_out_between_a_limit_and_the_answers_that_nobody_waits_behind() -> None:
    lane = Admission("acme", [Limit("requests", 60, burst=1)], 0.0)
    row = lane.row("m", (), 0.0)
    tickets = [enqueue(lane, row, age) for age in range(4)]
    now = 0.0
    while row.waiting:
        _, wait = lane.admit(now)
        now += 0.0 if wait == math.inf else wait
    lane.admit(now)
    ended = now + 6.0
    for ticket in tickets:
        lane.settle(ticket, ended, input_tokens=10, output_tokens=5)
    lane.admit(ended)
    told = lane.statistics(ended + 100.0)
    assert told.active_s == pytest.approx(ended)
    assert shares(told) == pytest.approx({"latency": 6.0 / ended, "requests_per_minute": now / ended})
    assert told.bounded_by == "acme requests_per_minute"
    assert told.bounded_share == pytest.approx(now / ended)


def test_a_freeze_and_the_careful_start_after_it_are_counted_apart_from_limits() -> None:
    lane = Admission("acme", [Limit("requests", 6000, burst=100)], 0.0)
    row = lane.row("m", (), 0.0)
    first, second = (enqueue(lane, row, age) for age in range(2))
    lane.admit(0.0)
    lane.push_back(first, 5.0, 0.5)
    lane.put_back(first, 0.5)
    lane.admit(0.5)
    assert lane.statistics(3.0).thaws_s == pytest.approx(2.5)
    lane.settle(second, 1.0)
    lane.admit(1.0)
    lane.admit(5.5)
    lane.admit(5.8)  # the bucket was believed to be empty at the thaw
    lane.settle(first, 6.0)
    lane.admit(6.0)
    told = lane.statistics(9.0)
    assert told.thaws_s is None
    assert [told.frozen_s, told.active_s] == pytest.approx([5.0, 6.0])
    assert told.endpoints[0].frozen_s == pytest.approx(5.0)
    assert told.bounded_by == "push_backs"
    assert shares(told)["push_backs"] == pytest.approx(5.0 / 6.0)


def test_what_was_learned_is_a_limit_like_others_and_says_that_it_was_learned() -> None:
    lane = Admission("acme", [], 0.0)
    row = lane.row("m", (), 0.0)
    tickets = [enqueue(lane, row, age) for age in range(12)]
    lane.admit(0.0)
    told = lane.statistics(0.0)
    assert [(one.name, one.scope, one.source, one.limit) for one in told.limits] == [
        ("in_flight", "acme", "own", 500), ("in_flight", "m", "learned", 4),
    ]  # fmt: skip
    assert (told.endpoints[0].waiting, told.endpoints[0].next_s) == (8, None), "it goes when another one ends"
    assert all(math.isfinite(one) for one in asdict(told.limits[1]).values() if isinstance(one, float))
    lane.push_back(tickets[0], None, 0.5, unit="requests")
    lane.admit(2.0)
    told = lane.statistics(2.0)
    learned = {one.name: one for one in told.limits if one.source == "learned"}
    assert set(learned) == {"in_flight", "requests_per_second"}
    assert learned["in_flight"].bound_s > 0
    assert told.bounded_by == "m in_flight"


def test_what_an_answer_told_is_marked_as_told() -> None:
    lane = Admission("acme", [Limit("requests", 500)], 0.0)
    row = lane.row("m", (), 0.0)
    ticket = enqueue(lane, row, 0)
    lane.admit(0.0)
    lane.hear(ticket, [Told("requests", 60.0, 300.0, 299.0, None), Told("tokens", 60.0, 9e4, 9e4, None)], now=0.5)
    found = {one.name: (one.source, one.limit) for one in lane.statistics(1.0).limits}
    assert found["requests_per_minute"] == ("told", 300.0)
    assert found["tokens_per_minute"] == ("told", 9e4)


def test_kinds_of_calls_are_not_told_apart_without_end() -> None:
    outputs = Outputs()
    for number in range(1000):
        outputs.note(f"kind{number}", max_tokens=100, input_tokens=10, output_tokens=number % 7)
    assert len(outputs.calls) <= 65
    assert sum(calls for calls, _, _ in outputs.calls.values()) == 1000
