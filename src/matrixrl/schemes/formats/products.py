"""Product lists (``.exp``): one product a line, ``(a11-a22)*(b12)*(c21+2*c22)``.

The product of the three sums adds up to the trace of A B C, so that c21 is the entry of C in column
2 and row 1: C is p x n, transposed. The format is found from the indices, or declared by a comment
``# format: 2x3x4``, which indices of two digits can need.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from matrixrl.schemes.formats.draft import Draft, FormatError, both_orientations
from matrixrl.schemes.formats.text import (
    EntryTerm,
    Source,
    coefficients,
    entry_names,
    heading,
    parse_sum,
    split_factors,
    splits,
    sum_text,
)
from matrixrl.schemes.rings import simplify
from matrixrl.schemes.scheme import MAX_SIDE, Format, Scheme, SchemeError, as_format, shorten

NAME = "exp"
TITLE = "product list"
SUFFIX = ".exp"
HOLDS_SEVERAL = False

_CHARACTERS = re.compile(r"[-+\s\d/*().,;iI_\[\]aAbBcC]+")


def is_one(text: str) -> bool:
    """Returns true if the first line of a text, without comments, looks like a product of sums."""
    line = next((line for line in text.split("\n") if line.strip()), "")
    return _CHARACTERS.fullmatch(line) is not None and re.search(r"\(|[abcABC]\s*_?\[?\d", line) is not None


def parse(text: str) -> list[Draft]:
    """Returns the readings of a file; raises `FormatError` with the line."""
    source = Source.of(text)
    products: list[list[list[EntryTerm]]] = []
    lines = []
    for number, line in source.lines():
        try:
            scale, factors = split_factors(line.rstrip(",;"))
            if len(factors) != 3:
                raise ValueError(f"{len(factors)} factors in {shorten(line)}")
            sums = [parse_sum(factor, letter) for factor, letter in zip(factors, "abc", strict=True)]
        except ValueError as error:
            raise FormatError(
                f"line {number}: {error}; want a product such as (a11-a22)*(b12)*(c21+2*c22)"
            ) from error
        if scale != 1:
            sums[2] = [EntryTerm(simplify(scale * term.value), term.letter, term.index) for term in sums[2]]
        products.append(sums)
        lines.append(number)
    if not products:
        raise FormatError("holds no product, want lines such as (a11-a22)*(b12)*(c21+2*c22)")
    fmt = source.format or _format(products)
    n, m, p = fmt
    drafts: list[Draft] = []
    reasons = []
    for transposed in (True, False):
        factors, reason = _read(products, lines, ((n, m), (m, p), (p, n) if transposed else (n, p)))
        reasons.append(reason)
        if factors is not None:
            drafts += both_orientations(fmt, *factors, transposed, source.ring)[:1]
    if not drafts:
        raise FormatError(reasons[0])
    return drafts


_Factors = tuple[list, list, list]


def _read(
    products: Sequence[Sequence[Sequence[EntryTerm]]],
    lines: Sequence[int],
    shapes: tuple[tuple[int, int], tuple[int, int], tuple[int, int]],
) -> tuple[_Factors | None, str]:
    """Returns the factors for the given shapes, or None and the reason."""
    factors: _Factors = ([], [], [])
    for line, product in zip(lines, products, strict=True):
        try:
            for factor, terms, (rows, columns) in zip(factors, product, shapes, strict=True):
                factor.append(coefficients(terms, rows, columns))
        except ValueError as error:
            return None, f"line {line}: {error}"
    return factors, ""


def _format(products: Sequence[Sequence[Sequence[EntryTerm]]]) -> Format:
    """Returns the format that the indices imply.

    Indices of one digit have one meaning, and the largest ones are the sizes. Otherwise the format
    is the one whose matrices have as many entries as the file has indices.
    """
    indices = [{term.index for product in products for term in product[mode]} for mode in range(3)]
    a, b, c = (list(map(splits, names)) for names in indices)
    if not all(a) or not all(b) or not all(c) or not (a and b and c):
        bad = next((name for names in indices for name in names if not splits(name)), "an entry of A, B or C")
        raise FormatError(f"the index {bad} has no row and column, want a12 or a1_12")
    if all(len(pairs) == 1 for pairs in (*a, *b, *c)):
        rows_a, columns_a = _extent(a)
        rows_b, columns_b = _extent(b)
        sizes = (rows_a, max(columns_a, rows_b), columns_b)
        return _checked(sizes)
    found = []
    for n in range(1, MAX_SIDE + 1):
        if len(a) % n:
            continue
        m = len(a) // n
        if m > MAX_SIDE or len(b) % m:
            continue
        p = len(b) // m
        fits = p <= MAX_SIDE and len(c) == n * p and _fits(a, n, m) and _fits(b, m, p)
        if fits and (_fits(c, p, n) or _fits(c, n, p)):
            found.append((n, m, p))
    if len(found) != 1:
        raise FormatError(
            "the indices have two digits and do not show the format; add a comment such as # format: 4x11x12"
        )
    return _checked(found[0])


def _checked(sizes: tuple[int, int, int]) -> Format:
    try:
        return as_format(sizes)
    except SchemeError as error:
        raise FormatError(f"the indices go up to {'x'.join(map(str, sizes))}; {error}") from error


def _extent(entries: Iterable[Sequence[tuple[int, int]]]) -> tuple[int, int]:
    pairs = [pair for pairs in entries for pair in pairs]
    return max(row for row, _ in pairs), max(column for _, column in pairs)


def _fits(entries: Iterable[Sequence[tuple[int, int]]], rows: int, columns: int) -> bool:
    return all(
        sum(1 <= row <= rows and 1 <= column <= columns for row, column in pairs) == 1 for pairs in entries
    )


def write(schemes: Sequence[Scheme]) -> bytes:
    """Returns the content of a file."""
    (scheme,) = schemes
    n, m, p = scheme.format
    names = entry_names("a", n, m), entry_names("b", m, p), entry_names("c", p, n)
    lines = []
    for vectors in zip(*scheme.factors, strict=True):
        u, v, w = ([simplify(value) for value in vector] for vector in vectors)
        turned = [w[i * p + k] for k in range(p) for i in range(n)]
        sums = (sum_text(values, labels) for values, labels in zip((u, v, turned), names, strict=True))
        lines.append("*".join(f"({text})" for text in sums))
    return (heading(scheme) + "\n".join(lines) + "\n").encode()
