"""A scheme: the factor matrices of an algorithm for a bilinear map, and its file.

The map is a `matrixrl.schemes.problem.Problem`, most often matrix multiplication. Index order of
matrices, here and everywhere in this package: A is n x m, B is m x p and C = AB is n x p, all
flattened row-major, and C is **not** transposed (some sources transpose it). The target is the
tensor with ``T[i*m + j, j*p + k, i*p + k] = 1`` for i < n, j < m, k < p and 0 elsewhere. A scheme
of rank R computes

    M_r = (sum_a u[r, a] A_a) * (sum_b v[r, b] B_b),    C_c = sum_r w[r, c] M_r,

which is right exactly when ``sum_r u[r] (x) v[r] (x) w[r] = T`` over the ring.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, lcm
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from matrixrl.schemes.rings import (
    MODULUS,
    RINGS,
    Number,
    Ring,
    contains,
    denominator,
    from_json_value,
    json_value,
    modulo,
    parts,
    simplify,
    size_of,
    smallest_ring,
)
from matrixrl.user_files import UserFileError, display_path, read_json
from matrixrl.whole_files import write_whole

if TYPE_CHECKING:
    from matrixrl.schemes.problem import Problem

    ArrayLike = np.ndarray | Sequence[Sequence[Any]]

MAX_SIDE = 32
"""Largest n, m or p allowed in a file: a bound against absurd files, far above practical
formats.
"""

MAX_ENTRY = 2**31 - 1
"""Largest absolute coefficient: keeps products of coefficients small; no known scheme comes
near.
"""

MAX_DENOMINATOR = 2**31 - 1
"""Largest common denominator of a factor matrix."""


class SchemeError(ValueError):
    """A scheme or its file is malformed. The message is one line and names the field."""


class Format(NamedTuple):
    """The shape of a product: (n x m) times (m x p).

    Attributes:
      n: rows of A and of C.
      m: columns of A, rows of B.
      p: columns of B and of C.
    """

    n: int
    m: int
    p: int

    def __str__(self) -> str:
        return f"{self.n}x{self.m}x{self.p}"

    @property
    def sides(self) -> tuple[int, int, int]:
        """Lengths of the three modes: entries of A, of B and of C."""
        return self.n * self.m, self.m * self.p, self.n * self.p

    @property
    def naive_rank(self) -> int:
        """Multiplications of the standard algorithm."""
        return self.n * self.m * self.p


def as_format(values: Any) -> Format:
    """Converts three sizes to a `Format`; raises `SchemeError` unless they are three whole numbers
    in 1..MAX_SIDE.
    """
    ok = isinstance(values, list | tuple) and len(values) == 3
    if not ok or not all(type(side) is int and 1 <= side <= MAX_SIDE for side in values):
        raise SchemeError(f"format: {shorten(values)} given, want three integers [n, m, p] in 1..{MAX_SIDE}")
    return Format(*values)


def entry_label(name: str, row: int, column: int, rows: int, columns: int) -> str:
    """Returns the name of a matrix entry, counted from 1: ``A12``, or ``A1_12`` if a side has two
    digits.
    """
    separator = "" if max(rows, columns) < 10 else "_"
    return f"{name}{row + 1}{separator}{column + 1}"


def entry_labels(name: str, rows: int, columns: int) -> list[str]:
    """Returns names of all entries of a `rows` x `columns` matrix, row-major."""
    return [entry_label(name, i, j, rows, columns) for i in range(rows) for j in range(columns)]


def format_labels(fmt: Format) -> tuple[list[str], list[str], list[str]]:
    """Returns names of the entries of A, B and C, in the order of the columns of u, v and w."""
    n, m, p = fmt
    return entry_labels("A", n, m), entry_labels("B", m, p), entry_labels("C", n, p)


@dataclass(frozen=True, eq=False)
class Scheme:
    """An algorithm for a problem with `rank` multiplications (index order of matrices: see the
    module; C is not transposed).

    Building one checks shapes and entries and raises `SchemeError`; whether it computes the
    problem's map is the business of `matrixrl.schemes.verify`. Arrays are copied and read-only:
    int64, or Python objects (`int`, `Fraction`, `ComplexRational`) in a factor that has other than
    integers.

    Attributes:
      problem: the bilinear map z = f(x, y); a format (n, m, p) may be given for C = AB.
      ring: ``"Z"``, the integers; ``"F2"``, entries 0 and 1 and everything modulo 2; ``"F3"``,
        entries -1, 0, 1 (a given 2 becomes -1) and everything modulo 3; ``"Z[1/2]"``, denominators
        that are powers of two; ``"Q"``, fractions; ``"Q[i]"``, complex rationals. None when
        building one stands for the smallest ring of characteristic 0 that has the coefficients.
      u: [rank, a], coefficients of the entries of x (A, a = n*m) in each product.
      v: [rank, b], coefficients of the entries of y (B, b = m*p) in each product.
      w: [rank, c], coefficients of each product in the entries of z (C, c = n*p).
      provenance: how it was found: plain JSON values by name.
    """

    problem: Problem
    ring: Ring
    u: np.ndarray
    v: np.ndarray
    w: np.ndarray
    provenance: Mapping[str, Any] = field(default_factory=dict)

    if TYPE_CHECKING:  # what `__post_init__` accepts

        def __init__(
            self,
            problem: Problem | Sequence[int],
            ring: Ring | None,
            u: ArrayLike,
            v: ArrayLike,
            w: ArrayLike,
            provenance: Mapping[str, Any] = ...,
        ) -> None: ...

    def __post_init__(self) -> None:
        from matrixrl.schemes.problem import as_problem

        problem = as_problem(self.problem)
        object.__setattr__(self, "problem", problem)
        if self.ring is not None and self.ring not in RINGS:
            raise SchemeError(f"ring: {shorten(self.ring)} given, want one of {', '.join(RINGS)}")
        ranks = set()
        for name, side in zip("uvw", problem.sides, strict=True):
            factor = _number_matrix(name, getattr(self, name), side, self.ring)
            object.__setattr__(self, name, factor)
            ranks.add(len(factor))
        if len(ranks) != 1:
            counts = ", ".join(f"{name} has {len(getattr(self, name))}" for name in "uvw")
            raise SchemeError(f"u, v, w: must have the same number of rows, but {counts}")
        if self.ring is None:
            object.__setattr__(self, "ring", smallest_ring(self.numbers()))
        if not isinstance(self.provenance, Mapping):
            raise SchemeError(
                f"provenance: {shorten(self.provenance)} given, want an object of names and values"
            )
        object.__setattr__(self, "provenance", dict(self.provenance))

    @property
    def format(self) -> Format:
        """The format (n, m, p) of a scheme that multiplies matrices.

        Raises:
          SchemeError: if it is a scheme of another problem.
        """
        from matrixrl.schemes.problem import format_of

        return format_of(self.problem)

    @property
    def rank(self) -> int:
        """Number of scalar multiplications."""
        return len(self.u)

    @property
    def factors(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The three factor matrices (u, v, w)."""
        return self.u, self.v, self.w

    @property
    def is_integral(self) -> bool:
        """True if all coefficients are integers, so that all factors are int64."""
        return all(factor.dtype != object for factor in self.factors)

    def numbers(self) -> Iterator[Number]:
        """Yields all coefficients that are not integers, and one integer."""
        yield 0
        for factor in self.factors:
            if factor.dtype == object:
                yield from factor.flat

    @property
    def max_coefficient(self) -> int:
        """Largest absolute coefficient; rounded up to an integer if it is a fraction."""
        return max(_largest(factor) for factor in self.factors)

    @property
    def is_ternary(self) -> bool:
        """True if all coefficients are -1, 0 or 1."""
        return self.is_integral and self.max_coefficient <= 1

    def __eq__(self, other: object) -> bool:
        """Compares problem, ring and factor matrices, row by row; ignores the provenance."""
        if not isinstance(other, Scheme):
            return NotImplemented
        return (self.ring, self.rank, self.problem) == (other.ring, other.rank, other.problem) and all(
            np.array_equal(mine, theirs) for mine, theirs in zip(self.factors, other.factors, strict=True)
        )

    def __hash__(self) -> int:
        return hash((self.problem, self.ring, *(_content(factor) for factor in self.factors)))

    def __repr__(self) -> str:
        return f"Scheme({self.problem}, rank {self.rank}, ring {self.ring})"

    def mod2(self) -> Scheme:
        """Returns the same algorithm over F2: every coefficient modulo 2."""
        return self.modulo("F2")

    def modulo(self, ring: Ring) -> Scheme:
        """Returns the same algorithm over F2 or F3: every coefficient modulo 2 or 3.

        Raises:
          SchemeError: if a coefficient has no value there: a denominator is divisible by the prime,
            the number is complex, or it is only known modulo another prime.
        """
        if self.ring == ring:
            return self
        if self.ring in MODULUS:
            raise SchemeError(f"ring: a scheme over {self.ring} has no coefficients over {ring}")
        prime = MODULUS[ring]
        missing = next((value for value in self.numbers() if not contains(ring, value)), None)
        if missing is not None:
            raise SchemeError(f"the coefficient {missing} has no value modulo {prime}")
        u, v, w = (
            np.array([[modulo(value, prime) for value in row] for row in factor], dtype=np.int64)
            if factor.dtype == object
            else factor % prime
            for factor in self.factors
        )
        return replace(self, ring=ring, u=u, v=v, w=w)

    def scaled_factors(self) -> tuple[list[tuple[np.ndarray, ...]], int]:
        """Returns integer factors for exact arithmetic: each factor times its common denominator.

        Returns:
          For u, v and w a tuple of integer arrays, int64 or object: one, or real and imaginary part
          for a complex factor. And the product of the three denominators, by which the sum of the
          products is too large.
        """
        arrays, scale = [], 1
        for factor in self.factors:
            if factor.dtype != object:
                arrays.append((factor,))
                continue
            bottom = lcm(*(denominator(value) for value in factor.flat))
            scale *= bottom
            pairs = [parts(value) for value in factor.flat]
            both = [
                np.array([int(pair[index] * bottom) for pair in pairs], dtype=object).reshape(factor.shape)
                for index in (0, 1)
            ]
            arrays.append(tuple(both) if both[1].any() else (both[0],))
        return arrays, scale

    def with_provenance(self, **values: Any) -> Scheme:
        """Returns a copy with additional provenance."""
        return replace(self, provenance={**self.provenance, **values})

    def to_record(self) -> dict[str, Any]:
        """Converts the scheme to plain JSON values: the content of its file."""
        return {
            **self.problem.to_record(),
            "ring": self.ring,
            "rank": self.rank,
            "u": _json_rows(self.u),
            "v": _json_rows(self.v),
            "w": _json_rows(self.w),
            "provenance": dict(self.provenance),
        }

    @staticmethod
    def from_record(record: Any) -> Scheme:
        """Builds a scheme from the JSON value of a file; raises `SchemeError` naming the first
        field that is wrong.
        """
        if not isinstance(record, dict):
            raise SchemeError(f"the file holds a JSON {_json_name(record)}, want an object with {_FIELDS}")
        from matrixrl.schemes.families import problem_from_record

        identity = () if "problem" in record else ("format",)
        missing = [name for name in (*identity, "ring", "rank", "u", "v", "w") if name not in record]
        if missing:
            raise SchemeError(f"{missing[0]}: missing; a scheme file has {_FIELDS}")
        problem, rank = problem_from_record(record), record["rank"]
        if type(rank) is not int or rank < 1:
            raise SchemeError(f"rank: {shorten(rank)} given, want an integer of 1 or more")
        ring = record["ring"]
        if not isinstance(ring, str) or ring not in RINGS:
            raise SchemeError(f"ring: {shorten(ring)} given, want one of {', '.join(RINGS)}")
        u, v, w = (
            _parse_rows(name, record[name], rank, side, cast(Ring, ring))
            for name, side in zip("uvw", problem.sides, strict=True)
        )
        return Scheme(problem, cast(Ring, ring), u, v, w, provenance=record.get("provenance", {}))

    def save(self, path: Path | str) -> None:
        """Writes the scheme's JSON file completely, then renames it into place; raises
        `SchemeError` on failure.
        """
        path = Path(path)
        try:
            text = render_json(self.to_record())
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, text, fsync=True)
        except OSError as error:
            raise SchemeError(f"cannot write {path}: {error.strerror or error}") from error
        except (TypeError, ValueError) as error:
            raise SchemeError(f"provenance: holds what JSON cannot ({error})") from error

    @staticmethod
    def load(path: Path | str) -> Scheme:
        """Reads a file of one scheme, strictly; `matrixrl.schemes.files` also reads lists and run
        folders.

        Raises:
          SchemeError: if it cannot be read or is malformed; one line that names the file and the
            field.
        """
        try:
            return parse_scheme(read_json(path), display_path(path))
        except UserFileError as error:
            raise SchemeError(f"{display_path(path)}: {error}") from error


