"""How long the least favoured wait: by ageing, beside large calls, and in rows that hold themselves back."""

from __future__ import annotations

import heapq
import math
import random
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmesh.limits.admission import Admission, Row, Ticket
from agentmesh.limits.lineup import Heap
from agentmesh.limits.queue import Share
from agentmesh.rates import Limit

EACH_SECOND = Limit("requests", 60)


def enqueue(lane: Admission, row: Row, *, priority: float = 0.0, tokens: int = 10, now: float = 0.0) -> Ticket:
    return lane.enqueue(row, characters=0, kind="ask", max_tokens=tokens, order=(-priority, 0.0, 0), now=now)


def run(lane: Admission, until: float, *, now: float = 0.0) -> list[tuple[float, Ticket]]:
    """Let time pass from one admission to the next; calls end at once."""
    went = []
    while now < until:
        admitted, wait = lane.admit(now)
        for ticket in admitted:
            went.append((now, ticket))
            lane.settle(ticket, now)
        now = now if admitted else now + max(wait, 1e-3)
    return went


# --- ageing


def test_one_that_nobody_favours_goes_as_the_seventeenth_in_a_flood() -> None:
    lane = Admission("acme", (EACH_SECOND,), 0.0)
    row = lane.row("m", (), 0.0)
    for _ in range(100):
        enqueue(lane, row, priority=9.0)
    low = enqueue(lane, row)
    assert low not in [ticket for _, ticket in run(lane, 100.0)]  # all that came before are older
    for second in range(100, 140):
        enqueue(lane, row, priority=9.0, now=float(second))
    went = [ticket for _, ticket in run(lane, 160.0, now=140.0)]
    assert went.index(low) <= 16


@dataclass(frozen=True)
class Arrival:
    at: int
    row: int
    priority: int


arrivals = st.lists(st.builds(Arrival, st.integers(0, 60), st.integers(0, 2), st.integers(0, 3)), max_size=150)


@given(arrivals, st.sampled_from([Limit("requests", 60), Limit("requests", 240, burst=30), Limit("in_flight", 1)]))
@settings(max_examples=100, deadline=None)
def test_whatever_comes_nobody_is_passed_more_than_the_bound_allows(arrivals: list[Arrival], limit: Limit) -> None:
    """By later ones: sixteen for itself, and for each that was there before it."""
    lane = Admission("acme", (limit,), 0.0)
    rows = [lane.row(f"m{n}", (), 0.0) for n in range(3)]
    passed: dict[Ticket, int] = {}
    allowed: dict[Ticket, int] = {}
    coming = sorted(arrivals, key=lambda one: -one.at)
    now = 0.0
    while coming or passed:
        while coming and coming[-1].at <= now:
            one = coming.pop()
            ticket = enqueue(lane, rows[one.row], priority=one.priority, now=now)
            allowed[ticket] = 16 * (len(passed) + 1)
            passed[ticket] = 0
        admitted, wait = lane.admit(now)
        for ticket in admitted:
            assert passed.pop(ticket) <= allowed[ticket]
            for other in passed:
                passed[other] += ticket.number > other.number
        for ticket in admitted:
            lane.settle(ticket, now)
        if not admitted:
            now = min(now + max(wait, 1e-3), coming[-1].at if coming else math.inf)


@given(arrivals)
@settings(max_examples=60, deadline=None)
def test_in_a_row_that_its_own_limit_holds_back_the_bound_is_the_same(arrivals: list[Arrival]) -> None:
    """However the turns of the other rows fall."""
    lane = Admission("acme", (Limit("requests", 600),), 0.0)
    own = (None, Limit("requests", 60), Limit("requests", 100))
    rows = [lane.row(f"m{n}", () if limit is None else (limit,), 0.0) for n, limit in enumerate(own)]
    passed: dict[Ticket, int] = {}
    allowed: dict[Ticket, int] = {}
    coming = sorted(arrivals, key=lambda one: -one.at)
    now = 0.0
    while coming or passed:
        while coming and coming[-1].at <= now:
            one = coming.pop()
            ticket = enqueue(lane, rows[one.row], priority=one.priority, now=now)
            allowed[ticket] = 16 * (sum(other.row is ticket.row for other in passed) + 1)
            passed[ticket] = 0
        admitted, wait = lane.admit(now)
        for ticket in admitted:
            assert passed.pop(ticket) <= allowed[ticket]
            for other in passed:
                passed[other] += ticket.number > other.number and ticket.row is other.row
            lane.settle(ticket, now)
        if not admitted:
            now = min(now + max(wait, 1e-3), coming[-1].at if coming else math.inf)


