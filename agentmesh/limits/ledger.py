"""What a lane remembers for its report: by what calls were held back and for how long, and what they used."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from .row import Row

__all__ = ["HeldBy", "LaneLedger", "Outputs", "Recent", "RowLedger", "Spans"]

HeldBy = Literal["frozen", "probing", "in_flight", "pace"]
"""What holds the calls of a row back beside its limits: a freeze, the probe and the ramp after it, what was learned."""

_RECENT_S = 10
_MOST_KINDS = 64  # that are told apart


class Spans:
    """Seconds in all, by what was so. At any time one thing is, or nothing."""

    __slots__ = ("_seconds", "_since", "now_is")

    def __init__(self) -> None:
        self.now_is: str | None = None
        self._since = 0.0
        self._seconds: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<Spans {self._seconds}, now {self.now_is}>"

    def note(self, what: str | None, now: float) -> None:
        """What is so from now on."""
        if what == self.now_is:
            return
        if self.now_is is not None:
            self._seconds[self.now_is] = self.of(self.now_is, now)
        self.now_is, self._since = what, now

    def of(self, what: str, now: float) -> float:
        """For how long this was so."""
        seconds = self._seconds.get(what, 0.0)
        return seconds + max(0.0, now - self._since) if what == self.now_is else seconds


class Recent:
    """Units of the last ten seconds."""

    __slots__ = ("_cells",)

    def __init__(self) -> None:
        self._cells = [(0, 0.0)] * _RECENT_S  # (second, units), a ring

    def add(self, amount: float, now: float) -> None:
        """Count units now; negative ones were counted in vain."""
        second = int(now)
        at, units = self._cells[second % _RECENT_S]
        self._cells[second % _RECENT_S] = (second, units + amount if at == second else amount)

    def units(self, now: float) -> float:
        """The sum."""
        since = int(now) - _RECENT_S
        return max(0.0, sum(amount for second, amount in self._cells if second > since))

    @staticmethod
    def span(age: float) -> float:
        """Over how many seconds that sum is, `age` seconds after the first use."""
        return min(float(_RECENT_S), max(1.0, age))


class Outputs:
    """How long replies may have been, and how long they were, by kind of call and `max_tokens`."""

    __slots__ = ("calls",)

    def __init__(self) -> None:
        self.calls: dict[tuple[str, int], tuple[int, float, int]] = {}  # (calls, their input tokens, longest reply)

    def __repr__(self) -> str:
        return f"<Outputs of {len(self.calls)} kinds>"

    def note(self, kind: str, *, max_tokens: int, input_tokens: float, output_tokens: int) -> None:
        """A call has ended."""
        key = kind, max_tokens
        if key not in self.calls and len(self.calls) >= _MOST_KINDS:
            key = "", max_tokens
        calls, inputs, longest = self.calls.get(key, (0, 0.0, 0))
        self.calls[key] = calls + 1, inputs + input_tokens, max(longest, output_tokens)


class RowLedger:
    """Of one model: its calls, and for how long each thing held them back."""

    __slots__ = ("_began", "held", "outputs", "peak", "recent")

    def __init__(self) -> None:
        self.held = Spans()
        self.recent = Recent()
        self.outputs = Outputs()
        self.peak = 0
        self._began: float | None = None

    def passed(self, in_flight: int, now: float) -> None:
        """A call goes; with it, so many are in flight."""
        if self._began is None:
            self._began = now
        self.peak = max(self.peak, in_flight)
        self.recent.add(1.0, now)

    def pace(self, now: float) -> float:
        """Calls per second over the last ten seconds."""
        began = now if self._began is None else self._began
        return self.recent.units(now) / Recent.span(now - began)


class LaneLedger:
    """Of one account: for how long calls waited, were frozen after push-backs, or were only waited for."""

    __slots__ = ("_held", "spans")

    def __init__(self) -> None:
        self.spans = Spans()  # `latency`: in flight, and none waits; else `frozen`, `probing`, or `waiting` for more
        self._held: dict[Row, HeldBy] = {}

    def note(self, rows: Iterable[Row], *, waiting: int, in_flight: int, now: float) -> None:
        """How it is after a decision; `rows` are those for which it may be different than before."""
        what = "waiting" if waiting else "latency" if in_flight else None
        for row in rows if waiting else list(self._held):
            held = row.held_by(now) if any(row.queues.values()) else None
            row.ledger.held.note(held, now)
            if held is not None:
                self._held[row] = held
            else:
                self._held.pop(row, None)
        if self._held and what == "waiting":
            held_by = set(self._held.values())
            what = "frozen" if "frozen" in held_by else "probing" if "probing" in held_by else what
        self.spans.note(what, now)

    def active_s(self, now: float) -> float:
        """Seconds in which calls waited here or were in flight."""
        return sum(self.spans.of(what, now) for what in ("waiting", "frozen", "probing", "latency"))
