"""The reward (rule 18). Batch-last.

All components are whole multiples of 1/200, so they are added as integers: the sum is exact in any
order of additions, and one division at the end rounds it to float32.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float32, Int32

from matrixrl.envs.hackmatrix import bitboard
from matrixrl.envs.hackmatrix.bitboard import Bits
from matrixrl.envs.hackmatrix.rules import REWARD_COMPONENTS, STAGE_VALUES
from matrixrl.envs.hackmatrix.state import PlayerState, State

UNITS = 200
"""Number of units in a reward of 1."""


class Facts(NamedTuple):
    """Inputs of the reward, [B] each. `old` is before the step, `new` after it.

    Attributes:
      valid, won, died, completed, collected: bool; the step was valid, the game was won, the player
        died, a stage was completed, a data siphon was collected.
      wasteful_reset: bool, a RESET at hp 2.
      beside_siphon_enemy: bool, an enemy from a siphon is adjacent at the end of the step.
      old, new: the players.
      stage: int32, the stage number after the step.
      kills: int32.
      old_distance, new_distance: int32, exit distances.
      missed: int32, resources that a better siphon cell would have yielded in addition.
    """

    valid: Bool[Array, "*B"]
    won: Bool[Array, "*B"]
    died: Bool[Array, "*B"]
    completed: Bool[Array, "*B"]
    collected: Bool[Array, "*B"]
    wasteful_reset: Bool[Array, "*B"]
    beside_siphon_enemy: Bool[Array, "*B"]
    old: PlayerState
    new: PlayerState
    stage: Int32[Array, "*B"]
    kills: Int32[Array, "*B"]
    old_distance: Int32[Array, "*B"]
    new_distance: Int32[Array, "*B"]
    missed: Int32[Array, "*B"]


def exit_distances(*states: State) -> Int32[Array, "states B"]:
    """Computes the number of steps from player to exit over cells without blocks for each state.

    The distance is 0 if there is no path (rule 18.4).
    """
    exits, blocks, cells = (
        jnp.stack([part(state) for state in states])
        for part in (
            lambda state: state.exit,
            lambda state: jnp.stack(state.board.blocks),
            lambda state: state.player.cell,
        )
    )
    blocks = Bits(blocks[:, 0], blocks[:, 1])
    active = jnp.ones_like(cells, dtype=jnp.bool)
    return bitboard.search(bitboard.of_cell(exits), ~blocks, bitboard.of_cell(cells), active).distance


def rewards(facts: Facts) -> tuple[Float32[Array, "*B"], dict[str, Float32[Array, "*B"]]]:
    """Computes the reward and its 14 components under the keys of rule 18.2."""
    old, new, stage = facts.old, facts.new, facts.stage
    one, half = UNITS, UNITS // 2
    per_kill, per_step, per_missed = 60, 10, 5  # 0.3, 0.05, 0.5 * 0.05
    hp = new.hp - old.hp
    # V[k] of the completed stage k: powers of two, except the last.
    completed_stage = jnp.where(facts.won, stage, stage - 1)
    stage_value = jnp.where(facts.won, STAGE_VALUES[-1], 1 << jnp.clip(completed_stage - 1, 0, 6))
    completed_values = (1 << jnp.clip(stage - 1, 0, 7)) - 1  # V[1] + ... + V[stage - 1]
    delta = jnp.where(facts.died, 0, facts.old_distance - jnp.where(facts.completed, 0, facts.new_distance))
    units = {
        "stage": facts.completed * stage_value * one,
        "score": half * (new.score - old.score),
        "kills": per_kill * facts.kills,
        "dataSiphon": one * facts.collected,
        "distance": per_step * delta,
        "victory": facts.won * (500 * one + 100 * one * new.score),
        "death": facts.died * (-half * completed_values),
        "resourceGain": per_step * (new.credits - old.credits + new.energy - old.energy),
        "resourceHolding": facts.completed * (2 * (new.credits + new.energy)),
        "damagePenalty": one * jnp.minimum(hp, 0),
        "hpRecovery": one * jnp.maximum(hp, 0),
        "siphonQuality": -per_missed * facts.missed,
        "programWaste": -per_kill * facts.wasteful_reset,
        "siphonDeathPenalty": -10 * one * (facts.died & facts.beside_siphon_enemy),
    }
    units = {name: jnp.where(facts.valid, units[name], 0) for name in REWARD_COMPONENTS}
    total = sum(units.values(), jnp.zeros_like(stage))
    return _as_float(total), {name: _as_float(value) for name, value in units.items()}


def _as_float(units: Array) -> Array:
    return units.astype(jnp.float32) / UNITS
