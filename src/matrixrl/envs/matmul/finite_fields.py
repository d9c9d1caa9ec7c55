"""Ranks of many small matrices over F2 and F3, bit-packed: a row is one or two 32-bit words.

Over F2 a row is a word. Over F3 it is a pair of words, the entries equal to 1 and the entries equal to 2, added with
seven logical operations (Harrison, Page and Smart 2002, section 4). Elimination runs over the rows in order: a row
that is still non-zero is a pivot and clears its lowest bit in every later row, so the number of pivots is the rank.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

# Up to this many rows the elimination is written out, and XLA fuses it into one loop over the batch.
MAX_UNROLLED_ROWS = 9


def pack_bits(bits: Array) -> Array:
    """Booleans [..., n] to one uint32 [...] with bit i = entry i; n is at most 32."""
    weights = jnp.uint32(1) << jnp.arange(bits.shape[-1], dtype=jnp.uint32)
    return jnp.where(bits, weights, jnp.uint32(0)).sum(-1, dtype=jnp.uint32)


def add_mod3(left: tuple[Array, Array], right: tuple[Array, Array]) -> tuple[Array, Array]:
    """Sum over F3 of packed rows (ones, twos)."""
    (a1, a2), (b1, b2) = left, right
    shared = (a1 | b2) ^ (a2 | b1)
    return (a2 | b2) ^ shared, (a1 | b1) ^ shared


def lowest_bit(word: Array) -> Array:
    """The lowest set bit of each word, 0 for 0."""
    return word & (~word + jnp.uint32(1))


def rank_mod2(rows: Array) -> Array:
    """Rank over F2, int32 [...], of matrices given as packed rows, uint32 [..., n]."""
    num_rows = rows.shape[-1]
    if num_rows <= MAX_UNROLLED_ROWS:
        remaining = [rows[..., index] for index in range(num_rows)]
        rank = jnp.zeros(rows.shape[:-1], jnp.int32)
        for index, pivot in enumerate(remaining):
            low = lowest_bit(pivot)
            rank += (pivot != 0).astype(jnp.int32)
            for later in range(index + 1, num_rows):
                row = remaining[later]
                remaining[later] = jnp.where((row & low) != 0, row ^ pivot, row)
        return rank

    def eliminate(index: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        rows, rank = carry
        pivot = jax.lax.dynamic_index_in_dim(rows, index, axis=-1)
        later = jnp.arange(num_rows) > index
        rows = jnp.where(later & ((rows & lowest_bit(pivot)) != 0), rows ^ pivot, rows)
        return rows, rank + (pivot[..., 0] != 0)

    return jax.lax.fori_loop(0, num_rows, eliminate, (rows, jnp.zeros(rows.shape[:-1], jnp.int32)))[1]


def rank_mod3(ones: Array, twos: Array) -> Array:
    """Rank over F3, int32 [...], of matrices given as packed rows (ones, twos), each uint32 [..., n]."""
    num_rows = ones.shape[-1]

    def clear(row: tuple[Array, Array], pivot: tuple[Array, Array], low: Array) -> tuple[Array, Array]:
        """The row plus or minus the pivot, whichever clears the entry at `low`; the row itself when it is zero."""
        p1, p2 = pivot
        opposite = (((row[0] & p2) | (row[1] & p1)) & low) != 0
        hit = ((row[0] | row[1]) & low) != 0
        added = add_mod3(row, (jnp.where(opposite, p1, p2), jnp.where(opposite, p2, p1)))
        return jnp.where(hit, added[0], row[0]), jnp.where(hit, added[1], row[1])

    if num_rows <= MAX_UNROLLED_ROWS:
        remaining = [(ones[..., index], twos[..., index]) for index in range(num_rows)]
        rank = jnp.zeros(ones.shape[:-1], jnp.int32)
        for index, pivot in enumerate(remaining):
            support = pivot[0] | pivot[1]
            rank += (support != 0).astype(jnp.int32)
            for later in range(index + 1, num_rows):
                remaining[later] = clear(remaining[later], pivot, lowest_bit(support))
        return rank

    def eliminate(index: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        ones, twos, rank = carry
        p1 = jax.lax.dynamic_index_in_dim(ones, index, axis=-1)
        p2 = jax.lax.dynamic_index_in_dim(twos, index, axis=-1)
        later = jnp.arange(num_rows) > index
        low = jnp.where(later, lowest_bit(p1 | p2), jnp.uint32(0))
        ones, twos = clear((ones, twos), (p1, p2), low)
        return ones, twos, rank + ((p1 | p2)[..., 0] != 0)

    zero = jnp.zeros(ones.shape[:-1], jnp.int32)
    return jax.lax.fori_loop(0, num_rows, eliminate, (ones, twos, zero))[2]
