"""Spec of HackMatrix: its episode table, charts and console rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from matrixrl.systems.ppo.spec import ppo_spec
from matrixrl.systems.spec import System
from matrixrl.tracking.spec import ConsoleMetric

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

LATER_STARTS_SPEC = dataclasses.replace(SPEC, episode_columns={**SPEC.episode_columns, "Start Stage": "int"})
"""Spec of a run with later starts: its episode table also has the stage of the start."""

EPISODE_COLUMNS = SPEC.episode_columns
"""Columns of the episode table; the first one is its key."""


def known_metrics(config: Any) -> Sequence[str] | None:
    """Returns the metrics of a run's stream; imported when they are asked for."""
    from matrixrl.systems.hackmatrix.metrics import hackmatrix_metrics

    return hackmatrix_metrics(config)


SYSTEM = System(SPEC, metrics=known_metrics)
