"""Walks on flip graphs: they start from the run's own solutions, and what they find becomes games
of the replay buffer.

A round starts from the solutions of the lowest rank, which a checkpoint holds, so that the phase
itself has no state. As long as there are none it starts from the standard algorithm: games that no
agent has solved yet are then learned from the schemes of walks.
"""

from __future__ import annotations

import dataclasses
import itertools

from matrixrl.config import MatmulConfig
from matrixrl.schemes.problem import Problem, coefficients_of_ring
from matrixrl.schemes.scheme import Scheme, SchemeError
from matrixrl.search.flip_graph import (
    Pool,
    RoundResult,
    WalkRing,
    WalkSettings,
    from_scheme,
    run_round,
    to_scheme,
)
from matrixrl.systems.matmul.context import PhaseContext
from matrixrl.systems.matmul.discoveries import Discoveries
from matrixrl.systems.matmul.phases.phase import HostPhase
from matrixrl.systems.matmul.solutions import games_of
from matrixrl.systems.matmul.state import MatmulState, Progress
from matrixrl.tracking.events import ScalarRow
from matrixrl.tracking.recorder import Recorder
from matrixrl.tracking.status import activity

NUM_WALKERS = 8
"""Number of walkers, on all cores; results depend on it and not on the cores."""

FLIPS_PER_ROUND = 500_000
"""Maximum number of flips of a walker in a round, which then takes a second or so."""

MAX_STARTS = 200
"""Maximum number of solutions that a round starts from: the newest ones."""


class FlipGraphs(HostPhase):
    """Walks from own solutions, and keeps the best results as games."""

    name, title, unit = "flip", "flip graphs", "rounds"

    def length(self, config: MatmulConfig) -> int:
        """Returns the number of rounds per epoch."""
        return -(-config.selfplay.flip_polish // FLIPS_PER_ROUND)

    def is_due(self, config: MatmulConfig, progress: Progress, goal_reached: bool) -> bool:
        """Returns whether walks are wanted, and a lower rank."""
        return self.length(config) > 0 and not goal_reached

    def record(
        self, context: PhaseContext, state: MatmulState, result: int, run: Recorder
    ) -> tuple[MatmulState, bool]:
        """Performs a round; after the last one the solutions become games of the replay buffer."""
        state, is_over = super().record(context, state, result, run)
        if not (is_over or context.goal_reached):
            return state, False
        context.save_solutions()
        schemes = _schemes_for_replay(context)
        if schemes:
            replay = context.keep(state.device.replay, games_of(context.program, schemes))
            state = state._replace(device=state.device._replace(replay=replay))
        return state, True

    def work(self, context: PhaseContext, state: MatmulState, seed: int, run: Recorder) -> MatmulState:
        """Walks from the solutions of each format, or from the standard algorithm, proves what is
        new, and records a row.
        """
        config, progress = context.config, state.progress
        left = config.selfplay.flip_polish - progress.done * FLIPS_PER_ROUND
        tick = run.clock.tick()
        metrics: dict[str, float | int] = {"flip/flips": 0, "flip/found": 0}
        offers: list[tuple[Scheme, Discoveries]] = []
        problems = config.game.problems
        for problem, discoveries, suffix in zip(
            problems, context.discoveries, context.names(""), strict=True
        ):
            is_unsolved = not discoveries.solutions
            pool = _standard_pool(problem, config.game.ring) if is_unsolved else _pool_of(discoveries)
            if pool is None:
                continue
            first_rank = pool.best_rank
            result = _walk(pool, config.seed, seed, min(left, FLIPS_PER_ROUND))
            metrics["flip/flips"] += result.flips
            if is_unsolved and pool.best_rank == first_rank:
                continue  # other forms of the standard algorithm are no finds
            found = _proved(pool, discoveries, result)
            offers += [(scheme, discoveries) for scheme in found[:1]]
            metrics["flip/found"] += len(found)
            if pool.best_rank is not None:
                metrics[f"flip/best_rank{suffix}"] = pool.best_rank
                metrics[f"rewrite/best_rank{suffix}"] = pool.best_rank
        run.record([ScalarRow(tick, metrics)])
        for scheme, discoveries in offers:
            details = {"epoch": progress.epoch, "step": run.clock.step}
            where = f"epoch {progress.epoch}, after flips"
            context.offer(scheme, discoveries, details, where, run)
        progress = dataclasses.replace(context.note_ranks(progress), done=progress.done + 1)
        context.show_progress(progress, self.title, self.length(config), self.unit, run)
        return state._replace(progress=progress)


def _pool_of(discoveries: Discoveries) -> Pool | None:
    """Returns a pool of the newest solutions of the lowest rank; None if there is none that walks
    take: over the integers they need coefficients -1, 0 and 1.
    """
    pool: Pool | None = None
    for scheme in reversed(list(itertools.islice(reversed(discoveries.solutions), MAX_STARTS))):
        try:
            rows = from_scheme(scheme, "F2" if scheme.ring == "F2" else "Z")
        except SchemeError:
            continue
        pool = pool or Pool(scheme.problem, "F2" if scheme.ring == "F2" else "Z")
        pool.add(rows)
    return pool


def _standard_pool(problem: Problem, ring: WalkRing) -> Pool | None:
    """Returns a pool with the standard algorithm; None if walks do not take it, because factors are
    too large or coefficients are not -1, 0 and 1.
    """
    try:
        return Pool.standard(problem, ring)
    except SchemeError:
        return None


def _walk(pool: Pool, seed: int, chunk: int, flips: int) -> RoundResult:
    """Performs a round from the schemes of a pool."""
    target = pool.problem.best_known_rank(coefficients_of_ring(pool.ring))
    settings = WalkSettings(ring=pool.ring, target_rank=target, fresh_probability=0.0)
    with activity("walking on flip graphs"):
        return run_round(
            pool, settings, seed=seed, round=chunk, num_walkers=NUM_WALKERS, flips_per_walker=flips
        )


def _proved(pool: Pool, discoveries: Discoveries, result: RoundResult) -> list[Scheme]:
    """Returns the new schemes of the lowest rank, each proved and among the solutions."""
    assert pool.best_rank is not None
    found = []
    for rows in result.found.get(pool.best_rank, [])[:MAX_STARTS]:
        scheme = to_scheme(rows, pool.problem, pool.ring)
        discoveries.check(scheme)
        found.append(scheme)
    return found


def _schemes_for_replay(context: PhaseContext) -> list[Scheme]:
    """Returns the newest solutions of each format, as many as a batch of games has lanes for."""
    lanes = context.config.selfplay.batch_of_games // len(context.discoveries)
    limit = context.config.game.moves
    return [
        scheme
        for discoveries in context.discoveries
        for scheme in itertools.islice(reversed(discoveries.solutions), lanes)
        if scheme.rank <= limit
    ]
