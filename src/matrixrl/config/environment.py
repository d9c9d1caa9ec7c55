"""Settings of `ppo train`, and the three ways to name an environment."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from matrixrl.config.fields import ConfigError, Settings, group, program_arguments, require, setting
from matrixrl.config.ppo import PPOConfig, PPOTrainerConfig
from matrixrl.config.records import with_value
from matrixrl.config.tracking import TrackingConfig

SPEC_FORMS = "gymnax:NAME, package.module:factory or path/to/file.py:factory, or gymnasium:NAME"
GYMNAX = "gymnax:"
GYMNASIUM = "gymnasium:"

Choice = Literal["auto", "on", "off"]


def split_spec(spec: str) -> tuple[str, str]:
    """Returns module or file, and attribute, of a name such as `package.module:factory`."""
    module, _, attribute = spec.rpartition(":")
    return module, attribute


def names_gymnax(spec: str) -> bool:
    """Returns whether an environment of gymnax is named, which imports no other code."""
    return spec.startswith(GYMNAX)


def names_gymnasium(spec: str) -> bool:
    """Returns whether an environment of Gymnasium is named: `gymnasium:NAME`, or
    `gymnasium:module:NAME` where importing the module registers it.
    """
    return spec.startswith(GYMNASIUM)


def names_no_code(spec: str) -> bool:
    """Returns whether an environment is named that imports nothing but an installed library."""
    return names_gymnax(spec) or (names_gymnasium(spec) and spec.count(":") == 1)


def names_file(spec: str) -> bool:
    """Returns whether a file is named."""
    return split_spec(spec)[0].endswith(".py")


def with_whole_path(spec: str) -> str:
    """Returns a name whose file has an absolute path, so that it means the same in any folder."""
    module, attribute = split_spec(spec)
    return f"{Path(module).expanduser().resolve()}:{attribute}" if names_file(spec) else spec


def check_spec(flag: str, spec: str, forms: str) -> None:
    """Refuses what names no object of a module.

    Raises:
      ConfigError: names the flag, and the forms that are allowed.
    """
    module, attribute = split_spec(spec)
    dotted = r"[^\W\d]\w*(\.[^\W\d]\w*)*"
    is_good = re.fullmatch(dotted, attribute) is not None and (
        names_file(spec) or re.fullmatch(dotted, module) is not None
    )
    require(is_good, f"{flag} {spec}: must be {forms}")


@dataclass(frozen=True, kw_only=True)
class PolicyNetworkConfig(Settings):
    """The network of an agent for any environment."""

    network: str | None = setting(None, may_change=True)
    """Your own network: package.module:factory or path/to/file.py:factory.
    The factory returns a flax module from observations to policy outputs and values.
    Default: separate layers for policy and value, after a convolution for images.
    """

    hidden_dim: int = setting(64, minimum=1)
    """Number of units per layer of the default network."""

    num_layers: int = setting(2, minimum=0)
    """Number of layers of policy and value each."""

    activation: Literal["tanh", "relu"] = "tanh"
    """Activation of the layers."""

    def check(self) -> None:
        """Checks the form of `--network`."""
        if self.network is not None:
            check_spec("--network", self.network, "package.module:factory or path/to/file.py:factory")


def default_ppo() -> PPOConfig:
    """Returns the learner's settings of `ppo train`, which solve CartPole-v1 in 500,000 steps."""
    return PPOConfig(
        num_envs=16,
        num_steps=128,
        total_timesteps=500_000,
        learning_rate=1e-3,
        anneal_lr=True,
        num_minibatches=8,
        ent_coef=0.01,
        reward_scale=1.0,
    )


def default_tracking() -> TrackingConfig:
    """Returns the tracking of `ppo train`: a row for every few updates of small batches."""
    return TrackingConfig(log_interval=5)


