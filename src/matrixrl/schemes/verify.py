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
from typing import NamedTuple

import numpy as np

from matrixrl.schemes.rings import CHAIN, IN_WORDS, MODULUS, RINGS, Number, contains, modulo, simplify
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

# Random vectors of a probe, by ring; each finds an error with probability 1/2 over F2 and 2/3 over
# F3.
_NUM_PROBES = {"F2": 24, "F3": 16}


def verify(scheme: Scheme, ring: Ring | None = None) -> Verification:
    """Checks a scheme exactly, over its own ring or over another one.

    A scheme of characteristic 0 can be checked over every ring. A scheme over F2 or F3 can only be
    checked there: its coefficients are not known elsewhere (`matrixrl.schemes.lift` finds them).

    Args:
      scheme: the algorithm.
      ring: the ring to check over; None is the scheme's own.

    Returns:
      The verdict; true in a condition when the scheme is right. Over a ring that lacks one of the
      coefficients the scheme is wrong.

    Raises:
      ValueError: for an F2 or F3 scheme and another ring.
    """
    over: Ring = ring or scheme.ring
    if scheme.ring in MODULUS and over != scheme.ring:
        raise ValueError(f"a scheme over {scheme.ring} has no signs to check over {over}; lift it first")
    missing = next((value for value in scheme.numbers() if not contains(over, value)), None)
    if missing is not None:
        lacks = f"has no value modulo {MODULUS[over]}" if over in MODULUS else f"is not in {over}"
        return Verification(False, over, 1, f"the coefficient {missing} {lacks}", counted_all=False)
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

    where = IN_WORDS[over]
    if num_wrong:
        return Verification(False, over, num_wrong, first, counted_all)
    return Verification(True, over, 0, f"{fmt} in {scheme.rank} multiplications, correct {where}")


def is_plausible(scheme: Scheme, ring: Ring | None = None) -> bool:
    """Returns false if random vectors prove a scheme wrong; a quick test before the proof.

    A wrong scheme passes with a probability of about 1e-6.

    Args:
      scheme: the algorithm.
      ring: the ring to check over; None is the scheme's own.
    """
    over = ring or scheme.ring
    if scheme.ring in MODULUS and over != scheme.ring:
        return False
    if not all(contains(over, value) for value in scheme.numbers()):
        return False
    return _Check(scheme, over).find_wrong_unit() is None


def rings_of(scheme: Scheme) -> tuple[Ring, ...]:
    """Returns every ring in which a scheme holds, proved exactly.

    One that holds in characteristic 0 holds in each ring that has its coefficients; one that does
    not may still hold modulo 2 or 3. For a scheme over F2 or F3 only that ring is examined.
    """
    if scheme.ring in MODULUS:
        return (scheme.ring,) if verify(scheme) else ()
    values = list(scheme.numbers())
    smallest: Ring = next(ring for ring in CHAIN if all(contains(ring, value) for value in values))
    if verify(scheme, smallest):
        return tuple(ring for ring in RINGS if all(contains(ring, value) for value in values))
    return finite_rings_of(scheme)


def finite_rings_of(scheme: Scheme) -> tuple[Ring, ...]:
    """Returns those of F2 and F3 in which a scheme of characteristic 0 holds, proved exactly."""
    finite: tuple[Ring, ...] = ("F2", "F3")
    return tuple(ring for ring in finite if is_plausible(scheme, ring) and verify(scheme, ring))


