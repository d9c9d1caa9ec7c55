"""Evaluation of an agent in any environment: complete episodes, many in parallel, and single ones
to watch.

A lane plays one episode. Every episode that is started counts and is played to its end, so that
short ones have no more weight than long ones. All randomness derives from the seed, the number of
the episode and the step, and episodes are always played in batches of one size: episode 7 of a seed
is the same for any number of episodes.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int32, Key, PyTree, Shaped

from matrixrl.agents.normalization import Statistics, normalized_observation
from matrixrl.agents.ppo import strongly_typed
from matrixrl.config import ConfigError, require
from matrixrl.envs.base import vectorized
from matrixrl.systems.ppo.intervals import Interval, mean_interval, wilson_interval
from matrixrl.systems.ppo.task import PPOTask
from matrixrl.tracking.status import activity

LANES = 64
"""Number of episodes in parallel, constant also for fewer: one compiled program, and identical
results, for any number.
"""

STEPS_PER_CALL = 64
"""Number of steps between two checks by the host for unfinished episodes."""

DEFAULT_LIMIT = 10_000
"""Maximum number of steps of an episode of an environment that names none."""


class Agent(NamedTuple):
    """What acts: the parameters of a network, and the statistics that normalise observations."""

    params: Any
    statistics: Statistics


@dataclass(frozen=True)
class EpisodeResults:
    """Finished episodes, in order of their numbers; arrays are [N].

    Attributes:
      seed: of all chance.
      greedy: true if the most probable action was played; false if actions were sampled.
      time_limit: steps after which an episode was cut off.
      values: by name: `return`, `steps`, and the scalars of the environment's ``info``.
      cut_off: true where the episode was not over.
      seconds: of play, with compilation.
      compile_seconds: of tracing and compilation, or of reading the programs from the cache.

    Raises:
      ConfigError: if a return is NaN or infinite, so that no mean of it says anything.
    """

    seed: int
    greedy: bool
    time_limit: int
    values: dict[str, np.ndarray]
    cut_off: Bool[np.ndarray, "N"]
    seconds: float
    compile_seconds: float = 0.0

    def __post_init__(self) -> None:
        bad = np.flatnonzero(~np.isfinite(self.values["return"]))
        if bad.size:
            raise ConfigError(
                f"the return of episode {bad[0]} of seed {self.seed} is {self.values['return'][bad[0]]}, and that of "
                f"{bad.size:,} of {self.count:,} episodes is not finite; the environment has to give finite rewards"
            )

    @property
    def count(self) -> int:
        """Number of episodes."""
        return self.cut_off.size

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """Means with 95 % confidence intervals, of truth values as fractions."""
        return {
            name: wilson_interval(int(values.sum()), values.size)
            if values.dtype == np.bool_
            else mean_interval(values.astype(np.float64))
            for name, values in self.values.items()
        }

    def as_record(self) -> dict[str, Any]:
        """Returns the results as JSON values."""
        returns = self.values["return"]
        return {
            **{name: interval.as_record() for name, interval in self.intervals.items()},
            "best_return": float(returns.max()),
            "best_episode": int(returns.argmax()),
            "episodes": self.count,
            "cut_off": int(self.cut_off.sum()),
            "seconds": round(self.seconds, 3),
        }


class Lanes(NamedTuple):
    """Episodes in progress.

    Attributes:
      states: of the environment, [W, ...].
      observations: [W, ...].
      playing: true until the lane's own episode ends.
      values: by name [W], those of the last step of the lane's episode.
      steps: int32, number of steps of all lanes.
    """

    states: Any
    observations: Any
    playing: Bool[Array, "W"]
    values: dict[str, Array]
    cut_off: Bool[Array, "W"]
    steps: Int32[Array, ""]


class WatchedStep(NamedTuple):
    """A step that is watched.

    Attributes:
      state: of the environment before the step.
      action: as the policy chose it.
      value: that the network expected.
      reward: that came.
      total: sum of rewards after it.
    """

    state: Any
    action: np.ndarray
    value: float
    reward: float
    total: float


class Evaluator:
    """The compiled programs that play episodes of a task.

    Args:
      task: the environment and the network.
      time_limit: maximum number of steps of an episode; None for the environment's own.
      lanes: number of episodes in parallel. Batches of another size may round differently, and so
        lead to other episodes.
    """

    def __init__(self, task: PPOTask, time_limit: int | None = None, lanes: int = LANES) -> None:
        require(time_limit is None or time_limit >= 1, f"time_limit {time_limit}: must be 1 or more")
        require(lanes >= 1, f"lanes {lanes}: must be 1 or more")
        self.task = task
        self.lanes = lanes
        own = getattr(task.env, "max_steps", None)
        self.time_limit = time_limit or own or DEFAULT_LIMIT
        self._params = task.env_params(time_limit or 0)
        self._env = vectorized(task.env)

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
          ConfigError: if a number is out of range.
        """
        require(episodes >= 1, f"episodes {episodes}: must be 1 or more")
        began, compile_seconds = time.perf_counter(), 0.0
        batches: list[tuple[dict[str, np.ndarray], np.ndarray]] = []
        for first in range(0, episodes, self.lanes):
            numbers = jnp.arange(first, first + self.lanes, dtype=jnp.int32)
            is_first = not batches
            with activity("compiling the episodes") if is_first else contextlib.nullcontext():
                keys, lanes = self._start(jax.random.key(seed), numbers, jnp.int32(episodes))
                lanes = self._play(agent, lanes, keys, jnp.bool_(greedy), jnp.int32(STEPS_PER_CALL))
            if is_first:
                compile_seconds = time.perf_counter() - began
            while True:
                playing = int(np.asarray(lanes.playing).sum())
                if progress is not None:
                    progress(min(first + self.lanes, episodes) - playing, episodes)
                if not playing:
                    break
                lanes = self._play(agent, lanes, keys, jnp.bool_(greedy), jnp.int32(STEPS_PER_CALL))
            batches.append(jax.device_get((lanes.values, lanes.cut_off)))
        values = {
            name: np.concatenate([batch[name] for batch, _ in batches])[:episodes] for name in batches[0][0]
        }
        cut_off = np.concatenate([cut for _, cut in batches])[:episodes]
        seconds = time.perf_counter() - began
        return EpisodeResults(seed, greedy, self.time_limit, values, cut_off, seconds, compile_seconds)

    def watch(self, agent: Agent, episode: int, seed: int = 0, greedy: bool = False) -> Iterator[WatchedStep]:
        """Yields the steps of one episode: the one that `evaluate` plays under this number."""
        first, lane = episode - episode % self.lanes, episode % self.lanes
        numbers = jnp.arange(first, first + self.lanes, dtype=jnp.int32)
        keys, lanes = self._start(jax.random.key(seed), numbers, jnp.int32(episode + 1))
        total = 0.0
        while bool(lanes.playing[lane]):
            state = jax.tree.map(lambda leaf: leaf[lane], lanes.states)
            action, value = self._chosen(agent, lanes, keys, jnp.bool_(greedy))
            lanes = self._play(agent, lanes, keys, jnp.bool_(greedy), jnp.int32(1))
            after = float(lanes.values["return"][lane])
            yield WatchedStep(state, np.asarray(action[lane]), float(value[lane]), after - total, after)
            total = after

    # Compiled -------------------------------------------------------------------------------------

    @cached_property
    def _start(self) -> Callable[..., tuple[Array, Lanes]]:
        @jax.jit
        def start(seed_key: Array, numbers: Array, episodes: Array) -> tuple[Array, Lanes]:
            keys = jax.vmap(jax.random.fold_in, (None, 0))(seed_key, numbers)
            observations, states = self._env.reset_batch(
                jax.vmap(jax.random.fold_in, (0, None))(keys, 0), self._params
            )
            shapes = self.task.episode_values
            values = {name: jnp.zeros(self.lanes, dtype) for name, dtype in shapes.items()}
            none = jnp.zeros(self.lanes, jnp.bool_)
            lanes = Lanes(states, observations, numbers < episodes, values, none, jnp.int32(0))
            return keys, strongly_typed(lanes)

        return start

    @cached_property
    def _chosen(self) -> Callable[..., tuple[Array, Array]]:
        return jax.jit(self._choose)

    def _choose(self, agent: Agent, lanes: Lanes, keys: Array, greedy: Array) -> tuple[Array, Array]:
        """Returns the actions of the next step, and the values that the network expects."""
        legal = self._env.legal_action_mask_batch(lanes.states)
        drawn = _step_keys(keys, lanes.steps, 0)
        return choose_actions(self.task, agent, lanes.observations, legal, drawn, greedy)

    @cached_property
    def _play(self) -> Callable[..., Lanes]:
        @jax.jit
        def play(agent: Agent, lanes: Lanes, keys: Array, greedy: Array, most: Array) -> Lanes:
            def going(carry: tuple[Lanes, Array]) -> Array:
                lanes, done = carry
                return lanes.playing.any() & (done < most)

            def step(carry: tuple[Lanes, Array]) -> tuple[Lanes, Array]:
                lanes, done = carry
                actions, _ = self._choose(agent, lanes, keys, greedy)
                observations, states, _, terminated, truncated, info = self._env.step_batch(
                    _step_keys(keys, lanes.steps, 1), lanes.states, actions, self._params
                )
                steps = lanes.steps + 1
                over = lanes.playing & (terminated | truncated)
                late = lanes.playing & ~over & (steps >= self.time_limit)
                values = {
                    name: jnp.where(lanes.playing, info["episode"][name].astype(before.dtype), before)
                    for name, before in lanes.values.items()
                }
                cut_off = lanes.cut_off | (over & truncated) | late
                after = Lanes(states, observations, lanes.playing & ~over & ~late, values, cut_off, steps)
                return after, done + 1

            return jax.lax.while_loop(going, step, (lanes, jnp.int32(0)))[0]

        return play


