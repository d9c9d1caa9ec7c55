"""Stage generation (rule 14) and new games (rule 15), for the lanes that need one. Batch-last.

A stage is generated rarely, so the caller (`batch`) gathers the lanes that need one and generates a
few at a time. Each lane's stage depends on its own inputs alone, so the grouping does not affect
the result. Placements are rejection sampled: many attempts are drawn and tested at once, and the
first valid one counts.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Bool, Int32, UInt32

from matrixrl.envs.hackmatrix import bitboard, lists, spawning
from matrixrl.envs.hackmatrix.bitboard import Bits
from matrixrl.envs.hackmatrix.draws import Stream, Words, block, pick
from matrixrl.envs.hackmatrix.memory import materialized
from matrixrl.envs.hackmatrix.rules import (
    CORNERS,
    MAX_BLOCKS,
    MIN_BLOCKS,
    NUM_CELLS,
    NUM_PROGRAMS,
    NUM_STAGES,
    PLACEMENT_ATTEMPTS,
    PROGRAMS,
)
from matrixrl.envs.hackmatrix.state import Board, CellWord

_WORDS_PER_ATTEMPT = (MAX_BLOCKS + 1) // 2
_ATTEMPTS_AT_ONCE = 16


class NewGame(NamedTuple):
    """The random start of a game (rule 15)."""

    cell: Int32[Array, "*B"]
    credits: Int32[Array, "*B"]
    energy: Int32[Array, "*B"]
    data_siphons: Int32[Array, "*B"]


def new_game(draw: Words) -> NewGame:
    """Draws the player's corner and the starting bonus from the words of `Stream.NEW_GAME`."""
    corner = pick(draw.first, 4)
    cell = jnp.where(corner < 2, 0, 30) + jnp.where(corner % 2 == 1, 5, 0)
    bonus = pick(draw.second, 3)
    # Python scalars would make the arrays weakly typed, and a jitted step of such a state compiles
    # twice.
    return NewGame(
        cell=cell,
        credits=jnp.where(bonus == 0, jnp.int32(10), 0),
        energy=jnp.where(bonus == 1, jnp.int32(11), 0),
        data_siphons=jnp.where(bonus == 2, jnp.int32(1), 0),
    )


class StageInput(NamedTuple):
    """Inputs of stage generation, one lane each.

    Attributes:
      key: words of the key.
      new_game: whether this is the first stage of a new game, which also draws the player's
        cell.
      stage: number of the stage to generate.
      player: the player's cell, a corner; ignored for a new game.
      enemies: cells of the enemies carried over.
      transmissions: the transmissions carried over.
    """

    key: Words
    new_game: Bool[Array, "*B"]
    stage: Int32[Array, "*B"]
    player: Int32[Array, "*B"]
    enemies: Bits
    transmissions: UInt32[Array, "36 *B"]


class Stage(NamedTuple):
    """A generated stage.

    Attributes:
      board: a fresh board.
      exit: the exit's cell.
      transmissions: those carried over and the new ones.
      opening: the start of a new game; its `cell` is the player's in any case.
    """

    board: Board
    exit: Int32[Array, "*B"]
    transmissions: UInt32[Array, "36 *B"]
    opening: NewGame


# All draws except those of placements and spawns, as one block: (stream, index) of each row.
_ROWS = (
    [(Stream.NEW_GAME, 0), (Stream.STAGE, 0)]
    + [(Stream.CONTENT, index) for index in range(2 * MAX_BLOCKS)]
    + [(Stream.RESOURCE, cell) for cell in range(NUM_CELLS)]
)
_STREAMS = np.array([stream for stream, _ in _ROWS], np.uint32)
_INDICES = np.array([index for _, index in _ROWS], np.uint32)


