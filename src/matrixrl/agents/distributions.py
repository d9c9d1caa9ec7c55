"""Distributions over actions: what a policy's outputs mean, and how actions are drawn from them.

A learner sees a distribution through four functions. `condition` takes the outputs of the network
and the mask of legal actions to the arguments of the other three, which then know no network and no
mask. All are batched over leading axes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int32, Integer, Key, Num, PyTree, Shaped, UInt32

from matrixrl.agents import masked


class Distribution(Protocol):
    """A family of distributions over actions."""

    def condition(
        self, outputs: PyTree[Shaped[Array, "..."]], legal: Bool[Array, "N A"]
    ) -> PyTree[Shaped[Array, "N ..."]]:
        """Returns the distributions of a batch, from policy outputs and legal actions."""
        ...

    def sample(
        self, keys: Key[Array, "N"] | UInt32[Array, "N 2"], conditioned: PyTree[Shaped[Array, "N ..."]]
    ) -> Num[Array, "N ..."]:
        """Samples an action of each distribution."""
        ...

    def mode(self, conditioned: PyTree[Shaped[Array, "N ..."]]) -> Num[Array, "N ..."]:
        """Returns the most probable action of each distribution."""
        ...

    def log_prob(
        self, conditioned: PyTree[Shaped[Array, "N ..."]], action: Num[Array, "N ..."]
    ) -> Float[Array, "N"]:
        """Computes log-probabilities, or log-densities."""
        ...

    def entropy(self, conditioned: PyTree[Shaped[Array, "N ..."]]) -> Float[Array, "N"]:
        """Computes entropies in nats."""
        ...


@dataclass(frozen=True)
class MaskedCategorical:
    """One of A actions; illegal ones have probability zero. Outputs are logits [N, A]."""

    def condition(self, outputs: Float[Array, "*N A"], legal: Bool[Array, "*N A"]) -> Float[Array, "*N A"]:
        """Returns log-probabilities."""
        return masked.masked_log_softmax(outputs, legal)

    def sample(
        self, keys: Key[Array, "N"] | UInt32[Array, "N 2"], conditioned: Float[Array, "N A"]
    ) -> Int32[Array, "N"]:
        """Samples actions."""
        return masked.sample(jax.vmap(jax.random.uniform)(keys), conditioned)

    def mode(self, conditioned: Float[Array, "*N A"]) -> Int32[Array, "*N"]:
        """Returns the most probable actions, the first of several."""
        return jnp.argmax(conditioned, axis=-1).astype(jnp.int32)

    def log_prob(self, conditioned: Float[Array, "*N A"], action: Integer[Array, "*N"]) -> Float[Array, "*N"]:
        """Returns the log-probabilities of actions."""
        return masked.log_prob_of(conditioned, action)

    def entropy(self, conditioned: Float[Array, "*N A"]) -> Float[Array, "*N"]:
        """Computes the entropies."""
        return masked.entropy(conditioned)


class Normal(NamedTuple):
    """Independent normal distributions."""

    mean: Float[Array, "N D"]
    log_std: Float[Array, "N D"]


LOG_STD_LIMITS = (-20.0, 2.0)
"""Limits of the logarithm of a standard deviation: outside of them densities overflow."""


@dataclass(frozen=True)
class DiagonalGaussian:
    """A vector of D independent normal numbers. Outputs are a pair of means [N, D] and logarithms
    of standard deviations, [N, D] or [D].

    Actions are unbounded; an environment with bounds clips what it is given, and the density stays
    that of the action before clipping.
    """

    def condition(
        self,
        outputs: tuple[Float[Array, "N D"], Float[Array, "N D"] | Float[Array, "D"]],
        legal: Bool[Array, "N A"],
    ) -> Normal:
        """Returns means and logarithms of standard deviations."""
        del legal
        mean, log_std = outputs
        return Normal(mean, jnp.broadcast_to(jnp.clip(log_std, *LOG_STD_LIMITS), mean.shape))

    def sample(
        self, keys: Key[Array, "N"] | UInt32[Array, "N 2"], conditioned: Normal
    ) -> Float[Array, "N D"]:
        """Samples actions."""
        size = conditioned.mean.shape[-1:]
        noise = jax.vmap(lambda key: jax.random.normal(key, size))(keys)
        return conditioned.mean + jnp.exp(conditioned.log_std) * noise

    def mode(self, conditioned: Normal) -> Float[Array, "N D"]:
        """Returns the means."""
        return conditioned.mean

    def log_prob(self, conditioned: Normal, action: Float[Array, "N D"]) -> Float[Array, "N"]:
        """Computes log-densities of actions."""
        scaled = (action - conditioned.mean) * jnp.exp(-conditioned.log_std)
        return -(0.5 * scaled**2 + conditioned.log_std + 0.5 * math.log(2 * math.pi)).sum(-1)

    def entropy(self, conditioned: Normal) -> Float[Array, "N"]:
        """Computes differential entropies, which may be negative."""
        return (conditioned.log_std + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)
