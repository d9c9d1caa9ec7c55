"""Many agents as one trainer for the loop: metrics of every agent, and means over seeds.

The stream's row of a chunk has each metric of an agent as `agent/K/<metric>`; under the metric's
own name the mean over all agents, with `_iqm` (the interquartile mean), `_low` and `_high` (the
95 % confidence interval of the mean). A grid has the same for each of its points,
`setting/J/<metric>`, over its seeds.

An agent whose training diverges is left out of the means from there on; the others continue.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import numpy as np

from matrixrl.agents.ppo import TrainState
from matrixrl.checkpoints import format as checkpoint_format
from matrixrl.checkpoints.format import Checkpoint, Snapshot
from matrixrl.config import ConfigError
from matrixrl.systems.ppo.agents import AgentsProgram
from matrixrl.systems.ppo.environment import AGENT_COLUMN
from matrixrl.systems.ppo.intervals import interquartile_mean, mean_interval
from matrixrl.systems.ppo.program import UpdateResults
from matrixrl.systems.ppo.trainer import LONG_CALL_SECONDS, PacedTrainer
from matrixrl.tracking.events import EpisodeRow, Event, ScalarRow
from matrixrl.tracking.numbers import significant
from matrixrl.tracking.recorder import Recorder
from matrixrl.training.loop import TrainingDivergedError


@dataclass(frozen=True)
class AgentsProgress:
    """Progress of a run as plain numbers; lists have an entry for each agent.

    Attributes:
      updates, recorded: number of updates started, and recorded, of each agent.
      episodes: number of episodes of all agents that ended: the last global number assigned.
      chunk_updates: number of recorded updates of the current chunk.
      chunk_episodes: number of episodes that ended in it.
      metric_sums: by name, sums over its updates.
      episode_sums: by name, sums over its episodes.
      mean_returns: of the episodes of the last finished chunk; None before the first.
      diverged: whether a metric of the agent has been NaN or infinite.
    """

    updates: int = 0
    recorded: int = 0
    episodes: int = 0
    chunk_updates: int = 0
    chunk_episodes: Sequence[int] = ()
    metric_sums: Mapping[str, Sequence[float]] = field(default_factory=dict)
    episode_sums: Mapping[str, Sequence[float]] = field(default_factory=dict)
    mean_returns: Sequence[float | None] = ()
    diverged: Sequence[bool] = ()

    @property
    def mean_return(self) -> float | None:
        """Mean over the agents that train."""
        known = [
            value
            for value, lost in zip(self.mean_returns, self.diverged, strict=True)
            if value is not None and not lost
        ]
        return float(np.mean(known)) if known else None


class AgentsState(NamedTuple):
    """Complete state of a run."""

    device: TrainState
    progress: AgentsProgress


@dataclass(frozen=True)
class AgentsOutcome:
    """A call's results on the device, and its number of updates."""

    count: int
    updates: UpdateResults


