from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matrixrl.schemes.known import known_scheme, laderman, strassen
from matrixrl.schemes.scheme import Format, Ring, Scheme
from matrixrl.schemes.symmetry import (
    change_basis,
    format_images,
    inverse,
    random_basis,
    reorder,
    rotate,
    sparsify,
    transpose,
)
from matrixrl.schemes.verify import verify
from tests.schemes.strategies import correct_schemes

RINGS: list[Ring] = ["Z", "F2"]


@settings(max_examples=40, deadline=None)
@given(scheme=correct_schemes(), ring=st.sampled_from(RINGS), seed=st.integers(0, 2**32 - 1))
def test_every_symmetry_keeps_a_scheme_correct(scheme: Scheme, ring: Ring, seed: int) -> None:
    scheme = scheme if ring == "Z" else scheme.mod2()
    rng = np.random.default_rng(seed)
    moved = change_basis(scheme, *(random_basis(size, rng, ring) for size in scheme.format))
    for image in format_images(moved):
        assert verify(image).ok
        assert image.rank == scheme.rank


@settings(max_examples=30, deadline=None)
@given(scheme=correct_schemes(), seed=st.integers(0, 2**32 - 1))
def test_changes_of_basis_compose_and_undo(scheme: Scheme, seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = ([random_basis(size, rng) for size in scheme.format] for _ in range(2))
    both = [a @ b for a, b in zip(first, second, strict=True)]
    assert change_basis(change_basis(scheme, *first), *second) == change_basis(scheme, *both)
    assert change_basis(change_basis(scheme, *first), *(inverse(basis) for basis in first)) == scheme


def test_rotation_has_order_three_and_transposition_order_two() -> None:
    scheme = known_scheme((2, 3, 4))
    assert rotate(scheme).format == (3, 4, 2)
    assert transpose(scheme).format == (4, 3, 2)
    assert rotate(rotate(rotate(scheme))) == scheme
    assert transpose(transpose(scheme)) == scheme
    for order in permutations((2, 3, 4)):
        assert verify(reorder(scheme, Format(*order))).ok
    with pytest.raises(ValueError, match="not a reordering"):
        reorder(scheme, Format(2, 2, 4))


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 5), ring=st.sampled_from(RINGS), seed=st.integers(0, 2**32 - 1))
def test_inverses_are_exact(size: int, ring: Ring, seed: int) -> None:
    matrix = random_basis(size, np.random.default_rng(seed), ring)
    for product in (matrix @ inverse(matrix, ring), inverse(matrix, ring) @ matrix):
        assert np.array_equal(product if ring == "Z" else product % 2, np.eye(size))


def test_bases_that_are_not_invertible_over_the_ring_are_refused() -> None:
    for matrix in ([[2]], [[1, 1], [1, 1]], [[1, 1], [1, -1]], [[3, 0], [0, 1]]):
        with pytest.raises(ValueError, match="no inverse over Z"):
            inverse(np.array(matrix), "Z")
    assert inverse(np.array([[3]]), "F2").tolist() == [[1]]
    with pytest.raises(ValueError, match="no inverse over F2"):
        inverse(np.array([[1, 1], [1, -1]]), "F2")
    with pytest.raises(ValueError, match="P has shape"):
        change_basis(strassen(), np.eye(3, dtype=int), np.eye(2, dtype=int), np.eye(2, dtype=int))


@pytest.mark.parametrize("ring", [*RINGS, "F3"])
def test_sparsifying_undoes_most_of_a_random_basis(ring: Ring) -> None:
    rng = np.random.default_rng(0)
    scheme = laderman() if ring == "Z" else laderman().modulo(ring)
    bases = [random_basis(3, rng, "F2" if ring == "F2" else "Z") for _ in range(3)]
    dense = change_basis(scheme, *bases)
    sparse, found = sparsify(dense)

    def nonzero(some: Scheme) -> int:
        return sum(int(np.count_nonzero(factor)) for factor in some.factors)

    assert nonzero(sparse) < nonzero(dense)
    assert change_basis(dense, *found) == sparse
    assert verify(sparse).ok


@settings(max_examples=20, deadline=None)
@given(scheme=correct_schemes(), ring=st.sampled_from([*RINGS, "F3"]))
def test_sparsifying_is_the_change_of_basis_that_it_returns(scheme: Scheme, ring: Ring) -> None:
    scheme = scheme if ring == "Z" else scheme.modulo(ring)
    sparse, bases = sparsify(scheme)
    assert change_basis(scheme, *bases) == sparse
    assert sparsify(sparse)[0] == sparse
