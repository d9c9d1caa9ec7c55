"""The state of a matmul run: arrays on the device, and plain counters that a checkpoint holds as
JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from matrixrl.systems.matmul.program import DeviceState

DONE = "done"
"""Name of the phase of a finished run."""

RECORDED_NAMES = {
    "replay/format_id": "replay/kind",
    "games/format_id": "games/kind",
    "games/active": "games/taking_part",
}
"""Names of arrays of `DeviceState` in checkpoints, where they differ from the fields."""


class LossSums(NamedTuple):
    """Sums over the weight updates of an epoch."""

    loss: float = 0.0
    policy_loss: float = 0.0
    value_loss: float = 0.0
    grad_norm: float = 0.0


class EvaluationTotals(NamedTuple):
    """Result of the finished batches of an evaluation, for one format.

    Attributes:
      cost, residual, steps: of the best game, which is the one of least cost.
      solved: number of games that were solved.
      played: number of games.
    """

    cost: float = 0.0
    residual: float = 0.0
    steps: float = 0.0
    solved: float = 0.0
    played: float = 0.0


@dataclass(frozen=True)
class Progress:
    """Position of a run: plain numbers, so that a checkpoint is readable.

    Attributes:
      phase: name of the phase that the next chunk belongs to (`phases.PHASES`), or `DONE`.
      chunk: number of chunks started so far; the next chunk's key is derived from it.
      done: units of the phase that are finished: weight updates, games or rounds.
      epoch: number of the current epoch; 0 during pretraining.
      updates: number of weight updates so far.
      episodes: number of finished games of self-play and evaluation: the last global episode
        number.
      playing: number of games in the current batch; 0 when the next chunk has to start one.
      step_limits: maximum number of actions of the next games, for each format.
      solved: number of self-play games that were solved in this epoch.
      loss_sums: over this epoch's weight updates.
      best_ranks: lowest rank of a scheme found so far, for each format.
      success_rate: fraction of self-play games that were solved in the last finished epoch.
      evaluated: result of the evaluation in progress, for each format; empty before its first
        batch.
    """

    phase: str = "pretrain"
    chunk: int = 0
    done: int = 0
    epoch: int = 0
    updates: int = 0
    episodes: int = 0
    playing: int = 0
    step_limits: tuple[int, ...] = ()
    solved: int = 0
    loss_sums: LossSums = field(default_factory=LossSums)
    best_ranks: tuple[int | None, ...] = ()
    success_rate: float = 0.0
    evaluated: tuple[EvaluationTotals, ...] = ()


class MatmulState(NamedTuple):
    """Complete state of a run."""

    device: DeviceState
    progress: Progress


def progress_from_record(record: Mapping[str, Any]) -> Progress:
    """Returns the progress in a checkpoint, where every tuple has become a list.

    Earlier versions wrote `evaluated` as one list of numbers, five for each format.
    """
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in record.items()
    }
    fields["loss_sums"] = LossSums(*fields.get("loss_sums", ()))
    evaluated = fields.get("evaluated", ())
    if evaluated and not isinstance(evaluated[0], list | tuple):
        size = len(EvaluationTotals._fields)
        evaluated = [evaluated[start : start + size] for start in range(0, len(evaluated), size)]
    fields["evaluated"] = tuple(EvaluationTotals(*totals) for totals in evaluated)
    return Progress(**fields)
