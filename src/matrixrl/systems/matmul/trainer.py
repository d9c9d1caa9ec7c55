"""Training on a tensor: a run is a sequence of phases, each a sequence of chunks.

Between two chunks everything that the run continues from is `MatmulState`: arrays on the device,
and the plain counters of `Progress`. Keys are derived from the seed and the number of the chunk, so
no random state has to be kept.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax

from matrixrl.checkpoints import format as checkpoint_format
from matrixrl.checkpoints.format import Checkpoint, Snapshot
from matrixrl.config import MatmulConfig
from matrixrl.systems.matmul import program as programs
from matrixrl.systems.matmul.context import PhaseContext
from matrixrl.systems.matmul.discoveries import Discoveries
from matrixrl.systems.matmul.phases import Chunk, first_phase, next_epoch, next_phase, phase_named
from matrixrl.systems.matmul.program import MatmulProgram
from matrixrl.systems.matmul.search_log import SEARCH_FILE, SearchLog
from matrixrl.systems.matmul.state import (
    DONE,
    RECORDED_NAMES,
    MatmulState,
    Progress,
    progress_from_record,
)
from matrixrl.tracking.recorder import Recorder
from matrixrl.training.first_calls import several_cores
from matrixrl.training.parameters import nonfinite_parameter


class MatmulTrainer:
    """A trainer for `training.loop.run_loop`.

    Args:
      config: the run's settings.
      discoveries: the best schemes, one collection for each problem.
      program: the compiled programs of the config, where several runs share them.
    """

    def __init__(
        self, config: MatmulConfig, discoveries: Sequence[Discoveries], program: MatmulProgram | None = None
    ) -> None:
        self.config = config
        self.program = program or MatmulProgram(config)
        self.context = PhaseContext(config, self.program, discoveries)
        self._key = jax.random.key(config.seed)
        self._compiles_ahead = False

    @property
    def discoveries(self) -> tuple[Discoveries, ...]:
        """The best schemes, one collection for each problem."""
        return self.context.discoveries

    def init(self) -> MatmulState:
        """Returns the state of a fresh run."""
        if several_cores():
            self._compile_ahead()
        with self.program.first_calls.call(programs.INIT):
            device = self.program.init(jax.random.fold_in(self._key, 0))
        game = self.config.game
        progress = Progress(step_limits=game.move_limits, best_ranks=(None,) * len(game.move_limits))
        return MatmulState(device, first_phase(self.context, progress))

    def snapshot(self, state: MatmulState, step: int) -> Snapshot:
        """Returns host copies of everything that the run continues from.

        Raises:
          TrainingDivergedError: if a parameter is NaN or infinite.
        """
        arrays = checkpoint_format.flatten(state.device, RECORDED_NAMES)
        if name := nonfinite_parameter(arrays):
            raise self.context.diverged(name, "not finite", step)
        progress = state.progress
        # A lower rank is better; at equal rank, more solved games.
        game = self.config.game
        ranks = sum(
            limit + 1 if rank is None else rank
            for limit, rank in zip(game.move_limits, progress.best_ranks, strict=True)
        )
        texts = {name: text for found in self.discoveries for name, text in found.checkpoint_texts().items()}
        if self.context.search_log.moves:
            texts[SEARCH_FILE] = self.context.search_log.to_text()
        return Snapshot(
            step,
            arrays,
            {
                **checkpoint_format.plain(progress),
                "num_verified": [found.num_verified for found in self.discoveries],
            },
            texts,
            score=progress.success_rate - ranks,
        )

    def resume(self, checkpoint: Checkpoint | None) -> MatmulState:
        """Returns the state that a checkpoint saved, and restores the best schemes that belong to
        it.

        A run that was over continues if its settings allow more by now. Without a checkpoint a run
        that was started before continues from its beginning.

        Raises:
          ConfigError: if the checkpoint belongs to other settings.
        """
        if checkpoint is None:
            for found in self.discoveries:
                found.resume(None, 0)
            return self.init()
        saved = dict(checkpoint.progress)
        for found, num_verified in zip(self.discoveries, saved.pop("num_verified"), strict=True):
            found.resume_from(checkpoint.text, num_verified)
        self.context.search_log = SearchLog.from_text(checkpoint.text(SEARCH_FILE))
        progress = progress_from_record(saved)
        if progress.phase == DONE:
            progress = next_epoch(self.context, progress)
        return MatmulState(checkpoint.restore(self.program.template, RECORDED_NAMES), progress)

    def finished(self, state: MatmulState) -> bool:
        """Returns whether no epoch is left, or the wanted rank is reached."""
        return state.progress.phase == DONE

    def needs_record(self, state: MatmulState) -> bool:
        """Returns whether the next chunk depends on what recording the last one finds."""
        progress = state.progress
        return progress.phase == DONE or phase_named(progress.phase).needs_record(self.config, progress)

    def advance(self, state: MatmulState) -> tuple[MatmulState, Chunk[Any]]:
        """Starts the next chunk of the current phase."""
        if several_cores() or state.progress.updates:
            self._compile_ahead()
        phase = phase_named(state.progress.phase)
        key = jax.random.fold_in(self._key, state.progress.chunk + 1)
        state, result = phase.advance(self.context, state, key)
        progress = dataclasses.replace(state.progress, chunk=state.progress.chunk + 1)
        return state._replace(progress=progress), Chunk(phase.name, result)

    def record(self, state: MatmulState, outcome: Chunk[Any], run: Recorder) -> MatmulState:
        """Fetches, stamps and commits a chunk, and enters the next phase when it was the last of
        its own.
        """
        state, is_over = phase_named(outcome.phase).record(self.context, state, outcome.result, run)
        if not is_over:
            return state
        return state._replace(progress=next_phase(self.context, state.progress))

    def _compile_ahead(self) -> None:
        """Compiles the programs of self-play in parallel to pretraining, once."""
        if not self._compiles_ahead:
            self._compiles_ahead = True
            self.program.compile_ahead()
