"""Fewer additions: common sums of the linear maps of a scheme are computed once.

The search replaces, again and again, the pair ``x_i + c * x_j`` that most rows share by a new
variable. The choice among equally frequent pairs is random, or looks ahead to the number of shared
pairs that would remain; many restarts are made and the best program is kept. Each map is reduced in
two ways, directly and through the transposed map: a program for M^T, run backwards, is one for M.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from matrixrl.schemes.programs import (
    MODULI,
    BilinearProgram,
    LinearProgram,
    Number,
    ProgramBuilder,
    Term,
    divide,
)
from matrixrl.schemes.scheme import Scheme

DEFAULT_SECONDS = 1.0
"""Time limit in seconds of the reduction of one scheme."""

MAX_RESTARTS = 200
"""Maximum number of restarts per map; small maps reach it long before the time limit."""

_PATIENCE = 40  # restarts without a better program after which a map is done

_LOOK_AHEAD = 6  # candidates that are tried out where several pairs are equally frequent

Pair = tuple[int, int, Number]  # variables i < j and the ratio of their coefficients


def reduced_program(
    scheme: Scheme,
    *,
    seconds: float = DEFAULT_SECONDS,
    restarts: int = MAX_RESTARTS,
    seed: int = 0,
) -> BilinearProgram:
    """Returns the cheapest program found for the products and sums of a scheme, checked exactly
    against its factors.

    Args:
      scheme: any scheme; whether it multiplies matrices does not matter here.
      seconds: time limit; every map is reduced at least once, whatever it takes.
      restarts: maximum number of random restarts per map and direction.
      seed: seed of the random choices.
    """
    rng = random.Random(seed)
    parts = []
    for index, factor in enumerate((scheme.u, scheme.v, scheme.w.T)):
        matrix = balanced(factor, MODULI.get(scheme.ring))
        parts.append(
            reduce_matrix(matrix, seconds=seconds / 3, restarts=restarts, rng=rng, direct_first=index < 2)
        )
    program = BilinearProgram(scheme.problem, scheme.ring, *parts)
    program.check(scheme)
    return program


def reduced_additions(scheme: Scheme, *, seconds: float = 2.0, seed: int = 0) -> int:
    """Returns the number of additions of a scheme, or of the cheapest equivalent one that is found,
    after common sums are shared.

    Args:
      scheme: a correct scheme; of a wrong one only its own sums are shared.
      seconds: time limit; half of it is for equivalent schemes (`matrixrl.schemes.cheaper`).
      seed: seed of the random choices.
    """
    from matrixrl.schemes.cheaper import can_search, find_cheaper

    shared = reduced_program(scheme, seconds=seconds / 2, seed=seed).num_additions
    if not can_search(scheme):
        return shared
    found = find_cheaper(scheme, seconds=seconds / 2, seed=seed, max_moves=3_000)
    return min(shared, found.program.num_additions)


def balanced(matrix: np.ndarray, modulus: int | None) -> np.ndarray:
    """Returns a matrix modulo a prime with entries around zero: -1 for 2 modulo 3."""
    if modulus is None or modulus == 2:
        return matrix
    return (matrix + modulus // 2) % modulus - modulus // 2


def reduce_matrix(
    matrix: np.ndarray,
    *,
    seconds: float,
    restarts: int,
    rng: random.Random,
    direct_first: bool = True,
) -> LinearProgram:
    """Returns the cheapest program found for y = M x.

    Args:
      matrix: M [outputs, inputs], integers or fractions.
      seconds: time limit.
      restarts: maximum number of restarts for M, and for its transposed.
      rng: source of the random choices.
      direct_first: M itself is tried before its transposed, which matters if time is short.
    """
    deadline = time.monotonic() + seconds
    ways = [False, True] if direct_first else [True, False]
    best: LinearProgram | None = None
    improved = 0
    for attempt in range(restarts):
        if attempt - improved > _PATIENCE:
            break
        for transposed in ways:
            if best is not None and time.monotonic() > deadline:
                return best
            # Even attempts look ahead; odd ones are purely random and five times as quick.
            program = _greedy(matrix.T if transposed else matrix, rng, look_ahead=attempt % 2 == 0)
            program = program.transposed() if transposed else program
            if best is None or _cost(program) < _cost(best):
                best, improved = program, attempt
    assert best is not None, "restarts must be 1 or more"
    return best


def greedy_additions(matrix: np.ndarray, rng: random.Random) -> int:
    """Returns the number of additions that one random greedy reduction of y = M x needs."""
    return _run(_rows(matrix), rng, look_ahead=False).num_additions()


def _cost(program: LinearProgram) -> tuple[int, int]:
    return program.num_additions, program.num_scalings


def _greedy(matrix: np.ndarray, rng: random.Random, look_ahead: bool) -> LinearProgram:
    rows = _run(_rows(matrix), rng, look_ahead)
    builder = ProgramBuilder(matrix.shape[1])
    # A shared pair can come out of the builder with another sign or scale.
    values = [Term(index, 1) for index in range(matrix.shape[1])]
    for i, j, ratio in rows.pairs:
        values.append(builder.add(values[i], Term(values[j].value, values[j].scale * ratio)))
    outputs = []
    for terms in rows.remaining(len(matrix)):
        outputs.append(
            builder.sum([Term(values[i].value, values[i].scale * coefficient) for i, coefficient in terms])
        )
    return builder.build(outputs)


class _Rows(Protocol):
    """The rows of a matrix, stored by column as bit sets of rows, with the pairs taken out so
    far.
    """

    pairs: list[Pair]
    counts: dict[Pair, int]

    def substitute(self, pair: Pair) -> None:
        """Replaces a pair by a new variable in all rows that hold it."""
        ...

    def copy(self) -> _Rows:
        """Returns an independent copy."""
        ...

    def remaining(self, num_rows: int) -> list[list[tuple[int, Number]]]:
        """Returns the terms of each row, as variables and coefficients."""
        ...

    def num_additions(self) -> int:
        """Returns the additions of the pairs and of the rows that remain."""
        ...


def _rows(matrix: np.ndarray) -> _Rows:
    if matrix.dtype != object and np.abs(matrix).max(initial=0) <= 1:
        return _TernaryRows.of(matrix)
    return _GeneralRows.of(matrix)


def _run(rows: _Rows, rng: random.Random, look_ahead: bool) -> _Rows:
    """Replaces shared pairs until none is left."""
    while rows.counts:
        most = max(rows.counts.values())
        candidates = [pair for pair, count in rows.counts.items() if count == most]
        pair = candidates[int(rng.random() * len(candidates))]
        if look_ahead and len(candidates) > 1:
            if len(candidates) > _LOOK_AHEAD:
                candidates = rng.sample(candidates, _LOOK_AHEAD)
            pair = max(candidates, key=lambda candidate: (_potential(rows, candidate), rng.random()))
        rows.substitute(pair)
    return rows


def _potential(rows: _Rows, pair: Pair) -> int:
    """Returns the number of additions that the pairs remaining after a substitution would save if
    they did not overlap.
    """
    after = rows.copy()
    after.substitute(pair)
    return sum(after.counts.values()) - len(after.counts)


class _TernaryRows:
    """Rows with coefficients -1, 0 and 1: two bit sets per variable."""

    def __init__(self, plus: list[int], minus: list[int], counts: dict[Pair, int], pairs: list[Pair]) -> None:
        self.plus, self.minus, self.counts, self.pairs = plus, minus, counts, pairs

    @staticmethod
    def of(matrix: np.ndarray) -> _TernaryRows:
        plus, minus = ([_bits(column) for column in (matrix == sign).T] for sign in (1, -1))
        rows = _TernaryRows(plus, minus, {}, [])
        for j in range(len(plus)):
            rows._count(j, range(j))
        return rows

    def copy(self) -> _TernaryRows:
        return _TernaryRows(self.plus[:], self.minus[:], dict(self.counts), self.pairs[:])

    def _count(self, k: int, others: Sequence[int]) -> None:
        """Counts the rows that share variable `k` and each of `others`."""
        plus, minus, counts = self.plus, self.minus, self.counts
        p, n = plus[k], minus[k]
        if not p | n:
            return
        for other in others:
            q, m = plus[other], minus[other]
            first, second = (other, k) if other < k else (k, other)
            count = ((p & q) | (n & m)).bit_count()
            if count > 1:
                counts[first, second, 1] = count
            count = ((p & m) | (n & q)).bit_count()
            if count > 1:
                counts[first, second, -1] = count

    def substitute(self, pair: Pair) -> None:
        i, j, ratio = pair
        plus, minus = self.plus, self.minus
        first, second = (plus[j], minus[j]) if ratio == 1 else (minus[j], plus[j])
        new_plus, new_minus = plus[i] & first, minus[i] & second
        both = new_plus | new_minus
        plus[i] &= ~both
        minus[i] &= ~both
        plus[j] &= ~both
        minus[j] &= ~both
        new = len(plus)
        plus.append(new_plus)
        minus.append(new_minus)
        self.pairs.append(pair)
        self.counts = {
            key: count for key, count in self.counts.items() if i not in key[:2] and j not in key[:2]
        }
        active = [k for k in range(new) if (plus[k] | minus[k]) and k not in (i, j)]
        self._count(i, active)
        self._count(j, [*active, i])
        self._count(new, [*active, i, j])

    def remaining(self, num_rows: int) -> list[list[tuple[int, Number]]]:
        return [
            [
                (k, 1 if self.plus[k] >> row & 1 else -1)
                for k in range(len(self.plus))
                if (self.plus[k] | self.minus[k]) >> row & 1
            ]
            for row in range(num_rows)
        ]

    def num_additions(self) -> int:
        left, rows = 0, 0
        for p, n in zip(self.plus, self.minus, strict=True):
            left += (p | n).bit_count()
            rows |= p | n
        return len(self.pairs) + left - rows.bit_count()


class _GeneralRows:
    """Rows with any coefficients: for each variable the bit sets of rows by coefficient."""

    def __init__(self, columns: list[dict[Number, int]], counts: dict[Pair, int], pairs: list[Pair]) -> None:
        self.columns, self.counts, self.pairs = columns, counts, pairs

    @staticmethod
    def of(matrix: np.ndarray) -> _GeneralRows:
        columns: list[dict[Number, int]] = []
        for column in matrix.T.tolist():
            sets: dict[Number, int] = {}
            for row, value in enumerate(column):
                if value != 0:
                    sets[value] = sets.get(value, 0) | 1 << row
            columns.append(sets)
        rows = _GeneralRows(columns, {}, [])
        for j in range(len(columns)):
            rows._count(j, range(j))
        return rows

    def copy(self) -> _GeneralRows:
        return _GeneralRows([dict(sets) for sets in self.columns], dict(self.counts), self.pairs[:])

    def _count(self, k: int, others: Sequence[int]) -> None:
        for other in others:
            i, j = (other, k) if other < k else (k, other)
            found: dict[Number, int] = {}
            for a, rows_a in self.columns[i].items():
                for b, rows_b in self.columns[j].items():
                    if rows_a & rows_b:
                        ratio = divide(b, a)
                        found[ratio] = found.get(ratio, 0) + (rows_a & rows_b).bit_count()
            for ratio, count in found.items():
                if count > 1:
                    self.counts[i, j, ratio] = count

    def substitute(self, pair: Pair) -> None:
        i, j, ratio = pair
        new: dict[Number, int] = {}
        for a in list(self.columns[i]):
            b = divide(a * ratio, 1)
            both = self.columns[i][a] & self.columns[j].get(b, 0)
            if both:
                new[a] = both
                for sets, value in ((self.columns[i], a), (self.columns[j], b)):
                    sets[value] &= ~both
                    if not sets[value]:
                        del sets[value]
        k = len(self.columns)
        self.columns.append(new)
        self.pairs.append(pair)
        self.counts = {
            key: count for key, count in self.counts.items() if i not in key[:2] and j not in key[:2]
        }
        others = [index for index in range(k) if index not in (i, j) and self.columns[index]]
        self._count(i, others)
        self._count(j, [*others, i])
        self._count(k, [*others, i, j])

    def remaining(self, num_rows: int) -> list[list[tuple[int, Number]]]:
        terms: list[list[tuple[int, Number]]] = [[] for _ in range(num_rows)]
        for k, sets in enumerate(self.columns):
            for value, rows in sets.items():
                for row in range(num_rows):
                    if rows >> row & 1:
                        terms[row].append((k, value))
        return terms

    def num_additions(self) -> int:
        left, rows = 0, 0
        for sets in self.columns:
            for members in sets.values():
                left += members.bit_count()
                rows |= members
        return len(self.pairs) + left - rows.bit_count()


def _bits(column: np.ndarray) -> int:
    return sum(1 << int(row) for row in np.flatnonzero(column))