def parse_scheme(value: Any, where: str) -> Scheme:
    """Returns the scheme in a JSON value; raises `SchemeError` whose line starts with `where`."""
    try:
        return Scheme.from_record(value)
    except SchemeError as error:
        raise SchemeError(f"{where}: {error}") from error


_FIELDS = "format (or problem), ring, rank, u, v, w and provenance"


def render_json(record: dict[str, Any]) -> str:
    """Renders a scheme's record as JSON with one product per line, so that files can be read and
    compared by eye.
    """
    parts = []
    for name, value in record.items():
        if name in "uvw":
            rows = ",\n    ".join(json.dumps(row, separators=(", ", ": ")) for row in value)
            parts.append(f'"{name}": [\n    {rows}\n  ]')
        else:
            parts.append(f'"{name}": {json.dumps(value, allow_nan=False)}')
    return "{\n  " + ",\n  ".join(parts) + "\n}\n"


def shorten(value: Any, width: int = 40) -> str:
    """Shortens a value for a one-line error."""
    text = " ".join(repr(value).split())
    return text if len(text) <= width else text[: width - 3] + "..."


def _number_matrix(name: str, values: Any, side: int, ring: str | None) -> np.ndarray:
    """Converts `values` to a read-only array [rank, side], int64 if all entries are integers, else
    of objects; raises `SchemeError`.
    """
    try:
        factor = np.array(values)
    except ValueError as error:
        raise SchemeError(f"{name}: rows of unequal length, want {side} entries each") from error
    if factor.ndim != 2 or factor.shape[1] != side or factor.shape[0] < 1:
        raise SchemeError(f"{name}: shape {list(factor.shape)}, want [rank, {side}] with rank 1 or more")
    if factor.dtype == object:
        try:
            simple = [simplify(value) for value in factor.flat]
        except TypeError as error:
            raise SchemeError(f"{name}: {error}") from error
        if any(size_of(value) > MAX_ENTRY for value in simple):
            raise SchemeError(f"{name}: an entry is beyond {MAX_ENTRY}")
        if lcm_above(simple, MAX_DENOMINATOR):
            raise SchemeError(f"{name}: the common denominator of its entries is beyond {MAX_DENOMINATOR}")
        allowed = ring or "Q[i]"
        for value in simple:
            if allowed not in MODULUS and not contains(allowed, value):
                raise SchemeError(f"{name}: holds {value}, which is not in {allowed}")
        if all(isinstance(value, int) for value in simple):
            factor = np.array(simple, dtype=np.int64).reshape(factor.shape)
        else:
            if allowed in MODULUS:
                raise SchemeError(f"{name}: holds a fraction, but over {allowed} entries are integers")
            objects = np.empty(len(simple), dtype=object)
            objects[:] = simple
            factor = objects.reshape(factor.shape)
            factor.setflags(write=False)
            return factor
    if factor.dtype.kind not in "iu":
        raise SchemeError(
            f"{name}: entries are {factor.dtype}, want integers up to {MAX_ENTRY} or fractions of them"
        )
    if factor.min() < -MAX_ENTRY or factor.max() > MAX_ENTRY:
        raise SchemeError(f"{name}: an entry is beyond {MAX_ENTRY}")
    factor = factor.astype(np.int64)
    if ring in MODULUS:
        allowed = (0, 1) if ring == "F2" else (-1, 0, 1, 2)
        if not np.isin(factor, allowed).all():
            wrong = factor[~np.isin(factor, allowed)][0]
            words = "0 or 1" if ring == "F2" else "-1, 0, 1 or 2"
            raise SchemeError(f"{name}: holds {wrong}, but over {ring} entries are {words}")
        factor[factor == 2] = -1
    factor.setflags(write=False)
    return factor


