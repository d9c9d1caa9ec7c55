"""The streams of random words, shared by the arrays and by the plain Python game. Loads no JAX."""

from __future__ import annotations

from enum import IntEnum


class Stream(IntEnum):
    """The streams of random words; see the table of `matrixrl.envs.hackmatrix.draws`."""

    ORDER = 0
    SPAWN = 1
    POLY = 2
    WARP = 3
    STAGE = 4
    PLACEMENT = 5
    CONTENT = 6
    RESOURCE = 7
    STAGE_SPAWN = 8
    NEW_GAME = 9
    RESET = 10
