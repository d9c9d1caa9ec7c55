"""PPO task: an environment, a network for it, and the recorded values of its episodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from matrixrl.agents.distributions import Distribution, MaskedCategorical
from matrixrl.agents.ppo import CATEGORICAL, Shaping
from matrixrl.config import CheckpointConfig, PPOConfig, TrackingConfig
from matrixrl.envs.base import Environment
from matrixrl.tracking.events import Kind


class PPORunConfig(Protocol):
    """Settings of a PPO run for any environment."""

    @property
    def ppo(self) -> PPOConfig:
        """The learner's settings."""
        ...

    @property
    def tracking(self) -> TrackingConfig:
        """Name and destinations of the run."""
        ...

    @property
    def checkpoint(self) -> CheckpointConfig:
        """Schedule and retention of checkpoints."""
        ...

    @property
    def seed(self) -> int:
        """Seed of all random numbers."""
        ...

    @property
    def time_limit(self) -> int | None:
        """Maximum number of steps of an episode; None for the environment's own."""
        ...

    @property
    def devices(self) -> int | None:
        """Number of devices; None for all that fit."""
        ...

    @property
    def monolithic(self) -> bool:
        """True if a chunk is one call."""
        ...

    @property
    def chunk(self) -> int:
        """Number of updates between two records."""
        ...


def faded(first: float, until: float, progress: Float[Array, ""]) -> Float[Array, ""]:
    """Returns a value that falls linearly from `first` to 0 at `until`, for a progress of the run
    from 0 to 1.
    """
    return first * jnp.maximum(1 - progress / until, 0)


@dataclass(frozen=True)
class EpisodeColumn:
    """A column of the episode table.

    Attributes:
      value: name of the episode value that it holds.
      kind: type in the table; the value is converted to it.
    """

    value: str
    kind: Kind

    def convert(self, value: Any) -> Any:
        """Returns a value of the environment as the table has it."""
        return value > 0 if self.kind == "bool" else float(value) if self.kind == "float" else value


@dataclass(frozen=True)
class PPOTask:
    """An environment to learn, with its network.

    Attributes:
      name: of the environment, for messages.
      version: of the environment; it rises when play changes, and a checkpoint of another version
        is refused.
      env: its steps report ``info["episode"]``, a dict with the values below; they are final where
        the episode ends.
      env_params: maximum number of steps of an episode -> parameters of the environment.
      network: a flax module: observations [N, ...] -> policy outputs such as logits [N, A], values
        [N].
      episode_values: by name, the types of what ``info["episode"]`` holds; their means become
        `episode/<name>`. It has `return` and `steps`.
      columns: of the episode table, after the number of the episode and the update.
      maxima: names of episode values whose maximum over the run is kept.
      counted: name of an episode value that is 1 for the episodes that means, maxima and
        `episode/count` include, and 0 for the others; None to include all. All episodes have a row
        in the table.
      distribution: meaning of the policy outputs.
      normalize_observations, normalize_rewards: True to show the learner normalised ones.
      counts_faults: True to count the faults of the environment in every update; a run stops at the
        first with the message of `describe_fault`.
      joins_small_groups: True to process small groups of a minibatch at once on a CPU. It is
        quicker; products of other sizes may round differently on several devices.
      explored: for each action whether `PPOConfig.exploration` counts it; None for all.
      exploration_factor: observations [N, ...], prepared if there is `prepare` -> factor of
        `PPOConfig.exploration` for each, float [N]; None for 1.
      shaping: progress of the run from 0 to 1 -> the additional rewards that the learner alone
        sees; None for none.
      prepare: observations [N, ...] -> what the network derives from them and accepts in their
        place; the learner computes it once per update. None if there is nothing to derive.
      describe_fault: name and number of a fault (`agents.ppo.FAULTS`) -> the message.
    """

    name: str
    version: int
    env: Environment[Any, Any]
    env_params: Callable[[Any], Any]
    network: Any
    episode_values: Mapping[str, Any]
    columns: Mapping[str, EpisodeColumn]
    maxima: tuple[str, ...] = ()
    counted: str | None = None
    distribution: Distribution = CATEGORICAL
    normalize_observations: bool = False
    normalize_rewards: bool = False
    counts_faults: bool = False
    joins_small_groups: bool = False
    explored: tuple[bool, ...] | None = None
    exploration_factor: Callable[[Any], Any] | None = None
    shaping: Callable[[Any], Shaping] | None = None
    prepare: Callable[[Any], Any] | None = None
    describe_fault: Callable[[str, int], str] | None = None

    @property
    def is_continuous(self) -> bool:
        """True if actions are not one of several."""
        return not isinstance(self.distribution, MaskedCategorical)

    @property
    def table_values(self) -> tuple[str, ...]:
        """Names of the episode values that are recorded for each episode."""
        more = () if self.counted is None else (self.counted,)
        columns = (column.value for column in self.columns.values())
        return tuple(dict.fromkeys([*columns, *self.maxima, *more]))
