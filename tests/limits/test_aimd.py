"""Learners of calls in flight and of calls per second, alone and against strict servers that tell nothing."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh.limits.aimd import InFlightState, InFlightWindow, Outcome, RateState, RateWindow, Sent
from agentmesh.limits.meter import Meter, meter
from agentmesh.rates import Limit

WAY_S = 0.02  # to the server and back: a refusal takes twice as long


@dataclass
class Tally:
    """What a server saw: when it took a call and when it refused one, and for how long how many were with it."""

    taken: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    busy: list[tuple[float, int]] = field(default_factory=list)

    def refused_share(self, since: float = 0.0, until: float = math.inf) -> float:
        taken, refused = (sum(since <= at < until for at in times) for times in (self.taken, self.refused))
        return refused / (taken + refused)

    def per_second(self, since: float, until: float) -> float:
        return sum(since <= at < until for at in self.taken) / (until - since)

    def mean_busy(self, since: float, until: float) -> float:
        total = 0.0
        for (at, calls), (end, _) in itertools.pairwise([*self.busy, (until, 0)]):
            total += calls * max(0.0, min(end, until) - max(at, since))
        return total / (until - since)


class Clock:
    """Events in the order of their times."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def after(self, seconds: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), event))

    @property
    def next_at(self) -> float:
        return self._events[0][0] if self._events else math.inf

    def step(self) -> None:
        self.now, _, event = heapq.heappop(self._events)
        event()


def against_slots(
    window: InFlightWindow, slots: int, *, seconds: float = 120.0, seed: int = 1, median: float = 1.0,
    load: float = 0.0, later: tuple[float, int] | None = None,
) -> Tally:  # fmt: skip
    """A strict server that takes `slots` calls at once; work without end, latencies lognormal around `median`."""
    rng, clock, tally = random.Random(seed), Clock(), Tally()
    server: list[Meter] = [meter(Limit("in_flight", slots), 0.0)]
    count = 0

    def change(by: int) -> None:
        nonlocal count
        count += by
        tally.busy.append((clock.now, count))

    def arrive(call: Sent) -> None:
        if server[0].wait(1, clock.now) > 0:
            tally.refused.append(clock.now)
            clock.after(WAY_S, lambda: window.ended(call, "pushed_back"))
        elif rng.random() < load:
            clock.after(WAY_S, lambda: window.ended(call, "load"))
        else:
            server[0].take(1, clock.now)
            tally.taken.append(clock.now)
            change(1)
            clock.after(rng.lognormvariate(math.log(median), 0.5), lambda: leave(call))

    def leave(call: Sent) -> None:
        server[0].give(1, clock.now)
        change(-1)
        clock.after(WAY_S, lambda: window.ended(call, "success"))

    def other_slots(number: int) -> None:
        server[0] = meter(Limit("in_flight", number), clock.now)
        server[0].take(count, clock.now)

    if later is not None:
        clock.after(later[0], lambda: other_slots(later[1]))
    while clock.now < seconds:
        while window.room() > 0:
            call = window.sent()
            clock.after(WAY_S, lambda call=call: arrive(call))  # type: ignore[misc]
        clock.step()
    return tally


def against_rate(
    window: RateWindow, per_second: float, burst: float, *, seconds: float = 120.0, seed: int = 1,
    shape: Any = "bucket", frozen: float = 0.0, later: tuple[float, float] | None = None,
    idle: tuple[float, float] | None = None,
) -> Tally:  # fmt: skip
    """A strict server of so many calls per second; work without end but for the time between the two of `idle`."""
    rng, clock, tally = random.Random(seed), Clock(), Tally()

    def limited(rate: float) -> Meter:
        return meter(Limit("requests", rate * 60, burst=burst, shape=shape), clock.now)

    server = [limited(per_second)]
    thaw = 0.0

    def arrive(call: Sent) -> None:
        if server[0].wait(1, clock.now) > 0:
            tally.refused.append(clock.now)
            clock.after(WAY_S, lambda: refuse(call))
        else:
            server[0].take(1, clock.now)
            tally.taken.append(clock.now)

    def refuse(call: Sent) -> None:
        nonlocal thaw
        thaw = max(thaw, clock.now + frozen)
        window.pushed_back(call, clock.now, wait=frozen)

    def other_rate(rate: float) -> None:
        server[0] = limited(rate)
        server[0].take(burst, clock.now)

    if later is not None:
        clock.after(later[0], lambda: other_rate(later[1]))
    while clock.now < seconds:
        at = max(clock.now + window.wait(clock.now), thaw)
        if idle is not None and idle[0] < at < idle[1]:
            at = idle[1]
        if clock.next_at <= at:
            clock.step()
            continue
        clock.now = at
        call = window.sent(at)
        clock.after(WAY_S + rng.lognormvariate(math.log(3e-4), 0.5), lambda call=call: arrive(call))  # type: ignore[misc]
    return tally