@dataclass(frozen=True, kw_only=True)
class EnvironmentRunConfig(PPOTrainerConfig):
    """All settings of a run of PPO on any environment."""

    preset: str = "default"
    """Preset that supplies the other defaults: default."""

    env: str = setting("", may_change=True)
    """Environment: gymnax:NAME, package.module:factory or path/to/file.py:factory.
    It has the interface of gymnax 1.0 (docs/own_environment.md). Or gymnasium:NAME, which runs in
    worker processes.
    """

    num_workers: int | None = setting(None, minimum=1, may_change=True)
    """Number of worker processes that hold the environments of gymnasium:NAME.
    Default: one per core. It changes no result.
    """

    ppo: PPOConfig = group(default_ppo)  # pyright: ignore[reportArgumentType]
    network: PolicyNetworkConfig = group(PolicyNetworkConfig)
    tracking: TrackingConfig = group(default_tracking)  # pyright: ignore[reportArgumentType]

    normalize_observations: Choice = "auto"
    """Running normalisation of observations. `auto`: on if actions are continuous."""

    normalize_rewards: Choice = "auto"
    """Running normalisation of the rewards that the learner uses. Recorded returns are unscaled.
    `auto`: on if actions are continuous.
    """

    time_limit: int | None = setting(None, minimum=1)
    """Maximum number of steps per episode. Longer episodes are truncated.
    Default: the environment's own.
    """

    num_seeds: int = setting(1, minimum=1)
    """Number of agents with different seeds, --seed and those that follow, in one program."""

    sweep: tuple[str, ...] = ()
    """Grid of settings, such as learning_rate=1e-4,3e-4 ent_coef=0,0.01, in one program.
    Every combination is trained with every seed.
    """

    def check(self) -> None:
        """Checks the form of `--env`, and the agents of a grid."""
        super().check()
        if names_gymnasium(self.env):
            self._check_gymnasium()
        elif self.env and not names_gymnax(self.env):
            check_spec("--env", self.env, SPEC_FORMS)
        require(
            self.num_workers is None or not self.env or names_gymnasium(self.env),
            f"--num-workers {self.num_workers}: only environments of gymnasium:NAME run in worker processes; leave it out",
        )
        require(
            self.seed + self.num_seeds <= 2**32,
            f"--seed {self.seed} --num-seeds {self.num_seeds}: the last seed must be at most 4294967295",
        )
        require(
            not (self.is_many and (self.processes.distributed or self.benchmark or self.auto_tune)),
            "--num-seeds and --sweep train on one device: leave out --distributed, --benchmark and --auto-tune",
        )
        for name, values in self.grid.items():
            for value in values:
                with_value(self.ppo, name.removeprefix("ppo."), value)  # checks it

    def _check_gymnasium(self) -> None:
        """Checks the name of an environment of Gymnasium, and the ways to run it."""
        module = r"[^\W\d]\w*(\.[^\W\d]\w*)*:"
        require(
            re.fullmatch(rf"{GYMNASIUM}({module})?([\w-]+/)?[\w.-]+", self.env) is not None,
            f"--env {self.env}: must be gymnasium:NAME, such as gymnasium:CartPole-v1, or gymnasium:module:NAME",
        )
        several = self.devices is not None and self.devices > 1
        refused = {
            "--num-seeds": self.num_seeds > 1,
            "--sweep": bool(self.sweep),
            "--distributed": self.processes.distributed,
            "--devices": several,
            "--monolithic": self.monolithic,
            "--auto-tune": self.auto_tune,
        }
        flags = ", ".join(flag for flag, given in refused.items() if given)
        require(
            not flags,
            f"{flags}: --env {self.env} runs in worker processes, outside of the compiled program; leave it out",
        )

    @property
    def is_many(self) -> bool:
        """True if the run trains several agents."""
        return self.num_seeds > 1 or bool(self.sweep)

    @property
    def grid(self) -> dict[str, tuple[float, ...]]:
        """Values of the swept settings, by dotted name."""
        found: dict[str, tuple[float, ...]] = {}
        allowed = swept_settings()
        for text in self.sweep:
            name, _, values = text.partition("=")
            name = f"ppo.{name.replace('-', '_').removeprefix('ppo.')}"
            require(
                name in allowed,
                f"--sweep {text}: must be a setting that is an argument of the compiled program, with its values: one of "
                f"{', '.join(item.removeprefix('ppo.') for item in allowed)}; train other ones in runs of their own",
            )
            require(name not in found, f"--sweep {text}: name each setting once")
            try:
                found[name] = tuple(float(value) for value in values.split(","))
            except ValueError:
                raise ConfigError(
                    f"--sweep {text}: must be NAME=NUMBER,NUMBER, such as learning_rate=1e-4,3e-4"
                ) from None
            require(len(set(found[name])) == len(found[name]), f"--sweep {text}: name each value once")
        return found

    @property
    def short_name(self) -> str:
        """Name of the environment for the name of a run: `cartpole-v1`."""
        word = self.env.rpartition(":")[2]
        return re.sub(r"[^a-z0-9._-]+", "-", word.lower()).strip("-.")[:48].replace("..", ".") or "env"


def swept_settings() -> tuple[str, ...]:
    """Returns the dotted names of the numbers that one program can train several values of."""
    return tuple(name for name in program_arguments(EnvironmentRunConfig) if name != "ppo.anneal_lr")


def require_environment(config: EnvironmentRunConfig) -> None:
    """Refuses settings without an environment.

    Raises:
      ConfigError: names the forms of `--env`.
    """
    require(bool(config.env), f"--env is missing: name an environment, {SPEC_FORMS}")
