"""What is known of a run while it goes on: its events, on their way to the journal and to who watches, and its sums."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ..clock import wall
from ..errors import UserError
from ..events import CallEnded, CallIntent, CallSpared, Event, Notice, TaskAdded, TaskEnded
from ..flow.graph import Node
from ..journal import Journal, NullJournal
from ..journal.past import Past
from ..outcome import Address, Outcome, State, Usage

__all__ = ["Cost", "Record"]


@dataclass(slots=True)
class Cost:
    """What `items` (of a tournament, its matches) have cost together: dollars of known prices, tokens, calls."""

    items: float = 0
    usd: float = 0.0
    tokens: float = 0.0
    calls: float = 0.0
    unpriced: float = 0

    def count(self, outcome: Outcome) -> None:
        """One more item."""
        usage = outcome.usage
        self.items += 1
        self.usd += outcome.usd or 0.0
        self.unpriced += outcome.usd is None
        self.tokens += (usage.input_tokens or 0) + (usage.output_tokens or 0)
        self.calls += usage.calls

    def add(self, other: Cost, times: float = 1.0) -> None:
        """So many times the other."""
        self.items += times * other.items
        self.usd += times * other.usd
        self.tokens += times * other.tokens
        self.calls += times * other.calls
        self.unpriced += times * other.unpriced


class Record:
    """One run's events and sums, which go on from those of the `past`; what that knows is not recorded again.

    `on_intent` hears the account of every call that leaves its lane.
    """

    def __init__(
        self, journal: Journal | NullJournal, watchers: Sequence[Callable[[Event], None]],
        on_intent: Callable[[str], None], past: Past | None = None,
    ) -> None:  # fmt: skip
        self.journal = journal
        self._past = past
        tally = None if past is None else past.tally
        self.usage = Usage() if tally is None else tally.usage
        self.usd: float | None = 0.0 if tally is None else None if tally.unpriced else tally.usd
        self.spared = 0 if tally is None else tally.spared  # calls whose answer was known
        self.saved_usd: float | None = 0.0 if tally is None else tally.saved_usd  # what these cost when they were asked
        self.counts: dict[str, Counter[str]] = {}
        self.costs: dict[str, Cost] = {}  # of the items that were performed, by task
        self.matches: dict[str, Callable[[], Cost | None]] = {}  # that tournaments may still play, see Matches.left
        self.failures: list[Outcome] = []
        self.broken: UserError | None = None
        self.in_flight = 0  # calls
        self.waiting: set[int] = set()  # numbers of calls that have not been sent yet
        self._numbers = itertools.count(1 if tally is None else tally.call + 1)
        self._watchers = tuple(watchers)
        self._on_intent = on_intent
        self._last = 0
        self._told: set[str] = set()

    def __repr__(self) -> str:
        return f"<Record {self.usage.calls} calls, {len(self.failures)} failures>"

    def next_call(self) -> int:
        """The number of a new call. From now until its intent it is one of those that wait for their turn."""
        number = next(self._numbers)
        self.waiting.add(number)
        return number

    def emit(self, event: Event) -> None:
        """Take an event: to the journal, to the watchers, into the sums."""
        if self._past is None or not self._past.knows(event):
            self._last = self.journal.append(event)
        self._tell(event)

    def add(self, address: Address, *, lane: str | None, needs: Sequence[Node]) -> None:
        """Take a new task. An event that is known, and that nobody looks on at, need not be made."""
        known = self._past is not None and self._past.has_added(str(address))
        if known and not self._watchers:
            return
        event = TaskAdded(
            at=wall(), task=address.task, key=address.key, sample=address.sample, lane=lane,
            needs=tuple([str(need.address) for need in needs]) if needs else (),
        )  # fmt: skip
        if not known:
            self._last = self.journal.append(event)
        self._tell(event)

    def end(self, outcome: Outcome, *, address: str, asked: str | None, recalled: bool) -> None:
        """Take the end of a task: performed, or `recalled` from an earlier process, as which it has ended anew, too."""
        past = self._past
        known = past is not None and (past.holds(address) if recalled else past.has_ended(address, outcome))
        if known and not self._watchers:
            self._count(outcome)
            return
        event = TaskEnded(at=wall(), outcome=outcome, asked=asked)
        if not known:
            self._reopen(address)
            self._last = self.journal.append(event)
        self._tell(event)

    def done_anew(self, node: Node) -> None:
        """How this task ended before holds no longer, nor how those did that read it: who looks at the run sees that.

        What depends on these may still stand, as they may come to the same, unless they had not succeeded. What has
        ended already in this process, skipped for another reason, stands.
        """
        self._reopen(str(node.address))
        above = [node]
        while above:
            readers = [one for one in above.pop().readers if not one.ended]
            above += [one for one in readers if self._reopen(str(one.address)) not in (None, "done")]

    def _reopen(self, address: str) -> State | None:
        """Take back how a task ended in an earlier process, and say how that was; None if nothing held."""
        reopened = None if self._past is None else self._past.reopen(address, wall())
        if reopened is None:
            return None
        self._last = self.journal.append(reopened)
        return reopened.state

    def drop_all_but(self, there: Iterable[Address]) -> None:
        """A run has come to its end with these tasks: others, of earlier processes, do not count any more."""
        dropped = 0
        for event in () if self._past is None else self._past.dropped(map(str, there), wall()):
            self.emit(event)
            dropped += 1
        if dropped:
            what = "1 task of before is" if dropped == 1 else f"{dropped:,} tasks of before are"
            text = f"{what} not asked for any more, and left out; what was spent there still counts"
            self.emit(Notice(at=wall(), level="info", text=text))

    def tell_once(self, text: str) -> None:
        """Say something that a person should read once, however often it comes up."""
        if text not in self._told:
            self._told.add(text)
            self.emit(Notice(at=wall(), level="warning", text=text))

    def show(self, event: Event) -> None:
        """Tell the watchers what is recorded already."""
        self._tell(event)

    def _tell(self, event: Event) -> None:
        match event:
            case CallIntent():
                self.in_flight += 1
                self.waiting.discard(event.call)
                self._on_intent(event.account)
            case CallEnded():  # counted here and not by task: a call that a stop cut short was sent, too
                self.in_flight -= 1
                self.usage += event.usage
                self.usd = None if self.usd is None or event.usd is None else self.usd + event.usd
            case CallSpared():
                self.waiting.discard(event.call)
                self.spared += 1
                self.saved_usd = None if self.saved_usd is None or event.usd is None else self.saved_usd + event.usd
            case TaskEnded():
                self._count(event.outcome)
        for watch in self._watchers:
            try:
                watch(event)
            except Exception as error:  # noqa: BLE001 - who only looks on must not break what it looks at
                self._dismiss(watch, error)

    def _dismiss(self, watch: Callable[[Event], None], error: Exception) -> None:
        self._watchers = tuple(other for other in self._watchers if other is not watch)
        text = f"a watcher of this run failed and hears no more of it: {type(error).__name__}: {error}"
        self.emit(Notice(at=wall(), level="warning", text=text))

    async def durable(self, *, patient: bool = False) -> None:
        """Wait until everything emitted so far is on disk; the patient wait for a commit that others need.

        Raises UserError when the disk refuses.
        """
        await self.journal.durable(self._last, patient=patient)

    def _count(self, outcome: Outcome) -> None:
        if (counts := self.counts.get(outcome.task)) is None:
            counts = self.counts[outcome.task] = Counter()
        counts[outcome.state] += 1
        if outcome.state == "cancelled" or (outcome.error is not None and outcome.error.kind == "dependency"):
            return
        if (cost := self.costs.get(outcome.task)) is None:
            cost = self.costs[outcome.task] = Cost()
        cost.count(outcome)
        if outcome.error is not None:
            self.failures.append(outcome)
