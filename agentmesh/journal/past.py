"""What earlier processes of a run have found: how tasks ended, what models and tools answered, what was in flight.

Of most records only the numbers are kept: how a task ended is read when a resume comes to it, and what was answered
when a task is performed again, which is the exception.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self

from ..errors import ErrorInfo, UserError
from ..events import (
    CallEnded,
    CallIntent,
    CollectionClosed,
    Event,
    MatchEnded,
    RunResumed,
    RunStarted,
    TaskAdded,
    TaskDropped,
    TaskEnded,
    TaskReopened,
    ToolEnded,
    as_recorded,
)
from ..outcome import Outcome, Usage
from .ends import Ends
from .ids import short_id
from .read import RunFile

__all__ = ["Answers", "Past", "Spent"]

_CUT_OFF = "the process ended while this call was in flight"
_STORY = (RunStarted, RunResumed, MatchEnded)
_STATES = (TaskAdded, TaskEnded, TaskReopened, TaskDropped, CollectionClosed)
_CALLS = (CallIntent, CallEnded, ToolEnded)


@dataclass(slots=True)
class Answers:
    """What was answered at one address: replies by the key of the call, results of tools, keys whose call is open."""

    replies: dict[str, CallEnded] = field(default_factory=dict)
    tools: dict[tuple[str, str, str], ToolEnded] = field(default_factory=dict)
    uncertain: set[str] = field(default_factory=set)


class Spent(NamedTuple):
    """What calls have cost as budgets count it. `seconds`: for how long the run went on since the first of them."""

    usd: float = 0.0
    tokens: float = 0.0
    calls: float = 0.0
    seconds: float = 0.0

    def more(self, other: Spent) -> Spent:
        """This and other calls together."""
        seconds = max(self.seconds, other.seconds)
        return Spent(self.usd + other.usd, self.tokens + other.tokens, self.calls + other.calls, seconds)


class Past:
    """The records of a run up to now. Made by `Past.read`, which blocks; `close` gives the file back.

    What blocks may be called by one thread at a time. How tasks ended is read in the event loop, from a connection of
    its own.

    `forgotten` are the tasks whose answer was not kept, so that they are performed again, and how many calls that had
    taken. With `failed`, tasks that failed are not found, so that they are performed again, and so is what was skipped
    for them. `fails_uncertain` says that calls which were in flight are not sent again.
    """

    def __init__(self, file: RunFile, ends: Ends, *, failed: bool) -> None:
        self.run_id = file.run_id
        self.tally = file.tally()
        self.started: RunStarted
        self.spec: str | None = None
        self.seconds = 0.0
        self.paused = self.tally.paused  # of these seconds
        self._matches: dict[str, dict[str, MatchEnded]] = {}  # by task and address
        self.uncertain: list[CallIntent] = []
        self.fails_uncertain = False
        self.forgotten = (0, 0)
        self._failed = failed
        self._file = file
        self._added: set[str] = set()
        self._closed: set[str] = set()  # collections
        self._reopened: dict[str, float] = {}  # addresses, and up to which record ends at them hold no longer
        self._last_reopened = 0
        self._anew: dict[str, int] = {}  # of addresses that were asked for, see `done_anew_at`
        self._begins: list[tuple[float, float]] = []  # of each process: when, and the seconds of those before it
        self._by_task: dict[tuple[str, str | None], Spent] = {}
        self._ends = ends
        self._records: dict[str, tuple[int, ...]] = {}  # of calls and tools, by address
        self._open: set[tuple[int, int]] = set()  # calls and attempts whose end is not recorded

    def __repr__(self) -> str:
        return f"<Past of {self.run_id}: {self._ends!r}, {len(self.uncertain)} calls uncertain>"

    @classmethod
    def read(cls, path: Path, *, failed: bool = False) -> Self:
        """Read a run's file, which nobody else may be writing. Raises UserError for a damaged one."""
        with ExitStack() as opened:
            file, own = (opened.enter_context(RunFile.open(path)) for _ in range(2))
            past = cls(file, Ends(own), failed=failed)
            past._read_story(past._read_skeleton())
            if not past._begins:
                raise UserError(
                    f"run {short_id(past.run_id)} ended before it had begun: there is nothing to go on with"
                )
            if not past.started.content:
                past.forgotten = past._count_forgotten()
            opened.pop_all()
        return past

    def close(self) -> None:
        """Close the file."""
        self._ends.close()
        self._file.close()

    # --- reading

    def _read_skeleton(self) -> list[int]:
        """Note where everything is; returns the numbers of what is to be read at once."""
        story: list[int] = []
        begun: dict[tuple[str, int | None], int] = {}
        for number, kind, address, attempt in self._file.skeleton(*_STORY, *_STATES, *_CALLS):
            if kind is TaskAdded:
                self._added.add(address)
            elif kind is TaskEnded:
                self._ends.note(address, number)
            elif kind in _CALLS:
                self._records[address] = (*self._records.get(address, ()), number)
                if kind is not ToolEnded:
                    begun[address, attempt] = begun.get((address, attempt), 0) + (1 if kind is CallIntent else -1)
            elif kind is TaskReopened:
                self._reopened[address] = number
                self._last_reopened = number
            elif kind is TaskDropped:
                self._added.discard(address)
                self._reopened[address] = number
            elif kind is CollectionClosed:
                self._closed.add(address)
            else:
                story.append(number)
        self._note_uncertain(dict.fromkeys(address for (address, _), count in begun.items() if count > 0))
        return story

    def _note_uncertain(self, addresses: Iterable[str]) -> None:
        for address in addresses:
            intents = {}
            for _, event in self._file.events_at(self._records[address]):
                match event:
                    case CallIntent():
                        intents[event.call, event.attempt] = event
                    case CallEnded():
                        intents.pop((event.call, event.attempt), None)
            self.uncertain += intents.values()
        self._open = {(intent.call, intent.attempt) for intent in self.uncertain}

    def _read_story(self, numbers: Iterable[int]) -> None:
        first: RunStarted | RunResumed | None = None
        for _, event in self._file.events_at(numbers):
            match event:
                case RunStarted():
                    self.started = first = event
                    self.spec = event.spec
                    self._begins.append((event.at, 0.0))
                case RunResumed():
                    first = event
                    self.spec = event.spec or self.spec
                    self.seconds = event.seconds
                    self._begins.append((event.at, event.seconds))
                case MatchEnded(address=address):
                    self._matches.setdefault(address.partition("/")[0], {})[address] = event
                case _:
                    pass
        if self.tally.status is not None and self.tally.seconds is not None:
            self.seconds = self.tally.seconds
        elif first is not None:  # it was killed: it has lived until its last record, unless the clock was set back
            self.seconds += max(0.0, self._file.last_at() - first.at)
        if self.tally.paused_at is not None:
            self.paused += max(0.0, self._file.last_at() - self.tally.paused_at)

    def _count_forgotten(self) -> tuple[int, int]:
        kept = (ended for ended in self._ends if self.holds(str(ended.outcome.address)))
        found = [ended.outcome.usage.calls for ended in kept if ended.outcome.ok and ended.asked is None]
        return len(found), sum(found)

    # --- tasks

    def holds(self, address: str) -> bool:
        """Whether it is recorded how a task has ended, and that was not taken back."""
        return (self._ends.number(address) or 0) > self._reopened.get(address, 0)

    def recall(self, address: str, asked: str | None) -> Outcome | None:
        """How a task that was asked just this has ended; None if it is to be performed."""
        ended = self._ends.find(address) if asked is not None and self.holds(address) else None
        if ended is None or ended.asked != asked:
            return None
        outcome = ended.outcome
        if outcome.state == "cancelled":
            return None
        if outcome.error is not None and not outcome.ok and self._failed:
            return None
        return outcome

    def ended_at(self, address: str) -> int | None:
        """The number of the record that tells how a task ended, if anything was done anew after it; else None."""
        if not self._last_reopened:
            return None
        number = self._ends.number(address)
        return None if number is None or number > self._last_reopened else number

    def done_anew_at(self, address: str) -> int:
        """The number of the record since which a task that was done anew ends as it does; 0 for all others."""
        if address not in self._reopened or not self.holds(address):
            return 0
        if address not in self._anew:
            self._anew[address] = self._same_since(address)
        return self._anew[address]

    def _same_since(self, address: str) -> int:
        """What it came to the second time may be what it came to the first time: what had read that still stands."""
        last, since = self._ends.find(address), self._ends.number(address) or 0
        for number, before in self._ends.earlier(address):
            if last is None or not self._is_same(last.outcome, before, asked=last.asked):
                break
            since = number
        return since

    def is_damaged(self, address: str) -> bool:
        """Whether a task is to be performed again because the record of its end cannot be read."""
        return self.holds(address) and self._ends.is_damaged(address)

    def ended_so(self, outcome: Outcome, *, asked: str | None) -> bool:
        """Whether a task that was performed again has come to just what it came to before."""
        return self._is_same(outcome, self._ends.find(str(outcome.address)), asked=asked)

    def _is_same(self, outcome: Outcome, before: TaskEnded | None, *, asked: str | None) -> bool:
        if before is None or not (outcome.ok and before.outcome.ok and self.started.content) or before.asked != asked:
            return False
        return bool(as_recorded(outcome.value) == before.outcome.value)

    def has_added(self, address: str) -> bool:
        """Whether it is recorded that there is a task at an address."""
        return address in self._added

    def has_ended(self, address: str, outcome: Outcome) -> bool:
        """Whether it is recorded that a task which was not performed has ended like this."""
        before = self._ends.find(address) if _is_consequence(outcome) and self.holds(address) else None
        return before is not None and before.outcome.state == outcome.state

    def knows(self, event: Event) -> bool:
        """Whether another event is recorded already."""
        match event:
            case CollectionClosed():
                return event.task in self._closed
            case MatchEnded(address=address):
                before_it = self._matches.get(address.partition("/")[0], {}).get(address)
                return before_it is not None and before_it.score == event.score
        return False

    def reopen(self, address: str, at: float) -> TaskReopened | None:
        """How a task has ended holds no longer: what takes that back, if it has."""
        before = self._ends.find(address) if self.holds(address) else None
        self._reopened[address] = math.inf
        return None if before is None else TaskReopened(at=at, address=address, state=before.outcome.state)

    def dropped(self, there: Iterable[str], at: float) -> Iterator[TaskDropped]:
        """What takes back the tasks that are recorded and are not `there`."""
        for address in sorted(self._added.difference(there)):
            reopened = self.reopen(address, at)
            yield TaskDropped(at=at, address=address, state=None if reopened is None else reopened.state)

    def asked_under(self, address: str) -> Sequence[str]:
        """What follows an address and `/` in the addresses of calls under it, in the order in which they began."""
        start = f"{address}/"
        return tuple(one.removeprefix(start) for one in self._records if one.startswith(start))

    @property
    def finished(self) -> int:
        """How many tasks have ended, other than by being cut short."""
        return self.tally.done + self.tally.failed + self.tally.skipped

    # --- calls

    def has_answers(self, address: str) -> bool:
        """Whether anything was asked at an address."""
        return address in self._records

    def answers(self, address: str) -> Answers:
        """What was answered at an address. Blocks. Raises UserError for a damaged file."""
        found = Answers()
        if self._failed and self._has_failed(address):
            return found  # with the same answers it would fail again
        keys: dict[tuple[int, int], str | None] = {}
        for _, event in self._file.events_at(self._records.get(address, ())):
            match event:
                case CallIntent():
                    keys[event.call, event.attempt] = event.key
                    if event.key is not None and (event.call, event.attempt) in self._open:
                        found.uncertain.add(event.key)
                case CallEnded(reply=reply, error=error):
                    key = keys.get((event.call, event.attempt))
                    if key is not None and reply is not None:
                        found.replies[key] = event
                    elif key is not None and error is not None and error.message == _CUT_OFF:
                        found.uncertain.add(key)
                case ToolEnded(grew=False) if event.arguments or event.result:  # else it kept no content
                    found.tools[event.call_id, event.name, event.arguments] = event
        found.uncertain -= found.replies.keys()
        return found

    def _has_failed(self, address: str) -> bool:
        number = self._ends.number(address)
        ends = () if number is None else self._file.events_at([number])
        return any(isinstance(event, TaskEnded) and not event.outcome.ok for _, event in ends)

    def ends_of_uncertain(self, at: float) -> list[CallEnded]:
        """The calls that were in flight when the last process ended, as having ended: paid, as far as one can know."""
        error = ErrorInfo("connection", _CUT_OFF, retryable=True)
        return [
            CallEnded(
                at=at, call=one.call, attempt=one.attempt, address=one.address, agent=one.agent, account=one.account,
                model=one.model, result="failed", seconds=max(0.0, at - one.at), error=error, uncertain=True,
                usage=Usage(calls=1, uncertain=1), usd=0.0, spent_usd=one.reserved_usd,
                spent_tokens=one.reserved_tokens,
            )
            for one in self.uncertain
        ]  # fmt: skip

    # --- money

    def spent(self, *, task: str | None = None, agent: str | None = None) -> Spent:
        """What budgets count so far: of the run, of what is at and under an address, or of an agent. Blocks.

        What was in flight counts as it was reserved, and no time in which the run was paused, where that is recorded.
        """
        if task is None and agent is None:
            seconds = self.seconds - self.paused
            spent = Spent(self.tally.spent_usd, self.tally.spent_tokens, float(self.tally.calls), seconds)
            for one in self.uncertain:
                spent = spent.more(Spent(one.reserved_usd, one.reserved_tokens, 1.0))
            return spent
        if task is not None and "/" in task:
            found = self._sums(under=task)
        else:
            found = self._by_task = self._by_task or self._sums()
        spent = Spent()
        for (of_task, of_agent), sums in found.items():
            if (task is None or "/" in task or task == of_task) and agent in (None, of_agent):
                spent = spent.more(sums)
        return spent._replace(seconds=min(spent.seconds, self.seconds - self.paused))

    def _sums(self, under: str | None = None) -> dict[tuple[str, str | None], Spent]:
        """What was spent by each agent in each task."""
        found: dict[tuple[str, str | None], Spent] = {}

        def add(call: CallEnded | CallIntent, cost: Spent) -> None:
            key = call.address.partition("/")[0], call.agent
            found[key] = found.get(key, Spent()).more(cost)

        for number, event in self._file.events(CallEnded, under=under):
            if number > self.tally.last:  # of this process
                break
            assert isinstance(event, CallEnded)
            since = self.seconds - self._life_at(event.at - event.seconds)
            add(event, Spent(event.paid_usd, event.paid_tokens, event.usage.calls, since))
        for one in self.uncertain:
            if under is None or f"{one.address}/".startswith(f"{under}/"):
                since = self.seconds - self._life_at(one.at)
                add(one, Spent(one.reserved_usd, one.reserved_tokens, 1.0, since))
        return found

    def _life_at(self, at: float) -> float:
        """For how long the run had been going on at wall time `at`, in all its processes."""
        began, seconds = next((one for one in reversed(self._begins) if one[0] <= at), (at, 0.0))
        return min(self.seconds, seconds + max(0.0, at - began))


def _is_consequence(outcome: Outcome) -> bool:
    """Whether a task has ended because of others: nobody has performed it."""
    return outcome.error is not None and outcome.error.kind == "dependency"
