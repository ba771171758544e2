"""Strengths from judged pairs: a Bradley-Terry fit, its uncertainty, and what is at stake in the choice of a leader.

The model (Bradley and Terry 1952, with the order effect of Davidson and Beaver 1977): the first of two items wins with
probability logistic(strength of first - strength of second + order effect). A tie is half a win for each. Strengths
have a normal prior, so that an item that never lost has a finite strength, and that of an item without a match is 0.

The posterior is concave, so Newton's method with a halved step where one overshoots finds its only maximum, whatever
the order of results and wherever it starts. The uncertainty is that of the normal distribution with the same curvature
(Laplace). It is exact in the covariance up to `DENSE_ITEMS`; above, steps are found by conjugate gradients and each
item's uncertainty from its own curvature alone, so that cost and memory stay proportional to items plus results.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .ledger import Ledger

__all__ = ["DENSE_ITEMS", "PRIOR_SD", "Posterior", "Ratings", "fit"]

Array = NDArray[np.floating[Any]]

PRIOR_SD = 1.5  # logits; wide enough for judges that are right in 65 to 85 % of pairs one sd of quality apart
ORDER_PRIOR_SD = 1.0  # logits: a judge that takes the first of two equal texts in 73 % of cases is one sd away
DENSE_ITEMS = 300  # a fit and its intervals take about 10 ms here, and up to eight times that at twice the size
DRAWS = 1000  # of the posterior: a regret of 0.05 is then known to about 0.005
MAX_STEPS = 50  # a fit from nothing takes about 6
GRADIENT_TOLERANCE = 1e-7  # strengths are then right to 2.25e-7 logits, since the prior's curvature is 1 / 2.25


class Posterior:
    """The log posterior of a ledger over points of shape (items + 1,): the strengths, and last the order effect.

    All in logits. Raises ValueError if the ledger speaks of an item that does not exist.
    """

    def __init__(self, ledger: Ledger, *, items: int, prior_sd: float = PRIOR_SD) -> None:
        self.items = items
        self.first = np.array(ledger.first, dtype=np.intp)
        self.second = np.array(ledger.second, dtype=np.intp)
        self.score = np.array(ledger.score, dtype=np.float64)
        if len(ledger) and max(self.first.max(), self.second.max()) >= items:
            raise ValueError(f"the ledger speaks of more than {items} items")
        self.precision = np.full(items + 1, prior_sd**-2)
        self.precision[-1] = ORDER_PRIOR_SD**-2

    def value(self, point: Array) -> float:
        """Log likelihood plus log prior, without their constant."""
        logit = self._differences(point)
        likelihood = self.score @ logit - np.logaddexp(0.0, logit).sum()
        return float(likelihood - 0.5 * (self.precision * point) @ point)

    def gradient(self, point: Array) -> Array:
        """Slope of `value`, shape (items + 1,)."""
        slope: Array = self._sums(self.score - self._probabilities(point)) - self.precision * point
        return slope

    def weights(self, point: Array) -> Array:
        """What each result teaches, p(1 - p), shape (results,)."""
        p = self._probabilities(point)
        return p * (1.0 - p)

    def diagonal(self, weights: Array) -> Array:
        """The diagonal of `curvature`: what is known of each coefficient if the others were certain."""
        n = self.items
        both = np.bincount(self.first, weights, minlength=n) + np.bincount(self.second, weights, minlength=n)
        known: Array = self.precision + np.append(both, weights.sum())
        return known

    def curvature(self, weights: Array) -> Array:
        """The negative second derivative of `value`, shape (items + 1, items + 1), positive definite."""
        n = self.items
        met = np.bincount(self.first * n + self.second, weights, minlength=n * n).reshape(n, n)
        full = np.zeros((n + 1, n + 1))
        full[:n, :n] = -met - met.T
        full[:n, n] = full[n, :n] = self._sums(weights)[:n]
        full[np.diag_indices(n + 1)] = self.diagonal(weights)
        return full

    def curvature_times(self, vector: Array, weights: Array) -> Array:
        """`curvature` times a vector, in time and memory proportional to items plus results."""
        product: Array = self._sums(weights * self._differences(vector)) + self.precision * vector
        return product

    def _differences(self, point: Array) -> Array:
        apart: Array = point[self.first] - point[self.second] + point[-1]
        return apart

    def _probabilities(self, point: Array) -> Array:
        first_wins: Array = 0.5 * (1.0 + np.tanh(0.5 * self._differences(point)))  # the logistic, without overflow
        return first_wins

    def _sums(self, amounts: Array) -> Array:
        """Per item, what it got as first minus what it got as second; and last the sum of all."""
        n = self.items
        balance = np.bincount(self.first, amounts, minlength=n) - np.bincount(self.second, amounts, minlength=n)
        sums: Array = np.append(balance, amounts.sum())
        return sums


@dataclass(frozen=True, slots=True, eq=False)
class Ratings:
    """What a ledger says.

    `point`: shape (items + 1,), the most probable strengths in logits (their mean is 0) and the order effect.
    `curvature`: at that point, shape (items + 1, items + 1), or only its diagonal where there are very many items.
    """

    point: Array
    curvature: Array

    @property
    def strengths(self) -> Array:
        """Shape (items,), logits."""
        return self.point[:-1]

    @property
    def order_effect(self) -> float:
        """How much standing first is worth, in logits; below 0 if the judge favours the second."""
        return float(self.point[-1])

    def deviations(self) -> Array:
        """Standard deviations of the centred strengths, shape (items,), logits."""
        if self.curvature.ndim == 1:
            variances: Array = 1.0 / self.curvature[:-1]
        else:
            covariance = np.linalg.inv(self.curvature)[:-1, :-1]
            variances = np.diag(covariance) - 2.0 * covariance.mean(axis=1) + covariance.mean()
        return np.sqrt(np.maximum(variances, 0.0))  # a single item is its own mean: 0, but for rounding

    def draws(self, *, count: int = DRAWS, seed: int = 0) -> Array:
        """Strengths drawn from the posterior, shape (count, items): the same for the same ledger and seed."""
        noise = np.random.default_rng(seed).standard_normal((len(self.point), count))
        if self.curvature.ndim == 1:
            scaled = noise / np.sqrt(self.curvature)[:, None]
        else:
            scaled = np.linalg.solve(np.linalg.cholesky(self.curvature).T, noise)
        return (self.point[:, None] + scaled)[:-1].T

    def regret(self, *, count: int = DRAWS, seed: int = 0) -> float:
        """How far below the true best the leader is to be expected, in standard deviations of quality among the items.

        Says "either will do" of two nearly equal leaders, where a probability of being best never would. It is
        optimistic by up to a factor of 2, as the prior's width is fixed. Raises ValueError where there are no items.
        """
        if not len(self.strengths):
            raise ValueError("no items, so none leads")
        drawn = self.draws(count=count, seed=seed)
        behind = drawn.max(axis=1) - drawn[:, self.strengths.argmax()]
        quality = np.sqrt(drawn.var(axis=1).mean())
        return float(behind.mean() / quality) if quality > 0 else 0.0

    def best_probabilities(self, *, count: int = DRAWS, seed: int = 0) -> Array:
        """For each item the probability that it is the best, shape (items,)."""
        best = self.draws(count=count, seed=seed).argmax(axis=1)
        return np.bincount(best, minlength=len(self.strengths)) / count


def fit(ledger: Ledger, *, items: int, start: Ratings | None = None, prior_sd: float = PRIOR_SD) -> Ratings:
    """The ratings of `items` items. `start`, an earlier fit, perhaps of fewer items, only makes it faster."""
    posterior = Posterior(ledger, items=items, prior_sd=prior_sd)
    point = np.zeros(items + 1)
    if start is not None:
        known = min(items, len(start.strengths))
        point[:known], point[-1] = start.strengths[:known], start.order_effect
    value = posterior.value(point)
    for _ in range(MAX_STEPS):
        gradient = posterior.gradient(point)
        if np.abs(gradient).max() < GRADIENT_TOLERANCE:
            break
        step = _newton_step(posterior, gradient, weights=posterior.weights(point))
        ahead = posterior.value(point + step)
        while ahead < value - 1e-9 * (1.0 + abs(value)):  # the allowance is for rounding at the maximum
            step = 0.5 * step
            ahead = posterior.value(point + step)
        point, value = point + step, ahead
    weights = posterior.weights(point)
    dense = items <= DENSE_ITEMS
    return Ratings(point, posterior.curvature(weights) if dense else posterior.diagonal(weights))


def _newton_step(posterior: Posterior, gradient: Array, *, weights: Array) -> Array:
    if posterior.items <= DENSE_ITEMS:
        return np.linalg.solve(posterior.curvature(weights), gradient)
    # Conjugate gradients, scaled by the diagonal; a rough step far from the maximum, an exact one near it.
    scale = posterior.diagonal(weights)
    step = np.zeros_like(gradient)
    residual = gradient
    scaled = direction = residual / scale
    enough = min(0.1, float(np.linalg.norm(gradient))) * np.linalg.norm(gradient)
    for _ in range(len(gradient)):
        if np.linalg.norm(residual) <= enough:
            break
        curved = posterior.curvature_times(direction, weights)
        size = (residual @ scaled) / (direction @ curved)
        step = step + size * direction
        before, residual = residual @ scaled, residual - size * curved
        scaled = residual / scale
        direction = scaled + (residual @ scaled) / before * direction
    return step
