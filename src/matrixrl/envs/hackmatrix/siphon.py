"""The siphon (rule 7) and the quality of the cell it was used on (rule 18.5). Batch-last."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Int32, UInt32

from matrixrl.envs.hackmatrix import bitboard
from matrixrl.envs.hackmatrix.rules import SIZE
from matrixrl.envs.hackmatrix.state import Board, CellWord, State

MIN_INTERVAL = 4
TURNS_PER_SIPHON = 5


def siphon(state: State, active: Bool[Array, "*B"]) -> State:
    """Applies a siphon, where `active`; its pending spawns follow in the enemy phase."""
    board, player = state.board, state.player
    here = bitboard.of_cell(player.cell).where(active)
    # A siphon processes the cells of its cross that no siphon has processed before.
    cross = here | bitboard.neighbours(here)
    reached = cross - board.siphoned
    taken_blocks = bitboard.to_cells(reached & board.blocks) != 0
    taken_programs = bitboard.to_cells(reached & board.blocks & board.programs) != 0
    open_cells = bitboard.to_cells(reached - board.blocks) != 0

    def total(field: Array, where: Array) -> Array:
        return jnp.sum(jnp.where(where, field, 0), axis=0, dtype=jnp.uint32).astype(jnp.int32)

    values = board.values
    content = CellWord.CONTENT.get(values)
    # Blocks yield their content and lose their spawn count; open cells yield and lose resources.
    gained = jnp.where(taken_programs, jnp.uint32(1) << content, 0)
    without_spawns = CellWord.SPAWN_COUNT.clear(values)
    without_resources = CellWord.ENERGY.clear(CellWord.CREDITS.clear(values))
    values = jnp.where(taken_blocks, without_spawns, jnp.where(open_cells, without_resources, values))
    return state._replace(
        player=player._replace(
            score=player.score + total(content, taken_blocks & ~taken_programs),
            credits=player.credits + total(CellWord.CREDITS.get(board.values), open_cells),
            energy=player.energy + total(CellWord.ENERGY.get(board.values), open_cells),
            data_siphons=player.data_siphons - active,
        ),
        owned=state.owned | lax.reduce(gained, jnp.uint32(0), lax.bitwise_or, (0,)),
        board=board._replace(
            questions=board.questions - reached,
            siphoned=board.siphoned | cross,
            centers=board.centers | here,
            values=values,
        ),
        pending_siphon_spawns=state.pending_siphon_spawns
        + total(CellWord.SPAWN_COUNT.get(board.values), taken_blocks),
        interval=jnp.where(active, jnp.maximum(MIN_INTERVAL, state.interval - 1), state.interval),
        next_turn=state.next_turn + TURNS_PER_SIPHON * active,
    )


def _cross_members(words: Array) -> list[Array]:
    """Returns for each cell the values on the five cells of its cross, 0 off the board: five arrays
    [36, B].
    """
    grid = words.reshape((SIZE, SIZE, *words.shape[1:]))
    row = jnp.zeros_like(grid[:1])
    column = jnp.zeros_like(grid[:, :1])
    members = [
        grid,
        jnp.concatenate([grid[1:], row]),
        jnp.concatenate([row, grid[:-1]]),
        jnp.concatenate([column, grid[:, :-1]], axis=1),
        jnp.concatenate([grid[:, 1:], column], axis=1),
    ]
    return [member.reshape(words.shape) for member in members]


# Sorting network for five values (optimal, nine comparisons; Knuth, TAOCP 3, 5.3.4).
_COMPARISONS = ((0, 1), (3, 4), (2, 4), (2, 3), (0, 3), (0, 2), (1, 4), (1, 3), (1, 2))


def missed_resources(
    board: Board, owned: UInt32[Array, "*B"], cell: Int32[Array, "*B"]
) -> Int32[Array, "*B"]:
    """Computes the credits plus energy that the best cell for this siphon would have yielded in
    addition (rule 18.5).

    Args:
      board: the board before the siphon.
      owned: programs owned before it.
      cell: the player's cell.
    """
    content = CellWord.CONTENT.get(board.values)
    fresh = ~board.siphoned
    data = bitboard.to_cells((board.blocks - board.programs) & fresh)
    program = bitboard.to_cells(board.blocks & board.programs & fresh)
    plain = bitboard.to_cells(fresh - board.blocks)
    has_block = bitboard.to_cells(board.blocks)
    itself = bitboard.to_cells(bitboard.of_cell(cell)) != 0

    def at_player(field: Array) -> Array:
        return jnp.sum(jnp.where(itself, field, 0), axis=0, dtype=field.dtype)

    # Encode data content as points + 1, so that 0 means no data.
    points = _cross_members(data * (content + 1))
    for low, high in _COMPARISONS:
        points[low], points[high] = (
            jnp.minimum(points[low], points[high]),
            jnp.maximum(points[low], points[high]),
        )
    programs = jnp.where(program != 0, jnp.uint32(1) << content, 0) & ~owned
    programs = _or(_cross_members(programs))

    here = bitboard.of_cell(cell)
    wanted = (here | bitboard.neighbours(here)) & board.blocks & fresh
    # Sum credits, energy and wanted blocks of a cross at once, in fields of 11 + 11 + 3 bits.
    sums = plain * (CellWord.CREDITS.get(board.values) | CellWord.ENERGY.get(board.values) << 11)
    sums = sum(_cross_members(sums | bitboard.to_cells(wanted) << 22), jnp.zeros_like(content))
    credits, energy, covered = sums & 2047, (sums >> 11) & 2047, sums >> 22

    on_block = board.blocks.has(cell)  # a block under the player: the yield is empty
    own_points = [jnp.where(on_block, 0, at_player(member)) for member in points]
    own_programs = jnp.where(on_block, 0, at_player(programs))
    own_credits = jnp.where(on_block, 0, at_player(credits))
    own_energy = jnp.where(on_block, 0, at_player(energy))

    bound = (own_points[4] != 0) | (own_programs != 0)
    candidate = (has_block == 0) & (~bound | (covered == wanted.size().astype(jnp.uint32)))
    same = programs == own_programs
    for member, own in zip(points, own_points, strict=True):
        same = same & (member == own)
    more = (credits > own_credits) | (energy > own_energy)
    better = candidate & same & (credits >= own_credits) & (energy >= own_energy) & more

    def missed(field: Array, own: Array) -> Array:
        return jnp.max(jnp.where(better, field, own), axis=0) - own

    return (missed(credits, own_credits) + missed(energy, own_energy)).astype(jnp.int32)


def _or(members: list[Array]) -> Array:
    result = members[0]
    for member in members[1:]:
        result = result | member
    return result
