"""Returns and advantages from rollouts."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Float32


def gae(
    reward: Float32[Array, "T B"],
    value: Float32[Array, "T B"],
    terminated: Bool[Array, "T B"],
    truncated: Bool[Array, "T B"],
    final_value: Float32[Array, "T B"],
    last_value: Float32[Array, "B"],
    gamma: float | Float[Array, ""],
    gae_lambda: float | Float[Array, ""],
) -> tuple[Float32[Array, "T B"], Float32[Array, "T B"]]:
    """Computes generalised advantage estimates (Schulman et al. 2016, equations 11 to 16).

        delta_t = r_t + gamma V(s_{t+1}) - V(s_t)
        A_t     = delta_t + gamma lambda A_{t+1}

    V(s_{t+1}) is 0 where the step terminated its episode, and the value of the episode's last
    observation where it truncated it; A_{t+1} belongs to another episode in both cases and is
    omitted.

    Args:
      value: of the observation before the step.
      terminated, truncated: see `matrixrl.envs.base`.
      final_value: value of the last observation of the episode; read where
        `truncated`.
      last_value: value of the observation after the last step.

    Returns:
      Advantages and value targets A + V.
    """

    def backwards(carry: tuple[Array, Array], step: tuple[Array, ...]) -> tuple[tuple[Array, Array], Array]:
        advantage, following = carry
        reward, value, terminated, truncated, final_value = step
        following = jnp.where(terminated, 0.0, jnp.where(truncated, final_value, following))
        delta = reward + gamma * following - value
        advantage = delta + gamma * gae_lambda * jnp.where(terminated | truncated, 0.0, advantage)
        return (advantage, value), advantage

    start = (jnp.zeros_like(last_value), last_value)
    steps = (reward, value, terminated, truncated, final_value)
    _, advantages = jax.lax.scan(backwards, start, steps, reverse=True)
    return advantages, advantages + value
