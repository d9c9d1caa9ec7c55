"""The target: index order, and what it multiplies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrixrl.envs.matmul import referee
from matrixrl.envs.matmul.tensors import F2, QUINARY, TERNARY, matmul_tensor, ring, standard_factors

sides = st.integers(1, 5)
FORMATS = [(2, 2, 2), (1, 2, 3), (2, 3, 4), (4, 3, 2), (3, 3, 3), (5, 5, 5), (1, 1, 1)]


@given(n=sides, m=sides, p=sides, seed=st.integers(0, 2**32 - 1))
def test_contracting_the_tensor_with_two_matrices_multiplies_them(n: int, m: int, p: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(-9, 10, (n, m)), rng.integers(-9, 10, (m, p))
    product = np.einsum("abc,a,b->c", matmul_tensor((n, m, p)).astype(np.int64), a.ravel(), b.ravel())
    assert (product.reshape(n, p) == a @ b).all()


def test_c_is_not_transposed() -> None:
    # A11 B12 belongs to C12, entry 1 of the row-major C; in a transposed C it would be entry 2.
    tensor = matmul_tensor((2, 2, 2))
    assert tensor[0, 1, 1] == 1
    assert tensor[0, 1, 2] == 0


@pytest.mark.parametrize("size", FORMATS)
def test_target_equals_the_referees(size: tuple[int, int, int]) -> None:
    assert (matmul_tensor(size) == referee.target(*size)).all()
    assert matmul_tensor(size).dtype == np.int8


@pytest.mark.parametrize("size", FORMATS)
def test_standard_factors_sum_to_the_target(size: tuple[int, int, int]) -> None:
    u, v, w = standard_factors(size)
    n, m, p = size
    assert u.shape == (n * m * p, n * m)
    assert v.shape == (n * m * p, m * p)
    assert w.shape == (n * m * p, n * p)
    total = np.sum([referee.outer(*term) for term in zip(u, v, w, strict=True)], axis=0)
    assert (total == referee.target(*size)).all()


def test_padding_adds_zeros_only() -> None:
    padded = matmul_tensor((2, 1, 2), (4, 3, 5))
    assert padded.shape == (4, 3, 5)
    assert (padded[:2, :2, :4] == referee.target(2, 1, 2)).all()
    assert padded.sum() == 4


def test_digits_of_a_ring_are_its_values_modulo_the_base() -> None:
    assert F2.values.tolist() == [0, 1]
    assert TERNARY.values.tolist() == [0, 1, -1]
    assert QUINARY.values.tolist() == [0, 1, 2, -2, -1]
    assert ring("F2") == F2
    assert ring("Z", 2) == QUINARY
    assert [found.name for found in (F2, TERNARY, QUINARY)] == ["F2", "Z", "Z"]
    assert (F2.primes, TERNARY.primes) == ((2,), (2, 3))
