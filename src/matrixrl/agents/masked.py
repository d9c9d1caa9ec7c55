"""A categorical distribution over the legal actions (Huang and Ontañón 2020, "A closer look at
invalid action masking").

Illegal actions have probability zero and no gradient. If no action is legal, all count as legal:
the environment then ends the episode, and the numbers stay finite.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int32, Integer

# Finite, so that a gradient through a masked logit is 0 and not NaN.
MASKED = -1e9


def masked_log_softmax(logits: Float[Array, "*N A"], legal: Bool[Array, "*N A"]) -> Float[Array, "*N A"]:
    """Returns the log-probabilities over the legal actions; about `MASKED` elsewhere."""
    legal = legal | ~legal.any(-1, keepdims=True)
    return jax.nn.log_softmax(jnp.where(legal, logits, MASKED))


def log_prob_of(log_probs: Float[Array, "*N A"], action: Integer[Array, "*N"]) -> Float[Array, "*N"]:
    """Selects the entry of each action from log-probabilities."""
    chosen = action[..., None] == jnp.arange(log_probs.shape[-1])
    return jnp.where(chosen, log_probs, 0.0).sum(-1)


def entropy(log_probs: Float[Array, "*N A"]) -> Float[Array, "*N"]:
    """Computes the entropy in nats, -sum p log p, of log-probabilities."""
    return -(jnp.exp(log_probs) * jnp.maximum(log_probs, MASKED)).sum(-1)


def sample(uniform: Float[Array, "*N"], log_probs: Float[Array, "*N A"]) -> Int32[Array, "*N"]:
    """Samples actions by inverse transform of one uniform number in [0, 1) each."""
    probs = jnp.exp(log_probs)
    # A parallel cumulative sum may increase by rounding where the probability is zero, and need not
    # be monotonic: use only actions of positive probability, and their largest sum as the total.
    cumulative = jnp.where(probs > 0, jnp.cumsum(probs, axis=-1), 0)
    # With 23 random bits uniform * total rounds to less than total, so an action is found.
    threshold = uniform[..., None] * cumulative.max(-1, keepdims=True)
    return jnp.argmax(cumulative > threshold, axis=-1).astype(jnp.int32)


def log_barrier(
    log_probs: Float[Array, "*N A"], legal: Bool[Array, "*N A"], explored: tuple[bool, ...]
) -> Float[Array, "*N"]:
    """Computes the mean log-probability of the legal ones of some actions, 0 where there is none.

    As a bonus it keeps these actions from dying out: its gradient does not vanish with their
    probability, as those of the policy and of the entropy do (Agarwal et al. 2021, "On the theory
    of policy gradient methods", section 5.2).
    """
    counted = legal & jnp.asarray(explored)
    number = counted.sum(-1)
    return jnp.where(counted, log_probs, 0.0).sum(-1) / jnp.maximum(number, 1)
