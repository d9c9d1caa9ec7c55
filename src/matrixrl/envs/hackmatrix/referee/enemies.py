"""The enemy phase: counting down transmissions, movement, attacks, scheduled tasks and spawning
(rules 8 to 11).
"""

from __future__ import annotations

import copy
from dataclasses import replace

from matrixrl.envs.hackmatrix.referee.draws import Draws, one_of
from matrixrl.envs.hackmatrix.referee.state import (
    CELLS,
    ENEMY_TYPES,
    MAX_ENEMY_HP,
    Cell,
    Enemy,
    GameState,
    HistoryEntry,
    Transmission,
    adjacent,
    copy_values,
    distances_from,
    manhattan,
    neighbours,
)


def enemy_phase(state: GameState, draws: Draws) -> None:
    """Runs the enemy phase that follows a turn-ending action (rule 8)."""
    if state.flags.step_active:  # step 0: the whole phase is skipped, turn count and snapshot included
        state.flags.step_active = False
        return
    state.turn += 1
    tick_transmissions(state)
    move_and_attack(state, draws)
    check_schedule(state, draws)
    if state.schedule.pending_siphon_spawns > 0:
        spawn(state, draws, "siphon", state.schedule.pending_siphon_spawns)
        state.schedule.pending_siphon_spawns = 0
    for enemy in state.enemies:
        enemy.disabled_turns = max(0, enemy.disabled_turns - 1)
        enemy.stunned = False
    push_snapshot(state)


# Movement and attack (rule 9).


def move_and_attack(state: GameState, draws: Draws) -> None:
    """Runs two rounds: all enemies, then viruses only (rule 9.1). The list of enemies does not
    change meanwhile.
    """
    attacked: set[int] = set()  # list positions
    for round_number in (1, 2):
        order = list(draws.permutation(round_number, len(state.enemies)))
        if sorted(order) != list(range(len(state.enemies))):
            raise ValueError(f"draw permutation: {order} is no order of {len(state.enemies)} enemies")
        for position in order:
            enemy = state.enemies[position]
            if enemy.disabled_turns > 0 or enemy.stunned or position in attacked:
                continue
            if round_number == 2 and enemy.type != "virus":
                continue
            if adjacent(enemy.cell, state.player.cell):
                state.player.hp = max(0, state.player.hp - 1)
                attacked.add(position)
                continue
            destination = choose_move(state, enemy)
            if destination is not None:
                enemy.cell = destination
                # display only (rule 3.5)
                if enemy.type == "cryptog" and in_line_with_player(state, destination):
                    enemy.last_known = destination


def in_line_with_player(state: GameState, cell: Cell) -> bool:
    """Returns whether a cell is in the player's row or column."""
    return cell[0] == state.player.row or cell[1] == state.player.col


def choose_move(state: GameState, enemy: Enemy) -> Cell | None:
    """Returns the cell this enemy moves to, or None if it stays (rule 9.2)."""
    start, target = enemy.cell, state.player.cell
    occupied = {other.cell for other in state.enemies if other is not enemy}
    occupied |= {transmission.cell for transmission in state.transmissions}

    # (a) Shortest path around the others.
    step = first_step(state, enemy, occupied)
    if step is not None:
        return step

    # (b) Shortest path that ignores the others: its single first step counts only if it is free.
    step = first_step(state, enemy, set())
    if step is not None and step not in occupied:
        return step

    # (c) Greedy step; `min` keeps the earlier direction on ties.
    free = [cell for cell in neighbours(start) if can_enter(state, enemy, cell) and cell not in occupied]
    return min(free, key=lambda cell: manhattan(cell, target), default=None)


def can_enter(state: GameState, enemy: Enemy, cell: Cell) -> bool:
    """Returns whether a cell of the board has no block, or the enemy is a glitch (rule 9.2)."""
    return cell not in state.blocks or enemy.type == "glitch"


def first_step(state: GameState, enemy: Enemy, occupied: set[Cell]) -> Cell | None:
    """Returns the first step of a shortest path to the player, the first in direction order, or
    None (rule 9.2, a and b).
    """
    start, target = enemy.cell, state.player.cell
    # An enemy on the player's own cell has distance 0 and no neighbour with distance -1. The target
    # is exempt from the occupied test, not from the block test.
    if start == target or not can_enter(state, enemy, target):
        return None
    distance = distances_from(
        target, lambda cell: can_enter(state, enemy, cell) and cell not in occupied
    )  # d(x) of the rules, for every cell x but the start, which need not be entered
    reached = [cell for cell in neighbours(start) if cell in distance]
    return min(reached, key=lambda cell: distance[cell], default=None)


