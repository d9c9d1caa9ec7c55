"""Batches of games, advanced by one action of all of them: shared by self-play and evaluation."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import PRNGKeyArray

from matrixrl.agents.selfplay import Games, Move
from matrixrl.schemes.scheme import Scheme
from matrixrl.systems.matmul import program as programs
from matrixrl.systems.matmul.context import PhaseContext
from matrixrl.systems.matmul.state import MatmulState, Progress
from matrixrl.tracking.clock import Tick
from matrixrl.tracking.events import EpisodeRow, Event, MoveRow
from matrixrl.tracking.recorder import Recorder


class MoveChunk(NamedTuple):
    """One action in each game of a batch.

    Attributes:
      move: what happened, on the device.
      games: the batch after it.
      began: `time.perf_counter()` when the action was started, without compilation.
    """

    move: Move
    games: Games
    began: float


class PlayedMove(NamedTuple):
    """A move that was fetched, stamped and proved.

    Attributes:
      move: on the host.
      ticks: one for each live game.
      events: rows of actions and of the episodes that ended.
      rows: the episodes among them.
      schemes: by lane, of the games that were solved with this action.
      is_over: whether every game of the batch has ended.
    """

    move: Any
    ticks: Sequence[Tick]
    events: list[Event]
    rows: list[EpisodeRow]
    schemes: dict[int, Scheme]
    is_over: bool


def advance_games(
    context: PhaseContext,
    state: MatmulState,
    key: PRNGKeyArray,
    length: int,
    exploration: float,
    start: Callable[[Array, MatmulState, tuple[Array, Array]], Games],
) -> tuple[MatmulState, MoveChunk]:
    """Starts a batch of games if none is in progress, and one action in each of its games.

    Args:
      length: number of games of the phase.
      exploration: scale of the noise at the root.
      start: (key, state, (step limits int32 [F], number of games int32)) -> a fresh batch.
    """
    program = context.program
    device, progress = state
    key_start, key_move = jax.random.split(key)
    games = device.games
    if progress.playing == 0:
        playing = min(length - progress.done, context.config.selfplay.batch_of_games)
        games = start(key_start, state, (jnp.array(progress.step_limits, jnp.int32), jnp.int32(playing)))
        progress = dataclasses.replace(progress, playing=playing)
    first_call = program.first_calls.is_first(programs.SELF_PLAY)
    began = time.perf_counter()
    with program.first_calls.call(programs.SELF_PLAY):
        games, move = program.play_move(device.params, games, key_move, jnp.float32(exploration))
    # The first call returns when its program is compiled: the rate is that of the games alone.
    began = time.perf_counter() if first_call else began
    return MatmulState(device._replace(games=games), progress), MoveChunk(move, games, began)


def fetch_move(context: PhaseContext, progress: Progress, chunk: MoveChunk, run: Recorder) -> PlayedMove:
    """Fetches an action of a batch, stamps it, and proves the games that it solved."""
    move = jax.device_get(chunk.move)
    live = np.flatnonzero(move.live)
    ticks = list(run.clock.advance(len(live)))
    # Lane k of a batch plays the k-th of its episodes.
    first_episode = progress.episodes + 1
    events: list[Event] = []
    if run.records_moves:
        events += [
            MoveRow(
                tick,
                episode=first_episode + int(lane),
                move=int(move.num_moves[lane]),
                action=tuple(int(token) for token in move.action[lane]),
                reward=float(move.reward[lane]),
                residual=float(move.residual[lane]),
            )
            for tick, lane in zip(ticks, live, strict=True)
        ]
    ended = [(tick, lane) for tick, lane in zip(ticks, live, strict=True) if move.terminated[lane]]
    solved = [int(lane) for _, lane in ended if move.solved[lane]]
    schemes = context.prove(chunk.games, {lane: int(move.num_moves[lane]) for lane in solved})
    rows = [
        EpisodeRow(
            tick,
            {
                "Global Episode": first_episode + int(lane),
                "Epoch": progress.epoch,
                "Episode in Epoch": progress.done + int(lane) + 1,
                "Reward": -float(move.cost[lane]),
                "Residual": float(move.residual[lane]),
                "Rank": round(float(move.cost[lane])),
                "Steps": int(move.num_moves[lane]),
                "Solved": bool(move.solved[lane]),
            },
        )
        for tick, lane in ended
    ]
    is_over = bool(move.terminated[: progress.playing].all())
    return PlayedMove(move, ticks, events + rows, rows, schemes, is_over)


def offer_schemes(
    context: PhaseContext, progress: Progress, schemes: dict[int, Scheme], run: Recorder
) -> None:
    """Offers the schemes of solved games to the discoveries of their formats."""
    for lane, scheme in schemes.items():
        episode = progress.episodes + 1 + lane
        found = {"episode": episode, "epoch": progress.epoch, "step": run.clock.step}
        context.offer(scheme, context.discoveries_of(lane), found, f"episode {episode}", run)


def finish_batch(progress: Progress) -> Progress:
    """Returns the progress after the batch in progress has ended."""
    return dataclasses.replace(
        progress,
        done=progress.done + progress.playing,
        episodes=progress.episodes + progress.playing,
        playing=0,
    )
