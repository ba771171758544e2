"""What a push-back leaves behind: nothing goes until a moment, then one probe, then the rest at a ramp.

A probe is through when it succeeds, or when it has been under way for longer than a refusal takes: replies may take a
minute, and refusals come at once. Where no bucket of ours paces the calls after it, the number of those that may have
gone doubles each time that a refusal takes, until as many have gone as were in flight before.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .row import Ticket

__all__ = ["Gate"]

_ANSWER_MIN_S, _ANSWERS = 0.1, 2.0  # what was not refused after so long, or so many times what a refusal took, will not


class Gate:
    """Where the calls of a row pass. Synchronous; `now` is monotonic seconds."""

    __slots__ = ("_answer_s", "_before", "_probe", "_probing", "_ramp_at", "_ramped", "_ramps", "frozen_until")

    def __init__(self) -> None:
        self.frozen_until: float | None = None
        self._probing = False  # thawed, and the next call is a probe
        self._probe: Ticket | None = None
        self._ramps = False  # whether a ramp follows the probe
        self._ramp_at: float | None = None  # since when calls go again
        self._ramped = 0  # how many have gone since then
        self._before = 0  # how many were in flight before it was frozen
        self._answer_s = _ANSWER_MIN_S

    def __repr__(self) -> str:
        return f"<Gate {'open' if self.frozen_until is None else f'frozen until {self.frozen_until:.3f}'}>"

    def wait(self, now: float) -> float:
        """Seconds until the next call may pass."""
        if self.frozen_until is not None:
            return max(0.0, self.frozen_until - now)
        if self._probe is not None:
            return max(0.0, self._probe.sent_at + self._answer_s - now)
        if self._ramp_at is not None:
            return max(0.0, self._ramp_at + self._answer_s * math.log2(self._ramped) - now)
        return 0.0

    def open(self, now: float) -> bool:
        """That wait is over. Returns whether another one may begin."""
        if self.frozen_until is not None:
            self.frozen_until, self._probing = None, True
        elif self._probe is not None:
            self._go_on(now)
            return True
        return False

    def passed(self, ticket: Ticket) -> None:
        """A call goes."""
        if self._probing:
            self._probe, self._probing = ticket, False
        elif self._ramp_at is not None:
            self._ramped += 1
            if self._ramped > self._before:
                self._ramp_at = None

    def ended(self, ticket: Ticket, now: float, *, ok: bool) -> None:
        """A call is over. If a probe says nothing, the next call is one."""
        if self._probe is ticket:
            if ok:
                self._go_on(now)
            else:
                self._probe, self._probing = None, True

    def freeze(self, until: float, *, in_flight: int, ramps: bool) -> None:
        """Nothing goes before then; `ramps` if what goes afterwards is not paced by a bucket."""
        if self._ramp_at is None and self._probe is None and self.frozen_until is None:
            self._before = in_flight
        self._probe, self._probing, self._ramp_at, self._ramps = None, False, None, ramps
        self.frozen_until = until if self.frozen_until is None else max(self.frozen_until, until)

    def note_refusal(self, seconds: float) -> None:
        """A call was refused, so many seconds after it was sent."""
        self._answer_s = max(_ANSWER_MIN_S, _ANSWERS * seconds)

    def _go_on(self, now: float) -> None:
        self._probe, self._probing = None, False
        self._ramp_at, self._ramped = now if self._ramps else None, 1
