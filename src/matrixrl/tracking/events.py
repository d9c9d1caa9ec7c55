"""What a trainer may record: typed events, each stamped with a tick of the run's clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from matrixrl.tracking.clock import Tick

Scalar = float | int | bool | str | None
Kind = Literal["int", "float", "bool", "str"]

EPISODE_TABLE = "episode_history"

WALL_CLOCK_ENDINGS = ("_per_second", "_seconds", "_overhead_pct")
"""Endings of metrics that depend on wall-clock time: a recomputed row may differ in them (rule 10).
"""


@dataclass(frozen=True, slots=True)
class ScalarRow:
    """One row of the stream: metric names and their values at a step. One per step.

    A row that carries an `epoch_*` metric must carry `Epoch` too (rule 7).
    """

    tick: Tick
    metrics: Mapping[str, float | int]


@dataclass(frozen=True, slots=True)
class EpisodeRow:
    """One finished episode: a row of the table `episode_history`, at the tick of its last move.

    Attributes:
        values: one value per column of the run's episode schema, by name. The first column is the
            global episode number, counted from 1 and never used twice.
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
class TableSnapshot:
    """The complete `episode_history` goes to W&B at this step.

    Record one per epoch, never inside the episode loop.
    """

    tick: Tick


@dataclass(frozen=True, slots=True)
class LogMessage:
    """A message to the user: a line on the console that the journal keeps.

    Attributes:
        tick: its position; None if it belongs to no step.
        level: `warning` for a problem of training or tracking, `info` otherwise.
    """

    tick: Tick | None
    text: str
    level: Literal["info", "warning"] = "info"


@dataclass(frozen=True, slots=True)
class FileRow:
    """A file or folder of the run folder that was written: a checkpoint, a scheme, a picture.

    Attributes:
        kind: `checkpoint` rows go to W&B as `checkpoint-<run id>-<step>`, type `model`;
            `artifact` rows by their file name.
        path: relative to the run folder.
        sha256: hex digest of the bytes (`sha256_of`); of a folder, over its files in order.
        size_bytes: its size.
        seconds: time in seconds that the training thread was paused for it.
        aliases: such as `best`; the newest checkpoint gets `latest` automatically.
    """

    tick: Tick
    kind: Literal["checkpoint", "artifact"]
    path: str
    sha256: str
    size_bytes: int
    seconds: float = 0.0
    aliases: Sequence[str] = field(default_factory=tuple)


Event = ScalarRow | EpisodeRow | MoveRow | TableSnapshot | LogMessage | FileRow


def is_wall_clock(metric: str) -> bool:
    """Returns true if a metric depends on wall-clock time, so that recomputing it gives another
    value.
    """
    return metric.endswith(WALL_CLOCK_ENDINGS)


TableMark = TableSnapshot
Note = LogMessage
"""Earlier names; programs that import them keep working."""
