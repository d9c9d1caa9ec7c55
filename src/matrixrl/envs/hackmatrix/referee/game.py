"""Actions, the mask of legal ones, and one whole step from action to result (rules 4 to 7, 20)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool

from matrixrl.envs.hackmatrix.referee.draws import Draws
from matrixrl.envs.hackmatrix.referee.enemies import enemy_phase
from matrixrl.envs.hackmatrix.referee.programs import (
    Tally,
    can_use,
    damage,
    destroy_transmission_on,
    use_program,
)
from matrixrl.envs.hackmatrix.referee.reward import (
    BREAKDOWN_KEYS,
    Events,
    reduced_reward_breakdown,
    reward_breakdown,
    siphon_quality,
)
from matrixrl.envs.hackmatrix.referee.stage import finish_stage
from matrixrl.envs.hackmatrix.referee.state import (
    DIRECTION_NAMES,
    DIRECTIONS,
    PROGRAMS,
    Cell,
    Enemy,
    GameState,
    Transmission,
    on_board,
    shifted,
    siphon_cross,
)

# rule 4
SIPHON = 4
FIRST_PROGRAM = 5
ACTION_NAMES = (*DIRECTION_NAMES, "siphon", *(program.name for program in PROGRAMS))
NUM_ACTIONS = len(ACTION_NAMES)


@dataclass(frozen=True)
class StepResult:
    """The result of a step (rule 5).

    Attributes:
      state: the state after the step, its ``episode`` updated.
      reward: the sum of the components.
      breakdown: the 14 components by key, in order (rule 18.2).
      done: the action was invalid, the game was won, or the player died.
      outcome: None, or ``won``, ``died``, ``invalid_action``.
      stage_completed: the exit was reached in this step.
      kills: the kills of the player's part (rule 12.5).
      data_siphon_collected: a pickup was collected.
    """

    state: GameState
    reward: float
    breakdown: dict[str, float]
    done: bool
    outcome: str | None
    stage_completed: bool
    kills: int = 0
    data_siphon_collected: bool = False

    @property
    def invalid(self) -> bool:
        """True if the action could not be carried out."""
        return self.outcome == "invalid_action"

    @property
    def died(self) -> bool:
        """True if the player's hp is 0."""
        return self.outcome == "died"

    @property
    def won(self) -> bool:
        """True if the last stage was finished."""
        return self.outcome == "won"


def legal_action_mask(state: GameState) -> Bool[np.ndarray, "28"]:
    """Returns the action mask, [28] bool, True where the action can be carried out (rule 20)."""
    return np.array([is_legal(state, action) for action in range(NUM_ACTIONS)])


def is_legal(state: GameState, action: int) -> bool:
    """Returns whether one action can be carried out (rule 20). This function defines which actions
    are invalid.
    """
    if action < SIPHON:
        neighbour = shifted(state.player.cell, DIRECTIONS[action])
        if not on_board(neighbour):
            return False
        return neighbour not in state.blocks or bool(state.enemies_on(neighbour))
    if action == SIPHON:
        return state.player.data_siphons >= 1  # rule 7.1
    return can_use(state, PROGRAMS[action - FIRST_PROGRAM].name)


