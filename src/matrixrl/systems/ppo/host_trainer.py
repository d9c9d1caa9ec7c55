"""PPO on environments in worker processes, as a trainer for the loop.

The host runs the environments and asks the compiled policy for the actions of all of them at once;
the update is the learner's own. What distinguishes it from `PPOTrainer` is the state of the
environments, which is in other processes. A checkpoint holds what gets the running episodes back:
the states that an environment offers, or the seeds and actions from which they are replayed.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from matrixrl.agents.ppo import TrainState, Transition, UpdateMetrics
from matrixrl.checkpoints import format as checkpoint_format
from matrixrl.checkpoints.format import Checkpoint, Snapshot
from matrixrl.config.environment import EnvironmentRunConfig
from matrixrl.envs.adapters.gymnasium import WorkerFailedError, WorkerPool, episode_seeds
from matrixrl.systems.ppo.host_program import HostProgram
from matrixrl.systems.ppo.program import UpdateResults
from matrixrl.systems.ppo.trainer import PPOChunk, PPOProgress, PPOTrainer
from matrixrl.tracking.recorder import Recorder
from matrixrl.training.loop import ChunkFailedError

STATES_FILE = "environments.json"
"""File of a checkpoint with the states that the environments offer."""


@dataclass(frozen=True)
class HostEpisodes:
    """Running episodes of all environments, between two updates. Arrays are never changed.

    Attributes:
      episode: int32 [B], number of the running episode of each environment.
      total: float32 [B], sum of its rewards so far.
      steps: int32 [B], number of its steps so far.
      mask: bool [B, A], legal actions.
      actions: for each environment the actions of the running episode; empty unless they are
        replayed.
      states: for each environment its state as JSON values; empty unless it offers that.
    """

    episode: np.ndarray
    total: np.ndarray
    steps: np.ndarray
    mask: np.ndarray
    actions: tuple[np.ndarray, ...] = ()
    states: tuple[Any, ...] = ()


class HostState(NamedTuple):
    """Complete state of a run."""

    device: TrainState
    progress: PPOProgress
    episodes: HostEpisodes


@dataclass(frozen=True)
class HostChunk:
    """Results of a few updates: metrics on the device, and episodes on the host."""

    metrics: list[UpdateMetrics]
    ended: list[np.ndarray]
    values: list[dict[str, np.ndarray]]


class HostTrainer(PPOTrainer):
    """A system for `training.loop.run_loop`, on environments of Gymnasium.

    Args:
      config: the run's settings.
      program: the compiled programs of the config.
      warn: shows a warning.
    """

    def __init__(
        self,
        config: EnvironmentRunConfig,
        program: HostProgram,
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        super().__init__(config, program)
        self._host = program
        self._env = program.environment
        self._warn = warn
        self._num_workers = config.num_workers
        self._workers: WorkerPool | None = None
        self._failure: WorkerFailedError | None = None
        self._rows = np.arange(config.ppo.num_envs)
        if self._env.exact is None:
            warn(
                f"--env {self._env.name}: it offers no state, and replayed actions lead elsewhere: a resumed run starts "
                "new episodes"
            )

    @property
    def pool(self) -> WorkerPool:
        """The workers, started when they are first needed."""
        if self._workers is None:
            self._workers = self._env.start(self.config.ppo.num_envs, self._num_workers)
        return self._workers

    def close(self) -> None:
        """Ends the workers."""
        if self._workers is not None:
            self._workers.close()

    # Start and resume -----------------------------------------------------------------------------

    def init(self) -> HostState:
        """Returns the state of a new run.

        Raises:
          ConfigError: if an environment raises, or breaks the interface.
        """
        count = self.config.ppo.num_envs
        episodes = HostEpisodes(
            np.zeros(count, np.int32),
            np.zeros(count, np.float32),
            np.zeros(count, np.int32),
            np.ones((count, self._host.mask_size), bool),
        )
        episodes = self._begin(episodes)
        self.program.compile_ahead()
        with self.program.first_calls.call("the start of the games"):
            key = jax.random.fold_in(self._key, 2**32 - 1)
            device = self._host.start(key, self.pool.arrays["observation"].copy())
        return HostState(device, PPOProgress(), episodes)

    def _begin(self, episodes: HostEpisodes) -> HostEpisodes:
        """Starts the episodes of the given numbers."""
        pool, arrays = self.pool, self.pool.arrays
        arrays["active"][:] = True
        arrays["seed"][:] = episode_seeds(self.config.seed, self._rows, episodes.episode)
        pool.reset()
        self._prepare_next(episodes.episode)
        episodes = dataclasses.replace(
            episodes,
            total=np.zeros_like(episodes.total),
            steps=np.zeros_like(episodes.steps),
            mask=arrays["mask"].copy(),
        )
        if self._env.exact == "replay":
            episodes = dataclasses.replace(episodes, actions=(self._no_actions(),) * len(self._rows))
        return self._with_states(episodes)

    def _prepare_next(self, episode: np.ndarray) -> None:
        """Gives the workers the seeds of the episodes that follow."""
        self.pool.arrays["seed"][:] = episode_seeds(self.config.seed, self._rows, episode + 1)

    def _no_actions(self) -> np.ndarray:
        return np.zeros((0, *self.pool.arrays["action"].shape[1:]), self.pool.arrays["action"].dtype)

    def _with_states(self, episodes: HostEpisodes) -> HostEpisodes:
        """Returns the episodes with the present states, where the environments offer them."""
        if self._env.exact != "state":
            return episodes
        return dataclasses.replace(episodes, states=tuple(self.pool.capture()))

    def snapshot(self, state: HostState, step: int) -> Snapshot:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Copies the complete state of the run to the host.

        Raises:
          TrainingDivergedError: if a parameter is NaN or infinite.
        """
        snapshot = super().snapshot(state, step)  # pyright: ignore[reportArgumentType]
        episodes = state.episodes
        host = {name: getattr(episodes, name) for name in ("episode", "total", "steps", "mask")}
        if episodes.actions:
            host["actions"] = np.concatenate(episodes.actions)
        files = {STATES_FILE: json.dumps(list(episodes.states))} if episodes.states else {}
        arrays = {**snapshot.arrays, **checkpoint_format.flatten({"host": host})}
        return dataclasses.replace(snapshot, arrays=arrays, files=files)

    def resume(self, checkpoint: Checkpoint | None) -> HostState:
        """Restores the state from a checkpoint; without one the run continues from its beginning.

        Raises:
          ConfigError: if the checkpoint belongs to other settings, or an environment fails.
        """
        if checkpoint is None:
            return self.init()
        restored = super().resume(checkpoint)
        table: Mapping[str, Any] = checkpoint.record["arrays"]
        names = [name.partition("/")[2] for name in table if name.startswith("host/")]
        wanted = {
            name: jax.ShapeDtypeStruct(tuple(table[f"host/{name}"][1]), np.dtype(table[f"host/{name}"][0]))
            for name in names
        }
        host = jax.device_get(checkpoint.restore({"host": wanted}))["host"]
        host = {name: np.array(array) for name, array in host.items()}
        episodes = HostEpisodes(host["episode"], host["total"], host["steps"], host["mask"])
        if "actions" in host:
            cuts = np.cumsum(episodes.steps)[:-1]
            episodes = dataclasses.replace(episodes, actions=tuple(np.split(host["actions"], cuts)))
        text = checkpoint.text(STATES_FILE)
        states = () if text is None else tuple(json.loads(text))
        observation = np.asarray(restored.device.rollout.observation)
        if self._continue(episodes, states, observation):
            episodes = dataclasses.replace(episodes, states=states)
            return HostState(restored.device, restored.progress, episodes)
        # Each environment starts its next episode.
        episodes = self._begin(dataclasses.replace(episodes, episode=episodes.episode + 1, actions=()))
        rollout = restored.device.rollout
        rollout = rollout._replace(
            observation=jnp.asarray(self.pool.arrays["observation"].copy()),
            discounted=jax.tree.map(jnp.zeros_like, rollout.discounted),
        )
        return HostState(restored.device._replace(rollout=rollout), restored.progress, episodes)

    def _continue(self, episodes: HostEpisodes, states: tuple[Any, ...], observation: np.ndarray) -> bool:
        """Brings the workers to the running episodes of a checkpoint.

        Args:
          states: that the environments offered; empty if they are replayed.
          observation: with which the episodes continue, [B, ...].

        Returns:
          False if that is not possible.
        """
        pool, arrays = self.pool, self.pool.arrays
        if states:
            pool.put_back(states)
        elif episodes.actions:
            arrays["seed"][:] = episode_seeds(self.config.seed, self._rows, episodes.episode)
            failure: WorkerFailedError | None = None
            for row, actions in enumerate(episodes.actions):
                try:
                    pool.replay(row, actions)
                except WorkerFailedError as error:
                    failure = error
                    break
            if failure is not None or not np.array_equal(arrays["observation"], observation):
                self._warn(
                    f"--env {self._env.name}: its episodes can no longer be replayed"
                    f"{'' if failure is None else f' ({failure})'}: the run continues with new episodes, and differs from "
                    "one that was not stopped"
                )
                return False
        else:
            self._warn(f"--env {self._env.name}: the run continues with new episodes")
            return False
        arrays["observation"][:] = observation
        arrays["mask"][:] = episodes.mask
        self._prepare_next(episodes.episode)
        return True

    # Updates --------------------------------------------------------------------------------------

    def advance(self, state: HostState) -> tuple[HostState, Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Performs the next updates, at most to the end of the chunk.

        Raises:
          ChunkFailedError: if a worker fails in the first of them. If it fails later, the updates
            before are returned, and the next call raises.
        """
        if self._failure is not None:
            raise ChunkFailedError(str(self._failure)) from self._failure
        done, chunk = state.progress.updates, self.config.chunk
        count = min(chunk - done % chunk, self.config.ppo.num_updates - done, self._updates_per_call)
        device, episodes, results = state.device, state.episodes, HostChunk([], [], [])
        for number in range(done, done + count):
            try:
                after, steps, ended, values = self._rollout(device, episodes, number)
            except WorkerFailedError as error:
                if not results.metrics:
                    raise ChunkFailedError(str(error)) from error
                self._failure, count = error, len(results.metrics)
                break
            observation = self.pool.arrays["observation"].copy()
            device, metrics = self._host.learn(device, steps, observation, self._key, number)
            episodes = after
            results.metrics.append(metrics)
            results.ended.append(ended)
            results.values.append(values)
            self._start_timers()
        progress = dataclasses.replace(state.progress, updates=done + count)
        return HostState(device, progress, episodes), results

    def _rollout(
        self, device: TrainState, episodes: HostEpisodes, number: int
    ) -> tuple[HostEpisodes, Transition, np.ndarray, dict[str, np.ndarray]]:
        """Runs the environments for the steps of an update.

        Returns:
          The running episodes after it, its steps, and which of them ended an episode with which
          values.
        """
        arrays, settings = self.pool.arrays, self.config.ppo
        shape = (settings.num_steps, settings.num_envs)
        table = {name: np.zeros(shape, np.dtype(kind)) for name, kind in self.task.episode_values.items()}
        steps = Transition(
            observation=np.empty((shape[0], *arrays["observation"].shape), arrays["observation"].dtype),
            legal=np.empty((shape[0], *arrays["mask"].shape), bool),  # pyright: ignore[reportArgumentType]
            action=np.empty((shape[0], *arrays["action"].shape), arrays["action"].dtype),  # pyright: ignore[reportArgumentType]
            **{name: np.zeros(shape, np.float32) for name in ("log_prob", "value", "reward", "final_value")},  # pyright: ignore[reportArgumentType]
            **{name: np.zeros(shape, bool) for name in ("terminated", "truncated")},  # pyright: ignore[reportArgumentType]
        )
        fill: Any = steps
        episode, total, lengths = (
            array.copy() for array in (episodes.episode, episodes.total, episodes.steps)
        )
        params, statistics = device.params, device.statistics
        for index in range(shape[0]):
            fill.observation[index], fill.legal[index] = arrays["observation"], arrays["mask"]
            numbers = np.array([number, index], np.int32)
            shown = fill.observation[index], fill.legal[index]
            with self.program.first_calls.call("the policy"):
                decision = jax.device_get(self._host.decide(params, statistics, *shown, self._key, numbers))
            fill.action[index], fill.log_prob[index], fill.value[index] = decision
            arrays["action"][:] = decision.action
            self.pool.step()
            terminated, truncated = arrays["terminated"], arrays["truncated"]
            fill.reward[index] = arrays["reward"]
            fill.terminated[index], fill.truncated[index] = terminated, truncated
            total += fill.reward[index]
            lengths += 1
            for name, values in (("return", total), ("steps", lengths)):
                table[name][index] = values
            for column, name in enumerate(self._env.description.scalars):
                table[name][index] = arrays["scalar"][:, column]
            if truncated.any():
                final = self._host.value(params, statistics, arrays["final"].copy())
                fill.final_value[index] = np.where(truncated, np.asarray(final), 0)
            if (ended := np.flatnonzero(terminated | truncated)).size:
                episode[ended] += 1
                total[ended], lengths[ended] = 0, 0
                arrays["seed"][ended] = episode_seeds(self.config.seed, ended, episode[ended] + 1)
        ended = fill.terminated | fill.truncated
        after = HostEpisodes(episode, total, lengths, arrays["mask"].copy())
        if episodes.actions:
            after = dataclasses.replace(after, actions=_running(episodes.actions, fill.action, ended))
        return self._with_states(after), steps, ended, table

    def record(self, state: HostState, outcome: Any, run: Recorder) -> HostState:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Fetches, stamps and commits the results of a call."""
        metrics = jax.device_get(outcome.metrics)
        ended = np.stack(outcome.ended)
        values = {name: np.stack([one[name] for one in outcome.values]) for name in outcome.values[0]}
        results = UpdateResults(
            metrics=UpdateMetrics(*(np.stack(column) for column in zip(*metrics, strict=True))),  # pyright: ignore[reportArgumentType]
            ended=ended,  # pyright: ignore[reportArgumentType]
            table={name: values[name] for name in self.task.table_values},  # pyright: ignore[reportArgumentType]
            sums={name: np.where(ended, column, 0).sum((1, 2)) for name, column in values.items()},  # pyright: ignore[reportArgumentType]
        )
        return super().record(state, PPOChunk(len(metrics), results), run)  # pyright: ignore[reportArgumentType, reportReturnType]


def _running(before: tuple[np.ndarray, ...], action: np.ndarray, ended: np.ndarray) -> tuple[np.ndarray, ...]:
    """Returns the actions of the running episode of each environment after a rollout.

    Args:
      action: of the rollout, [T, B, ...].
      ended: bool [T, B], steps that ended an episode.
    """
    running = []
    for row, earlier in enumerate(before):
        ends = np.flatnonzero(ended[:, row])
        own = action[:, row] if not ends.size else action[ends[-1] + 1 :, row]
        running.append(np.concatenate([earlier, own]) if not ends.size else own.copy())
    return tuple(running)


__all__ = ["HostEpisodes", "HostState", "HostTrainer"]
