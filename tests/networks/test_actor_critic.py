"""Policy and value networks: shapes, how they start, and what the grid torso sees."""

from __future__ import annotations

from functools import cache
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from matrixrl.networks.actor_critic import MLP, ActorCritic, GridTorso, _offset_index

N, SIDE, FEATURES, VECTOR, ACTIONS = 16, 3, 4, 24, 7
CELLS, FIRST, SECOND = SIDE**2, 16, 8
CODES = GridTorso(SIDE, (FIRST, SECOND), 16, 0)  # without a head the torso gives the codes themselves
TORSOS = {"mlp": MLP(24, 2), "grid": GridTorso(SIDE, (FIRST, SECOND), 24, 1)}


def observations(kind: str = "grid") -> Any:
    """A vector; for the grid also the cells, and the agent's cell."""
    rng = np.random.default_rng(0)
    vector = rng.normal(size=(N, VECTOR)).astype(np.float32)
    cells = rng.normal(size=(N, CELLS, FEATURES)).astype(np.float32)
    return vector if kind == "mlp" else (vector, cells, np.arange(N) % CELLS)


def quickly(function: Any, *arguments: Any) -> Any:
    compiled = jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})
    return jax.device_get(compiled(*arguments))


@cache
def built(kind: str) -> tuple[ActorCritic, Any]:
    """A network and its fresh parameters."""
    module = ActorCritic(lambda observation: observation, TORSOS[kind], ACTIONS)
    return module, quickly(module.init, jax.random.key(0), observations(kind))


@cache
def code_params() -> Any:
    return quickly(CODES.init, jax.random.key(1), observations())


def parts(vector: Any, cells: Any, agent: Any) -> tuple[Any, Any, Any, Any]:
    """What the head of the grid torso gets: the vector, the agent's place, each cell's code, and their mean."""
    hidden = quickly(CODES.apply, code_params(), (vector, cells, agent))
    vector, place, codes, mean = np.split(hidden, np.cumsum([VECTOR, CELLS, CELLS * SECOND]), axis=1)
    return vector, place, codes.reshape(-1, CELLS, SECOND), mean


@pytest.mark.parametrize("kind", TORSOS)
def test_outputs_have_the_shapes_that_are_said(kind: str) -> None:
    module, params = built(kind)
    logits, value = quickly(module.apply, params, observations(kind))
    assert (logits.shape, value.shape) == ((N, ACTIONS), (N,))
    assert logits.dtype == value.dtype == np.float32


@pytest.mark.parametrize("kind", TORSOS)
def test_the_policy_starts_near_uniform_and_the_value_does_not_vanish(kind: str) -> None:
    module, params = built(kind)
    logits, value = quickly(module.apply, params, observations(kind))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert abs(probabilities - 1 / ACTIONS).max() < 0.5 / ACTIONS
    assert value.std() > 10 * logits.std()


def test_kernels_start_orthogonal_with_their_gains() -> None:
    params = built("mlp")[1]["params"]

    def gram(kernel: Any) -> Any:
        return kernel.T @ kernel

    for layer in ("Dense_0", "Dense_1"):
        np.testing.assert_allclose(gram(params["torso"][layer]["kernel"]), 2 * np.eye(24), atol=1e-4)
        assert not params["torso"][layer]["bias"].any()
    heads = params["heads_kernel"]
    np.testing.assert_allclose(gram(heads[:, :-1]), 1e-4 * np.eye(ACTIONS), atol=1e-8)
    np.testing.assert_allclose(np.square(heads[:, -1]).sum(), 1, rtol=1e-5)
    assert not params["heads_bias"].any()


def test_a_separate_critic_shares_nothing_with_the_policy() -> None:
    module = ActorCritic(lambda observation: observation, MLP(8, 1), ACTIONS, MLP(8, 1, None, "tanh", False))
    params = quickly(module.init, jax.random.key(0), observations("mlp"))["params"]
    assert set(params) == {"torso", "critic", "policy_kernel", "policy_bias", "value_kernel", "value_bias"}

    def value(params: Any) -> Any:
        outputs: Any = module.apply({"params": params}, observations("mlp"))
        return outputs[1].sum()

    gradient = quickly(jax.grad(value), params)
    of_policy = (gradient["torso"], gradient["policy_kernel"])
    assert not any(leaf.any() for leaf in jax.tree.leaves(of_policy))
    assert all(leaf.any() for leaf in jax.tree.leaves((gradient["critic"], gradient["value_kernel"])))
    # Normal initialisation has variance 1 / fan-in; tanh keeps hidden units below 1.
    kernel = params["critic"]["Dense_0"]["kernel"]
    np.testing.assert_allclose(kernel.var() * VECTOR, 1, rtol=0.4)
    assert np.abs(kernel.T @ kernel - 2 * np.eye(8)).max() > 0.1


