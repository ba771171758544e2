"""What happened in a run, as frozen values.

The journal, the screen, the report and telemetry read nothing else. `at` is wall time in seconds since 1970. Events
carry plain data only, so that each can be written as JSON and read back.
"""

from __future__ import annotations

import json
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, cast

from pydantic import TypeAdapter

from .errors import ErrorInfo
from .messages import Reply, Request
from .outcome import Outcome, State, Usage

__all__ = [
    "EVENT_TYPES", "CallEnded", "CallIntent", "CallSpared", "CollectionClosed", "Emit", "Event", "LaneFrozen",
    "MatchEnded", "Notice", "RunEnded", "RunResumed", "RunStarted", "RunStatus", "Source", "Standing",
    "StandingsChanged", "TaskAdded", "TaskDropped", "TaskEnded", "TaskReopened", "TaskStarted", "ToolEnded",
    "as_recorded", "read_event", "write_event",
]  # fmt: skip

RunStatus = Literal["done", "partial", "stopped", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """A run began. `source` is the workflow's file, `spec` its text, `options` how the command was given.

    `identity` says what is asked for: a run with another one is not the same once more. `content` is whether prompts,
    replies and values are recorded.
    """

    at: float
    run: str
    name: str
    source: str | None = None
    spec: str | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    tasks: tuple[str, ...] = ()
    waits_for: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    identity: str | None = None
    content: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskAdded:
    """A task entered the graph. `needs` are addresses; `lane` is the account it will call, if any."""

    at: float
    task: str
    key: str | None = None
    sample: int | None = None
    needs: tuple[str, ...] = ()
    lane: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionClosed:
    """The last item of a task's collection is in the graph: `items` of them."""

    at: float
    task: str
    items: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStarted:
    """A task left the backlog and is being performed."""

    at: float
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallIntent:
    """A call was admitted and is about to be sent: durable before the first byte leaves.

    `call` counts within the run; an attempt of the same call has the same number. `waited` is seconds in the lane.
    `key` says what is asked, so that a later process finds the answer; `reserved_usd` and `reserved_tokens` are what
    budgets hold for it at most, and what it counts as if no end of it is recorded.
    """

    at: float
    call: int
    attempt: int
    address: str
    agent: str | None
    account: str
    model: str
    request: Request | None
    waited: float = 0.0
    key: str | None = None
    reserved_usd: float = 0.0
    reserved_tokens: float = 0.0


Source = Literal["cache", "recording"]
"""Where an answer was that need not be asked for."""
CallResult = Literal["ok", "pushed_back", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEnded:
    """What came of one attempt of a call. `uncertain`: it may have been paid without an answer reaching us.

    `spent_usd` and `spent_tokens` are what budgets count for it, where that is not what it cost. What is `simulated`
    cost nobody anything.
    """

    at: float
    call: int
    attempt: int
    address: str
    agent: str | None
    account: str
    model: str
    result: CallResult
    seconds: float
    reply: Reply | None = None
    error: ErrorInfo | None = None
    uncertain: bool = False
    usage: Usage = Usage()
    usd: float | None = None
    spent_usd: float | None = None
    spent_tokens: float | None = None
    simulated: bool = False

    @property
    def paid_usd(self) -> float:
        """What a budget in dollars counts for it."""
        return (self.usd or 0.0) if self.spent_usd is None else self.spent_usd

    @property
    def paid_tokens(self) -> float:
        """What a budget in tokens counts for it."""
        used = (self.usage.input_tokens or 0) + (self.usage.output_tokens or 0)
        return used if self.spent_tokens is None else self.spent_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneFrozen:
    """A lane admits nothing for `concerns` (a model, or the account as a whole) for `seconds`: it was pushed back."""

    at: float
    account: str
    concerns: str
    seconds: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEnded:
    """A task reached its end state. `asked` is the hash of what it was asked: with another one, it is another task."""

    at: float
    outcome: Outcome
    asked: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchEnded:
    """A judged pair. `score` is the first one's: 1, 0.5 or 0; None when the match failed and says nothing."""

    at: float
    address: str
    first: str
    second: str
    score: float | None
    judge: str
    error: ErrorInfo | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One row of a tournament's standings. Ratings are on the chess scale: 1200 + 173.7 x strength."""

    rank: int
    key: str
    item: Any
    rating: float
    low: float
    high: float
    matches: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingsChanged:
    """The newest standings of a tournament; earlier ones are of no more use. `top` has the first few rows."""

    at: float
    task: str
    entrants: int
    matches: int
    failed: int
    limit: int | None
    regret: float | None
    top: tuple[Standing, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something a person should read once. `paused` says that from here on the run is paused, or is not any more."""

    at: float
    level: Literal["info", "warning"]
    text: str
    paused: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded:
    """The run is over. `unfinished` tasks have no end state: a stop left them. It was `paused` for so many seconds."""

    at: float
    status: RunStatus
    seconds: float
    usage: Usage
    usd: float | None
    unfinished: int = 0
    reason: str | None = None
    paused: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResumed:
    """Another process goes on with the run. `uncertain` calls were in flight when the last one ended.

    `spec` is the workflow's text if it has changed, `changes` what of it. `seconds` that all processes so far have run,
    of which they were `paused` for so many, as far as their ends are recorded. `options` are how this process was told
    to go on.
    """

    at: float
    run: str
    process: str
    seconds: float = 0.0
    uncertain: int = 0
    spec: str | None = None
    changes: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    paused: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskReopened:
    """The end state that an earlier process found holds no longer: the task is performed again, or one that it depends
    on was, and came to something else."""

    at: float
    address: str
    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDropped:
    """A run that went on has come to its end without a task of an earlier process: that is not asked for any more.

    `state` is how it had ended, None if it had not. What it has cost still counts.
    """

    at: float
    address: str
    state: State | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolEnded:
    """What a tool gave for a model's call of it; `arguments` is the JSON text as the model wrote it.

    `grew`: its task has started others by then, so a process that goes on calls it again, to have these started.
    """

    at: float
    address: str
    call_id: str
    name: str
    arguments: str
    result: str
    is_error: bool = False
    seconds: float = 0.0
    grew: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSpared:
    """A call that was not sent: its answer was in the cache, or is replayed. `usd` is what it cost when it was asked,
    None where nobody knows."""

    at: float
    call: int
    address: str
    agent: str | None
    account: str
    model: str
    source: Source
    key: str | None = None
    request: Request | None = None
    reply: Reply | None = None
    usd: float | None = None
    simulated: bool = False


Event = (
    RunStarted | TaskAdded | CollectionClosed | TaskStarted | CallIntent | CallEnded | LaneFrozen
    | TaskEnded | MatchEnded | StandingsChanged | Notice | RunEnded | RunResumed | TaskReopened | ToolEnded
    | CallSpared | TaskDropped
)  # fmt: skip
Emit = Callable[[Event], None]
"""Where events go: synchronous, never waits, never raises for a reader's fault."""

EVENT_TYPES: tuple[type[Any], ...] = (
    RunStarted, TaskAdded, CollectionClosed, TaskStarted, CallIntent, CallEnded, LaneFrozen,
    TaskEnded, MatchEnded, StandingsChanged, Notice, RunEnded, RunResumed, TaskReopened, ToolEnded,
    CallSpared, TaskDropped,
)  # fmt: skip
"""In the order of their numbers in the journal: append only."""


@cache  # one validator per type: making one costs a millisecond
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def write_event(event: Event) -> bytes:
    """An event as JSON. A value that has no JSON form is written as its `repr`."""
    serializer = _adapter(cast("Any", type(event))).serializer  # its own method takes a third of the time
    written: bytes = serializer.to_json(event, fallback=repr, warnings=False)
    return written


def read_event(kind: str, body: bytes) -> Event:
    """The event that `write_event` wrote; values come back as plain data.

    Raises KeyError for a kind this version does not know, pydantic.ValidationError for a body that is none.
    """
    found: Event = _adapter(cast("Any", _BY_NAME[kind])).validator.validate_json(body)  # likewise
    return found


def as_recorded(value: Any) -> Any:
    """The plain data as which a task's value is written, and read again."""
    return json.loads(_adapter(Any).serializer.to_json(value, fallback=repr, warnings=False))


_BY_NAME = types.MappingProxyType({kind.__name__: kind for kind in EVENT_TYPES})
