"""The reward of a step: 14 components (rule 18), and the reduced variant of rule 18.8 as a separate
function.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from matrixrl.envs.hackmatrix.referee.programs import Tally
from matrixrl.envs.hackmatrix.referee.state import (
    CELLS,
    Cell,
    GameState,
    adjacent,
    distances_from,
    siphon_cross,
)

STAGE_VALUES = (1, 2, 4, 8, 16, 32, 64, 100)  # V, index 1..8 (rule 18.1)

# in the order in which they are added (rule 18.2)
BREAKDOWN_KEYS: tuple[str, ...] = (
    "stage",
    "score",
    "kills",
    "dataSiphon",
    "distance",
    "victory",
    "death",
    "resourceGain",
    "resourceHolding",
    "damagePenalty",
    "hpRecovery",
    "siphonQuality",
    "programWaste",
    "siphonDeathPenalty",
)


@dataclass(frozen=True)
class Events:
    """Events of a valid step that the reward depends on.

    Attributes:
      tally: kills, data siphon pickup and exit of the player's part.
      completed_stage: the stage finished in this step, or None.
      won: the last stage was finished.
      died: hp is 0 after the step.
      siphon_quality: component 12, evaluated before the siphon (rule 18.5); 0 for other actions.
      wasted_reset: a RESET with 2 hp.
    """

    tally: Tally
    completed_stage: int | None
    won: bool
    died: bool
    siphon_quality: float
    wasted_reset: bool


def reward_breakdown(old: GameState, new: GameState, events: Events) -> dict[str, float]:
    """Computes the components of a valid step from `old` to `new`, in order (rule 18.2)."""
    tally, player, before = events.tally, new.player, old.player
    completed = events.completed_stage
    if events.died:
        distance_delta = 0
    elif tally.exit_reached:
        distance_delta = exit_distance(old)
    else:
        distance_delta = exit_distance(old) - exit_distance(new)  # rule 18.4
    # any adjacent enemy counts, not only the one that attacked (rule 18.6)
    siphon_death = events.died and any(
        enemy.from_siphon and adjacent(enemy.cell, player.cell) for enemy in new.enemies
    )
    return {
        "stage": float(STAGE_VALUES[completed - 1]) if completed is not None else 0.0,
        "score": 0.5 * (player.score - before.score),
        "kills": 0.3 * tally.kills,
        "dataSiphon": 1.0 if tally.data_siphon_collected else 0.0,
        "distance": 0.05 * distance_delta,
        "victory": 500.0 + 100.0 * player.score if events.won else 0.0,
        "death": -0.5 * sum(STAGE_VALUES[: new.stage - 1]) if events.died else 0.0,
        "resourceGain": 0.05 * (player.credits - before.credits) + 0.05 * (player.energy - before.energy),
        "resourceHolding": 0.01 * player.credits + 0.01 * player.energy if completed is not None else 0.0,
        "damagePenalty": 1.0 * min(0, player.hp - before.hp),
        "hpRecovery": 1.0 * max(0, player.hp - before.hp),
        "siphonQuality": events.siphon_quality,
        "programWaste": -0.3 if events.wasted_reset else 0.0,
        "siphonDeathPenalty": -10.0 if siphon_death else 0.0,
    }


def reduced_reward_breakdown(old: GameState, new: GameState, events: Events) -> dict[str, float]:
    """Computes the reduced variant under the same keys: hp changes in the two hp components, absent
    terms 0 (rule 18.8).

    ``old.episode.return_`` must be the sum of the reduced rewards so far.
    """
    breakdown = dict.fromkeys(BREAKDOWN_KEYS, 0.0)
    if events.completed_stage is not None and not events.won:
        breakdown["stage"] = float(STAGE_VALUES[events.completed_stage - 1])
    breakdown["score"] = 0.5 * (new.player.score - old.player.score)
    breakdown["kills"] = 0.3 * max(0, len(old.enemies) - len(new.enemies))
    breakdown["dataSiphon"] = 1.0 * max(0, new.player.data_siphons - old.player.data_siphons)
    breakdown["victory"] = 500.0 + 100.0 * new.player.score if events.won else 0.0
    breakdown["death"] = -0.5 * old.episode.return_ if events.died else 0.0
    breakdown["damagePenalty"] = -1.0 * max(0, old.player.hp - new.player.hp)
    breakdown["hpRecovery"] = 1.0 * max(0, new.player.hp - old.player.hp)
    return breakdown


def exit_distance(state: GameState) -> int:
    """Computes the number of steps from the player to the exit over cells without blocks; 0 without
    a path (rule 18.4).
    """
    distance = distances_from(state.player.cell, lambda cell: cell not in state.blocks)
    return distance.get(state.exit, 0)


# Siphon quality (rule 18.5).


@dataclass
class Yield:
    """The yield of a siphon on a cell: points D (a multiset), programs P, credits C, energy E."""

    points: Counter[int]
    programs: set[str]
    credits: int = 0
    energy: int = 0


def siphon_yield(state: GameState, cell: Cell) -> Yield:
    """Computes the yield of a cell (rule 18.5)."""
    result = Yield(Counter(), set())
    if cell in state.blocks:
        return result
    for near in siphon_cross(cell):
        if near in state.siphoned_cells:
            continue
        block = state.blocks.get(near)
        if block is None:
            resource = state.resources.get(near)
            if resource is not None:
                result.credits += resource.credits
                result.energy += resource.energy
        elif block.content == "data":
            result.points[block.points] += 1
        elif block.program is not None and block.program not in state.owned_programs:
            result.programs.add(block.program)
    return result


def siphon_quality(state: GameState) -> float:
    """Computes component 12 of a siphon on the player's cell: never positive, below 0 if a better
    cell exists (rule 18.5).
    """
    mine = siphon_yield(state, state.player.cell)
    candidates = [cell for cell in CELLS if cell not in state.blocks]
    if mine.points or mine.programs:
        needed = {
            cell
            for cell in siphon_cross(state.player.cell)
            if cell in state.blocks and cell not in state.siphoned_cells
        }
        candidates = [cell for cell in candidates if needed <= set(siphon_cross(cell))]
    better = []
    for cell in candidates:
        theirs = siphon_yield(state, cell)
        if (
            theirs.points == mine.points
            and theirs.programs == mine.programs
            and theirs.credits >= mine.credits
            and theirs.energy >= mine.energy
            and (theirs.credits > mine.credits or theirs.energy > mine.energy)
        ):
            better.append(theirs)
    if not better:
        return 0.0
    missed_credits = max(mine.credits, *(theirs.credits for theirs in better)) - mine.credits
    missed_energy = max(mine.energy, *(theirs.energy for theirs in better)) - mine.energy
    return -0.5 * (0.05 * missed_credits + 0.05 * missed_energy)