def generate(inputs: StageInput) -> Stage:
    """Generates the stage of every lane."""
    column = (-1,) + (1,) * inputs.stage.ndim
    draw = block(inputs.key, _STREAMS.reshape(column), _INDICES.reshape(column))
    opening, layout = Words(*(word[0] for word in draw)), Words(*(word[1] for word in draw))
    contents = Words(*(word[2 : 2 + 2 * MAX_BLOCKS] for word in draw))
    resources = Words(*(word[2 + 2 * MAX_BLOCKS :] for word in draw))

    # Choose the player's corner and the exit among the other three.
    game = new_game(opening)
    player = jnp.where(inputs.new_game, game.cell, inputs.player)
    corners = bitboard.constant(CORNERS)
    here = bitboard.of_cell(player)
    others = corners - here
    exit_cell = bitboard.nth_cell(others, pick(layout.first, others.size()))
    exit_bits = bitboard.of_cell(exit_cell)

    # Place the blocks on cells that are neither corners nor occupied.
    candidates = ~(corners | inputs.enemies | lists.occupied(inputs.transmissions))
    wanted = MIN_BLOCKS + pick(layout.second, MAX_BLOCKS - MIN_BLOCKS + 1)
    count = jnp.minimum(wanted, candidates.size())
    player, here, exit_cell, exit_bits, candidates, count = materialized(
        (player, here, exit_cell, exit_bits, candidates, count), inputs.stage
    )
    cells = first_valid_placement(inputs.key, candidates, count, exit_bits)
    count = jnp.where(cells[0] >= 0, count, 0)
    filled = _fill(contents, cells, count)
    blocks = filled.blocks

    nothing = bitboard.empty_like(blocks.lo)
    board = Board(
        blocks=blocks,
        programs=filled.programs,
        questions=filled.questions,
        siphoned=nothing,
        centers=nothing,
        pickups=corners - here - exit_bits,
        values=filled.values | _resources(resources, ~(blocks | exit_bits)),
    )
    transmissions = spawning.spawn(
        inputs.key,
        Stream.STAGE_SPAWN,
        count=inputs.stage,
        scheduled=jnp.zeros_like(inputs.stage),
        from_siphon=False,
        transmissions=inputs.transmissions,
        blocks=blocks,
        enemies=inputs.enemies,
        player=here,
    )
    return Stage(board, exit_cell, transmissions, game._replace(cell=player))


def place(
    key: Words, attempt: Int32[Array, "..."], candidates: Bits, count: Int32[Array, "..."]
) -> tuple[Bits, Int32[Array, "11 ..."]]:
    """Draws the placement of an attempt: the set of blocks and their cells in order of choice.

    Cell i is meaningful for i below `count`. Shapes broadcast: `attempt` may have leading axes
    before the batch.
    """
    shape = jnp.broadcast_shapes(attempt.shape, count.shape)
    # One Threefry call for all words: the attempt's blocks along a new first axis.
    numbers = np.arange(_WORDS_PER_ATTEMPT, dtype=np.int32).reshape((-1,) + (1,) * len(shape))
    pairs = block(key, Stream.PLACEMENT, attempt * _WORDS_PER_ATTEMPT + numbers)
    words = jnp.stack(pairs, axis=1).reshape((MAX_BLOCKS + 1, *shape))

    def choose(i: Array, carry: tuple[Bits, Array, Array]) -> tuple[Bits, Array, Array]:
        left, num_left, cells = carry
        cell = bitboard.nth_cell(left, pick(words[i], num_left))
        chosen = bitboard.of_cell(cell).where(i < count)
        cells = lax.dynamic_update_index_in_dim(cells, cell, i, 0)
        return left - chosen, num_left - (i < count), cells

    left = Bits(*(jnp.broadcast_to(word, shape) for word in candidates))
    cells = jnp.zeros((MAX_BLOCKS, *shape), jnp.int32)
    after, _, cells = lax.fori_loop(0, jnp.max(count), choose, (left, left.size(), cells))
    return left - after, cells


def valid_placement(blocks: Bits, exit_bits: Bits) -> Bool[Array, "..."]:
    """Returns True where no block is walled in and the empty cells are connected from (0,0) without
    crossing the exit.
    """
    # Flood the empty cells from (0,0); the exit is reached but not passed through.
    empty = ~blocks
    start = bitboard.constant((0,))
    closed = exit_bits - start
    accessible = ~(blocks - bitboard.neighbours(empty)).any()

    def spreading(carry: tuple[Bits, Bits]) -> Array:
        _, front = carry
        return jnp.any(front.any() & accessible)

    def wave(carry: tuple[Bits, Bits]) -> tuple[Bits, Bits]:
        unseen, front = carry
        for _ in range(4):
            front = bitboard.neighbours(front) & unseen
            unseen = unseen - front
            front = front - closed
        return unseen, front

    front = Bits(*(jnp.broadcast_to(word, blocks.lo.shape) for word in start))
    unseen, _ = lax.while_loop(spreading, wave, (empty - start, front))
    return accessible & ~unseen.any()


