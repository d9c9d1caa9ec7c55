"""Any environment with the interface of gymnax 1.0 as an environment of `matrixrl.envs.base`.

An environment is an object with

    reset(key, params)                -> observation, state
    step(key, state, action, params)  -> observation, state, reward, terminated, truncated, info

written for one environment. ``step`` resets automatically, as `matrixrl.envs.base` draws it. Its
actions are declared by ``action_space(params)`` or ``num_actions``. Optional are
``default_params``, ``observation_space(params)``, ``legal_action_mask(state)`` (or ``(state,
params)``; the name ``action_mask`` serves as well, as a method or as a field of the state) and
``render``.

Nothing of gymnax is imported. The environment is run through `jax.eval_shape` first, so that what
contradicts its declaration is found before anything compiles.
"""

from __future__ import annotations

import inspect
import sysconfig
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Float32, Int32, Num, PRNGKeyArray, PyTree, Shaped

from matrixrl.config import ConfigError

MASK_NAMES = ("legal_action_mask", "action_mask")
"""Names of the method, or of the field of the state, that holds the mask of legal actions."""

STANDARD_INFO = frozenset({"final_observation", "terminated", "truncated", "discount"})
"""Entries of ``info`` that gymnax itself writes."""

LOG_WRAPPER_PREFIX = "returned_episode"
"""Prefix of the entries of gymnax's `LogWrapper`: return and length, which are counted here."""

RESERVED_NAMES = frozenset(
    {"return", "steps", "count", "update", "global episode"}
    | {"id", "step", "attempt", "time", "superseded_by"}
)
"""Names that are taken, in lower case: of values that are counted here, and of columns that every
table of episodes has. A scalar of this name becomes `info_<name>`.
"""


class EnvironmentInterfaceError(ConfigError):
    """An environment breaks the interface. The message has its name, the expected and the actual
    value."""


class CountedEpisode(NamedTuple):
    """An episode in progress.

    Attributes:
      game: the environment's own state.
      total: float32, sum of rewards so far.
      steps: int32, number of steps so far.
      observation: the current observation, where the environment does not keep the last one of an
        episode; else ().
    """

    game: Any
    total: Float32[Array, "*B"]
    steps: Int32[Array, "*B"]
    observation: Any = ()


@dataclass(frozen=True)
class Actions:
    """The actions of an environment.

    Attributes:
      size: number of actions, or of the numbers of a continuous one.
      is_continuous: True for numbers.
      shape: of an action, as the environment takes it.
      low, high: bounds of each number, float32 [size]; infinite where there is none.
    """

    size: int
    is_continuous: bool
    shape: tuple[int, ...] = ()
    low: Float[np.ndarray, "size"] | None = None
    high: Float[np.ndarray, "size"] | None = None

    def to_environment(self, action: Num[Array, "..."]) -> Num[Array, "..."]:
        """Returns the action that the environment is given.

        A number with two bounds is clipped to -1 and 1, which are the bounds; another one is
        clipped to the bound that it has.
        """
        if not self.is_continuous:
            return action
        assert self.low is not None
        assert self.high is not None
        bounded = np.isfinite(self.low) & np.isfinite(self.high)
        low, high = np.where(bounded, self.low, -1.0), np.where(bounded, self.high, 1.0)
        scaled = 0.5 * (low + high) + 0.5 * (high - low) * jnp.clip(action, -1.0, 1.0)
        scaled = jnp.where(bounded, jnp.clip(scaled, low, high), jnp.clip(action, self.low, self.high))
        return scaled.astype(jnp.float32).reshape(self.shape)


