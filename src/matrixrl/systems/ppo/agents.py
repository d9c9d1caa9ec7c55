"""Many agents in one program: several seeds, and a grid of settings, under one `vmap`.

An agent has the keys of a single run with its seed, and the numbers of its settings as arguments of
the program. Up to the rounding of batched products it is the agent that this run would train.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Key, UInt32

from matrixrl.agents.ppo import TrainState
from matrixrl.config import require, with_value
from matrixrl.config.environment import EnvironmentRunConfig
from matrixrl.systems.ppo.program import Coefficients, PPOProgram, UpdateResults
from matrixrl.systems.ppo.task import PPOTask
from matrixrl.training.first_calls import FirstCalls

START_NUMBER = 2**32 - 1
"""Number from which the key of the start is derived; updates have smaller ones."""


@dataclass(frozen=True)
class AgentSettings:
    """One of the agents.

    Attributes:
      number: from 0.
      setting: number of its point of the grid, from 0.
      seed: of all its random numbers.
      values: what the grid changes, by dotted name.
    """

    number: int
    setting: int
    seed: int
    values: Mapping[str, Any]

    @property
    def label(self) -> str:
        """Seed and settings in words."""
        return ", ".join([f"seed {self.seed}", *([self.point] if self.values else [])])

    @property
    def point(self) -> str:
        """Settings in words."""
        return ", ".join(f"{name.rpartition('.')[2]} {value:g}" for name, value in self.values.items())


def agents_of(config: EnvironmentRunConfig) -> list[AgentSettings]:
    """Returns the agents of a run: for each point of the grid, every seed."""
    grid = config.grid
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    return [
        AgentSettings(index * config.num_seeds + offset, index, config.seed + offset, point)
        for index, point in enumerate(points)
        for offset in range(config.num_seeds)
    ]


def config_of(config: EnvironmentRunConfig, agent: AgentSettings) -> EnvironmentRunConfig:
    """Returns the settings of a run that trains one of the agents alone."""
    alone = dataclasses.replace(config, num_seeds=1, sweep=(), seed=agent.seed)
    for name, value in agent.values.items():
        alone = with_value(alone, name, value)
    return alone


class AgentsProgram:
    """Builds and holds the compiled programs of a run of many agents, on one device.

    Attributes:
      config: the run's settings.
      task: the environment, its network, and what is recorded of its episodes.
      agents: by number.
      first_calls: of the programs.

    Raises:
      ConfigError: if more than one device is requested.
    """

    def __init__(self, config: EnvironmentRunConfig, task: PPOTask) -> None:
        require(
            config.devices in (None, 1) and jax.process_count() == 1,
            f"--devices {config.devices}: many agents (--num-seeds, --sweep) train on one device; leave the flag out",
        )
        self.config = config
        self.task = task
        self.agents = agents_of(config)
        self.first_calls = FirstCalls()
        self._one = PPOProgram(dataclasses.replace(config, devices=1), task)
        self._alone = [config_of(config, agent) for agent in self.agents]

    def with_config(self, config: EnvironmentRunConfig) -> AgentsProgram:
        """Returns the programs for a config that differs in seeds and arguments of the program
        alone. What is compiled is shared.
        """
        for name in ("_compiled", "_init"):
            getattr(self, name)  # from here on the copy has it
        other = copy.copy(self)
        for name in ("coefficients", "keys"):
            other.__dict__.pop(name, None)
        other.config = config
        other.agents = agents_of(config)
        other._alone = [config_of(config, agent) for agent in other.agents]
        return other

    @property
    def count(self) -> int:
        """Number of agents."""
        return len(self.agents)

    @cached_property
    def coefficients(self) -> Coefficients:
        """Numbers of the agents that are passed to the compiled program, [K] each."""
        each = [PPOProgram.coefficients_of(config) for config in self._alone]
        return jax.tree.map(lambda *values: np.stack(values), *each)

    @cached_property
    def keys(self) -> Key[Array, "agents"] | UInt32[Array, "agents 2"]:
        """Keys of the agents, [K]."""
        seeds = np.asarray([agent.seed for agent in self.agents], np.uint32)
        return jax.vmap(jax.random.key)(seeds)

    @cached_property
    def template(self) -> TrainState:
        """Shapes and types of the state, for restoring it."""
        return jax.eval_shape(self._start, self.keys)

    def init(self) -> TrainState:
        """Returns the states of new agents, [K, ...]."""
        return self._init(self.keys)

    @cached_property
    def _init(self) -> Any:
        return jax.jit(self._start)

    def advance(self, state: TrainState, first: int, count: int) -> tuple[TrainState, UpdateResults]:
        """Performs `count` updates of every agent, the first of them number `first` from 0; the
        state is donated. Results have the agents first.
        """
        with self.first_calls.call("the training program"):
            return self._compiled(
                state,
                self.keys,
                jnp.int32(first),
                jnp.int32(count),
                jax.tree.map(jnp.asarray, self.coefficients),
            )

    def learning_rate(self, agent: int, number: int) -> float:
        """Returns the learning rate of an agent in update `number`, counted from 0."""
        first = float(self.coefficients.first["learning_rate"][agent])
        last = float(self.coefficients.last["learning_rate"][agent])
        return first + (last - first) * number / self.config.ppo.num_updates

    def _start(self, keys: Array) -> TrainState:
        # One agent after the other: orthogonal matrices of several agents at once, in more than one
        # layer, wait for each other for ever on a CPU with few cores (LAPACK's QR of a batch blocks
        # a thread of the pool that it needs).
        return jax.lax.map(lambda key: self._one.ppo.init(jax.random.fold_in(key, START_NUMBER)), keys)

    @cached_property
    def _compiled(self) -> Any:
        return jax.jit(jax.vmap(self._one.updates, in_axes=(0, 0, None, None, 0)), donate_argnums=0)
