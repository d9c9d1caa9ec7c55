"""A scheme as the formulas of a textbook, and back.

``M1 = (A11 + A22)(B11 + B22)`` for the products, ``C11 = M1 + M4 - M5 + M7`` for the result.
Reading the formulas that `formulas` prints gives the same scheme again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from matrixrl.schemes.problem import Problem, as_problem
from matrixrl.schemes.rings import MODULUS, ComplexRational, Number, Ring, parse_number, simplify
from matrixrl.schemes.scheme import Scheme, SchemeError, shorten


def linear_form(coefficients: Sequence[Number] | np.ndarray, names: Sequence[str]) -> str:
    """Formats a sum such as ``A11 - 2*A12 + 1/2*A21``; ``0`` if every coefficient is zero.

    A complex number stands in brackets: ``(1/2-1/2i)*A11``.
    """
    text = ""
    for coefficient, name in zip(coefficients, names, strict=True):
        if coefficient == 0:
            continue
        if isinstance(coefficient, ComplexRational):
            sign, size = "+", f"({coefficient})*"
        else:
            sign = "-" if coefficient < 0 else "+"
            size = "" if abs(coefficient) == 1 else f"{abs(coefficient)}*"
        if text:
            text += f" {sign} {size}{name}"
        else:
            text = f"{'-' if sign == '-' else ''}{size}{name}"
    return text or "0"


def formulas(scheme: Scheme) -> str:
    """Formats the algorithm in lines: the products M1.., then the entries of C; over F2 and F3 a
    first line reads ``modulo 2:`` or ``modulo 3:``.
    """
    labels_x, labels_y, labels_z = scheme.problem.labels
    products = [f"M{r + 1}" for r in range(scheme.rank)]
    lines = [f"modulo {MODULUS[scheme.ring]}:"] if scheme.ring in MODULUS else []
    for product, u, v in zip(products, scheme.u, scheme.v, strict=True):
        left, right = _factor(u, labels_x), _factor(v, labels_y)
        times = "" if "(" in left + right else "*"
        lines.append(f"{product} = {left}{times}{right}")
    for label, column in zip(labels_z, scheme.w.T, strict=True):
        lines.append(f"{label} = {linear_form(column, products)}")
    return "\n".join(lines)


def _factor(coefficients: np.ndarray, names: Sequence[str]) -> str:
    """Formats a linear form, in brackets unless it is a single entry."""
    text = linear_form(coefficients, names)
    return text if text in names else f"({text})"


def num_additions(scheme: Scheme) -> int:
    """Counts additions and subtractions of the formulas, without sharing common parts (Strassen:
    18).
    """
    terms_to_sum = (scheme.u, scheme.v, scheme.w.T)
    return sum(int(np.maximum((matrix != 0).sum(axis=1) - 1, 0).sum()) for matrix in terms_to_sum)


def growth_factor(scheme: Scheme) -> float:
    """Computes the sum over products of |u|_2 |v|_2 |w|_2, which bounds the growth of rounding
    errors (Strassen: 14.83).

    The 2-norm growth factor of Dumas, Pernet and Sedoglavic 2024; the standard algorithm has n*m*p.
    """
    norms = [np.sqrt((np.abs(_floats(factor)) ** 2).sum(axis=1)) for factor in scheme.factors]
    return float((norms[0] * norms[1] * norms[2]).sum())


def _floats(factor: np.ndarray) -> np.ndarray:
    """Returns a factor as float64, or complex128 if it has complex numbers."""
    if any(isinstance(value, ComplexRational) for value in factor.flat if factor.dtype == object):
        return np.array([complex(value) for value in factor.flat]).reshape(factor.shape)
    return factor.astype(np.float64)


_COEFFICIENT = r"(?:(\d+(?:/\d+)?|\([^()]*i\))\*)"


def _any_of(names: Sequence[str]) -> str:
    """Returns a pattern of the names, longer ones first."""
    return "(?:" + "|".join(map(re.escape, sorted(names, key=len, reverse=True))) + ")"


def _product_pattern(names_x: Sequence[str], names_y: Sequence[str]) -> re.Pattern[str]:
    """Returns a pattern of a product of two sums; brackets around a single entry may be missing. An
    entry that does not exist fits, so that the message about it can name it.
    """
    sides = (
        rf"(\((?:[^()]|\([^()]*\))*\)|-?(?:\d+(?:/\d+)?\*)?(?:{_any_of(names)}|{re.escape(names[0][0])}\d+(?:_\d+)?))"
        for names in (names_x, names_y)
    )
    return re.compile(r"\*?".join(sides))


def parse_formulas(
    problem: Problem | Sequence[int],
    text: str,
    ring: Ring | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Scheme:
    """Parses a scheme in the format of `formulas`; brackets around a single entry may be omitted.

    Args:
      problem: a problem, or a format (n, m, p), which the text does not contain.
      text: one formula per line: ``M.. = (..)(..)`` for each product and ``C.. = ..`` for each
        entry of the result.
      ring: the ring of the result; None is the smallest one of characteristic 0.
      provenance: stored with the scheme.

    Raises:
      SchemeError: if a line cannot be read; the message names it.
    """
    problem = as_problem(problem)
    labels_x, labels_y, labels_z = problem.labels
    x, y, z = problem.letters
    pattern = _product_pattern(labels_x, labels_y)
    lines = [
        line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("modulo")
    ]
    rank = sum(line.startswith("M") for line in lines)
    products = [f"M{r + 1}" for r in range(rank)]
    u, v, w = (np.zeros((rank, side), dtype=object) for side in problem.sides)
    seen: set[str] = set()
    for line in lines:
        left, equals, right = (part.replace(" ", "") for part in line.partition("="))
        if not equals or left in seen or left not in {*products, *labels_z}:
            raise SchemeError(f"formula {shorten(line)}: want M1..M{rank} and the entries of {z} once each")
        seen.add(left)
        if left in labels_z:
            w[:, labels_z.index(left)] = _coefficients(right, products, line)
        else:
            split = pattern.fullmatch(right)
            if split is None:
                raise SchemeError(f"formula {shorten(line)}: want a sum of {x} times a sum of {y}")
            u[products.index(left)] = _coefficients(_unwrapped(split[1]), labels_x, line)
            v[products.index(left)] = _coefficients(_unwrapped(split[2]), labels_y, line)
    if len(seen) != rank + len(labels_z):
        missing = sorted({*products, *labels_z} - seen)
        raise SchemeError(f"formulas: {missing[0]} is missing")
    return Scheme(problem, ring, u, v, w, provenance or {})


def _unwrapped(text: str) -> str:
    return text[1:-1] if text.startswith("(") else text


def _coefficients(text: str, names: Sequence[str], line: str) -> list[Number]:
    """Parses the coefficients of a sum over `names`, the inverse of `linear_form`."""
    row: list[Number] = [0] * len(names)
    pattern = re.compile(rf"([+-])?{_COEFFICIENT}?({_any_of(names)})")
    position = 0
    while position < len(text) and text != "0":
        term = pattern.match(text, position)
        if term is None or (position > 0 and term[1] is None):
            raise SchemeError(f"formula {shorten(line)}: cannot read {text[position:]!r}")
        try:
            value = parse_number((term[2] or "1").strip("()"))
        except ValueError as error:
            raise SchemeError(f"formula {shorten(line)}: {error}") from error
        index = names.index(term[3])
        row[index] = simplify(row[index] + (-value if term[1] == "-" else value))
        position = term.end()
    return row
