"""Nested-list tables (``.m``): ``{{{{a}},{{b}},{{c}}}, ...}``, three matrices per product.

A is n x m, B is m x p, and C is p x n, transposed; a table with C as n x p is read as well.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from matrixrl.schemes.formats.draft import Draft, FormatError, both_orientations
from matrixrl.schemes.formats.text import Numbers, Source, heading, line_of, nested_lists
from matrixrl.schemes.rings import Number, Ring, number_text, simplify
from matrixrl.schemes.scheme import Scheme, SchemeError, as_format, shorten

NAME = "m"
TITLE = "nested-list table"
SUFFIX = ".m"
HOLDS_SEVERAL = False

_START = re.compile(r"\s*(?:[A-Za-z]\w*\s*:?=\s*)?(?=\{)")


def is_one(text: str) -> bool:
    """Returns true if a text, without comments, looks like such a table."""
    match = _START.match(text)
    return match is not None and re.match(r"\{\s*\{", text[match.end() :]) is not None


def parse(text: str) -> list[Draft]:
    """Returns the readings of a file; raises `FormatError` with the line."""
    source = Source.of(text, blocks=True)
    start = _START.match(source.text)
    if start is None:
        raise FormatError("line 1: want a list such as {{{{1, 0}, ...}, {{1, 0}, ...}, {{1, 0}, ...}}, ...}")
    products, end = nested_lists(source.text, start.end(), "{", "}", 4, Numbers())
    rest = source.text[end:].strip().removesuffix(";").strip()
    if rest:
        raise FormatError(
            f"line {line_of(source.text, end)}: {shorten(rest)} after the table, want the end of the file"
        )
    return drafts_of_matrices(products, source.ring)


def drafts_of_matrices(
    products: Sequence[Sequence[Sequence[Sequence[Number]]]], ring: Ring | None
) -> list[Draft]:
    """Returns the readings of products that are three matrices each.

    Raises:
      FormatError: if the shapes of the matrices do not fit one format.
    """
    shapes = None
    flat: list[list[list[Number]]] = [[], [], []]
    for number, product in enumerate(products, start=1):
        if len(product) != 3:
            raise FormatError(f"product {number}: {len(product)} matrices, want three, of A, B and C")
        mine = []
        for matrix in product:
            widths = {len(row) for row in matrix}
            if len(widths) != 1:
                raise FormatError(f"product {number}: a matrix has rows of unequal length")
            mine.append((len(matrix), widths.pop()))
        if shapes is not None and mine != shapes:
            raise FormatError(f"product {number}: matrices of {_words(mine)}, the first has {_words(shapes)}")
        shapes = mine
        for mode, matrix in enumerate(product):
            flat[mode].append([value for row in matrix for value in row])
    if shapes is None:
        raise FormatError("the table is empty, want one list per product")
    (n, m), (rows, p), shape = shapes
    if rows != m or shape not in ((p, n), (n, p)):
        raise FormatError(f"matrices of {_words(shapes)}, want n x m, m x p and p x n")
    try:
        fmt = as_format([n, m, p])
    except SchemeError as error:
        raise FormatError(str(error)) from error
    return both_orientations(fmt, flat[0], flat[1], flat[2], True, ring, shape=shape)


def _words(shapes: Sequence[tuple[int, int]]) -> str:
    return ", ".join(f"{rows}x{columns}" for rows, columns in shapes)


def matrices(scheme: Scheme) -> list[list[list[list[Number]]]]:
    """Returns A [n, m], B [m, p] and C transposed [p, n] of every product."""
    n, m, p = scheme.format
    products = []
    for u, v, w in zip(*scheme.factors, strict=True):
        a, b, c = ([simplify(value) for value in vector] for vector in (u, v, w))
        products.append(
            [
                [a[i * m : (i + 1) * m] for i in range(n)],
                [b[j * p : (j + 1) * p] for j in range(m)],
                [[c[i * p + k] for i in range(n)] for k in range(p)],
            ]
        )
    return products


def write(schemes: Sequence[Scheme]) -> bytes:
    """Returns the content of a file."""
    (scheme,) = schemes

    def text(matrix: list[list[Number]]) -> str:
        rows = ("{" + ", ".join(number_text(value, "*I") for value in row) + "}" for row in matrix)
        return "{" + ", ".join(rows) + "}"

    products = ["{" + ",\n ".join(text(matrix) for matrix in product) + "}" for product in matrices(scheme)]
    return (heading(scheme, ("(* ", " *)")) + "{" + ",\n".join(products) + "}\n").encode()
