"""Any environment as a task for PPO."""

from __future__ import annotations

import jax.numpy as jnp

from matrixrl.agents.distributions import DiagonalGaussian, MaskedCategorical
from matrixrl.config import require
from matrixrl.config.environment import EnvironmentRunConfig, require_environment
from matrixrl.envs.adapters.gymnax import GymnaxEnvironment
from matrixrl.systems.ppo.loading import AnyEnvironment, load_environment, load_network, normalizes
from matrixrl.systems.ppo.spec import SPEC, ppo_spec
from matrixrl.systems.ppo.task import EpisodeColumn, PPOTask
from matrixrl.tracking.events import Kind
from matrixrl.tracking.spec import SystemSpec

AGENT_COLUMN = "Agent"
"""Column of the episode table of a run of many agents."""

LOCAL_METRICS = ("agent/*",)
"""Metrics of single agents: hundreds of charts on a dashboard, where the means over agents
count.
"""

_FAULTS = {
    "nonfinite_reward": ("finite rewards", "NaN or infinite rewards"),
    "nonfinite_observation": ("finite observations", "observations with NaN or infinity"),
    "no_legal_action": ("a legal action in every state", "masks without a legal action"),
}


def columns_of(env: AnyEnvironment) -> dict[str, EpisodeColumn]:
    """Returns the columns of the episode table: return, steps, and each scalar of ``info``."""
    kinds: dict[object, Kind] = {jnp.float32: "float", jnp.int32: "int", jnp.bool_: "bool"}
    titles = {"return": "Return", "steps": "Steps"}
    return {
        titles.get(name, name): EpisodeColumn(name, kinds[dtype])
        for name, dtype in env.episode_values.items()
    }


def spec_of(task: PPOTask, has_agents: bool) -> SystemSpec:
    """Returns the spec of a run: with the columns of its environment, and that of the agent if
    there are several.
    """
    agent: dict[str, Kind] = {AGENT_COLUMN: "int"} if has_agents else {}
    columns: dict[str, Kind] = {name: column.kind for name, column in task.columns.items()}
    own = [name for name in task.episode_values if name not in ("return", "steps")]
    return ppo_spec(
        SPEC.name,
        SPEC.project,
        {**agent, **columns},
        charts=(*SPEC.charts, *(f"episode/{name}" for name in own)),
        console_metrics=tuple(f"episode/{name}" for name in own[:3]),
        local_metrics=LOCAL_METRICS if has_agents else (),
    )


def environment_task(config: EnvironmentRunConfig) -> PPOTask:
    """Returns the environment of a config with its network.

    Raises:
      ConfigError: if environment or network cannot be imported or break their interface.
    """
    require_environment(config)
    env = load_environment(config.env, config.time_limit)
    require(
        config.time_limit is None or env.can_be_limited,
        f"--time-limit {config.time_limit}: the parameters of --env {config.env} have no max_steps_in_episode; leave the "
        "flag out",
    )

    def describe_fault(name: str, number: int) -> str:
        expected, came = _FAULTS[name]
        return f"--env {config.env}: expected {expected}, came {came} ({number:,} of {config.ppo.batch_size:,} steps)"

    return PPOTask(
        name=config.env,
        version=0,
        env=env,  # pyright: ignore[reportArgumentType]
        env_params=env.limited,
        network=load_network(config, env),
        episode_values=env.episode_values,
        columns=columns_of(env),
        distribution=DiagonalGaussian() if env.actions.is_continuous else MaskedCategorical(),
        normalize_observations=normalizes(config.normalize_observations, env),
        normalize_rewards=normalizes(config.normalize_rewards, env),
        counts_faults=isinstance(env, GymnaxEnvironment),  # workers check each step themselves
        joins_small_groups=True,
        describe_fault=describe_fault,
    )
