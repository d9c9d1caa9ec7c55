"""Built-in problems other than matrix multiplication, by name.

Each family is a bilinear map of algebra or signal processing for which algorithms with few
multiplications are of interest. Known ranks are the best public bounds; a family without one states
so.

Non-commutative use: the entries of x and y may themselves be matrices, except where a problem uses
both x_i y_j and x_j y_i as one product (`symmetric`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from matrixrl.schemes.problem import (
    MAX_VALUE,
    Coefficients,
    Labels,
    MatrixMultiplication,
    Problem,
    TensorProblem,
    parse_size,
)
from matrixrl.schemes.scheme import SchemeError, as_format, entry_labels, shorten

Term = tuple[int, int, int, int]
"""One non-zero entry of a tensor: (i, j, k, value)."""


# Coefficients whose schemes are schemes with the coefficients of the key as well.
_INCLUDED: dict[str, tuple[str, ...]] = {
    "rational": ("rational", "integer", "ternary"),
    "integer": ("integer", "ternary"),
    "ternary": ("ternary",),
    "mod2": ("mod2", "integer", "ternary"),
}


@dataclass(frozen=True, eq=False)
class FamilyProblem(Problem):
    """A member of a built-in family.

    Attributes:
      given_name, given_title, given_sides, given_labels: what the properties return.
      terms: the non-zero entries of the tensor.
      arithmetic: computes z [c] from x [a] and y [b] without the tensor.
      ranks: best known rank by coefficients; missing where none is recorded.
      source: where the ranks come from.
      given_row_lengths: number of entries in a row of x, y and z, where they are matrices.
    """

    given_name: str
    given_title: str
    given_sides: tuple[int, int, int]
    given_labels: Labels
    terms: tuple[Term, ...]
    arithmetic: Callable[[Any, Any], Any]
    ranks: dict[str, int]
    source: str = ""
    given_row_lengths: tuple[int, int, int] | None = None

    @property
    def name(self) -> str:
        """Such as ``poly-3x3``."""
        return self.given_name

    @property
    def title(self) -> str:
        """The map in words."""
        return self.given_title

    @property
    def sides(self) -> tuple[int, int, int]:
        """Entries of x, y and z."""
        return self.given_sides

    @property
    def labels(self) -> Labels:
        """Names of the entries."""
        return self.given_labels

    def multiply(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Computes the map by the family's own arithmetic."""
        z = np.zeros(self.sides[2], dtype=object)
        for index, value in enumerate(self.arithmetic(list(x), list(y))):
            z[index] = value
        return z

    def nonzero(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns places and values of the non-zero entries, without the dense tensor."""
        table = np.array(sorted(self.terms), dtype=np.int64)
        return table[:, :3], table[:, 3]

    def tensor(self) -> np.ndarray:
        """Returns T, int64 [a, b, c]."""
        tensor = np.zeros(self.sides, dtype=np.int64)
        places, values = self.nonzero()
        tensor[tuple(places.T)] = values
        return tensor

    @property
    def row_lengths(self) -> tuple[int, int, int]:
        """Lengths of the rows where x, y and z are matrices."""
        return self.given_row_lengths or self.given_sides

    def best_known_rank(self, coefficients: Coefficients) -> int | None:
        """Returns the lowest recorded rank of a scheme with these coefficients: a ternary scheme is
        one over the integers, and that is one over the rationals and modulo 2.
        """
        known = [self.ranks[name] for name in _INCLUDED[coefficients] if name in self.ranks]
        return min(known, default=None)


def _vector_labels(a: int, b: int, c: int) -> Labels:
    return tuple([f"{letter}{i}" for i in range(n)] for letter, n in zip("xyz", (a, b, c), strict=True))  # pyright: ignore[reportReturnType]


def polynomial(n: int, m: int) -> FamilyProblem:
    """Returns the product of polynomials with n and m coefficients, lowest degree first.

    Over a field with at least n + m - 2 elements the rank is n + m - 1 (Toom-Cook; Winograd 1980).
    The interpolation needs fractions, so the known ranks over the integers are those of
    Karatsuba-like algorithms without a division: 3, 6, 9, 13, 17, 22 for n = m = 2, ..., 7
    (Montgomery 2005); they are optimal modulo 2 (Barbulescu, Detrey, Estibals and Zimmermann 2012).
    """
    terms = tuple((i, j, i + j, 1) for i in range(n) for j in range(m))

    def arithmetic(x: Any, y: Any) -> Any:
        z: list[Any] = [0] * (n + m - 1)
        for degree in range(n + m - 1):
            for i in range(max(0, degree - m + 1), min(n, degree + 1)):
                z[degree] = z[degree] + x[i] * y[degree - i]
        return z

    return FamilyProblem(
        f"poly-{n}x{m}",
        f"polynomials with {n} and {m} coefficients",
        (n, m, n + m - 1),
        _vector_labels(n, m, n + m - 1),
        terms,
        arithmetic,
        _polynomial_ranks(n, m),
        "Winograd 1980 over the rationals; Montgomery 2005 over the integers",
    )


def _polynomial_ranks(n: int, m: int) -> dict[str, int]:
    """Returns the known ranks of `polynomial`."""
    ranks = {"rational": n + m - 1}
    square = {1: 1, 2: 3, 3: 6, 4: 9, 5: 13, 6: 17, 7: 22}
    if n == m and n in square:
        ranks |= {"integer": square[n]}
    if n == m and n <= 4:  # Karatsuba, with three parts, and Karatsuba twice
        ranks |= {"ternary": square[n]}
    if min(n, m) == 1:  # every x_i y_j is one of the n + m - 1 results
        ranks |= {"ternary": n * m}
    return ranks


def cyclic(n: int) -> FamilyProblem:
    """Returns the product of polynomials modulo x^n - 1: cyclic convolution of length n.

    Over the rationals the rank is 2n minus the number of divisors of n (Winograd 1980). Modulo 2
    the factors of x^n - 1 have degrees 1, 2 (n = 3), 4 (n = 5), 3 and 3 (n = 7), and each takes the
    products of a polynomial of its degree; modulo x^2 - 1 = (x - 1)^2 it takes 3.
    """
    terms = tuple((i, j, (i + j) % n, 1) for i in range(n) for j in range(n))

    def arithmetic(x: Any, y: Any) -> Any:
        return [sum((x[i] * y[k - i] for i in range(n)), start=0) for k in range(n)]  # negative indices wrap

    modulo_2 = {1: 1, 2: 3, 3: 1 + 3, 5: 1 + 9, 7: 1 + 6 + 6}
    divisors = sum(n % d == 0 for d in range(1, n + 1))
    return FamilyProblem(
        f"cyclic-{n}",
        f"polynomials modulo x^{n} - 1",
        (n, n, n),
        _vector_labels(n, n, n),
        terms,
        arithmetic,
        {"rational": 2 * n - divisors} | ({"mod2": modulo_2[n]} if n in modulo_2 else {}),
        "Winograd 1980; modulo 2 by the factors of x^n - 1",
    )


def convolution(outputs: int, taps: int) -> FamilyProblem:
    """Returns a short filter F(m, r): m outputs of a filter with r taps, from m + r - 1 inputs.

    z[k] = sum_j x[k + j] y[j]. The tensor is that of the product of polynomials with m and r
    coefficients with its modes exchanged, so the ranks are the same (Winograd 1980).
    """
    m, r = outputs, taps
    inputs = m + r - 1
    terms = tuple((k + j, j, k, 1) for k in range(m) for j in range(r))

    def arithmetic(x: Any, y: Any) -> Any:
        return [sum((x[k + j] * y[j] for j in range(r)), start=0) for k in range(m)]

    return FamilyProblem(
        f"conv-{m}x{r}",
        f"{m} outputs of a filter with {r} taps",
        (inputs, r, m),
        _vector_labels(inputs, r, m),
        terms,
        arithmetic,
        _polynomial_ranks(m, r),
        "the ranks of the product of polynomials, whose transpose it is",
    )


def _algebra(
    name: str,
    title: str,
    table: list[list[tuple[int, int]]],
    arithmetic: Callable[[Any, Any], Any],
    units: str,
    ranks: dict[str, int],
    source: str,
) -> FamilyProblem:
    """Returns the product of an algebra from its table: unit i times unit j is sign times unit k,
    (k, sign).
    """
    n = len(table)
    terms = tuple((i, j, k, sign) for i in range(n) for j in range(n) for k, sign in [table[i][j]])
    labels: Labels = tuple([f"{letter}{unit}" for unit in units] for letter in "xyz")  # pyright: ignore[reportAssignmentType]
    return FamilyProblem(name, title, (n, n, n), labels, terms, arithmetic, ranks, source)


def complex_product() -> FamilyProblem:
    """Returns the product of two complex numbers: rank 3 over every ring (Gauss; Winograd 1971)."""
    table = [[(0, 1), (1, 1)], [(1, 1), (0, -1)]]

    def arithmetic(x: Any, y: Any) -> Any:
        return [x[0] * y[0] - x[1] * y[1], x[0] * y[1] + x[1] * y[0]]

    return _algebra("complex", "complex numbers", table, arithmetic, "ri", {"ternary": 3}, "Winograd 1971")


def quaternion_product() -> FamilyProblem:
    """Returns the product of two quaternions: rank 8 over the rationals (Howell and Lafon 1975).

    Walks on flip graphs find 8 products with coefficients -1, 0, 1, which hold modulo 2 as well
    (docs/problems.md).
    """
    table = [
        [(0, 1), (1, 1), (2, 1), (3, 1)],
        [(1, 1), (0, -1), (3, 1), (2, -1)],
        [(2, 1), (3, -1), (0, -1), (1, 1)],
        [(3, 1), (2, 1), (1, -1), (0, -1)],
    ]

    def arithmetic(x: Any, y: Any) -> Any:
        (a, b, c, d), (e, f, g, h) = x, y
        return [
            a * e - b * f - c * g - d * h,
            a * f + b * e + c * h - d * g,
            a * g - b * h + c * e + d * f,
            a * h + b * g - c * f + d * e,
        ]

    ranks = {"rational": 8}
    return _algebra("quaternion", "quaternions", table, arithmetic, "rijk", ranks, "Howell and Lafon 1975")


def gram(n: int, m: int) -> FamilyProblem:
    """Returns A A^T for a general product: x = A [n, m], y = A^T's entries given as A [n, m], z the
    lower triangle.

    The map is C_ij = sum_k A_ik B_jk for j <= i, with B = A in use. As a bilinear map of two
    arguments it does not use that A and B are equal, so its schemes hold for every pair.
    """
    pairs = [(i, j) for i in range(n) for j in range(i + 1)]
    terms = tuple((i * m + k, j * m + k, c, 1) for c, (i, j) in enumerate(pairs) for k in range(m))

    def arithmetic(x: Any, y: Any) -> Any:
        return [sum((x[i * m + k] * y[j * m + k] for k in range(m)), start=0) for i, j in pairs]

    labels: Labels = (
        entry_labels("A", n, m),
        entry_labels("B", n, m),
        [entry_labels("C", n, n)[i * n + j] for i, j in pairs],
    )
    return FamilyProblem(
        f"gram-{n}x{m}",
        f"lower triangle of A B^T for {n}x{m} matrices (A A^T when B = A)",
        (n * m, n * m, len(pairs)),
        labels,
        terms,
        arithmetic,
        {},
        given_row_lengths=(m, m, len(pairs)),
    )


def _structured(
    name: str,
    title: str,
    n: int,
    p: int,
    entry: Callable[[int, int], tuple[int, int] | None],
    num_free: int,
    ranks: dict[str, int] | None = None,
    source: str = "",
) -> FamilyProblem:
    """Returns a structured n x n matrix times an n x p matrix.

    Args:
      entry: the index among the free entries and the sign of the entry (i, j); None where it is 0.
      num_free: number of free entries.
    """
    places = [(i, j, *found) for i in range(n) for j in range(n) if (found := entry(i, j)) is not None]
    terms = tuple((f, j * p + k, i * p + k, sign) for i, j, f, sign in places for k in range(p))

    def arithmetic(x: Any, y: Any) -> Any:
        matrix: list[list[Any]] = [[0] * n for _ in range(n)]
        for i, j, f, sign in places:
            matrix[i][j] = x[f] if sign == 1 else -x[f]
        return [
            sum((matrix[i][j] * y[j * p + k] for j in range(n)), start=0) for i in range(n) for k in range(p)
        ]

    names = entry_labels("S", n, n)
    first: dict[int, str] = {}
    for i, j, f, _ in places:
        first.setdefault(f, names[i * n + j])
    labels: Labels = (
        [first[f] for f in range(num_free)],
        entry_labels("B", n, p),
        entry_labels("C", n, p),
    )
    sides = (num_free, n * p, n * p)
    return FamilyProblem(name, title, sides, labels, terms, arithmetic, ranks or {}, source, (num_free, p, p))


def symmetric(n: int, p: int) -> FamilyProblem:
    """Returns a symmetric n x n matrix times an n x p matrix.

    Times a vector the rank is n(n + 1) / 2, the number of free entries: s_ij (y_i + y_j) for i > j,
    and the diagonal less its row times y_i (Solomonik and Demmel 2015).
    """
    index = {(i, j): f for f, (i, j) in enumerate((i, j) for i in range(n) for j in range(i + 1))}
    return _structured(
        f"symmetric-{n}x{p}",
        f"a symmetric {n}x{n} matrix times an {n}x{p} matrix",
        n,
        p,
        lambda i, j: (index[max(i, j), min(i, j)], 1),
        len(index),
        {"ternary": len(index)} if p == 1 else None,
        "Solomonik and Demmel 2015",
    )


def triangular(n: int, p: int) -> FamilyProblem:
    """Returns a lower triangular n x n matrix times an n x p matrix.

    Times a vector the rank is n(n + 1) / 2: every free entry is in one product, and the rank is at
    least their number.
    """
    index = {(i, j): f for f, (i, j) in enumerate((i, j) for i in range(n) for j in range(i + 1))}
    return _structured(
        f"triangular-{n}x{p}",
        f"a lower triangular {n}x{n} matrix times an {n}x{p} matrix",
        n,
        p,
        lambda i, j: (index[i, j], 1) if j <= i else None,
        len(index),
        {"ternary": len(index)} if p == 1 else None,
        "the number of free entries",
    )


def skew(n: int) -> FamilyProblem:
    """Returns a skew-symmetric n x n matrix times a vector.

    The best known rank is (n - 1)(n + 2) / 2 (AlphaTensor, Fawzi et al. 2022, extended data).
    """
    index = {(i, j): f for f, (i, j) in enumerate((i, j) for i in range(n) for j in range(i))}

    def entry(i: int, j: int) -> tuple[int, int] | None:
        if i == j:
            return None
        return (index[i, j], 1) if i > j else (index[j, i], -1)

    rank = (n - 1) * (n + 2) // 2
    return _structured(
        f"skew-{n}",
        f"a skew-symmetric {n}x{n} matrix times a vector",
        n,
        1,
        entry,
        len(index),
        {"ternary": rank},
        "Fawzi et al. 2022",
    )


_FAMILIES: dict[str, tuple[Callable[..., Problem], int, str]] = {
    "poly": (polynomial, 2, "poly-NxM, polynomials with N and M coefficients"),
    "cyclic": (cyclic, 1, "cyclic-N, polynomials modulo x^N - 1"),
    "conv": (convolution, 2, "conv-MxR, M outputs of a filter with R taps"),
    "complex": (complex_product, 0, "complex, complex numbers"),
    "quaternion": (quaternion_product, 0, "quaternion, quaternions"),
    "gram": (gram, 2, "gram-NxM, the lower triangle of A A^T"),
    "symmetric": (symmetric, 2, "symmetric-NxP, a symmetric NxN matrix times an NxP matrix"),
    "triangular": (triangular, 2, "triangular-NxP, a lower triangular NxN matrix times an NxP matrix"),
    "skew": (skew, 1, "skew-N, a skew-symmetric NxN matrix times a vector"),
}

MAX_PARAMETER = 32
"""Largest size that a name may hold."""


def family_names() -> list[str]:
    """Returns one line for each family: how its members are named, and what they compute."""
    return [text for _, _, text in _FAMILIES.values()]


def problem_named(name: str) -> Problem:
    """Returns the problem with a name: ``2x3x4`` for matrix multiplication, ``poly-3x3`` and so on
    for a family.

    Raises:
      SchemeError: if no problem has the name; the message lists the names.
    """
    if re.fullmatch(r"\d+x\d+x\d+", name):
        return MatrixMultiplication(parse_size(name))
    family, _, sizes = name.partition("-")
    numbers = [int(part) for part in sizes.split("x")] if re.fullmatch(r"\d{1,3}(x\d{1,3})*", sizes) else []
    found = _FAMILIES.get(family)
    fits = (
        found is not None
        and len(numbers) == found[1]
        and (not sizes) == (not numbers)
        and all(1 <= number <= MAX_PARAMETER for number in numbers)
        and not (family == "skew" and numbers == [1])
    )
    if found is None or not fits:
        raise SchemeError(
            f"problem {shorten(name)}: no such problem; want NxMxP for matrices, or "
            f"{'; '.join(family_names())} (sizes from 1 to {MAX_PARAMETER})"
        )
    return found[0](*numbers)


def problem_from_record(record: Mapping[str, Any]) -> Problem:
    """Returns the problem that the entries of a scheme file identify: `format` for matrix
    multiplication, `problem` for a built-in problem by name, `problem` and `tensor` for any tensor.

    Raises:
      SchemeError: if they are malformed, or the name is unknown and there is no tensor.
    """
    if "problem" not in record:
        return MatrixMultiplication(as_format(record["format"]))
    name = record["problem"]
    if not isinstance(name, str) or re.fullmatch(NAME, name) is None:
        raise SchemeError(f"problem: {shorten(name)} given, want a name of letters, digits and -")
    if "tensor" not in record:
        problem = problem_named(name)
    else:
        problem = TensorProblem(name, _tensor_of_lists(record["tensor"]))
    if "format" in record:
        raise SchemeError("format: given beside problem; a scheme file has one of the two")
    return problem


NAME = r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}"
"""Pattern of a problem's name, which is part of file names."""


def _tensor_of_lists(values: Any) -> np.ndarray:
    """Returns nested lists of integers as an array; true and 1.0 are no integers."""
    want = "want three nested lists of integers, rows of equal length"
    if not isinstance(values, list) or not all(isinstance(plane, list) for plane in values):
        raise SchemeError(f"tensor: {want}")
    rows = [row for plane in values for row in plane]
    if not all(isinstance(row, list) and all(type(value) is int for value in row) for row in rows):
        raise SchemeError(f"tensor: {want}")
    shapes = {len(plane) for plane in values}, {len(row) for row in rows}
    if any(len(lengths) != 1 for lengths in shapes):
        raise SchemeError(f"tensor: {want}")
    if any(abs(value) > MAX_VALUE for row in rows for value in row):
        raise SchemeError(f"tensor: an entry is beyond {MAX_VALUE}")
    return np.array(values, dtype=np.int64)
