"""Relation features, on random boards and against plain Python."""

from __future__ import annotations

from collections import deque
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from matrixrl.envs.hackmatrix import observation, relations
from matrixrl.envs.hackmatrix.observation import NUM_SCALARS, PACKED_WORDS
from matrixrl.envs.hackmatrix.relations import CELL_FEATURES, FAR, HEAD_FEATURES
from matrixrl.envs.hackmatrix.rules import NUM_CELLS, PROGRAMS, Program
from tests.jitted import jitted

COUNT = 64
STEPS = ((1, 0), (-1, 0), (0, -1), (0, 1))
VIRUS, DATA, EXIT, STUNNED, TURNS = 0, 6, 11, 4, 13


def neighbour(cell: int, step: tuple[int, int]) -> int | None:
    row, column = cell // 6 + step[0], cell % 6 + step[1]
    return row * 6 + column if 0 <= row < 6 and 0 <= column < 6 else None


def around(cell: int) -> list[int]:
    return [other for step in STEPS if (other := neighbour(cell, step)) is not None]


class Board:
    """A random board, as packed words and as Python sets."""

    def __init__(self, seed: int) -> None:
        draw = np.random.default_rng(seed)
        cells = [int(cell) for cell in draw.permutation(36)]
        self.player = cells.pop()
        self.exit = cells.pop() if seed % 5 else self.player
        self.blocks = set(cells[: draw.integers(0, 14)])
        self.enemies = {cell: int(draw.integers(0, 4)) for cell in cells[10 : 10 + draw.integers(0, 10)]}
        self.hp = {cell: int(draw.integers(1, 4)) for cell in self.enemies}
        self.stunned = {cell for cell in self.enemies if draw.random() < 0.3}
        self.transmissions = set(cells[20 : 20 + draw.integers(0, 4)])
        self.credits, self.energy = int(draw.integers(0, 6)), int(draw.integers(0, 6))
        self.damage, self.owned = int(draw.integers(1, 3)), int(draw.integers(0, 2**23))

    def packed(self) -> np.ndarray:
        words = np.zeros(PACKED_WORDS, np.uint32)
        words[:NUM_SCALARS] = (
            self.player, 3, self.credits, self.energy, 1, 0, self.damage, 0, self.owned,
        )  # fmt: skip
        first, third = words[NUM_SCALARS:][:NUM_CELLS], words[NUM_SCALARS + 2 * NUM_CELLS :]
        for cell in self.blocks:
            first[cell] |= 1 << DATA + cell % 3  # data, program or question block
        for cell, kind in self.enemies.items():
            first[cell] |= 1 << kind | (cell in self.stunned) << STUNNED
            third[cell] |= self.hp[cell]
        for cell in self.transmissions:
            first[cell] |= 1 << TURNS
        first[self.exit] |= 1 << EXIT
        return words

    def distances(self, start: int) -> list[float]:
        found, queue = {start: 0}, deque([start])
        while queue:
            cell = queue.popleft()
            if cell in self.blocks and cell != start:
                continue
            for other in around(cell):
                if other not in found:
                    found[other] = found[cell] + 1
                    queue.append(other)
        return [min(found.get(cell, FAR), FAR) for cell in range(36)]

    def danger(self, cell: int) -> int:
        beside = sum(other in self.enemies and other not in self.stunned for other in around(cell))
        viruses = {c for c, kind in self.enemies.items() if kind == VIRUS and c not in self.stunned}
        if cell in viruses or any(other in viruses for other in around(cell)):
            return beside
        taken = self.blocks | set(self.enemies) | self.transmissions
        return beside + any(
            step not in taken and any(other in viruses for other in around(step)) for step in around(cell)
        )

    def scan(self, step: tuple[int, int]) -> tuple[set[int], int | None]:
        """The cells of a line of fire, and its target (rule 6.1)."""
        passed: set[int] = set()
        cell = neighbour(self.player, step)
        while cell is not None:
            if cell in self.transmissions or cell in self.enemies:
                return passed | {cell}, cell
            if cell in self.blocks:
                break
            passed.add(cell)
            cell = neighbour(cell, step)
        return passed, None


@pytest.fixture(scope="module")
def boards() -> list[Board]:
    return [Board(seed) for seed in range(COUNT)]


@pytest.fixture(scope="module")
def packed(boards: list[Board]) -> Any:
    return jnp.asarray(np.stack([board.packed() for board in boards]))


@pytest.fixture(scope="module")
def found(packed: Any) -> Any:
    return jax.device_get(jitted(relations.relations)(packed))


def test_cells_have_distances_danger_and_lines_of_fire(boards: list[Board], found: Any) -> None:
    assert found.cells.shape == (COUNT, 36, CELL_FEATURES)
    for board, cells in zip(boards, found.cells, strict=True):
        np.testing.assert_allclose(cells[:, 0] * FAR, board.distances(board.exit))
        np.testing.assert_allclose(cells[:, 1] * FAR, board.distances(board.player))
        np.testing.assert_allclose(cells[:, 2] * 4, [board.danger(cell) for cell in range(36)])
        fire = set().union(*(board.scan(step)[0] for step in STEPS))
        assert set(np.flatnonzero(cells[:, 3]).tolist()) == fire


def test_each_direction_has_its_target_and_what_a_step_leads_to(boards: list[Board], found: Any) -> None:
    assert found.head.shape == (COUNT, HEAD_FEATURES)
    for board, head in zip(boards, found.head, strict=True):
        distance = board.distances(board.exit)
        assert head[0] * FAR == distance[board.player]
        assert head[1] * 4 == board.danger(board.player)
        for index, step in enumerate(STEPS):
            _, target = board.scan(step)
            there = neighbour(board.player, step)
            inside = there is not None and there not in board.blocks
            can_step = inside and target is None
            expected = [
                target is not None,
                target is not None and board.hp.get(target, 0) <= board.damage,
                can_step,
                distance[board.player] - distance[there] if can_step and there is not None else 0,
                board.danger(there) / 4 if inside and there is not None else 0,
            ]
            assert head[2 + 5 * index : 7 + 5 * index].tolist() == pytest.approx([*map(float, expected)]), (
                step
            )


def test_programs_are_affordable_if_owned_and_paid_for(boards: list[Board], found: Any) -> None:
    for board, head in zip(boards, found.head, strict=True):
        for program in Program:
            row = PROGRAMS[program]
            can_pay = board.credits >= row.credits and board.energy >= row.energy
            assert head[22 + program] == (bool(board.owned >> program & 1) and can_pay)


def test_the_observation_stays_in_front(packed: Any, found: Any) -> None:
    flat = np.asarray(jitted(relations.unpack_with_relations)(packed))
    np.testing.assert_array_equal(flat[:, :1545], np.asarray(jitted(observation.unpack)(packed)))
    np.testing.assert_array_equal(flat[:, 1545 : 1545 + HEAD_FEATURES], found.head)
    parts = jitted(relations.parts_with_relations)(packed)
    np.testing.assert_array_equal(np.asarray(parts.cells)[:, :, 42:], found.cells)
    np.testing.assert_array_equal(np.asarray(parts.head)[:, 33:], found.head)


def test_prepared_observations_have_the_same_features(packed: Any) -> None:
    prepared = jitted(relations.prepare)(packed)
    assert prepared.shape == (COUNT, PACKED_WORDS + 22)
    np.testing.assert_array_equal(prepared[:, :PACKED_WORDS], packed)
    for of in (relations.unpack_with_relations, relations.parts_with_relations):
        jax.tree.map(np.testing.assert_array_equal, jitted(of)(prepared), jitted(of)(packed))
