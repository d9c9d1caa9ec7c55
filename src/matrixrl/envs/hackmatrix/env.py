"""HackMatrix as an environment: `reset`, `step` with automatic reset, `legal_action_mask`.

It has all methods and properties of an environment of gymnax 1.0, so that wrappers and training
code written for gymnax work with it; `matrixrl.envs.hackmatrix.gymnax_env` registers it there.
Called outside of `jit` and `vmap`, the methods are compiled once for all instances.

`jax.vmap` of these methods does not batch them operation by operation: it calls the functions of
`matrixrl.envs.hackmatrix.batch`, which process the whole batch at once, generate stages only for
the lanes that need one, and give every lane the same result, bit for bit, at any batch size.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import Tracer
from jax.custom_batching import custom_vmap
from jaxtyping import Bool, Float32, Int32, Integer, Key, PRNGKeyArray, UInt32

from matrixrl.config import require
from matrixrl.envs.base import in_standard_settings, spaces, with_standard_settings
from matrixrl.envs.hackmatrix import batch, observation
from matrixrl.envs.hackmatrix.draws import key_words, pick
from matrixrl.envs.hackmatrix.observation import Encoded, EncodedBatch
from matrixrl.envs.hackmatrix.rules import (
    DEFAULT_TIME_LIMIT,
    DEFAULT_UNDO_DEPTH,
    NUM_ACTIONS,
    OBSERVATION_SIZE,
    Outcome,
)
from matrixrl.envs.hackmatrix.state import State


class EnvParams(NamedTuple):
    """Settings that may change without recompilation.

    Attributes:
      max_steps_in_episode: number of steps after which an unfinished episode is truncated. The
        rules have no limit.
    """

    max_steps_in_episode: int | Array = DEFAULT_TIME_LIMIT

    def replace(self, **values: Any) -> EnvParams:
        """Returns a copy with these fields replaced, as the parameters of gymnax do."""
        return self._replace(**values)


@in_standard_settings
class HackMatrix:
    """The game of docs/envs/hackmatrix_rules.md; `matrixrl.envs.base` describes what `step`
    returns.

    Args:
      undo_depth: number of snapshots kept for UNDO, at least 1 (rule 13).
      packed: observations are uint32[117] instead of float32[1545]: the same content in a
        thirteenth of the memory, for large buffers. `observation.unpack` restores the flat ones,
        bit for bit.
    """

    version = 0
    supports_transition_gradients = False
    transition_gradients_enabled = False

    def __init__(self, undo_depth: int = DEFAULT_UNDO_DEPTH, packed: bool = False) -> None:
        require(undo_depth >= 1, f"undo_depth {undo_depth}: must be 1 or more")
        self.undo_depth = undo_depth
        self.packed = packed
        self._functions = _functions(undo_depth, packed)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles and copies the settings; the functions of an instance depend on nothing else."""
        return type(self), (self.undo_depth, self.packed)

    @property
    def name(self) -> str:
        """Name of the environment."""
        return f"HackMatrix-v{self.version}"

    @property
    def default_params(self) -> EnvParams:
        """A time limit of 1,000 steps."""
        return EnvParams()

    @property
    def num_actions(self) -> int:
        """28 actions (rule 4)."""
        return NUM_ACTIONS

    @property
    def observation_size(self) -> int:
        """1545 values (rule 19.4), or the 117 words that pack them."""
        return observation.PACKED_WORDS if self.packed else OBSERVATION_SIZE

    @property
    def obs_shape(self) -> tuple[int, ...]:
        """Shape of an observation."""
        return (self.observation_size,)

    def action_space(self, params: EnvParams | None = None) -> Any:
        """Returns the space of the 28 actions."""
        del params
        return spaces().Discrete(NUM_ACTIONS)

    def observation_space(self, params: EnvParams | None = None) -> Any:
        """Returns the space of observations; a few values can exceed 1 late in a game, none is
        negative (rule 19.3).
        """
        del params
        if self.packed:
            return spaces().Box(0.0, float(2**32 - 1), self.obs_shape, jnp.uint32)
        return spaces().Box(0.0, 2.0**31, self.obs_shape, jnp.float32)

    def state_space(self, params: EnvParams | None = None) -> Any:
        """Returns the space of states, by field name: each array within the range of its type."""
        del params
        return _space_of(_state_shapes(self.undo_depth))

    def reset(self, key: PRNGKeyArray, params: EnvParams | None = None) -> tuple[Encoded, State]:
        """Starts a new game and returns the observation and the state (rule 15)."""
        del params
        return self._run("reset", key_words(key))

    def reset_env(self, key: PRNGKeyArray, params: EnvParams | None = None) -> tuple[Encoded, State]:
        """Starts a new game, as `reset` does."""
        del params
        return self._run("reset", key_words(key))

    def step(
        self, key: PRNGKeyArray, state: State, action: Array | int, params: EnvParams | None = None
    ) -> tuple[Encoded, State, Float32[Array, ""], Bool[Array, ""], Bool[Array, ""], dict[str, Any]]:
        """Runs one step with automatic reset (rule 5).

        Args:
          key: the key of this step alone; it determines all randomness of the step and of the
            reset.
          state: the state.
          action: int 0..27; any other number is an invalid action.
          params: the time limit.

        Returns:
          observation, state, reward, terminated, truncated, and info with `reward_breakdown` (14
          float32 by the names of the rules), `stage_completed`, `invalid_action`, `died`, `won`
          (bool), `outcome` (int32, a `rules.Outcome`), `stage`, `score`, `episode_length` (int32),
          `episode_return` (float32) of the step's own episode, `terminated`, `truncated`,
          `discount` (float32, 0 where the game is over, else 1), and `final_observation`: the
          observation before the automatic reset.

        Raises:
          ValueError: if the action is no integer, or is known outside of `jit` and `vmap` and not
            0..27.
        """
        result = self._run("step", key_words(key), state, _checked(action), self._limit(params))
        observation, state, reward, terminated, truncated, info = result
        more = {"terminated": terminated, "truncated": truncated, "discount": _discount(terminated)}
        return observation, state, reward, terminated, truncated, {**info, **more}

    def step_env(
        self, key: PRNGKeyArray, state: State, action: Array | int, params: EnvParams | None = None
    ) -> tuple[Encoded, State, Float32[Array, ""], Bool[Array, ""], dict[str, Any]]:
        """Runs one step without the automatic reset and without `truncated`; the same key gives the
        same draws.

        A state whose episode has ended must not be stepped further.
        """
        result = self._run("step_env", key_words(key), state, _checked(action), self._limit(params))
        observation, state, reward, terminated, _, info = result
        return observation, state, reward, terminated, {**info, "discount": _discount(terminated)}

    def legal_action_mask(self, state: State) -> Bool[Array, "28"]:
        """Returns the mask of valid actions (rule 20)."""
        return self._run("mask", state)

    def observation(self, state: State) -> Encoded:
        """Returns the observation of a state; `observation.split` names the parts of a flat one."""
        return self._run("observe", state)

    def get_obs(
        self, state: State, params: EnvParams | None = None, key: PRNGKeyArray | None = None
    ) -> Encoded:
        """Returns the observation of a state: `observation`, by its name in gymnax."""
        del params, key
        return self.observation(state)

    def observe(
        self, key: PRNGKeyArray, state: State, action: Any = None, params: EnvParams | None = None
    ) -> Encoded:
        """Returns the observation of a state, which depends on neither key nor action."""
        del key, action, params
        return self.observation(state)

    def is_terminated(self, state: State, params: EnvParams | None = None) -> Bool[Array, "..."]:
        """Returns whether the game of a state is over; never true for a state that `step` returned,
        which resets.
        """
        del params
        return jnp.asarray(state.outcome) != Outcome.PLAYING

    def is_terminal(self, state: State, params: EnvParams | None = None) -> Bool[Array, "..."]:
        """Returns whether the game of a state is over: `is_terminated`, by its older name in
        gymnax.
        """
        return self.is_terminated(state, params)

    def is_truncated(self, state: State, params: EnvParams | None = None) -> Bool[Array, "..."]:
        """Returns whether a state has reached the time limit while its game is not over."""
        return ~self.is_terminated(state) & (jnp.asarray(state.time) >= self._limit(params))

    def discount(self, state: State, params: EnvParams | None = None) -> Float32[Array, "..."]:
        """Returns the discount factor of the states that follow: 0 where the game is over, else
        1.
        """
        return _discount(self.is_terminated(state, params))

    def with_transition_gradients(self) -> HackMatrix:
        """Raises `ValueError`: states are integers and have no gradients."""
        raise ValueError(f"{self.name} does not support transition gradients: its states are whole numbers")

    def reset_batch(
        self, keys: Key[Array, "B"] | UInt32[Array, "B 2"], params: EnvParams | None = None
    ) -> tuple[EncodedBatch, State]:
        """Starts a game for each key: the function that `jax.vmap(env.reset)` calls."""
        del params
        return self._functions.reset_batch(key_words(keys))

    def step_batch(
        self,
        keys: Key[Array, "B"] | UInt32[Array, "B 2"],
        states: State,
        actions: Integer[Array, "B"],
        params: EnvParams | None = None,
    ) -> tuple[EncodedBatch, State, Float32[Array, "B"], Bool[Array, "B"], Bool[Array, "B"], dict[str, Any]]:
        """Runs one step of B games: the function that `jax.vmap(env.step)` calls. Every array has
        the batch first.
        """
        results = self._functions.step_batch(
            key_words(keys),
            states,
            actions.astype(jnp.int32),
            jnp.broadcast_to(self._limit(params), actions.shape),
        )
        return tuple(results)

    def legal_action_mask_batch(self, states: State) -> Bool[Array, "B 28"]:
        """Returns the masks of B games."""
        return _legal_action_mask(states)

    def _limit(self, params: EnvParams | None) -> Array:
        params = self.default_params if params is None else params
        return jnp.asarray(params.max_steps_in_episode, jnp.int32)

    def _run(self, name: str, *args: Any) -> Any:
        """Runs a function of one game: uncompiled while it is traced, else compiled."""
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(args)):
            return self._functions.traced[name](*args)
        return self._functions.compiled[name](*args)


