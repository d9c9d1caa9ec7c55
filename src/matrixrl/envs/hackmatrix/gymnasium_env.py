"""HackMatrix for Gymnasium: `MatrixRL/HackMatrix-v0`, and a vector environment on the JAX batch.

Importing this module registers the environment::

    import gymnasium
    import matrixrl.envs.hackmatrix.gymnasium_env

    env = gymnasium.make("MatrixRL/HackMatrix-v0", render_mode="ansi")
    envs = gymnasium.make_vec("MatrixRL/HackMatrix-v0", num_envs=256)

`action_masks()` is what sb3-contrib's MaskablePPO asks for. Needs the extra `matrixrl[gymnasium]`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from matrixrl.envs.hackmatrix.convert import from_game_state, to_game_state
from matrixrl.envs.hackmatrix.env import EnvParams, HackMatrix
from matrixrl.envs.hackmatrix.referee import GameState
from matrixrl.envs.hackmatrix.rules import (
    DEFAULT_TIME_LIMIT,
    NUM_ACTIONS,
    OBSERVATION_SIZE,
    Outcome,
)
from matrixrl.envs.hackmatrix.scenario import load

ENV_ID = "MatrixRL/HackMatrix-v0"
# No value reaches the bound; an infinite one would keep users from sampling the space.
OBSERVATION_SPACE = gymnasium.spaces.Box(0.0, 2.0**31, (OBSERVATION_SIZE,), np.float32)
ACTION_SPACE = gymnasium.spaces.Discrete(NUM_ACTIONS)


class _Compiled(NamedTuple):
    reset: Callable[..., Any]
    step: Callable[..., Any]
    mask: Callable[..., Any]
    observe: Callable[..., Any]


@cache
def _compiled() -> _Compiled:
    """The game's functions, compiled once for all `HackMatrixEnv` of the process: vectors of them hold hundreds."""
    game = HackMatrix()
    functions = (game.reset, game.step_env, game.legal_action_mask, game.observation)
    return _Compiled(*map(jax.jit, functions))


