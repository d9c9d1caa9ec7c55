"""The legal actions of a state (rules 12.1, 20). Batch-last."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool

from matrixrl.envs.hackmatrix import bitboard, lists
from matrixrl.envs.hackmatrix.rules import ATK_PLUS_USES, MAX_HP, NUM_STAGES, PROGRAMS, EnemyType, Program
from matrixrl.envs.hackmatrix.state import CellWord, EnemyWord, State, present


def reducible(state: State) -> Bool[Array, "36 *B"]:
    """Returns the cells with an unsiphoned block whose spawn count is above 0."""
    unsiphoned = bitboard.to_cells(state.board.blocks - state.board.siphoned) != 0
    return unsiphoned & (CellWord.SPAWN_COUNT.get(state.board.values) > 0)


def legal_actions(state: State) -> Bool[Array, "28 *B"]:
    """Computes the action mask: true exactly where the action can be carried out."""
    player = bitboard.of_cell(state.player.cell)
    blocks = state.board.blocks
    enemies = lists.occupied(state.enemies)
    transmissions = lists.occupied(state.transmissions)
    alive = present(state.enemies)
    enemy_type = EnemyWord.TYPE.get(state.enemies)
    anyone = enemies.any()
    always = jnp.ones_like(anyone)

    passable = enemies | ~blocks
    directions = [
        (step(player) & passable).any()
        for step in (bitboard.up, bitboard.down, bitboard.left, bitboard.right)
    ]
    applicable = {
        Program.PUSH: anyone,
        Program.PULL: anyone,
        Program.CRASH: (bitboard.surroundings(player) & (blocks | enemies | transmissions)).any(),
        Program.WARP: (enemies | transmissions).any(),
        Program.POLY: anyone,
        Program.WAIT: always,
        Program.DEBUG: (enemies & blocks).any(),
        Program.ROW: (enemies & bitboard.row_of(state.player.cell)).any(),
        Program.COL: (enemies & bitboard.column_of(state.player.cell)).any(),
        Program.UNDO: state.history.size > 0,
        Program.STEP: always,
        Program.SIPH_PLUS: always,
        Program.EXCH: always,  # its price is its condition
        Program.SHOW: ~state.show_activated,
        Program.RESET: state.player.hp < MAX_HP,
        Program.CALM: ~state.scheduled_tasks_disabled,
        Program.D_BOM: jnp.any(alive & (enemy_type == EnemyType.DAEMON), axis=0),
        Program.DELAY: transmissions.any(),
        Program.ANTI_V: jnp.any(alive & (enemy_type == EnemyType.VIRUS), axis=0),
        Program.SCORE: state.stage < NUM_STAGES,
        Program.REDUC: jnp.any(reducible(state), axis=0),
        Program.ATK_PLUS: state.atk_plus_uses < ATK_PLUS_USES,
        Program.HACK: state.board.siphoned.any(),
    }
    programs = [
        applicable[program]
        & ((state.owned >> program) & 1 != 0)
        & (state.player.credits >= PROGRAMS[program].credits)
        & (state.player.energy >= PROGRAMS[program].energy)
        for program in Program
    ]
    return jnp.stack([*directions, state.player.data_siphons >= 1, *programs])