class _Check:
    """Comparison of a scheme's product with the true one, for one unit matrix of A at a time.

    Fractions are scaled to integers, which scales the true product by the same number. Sums that
    float64 holds exactly are compared directly. Larger ones are compared modulo as many primes as
    their bound needs: a difference below the product of the primes is 0 exactly when it is 0 modulo
    each. Complex numbers are compared modulo primes p with a root of -1: x + yi is 0 modulo p when
    x + y*root is 0 for both roots.
    """

    def __init__(self, scheme: Scheme, over: Ring) -> None:
        self._scheme = scheme
        self._over = over
        n, m, p = scheme.format
        self._shape = (m * p, n * p)
        nonzero = scheme.u != 0
        self._rows = [np.flatnonzero(column) for column in nonzero.T]
        if over in MODULUS:
            self._factors, self._scale = [(factor,) for factor in scheme.modulo(over).factors], 1
            self._moduli: Sequence[_Modulus | None] = [_Modulus(MODULUS[over])]
        else:
            self._factors, self._scale = scheme.scaled_factors()
            bound = scheme.rank + 1
            for factor in self._factors:
                bound *= max(1, sum(int(np.abs(part).max(initial=1)) for part in factor))
            bound += self._scale
            if any(len(factor) == 2 for factor in self._factors):
                primes = _primes(bound, with_root=True)
                self._moduli = [
                    _Modulus(prime, sign * root)
                    for prime in primes
                    for root in (_root_of_minus_one(prime),)
                    for sign in (1, -1)
                ]
            else:
                self._moduli = [None] if bound < _EXACT else [_Modulus(prime) for prime in _primes(bound)]
        sides = m * p * n * p
        self.work = (int(np.count_nonzero(nonzero)) + 8 * n * m) * sides * len(self._moduli)

    def wrong_products(self, a: int) -> np.ndarray:
        """Returns bool [m*p, n*p]: where the product of unit a of A with unit b of B has a wrong
        coefficient c.
        """
        wrong = np.zeros(self._shape, bool)
        for modulus in self._moduli:
            u, v, w = (self._reduced(factor, modulus, self._rows[a]) for factor in self._factors)
            prime = None if modulus is None else modulus.prime
            difference = np.zeros(self._shape)
            for start in range(0, len(u), _CHUNK):
                part = slice(start, start + _CHUNK)
                left = u[part, a, None] * v[part]
                if prime is not None:
                    left = np.remainder(left, prime)
                difference += left.T @ w[part]
                if prime is not None:
                    difference = np.remainder(difference, prime)
            for b, c in self._true_products(a):
                difference[b, c] -= self._scale if prime is None else self._scale % prime
            if prime is not None:
                difference = np.remainder(difference, prime)
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
        modulus = self._moduli[0] or _Modulus(_primes(1)[0])
        prime = modulus.prime
        u, v, w = (self._reduced(factor, modulus) for factor in self._factors)
        for _ in range(_NUM_PROBES.get(self._over, 1)):
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
                want[i, :, i] = np.remainder(self._scale % prime * b, prime)
            wrong = np.remainder(difference - want.reshape(n * m, n * p), prime) != 0
            if wrong.any():
                return int(np.argmax(wrong.any(axis=1)))
        return None

    def coefficient(self, a: int, b: int, c: int) -> Number:
        """Returns the scheme's coefficient of A_a*B_b in C_c, in exact Python numbers."""
        columns = (
            factor[:, side].tolist() for factor, side in zip(self._scheme.factors, (a, b, c), strict=True)
        )
        total = simplify(sum(x * y * z for x, y, z in zip(*columns, strict=True)))
        return modulo(total, MODULUS[self._over]) if self._over in MODULUS else total

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

    def _reduced(
        self, factor: tuple[np.ndarray, ...], modulus: _Modulus | None, rows: np.ndarray | slice = slice(None)
    ) -> np.ndarray:
        """Returns rows of a factor as float64, modulo the prime with its root of -1 for i."""
        if modulus is None:
            return factor[0][rows].astype(np.float64)
        reduced = (factor[0][rows] % modulus.prime).astype(np.int64)
        if len(factor) == 2:
            reduced += (factor[1][rows] % modulus.prime).astype(np.int64) * (modulus.root % modulus.prime)
            reduced %= modulus.prime
        return reduced.astype(np.float64)


class _Modulus(NamedTuple):
    """A prime and, for complex numbers, one of its two roots of -1."""

    prime: int
    root: int = 0


def _primes(bound: int, with_root: bool = False) -> list[int]:
    """Returns the largest primes below 2^20 whose product exceeds `bound`, at least one; with a
    root of -1 if asked, which primes of the form 4k + 1 have.
    """
    found: list[int] = []
    product, candidate = 1, 2**20
    while not found or product <= bound:
        candidate -= 1
        if with_root and candidate % 4 != 1:
            continue
        if all(candidate % divisor for divisor in range(2, 1025)):
            found.append(candidate)
            product *= candidate
    return found


def _root_of_minus_one(prime: int) -> int:
    """Returns a number whose square is -1 modulo a prime of the form 4k + 1."""
    for base in range(2, prime):
        root = pow(base, (prime - 1) // 4, prime)
        if root * root % prime == prime - 1:
            return root
    raise AssertionError(f"{prime} is not a prime of the form 4k + 1")
