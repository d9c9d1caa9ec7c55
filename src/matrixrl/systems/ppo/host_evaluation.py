"""Evaluation of an agent in an environment in worker processes: whole episodes, many in parallel,
and single ones to watch.

As in `systems.ppo.evaluation`, a lane plays one episode, batches have one size, and all randomness
derives from the seed, the number of the episode and the step.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax import Array

from matrixrl.config import require
from matrixrl.envs.adapters.gymnasium import GymnasiumEnvironment, WorkerPool, episode_seeds
from matrixrl.systems.compiled import jitted
from matrixrl.systems.ppo.evaluation import (
    DEFAULT_LIMIT,
    Agent,
    EpisodeResults,
    Evaluator,
    WatchedStep,
    choose_actions,
)
from matrixrl.systems.ppo.task import PPOTask
from matrixrl.tracking.status import activity

HOST_LANES = 16
"""Number of episodes in parallel, constant also for fewer."""

EVALUATION = 2**32 - 1
"""Stands for the number of an episode of training in the seeds of evaluation."""


class HostEvaluator:
    """Plays episodes of a task in worker processes.

    Args:
      task: its environment is one of Gymnasium.
      time_limit: maximum number of steps of an episode; None for the environment's own.
      num_workers: number of processes; None for one per core.
      draws: True to draw each step that is watched.
    """

    def __init__(
        self,
        task: PPOTask,
        time_limit: int | None = None,
        num_workers: int | None = None,
        draws: bool = False,
    ) -> None:
        require(time_limit is None or time_limit >= 1, f"time_limit {time_limit}: must be 1 or more")
        env = task.env
        assert isinstance(env, GymnasiumEnvironment)
        self.task = task
        self.lanes = HOST_LANES
        self.time_limit = time_limit or env.max_steps or DEFAULT_LIMIT
        self._env = env
        self._num_workers = num_workers
        self._draws = draws

    @jitted()
    def _choose(
        self,
        agent: Agent,
        observation: Any,
        legal: Array,
        seed: Array,
        numbers: Array,
        step: Array,
        greedy: Array,
    ) -> tuple[Array, Array]:
        """Returns the actions of a step, and the values that the network expects."""
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), numbers)
        keys = jax.vmap(jax.random.fold_in, (0, None))(keys, step)
        return choose_actions(self.task, agent, observation, legal, keys, greedy)

    def _start(self, pool: WorkerPool, seed: int, numbers: np.ndarray, active: np.ndarray) -> None:
        pool.arrays["active"][:] = active
        pool.arrays["seed"][:] = episode_seeds(seed, numbers, np.full(len(numbers), EVALUATION))
        pool.reset()

    def _decide(
        self, agent: Agent, pool: WorkerPool, seed: int, numbers: np.ndarray, step: int, greedy: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        arrays = pool.arrays
        return jax.device_get(
            self._choose(
                agent,
                arrays["observation"].copy(),
                arrays["mask"].copy(),
                np.uint32(seed),
                numbers.astype(np.int32),
                np.int32(step),
                np.bool_(greedy),
            )
        )

    def evaluate(
        self,
        agent: Agent,
        episodes: int,
        seed: int = 0,
        greedy: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> EpisodeResults:
        """Plays episodes 0 to N - 1 of a seed to their ends.

        Args:
          episodes: N, 1 or more.
          seed: 0 to 2**32 - 1.
          greedy: selects the most probable action instead of sampling one.
          progress: called at intervals with the number of episodes that have ended, and N.

        Raises:
          ConfigError: if a number is out of range, or an environment fails.
        """
        require(episodes >= 1, f"episodes {episodes}: must be 1 or more")
        began, compile_seconds = time.perf_counter(), 0.0
        values = {n: np.zeros(episodes, np.dtype(k)) for n, k in self.task.episode_values.items()}
        cut_off = np.zeros(episodes, bool)
        with self._env.start(self.lanes, self._num_workers) as pool:
            arrays = pool.arrays
            for first in range(0, episodes, self.lanes):
                numbers = np.arange(first, first + self.lanes)
                playing = numbers < episodes
                self._start(pool, seed, numbers, playing)
                total = np.zeros(self.lanes, np.float32)
                for step in range(1, self.time_limit + 1):
                    with (
                        activity("compiling the policy") if not compile_seconds else contextlib.nullcontext()
                    ):
                        arrays["action"][:] = self._decide(agent, pool, seed, numbers, step, greedy)[0]
                    compile_seconds = compile_seconds or time.perf_counter() - began
                    pool.step(again=False)
                    total[playing] += arrays["reward"][playing].astype(np.float32)
                    over = playing & (arrays["terminated"] | arrays["truncated"])
                    late = playing & ~over & (step == self.time_limit)
                    for row in np.flatnonzero(over | late):
                        values["return"][numbers[row]], values["steps"][numbers[row]] = total[row], step
                        for column, name in enumerate(self._env.description.scalars):
                            values[name][numbers[row]] = arrays["scalar"][row, column]
                        cut_off[numbers[row]] = late[row] or arrays["truncated"][row]
                    if (over | late).any():
                        playing &= ~(over | late)
                        arrays["active"][:] = playing
                        if progress is not None:
                            progress(min(first + self.lanes, episodes) - int(playing.sum()), episodes)
                    if not playing.any():
                        break
        seconds = time.perf_counter() - began
        return EpisodeResults(seed, greedy, self.time_limit, values, cut_off, seconds, compile_seconds)

    def watch(self, agent: Agent, episode: int, seed: int = 0, greedy: bool = False) -> Iterator[WatchedStep]:
        """Yields the steps of one episode: the one that `evaluate` plays under this number.

        The state of a step is a picture, or None.
        """
        first, lane = episode - episode % self.lanes, episode % self.lanes
        numbers = np.arange(first, first + self.lanes)
        total = np.float32(0)
        with self._env.start(self.lanes, self._num_workers, self._draws) as pool:
            arrays = pool.arrays
            self._start(pool, seed, numbers, numbers == episode)
            for step in range(1, self.time_limit + 1):
                picture = pool.draw(lane) if self._draws else None
                actions, expected = self._decide(agent, pool, seed, numbers, step, greedy)
                arrays["action"][:] = actions
                pool.step(again=False)
                reward = np.float32(arrays["reward"][lane])
                total += reward
                yield WatchedStep(picture, actions[lane], float(expected[lane]), float(reward), float(total))
                if arrays["terminated"][lane] or arrays["truncated"][lane]:
                    return


def make_evaluator(
    task: PPOTask, time_limit: int | None, num_workers: int | None = None, draws: bool = False
) -> Evaluator | HostEvaluator:
    """Returns what plays episodes of a task.

    Args:
      num_workers, draws: for environments in worker processes.
    """
    if isinstance(task.env, GymnasiumEnvironment):
        return HostEvaluator(task, time_limit, num_workers, draws)
    return Evaluator(task, time_limit)
