"""Common parts of the text formats: comments, declarations, numbers, entries and their sums."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from matrixrl.schemes.formats.draft import MAX_NUMBERS, FormatError
from matrixrl.schemes.rings import ComplexRational, Number, Ring, number_text, parse_number, simplify
from matrixrl.schemes.scheme import Format, Scheme, as_format, shorten

_DECLARED_RING = re.compile(r"\bring\s*[:=]\s*(F2|F3|Z\[1/2\]|Z|Q\[i\]|Q)(?![\w\[])")
_DECLARED_FORMAT = re.compile(r"\bformat\s*[:=]\s*(\d{1,4})\s*x\s*(\d{1,4})\s*x\s*(\d{1,4})(?!\w)")


@dataclass(frozen=True)
class Source:
    """A text without its comments.

    Attributes:
      text: comments are replaced by spaces, so that places are those of the file.
      ring: ring that a comment declares, as ``ring: F2``.
      format: format that a comment declares, as ``format: 2x3x4``.
    """

    text: str
    ring: Ring | None
    format: Format | None

    @staticmethod
    def of(text: str, blocks: bool = False) -> Source:
        """Removes comments: from ``#`` to the end of a line, and ``(* ... *)`` if `blocks`."""
        comments: list[str] = []

        def blank(match: re.Match[str]) -> str:
            comments.append(match[0][:400])
            return re.sub(r"[^\n]", " ", match[0])

        if blocks:
            text = re.sub(r"\(\*.*?\*\)", blank, text, flags=re.DOTALL)
        text = re.sub(r"#[^\n]*", blank, text)
        said = "\n".join(comments[:50])
        ring, format = _DECLARED_RING.search(said), _DECLARED_FORMAT.search(said)
        return Source(
            text,
            cast(Ring, ring[1]) if ring else None,
            as_format([int(side) for side in format.groups()]) if format else None,
        )

    def lines(self) -> Iterator[tuple[int, str]]:
        """Yields number and content of each line that is not blank."""
        for number, line in enumerate(self.text.split("\n"), start=1):
            if line := line.strip():
                yield number, line


def line_of(text: str, position: int) -> int:
    """Returns the number of the line of a position, from 1."""
    return text.count("\n", 0, position) + 1


def heading(scheme: Scheme, marks: tuple[str, str] = ("# ", "")) -> str:
    """Returns the comment at the head of a written file, which declares format and ring."""
    text = f"format: {scheme.format}, rank {scheme.rank}, ring: {scheme.ring}"
    return f"{marks[0]}{text}{marks[1]}\n"


class Numbers:
    """Numbers by their text, each parsed once: a file repeats few."""

    def __init__(self) -> None:
        self._known: dict[str, Number] = {"0": 0, "1": 1, "-1": -1}

    def __call__(self, text: str) -> Number:
        """Returns the number; raises `ValueError`."""
        value = self._known.get(text)
        if value is None:
            value = parse_number(text)
            if len(self._known) < 10_000:
                self._known[text] = value
        return value


@dataclass(frozen=True)
class EntryTerm:
    """A coefficient and an entry such as ``a12``, whose indices may still be one word.

    Attributes:
      value: the coefficient.
      letter: ``a``, ``b``, ``c`` or ``m``, in lower case.
      index: the digits, or two numbers with ``,`` between them.
    """

    value: Number
    letter: str
    index: str


_TERM = re.compile(
    r"""\s*(?P<sign>[+-]?)\s*
        (?:(?P<value>\d+(?:\s*/\s*\d+|\.\d+)?|\([^()]*[iI][^()]*\))\s*\*?\s*)?
        (?P<letter>[a-zA-Z])\s*_?
        (?:\[\s*(?P<i>\d+)\s*,\s*(?P<j>\d+)\s*\]|(?P<row>\d+)_(?P<column>\d+)|(?P<digits>\d+))\s*""",
    re.VERBOSE,
)


def parse_sum(text: str, letters: str) -> list[EntryTerm]:
    """Returns the terms of a sum such as ``a11 - 2*a12 + 1/2b211``; none for ``0``.

    Raises:
      ValueError: if it is something else, or an entry is not of one of the `letters`.
    """
    stripped = text.strip()
    if stripped in ("0", "-0", "+0"):
        return []
    terms: list[EntryTerm] = []
    position = 0
    while position < len(stripped):
        match = _TERM.match(stripped, position)
        if match is None or (terms and not match["sign"]) or match["letter"].lower() not in letters:
            wanted = " or ".join(f"{letter}12" for letter in letters)
            raise ValueError(
                f"cannot read {shorten(stripped[position:])}, want a sum of entries such as {wanted}"
            )
        value = parse_number(match["value"].strip("() \t")) if match["value"] else 1
        pair = (match["i"], match["j"]) if match["i"] else (match["row"], match["column"])
        index = match["digits"] or ",".join(str(int(side[:9])) for side in pair)
        if len(index) > 20:
            raise ValueError(f"the index {shorten(index)} is too long")
        terms.append(EntryTerm(-value if match["sign"] == "-" else value, match["letter"].lower(), index))
        position = match.end()
    if not terms:
        raise ValueError("a sum of entries is missing")
    return terms


def splits(index: str) -> list[tuple[int, int]]:
    """Returns every (row, column), from 1, that the digits of an index can mean."""
    if "," in index:
        row, column = index.split(",")
        return [(int(row), int(column))]
    pairs = ((index[:cut], index[cut:]) for cut in range(1, len(index)))
    return [(int(row), int(column)) for row, column in pairs if row[0] != "0" and column[0] != "0"]


