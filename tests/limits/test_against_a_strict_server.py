"""A lane that knows a server's limits, and is alone there, is never refused: whatever is asked, cancelled or fails.

Client and server count by the same clock here; what the lane keeps spare for clocks that differ is on top. The server
is the simulated provider's own admission.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmesh.limits.admission import Admission, Ticket
from agentmesh.rates import Limit, Reserves, Settles, Shape, Unit
from agentmesh.simulate.behaviour import Served, ServedModel
from agentmesh.simulate.strict import Admitted, StrictLimits

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


@dataclass(frozen=True)
class World:
    """A server's limits by scope, and what is asked of it."""

    account: tuple[Limit, ...]
    pool: tuple[Limit, ...]
    models: tuple[tuple[Limit, ...], ...]
    asks: tuple[Ask, ...]


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
    ),
    min_size=1, max_size=40,
).map(tuple)  # fmt: skip
worlds = st.builds(World, limits, limits, st.tuples(limits, limits, limits), asks)


class Play:
    """The lane and the server, on one clock that goes from event to event."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.lane = Admission("acme", world.account, 0.0)
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
                self.rows[ask.model], characters=4 * ask.input_tokens, kind="ask", max_tokens=ask.max_tokens,
                order=(-ask.priority, 0.0, 0), now=now,
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
        assert isinstance(found, Admitted), (found, self.lane)
        self.served[ticket] = found
        self.later(now + ask.seconds, "end", ask)


def distinct(asks: tuple[Ask, ...]) -> tuple[Ask, ...]:
    return tuple(dict.fromkeys(asks))


@given(worlds)
@settings(max_examples=250, deadline=None)
def test_what_the_lane_admits_the_server_admits(world: World) -> None:
    world = World(world.account, world.pool, world.models, distinct(world.asks))
    play = Play(world)
    end = play.run()
    lane = play.lane
    fates = [ask.fate for ask in world.asks]
    assert play.done >= sum(fate in ("done", "failed", "pushed back") for fate in fates)
    assert (lane.in_flight, lane.waiting, play.served) == (0, 0, {})
    assert play.server.statistics().refused == 0
    for row in play.rows:
        assert (row.in_flight, row.waiting) == (0, 0)
        for gauge in row.gauges:
            assert gauge.doubt == pytest.approx(0.0, abs=1e-6)
            assert gauge.meter.level(end + 1e6) == gauge.limit.capacity
            if gauge.limit.unit == "in_flight":
                assert gauge.meter.level(end) == gauge.limit.limit


@given(worlds)
@settings(max_examples=60, deadline=None)
def test_nobody_is_passed_for_long(world: World) -> None:
    """Each call that goes is the first in the order of its row, or the oldest of the lane, or fits beside the first."""
    play = Play(World(world.account, world.pool, world.models, distinct(world.asks)))
    send = play.send

    def watched(ticket: Ticket, now: float) -> None:
        waiting = [one for one in play.tickets.values() if one.state == "waiting"]
        before = [one for one in waiting if one.row is ticket.row and one < ticket and one not in play.pushed]
        oldest = all(ticket.number < one.number for one in waiting)
        claimers = [one for one in waiting if one < ticket and 0 < one.passed_s <= 0.5]
        assert not before or oldest or ticket in play.pushed or claimers
        send(ticket, now)

    play.send = watched  # type: ignore[method-assign]
    play.run()
