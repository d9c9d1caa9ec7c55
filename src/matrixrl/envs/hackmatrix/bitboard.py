"""Sets of cells as bitboards: 36 cells in two 32-bit words, so that a flood fill takes a few
integer operations.

The board is stored with a row stride of 7: cell (r, c) is bit ``7 * (r % 3) + c`` of word
``r // 3``. The seventh column is a guard that is always 0 in a set; a step to the side falls into
it and is masked out.

Every function accepts words of any shape; a batch is simply the shape of the words.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Bool, Int32, Integer, Shaped, UInt32

HALF = sum(0b111111 << (7 * row) for row in range(3))
_SHIFTS = np.array([7 * row + column for row in range(3) for column in range(6)], np.uint32)


class Bits(NamedTuple):
    """A set of cells. `lo` holds rows 0 to 2, `hi` rows 3 to 5."""

    lo: UInt32[Array, "*B"]
    hi: UInt32[Array, "*B"]

    def __and__(self, other: Bits) -> Bits:
        return Bits(self.lo & other.lo, self.hi & other.hi)

    def __or__(self, other: Bits) -> Bits:
        return Bits(self.lo | other.lo, self.hi | other.hi)

    def __sub__(self, other: Bits) -> Bits:
        """Returns the cells of this set that are not in the other."""
        return Bits(self.lo & ~other.lo, self.hi & ~other.hi)

    def __invert__(self) -> Bits:
        return Bits(~self.lo & HALF, ~self.hi & HALF)

    def any(self) -> Bool[Array, "..."]:
        """Returns True where the set is not empty."""
        return (self.lo | self.hi) != 0

    def size(self) -> Int32[Array, "..."]:
        """Returns the number of cells."""
        return (lax.population_count(self.lo) + lax.population_count(self.hi)).astype(jnp.int32)

    def has(self, cell: Integer[Array, "..."]) -> Bool[Array, "..."]:
        """Returns True where `cell` (int32 or uint32, 0..35, broadcast against the words) is in the
        set.
        """
        position = cell_position(cell)
        low = position < 21
        return (jnp.where(low, self.lo, self.hi) >> jnp.where(low, position, position - 21)) & 1 != 0

    def where(self, condition: Bool[Array, "..."]) -> Bits:
        """Returns the set where `condition` holds, the empty set elsewhere."""
        return Bits(jnp.where(condition, self.lo, 0), jnp.where(condition, self.hi, 0))


def full_like(word: Shaped[Array, "*B"]) -> Bits:
    """Returns the set of all 36 cells, in the shape of `word`."""
    half = jnp.full_like(word, HALF, dtype=jnp.uint32)
    return Bits(half, half)


def empty_like(word: Shaped[Array, "*B"]) -> Bits:
    """Returns the empty set, in the shape of `word`."""
    none = jnp.zeros_like(word, dtype=jnp.uint32)
    return Bits(none, none)


def constant(cells: tuple[int, ...]) -> Bits:
    """Returns a fixed set of cells, as scalars."""
    lo = sum(1 << (7 * (cell // 6) + cell % 6) for cell in cells if cell < 18)
    hi = sum(1 << (7 * (cell // 6 - 3) + cell % 6) for cell in cells if cell >= 18)
    return Bits(jnp.uint32(lo), jnp.uint32(hi))


def choose(condition: Bool[Array, "..."], yes: Bits, no: Bits) -> Bits:
    """Returns `yes` where the condition holds, else `no`."""
    return Bits(jnp.where(condition, yes.lo, no.lo), jnp.where(condition, yes.hi, no.hi))


def cell_row(cell: Integer[Array, "*B"]) -> Integer[Array, "*B"]:
    """Returns the row of a cell 0..35, by a multiplication that is exact in that range."""
    return (cell * 43) >> 8


def cell_position(cell: Integer[Array, "*B"]) -> UInt32[Array, "*B"]:
    """Returns the bit number 0..40 of a cell over both words."""
    cell = cell.astype(jnp.uint32)
    return cell + cell_row(cell)


def of_cell(cell: Integer[Array, "*B"]) -> Bits:
    """Returns the set of one cell."""
    position = cell_position(cell)
    low = position < 21
    one = jnp.uint32(1)
    return Bits(
        jnp.where(low, one << jnp.minimum(position, 21), 0),
        jnp.where(low, 0, one << jnp.where(low, 0, position - 21)),
    )


def of_list(cells: Integer[Array, "slots *B"], present: Bool[Array, "slots *B"]) -> Bits:
    """Returns the set of the `present` cells of a list along the first axis."""
    single = of_cell(cells).where(present)
    return Bits(
        lax.reduce(single.lo, np.uint32(0), lax.bitwise_or, (0,)),
        lax.reduce(single.hi, np.uint32(0), lax.bitwise_or, (0,)),
    )


def up(bits: Bits) -> Bits:
    """Moves every cell one row up (row + 1); cells that leave the board are dropped."""
    return Bits((bits.lo << 7) & HALF, ((bits.hi << 7) | (bits.lo >> 14)) & HALF)


def down(bits: Bits) -> Bits:
    """Moves every cell one row down."""
    return Bits((bits.lo >> 7) | ((bits.hi << 14) & HALF), bits.hi >> 7)


def left(bits: Bits) -> Bits:
    """Moves every cell one column left."""
    return Bits((bits.lo >> 1) & HALF, (bits.hi >> 1) & HALF)


def right(bits: Bits) -> Bits:
    """Moves every cell one column right."""
    return Bits((bits.lo << 1) & HALF, (bits.hi << 1) & HALF)


def _spread(bits: Bits) -> Bits:
    """Returns the neighbours of the cells with arbitrary bits outside the board; the caller masks
    them.
    """
    lo, hi = bits
    return Bits(
        (lo << 1) | (lo >> 1) | (lo << 7) | (lo >> 7) | (hi << 14),
        (hi << 1) | (hi >> 1) | (hi << 7) | (hi >> 7) | (lo >> 14),
    )


def neighbours(bits: Bits) -> Bits:
    """Returns all cells one step from a cell of the set."""
    lo, hi = _spread(bits)
    return Bits(lo & HALF, hi & HALF)


def surroundings(bits: Bits) -> Bits:
    """Returns the up to eight cells around each cell; a cell of the set is included only as a
    neighbour of another.
    """
    sides = left(bits) | right(bits)
    three = sides | bits
    return sides | up(three) | down(three)


def row_of(cell: Integer[Array, "*B"]) -> Bits:
    """Returns all cells in the row of `cell`."""
    start = 7 * cell_row(cell.astype(jnp.uint32))
    row = jnp.uint32(0b111111)
    low = start < 21
    return Bits(
        jnp.where(low, row << jnp.minimum(start, 21), 0),
        jnp.where(low, 0, row << jnp.where(low, 0, start - 21)),
    )


def column_of(cell: Integer[Array, "*B"]) -> Bits:
    """Returns all cells in the column of `cell`."""
    cell = cell.astype(jnp.uint32)
    word = jnp.uint32(1 | 1 << 7 | 1 << 14) << (cell - 6 * cell_row(cell))
    return Bits(word, word)


def to_cells(bits: Bits) -> UInt32[Array, "36 ..."]:
    """Returns the membership of each cell, 0 or 1."""
    shifts = _SHIFTS.reshape((18,) + (1,) * bits.lo.ndim)
    return jnp.concatenate([(bits.lo >> shifts) & 1, (bits.hi >> shifts) & 1])


def nth_cell(bits: Bits, n: Integer[Array, "..."]) -> Int32[Array, "..."]:
    """Returns the cell number of the `n`-th member (from 0, ascending), int32. `n` must be below
    the size.
    """
    n = n.astype(jnp.uint32)
    # Select the word that holds the member, then find it by binary search on bit counts.
    below = lax.population_count(bits.lo)
    in_hi = n >= below
    word = jnp.where(in_hi, bits.hi, bits.lo)
    n = jnp.where(in_hi, n - below, n)
    position = jnp.zeros_like(n)
    for width in (16, 8, 4, 2, 1):
        count = lax.population_count(word & ((1 << width) - 1))
        beyond = n >= count
        n = jnp.where(beyond, n - count, n)
        word = jnp.where(beyond, word >> width, word)
        position = jnp.where(beyond, position + width, position)
    # Convert the bit number to a cell number: subtract the guard bits of the rows before it.
    row = (position * 37) >> 8
    return (position - row + jnp.where(in_hi, 18, 0).astype(jnp.uint32)).astype(jnp.int32)


_WAVES_PER_ROUND = 6


class Search(NamedTuple):
    """Result of `search`.

    Attributes:
      found: whether the goal was found.
      distance: number of steps to the goal, 0 if it was not found.
      reached: the cells nearer to the start than the goal.
    """

    found: Bool[Array, "*B"]
    distance: Int32[Array, "*B"]
    reached: Bits


def search(start: Bits, open_cells: Bits, goal: Bits, active: Bool[Array, "*B"]) -> Search:
    """Finds shortest paths from `start` to the single cell `goal` by breadth-first search over
    `open_cells`.

    The goal itself need not be open. `reached` holds the cells nearer to the start than the goal:
    the first step of a shortest path from the goal leads to any of its neighbours there. A goal
    that is the start is not found. Lanes that are not `active` do no work and find nothing.
    """
    doorstep = neighbours(goal)
    reached = start.where(active & ~(start & goal).any())
    distance = jnp.zeros_like(active, dtype=jnp.int32)

    def unfinished(carry: tuple[Bits, Array, Array]) -> Array:
        return carry[2]

    def waves(carry: tuple[Bits, Array, Array]) -> tuple[Bits, Array, Array]:
        before, distance, _ = carry
        # Carry `reached` alone: XLA computes every carried array in a loop of its own.
        reached = before
        for _ in range(_WAVES_PER_ROUND):
            searching = ~(reached & doorstep).any()
            reached = reached | (_spread(reached) & open_cells).where(searching)
            distance = distance + searching
        grown = (reached - before).any()
        return reached, distance, jnp.any(grown & ~(reached & doorstep).any())

    reached, distance, _ = lax.while_loop(unfinished, waves, (reached, distance, jnp.any(reached.any())))
    found = (reached & doorstep).any()
    return Search(found, jnp.where(found, distance + 1, 0), reached)


class Ways(NamedTuple):
    """First steps of shortest paths to one cell: the cells from which the step may be up, down,
    left, right.
    """

    up: Bits
    down: Bits
    left: Bits
    right: Bits


def ways_to(start: Bits, open_cells: Bits) -> Ways:
    """Returns for every cell the directions in which a shortest path over `open_cells` to `start`
    may begin.
    """
    nothing = empty_like(start.lo)

    def unfinished(carry: tuple[Bits, Bits, Ways]) -> Array:
        return jnp.any(carry[0].any())

    def wave(carry: tuple[Bits, Bits, Ways]) -> tuple[Bits, Bits, Ways]:
        front, unseen, ways = carry
        # A cell whose path begins with a step up is one row below the front.
        steps = (down(front), up(front), right(front), left(front))
        ways = Ways(*(way | (step & unseen) for way, step in zip(ways, steps, strict=True)))
        seen = neighbours(front) & unseen
        return seen & open_cells, unseen - seen, ways

    return lax.while_loop(unfinished, wave, (start, ~start, Ways(nothing, nothing, nothing, nothing)))[2]
