"""The 23 programs: their conditions, their effects, and the counting of kills (rules 12, 13)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from matrixrl.envs.hackmatrix.referee.draws import Draws, one_of
from matrixrl.envs.hackmatrix.referee.state import (
    ENEMY_TYPES,
    LAST_STAGE,
    MAX_ENEMY_HP,
    MAX_HP,
    PROGRAM_NUMBER,
    PROGRAMS,
    Cell,
    Enemy,
    GameState,
    copy_values,
    manhattan,
    on_board,
    shifted,
    surrounding,
)


@dataclass
class Tally:
    """Results of the player's part of a step, for the reward and the end of the stage."""

    kills: int = 0
    data_siphon_collected: bool = False
    exit_reached: bool = False


# Use (rule 12.2).


def can_use(state: GameState, name: str) -> bool:
    """Returns whether a program is owned, affordable and applicable (rule 12.2)."""
    program = PROGRAMS[PROGRAM_NUMBER[name]]
    player = state.player
    return (
        name in state.owned_programs
        and player.credits >= program.credits
        and player.energy >= program.energy
        and applicable(state, name)
    )


def applicable(state: GameState, name: str) -> bool:
    """Returns whether the last column of the table of rule 12.1 holds. Real positions count: hidden
    cryptogs too.
    """
    player, enemies = state.player, state.enemies
    match name:
        case "push" | "pull" | "poly":
            return bool(enemies)
        case "crash":
            return any(
                cell in state.blocks or state.enemies_on(cell) or state.transmission_on(cell)
                for cell in surrounding(player.cell)
            )
        case "warp":
            return bool(enemies or state.transmissions)
        case "wait" | "step" | "siph_plus":
            return True
        case "debug":
            return any(enemy.cell in state.blocks for enemy in enemies)
        case "row":
            return any(enemy.row == player.row for enemy in enemies)
        case "col":
            return any(enemy.col == player.col for enemy in enemies)
        case "undo":
            return bool(state.history)
        case "exch":
            return player.credits >= 4
        case "show":
            return not state.flags.show_activated
        case "reset":
            return player.hp < MAX_HP
        case "calm":
            return not state.flags.scheduled_tasks_disabled
        case "d_bom":
            return any(enemy.type == "daemon" for enemy in enemies)
        case "delay":
            return bool(state.transmissions)
        case "anti_v":
            return any(enemy.type == "virus" for enemy in enemies)
        case "score":
            return state.stage < LAST_STAGE
        case "reduc":
            return any(
                block.spawn_count > 0 and cell not in state.siphoned_cells
                for cell, block in state.blocks.items()
            )
        case "atk_plus":
            return state.atk_plus_uses < 2
        case "hack":
            return bool(state.siphoned_cells)
    raise ValueError(f"{name!r} is no program")


def use_program(state: GameState, name: str, draws: Draws, tally: Tally) -> None:
    """Pays the cost and applies the effect; after WARP, checks the exit (rule 12.2).

    The caller has checked that the program can be used.
    """
    program = PROGRAMS[PROGRAM_NUMBER[name]]
    player, flags = state.player, state.flags
    player.credits -= program.credits
    player.energy -= program.energy
    match name:
        case "push":
            shove(state, push_wish)
        case "pull":
            shove(state, pull_wish)
        case "crash":
            crash(state, tally)
        case "warp":
            warp(state, draws, tally)
        case "poly":
            poly(state, draws, tally)
        case "wait":
            pass  # the enemy phase runs
        case "debug" | "row" | "col" | "hack":
            victims = [enemy for enemy in state.enemies if _is_hit(state, name, enemy)]
            damage(state, victims, player.attack_damage, tally)
        case "undo":
            undo(state)
        case "step":
            flags.step_active = True
        case "siph_plus":
            player.data_siphons += 1
        case "exch":
            player.energy += 4
        case "show":
            flags.show_activated = True
        case "reset":
            player.hp = MAX_HP
        case "calm":
            flags.scheduled_tasks_disabled = True
        case "d_bom":
            d_bom(state, tally)
        case "delay":
            for transmission in state.transmissions:
                transmission.turns_left += 3
        case "anti_v":
            damage(state, [e for e in state.enemies if e.type == "virus"], 1, tally)
        case "score":
            player.score += LAST_STAGE - state.stage
        case "reduc":
            for cell, block in state.blocks.items():
                if cell not in state.siphoned_cells:
                    block.spawn_count = max(0, block.spawn_count - 1)
        case "atk_plus":
            player.attack_damage += 1
            state.atk_plus_uses += 1
        case _:
            raise ValueError(f"{name!r} is no program")


