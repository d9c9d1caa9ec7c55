"""Every random draw of the game (21) as a method, so that a test can hand the same draws to two implementations.

A draw is told what it may choose from and returns one of the choices; the game refuses any other answer. Arguments
such as `index` only say which draw it is, so that an implementation that makes all its draws ahead can look it up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np

from matrixrl.envs.hackmatrix.referee.state import Cell

Choice = TypeVar("Choice")


class Draws(Protocol):
    """Where the game gets its random draws. "Uniform" means uniform over the choices, independent of all else."""

    def player_corner(self, corners: Sequence[Cell]) -> Cell:
        """(15) Where a new game starts: uniform over the four corners."""
        ...

    def starting_bonus(self, bonuses: Sequence[str]) -> str:
        """(15) Uniform over ``credits``, ``energy``, ``data_siphon``."""
        ...

    def exit_corner(self, corners: Sequence[Cell]) -> Cell:
        """(14) Uniform over the three corners without the player."""
        ...

    def block_count(self, counts: Sequence[int]) -> int:
        """(14.1) Uniform over 5..11."""
        ...

    def block_cells(self, attempt: int, candidates: Sequence[Cell], count: int) -> Sequence[Cell]:
        """(14.1) `count` different candidates for attempt 0..99, all sets equally likely.

        Block `index` of the draws below is the one at that position of the answer.
        """
        ...

    def block_content(self, index: int) -> str:
        """(14.1) ``data`` or ``program``, 1/2 each."""
        ...

    def block_is_question(self, index: int) -> bool:
        """(14.1) True with probability 1/10."""
        ...

    def block_points(self, index: int) -> int:
        """(14.1) Uniform over 1..9; asked for data contents only."""
        ...

    def block_program(self, index: int, unused: Sequence[str]) -> str:
        """(14.1) Uniform over the programs no earlier block of the stage holds; asked for program contents only."""
        ...

    def resource_amount(self, cell: Cell) -> int:
        """(14.2) 1, 2, 3 with probability 0.45, 0.45, 0.10."""
        ...

    def resource_kind(self, cell: Cell) -> str:
        """(14.2) ``credits`` or ``energy``, 1/2 each."""
        ...

    def spawn_cell(self, caller: str, index: int, cells: Sequence[Cell]) -> Cell:
        """(10.2) Uniform over `cells`, row by row. `caller` is ``stage``, ``schedule`` or ``siphon``, `index` the repeat."""
        ...

    def spawn_type(self, caller: str, index: int, types: Sequence[str]) -> str:
        """(10.2) Uniform over the four enemy types; asked once per transmission that is really spawned."""
        ...

    def permutation(self, round_number: int, count: int) -> Sequence[int]:
        """(9.1) Uniform order of list positions 0..count-1 for round 1 or 2: who acts first comes first."""
        ...

    def poly_type(self, index: int, types: Sequence[str]) -> str:
        """(12.4) Uniform over the three other types, for the enemy at list position `index` before the program."""
        ...

    def warp_target(self, num_enemies: int, num_transmissions: int) -> int:
        """(12.4) Uniform over 0..n-1: the enemies in list order, then the transmissions in list order."""
        ...


class RandomDraws:
    """Draws from a NumPy generator, for playing without another implementation."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.generator = generator

    def _uniform(self, choices: Sequence[Choice]) -> Choice:
        return choices[int(self.generator.integers(len(choices)))]

    def player_corner(self, corners: Sequence[Cell]) -> Cell:
        """See `Draws`."""
        return self._uniform(corners)

    def starting_bonus(self, bonuses: Sequence[str]) -> str:
        """See `Draws`."""
        return self._uniform(bonuses)

    def exit_corner(self, corners: Sequence[Cell]) -> Cell:
        """See `Draws`."""
        return self._uniform(corners)

    def block_count(self, counts: Sequence[int]) -> int:
        """See `Draws`."""
        return self._uniform(counts)

    def block_cells(self, attempt: int, candidates: Sequence[Cell], count: int) -> Sequence[Cell]:
        """See `Draws`."""
        del attempt
        return [candidates[i] for i in self.generator.permutation(len(candidates))[:count]]

    def block_content(self, index: int) -> str:
        """See `Draws`."""
        del index
        return self._uniform(("data", "program"))

    def block_is_question(self, index: int) -> bool:
        """See `Draws`."""
        del index
        return bool(self.generator.random() < 0.1)

    def block_points(self, index: int) -> int:
        """See `Draws`."""
        del index
        return self._uniform(range(1, 10))

    def block_program(self, index: int, unused: Sequence[str]) -> str:
        """See `Draws`."""
        del index
        return self._uniform(unused)

    def resource_amount(self, cell: Cell) -> int:
        """See `Draws`."""
        del cell
        return int(self.generator.choice((1, 2, 3), p=(0.45, 0.45, 0.10)))

    def resource_kind(self, cell: Cell) -> str:
        """See `Draws`."""
        del cell
        return self._uniform(("credits", "energy"))

    def spawn_cell(self, caller: str, index: int, cells: Sequence[Cell]) -> Cell:
        """See `Draws`."""
        del caller, index
        return self._uniform(cells)

    def spawn_type(self, caller: str, index: int, types: Sequence[str]) -> str:
        """See `Draws`."""
        del caller, index
        return self._uniform(types)

    def permutation(self, round_number: int, count: int) -> Sequence[int]:
        """See `Draws`."""
        del round_number
        return [int(i) for i in self.generator.permutation(count)]

    def poly_type(self, index: int, types: Sequence[str]) -> str:
        """See `Draws`."""
        del index
        return self._uniform(types)

    def warp_target(self, num_enemies: int, num_transmissions: int) -> int:
        """See `Draws`."""
        return self._uniform(range(num_enemies + num_transmissions))


def one_of(answer: Choice, choices: Sequence[Choice], name: str) -> Choice:
    """The answer of a draw, if it is one of the choices.

    Raises:
      ValueError: it is not; the draws come from elsewhere, and a wrong one is a bug there.
    """
    if answer not in choices:
        raise ValueError(f"draw {name}: {answer!r} is not among {list(choices)}")
    return answer
