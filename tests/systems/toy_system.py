"""A system of another package: a corridor, its spec, and PPO of the house as its learner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from matrixrl.cli import session
from matrixrl.cli.parse import parse
from matrixrl.cli.resume import flag_value, resumed_settings, run_folder
from matrixrl.config import CheckpointConfig, PPOConfig, TrackingConfig
from matrixrl.networks.actor_critic import MLP, ActorCritic
from matrixrl.systems.ppo.program import PPOProgram
from matrixrl.systems.ppo.spec import ppo_spec
from matrixrl.systems.ppo.task import EpisodeColumn, PPOTask
from matrixrl.systems.ppo.trainer import PPOTrainer
from matrixrl.systems.spec import BestMetric, ConsoleMetric, System

LENGTH = 5


class Walker(NamedTuple):
    place: jax.Array
    steps: jax.Array
    farthest: jax.Array


class Corridor:
    """Each step goes left or right; the right end pays 1 and ends the episode, and so do many steps."""

    default_params = 20  # maximum number of steps
    num_actions = 2

    def reset(self, key: jax.Array, params: Any = None) -> tuple[jax.Array, Walker]:
        walker = Walker(jnp.int32(0), jnp.int32(0), jnp.int32(0))
        return self._seen(walker), walker

    def step(self, key: jax.Array, state: Walker, action: jax.Array, params: Any = None) -> Any:
        place = jnp.clip(state.place + 2 * action - 1, 0, LENGTH).astype(jnp.int32)
        after = Walker(place, state.steps + 1, jnp.maximum(state.farthest, place))
        terminated = place == LENGTH
        truncated = ~terminated & (after.steps >= (self.default_params if params is None else params))
        reward = terminated.astype(jnp.float32)
        episode = {"return": reward, "steps": after.steps, "farthest": after.farthest}
        observation, fresh = self.reset(key)
        now = jax.tree.map(partial(jnp.where, terminated | truncated), fresh, after)
        observation = jnp.where(terminated | truncated, observation, self._seen(after))
        info = {"final_observation": self._seen(after), "episode": episode}
        return observation, now, reward, terminated, truncated, info

    def legal_action_mask(self, state: Walker) -> jax.Array:
        return jnp.stack([state.place > 0, jnp.bool_(True)])

    def _seen(self, walker: Walker) -> jax.Array:
        return jax.nn.one_hot(walker.place, LENGTH + 1)


@dataclass(frozen=True, kw_only=True)
class CorridorConfig:
    """Settings of a corridor run."""

    ppo: PPOConfig = field(
        default_factory=lambda: PPOConfig(num_envs=4, num_steps=8, total_timesteps=64, num_minibatches=1)
    )
    tracking: TrackingConfig = field(default_factory=lambda: TrackingConfig(log_interval=1))
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    seed: int = 0
    time_limit: int = 20
    devices: int | None = 1
    monolithic: bool = False
    json: bool = False

    @property
    def chunk(self) -> int:
        return self.tracking.log_interval


COLUMNS = {
    "Return": EpisodeColumn("return", "float"),
    "Steps": EpisodeColumn("steps", "int"),
    "Farthest": EpisodeColumn("farthest", "int"),
}
VALUES = {"return": jnp.float32, "steps": jnp.int32, "farthest": jnp.int32}
NETWORK = ActorCritic(lambda observation: observation, MLP(8, 1), Corridor.num_actions)
TASK = PPOTask("corridor", 0, Corridor(), lambda limit: limit, NETWORK, VALUES, COLUMNS)  # pyright: ignore[reportArgumentType]
program = cache(lambda config: PPOProgram(config, TASK))


def train(arguments: Sequence[str]) -> int:
    """Train an agent in the corridor."""
    read = partial(parse, CorridorConfig, arguments, prog="matrixrl corridor train", description="Corridor.")
    reference = flag_value(arguments, "--resume-run")
    if reference is None:
        config = read()
    else:
        folder = run_folder(arguments, reference, "corridor")
        config, _ = resumed_settings(
            CorridorConfig, folder, reference, lambda recorded: read(default=recorded)
        )
    corridor = session.Session(
        system="corridor", name_prefix="corridor", config=config, learning_rate="ppo.learning_rate",
        make_trainer=lambda config, run: PPOTrainer(config, program(config)),
        summarize=lambda trainer, state, seconds: f"{state.progress.recorded} updates", show=print,
        result=lambda outcome: {"mean_return": outcome.state.progress.mean_return},
    )  # fmt: skip
    return session.train(corridor)


SPEC = ppo_spec(
    "corridor", "walks", {name: column.kind for name, column in COLUMNS.items()},
    best_metric=BestMetric("farthest", "episode/farthest"), charts=("episode/farthest",),
    console_metrics=(ConsoleMetric("episode/farthest", "far", always=True),),
)  # fmt: skip
SYSTEM = System(SPEC, commands={"train": train})