class _Functions(NamedTuple):
    """The functions of the game: `traced` and `compiled` are for one game, by name; the others for
    a batch.
    """

    traced: dict[str, Callable[..., Any]]
    compiled: dict[str, Callable[..., Any]]
    reset_batch: Callable[..., Any]
    step_batch: Callable[..., Any]


# `vmap` may call a function of the batch long after the method that it belongs to, so each one
# applies the settings itself.
_legal_action_mask = with_standard_settings(batch.legal_action_mask)


@cache
def _functions(undo_depth: int, packed: bool) -> _Functions:
    """Returns the functions of one type of environment, which all its instances share."""
    encode = observation.pack if packed else observation.encode
    step_batch = with_standard_settings(partial(batch.step, encode=encode))
    reset_batch = with_standard_settings(partial(batch.reset, undo_depth=undo_depth, encode=encode))
    traced = {
        "step": _batched(step_batch),
        "step_env": _batched(with_standard_settings(partial(batch.step, resets=False, encode=encode))),
        "reset": _batched(reset_batch),
        "mask": _batched(_legal_action_mask),
        "observe": _batched(with_standard_settings(partial(batch.observe, encode=encode))),
    }
    compiled = {name: jax.jit(function) for name, function in traced.items()}
    return _Functions(traced, compiled, reset_batch, step_batch)


