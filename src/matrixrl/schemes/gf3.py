"""Linear systems over F3, bit-packed: factored once, solved for many right-hand sides.

An entry is two bits, one each in the planes of ones and of minus ones, so that 64 entries are added
with seven operations on words.
"""

from __future__ import annotations

import numpy as np

from matrixrl.schemes.gf2 import WORD, pack, unpack

_ONES, _MINUS = 0, 1


def pack_planes(values: np.ndarray) -> np.ndarray:
    """Packs rows of integers modulo 3 [rows, k] into words uint64 [rows, 2, ceil(k / 64)]: the
    places of 1, then those of -1.
    """
    residues = values % 3
    return np.stack((pack(residues == 1), pack(residues == 2)), axis=1)


def unpack_planes(words: np.ndarray, num_entries: int) -> np.ndarray:
    """Unpacks words, the inverse of `pack_planes`: int8 [rows, num_entries] of -1, 0 and 1."""
    ones, minus = (unpack(words[:, plane], num_entries).astype(np.int8) for plane in (_ONES, _MINUS))
    return ones - minus


def add(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Adds packed rows [..., 2, words] modulo 3."""
    a, b, c, d = left[..., _ONES, :], left[..., _MINUS, :], right[..., _ONES, :], right[..., _MINUS, :]
    # The sum is -1 for 1 + 1, 1 for -1 - 1 and 0 for 1 - 1: a truth table of six operations.
    t = (a | d) ^ (b | c)
    return np.stack(((b | d) ^ t, (a | c) ^ t), axis=-2)


class TernarySystem:
    """The system J x = e over F3, built column by column, like
    `matrixrl.schemes.gf2.BinarySystem`.

    Columns added earlier are preferred as pivots; those that are not pivots are zero in every
    solution of `solve`.

    Attributes:
      num_equations: rows of J.
      num_columns: columns of J added so far.
      pivots: numbers of the columns that became pivots, a maximal independent set.
    """

    def __init__(self, num_equations: int) -> None:
        self.num_equations = num_equations
        self.num_columns = 0
        self.pivots: list[int] = []
        self._words = max(1, -(-num_equations // WORD))
        # Each pivot row is 1 at its place and holds, behind the equations, the columns it sums.
        self._rows = np.zeros((0, 2, self._words), dtype=np.uint64)
        self._places: list[tuple[int, int]] = []

    def add_columns(self, columns: np.ndarray) -> None:
        """Adds columns of J, packed: uint64 [k, 2, ceil(num_equations / 64)]."""
        before, after = (-(-count // WORD) for count in (self.num_columns, self.num_columns + len(columns)))
        self._rows = np.pad(self._rows, ((0, 0), (0, 0), (0, after - before)))
        rows = np.zeros((len(columns), 2, self._words + after), dtype=np.uint64)
        rows[:, :, : self._words] = columns
        number = self.num_columns + np.arange(len(columns))
        bit = np.uint64(1) << (number % WORD).astype(np.uint64)
        rows[np.arange(len(columns)), _ONES, self._words + number // WORD] = bit
        self.num_columns += len(columns)

        for pivot, place in zip(self._rows, self._places, strict=True):
            _clear(rows, pivot, place)
        found = []
        for index in range(len(rows)):
            live = rows[index, _ONES, : self._words] | rows[index, _MINUS, : self._words]
            word = int(np.argmax(live != 0))
            if live[word] == 0:
                continue
            place = word, int(live[word]).bit_length() - 1
            if rows[index, _MINUS, word] >> np.uint64(place[1]) & np.uint64(1):
                rows[index] = rows[index, ::-1]  # minus the row
            _clear(rows[index + 1 :], rows[index], place)
            found.append(rows[index])
            self._places.append(place)
            self.pivots.append(int(number[index]))
        if found:
            self._rows = np.concatenate((self._rows, np.stack(found)))

    def solve(self, right: np.ndarray) -> np.ndarray | None:
        """Returns one solution x, int8 [num_columns] of -1, 0 and 1, of J x = right modulo 3
        (integers [num_equations]); None if there is none.
        """
        row = np.zeros((1, 2, self._words + -(-self.num_columns // WORD)), dtype=np.uint64)
        row[:, :, : self._words] = pack_planes(right.reshape(1, -1))
        for pivot, place in zip(self._rows, self._places, strict=True):
            _clear(row, pivot, place)
        if row[:, :, : self._words].any():
            return None
        return -unpack_planes(row[:, :, self._words :], self.num_columns)[0]


def _clear(rows: np.ndarray, pivot: np.ndarray, place: tuple[int, int]) -> None:
    """Makes the entry at a place zero in all rows, in place, with a pivot row that is 1 there."""
    word, bit = place[0], np.uint64(1) << np.uint64(place[1])
    positive = np.flatnonzero(rows[:, _ONES, word] & bit)
    negative = np.flatnonzero(rows[:, _MINUS, word] & bit)
    if len(positive):
        rows[positive] = add(rows[positive], pivot[::-1])
    if len(negative):
        rows[negative] = add(rows[negative], pivot)
