"""Exact proof that a scheme computes its problem's map, such as the product of two matrices.

Shares nothing with the game: no target tensor is used here. The true coefficients come from
`Problem.multiply`, the plain arithmetic of the map, which runs once on symbols x_i and y_j. The map
is bilinear, so an algorithm is right for all arguments over all (commutative or not) rings exactly
when it is right for every pair of units (x_i = 1, y_j = 1, all other entries 0). Each pair is run
through the scheme in integers and compared with the true coefficients.

The work is bounded for any scheme that a file can hold: a wrong scheme of a large problem is
detected by a random vector, and only a correct one is checked in full.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from matrixrl.schemes.problem import Problem
from matrixrl.schemes.rings import CHAIN, IN_WORDS, MODULUS, RINGS, Number, contains, modulo, simplify
from matrixrl.schemes.scheme import Ring, Scheme


@dataclass(frozen=True)
class Verification:
    """The outcome of an exact check.

    Attributes:
      ok: the scheme computes its problem's map for all arguments over the ring.
      ring: the ring it was checked over.
      num_wrong: number of coefficients x_a*y_b in z_c that were found wrong.
      message: one line; the first wrong coefficient in words, ``A12*B21 in C11: got 2, want 1``.
      counted_all: whether `num_wrong` counts all wrong coefficients. In a large problem the check
        stops after the first entry of x that has wrong ones.
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
    problem = scheme.problem
    check = _Check(scheme, over)
    units_of_x = range(problem.sides[0])
    counted_all = True
    if check.work > _LARGE and (suspect := check.find_wrong_unit()) is not None:
        units_of_x, counted_all = range(suspect, suspect + 1), False

    num_wrong, first = 0, ""
    for a in units_of_x:
        wrong = check.wrong_products(a)
        count = int(np.count_nonzero(wrong))
        if count and not first:
            b, c = (int(index) for index in np.unravel_index(int(np.argmax(wrong)), wrong.shape))
            labels = problem.labels
            got, want = check.coefficient(a, b, c), check.true_coefficient(a, b, c)
            first = f"{labels[0][a]}*{labels[1][b]} in {labels[2][c]}: got {got}, want {want}"
        num_wrong += count

    where = IN_WORDS[over]
    if num_wrong:
        return Verification(False, over, num_wrong, first, counted_all)
    return Verification(True, over, 0, f"{problem} in {scheme.rank} multiplications, correct {where}")


class _Form:
    """A sum of products of the symbols x_i and y_j, with just the operations that plain arithmetic
    needs.

    A sum refers to its summands until its terms are asked for, so that a long sum takes linear
    time.

    Attributes:
      summands: sums that this one adds up, beside its own term.
      symbols: of its own term: (i,) for x_i or y_i, (i, j) for x_i*y_j; None without one.
      coefficient: of its own term.
    """

    __slots__ = ("coefficient", "summands", "symbols")
    # Numbers of NumPy leave the arithmetic to this class.
    __array_ufunc__ = None

    def __init__(
        self, symbols: tuple[int, ...] | None, coefficient: int = 0, summands: tuple[_Form, ...] = ()
    ) -> None:
        self.symbols = symbols
        self.coefficient = coefficient
        self.summands = summands

    def terms(self) -> dict[tuple[int, ...], int]:
        """Returns the coefficients by symbols."""
        found: dict[tuple[int, ...], int] = {}
        stack: list[_Form] = [self]
        while stack:
            form = stack.pop()
            stack.extend(form.summands)
            if form.symbols is not None:
                found[form.symbols] = found.get(form.symbols, 0) + form.coefficient
        return found

    def __add__(self, other: Any) -> _Form:
        if isinstance(other, _Form):
            return _Form(None, 0, (self, other))
        if other != 0:
            raise TypeError(f"a bilinear map adds no constant, but {other!r} is added")
        return self

    __radd__ = __add__

    def __neg__(self) -> _Form:
        return self._scaled(-1)

    def __sub__(self, other: Any) -> _Form:
        return self + -other

    def __rsub__(self, other: Any) -> _Form:
        return -self + other

    def __mul__(self, other: Any) -> _Form:
        if not isinstance(other, _Form):
            return self._scaled(int(other))
        left, right = self.terms(), other.terms()
        return _Form(
            None,
            summands=tuple(_Form(i + j, a * b) for i, a in left.items() for j, b in right.items()),
        )

    __rmul__ = __mul__

    def _scaled(self, factor: int) -> _Form:
        terms = self.terms().items() if factor else ()
        return _Form(None, summands=tuple(_Form(symbols, factor * value) for symbols, value in terms))