class GymnaxEnvironment:
    """An environment of gymnax's interface whose steps count the return and the steps of episodes.

    ``info`` of a step holds `final_observation` and `episode`: `return`, `steps`, and the scalars
    that the environment puts into ``info``, as they are at this step.

    Args:
      env: the environment.
      params: its parameters; None for its defaults.
      name: what the user calls it, for messages: the value of `--env`.

    Raises:
      EnvironmentInterfaceError: if it breaks the interface.
    """

    def __init__(self, env: Any, params: Any, name: str) -> None:
        self.env = env
        self.name = name
        for method in ("reset", "step"):
            if not callable(getattr(env, method, None)):
                raise EnvironmentInterfaceError(
                    f"--env {name}: expected an environment with the methods reset and step of gymnax 1.0, "
                    f"came {_article(type(env).__name__)} without {method}"
                )
        self._params = self._run("default_params", lambda: getattr(env, "default_params", None))
        if params is not None:
            self._params = params
        self.actions = self._declared_actions()
        self._mask = self._declared_mask()
        self._shapes = self._reset_shapes()
        info = self._step_shapes()
        self._keeps_final = "final_observation" in info
        self._scalars = _scalars(info)

    # What it declares -----------------------------------------------------------------------------

    @property
    def default_params(self) -> Any:
        """Parameters of the environment."""
        return self._params

    @property
    def num_actions(self) -> int:
        """Number of actions, or of the numbers of a continuous one."""
        return self.actions.size

    @property
    def observation_shapes(self) -> Any:
        """Shapes and types of an observation."""
        return self._shapes[0]

    @property
    def num_discrete_observations(self) -> int | None:
        """Number of values of an observation that is one of several; None for others."""
        space = self._observation_space()
        leaves = jax.tree.leaves(self.observation_shapes)
        if len(leaves) != 1 or leaves[0].shape or not hasattr(space, "n"):
            return None
        return int(space.n) if jnp.issubdtype(leaves[0].dtype, jnp.integer) else None

    @property
    def episode_values(self) -> dict[str, Any]:
        """Types of the values in ``info["episode"]``, by name."""
        return {
            "return": jnp.float32,
            "steps": jnp.int32,
            **{n: dtype for n, (_, dtype) in self._scalars.items()},
        }

    @property
    def max_steps(self) -> int | None:
        """Maximum number of steps of an episode; None if its parameters do not say."""
        steps = getattr(self._params, "max_steps_in_episode", None)
        is_number = isinstance(steps, int | float | np.number) or getattr(steps, "shape", None) == ()
        return int(steps) if is_number else None  # pyright: ignore[reportArgumentType]

    @property
    def keeps_final_observations(self) -> bool:
        """True if ``info`` holds the last observation of an episode."""
        return self._keeps_final

    def limited(self, time_limit: Any) -> Any:
        """Returns the parameters with a maximum number of steps; 0 keeps the environment's own.

        Args:
          time_limit: a number, or a traced one where `can_be_limited`.
        """
        if not self.can_be_limited:
            return self._params
        limit = jnp.where(time_limit > 0, time_limit, self._params.max_steps_in_episode).astype(jnp.int32)
        return self._params.replace(max_steps_in_episode=limit)

    @property
    def can_be_limited(self) -> bool:
        """True if its parameters hold the maximum number of steps."""
        return self.max_steps is not None and callable(getattr(self._params, "replace", None))

    # One environment ------------------------------------------------------------------------------

    def reset(
        self, key: PRNGKeyArray, params: PyTree = None
    ) -> tuple[PyTree[Shaped[Array, "..."]], CountedEpisode]:
        """Starts an episode."""
        observation, game = self.env.reset(key, self._params if params is None else params)
        observation, game = self._typed((observation, game))
        return observation, self._fresh(game, observation)

    def step(
        self, key: PRNGKeyArray, state: CountedEpisode, action: Num[Array, "..."], params: PyTree = None
    ) -> tuple[
        PyTree[Shaped[Array, "..."]],
        CountedEpisode,
        Float32[Array, ""],
        Bool[Array, ""],
        Bool[Array, ""],
        dict[str, Any],
    ]:
        """Runs one step. An episode that is said to end in both ways is over: it terminated."""
        observation, game, reward, terminated, truncated, info = self.env.step(
            key, state.game, self.actions.to_environment(action), self._params if params is None else params
        )
        observation, game = self._typed((observation, game))
        reward = jnp.asarray(reward, jnp.float32).reshape(())
        terminated = jnp.asarray(terminated, jnp.bool_).reshape(())
        truncated = jnp.asarray(truncated, jnp.bool_).reshape(()) & ~terminated
        total, steps = state.total + reward, state.steps + 1
        values = {
            n: _leaf(info, path).astype(dtype).reshape(()) for n, (path, dtype) in self._scalars.items()
        }
        episode = {"return": total, "steps": steps, **values}
        if self._keeps_final:
            final = _cast(info["final_observation"], self.observation_shapes)
        else:
            final = state.observation
        ended = terminated | truncated
        counted = self._fresh(game, observation)
        counted = counted._replace(total=jnp.where(ended, 0, total), steps=jnp.where(ended, 0, steps))
        return (
            observation, counted, reward, terminated, truncated,
            {"final_observation": final, "episode": episode},
        )  # fmt: skip

    def legal_action_mask(self, state: CountedEpisode) -> Bool[Array, "A"]:
        """Returns the mask of legal actions; for continuous actions True, [1]."""
        if self._mask is None:
            return jnp.ones(1 if self.actions.is_continuous else self.actions.size, jnp.bool_)
        return jnp.asarray(self._mask(state.game, self._params), jnp.bool_)

    def _fresh(self, game: Any, observation: Any) -> CountedEpisode:
        # A copy, since one buffer must not be donated twice.
        kept = () if self._keeps_final else jax.tree.map(jnp.copy, observation)
        return CountedEpisode(game, jnp.float32(0), jnp.int32(0), kept)

    def _typed(self, results: tuple[Any, Any]) -> tuple[Any, Any]:
        """Returns observation and state with the types that `reset` returned: JAX distinguishes a
        Python number from an array.
        """
        return _cast(results, self._shapes)

    # Checks ---------------------------------------------------------------------------------------

    def _run(self, what: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls the environment's code; any exception becomes one line."""
        try:
            return function(*arguments)
        except EnvironmentInterfaceError:
            raise
        except Exception as error:
            raise EnvironmentInterfaceError(f"--env {self.name}: {what} {described(error)}") from error

    def _declared_actions(self) -> Actions:
        space = None
        if callable(getattr(self.env, "action_space", None)):
            space = self._run("action_space(params)", _with_params(self.env.action_space, self._params))
        else:
            space = getattr(self.env, "action_space", None)
        if space is None:
            count = self._run("num_actions", lambda: getattr(self.env, "num_actions", None))
            if isinstance(count, int | np.integer) and count >= 1:
                return Actions(int(count), False)
            raise EnvironmentInterfaceError(
                f"--env {self.name}: expected action_space(params) or num_actions, a whole number of 1 or more, came "
                f"{'neither' if count is None else repr(count)}"
            )
        if hasattr(space, "n"):
            if int(space.n) < 1:
                raise EnvironmentInterfaceError(
                    f"--env {self.name}: expected 1 action or more, came {space!r}"
                )
            return Actions(int(space.n), False)
        if hasattr(space, "low") and hasattr(space, "high"):
            shape = tuple(space.shape or ())
            size = int(np.prod(shape, dtype=int))
            low, high = (
                np.broadcast_to(np.asarray(bound, np.float32), shape or (1,)).reshape(-1)
                for bound in (space.low, space.high)
            )
            if size < 1 or not np.all(low < high):
                raise EnvironmentInterfaceError(
                    f"--env {self.name}: expected continuous actions with low < high, came {space!r}"
                )
            return Actions(size, True, shape, low, high)
        raise EnvironmentInterfaceError(
            f"--env {self.name}: expected discrete actions (Discrete) or continuous ones (Box), came {space!r}"
        )

    def _declared_mask(self) -> Callable[[Any, Any], Any] | None:
        for name in MASK_NAMES:
            method = getattr(self.env, name, None)
            if callable(method):
                takes = len(_positional(method))
                return (lambda state, params, m=method: m(state, params)) if takes != 1 else (
                    lambda state, params, m=method: m(state)
                )  # fmt: skip
        _, state = self._evaluated("reset(key, params)", self.env.reset, _KEY, self._params, count=2)
        for name in MASK_NAMES:
            if hasattr(state, name):
                return lambda state, params, n=name: getattr(state, n)
            if isinstance(state, Mapping) and name in state:
                return lambda state, params, n=name: state[n]
        return None

    def _evaluated(
        self, what: str, function: Callable[..., Any], *arguments: Any, count: int
    ) -> tuple[Any, ...]:
        """Returns shapes and types of what a method returns, a tuple of `count`."""
        returned: list[Any] = []

        def call(*values: Any) -> Any:
            result = function(*values)
            returned.append(result)
            if isinstance(result, tuple) and len(result) == count:
                return jax.tree.map(jnp.asarray, result)
            return ()

        shapes = self._run(what, jax.eval_shape, call, *arguments)
        result = returned[-1]
        if not isinstance(result, tuple) or len(result) != count:
            expected = {
                2: "2 values (observation, state)",
                6: "6 values (observation, state, reward, terminated, truncated, info)",
            }[count]
            came = (
                f"{len(result)} values"
                if isinstance(result, tuple | list)
                else _article(type(result).__name__)
            )
            raise EnvironmentInterfaceError(f"--env {self.name}: {what}: expected {expected}, came {came}")
        return shapes

    def _reset_shapes(self) -> tuple[Any, Any]:
        observation, state = self._evaluated(
            "reset(key, params)", self.env.reset, _KEY, self._params, count=2
        )
        for leaf in jax.tree.leaves(observation):
            if not (jnp.issubdtype(leaf.dtype, jnp.number) or leaf.dtype == jnp.bool_):
                raise EnvironmentInterfaceError(
                    f"--env {self.name}: reset(key, params): expected observations of numbers, came {leaf.dtype}"
                )
        if not jax.tree.leaves(observation):
            raise EnvironmentInterfaceError(
                f"--env {self.name}: reset(key, params): expected an observation of numbers, came nothing"
            )
        declared = getattr(self._observation_space(), "shape", None)
        leaves = jax.tree.leaves(observation)
        if declared is not None and len(leaves) == 1 and tuple(declared) != leaves[0].shape:
            raise EnvironmentInterfaceError(
                f"--env {self.name}: expected observations of shape {_shape(declared)}, which observation_space declares, "
                f"came {_shape(leaves[0].shape)} from reset"
            )
        return observation, state

    def _observation_space(self) -> Any:
        space = getattr(self.env, "observation_space", None)
        if not callable(space):
            return space
        return self._run("observation_space(params)", _with_params(space, self._params))

    def _step_shapes(self) -> Mapping[str, Any]:
        """Checks what a step returns; returns the shapes in its info."""
        observation, state = self._shapes
        if self._mask is not None:
            mask = self._run("legal_action_mask", jax.eval_shape, self._mask, state, self._params)
            shape = getattr(mask, "shape", None)
            if self.actions.is_continuous or shape != (self.actions.size,):
                wanted = "no mask, since actions are continuous" if self.actions.is_continuous else (
                    f"a mask of shape ({self.actions.size},), one for each action"
                )  # fmt: skip
                came = "one" if self.actions.is_continuous else _shape(shape or ())
                raise EnvironmentInterfaceError(
                    f"--env {self.name}: legal_action_mask: expected {wanted}, came {came}"
                )
        size = (self.actions.size,) if self.actions.is_continuous else ()
        action = jax.ShapeDtypeStruct(size, jnp.float32 if self.actions.is_continuous else jnp.int32)
        what = "step(key, state, action, params)"
        results = self._evaluated(
            what,
            lambda key, state, action, params: self.env.step(
                key, state, self.actions.to_environment(action), params
            ),
            _KEY,
            state,
            action,
            self._params,
            count=6,
        )
        self._require_same(what, "an observation", observation, results[0], "reset")
        self._require_same(what, "a state", state, results[1], "reset")
        for index, name in ((2, "reward"), (3, "terminated"), (4, "truncated")):
            leaf = results[index]
            shape = getattr(leaf, "shape", None)
            if shape is None or int(np.prod(shape, dtype=int)) != 1:
                came = f"shape {_shape(shape)}" if shape is not None else _article(type(leaf).__name__)
                raise EnvironmentInterfaceError(
                    f"--env {self.name}: {what}: expected one number as {name}, came {came}"
                )
        info = results[5]
        if not isinstance(info, Mapping):
            raise EnvironmentInterfaceError(
                f"--env {self.name}: {what}: expected a dict as info, came {_article(type(info).__name__)}"
            )
        if "final_observation" in info:
            self._require_same(
                what, "info['final_observation']", observation, info["final_observation"], "reset"
            )
        return info

    def _require_same(self, what: str, which: str, expected: Any, came: Any, origin: str) -> None:
        """Requires one structure and the same shapes; types may differ where JAX converts them
        without loss."""
        if jax.tree.structure(expected) != jax.tree.structure(came):
            raise EnvironmentInterfaceError(
                f"--env {self.name}: {what}: expected {which} of the structure that {origin} returns, "
                f"{_one_line(jax.tree.structure(expected))}, came {_one_line(jax.tree.structure(came))}"
            )
        pairs = zip(
            jax.tree_util.tree_leaves_with_path(expected), jax.tree_util.tree_leaves(came), strict=True
        )
        for (path, wanted), found in pairs:
            if wanted.shape == found.shape and _converts(found.dtype, wanted.dtype):
                continue
            where = jax.tree_util.keystr(path)
            raise EnvironmentInterfaceError(
                f"--env {self.name}: {what}: expected {which}{where} of {wanted.dtype}{_shape(wanted.shape)}, as from "
                f"{origin}, came {found.dtype}{_shape(found.shape)}"
            )


_KEY = jax.eval_shape(lambda: jax.random.key(0))


def described(error: BaseException) -> str:
    """Returns in one line how code of the user failed, with the line of it."""
    text = str(error).strip().splitlines()
    reason = f"{type(error).__name__}: {text[0][:200]}" if text else type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    foreign = ("site-packages", "/matrixrl/", sysconfig.get_path("stdlib"))
    own = [frame for frame in frames if not any(part in frame.filename for part in foreign)]
    where = f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
    return f"raised {reason}{where}"


def _positional(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Returns the positional parameters of a function that have no default."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p for p in parameters if p.kind in kinds and p.default is inspect.Parameter.empty]


def _with_params(function: Callable[..., Any], params: Any) -> Callable[[], Any]:
    """Returns a call of a declaration, which may take the parameters or nothing."""
    try:
        takes = len(inspect.signature(function).parameters) > 0
    except (TypeError, ValueError):
        takes = True
    return (lambda: function(params)) if takes else function


def _cast(values: Any, like: Any) -> Any:
    return jax.tree.map(
        lambda value, shape: (
            jnp.asarray(value)
            if jnp.issubdtype(shape.dtype, jax.dtypes.prng_key)
            else jax.lax.convert_element_type(jnp.asarray(value), shape.dtype)
        ),
        values,
        like,
    )


def _converts(found: Any, wanted: Any) -> bool:
    """Returns whether values of a type can be held in another: same kind, or a kind below."""
    if found == wanted:
        return True
    if any(jnp.issubdtype(dtype, jax.dtypes.prng_key) for dtype in (found, wanted)):
        return False
    order = (jnp.bool_, jnp.integer, jnp.floating)

    def rank(dtype: Any) -> int:
        return next((i for i, kind in enumerate(order) if jnp.issubdtype(dtype, kind)), len(order))

    return rank(found) <= rank(wanted)


def _scalars(info: Mapping[str, Any]) -> dict[str, tuple[tuple[Any, ...], Any]]:
    """Returns the scalars in info, by the name of their column: their path and type."""
    found: dict[str, tuple[tuple[Any, ...], Any]] = {}

    def visit(path: tuple[Any, ...], value: Any) -> None:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                visit((*path, key), inner)
            return
        if path[0] in STANDARD_INFO or str(path[0]).startswith(LOG_WRAPPER_PREFIX):
            return
        shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
        if shape is None or dtype is None or int(np.prod(shape, dtype=int)) != 1:
            return
        kinds = ((jnp.bool_, jnp.bool_), (jnp.integer, jnp.int32), (jnp.floating, jnp.float32))
        kept = next((to for kind, to in kinds if jnp.issubdtype(dtype, kind)), None)
        if kept is None:
            return
        parts = path[1:] if len(path) > 1 and path[0] == "episode" else path
        name = "_".join(map(str, parts)).replace("\0", "") or "info"
        while name.lower() in RESERVED_NAMES | {other.lower() for other in found}:
            name = f"info_{name}"
        found[name] = (path, kept)

    for key, value in info.items():
        visit((key,), value)
    return found


def _leaf(info: Any, path: tuple[Any, ...]) -> Array:
    for key in path:
        info = info[key]
    return jnp.asarray(info)


def _shape(shape: Any) -> str:
    return "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"


def _article(name: str) -> str:
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def _one_line(structure: Any) -> str:
    text = " ".join(str(structure).removeprefix("PyTreeDef(").removesuffix(")").split())
    return text if len(text) <= 120 else text[:117] + "..."