def test_the_oldest_of_a_row_that_cannot_go_for_an_hour_does_not_keep_others_from_their_turn() -> None:
    lane = Admission("acme", (EACH_SECOND,), 0.0)
    slow, fast = lane.row("slow", (Limit("requests", 1, 3600.0, burst=1),), 0.0), lane.row("fast", (), 0.0)
    for _ in range(3):
        enqueue(lane, slow)
    low = enqueue(lane, fast)
    for _ in range(200):
        enqueue(lane, fast, priority=5.0)
    went = [ticket for _, ticket in run(lane, 60.0)]
    assert went.index(low) <= 3 * 17


def test_a_large_call_of_low_priority_goes_though_small_urgent_ones_never_end() -> None:
    lane = Admission("acme", (Limit("tokens", 6000, burst=1000),), 0.0)
    row = lane.row("m", (), 0.0)
    for _ in range(60):
        enqueue(lane, row, priority=5.0, tokens=50)
    large = enqueue(lane, row, tokens=900)
    went: list[Ticket] = []
    now = 0.0
    while large not in went:
        while lane.waiting < 60:
            enqueue(lane, row, priority=5.0, tokens=50, now=now)
        admitted, wait = lane.admit(now)
        went += admitted
        now += 0.0 if admitted else max(wait, 1e-3)
    assert sum(ticket.number > large.number for ticket in went) <= 16 + 1  # and one of 50 fits into half a second
    assert now < 60.0


# --- best fit


