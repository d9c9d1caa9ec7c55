"""Running normalisation of observations and rewards.

The statistics are part of the learner's state. They are constant during an update, so that the
network sees a sample the same way in the rollout and in every epoch, and take up its samples at the
end (Chan et al. 1983 merge means and variances of two sets).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Float32, Num, PyTree

EPSILON = 1e-8
MAX_ABSOLUTE = 10.0
"""Limit of normalised observations and rewards."""


class Moments(NamedTuple):
    """Statistics of the samples seen so far.

    Attributes:
      count: float32, their number.
      mean, variance: of each element.
    """

    count: Float32[Array, ""]
    mean: Float32[Array, "..."]
    variance: Float32[Array, "..."]


class Statistics(NamedTuple):
    """Statistics of a learner.

    Attributes:
      observation: a `Moments` for each leaf of an observation; () without normalisation.
      reward: of the discounted sums of rewards; () without normalisation.
    """

    observation: Any = ()
    reward: Any = ()


def initial(shape: tuple[int, ...] = ()) -> Moments:
    """Returns the statistics before the first sample, which change nothing."""
    return Moments(jnp.float32(0), jnp.zeros(shape, jnp.float32), jnp.ones(shape, jnp.float32))


def merged(
    moments: Moments, samples: Num[Array, "G N ..."], total: Callable[[Array], Array], count: int
) -> Moments:
    """Returns the statistics with more samples.

    Args:
      samples: by group.
      total: sums over the groups of all devices, [G, ...] to [...].
      count: number of samples over all devices.
    """
    samples = samples.astype(jnp.float32)
    mean = total(samples.sum(1)) / count
    variance = total(((samples - mean) ** 2).sum(1)) / count
    everything = moments.count + count
    shift = mean - moments.mean
    squares = moments.variance * moments.count + variance * count
    squares = squares + shift**2 * moments.count * count / everything
    return Moments(everything, moments.mean + shift * count / everything, squares / everything)


def normalized(moments: Moments, values: Num[Array, "..."]) -> Float32[Array, "..."]:
    """Returns observations with mean 0 and variance 1, limited to `MAX_ABSOLUTE`."""
    scaled = (values.astype(jnp.float32) - moments.mean) * jax.lax.rsqrt(moments.variance + EPSILON)
    return jnp.clip(scaled, -MAX_ABSOLUTE, MAX_ABSOLUTE)


def normalized_observation(
    statistics: PyTree, observation: PyTree[Num[Array, "..."]]
) -> PyTree[Num[Array, "..."]]:
    """Returns an observation of any structure, normalised leaf by leaf; unchanged for ()."""
    if isinstance(statistics, tuple) and not statistics:
        return observation
    is_moments = lambda leaf: isinstance(leaf, Moments)  # noqa: E731
    return jax.tree.map(normalized, statistics, observation, is_leaf=is_moments)


def scaled_reward(moments: Moments, reward: Float[Array, "*B"]) -> Float32[Array, "*B"]:
    """Returns rewards in units of the standard deviation of their discounted sums, limited."""
    return jnp.clip(reward * jax.lax.rsqrt(moments.variance + EPSILON), -MAX_ABSOLUTE, MAX_ABSOLUTE)


def discounted_sums(
    start: Float32[Array, "B"],
    reward: Float32[Array, "T B"],
    ended: Bool[Array, "T B"],
    gamma: float | Float[Array, ""],
) -> tuple[Float32[Array, "B"], Float32[Array, "T B"]]:
    """Computes the discounted sum of an episode's rewards so far, G_t = gamma G_{t-1} + r_t.

    Args:
      start: before the first step.
      ended: the sum restarts at 0 after these steps.

    Returns:
      The sum before the next step, and the sums.
    """

    def step(before: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
        reward, ended = inputs
        now = gamma * before + reward
        return jnp.where(ended, 0.0, now), now

    return jax.lax.scan(step, start, (reward, ended))
