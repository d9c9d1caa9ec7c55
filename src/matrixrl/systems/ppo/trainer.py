"""PPO as a trainer for the loop: determines the next updates and converts their results to events.

Each call performs as many updates as take about a second, so that a signal is handled soon; the
stream has one row for each chunk of updates. The split does not change any number: keys are derived
from the seed and the number of the update, and everything that a run continues from is in
`PPOState`.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from matrixrl.agents.ppo import TrainState, UpdateMetrics
from matrixrl.checkpoints import format as checkpoint_format
from matrixrl.checkpoints.format import Checkpoint, Snapshot
from matrixrl.config import ConfigError
from matrixrl.devices.coordinator import SINGLE, Coordinator
from matrixrl.systems.ppo.diagnostics import check
from matrixrl.systems.ppo.program import PPOProgram, UpdateResults
from matrixrl.systems.ppo.task import PPORunConfig
from matrixrl.tracking.events import EpisodeRow, Event, LogMessage, ScalarRow, TableSnapshot
from matrixrl.tracking.numbers import significant
from matrixrl.tracking.recorder import Recorder
from matrixrl.training.loop import TrainingDivergedError
from matrixrl.training.parameters import nonfinite_parameter, placed_like

CALL_SECONDS = 1.0
"""Target duration in seconds of one call on the device, if an update is not longer than that."""

LONG_CALL_SECONDS = 3 * CALL_SECONDS
"""Duration in seconds above which a call is recorded before the next one starts; it cannot be
shorter than an update.
"""

SLOW_CALLS = 2
"""Number of calls in a row that are longer than the grace time before the user is warned."""

MAX_TABLE_MARKS = 50
"""Approximate maximum number of uploads of the episode table to W&B in a run."""


@dataclass(frozen=True)
class PPOProgress:
    """Progress of a run as plain numbers, so that its checkpoint is readable.

    Attributes:
      updates: number of updates started.
      recorded: number of updates recorded.
      episodes: number of episodes that ended: the last global episode number assigned.
      chunk_updates: number of recorded updates of the current chunk.
      chunk_episodes: number of episodes that ended in it.
      metric_sums: by name, sums over its updates.
      episode_sums: by name, sums over its episodes.
      mean_return: of the episodes of the last finished chunk; None before the first.
      best_return: highest `mean_return` so far.
      maxima: by name, highest value of an episode so far, for the values that the task names.
      streaks: by metric, number of consecutive chunks for which it was out of its range
        (`diagnostics.check`).
    """

    updates: int = 0
    recorded: int = 0
    episodes: int = 0
    chunk_updates: int = 0
    chunk_episodes: int = 0
    metric_sums: Mapping[str, float] = field(default_factory=dict)
    episode_sums: Mapping[str, float] = field(default_factory=dict)
    mean_return: float | None = None
    best_return: float | None = None
    maxima: Mapping[str, float] = field(default_factory=dict)
    streaks: Mapping[str, int] = field(default_factory=dict)


def progress_from_record(record: Mapping[str, Any]) -> PPOProgress:
    """Returns the progress in a checkpoint; versions before 0.2 used other names for two of its
    fields.
    """
    fields = dict(record)
    if "ill_for" in fields:
        fields["streaks"] = fields.pop("ill_for")
    if "highest_stage" in fields:
        fields["maxima"] = {"highest_stage": fields.pop("highest_stage")}
    return PPOProgress(**fields)


class PPOState(NamedTuple):
    """Complete state of a run."""

    device: TrainState
    progress: PPOProgress


@dataclass(frozen=True)
class PPOChunk:
    """A call's results on the device, and its number of updates."""

    count: int
    updates: UpdateResults


