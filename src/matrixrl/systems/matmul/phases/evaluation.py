"""Evaluation: games from the standard basis without exploration, every few epochs."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jax import Array
from jaxtyping import PRNGKeyArray

from matrixrl.agents.selfplay import Games
from matrixrl.config import MatmulConfig
from matrixrl.systems.matmul import program as programs
from matrixrl.systems.matmul.context import PhaseContext
from matrixrl.systems.matmul.phases.games import (
    MoveChunk,
    advance_games,
    fetch_move,
    finish_batch,
    offer_schemes,
)
from matrixrl.systems.matmul.phases.phase import Phase
from matrixrl.systems.matmul.rows import add_evaluated, evaluation_metrics
from matrixrl.systems.matmul.state import MatmulState, Progress
from matrixrl.tracking.events import ScalarRow
from matrixrl.tracking.recorder import Recorder


class Evaluation(Phase[MoveChunk]):
    """Plays games that are not learned from, and records the best of them."""

    name, title, unit = "evaluate", "evaluation", "games"

    def length(self, config: MatmulConfig) -> int:
        """Returns the number of games of an evaluation."""
        return config.selfplay.evaluation_games

    def is_due(self, config: MatmulConfig, progress: Progress, goal_reached: bool) -> bool:
        """Returns whether the interval of epochs has passed."""
        interval = config.selfplay.evaluation_interval
        return interval > 0 and progress.epoch % interval == 0

    def advance(
        self, context: PhaseContext, state: MatmulState, key: PRNGKeyArray
    ) -> tuple[MatmulState, MoveChunk]:
        """Starts a batch if none is in progress, and one action in each game."""

        def start(key: Array, state: MatmulState, limits_and_games: tuple[Array, Array]) -> Games:
            with context.program.first_calls.call(programs.START):
                return context.program.start_games(key, *limits_and_games, jnp.float32(0.0))

        return advance_games(context, state, key, self.length(context.config), 0.0, start)

    def record(
        self, context: PhaseContext, state: MatmulState, result: MoveChunk, run: Recorder
    ) -> tuple[MatmulState, bool]:
        """Records the episodes that ended, and the evaluation's row with its last batch."""
        progress, length = state.progress, self.length(context.config)
        played = fetch_move(context, progress, result, run)
        events = played.events
        if played.is_over:
            totals = add_evaluated(
                progress.evaluated, played.move, progress.playing, len(context.discoveries)
            )
            progress = dataclasses.replace(progress, evaluated=totals)
            if progress.done + progress.playing == length:
                row = evaluation_metrics(totals, context.names(""), progress.epoch)
                events.append(ScalarRow(played.ticks[-1], row))
        run.record(events)
        offer_schemes(context, progress, played.schemes, run)
        progress = context.note_ranks(progress)
        if played.is_over:
            context.save_solutions()
            progress = finish_batch(progress)
        context.show_progress(progress, self.title, length, self.unit, run)
        return state._replace(progress=progress), played.is_over and progress.done == length
