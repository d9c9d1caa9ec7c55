"""The interface of every environment, and the meaning of the end of an episode.

An environment is a pure object with two methods; ``key`` is always an argument and never part of
the state, so a search that holds a state cannot see the randomness of future steps::

    reset(key, params)                -> observation, state
    step(key, state, action, params)  -> observation, state, reward, terminated, truncated, info

Both are written for one environment and batched with `jax.vmap`. ``step`` resets automatically:
when an episode ends, the observation and state it returns belong to the *next* episode, and the
last observation of the old one is in ``info["final_observation"]``.

The end of an episode is described by two flags. ``terminated``: the game is over, and the value of
the last observation is 0. ``truncated``: the episode was cut off (a time limit) although the game
is not over, so a learner bootstraps from the value of the last observation. At most one of them is
true::

    t             0        1        2        3           4        5
    observation  o0 -----> o1 ----> o2 ----> p0 -------> p1 ----> p2 ...
    action          a0       a1       a2        a3          a4
    reward             r1       r2       r3        r4          r5
    ending                              ^
                                        |  the step with a2 ended the episode at o3: it returned p0,
                                        |  the first observation of the next one, and kept o3 in
                                        |  info["final_observation"]

    terminated at that step:  target(o2) = r3
    truncated at that step:   target(o2) = r3 + discount * value(info["final_observation"])
    neither:                  target(o)  = r  + discount * value(next observation)
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Integer, Key, Num, PRNGKeyArray, PyTree, Shaped, UInt32

State = TypeVar("State")
Params = TypeVar("Params")
Class = TypeVar("Class", bound=type)


def with_standard_settings(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a function to be computed or traced under JAX's standard settings; see
    `in_standard_settings`.
    """

    @functools.wraps(function)
    def compute(*arguments: Any, **named: Any) -> Any:
        with (
            jax.enable_x64(False),
            jax.numpy_dtype_promotion("standard"),
            jax.numpy_rank_promotion("allow"),
        ):
            return function(*arguments, **named)

    return compute


def in_standard_settings(cls: Class) -> Class:
    """Makes the public methods of an environment compute under JAX's standard settings (a class
    decorator).

    A program around the environment may have enabled 64-bit types or strict promotion in JAX.
    States keep their small types there, and the results are the same bits.
    """

    for name, value in list(vars(cls).items()):
        if not name.startswith("_") and callable(value) and not isinstance(value, type):
            setattr(cls, name, with_standard_settings(value))
    return cls


class Environment(Protocol[State, Params]):
    """The protocol of every environment, after gymnax 1.0: code written for one works with the
    other.
    """

    @property
    def default_params(self) -> Params:
        """Settings that may change without recompilation."""
        ...

    @property
    def num_actions(self) -> int:
        """Number of discrete actions; actions are ``0 .. num_actions - 1``."""
        ...

    def reset(self, key: PRNGKeyArray, params: Params | None = None) -> tuple[PyTree, State]:
        """Starts a new episode and returns its first observation and state."""
        ...

    def step(
        self, key: PRNGKeyArray, state: State, action: Num[Array, "..."], params: Params | None = None
    ) -> tuple[PyTree, State, Float[Array, ""], Bool[Array, ""], Bool[Array, ""], dict[str, Any]]:
        """Runs one transition: observation, state, reward, terminated, truncated, info. See the
        module's drawing.
        """
        ...

    def legal_action_mask(self, state: State) -> Bool[Array, "A"]:
        """Returns the mask of the actions the state allows, True where legal."""
        ...


class Vectorized(Protocol[State]):
    """An environment for B games at once: the functions that `jax.vmap` of each method of
    `Environment` computes.
    """

    def reset_batch(
        self, keys: Key[Array, "B"] | UInt32[Array, "B 2"], params: PyTree = None
    ) -> tuple[PyTree[Shaped[Array, "B ..."]], State]:
        """Starts an episode for each key."""
        ...

    def step_batch(
        self,
        keys: Key[Array, "B"] | UInt32[Array, "B 2"],
        states: State,
        actions: Num[Array, "B ..."],
        params: PyTree = None,
    ) -> tuple[
        PyTree[Shaped[Array, "B ..."]],
        State,
        Float[Array, "B"],
        Bool[Array, "B"],
        Bool[Array, "B"],
        dict[str, Any],
    ]:
        """Runs one step of B games; every array has the batch first."""
        ...

    def legal_action_mask_batch(self, states: State) -> Bool[Array, "B A"]:
        """Returns the masks of legal actions."""
        ...


def vectorized(env: Environment[Any, Any]) -> Vectorized[Any]:
    """Returns the environment itself if it is written for batches, so that it is traced once; else
    its `vmap`.
    """
    return env if hasattr(env, "step_batch") else _Vmapped(env)  # pyright: ignore[reportReturnType]


class _Vmapped:
    def __init__(self, env: Environment[Any, Any]) -> None:
        self.reset_batch = jax.vmap(env.reset, (0, None))
        self.step_batch = jax.vmap(env.step, (0, 0, 0, None))
        self.legal_action_mask_batch = jax.vmap(env.legal_action_mask)


@dataclass(frozen=True)
class Discrete:
    """The actions ``0 .. n - 1``."""

    n: int
    dtype: Any = jnp.int32

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a scalar."""
        return ()

    def sample(self, key: PRNGKeyArray) -> Integer[Array, ""]:
        """Draws a uniform action."""
        return jax.random.randint(key, (), 0, self.n, self.dtype)

    def contains(self, x: Num[Array, "..."] | int) -> Bool[Array, "..."] | bool:
        """Returns whether `x` is one of the actions."""
        return (x >= 0) & (x < self.n)


@dataclass(frozen=True)
class Box:
    """Arrays of one shape with all values between `low` and `high`."""

    low: float
    high: float
    shape: tuple[int, ...]
    dtype: Any = jnp.float32

    def sample(self, key: PRNGKeyArray) -> Shaped[Array, "..."]:
        """Draws a uniform array of the space, which must be bounded."""
        return jax.random.uniform(key, self.shape, jnp.float32, self.low, self.high).astype(self.dtype)

    def contains(self, x: Shaped[Array, "..."]) -> Bool[Array, ""]:
        """Returns whether all values are between the bounds."""
        return jnp.all((x >= self.low) & (x <= self.high))


@dataclass(frozen=True)
class Dict:
    """Records whose fields are in the spaces of the same names."""

    spaces: Mapping[str, Any]

    @property
    def num_spaces(self) -> int:
        """Number of fields."""
        return len(self.spaces)

    def sample(self, key: PRNGKeyArray) -> dict[str, Any]:
        """Draws a random value of each field."""
        keys = jax.random.split(key, self.num_spaces)
        return {name: space.sample(keys[i]) for i, (name, space) in enumerate(self.spaces.items())}

    def contains(self, x: PyTree) -> Bool[Array, ""]:
        """Returns whether each field is in its space."""
        return jnp.all(jnp.stack([space.contains(getattr(x, name)) for name, space in self.spaces.items()]))


class Spaces(NamedTuple):
    """The classes of spaces."""

    Discrete: Any
    Box: Any
    Dict: Any


def spaces() -> Spaces:
    """Returns gymnax's classes of spaces if gymnax has been imported, since its wrappers check the
    type; else ours.
    """
    gymnax = sys.modules.get("gymnax.environments.spaces")
    return Spaces(Discrete, Box, Dict) if gymnax is None else Spaces(gymnax.Discrete, gymnax.Box, gymnax.Dict)
