"""Arrays of one walk, and calls of the compiled code."""

from __future__ import annotations

import numpy as np

from matrixrl.schemes.scheme import SchemeError
from matrixrl.search.flip_graph import kernels
from matrixrl.search.flip_graph.rows import WalkRing, is_negative, negated
from matrixrl.search.flip_graph.settings import WalkSettings
from matrixrl.search.flip_graph.walkers import WalkerState

MAX_RECORDS = 64
"""Maximum number of schemes of one rank that a walk keeps."""

MAX_ROWS = 4096
"""Maximum number of products of a walk: the table of matching pairs grows with its square."""


class MemoryOfWalk:
    """Registers and parameters of one walk, which is resumed call by call."""

    def __init__(self, settings: WalkSettings, record_rank: int) -> None:
        self._registers = np.zeros(kernels.NUM_REGISTERS, np.uint64)
        self._parameters = np.zeros(kernels.NUM_PARAMETERS, np.uint64)
        for index, value in (
            (kernels.PLUS_AFTER, settings.plus_after),
            (kernels.EXCESS, settings.max_excess),
            (kernels.RESTART_AFTER, settings.restart_after),
            (kernels.SPLIT_CHANCE, int(settings.split_probability * 2**32)),
            (kernels.REDUCE_EVERY, settings.reduce_every),
            (kernels.STOP_RANK, settings.target_rank or 0),
            (kernels.RECORD_RANK, record_rank),
        ):
            self._parameters[index] = value

    def fits(self, rows: np.ndarray) -> bool:
        """Returns whether a walk can start from a scheme in this memory."""
        raise NotImplementedError

    def walk(self, budget: int) -> tuple[int, bool]:
        """Walks for a number of flips.

        Returns:
          The number of flips tried, and whether the walk ended: at the target rank, without a flip
          left, or when a restart is due.
        """
        self._parameters[kernels.BUDGET] = budget
        tried, reason = self._walk()
        return int(tried), reason != kernels.OUT_OF_BUDGET

    def _walk(self) -> tuple[int, int]:
        """Calls the compiled walk; returns the number of flips tried, and why it ended."""
        raise NotImplementedError

    def rows(self) -> np.ndarray:
        """Returns the scheme where the walk is now; uint64 [rank, 3, words]."""
        raise NotImplementedError

    @property
    def rank(self) -> int:
        """Rank of the scheme where the walk is now."""
        raise NotImplementedError

    def _place(self, rows: np.ndarray) -> None:
        """Places a scheme in the memory."""
        raise NotImplementedError

    def _record(self, number: int, rank: int) -> np.ndarray:
        """Returns a scheme that was kept."""
        raise NotImplementedError

    def _clear(self, rows: np.ndarray) -> None:
        """Clears all registers and places a scheme."""
        self._registers[:] = 0
        self._registers[kernels.RECORDED] = kernels.NONE
        self._place(rows)

    def load(self, rows: np.ndarray, seed: int) -> None:
        """Starts a walk from a scheme; forgets the records of the one before."""
        self._clear(rows)
        self._registers[kernels.RNG] = seed
        self._registers[kernels.BEST] = self.rank

    def resume(self, state: WalkerState) -> None:
        """Continues a walk whose `position` was taken; forgets the records of the one before."""
        self._clear(state.rows)
        self._registers[kernels.RNG] = state.generator
        self._registers[kernels.BEST] = min(self.rank, state.best)
        self._registers[kernels.SINCE], self._registers[kernels.IDLE] = state.since, state.idle

    def position(self, origin: int, features: tuple[float, ...], before: WalkerState | None) -> WalkerState:
        """Returns the position of the walk, from which `resume` continues.

        Args:
          origin, features: of the start of the walk.
          before: position from which the walk was resumed; None if it started.
        """
        idle = int(self._registers[kernels.IDLE])
        return WalkerState(
            self.rows(),
            int(self._registers[kernels.RNG]),
            int(self._registers[kernels.BEST]),
            int(self._registers[kernels.SINCE]),
            idle,
            0 if before is None or idle < before.idle else before.moved_at,
            origin,
            features,
        )

    @property
    def at_target(self) -> bool:
        """Whether the walk is at the target rank or below."""
        return self.rank <= int(self._parameters[kernels.STOP_RANK])

    def records(self) -> list[np.ndarray]:
        """Returns the schemes that were kept, and the last one if its rank is as low."""
        if self._registers[kernels.NUM_RECORDS]:
            lowest = int(self._registers[kernels.RECORDED])
        else:
            lowest = int(self._parameters[kernels.RECORD_RANK])
        kept = [self._record(number, lowest) for number in range(int(self._registers[kernels.NUM_RECORDS]))]
        if self.rank <= lowest:
            kept.append(self.rows())
        return kept

    def counters(self) -> dict[str, int]:
        """Returns numbers of flips, transitions and reductions of the walk."""
        places = {
            "flips": kernels.FLIPS,
            "plus": kernels.PLUS,
            "splits": kernels.SPLITS,
            "reductions": kernels.REDUCTIONS,
        }
        return {name: int(self._registers[place]) for name, place in places.items()}


