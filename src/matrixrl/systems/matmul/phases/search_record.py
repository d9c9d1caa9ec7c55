"""Record of the search trees of one self-play game per epoch, the first one (`--record-search`).

The trees of the game in progress are part of every checkpoint, so that a resumed run writes the
same file. A game that has ended is a file of the run folder, which the journal records with its
checksum.
"""

from __future__ import annotations

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from matrixrl.agents.selfplay import Games
from matrixrl.run_layout import SEARCH_FOLDER
from matrixrl.systems.matmul.context import PhaseContext
from matrixrl.systems.matmul.phases.games import PlayedMove
from matrixrl.systems.matmul.program import MatmulProgram
from matrixrl.systems.matmul.search_log import FORMAT, VERSION, SearchLog, render, rounded, spelled
from matrixrl.systems.matmul.state import Progress
from matrixrl.tracking.recorder import Recorder
from matrixrl.whole_files import write_whole

LANE = 0
"""The recorded game of the first batch of an epoch. It is also the first of its search group."""


def record_search(
    context: PhaseContext, progress: Progress, played: PlayedMove, games: Games, run: Recorder
) -> None:
    """Keeps the tree of a move of the recorded game, and writes the file once the game has ended.

    Args:
      progress: before the move is counted.
      games: the batch after the move.
    """
    move = played.move
    if not move.live[LANE]:
        return
    program, log = context.program, context.search_log
    tree = jax.tree.map(lambda leaf: leaf[0], move.tree)
    log.add(
        tree,
        int(move.num_moves[LANE]),
        lambda tokens: jax.device_get(program.codec.decode(jnp.asarray(tokens))),
        reward=float(move.reward[LANE]),
        residual=int(move.residual[LANE]),
        root_value=rounded([move.value[LANE]])[0],
    )
    if not move.terminated[LANE]:
        return
    began = time.perf_counter()
    folder = run.directory / SEARCH_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"epoch-{progress.epoch:06d}.json"
    write_whole(path, render(game_record(program, progress, move, program.gather_to_host(games), log)) + "\n")
    context.search_log = SearchLog()
    run.record_file(path, kind="artifact", seconds=time.perf_counter() - began)


def game_record(
    program: MatmulProgram, progress: Progress, move: Any, games: Games, log: SearchLog
) -> dict[str, Any]:
    """Returns the content of the file of a game that has ended."""
    length = int(move.num_moves[LANE])
    problem = program.config.game.problems[program.format_of(LANE)]
    target, inverse, actions, weights = jax.device_get(
        (
            games.target[LANE],
            jax.tree.map(lambda leaf: leaf[LANE], games.basis),
            games.actions[LANE, :length].astype(np.int32),
            games.weights[LANE, :length],
        )
    )
    is_standard = all(np.array_equal(matrix, np.eye(len(matrix))) for matrix in inverse)
    return {
        "format": FORMAT,
        "version": VERSION,
        "problem": problem.name,
        "ring": program.codec.ring.name,
        "epoch": progress.epoch,
        "episode": progress.episodes + 1 + LANE,
        "standard_basis": bool(is_standard),
        "shape": list(target.shape),
        "target": [int(entry) for entry in target.ravel()],
        "solved": bool(move.solved[LANE]),
        "rank": round(float(move.cost[LANE])),
        "terms": spelled(jax.device_get(program.codec.decode(actions))),
        "moves": [{**made, "weights": rounded(weights[made["move"] - 1])} for made in log.moves],
    }
