"""A judge whose preferences are planted, and tournaments played before it with many matches in flight."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Sequence

from agentmesh.ranking.tournament import Match, Tournament

__all__ = ["QUALITY_SD", "kendall_tau", "planted_regret", "play", "strengths_of", "world"]

QUALITY_SD = 1.10  # logits: of two texts one standard deviation of quality apart, the better wins in 75 %


def world(entrants: int, *, seed: int) -> dict[str, float]:
    """Planted strengths, in logits, by key."""
    rng = random.Random(seed)
    return {f"h{number}": rng.gauss(0, QUALITY_SD) for number in range(entrants)}


def play(
    tournament: Tournament,
    truth: dict[str, float],
    *,
    seed: int,
    in_flight: int = 1,
    bias: float = 0.0,
    fails: float = 0.0,
    late: Sequence[str] = (),
    every: int = 8,
) -> int:
    """Play until nothing is left to do; the number of matches that were judged or failed.

    `bias` is the share by which the judge favours the first of two equals. `late` entrants join one by one, after
    `every` matches each; the others are there from the start. Durations are lognormal.
    """
    rng = random.Random(seed)
    shift = math.log((0.5 + bias) / (0.5 - bias))
    waiting = list(late)
    for key in truth:
        if key not in waiting:
            tournament.add(key, {"title": key})
    if not waiting:
        tournament.complete_entrants()
    now, ended, live = 0.0, 0, list[tuple[float, int, Match]]()
    while not tournament.finished:
        while len(live) < in_flight and (match := tournament.next_match()) is not None:
            heapq.heappush(live, (now + rng.lognormvariate(0, 0.8), match.number, match))
        if live:
            now, _, match = heapq.heappop(live)
            ended += 1
            apart = truth[match.first] - truth[match.second] + shift
            won = rng.random() < 1 / (1 + math.exp(-apart))
            tournament.record(match, None if rng.random() < fails else float(won))
        else:
            assert waiting, f"nothing is in flight, nothing can be started, and yet it goes on: {tournament}"
        if waiting and (not live or ended % every == 0):
            tournament.add(key := waiting.pop(0), {"title": key})
            if not waiting:
                tournament.complete_entrants()
    return ended


def strengths_of(tournament: Tournament) -> dict[str, float]:
    return {row.key: row.rating for row in tournament.standings()}


def kendall_tau(found: dict[str, float], truth: dict[str, float]) -> float:
    keys = list(truth)
    pairs = [(a, b) for i, a in enumerate(keys) for b in keys[:i]]
    agree = sum(math.copysign(1, (found[a] - found[b]) * (truth[a] - truth[b])) for a, b in pairs)
    return agree / len(pairs)


def planted_regret(tournament: Tournament, truth: dict[str, float]) -> float:
    """How far the winner's planted strength is below the best one's, in standard deviations of quality."""
    return (max(truth.values()) - truth[tournament.standings()[0].key]) / QUALITY_SD
