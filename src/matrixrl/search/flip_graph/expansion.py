"""Exact proof that rows are a scheme of a problem, fast enough for every scheme that a walk finds.

The products of the rows are multiplied out, bit by bit, and the sum is compared with the
coefficients of the problem's own arithmetic. It shares no code with the moves of the walks.
"""

# pyright: reportCallIssue=false

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit

from matrixrl.schemes.problem import Problem
from matrixrl.schemes.verify import true_coefficients
from matrixrl.search.flip_graph.rows import WalkRing, words_per_factor

ONE = np.uint64(1)


def _compiled(function: Callable[..., Any]) -> Any:
    """Compiles a function, with a cache on disk where there is a folder for it."""
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:  # a read-only installation without a home folder
        return njit(nogil=True)(function)


@_compiled
def _expand_modulo_2(rows, total):
    """Adds the products of rows to total, uint64 [a, b, words].

    Returns:
      False if a factor has an entry that the problem has not.
    """
    num_words = rows.shape[2]
    second = np.empty(64 * num_words, np.int64)
    for r in range(rows.shape[0]):
        # The places of the entries of the second factor.
        count = 0
        for j in range(64 * num_words):
            if (rows[r, 1, j >> 6] >> np.uint64(j & 63)) & ONE != 0:
                second[count] = j
                count += 1
        if count > 0 and second[count - 1] >= total.shape[1]:
            return False
        for i in range(64 * num_words):
            if (rows[r, 0, i >> 6] >> np.uint64(i & 63)) & ONE == 0:
                continue
            if i >= total.shape[0]:
                return False
            for n in range(count):
                for k in range(num_words):
                    total[i, second[n], k] ^= rows[r, 2, k]
    return True


@_compiled
def _list_entries(row, places, signs):
    """Lists the entries of a factor over Z: their places and signs.

    Returns:
      Their number; -1 if an entry is marked as both 1 and -1.
    """
    count = 0
    for i in range(32 * row.shape[0]):
        word = row[i >> 5] >> np.uint64(i & 31)
        plus, minus = word & ONE, (word >> np.uint64(32)) & ONE
        if plus != 0 and minus != 0:
            return -1
        if plus != 0 or minus != 0:
            places[count] = i
            signs[count] = 1 if plus != 0 else -1
            count += 1
    return count


@_compiled
def _expand_integers(rows, total):
    """Adds the products of rows to total, int64 [a, b, c].

    Returns:
      False if a factor has an entry that the problem has not, or one with two signs.
    """
    places = np.empty((3, 32 * rows.shape[2]), np.int64)
    signs = np.empty_like(places)
    counts = np.empty(3, np.int64)
    for r in range(rows.shape[0]):
        for f in range(3):
            counts[f] = _list_entries(rows[r, f], places[f], signs[f])
            if counts[f] < 0 or (counts[f] > 0 and places[f, counts[f] - 1] >= total.shape[f]):
                return False
        for i in range(counts[0]):
            for j in range(counts[1]):
                sign = signs[0, i] * signs[1, j]
                for k in range(counts[2]):
                    total[places[0, i], places[1, j], places[2, k]] += sign * signs[2, k]
    return True


@lru_cache(maxsize=64)
def _coefficients(problem: Problem, ring: WalkRing) -> np.ndarray:
    """Returns the coefficients of a problem as the products of its schemes add up to them."""
    words = words_per_factor(problem, ring)
    a, b, c = problem.sides
    found = np.zeros((a, b, words), np.uint64) if ring == "F2" else np.zeros((a, b, c), np.int64)
    for i, terms in enumerate(true_coefficients(problem)):
        for j, k, value in terms:
            if ring == "Z":
                found[i, j, k] = value
            elif value % 2:
                found[i, j, k >> 6] |= ONE << np.uint64(k & 63)
    found.setflags(write=False)
    return found


def is_scheme(rows: np.ndarray, problem: Problem, ring: WalkRing) -> bool:
    """Returns whether rows are a scheme of a problem: an exact proof.

    Args:
      rows: uint64 [rank, 3, words].
      problem: what the scheme should compute.
      ring: F2 or Z.
    """
    words = words_per_factor(problem, ring)
    if rows.dtype != np.uint64 or rows.ndim != 3 or rows.shape[1:] != (3, words):
        return False
    wanted = _coefficients(problem, ring)
    total = np.zeros(wanted.shape, wanted.dtype)
    # Always the same memory layout: another one would be compiled again.
    rows = np.array(rows, order="C")
    is_inside = (_expand_modulo_2 if ring == "F2" else _expand_integers)(rows, total)
    return bool(is_inside) and np.array_equal(total, wanted)
