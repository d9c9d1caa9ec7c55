"""SMS sparse matrices: a line ``rows columns R``, lines ``row column value``, a line ``0 0 0``.

A scheme is three matrices: L, rank x nm; R, rank x mp; and P, np x rank. They are three files whose
names end in ``_L.sms``, ``_R.sms`` and ``_P.sms``, any of which stands for all, or follow one
another in one file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from matrixrl.schemes.formats.draft import (
    MAX_NUMBERS,
    Draft,
    FormatError,
    both_orientations,
    format_of_sides,
)
from matrixrl.schemes.formats.text import Numbers, Source, heading
from matrixrl.schemes.rings import Number, number_text, simplify
from matrixrl.schemes.scheme import Scheme, shorten

NAME = "sms"
TITLE = "SMS sparse matrices"
SUFFIX = ".sms"
HOLDS_SEVERAL = False

_HEADER = re.compile(r"(\d{1,7})\s+(\d{1,7})\s+([A-Za-z])")

Matrix = list[list[Number]]


def is_one(text: str) -> bool:
    """Returns true if a text, without comments, starts as such a matrix."""
    return _HEADER.match(text.lstrip()) is not None


def parse_matrices(text: str) -> list[Matrix]:
    """Returns the matrices of a file, dense; raises `FormatError` with the line."""
    numbers = Numbers()
    matrices: list[Matrix] = []
    current: Matrix | None = None
    set_entries: set[tuple[int, int]] = set()
    count, number = 0, 0
    for number, line in Source.of(text).lines():
        if current is None:
            header = _HEADER.fullmatch(line)
            if header is None:
                raise FormatError(f"line {number}: {shorten(line)}, want rows columns R, such as 7 4 R")
            rows, columns = int(header[1]), int(header[2])
            count += rows * columns
            if rows * columns == 0 or count > MAX_NUMBERS:
                raise FormatError(
                    f"line {number}: a matrix of {rows:,} x {columns:,}, want 1 to {MAX_NUMBERS:,} entries"
                )
            current, set_entries = [[0] * columns for _ in range(rows)], set()
            continue
        words = line.split()
        if words == ["0", "0", "0"]:
            matrices.append(current)
            current = None
            continue
        try:
            if len(words) != 3 or not re.fullmatch(r"\d{1,7}\s+\d{1,7}", " ".join(words[:2])):
                raise ValueError(shorten(line))
            i, j, value = int(words[0]), int(words[1]), numbers(words[2])
        except ValueError as error:
            raise FormatError(f"line {number}: {error}, want row column value, such as 1 3 -1/2") from error
        if not (1 <= i <= len(current) and 1 <= j <= len(current[0])) or (i, j) in set_entries:
            twice = (
                "is given twice"
                if (i, j) in set_entries
                else f"is outside {len(current)} x {len(current[0])}"
            )
            raise FormatError(f"line {number}: the entry {i} {j} {twice}")
        set_entries.add((i, j))
        current[i - 1][j - 1] = value
    if current is not None:
        raise FormatError(f"line {number}: the file ends inside a matrix, want 0 0 0")
    return matrices


def drafts(matrices: Sequence[Matrix], text: str) -> list[Draft]:
    """Returns the readings of L, R and P; raises `FormatError` if they do not fit together."""
    if len(matrices) != 3:
        raise FormatError(f"holds {len(matrices)} matrices, want three: L, R and P")
    left, right, product = matrices
    shapes = ", ".join(f"{len(matrix)} x {len(matrix[0])}" for matrix in matrices)
    fmt = format_of_sides((len(left[0]), len(right[0]), len(product)))
    if fmt is None or not len(left) == len(right) == len(product[0]):
        raise FormatError(f"matrices of {shapes}, want rank x nm, rank x mp and np x rank")
    w = [list(column) for column in zip(*product, strict=True)]
    return both_orientations(fmt, left, right, w, False, Source.of(text).ring)


def write(schemes: Sequence[Scheme]) -> bytes:
    """Returns the content of a file with the three matrices."""
    (scheme,) = schemes
    parts = [heading(scheme)]
    for name, matrix in zip("LRP", (scheme.u, scheme.v, scheme.w.T), strict=True):
        parts.append(f"# {name}\n{len(matrix)} {len(matrix[0])} R\n")
        for i, row in enumerate(matrix, start=1):
            for j, value in enumerate(row, start=1):
                if value != 0:
                    parts.append(f"{i} {j} {number_text(simplify(value))}\n")
        parts.append("0 0 0\n")
    return "".join(parts).encode()
