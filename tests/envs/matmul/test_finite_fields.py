"""Bit-packed ranks against plain elimination."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from matrixrl.envs.matmul import referee
from matrixrl.envs.matmul.env import LARGE_PRIME, rank_mod_large_prime
from matrixrl.envs.matmul.finite_fields import (
    MAX_UNROLLED_ROWS,
    add_mod3,
    lowest_bit,
    pack_bits,
    rank_mod2,
    rank_mod3,
)

# Written out (up to nine rows) and looped; one word holds up to 32 columns.
SHAPES = [(1, 1), (4, 4), (3, 9), (9, 9), (9, 4), (10, 10), (16, 20), (25, 25), (12, 32)]
CASES = [pytest.param(*shape, marks=[pytest.mark.slow] * (shape == (25, 25))) for shape in SHAPES]


def low_rank(rng: np.random.Generator, rows: int, columns: int, prime: int, count: int) -> np.ndarray:
    """Matrices [count, rows, columns] of every rank: products through a random inner dimension, some sparse."""
    found = []
    for _ in range(count):
        inner = rng.integers(0, min(rows, columns) + 1)
        left, right = rng.integers(0, prime, (rows, inner)), rng.integers(0, prime, (inner, columns))
        matrix = left @ right
        found.append(matrix * (rng.random((rows, columns)) < rng.choice([0.5, 1.0])))
    return np.array(found) % prime


def test_shapes_cover_both_ways_of_elimination() -> None:
    assert min(rows for rows, _ in SHAPES) <= MAX_UNROLLED_ROWS < max(rows for rows, _ in SHAPES)


@pytest.mark.parametrize(("rows", "columns"), CASES)
def test_rank_mod2_equals_plain_elimination(rows: int, columns: int) -> None:
    matrices = low_rank(np.random.default_rng(rows * columns), rows, columns, 2, 40)
    ranks = jax.jit(lambda bits: rank_mod2(pack_bits(bits)))(jnp.asarray(matrices == 1))
    assert ranks.tolist() == [referee.rank_mod(matrix, 2) for matrix in matrices]


@pytest.mark.parametrize(("rows", "columns"), CASES)
def test_rank_mod3_equals_plain_elimination(rows: int, columns: int) -> None:
    matrices = low_rank(np.random.default_rng(rows + columns), rows, columns, 3, 40)
    ranks = jax.jit(lambda ones, twos: rank_mod3(pack_bits(ones), pack_bits(twos)))(
        jnp.asarray(matrices == 1), jnp.asarray(matrices == 2)
    )
    assert ranks.tolist() == [referee.rank_mod(matrix, 3) for matrix in matrices]


def test_rank_mod2_of_every_3x3_matrix() -> None:
    matrices = np.array(list(itertools.product((0, 1), repeat=9))).reshape(-1, 3, 3)
    ranks = jax.jit(lambda bits: rank_mod2(pack_bits(bits)))(jnp.asarray(matrices == 1))
    assert ranks.tolist() == [referee.rank_mod(matrix, 2) for matrix in matrices]


def test_addition_mod3_of_all_pairs() -> None:
    left, right = (np.array(column) for column in zip(*itertools.product(range(3), repeat=2), strict=True))
    ones, twos = add_mod3(
        (pack_bits(jnp.asarray(left == 1)), pack_bits(jnp.asarray(left == 2))),
        (pack_bits(jnp.asarray(right == 1)), pack_bits(jnp.asarray(right == 2))),
    )
    bits = np.arange(9)
    total = (int(ones) >> bits & 1) + 2 * (int(twos) >> bits & 1)
    assert total.tolist() == ((left + right) % 3).tolist()


def test_packing_and_lowest_bit() -> None:
    bits = jnp.array([[False, True, True, False], [False] * 4])
    assert pack_bits(bits).tolist() == [6, 0]
    assert lowest_bit(pack_bits(bits)).tolist() == [2, 0]
    top = jnp.zeros(32, bool).at[31].set(True)
    assert int(pack_bits(top)) == 2**31
    assert int(lowest_bit(pack_bits(top))) == 2**31


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (4, 4), (6, 12), (9, 9)])
def test_integer_rank_equals_the_rank_over_the_rationals(rows: int, columns: int) -> None:
    rng = np.random.default_rng(7)
    matrices = np.array(
        [
            np.clip(
                rng.integers(-2, 3, (rows, inner)) @ rng.integers(-2, 3, (inner, columns)), -127, 127
            ) * (rng.random((rows, columns)) < 0.8)
            for inner in rng.integers(0, min(rows, columns) + 1, 30)
        ]
    )  # fmt: skip
    ranks = jax.jit(rank_mod_large_prime)(jnp.asarray(matrices, jnp.int8))
    assert ranks.tolist() == [referee.rational_rank(matrix) for matrix in matrices]


def test_every_4x4_minor_of_entries_up_to_6_is_below_the_prime() -> None:
    # Hadamard: |det| <= (max entry)^4 * 4^2.
    assert 6**4 * 4**2 < LARGE_PRIME < 7**4 * 4**2
