"""Names of the metrics of HackMatrix runs, before there is a run."""

from __future__ import annotations

from typing import Any

from matrixrl.envs.hackmatrix.rules import REWARD_COMPONENTS
from matrixrl.systems.ppo.metrics import ppo_metrics

EPISODE = (
    "return",
    "steps",
    "highest_stage",
    "final_score",
    "win_rate",
    "programs_used",
    "action_moves",
    "action_siphons",
    "action_programs",
    *(f"reward_{name}" for name in REWARD_COMPONENTS),
)
"""Values of an episode (`envs.hackmatrix.statistics`, which imports JAX)."""


def hackmatrix_metrics(config: Any) -> list[str] | None:
    """Returns the metrics of the stream; None for a learner other than PPO, which has its own."""
    if getattr(config, "algorithm", "ppo") != "ppo":
        return None
    further = ["start_stage"] if config.starts.later_starts > 0 else []
    further += ["equipped"] if config.starts.equipped_starts > 0 else []
    return ppo_metrics((*EPISODE, *further, "whole") if further else EPISODE)
