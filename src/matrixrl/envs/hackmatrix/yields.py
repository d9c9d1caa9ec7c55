"""What a siphon would bring, for each cell where the player could stand: enemies, points,
resources and programs of the siphon cross (rules 7.2, 18.5).

A player adds these up before every siphon. As the relations, they are computed from a packed
observation and reveal nothing that is hidden: the content of question blocks counts as one
question.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float32, UInt32

from matrixrl.envs.hackmatrix import relations
from matrixrl.envs.hackmatrix.observation import NUM_SCALARS, PACKED_WORDS, Parts
from matrixrl.envs.hackmatrix.rules import NUM_CELLS, NUM_PROGRAMS, SIZE

CELL_FEATURES = 6
"""Features of each cell, of a siphon there: enemies it brings, points, credits, energy, programs
that the player does not own, question blocks.
"""

HEAD_FEATURES = CELL_FEATURES + NUM_PROGRAMS
"""Features of the whole: those of the player's cell, and the programs that a siphon there gains."""

_BITS = (6, 6, 5, 5, 3, 3)
_UNITS = np.array([1 / 9, 1 / 9, 1 / 6, 1 / 6, 1 / 2, 1 / 2], np.float32)

# Bits of the first word of a cell, in the order of `observation._layout`.
_DATA, _PROGRAM, _QUESTION, _SIPHONED = 6, 7, 8, 9


class Yields(NamedTuple):
    """Yield features of a batch of observations."""

    head: Float32[Array, "N 29"]
    cells: Float32[Array, "N 36 6"]


def yields(observations: UInt32[Array, "N _"]) -> Yields:
    """Returns the yield features of packed observations [N, 117], or of prepared ones [N, 177],
    which hold them already.
    """
    if observations.shape[-1] == PACKED_WORDS:
        return unpack(yield_words(observations))
    return unpack(observations[:, -YIELD_WORDS:])


YIELD_WORDS = NUM_CELLS + 2


def prepare(packed: UInt32[Array, "N 117"]) -> UInt32[Array, "N 177"]:
    """Returns packed observations with their relations and yields behind them, as words."""
    return jnp.concatenate([relations.prepare(packed), yield_words(packed)], axis=-1)


def yield_words(packed: UInt32[Array, "N 117"]) -> UInt32[Array, "N 38"]:
    """Computes the yields of packed observations.

    Words 0 to 35 hold the features of a siphon at each cell, with the bits of `_BITS`; word 36
    those of the player's cell, word 37 the programs that a siphon there gains.
    """
    first, second, third = (packed[:, NUM_SCALARS + i * NUM_CELLS :][:, :NUM_CELLS].T for i in range(3))

    def flag(bit: int) -> Array:
        return first >> bit & 1

    open_ = 1 - flag(_SIPHONED)
    free = 1 - (flag(_DATA) | flag(_PROGRAM) | flag(_QUESTION))
    owned = packed[:, NUM_SCALARS - 1]
    programs = jnp.where(flag(_PROGRAM) & open_, second & 2**NUM_PROGRAMS - 1, 0) & ~owned
    amounts = (
        (third >> 12 & 0xFF) * open_,
        (second >> 23 & 0xFF) * flag(_DATA) * open_,
        (first >> 16 & 0xFF) * free,
        (first >> 24 & 0xFF) * free,
        (programs != 0).astype(jnp.uint32),
        flag(_QUESTION) * open_,
    )
    limits = (
        jnp.minimum(_cross_sum(amount), 2**bits - 1) for amount, bits in zip(amounts, _BITS, strict=True)
    )
    cells = relations.fields(*zip(_BITS, limits, strict=True))
    here = (jnp.arange(NUM_CELLS, dtype=jnp.uint32)[:, None] == packed[:, 0]).astype(jnp.uint32)
    cross = _cross_sum(here)
    # A program is on one block of a stage, so the sum is a union.
    gained = (programs * cross).sum(0, dtype=jnp.uint32)
    return jnp.concatenate([cells, (cells * here).sum(0, dtype=jnp.uint32)[None], gained[None]]).T


def unpack(words: UInt32[Array, "N 38"]) -> Yields:
    """Returns the features that `yield_words` holds."""
    cells = jnp.stack(relations.values(words[:, : NUM_CELLS + 1], *_BITS), axis=-1) * _UNITS
    gained = words[:, NUM_CELLS + 1 :] >> np.arange(NUM_PROGRAMS, dtype=np.uint32) & 1
    head = jnp.concatenate([cells[:, NUM_CELLS], gained.astype(jnp.float32)], axis=-1)
    return Yields(head, cells[:, :NUM_CELLS])


def unpack_with_yields(observations: UInt32[Array, "N _"]) -> Float32[Array, "N 1979"]:
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
    return observations if observations.shape[-1] == PACKED_WORDS else observations[:, :-YIELD_WORDS]


def _cross_sum(amounts: UInt32[Array, "36 N"]) -> UInt32[Array, "36 N"]:
    """Returns for each cell the sum over itself and its neighbours."""
    grid = jnp.pad(amounts.reshape(SIZE, SIZE, -1), ((1, 1), (1, 1), (0, 0)))
    total = grid[1:-1, 1:-1] + grid[:-2, 1:-1] + grid[2:, 1:-1] + grid[1:-1, :-2] + grid[1:-1, 2:]
    return total.reshape(NUM_CELLS, -1)
