"""Names of the metrics of runs that train with PPO, before there is a run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

TRAIN = (
    "total_loss",
    "pg_loss",
    "vf_loss",
    "entropy",
    "approx_kl",
    "clip_fraction",
    "grad_norm",
    "explained_variance",
    "mean_reward",
    "steps_per_second",
    "update_step",
    "learning_rate",
    "logging_overhead_pct",
    "mean_episode_length",
)
"""Scalars of an update (`agents.ppo.UpdateMetrics`), which would import JAX, and of a chunk."""


def ppo_metrics(episode_values: Iterable[str] = ("*",)) -> list[str]:
    """Returns the metrics of the stream, as patterns.

    Args:
      episode_values: what an episode of the environment reports beside return and steps. What a
        user's environment reports is known when it has run.
    """
    return [
        *(f"train/{name}" for name in TRAIN),
        *(f"episode/{name}" for name in dict.fromkeys(("count", "return", "steps", *episode_values))),
    ]


def environment_metrics(config: Any) -> list[str]:
    """Returns the metrics of a run on any environment, as patterns: no setting changes them."""
    del config
    return ppo_metrics()