def first_valid_placement(
    key: Words, candidates: Bits, count: Int32[Array, "*B"], exit_bits: Bits
) -> Int32[Array, "11 *B"]:
    """Returns the cells of the first valid placement in order of choice; all -1 if
    every attempt fails.
    """

    def unfinished(carry: tuple[Array, Array]) -> Array:
        start, cells = carry
        return (start < PLACEMENT_ATTEMPTS) & jnp.any(cells[0] < 0)

    def try_some(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        start, cells = carry
        # Test several attempts at once and keep the first valid one of each lane.
        attempts = start + np.arange(_ATTEMPTS_AT_ONCE, dtype=np.int32)[:, None]
        blocks, tried = place(key, attempts, candidates, count)
        valid = valid_placement(blocks, exit_bits) & (attempts < PLACEMENT_ATTEMPTS)
        first = jnp.min(jnp.where(valid, attempts, PLACEMENT_ATTEMPTS), axis=0)
        chosen = jnp.max(jnp.where(attempts == first, tried, -1), axis=1)
        return start + _ATTEMPTS_AT_ONCE, jnp.where(cells < 0, chosen, cells)

    none = jnp.full((MAX_BLOCKS, *count.shape), -1, jnp.int32)
    return lax.while_loop(unfinished, try_some, (jnp.int32(0), none))[1]


class _Filling(NamedTuple):
    """Loop state of `_fill`: the unused programs as a 23-bit set, and the board so far."""

    unused: Array
    num_unused: Array
    blocks: Bits
    programs: Bits
    questions: Bits
    values: Array


def _fill(draw: Words, cells: Array, count: Array) -> _Filling:
    """Draws blocks, program contents, question blocks and `CellWord`s of a stage, in order of
    choice (rule 14.1).

    Args:
      draw: the words of `Stream.CONTENT`, [22, B].
      cells: cells of the blocks, int32[11, B].
      count: int32[B], number of blocks.
    """
    spawn_counts = jnp.array([program.spawn_count for program in PROGRAMS], jnp.int32)
    is_program = pick(draw.first[0::2], 2) == 1
    is_question = pick(draw.second[0::2], 10) == 0
    points = 1 + pick(draw.first[1::2], 9)
    which_program = draw.second[1::2]
    nothing = bitboard.empty_like(count)
    cell_numbers = np.arange(NUM_CELLS, dtype=np.int32).reshape((-1,) + (1,) * count.ndim)

    def fill(i: Array, carry: _Filling) -> _Filling:
        exists, holds_program = i < count, (i < count) & is_program[i]
        program = _nth_bit(carry.unused, pick(which_program[i], carry.num_unused))
        taken = jnp.where(holds_program, jnp.uint32(1) << program.astype(jnp.uint32), 0)
        word = jnp.where(
            is_program[i],
            CellWord.CONTENT.of(program) | CellWord.SPAWN_COUNT.of(spawn_counts[program]),
            CellWord.CONTENT.of(points[i]) | CellWord.SPAWN_COUNT.of(points[i]),
        )
        bit = bitboard.of_cell(cells[i]).where(exists)
        cell, word, taken = materialized((jnp.where(exists, cells[i], -1), word, taken), i)
        return _Filling(
            unused=carry.unused & ~taken,
            num_unused=carry.num_unused - holds_program,
            blocks=carry.blocks | bit,
            programs=carry.programs | bit.where(is_program[i]),
            questions=carry.questions | bit.where(is_question[i]),
            values=jnp.where(cell_numbers == cell, word, carry.values),
        )

    start = _Filling(
        unused=jnp.full_like(count, (1 << NUM_PROGRAMS) - 1, dtype=jnp.uint32),
        num_unused=jnp.full_like(count, NUM_PROGRAMS),
        blocks=nothing,
        programs=nothing,
        questions=nothing,
        values=jnp.zeros((NUM_CELLS, *count.shape), jnp.uint32),
    )
    return lax.fori_loop(0, jnp.max(count), fill, start)


def _nth_bit(word: Array, n: Array) -> Array:
    """Returns the number of the `n`-th set bit of a 23-bit word, int32."""
    position = jnp.zeros_like(n)
    for width in (16, 8, 4, 2, 1):
        count = lax.population_count(word & ((1 << width) - 1)).astype(jnp.int32)
        beyond = n >= count
        n = jnp.where(beyond, n - count, n)
        word = jnp.where(beyond, word >> width, word)
        position = jnp.where(beyond, position + width, position)
    return position


def _resources(draw: Words, cells: Bits) -> Array:
    """Draws the resources of the given cells as `CellWord`s, from the words of `Stream.RESOURCE`
    [36, B] (rule 14.2).
    """
    lot = pick(draw.first, 20)
    amount = jnp.where(lot < 9, 1, jnp.where(lot < 18, 2, 3))
    word = jnp.where(pick(draw.second, 2) == 0, CellWord.CREDITS.of(amount), CellWord.ENERGY.of(amount))
    return word * bitboard.to_cells(cells)


def schedule_interval(stage: Int32[Array, "*B"]) -> Int32[Array, "*B"]:
    """Returns the number of turns between scheduled tasks at the start of a stage (rule 11)."""
    return 13 - stage


def next_stage(stage: Int32[Array, "*B"]) -> Int32[Array, "*B"]:
    """Returns the number of the stage after a completed one; 8 stays 8 (rule 16)."""
    return jnp.minimum(stage + 1, NUM_STAGES)
