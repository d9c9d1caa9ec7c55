"""Materialization of values in memory, so that the compiler does not recompute them at each use."""

from __future__ import annotations

from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Integer

T = TypeVar("T")


def always(word: Integer[Array, "..."]) -> Bool[Array, ""]:
    """Returns a true scalar that the compiler cannot fold; `word` is any array of integers that is
    available.
    """
    return (jnp.ravel(word)[0].astype(jnp.int32) | 1) != 0


def materialized(tree: T, at_hand: Integer[Array, "..."]) -> T:
    """Writes arrays to memory before they are used and returns them unchanged.

    XLA's CPU compiler fuses a computation into a use that broadcasts its result and then repeats it
    for each of the broadcast values (a move computed per game would be recomputed for each of 36
    slots). It drops `lax.optimization_barrier` before it fuses, but it does not look into a
    conditional. `at_hand` is any array of integers that is cheap to read, preferably not a result
    of the computation.
    """
    return lax.cond(always(at_hand), lambda tree: tree, lambda tree: jax.tree.map(jnp.zeros_like, tree), tree)