# --- calls in flight


def fill(window: InFlightWindow) -> list[Sent]:
    return [window.sent() for _ in range(window.room())]


def test_a_window_doubles_each_round_trip_until_the_first_refusal() -> None:
    window = InFlightWindow(start=4, cap=100)
    calls = fill(window)
    for expected in (8, 16, 32, 64, 100, 100):
        later = []
        for call in calls:
            window.ended(call, "success")
            later += fill(window)
        assert window.limit == expected
        calls = later
    assert window.statistics().ceiling is None


def test_a_window_grows_only_while_it_is_used() -> None:
    window = InFlightWindow(start=10)
    for _ in range(50):
        for call in [window.sent() for _ in range(7)]:
            window.ended(call, "success")
    assert window.limit == 10
    for call in [window.sent() for _ in range(8)]:
        window.ended(call, "success")
    assert window.limit == 11


def test_a_refusal_shows_where_the_wall_is_and_calls_of_the_same_time_teach_nothing_more() -> None:
    window = InFlightWindow(start=40)
    calls = [window.sent() for _ in range(40)]
    for call in calls[30:]:
        window.ended(call, "pushed_back")
    assert window.statistics().ceiling == 30
    assert window.limit == 27
    assert window.statistics().refused == 10


def test_successes_from_before_a_refusal_do_not_raise_the_ceiling_again() -> None:
    window = InFlightWindow(start=40)
    calls = [window.sent() for _ in range(40)]
    window.ended(calls[20], "pushed_back")
    window.ended(calls[39], "success")
    assert window.statistics().ceiling == 20


def test_after_a_refusal_the_window_is_soon_back_and_then_stays() -> None:
    window = window_with_ceiling(20)
    for _ in range(4):
        round_trip(window)
    assert window.limit == 20
    assert window.statistics().refused == 1


def window_with_ceiling(ceiling: int) -> InFlightWindow:
    window = InFlightWindow(start=ceiling + 1)
    calls = [window.sent() for _ in range(ceiling + 1)]
    window.ended(calls.pop(), "pushed_back")
    for call in calls:
        window.ended(call, "success")
    return window


def round_trip(window: InFlightWindow) -> None:
    for call in fill(window):
        window.ended(call, "success")


def test_looks_above_the_wall_become_rare() -> None:
    window = window_with_ceiling(20)
    looks: list[int] = []
    successes = 0
    while len(looks) < 5:
        calls = fill(window)
        for call in calls:
            over = call.level > 20
            window.ended(call, "pushed_back" if over else "success")
            successes += not over
        if any(call.level > 20 for call in calls):
            looks.append(successes)
            successes = 0
    assert looks[0] >= 100
    assert looks[-1] >= 800
    assert window.limit == 20


@pytest.mark.parametrize("outcome", ["pushed_back", "load"])
def test_a_window_is_never_below_one(outcome: Outcome) -> None:
    window = InFlightWindow(start=3)
    for _ in range(1000):
        window.ended(window.sent(), outcome)
    assert window.limit == 1
    assert window.room() == 1


def test_what_says_nothing_about_load_changes_nothing() -> None:
    window = InFlightWindow(start=5)
    for _ in range(100):
        calls = [window.sent() for _ in range(5)]
        for call in calls:
            window.ended(call, "ignored")
    assert window.state() == InFlightState(5.0, None)


def test_a_push_back_far_below_what_was_proved_is_something_else() -> None:
    """So a limit of tokens, which was not recognised as one, costs a part of the window and not all of it."""
    window = window_with_ceiling(60)
    while window.limit < 60:
        round_trip(window)
    round_trip(window)
    window.ended(window.sent(), "pushed_back")
    assert window.limit == 42
    assert window.statistics().ceiling == 60


def test_single_signs_of_load_are_chance_and_many_are_not() -> None:
    window = InFlightWindow(start=100, cap=100)
    for number in range(2000):
        window.ended(window.sent(), "load" if number % 8 == 0 else "success")
    assert window.limit == 100
    for _ in range(20):
        window.ended(window.sent(), "load")
    assert window.limit == 70


