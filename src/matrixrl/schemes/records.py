"""The table of best known ranks, and the verdict of a rank against it.

The tested core (`best_known_ranks.csv`, as of July 2026) has one row for every format 2 <= n <= m
<= p <= 8; for each of its ranks a public scheme was rebuilt. `best_known_ranks_16.csv` has the
other formats up to 16x16x16 as they were published. Rank does not depend on the order of the sides.
All ranks are upper bounds for which an explicit scheme is public.

Some published ranks are above what follows by joining or multiplying other rows
(`matrixrl.schemes.bounds`). Such a computed bound is no record, but a rank that does not fall below
it beats nothing.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import get_args

from matrixrl.schemes.bounds import Bound, Bounds
from matrixrl.schemes.problem import Coefficients, MatrixMultiplication, Problem, as_problem
from matrixrl.schemes.rings import smallest_ring
from matrixrl.schemes.scheme import Format, Scheme, as_format

COEFFICIENTS: tuple[str, ...] = get_args(Coefficients)


@dataclass(frozen=True)
class Record:
    """Best publicly known ranks of one format.

    Attributes:
      format: the sides, sorted.
      rational: lowest known rank over the rationals.
      integer: lowest known rank with integer coefficients.
      ternary: lowest known rank with coefficients -1, 0, 1.
      mod2: lowest known rank over F2; beyond 8x8x8 that of integer schemes, which hold modulo 2.
      coefficients: smallest set in which `rational` is known: ``ZT`` ternary, ``Z`` integers, ``Q``
        rationals.
      source: collection that holds a scheme of rank `rational`.
      source_mod2: the same for `mod2` where it is below `integer`, else empty.
      alphatensor_standard: rank AlphaTensor published in standard arithmetic, None if it did not.
      alphatensor_mod2: the same modulo 2.
      naive: multiplications of the standard algorithm.
      is_core: whether the row is of the tested core.
    """

    format: Format
    rational: int
    integer: int
    ternary: int
    mod2: int
    coefficients: str
    source: str
    source_mod2: str
    alphatensor_standard: int | None
    alphatensor_mod2: int | None
    naive: int
    is_core: bool = True

    def rank(self, coefficients: Coefficients) -> int | None:
        """Returns the lowest known rank with the given coefficients; None for those without a
        column.
        """
        ranks: dict[str, int] = {
            "rational": self.rational,
            "integer": self.integer,
            "ternary": self.ternary,
            "mod2": self.mod2,
        }
        return ranks.get(coefficients)


@dataclass(frozen=True)
class Verdict:
    """A rank compared with the best known one.

    Attributes:
      rank: the rank in question.
      record: best known rank with these coefficients; None where the format is outside the table.
      coefficients: the coefficients that were compared.
      naive: multiplications of the standard algorithm.
      message: one line: ``matches the record``, ``beats the record by 1``, ``above the record by
        4``.
      beats: whether the rank is below the record and below what follows from other records.
      computed: rank that follows from other records, where it is below the record; else None.
    """

    rank: int
    record: int | None
    coefficients: Coefficients
    naive: int
    message: str
    beats: bool = False
    computed: int | None = None


@lru_cache(maxsize=1)
def all_records() -> tuple[Record, ...]:
    """Returns every row of the tested core, sorted by format."""
    return tuple(_record(row) for row in _rows("best_known_ranks.csv"))


@lru_cache(maxsize=1)
def extended_records() -> tuple[Record, ...]:
    """Returns every row up to 16x16x16, of the core and beyond, sorted by format."""
    wide = (_wide_record(row) for row in _rows("best_known_ranks_16.csv"))
    return tuple(sorted((*all_records(), *wide), key=lambda record: record.format))


@lru_cache(maxsize=1)
def _by_format() -> dict[Format, Record]:
    return {record.format: record for record in extended_records()}


def _rows(name: str) -> list[dict[str, str]]:
    text = (resources.files("matrixrl.schemes") / name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def _record(row: dict[str, str]) -> Record:
    return Record(
        format=Format(int(row["n"]), int(row["m"]), int(row["p"])),
        rational=int(row["rank"]),
        integer=int(row["rank_integer"]),
        ternary=int(row["rank_ternary"]),
        mod2=int(row["rank_mod2"]),
        coefficients=row["coefficients"],
        source=row["source"],
        source_mod2=row["source_mod2"],
        alphatensor_standard=int(row["alphatensor_standard"]) if row["alphatensor_standard"] else None,
        alphatensor_mod2=int(row["alphatensor_mod2"]) if row["alphatensor_mod2"] else None,
        naive=int(row["naive"]),
    )


def _wide_record(row: dict[str, str]) -> Record:
    return Record(
        format=Format(int(row["n"]), int(row["m"]), int(row["p"])),
        rational=int(row["rank"]),
        integer=int(row["rank_integer"]),
        ternary=int(row["rank_ternary"]),
        mod2=int(row["rank_integer"]),
        coefficients=row["ring"],
        source=row["source"],
        source_mod2="",
        alphatensor_standard=None,
        alphatensor_mod2=None,
        naive=int(row["naive"]),
        is_core=False,
    )


@cache
def bounds(coefficients: Coefficients) -> Bounds:
    """Returns the bounds that follow from the table for the given coefficients."""

    def published(sizes: tuple[int, int, int]) -> int | None:
        record = _by_format().get(Format(*sizes))
        return None if record is None else record.rank(coefficients)

    return Bounds(published)


def computed_bound(record: Record, coefficients: Coefficients) -> Bound | None:
    """Returns the bound that follows from other rows, if it is below the published rank."""
    bound = bounds(coefficients).of(tuple(record.format))
    return bound if bound.is_computed else None


def find_record(format: Sequence[int]) -> Record | None:
    """Returns the row of a format, sides in any order; None outside the table (a side of 1, or
    above 16).
    """
    n, m, p = sorted(as_format(tuple(format)))
    return _by_format().get(Format(n, m, p))


def coefficients_of(scheme: Scheme) -> Coefficients:
    """Returns the class of coefficients a scheme competes in: ``mod2``, ``ternary`` or
    ``integer``.
    """
    if scheme.ring == "F2":
        return "mod2"
    if scheme.ring == "F3":
        return "mod3"
    if scheme.is_integral:
        return "ternary" if scheme.is_ternary else "integer"
    return "complex" if scheme.ring == "Q[i]" and smallest_ring(scheme.numbers()) == "Q[i]" else "rational"


def judge(problem: Problem | Sequence[int], rank: int, coefficients: Coefficients) -> Verdict:
    """Compares a rank with the best known one of a problem, or of a format, for the same
    coefficients.
    """
    problem = as_problem(tuple(problem) if isinstance(problem, Sequence) else problem)
    record, standard = problem.best_known_rank(coefficients), problem.standard_rank
    is_product = isinstance(problem, MatrixMultiplication)
    beats, computed = False, None
    if record is None:
        against = "no rank is on record"
    elif rank == record:
        against = "matches the record"
    elif rank > record:
        against = f"above the record by {rank - record}"
    else:
        row = find_record(problem.format) if isinstance(problem, MatrixMultiplication) else None
        bound = None if row is None else computed_bound(row, coefficients)
        computed = None if bound is None else bound.rank
        if bound is not None and bound.rank <= rank:
            how = bound.words(bounds(coefficients).of)
            against = (
                f"below the best published rank by {record - rank}, but {how} gives {bound.rank}: no record"
            )
        else:
            beats, against = True, f"beats the record by {record - rank}"
    best = f" (best known {record} {IN_WORDS_OF[coefficients]}, standard {standard})"
    if is_product and record is None:
        against, best = "the table has no record for this format and these coefficients", ""
    elif record is None:
        rational = problem.best_known_rank("rational")
        known = f"over the rationals {rational}, " if rational is not None else ""
        best = f" {IN_WORDS_OF[coefficients]} ({known}standard {standard})"
    message = f"{problem}:{rank} {against}{best}"
    return Verdict(rank, record, coefficients, standard, message, beats, computed)


def judge_scheme(scheme: Scheme) -> Verdict:
    """Compares a scheme's rank with the record for its problem and coefficients; does not check
    correctness.
    """
    return judge(scheme.problem, scheme.rank, coefficients_of(scheme))


IN_WORDS_OF: dict[str, str] = {
    "rational": "over the rationals",
    "integer": "over the integers",
    "ternary": "with coefficients -1, 0, 1",
    "mod2": "modulo 2",
    "mod3": "modulo 3",
    "complex": "over the complex rationals",
}
