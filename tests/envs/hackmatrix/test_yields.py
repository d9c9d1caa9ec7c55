"""Yields of siphons, on random boards and against plain Python."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from matrixrl.envs.hackmatrix import relations, yields
from matrixrl.envs.hackmatrix.observation import NUM_SCALARS, PACKED_WORDS
from matrixrl.envs.hackmatrix.rules import NUM_CELLS, NUM_PROGRAMS, PROGRAMS
from matrixrl.envs.hackmatrix.yields import AMOUNTS, CELL_FEATURES, HEAD_FEATURES
from tests.envs.hackmatrix.test_relations import around
from tests.jitted import jitted

COUNT = 32
DATA, PROGRAM, QUESTION, SIPHONED = 6, 7, 8, 9
UNITS = np.array([9, 9, 6, 6, 2, 2])


class YieldBoard:
    """A random board with contents, as packed words and as plain numbers."""

    def __init__(self, seed: int) -> None:
        draw = np.random.default_rng(seed)
        self.player = int(draw.integers(0, 36))
        self.owned = int(draw.integers(0, 2**NUM_PROGRAMS))
        self.own_credits, self.own_energy = int(draw.integers(0, 4)), int(draw.integers(0, 4))
        kinds = draw.choice([0, DATA, PROGRAM, QUESTION], size=36, p=[0.6, 0.15, 0.15, 0.1])
        self.kind = [int(kind) for kind in kinds]
        self.siphoned = [bool(kind in (DATA, PROGRAM) and draw.random() < 0.3) for kind in kinds]
        names = [int(name) for name in draw.permutation(NUM_PROGRAMS)]
        self.program: list[int | None] = [names.pop() if kind == PROGRAM else None for kind in kinds]
        self.points = [int(draw.integers(1, 10)) if kind == DATA else 0 for kind in kinds]
        self.spawns = [int(draw.integers(0, 10)) if kind in (DATA, PROGRAM) else 0 for kind in kinds]
        # Resources of a block are seen once it is siphoned, and are out of reach.
        seen = [not kind or done for kind, done in zip(self.kind, self.siphoned, strict=True)]
        self.credits = [int(draw.integers(0, 4)) if shown else 0 for shown in seen]
        self.energy = [int(draw.integers(0, 4)) if shown else 0 for shown in seen]

    def packed(self) -> np.ndarray:
        words = np.zeros(PACKED_WORDS, np.uint32)
        words[0], words[8] = self.player, self.owned
        words[2], words[3] = self.own_credits, self.own_energy
        first, second, third = words[NUM_SCALARS:].reshape(3, 36)
        for cell, kind in enumerate(self.kind):
            if kind:
                first[cell] |= 1 << kind
            first[cell] |= self.siphoned[cell] << SIPHONED
            first[cell] |= self.credits[cell] << 16 | self.energy[cell] << 24
            program = self.program[cell]
            second[cell] |= self.points[cell] << 23 | (0 if program is None else 1 << program)
            third[cell] |= self.spawns[cell] << 12
        return words

    def yield_at(self, cell: int) -> tuple[list[int], set[int]]:
        """Enemies, points, credits, energy, programs and questions of a siphon, and the programs."""
        cross = [other for other in (cell, *around(cell)) if not self.siphoned[other]]
        free = [other for other in cross if not self.kind[other]]
        gained = {
            program
            for other in cross
            if (program := self.program[other]) is not None and not self.owned >> program & 1
        }
        return [
            sum(self.spawns[other] for other in cross),
            sum(self.points[other] for other in cross),
            sum(self.credits[other] for other in free),
            sum(self.energy[other] for other in free),
            len(gained),
            sum(self.kind[other] == QUESTION for other in cross),
        ], gained

    def enabled_at(self, cell: int) -> set[int]:
        """Programs that can be paid for after a siphon, and cannot be now."""
        (_, _, credits, energy, *_), gained = self.yield_at(cell)

        def affordable(owned: set[int], credits: int, energy: int) -> set[int]:
            return {i for i in owned if credits >= PROGRAMS[i].credits and energy >= PROGRAMS[i].energy}

        owned = {program for program in range(NUM_PROGRAMS) if self.owned >> program & 1}
        after = affordable(owned | gained, self.own_credits + credits, self.own_energy + energy)
        return after - affordable(owned, self.own_credits, self.own_energy)


@pytest.fixture(scope="module")
def boards() -> list[YieldBoard]:
    return [YieldBoard(seed) for seed in range(COUNT)]


@pytest.fixture(scope="module")
def prepared(boards: list[YieldBoard]) -> Any:
    return jitted(yields.prepare)(jnp.asarray(np.stack([board.packed() for board in boards])))


def test_each_cell_has_what_a_siphon_there_would_bring(boards: list[YieldBoard], prepared: Any) -> None:
    found = jax.device_get(jitted(yields.yields)(prepared))
    assert found.cells.shape == (COUNT, NUM_CELLS, CELL_FEATURES)
    assert found.head.shape == (COUNT, HEAD_FEATURES)
    for board, cells, head in zip(boards, found.cells, found.head, strict=True):
        expected = [board.yield_at(cell)[0] for cell in range(NUM_CELLS)]
        np.testing.assert_allclose(cells[:, :AMOUNTS] * UNITS, expected, atol=1e-5)
        for cell in range(NUM_CELLS):
            assert set(np.flatnonzero(cells[cell, AMOUNTS:]).tolist()) == board.enabled_at(cell)
        np.testing.assert_array_equal(head[:CELL_FEATURES], cells[board.player])
        gained = board.yield_at(board.player)[1]
        assert set(np.flatnonzero(head[CELL_FEATURES:]).tolist()) == gained


def test_large_numbers_are_limited_and_leave_the_others_alone() -> None:
    board = YieldBoard(0)
    board.kind, board.siphoned = [DATA] * 36, [False] * 36
    board.program[:] = [None] * 36
    board.credits, board.energy = [0] * 36, [0] * 36
    board.spawns, board.points = [255] * 36, [9] * 36
    cells = jitted(yields.yields)(jitted(yields.prepare)(jnp.asarray(board.packed())[None])).cells[0]
    np.testing.assert_allclose(cells[14, :AMOUNTS] * UNITS, [63, 45, 0, 0, 0, 0], atol=1e-4)


def test_everything_known_before_stays_in_front(prepared: Any) -> None:
    known = relations.parts_with_relations(prepared[:, :PACKED_WORDS])
    packed = prepared[:, :PACKED_WORDS]
    for words in (prepared, packed):
        parts = jitted(yields.parts_with_yields)(words)
        np.testing.assert_array_equal(parts.head[:, :-HEAD_FEATURES], known.head)
        np.testing.assert_array_equal(parts.cells[:, :, :-CELL_FEATURES], known.cells)
        flat = np.asarray(jitted(yields.unpack_with_yields)(words))
        np.testing.assert_array_equal(flat[:, :1734], relations.unpack_with_relations(packed))
        np.testing.assert_array_equal(
            flat[:, 1734 + HEAD_FEATURES :].reshape(COUNT, NUM_CELLS, CELL_FEATURES),
            parts.cells[:, :, -CELL_FEATURES:],
        )


def test_what_a_siphon_here_gains_is_told_of_prepared_and_packed_observations(
    boards: list[YieldBoard], prepared: Any
) -> None:
    packed = prepared[:, :PACKED_WORDS]
    expected = [sum(1 << program for program in board.yield_at(board.player)[1]) for board in boards]
    assert any(expected)
    assert not all(expected)
    for words in (prepared, packed, jitted(relations.prepare)(packed)):
        np.testing.assert_array_equal(jitted(yields.gained_here)(words), expected)
