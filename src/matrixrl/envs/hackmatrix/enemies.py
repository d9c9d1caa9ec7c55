"""The enemy phase [8] and how enemies move and attack [9]. Batch-last."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from matrixrl.envs.hackmatrix import bitboard, lists, spawning
from matrixrl.envs.hackmatrix.bitboard import Bits
from matrixrl.envs.hackmatrix.draws import Stream, Words, block
from matrixrl.envs.hackmatrix.rules import DIRECTIONS, SIZE, TRANSMISSION_SLOTS, EnemyType
from matrixrl.envs.hackmatrix.state import EnemyWord, State, present

_CELL_CHANGES = tuple(SIZE * rows + columns for rows, columns in DIRECTIONS)
_NEVER = np.uint32(0xFFFFFFFF)
_SECOND_ROUND = np.uint32(1 << 31)
_SLOT_MASK = 63


def enemy_phase(key: Words, state: State, runs: jax.Array) -> State:
    """The state after steps 1 to 6 of the enemy phase, where `runs`; the snapshot (step 7) is the caller's."""
    turn = state.turn + runs
    enemies, transmissions = spawning.tick(state.enemies, state.transmissions, runs)
    enemies, damage = act(key, state._replace(enemies=enemies, transmissions=transmissions), runs)

    due = runs & ~state.scheduled_tasks_disabled & (state.interval > 0) & (turn >= state.next_turn)
    next_turn = jnp.where(due, turn + state.interval, state.next_turn)
    pending = jnp.where(runs, jnp.maximum(state.pending_siphon_spawns, 0), 0)
    scheduled = due.astype(jnp.int32)
    transmissions = spawning.spawn(
        key,
        Stream.SPAWN,
        count=scheduled + jnp.minimum(pending, TRANSMISSION_SLOTS),
        scheduled=scheduled,
        from_siphon=True,
        transmissions=transmissions,
        blocks=state.board.blocks,
        enemies=lists.occupied(enemies),
        player=bitboard.of_cell(state.player.cell),
    )
    recovering = runs & (EnemyWord.DISABLED_TURNS.get(enemies) > 0)
    enemies = enemies - EnemyWord.DISABLED_TURNS.of(recovering)
    enemies = jnp.where(runs, EnemyWord.STUNNED.clear(enemies), enemies)
    return state._replace(
        turn=turn,
        next_turn=next_turn,
        pending_siphon_spawns=jnp.where(runs, 0, state.pending_siphon_spawns),
        enemies=enemies,
        transmissions=transmissions,
        player=state.player._replace(hp=jnp.maximum(state.player.hp - damage, 0)),
    )


class _Acting(NamedTuple):
    """Loop state: `queue` uint32[72, B] holds the order keys of both rounds that are still to act."""

    queue: jax.Array
    enemies: jax.Array
    damage: jax.Array


def action_order(key: Words, enemies: jax.Array, active: jax.Array) -> jax.Array:
    """Order keys of both rounds, uint32[72, B]: enemies act in rising order; `_NEVER` for those passed over.

    A key is round (1 bit), random priority (25 bits), slot (6 bits), so that all of round 1 comes first and ties go
    by list order.
    """
    word = EnemyWord
    able = (
        present(enemies)
        & (word.DISABLED_TURNS.get(enemies) == 0)
        & (word.STUNNED.get(enemies) == 0)
        & active
    )
    draw = block(key, Stream.ORDER, lists.slots(enemies))
    slot = lists.slots(enemies).astype(np.uint32)
    first = ((draw.first >> 7) << 6) | slot
    second = ((draw.second >> 7) << 6) | slot | _SECOND_ROUND
    virus = word.TYPE.get(enemies) == EnemyType.VIRUS
    return jnp.concatenate([jnp.where(able, first, _NEVER), jnp.where(able & virus, second, _NEVER)])