@cache
def _state_shapes(undo_depth: int) -> State:
    """Returns shapes and types of a state's arrays."""
    reset = _functions(undo_depth, False).traced["reset"]
    return jax.eval_shape(lambda key: reset(key_words(key))[1], jax.ShapeDtypeStruct((2,), jnp.uint32))


def _space_of(part: Any) -> Any:
    """Returns the space of a record of arrays, or of an array."""
    if hasattr(part, "_asdict"):
        return spaces().Dict({name: _space_of(value) for name, value in part._asdict().items()})
    if part.dtype == jnp.bool:
        return spaces().Box(0.0, 1.0, part.shape, part.dtype)
    info = jnp.iinfo(part.dtype) if jnp.issubdtype(part.dtype, jnp.integer) else jnp.finfo(part.dtype)
    return spaces().Box(float(info.min), float(info.max), part.shape, part.dtype)


def _discount(terminated: Array) -> Array:
    return jnp.where(terminated, jnp.float32(0), jnp.float32(1))


def _checked(action: Array | int) -> Array:
    """Returns the action as int32; refuses a value that is no integer, and a known one that is no
    action.

    A traced integer that is no action is handled by the rules.
    """
    if isinstance(action, Tracer):
        if action.dtype.kind not in "iub":
            raise ValueError(
                f"action of type {action.dtype}: actions are the integers 0 to {NUM_ACTIONS - 1}"
            )
        return action.astype(jnp.int32)
    try:
        number = operator.index(action)
    except TypeError:
        number = -1
    if not 0 <= number < NUM_ACTIONS:
        raise ValueError(f"action {_shorten(action)}: actions are the integers 0 to {NUM_ACTIONS - 1}")
    return jnp.asarray(number, jnp.int32)


def _shorten(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 40 else text[:37] + "..."


def _batched(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a function of a batch as a function of one game whose `vmap` is the function of the
    batch.
    """

    @custom_vmap
    def single(*args: Any) -> Any:
        one = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], args)
        return jax.tree.map(lambda leaf: leaf[0], function(*one))

    @single.def_vmap
    def rule(axis_size: int, in_batched: Any, *args: Any) -> Any:
        full = jax.tree.map(
            lambda leaf, batched: leaf if batched else jnp.broadcast_to(leaf, (axis_size, *jnp.shape(leaf))),
            args,
            tuple(in_batched),
        )
        result = function(*full)
        return result, jax.tree.map(lambda _: True, result)

    return single


@with_standard_settings
def random_legal_action(key: PRNGKeyArray, mask: Bool[Array, "*B 28"]) -> Int32[Array, "*B"]:
    """Draws uniformly among the legal actions of each mask; 0 if there is none."""
    weights = jnp.cumsum(mask.astype(jnp.int32), axis=-1)
    total = weights[..., -1:]
    n = pick(jax.random.bits(key, total.shape, jnp.uint32), total)
    return jnp.argmax(weights > n, axis=-1).astype(jnp.int32)