def entry_index(term: EntryTerm, rows: int, columns: int) -> int:
    """Returns the number of an entry, row-major, in a matrix of `rows` x `columns`.

    Raises:
      ValueError: if the matrix has no such entry, or the digits can mean two.
    """
    found = [(i, j) for i, j in splits(term.index) if 1 <= i <= rows and 1 <= j <= columns]
    name = term.letter + term.index
    if not found:
        raise ValueError(f"{name} is no entry of a {rows}x{columns} matrix {term.letter.upper()}")
    if len(found) > 1:
        both = " or ".join(f"{term.letter}{i}_{j}" for i, j in found)
        raise ValueError(f"{name} is ambiguous in a {rows}x{columns} matrix; write {both}")
    (i, j) = found[0]
    return (i - 1) * columns + j - 1


def coefficients(terms: Sequence[EntryTerm], rows: int, columns: int) -> list[Number]:
    """Returns the coefficients of all entries of a matrix in a sum; raises `ValueError`."""
    row: list[Number] = [0] * (rows * columns)
    for term in terms:
        index = entry_index(term, rows, columns)
        row[index] = simplify(row[index] + term.value)
    return row


def sum_text(values: Sequence[Number], names: Sequence[str]) -> str:
    """Returns a sum without spaces, such as ``a11-2*a12``; ``0`` if every coefficient is zero."""
    text = ""
    for value, name in zip(values, names, strict=True):
        if value == 0:
            continue
        if isinstance(value, ComplexRational):
            text += f"+({number_text(value)})*{name}"
        else:
            size = abs(value)
            text += ("-" if value < 0 else "+") + ("" if size == 1 else f"{size}*") + name
    return text.removeprefix("+") or "0"


def entry_names(letter: str, rows: int, columns: int) -> list[str]:
    """Returns the names of all entries, row-major: ``a12``, or ``a1_12`` if ambiguous."""
    mark = "_" if max(rows, columns) > 9 else ""
    return [f"{letter}{i + 1}{mark}{j + 1}" for i in range(rows) for j in range(columns)]


def nested_lists(
    text: str, start: int, opening: str, closing: str, depth: int, numbers: Numbers
) -> tuple[list, int]:
    """Parses nested lists of numbers such as ``{{1, 0}, {1/2, -1}}``.

    Args:
      text: the file.
      start: position of the first bracket.
      opening, closing: the brackets.
      depth: every number must be at this depth.
      numbers: parses and remembers.

    Returns:
      The lists and the position after the last bracket.

    Raises:
      FormatError: with the line.
    """
    token = re.compile(
        rf"\s*(?:(?P<bracket>[{re.escape(opening + closing)}])|(?P<comma>,)|(?P<value>[^{re.escape(opening + closing)},\s][^{re.escape(opening + closing)},]*))"
    )
    stack: list[list] = []
    position, count = start, 0
    wants_value = True  # at the start of a list and after a comma

    def wrong(what: str) -> FormatError:
        return FormatError(f"line {line_of(text, position)}: {what}")

    while True:
        match = token.match(text, position)
        if match is None:
            raise wrong(f"the file ends inside a list, want {closing}")
        position = match.end()
        if match["bracket"] == opening:
            if not wants_value or len(stack) == depth:
                raise wrong(f"{opening} is not expected here, want lists of depth {depth}")
            stack.append([])
        elif match["bracket"]:
            if wants_value:
                raise wrong(f"a number or a list is missing before {closing}")
            done = stack.pop()
            if not stack:
                return done, position
            stack[-1].append(done)
        elif match["comma"]:
            if wants_value:
                raise wrong("a number or a list is missing before the comma")
            wants_value = True
        else:
            if not wants_value or len(stack) != depth:
                raise wrong(
                    f"{shorten(match['value'].strip())} is not expected here, want lists of depth {depth}"
                )
            count += 1
            if count > MAX_NUMBERS:
                raise wrong(f"more than {MAX_NUMBERS:,} numbers")
            try:
                stack[-1].append(numbers(match["value"].strip()))
            except ValueError as error:
                raise wrong(f"{error}; want integers or fractions such as -1/2") from error
            wants_value = False
        if match["bracket"] == closing:
            wants_value = False


def split_factors(text: str) -> tuple[Number, list[str]]:
    """Splits a product such as ``2*(a11-a22)*b12*(c21+2*c22)`` into its number and its sums.

    Raises:
      ValueError: if brackets do not match or a factor is missing.
    """
    pieces, depth, piece = [], 0, ""
    for character in text + "*":
        if depth == 0 and (character == "*" or (character == "(" and piece.rstrip().endswith(")"))):
            if not piece.strip():
                raise ValueError("a factor is missing")
            pieces.append(piece.strip())
            piece = "" if character == "*" else "("
            depth += character == "("
            continue
        depth += (character == "(") - (character == ")")
        if not 0 <= depth <= 2:
            raise ValueError("the brackets do not match")
        piece += character
    if depth:
        raise ValueError("the brackets do not match")
    scale: Number = 1
    factors: list[str] = []
    for piece in pieces:
        sign = -1 if piece.startswith("-") else 1
        inner = piece[1:].lstrip() if piece[:1] in ("+", "-") else piece
        if inner.startswith("(") and inner.endswith(")"):
            bare = inner[1:-1]
        else:
            sign, bare = 1, piece
        number = None if re.search("[a-hj-zA-HJ-Z]", bare) or bare.strip() == "0" else parse_number(bare)
        if number is None:
            factors.append(bare)
        scale = simplify(scale * sign * (1 if number is None else number))
    return scale, factors
