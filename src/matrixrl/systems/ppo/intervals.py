"""Means with 95 % confidence intervals, over episodes and over agents."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Num

Z_95 = 1.96
"""Quantile of the normal distribution for 95 % confidence intervals."""


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % confidence interval; the bounds are NaN if the spread is unknown, as for
    a single game.
    """

    mean: float
    low: float
    high: float

    def as_record(self) -> dict[str, Any]:
        """Returns JSON values: `mean` and `ci95`, which is None if unknown."""
        return {"mean": self.mean, "ci95": None if math.isnan(self.low) else [self.low, self.high]}


def mean_interval(values: Num[np.ndarray, "N"]) -> Interval:
    """Computes mean +- 1.96 s / sqrt(n) with the sample's standard deviation s, for values [n]."""
    mean = float(values.mean())
    half = Z_95 * float(values.std(ddof=1)) / math.sqrt(values.size) if values.size > 1 else math.nan
    return Interval(mean, mean - half, mean + half)


def wilson_interval(successes: int, trials: int) -> Interval:
    """Computes the score interval of Wilson 1927 for a fraction, which stays within 0 and 1 and is
    valid at both ends.
    """
    share, z = successes / trials, Z_95
    scale = 1 + z**2 / trials
    centre = (share + z**2 / (2 * trials)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    # At either end the bound is exact, independent of rounding.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == trials else centre + half
    return Interval(share, low, high)


def interquartile_mean(values: Num[np.ndarray, "N"] | Bool[np.ndarray, "N"]) -> float:
    """Computes the mean of the middle half of values [n]; the two at its ends count in part
    (Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice").
    """
    ordered = np.sort(np.asarray(values, np.float64))
    count = ordered.size
    # Value i covers the part from i / n to (i + 1) / n of the sample.
    edges = np.arange(count + 1) / count
    weights = np.clip(np.minimum(edges[1:], 0.75) - np.maximum(edges[:-1], 0.25), 0.0, None)
    return float((ordered * weights).sum() / weights.sum())
