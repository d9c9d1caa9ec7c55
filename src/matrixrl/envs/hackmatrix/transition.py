"""One step of the game (rule 5), from action to reward, without observation and next stage.
Batch-last.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Bool, Int32, UInt32

from matrixrl.envs.hackmatrix import actions, bitboard, lists, movement, programs, reward, siphon
from matrixrl.envs.hackmatrix.draws import Stream, Words, block
from matrixrl.envs.hackmatrix.enemies import enemy_phase
from matrixrl.envs.hackmatrix.memory import materialized
from matrixrl.envs.hackmatrix.rules import (
    ACTION_SIPHON,
    ENEMY_SLOTS,
    FIRST_PROGRAM_ACTION,
    MAX_HP,
    NUM_ACTIONS,
    NUM_STAGES,
    Outcome,
    Program,
)
from matrixrl.envs.hackmatrix.stage import next_stage, schedule_interval
from matrixrl.envs.hackmatrix.state import EnemyWord, State, pack_snapshot, present

# The draws of every step, as one block: the order of the enemies, the target of WARP, the key of
# the next game.
_STREAMS = np.array([[Stream.ORDER]] * ENEMY_SLOTS + [[Stream.WARP], [Stream.RESET]], np.uint32)
_INDICES = np.array([[slot] for slot in range(ENEMY_SLOTS)] + [[0], [0]], np.uint32)


class StepEffects(NamedTuple):
    """The result of `transition`.

    Attributes:
      state: the state afterwards; where `advances`, the new stage is still to be generated.
      advances: the stage was completed and another follows; this clears the history.
      facts: inputs of the reward.
      snapshot: the snapshot to push onto the history where `pushed`.
      pushed: an enemy phase has run.
      undone: the newest snapshot was restored and is popped from the history.
      new_key: the key of the game that follows if this one ends.
    """

    state: State
    advances: Bool[Array, "*B"]
    facts: reward.Facts
    snapshot: UInt32[Array, "words *B"]
    pushed: Bool[Array, "*B"]
    undone: Bool[Array, "*B"]
    new_key: Words


class _Played(NamedTuple):
    """State after the player's part of the step."""

    state: State
    kills: Array
    collected: Array
    reached: Array


def transition(
    key: Words, state: State, newest: UInt32[Array, "words *B"], action: Int32[Array, "*B"]
) -> StepEffects:
    """Computes all effects of `action`.

    Args:
      key: the key of the step, [B].
      state: the state; of its history only `size` is read.
      newest: the newest snapshot, read where UNDO is used.
      action: a number outside 0..27 is an invalid action.
    """
    before = state
    draw = block(key, _STREAMS, _INDICES)
    order = Words(draw.first[:ENEMY_SLOTS], draw.second[:ENEMY_SLOTS])
    # Compare with every action instead of indexing the mask: a number outside 0..27 matches none.
    chosen = np.arange(NUM_ACTIONS, dtype=np.int32)[:, None] == action
    valid = materialized(jnp.any(actions.legal_actions(state) & chosen, axis=0), state.time)
    siphons = valid & (action == ACTION_SIPHON)
    # The siphon quality needs the board before the siphon; skip it if no lane uses one.
    missed = lax.cond(
        jnp.any(siphons),
        lambda: jnp.where(siphons, siphon.missed_resources(state.board, state.owned, state.player.cell), 0),
        lambda: jnp.zeros_like(action),
    )

    state, kills, collected, reached = _player_part(
        key, draw.first[ENEMY_SLOTS], newest, state, action, valid
    )
    # Run the enemy phase after actions that end the turn, unless STEP skips it.
    wait = action == FIRST_PROGRAM_ACTION + Program.WAIT
    ends_turn = valid & ~reached & ((action <= ACTION_SIPHON) | wait)
    runs = ends_turn & ~state.step_active
    state = state._replace(step_active=state.step_active & ~ends_turn)
    state = enemy_phase(key, order, state, runs)
    snapshot = pack_snapshot(state)

    won = reached & (state.stage == NUM_STAGES)
    state = _complete_stage(state, reached, won)
    died = valid & (state.player.hp <= 0)
    outcome = jnp.where(
        won, Outcome.WON, jnp.where(died, Outcome.DIED, jnp.where(valid, 0, Outcome.INVALID_ACTION))
    )

    around = bitboard.neighbours(bitboard.of_cell(state.player.cell))
    from_siphon = present(state.enemies) & (EnemyWord.FROM_SIPHON.get(state.enemies) != 0)
    old_distance, new_distance = reward.exit_distances(before, state)
    facts = reward.Facts(
        valid=valid,
        won=won,
        died=died,
        completed=reached,
        collected=collected,
        wasteful_reset=_uses(action, valid)(Program.RESET) & (before.player.hp == MAX_HP - 1),
        beside_siphon_enemy=jnp.any(around.has(lists.cells(state.enemies)) & from_siphon, axis=0),
        old=before.player,
        new=state.player,
        stage=state.stage,
        kills=kills,
        old_distance=old_distance,
        new_distance=new_distance,
        missed=missed,
    )
    return StepEffects(
        state=state._replace(outcome=outcome.astype(jnp.int32)),
        advances=reached & ~won,
        facts=facts,
        snapshot=snapshot,
        pushed=runs,
        undone=_uses(action, valid)(Program.UNDO),
        new_key=Words(draw.first[ENEMY_SLOTS + 1], draw.second[ENEMY_SLOTS + 1]),
    )


