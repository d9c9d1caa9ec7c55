"""Spec of matmul: its episode table, charts and console rows, and earlier checkpoint formats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matrixrl.checkpoints.migrations import FORMAT_VERSION
from matrixrl.config import ConfigError
from matrixrl.systems.spec import System, metrics_from
from matrixrl.tracking.events import Kind
from matrixrl.tracking.spec import BestMetric, ConsoleMetric, SystemSpec

EPISODE_COLUMNS: Mapping[str, Kind] = {
    "Global Episode": "int",
    "Epoch": "int",
    "Episode in Epoch": "int",
    "Reward": "float",
    "Residual": "float",
    "Rank": "int",
    "Steps": "int",
    "Solved": "bool",
}
"""Columns of the episode table, in the order and spelling of the tracking contract, rule 5; the
first one is its key.
"""

SPEC = SystemSpec(
    name="matmul",
    project="rlmm",
    episode_columns=EPISODE_COLUMNS,
    best_metric=BestMetric("rank", "rewrite/best_rank", lowest=True, column="Rank", only_where="Solved"),
    charts=("pretrain/loss", "episode/reward", "epoch_loss", "epoch_best_rank", "eval/rank"),
    console_metrics=(
        ConsoleMetric("Epoch", "epoch", 7, 0),
        ConsoleMetric("epoch_success_rate", "solved", 9, 1, "fraction"),
        ConsoleMetric("epoch_best_rank", "best rank", 11, 2, always=True),
        ConsoleMetric("epoch_loss", "loss", 9, 3),
        ConsoleMetric("epoch_policy_loss", "policy", 9, 6),
        ConsoleMetric("epoch_value_loss", "value", 9, 7),
        ConsoleMetric("epoch_grad_norm", "gradient", 10, 10),
        ConsoleMetric("epoch_learning_rate", "rate", 10, 9),
        ConsoleMetric("epoch_replay_size", "kept games", 12, 8),
        ConsoleMetric("epoch_simulations_per_second", "sims/s", 10, 5),
        ConsoleMetric("train/logging_overhead_pct", "tracking", 10, 11, "percent"),
        ConsoleMetric("eval/solved", "solved", form="fraction"),
    ),
    console_columns=(
        ConsoleMetric("Global Episode", "episode", 11, 0),
        ConsoleMetric("Epoch", "epoch", 7, 1),
        ConsoleMetric("Episode in Epoch", "game", 7, 2),
        ConsoleMetric("Reward", "reward", 9, 3),
        ConsoleMetric("Residual", "residual", 10, 5),
        ConsoleMetric("Rank", "rank", 7, 4),
        ConsoleMetric("Steps", "steps", 7, 6),
        ConsoleMetric("Solved", "solved", 8, 7),
    ),
)


def _refuse_checkpoint(record: dict[str, Any]) -> dict[str, Any]:
    """Refuses checkpoints of formats 1 and 2, which hold other states.

    Raises:
      ConfigError: always.
    """
    raise ConfigError(
        f"a matmul checkpoint of format {record['format_version']}, for another policy or game state; this matrixrl reads "
        f"format {FORMAT_VERSION}: resume it with the matrixrl that wrote it"
    )


SYSTEM = System(
    SPEC,
    migrations={1: _refuse_checkpoint, 2: _refuse_checkpoint},
    metrics=metrics_from("matrixrl.systems.matmul.metrics:matmul_metrics"),
)
