"""Settings of trainings as keywords, with the names and the checks of the command line."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import os
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from types import MappingProxyType
from typing import Any, get_args, get_origin

from matrixrl.cli.main import COMMANDS
from matrixrl.cli.parse import require_local_paths
from matrixrl.cli.settings import command_words
from matrixrl.config import ConfigError, TrackedRunConfig, value_at
from matrixrl.config.fields import rules_of, settings_of
from matrixrl.config.files import checked_value, with_file


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class TrainingSettings(Mapping[str, Any]):
    """Settings of a training: what `matrixrl.ppo` and the like return.

    Every setting is an attribute and an entry of this mapping, under the name of its flag with
    underscores.

    Attributes:
      system: `ppo`, `hackmatrix`, `matmul` or `flip`.
      given: keywords that differ from the preset, as they were given.
      config: all settings, as the trainer has them.

    Example:
      >>> import matrixrl
      >>> settings = matrixrl.ppo(env="gymnax:CartPole-v1", learning_rate=3e-4)
      >>> settings.learning_rate, settings["num_envs"]
      (0.0003, 16)
      >>> settings.replace(seed=1)
      matrixrl.ppo(env='gymnax:CartPole-v1', learning_rate=0.0003, seed=1)
    """

    system: str
    given: Mapping[str, Any]
    config: TrackedRunConfig

    def replace(self, **changes: Any) -> TrainingSettings:
        """Returns settings with other values.

        Args:
          changes: keywords as of `matrixrl.ppo` and the like.

        Returns:
          New settings; these stay as they are.

        Raises:
          ConfigError: if a keyword is unknown or a value is not allowed.

        Example:
          >>> import matrixrl
          >>> matrixrl.matmul(size=(2, 2, 3)).replace(seed=7).seed
          7
        """
        return build(self.system, {**self.given, **changes})

    def __getitem__(self, name: str) -> Any:
        dotted = _names(type(self.config)).get(name)
        if dotted is None:
            raise KeyError(name)
        return value_at(self.config, dotted)

    def __iter__(self) -> Iterator[str]:
        return (dotted.rpartition(".")[2] for dotted, _, _ in settings_of(type(self.config)))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"settings of {self.system} have no {name}") from None

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TrainingSettings):
            return NotImplemented
        return (self.system, self.config) == (other.system, other.config)

    def __hash__(self) -> int:
        return hash((self.system, self.config))

    def __repr__(self) -> str:
        return (
            f"matrixrl.{self.system}({', '.join(f'{name}={value!r}' for name, value in self.given.items())})"
        )


def ppo(**settings: Any) -> TrainingSettings:
    """Returns the settings of PPO on any environment: those of `matrixrl ppo train`.

    Args:
      settings: every flag of `matrixrl ppo train --help` as a keyword, with underscores:
        `env="gymnax:CartPole-v1"`, `total_timesteps=500_000`, `anneal_lr=False`. `sweep` also takes
        a mapping of names to values.

    Returns:
      The settings, for `matrixrl.train`.

    Raises:
      ConfigError: if a keyword is unknown (the message has the nearest one) or a value is not
        allowed. It is a `ValueError`.

    Example:
      >>> import matrixrl
      >>> matrixrl.ppo(env="gymnax:CartPole-v1", num_envs=32).num_envs
      32
      >>> matrixrl.ppo(num_env=32)
      Traceback (most recent call last):
      matrixrl.config.fields.ConfigError: ppo(): unknown setting num_env; did you mean num_envs?
    """
    return build("ppo", settings)


def hackmatrix(**settings: Any) -> TrainingSettings:
    """Returns the settings of a training on HackMatrix: those of `matrixrl hackmatrix train`.

    Args:
      settings: every flag of `matrixrl hackmatrix train --help` as a keyword, with underscores.
        `preset="tuned"` supplies other defaults.

    Returns:
      The settings, for `matrixrl.train`.

    Raises:
      ConfigError: if a keyword is unknown or a value is not allowed.

    Example:
      >>> import matrixrl
      >>> matrixrl.hackmatrix(preset="tuned").torso
      'grid'
    """
    return build("hackmatrix", settings)


def matmul(**settings: Any) -> TrainingSettings:
    """Returns the settings of a search for schemes: those of `matrixrl matmul train`.

    Args:
      settings: every flag of `matrixrl matmul train --help` as a keyword, with underscores:
        `size=(2, 2, 3)`, `preset="discover"`. `tensor` also takes an array of integers.

    Returns:
      The settings, for `matrixrl.train`.

    Raises:
      ConfigError: if a keyword is unknown or a value is not allowed.

    Example:
      >>> import matrixrl
      >>> matrixrl.matmul(size=(2, 2, 3), ring="Z").size
      (2, 2, 3)
    """
    return build("matmul", settings)


def flip(**settings: Any) -> TrainingSettings:
    """Returns the settings of a search on flip graphs: those of `matrixrl matmul flip`.

    Args:
      settings: every flag of `matrixrl matmul flip --help` as a keyword, with underscores:
        `size=(3, 4, 4)`, `ring="Z"`. `tensor` also takes an array of integers.

    Returns:
      The settings, for `matrixrl.train`.

    Raises:
      ConfigError: if a keyword is unknown or a value is not allowed.

    Example:
      >>> import matrixrl
      >>> matrixrl.flip(size=(2, 2, 3), ring="Z").ring
      'Z'
    """
    return build("flip", settings)


def is_setting(system: str, keyword: str) -> bool:
    """Returns whether a system has a setting of this name, present or former."""
    return keyword in _names(command_of(system)[1])


def build(system: str, given: Mapping[str, Any]) -> TrainingSettings:
    """Returns the settings of a system.

    Args:
      system: its name on the command line.
      given: keywords.

    Raises:
      ConfigError: if a keyword is unknown or a value is not allowed.
    """
    module, kind = command_of(system)
    values = _checked_keywords(system, kind, given)
    if system == "ppo" and not values.keys() & {"env", "config", "resume_run"}:
        # Changes of a run to resume, which has the others: they are checked together by `train`.
        names = _names(kind)
        config = with_file(kind(), {names[name]: value for name, value in values.items()})
    else:
        config = read_config(module, arguments_of(kind, values))
    return TrainingSettings(system, MappingProxyType(values), config)


def read_config(module: Any, arguments: Sequence[str]) -> Any:
    """Returns the settings of a command line.

    Args:
      module: of the training command.
      arguments: the command line.

    Raises:
      ConfigError: if a value is not allowed, without the errors of the parser below it.
    """
    try:
        return module.read_config(arguments)
    except ConfigError as error:
        message = str(error)
    raise ConfigError(message)


def command_of(system: str) -> tuple[Any, type[TrackedRunConfig]]:
    """Returns the module of a system's training command, and the type of its settings.

    Raises:
      ConfigError: if there is no such command.
    """
    command = COMMANDS.get(command_words(system))
    if command is None:
        raise ConfigError(f"{system}: this system has no training command of matrixrl; train it with its own")
    module = importlib.import_module(command.module)
    return module, getattr(module, command.settings)


def arguments_of(kind: type[TrackedRunConfig], given: Mapping[str, Any]) -> list[str]:
    """Returns keywords as a command line.

    Args:
      kind: type of the settings.
      given: allowed values by keyword.
    """
    names = {dotted.rpartition(".")[2]: hint for dotted, _, hint in settings_of(kind)}
    arguments: list[str] = []
    for name, value in given.items():
        flag = "--" + name.replace("_", "-")
        if names[name] is bool:
            arguments.append(flag if value else f"--no-{flag[2:]}")
        elif isinstance(value, tuple):
            arguments += [flag, *map(str, value)]
        else:
            arguments.append(f"{flag}={value}")
    return arguments


def _names(kind: type) -> dict[str, str]:
    """Returns the dotted name of each setting by its keyword, former ones included."""
    found: dict[str, str] = {}
    for dotted, item, _ in settings_of(kind):
        found |= dict.fromkeys((*rules_of(item).aliases, dotted.rpartition(".")[2]), dotted)
    return found


def _checked_keywords(system: str, kind: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns values by present keyword, each of its type and allowed by itself."""
    names = _names(kind)
    rules = {dotted: (rules_of(item), hint) for dotted, item, hint in settings_of(kind)}
    values: dict[str, Any] = {}
    for keyword, value in given.items():
        if keyword not in names:
            near = difflib.get_close_matches(keyword, names, n=1)
            meant = (
                f"did you mean {near[0]}?"
                if near
                else f"see the flags of: matrixrl {' '.join(command_words(system))} --help"
            )
            raise ConfigError(f"{system}(): unknown setting {keyword}; {meant}")
        dotted = names[keyword]
        present = dotted.rpartition(".")[2]
        if present in values:
            raise ConfigError(f"{system}(): {keyword} and {present} are one setting; leave one out")
        rule, hint = rules[dotted]
        try:
            plain = _plain(system, keyword, value, hint)
            if isinstance(plain, str):  # a `Path` would hide that it is a URL
                require_local_paths(kind, [f"--{present.replace('_', '-')}={plain}"])
            values[present] = None if plain is None else checked_value(plain, rule, hint)
        except ValueError as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"{system}(): {keyword}={value!r}: {error}") from error
        if plain is None and type(None) not in get_args(hint):
            raise ConfigError(f"{system}(): {keyword}=None: must have a value; leave it out for the preset's")
    return values


