"""Meters as tables, and against slow models of themselves: time is an argument, nothing waits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmesh.limits.bucket import Bucket, Slots
from agentmesh.limits.meter import Meter, meter
from agentmesh.limits.window import FixedWindow, SlidingWindow
from agentmesh.rates import Limit

BUCKET = Limit("tokens", 600, burst=100)  # ten a second
FIXED = Limit("tokens", 100, shape="fixed")
SLIDING = Limit("tokens", 100, shape="sliding")
ALL = [BUCKET, FIXED, SLIDING]

Step = tuple[str, float, float, float]
"""What is done, its amount, at what time, and the level after it."""


@pytest.mark.parametrize(
    ("limit", "steps"),
    [
        (BUCKET, [("take", 100, 0.0, 0), ("take", 0, 5.0, 50), ("take", 0, 60.0, 100), ("take", 250, 60.0, -150)]),
        (BUCKET, [("take", 30, 0.0, 70), ("give", 20, 0.0, 90), ("give", 20, 0.0, 100), ("give", -30, 0.0, 70)]),
        (BUCKET, [("take", 50, 10.0, 50), ("take", 10, 4.0, 40), ("take", 0, 10.0, 40), ("take", 0, 11.0, 50)]),
        (BUCKET, [("lower", 20, 0.0, 20), ("lower", 60, 0.0, 20), ("lower", -10, 1.0, -10), ("take", 0, 2.0, 0)]),
        (FIXED, [("take", 100, 5.0, 0), ("take", 0, 64.9, 0), ("take", 0, 65.0, 100), ("take", 60, 70.0, 40)]),
        (FIXED, [("take", 80, 0.0, 20), ("give", 50, 59.0, 70), ("give", -90, 59.0, -20), ("take", 0, 60.0, 100)]),
        (FIXED, [("lower", 30, 0.0, 30), ("lower", 50, 1.0, 30), ("take", 0, 60.0, 100)]),
        (FIXED, [("give", -30, 0.0, 70), ("take", 0, 59.0, 70), ("take", 0, 60.0, 100)]),
        (SLIDING, [("take", 60, 0.0, 40), ("take", 40, 30.0, 0), ("take", 0, 60.0, 60), ("take", 0, 90.0, 100)]),
        (SLIDING, [("take", 60, 0.0, 40), ("give", 50, 1.0, 90), ("give", -20, 2.0, 70), ("take", 0, 60.0, 80)]),
        (SLIDING, [("lower", 10, 5.0, 10), ("take", 0, 64.0, 10), ("take", 0, 65.0, 100)]),
        (Limit("in_flight", 2), [("take", 1, 0.0, 1), ("take", 1, 0.0, 0), ("give", 1, 99.0, 1), ("lower", 0, 0.0, 1)]),
    ],
)
def test_levels(limit: Limit, steps: Sequence[Step]) -> None:
    one = meter(limit, 0.0)
    for what, amount, now, level in steps:
        getattr(one, what)(amount, now)
        assert one.level(now) == pytest.approx(level), (what, now)
    assert limit.name in repr(one) or limit.unit == "in_flight"


@pytest.mark.parametrize(
    ("limit", "used", "amount", "wait"),
    [
        (BUCKET, 0, 100, 0.0), (BUCKET, 100, 30, 3.0), (BUCKET, 0, 250, 0.0), (BUCKET, 10, 250, 1.0),
        (BUCKET, 250, 30, 18.0), (replace(BUCKET, debt=False), 0, 101, math.inf),
        (FIXED, 0, 100, 0.0), (FIXED, 71, 30, 60.0), (FIXED, 70, 30, 0.0), (FIXED, 0, 101, math.inf),
        (SLIDING, 0, 100, 0.0), (SLIDING, 71, 30, 60.0), (SLIDING, 70, 30, 0.0), (SLIDING, 0, 101, math.inf),
        (Limit("in_flight", 2), 1, 1, 0.0), (Limit("in_flight", 2), 2, 1, math.inf),
    ],
)  # fmt: skip
def test_waits(limit: Limit, used: float, amount: float, wait: float) -> None:
    one = meter(limit, 0.0)
    one.take(used, 0.0)
    assert one.wait(amount, 0.0) == pytest.approx(wait)


def test_a_sliding_window_waits_for_just_as_much_as_is_needed() -> None:
    window = SlidingWindow(SLIDING, 0.0)
    for second in range(10):
        window.take(10, float(second))
    assert [window.wait(amount, 9.0) for amount in (5, 10, 15, 95)] == pytest.approx([51.0, 51.0, 52.0, 60.0])


# --- what is given back belongs to when it was taken


def test_a_fixed_window_takes_nothing_back_of_the_one_before() -> None:
    window = FixedWindow(FIXED, 0.0)
    window.take(50, 0.0)
    window.take(80, 61.0)
    window.give(40, 62.0, since=0.0)
    assert window.level(62.0) == 20
    window.give(40, 62.0, since=61.0)
    assert window.level(62.0) == 60


def test_a_sliding_window_gives_back_of_the_use_itself() -> None:
    window = SlidingWindow(SLIDING, 0.0)
    window.take(50, 0.0)
    window.take(30, 50.0)
    window.give(40, 51.0, since=0.0)
    assert window.level(51.0) == 60
    assert window.level(60.0) == 70  # the ten that were left of the first are gone, the thirty are not
    window.give(20, 61.0, since=0.0)
    assert window.level(61.0) == 70


# --- what is used within a thousandth of a window is one entry


def test_a_day_of_a_hundred_thousand_calls_is_a_thousand_entries() -> None:
    window = meter(Limit("requests", 100_000, 86400.0), 0.0)
    for number in range(100_000):
        window.take(1, number * 0.8)
    assert window.level(80_000.0) == 0
    assert len(window.uses(80_000.0)) <= 1001


@pytest.mark.parametrize(("early", "free_at"), [(False, 60.05), (True, 60.0)])
def test_an_entry_leaves_with_its_last_use_or_with_its_first(early: bool, free_at: float) -> None:
    window = meter(SLIDING, 0.0, early=early)
    for hundredth in range(6):
        window.take(10, hundredth / 100)
    assert window.wait(50, 0.05) == pytest.approx(free_at - 0.05)
    assert window.level(free_at - 0.001) == 40
    assert window.level(free_at) == 100


@pytest.mark.parametrize("early", [False, True])
def test_what_is_given_back_of_an_entry_is_its_own(early: bool) -> None:
    window = meter(SLIDING, 0.0, early=early)
    window.take(30, 0.0)
    window.take(30, 0.05)
    window.take(20, 30.0)
    window.give(10, 40.0, since=0.05)
    assert window.level(40.0) == 30
    window.give(10, 60.02, since=0.05)  # of what has left early nothing can come back, least of all of another use
    assert window.level(60.02) == (80 if early else 40)
    assert window.level(60.05) == 80


windowed = st.lists(st.tuples(st.floats(0, 0.2), st.integers(1, 30), st.integers(0, 30)), min_size=1, max_size=200)


@given(windowed)
@settings(max_examples=100, deadline=None)
def test_steps_are_never_too_early_for_who_keeps_to_a_limit_nor_too_late_for_who_enforces_it(
    plan: list[tuple[float, int, int]],
) -> None:
    limit = Limit("tokens", 200, 2.0, shape="sliding")
    late, early = meter(limit, 0.0), meter(limit, 0.0, early=True)
    now, uses = 0.0, list[tuple[float, int]]()
    for pause, amount, used in plan:
        now += pause
        for one in (late, early):
            one.take(amount, now)
            if used < amount:
                one.give(amount - used, now, since=now)
        uses.append((now, min(amount, used)))
        level = limit.limit - sum(used for at, used in uses if now - at < limit.window - 1e-6)
        before = limit.limit - sum(used for at, used in uses if now - at < limit.window * 1.002)
        after = limit.limit - sum(used for at, used in uses if now - at < limit.window * 0.998)
        assert before - 1e-6 <= late.level(now) <= level + 1e-6
        assert level - 1e-6 <= early.level(now) <= after + 1e-6


# --- margins


@pytest.mark.parametrize(
    ("capacity", "amount", "guard", "spare", "period"),
    [
        (10, 1, 5, 0, 1.0), (1, 1, 0.001, 0, 1.001), (1, 1, 5, 0, 1.02), (100, 40, 500, 500, 40.0),
        (100, 100, 0, 30, 102.0), (100, 300, 30, 0, 302.0),
    ],
)  # fmt: skip
def test_a_margin_in_a_bucket_costs_hardly_any_rate(
    capacity: float, amount: float, guard: float, spare: float, period: float
) -> None:
    """Calls of one size, each as soon as it fits: they come at the rate of the refill, and at most 2 % slower."""
    bucket = Bucket(Limit("tokens", 60, burst=capacity), 0.0)
    now, times = 0.0, []
    for _ in range(50):
        now += bucket.wait(amount, now, guard=guard, spare=spare)
        bucket.take(amount, now)
        times.append(now)
    assert times[0] == 0.0
    assert (times[-1] - times[20]) / 29 == pytest.approx(period)


@pytest.mark.parametrize(("window", "guard", "longer"), [(60.0, 0.1, 0.1), (60.0, 50.0, 1.2), (1.0, 50.0, 0.02)])
def test_a_guard_makes_a_sliding_window_longer_by_2_percent_at_most(window: float, guard: float, longer: float) -> None:
    one = SlidingWindow(Limit("requests", 100, window, shape="sliding"), 0.0)
    assert one.wait(100, 0.0, guard=guard) == 0.0
    one.take(100, 0.0)
    for moment in (window - 0.001, window, window + 0.9 * longer):
        assert one.wait(1, moment, guard=guard) == pytest.approx(window + longer - moment)
    assert one.wait(1, window + longer, guard=guard) == 0.0


@pytest.mark.parametrize("limit", [FIXED, SLIDING])
def test_what_is_spared_in_a_window_is_left_unless_one_call_needs_it_all(limit: Limit) -> None:
    one = meter(limit, 0.0)
    assert one.wait(90, 0.0, spare=30) == 0.0
    one.take(50, 0.0)
    assert one.wait(20, 0.0, spare=30) == 0.0
    assert one.wait(21, 0.0, spare=30) == 60.0


# --- against slow models


class SlowBucket:
    """Refills in small steps."""

    def __init__(self, limit: Limit) -> None:
        self.limit, self.level, self.at = limit, limit.capacity, 0.0

    def move(self, now: float) -> None:
        self.level = min(self.limit.capacity, self.level + (now - self.at) * self.limit.per_second)
        self.at = now

    def take(self, amount: float, now: float, since: float) -> None:
        self.level = min(self.limit.capacity, self.level - amount)


class SlowWindow:
    """Keeps every use, with when it was first taken, and adds up what counts."""

    def __init__(self, limit: Limit) -> None:
        self.limit, self.uses, self.start = limit, list[tuple[float, float]](), -math.inf
        self.level = limit.limit

    def move(self, now: float) -> None:
        window = self.limit.window
        if self.limit.shape == "sliding":
            self.uses = [use for use in self.uses if now - use[0] < window]
        elif now - self.start >= window:
            self.uses = []
        self.level = self.limit.limit - sum(amount for _, amount in self.uses)

    def take(self, amount: float, now: float, since: float) -> None:
        if amount < 0 and not any(at == since for at, _ in self.uses):
            return
        if not self.uses:
            self.start = now
        self.uses.append((since if amount < 0 else now, amount))
        self.move(now)


def slow_meter(limit: Limit) -> SlowBucket | SlowWindow:
    return SlowBucket(limit) if limit.shape == "bucket" else SlowWindow(limit)


moves = st.lists(
    st.tuples(
        st.integers(0, 40).map(lambda quarter: quarter / 4),  # seconds since the last move
        st.integers(1, 60),  # taken
        st.integers(0, 90),  # really used
        st.integers(0, 5),  # settled so many moves later
    ),
    max_size=60,
)


@given(st.sampled_from(ALL), moves)
@settings(max_examples=150, deadline=None)
def test_meters_agree_with_slow_models_of_themselves(limit: Limit, plan: list[tuple[float, int, int, int]]) -> None:
    one, slow, now = meter(limit, 0.0), slow_meter(limit), 0.0
    open_until: list[tuple[int, float, int]] = []
    for number, (pause, amount, used, later) in enumerate(plan):
        now += pause
        slow.move(now)
        for due, since, correction in [due for due in open_until if due[0] <= number]:
            one.give(correction, now, since=since)
            slow.take(-correction, now, since if correction > 0 else now)
            open_until.remove((due, since, correction))
        assert one.level(now) == pytest.approx(slow.level)
        wait = one.wait(amount, now)
        later_level = _level_after(one, wait, now)
        assert later_level >= min(amount, limit.capacity) - 1e-6
        if wait > 0.01:
            assert _level_after(one, wait - 0.01, now) < amount
        one.take(amount, now)
        slow.take(amount, now, now)
        open_until.append((number + 1 + later, now, amount - used))
        assert one.level(now) == pytest.approx(slow.level)
        assert one.reset(now) >= 0.0


def _level_after(one: Meter, seconds: float, now: float) -> float:
    """The level that time alone would bring."""
    match one:
        case Bucket():
            return one.level(now + seconds)
        case FixedWindow():
            return one.limit.limit if seconds >= one.reset(now) - 1e-6 and seconds > 0 else one.level(now)
        case SlidingWindow():
            kept = sum(used for _, last, used in one._entries if now + seconds - last < one.limit.window - 1e-6)
            return one.limit.limit - kept
        case _:
            raise AssertionError


@given(st.sampled_from(ALL), st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 90)), max_size=40))
@settings(max_examples=100, deadline=None)
def test_a_clock_that_jumps_neither_raises_nor_grants_more_than_there_is(
    limit: Limit, plan: list[tuple[float, float]]
) -> None:
    one = meter(limit, 0.0)
    for now, amount in plan:
        assert one.level(now) <= limit.capacity + 1e-6
        if one.wait(amount, now) == 0.0:
            one.take(amount, now)
        assert one.wait(amount, now) >= 0.0
        assert one.reset(now) >= 0.0


@given(st.sampled_from(ALL), st.lists(st.tuples(st.floats(0, 20), st.integers(1, 100)), min_size=1, max_size=60))
@settings(max_examples=100, deadline=None)
def test_what_goes_as_soon_as_it_fits_never_exceeds_what_any_span_allows(
    limit: Limit, plan: list[tuple[float, int]]
) -> None:
    one, now, taken = meter(limit, 0.0), 0.0, list[tuple[float, int]]()
    for pause, amount in plan:
        now += pause
        now += one.wait(amount, now)
        one.take(amount, now)
        taken.append((now, amount))
    for begin, (first, _) in enumerate(taken):
        for end in range(begin, len(taken)):
            span, amount = taken[end][0] - first, sum(amount for _, amount in taken[begin : end + 1])
            if limit.shape == "bucket":
                assert amount <= limit.capacity + limit.per_second * span + 1e-3
            elif limit.shape == "sliding" and span < limit.window - 1e-6:
                assert amount <= limit.limit
            elif span < limit.window - 1e-6:
                assert amount <= 2 * limit.limit  # the end of one window and the beginning of the next


def test_slots_are_given_back_by_hand_alone() -> None:
    slots = Slots(Limit("in_flight", 3))
    slots.take(2, 0.0)
    assert (slots.level(1e9), slots.reset(0.0), repr(slots)) == (1.0, 0.0, "<Slots 2 of 3 used>")
    slots.give(5, 0.0)
    assert slots.level(0.0) == 3.0


# --- what a new meter must be told to stand as an old one


@pytest.mark.parametrize("limit", [*ALL, Limit("requests", 1000, 86400.0, shape="sliding")])
def test_a_new_meter_that_takes_the_uses_of_an_old_one_stands_as_it_does(limit: Limit) -> None:
    old = meter(limit, 7000.0)
    for number in range(90):
        old.take(limit.limit / 200, 7000.0 + number * limit.window / 200)
    now = 7000.0 + 0.45 * limit.window
    uses = old.uses(now)
    assert uses == sorted(uses)
    new = meter(limit, now)
    for at, amount in uses:
        new.take(amount, at)
    for later in (0.0, 0.3, 0.6, 0.8, 1.1):
        moment = now + later * limit.window
        assert new.level(moment) == pytest.approx(old.level(moment))


@pytest.mark.parametrize("limit", [*ALL, Limit("in_flight", 5)])
def test_a_meter_of_which_nothing_is_used_has_no_uses(limit: Limit) -> None:
    one = meter(limit, 0.0)
    assert one.uses(0.0) == []
    one.take(3, 0.0)
    one.give(3, 1.0, since=0.0)
    assert sum(amount for _, amount in one.uses(1.0)) == 0


def test_slots_end_with_their_process() -> None:
    slots = meter(Limit("in_flight", 5), 0.0)
    slots.take(3, 0.0)
    assert slots.uses(1.0) == []


def test_a_debt_is_a_use() -> None:
    bucket = meter(BUCKET, 0.0)
    bucket.take(350, 0.0)
    assert bucket.uses(5.0) == [(5.0, 300.0)]
