"""HackMatrix for Gymnasium: `MatrixRL/HackMatrix-v0`, and a vector environment on the JAX batch.

Importing this module registers the environment::

    import gymnasium
    import matrixrl.envs.hackmatrix.gymnasium_env

    env = gymnasium.make("MatrixRL/HackMatrix-v0", render_mode="ansi")
    envs = gymnasium.make_vec("MatrixRL/HackMatrix-v0", num_envs=256)

`action_masks()` is the method that sb3-contrib's MaskablePPO calls;
`action_space.sample(mask=env.action_masks())` draws a legal action. All returned arrays are copies
that the caller may modify. Requires the extra `matrixrl[gymnasium]`.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from jaxtyping import Bool, Float32, Num

from matrixrl.envs.hackmatrix.convert import from_game_state, to_game_state
from matrixrl.envs.hackmatrix.env import EnvParams, HackMatrix
from matrixrl.envs.hackmatrix.gymnasium_spaces import MaskableDiscrete
from matrixrl.envs.hackmatrix.referee import GameState
from matrixrl.envs.hackmatrix.rules import (
    DEFAULT_TIME_LIMIT,
    NUM_ACTIONS,
    OBSERVATION_SIZE,
    Outcome,
)
from matrixrl.envs.hackmatrix.scenario import ScenarioError, load
from matrixrl.envs.hackmatrix.state import State
from matrixrl.jax_internals import backends_are_initialized

ENV_ID = "MatrixRL/HackMatrix-v0"
# No value reaches the bound; with an infinite one the space could not be sampled.
OBSERVATION_SPACE = gymnasium.spaces.Box(0.0, 2.0**31, (OBSERVATION_SIZE,), np.float32)
ACTION_SPACE = MaskableDiscrete(NUM_ACTIONS)
RENDER_MODES = ["ansi", "rgb_array"]
RENDER_FPS = 4

_MAX_STEPS = 2**31 - 1


class HackMatrixEnv(gymnasium.Env):
    """One game with the flat observation of 1545 values.

    `reset(options={"scenario": scenario})` starts from a scenario, a dict or its JSON text. There
    is no time limit here: `gymnasium.make` adds one of 1,000 steps.

    Args:
      render_mode: None, ``ansi`` (text) or ``rgb_array`` (picture).
    """

    metadata = {"render_modes": RENDER_MODES, "render_fps": RENDER_FPS}  # noqa: RUF012, declared so by gymnasium

    def __init__(self, render_mode: str | None = None) -> None:
        _check_render_mode(render_mode)
        self.render_mode = render_mode
        self.observation_space = _observation_space()
        self.action_space = MaskableDiscrete(NUM_ACTIONS)
        self._game = _compiled()
        self._state: Any = None
        self._last: np.ndarray | None = None  # the last observation of a game that is over

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32[np.ndarray, "1545"], dict[str, Any]]:
        """Starts a new game, or the scenario in `options`."""
        _require_usable_process()
        scenario = _read_options(options)
        start = None if scenario is None else _load_scenario(scenario)
        super().reset(seed=seed)
        with jax.enable_x64(False):
            if start is None:
                observation, self._state = self._game.reset(self._key())
            else:
                self._state = jax.tree.map(jnp.asarray, start)
                observation = self._game.observe(self._state)
        self._last = None
        return np.array(observation), {}

    def step(self, action: int) -> tuple[Float32[np.ndarray, "1545"], float, bool, bool, dict[str, Any]]:
        """Applies one action; an invalid one ends the episode with reward 0."""
        self._require_reset("step")
        number = _read_action(action)
        if self._last is not None:
            gymnasium.logger.warn(
                "You are calling 'step()' even though this environment has already returned terminated = True. "
                "You should always call 'reset()' once you receive 'terminated = True': the game stays as it is."
            )
            return self._last.copy(), 0.0, True, False, {}
        with jax.enable_x64(False):
            outputs = self._game.step(self._key(), self._state, jnp.int32(number))
        observation, self._state, reward, terminated, info = outputs
        info = jax.device_get(info)
        plain = {
            "reward_breakdown": {name: float(value) for name, value in info["reward_breakdown"].items()},
            "outcome": Outcome(int(info["outcome"])).name.lower(),
            "stage": int(info["stage"]),
            "score": int(info["score"]),
            "stage_completed": bool(info["stage_completed"]),
        }
        shown = np.array(observation)
        if terminated:
            self._last = shown.copy()
        return shown, float(reward), bool(terminated), False, plain

    def action_masks(self) -> Bool[np.ndarray, "28"]:
        """Returns the mask of legal actions."""
        self._require_reset("action_masks")
        with jax.enable_x64(False):
            return np.array(self._game.mask(self._state))

    @property
    def game_state(self) -> GameState:
        """The game as plain records, for `scenario.dump` and pictures."""
        self._require_reset("game_state")
        return to_game_state(jax.device_get(self._state))

    def render(self) -> Any:
        """Returns the text of the board, or its picture as uint8[height, width, 3]; None without a
        render mode.
        """
        if self.render_mode is None:
            _warn_no_render_mode(self.spec, "make")
            return None
        self._require_reset("render")
        return _render(self.game_state, self.render_mode)

    def __getstate__(self) -> dict[str, Any]:
        """Returns the state for pickling and copying: everything except the compiled functions,
        arrays as NumPy arrays.
        """
        return {**self.__dict__, "_game": None, "_state": _to_numpy(self._state)}

    def __setstate__(self, values: dict[str, Any]) -> None:
        self.__dict__.update(values)
        self._game = _compiled()

    def _key(self) -> jax.Array:
        return jnp.asarray(self.np_random.integers(0, 2**32, 2, dtype=np.uint32))

    def _require_reset(self, call: str) -> None:
        if self._state is None:
            raise gymnasium.error.ResetNeeded(f"Cannot call env.{call}() before calling env.reset()")
        _require_usable_process()


class HackMatrixVectorEnv(VectorEnv):
    """Many games in one JAX batch, with automatic reset.

    `reset(options={"scenario": scenario})` starts all games from one scenario; a list starts each
    from its own. When a game ends, the next one is a new game.

    Args:
      num_envs: number of games.
      max_episode_steps: the time limit, after which a game is truncated; None for no limit.
      render_mode: None, ``ansi`` (texts) or ``rgb_array`` (pictures).
      autoreset_mode: ``SAME_STEP`` resets a game in the step that ends it: the last observations
        are in ``info["final_obs"]`` where ``_final_obs``. ``NEXT_STEP`` returns the last
        observation and resets in the following step, whose action is ignored and whose reward is 0,
        as several of Gymnasium's wrappers require.
    """

    metadata = {  # noqa: RUF012, declared so by gymnasium
        "autoreset_mode": AutoresetMode.SAME_STEP,
        "render_modes": RENDER_MODES,
        "render_fps": RENDER_FPS,
    }

    def __init__(
        self,
        num_envs: int = 1,
        max_episode_steps: int | None = DEFAULT_TIME_LIMIT,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
    ) -> None:
        _check_render_mode(render_mode)
        self.num_envs = _positive("num_envs", num_envs)
        self.max_episode_steps = (
            None if max_episode_steps is None else _positive("max_episode_steps", max_episode_steps)
        )
        self.render_mode = render_mode
        self._mode = _read_mode(autoreset_mode)
        self.metadata = {**type(self).metadata, "autoreset_mode": self._mode}
        self.single_observation_space = _observation_space()
        self.single_action_space = MaskableDiscrete(NUM_ACTIONS)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._compile()
        self._states: Any = None
        # With NEXT_STEP: the games that ended in the last step, and the first observations of the
        # next ones.
        self._ended = np.zeros(self.num_envs, bool)
        self._first: Any = None

    def _compile(self) -> None:
        game = HackMatrix()
        limit = EnvParams(_MAX_STEPS if self.max_episode_steps is None else self.max_episode_steps)
        step = jax.vmap(partial(game.step, params=limit))
        if self._mode is AutoresetMode.NEXT_STEP:
            step = partial(_step_and_hold, step)
        self._reset = jax.jit(jax.vmap(game.reset))
        self._observe = jax.jit(jax.vmap(game.observation))
        self._step = jax.jit(step, donate_argnums=1)
        self._mask = jax.jit(jax.vmap(game.legal_action_mask))

    def reset(
        self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32[np.ndarray, "B 1545"], dict[str, Any]]:
        """Starts new games, or those of `options`.

        A list of seeds also forms one random stream: every game depends on all of them.
        """
        _require_usable_process()
        scenario = _read_options(options)
        starts = None if scenario is None else self._load_scenarios(scenario)
        self._seed(seed)
        with jax.enable_x64(False):
            if starts is None:
                observations, self._states = self._reset(self._keys())
            else:
                self._states = jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *starts)
                observations = self._observe(self._states)
            self._ended = np.zeros(self.num_envs, bool)
            self._first = observations if self._mode is AutoresetMode.NEXT_STEP else None
        return np.array(observations), {}

    def step(
        self, actions: np.ndarray
    ) -> tuple[
        Float32[np.ndarray, "B 1545"],
        Num[np.ndarray, "B"],
        Bool[np.ndarray, "B"],
        Bool[np.ndarray, "B"],
        dict[str, Any],
    ]:
        """Applies one action in every game."""
        self._require_reset("step")
        numbers = self._read_actions(actions)
        with jax.enable_x64(False):
            inputs = (self._keys(), self._states, jnp.asarray(numbers))
            if self._mode is AutoresetMode.NEXT_STEP:
                outputs, self._first = self._step(*inputs, jnp.asarray(self._ended), self._first)
            else:
                outputs = self._step(*inputs)
        observations, self._states, rewards, terminated, truncated, info = outputs
        terminated, truncated = np.array(terminated), np.array(truncated)
        self._ended = terminated | truncated
        plain = {name: np.array(info[name]) for name in ("stage", "score", "outcome", "stage_completed")}
        if self._mode is AutoresetMode.SAME_STEP:
            plain["final_obs"] = np.array(info["final_observation"])
            plain["_final_obs"] = self._ended.copy()
        return np.array(observations), np.array(rewards, np.float64), terminated, truncated, plain

    def action_masks(self) -> Bool[np.ndarray, "B 28"]:
        """Returns the masks of legal actions; for a game that is over, those of
        the next one.
        """
        self._require_reset("action_masks")
        with jax.enable_x64(False):
            return np.array(self._mask(self._states))

    @property
    def game_states(self) -> list[GameState]:
        """The games as plain records."""
        self._require_reset("game_states")
        states = jax.device_get(self._states)
        return [to_game_state(jax.tree.map(lambda leaf, i=i: leaf[i], states)) for i in range(self.num_envs)]

    def render(self) -> Any:
        """Returns a tuple with the text or the picture of each game; None without a render mode."""
        if self.render_mode is None:
            _warn_no_render_mode(self.spec, "make_vec")
            return None
        self._require_reset("render")
        return tuple(_render(game, self.render_mode) for game in self.game_states)

    def __getstate__(self) -> dict[str, Any]:
        """Returns the state for pickling and copying: everything except the compiled functions,
        arrays as NumPy arrays.
        """
        kept = {name: value for name, value in self.__dict__.items() if name not in _COMPILED_NAMES}
        return {**kept, "_states": _to_numpy(self._states), "_first": _to_numpy(self._first)}

    def __setstate__(self, values: dict[str, Any]) -> None:
        self.__dict__.update(values)
        self._compile()

    def _keys(self) -> jax.Array:
        return jnp.asarray(self.np_random.integers(0, 2**32, (self.num_envs, 2), dtype=np.uint32))

    def _seed(self, seed: Any) -> None:
        if isinstance(seed, list | tuple | np.ndarray):
            seeds = [_read_seed(item) for item in seed]
            if len(seeds) != self.num_envs:
                raise gymnasium.error.Error(
                    f"seed: {len(seeds)} seeds for {self.num_envs} games; give one for each"
                )
            self._np_random, self._np_random_seed = np.random.default_rng(seeds), -1
        elif seed is not None:
            self._np_random, self._np_random_seed = seeding.np_random(_read_seed(seed))

    def _load_scenarios(self, scenario: Any) -> list[State]:
        if not isinstance(scenario, list | tuple):
            return [_load_scenario(scenario)] * self.num_envs
        if len(scenario) != self.num_envs:
            raise gymnasium.error.Error(
                f"options['scenario']: {len(scenario)} scenarios for {self.num_envs} games; give one, or one for each"
            )
        return [_load_scenario(item) for item in scenario]

    def _read_actions(self, actions: Any) -> np.ndarray:
        """Returns the actions as int32[num_envs]; raises unless they are `num_envs` integers within
        range.
        """
        try:
            numbers = np.asarray(actions)
        except (TypeError, ValueError):  # rows of unequal length
            numbers = np.empty(0, object)
        if (
            numbers.shape != (self.num_envs,)
            or numbers.dtype.kind not in "iub"
            or not ((numbers >= 0) & (numbers < NUM_ACTIONS)).all()
        ):
            raise gymnasium.error.InvalidAction(
                f"actions {_shorten(actions)}: must be {self.num_envs} integers 0 to {NUM_ACTIONS - 1}"
            )
        return numbers.astype(np.int32)

    def _require_reset(self, call: str) -> None:
        if self._states is None:
            raise gymnasium.error.ResetNeeded(f"Cannot call env.{call}() before calling env.reset()")
        _require_usable_process()


_COMPILED_NAMES = ("_reset", "_observe", "_step", "_mask")


def _step_and_hold(
    step: Callable[..., Any],
    keys: jax.Array,
    states: State,
    actions: jax.Array,
    ended: jax.Array,
    first: jax.Array,
) -> tuple[Any, jax.Array]:
    """Runs a step with `AutoresetMode.NEXT_STEP`, given one that resets in the same step.

    The step that ends a game already returns the state of the next one. It is held for one step, in
    which the game returns its first observation.

    Args:
      step: the step of the batch, with automatic reset.
      keys: as for `step`.
      states: as for `step`.
      actions: as for `step`.
      ended: bool[B], the games that ended in the last step.
      first: the observations that the last call returned, of the states.

    Returns:
      The outputs of the step, and the observations of the new states.
    """
    observations, after, rewards, terminated, truncated, info = step(keys, states, actions)

    def hold(held: jax.Array, new: jax.Array) -> jax.Array:
        return jnp.where(ended.reshape((-1,) + (1,) * (new.ndim - 1)), held, new)

    states = jax.tree.map(hold, states, after)
    following = hold(first, observations)
    held_info = {
        "stage": states.stage,
        "score": states.player.score,
        "outcome": states.outcome,
        "stage_completed": jnp.zeros_like(ended),
    }
    shown = {name: hold(value, info[name]) for name, value in held_info.items()}
    outputs = (
        hold(first, info["final_observation"]),
        states,
        hold(jnp.zeros_like(rewards), rewards),
        terminated & ~ended,
        truncated & ~ended,
        shown,
    )
    return outputs, following


class _Compiled(NamedTuple):
    reset: Callable[..., Any]
    step: Callable[..., Any]
    mask: Callable[..., Any]
    observe: Callable[..., Any]


@cache
def _compiled() -> _Compiled:
    """Returns the game's functions, compiled once per process: vectors hold hundreds of
    `HackMatrixEnv`.
    """
    game = HackMatrix()
    functions = (game.reset, game.step_env, game.legal_action_mask, game.observation)
    return _Compiled(*map(jax.jit, functions))


def _observation_space() -> gymnasium.spaces.Box:
    return gymnasium.spaces.Box(0.0, 2.0**31, (OBSERVATION_SIZE,), np.float32)


def _to_numpy(tree: Any) -> Any:
    """Copies a tree of arrays to NumPy arrays."""
    return None if tree is None else jax.tree.map(np.array, jax.device_get(tree))


def _render(game: GameState, mode: str) -> Any:
    # Only pictures need the imaging library.
    from matrixrl.envs.hackmatrix import render

    return render.render_text(game) if mode == "ansi" else render.render_rgb(game)


def _warn_no_render_mode(spec: Any, make: str) -> None:
    name = ENV_ID if spec is None else spec.id
    gymnasium.logger.warn(
        "You are calling render method without specifying any render mode. "
        f'You can specify the render_mode at initialization, e.g. gymnasium.{make}("{name}", render_mode="rgb_array")'
    )


# User input. -------------------------------------------------------------------------------------


def _check_render_mode(mode: Any) -> None:
    if mode is not None and mode not in RENDER_MODES:
        raise gymnasium.error.Error(f"render_mode {_shorten(mode)}: must be None or one of {RENDER_MODES}")


def _read_mode(mode: Any) -> AutoresetMode:
    allowed = (AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP)
    found = next((known for known in allowed if mode is known or mode == known.value), None)
    if found is None:
        names = " or ".join(f"AutoresetMode.{known.name}" for known in allowed)
        raise gymnasium.error.Error(f"autoreset_mode {_shorten(mode)}: must be {names}")
    return found


def _positive(name: str, value: Any) -> int:
    number = _integer(value)
    if number is None or not 1 <= number <= _MAX_STEPS:
        raise gymnasium.error.Error(f"{name} {_shorten(value)}: must be an integer from 1 to {_MAX_STEPS:,}")
    return number


def _read_seed(seed: Any) -> int:
    number = _integer(seed)
    if number is None or number < 0:
        raise gymnasium.error.Error(f"seed {_shorten(seed)}: must be an integer of 0 or more")
    return number


def _read_action(action: Any) -> int:
    number = _integer(action)
    if number is None or not 0 <= number < NUM_ACTIONS:
        raise gymnasium.error.InvalidAction(
            f"action {_shorten(action)}: must be an integer 0 to {NUM_ACTIONS - 1}"
        )
    return number


def _integer(value: Any) -> int | None:
    """Returns an integer of any type (int, NumPy, JAX, PyTorch); None for anything else, including
    2.0.
    """
    try:
        return operator.index(value)
    except TypeError:
        return None


def _read_options(options: Any) -> Any:
    """Returns the scenario in the options of `reset`; raises for an unknown option."""
    if options is None:
        return None
    if not isinstance(options, Mapping):
        raise gymnasium.error.Error(
            f"options {_shorten(options)}: must be None or a dict; known keys: scenario"
        )
    unknown = [key for key in options if key != "scenario"]
    if unknown:
        raise gymnasium.error.Error(f"options[{_shorten(unknown[0])}]: is not a known key; known: scenario")
    return options.get("scenario")


def _load_scenario(scenario: Any) -> State:
    """Returns the state in a scenario, as NumPy arrays; raises unless its game can be played."""
    if not isinstance(scenario, str | Mapping):
        raise gymnasium.error.Error(
            f"options['scenario'] {_shorten(scenario)}: must be a scenario, a dict or its JSON text"
        )
    game = load(scenario).state
    if game.episode.done:
        raise ScenarioError("episode", f"the game is over ({game.episode.outcome}); give one that is not")
    return from_game_state(game)


def _shorten(value: Any, width: int = 60) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= width else text[: width - 3] + "..."


# Forked processes. -------------------------------------------------------------------------------

_forked_after_use = False


def _note_fork() -> None:
    global _forked_after_use
    _forked_after_use = _forked_after_use or backends_are_initialized()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


def _require_usable_process() -> None:
    """Raises in a process forked from one that had used JAX: there, any use of JAX may block
    forever.
    """
    if _forked_after_use:
        raise gymnasium.error.Error(
            "HackMatrix cannot run in a process that was forked after JAX was used (JAX has threads, and a fork copies "
            'one only): start processes with context="spawn", as in AsyncVectorEnv(envs, context="spawn"), '
            f'or play many games in one batch with gymnasium.make_vec("{ENV_ID}", num_envs=...)'
        )


if ENV_ID not in gymnasium.registry:
    gymnasium.register(
        id=ENV_ID,
        entry_point=f"{__name__}:HackMatrixEnv",
        vector_entry_point=f"{__name__}:HackMatrixVectorEnv",
        max_episode_steps=DEFAULT_TIME_LIMIT,
    )
