"""The table of best known ranks, and the verdict of a rank against it.

The table (`best_known_ranks.csv`, as of July 2026) has one row for every format 2 <= n <= m <= p <=
8; rank does not depend on the order of the sides. All ranks are upper bounds for which an explicit
scheme is public.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import get_args

from matrixrl.schemes.problem import Coefficients, MatrixMultiplication, Problem, as_problem
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
      mod2: lowest known rank over F2.
      coefficients: smallest set in which `rational` is known: ``ZT`` ternary, ``Z`` integers, ``Q``
        rationals.
      source: collection that holds a scheme of rank `rational`.
      source_mod2: the same for `mod2` where it is below `integer`, else empty.
      alphatensor_standard: rank AlphaTensor published in standard arithmetic, None if it did not.
      alphatensor_mod2: the same modulo 2.
      naive: multiplications of the standard algorithm.
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

    def rank(self, coefficients: Coefficients) -> int:
        """Returns the lowest known rank with the given coefficients."""
        ranks: dict[str, int] = {
            "rational": self.rational,
            "integer": self.integer,
            "ternary": self.ternary,
            "mod2": self.mod2,
        }
        return ranks[coefficients]


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
    """

    rank: int
    record: int | None
    coefficients: Coefficients
    naive: int
    message: str


@lru_cache(maxsize=1)
def all_records() -> tuple[Record, ...]:
    """Returns every row of the table, sorted by format."""
    text = (resources.files("matrixrl.schemes") / "best_known_ranks.csv").read_text(encoding="utf-8")
    return tuple(_record(row) for row in csv.DictReader(text.splitlines()))


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


def find_record(format: Sequence[int]) -> Record | None:
    """Returns the row of a format, sides in any order; None outside the table (a side of 1, or
    above 8).
    """
    wanted = tuple(sorted(as_format(tuple(format))))
    return next((record for record in all_records() if record.format == wanted), None)


def coefficients_of(scheme: Scheme) -> Coefficients:
    """Returns the class of coefficients a scheme competes in: ``mod2``, ``ternary`` or
    ``integer``.
    """
    if scheme.ring == "F2":
        return "mod2"
    return "ternary" if scheme.is_ternary else "integer"


def judge(problem: Problem | Sequence[int], rank: int, coefficients: Coefficients) -> Verdict:
    """Compares a rank with the best known one of a problem, or of a format, for the same
    coefficients.
    """
    problem = as_problem(tuple(problem) if isinstance(problem, Sequence) else problem)
    record, standard = problem.best_known_rank(coefficients), problem.standard_rank
    if record is None:
        against = "no rank is on record"
    elif rank == record:
        against = "matches the record"
    elif rank < record:
        against = f"beats the record by {record - rank}"
    else:
        against = f"above the record by {rank - record}"
    best = f" (best known {record} {_IN_WORDS[coefficients]}, standard {standard})"
    if isinstance(problem, MatrixMultiplication) and record is None:
        against, best = "the table has no record for this format", ""
    elif record is None:
        rational = problem.best_known_rank("rational")
        known = f"over the rationals {rational}, " if rational is not None else ""
        best = f" {_IN_WORDS[coefficients]} ({known}standard {standard})"
    return Verdict(rank, record, coefficients, standard, f"{problem}:{rank} {against}{best}")


def judge_scheme(scheme: Scheme) -> Verdict:
    """Compares a scheme's rank with the record for its problem and coefficients; does not check
    correctness.
    """
    return judge(scheme.problem, scheme.rank, coefficients_of(scheme))


_IN_WORDS: dict[str, str] = {
    "rational": "over the rationals",
    "integer": "over the integers",
    "ternary": "with coefficients -1, 0, 1",
    "mod2": "modulo 2",
}
