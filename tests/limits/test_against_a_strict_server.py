"""A lane that knows a server's limits, and is alone there, is never refused: whatever is asked, cancelled or fails.

Client and server count by the same clock here; what the lane keeps spare for clocks that differ is on top. The server
is the simulated provider's own admission, and its headers are those that the dialects write and read.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmesh.dialects import dialect
from agentmesh.dialects.base import LimitLevel
from agentmesh.limits.admission import Admission, Ticket
from agentmesh.limits.gauge import Gauge
from agentmesh.limits.queue import ALONE, Share
from agentmesh.rates import Limit, Reserves, Settles, Shape, Unit
from agentmesh.simulate.behaviour import Served, ServedModel
from agentmesh.simulate.strict import Admitted, Refused, StrictLimits

LARGEST = 300  # tokens of a call, input and max_tokens together


@dataclass(frozen=True)
class Ask:
    """One call: when, of which model, how large, how long, and what becomes of it."""

    at: float
    model: int
    priority: int
    input_tokens: int
    max_tokens: int
    output_share: float
    seconds: float
    fate: str
    delay: float
    share: int = 0
    longer: float = 1.0  # than four characters a token


@dataclass(frozen=True)
class World:
    """A server's limits by scope, and what is asked of it."""

    account: tuple[Limit, ...]
    pool: tuple[Limit, ...]
    models: tuple[tuple[Limit, ...], ...]
    asks: tuple[Ask, ...]
    dialect: str | None = None  # whose headers the client reads
    known: bool = True  # whether the client's file has the limits
    sleeps: float = 0.0  # seconds by which the clock jumps after five


quarters = st.integers(0, 40).map(lambda n: n / 4)
shapes: st.SearchStrategy[Shape] = st.sampled_from(["bucket", "fixed", "sliding"])
windows = st.sampled_from([1.0, 10.0, 60.0])


@st.composite
def token_limits(draw: st.DrawFn) -> Limit:
    unit: Unit = draw(st.sampled_from(["tokens", "input_tokens"]))
    reserves: Reserves = draw(st.sampled_from(["sum", "max"])) if unit == "tokens" else "input"
    settles: Settles = draw(st.sampled_from(["actual", "reserved"]))
    debt, shape = draw(st.booleans()), draw(shapes)
    burst = draw(st.sampled_from([None, 400.0])) if debt else 400.0
    return Limit(unit, draw(st.integers(LARGEST, 3000)), draw(windows), burst, shape, reserves, settles, debt)


def request_limits(shape: Shape, limit: int, window: float, burst: int | None) -> Limit:
    return Limit("requests", limit, window, burst, shape)


limits = st.lists(
    st.one_of(
        token_limits(),
        st.builds(request_limits, shapes, st.integers(1, 60), windows, st.sampled_from([None, 1, 5])),
        st.builds(lambda limit: Limit("in_flight", limit), st.integers(1, 8)),
    ),
    max_size=3,
).map(tuple)
asks = st.lists(
    st.builds(
        Ask, quarters, st.integers(0, 2), st.integers(0, 2), st.integers(1, 100), st.integers(1, 200),
        st.floats(0, 1), quarters,
        st.sampled_from(["done"] * 6 + ["failed", "cancelled", "never sent", "pushed back"]), quarters,
        st.integers(0, 2),
    ),
    min_size=1, max_size=40,
).map(tuple)  # fmt: skip
hours = st.sampled_from([0.0, 0.0, 3600.0, 8 * 3600.0])
worlds = st.builds(World, limits, limits, st.tuples(limits, limits, limits), asks, sleeps=hours)
SHARES = (ALONE, Share("light", 1.0), Share("heavy", 3.0))
NONE: tuple[tuple[Limit, ...], ...] = ((), (), ())


@st.composite
def told_limits(draw: st.DrawFn, *, shaped: bool) -> tuple[tuple[Limit, ...], str]:
    """Limits of a minute, at most one of each unit: what a dialect's headers can tell exactly; and the dialect."""
    dialect = draw(st.sampled_from(["openai-chat", "anthropic"]))
    unit: Unit = "tokens" if dialect == "openai-chat" else "input_tokens"
    shape = shapes if shaped else st.just(None)
    requests = st.builds(lambda limit, shape: Limit("requests", limit, shape=shape), st.integers(1, 300), shape)
    # Anthropic tells thousands: a limit below a few of them says nothing.
    tokens = st.builds(lambda limit, shape: Limit(unit, limit, shape=shape), st.integers(LARGEST, 30_000), shape)
    return draw(st.lists(st.one_of(requests, tokens), max_size=2, unique_by=lambda one: one.unit).map(tuple)), dialect


