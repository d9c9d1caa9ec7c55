"""Settings of walks on flip graphs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from matrixrl.config.fields import ConfigError
from matrixrl.search.flip_graph.rows import WalkRing

Weighting = Literal["uniform", "flips", "learned"]
Symmetry = Literal["none", "cyclic"]


@dataclass(frozen=True)
class WalkSettings:
    """How walkers move.

    Attributes:
      ring: F2, or Z for walks over the integers with coefficients -1, 0 and 1.
      symmetry: "cyclic" for walks among schemes of square matrices that stay themselves when
        products a (x) b (x) c become b (x) c (x) a (`matrixrl.search.flip_graph.cyclic`); over F2.
        These have no split transitions, searches for linear dependences or changes of basis, and
        start from random partitions of the diagonal instead of the standard algorithm.
      target_rank: a walker stops when it has a scheme of this rank or lower. None never stops.
      plus_after: number of flips without a lower rank after which a plus or split transition
        raises the rank by one.
      max_excess: largest number of ranks above the lowest rank of the walk that transitions may
        reach. 0 allows none.
      restart_after: number of flips without a lower rank after which a walker continues from
        another scheme of the pool.
      split_probability: fraction of the transitions that split a product; the others are plus
        transitions.
      fresh_probability: fraction of starts from a seed of the pool, or from the standard algorithm
        if it has none, instead of a scheme of the pool: a walk that is stuck in one part of the
        flip graph gets company from others.
      sandwich_probability: fraction of starts that are first moved to another basis. Problems other
        than matrix multiplication have none.
      reduce_every: number of flips between searches for linear dependences that remove a product.
      pool_size: maximum number of schemes that the pool keeps for each rank.
      pool_ranks: number of ranks, counted from the lowest, that the pool keeps.
      start_ranks: number of ranks, counted from the lowest, from which walkers start: two thirds
        of the starts take the lowest one, two thirds of the others the next, and so on.
      weighting: "uniform", "flips" to choose starts in proportion to their matching pairs, or
        "learned" to choose them, and starts from the standard algorithm, by the outcomes of earlier
        walks (`matrixrl.search.flip_graph.restarts`).
      rederive_probability: fraction of restarts that first replace a few products by others with
        the same sum (`matrixrl.search.flip_graph.rederive`). Over F2 only.
      rederive_rows: number of products that such a replacement removes.
    """

    ring: WalkRing = "F2"
    symmetry: Symmetry = "none"
    target_rank: int | None = None
    plus_after: int = 20_000
    max_excess: int = 2
    restart_after: int = 4_000_000
    split_probability: float = 0.1
    fresh_probability: float = 0.5
    sandwich_probability: float = 0.1
    reduce_every: int = 10_000
    pool_size: int = 1_000
    pool_ranks: int = 3
    start_ranks: int = 1
    weighting: Weighting = "uniform"
    rederive_probability: float = 0.0
    rederive_rows: int = 4

    def __post_init__(self) -> None:
        if self.ring not in ("F2", "Z"):
            raise ConfigError(f"ring: {self.ring} given, but flips walk over F2 or Z")
        if self.symmetry not in ("none", "cyclic"):
            raise ConfigError(f"symmetry: {self.symmetry} given, want none or cyclic")
        if self.symmetry == "cyclic" and self.ring != "F2":
            raise ConfigError(
                "symmetry: walks with cyclic symmetry are over F2; use ring F2 or symmetry none"
            )
        if self.weighting not in ("uniform", "flips", "learned"):
            raise ConfigError(f"weighting: {self.weighting} given, want uniform, flips or learned")
        if self.target_rank is not None and self.target_rank < 1:
            raise ConfigError(f"target_rank: {self.target_rank} given, want 1 or more")
        if self.max_excess < 0:
            raise ConfigError(f"max_excess: {self.max_excess} given, want 0 or more")
        for name in ("plus_after", "restart_after", "reduce_every", "pool_size", "pool_ranks", "start_ranks"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: {getattr(self, name)} given, want 1 or more")
        for name in (
            "split_probability",
            "fresh_probability",
            "sandwich_probability",
            "rederive_probability",
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}: {getattr(self, name)} given, want a number from 0 to 1")
        if self.rederive_probability and self.ring != "F2":
            raise ConfigError(
                "rederive_probability: products are derived again over F2 only; use ring F2 or 0"
            )
        if self.rederive_probability and self.symmetry == "cyclic":
            raise ConfigError(
                "rederive_probability: derived products have no symmetry; use 0 or symmetry none"
            )
        if not 3 <= self.rederive_rows <= 8:
            raise ConfigError(f"rederive_rows: {self.rederive_rows} given, want 3 to 8")
