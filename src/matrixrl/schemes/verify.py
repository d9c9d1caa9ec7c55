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
from typing import Any

import numpy as np

from matrixrl.schemes.problem import Problem
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

    where = "over the integers" if over == "Z" else "modulo 2"
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


class _Check:
    """Comparison of a scheme's map with the true one, for one unit of x at a time.

    Over Z, sums that float64 holds exactly are compared directly. Larger ones are compared modulo
    as many primes as their bound needs: a difference below the product of the primes is 0 exactly
    when it is 0 modulo each.
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
        bound = scheme.rank + largest
        for factor in scheme.factors:
            bound *= max(1, int(np.abs(factor).max(initial=1)))
        self._moduli: Sequence[int | None] = (
            [2] if over == "F2" else [None] if bound < _EXACT else _primes(bound)
        )
        self.work = (int(np.count_nonzero(nonzero)) + 8 * a) * b * c * len(self._moduli)

    def wrong_products(self, a: int) -> np.ndarray:
        """Returns bool [b, c]: where the product of unit a of x with unit b of y has a wrong
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
            for b, c, value in self._true[a]:
                difference[b, c] -= value
            if modulus is not None:
                difference = np.remainder(difference, modulus)
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
        prime = 2 if self._over == "F2" else _primes(1)[0]
        u, v, w = (self._reduced(factor, prime) for factor in self._scheme.factors)
        for _ in range(_NUM_PROBES_F2 if self._over == "F2" else 1):
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
                    want[a, c] = (want[a, c] + value * int(y[b])) % prime
            wrong = np.remainder(difference - want, prime) != 0
            if wrong.any():
                return int(np.argmax(wrong.any(axis=1)))
        return None

    def coefficient(self, a: int, b: int, c: int) -> int:
        """Returns the scheme's coefficient of x_a*y_b in z_c, in Python integers."""
        columns = (
            factor[:, side].tolist() for factor, side in zip(self._scheme.factors, (a, b, c), strict=True)
        )
        total = sum(x * y * z for x, y, z in zip(*columns, strict=True))
        return total % 2 if self._over == "F2" else total

    def true_coefficient(self, a: int, b: int, c: int) -> int:
        """Returns the true coefficient of x_a*y_b in z_c, over the ring of the check."""
        value = next((value for j, k, value in self._true[a] if (j, k) == (b, c)), 0)
        return value % 2 if self._over == "F2" else value

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
