"""Moves that turn one correct scheme into another: order of the factors of the format,
transposition, change of basis.

With the dual of C written transposed the problem is the trilinear form trace(A B D), D = C^T, which
does not change when (A, B, D) are rotated, when the product is transposed (trace(A B D) = trace(B^T
A^T D^T)), or when bases change (A -> P A Q^-1, B -> Q B R^-1, D -> R D P^-1). Index order of u, v,
w: `matrixrl.schemes.scheme`; C is not transposed.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np

from matrixrl.schemes.problem import MatrixMultiplication
from matrixrl.schemes.rings import MODULUS
from matrixrl.schemes.scheme import Format, Ring, Scheme

Bases = tuple[np.ndarray, np.ndarray, np.ndarray]


def rotate(scheme: Scheme) -> Scheme:
    """Applies the cyclic symmetry: a scheme for (n, m, p) becomes one for (m, p, n), of the same
    rank.
    """
    n, m, p = scheme.format
    u, v, w = scheme.factors
    return replace(
        scheme,
        problem=MatrixMultiplication(Format(m, p, n)),
        u=v,
        v=_transposed(w, n, p),
        w=_transposed(u, n, m),
    )


def transpose(scheme: Scheme) -> Scheme:
    """Applies C^T = B^T A^T: a scheme for (n, m, p) becomes one for (p, m, n), of the same rank."""
    n, m, p = scheme.format
    u, v, w = scheme.factors
    return replace(
        scheme,
        problem=MatrixMultiplication(Format(p, m, n)),
        u=_transposed(v, m, p),
        v=_transposed(u, n, m),
        w=_transposed(w, n, p),
    )


def format_images(scheme: Scheme) -> list[Scheme]:
    """Returns the six images of a scheme under rotations and transposition, itself first."""
    turned = [scheme, rotate(scheme), rotate(rotate(scheme))]
    return turned + [transpose(image) for image in turned]


def reorder(scheme: Scheme, target: Format) -> Scheme:
    """Reorders a scheme to the same three sizes in another order; raises ValueError if the sizes
    differ.
    """
    if target not in set(permutations(scheme.format)):
        raise ValueError(f"{target} is not a reordering of {scheme.format}")
    return next(image for image in format_images(scheme) if image.format == target)


def change_basis(scheme: Scheme, P: np.ndarray, Q: np.ndarray, R: np.ndarray) -> Scheme:
    """Returns the scheme that computes AB as P^-1 [(P A Q^-1)(Q B R^-1)] R with the original
    products inside.

    Args:
      scheme: for (n, m, p).
      P: integer [n, n], Q: [m, m], R: [p, p]; the determinant is 1 or -1, over F2 odd.

    Raises:
      ValueError: if a matrix has another shape or is not invertible over the ring.
    """
    bases = [np.asarray(basis, dtype=np.int64) for basis in (P, Q, R)]
    for name, basis, size in zip("PQR", bases, scheme.format, strict=True):
        if basis.shape != (size, size):
            raise ValueError(f"{name} has shape {basis.shape}, want {(size, size)}")
    P, Q, R = bases
    P_inv, Q_inv, R_inv = (inverse(basis, scheme.ring) for basis in bases)
    # <u, P A Q^-1> = <P^T u Q^-T, A>, and the result is multiplied back
    factors = [
        _sandwiched(scheme.u, P.T, Q_inv.T),
        _sandwiched(scheme.v, Q.T, R_inv.T),
        _sandwiched(scheme.w, P_inv, R),
    ]
    if scheme.ring in MODULUS:
        factors = [factor % MODULUS[scheme.ring] for factor in factors]
    u, v, w = factors
    return replace(scheme, u=u, v=v, w=w)


def sparsify(scheme: Scheme) -> tuple[Scheme, Bases]:
    """Changes bases, one row operation at a time, while that reduces the number of non-zero
    coefficients.

    Returns:
      The sparser scheme, and integer bases (P, Q, R) of determinant 1 with `change_basis(scheme, P,
      Q, R)` equal to it (over F2 and F3: their reductions).
    """
    n, m, p = scheme.format
    shapes = ((n, m), (m, p), (n, p))
    u, v, w = (
        factor.reshape(-1, *shape).copy() for factor, shape in zip(scheme.factors, shapes, strict=True)
    )
    # The shear (row, column, sign) of a side adds slice `row` of one factor to slice `column`, and
    # subtracts slice `column` of the other one from slice `row`.
    added = (u.transpose(1, 0, 2), v.transpose(1, 0, 2), w.transpose(2, 0, 1))
    subtracted = (w.transpose(1, 0, 2), u.transpose(2, 0, 1), v.transpose(2, 0, 1))
    modulus = MODULUS.get(scheme.ring)
    signs = (1,) if modulus == 2 else (1, -1)
    bases = [np.eye(size, dtype=np.int64) for size in scheme.format]
    while True:
        best, shear = 0, (0, 0, 0, 0)
        for side, size in enumerate(scheme.format):
            for sign in signs:
                table = _gains(added[side], subtracted[side], sign, modulus)
                place = int(np.argmax(table))
                if table.flat[place] > best:
                    best, shear = int(table.flat[place]), (side, *divmod(place, size), sign)
        if best == 0:
            break
        side, row, column, sign = shear
        added[side][column] += sign * added[side][row]
        subtracted[side][row] -= sign * subtracted[side][column]
        if modulus:
            added[side][column] = _balanced(added[side][column], modulus)
            subtracted[side][row] = _balanced(subtracted[side][row], modulus)
        bases[side][:, column] += sign * bases[side][:, row]
    u, v, w = (factor.reshape(scheme.rank, -1) for factor in (u, v, w))
    return replace(scheme, u=u, v=v, w=w), (bases[0], bases[1], bases[2])


def _gains(added: np.ndarray, subtracted: np.ndarray, sign: int, modulus: int | None) -> np.ndarray:
    """Returns by how much each shear reduces the number of non-zero coefficients: [size, size] by
    row and column; zero on the diagonal.
    """

    def reductions(slices: np.ndarray, factor: int) -> np.ndarray:
        """Counts the non-zero coefficients of slice `column` less those after `row` is added."""
        sums = slices[None, :] + factor * slices[:, None]
        if modulus:
            sums = sums % modulus
        return np.count_nonzero(slices, axis=(1, 2))[None, :] - np.count_nonzero(sums, axis=(2, 3))

    gains = reductions(added, sign) + reductions(subtracted, -sign).T
    np.fill_diagonal(gains, 0)
    return gains


def _balanced(values: np.ndarray, modulus: int) -> np.ndarray:
    """Returns values modulo 2 in 0 and 1, modulo 3 in -1, 0 and 1."""
    return values % 2 if modulus == 2 else (values + 1) % 3 - 1


def inverse(matrix: np.ndarray, ring: Ring = "Z") -> np.ndarray:
    """Inverts a square integer matrix exactly, over F2 or with integer entries (Gauss and Jordan
    with integer row operations).

    Raises:
      ValueError: if there is no such inverse: the determinant must be 1 or -1, over F2 odd.
    """
    size = len(matrix)
    rows = np.concatenate((np.asarray(matrix), np.eye(size, dtype=np.int64)), axis=1).astype(object)
    if ring == "F2":
        rows %= 2
    for column in range(size):
        while True:  # Euclid's algorithm among the rows below, until one entry is left
            below = [row for row in range(column, size) if rows[row, column] != 0]
            if not below:
                raise ValueError(f"the matrix has no inverse over {ring}")
            pivot = min(below, key=lambda row: abs(rows[row, column]))
            rows[[column, pivot]] = rows[[pivot, column]]
            for row in range(column + 1, size):
                rows[row] -= rows[row, column] // rows[column, column] * rows[column]
            if not rows[column + 1 :, column].any():
                break
        if abs(rows[column, column]) != 1:
            raise ValueError(f"the matrix has no inverse over {ring}")
        rows[column] *= rows[column, column]
        for row in range(size):
            if row != column:
                rows[row] -= rows[row, column] * rows[column]
        if ring == "F2":
            rows %= 2
    return rows[:, size:].astype(np.int64)


def random_basis(size: int, rng: np.random.Generator, ring: Ring = "Z") -> np.ndarray:
    """Returns a random matrix that is invertible over the ring: uniform over F2, a short product of
    shears over Z.
    """
    if ring == "F2":
        while True:
            matrix = rng.integers(0, 2, (size, size))
            if round(np.linalg.det(matrix)) % 2:
                return matrix
    matrix = np.eye(size, dtype=np.int64)[rng.permutation(size)] * rng.choice((-1, 1), size)
    for _ in range(size if size > 1 else 0):
        row, other = rng.choice(size, 2, replace=False)
        matrix[row] += rng.choice((-1, 1)) * matrix[other]
    return matrix


def _sandwiched(factor: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Computes left X right for each row of `factor`, a flattened matrix X."""
    return (left @ factor.reshape(-1, len(left), len(right)) @ right).reshape(len(factor), -1)


def _transposed(factor: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Transposes each row of `factor`, a flattened rows x columns matrix, and flattens it again."""
    return factor.reshape(-1, rows, columns).transpose(0, 2, 1).reshape(len(factor), rows * columns)
