"""Torsos: from features of a state to one vector."""

from __future__ import annotations

import flax.linen as nn
import jax
from jax import Array


class ResidualMLP(nn.Module):
    """A residual multi-layer perceptron with normalised blocks, [..., features] to [..., width]."""

    width: int
    num_blocks: int

    @nn.compact
    def __call__(self, features: Array) -> Array:
        """Features [..., F] to [..., width]."""
        hidden = nn.Dense(self.width)(features)
        for _ in range(self.num_blocks):
            block = nn.LayerNorm()(hidden)
            block = jax.nn.relu(nn.Dense(self.width)(block))
            hidden += nn.Dense(
                self.width, kernel_init=nn.initializers.variance_scaling(0.1, "fan_in", "normal")
            )(block)
        return jax.nn.relu(nn.LayerNorm()(hidden))
