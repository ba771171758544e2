"""The fit: its derivatives, its maximum, its independence of order, and the uncertainty it states."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmesh.ranking import ratings
from agentmesh.ranking.ledger import Ledger
from agentmesh.ranking.ratings import Posterior, fit

ITEMS = 5
Result = tuple[int, int, float]
RESULTS = st.sampled_from([(a, b, score) for a, b in permutations(range(ITEMS), 2) for score in (0.0, 0.5, 1.0)])


def ledger_of(*results: Result) -> Ledger:
    ledger = Ledger()
    for first, second, score in results:
        ledger.append(first, second, score=score)
    return ledger


def played(items: int, matches: int, *, seed: int = 1, shift: float = 0.0) -> tuple[list[float], Ledger]:
    """Planted strengths and a ledger of random pairs."""
    rng = random.Random(seed)
    truth = [rng.gauss(0, 1.1) for _ in range(items)]
    ledger = Ledger()
    for _ in range(matches):
        a, b = rng.sample(range(items), 2)
        ledger.append(a, b, score=float(rng.random() < 1 / (1 + np.exp(truth[b] - truth[a] - shift))))
    return truth, ledger


def test_slope_and_curvature_are_those_of_the_log_posterior() -> None:
    _, ledger = played(ITEMS, 30)
    ledger.append(0, 1, score=0.5)
    posterior = Posterior(ledger, items=ITEMS)
    point = np.random.default_rng(3).normal(size=ITEMS + 1)
    small = 1e-5
    ways = np.eye(ITEMS + 1) * small
    slope = [(posterior.value(point + way) - posterior.value(point - way)) / (2 * small) for way in ways]
    assert posterior.gradient(point) == pytest.approx(slope, abs=1e-6)
    weights = posterior.weights(point)
    curved = [(posterior.gradient(point - way) - posterior.gradient(point + way)) / (2 * small) for way in ways]
    assert posterior.curvature(weights) == pytest.approx(np.array(curved), abs=1e-6)
    assert posterior.diagonal(weights) == pytest.approx(np.diag(np.array(curved)), abs=1e-6)
    assert posterior.curvature_times(point, weights) == pytest.approx(np.array(curved) @ point, abs=1e-6)


def test_the_log_likelihood_of_one_result_is_that_of_bradley_and_terry() -> None:
    point = np.array([0.7, -0.2, 0.3])
    chance = 1 / (1 + np.exp(-(0.7 + 0.2 + 0.3)))
    prior = -0.5 * (0.7**2 + 0.2**2) / 1.5**2 - 0.5 * 0.3**2
    assert Posterior(ledger_of((0, 1, 1)), items=2).value(point) == pytest.approx(np.log(chance) + prior)
    assert Posterior(ledger_of((0, 1, 0)), items=2).value(point) == pytest.approx(np.log(1 - chance) + prior)
    half = 0.5 * np.log(chance) + 0.5 * np.log(1 - chance)
    assert Posterior(ledger_of((0, 1, 0.5)), items=2).value(point) == pytest.approx(half + prior)


@settings(max_examples=40, deadline=None)
@given(st.lists(RESULTS, max_size=25), st.randoms(use_true_random=False))
def test_ratings_do_not_depend_on_the_order_of_results(results: list[Result], rng: random.Random) -> None:
    forth = ledger_of(*results)
    cold = fit(forth, items=ITEMS)
    rng.shuffle(results)
    halfway = fit(ledger_of(*results[: len(results) // 2]), items=ITEMS)
    warm = fit(ledger_of(*results), items=ITEMS, start=halfway)
    assert warm.point == pytest.approx(cold.point, abs=1e-5)
    assert warm.deviations() == pytest.approx(cold.deviations(), abs=1e-5)
    assert abs(cold.strengths.mean()) < 1e-6
    assert np.abs(Posterior(forth, items=ITEMS).gradient(cold.point)).max() < 1e-6


def test_an_item_that_never_lost_and_one_that_never_played_have_finite_ratings() -> None:
    found = fit(ledger_of(*[(0, 1, 1), (1, 0, 0)] * 50), items=3)
    assert found.strengths[0] > 1 > -1 > found.strengths[1]
    assert found.strengths[2] == pytest.approx(0, abs=1e-6)
    assert np.isfinite(found.deviations()).all()
    assert found.deviations()[2] > found.deviations()[0]


def test_without_results_the_prior_is_what_is_known() -> None:
    found = fit(Ledger(), items=4)
    assert found.strengths.tolist() == [0, 0, 0, 0]
    assert found.deviations() == pytest.approx(np.full(4, 1.5 * np.sqrt(3 / 4)))
    assert found.best_probabilities(count=4000) == pytest.approx(np.full(4, 0.25), abs=0.03)


def test_ties_pull_two_items_together_and_wins_pull_them_apart() -> None:
    tied, won = fit(ledger_of(*[(0, 1, 0.5)] * 6), items=2), fit(ledger_of(*[(0, 1, 1), (1, 0, 0)] * 3), items=2)
    assert tied.strengths == pytest.approx([0, 0], abs=1e-6)
    assert won.strengths[0] - won.strengths[1] > 1


def test_a_new_item_joins_a_warm_start() -> None:
    _, ledger = played(6, 60)
    before = fit(ledger, items=6)
    ledger.append(6, 0, score=1)
    assert fit(ledger, items=7, start=before).point == pytest.approx(fit(ledger, items=7).point, abs=1e-6)


def test_the_order_effect_is_told_from_strength() -> None:
    shift = float(np.log(0.65 / 0.35))
    truth, ledger = played(16, 1500, shift=shift)
    found = fit(ledger, items=16)
    assert found.order_effect == pytest.approx(shift, abs=0.15)
    assert np.corrcoef(found.strengths, truth)[0, 1] > 0.97


def test_without_the_dense_matrix_the_same_maximum_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    _, ledger = played(40, 600)
    dense = fit(ledger, items=40)
    monkeypatch.setattr(ratings, "DENSE_ITEMS", 0)
    sparse = fit(ledger, items=40)
    assert sparse.point == pytest.approx(dense.point, abs=1e-5)
    assert sparse.deviations() == pytest.approx(dense.deviations(), rel=0.2)
    assert sparse.regret() == pytest.approx(dense.regret(), abs=0.05)


def test_regret_falls_as_evidence_grows_and_is_the_same_each_time() -> None:
    regrets = [fit(played(16, matches)[1], items=16).regret() for matches in (16, 160, 3000)]
    assert regrets[0] > regrets[1] > regrets[2]
    again = fit(played(16, 160)[1], items=16)
    assert regrets[1] == again.regret() == again.regret()
    assert again.regret(seed=5) == pytest.approx(again.regret(), abs=0.03)


def test_two_near_equals_far_ahead_leave_little_regret_though_either_may_be_best() -> None:
    pairs = [(leader, other) for leader in (0, 1) for other in (2, 3, 4, 5)]
    ahead = [(leader, other, 1.0) for leader, other in pairs] + [(other, leader, 0.0) for leader, other in pairs]
    found = fit(ledger_of(*ahead * 20, *[(0, 1, 1.0), (1, 0, 1.0)] * 40), items=6)
    assert found.best_probabilities()[:2] == pytest.approx([0.5, 0.5], abs=0.1)
    assert found.regret() < 0.06


def test_draws_have_the_stated_mean_and_spread() -> None:
    found = fit(played(8, 80)[1], items=8)
    drawn = found.draws(count=20_000)
    assert drawn.mean(axis=0) == pytest.approx(found.strengths, abs=0.03)
    centred = drawn - drawn.mean(axis=1, keepdims=True)
    assert centred.std(axis=0) == pytest.approx(found.deviations(), rel=0.03)


def test_one_item_leads_without_regret_and_none_has_no_leader() -> None:
    alone = fit(Ledger(), items=1)
    assert (alone.regret(), alone.deviations().tolist()) == (0.0, [0.0])
    with pytest.raises(ValueError, match="none leads"):
        fit(Ledger(), items=0).regret()


@pytest.mark.parametrize(("first", "second", "score"), [(0, 1, 0.7), (0, 0, 1), (-1, 0, 1), (0, 1, float("nan"))])
def test_a_ledger_refuses_what_is_no_result(first: int, second: int, score: float) -> None:
    ledger = ledger_of((0, 1, 1))
    with pytest.raises(ValueError, match=r"a score is|are no pair"):
        ledger.append(first, second, score=score)
    assert (list(ledger), repr(ledger)) == ([(0, 1, 1.0)], "<Ledger of 1 results>")


def test_a_fit_refuses_items_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="more than 2 items"):
        fit(ledger_of((0, 2, 1)), items=2)


def seconds_of(ledger: Ledger, *, items: int) -> float:
    """The fastest of several refits: what it costs where nothing else runs."""
    times = []
    for _ in range(10):
        began = time.thread_time()
        fit(ledger, items=items)
        times.append(time.thread_time() - began)
    return min(times)


def test_a_refit_is_cheap() -> None:
    assert seconds_of(played(64, 1000)[1], items=64) < 0.004  # about 0.001 on a free core
    assert seconds_of(played(1000, 5000)[1], items=1000) < 0.04


def test_numpy_is_not_imported_before_the_first_fit() -> None:
    code = "import sys, agentmesh.ranking; print('numpy' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"
