"""Who calls, and on what terms: what an endpoint needs to know of the task that a call belongs to."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from ..errors import ErrorKind
from ..events import Emit
from ..limits.admission import OrderKey
from ..messages import Finish
from ..outcome import Usage
from .budget import Budgets

__all__ = ["Caller", "Halted", "Retry", "Stopwatch", "Tally"]


class Halted(Exception):
    """The run is being cancelled: this call waited in its lane, and is not sent any more."""


@dataclass(frozen=True, slots=True)
class Retry:
    """How often to try, the first time included, and for which kinds of error (None: all that waiting may cure)."""

    attempts: int = 4
    on: Sequence[ErrorKind] | None = None

    def allows(self, attempt: int, kind: ErrorKind) -> bool:
        """Whether one more try may follow `attempt` tries, the last of which ended in an error of this kind."""
        return attempt < self.attempts and (self.on is None or kind in self.on)


@dataclass(eq=False, slots=True)
class Stopwatch:
    """A task's timeout over its attempts: it runs only while a call is in flight, never while one waits for a lane."""

    limit: float
    used: float = 0.0

    @property
    def left(self) -> float:
        return max(0.0, self.limit - self.used)


@dataclass(eq=False, slots=True)
class Tally:
    """What a task's calls have cost so far. `usd` is None once a price was unknown."""

    usage: Usage = Usage()
    usd: float | None = 0.0
    attempts: int = 0
    model: str | None = None
    finish: Finish | None = None

    def add(self, usage: Usage, usd: float | None) -> None:
        """Count one attempt."""
        self.usage += usage
        self.usd = None if self.usd is None or usd is None else self.usd + usd


@dataclass(eq=False, slots=True)
class Caller:
    """One task, as an endpoint sees it.

    `kind` groups calls whose replies are of like length (a task's name); `order` is their place in the lane; `number`
    gives the next call number of the run; `durable` waits until everything emitted so far is on disk; once `halted`
    says so, nothing new is sent.
    """

    address: str
    kind: str
    order: OrderKey
    emit: Emit
    durable: Callable[[], Awaitable[None]]
    number: Callable[[], int]
    rng: random.Random
    budgets: Budgets = field(default_factory=Budgets)
    retry: Retry = Retry()
    agent: str | None = None
    timeout: float | None = None
    stopwatch: Stopwatch | None = None
    tally: Tally = field(default_factory=Tally)
    keep_content: bool = True
    halted: Callable[[], bool] = lambda: False