class Play:
    """The lane and the server, on one clock that goes from event to event."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.lane = Admission("acme", world.account if world.known else (), 0.0)
        self.models = [ServedModel(f"m{n}", limits=own, pool="p" if n else None) for n, own in enumerate(world.models)]
        served = Served({model.name: model for model in self.models}, world.account, {"p": world.pool})
        self.server = StrictLimits(served, 0.0)
        self.rows = [
            self.lane.row(model.name, model.limits, 0.0, pool=model.pool, pool_limits=world.pool)
            for model in self.models
        ]
        self.events = [(ask.at, n, "ask", ask) for n, ask in enumerate(world.asks)]
        heapq.heapify(self.events)
        self.count = len(self.events)
        self.tickets: dict[Ask, Ticket] = {}
        self.asked: dict[Ticket, Ask] = {}
        self.served: dict[Ticket, Admitted] = {}
        self.pushed: set[Ticket] = set()
        self.told: dict[Ticket, dict[str, str]] = {}
        self.dialect = None if world.dialect is None else dialect(world.dialect)
        self.slept = 0.0
        self.done = 0

    def later(self, at: float, what: str, ask: Ask) -> None:
        self.count += 1
        heapq.heappush(self.events, (at, self.count, what, ask))

    def run(self) -> float:
        """Until nothing is left to do; returns when that was."""
        now, wait = 0.0, math.inf
        while self.events or self.lane.waiting:
            next_event = self.events[0][0] if self.events else math.inf
            assert min(next_event, wait) < math.inf, "calls wait for ever"
            now = max(now, min(next_event, now + max(wait, 1e-4)))
            if now > 5.0 and not self.slept:
                self.slept = self.world.sleeps
                now += self.slept
            while self.events and self.events[0][0] <= now:
                _, _, what, ask = heapq.heappop(self.events)
                self.happens(what, ask, now)
            admitted, wait = self.lane.admit(now)
            for ticket in admitted:
                self.send(ticket, now)
            if admitted:
                wait = 0.0  # some may have gone at once: ask again
        return now

    def happens(self, what: str, ask: Ask, now: float) -> None:
        if what == "ask":
            ticket = self.lane.enqueue(
                self.rows[ask.model], characters=round(4 * ask.longer * ask.input_tokens), kind="ask",
                max_tokens=ask.max_tokens, order=(-ask.priority, 0.0, 0), now=now, share=SHARES[ask.share],
            )  # fmt: skip
            self.tickets[ask], self.asked[ticket] = ticket, ask
            if ask.fate == "cancelled":
                self.later(now + ask.delay, "cancel", ask)
            return
        ticket = self.tickets[ask]
        if what == "cancel":
            if ticket.state == "waiting":
                self.lane.cancel(ticket, now)
            return
        if self.dialect is not None:
            written_at = self.served[ticket].since
            self.lane.hear(ticket, self.dialect.read_levels(self.told.pop(ticket), now=written_at), now=now)
        output = round(ask.output_share * ask.max_tokens)
        failed = ask.fate == "failed"
        self.server.settle(self.served.pop(ticket), now, output_tokens=0 if failed else output, completed=not failed)
        if failed:
            self.lane.settle(ticket, now, outcome="ignored")
        else:
            self.lane.settle(ticket, now, input_tokens=ask.input_tokens, output_tokens=output)
        self.done += 1

    def send(self, ticket: Ticket, now: float) -> None:
        ask = self.asked[ticket]
        if ask.fate == "never sent":
            self.lane.cancel(ticket, now)
            return
        if ask.fate == "pushed back" and ticket not in self.pushed:  # by somebody between: the server never saw it
            self.pushed.add(ticket)
            self.lane.push_back(ticket, ask.delay, now)
            self.lane.put_back(ticket, now)
            return
        model = self.models[ask.model]
        found = self.server.admit(
            model, model.name, input_tokens=ask.input_tokens, output_tokens=ask.max_tokens, now=now
        )
        if isinstance(found, Refused):
            self.refused(ticket, found, now=now)
            return
        self.served[ticket] = found
        if self.dialect is not None:
            levels = [LimitLevel(*level) for level in self.server.levels(model, model.name, now=now)]
            self.told[ticket] = self.dialect.limit_headers(levels, now=now)
        self.later(now + ask.seconds, "end", ask)

    def refused(self, ticket: Ticket, found: Refused, *, now: float) -> None:
        raise AssertionError((found, self.lane))

    def leaves_nothing(self, end: float) -> None:
        """Whatever happened: nobody holds anything, nobody is missing."""
        lane = self.lane
        assert (lane.in_flight, lane.waiting, self.served) == (0, 0, {})
        for row in self.rows:
            assert (row.in_flight, row.waiting) == (0, 0)
            for gauge in row.gauges:
                assert gauge.doubt == pytest.approx(0.0, abs=1e-6)
                assert gauge.meter.level(end + 1e6) == gauge.limit.capacity
                if gauge.limit.unit == "in_flight":
                    assert gauge.meter.level(end) == gauge.limit.limit
        assert lane.admit(end + 1.0) == ([], math.inf)
        assert all(not one.binds for one in lane.statistics(end + 2.0).limits)


def distinct(asks: tuple[Ask, ...]) -> tuple[Ask, ...]:
    return tuple(dict.fromkeys(asks))


@given(worlds)
@settings(max_examples=250, deadline=None)
def test_what_the_lane_admits_the_server_admits(world: World) -> None:
    world = replace(world, asks=distinct(world.asks))
    play = Play(world)
    end = play.run()
    fates = [ask.fate for ask in world.asks]
    assert play.done >= sum(fate in ("done", "failed", "pushed back") for fate in fates)
    assert play.server.statistics().refused == 0
    play.leaves_nothing(end)


def test_what_came_back_to_a_full_bucket_does_not_come_back_twice() -> None:
    """Taken for replies before the server counts them, which ends only after hours in which both buckets were full."""
    limit = Limit("tokens", 329, 60.0, 400.0, "bucket", reserves="max", settles="actual", debt=False)
    asks = (
        Ask(2.75, 2, 0, 69, 168, 0.0, 0.75, "done", 0.0, share=1),
        Ask(2.5, 2, 2, 69, 110, 0.75, 6.25, "done", 0.0, share=2),
        Ask(2.5, 0, 1, 78, 41, 0.9, 5.5, "done", 0.0, share=1),
        Ask(8.25, 2, 1, 84, 175, 0.93, 5.25, "done", 0.0),
    )
    play = Play(World((limit,), (), NONE, asks, sleeps=8 * 3600.0))
    play.leaves_nothing(play.run())


def test_what_is_taken_ahead_late_comes_back_and_what_was_full_at_another_figure_does_not() -> None:
    limit = Limit("tokens", 600, 60.0, 100.0, "bucket", reserves="input")
    gauge = Gauge(limit, "acme", 0.0)
    gauge.take(10.0, 0.0)
    gauge.release_ahead(-60.0, 20.0, since=0.0)  # the first reply shows at a full bucket that more will be used
    assert gauge.meter.level(20.0) == 40.0
    gauge.release_ahead(60.0, 21.0, since=0.0)
    assert gauge.meter.level(21.0) == 100.0
    gauge.take(60.0, 30.0, ahead=60.0)
    gauge.adopt(replace(limit, limit=6000, burst=1000.0), 60.0)  # full of 100, which are all that both now have
    gauge.release_ahead(60.0, 60.0, since=30.0)
    assert gauge.meter.level(60.0) == 100.0


@given(told_limits(shaped=True), asks, hours)
@settings(max_examples=100, deadline=None)
def test_true_headers_however_stale_make_no_difference_to_that(
    told: tuple[tuple[Limit, ...], str], asks: tuple[Ask, ...], sleeps: float
) -> None:
    """They are written when a call is admitted, and read when it ends: ten seconds later, in any order."""
    account, dialect = told
    play = Play(World(account, (), NONE, distinct(asks), dialect=dialect, sleeps=sleeps))
    play.leaves_nothing(play.run())
    assert play.server.statistics().refused == 0


@given(told_limits(shaped=False), asks)
@settings(max_examples=100, deadline=None)
def test_once_headers_have_told_the_limits_nothing_is_refused(
    told: tuple[tuple[Limit, ...], str], asks: tuple[Ask, ...]
) -> None:
    """Of one model: no header says which models a limit counts together."""
    account, dialect = told
    first = Ask(0.0, 0, 0, 10, 10, 0.5, 0.0, "done", 0.0)
    later = distinct(tuple(replace(ask, at=ask.at + 90.0, model=0) for ask in asks))
    play = Play(World(account, (), NONE, (first, *later), dialect=dialect, known=False))
    play.leaves_nothing(play.run())
    assert play.server.statistics().refused == 0
    if dialect == "openai-chat":
        learned = {gauge.limit.unit: gauge.limit for gauge in play.rows[0].gauges if gauge.told}
        assert {unit: limit.limit for unit, limit in learned.items()} == {one.unit: one.limit for one in account}
        for one in account:  # what is left is told in whole units, times in milliseconds
            assert one.capacity - 1.01 <= learned[one.unit].capacity <= one.capacity + 0.001 * one.per_second


class Pushed(Play):
    """A server that refuses, and says for how long."""

    def refused(self, ticket: Ticket, found: Refused, *, now: float) -> None:
        assert found.wait < math.inf
        self.lane.push_back(ticket, found.wait, now, times=1)
        self.lane.put_back(ticket, now)


@given(worlds, st.lists(st.floats(0.7, 1.4), min_size=1, max_size=5))
@settings(max_examples=100, deadline=None)
def test_estimates_that_are_wrong_lose_nobody_and_leave_nothing(world: World, longer: list[float]) -> None:
    asks = [replace(ask, longer=longer[n % len(longer)]) for n, ask in enumerate(distinct(world.asks))]
    world = replace(world, asks=tuple(ask for ask in asks if 3 * ask.input_tokens + ask.max_tokens <= LARGEST))
    play = Pushed(world)
    play.leaves_nothing(play.run())
    assert play.done >= sum(ask.fate in ("done", "failed", "pushed back") for ask in world.asks)


@given(worlds)
@settings(max_examples=100, deadline=None)
def test_nobody_who_could_go_is_left_asleep(world: World) -> None:
    """A lane that looks at everybody again finds only calls that fit beside a waiting one, which is nobody's due."""
    # After a refusal the guard shrinks with each success; who sleeps does not hear of these few milliseconds.
    asks = [replace(ask, fate="done") if ask.fate == "pushed back" else ask for ask in world.asks]
    play = Play(replace(world, asks=distinct(tuple(asks))))
    admit = play.lane.admit

    def again(now: float) -> tuple[list[Ticket], float]:
        admitted, wait = admit(now)
        if not admitted:
            for row in play.rows:
                play.lane._wake(row)
            play.lane._stirred = True
            admitted, wait = admit(now)
            waiting = [one for one in play.tickets.values() if one.state == "waiting"]
            assert not admitted or any(0 < one.passed_s <= 0.5 for one in waiting)
        return admitted, wait

    play.lane.admit = again  # type: ignore[method-assign]
    play.leaves_nothing(play.run())


@given(worlds)
@settings(max_examples=60, deadline=None)
def test_nobody_is_passed_for_long(world: World) -> None:
    """Each call that goes is the first in the order of its row, or the oldest of the row, or fits beside the first."""
    play = Play(replace(world, asks=distinct(world.asks)))
    send = play.send

    def watched(ticket: Ticket, now: float) -> None:
        waiting = [one for one in play.tickets.values() if one.state == "waiting"]
        before = [one for one in waiting if one < ticket and one not in play.pushed]
        before = [one for one in before if (one.row, one.share) == (ticket.row, ticket.share)]
        oldest = all(ticket.number < one.number for one in waiting if one.row is ticket.row)
        claimers = [one for one in waiting if one < ticket and 0 < one.passed_s <= 0.5]
        assert not before or oldest or ticket in play.pushed or claimers
        send(ticket, now)

    play.send = watched  # type: ignore[method-assign]
    play.run()
