"""Policy and value of a discrete-action agent: torsos with two linear heads, for flat observations
and for grids of cells.

Initialisation after Andrychowicz et al. 2021, "What matters in on-policy reinforcement learning?":
orthogonal, a gain of sqrt(2) in hidden layers, 0.01 for the policy so that it starts near uniform,
1 for the value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Float32, Integer, PyTree, Shaped

HIDDEN_INIT = nn.initializers.orthogonal(np.sqrt(2.0))
LECUN_INIT = nn.initializers.lecun_normal()

TORSO_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"relu": jax.nn.relu, "tanh": jnp.tanh}


def hidden_init(is_orthogonal: bool) -> Any:
    """Returns the initialiser of hidden layers: orthogonal matrices, or normal numbers of variance
    1 / fan-in.
    """
    return HIDDEN_INIT if is_orthogonal else LECUN_INIT


class ActorCritic(nn.Module):
    """Observations of any structure to policy logits and a value.

    Attributes:
      features: maps observations to the torso's input; an agent may store them in a compact form.
      torso: features [N, ...] to hidden [N, width].
      num_actions: A.
      critic: torso of the value, without common parameters; None if the value shares `torso`.
    """

    features: Callable[[Any], Any]
    torso: nn.Module
    num_actions: int
    critic: nn.Module | None = None

    @nn.compact
    def __call__(
        self, observation: PyTree[Shaped[Array, "N ..."]]
    ) -> tuple[Float32[Array, "N A"], Float32[Array, "N"]]:
        """Maps observations to logits and values."""
        features = self.features(observation)
        hidden = self.torso(features)
        if self.critic is not None:
            logits = self._head("policy", hidden, self.num_actions, 0.01)
            return logits, self._head("value", self.critic(features), 1, 1.0)[:, 0]
        # One product for both heads: A + 1 columns cost the same as A.
        kernel = self.param(
            "heads_kernel", _heads_init, (hidden.shape[-1], self.num_actions + 1), jnp.float32
        )
        bias = self.param("heads_bias", nn.initializers.zeros, (self.num_actions + 1,), jnp.float32)
        heads = hidden @ kernel + bias
        return heads[:, :-1], heads[:, -1]

    def _head(self, name: str, hidden: Array, columns: int, gain: float) -> Array:
        """Returns a linear function of hidden units."""
        init = nn.initializers.orthogonal(gain)
        kernel = self.param(f"{name}_kernel", init, (hidden.shape[-1], columns), jnp.float32)
        return hidden @ kernel + self.param(f"{name}_bias", nn.initializers.zeros, (columns,), jnp.float32)


def _heads_init(key: Array, shape: Sequence[int], dtype: Any) -> Array:
    key_policy, key_value = jax.random.split(key)
    width, columns = shape
    policy = nn.initializers.orthogonal(0.01)(key_policy, (width, columns - 1), dtype)
    value = nn.initializers.orthogonal(1.0)(key_value, (width, 1), dtype)
    return jnp.concatenate([policy, value], axis=1)


class MLP(nn.Module):
    """A plain multi-layer perceptron, [N, F] to float32 [N, hidden_dim].

    Attributes:
      hidden_dim, num_layers: sizes.
      dtype: type of the products, such as bfloat16; parameters and the result stay float32. None:
        float32.
      activation: a name in `TORSO_ACTIVATIONS`.
      is_orthogonal: see `hidden_init`.
    """

    hidden_dim: int
    num_layers: int
    dtype: Any = None
    activation: str = "relu"
    is_orthogonal: bool = True

    @nn.compact
    def __call__(self, features: Float[Array, "N F"]) -> Float32[Array, "N hidden"]:
        """Maps features to hidden units."""
        hidden = features
        for _ in range(self.num_layers):
            init = hidden_init(self.is_orthogonal)
            layer = nn.Dense(self.hidden_dim, dtype=self.dtype, kernel_init=init)
            hidden = TORSO_ACTIVATIONS[self.activation](layer(hidden))
        return hidden.astype(jnp.float32)


class GridTorso(nn.Module):
    """Torso for a grid that is seen from one of its cells: one encoder shared by all cells, then a
    small head.

    A cell's code depends on its own features and, by a learned table, on its position relative to
    the agent, so that "an enemy two cells above me" is one unit wherever the agent is. The codes
    and their mean are then concatenated.

    Attributes:
      side: the grid has side x side cells.
      cell_dim: units of the first and second layer of the encoder.
      hidden_dim, num_layers, dtype, activation, is_orthogonal: the head; see `MLP`.
    """

    side: int
    cell_dim: tuple[int, int]
    hidden_dim: int
    num_layers: int
    dtype: Any = None
    activation: str = "relu"
    is_orthogonal: bool = True

    @nn.compact
    def __call__(
        self, features: tuple[Float[Array, "N F"], Float[Array, "N cells C"], Integer[Array, "N"]]
    ) -> Float32[Array, "N hidden"]:
        """Maps a vector, the cells and the agent's cell to hidden units."""
        vector, cells, agent = features
        num_cells, (first, second) = self.side**2, self.cell_dim
        offsets = 2 * self.side - 1
        table = self.param("offset", nn.initializers.normal(0.1), (offsets**2, first))
        # The agent's cell determines the table entry of each cell: a product with its one-hot code
        # selects all of them at once, and is faster than a gather forward and backward.
        seen_from = table[_offset_index(self.side)].reshape(num_cells, num_cells * first)
        here = jax.nn.one_hot(agent, num_cells)
        place = (here @ seen_from).reshape(-1, num_cells, first)
        # Encode every cell from its features and its position, then concatenate the codes.
        init, act = hidden_init(self.is_orthogonal), TORSO_ACTIVATIONS[self.activation]
        code = act(nn.Dense(first, dtype=self.dtype, kernel_init=init)(cells) + place)
        code = act(nn.Dense(second, dtype=self.dtype, kernel_init=init)(code))
        hidden = jnp.concatenate([vector, here, code.reshape(code.shape[0], -1), code.mean(1)], axis=-1)
        head = MLP(self.hidden_dim, self.num_layers, self.dtype, self.activation, self.is_orthogonal)
        return head(hidden)


def _offset_index(side: int) -> np.ndarray:
    """Returns the offset index of each cell for each agent's cell: int [side**2, side**2]."""
    row, column = np.divmod(np.arange(side**2), side)
    rows = row[None] - row[:, None] + side - 1
    columns = column[None] - column[:, None] + side - 1
    return rows * (2 * side - 1) + columns