def lcm_above(values: Iterable[Number], limit: int) -> bool:
    """Returns true if the common denominator of the values exceeds `limit`; stops when it does."""
    bottom = 1
    for value in values:
        if not isinstance(value, int):
            bottom = lcm(bottom, denominator(value))
            if bottom > limit:
                return True
    return False


def _largest(factor: np.ndarray) -> int:
    if factor.dtype != object:
        return int(np.abs(factor).max(initial=0))
    return ceil(max((size_of(value) for value in factor.flat), default=0))


def _content(factor: np.ndarray) -> bytes | tuple[Number, ...]:
    return tuple(factor.flat) if factor.dtype == object else factor.tobytes()


def _json_rows(factor: np.ndarray) -> list[list[Any]]:
    if factor.dtype != object:
        return factor.tolist()
    return [[json_value(value) for value in row] for row in factor]


def _parse_rows(name: str, rows: Any, rank: int, side: int, ring: Ring) -> list[list[Number]]:
    """Returns `rank` lists of `side` numbers of the ring from a JSON value; raises `SchemeError`
    for anything else (true and 1.0 are not integers).
    """
    wanted = f"an integer of at most {MAX_ENTRY}"
    if ring in ("Z[1/2]", "Q", "Q[i]"):
        wanted += ' or a fraction such as "1/2"' + ", or a pair of them" * (ring == "Q[i]")
    if not isinstance(rows, list) or len(rows) != rank:
        given = f"{len(rows)} rows" if isinstance(rows, list) else f"a JSON {_json_name(rows)}"
        raise SchemeError(f"{name}: {given}, want {rank} rows (the rank)")
    result = []
    for index, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != side:
            given = f"{len(row)} entries" if isinstance(row, list) else f"a JSON {_json_name(row)}"
            raise SchemeError(f"{name}[{index}]: {given}, want {side} integers")
        numbers = []
        for value in row:
            if type(value) is int and -MAX_ENTRY <= value <= MAX_ENTRY:
                numbers.append(value)
                continue
            number: Number | None = None
            if type(value) is not int and ring not in ("Z", "F2", "F3"):
                with contextlib.suppress(ValueError):
                    number = from_json_value(value)
            if number is None or size_of(number) > MAX_ENTRY or denominator(number) > MAX_DENOMINATOR:
                raise SchemeError(f"{name}[{index}]: entry {shorten(value)}, want {wanted}")
            numbers.append(number)
        result.append(numbers)
    return result


def _json_name(value: Any) -> str:
    names = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")