def _is_hit(state: GameState, name: str, enemy: Enemy) -> bool:
    """Returns true if an attack program hits the enemy."""
    match name:
        case "debug":
            return enemy.cell in state.blocks
        case "row":
            return enemy.row == state.player.row
        case "col":
            return enemy.col == state.player.col
        case "hack":
            return enemy.cell in state.siphoned_cells
    raise ValueError(f"{name!r} attacks no enemies")


# Damage and kills (rules 12.3, 12.5).


def damage(state: GameState, victims: Iterable[Enemy], amount: int, tally: Tally) -> None:
    """Subtracts hp, stuns survivors, then removes the dead and counts them as kills
    (rules 12.3, 12.5).
    """
    for enemy in victims:
        enemy.hp = max(0, enemy.hp - amount)
        if enemy.hp > 0:
            enemy.stunned = True
    remove_dead(state, tally)


def remove_dead(state: GameState, tally: Tally) -> None:
    """Removes enemies at 0 hp; each counts as a kill unless it is from a scheduled task
    (rule 12.5).
    """
    tally.kills += sum(enemy.hp <= 0 and not enemy.from_schedule for enemy in state.enemies)
    state.enemies = [enemy for enemy in state.enemies if enemy.hp > 0]


def destroy_enemies_on(state: GameState, cell: Cell, tally: Tally) -> None:
    """Removes all enemies of a cell (rule 12.4, CRASH and WARP).

    They count as one kill, if the first in list order is not from a scheduled task (rule 12.5).
    """
    there = state.enemies_on(cell)
    if there:
        tally.kills += not there[0].from_schedule
        state.enemies = [enemy for enemy in state.enemies if enemy.cell != cell]


def destroy_transmission_on(state: GameState, cell: Cell, tally: Tally) -> None:
    """Removes the transmission of a cell (rules 6.2, 12.4); a kill unless it is from a scheduled
    task (rule 12.5).
    """
    transmission = state.transmission_on(cell)
    if transmission is not None:
        tally.kills += not transmission.from_schedule
        state.transmissions = [item for item in state.transmissions if item.cell != cell]


# Effects (rule 12.4).


def sign(number: int) -> int:
    """Returns -1, 0 or 1."""
    return (number > 0) - (number < 0)


def wish_candidates(enemy: Enemy, dr: int, dc: int) -> list[Cell]:
    """Returns the cells on the board one step along (dr, dc): both components, rows only, columns
    only (rule 12.4, PUSH).
    """
    candidates = [shifted(enemy.cell, (dr, dc))]
    if dr != 0:
        candidates.append(shifted(enemy.cell, (dr, 0)))
    if dc != 0:
        candidates.append(shifted(enemy.cell, (0, dc)))
    return [cell for cell in candidates if on_board(cell)]


def push_wish(enemy: Enemy, player: Cell) -> Cell | None:
    """Returns the candidate farthest from the player, the earliest on ties (rule 12.4, PUSH)."""
    candidates = wish_candidates(enemy, sign(enemy.row - player[0]), sign(enemy.col - player[1]))
    return max(candidates, key=lambda cell: manhattan(cell, player), default=None)


def pull_wish(enemy: Enemy, player: Cell) -> Cell | None:
    """Returns the candidate nearest to the player except the player's own cell, the earliest on
    ties (rule 12.4, PULL).
    """
    candidates = wish_candidates(enemy, sign(player[0] - enemy.row), sign(player[1] - enemy.col))
    return min(
        (cell for cell in candidates if cell != player),
        key=lambda cell: manhattan(cell, player),
        default=None,
    )


