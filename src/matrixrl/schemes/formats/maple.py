"""Maple files (``.mpl``): ``Tensor:=TriadSet([Triad([Matrix(n, m, [[...]]), ...]), ...]):``.

Every triad has A as n x m, B as m x p and C as p x n, transposed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from matrixrl.schemes.formats.draft import MAX_NUMBERS, Draft, FormatError
from matrixrl.schemes.formats.mathematica import drafts_of_matrices, matrices
from matrixrl.schemes.formats.text import Numbers, Source, heading, line_of, nested_lists
from matrixrl.schemes.rings import Number, number_text
from matrixrl.schemes.scheme import Scheme, shorten

NAME = "mpl"
TITLE = "Maple tensor"
SUFFIX = ".mpl"
HOLDS_SEVERAL = False


def is_one(text: str) -> bool:
    """Returns true if a text, without comments, looks like such a file."""
    return re.search(r"\bTriad(Set)?\s*\(", text[:4096]) is not None


class _Reader:
    """The text and the place in it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0

    def expect(self, pattern: str, wanted: str) -> str:
        match = re.compile(rf"\s*({pattern})").match(self.text, self.position)
        if match is None:
            line = line_of(self.text, self.position)
            rest = self.text[self.position : self.position + 60].strip()
            raise FormatError(f"line {line}: {shorten(rest)} given, want {wanted}")
        self.position = match.end()
        return match[1]

    def accept(self, pattern: str) -> bool:
        match = re.compile(rf"\s*({pattern})").match(self.text, self.position)
        if match is not None:
            self.position = match.end()
        return match is not None


def parse(text: str) -> list[Draft]:
    """Returns the readings of a file; raises `FormatError` with the line."""
    source = Source.of(text, blocks=True)
    reader, numbers = _Reader(source.text), Numbers()
    reader.accept(r"[A-Za-z_]\w*\s*:=")
    reader.expect(r"TriadSet\s*\(\s*\[", "TriadSet([Triad([...]), ...])")
    products: list[list[list[list[Number]]]] = []
    count = 0
    while True:
        reader.expect(r"Triad\s*\(\s*\[", "Triad([Matrix(...), Matrix(...), Matrix(...)])")
        triad: list[list[list[Number]]] = []
        while True:
            matrix = _matrix(reader, numbers)
            count += len(matrix) * len(matrix[0])
            if count > MAX_NUMBERS:
                raise FormatError(
                    f"line {line_of(reader.text, reader.position)}: more than {MAX_NUMBERS:,} numbers"
                )
            triad.append(matrix)
            if not reader.accept(","):
                break
        reader.expect(r"\]\s*\)", "a comma and a Matrix, or ]) at the end of the Triad")
        products.append(triad)
        if not reader.accept(","):
            break
    reader.expect(r"\]\s*\)", "a comma and a Triad, or ]) at the end of the TriadSet")
    reader.accept("[:;]")
    reader.expect(r"\Z", "the end of the file")
    return drafts_of_matrices(products, source.ring)


def _matrix(reader: _Reader, numbers: Numbers) -> list[list[Number]]:
    reader.expect(r"Matrix\s*\(", "Matrix(rows, columns, [[...], ...])")
    rows = int(reader.expect(r"\d{1,4}", "the number of rows"))
    reader.expect(",", "a comma")
    columns = int(reader.expect(r"\d{1,4}", "the number of columns"))
    reader.expect(r",\s*(?=\[)", "a comma and the rows in brackets")
    values, reader.position = nested_lists(reader.text, reader.position, "[", "]", 2, numbers)
    if len(values) != rows or any(len(row) != columns for row in values):
        line = line_of(reader.text, reader.position)
        raise FormatError(f"line {line}: a matrix that is not {rows}x{columns}, as it says")
    reader.expect(r"\)", ") at the end of the Matrix")
    return values


def write(schemes: Sequence[Scheme]) -> bytes:
    """Returns the content of a file."""
    (scheme,) = schemes

    def text(matrix: list[list[Number]]) -> str:
        rows = ",".join("[" + ",".join(number_text(value, "*I") for value in row) + "]" for row in matrix)
        return f"Matrix({len(matrix)}, {len(matrix[0])}, [{rows}])"

    triads = ",\n".join(
        "Triad([" + ", ".join(text(matrix) for matrix in product) + "])" for product in matrices(scheme)
    )
    return (heading(scheme) + "Tensor:=TriadSet([" + triads + "]):\n").encode()