def test_a_window_remembers() -> None:
    window = window_with_ceiling(48)
    kept = window.state()
    again = InFlightWindow.restore(kept)
    assert again.state().ceiling == 48
    assert 43 <= again.limit <= 48
    round_trip(again)
    assert again.limit == 48
    assert InFlightWindow.restore(kept, cap=20).limit == 20
    assert repr(again) == "<InFlightWindow 0 of 48, ceiling 48>"


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("slots", [1, 4, 16, 64, 256])
def test_an_untold_cap_is_reached_quickly_and_hardly_ever_exceeded(slots: int, seed: int) -> None:
    tally = against_slots(InFlightWindow(), slots, seed=seed)
    assert tally.refused_share() <= (0.02 if slots > 1 else 0.04)  # three of the first four calls are one too many
    assert tally.refused_share(since=10) <= 0.012
    assert tally.mean_busy(10, 120) >= 0.93 * slots  # a call is under way for 4 % of its time
    assert next(at for at, calls in tally.busy if calls >= 0.95 * slots) < 10
    if slots == 64:
        print(f"64 slots: {tally.mean_busy(10, 120):.1f} used, {tally.refused_share():.2%} refused")
        assert tally.refused_share(until=60) <= 0.005


@pytest.mark.parametrize("median", [0.1, 10.0])
def test_quick_and_slow_replies(median: float) -> None:
    tally = against_slots(InFlightWindow(), 64, median=median, seconds=60 if median < 1 else 600)
    assert tally.refused_share() <= 0.012
    assert tally.mean_busy(10 * median, 600 if median > 1 else 60) >= 0.8 * 64


def test_a_cap_that_changes_is_followed() -> None:
    less = against_slots(InFlightWindow(), 64, later=(60, 24))
    assert less.refused_share() <= 0.02
    assert less.mean_busy(70, 120) >= 0.93 * 24
    more = against_slots(InFlightWindow(), 24, later=(60, 64), seconds=200)
    assert more.refused_share() <= 0.01
    assert more.mean_busy(150, 200) >= 0.93 * 64


def test_faults_by_chance_do_not_close_the_window() -> None:
    window = InFlightWindow(cap=300)
    against_slots(window, 1000, load=0.1, seconds=60)
    assert window.limit >= 200


@given(st.lists(st.tuples(st.sampled_from(["send", "success", "ignored", "pushed_back", "load"]), st.integers(0, 99))))
def test_whatever_happens_a_window_stays_sane(events: list[tuple[Any, int]]) -> None:
    window, calls = InFlightWindow(start=5, cap=50), []
    for what, index in events:
        if what == "send":
            calls.append(window.sent())
        elif calls:
            window.ended(calls.pop(index % len(calls)), what)
        assert 1 <= window.limit <= 50
        assert window.statistics().in_flight == len(calls)
        assert window.room() == max(0, window.limit - len(calls))
        assert InFlightWindow.restore(window.state()).limit >= 1


def test_sizes_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="at least 1 call"):
        InFlightWindow(start=0)
    with pytest.raises(ValueError, match="above 0"):
        RateWindow(start=0)


# --- calls per second

RATES = [(rate, burst) for rate in (1, 10, 100) for burst in (1, 2, 5, 10)]


@pytest.mark.parametrize(("rate", "burst"), RATES)
def test_an_untold_rate_is_found_without_a_storm(rate: float, burst: int) -> None:
    seconds = 300.0 if rate == 1 else 60.0 if rate == 100 else 120.0
    window = RateWindow()
    tally = against_rate(window, rate, burst, seconds=seconds)
    reached = tally.per_second(30, seconds)
    print(
        f"{rate}/s, burst {burst}: {rate / reached:.3f} of the bound after 30 s, {tally.refused_share():.2%} refused, "
        f"{tally.refused_share(since=30):.2%} of them later; {window!r}"
    )
    assert rate / reached <= 1.15
    assert tally.refused_share() <= 0.03
    assert tally.refused_share(since=30) <= 0.02


@pytest.mark.parametrize("seed", range(2, 6))
def test_other_chances(seed: int) -> None:
    for rate, burst in ((1, 10), (10, 1), (10, 5)):
        tally = against_rate(RateWindow(), rate, burst, seconds=300 if rate == 1 else 120, seed=seed)
        assert rate / tally.per_second(30, 120) <= 1.15
        assert tally.refused_share() <= 0.03


@pytest.mark.parametrize("rate", [10, 100])
def test_a_burst_of_a_second_and_refusals_that_freeze_for_one(rate: int) -> None:
    tally = against_rate(RateWindow(), rate, rate, seconds=120, frozen=1.0)
    assert rate / tally.per_second(30, 120) <= 1.15
    assert tally.refused_share() <= 0.03


