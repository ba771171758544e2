"""Who meets whom next, one free slot at a time: no rounds, and what is in flight counts.

A fair coin decides between two aims. *Near* serves the whole order: the item with the fewest matches meets the one of
the nearest strength. *Top* serves the choice of the best: an item that a draw of plausible strengths puts among the
top meets the one it teaches most about. Newcomers come first by themselves, since they have the fewest matches and the
widest draws. What a match will teach, p(1 - p), is known before its verdict is; counting it on dispatch is what keeps
many concurrent picks from crowding on the same items. Both aims shun pairs that met before, since a judge asked again
mostly repeats itself.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["MEETINGS", "Pairing", "PairingStatistics", "Pick"]

MEETINGS = 6
"""The most matches of one pair: three in each order.

A real judge gives the same verdict again in nearly all cases, so a majority of three settles what repeating can
settle; and two entrants alone then still reach the 6 matches that each shall have before a tournament may stop.
"""
PRIOR_INFORMATION = 1.5**-2  # of a strength before its first match: the precision of the prior of the fit
REPEAT_PENALTY = 0.5  # logits of distance that one earlier meeting counts for when the nearest is looked for
NEAR_NOISE = 0.1  # logits; enough to choose among equals at random, too little to matter otherwise


@dataclass(frozen=True, slots=True)
class Pick:
    """A pair to be judged, in the order in which the judge shall see it.

    `meeting` counts from 0 how often this pair was picked in this order before; `information` is what the match is
    expected to teach of each of the two strengths, in 1 / logit^2.
    """

    first: int
    second: int
    meeting: int
    information: float


@dataclass(frozen=True, slots=True)
class PairingStatistics:
    """`picks` so far, those of the item with the fewest and the most, and how many items can still be paired."""

    items: int
    picks: int
    fewest: int
    most: int
    open: int


class Pairing:
    """The picks made so far and what is expected of them. Items are numbers from 0; a pick takes O(items)."""

    def __init__(self, rng: random.Random, *, meetings: int = MEETINGS) -> None:
        self._rng = rng
        self._meetings = meetings
        self._strengths: list[float] = []
        self._information: list[float] = []
        self._load: list[int] = []
        self._failed: list[int] = []
        self._lead: list[int] = []  # times shown first minus times shown second
        self._met: list[Counter[int]] = []  # per item: its picks with each other item
        self._shown_first: Counter[tuple[int, int]] = Counter()
        self._exhausted: list[int] = []  # per item: others that it met as often as allowed

    def join(self) -> int:
        """Add an item and return its number."""
        self._strengths.append(0.0)
        self._information.append(PRIOR_INFORMATION)
        self._load.append(0)
        self._failed.append(0)
        self._lead.append(0)
        self._met.append(Counter())
        self._exhausted.append(0)
        return len(self._load) - 1

    def learn(self, strengths: Sequence[float]) -> None:
        """Take over newly fitted strengths, in logits, one per item."""
        self._strengths[:] = strengths

    @property
    def open(self) -> bool:
        """Whether some pair may still meet."""
        return bool(self._open())

    def pick(self) -> Pick | None:
        """The next match, counted as dispatched; None where every pair has met as often as allowed."""
        available = self._open()
        if not available:
            return None
        near = self._rng.random() < 0.5
        one, other = self._near(available) if near else self._top(available)
        return self.meet(*self._ordered(one, other))

    def meet(self, first: int, second: int) -> Pick:
        """This match, counted as dispatched."""
        pick = Pick(first, second, self._shown_first[first, second], self._expected(first, second))
        for item, rival, lead in ((first, second, 1), (second, first, -1)):
            self._information[item] += pick.information
            self._load[item] += 1
            self._lead[item] += lead
            self._met[item][rival] += 1
            self._exhausted[item] += self._met[item][rival] == self._meetings
        self._shown_first[first, second] += 1
        return pick

    def take_back(self, pick: Pick) -> None:
        """The match failed and taught nothing.

        That it was tried stays counted: no pair is picked for ever. Nor is an item that no judge can be shown: where
        most matches of an item fail, their information stays, for its uncertainty would draw every other pick to it.
        """
        for item in (pick.first, pick.second):
            self._failed[item] += 1
            if self._failed[item] <= self._load[item] // 2:
                self._information[item] -= pick.information

    def statistics(self) -> PairingStatistics:
        load = self._load
        picks = sum(load) // 2
        return PairingStatistics(len(load), picks, min(load, default=0), max(load, default=0), len(self._open()))

    def __repr__(self) -> str:
        seen = self.statistics()
        return f"<Pairing {seen.items} items, {seen.picks} picks, {seen.open} items open>"

    def _open(self) -> list[int]:
        rivals = len(self._load) - 1
        return [item for item, exhausted in enumerate(self._exhausted) if exhausted < rivals]

    def _rivals(self, item: int, available: list[int]) -> list[int]:
        met = self._met[item]
        return [other for other in available if other != item and met[other] < self._meetings]

    def _near(self, available: list[int]) -> tuple[int, int]:
        fewest = min(self._load[item] for item in available)
        item = self._rng.choice([item for item in available if self._load[item] == fewest])
        strengths, met, noise = self._strengths, self._met[item], self._rng.random

        def distance(other: int) -> float:
            apart = abs(strengths[item] - strengths[other])
            return apart + REPEAT_PENALTY * met[other] + NEAR_NOISE * noise()

        return item, min(self._rivals(item, available), key=distance)

    def _top(self, available: list[int]) -> tuple[int, int]:
        gauss, strengths, information = self._rng.gauss, self._strengths, self._information
        drawn = [(strengths[item] + gauss(0.0, 1.0) / math.sqrt(information[item]), item) for item in available]
        item = self._rng.choice(heapq.nlargest(max(3, len(self._load) // 8), drawn))[1]
        met = self._met[item]

        def gain(other: int) -> float:
            known = 1.0 / information[item] + 1.0 / information[other]
            return self._expected(item, other) * known / (1 + met[other])

        rivals = self._rivals(item, available)
        self._rng.shuffle(rivals)  # equals at random
        return item, max(rivals, key=gain)

    def _ordered(self, one: int, other: int) -> tuple[int, int]:
        """The one that this pair, then the item, has shown first less often stands first; equals by a coin."""

        def shown(item: int, rival: int) -> tuple[int, int, float]:
            return self._shown_first[item, rival], self._lead[item], self._rng.random()

        return (one, other) if shown(one, other) < shown(other, one) else (other, one)

    def _expected(self, one: int, other: int) -> float:
        p = 0.5 * (1.0 + math.tanh(0.5 * (self._strengths[one] - self._strengths[other])))
        return p * (1.0 - p)
