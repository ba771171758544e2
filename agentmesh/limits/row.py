"""A model's row in the lane of its account, and the tickets of the calls that wait in it or are in flight."""

from __future__ import annotations

from dataclasses import dataclass, field

from .estimate import TokenEstimate
from .gauge import Gauge

__all__ = ["OrderKey", "Row", "Ticket"]

OrderKey = tuple[float, float, int]
"""(-priority, -longest remaining path, age): smaller goes first."""

_PROBE_MIN_S, _PROBE_REFUSALS = 0.1, 2.0  # a probe is through after so long, and so many times what a refusal took


@dataclass(eq=False, slots=True)
class Ticket:
    """One call at the lane: what it will need, and what it holds once it is admitted."""

    row: Row
    order: OrderKey
    kind: str
    characters: int
    max_tokens: int | None
    number: int = 0
    input_tokens: float = 0.0
    output_tokens: float = 0.0
    state: str = "waiting"
    waiting_since: float = 0.0
    admitted_at: float = 0.0
    sent_at: float = 0.0
    doubt: float = 0.0  # variance of what it may cost beyond its estimate, in tokens squared
    held: list[tuple[Gauge, float]] = field(default_factory=list)

    @property
    def expected(self) -> float:
        """Tokens counted for this call before its use is known."""
        reserves_all = self.max_tokens is not None and self.row.reserves_max_tokens
        return self.input_tokens + (self.max_tokens or 0 if reserves_all else self.output_tokens)

    def estimate(self) -> None:
        """Expect what is known by now: replies that came while this call waited say how long replies are."""
        self.input_tokens = self.row.estimate.input(self.characters)
        self.output_tokens = self.row.estimate.output(self.kind, self.max_tokens)

    def __lt__(self, other: Ticket) -> bool:
        return (self.order, self.number) < (other.order, other.number)


class Row:
    """One endpoint of the account: its queue, its limits, and what it has learned."""

    __slots__ = (
        "admitted", "estimate", "frozen_until", "gauges", "in_flight", "model", "probe", "probe_s", "probing",
        "pushed_back", "reserves_max_tokens", "waiting",
    )  # fmt: skip

    def __init__(self, model: str, gauges: tuple[Gauge, ...]) -> None:
        self.model = model
        self.gauges = gauges
        self.estimate = TokenEstimate()
        self.waiting: list[Ticket] = []
        self.in_flight = 0
        self.admitted = 0
        self.pushed_back = 0
        self.frozen_until: float | None = None
        self.probing = False  # thawed, and the first call since has not succeeded yet
        self.probe: Ticket | None = None
        self.probe_s = _PROBE_MIN_S  # a probe that was not refused by then will not be
        self.reserves_max_tokens = all(g.limit.reserves in ("sum", "max") for g in gauges if "tokens" in g.limit.unit)

    def wait(self, now: float) -> float:
        """Seconds until the next call may go, as far as a push-back holds it."""
        if self.frozen_until is not None:
            return max(0.0, self.frozen_until - now)
        return 0.0 if self.probe is None else max(0.0, self.probe.sent_at + self.probe_s - now)

    def thaw(self) -> None:
        """That wait is over: where it was frozen a probe may go, after a probe all may."""
        self.probing = self.frozen_until is not None or (self.probing and self.probe is None)
        self.frozen_until = self.probe = None

    def note_refusal(self, seconds: float) -> None:
        """A call was refused, `seconds` after it was sent."""
        self.pushed_back += 1
        self.probe_s = max(_PROBE_MIN_S, _PROBE_REFUSALS * seconds)

    def __repr__(self) -> str:
        return f"<Row {self.model}: {self.in_flight} in flight, {len(self.waiting)} waiting>"
