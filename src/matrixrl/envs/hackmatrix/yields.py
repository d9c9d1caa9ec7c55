"""What a siphon would bring, for each cell where the player could stand: enemies, points,
resources and programs of the siphon cross (rules 7.2, 18.5), and which programs could then be paid
for.

A player adds these up before every siphon. As the relations, they are computed from a packed
observation and reveal nothing that is hidden: the content of question blocks counts as one
question.
"""

from __future__ import annotations

from functools import reduce
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float32, UInt32

from matrixrl.envs.hackmatrix import relations
from matrixrl.envs.hackmatrix.observation import NUM_SCALARS, OWNED, PACKED_WORDS, Parts
from matrixrl.envs.hackmatrix.relations import DATA, PROGRAM, QUESTION, affordable, program_flags
from matrixrl.envs.hackmatrix.rules import NUM_CELLS, NUM_PROGRAMS, SIZE

AMOUNTS = 6
"""Amounts of a siphon at a cell: enemies it brings, points, credits, energy, programs that the
player does not own, question blocks.
"""

CELL_FEATURES = AMOUNTS + NUM_PROGRAMS
"""Features of each cell, of a siphon there: its amounts, and the programs that could be paid for
after it and cannot be now, because they are not owned or resources are missing.
"""

HEAD_FEATURES = CELL_FEATURES + NUM_PROGRAMS
"""Features of the whole: those of the player's cell, and the programs that a siphon there gains."""

_BITS = (6, 6, 5, 5, 3, 3)
_UNITS = np.array([1 / 9, 1 / 9, 1 / 6, 1 / 6, 1 / 2, 1 / 2], np.float32)

# Bit of the first word of a cell, beside those of `relations`.
_SIPHONED = 9


class Yields(NamedTuple):
    """Yield features of a batch of observations."""

    head: Float32[Array, "N 52"]
    cells: Float32[Array, "N 36 29"]


def yields(observations: UInt32[Array, "N _"]) -> Yields:
    """Returns the yield features of packed observations [N, 117], or of prepared ones [N, 214],
    which hold them already.
    """
    return unpack(_words(observations))


def gained_here(observations: UInt32[Array, "N _"]) -> UInt32[Array, "N"]:
    """Returns the programs that a siphon at the player's cell would gain, a bit each, of packed
    observations [N, 117], or of those that relations or yields were prepared of.
    """
    return _words(observations)[:, -1]


def _words(observations: UInt32[Array, "N _"]) -> UInt32[Array, "N 75"]:
    """Returns the words of yields, which observations hold already if yields were prepared of
    them.
    """
    if observations.shape[-1] == PREPARED_WORDS:
        return observations[:, -YIELD_WORDS:]
    return yield_words(observations[:, :PACKED_WORDS])


YIELD_WORDS = 2 * NUM_CELLS + 3
"""Words that hold the yields of a packed observation."""

PREPARED_WORDS = PACKED_WORDS + relations.RELATION_WORDS + YIELD_WORDS
"""Words of an observation with its relations and yields."""


def prepare(packed: UInt32[Array, "N 117"]) -> UInt32[Array, "N 214"]:
    """Returns packed observations with their relations and yields behind them, as words."""
    return jnp.concatenate([relations.prepare(packed), yield_words(packed)], axis=-1)


def yield_words(packed: UInt32[Array, "N 117"]) -> UInt32[Array, "N 75"]:
    """Computes the yields of packed observations.

    Words 0 to 35 hold the amounts of a siphon at each cell, with the bits of `_BITS`, words 36 to
    71 the programs that it makes affordable; words 72 and 73 those of the player's cell, word 74
    the programs that a siphon there gains.
    """
    first, second, third = (packed[:, NUM_SCALARS + i * NUM_CELLS :][:, :NUM_CELLS].T for i in range(3))

    def flag(bit: int) -> Array:
        return first >> bit & 1

    open_ = 1 - flag(_SIPHONED)
    free = 1 - (flag(DATA) | flag(PROGRAM) | flag(QUESTION))
    credits, energy, owned = packed[:, 2], packed[:, 3], packed[:, OWNED]
    programs = jnp.where(flag(PROGRAM) & open_, second & 2**NUM_PROGRAMS - 1, 0) & ~owned
    amounts = (
        (third >> 12 & 0xFF) * open_,
        (second >> 23 & 0xFF) * flag(DATA) * open_,
        (first >> 16 & 0xFF) * free,
        (first >> 24 & 0xFF) * free,
        (programs != 0).astype(jnp.uint32),
        flag(QUESTION) * open_,
    )
    sums = [sum(_cross(amount)) for amount in amounts]
    limits = (jnp.minimum(total, 2**bits - 1) for total, bits in zip(sums, _BITS, strict=True))
    cells = relations.fields(*zip(_BITS, limits, strict=True))
    gained = reduce(jnp.bitwise_or, _cross(programs))
    after = affordable(owned | gained, credits + sums[2], energy + sums[3])
    enabled = after & ~affordable(owned, credits, energy)
    here = (jnp.arange(NUM_CELLS, dtype=jnp.uint32)[:, None] == packed[:, 0]).astype(jnp.uint32)
    own = [(words * here).sum(0, dtype=jnp.uint32)[None] for words in (cells, enabled, gained)]
    return jnp.concatenate([cells, enabled, *own]).T


def unpack(words: UInt32[Array, "N 75"]) -> Yields:
    """Returns the features that `yield_words` holds."""
    cells = _features(words[:, :NUM_CELLS], words[:, NUM_CELLS : 2 * NUM_CELLS])
    amounts, enabled, gained = (words[:, 2 * NUM_CELLS + i] for i in range(3))
    own = _features(amounts, enabled)
    return Yields(jnp.concatenate([own, program_flags(gained)], axis=-1), cells)


def _features(amounts: Array, enabled: Array) -> Array:
    """Returns the features of cells from their two words."""
    values = jnp.stack(relations.values(amounts, *_BITS), axis=-1) * _UNITS
    return jnp.concatenate([values, program_flags(enabled)], axis=-1)


def unpack_with_yields(observations: UInt32[Array, "N _"]) -> Float32[Array, "N 2830"]:
    """Returns flat observations with relation features and yield features behind them."""
    found = yields(observations)
    known = relations.unpack_with_relations(_without_yields(observations))
    return jnp.concatenate([known, found.head, found.cells.reshape(found.cells.shape[0], -1)], axis=-1)


def parts_with_yields(observations: UInt32[Array, "N _"]) -> Parts:
    """Returns the parts of observations, with relation features and yield features behind those of
    head and cells.
    """
    found, parts = yields(observations), relations.parts_with_relations(_without_yields(observations))
    return Parts(
        jnp.concatenate([parts.head, found.head], axis=-1),
        jnp.concatenate([parts.cells, found.cells], axis=-1),
        parts.player,
    )


def _without_yields(observations: Array) -> Array:
    return observations[:, : PREPARED_WORDS - YIELD_WORDS]


def _cross(amounts: UInt32[Array, "36 N"]) -> list[UInt32[Array, "36 N"]]:
    """Returns for each cell the amounts of itself and of its four neighbours."""
    grid = jnp.pad(amounts.reshape(SIZE, SIZE, -1), ((1, 1), (1, 1), (0, 0)))
    parts = (grid[1:-1, 1:-1], grid[:-2, 1:-1], grid[2:, 1:-1], grid[1:-1, :-2], grid[1:-1, 2:])
    return [part.reshape(NUM_CELLS, -1) for part in parts]
