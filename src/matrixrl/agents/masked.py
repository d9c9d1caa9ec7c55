"""A categorical distribution over the legal actions (Huang and Ontañón 2020, "A closer look at invalid action masking").

Illegal actions have probability zero and no gradient. Where no action is legal, all count as legal: the environment
then ends the episode, and the numbers stay finite.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

# Finite, so that a gradient through a masked logit is 0 and not NaN.
MASKED = -1e9


def masked_log_softmax(logits: Array, legal: Array) -> Array:
    """Log-probabilities [..., A] of logits [..., A] over the legal actions bool [..., A]; about `MASKED` elsewhere."""
    legal = legal | ~legal.any(-1, keepdims=True)
    return jax.nn.log_softmax(jnp.where(legal, logits, MASKED))


def log_prob_of(log_probs: Array, action: Array) -> Array:
    """The entry [...] of each action, int [...], in log-probabilities [..., A]."""
    chosen = action[..., None] == jnp.arange(log_probs.shape[-1])
    return jnp.where(chosen, log_probs, 0.0).sum(-1)


def entropy(log_probs: Array) -> Array:
    """Entropy [...] in nats, -sum p log p, of log-probabilities [..., A]."""
    return -(jnp.exp(log_probs) * jnp.maximum(log_probs, MASKED)).sum(-1)


def sample(uniform: Array, log_probs: Array) -> Array:
    """Actions int32 [...] by inverse transform of one uniform number each, float32 [...] in [0, 1)."""
    probs = jnp.exp(log_probs)
    # A running sum that a machine adds up in a tree may rise by a rounding where the probability is zero, and fall short
    # of the next one: only actions of positive probability count, and the largest sum among them is the whole.
    cumulative = jnp.where(probs > 0, jnp.cumsum(probs, axis=-1), 0)
    # With 23 random bits uniform * total rounds to less than total, so an action is found.
    threshold = uniform[..., None] * cumulative.max(-1, keepdims=True)
    return jnp.argmax(cumulative > threshold, axis=-1).astype(jnp.int32)
