"""Evaluation of trained parameters: games without exploration, from the standard basis, every
solved one proved.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from matrixrl.checkpoints.format import Checkpoint
from matrixrl.config import MatmulConfig
from matrixrl.schemes.problem import Problem
from matrixrl.schemes.scheme import Scheme
from matrixrl.schemes.verify import verify
from matrixrl.systems.matmul.program import SELF_PLAY, START, MatmulProgram
from matrixrl.systems.matmul.solutions import schemes_of
from matrixrl.tracking.status import progress

MAX_GAMES_AT_ONCE = 256


@dataclass(frozen=True)
class EvaluationResult:
    """Result of the games of one problem.

    Attributes:
      problem: the problem.
      games: number of games played.
      ranks: number of solved games by rank.
      least_residual: smallest sum of absolute values of a final residual; 0 if a game was solved.
      best: the proved scheme of lowest rank, or None.
      seconds: duration of play, with compilation, of all formats together.
      compile_seconds: of tracing and compilation, or of reading the programs from the cache.
    """

    problem: Problem
    games: int
    ranks: dict[int, int]
    least_residual: int
    best: Scheme | None
    seconds: float
    compile_seconds: float = 0.0

    @property
    def solved(self) -> int:
        """Number of solved games."""
        return sum(self.ranks.values())


def evaluation_config(config: MatmulConfig, games: int, num_simulations: int | None) -> MatmulConfig:
    """Returns the settings of a run, with the batch size that an evaluation of this number of games
    needs.
    """
    at_once = min(games, MAX_GAMES_AT_ONCE)
    selfplay = dataclasses.replace(
        config.selfplay,
        parallel_games=at_once,
        episodes_per_epoch=at_once,
        replay_size=max(at_once, config.selfplay.replay_size),
    )
    search = config.search
    if num_simulations is not None:
        search = dataclasses.replace(search, num_simulations=num_simulations)
    return dataclasses.replace(config, selfplay=selfplay, search=search, devices=None)


def restore_params(program: MatmulProgram, checkpoint: Checkpoint) -> PyTree:
    """Restores the parameters of a checkpoint; the batch of games may have another size than the
    run's.
    """
    return checkpoint.restore({"params": program.template.params})["params"]


def evaluate(program: MatmulProgram, params: PyTree, games: int, seed: int) -> list[EvaluationResult]:
    """Plays games from the standard basis without noise at the root; several problems alternate.

    Args:
      program: built with `evaluation_config`.
      seed: seed of the search.

    Returns:
      One evaluation for each problem with a game.

    Raises:
      RuntimeError: if a game ended with residual zero and its scheme is wrong: a defect of this
        program.
    """
    began, compile_seconds = time.perf_counter(), 0.0
    at_once = program.config.selfplay.batch_of_games
    problems = program.config.game.problems
    key = jax.random.key(seed)
    played = [0 for _ in problems]
    ranks: list[Counter[int]] = [Counter() for _ in problems]
    least: list[int | None] = [None for _ in problems]
    best: list[Scheme | None] = [None for _ in problems]
    for first in range(0, games, at_once):
        playing = min(at_once, games - first)
        key, key_start = jax.random.split(key)
        with program.first_calls.call(START):
            batch = program.start_games(key_start, program.move_limits, jnp.int32(playing), jnp.float32(0))
        move = None
        while move is None or not np.asarray(move.terminated)[:playing].all():
            key, key_move = jax.random.split(key)
            with program.first_calls.call(SELF_PLAY):
                batch, move = program.play_move(params, batch, key_move, jnp.float32(0))
            # A first call returns as soon as its program is compiled.
            compile_seconds = compile_seconds or time.perf_counter() - began
            ended = first + int(np.asarray(move.terminated)[:playing].sum())
            progress("evaluation", ended, games, "games")
        move = jax.device_get(move)
        solved = {int(lane): int(move.num_moves[lane]) for lane in np.flatnonzero(move.solved[:playing])}
        schemes = schemes_of(program, batch, solved)
        for lane in range(playing):
            number = program.format_of(lane)
            played[number] += 1
            left, before = int(move.residual[lane]), least[number]
            least[number] = left if before is None else min(before, left)
            scheme = schemes.get(lane)
            if scheme is None:
                continue
            if not (proof := verify(scheme)):
                raise RuntimeError(
                    f"a game ended with residual zero, yet its terms are no scheme: {proof.message}"
                )
            ranks[number][scheme.rank] += 1
            found = best[number]
            if found is None or scheme.rank < found.rank:
                best[number] = scheme
    seconds = time.perf_counter() - began
    return [
        EvaluationResult(
            problem,
            played[number],
            dict(sorted(ranks[number].items())),
            left,
            best[number],
            seconds,
            compile_seconds,
        )
        for number, (problem, left) in enumerate(zip(problems, least, strict=True))
        if left is not None
    ]
