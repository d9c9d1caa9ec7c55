"""The numbers of the rule book: board, actions, programs, enemies, rewards, observation. No
behaviour.

"Rule 12.4", here and in the other modules, is that section of docs/envs/hackmatrix_rules.md.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

SIZE = 6
NUM_CELLS = SIZE * SIZE
CORNERS = (0, 5, 30, 35)
"""Cells (0,0), (0,5), (5,0), (5,5); a cell is ``row * 6 + column``, row 0 at the bottom (rule
1).
"""

DIRECTIONS = ((1, 0), (-1, 0), (0, -1), (0, 1))
"""Up, down, left, right as (row change, column change): the order of every tie-break (rule 1)."""

NUM_ACTIONS = 28
ACTION_SIPHON = 4
FIRST_PROGRAM_ACTION = 5

MAX_HP = 3
NUM_STAGES = 8
DEFAULT_TIME_LIMIT = 1000
DEFAULT_UNDO_DEPTH = 8
ENEMY_SLOTS = 36
TRANSMISSION_SLOTS = 36
PLACEMENT_ATTEMPTS = 100
MIN_BLOCKS, MAX_BLOCKS = 5, 11


class EnemyType(IntEnum):
    """Enemy codes (rule 3.3)."""

    VIRUS = 0
    DAEMON = 1
    GLITCH = 2
    CRYPTOG = 3


ENEMY_MAX_HP = (2, 3, 2, 2)


class Program(IntEnum):
    """Program numbers (rule 12.1); the action is the number plus 5."""

    PUSH = 0
    PULL = 1
    CRASH = 2
    WARP = 3
    POLY = 4
    WAIT = 5
    DEBUG = 6
    ROW = 7
    COL = 8
    UNDO = 9
    STEP = 10
    SIPH_PLUS = 11
    EXCH = 12
    SHOW = 13
    RESET = 14
    CALM = 15
    D_BOM = 16
    DELAY = 17
    ANTI_V = 18
    SCORE = 19
    REDUC = 20
    ATK_PLUS = 21
    HACK = 22


class ProgramRow(NamedTuple):
    """One row of the table of rule 12.1."""

    display_name: str
    credits: int
    energy: int
    spawn_count: int


PROGRAMS: tuple[ProgramRow, ...] = (
    ProgramRow("PUSH", 0, 2, 4),
    ProgramRow("PULL", 0, 2, 4),
    ProgramRow("CRASH", 3, 2, 6),
    ProgramRow("WARP", 2, 2, 5),
    ProgramRow("POLY", 1, 1, 3),
    ProgramRow("WAIT", 0, 1, 1),
    ProgramRow("DEBUG", 3, 0, 4),
    ProgramRow("ROW", 3, 1, 2),
    ProgramRow("COL", 3, 1, 2),
    ProgramRow("UNDO", 1, 0, 3),
    ProgramRow("STEP", 0, 3, 4),
    ProgramRow("SIPH+", 5, 0, 7),
    ProgramRow("EXCH", 4, 0, 3),
    ProgramRow("SHOW", 2, 0, 2),
    ProgramRow("RESET", 0, 4, 2),
    ProgramRow("CALM", 2, 4, 6),
    ProgramRow("D_BOM", 3, 0, 4),
    ProgramRow("DELAY", 1, 2, 4),
    ProgramRow("ANTI-V", 3, 0, 4),
    ProgramRow("SCORE", 0, 5, 5),
    ProgramRow("REDUC", 2, 1, 3),
    ProgramRow("ATK+", 4, 4, 8),
    ProgramRow("HACK", 2, 2, 4),
)
NUM_PROGRAMS = len(PROGRAMS)

ACTION_NAMES: tuple[str, ...] = (
    *("up", "down", "left", "right", "siphon"),
    *(program.name.lower() for program in Program),
)

EXCH_ENERGY = 4
DELAY_TURNS = 3
ATK_PLUS_USES = 2

STAGE_VALUES = (1, 2, 4, 8, 16, 32, 64, 100)
"""V[1..8] (rule 18.1)."""

REWARD_COMPONENTS = (
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
"""Keys of the reward breakdown, in the order in which they are added (rule 18.2)."""


class Outcome(IntEnum):
    """Outcome of an episode."""

    PLAYING = 0
    WON = 1
    DIED = 2
    INVALID_ACTION = 3


NUM_FEATURES = 42
PLAYER_FEATURES = 10
OBSERVATION_SIZE = PLAYER_FEATURES + NUM_PROGRAMS + NUM_CELLS * NUM_FEATURES
"""1545 values in the flat observation (rule 19.4)."""