def network_outputs(
    task: PPOTask, agent: Agent, observation: PyTree[Shaped[Array, "B ..."]]
) -> tuple[PyTree, Float[Array, "B"]]:
    """Returns policy outputs and values of observations as the environment returns them."""
    shown = normalized_observation(agent.statistics.observation, observation)
    return task.network.apply(agent.params, shown)


def choose_actions(
    task: PPOTask,
    agent: Agent,
    observation: PyTree[Shaped[Array, "B ..."]],
    legal: Bool[Array, "B A"],
    keys: Key[Array, "B"],
    greedy: Bool[Array, ""],
) -> tuple[Shaped[Array, "B ..."], Float[Array, "B"]]:
    """Returns the actions of a step, the most probable ones or samples, and the values that the
    network expects.
    """
    outputs, values = network_outputs(task, agent, observation)
    policy = task.distribution.condition(outputs, legal)
    sampled = task.distribution.sample(keys, policy)
    return jnp.where(greedy, task.distribution.mode(policy), sampled), values


def _step_keys(keys: Array, steps: Array, use: int) -> Array:
    """Derives a key of each lane for the next step: use 0 chooses the action, 1 is the chance of
    the environment.
    """
    at = jax.vmap(jax.random.fold_in, (0, None))(keys, steps + 1)
    return jax.vmap(jax.random.fold_in, (0, None))(at, use)
