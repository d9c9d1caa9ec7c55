"""Changes of basis of schemes that are rows: sandwiching."""

from __future__ import annotations

import numpy as np

from matrixrl.schemes.problem import MatrixMultiplication
from matrixrl.schemes.symmetry import change_basis, random_basis
from matrixrl.search.flip_graph.rows import WalkRing, canonical, pack, to_scheme

ATTEMPTS = 20
"""Number of random changes of basis over Z that are tried for a ternary result."""


def random_image(
    rows: np.ndarray, problem: MatrixMultiplication, ring: WalkRing, rng: np.random.Generator
) -> np.ndarray:
    """Returns a scheme in another random basis: (P A Q^-1)(Q B R^-1) instead of A B.

    Over F2 the bases are uniform. Over Z each is a signed permutation and a shear, and a result
    that is not ternary is tried again; the scheme itself is returned after 20 failures.
    """
    scheme = to_scheme(rows, problem, ring)
    for _ in range(ATTEMPTS):
        if ring == "F2":
            bases = [random_basis(size, rng, "F2") for size in problem.format]
        else:
            bases = [_short_basis(size, rng) for size in problem.format]
        image = change_basis(scheme, *bases)
        if image.is_ternary:
            return canonical(pack(image.factors, ring, rows.shape[2]), ring)
    return rows


def _short_basis(size: int, rng: np.random.Generator) -> np.ndarray:
    """Returns a random signed permutation, in half of the cases with one row added to another."""
    matrix = np.eye(size, dtype=np.int64)[rng.permutation(size)] * rng.choice((-1, 1), size)
    if size > 1 and rng.random() < 0.5:
        row, other = rng.choice(size, 2, replace=False)
        matrix[row] += rng.choice((-1, 1)) * matrix[other]
    return matrix