def test_activations_are_those_that_are_named() -> None:
    vector = observations("mlp")
    params = quickly(MLP(8, 1).init, jax.random.key(0), vector)
    relu, tanh = (quickly(MLP(8, 1, None, name).apply, params, vector) for name in ("relu", "tanh"))
    assert relu.min() == 0 < relu.max()
    np.testing.assert_allclose(np.maximum(np.arctanh(np.clip(tanh, -1 + 1e-6, 1 - 1e-6)), 0)[tanh < 0.9], relu[tanh < 0.9], atol=1e-3)  # fmt: skip


def test_offsets_are_numbered_by_row_and_column_as_seen_from_the_agent() -> None:
    index = _offset_index(SIDE)
    assert index.shape == (CELLS, CELLS)
    # Offsets -2 to 2 in rows and columns: five by five, the middle is number 12.
    assert (np.diag(index) == 12).all()
    assert index[0, 8] == 24  # from corner to corner
    assert index[8, 0] == 0
    assert index[4, 7] == 17  # one row up
    assert index[4, 5] == 13  # one column right
    # The same offset anywhere has the same number, and all 25 occur.
    assert index[0, 1] == index[3, 4] == index[7, 8]
    assert set(index.ravel()) == set(range(25))


def test_codes_are_the_two_layers_with_the_offsets_entry_of_the_table() -> None:
    vector, cells, agent = observations()
    layers = code_params()["params"]
    first, second, table = layers["Dense_0"], layers["Dense_1"], layers["offset"]
    expected = np.zeros((N, CELLS, SECOND))
    for n in range(N):
        for cell in range(CELLS):
            rows, columns = np.array(divmod(cell, SIDE)) - divmod(int(agent[n]), SIDE)
            entry = table[(rows + 2) * 5 + columns + 2]
            hidden = np.maximum(cells[n, cell] @ first["kernel"] + first["bias"] + entry, 0)
            expected[n, cell] = np.maximum(hidden @ second["kernel"] + second["bias"], 0)
    seen_vector, place, codes, mean = parts(vector, cells, agent)
    np.testing.assert_array_equal(seen_vector, vector)
    np.testing.assert_array_equal(place, np.eye(CELLS)[agent])
    np.testing.assert_allclose(codes, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(mean, expected.mean(1), rtol=1e-4, atol=1e-5)


def test_one_thing_at_one_offset_has_one_code_wherever_the_agent_stands() -> None:
    thing = np.array([1.0, 0, 2, 0], np.float32)
    cells = np.zeros((N, CELLS, FEATURES), np.float32)
    agent = np.zeros(N, int)
    # A row up and a column right of the agent, three times; then the first place as seen from elsewhere.
    for n, (stands, at) in enumerate([(0, 4), (1, 5), (4, 8), (1, 4)]):
        agent[n] = stands
        cells[n, at] = thing
    _, _, codes, _ = parts(observations()[0], cells, agent)
    np.testing.assert_allclose(codes[1, 5], codes[0, 4], rtol=1e-5)
    np.testing.assert_allclose(codes[2, 8], codes[0, 4], rtol=1e-5)
    assert abs(codes[3, 4] - codes[0, 4]).max() > 0.01
    # Nothing else of the board is seen differently for its sake.
    _, _, without, _ = parts(observations()[0], np.zeros_like(cells), agent)
    changed = (codes != without).any(2)
    assert [np.flatnonzero(row).tolist() for row in changed[:5]] == [[4], [5], [8], [4], []]


@pytest.mark.parametrize("kind", TORSOS)
def test_rows_of_a_batch_do_not_see_one_another(kind: str) -> None:
    module, params = built(kind)
    order = np.random.default_rng(1).permutation(N)
    moved = jax.tree.map(lambda leaf: leaf[order], observations(kind))
    outputs = quickly(module.apply, params, observations(kind)), quickly(module.apply, params, moved)
    for ours, theirs in zip(*outputs, strict=True):
        np.testing.assert_allclose(ours[order], theirs, rtol=1e-5, atol=1e-6)


def test_gradients_reach_every_weight_of_the_grid_torso() -> None:
    module, params = built("grid")

    def total(params: Any) -> Any:
        logits, value = cast(Any, module.apply(params, observations()))
        return (logits * jnp.arange(ACTIONS)).sum() + value.sum()

    for path, leaf in jax.tree_util.tree_leaves_with_path(quickly(jax.grad(total), params)):
        assert np.isfinite(leaf).all()
        assert (leaf != 0).mean() > 0.2, jax.tree_util.keystr(path)