class AgentsTrainer(PacedTrainer):
    """A system for `training.loop.run_loop`.

    Args:
      program: the compiled programs.
    """

    def __init__(self, program: AgentsProgram) -> None:
        super().__init__(program.config)
        self.program = program
        self.task = program.task

    def init(self) -> AgentsState:
        """Returns the state of a new run."""
        with self.program.first_calls.call("the start of the games"):
            device = self.program.init()
        count = self.program.count
        progress = AgentsProgress(
            chunk_episodes=[0] * count, mean_returns=[None] * count, diverged=[False] * count
        )
        return AgentsState(device, progress)

    def resume(self, checkpoint: Checkpoint | None) -> AgentsState:
        """Restores the state from a checkpoint; without one the run continues from its beginning.

        Raises:
          ConfigError: if the checkpoint belongs to other settings.
        """
        if checkpoint is None:
            return self.init()
        device = checkpoint.restore(self.program.template)
        return AgentsState(device, AgentsProgress(**checkpoint.progress))

    def snapshot(self, state: AgentsState, step: int) -> Snapshot:
        """Copies the complete state of the run to the host."""
        arrays = checkpoint_format.flatten(state.device)
        return Snapshot(
            step, arrays, checkpoint_format.plain(state.progress), score=state.progress.mean_return
        )

    def finished(self, state: AgentsState) -> bool:
        """Returns true if all updates are done."""
        return state.progress.updates >= self.config.ppo.num_updates

    def needs_record(self, state: AgentsState) -> bool:
        """Returns true if two calls at once would delay a signal."""
        return self._seconds_per_call > LONG_CALL_SECONDS

    def advance(self, state: AgentsState) -> tuple[AgentsState, AgentsOutcome]:
        """Starts the next updates, at most to the end of the chunk."""
        done, chunk = state.progress.updates, self.config.chunk
        left = min(chunk - done % chunk, self.config.ppo.num_updates - done)
        count = left if self.config.monolithic else min(left, self._updates_per_call)
        device, updates = self.program.advance(state.device, done, count)
        self._start_timers()
        return AgentsState(device, dataclasses.replace(state.progress, updates=done + count)), AgentsOutcome(
            count, updates
        )

    def record(self, state: AgentsState, outcome: AgentsOutcome, run: Recorder) -> AgentsState:
        """Fetches, stamps and commits the results of a call.

        Raises:
          ConfigError: if the environment broke its rules.
          TrainingDivergedError: if every agent diverged.
        """
        results, count = jax.device_get(outcome.updates), outcome.count
        progress = state.progress
        metrics = {name: values[:, :count] for name, values in results.metrics._asdict().items()}
        lost = self._diverged(progress, metrics, results, count)
        self._pace(count)
        self._timed_updates += count
        ticks = run.clock.advance(count)
        for agent in self.program.agents:
            if lost[agent.number] and not progress.diverged[agent.number]:
                run.warn(
                    f"agent {agent.number} ({agent.label}) diverged; the means leave it out from here on"
                )
        if all(lost):
            raise TrainingDivergedError(
                f"every agent has diverged by step {ticks[-1].step}; lower --learning-rate (now "
                f"{self.config.ppo.learning_rate}) or --max-grad-norm (now {self.config.ppo.max_grad_norm})"
            )
        progress = dataclasses.replace(progress, diverged=lost)
        events: list[Event] = []
        for index, tick in enumerate(ticks):
            rows = self._episodes(results, index, progress.episodes, tick)
            events += rows
            progress = dataclasses.replace(
                progress,
                recorded=progress.recorded + 1,
                episodes=progress.episodes + len(rows),
                chunk_updates=progress.chunk_updates + 1,
                chunk_episodes=_plus(progress.chunk_episodes, results.ended[:, index].sum((1, 2))),
                metric_sums=_added(progress.metric_sums, metrics, index),
                episode_sums=_added(progress.episode_sums, results.sums, index),
            )
        total = self.config.ppo.num_updates
        if progress.recorded % self.config.chunk == 0 or progress.recorded == total:
            row, progress = self._chunk_row(progress, run)
            events.append(ScalarRow(ticks[-1], row))
        run.record(events)
        size = self.config.ppo.batch_size * self.program.count
        mean = progress.mean_return
        best = "" if mean is None else f"mean return {significant(mean)}"
        run.progress("training", progress.recorded * size, total * size, "steps", best)
        return state._replace(progress=progress)

    def _diverged(
        self, progress: AgentsProgress, metrics: Mapping[str, np.ndarray], results: UpdateResults, count: int
    ) -> list[bool]:
        """Returns which agents have diverged.

        Raises:
          ConfigError: if the environment broke its rules before.
        """
        found = list(progress.diverged)
        bad = np.zeros((self.program.count, count), bool)
        for values in metrics.values():
            bad |= ~np.isfinite(values)
        for number in range(self.program.count):
            if found[number]:
                continue
            for index in range(count):
                faults = results.faults if isinstance(results.faults, Mapping) else {}
                for name, values in faults.items():
                    if values[number, index] and self.task.describe_fault is not None:
                        text = self.task.describe_fault(name, int(values[number, index]))
                        raise ConfigError(
                            f"{text} in update {progress.recorded + index + 1} of agent {number}"
                        )
                if bad[number, index]:
                    found[number] = True
                    break
        return found

    def _episodes(self, results: UpdateResults, index: int, before: int, tick: Any) -> list[EpisodeRow]:
        """Returns rows of the episodes that ended in an update, in order of agent, step and
        environment.
        """
        agents, *_ = ended = np.nonzero(results.ended[:, index])
        values = {name: values[:, index][ended].tolist() for name, values in results.table.items()}
        columns = {
            name: [column.convert(value) for value in values[column.value]]
            for name, column in self.task.columns.items()
        }
        return [
            EpisodeRow(
                tick,
                {
                    "Global Episode": before + number + 1,
                    "Update": tick.step,
                    AGENT_COLUMN: int(agent),
                    **{name: column[number] for name, column in columns.items()},
                },
            )
            for number, agent in enumerate(agents)
        ]

    def _chunk_row(
        self, progress: AgentsProgress, run: Recorder
    ) -> tuple[dict[str, float | int], AgentsProgress]:
        """Returns the stream's row of a finished chunk, and the progress with its sums cleared."""
        now = time.perf_counter()
        began = now if self._chunk_began is None else self._chunk_began
        steps = self._timed_updates * self.config.ppo.batch_size * self.program.count
        self._chunk_began, self._timed_updates = now, 0
        self.steps_per_second = steps / max(now - began, 1e-9)
        means = list(progress.mean_returns)
        own: list[dict[str, float]] = []
        for agent in self.program.agents:
            number = agent.number
            episodes = progress.chunk_episodes[number]
            row = {
                f"train/{name}": sums[number] / progress.chunk_updates
                for name, sums in progress.metric_sums.items()
            }
            row["train/learning_rate"] = self.program.learning_rate(number, progress.recorded - 1)
            row["episode/count"] = episodes
            if episodes:
                row |= {
                    f"episode/{name}": sums[number] / episodes for name, sums in progress.episode_sums.items()
                }
                means[number] = row["episode/return"]
            own.append(row)
        training = [agent for agent in self.program.agents if not progress.diverged[agent.number]]
        row: dict[str, float | int] = aggregated([own[agent.number] for agent in training])
        settings = {agent.setting for agent in self.program.agents}
        for setting in sorted(settings) if len(settings) > 1 else ():
            of_setting = [own[agent.number] for agent in training if agent.setting == setting]
            row |= {f"setting/{setting}/{name}": value for name, value in aggregated(of_setting).items()}
        for agent in training:
            row |= {f"agent/{agent.number}/{name}": value for name, value in own[agent.number].items()}
        row |= {
            "train/steps_per_second": self.steps_per_second,
            "train/update_step": progress.recorded,
            "train/logging_overhead_pct": run.logging_overhead_pct,
        }
        nothing = [0] * self.program.count
        return row, dataclasses.replace(
            progress,
            chunk_updates=0,
            chunk_episodes=nothing,
            metric_sums={},
            episode_sums={},
            mean_returns=means,
        )


def aggregated(rows: Sequence[Mapping[str, float]]) -> dict[str, float | int]:
    """Returns mean, interquartile mean and 95 % confidence interval of each metric over agents."""
    found: dict[str, float | int] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = np.asarray([row[name] for row in rows if name in row], np.float64)
        interval = mean_interval(values)
        found[name] = interval.mean
        if len(rows) > 1:
            found[f"{name}_iqm"] = interquartile_mean(values)
            if not math.isnan(interval.low):
                found |= {f"{name}_low": interval.low, f"{name}_high": interval.high}
    return found


def _plus(sums: Sequence[int], values: np.ndarray) -> list[int]:
    return [before + int(value) for before, value in zip(sums, values, strict=True)]


def _added(
    sums: Mapping[str, Sequence[float]], values: Mapping[str, np.ndarray], index: int
) -> dict[str, list[float]]:
    """Adds one more update's values to the sums of every agent."""
    added = {}
    for name, columns in values.items():
        now = columns[:, index].tolist()
        added[name] = [a + b for a, b in zip(sums.get(name, [0.0] * len(now)), now, strict=True)]
    return added
