"""Environments and networks that a user names: `gymnax:NAME`, `gymnasium:NAME`,
`package.module:factory`, `path/to/file.py:factory`.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import inspect
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp

from matrixrl.config import ConfigError
from matrixrl.config.environment import (
    GYMNASIUM,
    EnvironmentRunConfig,
    names_file,
    names_gymnasium,
    names_gymnax,
    split_spec,
)
from matrixrl.envs.adapters.gymnasium import GymnasiumEnvironment
from matrixrl.envs.adapters.gymnax import GymnaxEnvironment, described
from matrixrl.networks.policies import PolicyValue
from matrixrl.user_code import import_file
from matrixrl.user_files import display_path

GYMNAX_MISSING = "it needs gymnax, which is not installed: pip install 'matrixrl[gymnax]'"


AnyEnvironment = GymnaxEnvironment | GymnasiumEnvironment


def load_environment(spec: str, time_limit: int | None = None) -> AnyEnvironment:
    """Imports and builds the environment of `--env`.

    Args:
      time_limit: maximum number of steps of an episode of Gymnasium; those of gymnax take it as a
        parameter.

    Raises:
      ConfigError: if it cannot be imported, or breaks the interface of gymnax 1.0.
    """
    if names_gymnasium(spec):
        return GymnasiumEnvironment(spec.removeprefix(GYMNASIUM), spec, time_limit)
    if names_gymnax(spec):
        env, params = _from_gymnax(spec)
        return GymnaxEnvironment(env, params, spec)
    with _import_folder(spec):
        found = _attribute("--env", spec)
        env = found
        if isinstance(found, type) or (callable(found) and not hasattr(found, "reset")):
            env = _called("--env", spec, found)
        params = None
        if isinstance(env, tuple) and len(env) == 2:
            env, params = env  # as `gymnax.make` returns them
        return GymnaxEnvironment(env, params, spec)


def require_exists(flag: str, spec: str) -> None:
    """Refuses the name of an environment or a network that does not exist. Of the user's code it
    imports the module, and calls nothing.

    Args:
      flag: `--env` or `--network`.

    Raises:
      ConfigError: if the name cannot be resolved.
    """
    if flag == "--env" and (names_gymnax(spec) or names_gymnasium(spec)):
        load_environment(spec)
        return
    with _import_folder(spec):
        _attribute(flag, spec)


def load_network(config: EnvironmentRunConfig, env: AnyEnvironment) -> Any:
    """Returns the network of a run: the user's, or the default one for the environment.

    Raises:
      ConfigError: if `--network` cannot be imported, or its results do not fit the environment.
    """
    settings, actions = config.network, env.actions
    if settings.network is None:
        return PolicyValue(
            action_size=actions.size,
            is_continuous=actions.is_continuous,
            hidden_dim=settings.hidden_dim,
            num_layers=settings.num_layers,
            activation=settings.activation,
            num_categories=env.num_discrete_observations,
        )
    spec = settings.network
    with _import_folder(spec):
        network = _attribute("--network", spec)
        if isinstance(network, type) or not (hasattr(network, "init") and hasattr(network, "apply")):
            network = _called("--network", spec, network, actions.size)
        for method in ("init", "apply"):
            if not callable(getattr(network, method, None)):
                raise ConfigError(
                    f"--network {spec}: expected a flax module, or an object with init(key, observations) and "
                    f"apply(params, observations), came {type(network).__name__} without {method}"
                )
        network = UserNetwork(network, actions.size, actions.is_continuous)
        _check_network(spec, network, env, config)
    return network


class UserNetwork:
    """A network of the user, whose policy outputs are brought to the form that the learner takes.

    Args:
      network: has `init` and `apply`.
      action_size: number of actions, or of the numbers of a continuous one.
    """

    def __init__(self, network: Any, action_size: int, is_continuous: bool) -> None:
        self._network = network
        self._action_size = action_size
        self._is_continuous = is_continuous

    def init(self, key: Any, observations: Any) -> Any:
        """Returns initial parameters."""
        return self._network.init(key, observations)

    def apply(self, params: Any, observations: Any) -> tuple[Any, Any]:
        """Returns policy outputs and values; 2 D outputs are D means and D logarithms of standard
        deviations.
        """
        outputs, values = self._network.apply(params, observations)
        size = self._action_size
        if self._is_continuous and not isinstance(outputs, tuple) and outputs.shape[-1] == 2 * size:
            outputs = outputs[..., :size], outputs[..., size:]
        return outputs, values


def _check_network(
    spec: str, network: UserNetwork, env: AnyEnvironment, config: EnvironmentRunConfig
) -> None:
    """Refuses a network whose results do not fit, before anything compiles."""
    count, size = 2, env.actions.size
    # Normalised observations are float32.
    as_float = normalizes(config.normalize_observations, env)
    observations = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((count, *leaf.shape), jnp.float32 if as_float else leaf.dtype),
        env.observation_shapes,
    )
    key = jax.eval_shape(lambda: jax.random.key(0))
    try:
        results = jax.eval_shape(
            lambda key, shown: network.apply(network.init(key, shown), shown), key, observations
        )
        outputs, values = results
    except Exception as error:
        raise ConfigError(
            f"--network {spec}: expected (policy outputs, values) for a batch of observations, but it {described(error)}"
        ) from error
    shapes = tuple(
        getattr(leaf, "shape", None) for leaf in (outputs if isinstance(outputs, tuple) else (outputs,))
    )
    if env.actions.is_continuous:
        good = len(shapes) == 2 and shapes[0] == (count, size) and shapes[1] in ((count, size), (size,))
        wanted = f"means (N, {size}) and logarithms of standard deviations (N, {size}) or ({size},)"
    else:
        good, wanted = shapes == ((count, size),), f"logits (N, {size})"
    shape = getattr(values, "shape", None)
    if not good or shape != (count,):
        raise ConfigError(
            f"--network {spec}: expected {wanted} and values (N,) for N observations, came "
            f"{' and '.join(map(str, shapes))} and values {shape} for N = {count}"
        )


def normalizes(choice: str, env: AnyEnvironment) -> bool:
    """Returns whether observations or rewards are normalised: by default if actions are
    continuous, unless observations are images.
    """
    if choice != "auto":
        return choice == "on"
    images = any(len(leaf.shape) > 1 for leaf in jax.tree.leaves(env.observation_shapes))
    return env.actions.is_continuous and not images


def _from_gymnax(spec: str) -> tuple[Any, Any]:
    name = spec.partition(":")[2]
    try:
        import gymnax  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise ConfigError(f"--env {spec}: {GYMNAX_MISSING}") from error
    registered = list(getattr(gymnax, "registered_envs", ()))
    if registered and name not in registered:
        near = difflib.get_close_matches(name, registered, n=3) or registered[:6]
        raise ConfigError(
            f"--env {spec}: gymnax has no environment {name}; it has, for example, {', '.join(near)}"
        )
    try:
        return gymnax.make(name)
    except Exception as error:
        raise ConfigError(f"--env {spec}: gymnax.make({name!r}) {described(error)}") from error


@contextlib.contextmanager
def _import_folder(spec: str) -> Iterator[None]:
    """Lets modules import their neighbours, in the folder of the file or in the current one."""
    module = split_spec(spec)[0]
    folder = str(Path(module).resolve().parent) if names_file(spec) else os.getcwd()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)


def _module(flag: str, spec: str) -> ModuleType:
    name = split_spec(spec)[0]
    try:
        if not names_file(spec):
            return importlib.import_module(name)
        path = Path(name).expanduser().resolve()
        if not path.is_file():
            raise ConfigError(f"{flag} {spec}: there is no file {display_path(path)}")
        return import_file(path)
    except ConfigError:
        raise
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigError(
                f"{flag} {spec}: there is no module {error.name}; run from the folder that holds it, set PYTHONPATH, or "
                "name the file: path/to/file.py:factory"
            ) from error
        raise ConfigError(f"{flag} {spec}: importing it {described(error)}") from error
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{flag} {spec}: importing it {described(error)}") from error


def _attribute(flag: str, spec: str) -> Any:
    found: Any = _module(flag, spec)
    for part in split_spec(spec)[1].split("."):
        if not hasattr(found, part):
            public = (
                [name for name in vars(found) if not name.startswith("_")]
                if hasattr(found, "__dict__")
                else []
            )
            near = difflib.get_close_matches(part, public, n=1)
            meant = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(f"{flag} {spec}: {split_spec(spec)[0]} has no {part}{meant}")
        found = getattr(found, part)
    return found


def _called(flag: str, spec: str, factory: Any, action_size: int | None = None) -> Any:
    """Calls a factory; one for networks is given the number of actions if it takes it."""
    if not callable(factory):
        raise ConfigError(f"{flag} {spec}: expected a function or a class, came {type(factory).__name__}")
    arguments: list[Any] = []
    named: dict[str, Any] = {}
    if action_size is not None:
        with contextlib.suppress(TypeError, ValueError):
            parameters = inspect.signature(factory).parameters
            kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
            by_name = [name for name in ("num_actions", "action_size") if name in parameters]
            required = [
                p for p in parameters.values() if p.kind in kinds and p.default is inspect.Parameter.empty
            ]
            if by_name:
                named = {by_name[0]: action_size}
            elif required:
                arguments = [action_size]
    try:
        return factory(*arguments, **named)
    except Exception as error:
        raise ConfigError(f"{flag} {spec}: {split_spec(spec)[1]}() {described(error)}") from error
