"""Refinement: a large neighbourhood search over the solutions of the run, with the policy as its
repair.

Each round removes a random subset of a solution's terms, re-derives their sum with the policy
alone, and keeps the result if it is no longer (`agents.refinement`).
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Int32, PRNGKeyArray

from matrixrl.agents.refinement import RefinementTotals
from matrixrl.agents.selfplay import Games
from matrixrl.config import MatmulConfig
from matrixrl.systems.matmul import program as programs
from matrixrl.systems.matmul.context import PhaseContext
from matrixrl.systems.matmul.phases.phase import Phase
from matrixrl.systems.matmul.state import MatmulState, Progress
from matrixrl.tracking.events import ScalarRow
from matrixrl.tracking.recorder import Recorder

ROUNDS_PER_CHUNK = 16
"""Number of rounds of a chunk, which then takes a few seconds at most."""


class RefineChunk(NamedTuple):
    """A chunk of rounds.

    Attributes:
      rounds: number of rounds.
      totals: numbers of attempts and successes.
      games: the solutions after it.
      num_moves: their lengths, int32 [B]; 0 for an empty lane.
    """

    rounds: int
    totals: RefinementTotals
    games: Games
    num_moves: Int32[Array, "B"]


class Refinement(Phase[RefineChunk]):
    """Refines good solutions of the replay buffer, and keeps the results as games."""

    name, title, unit = "rewrite", "refinement", "rounds"

    def length(self, config: MatmulConfig) -> int:
        """Returns the number of rounds per epoch."""
        return config.selfplay.refinement_rounds

    def is_due(self, config: MatmulConfig, progress: Progress, goal_reached: bool) -> bool:
        """Returns whether there is a solution to refine, and a lower rank is wanted."""
        solved = any(rank is not None for rank in progress.best_ranks)
        return self.length(config) > 0 and solved and not goal_reached

    def advance(
        self, context: PhaseContext, state: MatmulState, key: PRNGKeyArray
    ) -> tuple[MatmulState, RefineChunk]:
        """Takes good solutions from the replay buffer, and starts the next rounds."""
        program = context.program
        device, progress = state
        key_start, key_rounds = jax.random.split(key)
        games = device.games
        if progress.playing == 0:
            with program.first_calls.call(programs.START_REFINEMENT):
                games = program.start_refinement(key_start, device.replay)
            progress = dataclasses.replace(progress, playing=context.config.selfplay.batch_of_games)
        rounds = min(ROUNDS_PER_CHUNK, self.length(context.config) - progress.done)
        with program.first_calls.call(programs.REFINEMENT):
            games, totals, num_moves = program.refine(device.params, games, key_rounds, jnp.int32(rounds))
        progress = dataclasses.replace(progress, done=progress.done + rounds)
        chunk = RefineChunk(rounds, totals, games, num_moves)
        return MatmulState(device._replace(games=games), progress), chunk

    def record(
        self, context: PhaseContext, state: MatmulState, result: RefineChunk, run: Recorder
    ) -> tuple[MatmulState, bool]:
        """Records one row; proves solutions that beat the best one, and all of them at the end."""
        num_moves, totals = jax.device_get((result.num_moves, result.totals))
        progress, length = state.progress, self.length(context.config)
        is_last = progress.done == length
        filled = np.flatnonzero(num_moves)
        lanes = [
            int(lane) for lane in filled if is_last or context.beats_best(int(lane), int(num_moves[lane]))
        ]
        schemes = context.prove(result.games, {lane: int(num_moves[lane]) for lane in lanes})
        tick = run.clock.advance(result.rounds)[-1]
        if len(filled):
            run.record([ScalarRow(tick, _metrics(context, num_moves, totals))])
        for lane, scheme in schemes.items():
            found = {"epoch": progress.epoch, "step": run.clock.step}
            where = f"epoch {progress.epoch}, an own solution refined"
            context.offer(scheme, context.discoveries_of(lane), found, where, run)
        progress = context.note_ranks(progress)
        context.show_progress(progress, self.title, length, self.unit, run)
        if not (is_last or context.goal_reached):
            return MatmulState(state.device, progress), False
        context.save_solutions()
        device = state.device._replace(replay=context.keep(state.device.replay, result.games))
        return MatmulState(device, dataclasses.replace(progress, playing=0)), True


def _metrics(
    context: PhaseContext, num_moves: np.ndarray, totals: RefinementTotals
) -> dict[str, float | int]:
    """Returns the row of a chunk: fractions of attempts, terms saved, and ranks for each format."""
    attempts = max(float(totals.tried), 1.0)
    metrics: dict[str, float | int] = {
        "rewrite/solved": float(totals.solved) / attempts,
        "rewrite/changed": float(totals.changed) / attempts,
        "rewrite/saved": int(totals.saved),
    }
    for number, suffix in enumerate(context.names("")):
        ranks = num_moves[number :: len(context.discoveries)]
        ranks = ranks[ranks > 0]
        if len(ranks):
            metrics[f"rewrite/rank{suffix}"] = float(ranks.mean())
            metrics[f"rewrite/best_rank{suffix}"] = int(ranks.min())
    return metrics
