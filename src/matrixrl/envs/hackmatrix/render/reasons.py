"""Reasons why an action cannot be carried out, in words."""

from __future__ import annotations

from matrixrl.envs.hackmatrix.referee.game import FIRST_PROGRAM, SIPHON
from matrixrl.envs.hackmatrix.referee.state import PROGRAMS, GameState
from matrixrl.envs.hackmatrix.render.text import program_cost

# Why a program is not applicable (12.1).
NEEDS = {
    "push": "an enemy", "pull": "an enemy", "poly": "an enemy",
    "crash": "a block, an enemy or a transmission around you",
    "warp": "an enemy or a transmission", "debug": "an enemy on a block",
    "row": "an enemy in your row", "col": "an enemy in your column",
    "undo": "an enemy phase to take back", "exch": "4 credits", "show": "SHOW to be off", "reset": "hp below 3",
    "calm": "CALM to be off", "d_bom": "a daemon", "delay": "a transmission", "anti_v": "a virus",
    "score": "a stage below 8", "reduc": "an unsiphoned block that spawns", "atk_plus": "fewer than 2 uses in this stage",
    "hack": "a siphoned cell",
}  # fmt: skip


def why_illegal(state: GameState, action: int) -> str:
    """Explains why an action cannot be carried out."""
    if action < SIPHON:
        return "the way is blocked"
    if action == SIPHON:
        return "you have no data siphon"
    program, player = PROGRAMS[action - FIRST_PROGRAM], state.player
    if program.name not in state.owned_programs:
        return "you do not own it"
    if player.credits < program.credits or player.energy < program.energy:
        return f"it costs {program_cost(program.name)}, you have {player.credits}c {player.energy}e"
    return f"it needs {NEEDS[program.name]}"
