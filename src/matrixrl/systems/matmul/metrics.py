"""Names of the metrics of matmul runs, before there is a run."""

from __future__ import annotations

from matrixrl.config import MatmulConfig

EPISODE = ("reward", "residual", "rank", "steps", "solved", "best_reward", "best_rank", "count")
EPOCH = (
    "loss",
    "policy_loss",
    "value_loss",
    "grad_norm",
    "learning_rate",
    "success_rate",
    "replay_size",
    "simulations_per_second",
)
OF_FORMATS = (
    "epoch_best_rank",
    "rewrite/rank",
    "rewrite/best_rank",
    "flip/best_rank",
    "eval/rank",
    "eval/residual",
    "eval/steps",
    "eval/solved",
)
"""Metrics that a run of several formats has for each of them."""


def matmul_metrics(config: MatmulConfig) -> list[str]:
    """Returns the metrics of the stream."""
    problems = config.game.problems
    suffixes = [""] if len(problems) == 1 else [f"_{problem.name}" for problem in problems]
    return [
        "Epoch",
        "train/logging_overhead_pct",
        *(f"epoch_{name}" for name in EPOCH),
        *(f"episode/{name}" for name in EPISODE),
        *(f"pretrain/{name}" for name in EPOCH[:3]),
        *(f"rewrite/{name}" for name in ("solved", "changed", "saved")),
        *(f"flip/{name}" for name in ("flips", "found")),
        *(stem + suffix for stem in OF_FORMATS for suffix in suffixes),
    ]