class HackMatrixEnv(gymnasium.Env):
    """One game; the flat observation of 1545 values.

    `reset(options={"scenario": scenario})` starts from a scenario, a dict or its JSON text. There is no time limit
    here: `gymnasium.make` adds one of 1,000 steps.

    Args:
      render_mode: None, ``ansi`` (text) or ``rgb_array`` (picture).
    """

    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 4}  # noqa: RUF012, declared so by gymnasium

    def __init__(self, render_mode: str | None = None) -> None:
        modes = self.metadata["render_modes"]
        if render_mode is not None and render_mode not in modes:
            raise gymnasium.error.Error(f"render_mode {render_mode!r}: must be None or one of {modes}")
        self.render_mode = render_mode
        self.observation_space = OBSERVATION_SPACE
        self.action_space = ACTION_SPACE
        self._game = _compiled()
        self._state: Any = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """A new game, or the scenario in `options`."""
        super().reset(seed=seed)
        scenario = (options or {}).get("scenario")
        if scenario is None:
            observation, self._state = self._game.reset(self._key())
        else:
            self._state = jax.tree.map(jnp.asarray, from_game_state(load(scenario).state))
            observation = self._game.observe(self._state)
        return np.asarray(observation), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One step; an invalid action ends the episode with reward 0."""
        self._require_reset("step")
        if not self.action_space.contains(np.int64(action)):
            raise gymnasium.error.InvalidAction(
                f"action {action!r}: must be an integer 0 to {NUM_ACTIONS - 1}"
            )
        outputs = self._game.step(self._key(), self._state, jnp.int32(action))
        observation, self._state, reward, terminated, info = outputs
        info = jax.device_get(info)
        plain = {
            "reward_breakdown": {name: float(value) for name, value in info["reward_breakdown"].items()},
            "outcome": Outcome(int(info["outcome"])).name.lower(),
            "stage": int(info["stage"]),
            "score": int(info["score"]),
            "stage_completed": bool(info["stage_completed"]),
        }
        return np.asarray(observation), float(reward), bool(terminated), False, plain

    def action_masks(self) -> np.ndarray:
        """Which actions are legal, bool[28]."""
        self._require_reset("action_masks")
        return np.asarray(self._game.mask(self._state))

    @property
    def game_state(self) -> GameState:
        """The game as plain records, for `scenario.dump` and pictures."""
        self._require_reset("game_state")
        return to_game_state(jax.device_get(self._state))

    def render(self) -> Any:
        """The text of the board, or its picture as uint8[height, width, 3]; None without a render mode."""
        # Pictures need an imaging library that play does not.
        from matrixrl.envs.hackmatrix import render

        if self.render_mode is None:
            return None
        self._require_reset("render")
        if self.render_mode == "ansi":
            return render.render_text(self.game_state)
        return render.render_rgb(self.game_state)

    def _key(self) -> jax.Array:
        return jnp.asarray(self.np_random.integers(0, 2**32, 2, dtype=np.uint32))

    def _require_reset(self, call: str) -> None:
        if self._state is None:
            raise gymnasium.error.ResetNeeded(f"Cannot call env.{call}() before calling env.reset()")


class HackMatrixVectorEnv(VectorEnv):
    """Many games in one JAX batch, reset in the step that ends them (``AutoresetMode.SAME_STEP``).

    Args:
      num_envs: how many games.
      max_episode_steps: the time limit, after which a game is truncated.
      render_mode: must be None.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}  # noqa: RUF012

    def __init__(
        self,
        num_envs: int = 1,
        max_episode_steps: int | None = DEFAULT_TIME_LIMIT,
        render_mode: str | None = None,
    ) -> None:
        if render_mode is not None:
            raise gymnasium.error.Error(f"render_mode {render_mode!r}: the vector environment draws nothing")
        self.num_envs = num_envs
        self.render_mode = None
        self.single_observation_space = OBSERVATION_SPACE
        self.single_action_space = ACTION_SPACE
        self.observation_space = batch_space(OBSERVATION_SPACE, num_envs)
        self.action_space = batch_space(ACTION_SPACE, num_envs)
        game = HackMatrix()
        limit = np.iinfo(np.int32).max if max_episode_steps is None else max_episode_steps
        self._reset = jax.jit(jax.vmap(game.reset))
        self._step = jax.jit(jax.vmap(partial(game.step, params=EnvParams(limit))), donate_argnums=1)
        self._mask = jax.jit(jax.vmap(game.legal_action_mask))
        self._states: Any = None

    def reset(
        self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """New games. A list of seeds is one stream of chance too: every game depends on all of them."""
        if seed is not None:
            self._np_random = np.random.default_rng(seed)
        del options
        observations, self._states = self._reset(self._keys())
        return np.asarray(observations), {}

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One step of every game. ``info["final_obs"]`` holds the last observations where ``_final_obs``."""
        if self._states is None:
            raise gymnasium.error.ResetNeeded("Cannot call env.step() before calling env.reset()")
        if not self.action_space.contains(np.asarray(actions, np.int64)):
            raise gymnasium.error.InvalidAction(
                f"actions {actions!r}: must be {self.num_envs} integers 0 to {NUM_ACTIONS - 1}"
            )
        outputs = self._step(self._keys(), self._states, jnp.asarray(actions, jnp.int32))
        observations, self._states, rewards, terminated, truncated, info = outputs
        terminated, truncated = np.asarray(terminated), np.asarray(truncated)
        plain = {name: np.asarray(info[name]) for name in ("stage", "score", "outcome", "stage_completed")}
        plain["final_obs"] = np.asarray(info["final_observation"])
        plain["_final_obs"] = terminated | truncated
        return np.asarray(observations), np.asarray(rewards, np.float64), terminated, truncated, plain

    def action_masks(self) -> np.ndarray:
        """Which actions are legal, bool[num_envs, 28]."""
        if self._states is None:
            raise gymnasium.error.ResetNeeded("Cannot call env.action_masks() before calling env.reset()")
        return np.asarray(self._mask(self._states))

    def _keys(self) -> jax.Array:
        return jnp.asarray(self.np_random.integers(0, 2**32, (self.num_envs, 2), dtype=np.uint32))


if ENV_ID not in gymnasium.registry:
    gymnasium.register(
        id=ENV_ID,
        entry_point=f"{__name__}:HackMatrixEnv",
        vector_entry_point=f"{__name__}:HackMatrixVectorEnv",
        max_episode_steps=DEFAULT_TIME_LIMIT,
    )
