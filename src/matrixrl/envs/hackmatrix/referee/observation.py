"""The observation of the player: three arrays and their flat form (rule 19)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from matrixrl.envs.hackmatrix.referee.enemies import in_line_with_player
from matrixrl.envs.hackmatrix.referee.state import (
    BOARD_SIZE,
    CELLS,
    ENEMY_TYPES,
    PROGRAM_NUMBER,
    PROGRAMS,
    Cell,
    Enemy,
    GameState,
)

NUM_FEATURES = 42


class RefereeObservation(NamedTuple):
    """The observation (rule 19).

    Attributes:
      player: [10] float32.
      programs: [23] int32.
      grid: [6, 6, 42] float32, indexed row, column, feature.
      flat: [1545] float32, the three in that order (rule 19.4).
    """

    player: np.ndarray
    programs: np.ndarray
    grid: np.ndarray
    flat: np.ndarray


def observe(state: GameState) -> RefereeObservation:
    """Computes the observation of a state (rule 19)."""
    me = state.player
    # rule 19.1
    player = np.array(
        [
            me.row / 5,
            me.col / 5,
            me.hp / 3,
            min(me.credits / 50, 1),
            min(me.energy / 50, 1),
            (state.stage - 1) / 7,
            me.data_siphons / 10,
            (me.attack_damage - 1) / 2,
            state.flags.show_activated,
            state.flags.scheduled_tasks_disabled,
        ],
        np.float32,
    )
    # rule 19.2
    programs = np.array([program.name in state.owned_programs for program in PROGRAMS], np.int32)
    # rule 19.3
    grid = np.zeros((BOARD_SIZE, BOARD_SIZE, NUM_FEATURES), np.float32)
    for cell in CELLS:
        grid[cell] = cell_features(state, cell)
    # rule 19.4
    flat = np.concatenate([player, programs.astype(np.float32), grid.reshape(-1)])
    return RefereeObservation(player, programs, grid, flat)


def is_visible(state: GameState, enemy: Enemy) -> bool:
    """Returns whether an enemy is visible (rule 19.3).

    A cryptog is hidden unless it is in the player's row or column, or SHOW is active.
    """
    return enemy.type != "cryptog" or state.flags.show_activated or in_line_with_player(state, enemy.cell)


def cell_features(state: GameState, cell: Cell) -> Float32[np.ndarray, "42"]:
    """Computes the 42 features of a cell, float32 (rule 19.3)."""
    features = np.zeros(NUM_FEATURES, np.float32)
    siphoned = cell in state.siphoned_cells

    # Only the first enemy in list order is shown; if it is hidden, so is the whole stack.
    enemies = state.enemies_on(cell)
    if enemies and is_visible(state, enemies[0]):
        enemy = enemies[0]
        features[ENEMY_TYPES.index(enemy.type)] = 1
        features[4] = enemy.hp / 3
        features[5] = enemy.stunned
        features[6] = enemy.from_siphon

    block = state.blocks.get(cell)
    if block is not None:
        features[11] = siphoned
        if block.kind == "data":
            features[7] = 1
            features[10] = block.points / 9
            features[35] = block.spawn_count / 9
        elif block.kind == "program":
            assert block.program is not None
            features[8] = 1
            features[12 + PROGRAM_NUMBER[block.program]] = 1
            features[35] = block.spawn_count / 9
        else:
            features[9] = 1

    transmission = state.transmission_on(cell)
    if transmission is not None:
        features[36] = min(transmission.turns_left / 4, 1)

    resource = state.resources.get(cell)
    if resource is not None and (block is None or siphoned):
        features[37] = resource.credits / 3
        features[38] = resource.energy / 3

    features[39] = cell in state.data_siphons
    features[40] = cell == state.exit
    features[41] = cell in state.siphon_centers
    return features
