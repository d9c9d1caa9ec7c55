"""The compiled programs of a run whose environments are outside of the device: the policy for one
step of all environments, and the update on a rollout that the host has collected.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float32, Int32, PRNGKeyArray, PyTree, Shaped

from matrixrl.agents.ppo import TrainState, Transition, UpdateMetrics, lane_keys
from matrixrl.config.environment import EnvironmentRunConfig
from matrixrl.envs.adapters.gymnasium import GymnasiumEnvironment
from matrixrl.systems.compiled import jitted
from matrixrl.systems.ppo.program import PPOProgram
from matrixrl.systems.ppo.task import PPOTask


class Decision(NamedTuple):
    """What the policy decides for a step of all environments, each array [B, ...]."""

    action: Array
    log_prob: Array
    value: Array


class HostProgram(PPOProgram):
    """Builds and holds the compiled programs of a config; everything is on one device.

    Args:
      task: its environment is one of Gymnasium.
    """

    def __init__(self, config: EnvironmentRunConfig, task: PPOTask) -> None:
        super().__init__(dataclasses.replace(config, devices=1), task)
        self.config = config
        env = task.env
        assert isinstance(env, GymnasiumEnvironment)
        self.environment = env

    def _batch(self, *axes: int) -> jax.ShapeDtypeStruct:
        """Returns shape and type of observations of all environments, with more axes before."""
        one = self.environment.observation_shapes
        return jax.ShapeDtypeStruct((*axes, self.ppo.num_envs, *one.shape), one.dtype)

    @property
    def mask_size(self) -> int:
        """Size of a mask of legal actions; 1 if actions are continuous."""
        return 1 if self.task.is_continuous else self.environment.num_actions

    @cached_property
    def template(self) -> TrainState:
        """Shapes and types of the state, for restoring it."""
        return jax.eval_shape(self.start, jax.random.key(0), self._batch())

    @jitted()
    def start(self, key: PRNGKeyArray, observation: PyTree[Shaped[Array, "B ..."]]) -> TrainState:
        """Returns the state of a new run, from the first observations [B, ...]."""
        return self.ppo.initial_state(key, observation, ())

    @jitted()
    def decide(
        self,
        params: PyTree,
        statistics: Any,
        observation: PyTree[Shaped[Array, "B ..."]],
        legal: Bool[Array, "B A"],
        key: PRNGKeyArray,
        numbers: Int32[Array, "2"],
    ) -> Decision:
        """Samples the actions of step `numbers[1]` of the rollout of update `numbers[0]`.

        Args:
          key: that of the run.
        """
        key_rollout, _ = jax.random.split(jax.random.fold_in(key, numbers[0]))
        keys = lane_keys(jax.random.fold_in(key_rollout, numbers[1]), jnp.arange(self.ppo.num_envs))
        outputs, value = self.ppo.apply_with(statistics)(params, observation)
        policy = self.task.distribution.condition(outputs, legal)
        action = self.task.distribution.sample(keys, policy)
        return Decision(action, self.task.distribution.log_prob(policy, action), value)

    @jitted()
    def value(
        self, params: PyTree, statistics: Any, observation: PyTree[Shaped[Array, "B ..."]]
    ) -> Float32[Array, "B"]:
        """Returns the values of observations [B, ...]."""
        return self.ppo.apply_with(statistics)(params, observation)[1]

    def learn(
        self,
        state: TrainState,
        steps: Transition,
        observation: PyTree[Shaped[Array, "B ..."]],
        key: PRNGKeyArray,
        number: int,
    ) -> tuple[TrainState, UpdateMetrics]:
        """Performs update `number` on its rollout; the state is donated.

        Args:
          observation: after the last step, [B, ...].
          key: that of the run.
        """
        with self.first_calls.call("the training program"):
            return self._learn(state, steps, observation, key, np.int32(number), self.coefficients)

    @jitted(donate_argnums=0)
    def _learn(
        self, state: TrainState, steps: Transition, observation: Any, key: Array, number: Array, numbers: Any
    ) -> tuple[TrainState, UpdateMetrics]:
        learner = self._learner(numbers, number)
        _, key_shuffle = jax.random.split(jax.random.fold_in(key, number))
        rollout = state.rollout._replace(observation=observation)
        return learner.learn(state._replace(rollout=rollout), steps, key_shuffle)

    def compile_ahead(self) -> None:
        """Compiles the update in another thread, in parallel to the first rollout."""
        shape = (self.ppo.num_steps, self.ppo.num_envs)
        number: Any = jax.ShapeDtypeStruct(shape, jnp.float32)
        flag: Any = jax.ShapeDtypeStruct(shape, jnp.bool_)
        legal: Any = jax.ShapeDtypeStruct((*shape, self.mask_size), jnp.bool_)
        action: Any = jax.ShapeDtypeStruct(shape, jnp.int32)
        if self.task.is_continuous:
            action = jax.ShapeDtypeStruct((*shape, self.environment.num_actions), jnp.float32)
        steps = Transition(
            observation=self._batch(shape[0]),
            legal=legal,
            action=action,
            log_prob=number,
            value=number,
            reward=number,
            terminated=flag,
            truncated=flag,
            final_value=number,
        )
        key, update = jax.eval_shape(lambda: jax.random.key(0)), jax.ShapeDtypeStruct((), jnp.int32)
        arguments = (self.template, steps, self._batch(), key, update, self.coefficients)
        program: Any = self._learn
        self.first_calls.compile_ahead({"the training program": lambda: program.lower(*arguments).compile()})
