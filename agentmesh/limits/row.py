"""A model's row in the lane of its account, and the tickets of the calls that wait in it or are in flight."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from .aimd import InFlightWindow, Outcome, RateWindow, Sent
from .estimate import TokenEstimate
from .gate import Gate
from .gauge import Gauge, Hold
from .ledger import HeldBy, RowLedger
from .queue import ALONE, Ages, Queue, Share

__all__ = ["OrderKey", "Row", "Ticket"]

OrderKey = tuple[float, float, int]
"""(-priority, -longest remaining path, age): smaller goes first."""

_PACE_S = 2.0  # over how long the pace is measured at which calls went before the first refusal
_RECENT = 64  # calls whose admissions are remembered for that
_FEW_QUEUES = 16  # that may lie empty
_SLOWEST = 0.05  # calls per second to begin with, however few went


@dataclass(eq=False, slots=True)
class Ticket:
    """One call at the lane: what it will need, and what it holds once it is admitted.

    `passed_s` is for how many seconds of refill later calls have gone before it while it did not fit.
    """

    row: Row
    order: OrderKey
    kind: str
    characters: int
    max_tokens: int | None
    share: Share = ALONE
    number: int = 0
    guest: object | None = None  # who may send it on to another lane while it waits
    input_tokens: float = 0.0
    output_tokens: float = 0.0
    state: str = "new"
    waiting_since: float = 0.0
    passed_s: float = 0.0
    admitted_at: float = 0.0
    sent_at: float = 0.0
    blind: bool = False  # whether it was admitted before any reply had shown how good estimates are
    suspect: str | None = None  # of what there was too much if it was refused, as far as headers show it
    doubt: float = 0.0  # variance of what it may cost beyond its estimate, in tokens squared
    held: list[Hold] = field(default_factory=list)
    needs: dict[Gauge, float] = field(default_factory=dict)  # units of limits, as far as somebody has asked
    seen: int = -1  # how many replies the estimate had seen
    in_window: Sent | None = None
    at_pace: Sent | None = None
    place: tuple[OrderKey, int] = field(init=False)

    def __post_init__(self) -> None:
        self.place = (self.order, self.number)

    @property
    def expected(self) -> float:
        """Tokens counted for this call before its use is known."""
        reserves_all = self.max_tokens is not None and self.row.reserves_max_tokens
        return self.input_tokens + (self.max_tokens or 0 if reserves_all else self.output_tokens)

    def estimate(self) -> None:
        """Expect what is known by now: replies that came while this call waited say how long replies are."""
        estimate = self.row.estimate
        if self.seen == estimate.seen:
            return
        self.seen = estimate.seen
        self.input_tokens = estimate.input(self.characters)
        self.output_tokens = estimate.output(self.kind, self.max_tokens)
        self.needs = {}

    def __lt__(self, other: Ticket) -> bool:
        return self.place < other.place


class Row:
    """One endpoint of the account: its queues, its limits, and what it has learned.

    `window` learns how many calls may be in flight where nobody tells it, `pace` how many may go in a second where no
    limit is known at all: it is there from the first refusal on.
    """

    __slots__ = (
        "admitted", "ages", "asleep", "bar", "claimed", "estimate", "flying", "gate", "gauges", "hard", "ledger",
        "model", "pace", "pushed_back", "queues", "recent", "reserves_max_tokens", "turn", "wakes_at",
        "window",
    )  # fmt: skip

    def __init__(self, model: str, gauges: tuple[Gauge, ...], *, window: InFlightWindow | None = None) -> None:
        self.model = model
        self.gauges: tuple[Gauge, ...] = ()
        self.estimate = TokenEstimate()
        self.queues: dict[str, Queue] = {}
        self.ages = Ages()
        self.flying: dict[Ticket, None] = {}
        self.gate = Gate()
        self.ledger = RowLedger()
        self.window = window
        self.pace: RateWindow | None = None
        self.recent: deque[float] = deque(maxlen=_RECENT)
        self.admitted = 0
        self.pushed_back = 0
        self.reserves_max_tokens = False
        self.turn = 0  # calls that went since the oldest did
        # While nobody here can go before a moment, the row sleeps (`lineup.py`):
        self.asleep = False
        self.wakes_at = math.inf
        self.hard = False  # whether that is so for whoever comes, however small
        self.bar: Gauge | None = None  # the limit because of which, if it is one
        self.claimed: dict[Gauge, Ticket] = {}  # what holds which of its calls back meanwhile
        self.add(gauges)

    def __repr__(self) -> str:
        return f"<Row {self.model}: {self.in_flight} in flight, {self.waiting} waiting>"

    def add(self, gauges: tuple[Gauge, ...]) -> None:
        """One more limit is known."""
        self.gauges += gauges
        counting = [gauge.limit.reserves for gauge in self.gauges if "tokens" in gauge.limit.unit]
        self.reserves_max_tokens = all(reserves in ("sum", "max") for reserves in counting)

    @property
    def rates_known(self) -> bool:
        """Whether any limit but that of calls in flight is known."""
        return any(gauge.limit.unit != "in_flight" for gauge in self.gauges)

    @property
    def in_flight(self) -> int:
        return len(self.flying)

    @property
    def waiting(self) -> int:
        return sum(map(len, self.queues.values()))

    def oldest(self) -> Ticket | None:
        """Who has waited longest of all that wait here."""
        return self.ages.oldest()

    def queue(self, share: Share) -> Queue:
        """Where the calls of this share wait."""
        if (queue := self.queues.get(share.name)) is None:
            if len(self.queues) >= _FEW_QUEUES:  # runs come and go
                self.queues = {name: queue for name, queue in self.queues.items() if queue}
            queue = self.queues[share.name] = Queue(self, share)
        return queue

    def wait(self, now: float) -> float:
        """Seconds until the next call may go, as far as push-backs and what was learned of them hold it."""
        if (wait := self.gate.wait(now)) > 0.0:
            return wait
        if self.window is not None and self.window.room() <= 0:
            return math.inf  # until one ends
        return 0.0 if self.pace is None else self.pace.wait(now)

    def held_by(self, now: float) -> HeldBy | None:
        """What that wait is for."""
        if self.gate.wait(now) > 0.0:
            return "frozen" if self.gate.frozen_until is not None else "probing"
        if self.window is not None and self.window.room() <= 0:
            return "in_flight"
        return "pace" if self.pace is not None and self.pace.wait(now) > 0.0 else None

    def passed(self, ticket: Ticket, now: float) -> None:
        """A call goes."""
        self.flying[ticket] = None
        self.admitted += 1
        self.gate.passed(ticket)
        self.ledger.passed(len(self.flying), now)
        if self.window is not None:
            ticket.in_window = self.window.sent()
        if self.pace is not None:
            ticket.at_pace = self.pace.sent(now)
        elif not self.rates_known:
            self.recent.append(now)

    def left(self, ticket: Ticket, outcome: Outcome, *, now: float) -> None:
        """A call is over."""
        del self.flying[ticket]
        self.gate.ended(ticket, now, ok=outcome == "success")
        if self.window is not None and ticket.in_window is not None:
            self.window.ended(ticket.in_window, outcome)
        ticket.in_window = None

    def slow_down(self, ticket: Ticket, now: float, *, wait: float) -> None:
        """A call was refused as too fast, and no limit is known: learn one."""
        if self.pace is None:
            recent = [at for at in self.recent if at >= now - _PACE_S]
            seconds = max(_PACE_S / 2, now - recent[0]) if recent else _PACE_S
            self.pace = RateWindow(start=max(_SLOWEST, len(recent) / seconds))
            ticket.at_pace = self.pace.sent(ticket.sent_at)
        if ticket.at_pace is not None:
            self.pace.pushed_back(ticket.at_pace, now, wait=wait)
            ticket.at_pace = None

    def know_rates(self) -> None:
        """Limits are known now: what was learned in their place is forgotten."""
        self.pace = None
        if self.window is not None:
            self.window.widen()
