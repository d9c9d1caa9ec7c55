"""Settings of a HackMatrix run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from matrixrl.config.fields import Settings, flag_of, group, require, setting, shown
from matrixrl.config.ppo import PPOTrainerConfig


@dataclass(frozen=True, kw_only=True)
class ActorCriticConfig(Settings):
    """The network of the HackMatrix agent."""

    torso: Literal["mlp", "grid"] = "mlp"
    """Type of torso.
    `mlp`: plain layers over the flat observation.
    `grid`: one encoder shared by the 36 cells, followed by the layers.
    """

    features: Literal["observation", "relations", "yields"] = "observation"
    """Input of the network.
    `observation`: the observation of the game.
    `relations`: also distances along paths, threats, lines of fire and affordable programs, which
    follow from the observation.
    `yields`: also what a siphon would bring at each cell: enemies, points, resources, programs, and
    what could then be paid for.
    """

    hidden_dim: int = setting(256, minimum=1)
    """Number of units per layer."""

    num_layers: int = setting(2, minimum=0)
    """Number of layers."""

    cell_dim: int = setting(16, minimum=2, multiple_of=2)
    """Number of units in the first layer of the cell encoder; the second has half as many.
    Used by `--torso grid`.
    """

    critic: Literal["shared", "separate"] = "shared"
    """Layers of the value.
    `shared`: policy and value are two heads of one torso.
    `separate`: the value has a torso of its own, of the same size.
    """

    activation: Literal["relu", "tanh"] = "relu"
    """Activation function of the layers."""

    orthogonal_init: bool = True
    """Initialise hidden layers with orthogonal matrices; otherwise with normal random numbers."""

    precision: Literal["float32", "bfloat16"] = setting("float32", may_change=True)
    """Type of the network's matrix products.
    Parameters stay float32, and on a CPU everything does.
    """


@dataclass(frozen=True, kw_only=True)
class StartsConfig(Settings):
    """Where training games start."""

    later_starts: float = setting(0.0, minimum=0, maximum=1)
    """Initial fraction of training games that start in stage 3 to 8, from positions of own games.
    It decreases linearly to 0; 0 starts all games in stage 1.
    """

    later_starts_until: float = setting(0.5, above=0, maximum=1)
    """Fraction of the run after which all games start in stage 1 again.
    Used by --later-starts.
    """

    equipped_starts: float = setting(0.0, minimum=0, maximum=1)
    """Initial fraction of training games that start with random programs, resources, data siphons
    and attack damage. It decreases linearly to 0; 0 gives no game any.
    """

    equipped_starts_until: float = setting(0.8, above=0, maximum=1)
    """Fraction of the run after which no game starts with equipment.
    Used by --equipped-starts.
    """


@dataclass(frozen=True, kw_only=True)
class AlphaZeroConfig(Settings):
    """AlphaZero with Gumbel search. Size of a rollout, learning rate, discount and the like are
    those of `PPOConfig`.
    """

    num_simulations: int = setting(32, minimum=1, maximum=10_000)
    """Number of simulations of the search for each step of self-play.
    Used by --algorithm alphazero, as the settings that follow.
    """

    replay_size: int = setting(32_768, minimum=1)
    """Capacity of the replay buffer in positions. The oldest are overwritten first."""

    batch_size: int = setting(256, minimum=1, may_change=True)
    """Number of positions per weight update, sampled from the replay buffer."""

    updates_per_rollout: int = setting(16, minimum=1, may_change=True)
    """Number of weight updates after each rollout of --num-envs x --num-steps steps."""

    value_lambda: float = setting(0.95, minimum=0, maximum=1, may_change=True)
    """Lambda of the value targets, which are lambda-returns.
    0 bootstraps from the search's value of the next position, 1 uses rewards alone.
    """

    value_scale: float = setting(0.1, above=0, may_change=True)
    """Weight of the search's values against the prior policy, in self-play and policy targets.
    A small one keeps targets near the policy when few simulations make values noisy.
    """


PPO_SETTINGS = (
    "ppo.num_minibatches",
    "ppo.update_epochs",
    "ppo.gae_lambda",
    "ppo.clip_eps",
    "ppo.clip_value",
    "ppo.max_reward",
    "ppo.ent_coef",
    "ppo.final_ent_coef",
    "ppo.exploration",
    "ppo.exploration_until",
    "ppo.normalize_advantages",
    "program_exploration",
    "equipment_reward",
    "equipment_reward_until",
    "undo_cost",
)
"""Dotted names of the settings that only `--algorithm ppo` uses."""


@dataclass(frozen=True, kw_only=True)
class HackmatrixConfig(PPOTrainerConfig):
    """All settings of a HackMatrix run."""

    recorded_beside: ClassVar[tuple[str, ...]] = ("environment_version",)

    preset: str = "default"
    """Preset that supplies the other defaults: default, tuned, winning, dev or alphazero."""

    algorithm: Literal["ppo", "alphazero"] = "ppo"
    """Learner.
    `ppo`: proximal policy optimisation.
    `alphazero`: policy and value learn from a Gumbel search with the game as the model. Its
    defaults are the preset `alphazero`; another preset then gives network and starts alone.
    """

    network: ActorCriticConfig = group(ActorCriticConfig)

    starts: StartsConfig = group(StartsConfig)

    alphazero: AlphaZeroConfig = group(AlphaZeroConfig)

    program_exploration: float = setting(1.0, minimum=0, may_change=True)
    """Factor of --exploration in positions where a siphon would bring a program that the player
    does not own.
    Used by --exploration.
    """

    equipment_reward: float = setting(0.0, minimum=0, may_change=True)
    """Initial additional reward for each program that the player comes to own, and half of it for
    each data siphon, taken back when the siphon is used. It decreases linearly to 0. The learner
    alone sees it; recorded returns do not have it.
    """

    equipment_reward_until: float = setting(0.5, above=0, maximum=1, may_change=True)
    """Fraction of the run after which there is no such reward.
    Used by --equipment-reward.
    """

    undo_cost: float = setting(0.0, minimum=0, may_change=True)
    """Cost of each use of UNDO, which the learner alone sees. UNDO refunds its price, so an agent
    without this cost can collect one data siphon again and again instead of playing on.
    """

    start_from: str | None = None
    """Agent that training starts from, instead of random parameters.
    A run in the folder of runs (its newest checkpoint), `pretrained`, or a file of `export-agent`.
    The run takes over its network, --gamma and --reward-scale.
    """

    time_limit: int = setting(1_000, minimum=1)
    """Maximum number of steps per game. Longer games are truncated."""

    def check(self) -> None:
        """Checks the starts against the ways of running."""
        super().check()
        require(
            not (self.auto_tune and self.starts.later_starts),
            f"--auto-tune and --later-starts {self.starts.later_starts:g} exclude one another: groups of games that "
            "share positions depend on the shape of the batch; leave one of them out",
        )
        for name in self.foreign_settings:
            group_name, _, own = name.rpartition(".")
            holder = getattr(self, group_name) if group_name else self
            value, default = getattr(holder, own), _default_of(type(holder), own)
            # A rollout of AlphaZero is not divided into minibatches.
            require(
                value == default or (own == "num_minibatches" and value == 1),
                f"{flag_of(own)} {shown(value)}: {self.refusal}",
            )
        if self.algorithm == "alphazero":
            self._check_alphazero()
        else:
            require(
                self.preset != "alphazero",
                "--preset alphazero --algorithm ppo: this preset is for --algorithm alphazero; leave one of them out",
            )

    @property
    def foreign_settings(self) -> tuple[str, ...]:
        """Dotted names of the settings that the algorithm does not use."""
        if self.algorithm == "alphazero":
            return PPO_SETTINGS
        return tuple(f"alphazero.{item.name}" for item in dataclasses.fields(AlphaZeroConfig))

    @property
    def refusal(self) -> str:
        """Says that a setting belongs to the other algorithm."""
        other = "ppo" if self.algorithm == "alphazero" else "alphazero"
        return (
            f"only --algorithm {other} uses it, and this run has --algorithm {self.algorithm}; leave it out"
        )

    def _check_alphazero(self) -> None:
        """Checks the settings of AlphaZero against one another."""
        ppo, own = self.ppo, self.alphazero
        require(
            own.replay_size >= ppo.batch_size,
            f"--replay-size {own.replay_size}: smaller than a rollout of {ppo.batch_size} positions (--num-envs "
            f"{ppo.num_envs} x --num-steps {ppo.num_steps}); make it at least that, or the rollout smaller",
        )
        one_device = "--algorithm alphazero trains on one device in one process"
        require(self.devices in (None, 1), f"--devices {self.devices}: {one_device}; leave it out")
        require(not self.processes.distributed, f"--distributed: {one_device}; leave it out")
        require(
            not self.auto_tune,
            "--auto-tune: measures batch shapes of --algorithm ppo; leave it out, and choose --num-envs",
        )


def _default_of(kind: type[Any], name: str) -> Any:
    """Returns the default of a setting of a config."""
    return next(item.default for item in dataclasses.fields(kind) if item.name == name)
