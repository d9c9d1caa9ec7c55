"""Learning: the weight updates of an epoch, on its games and on fresh demonstrations."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import PRNGKeyArray

from matrixrl.config import MatmulConfig
from matrixrl.systems.matmul.context import PhaseContext
from matrixrl.systems.matmul.phases.phase import Phase
from matrixrl.systems.matmul.phases.updates import UpdateChunk, advance_updates, fetch_updates
from matrixrl.systems.matmul.state import LossSums, MatmulState, Progress
from matrixrl.tracking.events import ScalarRow, TableSnapshot
from matrixrl.tracking.recorder import Recorder


class Learning(Phase[UpdateChunk]):
    """Learns from the replay buffer and demonstrations; one row for the epoch, at its last
    update.
    """

    name, title, unit = "train", "learning", "updates"

    def length(self, config: MatmulConfig) -> int:
        """Returns the number of weight updates per epoch."""
        return config.selfplay.updates_per_epoch

    def needs_record(self, config: MatmulConfig, progress: Progress) -> bool:
        """Returns whether the last chunk was started: no update depends on what is recorded."""
        return progress.done >= self.length(config)

    def advance(
        self, context: PhaseContext, state: MatmulState, key: PRNGKeyArray
    ) -> tuple[MatmulState, UpdateChunk]:
        """Starts the next updates."""
        return advance_updates(context, state, key, self.length(context.config), use_replay=True)

    def record(
        self, context: PhaseContext, state: MatmulState, result: UpdateChunk, run: Recorder
    ) -> tuple[MatmulState, bool]:
        """Sums the losses; with the last chunk, records the epoch and marks the episode table."""
        ticks, values = fetch_updates(context, result, run)
        progress = state.progress
        sums = LossSums(
            *(
                total + float(row.astype(np.float64).sum())
                for total, row in zip(progress.loss_sums, values, strict=True)
            )
        )
        progress = dataclasses.replace(progress, loss_sums=sums)
        context.show_progress(progress, self.title, self.length(context.config), self.unit, run)
        if result.is_last:
            row = self._epoch_metrics(context, state._replace(progress=progress), run)
            run.record([ScalarRow(ticks[-1], row), TableSnapshot(ticks[-1])])
            solved = progress.solved / context.config.selfplay.episodes_per_epoch
            progress = dataclasses.replace(progress, success_rate=solved)
        return state._replace(progress=progress), result.is_last

    def _epoch_metrics(
        self, context: PhaseContext, state: MatmulState, run: Recorder
    ) -> dict[str, float | int]:
        """Returns the epoch's row, with the metric names of the tracking contract, section 3."""
        progress, settings = state.progress, context.config.selfplay
        loss, policy_loss, value_loss, grad_norm = (
            total / settings.updates_per_epoch for total in progress.loss_sums
        )
        metrics: dict[str, float | int] = {
            "Epoch": progress.epoch,
            "epoch_loss": loss,
            "epoch_policy_loss": policy_loss,
            "epoch_value_loss": value_loss,
            "epoch_grad_norm": grad_norm,
            "epoch_learning_rate": float(np.asarray(context.program.schedule(progress.updates))),
            "epoch_success_rate": progress.solved / settings.episodes_per_epoch,
            "epoch_replay_size": int(state.device.replay.num_games),
            "epoch_simulations_per_second": context.simulations / max(context.self_play_seconds, 1e-9),
            "train/logging_overhead_pct": run.logging_overhead_pct,
        }
        for name, rank in zip(context.names("epoch_best_rank"), progress.best_ranks, strict=True):
            if rank is not None:
                metrics[name] = rank
        return metrics
