"""The compiled programs of a PPO run: the start, and some updates in one call."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Bool, Integer, PRNGKeyArray

from matrixrl.agents.ppo import FAULTS, PPO, Exploration, TrainState, UpdateMetrics, num_groups
from matrixrl.config import PPOConfig, program_arguments, require
from matrixrl.devices.groups import replicate, with_sharding
from matrixrl.devices.mesh import DATA, data_mesh, max_groups
from matrixrl.systems.ppo.diagnostics import DIAGNOSTICS, Diagnostic
from matrixrl.systems.ppo.task import PPORunConfig, PPOTask, faded
from matrixrl.training.first_calls import FirstCalls


class UpdateResults(NamedTuple):
    """Results of several updates; K is the size of a chunk, and entries beyond the number of
    updates are zeros.

    Attributes:
      metrics: float32 [K] each, a named tuple.
      ended: steps that ended an episode.
      table: by name [K, T, B]: `PPOTask.table_values` of the episodes, where `ended`.
      sums: by name float32 [K]: sums over the episodes that ended and count (`PPOTask.counted`).
      faults: by name float32 [K]: numbers of steps with a fault of the environment; empty unless
        they are counted.
    """

    metrics: Any
    ended: Bool[Array, "... T B"]
    table: dict[str, Array]
    sums: dict[str, Array]
    faults: Any = ()


SMALL_SHARE = 128
"""Number of samples of a group in a minibatch up to which a CPU processes the groups at once:
calls of small products cost more than the cache saves (measured in `benchmarks/RESULTS.md`).
"""

ENDS = ("anneal_lr", "final_ent_coef")
"""Arguments that give the last value of another one."""

COEFFICIENTS = tuple(name for name in program_arguments(PPOConfig) if name not in ENDS)
OF_OPTIMIZER = ("learning_rate", "max_grad_norm")
OF_LEARNER = tuple(name for name in COEFFICIENTS if name not in OF_OPTIMIZER)


class Coefficients(NamedTuple):
    """Numbers that a compiled program takes as arguments: runs that differ in them alone share one
    compilation.

    Attributes:
      first: by the names in `PPOConfig`, the values of the first update.
      last: values after the last update of those that change linearly over the run.
      num_updates: of the run.
      time_limit: maximum number of steps of an episode.
    """

    first: dict[str, Any]
    last: dict[str, Any]
    num_updates: Any
    time_limit: Any

    def progress(self, number: Any) -> Any:
        """Returns the part of the run, from 0 to 1, before update `number`, counted from 0."""
        return number / self.num_updates

    def at(self, number: Any) -> dict[str, Any]:
        """Returns the values of update `number`, counted from 0."""
        progress = self.progress(number)
        changed = {
            name: self.first[name] + (last - self.first[name]) * progress for name, last in self.last.items()
        }
        return {**self.first, **changed}


def clipped_adam(learning_rate: Any, max_grad_norm: Any, adam_eps: float) -> optax.GradientTransformation:
    """Returns clipping by global norm and Adam."""
    return optax.chain(optax.clip_by_global_norm(max_grad_norm), optax.adam(learning_rate, eps=adam_eps))


class PPOProgram:
    """Builds and holds the compiled programs of a config.

    Attributes:
      config: the run's settings.
      task: the environment, its network, and what is recorded of its episodes.
      ppo: the learner.
      mesh: devices over which environments are sharded; None for one.
      first_calls: of the programs.
      metrics: type of the scalars of an update.
      diagnostics: what a trainer warns about.

    Raises:
      ConfigError: if there are fewer devices than requested, or the environments cannot be sharded
        evenly.
    """

    metrics: type[Any] = UpdateMetrics
    diagnostics: Sequence[Diagnostic] = DIAGNOSTICS

    def __init__(self, config: PPORunConfig, task: PPOTask) -> None:
        self.config = config
        self.task = task
        self.first_calls = FirstCalls()
        settings = config.ppo
        require(
            not (settings.exploration and task.is_continuous),
            f"--exploration {settings.exploration:g}: {task.name} has continuous actions, which cannot die out; leave it out",
        )
        groups = num_groups(settings.num_envs, settings.num_steps, settings.num_minibatches, max_groups())
        self.mesh = data_mesh(config.devices, groups, "groups of environments")
        small_batch = SMALL_SHARE * groups * settings.num_minibatches
        self.ppo = PPO(
            env=task.env,
            apply=task.network.apply,
            init_params=task.network.init,
            optimizer=clipped_adam(settings.learning_rate, settings.max_grad_norm, settings.adam_eps),
            num_envs=settings.num_envs,
            num_steps=settings.num_steps,
            num_minibatches=settings.num_minibatches,
            update_epochs=settings.update_epochs,
            **{name: getattr(settings, name) for name in OF_LEARNER},
            env_params=task.env_params(config.time_limit or 0),
            max_groups=max_groups(),
            axis_name=None if self.mesh is None else DATA,
            at_once=jax.default_backend() != "cpu"
            or (task.joins_small_groups and settings.batch_size <= small_batch),
            distribution=task.distribution,
            normalize_observations=task.normalize_observations,
            normalize_rewards=task.normalize_rewards,
            counts_faults=task.counts_faults,
            max_reward=settings.max_reward,
            clip_value=settings.clip_value,
            normalize_advantages=settings.normalize_advantages,
            prepare=task.prepare,
        )

    def with_config(self, config: PPORunConfig) -> PPOProgram:
        """Returns the programs for a config that differs in arguments of the program alone. What is
        compiled is shared.
        """
        for name in ("init", "_compiled", "template"):
            getattr(self, name)  # from here on the copy has it
        other = copy.copy(self)
        other.__dict__.pop("coefficients", None)
        other.config = config
        return other

    @cached_property
    def coefficients(self) -> Coefficients:
        """Numbers of the config that are passed to the compiled program."""
        return self.coefficients_of(self.config)

    @staticmethod
    def coefficients_of(config: PPORunConfig) -> Coefficients:
        """Returns the numbers of a config that are passed to the compiled program."""
        settings = config.ppo
        last = {
            "learning_rate": 0.0 if settings.anneal_lr else settings.learning_rate,
            "ent_coef": settings.ent_coef if settings.final_ent_coef is None else settings.final_ent_coef,
        }
        return Coefficients(
            first={name: np.float32(getattr(settings, name)) for name in COEFFICIENTS},
            last={name: np.float32(value) for name, value in last.items()},
            num_updates=np.int32(settings.num_updates),
            time_limit=np.int32(config.time_limit or 0),
        )

    def _learner(self, coefficients: Coefficients, number: Array) -> PPO:
        """Returns the learner with the coefficients of update `number`."""
        values, progress = coefficients.at(number), coefficients.progress(number)
        return dataclasses.replace(
            self.ppo,
            exploration=self._exploration(progress),
            shaping=None if self.task.shaping is None else self.task.shaping(progress),
            optimizer=clipped_adam(
                *(values[name] for name in OF_OPTIMIZER), adam_eps=self.config.ppo.adam_eps
            ),
            env_params=self.task.env_params(coefficients.time_limit),
            **{name: values[name] for name in OF_LEARNER},
        )

    def _exploration(self, progress: Array) -> Exploration | None:
        """Returns the exploration bonus at a progress of the run from 0 to 1."""
        settings, explored = self.config.ppo, self.task.explored
        if not settings.exploration:
            return None
        weight = faded(settings.exploration, settings.exploration_until, progress)
        return Exploration(
            weight, explored or (True,) * self.task.env.num_actions, self.task.exploration_factor
        )

    @cached_property
    def _specs(self) -> TrainState:
        """Placement of the parts of a state on the mesh: parameters replicated, environments along
        `data`.
        """
        replicas, shards = PartitionSpec(), PartitionSpec(DATA)
        return TrainState(replicas, replicas, shards, replicas)  # pyright: ignore[reportArgumentType]

    @cached_property
    def template(self) -> TrainState:
        """Shapes, types and shardings of the state, for restoring it."""
        shapes = jax.eval_shape(self.ppo.init, jax.random.key(0))
        if self.mesh is None:
            return shapes

        specs: Any = self._specs
        parts = (
            with_sharding(part, NamedSharding(self.mesh, spec))
            for part, spec in zip(shapes, specs, strict=True)
        )
        return TrainState(*parts)

    @cached_property
    def init(self) -> Callable[[Array], TrainState]:
        """Function from a key to the state of a new run, compiled separately, so that every mode of
        running starts from the same bits.
        """
        if self.mesh is None:
            return jax.jit(self.ppo.init)
        return jax.jit(self.ppo.init, out_shardings=jax.tree.map(lambda leaf: leaf.sharding, self.template))

    def advance(
        self, state: TrainState, key: PRNGKeyArray, first: Integer[Array, ""], count: Integer[Array, ""]
    ) -> tuple[TrainState, UpdateResults]:
        """Performs `count` updates, the first of them number `first` from 0; the state is donated.

        The key is the run's; an update's own is derived from its number. The count is traced, so
        that parts of a chunk do not compile again.
        """
        with self.first_calls.call("the training program"):
            return self._compiled(state, key, first, count, self.coefficients)

    def compile_ahead(self) -> None:
        """Compiles the training program in another thread, in parallel to the start of the run."""
        if self.mesh is not None:
            return  # the shardings of the arguments are unknown before there is a state
        program: Any = self._compiled
        state = self.template
        key, number = jax.eval_shape(lambda: jax.random.key(0)), jax.ShapeDtypeStruct((), jnp.int32)
        self.first_calls.compile_ahead(
            {
                "the training program": lambda: program.lower(
                    state, key, number, number, self.coefficients
                ).compile()
            }
        )

    def learning_rate(self, number: int) -> float:
        """Returns the learning rate of update `number`, counted from 0."""
        first, last = (float(ends["learning_rate"]) for ends in self.coefficients[:2])
        return first + (last - first) * number / self.config.ppo.num_updates

    @cached_property
    def _compiled(self) -> Callable[..., tuple[TrainState, UpdateResults]]:
        if self.mesh is None:
            return jax.jit(self.updates, donate_argnums=0)
        replicas, shards = PartitionSpec(), PartitionSpec(None, None, DATA)
        results = UpdateResults(
            metrics=replicas,
            ended=shards,  # pyright: ignore[reportArgumentType]
            table=shards,  # pyright: ignore[reportArgumentType]
            sums=replicas,  # pyright: ignore[reportArgumentType]
            faults=replicas,  # pyright: ignore[reportArgumentType]
        )
        mesh = self.mesh
        # Treat replicated inputs as plain values: the learner itself sums gradients over devices.
        advance = jax.shard_map(
            self.updates,
            mesh=self.mesh,
            in_specs=(self._specs, replicas, replicas, replicas, replicas),
            out_specs=(self._specs, results),
            check_vma=False,
        )

        def advance_and_gather(*arguments: Any) -> tuple[TrainState, UpdateResults]:
            # Replicate recorded values on every device, so that each process can read them.
            state, updates = advance(*arguments)
            return state, replicate(updates, mesh)

        return jax.jit(advance_and_gather, donate_argnums=0)

    def updates(
        self,
        state: TrainState,
        key: PRNGKeyArray,
        first: Integer[Array, ""],
        count: Integer[Array, ""],
        coefficients: Coefficients,
    ) -> tuple[TrainState, UpdateResults]:
        """Performs `count` updates; pure, to be compiled."""

        def one(index: Array, carry: tuple[TrainState, UpdateResults]) -> tuple[TrainState, UpdateResults]:
            state, results = carry
            number = first + index
            learner = self._learner(coefficients, number)
            state, metrics, episodes = learner.update(state, jax.random.fold_in(key, number))

            counted = episodes.ended
            if self.task.counted is not None:
                counted = counted & (episodes.values[self.task.counted] > 0)

            def total(values: Array) -> Array:
                return self.ppo.total(jnp.where(counted, values.astype(jnp.float32), 0))

            table = {name: episodes.values[name] for name in self.task.table_values}
            sums = jax.tree.map(total, episodes.values)
            new = UpdateResults(metrics, episodes.ended, table, sums, episodes.faults)
            return state, jax.tree.map(lambda whole, part: whole.at[index].set(part), results, new)

        return jax.lax.fori_loop(0, count, one, (state, self._no_updates(state.rollout.lane.shape[0])))

    def _no_updates(self, num_envs: int) -> UpdateResults:
        """Returns zero results of a chunk of this many environments."""
        chunk, values = self.config.chunk, self.task.episode_values
        steps = (chunk, self.config.ppo.num_steps, num_envs)
        return UpdateResults(
            metrics=self.metrics(*(jnp.zeros(chunk, jnp.float32) for _ in self.metrics._fields)),
            ended=jnp.zeros(steps, jnp.bool_),
            table={name: jnp.zeros(steps, values[name]) for name in self.task.table_values},
            sums={name: jnp.zeros(chunk, jnp.float32) for name in values},
            faults={name: jnp.zeros(chunk, jnp.float32) for name in FAULTS}
            if self.task.counts_faults
            else (),
        )