# Transmissions (rule 10).


def tick_transmissions(state: GameState) -> None:
    """Counts down the transmissions (rule 10.1).

    Those that are due arrive at the end of the list of enemies, disabled for this phase.
    """
    remaining = []
    for transmission in state.transmissions:
        if transmission.turns_left > 1:
            transmission.turns_left -= 1
            remaining.append(transmission)
        elif (
            len(state.enemies) < state.config.enemy_slots
        ):  # without a free slot the arrival is dropped (rule 22)
            kind = transmission.enemy_type
            state.enemies.append(
                Enemy(
                    type=kind,
                    row=transmission.row,
                    col=transmission.col,
                    hp=MAX_ENEMY_HP[kind],
                    disabled_turns=1,
                    from_siphon=transmission.from_siphon,
                    from_schedule=transmission.from_schedule,
                    last_known=transmission.cell if kind == "cryptog" else None,
                )
            )
    state.transmissions = remaining


def spawn(state: GameState, draws: Draws, caller: str, count: int) -> None:
    """Spawns `count` transmissions one after another; `caller` is ``stage``, ``schedule`` or
    ``siphon`` (rule 10.2).
    """
    for index in range(count):
        if len(state.transmissions) >= state.config.transmission_slots:  # rule 22
            return
        free = free_cells(state)
        if not free:  # a drop for lack of room: no later repeat finds room either
            return
        screened = [cell for cell in free if not in_line_of_fire(state, cell)]
        choices = screened or free
        row, col = one_of(draws.spawn_cell(caller, index, choices), choices, "spawn_cell")
        enemy_type = one_of(draws.spawn_type(caller, index, ENEMY_TYPES), ENEMY_TYPES, "spawn_type")
        state.transmissions.append(
            Transmission(
                row,
                col,
                enemy_type,
                turns_left=1,
                from_siphon=caller == "siphon",
                from_schedule=caller == "schedule",
            )
        )


def free_cells(state: GameState) -> list[Cell]:
    """Returns the cells without block, enemy, transmission or player, row by row (rule 10.2, step
    1).
    """
    taken = {enemy.cell for enemy in state.enemies}
    taken |= {transmission.cell for transmission in state.transmissions}
    taken.add(state.player.cell)
    return [cell for cell in CELLS if cell not in state.blocks and cell not in taken]


def in_line_of_fire(state: GameState, cell: Cell) -> bool:
    """Returns whether a cell is in the player's row or column with no block or enemy strictly
    between (rule 10.2, step 2).
    """
    if not in_line_with_player(state, cell):
        return False
    return not any(
        between in state.blocks or state.enemies_on(between)
        for between in cells_between(cell, state.player.cell)
    )


def cells_between(first: Cell, second: Cell) -> list[Cell]:
    """Returns the cells strictly between two cells of one row or one column."""
    low, high = min(first, second), max(first, second)
    if low[0] == high[0]:
        return [(low[0], col) for col in range(low[1] + 1, high[1])]
    return [(row, low[1]) for row in range(low[0] + 1, high[0])]


# Scheduled tasks (rule 11).


def check_schedule(state: GameState, draws: Draws) -> None:
    """Spawns one transmission if it is due; the next one is due `interval` turns later (rule
    11).
    """
    schedule = state.schedule
    if state.flags.scheduled_tasks_disabled or schedule.interval <= 0 or state.turn < schedule.next_turn:
        return
    spawn(state, draws, "schedule", 1)
    schedule.next_turn = state.turn + schedule.interval


# The history (rule 13).


def push_snapshot(state: GameState) -> None:
    """Pushes a snapshot and drops the oldest one if the history is full (rule 13).

    This is the last step of each phase that really runs.
    """
    state.history.append(
        HistoryEntry(
            player=copy.copy(state.player),
            turn=state.turn,
            owned_programs=set(state.owned_programs),
            enemies=[replace(enemy, from_siphon=False, from_schedule=False) for enemy in state.enemies],
            transmissions=[
                replace(item, from_siphon=False, from_schedule=False) for item in state.transmissions
            ],
            blocks=copy_values(state.blocks),
            data_siphons=set(state.data_siphons),
            resources=copy_values(state.resources),
            siphoned_cells=set(state.siphoned_cells),
            siphon_centers=set(state.siphon_centers),
            show_activated=state.flags.show_activated,
            scheduled_tasks_disabled=state.flags.scheduled_tasks_disabled,
            atk_plus_uses=state.atk_plus_uses,
        )
    )
    del state.history[: -state.config.undo_depth]
