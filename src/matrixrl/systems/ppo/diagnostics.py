"""Illnesses of PPO that a metric shows: told once they have lasted, with the usual remedy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

PATIENCE = 10
"""Chunks in a row that a metric has to be out of its range."""


@dataclass(frozen=True)
class Symptom:
    """A metric and its healthy range.

    Attributes:
      metric: its name in the stream.
      low, high: outside of these it is ill.
      meaning: what it says when it is out of its range.
      remedy: what usually helps.
    """

    metric: str
    low: float
    high: float
    meaning: str
    remedy: str

    def shows(self, value: float) -> bool:
        """Whether a value is out of the range."""
        return not self.low <= value <= self.high


SYMPTOMS = (
    Symptom(
        "train/entropy",
        0.02,
        float("inf"),
        "the policy has collapsed to one action per state and explores no more",
        "raise --ent-coef or lower --learning-rate",
    ),
    Symptom(
        "train/approx_kl",
        -1.0,
        0.1,
        "updates move the policy further than clipping is meant to allow",
        "lower --learning-rate or --update-epochs, or raise --num-minibatches' batch with --num-steps",
    ),
    Symptom(
        "train/explained_variance",
        -0.5,
        1.0,
        "the value network predicts worse than a constant would",
        "raise --vf-coef, or bring the rewards near 1 with --reward-scale",
    ),
)


def examine(
    ill_for: Mapping[str, int], metrics: Mapping[str, float | int]
) -> tuple[dict[str, int], list[str]]:
    """Look at the row of a chunk.

    Args:
      ill_for: by metric, for how many chunks in a row it has been out of its range.
      metrics: the row.

    Returns:
      The new counts, and what there is to tell: once per illness, when it has lasted `PATIENCE` chunks.
    """
    counts: dict[str, int] = {}
    told: list[str] = []
    for symptom in SYMPTOMS:
        name, value = symptom.metric, float(metrics[symptom.metric])
        counts[name] = ill_for.get(name, 0) + 1 if symptom.shows(value) else 0
        if counts[name] == PATIENCE:
            told.append(
                f"{name} has been out of its healthy range for {PATIENCE} records (now {value:.3g}): "
                f"{symptom.meaning}; usual remedy: {symptom.remedy}"
            )
    return counts, told
