"""A bounded pool of distinct schemes for each rank."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np

from matrixrl.schemes.problem import Problem
from matrixrl.schemes.scheme import SchemeError
from matrixrl.search.flip_graph.rows import WalkRing, canonical, count_pairs, standard_rows, words_per_factor
from matrixrl.search.flip_graph.settings import Weighting


class Pool:
    """Distinct schemes of a problem by rank, as canonical rows.

    What it holds depends only on the schemes added and their order: a full rank drops its oldest
    scheme, and ranks too far above the lowest are dropped.
    """

    def __init__(self, problem: Problem, ring: WalkRing, size: int = 1_000, num_ranks: int = 3) -> None:
        """Makes an empty pool.

        Args:
          problem: what all schemes compute.
          ring: F2 or Z.
          size: maximum number of schemes of one rank.
          num_ranks: number of ranks, counted from the lowest, that are kept.
        """
        self.problem = problem
        self.ring: WalkRing = ring
        self.size = size
        self.num_ranks = num_ranks
        self.words = words_per_factor(problem, ring)
        # Canonical rows by their bytes, oldest first.
        self._members: dict[int, OrderedDict[bytes, np.ndarray]] = {}
        # Numbers of matching pairs by the same bytes, counted when a choice needs them.
        self._pairs: dict[bytes, int] = {}

    @classmethod
    def standard(cls, problem: Problem, ring: WalkRing, size: int = 1_000, num_ranks: int = 3) -> Pool:
        """Returns a pool with the standard algorithm."""
        pool = cls(problem, ring, size, num_ranks)
        pool.add(standard_rows(problem, ring))
        return pool

    @property
    def best_rank(self) -> int | None:
        """The lowest rank; None if the pool is empty."""
        return min(self._members, default=None)

    def counts(self) -> dict[int, int]:
        """Returns the number of schemes by rank, lowest rank first."""
        return {rank: len(self._members[rank]) for rank in sorted(self._members)}

    def members(self, rank: int) -> list[np.ndarray]:
        """Returns the schemes of a rank as rows, oldest first."""
        return list(self._members.get(rank, {}).values())

    def __len__(self) -> int:
        return sum(map(len, self._members.values()))

    def add(self, rows: np.ndarray, is_canonical: bool = False) -> bool:
        """Adds a scheme; returns false if the pool has it, or its rank is too high to be kept.

        Args:
          rows: uint64 [rank, 3, words], in any order and with any signs. Whether they are a scheme
            of the problem is not examined.
          is_canonical: whether the rows come from `canonical`.

        Raises:
          SchemeError: if the rows have another shape.
        """
        if rows.ndim != 3 or rows.shape[1:] != (3, self.words) or len(rows) == 0:
            raise SchemeError(f"rows of shape {list(rows.shape)}, want [rank, 3, {self.words}]")
        rank, best = len(rows), self.best_rank
        if best is not None and rank >= best + self.num_ranks:
            return False
        rows = np.ascontiguousarray(rows) if is_canonical else canonical(rows, self.ring)
        rows.setflags(write=False)
        key = rows.tobytes()
        members = self._members.setdefault(rank, OrderedDict())
        if key in members:
            return False
        members[key] = rows
        if len(members) > self.size:
            dropped, _ = members.popitem(last=False)
            self._pairs.pop(dropped, None)
        for high in [high for high in self._members if high >= min(self._members) + self.num_ranks]:
            for dropped in self._members.pop(high):
                self._pairs.pop(dropped, None)
        return True

    def __getstate__(self) -> dict[str, Any]:
        # The arrays of a rank travel as one, and the keys are made again.
        return {**self.__dict__, "_members": self.state(), "_pairs": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        arrays = state.pop("_members")
        self.__dict__.update(state)
        self._members = {}
        for name, stacked in arrays.items():
            rows = np.array(stacked)
            rows.setflags(write=False)
            rank = int(name.removeprefix("rank_"))
            self._members[rank] = OrderedDict((one.tobytes(), one) for one in rows)

    def _count_pairs(self, key: bytes, rows: np.ndarray) -> int:
        found = self._pairs.get(key)
        if found is None:
            found = self._pairs[key] = count_pairs(rows, self.ring)
        return found

    def choose(
        self, rng: np.random.Generator, weighting: Weighting = "uniform", num_ranks: int = 1
    ) -> np.ndarray:
        """Returns a scheme to start from.

        Args:
          rng: source of the choice.
          weighting: "uniform", or "flips" in proportion to the number of matching pairs.
          num_ranks: number of ranks from which to choose: the lowest one in two thirds of the
            cases, the next in two thirds of the others, and so on.

        Raises:
          SchemeError: if the pool is empty.
        """
        ranks = sorted(self._members)[:num_ranks]
        if not ranks:
            raise SchemeError("the pool has no scheme to start from")
        level = 0
        while level + 1 < len(ranks) and rng.random() < 1 / 3:
            level += 1
        members = list(self._members[ranks[level]].values())
        if weighting == "flips":
            ends = np.cumsum([self._count_pairs(*item) for item in self._members[ranks[level]].items()])
            if ends[-1] > 0:
                return members[int(np.searchsorted(ends, rng.integers(ends[-1]), side="right"))]
        return members[int(rng.integers(len(members)))]

    def state(self) -> dict[str, np.ndarray]:
        """Returns all schemes as plain arrays for a checkpoint: `rank_R` uint64 [N, R, 3, words],
        oldest first.
        """
        return {f"rank_{rank}": np.stack(self.members(rank)) for rank in sorted(self._members)}

    @classmethod
    def from_state(
        cls,
        problem: Problem,
        ring: WalkRing,
        state: Mapping[str, np.ndarray],
        size: int = 1_000,
        num_ranks: int = 3,
    ) -> Pool:
        """Returns the pool whose `state` was taken.

        Raises:
          SchemeError: if the arrays do not fit the problem.
        """
        pool = cls(problem, ring, size, num_ranks)
        for name in sorted(state, key=lambda name: int(name.removeprefix("rank_"))):
            for rows in np.asarray(state[name], np.uint64):
                pool.add(rows)
        return pool
