"""Chunks of weight updates: shared by pretraining and learning."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from matrixrl.agents.alphazero import LossMetrics
from matrixrl.systems.matmul import program as programs
from matrixrl.systems.matmul.context import PhaseContext
from matrixrl.systems.matmul.state import MatmulState
from matrixrl.tracking.clock import Tick
from matrixrl.tracking.recorder import Recorder


class UpdateChunk(NamedTuple):
    """A chunk of weight updates.

    Attributes:
      count: number of updates.
      metrics: of each update, on the device; zeros beyond `count`.
      is_last: whether it ends its phase. The next chunk may start before this one is recorded, so
        the state does not show it.
    """

    count: int
    metrics: LossMetrics
    is_last: bool


def advance_updates(
    context: PhaseContext, state: MatmulState, key: PRNGKeyArray, length: int, use_replay: bool
) -> tuple[MatmulState, UpdateChunk]:
    """Starts the next weight updates, at most `log_interval`.

    Args:
      length: number of updates of the phase.
      use_replay: whether a share of each batch comes from the replay buffer.
    """
    device, progress = state
    count = min(context.config.tracking.log_interval, length - progress.done)
    with context.program.first_calls.call(programs.LEARN):
        params, opt_state, metrics = context.program.learn(
            device.params,
            device.opt_state,
            device.replay,
            key,
            jnp.int32(count),
            jnp.bool_(use_replay),
            jnp.int32(progress.updates),
        )
    device = device._replace(params=params, opt_state=opt_state)
    progress = dataclasses.replace(progress, done=progress.done + count, updates=progress.updates + count)
    return MatmulState(device, progress), UpdateChunk(count, metrics, progress.done == length)


def fetch_updates(
    context: PhaseContext, chunk: UpdateChunk, run: Recorder
) -> tuple[list[Tick], Float[np.ndarray, "metrics updates"]]:
    """Fetches a chunk's metrics and stamps its updates.

    Returns:
      A tick for each update, and the metrics in the order of `LossMetrics`.

    Raises:
      TrainingDivergedError: if a metric is NaN or infinite.
    """
    values = np.stack([np.asarray(values)[: chunk.count] for values in chunk.metrics])
    ticks = list(run.clock.advance(chunk.count))
    bad = ~np.isfinite(values)
    if bad.any():
        which, at = np.argwhere(bad)[0]
        raise context.diverged(LossMetrics._fields[which], values[which, at], ticks[int(at)].step)
    return ticks, values
