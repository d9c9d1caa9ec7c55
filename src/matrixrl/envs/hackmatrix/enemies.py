"""The enemy phase (rule 8) and how enemies move and attack (rule 9). Batch-last."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Bool, Int32, UInt32

from matrixrl.envs.hackmatrix import bitboard, lists, spawning
from matrixrl.envs.hackmatrix.bitboard import Bits, Ways
from matrixrl.envs.hackmatrix.draws import Stream, Words
from matrixrl.envs.hackmatrix.memory import materialized
from matrixrl.envs.hackmatrix.rules import DIRECTIONS, SIZE, TRANSMISSION_SLOTS, EnemyType
from matrixrl.envs.hackmatrix.state import EnemyWord, State, present

_CELL_CHANGES = tuple(SIZE * rows + columns for rows, columns in DIRECTIONS)
_NEVER = np.uint32(0xFFFFFFFF)
_SECOND_ROUND = np.uint32(1 << 31)
_SLOT_MASK = 63


def enemy_phase(key: Words, order: Words, state: State, runs: Bool[Array, "*B"]) -> State:
    """Runs steps 1 to 6 of the enemy phase (rule 8), where `runs`; the caller pushes the snapshot
    (step 7).
    """
    turn = state.turn + runs
    enemies, transmissions = spawning.tick(state.enemies, state.transmissions, runs)
    enemies, damage = act(order, state._replace(enemies=enemies, transmissions=transmissions), runs)

    # Spawn the scheduled task that is due and the transmissions called by siphons.
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
    # Count down disabled turns and end the stun.
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


def action_order(
    order: Words, enemies: UInt32[Array, "36 *B"], active: Bool[Array, "*B"]
) -> UInt32[Array, "72 *B"]:
    """Computes the order keys of both rounds from the words of `Stream.ORDER`.

    Enemies act in ascending order of their keys; the key of an enemy that cannot act is `_NEVER`. A
    key is round (1 bit), random priority (25 bits), slot (6 bits), so that all of round 1 comes
    first and ties are broken by list order.
    """
    word = EnemyWord
    able = (
        present(enemies) & (word.DISABLED_TURNS.get(enemies) == 0) & (word.STUNNED.get(enemies) == 0) & active
    )
    slot = lists.slots(enemies).astype(np.uint32)
    first = ((order.first >> 7) << 6) | slot
    second = ((order.second >> 7) << 6) | slot | _SECOND_ROUND
    virus = word.TYPE.get(enemies) == EnemyType.VIRUS
    return jnp.concatenate([jnp.where(able, first, _NEVER), jnp.where(able & virus, second, _NEVER)])


class _Acting(NamedTuple):
    """Loop state: `queue` uint32[72, B] holds the order keys of both rounds that are still to
    act.
    """

    queue: Array
    enemies: Array
    damage: Array


def act(
    order: Words, state: State, active: Bool[Array, "*B"]
) -> tuple[UInt32[Array, "36 *B"], Int32[Array, "*B"]]:
    """Runs both rounds of enemy actions and returns the moved enemies and the hp the player
    loses.
    """
    player = bitboard.of_cell(state.player.cell)
    next_to_player = bitboard.neighbours(player)
    transmissions = lists.occupied(state.transmissions)
    blocks = state.board.blocks
    # Paths that ignore other enemies depend on blocks and player alone: compute them once for all.
    ways = bitboard.ways_to((player - blocks).where(active), ~blocks)

    def anyone(carry: _Acting) -> Array:
        return jnp.any(carry.queue != _NEVER)

    def one_each(carry: _Acting) -> _Acting:
        queue, enemies, damage = carry
        # Each lane lets its next enemy act: the one with the smallest key.
        turn_key = jnp.min(queue, axis=0)
        acts = turn_key != _NEVER
        slot = jnp.where(acts, turn_key & _SLOT_MASK, _SLOT_MASK).astype(jnp.int32)
        slot, acts = materialized((slot, acts), damage)
        itself = lists.slots(enemies) == slot
        word = jnp.sum(jnp.where(itself, enemies, 0), axis=0, dtype=jnp.uint32)
        others = bitboard.of_list(lists.cells(enemies), present(enemies) & ~itself)
        cell = EnemyWord.CELL.get(word)
        attacks = acts & next_to_player.has(cell)
        mover = Mover(
            cell=cell.astype(jnp.int32),
            moves=acts & ~attacks,
            walks_on_blocks=EnemyWord.TYPE.get(word) == EnemyType.GLITCH,
        )
        goal = choose_move(mover, state.player.cell, blocks, others | transmissions, ways)
        moved = EnemyWord.CELL.set(word, goal)
        # Remove the finished action; an enemy that attacked loses its second round too.
        attacker = jnp.where(attacks, slot, -1)
        moved, turn_key, attacker = materialized((moved, turn_key, attacker), damage)
        enemies = jnp.where(itself, moved, enemies)
        both_rounds = np.concatenate([lists.slots(enemies), lists.slots(enemies)])
        done = (queue == turn_key) | (both_rounds == attacker)
        return _Acting(jnp.where(done, _NEVER, queue), enemies, damage + attacks)

    queue = action_order(order, state.enemies, active)
    start = _Acting(queue, state.enemies, jnp.zeros_like(state.player.hp))
    end = lax.while_loop(anyone, one_each, start)
    return end.enemies, end.damage


class Mover(NamedTuple):
    """An enemy that may move: its cell, whether it does, and whether it is a glitch."""

    cell: Int32[Array, "*B"]
    moves: Bool[Array, "*B"]
    walks_on_blocks: Bool[Array, "*B"]


def choose_move(
    mover: Mover, player: Int32[Array, "*B"], blocks: Bits, taken: Bits, ways: Ways
) -> Int32[Array, "*B"]:
    """Returns the cell an enemy moves to; its own cell if it stays (rule 9.2).

    Args:
      mover: the enemy.
      player: the player's cell.
      blocks: the blocks, which only a glitch can enter.
      taken: cells of the other enemies and of the transmissions.
      ways: first steps of the shortest paths to the player over cells without blocks.
    """
    cell = mover.cell
    itself, target = bitboard.of_cell(cell), bitboard.of_cell(player)
    enterable = ~blocks | bitboard.full_like(blocks.lo).where(mover.walks_on_blocks)
    steps = [move(itself) for move in (bitboard.up, bitboard.down, bitboard.left, bitboard.right)]
    row = bitboard.cell_row(cell)
    column = cell - SIZE * row
    to_row = bitboard.cell_row(player)
    to_column = player - SIZE * to_row

    # (a) Shortest path around the others.
    around = bitboard.search(target & enterable, enterable - taken, itself, mover.moves)
    around_steps = [(step & around.reached).any() for step in steps]
    # (b) Shortest path that ignores the others; nothing blocks a glitch.
    straight = [to_row > row, to_row < row, to_column < column, to_column > column]
    through_steps = [
        jnp.where(mover.walks_on_blocks, free_way, (way & itself).any())
        for free_way, way in zip(straight, ways, strict=True)
    ]
    # (c) Greedy step to the free neighbour nearest to the player.
    allowed = enterable - taken
    best = jnp.full_like(cell, 64)
    for order, (step, (rows, columns)) in enumerate(zip(steps, DIRECTIONS, strict=True)):
        distance = jnp.abs(row + rows - to_row) + jnp.abs(column + columns - to_column)
        best = jnp.minimum(best, jnp.where((step & allowed).any(), distance * 4 + order, 64))

    # Take the first direction in order that qualifies: later writes win, so iterate in reverse.
    through_change, through_free, around_change, greedy_change = (jnp.zeros_like(cell) for _ in range(4))
    for order, (step, change) in reversed(list(enumerate(zip(steps, _CELL_CHANGES, strict=True)))):
        around_change = jnp.where(around_steps[order], change, around_change)
        through_change = jnp.where(through_steps[order], change, through_change)
        through_free = jnp.where(through_steps[order], ~(step & taken).any(), through_free)
        greedy_change = jnp.where((best < 64) & (best & 3 == order), change, greedy_change)
    change = jnp.where(
        around.found, around_change, jnp.where(through_free != 0, through_change, greedy_change)
    )
    return cell + jnp.where(mover.moves, change, 0)
