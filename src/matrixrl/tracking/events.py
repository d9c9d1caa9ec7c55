"""What a trainer may record: typed events, each stamped with a tick of the run's clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from matrixrl.tracking.clock import Tick

Scalar = float | int | bool | str | None
Kind = Literal["int", "float", "bool", "str"]
System = Literal["matmul", "hackmatrix", "ppo"]

MATMUL_EPISODE_COLUMNS: Mapping[str, Kind] = {
    "Global Episode": "int",
    "Epoch": "int",
    "Episode in Epoch": "int",
    "Reward": "float",
    "Residual": "float",
    "Rank": "int",
    "Steps": "int",
    "Solved": "bool",
}
"""Columns of `episode_history` for matmul, in the order and spelling of rule 5. The first one is the key."""

HACKMATRIX_EPISODE_COLUMNS: Mapping[str, Kind] = {
    "Global Episode": "int",
    "Update": "int",
    "Return": "float",
    "Steps": "int",
    "Highest Stage": "int",
    "Final Score": "float",
    "Won": "bool",
}
"""Columns of `episode_history` for hackmatrix; a trainer may pass others to `open_run`."""

EPISODE_TABLE = "episode_history"

WALL_CLOCK_ENDINGS = ("_per_second", "_seconds", "_overhead_pct")
"""Metrics whose names end so are measured with a watch: a recomputed row may differ in them (rule 10)."""


@dataclass(frozen=True, slots=True)
class ScalarRow:
    """One row of the stream: metric names and their values at a step. One per step.

    A row that carries an `epoch_*` metric must carry `Epoch` too (rule 7).
    """

    tick: Tick
    metrics: Mapping[str, float | int]


@dataclass(frozen=True, slots=True)
class EpisodeRow:
    """One finished episode: a row of the table `episode_history`, at the tick of the episode's last move.

    Attributes:
        values: one value per column of the run's episode schema, by name. The first column is the global episode
            number: counted from 1, and never used twice.
    """

    tick: Tick
    values: Mapping[str, Scalar]


@dataclass(frozen=True, slots=True)
class MoveRow:
    """One move of one game. Kept by the journal with `--record-moves` (or `--console steps`).

    Attributes:
        episode: the global number of the episode that the move belongs to.
        move: the number of the move in its episode, from 1.
        action: the action as integers.
        reward: the reward of the move.
        residual: the residual of the observation after this very move (rule 8).
    """

    tick: Tick
    episode: int
    move: int
    action: Sequence[int]
    reward: float
    residual: float


@dataclass(frozen=True, slots=True)
class TableMark:
    """Log the complete `episode_history` to W&B at this step: once per epoch, never inside the episode loop."""

    tick: Tick


@dataclass(frozen=True, slots=True)
class Note:
    """Something the user is told: a line on the console that the journal keeps.

    Attributes:
        level: `warning` for an illness of training or of tracking, `info` for the rest.
    """

    tick: Tick | None
    text: str
    level: Literal["info", "warning"] = "info"


@dataclass(frozen=True, slots=True)
class FileRow:
    """A file or folder of the run folder that was written: a checkpoint, a scheme, a picture.

    Attributes:
        kind: `checkpoint` rows go to W&B as `checkpoint-<run id>-<step>`, type `model`; `artifact` rows by their file name.
        path: relative to the run folder.
        sha256: hex digest of the bytes (`sha256_of`); of a folder, over its files in order.
        size_bytes: how large it is.
        seconds: how long the training thread was held up by writing it.
        aliases: such as `best`; `latest` is given to the newest checkpoint without being asked.
    """

    tick: Tick
    kind: Literal["checkpoint", "artifact"]
    path: str
    sha256: str
    size_bytes: int
    seconds: float = 0.0
    aliases: Sequence[str] = field(default_factory=tuple)


Event = ScalarRow | EpisodeRow | MoveRow | TableMark | Note | FileRow


def is_wall_clock(metric: str) -> bool:
    """Whether a metric is measured with a watch, so that recomputing it gives another value."""
    return metric.endswith(WALL_CLOCK_ENDINGS)
