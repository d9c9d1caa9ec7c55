"""Change of basis: another tensor of the same rank, and the exact way back.

A triple of invertible matrices (P, Q, R) acts on a tensor by T'[x, y, z] = sum P[x, a] Q[y, b] R[z,
c] T[a, b, c] and on its terms by u' = P u, v' = Q v, w' = R w. The integer matrices of this module
have determinant +-1 and integer inverses, so that terms map back exactly. Over F2 everything is
modulo 2.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Int32, Integer, PRNGKeyArray

from matrixrl.envs.matmul.tensors import Ring


class Basis(NamedTuple):
    """An invertible matrix per mode with its inverse."""

    forward: tuple[Int32[Array, "*B a a"], Int32[Array, "*B b b"], Int32[Array, "*B c c"]]
    inverse: tuple[Int32[Array, "*B a a"], Int32[Array, "*B b b"], Int32[Array, "*B c c"]]


def identity(shape: tuple[int, int, int]) -> Basis:
    """Returns the standard basis."""
    eyes = tuple(jnp.eye(length, dtype=jnp.int32) for length in shape)
    return Basis(eyes, eyes)  # pyright: ignore[reportArgumentType]


def random_unimodular(
    key: PRNGKeyArray, length: int, ring: Ring, density: float
) -> tuple[Int32[Array, "length length"], Int32[Array, "length length"]]:
    """Samples a signed permutation times unit triangular matrices, and its inverse.

    Over F2 the triangular parts are lower and upper with uniform entries, which with a random
    permutation reaches every invertible matrix. Over the integers the off-diagonal entries are -1,
    0, 1 with `density` non-zero.
    """
    key_order, key_sign, key_lower, key_upper = jax.random.split(key, 4)
    eye = jnp.eye(length, dtype=jnp.int32)
    permutation = eye[jax.random.permutation(key_order, length)]
    if ring.modulus == 2:
        lower = jnp.tril(jax.random.bernoulli(key_lower, 0.5, (length, length)), -1).astype(jnp.int32)
        upper = jnp.triu(jax.random.bernoulli(key_upper, 0.5, (length, length)), 1).astype(jnp.int32)
    else:
        permutation = permutation * jax.random.rademacher(key_sign, (length, 1), jnp.int32)
        entries = jax.random.choice(
            key_lower,
            jnp.array([-1, 0, 1]),
            (2, length, length),
            p=jnp.array([density / 2, 1 - density, density / 2]),
        )
        lower, upper = jnp.tril(entries[0], -1), jnp.triu(entries[1], 1)
    forward = reduce(permutation @ (eye + lower) @ (eye + upper), ring)
    inverse = reduce(_unit_inverse(upper) @ _unit_inverse(lower) @ permutation.T, ring)
    return forward, inverse


def _unit_inverse(nilpotent: Array) -> Array:
    """Inverts I + N for a strictly triangular N: I - N + N^2 - ..., exact in integers."""
    eye = jnp.eye(nilpotent.shape[0], dtype=jnp.int32)
    # Horner's rule in a loop: unrolled, the products of a 25 x 25 matrix take XLA many seconds to
    # compile.
    return jax.lax.fori_loop(1, nilpotent.shape[0], lambda _, total: eye - nilpotent @ total, eye)


def random_basis(key: PRNGKeyArray, shape: tuple[int, int, int], ring: Ring, density: float = 0.1) -> Basis:
    """Samples a random basis of each mode."""
    pairs = [
        random_unimodular(subkey, length, ring, density)
        for subkey, length in zip(jax.random.split(key, 3), shape, strict=True)
    ]
    return Basis(tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs))  # pyright: ignore[reportArgumentType]


def signed_permutation(key: PRNGKeyArray, shape: tuple[int, int, int], ring: Ring) -> Basis:
    """Samples a signed permutation of each mode: keeps ternary factors ternary. Over F2 a
    permutation.
    """
    return random_basis(key, shape, ring, density=0.0) if ring.modulus == 0 else _permutations(key, shape)


def _permutations(key: Array, shape: tuple[int, int, int]) -> Basis:
    forward = tuple(
        jnp.eye(length, dtype=jnp.int32)[jax.random.permutation(subkey, length)]
        for subkey, length in zip(jax.random.split(key, 3), shape, strict=True)
    )
    return Basis(forward, tuple(matrix.T for matrix in forward))  # pyright: ignore[reportArgumentType]


def reduce(values: Integer[Array, "*B"], ring: Ring) -> Integer[Array, "*B"]:
    """Reduces values modulo 2 over F2; unchanged over the integers."""
    return values & 1 if ring.modulus == 2 else values


def transform_tensor(
    tensor: Integer[Array, "a b c"],
    matrices: tuple[Integer[Array, "a a"], Integer[Array, "b b"], Integer[Array, "c c"]],
    ring: Ring,
) -> Int32[Array, "a b c"]:
    """Transforms the tensor to the new basis."""
    p, q, r = matrices
    result = jnp.einsum("xa,abc->xbc", p, tensor.astype(jnp.int32))
    result = jnp.einsum("yb,xbc->xyc", q, result)
    return reduce(jnp.einsum("zc,xyc->xyz", r, result), ring)


def transform_vectors(
    vectors: Integer[Array, "*B a"], matrix: Integer[Array, "a a"], ring: Ring
) -> Int32[Array, "*B a"]:
    """Transforms vectors to the new basis."""
    return reduce(vectors.astype(jnp.int32) @ matrix.T, ring)
