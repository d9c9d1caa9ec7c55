"""Telling the compiler to write a value to memory once, instead of computing it again at each use."""

from __future__ import annotations

from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax

T = TypeVar("T")


def always(word: jax.Array) -> jax.Array:
    """A scalar that is true, in a way the compiler does not see; `word` is any integers that are at hand."""
    return (jnp.ravel(word)[0].astype(jnp.int32) | 1) != 0


def materialized(tree: T, at_hand: jax.Array) -> T:
    """The same arrays, written to memory before they are used.

    XLA's CPU compiler fuses a computation into a use that broadcasts its result and then repeats it for each of the
    broadcast values (a move worked out per game would be worked out again for each of 36 slots). It drops
    `lax.optimization_barrier` before it fuses, but it does not look into a conditional. `at_hand` is any integers that
    are cheap to read, better not a result of the computation.
    """
    return lax.cond(always(at_hand), lambda tree: tree, lambda tree: jax.tree.map(jnp.zeros_like, tree), tree)