class WalkMemory(MemoryOfWalk):
    """Rows, matching pairs and registers of one walk, which is resumed call by call."""

    def __init__(self, rows: np.ndarray, settings: WalkSettings, record_rank: int) -> None:
        """Makes the arrays.

        Args:
          rows: a scheme of the largest rank from which walks start.
          settings: how to move.
          record_rank: schemes of this rank or a lower one are kept.

        Raises:
          SchemeError: if the scheme has too many products.
        """
        super().__init__(settings, record_rank)
        rank, _, words = rows.shape
        if rank > MAX_ROWS:
            raise SchemeError(f"a scheme of rank {rank:,}; flips handle at most {MAX_ROWS:,} products")
        self._ring: WalkRing = settings.ring
        self._words = (0,) * words
        self._num_rows = min(rank + settings.max_excess + 1, MAX_ROWS)
        capacity = -(-self._num_rows // 64) * 64
        shift = max(5, (self._num_rows - 1).bit_length())
        self._shift = np.uint64(shift)
        self._x = np.zeros((3, words, capacity), np.uint64)
        signed = settings.ring == "Z"
        self._signs = np.zeros(capacity, np.uint8) if signed else None
        self._pairs = np.zeros(3 * self._num_rows * (self._num_rows - 1) // 2, np.uint32)
        self._places = np.zeros(3 << 2 * shift, np.uint32)
        self._rows_out = np.zeros((MAX_RECORDS, 3, words, capacity), np.uint64)
        self._signs_out = np.zeros((MAX_RECORDS, capacity), np.uint8) if signed else None

    def fits(self, rows: np.ndarray) -> bool:
        """Returns whether a walk can start from a scheme in this memory."""
        return len(rows) + int(self._parameters[kernels.EXCESS]) < self._num_rows or len(rows) == MAX_ROWS

    def _place(self, rows: np.ndarray) -> None:
        self._x[:] = 0
        if self._signs is None:
            self._x[:, :, : len(rows)] = rows.transpose(1, 2, 0)
        else:
            negative = is_negative(rows)
            self._signs[:] = 0
            self._signs[: len(rows)] = negative.sum(axis=1) % 2
            plain = np.where(negative[..., None], negated(rows), rows)
            self._x[:, :, : len(rows)] = plain.transpose(1, 2, 0)
        self._registers[kernels.ROWS] = kernels.reduce_equal(
            self._x, self._signs, np.uint64(len(rows)), self._words
        )

    def _walk(self) -> tuple[int, int]:
        return kernels.walk(
            self._x,
            self._signs,
            self._pairs,
            self._places,
            self._registers,
            self._parameters,
            self._rows_out,
            self._signs_out,
            self._shift,
            self._words,
        )

    @property
    def rank(self) -> int:
        """Rank of the scheme where the walk is now."""
        return int(self._registers[kernels.ROWS])

    def rows(self) -> np.ndarray:
        """Returns the scheme where the walk is now; uint64 [rank, 3, words]."""
        return self._signed(self._x, self._signs, int(self._registers[kernels.ROWS]))

    def pairs(self) -> list[tuple[int, int, int]]:
        """Returns the matching pairs (factor, row, row) as the walk keeps them, in random order."""
        shift, mask = int(self._shift), (1 << int(self._shift)) - 1
        keys = self._pairs[: int(self._registers[kernels.PAIRS])].tolist()
        return [(key >> 2 * shift, key >> shift & mask, key & mask) for key in keys]

    def _record(self, number: int, rank: int) -> np.ndarray:
        signs = None if self._signs_out is None else self._signs_out[number]
        return self._signed(self._rows_out[number], signs, rank)

    def _signed(self, x: np.ndarray, signs: np.ndarray | None, num_rows: int) -> np.ndarray:
        rows = np.ascontiguousarray(x[:, :, :num_rows].transpose(2, 0, 1))
        if signs is not None:
            negative = signs[:num_rows] != 0
            rows[negative, 2] = negated(rows[negative, 2])
        return rows
