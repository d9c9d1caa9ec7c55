"""Slots of a replay buffer: which ones are overwritten next, and how filled ones are sampled."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float32, Int32, Integer, PRNGKeyArray, PyTree, Shaped


def first_to_expire(expiry: Float32[Array, "G"], count: int) -> Int32[Array, "count"]:
    """Returns the slots that expire first, in order; of equal ones the first."""
    return jnp.argsort(expiry)[:count].astype(jnp.int32)


def write(
    stored: PyTree[Shaped[Array, "G ..."]],
    slots: Integer[Array, "count"],
    new: PyTree[Shaped[Array, "count ..."]],
) -> PyTree[Shaped[Array, "G ..."]]:
    """Writes new entries to their slots; those with a slot beyond the last one are dropped."""
    return jax.tree.map(lambda old, entry: old.at[slots].set(entry, mode="drop"), stored, new)


def sample_filled(key: PRNGKeyArray, filled: Bool[Array, "G"], count: int) -> Int32[Array, "count"]:
    """Samples filled slots uniformly, by inverse transform; any slots if none is filled."""
    reached = jnp.cumsum(filled)
    drawn = jax.random.uniform(key, (count,)) * reached[-1]
    slot = jnp.searchsorted(reached, drawn, side="right")
    return jnp.minimum(slot, filled.shape[0] - 1).astype(jnp.int32)
