"""The form of a file of search trees (docs/dashboard.md): whatever is in a file, the page gets only
what it can draw.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeGuard

SPELLING = {"=": -2, "-": -1, "0": 0, "+": 1, "#": 2}
"""Entries of vectors by the characters that spell them."""


def is_search_record(record: Any) -> bool:
    """Returns whether a value has the form of a search file, so that the page can draw it."""
    if (
        not isinstance(record, dict)
        or record.get("format") != "matrixrl-search"
        or record.get("version") != 1
    ):
        return False
    shape: Any = record.get("shape")
    target: Any = record.get("target")
    if not (_are(shape, int) and len(shape) == 3 and _are(target, int) and len(target) == math.prod(shape)):
        return False
    is_plain = (
        all(type(record.get(name)) is int for name in ("epoch", "episode", "rank"))
        and all(type(record.get(name)) is bool for name in ("solved", "standard_basis"))
        and isinstance(record.get("problem"), str)
        and record.get("ring") in ("Z", "F2")
    )
    terms: Any = record.get("terms")
    moves: Any = record.get("moves")
    if not (is_plain and _are(terms, str) and isinstance(moves, list)):
        return False
    return all(_is_term(term, shape) for term in terms) and all(_is_searched(move, shape) for move in moves)


def _is_searched(move: Any, shape: Sequence[int]) -> bool:
    """Returns whether a value has the form of a move with its tree."""
    if not isinstance(move, dict) or type(move.get("move")) is not int:
        return False
    parent: Any = move.get("parent")
    terms: Any = move.get("term")
    if not (_are(parent, int) and _are(terms, str) and len(terms) == len(parent) > 0):
        return False
    is_tree = parent[0] == -1 and all(0 <= above < node for node, above in enumerate(parent) if node)
    names = ("visits", "prior", "value")
    are_lists = all(_are(move.get(name), int, float) and len(move[name]) == len(parent) for name in names)
    candidates: Any = move.get("candidates")
    prior: Any = move.get("candidate_prior")
    if not (is_tree and are_lists and _are(candidates, str) and _are(prior, int, float)):
        return False
    spelled_right = all(_is_term(term, shape) for term in (*terms[1:], *candidates))
    numbers = all(type(move.get(name)) in (int, float) for name in ("reward", "residual", "root_value"))
    weights = move.get("weights", prior)
    return spelled_right and numbers and len(prior) == len(candidates) and _are(weights, int, float)


def _are(values: Any, *kinds: type) -> TypeGuard[list[Any]]:
    """Returns whether a value is a list of values of some types."""
    return isinstance(values, list) and all(type(value) in kinds for value in values)


def _is_term(text: str, shape: Sequence[int]) -> bool:
    words = text.split(" ")
    return [len(word) for word in words] == list(shape) and set("".join(words)) <= set(SPELLING)
