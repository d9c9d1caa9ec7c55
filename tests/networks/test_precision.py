"""bfloat16 products: parameters, results and gradients stay float32, and are near those of float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from matrixrl.devices import machine
from matrixrl.networks.actor_critic import MLP, GridTorso
from matrixrl.networks.torso import ResidualMLP

KEY = jax.random.key(0)
FLAT = jax.random.normal(KEY, (32, 24))
GRID = (FLAT, jax.random.normal(KEY, (32, 9, 5)), jnp.arange(32) % 9)


def shapes(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.shape, tree)


@pytest.mark.parametrize(
    ("make", "features"),
    [
        (lambda dtype: ResidualMLP(64, 2, dtype), FLAT),
        (lambda dtype: MLP(64, 2, dtype), FLAT),
        (lambda dtype: GridTorso(3, (8, 4), 64, 2, dtype), GRID),
    ],
    ids=["residual", "mlp", "grid"],
)
def test_products_alone_are_rounded(make: Callable[[Any], Any], features: Any) -> None:
    exact, rounded = make(None), make(jnp.bfloat16)
    params = jax.jit(exact.init)(KEY, features)
    # Shapes and types are known without compiling.
    assert shapes(jax.eval_shape(rounded.init, KEY, features)) == shapes(params)
    assert "bf16" in str(jax.make_jaxpr(rounded.apply)(params, features))
    assert "bf16" not in str(jax.make_jaxpr(exact.apply)(params, features))
    one, other = exact.apply(params, features), rounded.apply(params, features)
    assert other.dtype == jnp.float32
    scale = float(jnp.abs(one).max())
    np.testing.assert_allclose(other, one, atol=0.03 * scale)
    assert not np.array_equal(other, one)
    grads = jax.eval_shape(jax.grad(lambda params: rounded.apply(params, features).sum()), params)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(grads))


def test_a_cpu_stays_at_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.compute_dtype("bfloat16") is None
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert machine.compute_dtype("bfloat16") == jnp.bfloat16
    assert machine.compute_dtype("float32") is None