def act(key: Words, state: State, active: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Both rounds of enemy action: the enemies where they stand then, and the hp the player loses (int32[B])."""
    player = bitboard.of_cell(state.player.cell)
    next_to_player = bitboard.neighbours(player)
    transmissions = lists.occupied(state.transmissions)

    def anyone(carry: _Acting) -> jax.Array:
        return jnp.any(carry.queue != _NEVER)

    def one_each(carry: _Acting) -> _Acting:
        queue, enemies, damage = carry
        turn_key = jnp.min(queue, axis=0)
        acts = turn_key != _NEVER
        slot = (turn_key & _SLOT_MASK).astype(jnp.int32)
        itself = (lists.slots(enemies) == slot) & acts
        word = jnp.sum(jnp.where(itself, enemies, 0), axis=0, dtype=jnp.uint32)
        cell = EnemyWord.CELL.get(word)
        attacks = acts & next_to_player.has(cell)
        others = bitboard.of_list(lists.cells(enemies), present(enemies) & ~itself)
        walls = state.board.blocks.where(EnemyWord.TYPE.get(word) != EnemyType.GLITCH)
        goal = choose_move(
            cell.astype(jnp.int32), state.player.cell, walls, others | transmissions, acts & ~attacks
        )
        enemies = jnp.where(itself, EnemyWord.CELL.set(word, goal), enemies)
        done = (queue == turn_key) | (attacks & ((queue & _SLOT_MASK) == turn_key & _SLOT_MASK))
        return _Acting(jnp.where(done, _NEVER, queue), enemies, damage + attacks)

    queue = action_order(key, state.enemies, active)
    start = _Acting(queue, state.enemies, jnp.zeros_like(state.player.hp))
    end = lax.while_loop(anyone, one_each, start)
    return end.enemies, end.damage


def choose_move(cell: jax.Array, player: jax.Array, walls: Bits, taken: Bits, moves: jax.Array) -> jax.Array:
    """The cell an enemy goes to [9.2], int32[B]; its own where it stays or where `moves` is false.

    Args:
      cell: int32[B], where the enemy stands.
      player: int32[B], where the player stands.
      walls: cells this enemy cannot enter.
      taken: cells of the other enemies and of the transmissions.
      moves: bool[B].
    """
    itself, target = bitboard.of_cell(cell), bitboard.of_cell(player)
    enterable = ~walls
    start = target & enterable
    steps = [move(itself) for move in (bitboard.up, bitboard.down, bitboard.left, bitboard.right)]

    around = bitboard.search(start, enterable - taken, itself, moves)
    through = bitboard.search(start, enterable, itself, moves & ~around.found)
    front = bitboard.choose(around.found, around.front, through.front)
    found = around.found | through.found
    change = jnp.zeros_like(cell)
    free = jnp.zeros_like(found)
    for step, cell_change in reversed(list(zip(steps, _CELL_CHANGES, strict=True))):
        shortest = (step & front).any()
        change = jnp.where(shortest, cell_change, change)
        free = jnp.where(shortest, around.found | ~(step & taken).any(), free)
    walks = found & free

    row, column = bitboard.cell_row(cell), cell - SIZE * bitboard.cell_row(cell)
    to_row = bitboard.cell_row(player)
    to_column = player - SIZE * to_row
    allowed = enterable - taken
    best = jnp.full_like(cell, 64)
    for order, (step, (rows, columns)) in enumerate(zip(steps, DIRECTIONS, strict=True)):
        distance = jnp.abs(row + rows - to_row) + jnp.abs(column + columns - to_column)
        best = jnp.minimum(best, jnp.where((step & allowed).any(), distance * 4 + order, 64))
    greedy = jnp.zeros_like(cell)
    for order, cell_change in enumerate(_CELL_CHANGES):
        greedy = jnp.where((best < 64) & (best & 3 == order), cell_change, greedy)

    return cell + jnp.where(moves, jnp.where(walks, change, greedy), 0)
