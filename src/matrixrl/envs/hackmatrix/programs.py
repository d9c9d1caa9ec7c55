"""The programs (rule 12) as masked arithmetic: every lane computes the cheap effects, and expensive
ones run only if some lane needs them.

Batch-last. `uses(program)` is the mask of the lanes that use a program.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Bool, Int32, UInt32

from matrixrl.envs.hackmatrix import actions, bitboard, lists
from matrixrl.envs.hackmatrix.bitboard import Bits
from matrixrl.envs.hackmatrix.draws import Stream, Words, block, pick
from matrixrl.envs.hackmatrix.movement import Direction
from matrixrl.envs.hackmatrix.rules import (
    DELAY_TURNS,
    EXCH_ENERGY,
    FIRST_PROGRAM_ACTION,
    MAX_HP,
    NUM_STAGES,
    PROGRAMS,
    SIZE,
    EnemyType,
    Program,
)
from matrixrl.envs.hackmatrix.state import (
    CellWord,
    EnemyWord,
    State,
    TransmissionWord,
    enemy_max_hp,
    present,
    unpack_snapshot,
)

Uses = Callable[[Program], Array]


_CREDITS = np.array([0] * FIRST_PROGRAM_ACTION + [program.credits for program in PROGRAMS], np.int32)
_ENERGY = np.array([0] * FIRST_PROGRAM_ACTION + [program.energy for program in PROGRAMS], np.int32)


def pay(state: State, action: Int32[Array, "*B"], valid: Bool[Array, "*B"]) -> State:
    """Subtracts the price of a program, where the action is `valid`."""
    player = state.player
    known = jnp.where(valid, action, 0)
    return state._replace(
        player=player._replace(
            credits=player.credits - jnp.asarray(_CREDITS)[known],
            energy=player.energy - jnp.asarray(_ENERGY)[known],
        )
    )


def simple_effects(state: State, uses: Uses) -> State:
    """Applies the programs that change a number or a flag, from STEP to HACK without their damage
    (rule 12.4).
    """
    player = state.player
    atk_plus = uses(Program.ATK_PLUS)
    reduced = actions.reducible(state) & uses(Program.REDUC)
    delayed = present(state.transmissions) & uses(Program.DELAY)
    longest = TransmissionWord.TURNS_LEFT.limit
    turns = TransmissionWord.TURNS_LEFT.get(state.transmissions) + DELAY_TURNS
    return state._replace(
        player=player._replace(
            hp=jnp.where(uses(Program.RESET), MAX_HP, player.hp),
            energy=player.energy + EXCH_ENERGY * uses(Program.EXCH),
            data_siphons=player.data_siphons + uses(Program.SIPH_PLUS),
            score=player.score + jnp.where(uses(Program.SCORE), NUM_STAGES - state.stage, 0),
            attack_damage=player.attack_damage + atk_plus,
        ),
        board=state.board._replace(values=state.board.values - CellWord.SPAWN_COUNT.of(reduced)),
        transmissions=jnp.where(
            delayed,
            TransmissionWord.TURNS_LEFT.set(state.transmissions, jnp.minimum(turns, longest)),
            state.transmissions,
        ),
        show_activated=state.show_activated | uses(Program.SHOW),
        scheduled_tasks_disabled=state.scheduled_tasks_disabled | uses(Program.CALM),
        step_active=state.step_active | uses(Program.STEP),
        atk_plus_uses=state.atk_plus_uses + atk_plus,
    )


def undo(state: State, newest: UInt32[Array, "words *B"], used: Bool[Array, "*B"]) -> State:
    """Restores the `newest` snapshot, where `used` (rule 13)."""
    restored = state._replace(**unpack_snapshot(newest)._asdict())
    return jax.tree.map(lambda new, old: jnp.where(used, new, old), restored, state)


class Warp(NamedTuple):
    """The target of WARP: its cell, and whether it is an enemy or a transmission."""

    cell: Int32[Array, "*B"]
    enemy: Bool[Array, "*B"]
    transmission: Bool[Array, "*B"]


def warp_target(word: UInt32[Array, "*B"], state: State, used: Bool[Array, "*B"]) -> Warp:
    """Draws the target of WARP uniformly from all enemies and transmissions, both in list order,
    where `used`.
    """
    num_enemies = lists.length(state.enemies)
    n = pick(word, num_enemies + lists.length(state.transmissions))
    is_enemy = n < num_enemies
    # Slots outside the list read as 0, so one of the two words is empty.
    target = lists.at_slot(state.enemies, jnp.where(is_enemy, n, -1)) | lists.at_slot(
        state.transmissions, jnp.where(is_enemy, -1, n - num_enemies)
    )
    cell = EnemyWord.CELL.get(target).astype(jnp.int32)
    return Warp(jnp.where(used, cell, state.player.cell), used & is_enemy, used & ~is_enemy)


class Harm(NamedTuple):
    """Harm that the player's action does to enemies and transmissions.

    Attributes:
      damage: hp each enemy loses; enemies at 0 are removed, the damaged others
        stunned.
      destroyed: enemies removed at any hp, counted as kills by `kills`.
      transmissions: cells of destroyed transmissions.
      kills: kills among the `destroyed` enemies.
    """

    damage: Int32[Array, "36 *B"]
    destroyed: Bool[Array, "36 *B"]
    transmissions: Bits
    kills: Int32[Array, "*B"]


def harm(state: State, direction: Direction, warp: Warp, uses: Uses) -> Harm:
    """Computes the harm of an attack, the damage programs (rule 12.3), and CRASH, WARP and D_BOM
    (rule 12.4).
    """
    enemies, board = state.enemies, state.board
    cells, alive = lists.cells(enemies), present(enemies)
    enemy_type = EnemyWord.TYPE.get(enemies)
    slot = lists.slots(enemies)
    here = bitboard.of_cell(state.player.cell)

    # D_BOM: the nearest daemon explodes and damages the enemies around it.
    bomb = _nearest_daemon(state, uses(Program.D_BOM))
    bombed = slot == bomb
    bomb_cell = EnemyWord.CELL.get(lists.at_slot(enemies, bomb))
    blast = bitboard.surroundings(bitboard.of_cell(bomb_cell)).where(uses(Program.D_BOM))

    # Damage by `attack_damage` in the areas of ROW, COL, DEBUG and HACK and for a direct attack.
    full_damage_area = (
        bitboard.row_of(state.player.cell).where(uses(Program.ROW))
        | bitboard.column_of(state.player.cell).where(uses(Program.COL))
        | board.blocks.where(uses(Program.DEBUG))
        | board.siphoned.where(uses(Program.HACK))
    )
    full = full_damage_area.has(cells) | (slot == direction.enemy)
    single = blast.has(cells) | ((enemy_type == EnemyType.VIRUS) & uses(Program.ANTI_V))
    damage = jnp.where(full, state.player.attack_damage, 0) + single

    # CRASH and WARP destroy everything on their cells, at any hp.
    crash = uses(Program.CRASH)
    crater = bitboard.surroundings(here).where(crash)
    warped_to = bitboard.of_cell(warp.cell)
    wiped = crater | warped_to.where(warp.enemy)
    destroyed = wiped.has(cells) & alive

    def count_stacks(enemies: Array) -> Array:
        top = lists.first_on_each_cell(enemies)
        counted = present(top) & (EnemyWord.FROM_SCHEDULE.get(top) == 0)
        return jnp.sum(counted & (bitboard.to_cells(wiped) != 0), axis=0, dtype=jnp.int32)

    kills = lax.cond(jnp.any(wiped.any()), count_stacks, lambda _: jnp.zeros_like(state.player.cell), enemies)
    bomb_schedule = EnemyWord.FROM_SCHEDULE.get(lists.at_slot(enemies, bomb)) != 0
    return Harm(
        damage=jnp.where(alive, damage, 0),
        destroyed=destroyed | (bombed & alive),
        transmissions=direction.transmission | crater | warped_to.where(warp.transmission),
        kills=kills + (uses(Program.D_BOM) & ~bomb_schedule),
    )


def _nearest_daemon(state: State, used: Array) -> Array:
    """Returns the slot of the daemon nearest to the player, the first on ties, int32[B]; 36 where
    not `used`.
    """
    cells = lists.cells(state.enemies).astype(jnp.int32)
    daemon = present(state.enemies) & (EnemyWord.TYPE.get(state.enemies) == EnemyType.DAEMON)
    row = bitboard.cell_row(cells)
    to_row = bitboard.cell_row(state.player.cell)
    columns = (cells - SIZE * row) - (state.player.cell - SIZE * to_row)
    distance = jnp.abs(row - to_row) + jnp.abs(columns)
    nearest = jnp.min(jnp.where(daemon & used, distance * 64 + lists.slots(cells), 64 * 64), axis=0)
    return jnp.where(nearest < 64 * 64, nearest & 63, cells.shape[0])


def push_and_pull(state: State, uses: Uses) -> State:
    """Applies PUSH and PULL: target cells from the old positions, then one pass in list order
    (rule 12.4).
    """
    pulls = uses(Program.PULL)
    used = pulls | uses(Program.PUSH)

    def move(enemies: Array) -> Array:
        cells = lists.cells(enemies).astype(jnp.int32)
        row = bitboard.cell_row(cells)
        column = cells - SIZE * row
        to_row = bitboard.cell_row(state.player.cell)
        to_column = state.player.cell - SIZE * to_row
        rows, columns = jnp.sign(to_row - row), jnp.sign(to_column - column)
        # PUSH: equivalent to the rules' candidates, clamped to the board.
        pushed = SIZE * jnp.clip(row - rows, 0, SIZE - 1) + jnp.clip(column - columns, 0, SIZE - 1)
        # PULL: no target next to the player; a diagonal neighbour changes its row alone.
        height, width = jnp.abs(to_row - row), jnp.abs(to_column - column)
        diagonal = (height == 1) & (width == 1)
        pulled = SIZE * (row + rows) + column + jnp.where(diagonal, 0, columns)
        pulled = jnp.where(height + width == 1, cells, pulled)
        wish = jnp.where(pulls, pulled, pushed)
        has_wish = present(enemies) & used & (wish != cells)

        def one(i: Array, carry: tuple[Bits, Array]) -> tuple[Bits, Array]:
            taken, moves = carry
            goal = lax.dynamic_index_in_dim(wish, i, keepdims=False)
            goes = lax.dynamic_index_in_dim(has_wish, i, keepdims=False) & ~taken.has(goal)
            taken = taken | bitboard.of_cell(goal).where(goes)
            return taken, lax.dynamic_update_index_in_dim(moves, goes, i, 0)

        longest = jnp.max(lists.length(enemies))
        nothing = (bitboard.empty_like(state.player.cell), jnp.zeros_like(has_wish))
        moves = lax.fori_loop(0, longest, one, nothing)[1]
        return jnp.where(moves, EnemyWord.CELL.set(enemies, wish), enemies)

    enemies = lax.cond(jnp.any(used), move, lambda enemies: enemies, state.enemies)
    return state._replace(enemies=enemies)


def poly(key: Words, enemies: UInt32[Array, "36 *B"], used: Bool[Array, "*B"]) -> UInt32[Array, "36 *B"]:
    """Changes every enemy to one of the three other types, keeping its damage; hp 0 where it dies
    (rule 12.4).
    """

    def change(enemies: Array) -> Array:
        word = EnemyWord
        old = word.TYPE.get(enemies)
        new = pick(block(key, Stream.POLY, lists.slots(enemies)).first, 3).astype(jnp.uint32)
        new = new + (new >= old)
        hp = (word.HP.get(enemies) + enemy_max_hp(new)).astype(jnp.int32) - enemy_max_hp(old).astype(
            jnp.int32
        )
        changed = word.HP.set(word.TYPE.set(enemies, new), jnp.clip(hp, 0, word.HP.limit))
        return jnp.where(present(enemies) & used, changed, enemies)

    return lax.cond(jnp.any(used), change, lambda enemies: enemies, enemies)


class Survivors(NamedTuple):
    """Enemies and transmissions after the harm, and the kills counted (rule 12.5)."""

    enemies: UInt32[Array, "36 *B"]
    transmissions: UInt32[Array, "36 *B"]
    kills: Int32[Array, "*B"]


def apply_harm(state: State, harm: Harm) -> Survivors:
    """Deals the damage, stuns the survivors, removes enemies at 0 hp or destroyed, and counts the
    kills.
    """
    word = EnemyWord
    enemies = state.enemies
    alive = present(enemies)
    hp = jnp.maximum(word.HP.get(enemies).astype(jnp.int32) - harm.damage, 0)
    hurt = harm.damage > 0
    enemies = jnp.where(hurt, word.STUNNED.set(word.HP.set(enemies, hp), 1), enemies)
    fallen = alive & (hp == 0) & ~harm.destroyed
    hit = harm.transmissions.has(lists.cells(state.transmissions)) & present(state.transmissions)

    def unscheduled(words: Array, hits: Array) -> Array:
        return jnp.sum(hits & (word.FROM_SCHEDULE.get(words) == 0), axis=0, dtype=jnp.int32)

    return Survivors(
        enemies=lists.remove(enemies, fallen | harm.destroyed),
        transmissions=lists.remove(state.transmissions, hit),
        kills=harm.kills + unscheduled(enemies, fallen) + unscheduled(state.transmissions, hit),
    )


def crash_blocks(state: State, used: Bool[Array, "*B"]) -> State:
    """Applies CRASH to the board: surrounding blocks become empty cells; resources and flags
    stay.
    """
    board = state.board
    gone = bitboard.surroundings(bitboard.of_cell(state.player.cell)).where(used) & board.blocks
    # Clear content and spawn count, the lower half of a `CellWord`.
    resources = np.uint32(0xFFFF0000)
    values = jnp.where(bitboard.to_cells(gone) != 0, board.values & resources, board.values)
    return state._replace(
        board=board._replace(
            blocks=board.blocks - gone,
            programs=board.programs - gone,
            questions=board.questions - gone,
            values=values,
        )
    )
