"""Every random draw of the game (rule 21) as a method, so that a test can pass the same draws to
two implementations.

A draw receives its choices and returns one of them; the game refuses any other answer. Arguments
such as `index` only identify the draw, so that an implementation that makes all its draws in
advance can look it up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np

from matrixrl.envs.hackmatrix.referee.state import Cell

Choice = TypeVar("Choice")


class Draws(Protocol):
    """Source of the game's random draws. "Uniform" means uniform over the choices, independent of
    all else.
    """

    def player_corner(self, corners: Sequence[Cell]) -> Cell:
        """Draws the start cell of a new game, uniform over the four corners (rule 15)."""
        ...

    def starting_bonus(self, bonuses: Sequence[str]) -> str:
        """Draws the starting bonus, uniform over ``credits``, ``energy``, ``data_siphon``
        (rule 15).
        """
        ...

    def exit_corner(self, corners: Sequence[Cell]) -> Cell:
        """Draws the exit, uniform over the three corners without the player (rule 14)."""
        ...

    def block_count(self, counts: Sequence[int]) -> int:
        """Draws the number of blocks, uniform over 5..11 (rule 14.1)."""
        ...

    def block_cells(self, attempt: int, candidates: Sequence[Cell], count: int) -> Sequence[Cell]:
        """Draws `count` different candidates for attempt 0..99, all sets equally likely
        (rule 14.1).

        Block `index` of the draws below is the one at that position of the answer.
        """
        ...

    def block_content(self, index: int) -> str:
        """Draws the content of a block, ``data`` or ``program``, 1/2 each (rule 14.1)."""
        ...

    def block_is_question(self, index: int) -> bool:
        """Draws whether a block is a question block, with probability 1/10 (rule 14.1)."""
        ...

    def block_points(self, index: int) -> int:
        """Draws the points of a block, uniform over 1..9 (rule 14.1). Called for data contents
        only.
        """
        ...

    def block_program(self, index: int, unused: Sequence[str]) -> str:
        """Draws a program, uniform over those no earlier block of the stage holds (rule 14.1).
        Called for program contents only.
        """
        ...

    def resource_amount(self, cell: Cell) -> int:
        """Draws the amount of a resource: 1, 2, 3 with probability 0.45, 0.45, 0.10 (rule 14.2)."""
        ...

    def resource_kind(self, cell: Cell) -> str:
        """Draws the kind of a resource, ``credits`` or ``energy``, 1/2 each (rule 14.2)."""
        ...

    def spawn_cell(self, caller: str, index: int, cells: Sequence[Cell]) -> Cell:
        """Draws the cell of a spawn, uniform over `cells`, which are listed row by row (rule 10.2).

        `caller` is ``stage``, ``schedule`` or ``siphon``; `index` is the number of the repeat.
        """
        ...

    def spawn_type(self, caller: str, index: int, types: Sequence[str]) -> str:
        """Draws the type of a spawn, uniform over the four enemy types (rule 10.2). Called once per
        transmission that spawns.
        """
        ...

    def permutation(self, round_number: int, count: int) -> Sequence[int]:
        """Draws a uniform order of list positions 0..count-1 for round 1 or 2; the first acts first
        (rule 9.1).
        """
        ...

    def poly_type(self, index: int, types: Sequence[str]) -> str:
        """Draws a type, uniform over the three others, for the enemy at list position `index`
        before POLY (rule 12.4).
        """
        ...

    def warp_target(self, num_enemies: int, num_transmissions: int) -> int:
        """Draws a target, uniform over 0..n-1: the enemies, then the transmissions, in list order
        (rule 12.4).
        """
        ...


class RandomDraws:
    """Draws from a NumPy generator, for games without another implementation."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.generator = generator

    def _uniform(self, choices: Sequence[Choice]) -> Choice:
        return choices[int(self.generator.integers(len(choices)))]

    def player_corner(self, corners: Sequence[Cell]) -> Cell:
        """Draws as `Draws.player_corner` describes."""
        return self._uniform(corners)

    def starting_bonus(self, bonuses: Sequence[str]) -> str:
        """Draws as `Draws.starting_bonus` describes."""
        return self._uniform(bonuses)

    def exit_corner(self, corners: Sequence[Cell]) -> Cell:
        """Draws as `Draws.exit_corner` describes."""
        return self._uniform(corners)

    def block_count(self, counts: Sequence[int]) -> int:
        """Draws as `Draws.block_count` describes."""
        return self._uniform(counts)

    def block_cells(self, attempt: int, candidates: Sequence[Cell], count: int) -> Sequence[Cell]:
        """Draws as `Draws.block_cells` describes."""
        del attempt
        return [candidates[i] for i in self.generator.permutation(len(candidates))[:count]]

    def block_content(self, index: int) -> str:
        """Draws as `Draws.block_content` describes."""
        del index
        return self._uniform(("data", "program"))

    def block_is_question(self, index: int) -> bool:
        """Draws as `Draws.block_is_question` describes."""
        del index
        return bool(self.generator.random() < 0.1)

    def block_points(self, index: int) -> int:
        """Draws as `Draws.block_points` describes."""
        del index
        return self._uniform(range(1, 10))

    def block_program(self, index: int, unused: Sequence[str]) -> str:
        """Draws as `Draws.block_program` describes."""
        del index
        return self._uniform(unused)

    def resource_amount(self, cell: Cell) -> int:
        """Draws as `Draws.resource_amount` describes."""
        del cell
        return int(self.generator.choice((1, 2, 3), p=(0.45, 0.45, 0.10)))

    def resource_kind(self, cell: Cell) -> str:
        """Draws as `Draws.resource_kind` describes."""
        del cell
        return self._uniform(("credits", "energy"))

    def spawn_cell(self, caller: str, index: int, cells: Sequence[Cell]) -> Cell:
        """Draws as `Draws.spawn_cell` describes."""
        del caller, index
        return self._uniform(cells)

    def spawn_type(self, caller: str, index: int, types: Sequence[str]) -> str:
        """Draws as `Draws.spawn_type` describes."""
        del caller, index
        return self._uniform(types)

    def permutation(self, round_number: int, count: int) -> Sequence[int]:
        """Draws as `Draws.permutation` describes."""
        del round_number
        return [int(i) for i in self.generator.permutation(count)]

    def poly_type(self, index: int, types: Sequence[str]) -> str:
        """Draws as `Draws.poly_type` describes."""
        del index
        return self._uniform(types)

    def warp_target(self, num_enemies: int, num_transmissions: int) -> int:
        """Draws as `Draws.warp_target` describes."""
        return self._uniform(range(num_enemies + num_transmissions))


def one_of(answer: Choice, choices: Sequence[Choice], name: str) -> Choice:
    """Returns the answer of a draw if it is one of the choices.

    Raises:
      ValueError: if it is not; the draws are supplied by the caller, and a wrong one is a bug
        there.
    """
    if answer not in choices:
        raise ValueError(f"draw {name}: {answer!r} is not among {list(choices)}")
    return answer