class PacedTrainer:
    """What trainers of PPO share: the number of updates per call, from the time that calls take.

    Args:
      config: the run's settings.
    """

    def __init__(self, config: PPORunConfig) -> None:
        self.config = config
        self._updates_per_call = 1
        self._seconds_per_call = float("inf")  # unknown until the first call has been timed
        # Timers, not results: start of the current chunk and call, and number of the chunk's
        # updates that were timed (a process that resumed within it ran only the last ones).
        self._chunk_began: float | None = None
        self._timed_updates = 0
        self._call_began: float | None = None
        self.steps_per_second = 0.0

    def _start_timers(self) -> None:
        """Starts the timers at the first call, when tracing and compilation are done."""
        if self._chunk_began is None:
            self._chunk_began = self._call_began = time.perf_counter()

    def _pace(self, count: int) -> None:
        """Adjusts the number of updates per call to about `CALL_SECONDS`; the split changes no
        result.
        """
        now = time.perf_counter()
        if self._call_began is not None:
            self._seconds_per_call = now - self._call_began
            seconds = max(self._seconds_per_call / count, 1e-6)
            self._updates_per_call = max(1, min(self.config.chunk, int(CALL_SECONDS / seconds)))
        self._call_began = now


class PPOTrainer(PacedTrainer):
    """A system for `training.loop.run_loop`.

    Args:
      config: the run's settings.
      program: the compiled programs of the config, where several runs share them.
      coordinator: of the processes that train the run.
      start: returns the parameters that a new run starts with, on the host; None for random ones.
    """

    def __init__(
        self,
        config: PPORunConfig,
        program: PPOProgram,
        coordinator: Coordinator = SINGLE,
        start: Callable[[], Any] | None = None,
    ) -> None:
        super().__init__(config)
        self._coordinator = coordinator
        self._start = start
        self.program = program
        self.task = program.task
        self._key = jax.random.key(config.seed)
        self._slow_calls = 0

    def init(self) -> PPOState:
        """Returns the state of a new run."""
        self.program.compile_ahead()
        with self.program.first_calls.call("the start of the games"):
            device = self.program.init(jax.random.fold_in(self._key, 2**32 - 1))
        if self._start is not None:
            device = device._replace(params=placed_like(self.program.template.params, self._start()))
        return PPOState(device, PPOProgress())

    def snapshot(self, state: PPOState, step: int) -> Snapshot:
        """Copies the complete state of the run to the host.

        Raises:
          TrainingDivergedError: if a parameter is NaN or infinite.
        """
        arrays = checkpoint_format.flatten(state.device)
        if name := nonfinite_parameter(arrays):
            raise self._diverged(name, "not finite", step)
        return Snapshot(
            step, arrays, checkpoint_format.plain(state.progress), score=state.progress.mean_return
        )

    def resume(self, checkpoint: Checkpoint | None) -> PPOState:
        """Restores the state from a checkpoint; without one the run continues from its beginning.

        Raises:
          ConfigError: if the checkpoint belongs to other settings, or to another version of the
            game.
        """
        if checkpoint is None:
            return self.init()
        task = self.task
        played = checkpoint.record["config"].get("environment_version", task.version)
        if played != task.version:
            raise ConfigError(
                f"environment_version: {checkpoint.folder} was trained on version {played} of {task.name}, this matrixrl "
                f"plays version {task.version}; start a new run, or resume with the matrixrl that wrote it"
            )
        return PPOState(checkpoint.restore(self.program.template), progress_from_record(checkpoint.progress))

    def finished(self, state: PPOState) -> bool:
        """Returns true if all updates are done."""
        return state.progress.updates >= self.config.ppo.num_updates

    def needs_record(self, state: PPOState) -> bool:
        """Returns true if calls are so long that two at once would delay a signal; results do not
        depend on it.

        The host's work between two such calls is less than a hundredth of their duration.
        """
        return self._seconds_per_call > LONG_CALL_SECONDS

    def advance(self, state: PPOState) -> tuple[PPOState, PPOChunk]:
        """Starts the next updates, at most to the end of the chunk."""
        done, chunk = state.progress.updates, self.config.chunk
        left = min(chunk - done % chunk, self.config.ppo.num_updates - done)
        count = (
            left if self.config.monolithic else self._coordinator.broadcast(min(left, self._updates_per_call))
        )
        device, updates = self.program.advance(state.device, self._key, jnp.int32(done), jnp.int32(count))
        self._start_timers()
        progress = dataclasses.replace(state.progress, updates=done + count)
        return PPOState(device, progress), PPOChunk(count, updates)

    def record(self, state: PPOState, outcome: PPOChunk, run: Recorder) -> PPOState:
        """Fetches, stamps and commits the results of a call."""
        results = jax.device_get(outcome.updates)
        count, first = outcome.count, state.progress.recorded
        metrics = {name: values[:count] for name, values in results.metrics._asdict().items()}
        self._refuse_faults(results, metrics, count, first)
        self._pace(count)
        self._warn_if_slow(run)
        self._timed_updates += count
        ticks = run.clock.advance(count)
        for name, values in metrics.items():
            bad = np.flatnonzero(~np.isfinite(values))
            if bad.size:
                raise self._diverged(f"train/{name}", values[bad[0]], ticks[int(bad[0])].step)
        events: list[Event] = []
        progress = state.progress
        for index, tick in enumerate(ticks):
            rows = self._episodes(results, index, progress.episodes, tick)
            events += rows
            progress = dataclasses.replace(
                progress,
                recorded=first + index + 1,
                episodes=progress.episodes + len(rows),
                chunk_updates=progress.chunk_updates + 1,
                chunk_episodes=progress.chunk_episodes + int(self._counted(results, index).sum()),
                metric_sums=_added(progress.metric_sums, metrics, index),
                episode_sums=_added(progress.episode_sums, results.sums, index),
                maxima=self._raised(progress.maxima, results, index),
            )
        total = self.config.ppo.num_updates
        if progress.recorded % self.config.chunk == 0 or progress.recorded == total:
            row, progress = self._chunk_row(progress, run)
            events.append(ScalarRow(ticks[-1], row))
            counts, warnings = check(
                progress.streaks,
                row,
                is_continuous=self.task.is_continuous,
                diagnostics=self.program.diagnostics,
            )
            progress = dataclasses.replace(progress, streaks=counts)
            events += [LogMessage(ticks[-1], text, "warning") for text in warnings]
            between = max(1, total // self.config.chunk // MAX_TABLE_MARKS)
            if progress.recorded == total or progress.recorded // self.config.chunk % between == 0:
                events.append(TableSnapshot(ticks[-1]))
        run.record(events)
        size = self.config.ppo.batch_size
        run.progress("training", progress.recorded * size, total * size, "steps", _best(progress))
        return state._replace(progress=progress)

    def _refuse_faults(
        self, results: UpdateResults, metrics: Mapping[str, np.ndarray], count: int, first: int
    ) -> None:
        """Refuses an environment that broke its rules, unless training had diverged before: actions
        that are NaN have such rewards.

        Raises:
          ConfigError: at the first fault. The clock stands still, so that a new run leaves nothing.
        """
        faults = results.faults if isinstance(results.faults, Mapping) else {}
        diverged = np.zeros(count, bool)
        for values in metrics.values():
            diverged |= ~np.isfinite(values)
        for index in range(count):
            for name, numbers in faults.items():
                if numbers[index] and self.task.describe_fault is not None:
                    number = int(numbers[index])
                    raise ConfigError(
                        f"{self.task.describe_fault(name, number)} in update {first + index + 1}"
                    )
            if diverged[index]:
                return

    def _warn_if_slow(self, run: Recorder) -> None:
        """Warns once that a stop cannot be handled in time if updates are longer than the grace
        period.

        Two in a row must be: one may have been delayed externally, by a SIGSTOP or a suspended
        machine.
        """
        grace = self.config.checkpoint.grace_seconds
        if self._slow_calls == SLOW_CALLS:
            return
        is_slow = self._updates_per_call == 1 and grace < self._seconds_per_call < float("inf")
        self._slow_calls = self._slow_calls + 1 if is_slow else 0
        if self._slow_calls == SLOW_CALLS:
            run.warn(
                f"an update takes {self._seconds_per_call:.0f} s here, longer than the {grace:g} s that a run has to stop in: "
                f"when it is asked to stop it goes back to its last checkpoint; raise --grace-seconds, or make the batch smaller"
            )

    def _episodes(self, results: UpdateResults, index: int, before: int, tick: Any) -> list[EpisodeRow]:
        """Returns rows of the episodes that ended in an update, in order of step and
        environment.
        """
        ended = np.nonzero(results.ended[index])
        values = {name: values[index][ended].tolist() for name, values in results.table.items()}
        columns = {
            name: [column.convert(value) for value in values[column.value]]
            for name, column in self.task.columns.items()
        }
        return [
            EpisodeRow(
                tick,
                {
                    "Global Episode": before + number,
                    "Update": tick.step,
                    **{name: column[number - 1] for name, column in columns.items()},
                },
            )
            for number in range(1, len(ended[0]) + 1)
        ]

    def _raised(self, maxima: Mapping[str, float], results: UpdateResults, index: int) -> dict[str, float]:
        """Returns the maxima over all episodes, with those that ended in an update."""
        counted = self._counted(results, index)
        return {
            name: max([maxima.get(name, 0), *results.table[name][index][counted].tolist()])
            for name in self.task.maxima
        }

    def _counted(self, results: UpdateResults, index: int) -> np.ndarray:
        """Returns the steps of an update that ended an episode which counts, bool [T, B]."""
        ended = np.asarray(results.ended[index])
        if self.task.counted is None:
            return ended
        return ended & (np.asarray(results.table[self.task.counted][index]) > 0)

    def _chunk_row(self, progress: PPOProgress, run: Recorder) -> tuple[dict[str, float | int], PPOProgress]:
        """Returns the stream's row of a finished chunk, and the progress with its sums cleared."""
        now = time.perf_counter()
        began = now if self._chunk_began is None else self._chunk_began
        timed, self._chunk_began, self._timed_updates = self._timed_updates, now, 0
        self.steps_per_second = timed * self.config.ppo.batch_size / max(now - began, 1e-9)
        updates, episodes = progress.chunk_updates, progress.chunk_episodes
        row: dict[str, float | int] = {
            f"train/{name}": value / updates for name, value in progress.metric_sums.items()
        }
        row |= {
            "train/steps_per_second": self.steps_per_second,
            "train/update_step": progress.recorded,
            "train/learning_rate": self.program.learning_rate(progress.recorded - 1),
            "train/logging_overhead_pct": run.logging_overhead_pct,
            "episode/count": episodes,
        }
        if episodes:
            row |= {f"episode/{name}": value / episodes for name, value in progress.episode_sums.items()}
            row["train/mean_episode_length"] = row["episode/steps"]
        mean_return = progress.mean_return
        if episodes:
            mean_return = float(row["episode/return"])
        known = [value for value in (progress.best_return, mean_return) if value is not None]
        return row, dataclasses.replace(
            progress,
            chunk_updates=0,
            chunk_episodes=0,
            metric_sums={},
            episode_sums={},
            mean_return=mean_return,
            best_return=max(known, default=None),
        )

    def _diverged(self, name: str, value: Any, step: int) -> TrainingDivergedError:
        settings = self.config.ppo
        return TrainingDivergedError(
            f"{name} is {value} at step {step}: training diverged; lower --learning-rate (now "
            f"{settings.learning_rate}) or --max-grad-norm (now {settings.max_grad_norm})"
        )


def _best(progress: PPOProgress) -> str:
    """Returns the best mean return of a chunk so far, in words; empty before the first."""
    return "" if progress.best_return is None else f"best return {significant(progress.best_return)}"


def _added(sums: Mapping[str, float], values: Mapping[str, np.ndarray], index: int) -> dict[str, float]:
    """Adds one more update's values to sums."""
    return {name: sums.get(name, 0.0) + float(column[index]) for name, column in values.items()}


__all__ = ["PPOChunk", "PPOProgress", "PPOState", "PPOTrainer", "UpdateMetrics"]