@pytest.mark.parametrize("shape", ["fixed", "sliding"])
def test_windows_of_a_minute_are_no_storm_and_no_crawl(shape: Any) -> None:
    """600 of these can go at once, and then none for a while: calls are spread until they fit."""
    tally = against_rate(RateWindow(), 10, 1, seconds=900, shape=shape)
    assert tally.per_second(300, 900) >= 5.5
    assert tally.refused_share() <= 0.06


def test_a_rate_that_changes_is_followed() -> None:
    less = against_rate(RateWindow(), 20, 10, seconds=180, later=(60, 5))
    assert less.per_second(90, 180) >= 5 / 1.15
    assert less.refused_share() <= 0.03
    more = against_rate(RateWindow(), 5, 10, seconds=300, later=(60, 20))
    assert more.per_second(240, 300) >= 20 / 1.15
    assert more.refused_share() <= 0.03


def test_a_server_that_lets_nothing_through_is_asked_ever_more_rarely_and_nothing_is_forgotten() -> None:
    window = RateWindow()
    against_rate(window, 10, 5, seconds=60)
    rate, now, asked = window.rate, 100.0, 0
    while now < 400:
        now += window.wait(now)
        window.pushed_back(window.sent(now), now + 2 * WAY_S)
        now, asked = now + 2 * WAY_S, asked + 1
    assert asked < 45
    assert window.rate == pytest.approx(rate, rel=0.3)
    assert window.wait(now) <= 10


def test_time_without_work_teaches_nothing() -> None:
    window = RateWindow()
    tally = against_rate(window, 10, 5, seconds=200, idle=(60, 120))
    assert tally.per_second(121, 200) >= 10 / 1.15
    assert tally.refused_share() <= 0.03


def test_calls_that_come_rarely_do_not_raise_the_pace() -> None:
    window = RateWindow(start=5)
    for number in range(1000):
        window.sent(number * 1.0)
    assert window.rate == 5


def test_pauses_are_kept_and_late_timers_made_up_for() -> None:
    window = RateWindow.restore(RateState(10.0, 9.0, 10.0))
    interval = 1 / window.rate
    assert window.wait(5.0) == 0
    window.sent(5.0)
    assert window.wait(5.0) == pytest.approx(interval)
    window.sent(5.0 + interval + 0.01)
    assert window.wait(5.0 + interval + 0.01) == pytest.approx(interval - 0.01, abs=0.001)
    window.sent(9.0)
    assert window.wait(9.0) == pytest.approx(interval, abs=0.001)


def test_a_clock_that_jumps_neither_floods_nor_stalls() -> None:
    window = RateWindow(start=10)
    window.sent(1000.0)
    window.sent(90_000.0)  # a laptop slept
    assert window.wait(90_000.0) == pytest.approx(0.1)


def test_a_rate_remembers() -> None:
    window = RateWindow()
    against_rate(window, 10, 5, seconds=60)
    again = RateWindow.restore(window.state())
    assert 9 <= again.rate <= 10.5
    tally = against_rate(again, 10, 5, seconds=60)
    assert tally.per_second(5, 60) >= 10 / 1.1
    assert tally.refused_share() <= 0.03
    fresh = RateWindow.restore(RateState(3.0))
    assert fresh.rate == 3.0
    assert fresh.statistics().upper is None
    assert repr(RateWindow.restore(RateState(9.8, 9.5, 10.0))).startswith("<RateWindow 9.6")


def test_a_rate_has_a_cap() -> None:
    window = RateWindow(start=50, cap=60)
    now = 0.0
    for _ in range(1000):
        now += window.wait(now)
        window.sent(now)
    assert window.rate == 60


def test_a_limit_that_was_lifted_is_no_limit_for_ever() -> None:
    window, now = RateWindow.restore(RateState(1.0, 0.9, 1.0)), 0.0
    for _ in range(100_000):
        now += window.wait(now)
        window.sent(now)
    assert window.rate > 1000


@given(st.lists(st.tuples(st.floats(0, 1e5), st.booleans(), st.floats(0, 1e4)), max_size=60), st.floats(0.01, 1000.0))
def test_whatever_happens_a_pace_stays_sane(steps: list[tuple[float, bool, float]], start: float) -> None:
    window, now = RateWindow(start=start), 0.0
    for seconds, refused, wait in steps:
        now += window.wait(now) + seconds
        call = window.sent(now)
        if refused:
            window.pushed_back(call, now + 0.1, wait=wait)
        assert 0 < window.rate < math.inf
        assert window.wait(now) <= max(10.0, 1.1 / window.rate) + 0.2
        lower, upper = window.statistics().lower, window.statistics().upper
        assert lower is None or upper is None or 0 <= lower <= upper