def _uses(action: Array, valid: Array) -> programs.Uses:
    return lambda program: valid & (action == FIRST_PROGRAM_ACTION + program)


def _player_part(
    key: Words, warp_word: Array, newest: Array, state: State, action: Array, valid: Array
) -> _Played:
    """Applies direction, siphon or program; each lane does one of them, and masks disable the
    others.
    """
    uses = _uses(action, valid)
    direction = movement.resolve(state, action, valid & (action < ACTION_SIPHON))
    warp = programs.warp_target(warp_word, state, uses(Program.WARP))
    direction, warp = materialized((direction, warp), state.time)

    # Each lane uses at most one of these effects; the others leave its state unchanged.
    state = programs.pay(state, action, valid)
    state = siphon.siphon(state, valid & (action == ACTION_SIPHON))
    state = programs.simple_effects(state, uses)
    state = programs.push_and_pull(state, uses)
    state = state._replace(enemies=programs.poly(key, state.enemies, uses(Program.POLY)))
    survivors = programs.apply_harm(state, programs.harm(state, direction, warp, uses))
    state = state._replace(enemies=survivors.enemies, transmissions=survivors.transmissions)
    state = programs.crash_blocks(state, uses(Program.CRASH))

    # Move the player; only walking collects a pickup, WARP does not.
    cell = jnp.where(direction.moves, direction.cell, warp.cell)
    arrived = bitboard.of_cell(cell).where(direction.moves) & state.board.pickups
    collected = arrived.any()
    state = state._replace(
        player=state.player._replace(cell=cell, data_siphons=state.player.data_siphons + collected),
        board=state.board._replace(pickups=state.board.pickups - arrived),
    )
    reached = (direction.moves | uses(Program.WARP)) & (cell == state.exit)
    return _Played(programs.undo(state, newest, uses(Program.UNDO)), survivors.kills, collected, reached)


def _complete_stage(state: State, reached: Array, won: Array) -> State:
    """Heals, counts the stage and resets the fields that a new stage resets (rules 14, 16), where
    the exit was `reached`.
    """
    advances = reached & ~won
    stage = jnp.where(advances, next_stage(state.stage), state.stage)
    interval = jnp.where(advances, schedule_interval(stage), state.interval)
    player = state.player
    return state._replace(
        player=player._replace(hp=jnp.where(reached, jnp.minimum(player.hp + 1, MAX_HP), player.hp)),
        stage=stage,
        turn=jnp.where(advances, 0, state.turn),
        interval=interval,
        next_turn=jnp.where(advances, interval, state.next_turn),
        show_activated=state.show_activated & ~advances,
        scheduled_tasks_disabled=state.scheduled_tasks_disabled & ~advances,
        step_active=state.step_active & ~advances,
        atk_plus_uses=jnp.where(advances, 0, state.atk_plus_uses),
    )
