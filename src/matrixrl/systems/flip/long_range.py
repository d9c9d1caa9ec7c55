"""Long-range moves: some products of a scheme are re-derived, where single flips have led no
further.

A move is made between rounds by walkers whose walks have found no lower rank for some rounds. Its
results are verified, and a walk continues from one that is not longer.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import UInt64

from matrixrl.schemes.problem import Problem
from matrixrl.schemes.verify import verify
from matrixrl.search.flip_graph import Pool, WalkerState, canonical, rederive, to_scheme

SchemeRows = UInt64[np.ndarray, "_ 3 words"]
"""A scheme as rows of bit masks (`matrixrl.search.flip_graph.rows`)."""

EXACT_ROWS = (4, 5, 6)
"""Numbers of products that an exact move removes: with more the search is rarely possible."""

EXACT_ATTEMPTS = 2
"""Number of selections of products that an exact move tries for each scheme."""

EXACT_SUMS = 200_000
"""Bound on the work of an attempt (`rederive`): about 0.2 s."""


class LongRangeMove(Protocol):
    """Replaces products of schemes by others with the same sum."""

    def takes(self, problem: Problem) -> bool:
        """Returns whether the move can change schemes of a problem."""
        ...

    def apply(
        self, schemes: Sequence[SchemeRows], problem: Problem, key: tuple[int, int]
    ) -> list[SchemeRows | None]:
        """Returns another scheme, as rows, for each given one; None where there is none.

        Args:
          schemes: rows.
          problem: of the schemes.
          key: run's seed and number of the round, which determine all random choices.
        """
        ...


class ExactMove:
    """Exact re-derivation of few products over F2, without a network."""

    def takes(self, problem: Problem) -> bool:
        """Returns true: any scheme over F2 has products to re-derive."""
        return True

    def apply(
        self, schemes: Sequence[SchemeRows], problem: Problem, key: tuple[int, int]
    ) -> list[SchemeRows | None]:
        """Removes 4 to 6 related products of each scheme, in at most two attempts."""
        found: list[np.ndarray | None] = []
        for number, rows in enumerate(schemes):
            rng = np.random.default_rng([*key, number])
            other = None
            for _ in range(EXACT_ATTEMPTS):
                other = other if other is not None else self._attempt(rows, rng)
            found.append(other)
        return found

    @staticmethod
    def _attempt(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
        count = int(rng.choice(EXACT_ROWS))
        return rederive(rows, count, rng, EXACT_SUMS) if count < len(rows) else None


@dataclass(frozen=True)
class LongRangeResult:
    """Result of the long-range moves before a round.

    Attributes:
      walkers: positions, changed where a move was made.
      found: schemes as low as the lowest rank of the pool that it did not have.
      tried, changed, shorter: number of walkers that made a move, whose scheme changed, and whose
        scheme became shorter.
      seconds: processor time.
    """

    walkers: tuple[WalkerState | None, ...]
    found: tuple[np.ndarray, ...] = ()
    tried: int = 0
    changed: int = 0
    shorter: int = 0
    seconds: float = 0.0


def move_stuck_walkers(
    move: LongRangeMove,
    pool: Pool,
    walkers: Sequence[WalkerState | None],
    stuck_flips: int,
    key: tuple[int, int],
) -> LongRangeResult:
    """Makes a long-range move with every walker whose walk has found no lower rank for long.

    Args:
      move: what to do.
      pool: of the walks; schemes that are as low as its lowest rank are added.
      walkers: positions after the last round.
      stuck_flips: number of flips without a lower rank after which a walker moves, and after the
        same number again.
      key: run's seed and number of the round.
    """
    stuck = {
        number: walker
        for number, walker in enumerate(walkers)
        if walker is not None and walker.idle - walker.moved_at >= stuck_flips
    }
    if not stuck or not move.takes(pool.problem):
        return LongRangeResult(tuple(walkers))
    began = time.process_time()
    moved, found = list(walkers), []
    changed = shorter = 0
    results = move.apply([walker.rows for walker in stuck.values()], pool.problem, key)
    for (number, walker), rows in zip(stuck.items(), results, strict=True):
        moved[number] = dataclasses.replace(walker, moved_at=walker.idle)
        if rows is None or not _may_continue(rows, walker.rows, pool):
            continue
        changed += 1
        shorter += len(rows) < len(walker.rows)
        moved[number] = _continued_from(rows, walker)
        if len(rows) <= (pool.best_rank or 0) and pool.add(rows):
            found.append(canonical(rows, pool.ring))
    seconds = time.process_time() - began
    return LongRangeResult(tuple(moved), tuple(found), len(stuck), changed, shorter, seconds)


def _continued_from(rows: np.ndarray, walker: WalkerState) -> WalkerState:
    """Returns the position of a walker after a long-range move."""
    if len(rows) < walker.best:
        return dataclasses.replace(walker, rows=rows, best=len(rows), since=0, idle=0, moved_at=0)
    return dataclasses.replace(walker, rows=rows, since=0, moved_at=walker.idle)


def _may_continue(rows: np.ndarray, before: np.ndarray, pool: Pool) -> bool:
    """Returns whether a result is another scheme that is not longer, and verified."""
    if len(rows) > len(before) or np.array_equal(canonical(rows, pool.ring), canonical(before, pool.ring)):
        return False
    return bool(verify(to_scheme(rows, pool.problem, pool.ring)))
