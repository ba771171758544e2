"""A tournament: entrants join, matches are handed out and their scores recorded, until a stop rule holds.

The class decides and never waits. Its owner starts a match whenever `next_match` gives one, and may have any number in
flight. Ratings are fitted anew from the whole ledger, so the order in which verdicts arrive has no influence on them.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ..events import Standing
from .ledger import Ledger
from .pairing import MEETINGS, Pairing, Pick

if TYPE_CHECKING:
    from .ratings import Ratings

__all__ = ["Match", "Stop", "StoppedBy", "Tournament", "TournamentStatistics"]

StoppedBy = Literal["regret", "matches", "entrants"]
"""The expected regret is small enough; the limit of matches is reached; no pair is left that may still be judged."""

MATCHES_PER_ENTRANT = 20
"""The limit where none is given. At this spend a judge that is right in 75 % of pairs one standard deviation apart gets
four fifths of the order right (Kendall tau 0.8), and the regret rule, on average, has stopped a tournament earlier."""
FLOOR = 6  # matches of each entrant before the regret rule is asked: fewer say little, whatever they say
MEAN_RATING = 1200
POINTS_PER_LOGIT = 400 / math.log(10)  # 173.7, the chess scale
Z95 = 1.96


@dataclass(frozen=True, slots=True)
class Stop:
    """When a tournament is over, whichever comes first.

    `regret`: the expected regret of the leader, in standard deviations of quality, asked once the entrants are complete
    and each has had 6 matches or all there are; None to never ask. `matches`: binds always; failed ones are counted;
    None for 20 per entrant. Raises ValueError for figures that make no sense.
    """

    regret: float | None = 0.05
    matches: int | None = None

    def __post_init__(self) -> None:
        if self.regret is not None and not (math.isfinite(self.regret) and self.regret >= 0):
            raise ValueError(f"stop: regret must be a number of at least 0, not {self.regret}")
        if self.matches is not None and self.matches < 1:
            raise ValueError(f"stop: matches must be at least 1, not {self.matches}")


@dataclass(frozen=True, slots=True)
class Match:
    """A pair to be judged, by key, in the order in which the judge shall see it.

    `number` counts the matches of the tournament from 1. `meeting` counts from 0 those of this pair in this order, so
    that (first, second, meeting) names a match whatever was started before it.
    """

    number: int
    first: str
    second: str
    meeting: int = 0


@dataclass(frozen=True, slots=True)
class TournamentStatistics:
    """`matches` were judged, `failed` ones gave no verdict, `limit` binds both and those in flight, if it is known.

    `regret` is the newest one computed, in standard deviations of quality, None before the first.
    """

    entrants: int
    complete: bool
    matches: int
    failed: int
    in_flight: int
    limit: int | None
    regret: float | None
    order_effect: float
    stopped_by: StoppedBy | None


class Tournament:
    """Entrants, the ledger of their matches, and what is in flight. `rng` decides wherever chance does."""

    def __init__(self, rng: random.Random, *, stop: Stop | None = None) -> None:
        self._stop = stop or Stop()
        self._pairing = Pairing(rng)
        self._ledger = Ledger()
        self._keys: list[str] = []
        self._numbers: dict[str, int] = {}
        self._items: dict[str, Any] = {}
        self._judged: list[int] = []  # per entrant: matches with a verdict
        self._tried: list[int] = []  # per entrant: these and the failed ones
        self._in_flight: dict[int, tuple[Match, Pick]] = {}
        self._dispatched = 0
        self._complete = False
        self._ratings: Ratings | None = None
        self._fitted = (0, 0)  # results and entrants that `_ratings` knows
        self._regret: float | None = None
        self._asked = (0, 0)  # results and entrants that `_regret` knows
        self._stopped_by: StoppedBy | None = None

    def add(self, key: str, item: Any) -> None:
        """Let an entrant join. Raises ValueError if the key is taken or the entrants were said to be complete."""
        if key in self._items:
            raise ValueError(f"an entrant called {key!r} is in the tournament already")
        if self._complete:
            raise ValueError(f"{key!r} comes too late: the entrants are complete")
        self._numbers[key] = self._pairing.join()
        self._keys.append(key)
        self._items[key] = item
        self._judged.append(0)
        self._tried.append(0)

    def complete_entrants(self) -> None:
        """Say that no more entrants will come: from now on the tournament can end."""
        self._complete = True
        self._ask_regret()
        self._decide()

    def next_match(self) -> Match | None:
        """The match to start now, counted as in flight; None when nothing useful can be started.

        Until the entrants are complete at most half of the limit is handed out, so that those who come late find
        matches left.
        """
        allowed = self._allowed if self._complete else self._allowed // 2
        if self._stopped_by or self._dispatched >= allowed:
            return None
        pick = self._pairing.pick()
        return None if pick is None else self._start(pick)

    def play_again(self, first: str, second: str) -> Match | None:
        """The next match of this pair, which an earlier process has begun; None where no more may be started.

        Raises KeyError for one who has not joined.
        """
        if self._stopped_by or self._dispatched >= self._allowed:
            return None
        return self._start(self._pairing.meet(self._numbers[first], self._numbers[second]))

    def _start(self, pick: Pick) -> Match:
        self._dispatched += 1
        match = Match(self._dispatched, self._keys[pick.first], self._keys[pick.second], pick.meeting)
        self._in_flight[match.number] = match, pick
        self._decide()
        return match

    def record(self, match: Match, score: float | None) -> None:
        """Note how a match ended: 1 if the first won, 0.5, 0; None if there is no verdict.

        Raises ValueError for another score, and for a match that is not in flight.
        """
        if self._in_flight.get(match.number, (None,))[0] != match:
            raise ValueError(f"{match} is not in flight")
        _, pick = self._in_flight[match.number]
        if score is not None:
            self._ledger.append(pick.first, pick.second, score=score)
        del self._in_flight[match.number]
        for entrant in (pick.first, pick.second):
            self._tried[entrant] += 1
            self._judged[entrant] += score is not None
        if score is None:
            self._pairing.take_back(pick)
        if len(self._ledger) - self._fitted[0] >= max(1, len(self._items) // 8):
            self._fit()
        if len(self._ledger) - self._asked[0] >= math.ceil(len(self._items) / 2):
            self._ask_regret()
        self._decide()
        if self.finished:
            self._ask_regret()

    def standings(self) -> tuple[Standing, ...]:
        """All entrants, the best first, from everything that was recorded; `low` and `high` bound 95 %."""
        if not self._items:
            return ()
        ratings = self._fit()
        centred = ratings.strengths - ratings.strengths.mean()
        points = MEAN_RATING + POINTS_PER_LOGIT * centred
        margins = POINTS_PER_LOGIT * Z95 * ratings.deviations()
        order = sorted(range(len(self._keys)), key=lambda number: -points[number])
        return tuple(
            Standing(
                rank=rank,
                key=self._keys[i],
                item=self._items[self._keys[i]],
                rating=round(points[i]),
                low=round(points[i] - margins[i]),
                high=round(points[i] + margins[i]),
                matches=self._judged[i],
            )
            for rank, i in enumerate(order, 1)
        )

    @property
    def finished(self) -> bool:
        """Whether nothing is in flight and nothing will be started any more."""
        return self._stopped_by is not None and not self._in_flight

    @property
    def stopped_by(self) -> StoppedBy | None:
        """Why no more matches are started, from the moment this is decided; some may still be in flight then."""
        return self._stopped_by

    @property
    def limit(self) -> int | None:
        """The most matches there can be; None as long as that depends on entrants still to come."""
        if not self._complete:
            return self._stop.matches
        entrants = len(self._items)
        pairs = entrants * (entrants - 1) // 2
        return min(self._allowed, MEETINGS * pairs)

    @property
    def regret(self) -> float | None:
        """The newest expected regret of the leader, in standard deviations of quality; computed every n/2 results."""
        return self._regret

    @property
    def order_effect(self) -> float:
        """By how much the judge favours what stands first: 0.06 if it gives it 56 % of matches between equals."""
        return 0.0 if self._ratings is None else 0.5 * math.tanh(0.5 * self._ratings.order_effect)

    def statistics(self) -> TournamentStatistics:
        return TournamentStatistics(
            entrants=len(self._items),
            complete=self._complete,
            matches=len(self._ledger),
            failed=self._dispatched - len(self._in_flight) - len(self._ledger),
            in_flight=len(self._in_flight),
            limit=self.limit,
            regret=self._regret,
            order_effect=self.order_effect,
            stopped_by=self._stopped_by,
        )

    def __repr__(self) -> str:
        seen = self.statistics()
        more = "" if seen.complete else " so far"
        state = f"stopped by {seen.stopped_by}" if seen.stopped_by else f"limit {seen.limit}"
        counts = f"{seen.matches} matches, {seen.failed} failed, {seen.in_flight} in flight"
        return f"<Tournament {seen.entrants} entrants{more}, {counts}, {state}>"

    @property
    def _allowed(self) -> int:
        return self._stop.matches or MATCHES_PER_ENTRANT * len(self._items)

    def _fit(self) -> Ratings:
        known = len(self._ledger), len(self._items)
        if self._ratings is None or self._fitted != known:
            from .ratings import fit  # numpy is imported by the first fit, not before

            self._ratings, self._fitted = fit(self._ledger, items=known[1], start=self._ratings), known
            self._pairing.learn(self._ratings.strengths.tolist())
        return self._ratings

    def _ask_regret(self) -> None:
        if len(self._ledger) and self._asked != (known := (len(self._ledger), len(self._items))):
            self._regret, self._asked = self._fit().regret(), known

    def _decide(self) -> None:
        """Settle, once and for all, that nothing more is started, if that is so."""
        if self._stopped_by is not None or not self._complete:
            return
        if self._little_at_stake():
            self._stopped_by = "regret"
        elif not self._pairing.open:
            self._stopped_by = "entrants"
        elif self._dispatched >= self._allowed:
            self._stopped_by = "matches"

    def _little_at_stake(self) -> bool:
        if self._stop.regret is None or self._regret is None or self._regret > self._stop.regret:
            return False
        return min(self._tried) >= min(FLOOR, MEETINGS * (len(self._items) - 1))
