"""A second proof that a scheme computes its map, by code that shares nothing with the first.

`matrixrl.schemes.verify` multiplies unit matrices in floating point, modulo primes. Here the
products of sums are expanded by hand, term by term, in Python's exact numbers, and the polynomial
of each entry of the result is compared with the definition of the map. Schemes that would take
too long are run on random matrices of large integers instead.
"""

from __future__ import annotations

import random
from fractions import Fraction
from typing import Any, NamedTuple

from matrixrl.schemes.problem import MatrixMultiplication, Problem
from matrixrl.schemes.rings import MODULUS, ComplexRational, modulo
from matrixrl.schemes.scheme import Scheme

MAX_TERMS = 20_000_000
"""Largest number of terms that are expanded: about 20 seconds."""

_BITS = 64
_TRIALS = 4


class SecondProof(NamedTuple):
    """The outcome.

    Attributes:
      ok: no error was found.
      exact: all terms were expanded, which is a proof; else random matrices were multiplied, and a
        wrong scheme passes with a probability below 2^-200.
    """

    ok: bool
    exact: bool

    @property
    def words(self) -> str:
        """How it was checked."""
        if self.exact:
            return "expanded term by term"
        return f"multiplied {_TRIALS} pairs of random matrices of {_BITS}-bit integers"


def prove_again(scheme: Scheme, max_terms: int = MAX_TERMS) -> SecondProof:
    """Checks a scheme in its own ring, in plain Python numbers.

    Args:
      scheme: the algorithm.
      max_terms: largest number of terms to expand. Over F2 and F3, where random numbers prove
        little, all terms are expanded whatever it takes.
    """
    rows = [
        [[(index, value) for index, value in enumerate(vector.tolist()) if value] for vector in factor]
        for factor in scheme.factors
    ]
    terms = sum(len(u) * len(v) * len(w) for u, v, w in zip(*rows, strict=True))
    if terms <= max_terms or scheme.ring in MODULUS:
        return SecondProof(_expand(scheme, rows), True)
    return SecondProof(_multiply_at_random(scheme, rows), False)


Rows = list[list[list[tuple[int, Any]]]]


def _expand(scheme: Scheme, rows: Rows) -> bool:
    """Returns true if the expanded products add up to sum_j A_ij B_jk in each C_ik."""
    total: dict[tuple[int, int, int], Any] = {}
    for u, v, w in zip(*rows, strict=True):
        for b, y in v:
            for c, z in w:
                yz = y * z
                for a, x in u:
                    key = (a, b, c)
                    total[key] = total.get(key, 0) + x * yz
    prime = MODULUS.get(scheme.ring)
    wanted = _true_terms(scheme.problem)
    for key, value in total.items():
        difference = value - wanted.get(key, 0)
        if prime is not None:
            difference = modulo(difference, prime)
        if difference != 0:
            return False
    return all(key in total for key, value in wanted.items() if prime is None or value % prime)


def _true_terms(problem: Problem) -> dict[tuple[int, int, int], int]:
    """Returns the true coefficients of x_a*y_b in z_c, without the first proof's code."""
    if isinstance(problem, MatrixMultiplication):
        n, m, p = problem.format
        return {(i * m + j, j * p + k, i * p + k): 1 for i in range(n) for j in range(m) for k in range(p)}
    tensor = problem.tensor()
    return {(int(a), int(b), int(c)): int(tensor[a, b, c]) for a, b, c in zip(*tensor.nonzero(), strict=True)}


def _multiply_at_random(scheme: Scheme, rows: Rows) -> bool:
    """Returns true if the scheme multiplies a few pairs of random matrices correctly."""
    size_x, size_y, size_z = scheme.problem.sides
    terms = _true_terms(scheme.problem)
    source = random.SystemRandom()
    for _ in range(_TRIALS):
        a, b = ([source.getrandbits(_BITS) for _ in range(size)] for size in (size_x, size_y))
        c: list[Any] = [Fraction(0)] * size_z
        for u, v, w in zip(*rows, strict=True):
            left = sum((value * a[index] for index, value in u), 0)
            product = left * sum((value * b[index] for index, value in v), 0)
            for index, value in w:
                c[index] = c[index] + value * product
        wanted = [0] * size_z
        for (i, j, k), value in terms.items():
            wanted[k] += value * a[i] * b[j]
        if any(
            got - ComplexRational(Fraction(true), Fraction(0)) != 0
            for got, true in zip(c, wanted, strict=True)
        ):
            return False
    return True