def _plain(system: str, keyword: str, value: Any, hint: Any) -> Any:
    """Returns a Python value as a settings file would hold it: paths as text, numbers of NumPy as
    numbers, sequences as lists.
    """
    if keyword == "tensor" and not isinstance(value, str | PathLike) and value is not None:
        return _tensor_text(system, value)
    if keyword == "sweep" and isinstance(value, Mapping):
        return [f"{name}={','.join(str(number) for number in values)}" for name, values in value.items()]
    if isinstance(value, PathLike):
        return os.fspath(value)
    to_list = getattr(value, "tolist", None)  # of arrays and numbers of NumPy and JAX
    if to_list is not None:
        value = to_list()
    if get_origin(hint) is tuple:
        if isinstance(value, str):
            return [value]
        if isinstance(value, range | set | frozenset):
            return list(value)
    return value


def _tensor_text(system: str, value: Any) -> str:
    """Returns the text with which settings record a tensor."""
    import numpy as np

    from matrixrl.schemes.problem import Problem, TensorProblem
    from matrixrl.schemes.scheme import SchemeError
    from matrixrl.schemes.tensor_files import recorded_text

    try:
        problem = value if isinstance(value, Problem) else TensorProblem("tensor", np.asarray(value))
    except SchemeError as error:
        raise ConfigError(f"{system}(): tensor: {error}") from error
    return recorded_text(problem)
