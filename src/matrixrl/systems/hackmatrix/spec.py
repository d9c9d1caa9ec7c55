"""Spec of HackMatrix: its episode table, charts and console rows."""

from __future__ import annotations

import dataclasses

from matrixrl.systems.ppo.spec import LEARNER_METRICS, ppo_spec
from matrixrl.systems.spec import System, metrics_from
from matrixrl.tracking.spec import ConsoleMetric, SystemSpec

SPEC = ppo_spec(
    name="hackmatrix",
    project="hackmatrix",
    columns={
        "Return": "float",
        "Steps": "int",
        "Highest Stage": "int",
        "Final Score": "float",
        "Won": "bool",
    },
    charts=("train/mean_reward", "episode/return", "episode/highest_stage", "train/entropy"),
    console_metrics=(
        ConsoleMetric("episode/highest_stage", "stage", 7, 2, always=True),
        ConsoleMetric("episode/win_rate", "won", 8, 3, "fraction", always=True),
    ),
    console_columns=(
        ConsoleMetric("Highest Stage", "stage", 7, 4),
        ConsoleMetric("Final Score", "score", 11, 5),
        ConsoleMetric("Won", "won", 6, 7),
    ),
)

ALPHAZERO_METRICS = (
    *(metric for metric in LEARNER_METRICS if metric.name != "train/approx_kl"),
    ConsoleMetric("train/search_kl", "search KL", 11, 7),
    ConsoleMetric("train/target_entropy", "target", 9, 14),
)
"""Metrics of AlphaZero on the console."""

ALPHAZERO_SPEC = dataclasses.replace(
    SPEC,
    charts=("episode/return", "episode/highest_stage", "train/search_kl", "train/policy_loss"),
    console_metrics=tuple(metric for metric in SPEC.console_metrics if metric not in LEARNER_METRICS)
    + ALPHAZERO_METRICS,
)
"""Spec of a run of `--algorithm alphazero`."""


def with_starts(spec: SystemSpec, later: bool, equipped: bool) -> SystemSpec:
    """Returns the spec of a run with later or equipped starts: its episode table also says how each
    game started.
    """
    further = {"Start Stage": "int"} if later else {}
    further |= {"Equipped": "bool"} if equipped else {}
    return dataclasses.replace(spec, episode_columns={**spec.episode_columns, **further})


EPISODE_COLUMNS = SPEC.episode_columns
"""Columns of the episode table; the first one is its key."""


SYSTEM = System(SPEC, metrics=metrics_from("matrixrl.systems.hackmatrix.metrics:hackmatrix_metrics"))
