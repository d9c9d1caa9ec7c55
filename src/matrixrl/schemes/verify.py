"""Exact proof that a scheme multiplies matrices, by multiplying matrices.

Shares nothing with the game: no target tensor is built here. The product is bilinear, so an algorithm is right for
all matrices over all (commutative or not) rings exactly when it is right for every pair of unit matrices
(A_ij = 1, B_kl = 1, all else 0). Each pair is run through the scheme in integers and compared with the true product.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from matrixrl.schemes.scheme import Ring, Scheme, format_labels


@dataclass(frozen=True)
class Verification:
    """The outcome of an exact check.

    Attributes:
      ok: the scheme computes C = AB for all matrices over the ring.
      ring: the ring it was checked over.
      num_wrong: how many coefficients A_a*B_b in C_c are wrong.
      message: one line; the first wrong coefficient in words, ``A12*B21 in C11: got 2, want 1``.
    """

    ok: bool
    ring: Ring
    num_wrong: int
    message: str

    def __bool__(self) -> bool:
        return self.ok


def verify(scheme: Scheme, ring: Ring | None = None) -> Verification:
    """Check a scheme exactly, over its own ring or over F2 (an integer scheme is also read modulo 2).

    A scheme over F2 cannot be checked over Z: its signs are unknown (`matrixrl.schemes.lift` finds them).

    Args:
      scheme: the algorithm.
      ring: the ring to check over; None is the scheme's own.

    Returns:
      The verdict; true in a condition when the scheme is right.

    Raises:
      ValueError: for an F2 scheme and ring ``"Z"``.
    """
    over: Ring = ring or scheme.ring
    if over == "Z" and scheme.ring == "F2":
        raise ValueError("a scheme over F2 has no signs to check over Z; lift it first")
    n, m, p = scheme.format
    u, v, w = (factor % 2 if over == "F2" else factor for factor in scheme.factors)
    if _may_overflow(u, v, w):
        u, v, w = (factor.astype(object) for factor in (u, v, w))  # Python integers have no bound

    units_of_b = np.eye(m * p, dtype=np.int64).reshape(m * p, m, p)
    num_wrong, first = 0, ""
    for a in range(n * m):
        unit_of_a = np.zeros((n, m), dtype=np.int64)
        unit_of_a.flat[a] = 1
        want = (unit_of_a @ units_of_b).reshape(m * p, n * p)  # [b, c]: the true product of the units a and b
        got = (u[:, a, None] * v).T @ w  # [b, c]: the algorithm on the same two matrices
        if over == "F2":
            got = got % 2
        wrong = np.argwhere(got != want)
        if len(wrong) and not first:
            b, c = (int(index) for index in wrong[0])
            labels = format_labels(scheme.format)
            first = f"{labels[0][a]}*{labels[1][b]} in {labels[2][c]}: got {got[b, c]}, want {want[b, c]}"
        num_wrong += len(wrong)

    where = "over the integers" if over == "Z" else "modulo 2"
    if num_wrong:
        return Verification(False, over, num_wrong, first)
    return Verification(True, over, 0, f"{scheme.format} in {scheme.rank} multiplications, correct {where}")


def _may_overflow(u: np.ndarray, v: np.ndarray, w: np.ndarray) -> bool:
    """Whether a sum over products of three coefficients could leave int64."""
    bound = len(u)
    for factor in (u, v, w):
        bound *= int(np.abs(factor).max(initial=1))
    return bound >= 2**63
