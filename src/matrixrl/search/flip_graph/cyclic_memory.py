"""Arrays of one walk among schemes with cyclic symmetry, and calls of the compiled code."""

from __future__ import annotations

import numpy as np

from matrixrl.schemes.scheme import SchemeError
from matrixrl.search.flip_graph import kernels
from matrixrl.search.flip_graph.cyclic import from_orbits, to_orbits
from matrixrl.search.flip_graph.memory import MAX_RECORDS, MemoryOfWalk
from matrixrl.search.flip_graph.settings import WalkSettings

MAX_ORBITS = 1024
"""Maximum number of orbits of a walk: the table of matching pairs grows with its square."""

MAX_FIXED = 64
"""Maximum number of fixed products of a walk."""


class CyclicMemory(MemoryOfWalk):
    """Orbits, fixed products, matching pairs and registers of one walk, which is resumed call by
    call.
    """

    def __init__(self, rows: np.ndarray, settings: WalkSettings, record_rank: int, side: int) -> None:
        """Makes the arrays.

        Args:
          rows: a scheme of the largest rank from which walks start.
          settings: how to move.
          record_rank: schemes of this rank or a lower one are kept.
          side: of the matrices.

        Raises:
          SchemeError: if the scheme has too many products, or no cyclic symmetry.
        """
        super().__init__(settings, record_rank)
        words = rows.shape[2]
        num_orbits = (len(rows) + settings.max_excess) // 3 + 1
        if num_orbits > MAX_ORBITS:
            raise SchemeError(
                f"a scheme of rank {len(rows):,}; walks with cyclic symmetry handle at most {3 * MAX_ORBITS:,} products"
            )
        self._side = side
        self._words = (0,) * words
        self._capacity = -(-num_orbits // 64) * 64
        self._shift = np.uint64((self._capacity - 1).bit_length())
        self._x = np.zeros((3, words, self._capacity), np.uint64)
        self._fixed = np.zeros((words, MAX_FIXED), np.uint64)
        num_slots = 3 * self._capacity
        self._pairs = np.zeros(num_slots * (num_slots - 1) // 2, np.uint32)
        self._places = np.zeros(1 << 2 * (int(self._shift) + 2), np.uint32)
        self._rows_out = np.zeros((MAX_RECORDS, *self._x.shape), np.uint64)
        self._fixed_out = np.zeros((MAX_RECORDS, *self._fixed.shape), np.uint64)
        self._counts_out = np.zeros((MAX_RECORDS, 2), np.uint64)

    def fits(self, rows: np.ndarray) -> bool:
        """Returns whether a walk can start from a scheme in this memory."""
        excess = int(self._parameters[kernels.EXCESS])
        return (len(rows) + excess) // 3 + 1 <= self._capacity

    def _place(self, rows: np.ndarray) -> None:
        orbits, fixed = to_orbits(rows, self._side)
        if len(fixed) > MAX_FIXED:
            raise SchemeError(
                f"a scheme with {len(fixed)} fixed products; walks with cyclic symmetry handle {MAX_FIXED}"
            )
        self._x[:], self._fixed[:] = 0, 0
        self._x[:, :, : len(orbits)] = orbits.transpose(1, 2, 0)
        self._fixed[:, : len(fixed)] = fixed.T
        self._registers[kernels.ROWS], self._registers[kernels.FIXED] = len(orbits), len(fixed)

    def _reduce(self) -> None:
        """Merges what can be merged: the walk needs it once, before its first flip."""
        self._registers[kernels.ROWS], self._registers[kernels.FIXED] = kernels.reduce_orbits(
            self._x,
            self._fixed,
            self._registers[kernels.ROWS],
            self._registers[kernels.FIXED],
            self._words,
        )

    def load(self, rows: np.ndarray, seed: int) -> None:
        """Starts a walk from a scheme; forgets the records of the one before."""
        super().load(rows, seed)
        self._reduce()
        self._registers[kernels.BEST] = self.rank

    def _walk(self) -> tuple[int, int]:
        return kernels.walk_orbits(
            self._x,
            self._fixed,
            self._pairs,
            self._places,
            self._registers,
            self._parameters,
            self._rows_out,
            self._fixed_out,
            self._counts_out,
            self._shift,
            self._words,
        )

    @property
    def rank(self) -> int:
        """Rank of the scheme where the walk is now."""
        return int(3 * self._registers[kernels.ROWS] + self._registers[kernels.FIXED])

    def rows(self) -> np.ndarray:
        """Returns the scheme where the walk is now; uint64 [rank, 3, words]."""
        return self._products(
            self._x, self._fixed, self._registers[kernels.ROWS], self._registers[kernels.FIXED]
        )

    def pairs(self) -> list[tuple[int, int, int, int]]:
        """Returns the matching pairs (factor, orbit, factor, orbit) as the walk keeps them, in
        random order.
        """
        shift = int(self._shift)
        slots, orbits = (4 << shift) - 1, (1 << shift) - 1
        keys = self._pairs[: int(self._registers[kernels.PAIRS])].tolist()
        found = [(key >> (shift + 2), key & slots) for key in keys]
        return [(a >> shift, a & orbits, b >> shift, b & orbits) for a, b in found]

    def _record(self, number: int, rank: int) -> np.ndarray:
        del rank
        counts = self._counts_out[number]
        return self._products(self._rows_out[number], self._fixed_out[number], counts[0], counts[1])

    def _products(
        self, x: np.ndarray, fixed: np.ndarray, num_orbits: np.uint64, num_fixed: np.uint64
    ) -> np.ndarray:
        orbits = np.ascontiguousarray(x[:, :, : int(num_orbits)].transpose(2, 0, 1))
        return from_orbits(orbits, np.ascontiguousarray(fixed[:, : int(num_fixed)].T), self._side)
