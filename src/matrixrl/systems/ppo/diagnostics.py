"""Diagnostics of PPO: metrics outside their healthy range for several chunks in a row, with a
suggestion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

PATIENCE = 10
"""Number of consecutive chunks for which a metric must be out of its range."""


@dataclass(frozen=True)
class Diagnostic:
    """A metric and its healthy range.

    Attributes:
      metric: its name in the stream.
      low, high: limits of the range.
      meaning: what a value outside the range means.
      suggestion: what usually helps.
    """

    metric: str
    low: float
    high: float
    meaning: str
    suggestion: str

    def is_out_of_range(self, value: float) -> bool:
        """Returns whether a value is out of the range; NaN is."""
        return not self.low <= value <= self.high


DIAGNOSTICS = (
    Diagnostic(
        "train/entropy",
        0.02,
        float("inf"),
        "the policy has collapsed to one action per state and explores no more",
        "raise --ent-coef or lower --learning-rate",
    ),
    Diagnostic(
        "train/approx_kl",
        -1.0,
        0.1,
        "updates move the policy further than clipping is meant to allow",
        "lower --learning-rate or --update-epochs, or raise --num-minibatches' batch with --num-steps",
    ),
    Diagnostic(
        "train/explained_variance",
        -0.5,
        1.0,
        "the value network predicts worse than a constant would",
        "raise --vf-coef, or bring the rewards near 1 with --reward-scale",
    ),
)


OF_DISCRETE_ACTIONS = frozenset({"train/entropy"})
"""Metrics whose range holds for discrete actions only: a density's entropy may be negative."""


def check(
    streaks: Mapping[str, int],
    metrics: Mapping[str, float | int],
    *,
    is_continuous: bool = False,
    diagnostics: Sequence[Diagnostic] = DIAGNOSTICS,
) -> tuple[dict[str, int], list[str]]:
    """Checks the row of a chunk.

    Args:
      streaks: by metric, number of chunks in a row that it has been out of its range.
      metrics: the row.
      is_continuous: True if actions are continuous.
      diagnostics: of the learner.

    Returns:
      The new streaks, and warnings: one for each metric whose streak has just reached `PATIENCE`.
    """
    counts: dict[str, int] = {}
    warnings: list[str] = []
    for diagnostic in diagnostics:
        if is_continuous and diagnostic.metric in OF_DISCRETE_ACTIONS:
            continue
        name, value = diagnostic.metric, float(metrics[diagnostic.metric])
        counts[name] = streaks.get(name, 0) + 1 if diagnostic.is_out_of_range(value) else 0
        if counts[name] == PATIENCE:
            warnings.append(
                f"{name} has been out of its healthy range for {PATIENCE} records (now {value:.3g}): "
                f"{diagnostic.meaning}; usual remedy: {diagnostic.suggestion}"
            )
    return counts, warnings
