"""A learned choice of where a walker starts: Thompson sampling with Bayesian linear regression.

The outcome of a walk is 1 whenever it finds a lower rank than the pool has, and 0 when it ends
without one. The expected outcome is a linear function of features of the start; a choice samples
the weights of this function from their posterior, and takes the candidate with the highest value.
Old outcomes are discounted, since what helps at a high rank may not help at a low one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

FEATURES = ("constant", "fresh", "excess", "flips", "age", "starts", "wins")
"""Features of a start: 1; whether it is the standard algorithm; ranks above the lowest one of the
pool; matching pairs, as a fraction of the most among the candidates; 0 for the oldest scheme of the
pool to 1 for the newest; and s / (1 + s) for s walks that started there, and that found a lower
rank.
"""

FRESH = (1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0)
"""Features of the standard algorithm."""

DISCOUNT = 0.99
"""Weight of an outcome after each later one."""

NOISE_PRECISION = 10.0
"""Inverse variance of an outcome around its expectation."""


class RestartModel:
    """Posterior of the weights: a Gaussian with a standard normal prior.

    Attributes:
      precision: inverse covariance, [F, F].
      weighted: precision times mean, [F].
      outcomes: number of outcomes so far.
    """

    def __init__(self) -> None:
        self.precision = np.eye(len(FEATURES))
        self.weighted = np.zeros(len(FEATURES))
        self.outcomes = 0

    @property
    def mean(self) -> np.ndarray:
        """Expected weights."""
        return np.linalg.solve(self.precision, self.weighted)

    def observe(self, features: Sequence[float], outcome: float) -> None:
        """Adds the outcome of a walk, and discounts those before it."""
        x = np.asarray(features, np.float64)
        prior = np.eye(len(FEATURES))
        self.precision = DISCOUNT * self.precision + (1 - DISCOUNT) * prior + NOISE_PRECISION * np.outer(x, x)
        self.weighted = DISCOUNT * self.weighted + NOISE_PRECISION * outcome * x
        self.outcomes += 1

    def choose(self, candidates: np.ndarray, rng: np.random.Generator) -> int:
        """Returns the index of the candidate with the highest value under sampled weights.

        Args:
          candidates: features, [N, F].
          rng: source of the sample.
        """
        # With precision = L L^T, mean + L^-T z has the covariance L^-T L^-1 = precision^-1.
        lower = np.linalg.cholesky(self.precision)
        deviation = np.linalg.solve(lower.T, rng.standard_normal(len(FEATURES)))
        return int(np.argmax(candidates @ (self.mean + deviation)))

    def state(self) -> dict[str, np.ndarray]:
        """Returns the posterior as plain arrays for a checkpoint; none before an outcome."""
        if self.outcomes == 0:
            return {}
        return {
            "restart_precision": self.precision,
            "restart_weighted": self.weighted,
            "restart_outcomes": np.array(self.outcomes, np.int64),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> RestartModel:
        """Returns the model whose `state` was taken."""
        model = cls()
        if "restart_outcomes" in state:
            model.precision = np.array(state["restart_precision"], np.float64)
            model.weighted = np.array(state["restart_weighted"], np.float64)
            model.outcomes = int(state["restart_outcomes"])
        return model
