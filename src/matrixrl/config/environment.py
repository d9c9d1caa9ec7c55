"""Settings of `ppo train`, and the three ways to name an environment."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from matrixrl.config.fields import (
    ConfigError,
    Settings,
    group,
    literals,
    optional_type,
    program_arguments,
    require,
    setting,
    settings_of,
)
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

    recorded_beside: ClassVar[tuple[str, ...]] = ("sweep_group",)

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
    """Grid of settings, such as learning_rate=1e-4,3e-4 num_envs=8,16.
    Every combination is trained with every seed. Settings that are arguments of the compiled
    program are trained in one program; each combination of the others is a run of its own.
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
        if self.outer_grid:
            require(
                self.tracking.resume_run is None,
                "--sweep with --resume-run: each run of a sweep resumes by itself, without --sweep",
            )
            for _ in self.each_run():  # checks it
                pass

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
        inner = swept_settings()
        return {name: values for name, (_, values) in self._swept.items() if name in inner}

    @property
    def outer_grid(self) -> dict[str, tuple[Any, ...]]:
        """Values of the swept settings that are not arguments of the compiled program, by dotted
        name: each combination is a run of its own.
        """
        inner = swept_settings()
        return {name: values for name, (_, values) in self._swept.items() if name not in inner}

    @property
    def _swept(self) -> dict[str, tuple[str, tuple[Any, ...]]]:
        """Text and values of each entry of `sweep`, by dotted name."""
        found: dict[str, tuple[str, tuple[Any, ...]]] = {}
        allowed, inner = sweepable_settings(), swept_settings()
        for text in self.sweep:
            given, _, values = text.partition("=")
            word = given.replace("-", "_")
            name = next((name for name in allowed if word in (name, name.rpartition(".")[2])), None)
            if name is None:
                words = ", ".join(name.rpartition(".")[2] for name in allowed)
                raise ConfigError(f"--sweep {text}: must be a setting with its values: one of {words}")
            require(name not in found, f"--sweep {text}: name each setting once")
            hint = float if name in inner else allowed[name]
            found[name] = text, _swept_values(text, values, hint)
            require(len(set(found[name][1])) == len(found[name][1]), f"--sweep {text}: name each value once")
        return found

    def each_run(self) -> Iterator[tuple[dict[str, Any], EnvironmentRunConfig]]:
        """Yields, for each combination of `outer_grid`, its values by dotted name, and the settings
        of its run.

        Raises:
          ConfigError: if a combination is impossible; the message names it.
        """
        inner = swept_settings()
        sweep = tuple(text for name, (text, _) in self._swept.items() if name in inner)
        alone = dataclasses.replace(self, sweep=sweep)
        outer = self.outer_grid
        for point in itertools.product(*outer.values()):
            values = dict(zip(outer, point, strict=True))
            yield values, _with_values(alone, values)

    @property
    def short_name(self) -> str:
        """Name of the environment for the name of a run: `cartpole-v1`."""
        word = self.env.rpartition(":")[2]
        return re.sub(r"[^a-z0-9._-]+", "-", word.lower()).strip("-.")[:48].replace("..", ".") or "env"


def sweepable_settings() -> dict[str, Any]:
    """Returns the types of the settings that `--sweep` takes, by dotted name."""
    return {
        name: hint
        for name, item, hint in settings_of(EnvironmentRunConfig)
        if name.startswith(("ppo.", "network."))
        or name in ("normalize_observations", "normalize_rewards", "time_limit")
    }


def _swept_values(text: str, values: str, hint: Any) -> tuple[Any, ...]:
    """Returns the values of an entry of `--sweep` as its setting has them.

    Raises:
      ConfigError: if one is of another type.
    """
    found = []
    kind = optional_type(hint)
    for value in values.split(","):
        if kind is not None and value.lower() == "none":
            found.append(None)
            continue
        try:
            found.append(_swept_value(value, kind or hint))
        except ValueError:
            choices = literals(hint)
            if choices:
                form = f"one of {', '.join(map(str, choices))}"
            elif hint is bool:
                form = "true or false"
            else:
                form = f"NAME={'NUMBER,NUMBER' if (kind or hint) is not str else 'TEXT,TEXT'}"
            example = (
                "learning_rate=1e-4,3e-4" if form.startswith("NAME") else f"{text.partition('=')[0]}=..."
            )
            raise ConfigError(f"--sweep {text}: must be {form}, such as {example}") from None
    return tuple(found)


def _swept_value(text: str, hint: Any) -> Any:
    if hint is float:
        return float(text)
    if hint is int:
        number = float(text.replace("_", ""))  # 1e6, as on the command line
        if not number.is_integer():
            raise ValueError(text)
        return int(number)
    if hint is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(text)
        return text.lower() == "true"
    if not text or (literals(hint) and text not in literals(hint)):
        raise ValueError(text)
    return text


def _with_values(config: EnvironmentRunConfig, values: Mapping[str, Any]) -> EnvironmentRunConfig:
    """Returns the config with several values at once: one after the other, a combination that is
    possible could be refused on its way.
    """
    groups: dict[str, dict[str, Any]] = {}
    own: dict[str, Any] = {}
    for name, value in values.items():
        group_name, _, rest = name.rpartition(".")
        if group_name:
            groups.setdefault(group_name, {})[rest] = value
        else:
            own[name] = value
    changed = {name: dataclasses.replace(getattr(config, name), **inner) for name, inner in groups.items()}
    return dataclasses.replace(config, **changed, **own)


def swept_settings() -> tuple[str, ...]:
    """Returns the dotted names of the numbers that one program can train several values of."""
    return tuple(name for name in program_arguments(EnvironmentRunConfig) if name != "ppo.anneal_lr")


def require_environment(config: EnvironmentRunConfig) -> None:
    """Refuses settings without an environment.

    Raises:
      ConfigError: names the forms of `--env`.
    """
    require(bool(config.env), f"--env is missing: name an environment, {SPEC_FORMS}")
