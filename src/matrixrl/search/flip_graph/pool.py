"""A bounded pool of distinct schemes for each rank."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from matrixrl.schemes.problem import Problem
from matrixrl.schemes.scheme import SchemeError
from matrixrl.search.flip_graph.restarts import FRESH, RestartModel
from matrixrl.search.flip_graph.rows import WalkRing, canonical, count_pairs, standard_rows, words_per_factor
from matrixrl.search.flip_graph.settings import Weighting

CANDIDATES = 15
"""Number of schemes, drawn at random, among which a learned choice selects, beside the standard
algorithm.
"""


@dataclass
class PoolMember:
    """A scheme of a pool.

    Attributes:
      rows: canonical, read-only.
      serial: number of the scheme, counted from 1 in the order of their arrival.
      starts: number of walks that started from it.
      wins: number of times that one of them found a lower rank than the pool had.
      pairs: number of matching pairs, counted when a choice needs it.
    """

    rows: np.ndarray
    serial: int
    starts: int = 0
    wins: int = 0
    pairs: int | None = None


@dataclass(frozen=True, eq=False)
class Start:
    """Where a walk starts.

    Attributes:
      rows: the scheme.
      serial: of the scheme in the pool; 0 for a fresh start.
      features: of the start, if it was a learned choice; else empty.
    """

    rows: np.ndarray
    serial: int = 0
    features: tuple[float, ...] = ()


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
        self.model = RestartModel()
        self._seeds: tuple[np.ndarray, ...] = ()
        # By the bytes of the rows, oldest first.
        self._members: dict[int, OrderedDict[bytes, PoolMember]] = {}
        self._arrivals = 0

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
        return [member.rows for member in self._members.get(rank, {}).values()]

    @property
    def seeds(self) -> tuple[np.ndarray, ...]:
        """Schemes from which fresh walks start, canonical; none if they start from the standard
        algorithm.
        """
        return self._seeds

    def set_seeds(self, schemes: Iterable[np.ndarray]) -> None:
        """Sets the schemes from which fresh walks start, of any ranks, in ascending order of them.

        Args:
          schemes: each uint64 [rank, 3, words].
        """
        distinct = {rows.tobytes(): rows for rows in (canonical(rows, self.ring) for rows in schemes)}
        self._seeds = tuple(sorted(distinct.values(), key=len))

    def fresh(self, rng: np.random.Generator) -> np.ndarray:
        """Returns a random seed, or the standard algorithm if there is none."""
        if not self._seeds:
            return standard_rows(self.problem, self.ring)
        return self._seeds[int(rng.integers(len(self._seeds)))]

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
        self._arrivals += 1
        members[key] = PoolMember(rows, self._arrivals)
        if len(members) > self.size:
            members.popitem(last=False)
        for high in [high for high in self._members if high >= min(self._members) + self.num_ranks]:
            del self._members[high]
        return True

    def __getstate__(self) -> dict[str, Any]:
        # The schemes of a rank travel as one array.
        return {"made": (self.problem, self.ring, self.size, self.num_ranks), "arrays": self.state()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        Pool.__init__(self, *state["made"])
        self._restore(state["arrays"], is_canonical=True)

    def _count_pairs(self, member: PoolMember) -> int:
        if member.pairs is None:
            member.pairs = count_pairs(member.rows, self.ring)
        return member.pairs

    def choose(
        self, rng: np.random.Generator, weighting: Weighting = "uniform", num_ranks: int = 1
    ) -> np.ndarray:
        """Returns a scheme to start from; see `start`."""
        return self.start(rng, weighting, num_ranks).rows

    def start(self, rng: np.random.Generator, weighting: Weighting = "uniform", num_ranks: int = 1) -> Start:
        """Returns where a walk starts.

        Args:
          rng: source of the choice.
          weighting: "uniform"; "flips" in proportion to the number of matching pairs; or "learned",
            which may choose a fresh start.
          num_ranks: number of ranks from which to choose: the lowest one in two thirds of the
            cases, the next in two thirds of the others, and so on. A learned choice has all ranks.

        Raises:
          SchemeError: if the pool is empty.
        """
        if weighting == "learned":
            return self._learned_start(rng)
        members = self._members_of_level(rng, num_ranks)
        if weighting == "flips":
            ends = np.cumsum([self._count_pairs(member) for member in members])
            if ends[-1] > 0:
                member = members[int(np.searchsorted(ends, rng.integers(ends[-1]), side="right"))]
                return Start(member.rows, member.serial)
        member = members[int(rng.integers(len(members)))]
        return Start(member.rows, member.serial)

    def _members_of_level(self, rng: np.random.Generator, num_ranks: int) -> list[PoolMember]:
        """Returns the schemes of a random one of the lowest ranks."""
        ranks = sorted(self._members)[:num_ranks]
        if not ranks:
            raise SchemeError("the pool has no scheme to start from")
        level = 0
        while level + 1 < len(ranks) and rng.random() < 1 / 3:
            level += 1
        return list(self._members[ranks[level]].values())

    def _learned_start(self, rng: np.random.Generator) -> Start:
        """Returns the start that the model chooses among random schemes and a fresh start."""
        drawn: list[PoolMember] = []
        for _ in range(CANDIDATES):
            members = self._members_of_level(rng, self.num_ranks)
            drawn.append(members[int(rng.integers(len(members)))])
        most = max(1, *(self._count_pairs(member) for member in drawn))
        features = [FRESH, *(self._features(member, most) for member in drawn)]
        chosen = self.model.choose(np.array(features), rng)
        if chosen == 0:
            return Start(self.fresh(rng), 0, FRESH)
        member = drawn[chosen - 1]
        return Start(member.rows, member.serial, features[chosen])

    def _features(self, member: PoolMember, most: int) -> tuple[float, ...]:
        """Returns the features of a scheme (`restarts.FEATURES`)."""
        best = self.best_rank
        assert best is not None
        return (
            1.0,
            0.0,
            float(len(member.rows) - best),
            self._count_pairs(member) / most,
            member.serial / self._arrivals,
            member.starts / (1 + member.starts),
            member.wins / (1 + member.wins),
        )

    def note_start(self, serial: int) -> None:
        """Counts a walk from a scheme; one that the pool does not hold any more is ignored."""
        if (member := self._by_serial(serial)) is not None:
            member.starts += 1

    def note_outcome(self, serial: int, features: tuple[float, ...], won: bool) -> None:
        """Notes that a walk found a lower rank than the pool had, or that it ended."""
        if won and (member := self._by_serial(serial)) is not None:
            member.wins += 1
        if features:
            self.model.observe(features, float(won))

    def _by_serial(self, serial: int) -> PoolMember | None:
        everyone = (member for members in self._members.values() for member in members.values())
        return next((member for member in everyone if member.serial == serial), None)

    def state(self) -> dict[str, np.ndarray]:
        """Returns everything as plain arrays for a checkpoint: `rank_R` uint64 [N, R, 3, words],
        oldest first; `facts_R` int64 [N, 3], serial numbers, starts and wins; the number of
        arrivals; `seeds_R` like `rank_R`; and the model.
        """
        arrays: dict[str, np.ndarray] = {}
        for rank in sorted(self._members):
            members = self._members[rank].values()
            arrays[f"rank_{rank}"] = np.stack([member.rows for member in members])
            facts = [(member.serial, member.starts, member.wins) for member in members]
            arrays[f"facts_{rank}"] = np.array(facts, np.int64)
        if arrays:
            arrays["arrivals"] = np.array(self._arrivals, np.int64)
        for rank in dict.fromkeys(map(len, self._seeds)):
            arrays[f"seeds_{rank}"] = np.stack([rows for rows in self._seeds if len(rows) == rank])
        return arrays | self.model.state()

    @classmethod
    def from_state(
        cls,
        problem: Problem,
        ring: WalkRing,
        state: Mapping[str, np.ndarray],
        size: int = 1_000,
        num_ranks: int = 3,
    ) -> Pool:
        """Returns the pool whose `state` was taken; states of earlier versions have schemes alone.

        Raises:
          SchemeError: if the arrays do not fit the problem.
        """
        pool = cls(problem, ring, size, num_ranks)
        pool._restore(state, is_canonical=False)
        return pool

    def _restore(self, state: Mapping[str, np.ndarray], is_canonical: bool) -> None:
        """Fills an empty pool with what `state` returned."""
        for rank in sorted(int(name[5:]) for name in state if name.startswith("rank_")):
            for rows in np.asarray(state[f"rank_{rank}"], np.uint64):
                self.add(rows, is_canonical)
            if f"facts_{rank}" in state:
                facts = np.asarray(state[f"facts_{rank}"]).tolist()
                for member, values in zip(self._members[rank].values(), facts, strict=True):
                    member.serial, member.starts, member.wins = values
        if "arrivals" in state:
            self._arrivals = int(state["arrivals"])
        names = [name for name in state if name.startswith("seeds_")]
        self.set_seeds(rows for name in names for rows in np.asarray(state[name], np.uint64))
        self.model = RestartModel.from_state(state)