@given(
    st.lists(st.integers(1, 300), max_size=40), st.integers(301, 1000), st.integers(0, 900), st.sampled_from([0, 5]),
    st.sampled_from(["bucket", "sliding"]),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_small_calls_use_what_is_free_and_delay_the_first_by_half_a_second_at_most(
    small: list[int], size: int, used: int, priority: int, shape: str
) -> None:
    limit = Limit("tokens", 6000, burst=1000) if shape == "bucket" else Limit("tokens", 1000, 10.0, shape="sliding")

    def first_goes(others: list[int]) -> float:
        lane = Admission("acme", (limit,), 0.0)
        row = lane.row("m", (), 0.0)
        row.estimate.observe("ask", 4, estimated=2.0, input_tokens=1, output_tokens=1)
        if used:
            enqueue(lane, row, tokens=used)
            for ticket in lane.admit(0.0)[0]:
                lane.settle(ticket, 0.0)
        first = enqueue(lane, row, priority=9.0, tokens=size)
        for tokens in others[:15]:  # the sixteenth call is the oldest
            enqueue(lane, row, priority=priority, tokens=tokens)
        return next(at for at, ticket in run(lane, 100.0) if ticket is first)

    assert first_goes(small) <= first_goes([]) + 0.5 + 0.01


def test_a_call_that_fits_beside_one_that_does_not_goes_at_once() -> None:
    lane = Admission("acme", (Limit("tokens", 6000, burst=1000), Limit("requests", 6000)), 0.0)
    row = lane.row("m", (), 0.0)
    row.estimate.observe("ask", 4, estimated=2.0, input_tokens=1, output_tokens=1)
    enqueue(lane, row, tokens=700)
    assert len(lane.admit(0.0)[0]) == 1
    large = enqueue(lane, row, priority=9.0, tokens=900)
    fits, fits_not = enqueue(lane, row, tokens=40), enqueue(lane, row, tokens=290)
    assert lane.admit(0.0)[0] == [fits]
    assert (large.state, fits_not.state) == ("waiting", "waiting")
    assert large.passed_s == pytest.approx(0.4)


# --- rows that hold themselves back


@pytest.mark.parametrize("pool", [False, True])
def test_a_call_that_its_row_holds_for_an_hour_holds_nobody_else_up(pool: bool) -> None:
    """It waits for both limits, and others go on using the one that is everybody's."""
    lane = Admission("acme", (EACH_SECOND,), 0.0)
    hour = (Limit("requests", 1, 3600.0, burst=1),)
    slow = lane.row("slow", () if pool else hour, 0.0, pool="p" if pool else None, pool_limits=hour)
    fast = lane.row("fast", (), 0.0)
    for _ in range(2):
        enqueue(lane, slow, priority=9.0)
    for _ in range(30):
        enqueue(lane, fast)
    went = run(lane, 20.0)
    assert [ticket.row for _, ticket in went] == [slow] + [fast] * (len(went) - 1)
    assert len(went) >= 19


@pytest.mark.parametrize("jump", [3.0, 3600.0, 30 * 86400.0])
def test_after_a_sleep_of_the_machine_everyone_is_awake_and_no_more_than_a_burst_goes(jump: float) -> None:
    lane = Admission("acme", (), 0.0)
    rows = [lane.row(f"m{n}", (Limit("requests", 60, burst=3),), 0.0) for n in range(20)]
    for row in rows:
        for _ in range(30):
            enqueue(lane, row)
    run(lane, 5.0)
    went = [ticket.row for ticket in lane.admit(5.0 + jump)[0]]
    assert {went.count(row) for row in rows} == {2}
    back = lane.admit(4.0)[0]  # a clock that goes back grants nothing
    assert back == []
    assert len(run(lane, 20.0 + jump, now=6.0 + jump)) == pytest.approx(20 * 14, abs=40)


def test_a_row_sleeps_no_longer_than_the_first_that_was_asked_says() -> None:
    """Of two shares the second waits for another limit, and longer."""
    lane = Admission("acme", (), 0.0)
    row = lane.row("m", (Limit("tokens", 6000, burst=1000), Limit("input_tokens", 600, burst=100)), 0.0)
    row.estimate.observe("ask", 4, estimated=2.0, input_tokens=1, output_tokens=1)
    enqueue(lane, row, tokens=700)
    lane.enqueue(row, characters=396, kind="ask", max_tokens=1, order=(0.0, 0.0, 0), now=0.0, share=Share("b"))
    assert len(run(lane, 0.1)) == 2
    first = enqueue(lane, row, priority=9.0, tokens=400)
    second = lane.enqueue(row, characters=320, kind="ask", max_tokens=1, order=(0.0, 0.0, 0), now=0.0, share=Share("b"))
    second.passed_s = 0.5  # it may be passed no more
    went = {ticket: at for at, ticket in run(lane, 20.0)}
    assert went[first] < 4.0
    assert went[second] > 5.0


def test_rows_that_sleep_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    lane = Admission("acme", (), 0.0)
    rows = [lane.row(f"m{n}", (Limit("requests", 1, 3600.0, burst=1),), 0.0) for n in range(300)]
    for row in rows:
        for _ in range(3):
            enqueue(lane, row)
    fast = lane.row("fast", (EACH_SECOND,), 0.0)
    assert len(lane.admit(0.0)[0]) == 300
    asked: list[str] = []
    wait = type(lane._guard).wait

    def count(guard: object, gauge: object, ticket: Ticket, *, now: float) -> float:
        asked.append(ticket.row.model)
        return wait(guard, gauge, ticket, now=now)  # type: ignore[arg-type]

    monkeypatch.setattr(type(lane._guard), "wait", count)
    for second in range(10):
        enqueue(lane, fast, now=float(second))
        lane.admit(float(second))
    assert set(asked) == {"fast"}


# --- the heap


@given(st.lists(st.tuples(st.sampled_from(["put", "pop", "grow", "shrink"]), st.integers(0, 9)), max_size=300))
def test_a_heap_puts_right_what_has_changed(steps: list[tuple[str, int]]) -> None:
    keys = {item: (0.0, item) for item in range(10)}
    there: set[int] = set()
    heap: Heap[int] = Heap(lambda item: keys[item])
    for number, (what, item) in enumerate(steps):
        if what == "put" or (what == "shrink" and item in there):
            keys[item] = (-float(number), item) if what == "shrink" else keys[item]
            heap.put(item)
            there.add(item)
        elif what == "grow":
            keys[item] = (float(number), item)
        elif what == "pop":
            first = min(there, key=keys.__getitem__, default=None)
            assert heap.pop() == first
            there -= {first}
        assert all((one in heap) == (one in there) for one in keys)
        assert heap.first() == min(there, key=keys.__getitem__, default=None)


def test_a_heap_keeps_nothing_of_what_was_changed_often() -> None:
    keys = dict.fromkeys(range(3), 0)
    heap: Heap[int] = Heap(lambda item: (keys[item], item))
    chance = random.Random(1)
    for number in range(5000):
        item = chance.randrange(3)
        keys[item] = -number
        heap.put(item)
    assert len(heap._heap) < 100
    assert [heap.pop() for _ in range(4)] == [*sorted(keys, key=keys.__getitem__), None]
    heapq.heapify(heap._heap)
    assert heap._entries == {}
