"""Whole tournaments before judges with planted preferences: how good the order, the winner and the intervals are.

The bounds stand well below what the same settings reach on average over many more worlds.
"""

from __future__ import annotations

import random
from statistics import mean

import pytest
from simulated_judge import kendall_tau, planted_regret, play, strengths_of, world

from agentmesh.ranking import Stop, Tournament

Played = list[tuple[Tournament, dict[str, float]]]


def tournaments(entrants: int, *, per_entrant: int, worlds: int, in_flight: int, bias: float = 0.0) -> Played:
    played = []
    for seed in range(worlds):
        truth = world(entrants, seed=seed)
        tournament = Tournament(random.Random(seed), stop=Stop(regret=None, matches=per_entrant * entrants))
        play(tournament, truth, seed=1000 + seed, in_flight=in_flight, bias=bias)
        played.append((tournament, truth))
    return played


def mean_tau(played: Played) -> float:
    return mean(kendall_tau(strengths_of(tournament), truth) for tournament, truth in played)


def mean_regret(played: Played) -> float:
    return mean(planted_regret(tournament, truth) for tournament, truth in played)


def coverage(played: Played) -> float:
    """The share of 95 % intervals that hold the planted strength."""
    held = []
    for tournament, truth in played:
        centre = mean(truth.values())
        held += [row.low <= 1200 + 173.7 * (truth[row.key] - centre) <= row.high for row in tournament.standings()]
    return mean(held)


@pytest.mark.parametrize("in_flight", [1, 16])
def test_sixteen_entrants(in_flight: int) -> None:
    played = tournaments(16, per_entrant=16, worlds=8, in_flight=in_flight)
    assert mean_tau(played) > 0.74
    assert mean_regret(played) < 0.25
    assert mean(planted_regret(*one) == 0 for one in played) >= 0.5
    assert coverage(played) >= 0.85


@pytest.mark.parametrize("in_flight", [1, 16])
def test_sixty_four_entrants(in_flight: int) -> None:
    played = tournaments(64, per_entrant=10, worlds=3, in_flight=in_flight)
    assert mean_tau(played) > 0.65
    assert mean_regret(played) < 0.4
    assert coverage(played) >= 0.8


def test_few_matches_are_no_ranking_and_the_intervals_say_so() -> None:
    played = tournaments(16, per_entrant=3, worlds=12, in_flight=4)
    assert mean_tau(played) < 0.7
    assert coverage(played) >= 0.75


def test_a_judge_that_favours_the_first_is_seen_through() -> None:
    fair = tournaments(16, per_entrant=12, worlds=8, in_flight=8)
    partial = tournaments(16, per_entrant=12, worlds=8, in_flight=8, bias=0.15)
    assert mean_tau(partial) > mean_tau(fair) - 0.06
    assert mean(tournament.order_effect for tournament, _ in partial) == pytest.approx(0.15, abs=0.03)
    assert mean(tournament.order_effect for tournament, _ in fair) == pytest.approx(0, abs=0.03)


def test_those_who_come_late_are_ranked_like_the_others() -> None:
    taus, fewest = [], []
    for seed in range(6):
        truth = world(24, seed=seed)
        late = list(truth)[12:]
        truth |= {key: truth[key] + 1.0 for key in late}
        tournament = Tournament(random.Random(seed), stop=Stop(regret=None, matches=12 * 24))
        play(tournament, truth, seed=seed, in_flight=8, late=late)
        taus.append(kendall_tau(strengths_of(tournament), truth))
        fewest.append(min(row.matches for row in tournament.standings()))
    assert mean(taus) > 0.68
    assert min(fewest) >= 8


def test_nobody_starves() -> None:
    for tournament, _ in tournaments(64, per_entrant=10, worlds=1, in_flight=16):
        matches = [row.matches for row in tournament.standings()]
        assert min(matches) >= 8
        assert matches[0] >= mean(matches)  # the top gets more


def test_the_regret_rule_stops_early_with_a_good_leader() -> None:
    spent, regrets, rules = [], [], []
    for seed in range(8):
        truth = world(16, seed=seed)
        tournament = Tournament(random.Random(seed), stop=Stop(regret=0.1))
        spent.append(play(tournament, truth, seed=seed, in_flight=8) / 16)
        regrets.append(planted_regret(tournament, truth))
        rules.append(tournament.stopped_by)
    assert rules.count("regret") >= 6
    assert mean(spent) < 16
    assert mean(regrets) < 0.3


def test_the_same_seed_gives_the_same_tournament() -> None:
    def once(seed: int) -> tuple[object, ...]:
        tournament = Tournament(random.Random(seed))
        play(tournament, world(12, seed=1), seed=2, in_flight=5, bias=0.1, fails=0.1)
        return (*tournament.standings(), tournament.statistics())

    assert once(3) == once(3) != once(4)
