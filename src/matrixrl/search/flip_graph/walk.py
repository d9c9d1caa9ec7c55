"""Rounds of walks: every walker starts from a scheme of the pool, or continues its walk of the
round before, and reports what it found.

With a budget of flips the result depends on the pool, the settings, the seed, the round and the
walkers alone, not on the number of threads or on the machines where they run.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Protocol

import numpy as np

from matrixrl.schemes.problem import MatrixMultiplication
from matrixrl.schemes.scheme import SchemeError
from matrixrl.search.flip_graph.basis import random_image
from matrixrl.search.flip_graph.cyclic import random_start, side_of
from matrixrl.search.flip_graph.pool import Pool, Start
from matrixrl.search.flip_graph.rederive import rederive
from matrixrl.search.flip_graph.restarts import FRESH
from matrixrl.search.flip_graph.rows import canonical
from matrixrl.search.flip_graph.settings import WalkSettings
from matrixrl.search.flip_graph.walkers import WalkerState

CHUNK = 1_000_000
"""Number of flips between two looks at `stop`."""

MIN_COST = 1_000
"""Number of flips that a start costs at least, so that schemes without a flip use up a budget."""

if TYPE_CHECKING:
    from matrixrl.search.flip_graph.memory import MemoryOfWalk

Stop = Callable[[], bool]


@dataclass(kw_only=True)
class WalkCounts:
    """What walks did and took, in sums over walkers.

    Attributes:
      flips: number of flips made.
      plus: number of plus transitions.
      splits: number of split transitions.
      reductions: number of products removed.
      restarts: number of times that a walk ended and its walker started from another scheme.
      rederived: number of starts at which products were replaced by others with the same sum.
      processor_seconds: processor time.
    """

    flips: int = 0
    plus: int = 0
    splits: int = 0
    reductions: int = 0
    restarts: int = 0
    rederived: int = 0
    processor_seconds: float = 0.0

    def add(self, other: WalkCounts) -> None:
        """Adds the counts of other walks."""
        for name in COUNTERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))


COUNTERS = tuple(item.name for item in fields(WalkCounts))


@dataclass
class RoundResult(WalkCounts):
    """What a round did.

    Attributes:
      found: the schemes by rank that the pool did not have, in the order of walkers.
      walkers: where the walks are, for the next round; None for a walker whose walk ended.
      stopped: whether `stop` cut the round.
      seconds: duration.
    """

    found: dict[int, list[np.ndarray]] = field(default_factory=dict)
    walkers: tuple[WalkerState | None, ...] = ()
    stopped: bool = False
    seconds: float = 0.0

    @property
    def best_rank(self) -> int | None:
        """The lowest rank of the new schemes; None without any."""
        return min(self.found, default=None)

    @property
    def flips_per_second(self) -> float:
        """Flips by the clock."""
        return self.flips / self.seconds if self.seconds > 0 else 0.0


class WrongSchemeError(SchemeError):
    """A walk found rows that are no scheme of its problem: a fault of the machine, or of the
    code.
    """


class WalkersFailedError(RuntimeError):
    """A round could not be walked. The message is one line, and the pool is as it was before."""


@dataclass(frozen=True)
class RoundTask:
    """What every walker of a round does, as it is sent to other processes.

    Attributes:
      settings: how walkers move.
      seed: of all random choices.
      round: number of the round.
      flips: number of flips of each walker.
      positions: of all walkers after the round before; empty if every walker starts.
      proves: whether a walker proves every scheme that it found.
    """

    settings: WalkSettings
    seed: int
    round: int
    flips: int
    positions: tuple[WalkerState | None, ...] = ()
    proves: bool = False


@dataclass
class WalkerResult(WalkCounts):
    """What a walker found, as canonical rows in the order of its walk, where its walk is, and its
    starts and their outcomes (`Walker`).
    """

    found: list[np.ndarray] = field(default_factory=list)
    state: WalkerState | None = None
    starts: list[int] = field(default_factory=list)
    outcomes: list[tuple[int, tuple[float, ...], bool]] = field(default_factory=list)
    stopped: bool = False


class Walkers(Protocol):
    """Lets the walkers of a round walk, wherever they run."""

    def walk(self, pool: Pool, task: RoundTask, num_walkers: int) -> list[WalkerResult]:
        """Returns the results of all walkers, in their order. The pool stays as it is.

        Raises:
          WrongSchemeError: if a walker found what is no scheme, and the task asks for proofs.
          WalkersFailedError: if the round could not be walked.
        """
        ...


class ThreadWalkers:
    """Walkers in threads of this process.

    Args:
      threads: number of threads; None is the number of processors.
      stop: is asked by each walker, in its thread, about ten times a second; true ends the round
        early.
    """

    def __init__(self, threads: int | None = None, stop: Stop | None = None) -> None:
        self._threads = threads
        self._stop = stop

    def walk(self, pool: Pool, task: RoundTask, num_walkers: int) -> list[WalkerResult]:
        """Returns the results of all walkers."""
        num_threads = min(self._threads or _num_processors(), num_walkers)
        if num_threads == 1:
            return [walk_alone(pool, task, number, self._stop) for number in range(num_walkers)]
        with ThreadPoolExecutor(num_threads, "flip-graph") as executor:
            return list(
                executor.map(lambda number: walk_alone(pool, task, number, self._stop), range(num_walkers))
            )


def walk_alone(pool: Pool, task: RoundTask, number: int, stop: Stop | None = None) -> WalkerResult:
    """Returns what one walker of a round finds: a function of its arguments alone, unless `stop`
    cuts it.

    Args:
      pool: the start; it stays as it is.
      task: the round.
      number: of the walker.
      stop: ends the walk early when it returns true.

    Raises:
      WrongSchemeError: if it found what is no scheme, and the task asks for proofs.
    """
    before = task.positions[number : number + 1]
    walker = Walker(pool, task.settings, task.seed, task.round, number, before)
    walker.walk(task.flips, stop)
    found = [canonical(rows, pool.ring) for rows in walker.found]
    if task.proves:
        require_schemes(found, pool, f"walker {number} of round {task.round}")
    counters = {name: getattr(walker, name) for name in COUNTERS}
    return WalkerResult(
        found, walker.state, walker.starts, walker.outcomes, stopped=walker.stopped, **counters
    )


def require_schemes(found: Iterable[np.ndarray], pool: Pool, where: str) -> None:
    """Proves schemes of a pool's problem.

    Raises:
      WrongSchemeError: if one is wrong.
    """
    from matrixrl.search.flip_graph.expansion import is_scheme

    for rows in found:
        if not is_scheme(rows, pool.problem, pool.ring):
            raise WrongSchemeError(
                f"{where}: {len(rows)} products that are no scheme of {pool.problem} over {pool.ring}; the memory of that "
                "machine, or its installation, is damaged"
            )


def run_round(
    pool: Pool,
    settings: WalkSettings,
    *,
    seed: int,
    round: int,
    num_walkers: int,
    flips_per_walker: int,
    stop: Stop | None = None,
    threads: int | None = None,
    walkers: Sequence[WalkerState | None] = (),
    where: Walkers | None = None,
    proves: bool = False,
) -> RoundResult:
    """Lets every walker walk from schemes of the pool, and adds what they found to the pool.

    Args:
      pool: the start; changed.
      settings: how walkers move.
      seed: of all random choices.
      round: number of the round; each has its own random choices.
      num_walkers: number of walkers.
      flips_per_walker: number of flips of each walker. A start costs at least 1,000.
      stop: is asked by each walker, in its thread, about ten times a second; true ends the round
        early.
      threads: number of threads; None is the number of processors.
      walkers: where the walks of the round before are (`RoundResult.walkers`), which continue.
        Empty if every walker starts.
      where: what lets them walk; None for threads of this process, with `stop`.
      proves: whether every scheme is proved where it is found, and once more before the pool keeps
        it. The pool must hold schemes of its problem.

    Returns:
      The new schemes and what it took.

    Raises:
      SchemeError: if the pool is empty.
      WrongSchemeError: if a scheme is wrong; the pool is as it was before.
      WalkersFailedError: if the round could not be walked; the pool is as it was before.
    """
    if pool.best_rank is None:
        raise SchemeError("the pool has no scheme to start from")
    started = time.perf_counter()
    task = RoundTask(settings, seed, round, flips_per_walker, tuple(walkers), proves)
    results = (where or ThreadWalkers(threads, stop)).walk(pool, task, num_walkers)
    if proves:
        for number, walked in enumerate(results):
            require_schemes(walked.found, pool, f"what walker {number} of round {round} sent")
    result = RoundResult(walkers=tuple(walked.state for walked in results))
    for walked in results:
        result.add(walked)
        result.stopped |= walked.stopped
    # The pool changes only here, in the order of walkers.
    for walked in results:
        for serial in walked.starts:
            pool.note_start(serial)
        for serial, features, won in walked.outcomes:
            pool.note_outcome(serial, features, won)
    for walked in results:
        for rows in walked.found:
            if pool.add(rows, is_canonical=True):
                result.found.setdefault(len(rows), []).append(rows)
    result.seconds = time.perf_counter() - started
    return result


def _num_processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Walker:
    """One walker of a round: its random choices, counters and found schemes.

    Attributes:
      state: where its walk is; None if it ended.
      found: schemes as low as the pool's, in the order of their discovery.
      starts: serial numbers of the schemes from which it started in this round.
      outcomes: of its walks: serial number and features of the start, and whether a lower rank than
        the pool had was found, or else that the walk ended.
    """

    def __init__(
        self,
        pool: Pool,
        settings: WalkSettings,
        seed: int,
        round: int,
        number: int,
        before: Sequence[WalkerState | None] = (),
    ) -> None:
        """Makes a walker; it does not change the pool.

        Args:
          before: its position after the last round; empty in the first round.
        """
        self._pool = pool
        self._settings = settings
        key = np.random.SeedSequence([seed, round, number]).generate_state(2, np.uint64)
        self._rng = np.random.Generator(np.random.Philox(key=key))
        self.state = before[0] if before else None
        self._is_restart = bool(before)
        self.found: list[np.ndarray] = []
        self.starts: list[int] = []
        self.outcomes: list[tuple[int, tuple[float, ...], bool]] = []
        self.flips = self.plus = self.splits = self.reductions = self.restarts = self.rederived = 0
        self.stopped = False
        self.processor_seconds = 0.0

    def walk(self, budget: int, stop: Stop | None) -> None:
        """Walks for a number of flips, until the target rank is found or `stop` returns true."""
        started = time.thread_time()
        record_rank = self._pool.best_rank or 0
        memory: MemoryOfWalk | None = None
        while budget > 0 and not self.stopped:
            start = Start(np.empty(0)) if self.state else self._start()
            rows = self.state.rows if self.state else start.rows
            if memory is None or not memory.fits(rows):
                memory = self._memory(rows, record_rank)
            if self.state:
                start = Start(rows, self.state.origin, self.state.features)
                memory.resume(self.state)
            else:
                memory.load(rows, int(self._rng.integers(1, 2**63)))
            ended, used = False, 0
            while not ended and used < budget and not self.stopped:
                tried, ended = memory.walk(min(CHUNK, budget - used))
                used += tried
                self.stopped = stop is not None and stop()
            self._collect(memory, start)
            self.state = None if ended else memory.position(start.serial, start.features, self.state)
            if memory.at_target:
                break
            if ended:
                self.outcomes.append((start.serial, start.features, False))
            budget -= max(used, MIN_COST)
        self.processor_seconds = time.thread_time() - started

    def _memory(self, rows: np.ndarray, record_rank: int) -> MemoryOfWalk:
        from matrixrl.search.flip_graph.cyclic_memory import CyclicMemory
        from matrixrl.search.flip_graph.memory import WalkMemory

        if self._settings.symmetry == "none":
            return WalkMemory(rows, self._settings, record_rank)
        return CyclicMemory(rows, self._settings, record_rank, side_of(self._pool.problem))

    def _start(self) -> Start:
        """Returns where a walk starts, and notes it: a fresh start, a scheme of the lowest rank
        that this walker found, or one of the pool, now and then in another basis.
        """
        self.restarts += self._is_restart
        self._is_restart = True
        start = self._choose()
        self.starts.append(start.serial)
        return start

    def _choose(self) -> Start:
        settings, best = self._settings, self._pool.best_rank
        lowest = min(map(len, self.found), default=best)
        learned = settings.weighting == "learned"
        if not learned and settings.fresh_probability and self._rng.random() < settings.fresh_probability:
            return Start(self._fresh())
        if best is not None and lowest is not None and lowest < best:
            own = [rows for rows in self.found if len(rows) == lowest]
            start = Start(own[int(self._rng.integers(len(own)))])
        else:
            start = self._pool.start(self._rng, settings.weighting, settings.start_ranks)
        if start.features == FRESH:
            return start if settings.symmetry == "none" else Start(self._fresh(), start.serial, FRESH)
        rows = start.rows
        if settings.rederive_probability and self._rng.random() < settings.rederive_probability:
            other = rederive(rows, settings.rederive_rows, self._rng)
            if other is not None:
                self.rederived += 1
                rows = other
                if len(rows) <= (best or 0):
                    self.found.append(rows)
        if (
            settings.symmetry == "none"
            and self._rng.random() < settings.sandwich_probability
            and isinstance(self._pool.problem, MatrixMultiplication)
        ):
            rows = random_image(rows, self._pool.problem, settings.ring, self._rng)
        return Start(rows, start.serial, start.features)

    def _fresh(self) -> np.ndarray:
        """Returns a seed of the pool, the standard algorithm if it has none, or a random scheme
        with the symmetry of the walk.
        """
        settings = self._settings
        if settings.symmetry == "cyclic":
            return random_start(self._pool.problem, settings.target_rank, self._rng)
        return self._pool.fresh(self._rng)

    def _collect(self, memory: MemoryOfWalk, start: Start) -> None:
        """Takes over the counters and the schemes of a walk."""
        lowest = min(map(len, self.found), default=self._pool.best_rank or 0)
        records = memory.records()
        if min(map(len, records), default=lowest) < lowest:
            self.outcomes.append((start.serial, start.features, True))
        self.found += records
        for name, value in memory.counters().items():
            setattr(self, name, getattr(self, name) + value)
