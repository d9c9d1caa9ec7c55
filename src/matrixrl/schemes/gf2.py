"""Linear systems over F2, bit-packed: factored once, solved for many right-hand sides.

Gaussian elimination on rows of 64-bit words. Up to 64 pivots are found at a time in one column of
words; their sums are then taken from tables of 256 entries and added to all rows at once (the
method of the Four Russians).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

WORD = 64
_TABLE_BITS = 8


class _PivotBlock(NamedTuple):
    """Pivots found in one word of the equations.

    Attributes:
      word: index of that word.
      bits: the bit of each pivot.
      rows: uint64 [pivots, words], each reduced by all pivots before it: equations, then the
        columns it sums.
    """

    word: int
    bits: list[int]
    rows: np.ndarray


def pack(bits: np.ndarray) -> np.ndarray:
    """Packs rows of zeros and ones [rows, k] into little-endian words uint64 [rows, ceil(k /
    64)].
    """
    width = -(-bits.shape[1] // WORD)
    packed = np.zeros((len(bits), width * 8), dtype=np.uint8)
    octets = np.packbits(bits.astype(bool), axis=1, bitorder="little")
    packed[:, : octets.shape[1]] = octets
    return packed.view("<u8").astype(np.uint64, copy=False)


def unpack(words: np.ndarray, num_bits: int) -> np.ndarray:
    """Unpacks words, the inverse of `pack`: uint8 [rows, num_bits]."""
    octets = np.ascontiguousarray(words.astype("<u8")).view(np.uint8)
    return np.unpackbits(octets, axis=1, count=num_bits, bitorder="little")


class BinarySystem:
    """The system J x = e over F2, built column by column.

    Columns added earlier are preferred: a later column becomes a pivot only if it is independent of
    all earlier additions, so `solve` uses late columns only where early ones do not suffice.
    Columns that are not pivots are free variables and zero in every solution of `solve`.

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
        self._blocks: list[_PivotBlock] = []
        self._null: list[np.ndarray] = []

    def add_columns(self, columns: np.ndarray) -> None:
        """Adds columns of J, packed: uint64 [k, ceil(num_equations / 64)]."""
        before = -(-self.num_columns // WORD)
        after = -(-(self.num_columns + len(columns)) // WORD)
        if after > before:
            wider = ((0, 0), (0, after - before))
            self._blocks = [block._replace(rows=np.pad(block.rows, wider)) for block in self._blocks]
            self._null = [np.pad(rows, wider) for rows in self._null]
        rows = np.zeros((len(columns), self._words + after), dtype=np.uint64)
        rows[:, : self._words] = columns
        number = self.num_columns + np.arange(len(columns))
        bit = np.uint64(1) << (number % WORD).astype(np.uint64)
        rows[np.arange(len(columns)), self._words + number // WORD] = bit
        self.num_columns += len(columns)

        for block in self._blocks:
            _add_combinations(rows, block.word, _reduce_by(rows[:, block.word].copy(), block), block.rows)
        for word in range(self._words):
            if len(rows) == 0:
                break
            chosen, block, rows = _eliminate(rows, word)
            self.pivots += number[chosen].tolist()
            number = np.delete(number, chosen)
            if block is not None:
                self._blocks.append(block)
        self._null.append(rows[:, self._words :])

    def solve(self, right: np.ndarray) -> np.ndarray | None:
        """Returns one solution x, uint8 [num_columns], of J x = right (0/1 [num_equations]); None
        if there is none.
        """
        row = np.zeros(self._words + -(-self.num_columns // WORD), dtype=np.uint64)
        row[: self._words] = pack(right.reshape(1, -1))[0]
        for block in self._blocks:
            value = int(row[block.word])
            chosen = []
            for index, (bit, pivot) in enumerate(
                zip(block.bits, block.rows[:, block.word].tolist(), strict=True)
            ):
                if value >> bit & 1:
                    value ^= pivot
                    chosen.append(index)
            if chosen:
                row ^= np.bitwise_xor.reduce(block.rows[chosen], axis=0)
        if row[: self._words].any():
            return None
        return unpack(row[None, self._words :], self.num_columns)[0]

    def null_space(self) -> np.ndarray:
        """Returns a basis of the solutions of J x = 0: uint8 [num_columns - len(pivots),
        num_columns].
        """
        if not self._null:
            return np.zeros((0, 0), dtype=np.uint8)
        return unpack(np.concatenate(self._null), self.num_columns)


def _reduce_by(column: np.ndarray, block: _PivotBlock) -> np.ndarray:
    """Selects the pivots of a block to add to rows that hold `column` in its word: bit masks uint64
    [rows].
    """
    masks = np.zeros(len(column), dtype=np.uint64)
    for index, (bit, pivot) in enumerate(zip(block.bits, block.rows[:, block.word], strict=True)):
        has = (column >> np.uint64(bit)) & np.uint64(1)
        masks |= has << np.uint64(index)
        column ^= has * pivot
    return masks


def _eliminate(rows: np.ndarray, word: int) -> tuple[list[int], _PivotBlock | None, np.ndarray]:
    """Clears one word of all rows; returns the rows that became pivots, those pivots, and the other
    rows.
    """
    column = rows[:, word].copy()
    masks = np.zeros(len(rows), dtype=np.uint64)
    chosen: list[int] = []
    bits: list[int] = []
    while len(bits) < WORD:
        live = np.flatnonzero(column)
        if len(live) == 0:
            break
        index = int(live[0])
        value = column[index]
        bit = int(value).bit_length() - 1
        column[index] = 0  # a pivot is not processed again, and keeps the mask of the pivots before it
        has = (column[live] >> np.uint64(bit)) & np.uint64(1)
        column[live] ^= has * value
        masks[live] |= has << np.uint64(len(bits))
        chosen.append(index)
        bits.append(bit)
    if not bits:
        return chosen, None, rows
    pivots = rows[chosen]
    for index, mask in enumerate(masks[chosen].tolist()):
        earlier = [other for other in range(index) if mask >> other & 1]
        if earlier:
            pivots[index] ^= np.bitwise_xor.reduce(pivots[earlier], axis=0)
    rows, masks = np.delete(rows, chosen, axis=0), np.delete(masks, chosen)
    _add_combinations(rows, word, masks, pivots)
    return chosen, _PivotBlock(word, bits, pivots), rows


def _add_combinations(rows: np.ndarray, word: int, masks: np.ndarray, pivots: np.ndarray) -> None:
    """Adds to each row, in place, the sum of the pivots in its mask (words before `word` are zero
    in the pivots).
    """
    for start in range(0, len(pivots), _TABLE_BITS):
        picks = (masks >> np.uint64(start)) & np.uint64(2**_TABLE_BITS - 1)
        touched = np.flatnonzero(picks)
        if len(touched) == 0:
            continue
        table = np.zeros((1, pivots.shape[1] - word), dtype=np.uint64)
        for pivot in pivots[start : start + _TABLE_BITS, word:]:
            table = np.concatenate((table, table ^ pivot))
        rows[touched, word:] ^= table[picks[touched].astype(np.intp)]
