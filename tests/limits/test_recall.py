"""A lane goes on where another one ended: what was used, told, learned and frozen survives its process."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from agentmesh.limits.admission import Admission, Row, Ticket
from agentmesh.limits.memory import LaneMemory, dump_memory, parse_memory
from agentmesh.limits.recall import recall_limits, recall_model, remember
from agentmesh.rates import Limit, Told

WALL = 1_935_000_000.0
MINUTE = Limit("requests", 60, shape="sliding")
DAY = Limit("requests", 100, 86400.0)
BURST = Limit("tokens", 6000, burst=1000)
IN_FLIGHT = Limit("in_flight", 50)


def lane(
    *limits: Limit, known: LaneMemory | None = None, now: float = 0.0, wall: float = WALL, told_sent: bool = False,
    model_limits: Sequence[Limit] = (),
) -> tuple[Admission, Row]:  # fmt: skip
    """A lane with one row, as `Lane` makes it."""
    memory = known or LaneMemory()
    admission = Admission("acme", limits, now, told_sent=told_sent)
    recall_limits(memory, admission.gauges, now=now, wall=wall)
    before = len(admission.gauges)
    row = admission.row("large", model_limits, now)
    recall_limits(memory, admission.gauges[before:], now=now, wall=wall)
    admission.gauges += recall_model(memory, row, begun=not told_sent, now=now, wall=wall)
    return admission, row


def kept(admission: Admission, now: float, wall: float = WALL) -> LaneMemory:
    """What another process reads."""
    memory = remember(admission.gauges, admission.rows.values(), now=now, wall=wall)
    return parse_memory(dump_memory(memory))


def ask(admission: Admission, row: Row, calls: int, now: float) -> list[Ticket]:
    """Those of so many more calls that go now."""
    for age in range(calls):
        admission.enqueue(row, characters=400, kind="ask", max_tokens=100, order=(0.0, 0.0, age), now=now)
    return admission.admit(now)[0]


def levels(admission: Admission, now: float) -> dict[str, float]:
    return {gauge.limit.name: gauge.meter.level(now) for gauge in admission.gauges if gauge.limit.unit != "in_flight"}


@pytest.mark.parametrize("told_sent", [False, True])
def test_what_was_used_is_used(told_sent: bool) -> None:
    """Monotonic clocks of two processes have nothing to do with each other; wall time passes between them."""
    first, row = lane(MINUTE, DAY, BURST)
    ask(first, row, 4, 0.0)
    before = levels(first, 1.0)
    second, row = lane(MINUTE, DAY, BURST, known=kept(first, 1.0), now=5000.0, wall=WALL + 3, told_sent=told_sent)
    expected = {**before, "tokens_per_minute": before["tokens_per_minute"] + 300}
    assert levels(second, 5000.0) == pytest.approx(expected)
    assert levels(second, 5070.0) == {"requests_per_minute": 60, "requests_per_day": 96, "tokens_per_minute": 1000}


def test_what_was_used_is_used_still_when_limits_count_from_the_first_call_sent() -> None:
    first, row = lane(MINUTE)
    assert len(ask(first, row, 99, 0.0)) == 60
    second, row = lane(MINUTE, known=kept(first, 10.0), now=0.0, told_sent=True)
    assert ask(second, row, 99, 0.0) == []
    assert ask(second, row, 0, 49.0) == []
    one, *_ = went = ask(second, row, 0, 52.0)
    second.sent(one, 52.3)
    assert len(went) == 60
    assert levels(second, 52.3) == {"requests_per_minute": 0}
    (use,) = [limit.use for limit in second.statistics(60.0).limits if limit.name == "requests_per_minute"]
    assert use is not None
    assert 0.9 < use <= 1.0


@pytest.mark.parametrize("shape", ["bucket", "sliding"])
def test_the_share_used_counts_what_an_earlier_process_left_over(shape: str) -> None:
    limit = Limit("requests", 60, shape="sliding") if shape == "sliding" else Limit("requests", 60, burst=60)
    first, row = lane(limit)
    ask(first, row, 45, 0.0)
    second, row = lane(limit, known=kept(first, 0.0))
    ask(second, row, 200, 0.0)
    for second_ in range(1, 50):
        second.admit(float(second_))
    (use,) = [found.use for found in second.statistics(50.0).limits if found.name == "requests_per_minute"]
    assert use == pytest.approx(1.0, abs=0.05)


def test_a_lane_that_was_not_asked_takes_nothing_from_what_others_wrote() -> None:
    first, row = lane(MINUTE)
    ask(first, row, 5, 0.0)
    second, _ = lane(MINUTE, known=kept(first, 0.0))
    assert kept(second, 9.0) == LaneMemory()


def test_a_limit_that_was_changed_begins_anew_and_others_do_not() -> None:
    first, row = lane(MINUTE, DAY)
    ask(first, row, 5, 0.0)
    second, _ = lane(Limit("requests", 90, shape="sliding"), DAY, known=kept(first, 0.0))
    assert levels(second, 0.0) == {"requests_per_minute": 90, "requests_per_day": 95}


def test_the_providers_own_figure_holds_from_the_first_call_on() -> None:
    file = Limit("requests", 500, burst=10)
    first, row = lane(file)
    (ticket,) = ask(first, row, 1, 0.0)
    first.hear(ticket, [Told("requests", 60.0, 300.0, 4.0, None)], now=1.0)
    memory = kept(first, 1.0)
    second, _ = lane(file, known=memory)
    assert [(gauge.limit.limit, gauge.limit.burst, gauge.told) for gauge in second.gauges[:1]] == [(300, 6, True)]
    assert levels(second, 0.0) == levels(first, 1.0)
    assert kept(lane(Limit("requests", 600, burst=10), known=memory)[0], 0.0) == LaneMemory()
    third, row = lane(file, known=memory)
    ask(third, row, 1, 0.0)
    assert kept(third, 1.0).limits["acme/requests_per_minute"].told == second.gauges[0].limit


def test_limits_that_no_file_has_are_known_from_the_first_call_on() -> None:
    first, row = lane(IN_FLIGHT)
    (ticket,) = ask(first, row, 1, 0.0)
    first.hear(ticket, [Told("requests", 60.0, 300.0, 4.0, 0.2)], now=1.0)
    first.settle(ticket, 1.0, input_tokens=100, output_tokens=50)
    assert "requests_per_minute" in levels(first, 1.0)
    memory = kept(first, 1.0)
    second, row = lane(IN_FLIGHT, known=memory)
    assert row.rates_known
    assert row.gauges[-1] is second.gauges[-1]
    assert levels(second, 0.0) == levels(first, 1.0)
    assert [limit.source for limit in second.statistics(0.0).limits] == ["file", "told"]
    ask(second, row, 1, 0.0)
    assert kept(second, 0.0).told("large")
    for where in ({"model_limits": [MINUTE]}, {}):  # a file that has it now says something new
        third, _ = lane(IN_FLIGHT, *([] if where else [MINUTE]), known=memory, **where)  # type: ignore[arg-type]
        assert levels(third, 0.0) == {"requests_per_minute": 60}


def test_what_was_learned_in_place_of_limits_goes_on() -> None:
    first, row = lane()
    tickets = ask(first, row, 4, 0.0)
    for ticket in tickets[:3]:
        first.settle(ticket, 1.0, input_tokens=200, output_tokens=60)
    first.push_back(tickets[3], None, 1.0)
    assert row.pace is not None
    _, found = lane(known=kept(first, 1.0))
    assert found.pace is not None
    assert found.pace.rate == pytest.approx(row.pace.rate, rel=0.1)
    assert found.window is not None
    assert row.window is not None
    assert found.window.limit == row.window.limit
    assert found.estimate.state() == row.estimate.state()
    _, paced = lane(MINUTE, known=kept(first, 1.0))  # now the file knows better
    assert paced.pace is None
    assert paced.estimate.state() == row.estimate.state()


def test_a_freeze_outlasts_the_process() -> None:
    first, row = lane(MINUTE)
    first.push_back(ask(first, row, 1, 0.0)[0], 40.0, 1.0)
    second, row = lane(MINUTE, known=kept(first, 11.0), now=7.0, wall=WALL + 5)
    assert row.gate.wait(7.0) == pytest.approx(25.0)
    assert ask(second, row, 3, 31.9) == []
    assert len(ask(second, row, 0, 32.1)) == 1  # a probe
    third, row = lane(MINUTE, known=kept(first, 11.0), wall=WALL + 60)
    assert len(ask(third, row, 3, 0.0)) == 3


def test_slots_are_free_again() -> None:
    first, row = lane(IN_FLIGHT)
    ask(first, row, 50, 0.0)
    second, row = lane(IN_FLIGHT, known=kept(first, 0.0))
    assert len(ask(second, row, 60, 0.0)) == 50
    assert math.isinf(second.admit(0.0)[1])
