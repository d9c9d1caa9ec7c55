"""Moves that turn one correct scheme into another: order of the factors of the format, transposition, change of basis.

With the dual of C written transposed the problem is the trilinear form trace(A B D), D = C^T, which does not change
when (A, B, D) are rotated, when the product is transposed (trace(A B D) = trace(B^T A^T D^T)), or when bases change
(A -> P A Q^-1, B -> Q B R^-1, D -> R D P^-1). Index order of u, v, w: `matrixrl.schemes.scheme`; C is not transposed.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np

from matrixrl.schemes.scheme import Format, Scheme


def rotate(scheme: Scheme) -> Scheme:
    """The cyclic symmetry: a scheme for (n, m, p) becomes one for (m, p, n), of the same rank."""
    n, m, p = scheme.format
    u, v, w = scheme.factors
    return replace(scheme, format=Format(m, p, n), u=v, v=_transposed(w, n, p), w=_transposed(u, n, m))


def transpose(scheme: Scheme) -> Scheme:
    """C^T = B^T A^T: a scheme for (n, m, p) becomes one for (p, m, n), of the same rank."""
    n, m, p = scheme.format
    u, v, w = scheme.factors
    return replace(
        scheme,
        format=Format(p, m, n),
        u=_transposed(v, m, p),
        v=_transposed(u, n, m),
        w=_transposed(w, n, p),
    )


def format_images(scheme: Scheme) -> list[Scheme]:
    """The six images of a scheme under rotations and transposition, itself first."""
    turned = [scheme, rotate(scheme), rotate(rotate(scheme))]
    return turned + [transpose(image) for image in turned]


def reorder(scheme: Scheme, target: Format) -> Scheme:
    """The scheme for the same three sizes in another order; raises ValueError if the sizes differ."""
    if target not in set(permutations(scheme.format)):
        raise ValueError(f"{target} is not a reordering of {scheme.format}")
    return next(image for image in format_images(scheme) if image.format == target)


def _transposed(factor: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Each row of `factor`, a flattened rows x columns matrix, transposed and flattened again."""
    return factor.reshape(-1, rows, columns).transpose(0, 2, 1).reshape(len(factor), rows * columns)
