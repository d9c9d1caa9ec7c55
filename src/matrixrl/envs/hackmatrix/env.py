"""HackMatrix as an environment: `reset`, `step` with automatic reset, `legal_action_mask`.

`jax.vmap` of these methods does not batch them operation by operation: it calls the functions of
`matrixrl.envs.hackmatrix.batch`, which work on the whole batch at once, generate stages only for the lanes that need
one, and give every lane the same result, bit for bit, at any batch size.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.custom_batching import custom_vmap

from matrixrl.config import require
from matrixrl.envs.base import Box, Discrete, in_standard_settings
from matrixrl.envs.hackmatrix import batch, observation
from matrixrl.envs.hackmatrix.draws import key_words, pick
from matrixrl.envs.hackmatrix.rules import (
    DEFAULT_TIME_LIMIT,
    DEFAULT_UNDO_DEPTH,
    NUM_ACTIONS,
    OBSERVATION_SIZE,
)
from matrixrl.envs.hackmatrix.state import State


class EnvParams(NamedTuple):
    """Settings that may change without a new compilation.

    Attributes:
      max_steps_in_episode: steps after which an episode that has not ended is truncated. The rules know no limit.
    """

    max_steps_in_episode: int | jax.Array = DEFAULT_TIME_LIMIT


@in_standard_settings
class HackMatrix:
    """The game of the rule book [1-22]; see `matrixrl.envs.base` for what `step` returns.

    Args:
      undo_depth: snapshots kept for UNDO, at least 1 [13].
      packed: observations are uint32[117] in place of float32[1545]: the same content in a thirteenth of the memory, for
        buffers that hold many. `observation.unpack` gives the flat ones, bit for bit.
    """

    version = 0

    def __init__(self, undo_depth: int = DEFAULT_UNDO_DEPTH, packed: bool = False) -> None:
        require(undo_depth >= 1, f"undo_depth {undo_depth}: must be 1 or more")
        self.undo_depth = undo_depth
        self.packed = packed
        encode = observation.pack if packed else observation.encode
        self._step_batch = partial(batch.step, encode=encode)
        self._reset_batch = partial(batch.reset, undo_depth=undo_depth, encode=encode)
        self._step = _batched(self._step_batch)
        self._step_env = _batched(partial(self._step_batch, resets=False))
        self._reset = _batched(self._reset_batch)
        self._mask = _batched(batch.legal_action_mask)
        self._observe = _batched(partial(batch.observe, encode=encode))

    @property
    def default_params(self) -> EnvParams:
        """A time limit of 1,000 steps."""
        return EnvParams()

    @property
    def num_actions(self) -> int:
        """28 actions [4]."""
        return NUM_ACTIONS

    @property
    def observation_size(self) -> int:
        """1545 values [19.4], or 117 words that hold them."""
        return observation.PACKED_WORDS if self.packed else OBSERVATION_SIZE

    def action_space(self, params: EnvParams | None = None) -> Discrete:
        """The 28 actions."""
        del params
        return Discrete(NUM_ACTIONS)

    def observation_space(self, params: EnvParams | None = None) -> Box:
        """The flat observation; a few values can exceed 1 late in a game, none is negative [19.3]."""
        del params
        if self.packed:
            return Box(0, 2**32 - 1, (observation.PACKED_WORDS,), jnp.uint32)
        return Box(0.0, float("inf"), (OBSERVATION_SIZE,))

    def reset(self, key: jax.Array, params: EnvParams | None = None) -> tuple[jax.Array, State]:
        """A new game [15]: the flat observation, float32[1545], and the state."""
        del params
        return self._reset(key_words(key))

    def step(
        self, key: jax.Array, state: State, action: jax.Array | int, params: EnvParams | None = None
    ) -> tuple[jax.Array, State, jax.Array, jax.Array, jax.Array, dict[str, Any]]:
        """One step [5] with automatic reset.

        Args:
          key: the key of this step alone; it decides the chance of the step and of the reset.
          state: the state.
          action: int 0..27; any other number is an invalid action.
          params: the time limit.

        Returns:
          observation float32[1545], state, reward float32, terminated bool, truncated bool, and info with
          `reward_breakdown` (14 float32 by the names of the rules), `stage_completed`, `invalid_action`, `died`,
          `won` (bool), `outcome` (int32, a `rules.Outcome`), `stage`, `score`, `episode_length` (int32),
          `episode_return` (float32) of the step's own episode, and `final_observation`: the observation before
          the automatic reset.

        Raises:
          ValueError: outside of `jit` and `vmap`, the action is not 0..27.
        """
        params = self.default_params if params is None else params
        limit = jnp.asarray(params.max_steps_in_episode, jnp.int32)
        return self._step(key_words(key), state, _checked(action), limit)

    def step_env(
        self, key: jax.Array, state: State, action: jax.Array | int, params: EnvParams | None = None
    ) -> tuple[jax.Array, State, jax.Array, jax.Array, dict[str, Any]]:
        """`step` without the automatic reset and without `truncated`, as in gymnax; the same key, the same chance.

        A state whose episode has ended is not to be stepped further.
        """
        params = self.default_params if params is None else params
        limit = jnp.asarray(params.max_steps_in_episode, jnp.int32)
        result = self._step_env(key_words(key), state, _checked(action), limit)
        observation, state, reward, terminated, _, info = result
        return observation, state, reward, terminated, info

    def legal_action_mask(self, state: State) -> jax.Array:
        """Which actions are valid, bool[28] [20]."""
        return self._mask(state)

    def observation(self, state: State) -> jax.Array:
        """The observation of a state; `observation.split` names the parts of a flat one."""
        return self._observe(state)

    def reset_batch(self, keys: jax.Array, params: EnvParams | None = None) -> tuple[jax.Array, State]:
        """`reset` for keys [B]: what `jax.vmap(env.reset)` calls."""
        del params
        return self._reset_batch(key_words(keys))

    def step_batch(
        self, keys: jax.Array, states: State, actions: jax.Array, params: EnvParams | None = None
    ) -> tuple[jax.Array, State, jax.Array, jax.Array, jax.Array, dict[str, Any]]:
        """`step` for B games: what `jax.vmap(env.step)` calls. Every array has the batch first."""
        params = self.default_params if params is None else params
        limit = jnp.asarray(params.max_steps_in_episode, jnp.int32)
        return self._step_batch(
            key_words(keys), states, actions.astype(jnp.int32), jnp.broadcast_to(limit, actions.shape)
        )

    def legal_action_mask_batch(self, states: State) -> jax.Array:
        """`legal_action_mask` for B games, bool[B, 28]."""
        return batch.legal_action_mask(states)


def _checked(action: jax.Array | int) -> jax.Array:
    """The action as int32; a known one that is no action is refused, a traced one is left to the rules."""
    if not isinstance(action, Tracer) and not 0 <= int(action) < NUM_ACTIONS:
        raise ValueError(f"action {int(action)}: actions are the integers 0 to {NUM_ACTIONS - 1}")
    return jnp.asarray(action, jnp.int32)


def _batched(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of a batch as a function of one, whose `vmap` is the function of the batch."""

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


def random_legal_action(key: jax.Array, mask: jax.Array) -> jax.Array:
    """A uniform choice among the legal actions, int32[...] for a mask bool[..., 28]; 0 if there is none."""
    weights = jnp.cumsum(mask.astype(jnp.int32), axis=-1)
    total = weights[..., -1:]
    n = pick(jax.random.bits(key, total.shape, jnp.uint32), total)
    return jnp.argmax(weights > n, axis=-1).astype(jnp.int32)
