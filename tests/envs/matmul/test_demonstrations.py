"""Demonstrations: the terms sum to the residual, and every one is a right next action."""

from __future__ import annotations

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from matrixrl.envs.matmul import referee
from matrixrl.envs.matmul.demonstrations import Demonstration, from_factors, random_vectors, synthetic
from matrixrl.envs.matmul.factors import ActionCodec
from matrixrl.envs.matmul.tensors import F2, QUINARY, TERNARY, standard_factors
from matrixrl.schemes.known import known_scheme
from tests.jitted import jitted

CODECS = [ActionCodec((4, 4, 4), F2), ActionCodec((3, 5, 2), QUINARY, max_classes=25)]
COUNT = 400


def named(codec: ActionCodec) -> str:
    return f"{'x'.join(map(str, codec.shape))}-{codec.ring.name}{codec.ring.max_coefficient}"


def assert_right(codec: ActionCodec, residual: np.ndarray, tokens: np.ndarray, num_factors: int) -> None:
    u, v, w = (np.asarray(part) for part in jitted(codec.decode)(tokens))
    terms = list(zip(u, v, w, strict=True))
    assert all(referee.is_legal(*term, codec.ring.modulus) for term in terms)
    total = sum((referee.outer(*term) for term in terms[:num_factors]), np.zeros(codec.shape, np.int64))
    assert (residual == (total % 2 if codec.ring.modulus == 2 else total)).all()


@pytest.mark.parametrize("codec", CODECS, ids=named)
def test_synthetic_terms_sum_to_the_residual_and_their_number_is_uniform(codec: ActionCodec) -> None:
    make = jax.jit(
        jax.vmap(
            partial(synthetic, codec=codec, min_factors=2, max_factors=5, min_density=0.3, max_density=0.8)
        )
    )
    shown = Demonstration(*(np.asarray(part) for part in make(jax.random.split(jax.random.key(0), COUNT))))  # pyright: ignore[reportArgumentType]
    for index in range(40):
        assert_right(codec, shown.residual[index], shown.tokens[index], int(shown.num_factors[index]))  # pyright: ignore[reportArgumentType]
    numbers, counts = np.unique(shown.num_factors, return_counts=True)
    assert numbers.tolist() == [2, 3, 4, 5]
    # Four equal shares of 400: six standard deviations of 8.7 each way.
    assert abs(counts - COUNT / 4).max() < 52
    assert shown.residual.dtype == np.int8


@pytest.mark.parametrize("codec", CODECS, ids=named)
def test_random_vectors_are_never_zero_and_as_dense_as_asked(codec: ActionCodec) -> None:
    make = jax.jit(partial(random_vectors, codec=codec, length=6, count=2000))
    for density in (0.0, 0.5, 1.0):
        vectors = np.asarray(make(jax.random.key(1), density=jnp.float32(density)))
        assert (vectors != 0).any(axis=1).all()
        share = (vectors != 0).mean()
        # A vector that came out zero got one entry.
        assert share == pytest.approx(density + (1 - density) ** 6 / 6, abs=0.02)
        assert set(np.unique(vectors)) <= set(codec.ring.values.tolist())
    values, counts = np.unique(vectors, return_counts=True)  # density 1: all values but zero, equally often
    assert values.tolist() == sorted(codec.ring.values[1:].tolist())
    assert counts.min() > 0.9 * counts.max()


def test_dense_demonstrations_of_many_terms_never_wrap() -> None:
    """Entries beyond int8 stop at its ends: with coefficients up to 2 a sum of 125 terms gets there."""
    codec = ActionCodec((2, 2, 2), QUINARY)
    make = partial(synthetic, codec=codec, min_factors=256, max_factors=256, min_density=1.0, max_density=1.0)
    shown = jax.jit(jax.vmap(make))(jax.random.split(jax.random.key(0), 20))
    beyond = 0
    for residual, tokens in zip(np.asarray(shown.residual), np.asarray(shown.tokens), strict=True):
        u, v, w = (np.asarray(part, np.int64) for part in jitted(codec.decode)(tokens))
        total = np.einsum("ra,rb,rc->abc", u, v, w)
        beyond += (abs(total) > 127).sum()
        assert (residual == np.clip(total, -127, 127)).all()
    assert beyond > 0


@pytest.mark.parametrize("ring", [F2, TERNARY], ids=["F2", "Z"])
def test_positions_of_a_scheme_are_random_subsets_of_its_terms(ring) -> None:
    codec = ActionCodec((4, 4, 4), ring)
    u, v, w = standard_factors((2, 2, 2))
    make = jax.jit(jax.vmap(lambda key: from_factors(key, codec, u, v, w)))
    shown = make(jax.random.split(jax.random.key(0), COUNT))
    numbers, counts = np.unique(np.asarray(shown.num_factors), return_counts=True)
    assert numbers.tolist() == list(range(1, 9))
    assert abs(counts - COUNT / 8).max() < 40  # six standard deviations of 6.6
    for index in range(20):
        assert_right(codec, np.asarray(shown.residual[index]), np.asarray(shown.tokens[index]), int(shown.num_factors[index]))  # fmt: skip
    first = np.asarray(shown.tokens[:, 0])
    assert len(np.unique(first, axis=0)) == 8  # any term may come first


SUPPORTED = [
    size for size in itertools.combinations_with_replacement(range(2, 6), 3) if size[1] * size[2] <= 25
]


@pytest.mark.parametrize("size", SUPPORTED, ids=str)
def test_known_schemes_can_be_spelled_in_ternary_actions(size: tuple[int, int, int]) -> None:
    assert known_scheme(size).is_ternary


def test_a_position_of_strassens_scheme_is_right() -> None:
    scheme = known_scheme((2, 2, 2))
    codec = ActionCodec((4, 4, 4), TERNARY)
    shown = jax.jit(lambda key: from_factors(key, codec, *scheme.factors))(jax.random.key(1))
    assert shown.tokens.shape == (7, codec.layout.num_tokens)
    assert_right(codec, np.asarray(shown.residual), np.asarray(shown.tokens), int(shown.num_factors))


@pytest.mark.parametrize("codec", [ActionCodec((4, 6, 6), F2, whole_vectors=True), ActionCodec((4, 4, 4), TERNARY, whole_vectors=True)], ids=named)  # fmt: skip
def test_demonstrations_of_a_smaller_format_stay_within_it(codec: ActionCodec) -> None:
    used, most = (2, 4, 3), 4
    make = jax.jit(
        jax.vmap(
            lambda key: synthetic(
                key, codec, min_factors=1, max_factors=9, min_density=0.5, max_density=0.5,
                used=tuple(map(jnp.int32, used)), most=jnp.int32(most),  # pyright: ignore[reportArgumentType]
            )
        )
    )(jax.random.split(jax.random.key(0), 200))  # fmt: skip
    shown = Demonstration(*(np.asarray(part) for part in make))  # pyright: ignore[reportArgumentType]
    assert set(np.asarray(shown.num_factors).tolist()) == {1, 2, 3, 4}
    outside = np.ones(codec.shape, bool)
    outside[: used[0], : used[1], : used[2]] = False
    assert not np.asarray(shown.residual)[:, outside].any()
    for index in range(20):
        assert_right(codec, shown.residual[index], shown.tokens[index], int(shown.num_factors[index]))  # pyright: ignore[reportArgumentType]
