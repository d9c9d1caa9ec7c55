"""Networks for any environment: vectors or images to a policy, discrete or continuous, and a value.

Policy and value have separate layers, as in the reference implementations, after a common
convolution for images. Initialisation as in `networks.actor_critic`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float32, PyTree, Shaped

from matrixrl.networks.actor_critic import HIDDEN_INIT

LARGE_IMAGE = 36
"""Number of pixels of the shorter side from which an image gets the strided convolutions of Mnih et
al. 2015; smaller ones get the single one of MinAtar (Young and Tian 2019).
"""

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"tanh": jnp.tanh, "relu": jax.nn.relu}


class PolicyValue(nn.Module):
    """Observations of any structure to policy outputs and a value.

    An observation of one array with two or three axes is an image, channels last; the leaves of any
    other one are flattened and concatenated. Bytes are scaled to 0 to 1.

    Attributes:
      action_size: number of actions, or of the numbers of a continuous one.
      is_continuous: True for a diagonal Gaussian: outputs are means [N, D] and, independent of the
        observation, logarithms of standard deviations [D]. False for logits [N, A].
      hidden_dim, num_layers, activation: of the layers of policy and value each.
      num_categories: number of values of an observation that is one of several; None for others.
    """

    action_size: int
    is_continuous: bool = False
    hidden_dim: int = 64
    num_layers: int = 2
    activation: str = "tanh"
    num_categories: int | None = None

    @nn.compact
    def __call__(
        self, observation: PyTree[Shaped[Array, "N ..."]]
    ) -> tuple[PyTree[Float32[Array, "..."]], Float32[Array, "N"]]:
        """Maps observations to policy outputs and values."""
        features = self._features(observation)
        outputs = self._tower(features, self.action_size, 0.01)
        value = self._tower(features, 1, 1.0)[:, 0]
        if not self.is_continuous:
            return outputs, value
        log_std = self.param("log_std", nn.initializers.zeros, (self.action_size,), jnp.float32)
        return (outputs, log_std), value

    def _features(self, observation: Any) -> Array:
        leaves = [_scaled(leaf) for leaf in jax.tree.leaves(observation)]
        if self.num_categories is not None:
            return jax.nn.one_hot(leaves[0].astype(jnp.int32), self.num_categories)
        if len(leaves) == 1 and leaves[0].ndim in (3, 4):
            image = leaves[0] if leaves[0].ndim == 4 else leaves[0][..., None]
            return self._convolved(image)
        return jnp.concatenate([leaf.reshape(leaf.shape[0], -1) for leaf in leaves], axis=-1)

    def _convolved(self, image: Array) -> Array:
        large = min(image.shape[1:3]) >= LARGE_IMAGE
        layers = ((32, 8, 4), (64, 4, 2), (64, 3, 1)) if large else ((16, 3, 1),)
        for channels, side, stride in layers:
            layer = nn.Conv(
                channels,
                (side, side),
                (stride, stride),
                padding="VALID" if min(image.shape[1:3]) > side else "SAME",
                kernel_init=HIDDEN_INIT,
            )
            image = jax.nn.relu(layer(image))
        return image.reshape(image.shape[0], -1)

    def _tower(self, hidden: Array, outputs: int, gain: float) -> Array:
        act = ACTIVATIONS[self.activation]
        for _ in range(self.num_layers):
            hidden = act(nn.Dense(self.hidden_dim, kernel_init=HIDDEN_INIT)(hidden))
        return nn.Dense(outputs, kernel_init=nn.initializers.orthogonal(gain))(hidden)


def _scaled(leaf: Array) -> Array:
    scale = np.float32(1 / 255) if leaf.dtype == jnp.uint8 else np.float32(1)
    return leaf.astype(jnp.float32) * scale