@lru_cache(maxsize=64)
def true_coefficients(problem: Problem) -> tuple[tuple[tuple[int, int, int], ...], ...]:
    """Returns, for each entry a of x, the (b, c, coefficient) of all x_a*y_b in z_c that are not
    zero: the problem's arithmetic, run on symbols.
    """
    found: list[list[tuple[int, int, int]]] = [[] for _ in range(problem.sides[0])]
    x, y = (np.array([_Form((i,), 1) for i in range(side)], dtype=object) for side in problem.sides[:2])
    for c, form in enumerate(problem.multiply(x, y)):
        terms = form.terms() if isinstance(form, _Form) else {}
        for (a, b), coefficient in terms.items():
            if coefficient:
                found[a].append((b, c, coefficient))
    return tuple(tuple(sorted(terms)) for terms in found)


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
    """Comparison of a scheme's map with the true one, for one unit of x at a time.

    Fractions are scaled to integers, which scales the true product by the same number. Sums that
    float64 holds exactly are compared directly. Larger ones are compared modulo as many primes as
    their bound needs: a difference below the product of the primes is 0 exactly when it is 0 modulo
    each. Complex numbers are compared modulo primes p with a root of -1: x + yi is 0 modulo p when
    x + y*root is 0 for both roots.
    """

    def __init__(self, scheme: Scheme, over: Ring) -> None:
        self._scheme = scheme
        self._over = over
        a, b, c = scheme.problem.sides
        self._shape = (b, c)
        self._true = true_coefficients(scheme.problem)
        nonzero = scheme.u != 0
        self._rows = [np.flatnonzero(column) for column in nonzero.T]
        largest = max((abs(value) for terms in self._true for *_, value in terms), default=1)
        if over in MODULUS:
            self._factors, self._scale = [(factor,) for factor in scheme.modulo(over).factors], 1
            self._moduli: Sequence[_Modulus | None] = [_Modulus(MODULUS[over])]
        else:
            self._factors, self._scale = scheme.scaled_factors()
            bound = scheme.rank + 1
            for factor in self._factors:
                bound *= max(1, sum(int(np.abs(part).max(initial=1)) for part in factor))
            bound += self._scale * largest
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
        self.work = (int(np.count_nonzero(nonzero)) + 8 * a) * b * c * len(self._moduli)

    def wrong_products(self, a: int) -> np.ndarray:
        """Returns bool [b, c]: where the product of unit a of x with unit b of y has a wrong
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
            for b, c, value in self._true[a]:
                scaled = self._scale * value
                difference[b, c] -= scaled if prime is None else scaled % prime
            if prime is not None:
                difference = np.remainder(difference, prime)
            wrong |= difference != 0
        return wrong

    def find_wrong_unit(self) -> int | None:
        """Returns a unit of x whose products with a random y are wrong, which proves an error; else
        None.

        All units of x are multiplied with one random y at once. A single wrong coefficient escapes
        with a probability of about 1e-6 over Z, and over F2, with its few vectors, of 2^-24; the
        full check then finds it.
        """
        num_x, num_y, num_z = self._scheme.problem.sides
        rng = np.random.default_rng()
        modulus = self._moduli[0] or _Modulus(_primes(1)[0])
        prime = modulus.prime
        u, v, w = (self._reduced(factor, modulus) for factor in self._factors)
        for _ in range(_NUM_PROBES.get(self._over, 1)):
            y = rng.integers(0, prime, num_y)
            difference = np.zeros((num_x, num_z))
            for start in range(0, len(u), _CHUNK):
                part = slice(start, start + _CHUNK)
                right = np.remainder(v[part] @ y.astype(np.float64), prime)
                scaled = np.remainder(right[:, None] * w[part], prime)
                difference = np.remainder(difference + u[part].T @ scaled, prime)
            want = np.zeros((num_x, num_z), np.int64)
            for a, terms in enumerate(self._true):
                for b, c, value in terms:
                    want[a, c] = (want[a, c] + self._scale * value * int(y[b])) % prime
            wrong = np.remainder(difference - want, prime) != 0
            if wrong.any():
                return int(np.argmax(wrong.any(axis=1)))
        return None

    def coefficient(self, a: int, b: int, c: int) -> Number:
        """Returns the scheme's coefficient of x_a*y_b in z_c, in exact Python numbers."""
        columns = (
            factor[:, side].tolist() for factor, side in zip(self._scheme.factors, (a, b, c), strict=True)
        )
        total = simplify(sum(x * y * z for x, y, z in zip(*columns, strict=True)))
        return modulo(total, MODULUS[self._over]) if self._over in MODULUS else total

    def true_coefficient(self, a: int, b: int, c: int) -> int:
        """Returns the true coefficient of x_a*y_b in z_c, over the ring of the check."""
        value = next((value for j, k, value in self._true[a] if (j, k) == (b, c)), 0)
        return value % MODULUS[self._over] if self._over in MODULUS else value

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
