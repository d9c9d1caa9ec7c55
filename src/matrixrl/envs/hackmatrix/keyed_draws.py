"""The referee's draws from the key of a step: the same random words as the arrays use, in plain
Python.

With it a recorded game of actions and keys can be replayed on either engine. It implements the
table of `draws` independently, so that each can be tested against the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from matrixrl.envs.hackmatrix.referee import Cell, GameState, step
from matrixrl.envs.hackmatrix.scenario import ReplayStep
from matrixrl.envs.hackmatrix.streams import Stream

_MASK = 0xFFFFFFFF
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def threefry(key: tuple[int, int], counter: tuple[int, int]) -> tuple[int, int]:
    """Computes Threefry-2x32 with 20 rounds in Python integers (Salmon et al. 2011), independently
    of `draws.block`.
    """
    k = (key[0], key[1], key[0] ^ key[1] ^ 0x1BD11BDA)
    x, y = (counter[0] + k[0]) & _MASK, (counter[1] + k[1]) & _MASK
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x = (x + y) & _MASK
            y = ((y << rotation) & _MASK) | (y >> (32 - rotation))
            y ^= x
        x = (x + k[(group + 1) % 3]) & _MASK
        y = (y + k[(group + 2) % 3] + group + 1) & _MASK
    return x, y


def _pick(word: int, n: int) -> int:
    return (word * n) >> 32


class KeyedDraws:
    """Draws of the referee as the table of `matrixrl.envs.hackmatrix.draws` defines them.

    One instance serves one step: it stores whether a scheduled task took the first spawn.
    """

    def __init__(self, key: Sequence[int] | np.ndarray) -> None:
        self.key = (int(key[0]), int(key[1]))
        self.scheduled = 0

    def words(self, stream: Stream, index: int) -> tuple[int, int]:
        """Returns the two words of a stream and index."""
        return threefry(self.key, (index, 0x484D0000 | stream))

    def reset(self) -> KeyedDraws:
        """Returns the draws of the new game after this step."""
        return KeyedDraws(self.words(Stream.RESET, 0))

    def player_corner(self, corners: Sequence[Cell]) -> Cell:
        """Draws as `Draws.player_corner` describes."""
        return corners[_pick(self.words(Stream.NEW_GAME, 0)[0], 4)]

    def starting_bonus(self, bonuses: Sequence[str]) -> str:
        """Draws as `Draws.starting_bonus` describes."""
        return bonuses[_pick(self.words(Stream.NEW_GAME, 0)[1], 3)]

    def exit_corner(self, corners: Sequence[Cell]) -> Cell:
        """Draws as `Draws.exit_corner` describes."""
        return corners[_pick(self.words(Stream.STAGE, 0)[0], len(corners))]

    def block_count(self, counts: Sequence[int]) -> int:
        """Draws as `Draws.block_count` describes."""
        return counts[_pick(self.words(Stream.STAGE, 0)[1], len(counts))]

    def block_cells(self, attempt: int, candidates: Sequence[Cell], count: int) -> Sequence[Cell]:
        """Draws as `Draws.block_cells` describes."""
        left, chosen = sorted(candidates), []
        for i in range(count):
            word = self.words(Stream.PLACEMENT, attempt * 6 + i // 2)[i % 2]
            chosen.append(left.pop(_pick(word, len(left))))
        return chosen

    def block_content(self, index: int) -> str:
        """Draws as `Draws.block_content` describes."""
        return ("data", "program")[_pick(self.words(Stream.CONTENT, 2 * index)[0], 2)]

    def block_is_question(self, index: int) -> bool:
        """Draws as `Draws.block_is_question` describes."""
        return _pick(self.words(Stream.CONTENT, 2 * index)[1], 10) == 0

    def block_points(self, index: int) -> int:
        """Draws as `Draws.block_points` describes."""
        return 1 + _pick(self.words(Stream.CONTENT, 2 * index + 1)[0], 9)

    def block_program(self, index: int, unused: Sequence[str]) -> str:
        """Draws as `Draws.block_program` describes."""
        return unused[_pick(self.words(Stream.CONTENT, 2 * index + 1)[1], len(unused))]

    def resource_amount(self, cell: Cell) -> int:
        """Draws as `Draws.resource_amount` describes."""
        lot = _pick(self.words(Stream.RESOURCE, 6 * cell[0] + cell[1])[0], 20)
        return 1 if lot < 9 else 2 if lot < 18 else 3

    def resource_kind(self, cell: Cell) -> str:
        """Draws as `Draws.resource_kind` describes."""
        return ("credits", "energy")[_pick(self.words(Stream.RESOURCE, 6 * cell[0] + cell[1])[1], 2)]

    def _spawn(self, caller: str, index: int) -> tuple[int, int]:
        if caller == "stage":
            return self.words(Stream.STAGE_SPAWN, index)
        if caller == "schedule":
            self.scheduled = 1
            return self.words(Stream.SPAWN, 0)
        return self.words(Stream.SPAWN, self.scheduled + index)

    def spawn_cell(self, caller: str, index: int, cells: Sequence[Cell]) -> Cell:
        """Draws as `Draws.spawn_cell` describes."""
        return sorted(cells)[_pick(self._spawn(caller, index)[0], len(cells))]

    def spawn_type(self, caller: str, index: int, types: Sequence[str]) -> str:
        """Draws as `Draws.spawn_type` describes."""
        return types[_pick(self._spawn(caller, index)[1], 4)]

    def permutation(self, round_number: int, count: int) -> Sequence[int]:
        """Draws as `Draws.permutation` describes."""

        def priority(slot: int) -> tuple[int, int]:
            return self.words(Stream.ORDER, slot)[round_number - 1] >> 7, slot

        return sorted(range(count), key=priority)

    def poly_type(self, index: int, types: Sequence[str]) -> str:
        """Draws as `Draws.poly_type` describes."""
        return types[_pick(self.words(Stream.POLY, index)[0], 3)]

    def warp_target(self, num_enemies: int, num_transmissions: int) -> int:
        """Draws as `Draws.warp_target` describes."""
        return _pick(self.words(Stream.WARP, 0)[0], num_enemies + num_transmissions)


def replay_step(state: GameState, action: int, key: tuple[int, int] | None) -> ReplayStep:
    """Runs one step on the referee: the `step` of `scenario.run_replay`, for replays that have
    keys.

    Raises:
      ValueError: if there is no key.
    """
    if key is None:
        raise ValueError("a replay without keys says nothing about chance")
    result = step(state, action, KeyedDraws(key))
    return ReplayStep(result.state, result.reward, result.done, result.breakdown)
