"""Ranks of many small matrices over F2 and F3, bit-packed: a row is one or two 32-bit words.

Over F2 a row is a word. Over F3 it is a pair of words, the entries equal to 1 and the entries equal
to 2, added with seven logical operations (Harrison, Page and Smart 2002, section 4). Elimination
runs over the rows in order: a row that is still non-zero is a pivot and clears its lowest bit in
every later row, so the number of pivots is the rank.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Int32, Integer, UInt32

# Up to this many rows the elimination is unrolled, and XLA fuses it into one loop over the batch.
MAX_UNROLLED_ROWS = 9


def pack_bits(bits: Bool[Array, "*B entries"]) -> UInt32[Array, "*B"]:
    """Packs at most 32 booleans into one word with bit i = entry i."""
    weights = jnp.uint32(1) << jnp.arange(bits.shape[-1], dtype=jnp.uint32)
    return jnp.where(bits, weights, jnp.uint32(0)).sum(-1, dtype=jnp.uint32)


def add_mod3(
    left: tuple[UInt32[Array, "..."], UInt32[Array, "..."]],
    right: tuple[UInt32[Array, "..."], UInt32[Array, "..."]],
) -> tuple[UInt32[Array, "..."], UInt32[Array, "..."]]:
    """Adds packed rows (ones, twos) over F3."""
    (a1, a2), (b1, b2) = left, right
    shared = (a1 | b2) ^ (a2 | b1)
    return (a2 | b2) ^ shared, (a1 | b1) ^ shared


def lowest_bit(word: UInt32[Array, "*B"]) -> UInt32[Array, "*B"]:
    """Returns the lowest set bit of each word, 0 for 0."""
    return word & (~word + jnp.uint32(1))


def add_mod2(
    left: tuple[UInt32[Array, "..."]], right: tuple[UInt32[Array, "..."]]
) -> tuple[UInt32[Array, "..."]]:
    """Adds packed rows (ones,) over F2."""
    return (left[0] ^ right[0],)


def clear_mod2(
    row: tuple[UInt32[Array, "..."]], pivot: tuple[UInt32[Array, "..."]], low: UInt32[Array, "..."]
) -> tuple[UInt32[Array, "..."]]:
    """Adds the pivot to the row if the row has the entry at `low`."""
    return (jnp.where((row[0] & low) != 0, row[0] ^ pivot[0], row[0]),)


def clear_mod3(
    row: tuple[UInt32[Array, "..."], UInt32[Array, "..."]],
    pivot: tuple[UInt32[Array, "..."], UInt32[Array, "..."]],
    low: UInt32[Array, "..."],
) -> tuple[UInt32[Array, "..."], UInt32[Array, "..."]]:
    """Adds or subtracts the pivot, whichever clears the entry at `low`; the row is unchanged if it
    is zero there.
    """
    p1, p2 = pivot
    opposite = (((row[0] & p2) | (row[1] & p1)) & low) != 0
    hit = ((row[0] | row[1]) & low) != 0
    added = add_mod3(row, (jnp.where(opposite, p1, p2), jnp.where(opposite, p2, p1)))
    return jnp.where(hit, added[0], row[0]), jnp.where(hit, added[1], row[1])


def dot_mod2(left: tuple[UInt32[Array, "..."]], right: tuple[UInt32[Array, "..."]]) -> UInt32[Array, "..."]:
    """Computes inner products over F2, uint32 in 0..1."""
    return jax.lax.population_count(left[0] & right[0]) & 1


def dot_mod3(
    left: tuple[UInt32[Array, "..."], UInt32[Array, "..."]],
    right: tuple[UInt32[Array, "..."], UInt32[Array, "..."]],
) -> UInt32[Array, "..."]:
    """Computes inner products over F3, uint32 in 0..2."""
    (a1, a2), (b1, b2) = left, right
    equal = jax.lax.population_count((a1 & b1) | (a2 & b2))
    opposite = jax.lax.population_count((a1 & b2) | (a2 & b1))
    return (equal + 2 * opposite) % 3


# A packed vector: (ones,) over F2, (ones, twos) over F3.
Packed = tuple[UInt32[Array, "..."], ...]


class FieldArithmetic(NamedTuple):
    """Arithmetic of packed vectors over F_p, for p = 2 and 3.

    Attributes:
      prime: p.
      add: sum of two vectors.
      clear: (row, pivot, low) to the row plus the multiple of the pivot that clears the entry at
        bit `low`.
      dot: inner product, uint32 in 0..p-1.
    """

    prime: int
    add: Callable[[Any, Any], Packed]
    clear: Callable[[Any, Any, Array], Packed]
    dot: Callable[[Any, Any], Array]

    def pack(self, residues: Integer[Array, "*B entries"]) -> Packed:
        """Packs at most 32 residues in 0..p-1 into words."""
        return tuple(pack_bits(residues == value) for value in range(1, self.prime))

    def support(self, vector: Packed) -> UInt32[Array, "..."]:
        """Returns the bits of the non-zero entries."""
        return vector[0] if self.prime == 2 else vector[0] | vector[1]


FIELDS = {
    2: FieldArithmetic(2, add_mod2, clear_mod2, dot_mod2),
    3: FieldArithmetic(3, add_mod3, clear_mod3, dot_mod3),
}


class Echelon(NamedTuple):
    """Rows after elimination: each pivot is cleared from the rows that come later.

    Attributes:
      rows: R packed rows.
      lows: per row the bit of its pivot, 0 for a row without one.
    """

    rows: tuple[Packed, ...]
    lows: tuple[UInt32[Array, "..."], ...]

    @property
    def rank(self) -> Int32[Array, "..."]:
        """Number of pivots."""
        return sum((low != 0).astype(jnp.int32) for low in self.lows)  # pyright: ignore[reportReturnType]

    def reduce(self, field: FieldArithmetic, vector: Packed) -> Packed:
        """Subtracts the multiples of the rows that clear their pivots; the result is zero there if
        the vector is in their span.
        """
        for row, low in zip(self.rows, self.lows, strict=True):
            vector = field.clear(vector, row, low)
        return vector


def eliminate(
    field: FieldArithmetic, rows: Sequence[Packed], mask: UInt32[Array, "..."] | None = None
) -> Echelon:
    """Performs Gaussian elimination without row exchanges; pivots are restricted to the bits of
    `mask`.
    """
    remaining, lows = list(rows), []
    for index, pivot in enumerate(remaining):
        support = field.support(pivot)
        lows.append(lowest_bit(support if mask is None else support & mask))
        for later in range(index + 1, len(remaining)):
            remaining[later] = field.clear(remaining[later], pivot, lows[-1])
    return Echelon(tuple(remaining), tuple(lows))


def rank(field: FieldArithmetic, rows: Packed) -> Int32[Array, "..."]:
    """Computes the rank of matrices in packed rows, words [..., n]."""
    num_rows = rows[0].shape[-1]
    if num_rows <= MAX_UNROLLED_ROWS:
        return eliminate(field, [tuple(word[..., index] for word in rows) for index in range(num_rows)]).rank

    def step(index: Array, carry: tuple[Packed, Array]) -> tuple[Packed, Array]:
        rows, rank = carry
        pivot = tuple(jax.lax.dynamic_index_in_dim(word, index, axis=-1) for word in rows)
        support = field.support(pivot)
        low = jnp.where(jnp.arange(num_rows) > index, lowest_bit(support), jnp.uint32(0))
        return field.clear(rows, pivot, low), rank + (support[..., 0] != 0)

    zero = jnp.zeros(rows[0].shape[:-1], jnp.int32)
    return jax.lax.fori_loop(0, num_rows, step, (rows, zero))[1]


def rank_mod2(rows: UInt32[Array, "*B rows"]) -> Int32[Array, "*B"]:
    """Computes the rank over F2 of matrices in packed rows."""
    return rank(FIELDS[2], (rows,))


def rank_mod3(ones: UInt32[Array, "*B rows"], twos: UInt32[Array, "*B rows"]) -> Int32[Array, "*B"]:
    """Computes the rank over F3 of matrices in packed rows (ones, twos)."""
    return rank(FIELDS[3], (ones, twos))
