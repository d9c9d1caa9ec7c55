"""The source of randomness: numbered 32-bit words, as a pure function of the key of the step
(rule 21).

``block(key, stream, index)`` is one Threefry-2x32 block (Salmon et al. 2011, "Parallel random
numbers: as easy as 1, 2, 3"): two independent words for each stream and index. No word depends on
how many were drawn before, so a word is computed only where it is needed, and a test can pass the
same words to another implementation.

An index among ``n`` options is always ``(word * n) >> 32`` (`pick`).

| stream        | index                            | first word            | second word           |
|---------------|----------------------------------|-----------------------|-----------------------|
| `ORDER`       | place in the list of enemies     | priority in round 1   | priority in round 2   |
| `SPAWN`       | spawns of this phase, from 0     | cell                  | enemy type            |
| `POLY`        | place in the list of enemies     | new type              |                       |
| `WARP`        | 0                                | target                |                       |
| `STAGE`       | 0                                | exit corner           | number of blocks      |
| `PLACEMENT`   | attempt * 6 + block // 2         | cell of an even block | cell of an odd block  |
| `CONTENT`     | block * 2                        | data or program       | question or open      |
| `CONTENT`     | block * 2 + 1                    | points                | program               |
| `RESOURCE`    | cell                             | amount                | credits or energy     |
| `STAGE_SPAWN` | spawns of this stage, from 0     | cell                  | enemy type            |
| `NEW_GAME`    | 0                                | player's corner       | starting bonus        |
| `RESET`       | 0                                | key of the next game                        ||

Enemies act in ascending order of ``word >> 7``; ties are broken by list order. A cell is the
``pick``-th of its set in order of cell number; a placement picks its blocks one after another from
the remaining cells. Other options are in the order of the rules: types by code, corners as listed,
programs by number, bonus credits-energy-siphon, data before program, credits before energy. A block
is a question if the pick among 10 is 0. The amount is a pick among 20: 0-8 is 1, 9-17 is 2, 18-19
is 3.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Int32, Integer, Key, UInt32

from matrixrl.envs.hackmatrix.memory import materialized
from matrixrl.envs.hackmatrix.streams import Stream as Stream


class Words(NamedTuple):
    """Two uint32 words of one shape: a key, or a block of random numbers."""

    first: UInt32[Array, "*B"]
    second: UInt32[Array, "*B"]


# Separates the blocks from those that `jax.random.split` and `fold_in` derive from the same key.
_SALT = 0x484D0000
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def key_words(key: Key[Array, "*B"] | UInt32[Array, "*B 2"]) -> Words:
    """Returns the two words of a key: typed or raw, of any leading shape.

    A typed key of a generator other than Threefry is converted to two words by that generator.
    """
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        data = jax.random.key_data(key)
        if data.shape[-1] != 2:
            flat = jax.vmap(lambda one: jax.random.bits(one, (2,), jnp.uint32))(key.reshape(-1))
            data = flat.reshape((*key.shape, 2))
    else:
        data = key
    return Words(data[..., 0], data[..., 1])


def block(
    key: Words,
    stream: Stream | Integer[np.ndarray, "..."],
    index: Integer[Array, "..."] | Integer[np.ndarray, "..."] | int,
) -> Words:
    """Computes the two words for this key, stream and index; shapes broadcast, so one call serves
    several streams.
    """
    k0, k1 = key
    keys = (k0, k1, k0 ^ k1 ^ 0x1BD11BDA)
    x = jnp.asarray(index, jnp.uint32) + k0
    y = jnp.asarray(_SALT | np.asarray(stream, np.uint32)) + k1
    x, y = jnp.broadcast_arrays(x, y)
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x = x + y
            y = ((y << rotation) | (y >> (32 - rotation))) ^ x
        x = x + keys[(group + 1) % 3]
        y = y + keys[(group + 2) % 3] + (group + 1)
    return materialized(Words(x, y), k0)


def pick(word: UInt32[Array, "..."], n: Integer[Array, "..."] | int) -> Int32[Array, "..."]:
    """Returns an index below `n`: ``(word * n) >> 32`` in 32-bit arithmetic, for n up to
    65535.
    """
    n = jnp.asarray(n).astype(jnp.uint32)
    return (((word >> 16) * n + (((word & 0xFFFF) * n) >> 16)) >> 16).astype(jnp.int32)
