"""Slow, obvious referee of the tensor game, written from docs/matmul_method.md, section 1, in plain
Python.

It shares no code with the game in JAX: tensors are filled by nested loops, ranks come from
schoolbook elimination over the rationals (`fractions.Fraction`) or over F_p. Tests compare the two.
For a tensor T, T[i*m+j, j*p+k, i*p+k] = 1: A (n x m), B (m x p) and C = AB (n x p) are row-major
and C is not transposed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import Integer

Vector = Sequence[int] | np.ndarray
Action = tuple[Vector, Vector, Vector]
Matrix = Sequence[Sequence[int]] | np.ndarray


def target(n: int, m: int, p: int) -> Integer[np.ndarray, "a b c"]:
    """Builds the tensor of (n x m) times (m x p): C[i, k] = sum over j of A[i,
    j] B[j, k].
    """
    tensor = np.zeros((n * m, m * p, n * p), np.int64)
    for i in range(n):
        for j in range(m):
            for k in range(p):
                tensor[i * m + j, j * p + k, i * p + k] = 1
    return tensor


def outer(u: Vector, v: Vector, w: Vector) -> Integer[np.ndarray, "a b c"]:
    """Computes u (x) v (x) w."""
    term = np.zeros((len(u), len(v), len(w)), np.int64)
    for x, y, z in itertools.product(range(len(u)), range(len(v)), range(len(w))):
        term[x, y, z] = int(u[x]) * int(v[y]) * int(w[z])
    return term


def rational_rank(matrix: Matrix) -> int:
    """Computes the rank over Q, by elimination in exact fractions."""
    return _rank([[Fraction(int(entry)) for entry in row] for row in matrix])


def rank_mod(matrix: Matrix, prime: int) -> int:
    """Computes the rank over F_p."""
    return _rank([[_Residue(int(entry) % prime, prime) for entry in row] for row in matrix])


@dataclass(frozen=True)
class _Residue:
    """A number modulo a prime; knows just what elimination needs."""

    value: int
    prime: int

    def __bool__(self) -> bool:
        return self.value != 0

    def __sub__(self, other: _Residue) -> _Residue:
        return _Residue((self.value - other.value) % self.prime, self.prime)

    def __mul__(self, other: _Residue) -> _Residue:
        return _Residue(self.value * other.value % self.prime, self.prime)

    def __truediv__(self, other: _Residue) -> _Residue:
        return _Residue(self.value * pow(other.value, -1, self.prime) % self.prime, self.prime)


def _rank(rows: list[list]) -> int:
    """Counts pivots of Gaussian elimination with row exchanges."""
    rank = 0
    for column in range(len(rows[0]) if rows else 0):
        pivot = next((index for index in range(rank, len(rows)) if rows[index][column]), None)
        if pivot is None:
            continue
        rows[rank], rows[pivot] = rows[pivot], rows[rank]
        for index in range(rank + 1, len(rows)):
            factor = rows[index][column] / rows[rank][column]
            rows[index] = [
                entry - factor * above for entry, above in zip(rows[index], rows[rank], strict=True)
            ]
        rank += 1
    return rank


def slices(tensor: Integer[np.ndarray, "a b c"], mode: int) -> list[Integer[np.ndarray, "rows columns"]]:
    """Returns the matrices that remain when the index of one mode is held fixed."""
    return [np.take(tensor, index, axis=mode) for index in range(tensor.shape[mode])]


def leftover_bound(residual: Integer[np.ndarray, "a b c"], modulus: int) -> int:
    """Computes an upper bound on the rank of the residual: the ranks of all slices of a mode, the
    mode with the least.
    """

    def rank(matrix: np.ndarray) -> int:
        return rank_mod(matrix, 2) if modulus == 2 else rational_rank(matrix)

    return min(sum(rank(matrix) for matrix in slices(residual, mode)) for mode in range(3))


def first_nonzero(vector: Vector) -> int:
    """Returns the first entry that is not zero; 0 for the zero vector."""
    return next((int(entry) for entry in vector if entry), 0)


def canonical(u: Vector, v: Vector, w: Vector, modulus: int = 0) -> tuple[list[int], list[int], list[int]]:
    """Returns the same term with the first non-zero entry of u and of v positive. Over F2 there are
    no signs.
    """
    u, v, w = list(map(int, u)), list(map(int, v)), list(map(int, w))
    if modulus == 2:
        return u, v, w
    if first_nonzero(u) < 0:
        u, w = [-x for x in u], [-z for z in w]
    if first_nonzero(v) < 0:
        v, w = [-y for y in v], [-z for z in w]
    return u, v, w


def is_legal(u: Vector, v: Vector, w: Vector, modulus: int = 0) -> bool:
    """Checks that no vector is zero and that signs are canonical."""
    nonzero = any(u) and any(v) and any(w)
    return nonzero and (modulus == 2 or (first_nonzero(u) > 0 and first_nonzero(v) > 0))


@dataclass
class Game:
    """A game, played move by move.

    Attributes:
      residual: int64 [a, b, c], target minus the terms so far.
      step_limit: maximum number of moves.
      modulus: 2 over F2, 0 over the integers.
      num_factors: number of moves played: the rank of the algorithm when the game is solved.
    """

    residual: np.ndarray
    step_limit: int
    modulus: int
    num_factors: int = 0

    @property
    def solved(self) -> bool:
        """Nothing is left, exactly."""
        return not self.residual.any()

    @property
    def terminated(self) -> bool:
        """Solved, or at the step limit."""
        return self.solved or self.num_factors >= self.step_limit

    def step(self, u: Vector, v: Vector, w: Vector) -> float:
        """Subtracts a term; returns the reward. A finished game is unchanged, with reward 0."""
        if self.terminated:
            return 0.0
        self.residual = self.residual - outer(u, v, w)
        if self.modulus == 2:
            self.residual = self.residual % 2
        self.num_factors += 1
        if self.terminated and not self.solved:
            return -1.0 - leftover_bound(self.residual, self.modulus)
        return -1.0


def nonzero_vectors(prime: int, length: int) -> Iterator[tuple[int, ...]]:
    """Yields all vectors of F_p^length except zero."""
    return (x for x in itertools.product(range(prime), repeat=length) if any(x))


def contract(
    tensor: Integer[np.ndarray, "a b c"], mode: int, x: Vector
) -> Integer[np.ndarray, "rows columns"]:
    """Computes x . T: the sum of the slices of a mode, each times its entry of x."""
    parts = slices(tensor, mode)
    total = np.zeros(parts[0].shape, np.int64)
    for factor, part in zip(x, parts, strict=True):
        total += int(factor) * part
    return total


def rank_profile(tensor: Integer[np.ndarray, "a b c"], prime: int) -> tuple[dict[tuple[int, ...], int], ...]:
    """Computes, for each mode, the rank over F_p of x . T for every non-zero x
    (docs/matmul_method.md, section 9).
    """
    return tuple(
        {x: rank_mod(contract(tensor, mode, x), prime) for x in nonzero_vectors(prime, tensor.shape[mode])}
        for mode in range(3)
    )


def change_basis(
    tensor: Integer[np.ndarray, "a b c"], p: Matrix, q: Matrix, r: Matrix, modulus: int
) -> Integer[np.ndarray, "a b c"]:
    """Computes T'[x, y, z] = sum of P[x, a] Q[y, b] R[z, c] T[a, b, c], entry by entry."""
    p, q, r = (np.asarray(matrix, np.int64) for matrix in (p, q, r))
    changed = np.zeros_like(tensor, dtype=np.int64)
    for a, b, c in np.argwhere(tensor):
        changed += int(tensor[a, b, c]) * outer(p[:, a].tolist(), q[:, b].tolist(), r[:, c].tolist())
    return changed % 2 if modulus == 2 else changed
