"""The symmetry group of a scheme: the symmetries of the problem that map it to itself.

The symmetries are those of `matrixrl.schemes.equivalence`: changes of basis (over F2 all of them,
elsewhere signed permutations), with rotations and transposition where sides are equal. Signs that
change no term, such as -1 in two bases at once, count once.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from math import factorial, prod

import numpy as np

from matrixrl.schemes.equivalence import canonical_terms
from matrixrl.schemes.problem import MatrixMultiplication
from matrixrl.schemes.rings import Ring
from matrixrl.schemes.scheme import Format, Scheme
from matrixrl.schemes.symmetry import format_images

MAX_PAIRS = 40_000
"""Largest number of pairs of bases of two sides that are examined: signed permutations of 4x4x4
make 36,864.
"""

MAX_FULL_PAIRS = 2_000
"""The same for all changes of basis over F2, which take longer; permutations are examined beyond.
"""


@dataclass(frozen=True)
class SymmetryGroup:
    """The symmetries that map a scheme to itself.

    Attributes:
      order: number of them; the identity is one.
      of: number of symmetries that were examined.
      kind: what was examined, in words.
    """

    order: int
    of: int
    kind: str

    @property
    def words(self) -> str:
        """``36 of 1,296 (all changes of basis, rotations and transposition)``."""
        return f"{self.order:,} of {self.of:,} ({self.kind})"


def symmetry_group(scheme: Scheme) -> SymmetryGroup | None:
    """Returns the symmetry group of a scheme; None if too many symmetries would have to be
    examined, or the coefficients are not integers, or the scheme does not multiply matrices.
    """
    if not isinstance(scheme.problem, MatrixMultiplication):
        return None
    if not scheme.is_integral or scheme.ring == "F3":
        return None
    fmt = scheme.format
    full = scheme.ring == "F2" and _num_pairs(fmt, full=True) <= MAX_FULL_PAIRS
    if not full and _num_pairs(fmt, full=False) > MAX_PAIRS:
        return None
    turns = sum(image == tuple(fmt) for image in permutations(fmt))
    bases = [_bases(size, scheme.ring, full) for size in fmt]
    wanted = canonical_terms(scheme)
    order = sum(
        _count(canonical_terms(image), wanted, bases)
        for image in format_images(scheme)
        if image.format == fmt
    )
    kind = (
        "all changes of basis" if full else "permutations" if scheme.ring == "F2" else "signed permutations"
    )
    if turns > 1:
        kind += ", rotations and transposition" if turns == 6 else ", transposition or rotations"
    # Signs of whole bases, three of them, change no term.
    return SymmetryGroup(order, turns * prod(len(matrices) for matrices, _ in bases), kind)


def _num_pairs(fmt: Format, full: bool) -> int:
    sizes = sorted(fmt)[1:]
    if full:
        return prod(prod(2**size - 2**k for k in range(size)) for size in sizes)
    return prod(2 ** (size - 1) * factorial(size) for size in sizes)


def _bases(size: int, ring: Ring, full: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns bases of one side and their inverses; of each and its negative one."""
    identity = np.eye(size, dtype=np.int64)
    if full:
        from matrixrl.schemes.equivalence import _bases as all_bases

        return all_bases(size, "F2")
    signs = [np.ones(size, dtype=np.int64)]
    if ring != "F2":
        patterns = np.arange(2 ** (size - 1))[:, None] >> np.arange(size) & 1
        signs = list(1 - 2 * patterns)
    matrices = np.array(
        [identity[list(order)] * sign for order in permutations(range(size)) for sign in signs]
    )
    return matrices, matrices.transpose(0, 2, 1)


def _count(start: Scheme, wanted: Scheme, bases: list[tuple[np.ndarray, np.ndarray]]) -> int:
    """Returns the number of bases (a, b, c) that map the terms of `start` to those of `wanted`.

    A vector is encoded by its scalar product with random weights, and a term by the product of its
    three codes modulo 2^64, on which the signs within the term have no influence. Different terms
    get equal codes with a probability of about 2^-40. Pairs (a, b) that do not map the left factors
    to left factors are left out first, and so on, so that few triples remain.
    """
    (a, a_inv), (b, b_inv), (c, c_inv) = bases
    two = start.ring == "F2"
    n, m, p = start.format
    turned = a_inv.transpose(0, 2, 1), c.transpose(0, 2, 1)
    left = _fitting(start.u.reshape(-1, n, m), wanted.u, a, b_inv, two)
    right = _fitting(start.v.reshape(-1, m, p), wanted.v, b, c_inv, two)
    result = _fitting(start.w.reshape(-1, n, p), wanted.w, *turned, two)
    by_b: dict[int, list[int]] = {}
    for j, k in right:
        by_b.setdefault(j, []).append(k)
    target = np.sort(_code(wanted.u) * _code(wanted.v) * _code(wanted.w))
    found = 0
    for (i, j), codes in left.items():
        chosen = [k for k in by_b.get(j, ()) if (i, k) in result]
        if chosen:
            terms = codes * np.array([right[j, k] * result[i, k] for k in chosen])
            found += int((np.sort(terms, axis=1) == target).all(axis=1).sum())
    return found


def _weights(length: int) -> np.ndarray:
    return np.random.default_rng(length).integers(1, 2**40, length)


def _code(vectors: np.ndarray) -> np.ndarray:
    """Encodes vectors [..., length] of small integers as int64 [...]."""
    return vectors @ _weights(vectors.shape[-1])


def _fitting(
    matrices: np.ndarray, wanted: np.ndarray, lefts: np.ndarray, rights: np.ndarray, two: bool
) -> dict[tuple[int, int], np.ndarray]:
    """Returns the codes of the products left X right for each pair (left, right) with which they
    are, in some order and up to signs, the wanted rows.
    """
    rank, rows, columns = matrices.shape
    flat = np.ascontiguousarray(matrices.reshape(rank, -1).T)
    target = np.sort(np.abs(_code(wanted)))
    weights = _weights(rows * columns)
    fitting = {}
    # Integer products: NumPy computes them without the threads of a BLAS library.
    for index, left in enumerate(lefts):
        if two:
            maps = np.einsum("ij,rkl->riljk", left, rights).reshape(-1, rows * columns)
            images = (maps @ flat & 1).reshape(len(rights), rows * columns, rank)
            codes = np.einsum("e,rek->rk", weights, images)
        else:
            # <weights, left X right> is linear in X, so the image itself is never needed.
            half = left.T @ weights.reshape(rows, columns)
            codes = (half @ rights.transpose(0, 2, 1)).reshape(len(rights), -1) @ flat
        same = (np.sort(np.abs(codes), axis=1) == target).all(axis=1)
        fitting |= {(index, int(other)): codes[other] for other in np.flatnonzero(same)}
    return fitting