def step(state: GameState, action: int, draws: Draws, *, reduced_reward: bool = False) -> StepResult:
    """Runs one step (rule 5). The input state is not modified.

    Args:
      state: a game that is not over.
      action: 0..27 (rule 4).
      draws: source of the random draws.
      reduced_reward: compute the reduced reward of rule 18.8 instead of that of rule 18.

    Raises:
      ValueError: if the action is no action, the game is over, or a draw is not among its choices.
    """
    if isinstance(action, bool) or not 0 <= action < NUM_ACTIONS:
        raise ValueError(f"action {action!r}: actions are the integers 0..{NUM_ACTIONS - 1}")
    if state.episode.done:
        raise ValueError(f"the game is over ({state.episode.outcome}): start a new one")

    old = state  # 1: the old values
    new = state.copy()
    new.episode.steps += 1

    # 2: an invalid action changes nothing and ends the episode
    if not is_legal(old, action):
        new.episode = replace(new.episode, done=True, outcome="invalid_action")
        breakdown = dict.fromkeys(BREAKDOWN_KEYS, 0.0)
        return StepResult(new, 0.0, breakdown, True, "invalid_action", stage_completed=False)

    # 3: the player's part
    tally = Tally()
    quality = siphon_quality(new) if action == SIPHON else 0.0  # on the untouched board (rule 7.2)
    uses_turn = _player_part(new, action, draws, tally)

    # 4 and 5: the exit, or else the enemy phase
    won = False
    if tally.exit_reached:
        won = finish_stage(new, draws)
    elif uses_turn:
        enemy_phase(new, draws)

    # 6 to 8: death, reward, end
    died = new.player.hp == 0
    events = Events(
        tally=tally,
        completed_stage=old.stage if tally.exit_reached else None,
        won=won,
        died=died,
        siphon_quality=quality,
        wasted_reset=ACTION_NAMES[action] == "reset" and old.player.hp == 2,
    )
    breakdown = (reduced_reward_breakdown if reduced_reward else reward_breakdown)(old, new, events)
    reward = sum(breakdown[key] for key in BREAKDOWN_KEYS)
    outcome = "won" if won else "died" if died else None
    new.episode = replace(
        new.episode,
        done=outcome is not None,
        outcome=outcome,
        return_=old.episode.return_ + reward,
    )
    return StepResult(
        new,
        reward,
        breakdown,
        new.episode.done,
        outcome,
        stage_completed=tally.exit_reached,
        kills=tally.kills,
        data_siphon_collected=tally.data_siphon_collected,
    )


def _player_part(state: GameState, action: int, draws: Draws, tally: Tally) -> bool:
    """Applies the action. Returns true if it uses the turn, so that the enemies act."""
    if action < SIPHON:
        attack_or_move(state, action, tally)
        return True
    if action == SIPHON:
        siphon(state)
        return True
    use_program(state, ACTION_NAMES[action], draws, tally)
    return ACTION_NAMES[action] == "wait"


def line_of_fire_target(state: GameState, direction: int) -> Enemy | Transmission | None:
    """Returns the target of an attack in a direction, or None (rule 6.1)."""
    cell: Cell = shifted(state.player.cell, DIRECTIONS[direction])
    while on_board(cell):
        transmission = state.transmission_on(cell)
        if transmission is not None:
            return transmission
        enemies = state.enemies_on(cell)
        if enemies:
            return enemies[0]
        if cell in state.blocks:
            return None
        cell = shifted(cell, DIRECTIONS[direction])
    return None


def attack_or_move(state: GameState, direction: int, tally: Tally) -> None:
    """Attacks the first target in line, or else moves one cell (rules 6.2, 6.3)."""
    target = line_of_fire_target(state, direction)
    if isinstance(target, Transmission):
        destroy_transmission_on(state, target.cell, tally)
    elif isinstance(target, Enemy):
        damage(state, [target], state.player.attack_damage, tally)
    else:
        cell = shifted(state.player.cell, DIRECTIONS[direction])
        state.player.cell = cell
        if cell in state.data_siphons:
            state.data_siphons.remove(cell)
            state.player.data_siphons += 1
            tally.data_siphon_collected = True
        tally.exit_reached = cell == state.exit


def siphon(state: GameState) -> None:
    """Processes the siphon cross; the transmissions it calls spawn at the end of the enemy phase
    (rule 7.2).
    """
    player, schedule = state.player, state.schedule
    state.siphon_centers.add(player.cell)
    for cell in siphon_cross(player.cell):
        if cell in state.siphoned_cells:
            continue
        block = state.blocks.get(cell)
        if block is not None:
            schedule.pending_siphon_spawns += block.spawn_count
            if block.content == "data":
                player.score += block.points
            else:
                assert block.program is not None
                state.owned_programs.add(block.program)
            # a question block becomes an ordinary one
            state.blocks[cell] = replace(block, kind=block.content, hidden_kind=None, spawn_count=0)
        else:
            resource = state.resources.pop(cell, None)
            if resource is not None:
                player.credits += resource.credits
                player.energy += resource.energy
        state.siphoned_cells.add(cell)
    player.data_siphons -= 1
    schedule.interval = max(4, schedule.interval - 1)
    schedule.next_turn += 5
