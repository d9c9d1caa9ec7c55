"""The records of a game of HackMatrix: plain and mutable, with the field names of the scenario
format.

Cells are tuples ``(row, col)``; enemy types, block kinds and programs are their names.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

Cell = tuple[int, int]

# The board (rule 1).
BOARD_SIZE = 6
CELLS: tuple[Cell, ...] = tuple((row, col) for row in range(BOARD_SIZE) for col in range(BOARD_SIZE))
CORNERS: tuple[Cell, ...] = ((0, 0), (0, 5), (5, 0), (5, 5))
# Up, down, left, right: the order decides ties (rule 9.2) and numbers the actions (rule 4).
DIRECTIONS: tuple[Cell, ...] = ((1, 0), (-1, 0), (0, -1), (0, 1))
DIRECTION_NAMES = ("up", "down", "left", "right")

MAX_HP = 3  # rule 2
LAST_STAGE = 8  # rule 16

# A type's code is its position (rule 3.3).
ENEMY_TYPES = ("virus", "daemon", "glitch", "cryptog")
MAX_ENEMY_HP = {"virus": 2, "daemon": 3, "glitch": 2, "cryptog": 2}

BLOCK_KINDS = ("data", "program", "question")  # rule 3.2


# Largest numbers that a scenario may contain. No game of the rules comes near them. Any game that
# starts within them has the same rewards here and in 32-bit integers (a victory counts 20,000 units
# of 1/200 for each point of the score), and no number overflows its field in the arrays.
MAX_RESOURCE = 10_000  # credits, energy, data siphons and score of the player
MAX_ATTACK_DAMAGE = 1_000
MAX_COUNTDOWN = 10_000  # of a transmission, which DELAY lengthens
MAX_SCENARIO_ENEMY_HP = 1_000  # POLY adds to it
MAX_DISABLED_TURNS = 255
MAX_CELL_NUMBER = 255  # points, spawn count, credits and energy of a cell
MAX_SPAWNS = 10_000
MAX_TURN = 10**9  # turns, steps, and the turns of the schedule
MAX_RETURN = 1e9


class ProgramEntry(NamedTuple):
    """One row of the table of programs (rule 12.1): its costs and the spawn count of a generated
    block that holds it.
    """

    name: str
    credits: int
    energy: int
    spawn: int
    display: str


# A program's number is its position; its action is the number plus 5 (rule 12.1).
PROGRAMS = (
    ProgramEntry("push", 0, 2, 4, "PUSH"),
    ProgramEntry("pull", 0, 2, 4, "PULL"),
    ProgramEntry("crash", 3, 2, 6, "CRASH"),
    ProgramEntry("warp", 2, 2, 5, "WARP"),
    ProgramEntry("poly", 1, 1, 3, "POLY"),
    ProgramEntry("wait", 0, 1, 1, "WAIT"),
    ProgramEntry("debug", 3, 0, 4, "DEBUG"),
    ProgramEntry("row", 3, 1, 2, "ROW"),
    ProgramEntry("col", 3, 1, 2, "COL"),
    ProgramEntry("undo", 1, 0, 3, "UNDO"),
    ProgramEntry("step", 0, 3, 4, "STEP"),
    ProgramEntry("siph_plus", 5, 0, 7, "SIPH+"),
    ProgramEntry("exch", 4, 0, 3, "EXCH"),
    ProgramEntry("show", 2, 0, 2, "SHOW"),
    ProgramEntry("reset", 0, 4, 2, "RESET"),
    ProgramEntry("calm", 2, 4, 6, "CALM"),
    ProgramEntry("d_bom", 3, 0, 4, "D_BOM"),
    ProgramEntry("delay", 1, 2, 4, "DELAY"),
    ProgramEntry("anti_v", 3, 0, 4, "ANTI-V"),
    ProgramEntry("score", 0, 5, 5, "SCORE"),
    ProgramEntry("reduc", 2, 1, 3, "REDUC"),
    ProgramEntry("atk_plus", 4, 4, 8, "ATK+"),
    ProgramEntry("hack", 2, 2, 4, "HACK"),
)
PROGRAM_NUMBER = {program.name: number for number, program in enumerate(PROGRAMS)}


@dataclass(frozen=True)
class Sizes:
    """Sizes of a fixed-shape implementation (rules 13, 22): entries that do not fit are dropped as
    those rules define.
    """

    enemy_slots: int = 36
    transmission_slots: int = 36
    undo_depth: int = 8


@dataclass
class Player:
    """The player (rule 2)."""

    row: int
    col: int
    hp: int = MAX_HP
    credits: int = 0
    energy: int = 0
    data_siphons: int = 0
    attack_damage: int = 1
    score: int = 0

    @property
    def cell(self) -> Cell:
        """Cell of the player."""
        return (self.row, self.col)

    @cell.setter
    def cell(self, cell: Cell) -> None:
        self.row, self.col = cell


@dataclass
class Block:
    """A block (rule 3.2). Its siphoned flag is that of its cell, ``GameState.siphoned_cells``.

    A question block names its content in ``hidden_kind``; ``points`` belongs to data content,
    ``program`` to program content, open or hidden.
    """

    kind: str
    points: int = 0
    program: str | None = None
    hidden_kind: str | None = None
    spawn_count: int = 0

    @property
    def content(self) -> str:
        """Content, ``data`` or ``program``, also when a question block hides it."""
        return self.kind if self.hidden_kind is None else self.hidden_kind


@dataclass
class Resource:
    """Credits and energy on a cell (rule 3.1)."""

    credits: int = 0
    energy: int = 0


@dataclass
class Enemy:
    """An enemy (rule 3.3). ``last_known`` is display only (rule 3.5)."""

    type: str
    row: int
    col: int
    hp: int
    stunned: bool = False
    disabled_turns: int = 0
    from_siphon: bool = False
    from_schedule: bool = False
    last_known: Cell | None = None

    @property
    def cell(self) -> Cell:
        """Cell of the enemy."""
        return (self.row, self.col)

    @cell.setter
    def cell(self, cell: Cell) -> None:
        self.row, self.col = cell


@dataclass
class Transmission:
    """An enemy that has not arrived yet (rule 3.4)."""

    row: int
    col: int
    enemy_type: str
    turns_left: int = 1
    from_siphon: bool = False
    from_schedule: bool = False

    @property
    def cell(self) -> Cell:
        """Cell of arrival."""
        return (self.row, self.col)


@dataclass
class Flags:
    """Switches of the stage (rule 12.4)."""

    show_activated: bool = False
    scheduled_tasks_disabled: bool = False
    step_active: bool = False


@dataclass
class Schedule:
    """Scheduled tasks (rule 11) and the siphon spawns pending until the end of the phase
    (rule 7.2).
    """

    interval: int
    next_turn: int
    pending_siphon_spawns: int = 0


@dataclass
class HistoryEntry:
    """The fields that UNDO restores (rule 13). Immutable once in the history; its origin flags are
    false.
    """

    player: Player
    turn: int
    owned_programs: set[str]
    enemies: list[Enemy]
    transmissions: list[Transmission]
    blocks: dict[Cell, Block]
    data_siphons: set[Cell]
    resources: dict[Cell, Resource]
    siphoned_cells: set[Cell]
    siphon_centers: set[Cell]
    show_activated: bool
    scheduled_tasks_disabled: bool
    atk_plus_uses: int


@dataclass
class Episode:
    """Counters and end flags of the episode; ``return_`` is the sum of rewards so far."""

    done: bool = False
    outcome: str | None = None
    steps: int = 0
    return_: float = 0.0


@dataclass
class GameState:
    """One whole game. Lists of enemies and transmissions are in list order, oldest first
    (rules 3.3, 3.4).

    Attributes:
      siphoned_cells: every cell whose ``siphoned`` flag is set, with or without a block (rule 3.1).
        (The scenario format writes the flag of a block's cell at the block.)
      resources: only cells that have some.
      history: undo history, oldest first, at most ``config.undo_depth`` long (rule 13).
      config: sizes of the implementation that plays this game.
    """

    player: Player
    exit: Cell
    schedule: Schedule
    stage: int = 1
    turn: int = 0
    owned_programs: set[str] = field(default_factory=set)
    blocks: dict[Cell, Block] = field(default_factory=dict)
    data_siphons: set[Cell] = field(default_factory=set)
    resources: dict[Cell, Resource] = field(default_factory=dict)
    siphoned_cells: set[Cell] = field(default_factory=set)
    siphon_centers: set[Cell] = field(default_factory=set)
    enemies: list[Enemy] = field(default_factory=list)
    transmissions: list[Transmission] = field(default_factory=list)
    flags: Flags = field(default_factory=Flags)
    atk_plus_uses: int = 0
    history: list[HistoryEntry] = field(default_factory=list)
    episode: Episode = field(default_factory=Episode)
    config: Sizes = field(default_factory=Sizes)

    def copy(self) -> GameState:
        """Returns an independent copy that shares the snapshots, which are never modified."""
        return replace(
            self,
            player=copy.copy(self.player),
            schedule=copy.copy(self.schedule),
            owned_programs=set(self.owned_programs),
            blocks=copy_values(self.blocks),
            data_siphons=set(self.data_siphons),
            resources=copy_values(self.resources),
            siphoned_cells=set(self.siphoned_cells),
            siphon_centers=set(self.siphon_centers),
            enemies=[copy.copy(enemy) for enemy in self.enemies],
            transmissions=[copy.copy(transmission) for transmission in self.transmissions],
            flags=copy.copy(self.flags),
            history=list(self.history),
            episode=copy.copy(self.episode),
        )

    def enemies_on(self, cell: Cell) -> list[Enemy]:
        """Returns the enemies on a cell, in list order."""
        return [enemy for enemy in self.enemies if enemy.cell == cell]

    def transmission_on(self, cell: Cell) -> Transmission | None:
        """Returns the transmission on a cell; there is at most one (rule 3.4)."""
        return next((item for item in self.transmissions if item.cell == cell), None)


def copy_values(mapping: dict) -> dict:
    """Returns the same keys with copies of the values."""
    return {key: copy.copy(value) for key, value in mapping.items()}


# Geometry (rule 1).


def on_board(cell: Cell) -> bool:
    """Returns whether a cell is on the board."""
    return 0 <= cell[0] < BOARD_SIZE and 0 <= cell[1] < BOARD_SIZE


def shifted(cell: Cell, change: Cell) -> Cell:
    """Returns the cell moved by (row change, column change); it may be off the board."""
    return (cell[0] + change[0], cell[1] + change[1])


def neighbours(cell: Cell) -> list[Cell]:
    """Returns the neighbours on the board, in direction order."""
    return [cell_ for change in DIRECTIONS if on_board(cell_ := shifted(cell, change))]


def surrounding(cell: Cell) -> list[Cell]:
    """Returns the up to eight cells that touch a cell orthogonally or diagonally, row by row."""
    changes = [(dr, dc) for dr in (-1, 0, 1) for dc in (-1, 0, 1) if (dr, dc) != (0, 0)]
    return [cell_ for change in changes if on_board(cell_ := shifted(cell, change))]


def siphon_cross(cell: Cell) -> list[Cell]:
    """Returns the cell and its neighbours, in the order in which a siphon processes them
    (rule 7.2).
    """
    return [cell, *neighbours(cell)]


def manhattan(first: Cell, second: Cell) -> int:
    """Returns |row difference| + |column difference|."""
    return abs(first[0] - second[0]) + abs(first[1] - second[1])


def adjacent(first: Cell, second: Cell) -> bool:
    """Returns whether the Manhattan distance is exactly 1."""
    return manhattan(first, second) == 1


def distances_from(start: Cell, may_enter: Callable[[Cell], bool]) -> dict[Cell, int]:
    """Computes breadth-first distances by neighbour steps from `start`, always included, to every
    reachable cell.
    """
    distance = {start: 0}
    queue = deque([start])
    while queue:
        cell = queue.popleft()
        for neighbour in neighbours(cell):
            if neighbour not in distance and may_enter(neighbour):
                distance[neighbour] = distance[cell] + 1
                queue.append(neighbour)
    return distance
