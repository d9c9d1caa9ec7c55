"""Exact proof that a scheme multiplies matrices, by multiplying matrices.

Shares nothing with the game: no target tensor is built here. The product is bilinear, so an
algorithm is right for all matrices over all (commutative or not) rings exactly when it is right for
every pair of unit matrices (A_ij = 1, B_kl = 1, all other entries 0). Each pair is run through the
scheme in integers and compared with the true product.

The work is bounded for any scheme that a file can hold: a wrong scheme of a large format is
detected by a random matrix, and only a correct one is checked in full.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from matrixrl.schemes.scheme import Ring, Scheme, format_labels


@dataclass(frozen=True)
class Verification:
    """The outcome of an exact check.

    Attributes:
      ok: the scheme computes C = AB for all matrices over the ring.
      ring: the ring it was checked over.
      num_wrong: number of coefficients A_a*B_b in C_c that were found wrong.
      message: one line; the first wrong coefficient in words, ``A12*B21 in C11: got 2, want 1``.
      counted_all: whether `num_wrong` counts all wrong coefficients. In a large format the check
        stops after the first entry of A that has wrong ones.
    """

    ok: bool
    ring: Ring
    num_wrong: int
    message: str
    counted_all: bool = True

    def __bool__(self) -> bool:
        return self.ok


# Sums of integers below this bound are exact in float64, in any order, and matrix products in
# float64 are fast.
_EXACT = 2**53

# Terms of one modular sum: each is below 2^40, so the sum stays below `_EXACT`.
_CHUNK = 2**13

# Number of multiplications and comparisons of a full check above which a random vector is tried
# first, to detect wrong schemes.
_LARGE = 2 * 10**9

_NUM_PROBES_F2 = 24


def verify(scheme: Scheme, ring: Ring | None = None) -> Verification:
    """Checks a scheme exactly, over its own ring or over F2 (an integer scheme is also read modulo
    2).

    A scheme over F2 cannot be checked over Z: its signs are unknown (`matrixrl.schemes.lift` finds
    them).

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
    fmt = scheme.format
    check = _Check(scheme, over)
    units_of_a = range(fmt.n * fmt.m)
    counted_all = True
    if check.work > _LARGE and (suspect := check.find_wrong_unit()) is not None:
        units_of_a, counted_all = range(suspect, suspect + 1), False

    num_wrong, first = 0, ""
    for a in units_of_a:
        wrong = check.wrong_products(a)
        count = int(np.count_nonzero(wrong))
        if count and not first:
            b, c = (int(index) for index in np.unravel_index(int(np.argmax(wrong)), wrong.shape))
            labels = format_labels(fmt)
            got, want = check.coefficient(a, b, c), check.true_coefficient(a, b, c)
            first = f"{labels[0][a]}*{labels[1][b]} in {labels[2][c]}: got {got}, want {want}"
        num_wrong += count

    where = "over the integers" if over == "Z" else "modulo 2"
    if num_wrong:
        return Verification(False, over, num_wrong, first, counted_all)
    return Verification(True, over, 0, f"{fmt} in {scheme.rank} multiplications, correct {where}")


