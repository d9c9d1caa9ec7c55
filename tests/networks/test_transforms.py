"""The policy by transforms: a distribution over actions, and the same one in every basis."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from matrixrl.envs.matmul import basis
from matrixrl.envs.matmul.contractions import MAX_HEAD, Contractions
from matrixrl.envs.matmul.factors import ActionCodec
from matrixrl.envs.matmul.tensors import F2, TERNARY, Ring
from matrixrl.networks.transforms import TransformNetwork

# Over the integers w is drawn last, also where it is the longest.
CASES = [((2, 3, 4), F2), ((2, 3, 2), TERNARY), ((2, 2, 3), TERNARY)]
QUICK = CASES[1]
"""The others compile as much again for what differs by its shape alone."""

# Vectors of more than two entries are drawn in two parts.
IN_PARTS = [((2, 3, 4), F2, 2), ((3, 3, 2), F2, 2)]


def marked(cases: list[tuple[Any, ...]], quick: list[tuple[Any, ...]]) -> list[Any]:
    """Returns the cases; all but the quick ones run in `make test-all` only."""
    return [pytest.param(*case, marks=[] if case in quick else pytest.mark.slow) for case in cases]


ALL = marked([(*case, MAX_HEAD) for case in CASES] + IN_PARTS, [(*QUICK, MAX_HEAD), IN_PARTS[1]])
BATCH, ACTIONS = 4, 6


def named(value: object) -> str:
    if isinstance(value, int):
        return str(value)
    return value.name if isinstance(value, Ring) else "x".join(map(str, value))  # pyright: ignore[reportArgumentType]


@cache
def made(
    shape: tuple[int, int, int], ring: Ring, max_head: int = MAX_HEAD
) -> tuple[ActionCodec, TransformNetwork, Any, Any, Any, Any]:
    """Codec, network, parameters far from their start, residuals, vectors and tokens of actions."""
    codec = ActionCodec(shape, ring, whole_vectors=True)
    network = TransformNetwork(codec.layout, Contractions(codec, max_head), 32, 1, 9)
    rng = np.random.default_rng(5)
    factors = [rng.choice(ring.values, (BATCH, ACTIONS, length)).astype(np.int32) for length in shape]
    for vectors in factors:
        vectors[..., 0] += (vectors == 0).all(-1)
    # The first three actions are the terms of the residual.
    tensor = np.einsum("bra,brc,brd->bacd", *(vectors[:, :3] for vectors in factors))
    residual = jnp.asarray(tensor % 2 if ring.modulus == 2 else tensor, jnp.int8)
    vectors = jax.jit(codec.canonical)(*factors)
    tokens = jax.jit(codec.encode)(*vectors)

    # In one program: one by one, each shape of an array would be compiled by itself.
    @jax.jit
    def init(key: jax.Array) -> Any:
        params = network.init(key, residual, tokens, method="log_prob")
        leaves, structure = jax.tree.flatten(params)
        keys = jax.random.split(jax.random.key(1), len(leaves))
        moved = [leaf + 0.3 * jax.random.normal(k, leaf.shape) for leaf, k in zip(leaves, keys, strict=True)]
        return jax.tree.unflatten(structure, moved)

    return codec, network, init(jax.random.key(0)), residual, vectors, tokens


@cache
def log_prob_of(shape: tuple[int, int, int], ring: Ring, max_head: int = MAX_HEAD) -> Any:
    """(params, residuals, tokens) to log-probabilities and value logits, compiled."""
    network = made(shape, ring, max_head)[1]
    return jax.jit(
        lambda params, residual, tokens: network.apply(params, residual, tokens, method="log_prob")
    )


@pytest.mark.parametrize(("shape", "ring"), marked(CASES, [QUICK]), ids=named)
def test_policy_and_value_are_the_same_in_every_basis(shape: tuple[int, int, int], ring: Ring) -> None:
    codec, _, params, residual, vectors, tokens = made(shape, ring)
    apply = log_prob_of(shape, ring)
    log_prob, value = apply(params, residual, tokens)

    @jax.jit
    def change(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Residuals and tokens of the actions in a random basis."""
        draw = basis.random_basis if ring.modulus == 2 else basis.signed_permutation
        forward = draw(key, shape, ring).forward
        moved = jax.vmap(lambda tensor: basis.transform_tensor(tensor, forward, ring))(residual)
        actions = [
            basis.transform_vectors(each, matrix, ring) for each, matrix in zip(vectors, forward, strict=True)
        ]
        return moved.astype(jnp.int8), codec.encode(*codec.canonical(*actions))

    for seed in range(3):
        moved, changed = change(jax.random.key(seed))
        there, value_there = apply(params, moved, changed)
        assert (np.asarray(moved) != np.asarray(residual)).any()
        assert np.asarray(there) == pytest.approx(np.asarray(log_prob), abs=1e-4)
        assert np.asarray(value_there) == pytest.approx(np.asarray(value), abs=1e-5)
    assert np.ptp(np.asarray(log_prob)) > 1  # the policy tells actions apart


@pytest.mark.parametrize(("shape", "ring", "max_head"), ALL, ids=named)
def test_probabilities_of_all_actions_sum_to_one(
    shape: tuple[int, int, int], ring: Ring, max_head: int
) -> None:
    codec, _, params, residual, _, _ = made(shape, ring, max_head)
    actions = np.indices(codec.layout.num_classes).reshape(3, -1).T
    applied = log_prob_of(shape, ring, max_head)(params, residual[:1], jnp.asarray(actions)[None])
    probability = np.exp(np.asarray(applied[0][0], np.float64))
    assert probability.sum() == pytest.approx(1, abs=1e-4)
    # An illegal action, with a zero vector or a sign that is not canonical, has none.
    u, v, w = (np.asarray(each) for each in codec.decode(jnp.asarray(actions)))
    leading = [np.take_along_axis(each, (each != 0).argmax(-1)[:, None], -1)[:, 0] for each in (u, v)]
    legal = u.any(-1) & v.any(-1) & w.any(-1)
    if ring.modulus == 0:
        legal &= (leading[0] > 0) & (leading[1] > 0)
    assert ((probability > 0) == legal).all()


@pytest.mark.parametrize(("shape", "ring", "max_head"), ALL, ids=named)
def test_draws_tell_their_log_probability(shape: tuple[int, int, int], ring: Ring, max_head: int) -> None:
    _, network, params, residual, _, _ = made(shape, ring, max_head)
    expand: Any = jax.jit(
        lambda params, key, residual: network.apply(params, key, residual, 16, 1.5, method="expand")
    )
    drawn = expand(params, jax.random.key(2), residual)
    told, _ = log_prob_of(shape, ring, max_head)(params, residual, drawn[0].tokens)
    assert np.asarray(drawn[0].log_prob) == pytest.approx(np.asarray(told), abs=1e-4)
    assert len(np.unique(np.asarray(drawn[0].tokens[0]), axis=0)) > 1
