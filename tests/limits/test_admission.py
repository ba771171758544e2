"""Who goes when, as tables: order, independence, what calls hold and give back, push-backs, what the lane tells."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from agentmesh.errors import CallFailed
from agentmesh.limits.admission import IN_FLIGHT, Admission, Row, Ticket
from agentmesh.limits.estimate import TokenEstimate
from agentmesh.rates import Limit, Shape

ONE_EACH_SECOND = Limit("requests", 60)
HUNDRED = Limit("requests", 6000)


def admission(*account: Limit) -> Admission:
    return Admission("acme", account, 0.0)


def enqueue(
    lane: Admission, row: Row, age: int = 0, *, priority: float = 0.0, path: float = 0.0, characters: int = 40,
    max_tokens: int | None = 10, now: float = 0.0,
) -> Ticket:  # fmt: skip
    return lane.enqueue(
        row, characters=characters, kind="ask", max_tokens=max_tokens, order=(-priority, -path, age), now=now
    )


def go(lane: Admission, now: float) -> list[Ticket]:
    return lane.admit(now)[0]


def order(ticket: Ticket) -> tuple[float, float, int]:
    return ticket.order


# --- order


def test_priority_then_path_then_age_then_who_came_first() -> None:
    lane = admission(ONE_EACH_SECOND)
    row = lane.row("m", (), 0.0)
    wanted = [(2, 0, 5), (1, 3, 9), (1, 0, 1), (0, 7, 8), (0, 0, 2), (0, 0, 2), (0, 0, 3)]
    tickets = {}
    for number in (6, 3, 4, 1, 5, 0, 2):  # 4 and 5 are alike, 4 comes first
        priority, path, age = wanted[number]
        tickets[enqueue(lane, row, age, priority=priority, path=path)] = number
    went = [tickets[ticket] for second in range(9) for ticket in go(lane, second * 1.1)]
    assert went == [0, 1, 2, 3, 4, 5, 6]


def test_heads_of_rows_that_share_a_limit_go_in_their_common_order() -> None:
    lane = admission(ONE_EACH_SECOND)
    a, b = lane.row("a", (), 0.0), lane.row("b", (), 0.0)
    for age in range(6):
        enqueue(lane, a if age % 2 else b, age)
    assert [order(ticket)[2] for second in range(7) for ticket in go(lane, second * 1.1)] == list(range(6))


def test_rows_that_share_nothing_do_not_wait_for_each_other() -> None:
    lane = admission(Limit("in_flight", 100))
    slow, fast = lane.row("slow", (ONE_EACH_SECOND,), 0.0), lane.row("fast", (HUNDRED,), 0.0)
    for age in range(20):
        enqueue(lane, slow, age, priority=1)
        enqueue(lane, fast, age)
    went = go(lane, 0.0)
    assert [ticket.row.model for ticket in went].count("fast") == 20
    assert [ticket.row.model for ticket in went].count("slow") == 1


def test_a_long_prompt_is_not_starved_by_short_ones_of_any_row() -> None:
    """It claims the tokens it waits for: what comes after it takes no more than half a second of them."""
    lane = admission(Limit("tokens", 6000, burst=1000))
    long, short = lane.row("long", (), 0.0), lane.row("short", (), 0.0)
    enqueue(lane, short, 0, characters=3200, max_tokens=10)
    go(lane, 0.0)
    big = enqueue(lane, long, 1, characters=3200, max_tokens=100)
    for age in range(2, 50):
        enqueue(lane, short, age, characters=40, max_tokens=10)
    assert len(go(lane, 1.0)) == 2  # of 20 tokens each
    passed, wait = lane.admit(2.0)
    assert passed == []
    went = go(lane, 2.0 + wait)
    assert went[0] is big


def test_what_a_head_claims_blocks_only_who_touches_it() -> None:
    lane = admission(Limit("in_flight", 10))
    pool = (Limit("requests", 60),)
    a = lane.row("a", (), 0.0, pool="p", pool_limits=pool)
    b = lane.row("b", (), 0.0, pool="p", pool_limits=pool)
    c = lane.row("c", (), 0.0)
    for age, row in enumerate([a, a, b, c]):
        enqueue(lane, row, age)
    assert [ticket.row.model for ticket in go(lane, 0.0)] == ["a", "c"]
    assert [ticket.row.model for ticket in go(lane, 1.1)] == ["a"]
    assert [ticket.row.model for ticket in go(lane, 2.2)] == ["b"]


def test_a_row_of_a_known_name_is_the_same_row() -> None:
    lane = admission()
    assert lane.row("m", (HUNDRED,), 0.0) is lane.row("m", (), 1.0)


# --- what is held and given back


def levels(row: Row, now: float) -> list[float]:
    return [gauge.meter.level(now) for gauge in row.gauges if gauge.limit != Limit("in_flight", IN_FLIGHT)]


FULL = (Limit("requests", 600), Limit("tokens", 6000), Limit("input_tokens", 6000, shape="sliding"))
LIMITS = (*FULL, Limit("output_tokens", 6000, shape="fixed"), Limit("in_flight", 5))


def test_a_cancelled_call_leaves_nothing_behind_waiting_or_admitted() -> None:
    lane = admission(*LIMITS)
    row = lane.row("m", (), 0.0)
    before = levels(row, 0.0)
    tickets = [enqueue(lane, row, age) for age in range(20)]
    assert len(go(lane, 0.0)) == 5
    assert levels(row, 0.0) != before
    for ticket in tickets:
        lane.cancel(ticket, 0.0)
        lane.cancel(ticket, 0.0)
    assert levels(row, 0.0) == pytest.approx(before)
    assert (lane.in_flight, lane.waiting, row.waiting, row.in_flight) == (0, 0, 0, 0)
    assert all(gauge.doubt == pytest.approx(0.0, abs=1e-9) for gauge in row.gauges)
    assert lane.admit(0.0) == ([], math.inf)


@pytest.mark.parametrize("first", ["settle", "cancel", "push_back"])
@pytest.mark.parametrize("second", ["settle", "cancel", "push_back"])
def test_a_ticket_ends_once(first: str, second: str) -> None:
    lane = admission(*LIMITS)
    row = lane.row("m", (), 0.0)
    ticket, other = enqueue(lane, row), enqueue(lane, row, 1)
    go(lane, 0.0)
    end: dict[str, Callable[[], object]] = {
        "settle": lambda: lane.settle(ticket, 0.0, input_tokens=10, output_tokens=5),
        "cancel": lambda: lane.cancel(ticket, 0.0),
        "push_back": lambda: lane.push_back(ticket, 1.0, 0.0),
    }
    end[first]()
    after, pushed_back = levels(row, 0.0), row.pushed_back
    end[second]()
    assert levels(row, 0.0) == after
    assert (lane.in_flight, row.in_flight, row.pushed_back) == (1, 1, pushed_back)
    lane.settle(other, 0.0)
    assert lane.in_flight == 0


@pytest.mark.parametrize(
    ("limit", "left"),
    [
        (Limit("tokens", 6000), 1000 - 15),
        (Limit("tokens", 6000, reserves="max"), 1000 - 15),
        (Limit("tokens", 6000, settles="reserved"), 1000 - 110),
        (Limit("tokens", 6000, reserves="max", settles="reserved"), 1000 - 100),
        (Limit("tokens", 6000, reserves="input", settles="reserved"), 1000 - 10),
        (Limit("tokens", 6000, reserves="nothing"), 1000 - 15),
        (Limit("input_tokens", 6000), 1000 - 10),
        (Limit("output_tokens", 6000), 1000 - 5),
        (Limit("requests", 6000), 99),
        (Limit("in_flight", 5), 5),
    ],
)
def test_what_is_counted_in_the_end(limit: Limit, left: float) -> None:
    lane = admission(limit)
    ticket = enqueue(lane, lane.row("m", (), 0.0), max_tokens=100)
    assert go(lane, 0.0) == [ticket]
    lane.settle(ticket, 0.0, input_tokens=10, output_tokens=5)
    assert levels(ticket.row, 0.0) == pytest.approx([left])


def test_a_call_without_a_known_use_keeps_what_it_reserved() -> None:
    lane = admission(Limit("tokens", 6000))
    ticket = enqueue(lane, lane.row("m", (), 0.0), max_tokens=100)
    go(lane, 0.0)
    lane.settle(ticket, 0.0, outcome="ignored")
    assert levels(ticket.row, 0.0) == pytest.approx([1000 - 110])


def test_what_the_provider_counts_at_the_end_is_missing_at_the_end() -> None:
    """A bucket that filled up meanwhile has not been filled twice."""
    lane = admission(Limit("output_tokens", 6000))
    ticket = enqueue(lane, lane.row("m", (), 0.0), max_tokens=300)
    go(lane, 0.0)
    assert levels(ticket.row, 60.0) == [1000]
    lane.settle(ticket, 60.0, input_tokens=10, output_tokens=200)
    assert levels(ticket.row, 60.0) == [800]


@pytest.mark.parametrize("how", ["settle", "cancel", "push_back"])
def test_a_window_gives_back_what_the_call_itself_had_taken(how: str) -> None:
    lane = admission(Limit("tokens", 6000, shape="sliding"))
    row = lane.row("m", (), 0.0)
    tickets = [enqueue(lane, row, 0, max_tokens=90), enqueue(lane, row, 1, max_tokens=190)]
    assert len(go(lane, 0.0)) == 2
    late = enqueue(lane, row, 2, max_tokens=290, now=50.0)
    go(lane, 50.0)
    if how == "settle":
        lane.settle(late, 51.0, input_tokens=10, output_tokens=0)
    elif how == "cancel":
        lane.cancel(late, 51.0)
    else:
        lane.push_back(late, 1.0, 51.0)
    left = 10 if how == "settle" else 0
    assert levels(row, 51.0) == [6000 - 300 - left]
    assert levels(row, 60.1) == [6000 - left]
    for ticket in tickets:
        lane.settle(ticket, 61.0, input_tokens=10, output_tokens=0)
    assert levels(row, 61.0) == [6000 - left]


# --- calls that are too large


@pytest.mark.parametrize(
    ("limit", "characters", "fits"),
    [
        (Limit("tokens", 600), 2000, True),  # 500 and 100 to answer: above the burst, but not above the limit
        (Limit("tokens", 600), 2004, False),
        (Limit("tokens", 600, debt=False), 2000, False),
        (Limit("tokens", 600, burst=600, debt=False), 2000, True),
        (Limit("tokens", 600, shape="fixed"), 2004, False),
        (Limit("tokens", 600, shape="sliding", debt=False, burst=1), 2004, False),
    ],
)
def test_what_can_never_be_admitted_is_refused_at_once(limit: Limit, characters: int, fits: bool) -> None:
    lane = admission(limit)
    row = lane.row("m", (), 0.0)
    if fits:
        ticket = enqueue(lane, row, characters=characters, max_tokens=100)
        assert go(lane, 0.0) == [ticket]
        return
    with pytest.raises(CallFailed, match=r"needs about 60. tokens, and acme allows .* \(tokens_per_minute\)") as raised:
        enqueue(lane, row, characters=characters, max_tokens=100)
    assert raised.value.error.kind == "bad_request"
    assert (lane.waiting, row.waiting) == (0, 0)


@pytest.mark.parametrize("shape", ["bucket", "fixed", "sliding"])
def test_an_estimate_above_the_limit_does_not_wait_for_ever(shape: Shape) -> None:
    """Nobody said how long the answer may be: what was learned is expected, and never more than can be had."""
    lane = admission(Limit("tokens", 600, shape=shape), Limit("output_tokens", 300, shape=shape, debt=False))
    row = lane.row("m", (), 0.0)
    ticket = enqueue(lane, row, characters=2000, max_tokens=None)
    assert go(lane, 0.0) == [ticket]


# --- push-backs


def test_a_push_back_freezes_what_shares_a_limit_and_the_call_goes_first_again() -> None:
    lane = admission(Limit("in_flight", 10))
    pool = (HUNDRED,)
    a = lane.row("a", (), 0.0, pool="p", pool_limits=pool)
    b = lane.row("b", (), 0.0, pool="p", pool_limits=pool)
    c = lane.row("c", (HUNDRED,), 0.0)
    first = enqueue(lane, a, 0)
    go(lane, 0.0)
    assert lane.push_back(first, 3.0, 0.1).models == ("a", "b")
    lane.put_back(first, 0.1)
    others = [enqueue(lane, row, age) for age, row in enumerate([c, b, a], 1)]
    assert go(lane, 1.0) == [others[0]]
    assert lane.statistics(1.0).thaws_s == pytest.approx(2.1)
    assert lane.statistics(3.2).thaws_s is None
    assert go(lane, 3.2) == [first, others[1]]  # one probe of each row


def test_limits_of_the_account_concern_all_models_but_its_calls_in_flight_do_not() -> None:
    for limit, concerned in [(HUNDRED, ("a", "b")), (Limit("in_flight", 10), ("a",))]:
        lane = admission(limit)
        a, _ = lane.row("a", (), 0.0), lane.row("b", (), 0.0)
        ticket = enqueue(lane, a)
        go(lane, 0.0)
        assert lane.push_back(ticket, 1.0, 0.0).models == concerned


def test_a_pushed_back_call_keeps_its_place_among_equals() -> None:
    lane = admission(Limit("in_flight", 1))
    row = lane.row("m", (), 0.0)
    tickets = [enqueue(lane, row, 7) for _ in range(4)]
    assert go(lane, 0.0) == tickets[:1]
    lane.push_back(tickets[0], 1.0, 0.0)
    lane.put_back(tickets[0], 0.0)
    went = []
    for second in range(2, 6):
        (ticket,) = go(lane, float(second))
        went.append(ticket)
        lane.settle(ticket, second + 0.5)
    assert went == tickets


def test_a_push_back_while_others_are_in_flight_takes_nothing_from_them() -> None:
    lane = admission(HUNDRED, Limit("in_flight", 10))
    row = lane.row("m", (), 0.0)
    for age in range(20):
        enqueue(lane, row, age)
    first, second, *others = go(lane, 0.0)
    lane.push_back(first, 1.0, 0.1)
    lane.put_back(first, 0.1)
    lane.settle(second, 0.2)
    lane.push_back(others[0], 0.5, 0.2)  # a shorter wait does not end a longer one
    lane.put_back(others[0], 0.2)
    assert (lane.in_flight, row.in_flight) == (7, 7)
    assert go(lane, 0.8) == []
    assert go(lane, 1.2) == [first]
    for ticket in others[1:]:
        lane.settle(ticket, 1.25)
    assert lane.in_flight == 1
    assert go(lane, 1.26) == []  # successes of calls that were sent before the freeze say nothing about after it
    lane.settle(first, 1.27)
    assert others[0] in go(lane, 1.5)


@pytest.mark.parametrize("how", ["cancelled", "failed"])
def test_a_probe_that_tells_nothing_hands_on_to_the_next(how: str) -> None:
    lane = admission(HUNDRED)
    row = lane.row("m", (), 0.0)
    tickets = [enqueue(lane, row, age) for age in range(5)]
    (*_, last) = go(lane, 0.0)
    lane.push_back(last, 1.0, 0.01)
    lane.put_back(last, 0.01)
    more = [enqueue(lane, row, age) for age in range(5, 8)]
    assert go(lane, 2.0) == [last]
    if how == "cancelled":
        lane.cancel(last, 2.01)
    else:
        lane.settle(last, 2.01, outcome="ignored")
    assert go(lane, 2.02) == [more[0]]
    lane.settle(more[0], 2.03)
    assert go(lane, 2.04) == more[1:]
    for ticket in tickets:
        lane.settle(ticket, 3.0)
    assert lane.in_flight == 2


def test_a_wait_of_seconds_does_not_use_up_a_days_burst() -> None:
    day = Limit("requests", 1000, 86400.0, burst=1000)
    lane = admission(HUNDRED, day)
    row = lane.row("m", (), 0.0)
    ticket = enqueue(lane, row)
    go(lane, 0.0)
    lane.push_back(ticket, 2.0, 0.1)
    minute, of_day = levels(row, 2.1)
    assert minute == pytest.approx(1.0)
    assert of_day == pytest.approx(1000.0)
    lane.put_back(ticket, 2.1)
    assert go(lane, 2.2) == [ticket]
    lane.push_back(ticket, 90000.0, 2.3)
    assert levels(row, 90002.3)[1] == pytest.approx(1.0)


@pytest.mark.parametrize("shape", ["fixed", "sliding"])
def test_after_a_push_back_a_window_is_what_it_was(shape: Shape) -> None:
    lane = admission(Limit("requests", 10, shape=shape))
    row = lane.row("m", (), 0.0)
    tickets = [enqueue(lane, row, age) for age in range(10)]
    assert len(go(lane, 0.0)) == 10
    lane.push_back(tickets[0], 2.0, 0.1)
    assert levels(row, 2.1) == [1]


# --- what it costs to be careful


@pytest.mark.parametrize(
    ("limit", "at_least"),
    [
        (Limit("requests", 60), 0.975),  # one a second, one at once
        (Limit("requests", 30), 0.975),
        (Limit("requests", 90), 0.975),
        (Limit("requests", 600), 0.999),
        (Limit("requests", 5, 1.0, burst=1), 0.95),
        (Limit("requests", 10, 1.0, shape="sliding"), 0.975),
        (Limit("requests", 100, shape="fixed"), 0.995),
        (Limit("requests", 100, shape="sliding"), 0.995),
        (Limit("tokens", 60_000, shape="sliding"), 0.97),
        (Limit("tokens", 60_000), 0.97),
        (Limit("tokens", 60_000, burst=1500), 0.97),
    ],
)
def test_a_saturated_limit_is_used_and_says_so(limit: Limit, at_least: float) -> None:
    """The guard was pushed to where refusals may have driven it, and still hardly costs anything."""
    lane = admission(limit, Limit("in_flight", 500))
    row = lane.row("m", (), 0.0)
    lane._guard._seconds = 0.2
    now, age, went = 0.0, 0, 0
    while now < 10 * limit.window:
        while lane.waiting < 3:
            enqueue(lane, row, age := age + 1, characters=4000, max_tokens=200, now=now)
        admitted, wait = lane.admit(now)
        for ticket in admitted:
            lane.settle(ticket, now, input_tokens=1000, output_tokens=200)
        went += len(admitted)
        now += max(wait, 1e-3) if not admitted else 0.0
    statistics = lane.statistics(now)
    use = statistics.limits[0]
    assert use.use is not None
    assert at_least <= use.use <= 1.0 + 1e-6
    assert use.used == pytest.approx(went * (1200 if limit.unit == "tokens" else 1))
    assert statistics.bounded_by == f"acme {limit.name}"
    assert statistics.bounded_share == 1.0
    assert use.bound_s == pytest.approx(now, rel=0.1)
    assert statistics.admitted == went


def test_slots_that_are_always_taken_are_used_fully() -> None:
    lane = admission(Limit("in_flight", 4))
    row = lane.row("m", (), 0.0)
    for age in range(40):
        enqueue(lane, row, age)
    now = 0.0
    while admitted := go(lane, now):
        now += 10.0
        for ticket in admitted:
            lane.settle(ticket, now)
    statistics = lane.statistics(now)
    assert statistics.limits[0].use == pytest.approx(1.0)
    assert (statistics.bounded_by, statistics.peak_in_flight, statistics.waiting) == ("acme in_flight", 4, 0)


def test_a_lane_with_time_to_spare_is_bounded_by_nothing() -> None:
    lane = admission(HUNDRED)
    row = lane.row("m", (), 0.0)
    for second in range(10):
        enqueue(lane, row, second)
        (ticket,) = go(lane, float(second))
        lane.settle(ticket, second + 0.5)
    statistics = lane.statistics(10.0)
    assert (statistics.bounded_by, statistics.bounded_share, statistics.limits[0].use) == (None, 0.0, 0.0)
    assert statistics.limits[0].recent == pytest.approx(0.009, abs=0.003)


def test_telling_changes_nothing() -> None:
    lane = admission(HUNDRED)
    row = lane.row("m", (), 0.0)
    ticket = enqueue(lane, row)
    go(lane, 0.0)
    lane.push_back(ticket, 1.0, 0.0)
    lane.put_back(ticket, 0.0)
    frozen = lane.statistics(0.5).endpoints[0]
    assert [frozen.thaws_s, frozen.next_s, frozen.waiting] == pytest.approx([0.5, 0.5, 1])
    assert lane.statistics(2.0).endpoints[0].next_s == 0.0
    assert row.gate.wait(0.5) == pytest.approx(0.5)
    assert row.gate.frozen_until == pytest.approx(1.0)
    assert "1 waiting" in repr(lane)
    assert repr(row) == "<Row m: 0 in flight, 1 waiting>"


def test_a_lane_in_which_nothing_waits_looks_at_nothing() -> None:
    lane = admission(HUNDRED)
    rows = [lane.row(f"m{n}", (ONE_EACH_SECOND,), 0.0) for n in range(100)]
    asked = 0

    def wait(amount: float, now: float, *, guard: float = 0.0, spare: float = 0.0) -> float:
        nonlocal asked
        asked += 1
        return 0.0

    for row in rows:
        for gauge in row.gauges:
            object.__setattr__(gauge, "meter", type("Asked", (), {"wait": staticmethod(wait), **METER})())
    enqueue(lane, rows[0])
    assert len(go(lane, 0.0)) == 1
    assert asked == len(rows[0].gauges)
    assert go(lane, 1.0) == []
    assert asked == len(rows[0].gauges)


METER = {"take": lambda *_: None, "give": lambda *_, **__: None, "level": lambda *_: 0.0}


# --- what calls will cost


def test_estimates_are_learned_by_kind_and_never_above_max_tokens() -> None:
    estimate = TokenEstimate()
    assert (estimate.input(400), estimate.input(401), estimate.output("a", None)) == (100, 101, 400.0)
    estimate.observe("a", 300, estimated=500.0, input_tokens=100, output_tokens=50)
    assert (estimate.input(300), estimate.output("a", None), estimate.output("b", None)) == (100, 50, 50)
    assert (estimate.output("a", 20), estimate.variance(0)) == (20, 0.0)
    estimate.observe("a", 300, estimated=150.0, input_tokens=100, output_tokens=150)
    assert estimate.output("a", None) == pytest.approx(60.0)
    assert estimate.variance(0) == pytest.approx(0.1 * 100**2)
    before = estimate.input(300)
    estimate.observe("a", 300, estimated=150.0, input_tokens=None, output_tokens=None)
    assert estimate.input(300) == before


def test_calls_that_may_cost_more_than_expected_are_kept_room_for() -> None:
    lane = admission(Limit("tokens", 60_000))  # 10,000 at once
    row, other = lane.row("m", (), 0.0), lane.row("other", (), 0.0)
    first = enqueue(lane, row, max_tokens=None)
    go(lane, 0.0)
    lane.settle(first, 0.0, input_tokens=10, output_tokens=900)  # 400 were expected
    for age in range(20):
        enqueue(lane, row, age, max_tokens=None, now=100.0)
    went = go(lane, 100.0)
    assert 5 < len(went) < 9
    gauge = row.gauges[0]
    assert gauge.doubt == pytest.approx(len(went) * row.estimate.variance(went[0].input_tokens))
    # whoever shares the limit keeps that room too
    enqueue(lane, other, 99, characters=4000, max_tokens=500, now=100.0)
    assert go(lane, 100.0) == []
    for ticket in went:
        lane.cancel(ticket, 100.0)
    assert gauge.doubt == 0.0
