"""Who calls, and on what terms: what an endpoint needs to know of the task that a call belongs to."""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import get_args

from ..clock import monotonic
from ..errors import ErrorKind, UserError
from ..events import Emit
from ..limits.admission import OrderKey
from ..limits.queue import ALONE, Share
from ..messages import Finish, Request
from ..outcome import Usage
from .budget import Budgets
from .known import Known, KnownTools, request_key
from .pausing import Pause

__all__ = ["Caller", "Halted", "Retry", "Stopwatch", "Tally", "check_weight"]


class Halted(Exception):
    """The run is being cancelled, or nobody wants this task any more: its call waited in a lane, and is not sent."""


@dataclass(frozen=True, slots=True)
class Retry:
    """How often to try, the first time included, and for which kinds of error (None: all that waiting may cure).

    Raises ValueError for a number below 1 and for kinds that there are not.
    """

    attempts: int = 8
    on: Sequence[ErrorKind] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.attempts, int) or isinstance(self.attempts, bool) or self.attempts < 1:
            raise ValueError(f"attempts must be a whole number from 1 on, not {self.attempts!r}")
        kinds = get_args(ErrorKind)
        if self.on is not None and (wrong := [kind for kind in self.on if kind not in kinds]):
            raise ValueError(f"there are no errors of kind {', '.join(map(str, wrong))}; there are {', '.join(kinds)}")

    def allows(self, attempt: int, kind: ErrorKind) -> bool:
        """Whether one more try may follow `attempt` tries, the last of which ended in an error of this kind."""
        return attempt < self.attempts and (self.on is None or kind in self.on)


def check_weight(weight: float, *, of: str) -> float:
    """The weight of a share, as it is. Raises UserError for what is no finite number above 0."""
    number = isinstance(weight, int | float) and not isinstance(weight, bool)
    if not (number and 0 < weight <= sys.float_info.max):
        raise UserError(f"{of}: a weight is a finite number above 0, not {weight!r}")
    return weight


class Stopwatch:
    """A task's timeout over its attempts: it runs while a call is in flight, never while all wait for a lane.

    Calls that are in flight at once, such as the matches of a tournament, use the same time. `limit` in seconds.
    """

    __slots__ = ("_in_flight", "_since", "_used", "limit")

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._used = 0.0
        self._in_flight = 0
        self._since = 0.0

    def __repr__(self) -> str:
        return f"<Stopwatch {self._used:g} of {self.limit:g} s, {self._in_flight} in flight>"

    def start(self) -> None:
        """One more call is in flight."""
        if not self._in_flight:
            self._since = monotonic()
        self._in_flight += 1

    def stop(self) -> None:
        """One of them has ended."""
        self._in_flight -= 1
        if not self._in_flight:
            self._used += monotonic() - self._since

    @property
    def left(self) -> float:
        """Seconds that are left."""
        running = monotonic() - self._since if self._in_flight else 0.0
        return max(0.0, self.limit - self._used - running)


@dataclass(eq=False, slots=True)
class Tally:
    """What a task's calls have cost so far. `usd` is None once a price was unknown; `calls` are their numbers.

    `keys` counts what was asked where.
    """

    usage: Usage = Usage()
    usd: float | None = 0.0
    attempts: int = 0
    model: str | None = None
    finish: Finish | None = None
    calls: list[int] = field(default_factory=list)
    keys: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, usage: Usage, usd: float | None) -> None:
        """Count one attempt."""
        self.usage += usage
        self.usd = None if self.usd is None or usd is None else self.usd + usd


@dataclass(eq=False, slots=True)
class Caller:
    """One task, as an endpoint sees it.

    `kind` groups calls whose replies are of like length (a task's name); `order` is their place in the lane; `number`
    gives the next call number of the run; `durable` waits until everything emitted so far is on disk; once `halted`
    says so, nothing new is sent, nor while `pause` is on. `share` is on whose behalf it waits in the lane.

    `known` are asked for an answer before a model is, `known_tools` for what a tool gave; `is_kept` says that somebody
    may look for the answer later, `sample` which of several it is; `grew` whether the task has started others.
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
    pause: Pause = field(default_factory=Pause)
    share: Share = ALONE
    known: Sequence[Known] = ()
    is_kept: bool = False
    sample: int | None = None
    known_tools: KnownTools | None = None
    grew: Callable[[], bool] = lambda: False

    def key_of(self, request: Request) -> str | None:
        """What this request is found by, and the next one that is just the same by another key."""
        if not (self.is_kept or self.known):
            return None
        key = request_key(request, sample=self.sample)
        self.tally.keys[self.address, key] += 1
        number = self.tally.keys[self.address, key]
        return key if number == 1 else f"{key}~{number}"