class _Check:
    """Comparison of a scheme's product with the true one, for one unit matrix of A at a time.

    Over Z, sums that float64 holds exactly are compared directly. Larger ones are compared modulo
    as many primes as their bound needs: a difference below the product of the primes is 0 exactly
    when it is 0 modulo each.
    """

    def __init__(self, scheme: Scheme, over: Ring) -> None:
        self._scheme = scheme
        self._over = over
        n, m, p = scheme.format
        self._shape = (m * p, n * p)
        nonzero = scheme.u != 0
        self._rows = [np.flatnonzero(column) for column in nonzero.T]
        bound = scheme.rank + 1
        for factor in scheme.factors:
            bound *= max(1, int(np.abs(factor).max(initial=1)))
        self._moduli: Sequence[int | None] = (
            [2] if over == "F2" else [None] if bound < _EXACT else _primes(bound)
        )
        sides = m * p * n * p
        self.work = (int(np.count_nonzero(nonzero)) + 8 * n * m) * sides * len(self._moduli)

    def wrong_products(self, a: int) -> np.ndarray:
        """Returns bool [m*p, n*p]: where the product of unit a of A with unit b of B has a wrong
        coefficient c.
        """
        wrong = np.zeros(self._shape, bool)
        for modulus in self._moduli:
            u, v, w = (self._reduced(factor[self._rows[a]], modulus) for factor in self._scheme.factors)
            difference = np.zeros(self._shape)
            for start in range(0, len(u), _CHUNK):
                part = slice(start, start + _CHUNK)
                left = u[part, a, None] * v[part]
                if modulus is not None:
                    left = np.remainder(left, modulus)
                difference += left.T @ w[part]
                if modulus is not None:
                    difference = np.remainder(difference, modulus)
            for b, c in self._true_products(a):
                difference[b, c] -= 1
            if modulus is not None:
                difference = np.remainder(difference, modulus)
            wrong |= difference != 0
        return wrong

    def find_wrong_unit(self) -> int | None:
        """Returns a unit of A whose products with a random matrix are wrong, which proves an error;
        else None.

        All units of A are multiplied with one random B at once. A single wrong coefficient escapes
        with a probability of about 1e-6 over Z, and over F2, with its few vectors, of 2^-24; the
        full check then finds it.
        """
        n, m, p = self._scheme.format
        rng = np.random.default_rng()
        prime = 2 if self._over == "F2" else _primes(1)[0]
        u, v, w = (self._reduced(factor, prime) for factor in self._scheme.factors)
        for _ in range(_NUM_PROBES_F2 if self._over == "F2" else 1):
            b = rng.integers(0, prime, (m, p)).astype(np.float64)
            difference = np.zeros((n * m, n * p))
            for start in range(0, len(u), _CHUNK):
                part = slice(start, start + _CHUNK)
                right = np.remainder(v[part] @ b.ravel(), prime)
                scaled = np.remainder(right[:, None] * w[part], prime)
                difference = np.remainder(difference + u[part].T @ scaled, prime)
            # The product of unit (i, j) of A with B has row j of B in its row i.
            want = np.zeros((n, m, n, p))
            for i in range(n):
                want[i, :, i] = b
            wrong = np.remainder(difference - want.reshape(n * m, n * p), prime) != 0
            if wrong.any():
                return int(np.argmax(wrong.any(axis=1)))
        return None

    def coefficient(self, a: int, b: int, c: int) -> int:
        """Returns the scheme's coefficient of A_a*B_b in C_c, in Python integers."""
        columns = (
            factor[:, side].tolist() for factor, side in zip(self._scheme.factors, (a, b, c), strict=True)
        )
        total = sum(x * y * z for x, y, z in zip(*columns, strict=True))
        return total % 2 if self._over == "F2" else total

    def true_coefficient(self, a: int, b: int, c: int) -> int:
        """Returns the coefficient of A_a*B_b in C_c of the true product: 1 for A_ij * B_jk in C_ik,
        else 0.
        """
        return int((b, c) in self._true_products(a))

    def _true_products(self, a: int) -> list[tuple[int, int]]:
        """Returns the (b, c) with coefficient 1 for unit a = (i, j) of A: B_jk goes to C_ik for
        each k.
        """
        _, m, p = self._scheme.format
        i, j = divmod(a, m)
        return [(j * p + k, i * p + k) for k in range(p)]

    def _reduced(self, factor: np.ndarray, modulus: int | None) -> np.ndarray:
        return (factor if modulus is None else factor % modulus).astype(np.float64)


def _primes(bound: int) -> list[int]:
    """Returns the largest primes below 2^20 whose product exceeds `bound`; at least one."""
    found: list[int] = []
    product, candidate = 1, 2**20
    while not found or product <= bound:
        candidate -= 1
        if all(candidate % divisor for divisor in range(2, 1025)):
            found.append(candidate)
            product *= candidate
    return found
