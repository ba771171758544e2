"""Counts of a run, kept up to date event by event: the row that a list of runs is made of."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field, fields
from typing import Any

from ..events import (
    CallEnded,
    CallIntent,
    CallSpared,
    Event,
    Notice,
    RunEnded,
    RunResumed,
    RunStarted,
    RunStatus,
    TaskAdded,
    TaskDropped,
    TaskEnded,
    TaskReopened,
)
from ..outcome import Usage
from .encode import storable
from .parts import Parts

__all__ = ["TALLY_COLUMNS", "Tally"]


@dataclass(slots=True)
class Tally:
    """What is known of a run after the event with the number `last`.

    `began` and `ended` are seconds since 1970; `usd` sums what had a price, and `unpriced` counts the answered calls
    that had none. `calls` leaves out those that were pushed back. `status` is None until the run has ended. `identity`
    says what was asked for, `call` the highest number of a call. `seconds` are those of all processes that have ended
    in order, of which they were `paused` for so many, not counting the pause that began at `paused_at` and has not
    ended. `resumes` is how often another one went on; `spent_usd` and `spent_tokens` are what budgets count. `parts`
    has only what the file's tables lack. `spared` calls were not sent, as their answer was known; `saved_usd` is what
    those cost elsewhere, as far as it is known. `simulated` counts the calls of simulated models, sent or spared, but
    for uncertain ones.
    """

    last: int = 0
    name: str = ""
    source: str | None = None
    began: float | None = None
    ended: float | None = None
    seconds: float | None = None
    status: RunStatus | None = None
    added: int = 0
    done: int = 0
    failed: int = 0
    skipped: int = 0
    cancelled: int = 0
    calls: int = 0
    pushed_back: int = 0
    usd: float = 0.0
    unpriced: int = 0
    uncertain: int = 0
    input_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    call: int = 0
    resumes: int = 0
    identity: str | None = None
    spent_usd: float = 0.0
    spent_tokens: float = 0.0
    spared: int = 0
    saved_usd: float = 0.0
    simulated: int = 0
    paused: float = 0.0
    paused_at: float | None = None
    parts: Parts = field(default_factory=Parts)

    @property
    def is_simulated(self) -> bool:
        """Whether all that has cost something was simulated."""
        return 0 < self.simulated >= self.calls - self.uncertain + self.spared

    @property
    def usage(self) -> Usage:
        """What all calls used so far."""
        return Usage(
            self.calls, self.pushed_back, self.uncertain, self.input_tokens, self.cached_tokens, self.output_tokens,
            self.reasoning_tokens,
        )  # fmt: skip

    def add(self, number: int, event: Event) -> None:
        """Count one event. What the run itself says at its end wins over what was counted."""
        self.last = number
        self.parts.add(number, event)
        match event:
            case CallIntent():
                self.call = max(self.call, event.call)
            case CallEnded():
                self._use(event.usage)
                self.usd += event.usd or 0.0
                self.simulated += event.usage.calls - event.usage.uncertain if event.simulated else 0
                self.spent_usd += event.paid_usd
                self.spent_tokens += event.paid_tokens
                self.unpriced += event.usd is None and event.result == "ok"
            case CallSpared():
                self.call = max(self.call, event.call)
                self.spared += 1
                self.simulated += event.simulated
                self.saved_usd += event.usd or 0.0
            case TaskAdded():
                self.added += 1
            case TaskEnded(outcome=outcome):
                setattr(self, outcome.state, getattr(self, outcome.state) + 1)
            case TaskReopened(state=state):
                setattr(self, state, getattr(self, state) - 1)
            case TaskDropped(state=ended):
                self.added -= 1
                if ended is not None:
                    setattr(self, ended, getattr(self, ended) - 1)
            case RunStarted():
                self.name, self.began = storable(event.name), event.at
                self.source = None if event.source is None else storable(event.source)
                self.identity = event.identity
            case Notice(paused=bool(on)):
                self._pause(event.at, on=on)
            case RunResumed():
                self.status, self.ended, self.seconds = None, None, event.seconds
                self.paused, self.paused_at = event.paused, None
                self.resumes += 1
            case RunEnded():
                self.status, self.ended, self.seconds = event.status, event.at, event.seconds
                self.paused, self.paused_at = event.paused, None
                self._note(event.usage)
                if event.usd is not None:
                    self.usd, self.unpriced = event.usd, 0
            case _:
                pass

    def _pause(self, at: float, *, on: bool) -> None:
        if self.paused_at is not None:
            self.paused += max(0.0, at - self.paused_at)  # the clock may be set back
        self.paused_at = at if on else None

    def _use(self, used: Usage) -> None:
        """Add up in place, since it is done for every call."""
        self.calls += used.calls
        self.pushed_back += used.pushed_back
        self.uncertain += used.uncertain
        if used.input_tokens is not None:
            self.input_tokens = (self.input_tokens or 0) + used.input_tokens
        if used.cached_tokens is not None:
            self.cached_tokens = (self.cached_tokens or 0) + used.cached_tokens
        if used.output_tokens is not None:
            self.output_tokens = (self.output_tokens or 0) + used.output_tokens
        if used.reasoning_tokens is not None:
            self.reasoning_tokens = (self.reasoning_tokens or 0) + used.reasoning_tokens

    def _note(self, used: Usage) -> None:
        self.calls, self.pushed_back, self.uncertain = used.calls, used.pushed_back, used.uncertain
        self.input_tokens, self.cached_tokens = used.input_tokens, used.cached_tokens
        self.output_tokens, self.reasoning_tokens = used.output_tokens, used.reasoning_tokens

    def take(self) -> Tally:
        """These counts to be written down, and with them the parts: from now on those of what comes next."""
        taken = copy(self)
        self.parts = Parts()
        return taken

    def row(self) -> tuple[Any, ...]:
        """The values of `TALLY_COLUMNS`."""
        return tuple(getattr(self, name) for name in TALLY_COLUMNS)

    def close(self, status: RunStatus, at: float) -> None:
        """Note how a run ended that did not say so itself."""
        if self.status is None:
            self.status, self.ended = status, at
            self.seconds = None if self.began is None else max(0.0, at - self.began)  # the clock may be set back


TALLY_COLUMNS = tuple(f.name for f in fields(Tally) if f.name != "parts")
"""Columns of the `run` table after `id`, in their order."""
