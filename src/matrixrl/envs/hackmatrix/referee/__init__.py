"""The referee: the rules of HackMatrix in plain Python, slow and obvious, with every random draw an
argument.

It implements docs/envs/hackmatrix_rules.md independently of the arrays, so that the fast
implementation can be checked against it step by step. "Rule 12.4" throughout is that section of the
rules. One topic per file::

    state         records of a game (2, 3), table of programs (12.1), board geometry (1)
    draws         every random draw as a method (21)
    enemies       the enemy phase: movement, transmissions, scheduled tasks (8 to 11)
    programs      the 23 programs, kills and UNDO (12, 13)
    stage         stage generation, new game, finishing a stage (14 to 16)
    reward        the 14 components and the reduced variant (18)
    observation   the observation of the player (19)
    game          actions, mask and one whole step (4 to 7, 20)
"""

from matrixrl.envs.hackmatrix.referee.draws import Draws, RandomDraws
from matrixrl.envs.hackmatrix.referee.game import (
    ACTION_NAMES,
    NUM_ACTIONS,
    StepResult,
    legal_action_mask,
    step,
)
from matrixrl.envs.hackmatrix.referee.observation import RefereeObservation, observe
from matrixrl.envs.hackmatrix.referee.reward import BREAKDOWN_KEYS
from matrixrl.envs.hackmatrix.referee.stage import new_game
from matrixrl.envs.hackmatrix.referee.state import (
    BOARD_SIZE,
    ENEMY_TYPES,
    MAX_ENEMY_HP,
    MAX_TURN,
    PROGRAM_NUMBER,
    PROGRAMS,
    Block,
    Cell,
    Enemy,
    Episode,
    Flags,
    GameState,
    HistoryEntry,
    Player,
    Resource,
    Schedule,
    Sizes,
    Transmission,
)

__all__ = [
    "ACTION_NAMES",
    "BOARD_SIZE",
    "BREAKDOWN_KEYS",
    "ENEMY_TYPES",
    "MAX_ENEMY_HP",
    "MAX_TURN",
    "NUM_ACTIONS",
    "PROGRAMS",
    "PROGRAM_NUMBER",
    "Block",
    "Cell",
    "Draws",
    "Enemy",
    "Episode",
    "Flags",
    "GameState",
    "HistoryEntry",
    "Player",
    "RandomDraws",
    "RefereeObservation",
    "Resource",
    "Schedule",
    "Sizes",
    "StepResult",
    "Transmission",
    "legal_action_mask",
    "new_game",
    "observe",
    "step",
]
