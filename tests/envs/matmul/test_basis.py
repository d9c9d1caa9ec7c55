"""Changes of basis: exact inverses, and terms that map back."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from matrixrl.envs.matmul import basis, referee
from matrixrl.envs.matmul.tensors import F2, TERNARY, Ring, matmul_tensor, standard_factors

RINGS = pytest.mark.parametrize("ring", [F2, TERNARY], ids=["F2", "Z"])
SIZE = (2, 2, 3)
SHAPE = (4, 6, 6)


@RINGS
@pytest.mark.parametrize("length", [4, 25])
def test_inverse_is_exact_and_the_determinant_is_one_or_minus_one(ring: Ring, length: int) -> None:
    make = jax.jit(jax.vmap(lambda key: basis.random_unimodular(key, length, ring, density=0.1)))
    forward, inverse = (np.asarray(part) for part in make(jax.random.split(jax.random.key(length), 16)))
    product = np.einsum("nij,njk->nik", forward.astype(np.int64), inverse.astype(np.int64))
    eye = np.eye(length, dtype=np.int64)
    if ring.modulus == 2:
        assert (product % 2 == eye).all()
        assert all(referee.rank_mod(matrix, 2) == length for matrix in forward[:4])
        assert set(np.unique(forward)) <= {0, 1}
        assert set(np.unique(inverse)) <= {0, 1}
    else:
        assert (product == eye).all()  # integer matrices with an integer inverse: determinant +-1
        assert np.allclose(np.abs(np.linalg.det(forward[:4].astype(float))), 1.0)
    assert len({matrix.tobytes() for matrix in forward}) > 8


def test_f2_bases_reach_all_six_invertible_2x2_matrices_about_equally_often() -> None:
    make = jax.jit(jax.vmap(lambda key: basis.random_unimodular(key, 2, F2, density=0.1)[0]))
    matrices = np.asarray(make(jax.random.split(jax.random.key(0), 3000)))
    counts = np.unique(matrices.reshape(-1, 4), axis=0, return_counts=True)[1]
    assert len(counts) == 6
    assert counts.min() > 200  # identity and exchange have probability 1/8, the others more


@RINGS
def test_a_solution_maps_to_the_changed_target_and_back(ring: Ring) -> None:
    make = jax.jit(partial(basis.random_basis, shape=SHAPE, ring=ring, density=0.3))
    transform = jax.jit(partial(basis.transform_tensor, ring=ring))
    for seed in range(4):
        there = make(jax.random.key(seed))
        target = jnp.asarray(matmul_tensor(SIZE))
        changed = np.asarray(transform(target, there.forward))
        p, q, r = map(np.asarray, there.forward)
        assert (changed == referee.change_basis(referee.target(*SIZE), p, q, r, ring.modulus)).all()
        factors = standard_factors(SIZE)
        moved = [
            np.asarray(basis.transform_vectors(jnp.asarray(vectors), matrix, ring))
            for vectors, matrix in zip(factors, there.forward, strict=True)
        ]
        total = np.sum([referee.outer(*term) for term in zip(*moved, strict=True)], axis=0)
        assert ((total - changed) % 2 == 0).all() if ring.modulus == 2 else (total == changed).all()
        back = [
            np.asarray(basis.transform_vectors(jnp.asarray(vectors), matrix, ring))
            for vectors, matrix in zip(moved, there.inverse, strict=True)
        ]
        assert all((start == end).all() for start, end in zip(factors, back, strict=True))
        assert (np.asarray(transform(jnp.asarray(changed, jnp.int8), there.inverse)) == target).all()


@RINGS
def test_signed_permutations_keep_ternary_factors_ternary(ring: Ring) -> None:
    make = jax.jit(partial(basis.signed_permutation, shape=SHAPE, ring=ring))
    signs = set()
    for seed in range(6):
        there = make(jax.random.key(seed))
        for forward, inverse in zip(there.forward, there.inverse, strict=True):
            forward, inverse = np.asarray(forward), np.asarray(inverse)
            assert (np.abs(forward).sum(0) == 1).all()
            assert (np.abs(forward).sum(1) == 1).all()
            assert (inverse == forward.T).all()
            signs |= set(np.unique(forward))
        vectors = np.random.default_rng(seed).choice(ring.values, (10, SHAPE[0]))
        moved = np.asarray(basis.transform_vectors(jnp.asarray(vectors), there.forward[0], ring))
        assert set(np.unique(moved)) <= set(ring.values.tolist())
    assert signs == ({0, 1} if ring.modulus == 2 else {-1, 0, 1})


@RINGS
def test_the_standard_basis_changes_nothing(ring: Ring) -> None:
    standard = basis.identity(SHAPE)
    target = jnp.asarray(matmul_tensor(SIZE))
    assert (basis.transform_tensor(target, standard.forward, ring) == target).all()
