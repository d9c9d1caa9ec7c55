"""Pretraining: weight updates on demonstrations before the first game."""

from __future__ import annotations

from jaxtyping import PRNGKeyArray

from matrixrl.config import MatmulConfig
from matrixrl.systems.matmul.context import PhaseContext
from matrixrl.systems.matmul.phases.phase import Phase
from matrixrl.systems.matmul.phases.updates import UpdateChunk, advance_updates, fetch_updates
from matrixrl.systems.matmul.state import MatmulState, Progress
from matrixrl.tracking.events import ScalarRow
from matrixrl.tracking.recorder import Recorder


class Pretraining(Phase[UpdateChunk]):
    """Learns from fresh demonstrations alone; a row of the journal for each update."""

    name, title, unit = "pretrain", "pretraining", "updates"

    def length(self, config: MatmulConfig) -> int:
        """Returns the number of weight updates."""
        return config.demonstration.pretraining_steps

    def needs_record(self, config: MatmulConfig, progress: Progress) -> bool:
        """Returns whether the last chunk was started: no update depends on what is recorded."""
        return progress.done >= self.length(config)

    def advance(
        self, context: PhaseContext, state: MatmulState, key: PRNGKeyArray
    ) -> tuple[MatmulState, UpdateChunk]:
        """Starts the next updates."""
        return advance_updates(context, state, key, self.length(context.config), use_replay=False)

    def record(
        self, context: PhaseContext, state: MatmulState, result: UpdateChunk, run: Recorder
    ) -> tuple[MatmulState, bool]:
        """Records a row for each update."""
        ticks, values = fetch_updates(context, result, run)
        run.record(
            ScalarRow(
                tick,
                {
                    "pretrain/loss": float(loss),
                    "pretrain/policy_loss": float(policy_loss),
                    "pretrain/value_loss": float(value_loss),
                },
            )
            for tick, (loss, policy_loss, value_loss, _) in zip(ticks, values.T, strict=True)
        )
        run.progress(self.title, ticks[-1].step, self.length(context.config), self.unit)
        return state, result.is_last
