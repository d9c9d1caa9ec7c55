"""Search trees of a game in compact, readable form (`--record-search`).

A tree is a few lists of one length, one entry per node, so that a browser reads it quickly. A term
(an action, or the one that leads to a node) is a text of three words, one per vector, with one
character per entry. docs/dashboard.md describes the file.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Integer

from matrixrl.search.sampled import SearchTree

FORMAT, VERSION = "matrixrl-search", 1

SEARCH_FILE = "search.json"
"""File of a checkpoint with the trees of the game in progress."""

SPELLING = "=-0+#"
"""Characters of the entries -2, -1, 0, 1 and 2."""

DIGITS = 4
"""Significant digits of probabilities and values."""

Decode = Callable[[Integer[np.ndarray, "*B tokens"]], tuple[np.ndarray, np.ndarray, np.ndarray]]


@dataclass
class SearchLog:
    """The trees of one game so far.

    Attributes:
      moves: one record for each move that was played with a search, in order.
    """

    moves: list[dict[str, Any]] = field(default_factory=list)

    @staticmethod
    def from_text(text: str | None) -> SearchLog:
        """Returns the log in a checkpoint; an empty one if it holds none."""
        return SearchLog() if text is None else SearchLog(json.loads(text))

    def to_text(self) -> str:
        """Returns the log as a checkpoint holds it."""
        return render(self.moves)

    def add(self, tree: SearchTree, move: int, decode: Decode, **facts: Any) -> None:
        """Appends the tree of a move.

        Args:
          tree: one tree, on the host.
          move: number of the move in its game, from 1.
          decode: tokens -> u, v and w.
          facts: of the move, such as its reward.
        """
        self.moves.append({"move": move, **facts, **tree_record(tree, decode)})


def tree_record(tree: SearchTree, decode: Decode) -> dict[str, Any]:
    """Returns a tree as lists: its nodes without those that were never added, and the candidates at
    the root.
    """
    (kept,) = np.nonzero(np.asarray(tree.visits) > 0)
    renumbered = np.full(len(tree.visits), -1)
    renumbered[kept] = np.arange(len(kept))
    parents = np.asarray(tree.parent)[kept]
    return {
        "parent": [int(renumbered[parent]) if parent >= 0 else -1 for parent in parents],
        "term": ["", *spelled(decode(np.asarray(tree.tokens)[kept[1:]]))],
        "visits": [int(count) for count in np.asarray(tree.visits)[kept]],
        "prior": rounded(np.asarray(tree.prior)[kept]),
        "value": rounded(np.asarray(tree.value)[kept]),
        "candidates": spelled(decode(np.asarray(tree.candidates))),
        "candidate_prior": rounded(tree.candidate_prior),
    }


def spelled(
    vectors: tuple[Integer[np.ndarray, "T a"], Integer[np.ndarray, "T b"], Integer[np.ndarray, "T c"]],
) -> list[str]:
    """Returns terms [T, a], [T, b], [T, c] as texts such as ``+00- 0+00 00++``."""
    characters = np.array(list(SPELLING))
    words = [["".join(row) for row in characters[np.asarray(factor).astype(int) + 2]] for factor in vectors]
    return [" ".join(term) for term in zip(*words, strict=True)]


def rounded(values: Any) -> list[float]:
    """Returns values with `DIGITS` significant digits."""
    return [float(f"{float(value):.{DIGITS}g}") for value in np.asarray(values)]


def render(value: Any) -> str:
    """Renders JSON without spaces; the same value always gives the same bytes."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
