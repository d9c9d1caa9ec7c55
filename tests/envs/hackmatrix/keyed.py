"""The referee's draws, taken from the same key as those of the arrays, and comparison of the two sides."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from matrixrl.envs.hackmatrix.draws import Stream
from matrixrl.envs.hackmatrix.referee import Cell, GameState, Snapshot

MASK = 0xFFFFFFFF
ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def threefry(key: tuple[int, int], counter: tuple[int, int]) -> tuple[int, int]:
    """Threefry-2x32 with 20 rounds in Python integers (Salmon et al. 2011), written apart from `draws.block`."""
    k = (key[0], key[1], key[0] ^ key[1] ^ 0x1BD11BDA)
    x, y = (counter[0] + k[0]) & MASK, (counter[1] + k[1]) & MASK
    for group in range(5):
        for rotation in ROTATIONS[group % 2]:
            x = (x + y) & MASK
            y = ((y << rotation) & MASK) | (y >> (32 - rotation))
            y ^= x
        x = (x + k[(group + 1) % 3]) & MASK
        y = (y + k[(group + 2) % 3] + group + 1) & MASK
    return x, y


def pick(word: int, n: int) -> int:
    return (word * n) >> 32


class KeyedDraws:
    """Answers every draw of the referee as the table of `matrixrl.envs.hackmatrix.draws` says.

    One instance serves one step: it remembers whether a scheduled task took the first spawn.
    """

    def __init__(self, key: Sequence[int] | np.ndarray) -> None:
        self.key = (int(key[0]), int(key[1]))
        self.scheduled = 0

    def words(self, stream: Stream, index: int) -> tuple[int, int]:
        return threefry(self.key, (index, 0x484D0000 | stream))

    def reset(self) -> KeyedDraws:
        """The draws of the new game after this step."""
        return KeyedDraws(self.words(Stream.RESET, 0))

    def player_corner(self, corners: Sequence[Cell]) -> Cell:
        return corners[pick(self.words(Stream.NEW_GAME, 0)[0], 4)]

    def starting_bonus(self, bonuses: Sequence[str]) -> str:
        return bonuses[pick(self.words(Stream.NEW_GAME, 0)[1], 3)]

    def exit_corner(self, corners: Sequence[Cell]) -> Cell:
        return corners[pick(self.words(Stream.STAGE, 0)[0], len(corners))]

    def block_count(self, counts: Sequence[int]) -> int:
        return counts[pick(self.words(Stream.STAGE, 0)[1], len(counts))]

    def block_cells(self, attempt: int, candidates: Sequence[Cell], count: int) -> Sequence[Cell]:
        left, chosen = sorted(candidates), []
        for i in range(count):
            word = self.words(Stream.PLACEMENT, attempt * 6 + i // 2)[i % 2]
            chosen.append(left.pop(pick(word, len(left))))
        return chosen

    def block_content(self, index: int) -> str:
        return ("data", "program")[pick(self.words(Stream.CONTENT, 2 * index)[0], 2)]

    def block_is_question(self, index: int) -> bool:
        return pick(self.words(Stream.CONTENT, 2 * index)[1], 10) == 0

    def block_points(self, index: int) -> int:
        return 1 + pick(self.words(Stream.CONTENT, 2 * index + 1)[0], 9)

    def block_program(self, index: int, unused: Sequence[str]) -> str:
        return unused[pick(self.words(Stream.CONTENT, 2 * index + 1)[1], len(unused))]

    def resource_amount(self, cell: Cell) -> int:
        lot = pick(self.words(Stream.RESOURCE, 6 * cell[0] + cell[1])[0], 20)
        return 1 if lot < 9 else 2 if lot < 18 else 3

    def resource_kind(self, cell: Cell) -> str:
        return ("credits", "energy")[pick(self.words(Stream.RESOURCE, 6 * cell[0] + cell[1])[1], 2)]

    def _spawn(self, caller: str, index: int) -> tuple[int, int]:
        if caller == "stage":
            return self.words(Stream.STAGE_SPAWN, index)
        if caller == "schedule":
            self.scheduled = 1
            return self.words(Stream.SPAWN, 0)
        return self.words(Stream.SPAWN, self.scheduled + index)

    def spawn_cell(self, caller: str, index: int, cells: Sequence[Cell]) -> Cell:
        return sorted(cells)[pick(self._spawn(caller, index)[0], len(cells))]

    def spawn_type(self, caller: str, index: int, types: Sequence[str]) -> str:
        return types[pick(self._spawn(caller, index)[1], 4)]

    def permutation(self, round_number: int, count: int) -> Sequence[int]:
        def priority(slot: int) -> tuple[int, int]:
            return self.words(Stream.ORDER, slot)[round_number - 1] >> 7, slot

        return sorted(range(count), key=priority)

    def poly_type(self, index: int, types: Sequence[str]) -> str:
        return types[pick(self.words(Stream.POLY, index)[0], 3)]

    def warp_target(self, num_enemies: int, num_transmissions: int) -> int:
        return pick(self.words(Stream.WARP, 0)[0], num_enemies + num_transmissions)


def comparable(game: GameState | Snapshot) -> dict[str, Any]:
    """All fields of a game as plain values, without the display hint and the sizes."""
    record = dataclasses.asdict(game)
    for enemy in record["enemies"]:
        del enemy["last_known"]
    for snapshot in record.get("history", ()):
        for enemy in snapshot["enemies"]:
            del enemy["last_known"]
    record.pop("config", None)
    record["resources"] = {
        cell: resource for cell, resource in record["resources"].items() if any(resource.values())
    }
    episode = record.get("episode")
    if episode is not None:
        episode["return_"] = float(np.float32(episode["return_"]))
    return record


def differences(ours: dict[str, Any], theirs: dict[str, Any], path: str = "") -> list[str]:
    """Where two records differ, for a readable failure; episode returns agree to single precision."""
    found = []
    for key in ours.keys() | theirs.keys():
        a, b, where = ours.get(key), theirs.get(key), f"{path}{key}"
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{where}.")
        elif isinstance(a, float) and isinstance(b, float):
            if abs(a - b) > 1e-4 * max(1.0, abs(b)):
                found.append(f"{where}: arrays {a}, referee {b}")
        elif a != b:
            found.append(f"{where}: arrays {a}, referee {b}")
    return found
