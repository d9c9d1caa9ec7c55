"""Demonstrations: sums of random terms to be decomposed again; they need no known solution."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int8, Int32, Integer, PRNGKeyArray

from matrixrl.envs.matmul.factors import ActionCodec


class Demonstration(NamedTuple):
    """One residual with terms that sum to it.

    Attributes:
      tokens: every one of the first `num_factors` rows is a right
        next action, because a sum does not depend on the order of its terms.
      num_factors: how many rows count.
    """

    residual: Int8[Array, "a b c"]
    tokens: Int32[Array, "terms tokens"]
    num_factors: Int32[Array, ""]


def random_vectors(
    key: PRNGKeyArray,
    codec: ActionCodec,
    length: int,
    density: Float[Array, ""] | float,
    count: int,
    used: Integer[Array, ""] | None = None,
) -> Int8[Array, "count length"]:
    """Samples `count` non-zero vectors; an entry is non-zero with probability
    `density`.

    Args:
      used: number of leading entries that may be non-zero; all by default.
    """
    key_support, key_value, key_entry = jax.random.split(key, 3)
    end = jnp.int32(length) if used is None else used
    support = (jax.random.uniform(key_support, (count, length)) < density) & (jnp.arange(length) < end)
    # Set one entry of each zero vector.
    entry = jax.random.randint(key_entry, (count, 1), 0, end) == jnp.arange(length)
    support = jnp.where(support.any(-1, keepdims=True), support, entry)
    # Sample non-zero values at the selected entries.
    digits = jax.random.randint(key_value, (count, length), 1, codec.ring.base)
    return jnp.where(support, jnp.asarray(codec.ring.values)[digits], 0).astype(jnp.int8)


def synthetic(
    key: PRNGKeyArray,
    codec: ActionCodec,
    min_factors: int,
    max_factors: int,
    min_density: float,
    max_density: float,
    used: tuple[Integer[Array, ""], Integer[Array, ""], Integer[Array, ""]] | None = None,
    most: Integer[Array, ""] | int | None = None,
) -> Demonstration:
    """Samples the sum of a random number of random terms (docs/matmul_method.md, section 4).

    The number of terms is uniform over min_factors..max_factors, the density of non-zero entries
    uniform over its range and shared by the terms of one demonstration.

    Args:
      used: numbers of leading entries of u, v and w that may be non-zero, for a tensor of a
        smaller format; all by default.
      most: maximum number of terms, if fewer than `max_factors`.
    """
    key_count, key_density, key_u, key_v, key_w = jax.random.split(key, 5)
    num_factors = jax.random.randint(key_count, (), min_factors, 1 + (max_factors if most is None else most))
    density = jax.random.uniform(key_density, (), minval=min_density, maxval=max_density)
    u, v, w = (
        random_vectors(subkey, codec, length, density, max_factors, None if used is None else used[mode])
        for mode, (subkey, length) in enumerate(zip((key_u, key_v, key_w), codec.shape, strict=True))
    )
    u, v, w = codec.canonical(u, v, w)
    active = jnp.arange(max_factors) < num_factors
    return Demonstration(sum_of_terms(codec, u, v, w, active), codec.encode(u, v, w), num_factors)


def sum_of_terms(
    codec: ActionCodec,
    u: Integer[Array, "R a"],
    v: Integer[Array, "R b"],
    w: Integer[Array, "R c"],
    active: Bool[Array, "R"],
) -> Int8[Array, "a b c"]:
    """Sums the active terms of u, v and w in the ring; entries are at most +-127."""
    u = jnp.where(active[:, None], u, 0).astype(jnp.float32)
    # Exact in float32: a sum of at most a few hundred products of small integers.
    total = jnp.einsum("ra,rb,rc->abc", u, v.astype(jnp.float32), w.astype(jnp.float32)).astype(jnp.int32)
    if codec.ring.modulus == 2:
        total = total & 1
    return jnp.clip(total, -127, 127).astype(jnp.int8)


def from_factors(
    key: PRNGKeyArray,
    codec: ActionCodec,
    u: Integer[np.ndarray, "R a"] | Integer[Array, "R a"],
    v: Integer[np.ndarray, "R b"] | Integer[Array, "R b"],
    w: Integer[np.ndarray, "R c"] | Integer[Array, "R c"],
) -> Demonstration:
    """Samples a position within a scheme: a random non-empty subset of
    its terms remains.
    """
    key_count, key_order = jax.random.split(key)
    rank = u.shape[0]
    order = jax.random.permutation(key_order, rank)
    num_factors = jax.random.randint(key_count, (), 1, rank + 1)
    u, v, w = (jnp.asarray(vectors, jnp.int8)[order] for vectors in (u, v, w))
    u, v, w = codec.canonical(u, v, w)
    residual = sum_of_terms(codec, u, v, w, jnp.arange(rank) < num_factors)
    return Demonstration(residual, codec.encode(u, v, w), num_factors)