def shove(state: GameState, wish: Callable[[Enemy, Cell], Cell | None]) -> None:
    """Moves the enemies for PUSH and PULL (rule 12.4).

    All target cells are computed first, then the moves are made in list order; only cells already
    moved to in this pass block a move.
    """
    wishes = [wish(enemy, state.player.cell) for enemy in state.enemies]
    moved_to: set[Cell] = set()
    for enemy, cell in zip(state.enemies, wishes, strict=True):
        if cell is not None and cell not in moved_to:
            enemy.cell = cell
            moved_to.add(cell)


def crash(state: GameState, tally: Tally) -> None:
    """Removes blocks, enemies and transmissions around the player; resources, flags, pickups and
    exit stay (rule 12.4).
    """
    for cell in surrounding(state.player.cell):
        state.blocks.pop(cell, None)
        destroy_enemies_on(state, cell, tally)
        destroy_transmission_on(state, cell, tally)


def warp(state: GameState, draws: Draws, tally: Tally) -> None:
    """Moves the player to the cell of a random enemy or transmission (rule 12.4).

    Nothing is picked up there, but the exit counts (rule 5).
    """
    count = len(state.enemies) + len(state.transmissions)
    target = one_of(
        draws.warp_target(len(state.enemies), len(state.transmissions)), range(count), "warp_target"
    )
    if target < len(state.enemies):
        cell = state.enemies[target].cell
        destroy_enemies_on(state, cell, tally)
    else:
        cell = state.transmissions[target - len(state.enemies)].cell
        destroy_transmission_on(state, cell, tally)
    state.player.cell = cell
    tally.exit_reached = cell == state.exit


def poly(state: GameState, draws: Draws, tally: Tally) -> None:
    """Changes the type of every enemy; the damage it has taken carries over, and may kill it
    (rule 12.4).
    """
    for index, enemy in enumerate(state.enemies):
        others = tuple(kind for kind in ENEMY_TYPES if kind != enemy.type)
        kind = one_of(draws.poly_type(index, others), others, "poly_type")
        taken = MAX_ENEMY_HP[enemy.type] - enemy.hp
        enemy.type = kind
        enemy.hp = MAX_ENEMY_HP[kind] - taken
        enemy.last_known = enemy.cell if kind == "cryptog" else None  # rule 3.5
    remove_dead(state, tally)


def d_bom(state: GameState, tally: Tally) -> None:
    """Removes the nearest daemon and damages the enemies around its cell by 1 (rule 12.4)."""
    daemons = [enemy for enemy in state.enemies if enemy.type == "daemon"]
    bomb = min(daemons, key=lambda enemy: manhattan(enemy.cell, state.player.cell))
    tally.kills += not bomb.from_schedule
    state.enemies = [enemy for enemy in state.enemies if enemy is not bomb]
    blast = surrounding(bomb.cell)
    damage(state, [enemy for enemy in state.enemies if enemy.cell in blast], 1, tally)


def undo(state: GameState) -> None:
    """Pops the newest snapshot and overwrites exactly the fields it holds (rule 13)."""
    snapshot = state.history.pop()
    state.player = copy.copy(snapshot.player)
    state.turn = snapshot.turn
    state.owned_programs = set(snapshot.owned_programs)
    state.enemies = [replace(enemy) for enemy in snapshot.enemies]
    state.transmissions = [replace(transmission) for transmission in snapshot.transmissions]
    state.blocks = copy_values(snapshot.blocks)
    state.data_siphons = set(snapshot.data_siphons)
    state.resources = copy_values(snapshot.resources)
    state.siphoned_cells = set(snapshot.siphoned_cells)
    state.siphon_centers = set(snapshot.siphon_centers)
    state.flags.show_activated = snapshot.show_activated
    state.flags.scheduled_tasks_disabled = snapshot.scheduled_tasks_disabled
    state.atk_plus_uses = snapshot.atk_plus_uses
