"""Search on flip graphs: a run is a sequence of rounds, between which walkers exchange schemes.

A round is determined by the pool, the positions of the walkers, the seed, the number of the round
and the settings of the walk: these are all that a checkpoint holds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from matrixrl.checkpoints import format as checkpoint_format
from matrixrl.checkpoints.format import Checkpoint, Snapshot
from matrixrl.config import FlipConfig
from matrixrl.schemes.problem import Problem, coefficients_of_ring
from matrixrl.schemes.scheme import Scheme
from matrixrl.search.flip_graph import (
    Pool,
    RoundResult,
    ThreadWalkers,
    Walkers,
    WalkersFailedError,
    WalkSettings,
    WrongSchemeError,
    from_scheme,
    random_start,
    run_round,
    standard_rows,
    to_scheme,
    walkers_from_arrays,
    walkers_to_arrays,
)
from matrixrl.systems.flip.long_range import ExactMove, LongRangeMove, LongRangeResult, move_stuck_walkers
from matrixrl.systems.flip.policy import PolicyMove, TrainedPolicy, keep_policy, kept_policy
from matrixrl.systems.flip.rows import is_shown, pool_in_words, round_metrics
from matrixrl.systems.flip.start import keep_start, kept_start
from matrixrl.systems.flip.state import FlipProgress, FlipState, flip_progress_from_record, replaced
from matrixrl.systems.flip.table import best_in_pools, next_visit, seeds_for
from matrixrl.systems.matmul.discoveries import Discoveries
from matrixrl.tracking.events import EpisodeRow, Event, LogMessage, ScalarRow, TableSnapshot
from matrixrl.tracking.numbers import significant
from matrixrl.tracking.recorder import Recorder
from matrixrl.tracking.status import activity
from matrixrl.training.loop import ChunkFailedError

FIRST_ROUND_FLIPS = 10_000
"""Number of flips per walker of the first round; each following round has twice as many."""

MAX_SOLUTION_SIZE = 200_000
"""Maximum number of coefficients of the different solutions that a search proves and keeps."""

LIFTS_PER_ROUND = 2
LAST_LIFTS = 8
"""Maximum number of schemes modulo 2 of the lowest rank that are lifted after a round, until one
lifts; and after the last round.
"""

MAX_LIFTED_COEFFICIENTS = 10_000
"""Maximum number of coefficients of a scheme that is lifted before the target is reached: one of
6x6x6:198, with 21,384, takes 37 s in vain.
"""


@dataclass(frozen=True)
class FlipRound:
    """A finished round.

    Attributes:
      problem: index of its problem.
      result: what the walkers found and did.
      moves: long-range moves before it.
    """

    problem: int
    result: RoundResult
    moves: LongRangeResult


@dataclass(frozen=True)
class BetterScheme:
    """A scheme that is better than those before it, with the files that were written."""

    scheme: Scheme
    files: tuple[Path, ...]


class FlipTrainer:
    """A trainer for `training.loop.run_loop`.

    Args:
      config: the run's settings.
      discoveries: the best schemes, one collection for each problem.
      start: schemes of `--start`, proved, of a new run.
      policy: agent of `--refine-with`, of a new run.
      walkers: what lets them walk; None for the cores of this machine.
      warm_walks: number of walks that compile, before the first round: one for each core of another
        machine.
      place: returns where the walkers run, in words; None for this machine.

    Attributes:
      walk_seconds, walk_flips: of this process, for the rate. Not results.
    """

    def __init__(
        self,
        config: FlipConfig,
        discoveries: Sequence[Discoveries],
        start: Sequence[Scheme] = (),
        policy: TrainedPolicy | None = None,
        *,
        walkers: Walkers | None = None,
        warm_walks: int = 1,
        place: Callable[[], str] | None = None,
    ) -> None:
        self.config = config
        self.walkers = walkers or ThreadWalkers(config.place.jobs)
        self._warm_walks, self._place = warm_walks, place
        self.discoveries = tuple(discoveries)
        self.problems: tuple[Problem, ...] = config.graph.problems
        self.walk_seconds, self.walk_flips = 0.0, 0
        self._compiled: set[int] = set()
        self._start = list(start)
        self._policy = policy
        self._move: LongRangeMove | None = None
        # Ranks of the schemes that the search starts from: they are no finds.
        self.baselines = [len(standard_rows(problem, config.graph.ring)) for problem in self.problems]
        if start:
            self._use_start(start)
        coefficients = coefficients_of_ring(config.graph.ring)
        self.targets = tuple(
            config.graph.target_rank or problem.best_known_rank(coefficients) or 0
            for problem in self.problems
        )
        moves = config.walk.moves
        self.settings = tuple(
            WalkSettings(
                ring=config.graph.ring,
                symmetry=config.walk.symmetry,
                target_rank=target or None,
                plus_after=int(moves["plus_after"]),
                max_excess=int(moves["max_excess"]),
                restart_after=int(moves["restart_after"]),
                fresh_probability=moves["fresh_probability"],
                pool_size=config.walk.pool_size,
                weighting=config.walk.restart_choice,
            )
            for target in self.targets
        )

    @property
    def several(self) -> bool:
        """Whether the search has several problems."""
        return self.config.graph.all

    def init(self) -> FlipState:
        """Returns the state of a fresh run: pools with the schemes to start from."""
        directory = self.discoveries[0].directory
        keep_start(directory, self._start)
        if self._policy is not None:
            keep_policy(directory, self._policy)
        start = self._start or kept_start(directory)
        pools = []
        for problem in self.problems:
            pool = self._empty_pool(problem)
            own = self._rows_of(start, pool)
            for rows in own:
                pool.add(rows)
            pool.set_seeds(own)
            pools.append(pool if own else self._with_first(pool))
        zeros = (0,) * len(pools)
        progress = FlipProgress(
            problem_rounds=zeros,
            flips=zeros,
            core_seconds=(0.0,) * len(pools),
            best_ranks=tuple(pool.best_rank or 0 for pool in pools),
        )
        if start:
            self._use_start(start)
        return self._at_next_problem(FlipState(tuple(pools), progress, ((),) * len(pools)))

    def _use_start(self, start: Sequence[Scheme]) -> None:
        for scheme in start:
            index = self.problems.index(scheme.problem)
            self.baselines[index] = min(self.baselines[index], scheme.rank)

    @staticmethod
    def _rows_of(schemes: Sequence[Scheme], pool: Pool) -> list[np.ndarray]:
        """Returns those of the schemes that are of a pool's problem."""
        return [from_scheme(scheme, pool.ring) for scheme in schemes if scheme.problem == pool.problem]

    def _empty_pool(self, problem: Problem) -> Pool:
        settings = self.settings[0]
        return Pool(problem, self.config.graph.ring, settings.pool_size, settings.pool_ranks)

    def _with_first(self, pool: Pool) -> Pool:
        """Adds the standard algorithm to a pool, or a random scheme with the symmetry."""
        if self.config.walk.symmetry == "none":
            pool.add(standard_rows(pool.problem, pool.ring))
        else:
            rng = np.random.default_rng(self.config.seed)
            pool.add(random_start(pool.problem, self.targets[0] or None, rng))
        return pool

    def snapshot(self, state: FlipState, step: int) -> Snapshot:
        """Returns copies of everything that the run continues from."""
        arrays: dict[str, Any] = {}
        for index, pool in enumerate(state.pools):
            arrays |= {f"pool_{index}/{name}": array for name, array in pool.state().items()}
            walkers = walkers_to_arrays(state.walkers[index])
            arrays |= {f"walkers_{index}/{name}": array for name, array in walkers.items()}
        texts = {name: text for found in self.discoveries for name, text in found.checkpoint_texts().items()}
        progress = {
            **checkpoint_format.plain(state.progress),
            "num_verified": [found.num_verified for found in self.discoveries],
        }
        return Snapshot(step, arrays, progress, texts, score=-float(sum(state.progress.best_ranks)))

    def resume(self, checkpoint: Checkpoint | None) -> FlipState:
        """Returns the state that a checkpoint saved, and restores the best schemes that belong to
        it. Without a checkpoint a run continues from its beginning.
        """
        if checkpoint is None:
            for found in self.discoveries:
                found.resume(None, 0)
            return self.init()
        saved = dict(checkpoint.progress)
        for found, num_verified in zip(self.discoveries, saved.pop("num_verified"), strict=True):
            found.resume_from(checkpoint.text, num_verified)
        if start := kept_start(self.discoveries[0].directory):
            self._use_start(start)
        settings = self.settings[0]
        pools = tuple(
            Pool.from_state(
                problem,
                self.config.graph.ring,
                checkpoint.host_arrays(f"pool_{index}/"),
                settings.pool_size,
                settings.pool_ranks,
            )
            for index, problem in enumerate(self.problems)
        )
        walkers = tuple(
            walkers_from_arrays(checkpoint.host_arrays(f"walkers_{index}/"))
            for index in range(len(self.problems))
        )
        return FlipState(pools, flip_progress_from_record(saved), walkers)

    def finished(self, state: FlipState) -> bool:
        """Returns whether every problem is at its target, or the budget of flips is spent."""
        progress = state.progress
        return all(map(self._at_target, progress.best_ranks, self.targets)) or self._flips_left(progress) == 0

    @staticmethod
    def _at_target(rank: int, target: int) -> bool:
        return rank <= target

    def _flips_left(self, progress: FlipProgress) -> int | None:
        """Returns the rest of the budget of flips; None without a budget."""
        budget = self.config.graph.flips
        return None if budget is None else max(0, budget - progress.total_flips)

    def needs_record(self, state: FlipState) -> bool:
        """Returns true: the next round depends on the finds of the last one."""
        return True

    def flips_of_round(self, progress: FlipProgress) -> int:
        """Returns the number of flips of each walker in the next round."""
        walk = self.config.walk
        doublings = min(progress.problem_rounds[progress.current], 40)
        flips = min(walk.flips_per_round, FIRST_ROUND_FLIPS << doublings)
        left = self._flips_left(progress)
        return flips if left is None else min(flips, -(-left // walk.walkers))

    def advance(self, state: FlipState) -> tuple[FlipState, FlipRound]:
        """Performs a round on all cores, after the long-range moves of walkers that are stuck.

        Raises:
          ChunkFailedError: if the walkers failed, or found what is no scheme; the pool has nothing
            of the round.
        """
        progress = state.progress
        index = progress.current
        pool, settings = state.pools[index], self.settings[index]
        try:
            self._compile(pool, settings)
            moves = self._long_range(state, index)
            result = run_round(
                pool,
                settings,
                seed=self.config.seed,
                round=progress.rounds,
                num_walkers=self.config.walk.walkers,
                flips_per_walker=self.flips_of_round(progress),
                walkers=moves.walkers,
                where=self.walkers,
                proves=True,
            )
        except (WalkersFailedError, WrongSchemeError) as error:
            raise ChunkFailedError(str(error)) from error
        self.walk_seconds, self.walk_flips = (
            self.walk_seconds + result.seconds,
            self.walk_flips + result.flips,
        )
        for rows in moves.found:
            result.found.setdefault(len(rows), []).insert(0, rows)
        walkers = replaced(state.walkers, index, result.walkers)
        return state._replace(walkers=walkers), FlipRound(index, result, moves)

    def _long_range(self, state: FlipState, index: int) -> LongRangeResult:
        """Makes the long-range moves before a round."""
        walk, walkers = self.config.walk, state.walkers[index]
        if walk.move == "none" or self._at_target(state.progress.best_ranks[index], self.targets[index]):
            return LongRangeResult(walkers)
        if self._move is None:
            self._move = (
                ExactMove()
                if walk.move == "exact"
                else PolicyMove(self._policy or kept_policy(self.discoveries[0].directory))
            )
        stuck_flips = walk.long_range_rounds * walk.flips_per_round
        key = self.config.seed, state.progress.rounds
        return move_stuck_walkers(self._move, state.pools[index], walkers, stuck_flips, key)

    def _compile(self, pool: Pool, settings: WalkSettings) -> None:
        """Compiles the walks for a length of factors, once, by walks of one flip whose results are
        dropped: the rate of the first round leaves it out.
        """
        if pool.words in self._compiled:
            return
        self._compiled.add(pool.words)
        where = "" if self._place is None else f", on {self._place()}"
        with activity(f"compiling the walks (kept on disk){where}"):
            run_round(
                Pool.standard(pool.problem, pool.ring),
                settings,
                seed=0,
                round=0,
                num_walkers=self._warm_walks,
                flips_per_walker=1,
                where=self.walkers,
                proves=True,
            )

    @property
    def flips_per_second(self) -> float:
        """Flips by the clock, of this process."""
        return self.walk_flips / self.walk_seconds if self.walk_seconds > 0 else 0.0

    def record(self, state: FlipState, outcome: FlipRound, run: Recorder) -> FlipState:
        """Proves what a round found, and commits its row."""
        index, result = outcome.problem, outcome.result
        state = state._replace(progress=self._counted(state, outcome))
        tick = run.clock.tick()
        better = self._prove(state, index, result)
        progress = state.progress
        if better is not None:
            progress = dataclasses.replace(progress, finds=progress.finds + 1)
            state = state._replace(progress=progress)
        is_over = self.finished(state)
        events: list[Event] = []
        if better or is_over or progress.rounds % self.config.tracking.log_interval == 0:
            metrics = round_metrics(state, index, result.flips_per_second, self.several)
            if better or is_over or is_shown(progress.rounds):
                metrics["walk/round"] = progress.rounds
            events.append(ScalarRow(tick, metrics))
        if better is not None:
            events += [EpisodeRow(tick, find_values(progress, better.scheme)), TableSnapshot(tick)]
        run.record(events)
        if better is not None:
            self._announce(index, better, run)
        self._show_progress(state, index, run)
        return state if is_over else self._at_next_problem(state)

    def _counted(self, state: FlipState, outcome: FlipRound) -> FlipProgress:
        """Returns the progress with the numbers of a round added."""
        progress, index, result, moves = state.progress, outcome.problem, outcome.result, outcome.moves
        best = state.pools[index].best_rank
        assert best is not None
        spent = result.processor_seconds + moves.seconds
        core_seconds = round(progress.core_seconds[index] + spent, 3)
        return dataclasses.replace(
            progress,
            rounds=progress.rounds + 1,
            visit_rounds=progress.visit_rounds + 1,
            problem_rounds=replaced(progress.problem_rounds, index, progress.problem_rounds[index] + 1),
            flips=replaced(progress.flips, index, progress.flips[index] + result.flips),
            restarts=progress.restarts + result.restarts,
            pluses=progress.pluses + result.plus + result.splits,
            moves=progress.moves + moves.tried,
            moves_changed=progress.moves_changed + moves.changed,
            moves_shorter=progress.moves_shorter + moves.shorter,
            core_seconds=replaced(progress.core_seconds, index, core_seconds),
            best_ranks=replaced(progress.best_ranks, index, best),
        )

    def _prove(self, state: FlipState, index: int, result: RoundResult) -> BetterScheme | None:
        """Proves the new schemes of the lowest rank; over F2 lifts them to the integers until one
        lifts.

        Returns:
          The best scheme, if it is better than before the round.
        """
        pool, found = state.pools[index], self.discoveries[index]
        rank = state.progress.best_ranks[index]
        before = found.best
        if rank >= self.baselines[index] or (before is not None and before.rank < rank):
            return None
        is_first = before is None or before.rank > rank
        candidates = pool.members(rank) if is_first else result.found.get(rank, [])
        lifts = self._max_lifts(index, rank)
        details = {"round": state.progress.rounds, "flips": state.progress.flips[index]}
        files: list[Path] = []
        for rows in candidates:
            best = found.best
            needs_lift = best is not None and best.rank == rank and best.ring != "Z" and lifts > 0
            is_better = best is None or best.rank > rank
            if len(found.solutions) >= _max_solutions(rank, self.problems[index]) and not (
                needs_lift or is_better
            ):
                break
            scheme = to_scheme(rows, pool.problem, pool.ring)
            found.check(scheme)
            if needs_lift or is_better:
                files += found.offer(scheme, details, lifts=lifts > 0)
                lifts -= 1
        found.save_solutions()
        if found.best is None or found.best is before:
            return None
        return BetterScheme(found.best, tuple(dict.fromkeys(files)))

    def _max_lifts(self, index: int, rank: int) -> int:
        """Returns the maximum number of schemes of a rank that are lifted after a round."""
        if rank <= self.targets[index]:
            return LAST_LIFTS
        too_large = rank * sum(self.problems[index].sides) > MAX_LIFTED_COEFFICIENTS
        return 0 if too_large else LIFTS_PER_ROUND

    def _announce(self, index: int, better: BetterScheme, run: Recorder) -> None:
        """Records the files of a better scheme, and announces it."""
        if not better.files:  # an earlier attempt of the run has announced it
            return
        for path in better.files:
            run.record_file(path, kind="artifact", aliases=("best",))
        over = "the integers" if better.scheme.ring == "Z" else "F2 (not lifted to the integers so far)"
        if self.config.graph.ring == "F2" and better.scheme.ring == "Z":
            over += ", lifted from F2"
        text = f"round {run.clock.step:,}: {self.discoveries[index].announcement()}; verified over {over}"
        run.record([LogMessage(run.clock.now(), text)])

    def finalize(self, state: FlipState) -> None:
        """Completes the discoveries at the end of the command: with the schemes of an attempt that
        was killed, and with the scheme that the search started from where nothing is better.
        """
        for index, (found, pool) in enumerate(zip(self.discoveries, state.pools, strict=True)):
            found.finalize()
            if found.best is None:
                rank = pool.best_rank
                assert rank is not None
                scheme = to_scheme(pool.members(rank)[0], pool.problem, pool.ring)
                found.check(scheme)
                lifts = self._max_lifts(index, rank) > 0
                found.offer(scheme, {"found": "start of the search"}, lifts=lifts)

    def _at_next_problem(self, state: FlipState) -> FlipState:
        """Returns the state at the problem of the next round, with seeds from its neighbours when a
        visit begins.
        """
        if not self.several:
            return state
        done = [self._at_target(*pair) for pair in zip(state.progress.best_ranks, self.targets, strict=True)]
        progress = next_visit(state.progress, done, self.config.walk.visit_rounds)
        if progress.visit == state.progress.visit:
            return state
        index = progress.current
        pool = state.pools[index]
        seeds = self._rows_of(seeds_for(pool, best_in_pools(state.pools, progress.visit)), pool)
        for rows in seeds:
            pool.add(rows)
        pool.set_seeds([standard_rows(pool.problem, pool.ring), *seeds])
        best = pool.best_rank
        assert best is not None
        walkers = state.walkers
        if best < progress.best_ranks[index]:
            # The seeds are better than where the walks are: they start from the pool.
            walkers = replaced(walkers, index, ())
        best_ranks = replaced(progress.best_ranks, index, best)
        progress = dataclasses.replace(progress, best_ranks=best_ranks)
        return FlipState(state.pools, progress, walkers)

    def _show_progress(self, state: FlipState, index: int, run: Recorder) -> None:
        """Shows the state of the search on the status line."""
        progress, pool = state.progress, state.pools[index]
        rate = self.flips_per_second
        target = self.targets[index]
        best = f"best rank {pool.best_rank}" + (f", target {target}" if target else "")
        speed = f"{significant(rate / 1e6)} M flips/s"
        if self._place is not None:
            speed += f" on {self._place()}"
        facts = [best, speed, pool_in_words(pool.counts())]
        budget, unit = self.config.graph.flips, "rounds"
        done, total = progress.rounds, 0
        if budget is not None:
            done, total, unit = progress.total_flips // 1_000_000, -(-budget // 1_000_000), "M flips"
        run.progress(str(pool.problem), done, total, unit, "  ".join(facts))


def find_values(progress: FlipProgress, scheme: Scheme) -> dict[str, Any]:
    """Returns the row of the table of finds for a scheme."""
    return {
        "Find": progress.finds,
        "Round": progress.rounds,
        "Problem": scheme.problem.name,
        "Rank": scheme.rank,
        "Ring": scheme.ring,
        "Flips": progress.total_flips,
    }


def _max_solutions(rank: int, problem: Problem) -> int:
    """Returns the maximum number of solutions of the lowest rank that are proved and kept."""
    return int(np.clip(MAX_SOLUTION_SIZE // (rank * sum(problem.sides)), 8, 1000))
