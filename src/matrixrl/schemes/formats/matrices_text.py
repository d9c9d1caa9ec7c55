"""Plain text with the three factor matrices.

Numbers are separated by blanks (commas and semicolons are read as blanks). A first line may give
``n m p`` or ``n m p rank``; a comment ``# format: 2x3x4`` does the same. Then come u, v and w, each
as one row per product, as one row per entry of A, B or C, or all on one line. Without the sizes the
three matrices are set apart by blank lines, comments or the lengths of their rows.
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
from matrixrl.schemes.rings import Number, Ring, number_text, simplify
from matrixrl.schemes.scheme import Format, Scheme, SchemeError, as_format, shorten

NAME = "txt"
TITLE = "three factor matrices in plain text"
SUFFIX = ".txt"
HOLDS_SEVERAL = False

Rows = list[list[Number]]


def is_one(text: str) -> bool:
    """Returns true if the first lines of a text, without comments, are numbers."""
    lines = [line for line in text[:4000].split("\n") if line.strip()][:1]
    return all(
        re.fullmatch(r"[-+\d/.iI*,;\s\[\]]+", line) and re.search(r"\d", line) for line in lines
    ) and bool(lines)


def parse(text: str) -> list[Draft]:
    """Returns the readings of a file; raises `FormatError` with the line."""
    source = Source.of(text)
    blocks = _blocks(source)
    rows = [row for block in blocks for row in block]
    if not rows:
        raise FormatError("holds no numbers, want the three factor matrices")
    fmt = source.format
    drafts: list[Draft] = []
    header = rows[0]
    if len(header) in (3, 4) and all(type(side) is int and side >= 1 for side in header):
        given = [int(side) for side in header[:3]]  # pyright: ignore[reportArgumentType]
        try:
            drafts = _with_format(
                as_format(given), rows[1:], header[3] if len(header) == 4 else None, source.ring
            )
        except SchemeError:
            drafts = []
    if not drafts and fmt is not None:
        drafts = _with_format(fmt, rows, None, source.ring)
    if not drafts and fmt is None:
        drafts = _without_format(blocks, source.ring)
    if not drafts:
        shapes = ", ".join(f"{len(block)} rows of {len(block[0])}" for block in blocks[:4])
        raise FormatError(
            f"{shapes}{' and more' * (len(blocks) > 4)}: no three factor matrices; want a line n m p rank, then u, v "
            "and w with a row for each product"
        )
    return drafts


def _blocks(source: Source) -> list[Rows]:
    """Returns runs of lines of one length without a blank line between them."""
    numbers = Numbers()
    blocks: list[Rows] = []
    last, count = -1, 0
    for line_number, line in source.lines():
        row = []
        for word in re.sub(r"[,;]", " ", line).split():
            try:
                row.append(numbers(word))
            except ValueError as error:
                raise FormatError(f"line {line_number}: {shorten(str(error), 60)}, want numbers") from error
        if not row:
            raise FormatError(f"line {line_number}: {shorten(line)}, want numbers")
        count += len(row)
        if count > MAX_NUMBERS:
            raise FormatError(f"line {line_number}: more than {MAX_NUMBERS:,} numbers")
        if blocks and line_number == last + 1 and len(blocks[-1][-1]) == len(row):
            blocks[-1].append(row)
        else:
            blocks.append([row])
        last = line_number
    return blocks


def _with_format(fmt: Format, rows: Rows, given: Number | None, ring: Ring | None) -> list[Draft]:
    """Returns the readings of rows whose format is known; none if they do not fit."""
    total, per_product = sum(map(len, rows)), sum(fmt.sides)
    if total == 0 or total % per_product:
        return []
    rank = total // per_product
    if given not in (None, rank):
        return []
    lengths = [len(row) for row in rows]
    drafts: list[Draft] = []
    by_product = [side for side in fmt.sides for _ in range(rank)]
    by_entry = [rank] * sum(fmt.sides)
    if lengths == by_product or lengths == [rank * side for side in fmt.sides] or len(rows) == 1:
        flat = [value for row in rows for value in row]
        factors, start = [], 0
        for side in fmt.sides:
            factors.append([flat[start + r * side : start + (r + 1) * side] for r in range(rank)])
            start += rank * side
        drafts += both_orientations(fmt, factors[0], factors[1], factors[2], False, ring)
    if lengths == by_entry:
        factors, start = [], 0
        for side in fmt.sides:
            factors.append([list(product) for product in zip(*rows[start : start + side], strict=True)])
            start += side
        drafts += both_orientations(fmt, factors[0], factors[1], factors[2], False, ring)
    return drafts


def _without_format(blocks: list[Rows], ring: Ring | None) -> list[Draft]:
    """Returns the readings of three blocks of rows."""
    if len(blocks) == 1 and len(blocks[0]) % 3 == 0:
        third = len(blocks[0]) // 3
        blocks = [blocks[0][index * third : (index + 1) * third] for index in range(3)]
    if len(blocks) != 3:
        return []
    drafts: list[Draft] = []
    heights = {len(block) for block in blocks}
    widths = {len(block[0]) for block in blocks}
    if len(heights) == 1:
        a, b, c = (len(block[0]) for block in blocks)
        if (fmt := format_of_sides((a, b, c))) is not None:
            drafts += both_orientations(fmt, blocks[0], blocks[1], blocks[2], False, ring)
    if len(widths) == 1:
        a, b, c = (len(block) for block in blocks)
        if (fmt := format_of_sides((a, b, c))) is not None:
            turned = [[list(product) for product in zip(*block, strict=True)] for block in blocks]
            drafts += both_orientations(fmt, turned[0], turned[1], turned[2], False, ring)
    return drafts


def write(schemes: Sequence[Scheme]) -> bytes:
    """Returns the content of a file: sizes and rank, then a row for each product."""
    (scheme,) = schemes
    parts = [heading(scheme) + " ".join(map(str, (*scheme.format, scheme.rank))) + "\n"]
    for name, factor in zip(("u (A)", "v (B)", "w (C, not transposed)"), scheme.factors, strict=True):
        rows = (" ".join(number_text(simplify(value)) for value in row) for row in factor)
        parts.append(f"# {name}\n" + "\n".join(rows) + "\n")
    return "".join(parts).encode()
