"""JSON with ``"n"``, ``"m"``, ``"z2"``, formulas in ``"multiplications"`` and ``"elements"``, and
``u, v, w`` lists.

``"n"`` has the three sizes, or one for a square format, ``"m"`` the rank, and ``"z2"`` says whether
the scheme is one modulo 2. Where both the lists and the formulas are present, the lists win. The
lists of published files have C transposed, the formulas name its entries as they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, cast

from matrixrl.schemes.formats.draft import Draft, FormatError, both_orientations
from matrixrl.schemes.formats.text import (
    EntryTerm,
    coefficients,
    entry_index,
    entry_names,
    parse_sum,
    split_factors,
    sum_text,
)
from matrixrl.schemes.rings import MODULUS, RINGS, Number, Ring, from_json_value, json_value, simplify
from matrixrl.schemes.scheme import Format, Scheme, SchemeError, as_format, shorten

NAME = "elements"
TITLE = "JSON with n, m, multiplications and elements"
SUFFIX = ".json"
HOLDS_SEVERAL = False


def is_one(value: Any) -> bool:
    """Returns true if a JSON object is in this format."""
    return isinstance(value, dict) and "n" in value and ("multiplications" in value or "u" in value)


def parse(value: dict[str, Any]) -> list[Draft]:
    """Returns the readings of an object; raises `FormatError` naming the field."""
    size = value["n"]
    try:
        fmt = as_format([size] * 3 if type(size) is int else size)
    except SchemeError as error:
        raise FormatError(f"n: {shorten(size)} given, want a list of three sizes, or one size") from error
    rank = value.get("m")
    if type(rank) is not int or not 1 <= rank <= 100_000:
        raise FormatError(f"m: {shorten(rank)} given, want the rank, an integer of 1 or more")
    modulo_2 = value.get("z2", False)
    if not isinstance(modulo_2, bool):
        raise FormatError(f"z2: {shorten(modulo_2)} given, want true or false")
    ring = value.get("ring", "F2" if modulo_2 else None)
    if ring is not None and (ring not in RINGS or (ring == "F2") != modulo_2):
        raise FormatError(f"ring: {shorten(ring)} given, want one of {', '.join(RINGS)} that agrees with z2")
    ring = cast("Ring | None", ring)
    lists = [name for name in "uvw" if name in value]
    if len(lists) == 3:
        u, v, w = (_list(name, value[name], rank, side) for name, side in zip("uvw", fmt.sides, strict=True))
        return both_orientations(fmt, u, v, w, True, ring)
    if lists:
        raise FormatError(f"{lists[0]}: present, but not all of u, v, w; want the three lists or formulas")
    u, v = _products(value.get("multiplications"), fmt, rank)
    rows, columns = fmt.n, fmt.p
    w = _elements(value.get("elements"), rows, columns, rank)
    return both_orientations(fmt, u, v, w, False, ring, shape=(rows, columns) if rows == columns else None)


def _list(name: str, rows: Any, rank: int, side: int) -> list[list[Number]]:
    if not isinstance(rows, list) or len(rows) != rank:
        given = f"{len(rows)} rows" if isinstance(rows, list) else shorten(rows)
        raise FormatError(f"{name}: {given}, want {rank} rows (m)")
    result = []
    for index, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != side:
            given = f"{len(row)} entries" if isinstance(row, list) else shorten(row)
            raise FormatError(f"{name}[{index}]: {given}, want {side} numbers")
        try:
            result.append([_number(value) for value in row])
        except ValueError as error:
            raise FormatError(
                f'{name}[{index}]: {shorten(str(error), 60)}, want integers, or fractions such as "1/2"'
            ) from error
    return result


def _number(value: Any) -> Number:
    """Returns a number of a list: as in our own JSON, or a float that is a multiple of 2^-20."""
    if isinstance(value, float) and abs(value) < 2**31 and value * 2**20 == int(value * 2**20):
        return simplify(Fraction(value))
    return from_json_value(value)


def _equation(text: Any, where: str) -> tuple[str, str]:
    if not isinstance(text, str) or text.count("=") != 1:
        raise FormatError(f"{where}: {shorten(text)}, want a formula such as m1 = (a11 + a22) * (b11)")
    left, _, right = text.partition("=")
    return left.strip(), right.strip()


def _products(formulas: Any, fmt: Format, rank: int) -> tuple[list[list[Number]], list[list[Number]]]:
    if not isinstance(formulas, list) or len(formulas) != rank:
        given = f"{len(formulas)} formulas" if isinstance(formulas, list) else shorten(formulas)
        raise FormatError(f"multiplications: {given}, want {rank} (m)")
    u: list[list[Number]] = [[] for _ in range(rank)]
    v: list[list[Number]] = [[] for _ in range(rank)]
    for index, text in enumerate(formulas):
        where = f"multiplications[{index}]"
        left, right = _equation(text, where)
        match = re.fullmatch(r"[mM]_?(\d{1,6})", left)
        number = int(match[1]) - 1 if match else -1
        if not 0 <= number < rank or u[number]:
            raise FormatError(f"{where}: {shorten(left)} on the left, want each of m1 to m{rank} once")
        try:
            scale, factors = split_factors(right)
            if len(factors) != 2:
                raise ValueError(f"{shorten(right)}, want a sum of a times a sum of b")
            left_side = coefficients(parse_sum(factors[0], "a"), fmt.n, fmt.m)
            u[number] = [simplify(scale * value) for value in left_side]
            v[number] = coefficients(parse_sum(factors[1], "b"), fmt.m, fmt.p)
        except ValueError as error:
            raise FormatError(f"{where}: {error}") from error
    return u, v


def _elements(formulas: Any, rows: int, columns: int, rank: int) -> list[list[Number]]:
    if not isinstance(formulas, list) or len(formulas) != rows * columns:
        given = f"{len(formulas)} formulas" if isinstance(formulas, list) else shorten(formulas)
        raise FormatError(f"elements: {given}, want {rows * columns}, one for each entry of C")
    w: list[list[Number]] = [[0] * (rows * columns) for _ in range(rank)]
    seen: set[int] = set()
    for index, text in enumerate(formulas):
        where = f"elements[{index}]"
        left, right = _equation(text, where)
        try:
            (entry,) = parse_sum(left, "c")
            if entry.value != 1:
                raise ValueError(f"{shorten(left)} on the left, want one entry of C")
            column = entry_index(entry, rows, columns)
            terms = parse_sum(right, "m")
        except ValueError as error:
            raise FormatError(f"{where}: {error}") from error
        if column in seen:
            raise FormatError(f"{where}: {left} is given twice")
        seen.add(column)
        for term in terms:
            w[_product_number(term, rank, where)][column] = simplify(
                w[_product_number(term, rank, where)][column] + term.value
            )
    return w


def _product_number(term: EntryTerm, rank: int, where: str) -> int:
    if "," in term.index or not 1 <= int(term.index) <= rank:
        raise FormatError(f"{where}: m{term.index}, want a product of m1 to m{rank}")
    return int(term.index) - 1


def write(schemes: Sequence[Scheme]) -> bytes:
    """Returns the content of a file: formulas and lists; the lists have C transposed."""
    (scheme,) = schemes
    n, m, p = scheme.format
    products = [f"m{number + 1}" for number in range(scheme.rank)]
    a, b, c = entry_names("a", n, m), entry_names("b", m, p), entry_names("c", n, p)
    numbers = [[simplify(value) for value in row] for row in scheme.w]
    turned = [[row[i * p + k] for k in range(p) for i in range(n)] for row in numbers]
    record: dict[str, Any] = {
        "n": [n, m, p],
        "m": scheme.rank,
        "z2": scheme.ring == "F2",
        **({"ring": scheme.ring} if scheme.ring in MODULUS and scheme.ring != "F2" else {}),
        "multiplications": [
            f"{name} = ({_spaced(u, a)}) * ({_spaced(v, b)})"
            for name, u, v in zip(products, scheme.u, scheme.v, strict=True)
        ],
        "elements": [
            f"{name} = {_spaced([row[index] for row in numbers], products)}" for index, name in enumerate(c)
        ],
        "u": [[json_value(simplify(value)) for value in row] for row in scheme.u],
        "v": [[json_value(simplify(value)) for value in row] for row in scheme.v],
        "w": [[json_value(value) for value in row] for row in turned],
    }
    parts = []
    for key, value in record.items():
        if isinstance(value, list) and key != "n":
            rows = ",\n        ".join(json.dumps(row) for row in value)
            parts.append(f'"{key}": [\n        {rows}\n    ]')
        else:
            parts.append(f'"{key}": {json.dumps(value)}')
    return ("{\n    " + ",\n    ".join(parts) + "\n}\n").encode()


def _spaced(values: Any, names: Sequence[str]) -> str:
    text = sum_text([simplify(value) for value in values], names)
    return re.sub(r"(?<=[^(*+-])([+-])(?![^(]*i\))", r" \1 ", text)
