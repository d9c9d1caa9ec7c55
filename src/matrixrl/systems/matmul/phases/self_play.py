"""Self-play: games with exploration, whose schemes are proved and whose positions are learned
from.
"""

from __future__ import annotations

import dataclasses
import math
import time

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
from matrixrl.systems.matmul.phases.search_record import record_search
from matrixrl.systems.matmul.rows import episode_metrics
from matrixrl.systems.matmul.state import MatmulState, Progress
from matrixrl.tracking.events import ScalarRow
from matrixrl.tracking.recorder import Recorder


class SelfPlay(Phase[MoveChunk]):
    """Plays the games of an epoch and keeps them in the replay buffer."""

    name, title, unit = "self-play", "self-play", "games"

    def length(self, config: MatmulConfig) -> int:
        """Returns the number of games per epoch."""
        return config.selfplay.episodes_per_epoch

    def advance(
        self, context: PhaseContext, state: MatmulState, key: PRNGKeyArray
    ) -> tuple[MatmulState, MoveChunk]:
        """Starts a batch if none is in progress, and one action in each game."""

        def start(key: Array, state: MatmulState, limits_and_games: tuple[Array, Array]) -> Games:
            fraction = jnp.float32(context.config.selfplay.random_basis_fraction)
            program = context.program
            if starts_from_partial_solutions(context.config, state.progress):
                with program.first_calls.call(programs.PARTIAL_START):
                    return program.start_partial_games(key, state.device.replay, *limits_and_games, fraction)
            with program.first_calls.call(programs.START):
                return program.start_games(key, *limits_and_games, fraction)

        exploration = context.config.search.exploration
        return advance_games(context, state, key, self.length(context.config), exploration, start)

    def record(
        self, context: PhaseContext, state: MatmulState, result: MoveChunk, run: Recorder
    ) -> tuple[MatmulState, bool]:
        """Records the episodes that ended, and keeps a batch that is over."""
        progress = state.progress
        played = fetch_move(context, progress, result, run)
        context.simulations += len(played.ticks) * context.config.search.num_simulations
        context.self_play_seconds += time.perf_counter() - result.began
        events = played.events
        if played.rows:
            events.append(ScalarRow(played.rows[-1].tick, episode_metrics(played.rows)))
        run.record(events)
        if context.config.search.record_search and progress.done == 0:
            record_search(context, progress, played, result.games, run)
        offer_schemes(context, progress, played.schemes, run)
        progress = dataclasses.replace(progress, solved=progress.solved + len(played.schemes))
        progress = context.note_ranks(progress)
        device = state.device
        if played.is_over:
            context.save_solutions()
            device = device._replace(replay=context.keep(device.replay, result.games))
            progress = finish_batch(progress)
        length = self.length(context.config)
        context.show_progress(progress, self.title, length, self.unit, run)
        return MatmulState(device, progress), played.is_over and progress.done == length


def starts_from_partial_solutions(config: MatmulConfig, progress: Progress) -> bool:
    """Returns whether the next batch starts from partial solutions: a fixed fraction of all
    batches, evenly spread.
    """
    settings = config.selfplay
    batches = -(-settings.episodes_per_epoch // settings.batch_of_games)
    number = (progress.epoch - 1) * batches + progress.done // settings.batch_of_games
    fraction = settings.partial_solution_fraction
    return math.floor((number + 1) * fraction) > math.floor(number * fraction)
