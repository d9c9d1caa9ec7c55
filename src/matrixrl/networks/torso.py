"""Torsos: from features of a state to one vector."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Float32


class ResidualMLP(nn.Module):
    """A residual multi-layer perceptron with normalised blocks, [..., features] to float32 [...,
    width].

    Attributes:
      width, num_blocks: sizes.
      dtype: type of the products, such as bfloat16; parameters and the result stay
        float32. None: float32.
    """

    width: int
    num_blocks: int
    dtype: Any = None

    @nn.compact
    def __call__(self, features: Float[Array, "*B F"]) -> Float32[Array, "*B width"]:
        """Maps features to hidden units."""
        hidden = nn.Dense(self.width, dtype=self.dtype)(features)
        for _ in range(self.num_blocks):
            block = nn.LayerNorm(dtype=self.dtype)(hidden)
            block = jax.nn.relu(nn.Dense(self.width, dtype=self.dtype)(block))
            hidden += nn.Dense(
                self.width,
                dtype=self.dtype,
                kernel_init=nn.initializers.variance_scaling(0.1, "fan_in", "normal"),
            )(block)
        return jax.nn.relu(nn.LayerNorm()(hidden.astype(jnp.float32)))
