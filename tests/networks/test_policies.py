"""Networks for any environment."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from matrixrl.networks.actor_critic import HIDDEN_INIT
from matrixrl.networks.policies import PatchConvolution, PolicyValue


def test_a_convolution_by_patches_is_the_convolution() -> None:
    image = jax.random.normal(jax.random.key(0), (2, 5, 6, 3))
    known = nn.Conv(4, (3, 3), padding="VALID", kernel_init=HIDDEN_INIT)
    ours = PatchConvolution(4, 3)
    params = known.init(jax.random.key(1), image)
    found = ours.init(jax.random.key(1), image)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, found)
    np.testing.assert_allclose(ours.apply(params, image), known.apply(params, image), rtol=1e-5, atol=1e-5)


def test_small_images_keep_the_parameters_of_earlier_checkpoints() -> None:
    image = jnp.zeros((2, 10, 10, 4))
    params = jax.eval_shape(PolicyValue(3, hidden_dim=8).init, jax.random.key(0), image)["params"]
    assert params["Conv_0"]["kernel"].shape == (3, 3, 4, 16)
    assert params["Dense_0"]["kernel"].shape == (8 * 8 * 16, 8)
