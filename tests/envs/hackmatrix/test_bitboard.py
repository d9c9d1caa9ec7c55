from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from matrixrl.envs.hackmatrix import bitboard
from matrixrl.envs.hackmatrix.bitboard import Bits
from matrixrl.envs.hackmatrix.referee.state import (
    CELLS,
    DIRECTIONS,
    distances_from,
    neighbours,
    on_board,
    shifted,
    surrounding,
)
from tests.jitted import jitted

CELL_SETS = st.sets(st.sampled_from(CELLS))
ONE_CELL = st.sampled_from(CELLS)
QUICK = settings(deadline=None, derandomize=True, database=None, max_examples=40)


def bits(cells: set[tuple[int, int]]) -> Bits:
    member = np.array([cell in cells for cell in CELLS])
    words = jitted(bitboard.of_list)(np.arange(36, dtype=np.uint32), member)
    return Bits(words.lo[None], words.hi[None])


def cells(words: Bits) -> set[tuple[int, int]]:
    member = np.asarray(jitted(bitboard.to_cells)(words))[:, 0]
    return {cell for cell, here in zip(CELLS, member, strict=True) if here}


def number(cell: tuple[int, int]) -> np.ndarray:
    return np.array([6 * cell[0] + cell[1]], np.int32)


@QUICK
@given(CELL_SETS)
def test_a_set_survives_the_way_into_bits_and_back(members: set) -> None:
    assert cells(bits(members)) == members
    assert int(bits(members).size()[0]) == len(members)
    assert cells(~bits(members)) == set(CELLS) - members


@QUICK
@given(CELL_SETS)
def test_steps_leave_the_board_at_its_edges(members: set) -> None:
    moves = (bitboard.up, bitboard.down, bitboard.left, bitboard.right)
    for move, change in zip(moves, DIRECTIONS, strict=True):
        assert cells(jitted(move)(bits(members))) == {
            there for cell in members if on_board(there := shifted(cell, change))
        }
    assert cells(jitted(bitboard.neighbours)(bits(members))) == {
        n for cell in members for n in neighbours(cell)
    }
    assert cells(jitted(bitboard.surroundings)(bits(members))) == {
        n for cell in members for n in surrounding(cell)
    }


def test_every_cell_has_its_row_column_and_bit() -> None:
    for cell in CELLS:
        assert cells(jitted(bitboard.of_cell)(number(cell))) == {cell}
        assert cells(jitted(bitboard.row_of)(number(cell))) == {
            other for other in CELLS if other[0] == cell[0]
        }
        assert cells(jitted(bitboard.column_of)(number(cell))) == {
            other for other in CELLS if other[1] == cell[1]
        }


@QUICK
@given(CELL_SETS.filter(bool))
def test_members_are_counted_in_order_of_cell_number(members: set) -> None:
    words = bits(members)
    found = [int(jitted(bitboard.nth_cell)(words, np.array([n], np.int32))[0]) for n in range(len(members))]
    assert found == sorted(6 * row + column for row, column in members)


@QUICK
@given(CELL_SETS, ONE_CELL, ONE_CELL)
def test_search_finds_the_distances_of_a_breadth_first_search(closed: set, start: tuple, goal: tuple) -> None:
    closed = closed - {start}
    active = jnp.array([True])
    found = jitted(bitboard.search)(bits({start}), ~bits(closed), bits({goal}), active)
    expected = distances_from(start, lambda cell: cell == goal or cell not in closed).get(goal, 0)
    assert bool(found.found[0]) == (expected > 0)
    assert int(found.distance[0]) == expected


@QUICK
@given(CELL_SETS, ONE_CELL)
def test_ways_name_every_first_step_of_a_shortest_way(closed: set, start: tuple) -> None:
    closed = closed - {start}
    ways = jitted(bitboard.ways_to)(bits({start}), ~bits(closed))
    distance = distances_from(start, lambda cell: cell not in closed)
    for way, change in zip(ways, DIRECTIONS, strict=True):
        expected = set()
        for cell in CELLS:
            nearest = min((distance[n] for n in neighbours(cell) if n in distance), default=None)
            there = shifted(cell, change)
            if cell != start and nearest is not None and distance.get(there) == nearest:
                expected.add(cell)
        assert cells(way) == expected
