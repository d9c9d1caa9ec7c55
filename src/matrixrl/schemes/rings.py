"""Numbers and rings of schemes: integers, integers modulo 2 and 3, fractions, complex rationals.

A coefficient is a Python `int`, a `Fraction`, or a `ComplexRational`, always in its simplest form
(`simplify`). The rings of characteristic zero contain one another: Z in Z[1/2] in Q in Q[i]. F2 and
F3 are the integers modulo 2 and 3.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import Any, Literal, get_args

import numpy as np

Ring = Literal["Z", "F2", "F3", "Z[1/2]", "Q", "Q[i]"]
RINGS: tuple[Ring, ...] = get_args(Ring)

MODULUS: dict[str, int] = {"F2": 2, "F3": 3}
"""The rings of finite characteristic."""

CHAIN: tuple[Ring, ...] = ("Z", "Z[1/2]", "Q", "Q[i]")
"""The rings of characteristic zero, each contained in the next."""

IN_WORDS: dict[str, str] = {
    "Z": "over the integers",
    "F2": "modulo 2",
    "F3": "modulo 3",
    "Z[1/2]": "over the integers with halves, Z[1/2]",
    "Q": "over the rationals",
    "Q[i]": "over the complex rationals",
}


@dataclass(frozen=True, slots=True)
class ComplexRational:
    """A complex number with rational parts.

    Attributes:
      real: real part.
      imaginary: imaginary part.
    """

    real: Fraction
    imaginary: Fraction

    def __add__(self, other: Any) -> ComplexRational:
        other = _as_complex(other)
        return ComplexRational(self.real + other.real, self.imaginary + other.imaginary)

    __radd__ = __add__

    def __neg__(self) -> ComplexRational:
        return ComplexRational(-self.real, -self.imaginary)

    def __sub__(self, other: Any) -> ComplexRational:
        return self + -_as_complex(other)

    def __rsub__(self, other: Any) -> ComplexRational:
        return _as_complex(other) + -self

    def __mul__(self, other: Any) -> ComplexRational:
        other = _as_complex(other)
        return ComplexRational(
            self.real * other.real - self.imaginary * other.imaginary,
            self.real * other.imaginary + self.imaginary * other.real,
        )

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> ComplexRational:
        other = _as_complex(other)
        size = other.real**2 + other.imaginary**2
        return self * ComplexRational(other.real / size, -other.imaginary / size)

    def __rtruediv__(self, other: Any) -> ComplexRational:
        return _as_complex(other) / self

    def __bool__(self) -> bool:
        return bool(self.real or self.imaginary)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ComplexRational | Fraction | int | np.integer):
            return NotImplemented
        other = _as_complex(other)
        return self.real == other.real and self.imaginary == other.imaginary

    def __hash__(self) -> int:
        return hash((self.real, self.imaginary)) if self.imaginary else hash(self.real)

    def __complex__(self) -> complex:
        return complex(float(self.real), float(self.imaginary))

    def __str__(self) -> str:
        return number_text(self)


Number = int | Fraction | ComplexRational


def _as_complex(value: Any) -> ComplexRational:
    if isinstance(value, ComplexRational):
        return value
    return ComplexRational(Fraction(int(value) if isinstance(value, np.integer) else value), Fraction(0))


def simplify(value: Any) -> Number:
    """Returns a number in its simplest form: an `int` where possible, else a `Fraction`.

    Raises:
      TypeError: if `value` is not an integer, a fraction or a complex rational. Booleans and floats
        are not.
    """
    if type(value) is int:
        return value
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, ComplexRational):
        return value if value.imaginary else simplify(value.real)
    if isinstance(value, Fraction):
        return value.numerator if value.denominator == 1 else value
    raise TypeError(f"{value!r} is not an integer or a fraction")


def parts(value: Number) -> tuple[Fraction, Fraction]:
    """Returns real and imaginary part."""
    if isinstance(value, ComplexRational):
        return value.real, value.imaginary
    return Fraction(value), Fraction(0)


def denominator(value: Number) -> int:
    """Returns the least positive integer whose product with `value` has integer parts."""
    if isinstance(value, ComplexRational):
        return lcm(value.real.denominator, value.imaginary.denominator)
    return value.denominator


def size_of(value: Number) -> Fraction | int:
    """Returns the absolute value, of a complex number the larger one of its parts."""
    if isinstance(value, ComplexRational):
        return max(abs(value.real), abs(value.imaginary))
    return abs(value)


def smallest_ring(values: Iterable[Number]) -> Ring:
    """Returns the smallest ring of characteristic zero that contains all values."""
    level = 0
    for value in values:
        level = max(level, _level(value))
        if level == len(CHAIN) - 1:
            break
    return CHAIN[level]


def _level(value: Number) -> int:
    if isinstance(value, int):
        return 0
    if isinstance(value, ComplexRational) and value.imaginary:
        return 3
    bottom = denominator(value)
    return 0 if bottom == 1 else 1 if bottom & (bottom - 1) == 0 else 2


def contains(ring: str, value: Number) -> bool:
    """Returns true if the value is defined in the ring: modulo a prime, if the prime does not
    divide its denominator.
    """
    if ring in MODULUS:
        return (
            not (isinstance(value, ComplexRational) and value.imaginary)
            and denominator(value) % MODULUS[ring] != 0
        )
    return _level(value) <= CHAIN.index(ring)  # pyright: ignore[reportArgumentType]


def modulo(value: Number, prime: int) -> int:
    """Returns a real value modulo a prime that does not divide its denominator, in 0..prime - 1."""
    real, _ = parts(value)
    return real.numerator * pow(real.denominator, -1, prime) % prime


_FRACTION = re.compile(r"([+-]?)\s*(\d{1,1000})(?:\s*/\s*(\d{1,1000})|\.(\d{1,100}))?")
_COMPLEX = re.compile(
    r"""\s*(?P<real>[+-]?\s*\d+(?:\s*/\s*\d+|\.\d+)?(?!\s*\*?\s*[iIjJ\d/.]))?\s*
        (?:(?P<sign>[+-]?)\s*(?P<size>\d+(?:\s*/\s*\d+|\.\d+)?)?\s*\*?\s*[iIjJ]\s*(?:/\s*(?P<below>\d+))?)?\s*""",
    re.VERBOSE,
)
_DIGITS = re.compile(r"\d{1001}")


def parse_fraction(text: str) -> Fraction:
    """Returns the value of ``3``, ``-1/2`` or ``0.5``, exactly.

    Raises:
      ValueError: if the text is something else or the denominator is zero.
    """
    match = _FRACTION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{_shorten(text)} is not an integer or a fraction")
    sign, top, bottom, decimals = match.groups()
    if bottom is not None and int(bottom) == 0:
        raise ValueError(f"{_shorten(text)} has the denominator 0")
    value = Fraction(int(top + (decimals or "")), int(bottom or 1) * 10 ** len(decimals or ""))
    return -value if sign == "-" else value


def parse_number(text: str) -> Number:
    """Returns the value of a number as it stands in a file: ``3``, ``-1/2``, ``0.5``, ``1/2+1/2i``,
    ``I/2``.

    Raises:
      ValueError: if the text is something else.
    """
    try:
        return simplify(parse_fraction(text))
    except ValueError:
        match = None if _DIGITS.search(text) else _COMPLEX.fullmatch(text)
        if match is None or not re.search("[iIjJ]", text):
            raise
    if match["real"] and not match["sign"]:
        raise ValueError(f"{_shorten(text)} is not a number")
    imaginary = parse_fraction(match["size"] or "1") / int(match["below"] or 1)
    real = parse_fraction(match["real"].replace(" ", "")) if match["real"] else Fraction(0)
    return simplify(ComplexRational(real, -imaginary if match["sign"] == "-" else imaginary))


def number_text(value: Number, unit: str = "i") -> str:
    """Returns the text that `parse_number` reads: ``3``, ``-1/2``, ``1/2-1/3i``."""
    if not isinstance(value, ComplexRational):
        return str(value)
    real = str(value.real) if value.real else ""
    sign = "-" if value.imaginary < 0 else "+" if real else ""
    size = "" if abs(value.imaginary) == 1 else str(abs(value.imaginary))
    return f"{real}{sign}{size}{unit if size else unit.lstrip('*')}"


def json_value(value: Number) -> int | str | list[int | str]:
    """Returns a number as it stands in a scheme's JSON file: an integer, a string such as ``1/2``,
    or a pair of them for a complex number.
    """
    if isinstance(value, int):
        return value
    if isinstance(value, Fraction):
        return str(value)
    return [part.numerator if part.denominator == 1 else str(part) for part in (value.real, value.imaginary)]


def from_json_value(value: Any) -> Number:
    """Returns the number that `json_value` wrote.

    Raises:
      ValueError: if the value is something else: a float, a boolean, a text that is not a fraction.
    """
    if type(value) is int:
        return value
    if isinstance(value, str) and "." not in value:
        return simplify(parse_fraction(value))
    if isinstance(value, list) and len(value) == 2 and not any(isinstance(part, list) for part in value):
        real, imaginary = (
            Fraction(from_json_value(part))  # pyright: ignore[reportArgumentType, reportCallIssue]
            for part in value
        )
        return simplify(ComplexRational(real, imaginary))
    raise ValueError(f"{_shorten(value)} is not an integer, a fraction or a pair of them")


def _shorten(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 40 else text[:37] + "..."
