"""Compact lists of words: enemies and transmissions in list order, batch-last `uint32[slots,
B]`.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Bool, Int32, Shaped, UInt32

from matrixrl.envs.hackmatrix.bitboard import Bits, of_list
from matrixrl.envs.hackmatrix.state import EnemyWord, present


def slots(words: Shaped[Array, "slots ..."]) -> Int32[np.ndarray, "slots ..."]:
    """Returns the slot numbers as a column that broadcasts against the list."""
    return np.arange(words.shape[0], dtype=np.int32).reshape((-1,) + (1,) * (words.ndim - 1))


def length(words: UInt32[Array, "slots *B"]) -> Int32[Array, "*B"]:
    """Returns the number of entries."""
    return jnp.sum(present(words), axis=0, dtype=jnp.int32)


def cells(words: UInt32[Array, "*B"]) -> UInt32[Array, "*B"]:
    """Returns the cell of each entry; meaningless for empty slots."""
    return EnemyWord.CELL.get(words)


def occupied(words: UInt32[Array, "slots *B"]) -> Bits:
    """Returns the set of the cells of all entries."""
    return of_list(cells(words), present(words))


def first(words: UInt32[Array, "slots *B"], hits: Bool[Array, "slots *B"]) -> Int32[Array, "*B"]:
    """Returns the slot of the first hit; the number of slots where there is none."""
    return jnp.min(jnp.where(hits, slots(words), words.shape[0]), axis=0)


def at_slot(words: UInt32[Array, "slots *B"], slot: Int32[Array, "*B"]) -> UInt32[Array, "*B"]:
    """Returns the word in `slot` of each list; 0 if the slot is out of range."""
    return jnp.sum(jnp.where(slots(words) == slot, words, 0), axis=0, dtype=jnp.uint32)


def append(
    words: UInt32[Array, "slots *B"],
    count: Int32[Array, "*B"],
    word: UInt32[Array, "*B"],
    active: Bool[Array, "*B"],
) -> UInt32[Array, "slots *B"]:
    """Stores `word` in slot `count` of the list where `active`; drops it if the list is full."""
    return jnp.where((slots(words) == count) & active, word, words)


def take_out(words: UInt32[Array, "slots *B"], slot: Int32[Array, "*B"]) -> UInt32[Array, "slots *B"]:
    """Removes the entry in `slot` and moves the later ones up. A slot out of range changes
    nothing.
    """
    moved_up = jnp.concatenate([words[1:], jnp.zeros_like(words[:1])])
    return jnp.where(slots(words) >= slot, moved_up, words)


def remove(words: UInt32[Array, "slots *B"], gone: Bool[Array, "slots *B"]) -> UInt32[Array, "slots *B"]:
    """Removes the `gone` entries and keeps the order of the others."""
    hole = np.uint32(1)  # neither an entry nor an empty slot
    marked = jnp.where(gone & present(words), hole, words)

    def any_left(marked: Array) -> Array:
        return jnp.any(marked == hole)

    def close_one(marked: Array) -> Array:
        return take_out(marked, first(marked, marked == hole))

    return lax.while_loop(any_left, close_one, marked)


def first_on_each_cell(words: UInt32[Array, "slots *B"]) -> UInt32[Array, "slots *B"]:
    """Returns for each cell the first entry in list order on it; 0 if there is
    none.
    """
    cell_numbers = slots(words).astype(np.uint32)  # there are as many slots as cells

    def put(i: Array, top: Array) -> Array:
        word = lax.dynamic_index_in_dim(words, longest - 1 - i, keepdims=False)
        return jnp.where((cell_numbers == EnemyWord.CELL.get(word)) & present(word), word, top)

    longest = jnp.max(length(words))
    return lax.fori_loop(0, longest, put, jnp.zeros_like(words))
