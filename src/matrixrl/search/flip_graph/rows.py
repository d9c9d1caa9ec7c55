"""Schemes as rows of bit masks, the form in which walks keep them.

A scheme of rank R is a uint64 array [R, 3, words]: for each product the masks of its u, v and w.
Over F2 bit i of a factor is its entry i, 64 to a word. Over Z, where entries are -1, 0 and 1, a
word holds 32 entries: bit i of its lower half is set for +1, bit i of its upper half for -1.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from matrixrl.schemes.problem import Problem
from matrixrl.schemes.scheme import Scheme, SchemeError

WalkRing = Literal["F2", "Z"]

MAX_SIDE_ENTRIES = 256
"""Largest number of entries of a factor."""

HALF = np.uint64(32)
LOWER = np.uint64(0xFFFFFFFF)


def words_per_factor(problem: Problem, ring: WalkRing) -> int:
    """Returns the number of 64-bit words of a factor.

    Raises:
      SchemeError: if a factor has more than 256 entries, or the ring is neither F2 nor Z.
    """
    if ring not in ("F2", "Z"):
        raise SchemeError(f"ring: {ring} given, but flips walk over F2 or Z")
    largest = max(problem.sides)
    if largest > MAX_SIDE_ENTRIES:
        raise SchemeError(
            f"{problem} has factors of {largest} entries; flips handle at most {MAX_SIDE_ENTRIES}"
        )
    return -(-largest // (64 if ring == "F2" else 32))


def standard_rows(problem: Problem, ring: WalkRing) -> np.ndarray:
    """Returns the standard algorithm of a problem as rows, canonical.

    Raises:
      SchemeError: if a factor is too long (see `words_per_factor`), or the problem is zero modulo
        2.
    """
    words = words_per_factor(problem, ring)
    factors = problem.standard(2) if ring == "F2" else problem.standard(max_coefficient=1)
    if len(factors[0]) == 0:
        raise SchemeError(f"{problem} is zero modulo 2; walk over Z")
    return canonical(pack(factors, ring, words), ring)


def from_scheme(scheme: Scheme, ring: WalkRing) -> np.ndarray:
    """Returns the rows of a scheme, canonical; products that are zero are left out.

    Over Z the scheme must be over the integers with coefficients -1, 0 and 1.

    Raises:
      SchemeError: if the scheme has coefficients that rows of the ring cannot hold.
    """
    words = words_per_factor(scheme.problem, ring)
    if ring == "F2":
        scheme = scheme.mod2()
    elif scheme.ring != "Z" or not scheme.is_ternary:
        reason = f"over {scheme.ring}" if scheme.ring != "Z" else f"a coefficient {scheme.max_coefficient}"
        raise SchemeError(f"flips over Z need coefficients -1, 0 and 1, but the scheme has {reason}")
    rows = pack(scheme.factors, ring, words)
    return canonical(rows[np.all(rows.any(axis=2), axis=1)], ring)


def to_scheme(
    rows: np.ndarray, problem: Problem, ring: WalkRing, provenance: dict[str, Any] | None = None
) -> Scheme:
    """Returns the scheme that rows hold."""
    u, v, w = unpack(rows, problem.sides, ring)
    return Scheme(problem, ring, u, v, w, provenance or {})


def pack(factors: tuple[np.ndarray, ...], ring: WalkRing, words: int) -> np.ndarray:
    """Returns the masks of factors with entries 0 and 1, over Z also -1; uint64 [R, 3, words]."""
    rows = np.zeros((len(factors[0]), 3, words), np.uint64)
    for index, factor in enumerate(factors):
        if ring == "F2":
            rows[:, index] = _bits_to_words(factor != 0, words)
        else:
            # Two sets of 32-bit words, for +1 and for -1, become the halves of 64-bit words.
            halves = [_bits_to_words(factor == sign, (words + 1) // 2).view(np.uint32) for sign in (1, -1)]
            plus, minus = (half[:, :words].astype(np.uint64) for half in halves)
            rows[:, index] = plus | minus << HALF
    return rows


def unpack(
    rows: np.ndarray, sides: tuple[int, int, int], ring: WalkRing
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the factors that rows hold, int64 [R, side] each."""
    factors = []
    for index, side in enumerate(sides):
        words = np.ascontiguousarray(rows[:, index])
        if ring == "F2":
            factors.append(_words_to_bits(words)[:, :side])
        else:
            plus, minus = (
                _words_to_bits(np.ascontiguousarray(half.astype(np.uint32)))[:, :side]
                for half in (words & LOWER, words >> HALF)
            )
            factors.append(plus - minus)
    return factors[0], factors[1], factors[2]


def _bits_to_words(bits: np.ndarray, words: int) -> np.ndarray:
    padded = np.zeros((len(bits), 64 * words), np.uint8)
    padded[:, : bits.shape[1]] = bits
    return np.packbits(padded, axis=1, bitorder="little").view("<u8").astype(np.uint64)


def _words_to_bits(words: np.ndarray) -> np.ndarray:
    return np.unpackbits(words.view(np.uint8), axis=1, bitorder="little").astype(np.int64)


def negated(masks: np.ndarray) -> np.ndarray:
    """Returns masks over Z with all signs exchanged."""
    return masks << HALF | masks >> HALF


def is_negative(masks: np.ndarray) -> np.ndarray:
    """Returns whether the first non-zero entry of each factor over Z is -1; masks [..., words]."""
    support = (masks | masks >> HALF) & LOWER
    first = np.argmax(support != 0, axis=-1)[..., None]
    chosen = np.take_along_axis(support, first, -1)[..., 0]
    lowest = chosen & (~chosen + np.uint64(1))
    return (np.take_along_axis(masks, first, -1)[..., 0] >> HALF & lowest) != 0


def canonical(rows: np.ndarray, ring: WalkRing) -> np.ndarray:
    """Returns rows in canonical form: over Z the first non-zero entry of u and of v is 1 and w has
    the sign of the product; then rows are sorted.

    Two schemes with the same products have the same canonical rows.
    """
    rows = np.array(rows, np.uint64)
    if ring == "Z":
        for index in (0, 1):
            flip = is_negative(rows[:, index])
            for other in (index, 2):
                rows[flip, other] = negated(rows[flip, other])
    order = np.lexsort(rows.reshape(len(rows), -1).T[::-1])
    return np.ascontiguousarray(rows[order])


def unsigned(rows: np.ndarray, ring: WalkRing) -> np.ndarray:
    """Returns rows whose factors all have a first non-zero entry of 1: factors that are equal up
    to sign become equal.
    """
    if ring == "F2":
        return rows
    return np.where(is_negative(rows)[..., None], negated(rows), rows)


def count_pairs(rows: np.ndarray, ring: WalkRing) -> int:
    """Returns the number of matching pairs: pairs of rows that share a factor, up to sign."""
    plain = unsigned(rows, ring)
    total = 0
    for index in range(3):
        _, counts = np.unique(plain[:, index], axis=0, return_counts=True)
        total += int((counts * (counts - 1) // 2).sum())
    return total
