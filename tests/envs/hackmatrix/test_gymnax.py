"""HackMatrix is an environment of gymnax in full: its members, and each wrapper that gymnax ships.

What a wrapper does with the environment shows when it is traced; compiling the game for each would take minutes. The
wrapper for Gymnasium, whose calls are compiled by the environment itself, plays for real.
"""

from __future__ import annotations

import copy
import importlib
import pickle
import sys
import types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from matrixrl.envs.base import Box, Dict, Discrete
from matrixrl.envs.hackmatrix.convert import from_game_state
from matrixrl.envs.hackmatrix.env import EnvParams, HackMatrix, random_legal_action
from matrixrl.envs.hackmatrix.rules import Outcome
from tests.envs.hackmatrix.boards import game

pytest.importorskip("six")  # gymnax imports it without asking for it
gymnax = pytest.importorskip("gymnax")
wrappers = importlib.import_module("gymnax.wrappers")
gymnax_spaces = importlib.import_module("gymnax.environments.spaces")
cartpole = importlib.import_module("gymnax.environments.classic_control.cartpole")

KEY = jax.random.key(0)
OBSERVATION = (1545,)


@pytest.fixture(scope="module")
def env() -> HackMatrix:
    return HackMatrix()


@pytest.fixture(scope="module")
def shapes(env: HackMatrix) -> Any:
    """Shapes of an observation and a state."""
    return jax.eval_shape(env.reset, KEY)


def public(value: Any) -> set[str]:
    return {name for name in dir(value) if not name.startswith("_")}


def test_it_has_every_public_member_of_an_environment_of_gymnax(env: HackMatrix) -> None:
    assert public(cartpole.CartPole()) <= public(env)
    assert public(gymnax.environments.environment.Environment) <= public(env)
    assert public(cartpole.EnvParams()) & {"replace", "max_steps_in_episode"} <= public(env.default_params)


def test_params_and_states_are_replaced_as_those_of_gymnax(env: HackMatrix) -> None:
    params = env.default_params.replace(max_steps_in_episode=7)
    assert params == EnvParams(7)
    assert env.default_params == EnvParams(1000)
    with pytest.raises((TypeError, ValueError), match="gravity"):
        env.default_params.replace(gravity=1.0)
    state = from_game_state(game()).replace(time=np.int32(7))
    assert state.time == 7


def test_name_spaces_and_shapes(env: HackMatrix) -> None:
    assert env.name == "HackMatrix-v0"
    assert env.obs_shape == OBSERVATION
    assert isinstance(env.action_space(env.default_params), gymnax_spaces.Discrete)
    assert isinstance(env.observation_space(env.default_params), gymnax_spaces.Box)
    assert env.action_space().sample(KEY).dtype == jnp.int32
    packed = HackMatrix(packed=True)
    for each in (env, packed):
        space = each.observation_space()
        sample = space.sample(KEY)
        assert (sample.shape, sample.dtype) == (each.obs_shape, space.dtype)
        assert bool(space.contains(sample))
        assert np.isfinite(np.asarray(sample, np.float64)).all()


def test_spaces_without_gymnax_are_the_same(env: HackMatrix, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = {
        name: space.shape for name, space in env.state_space().spaces.items() if hasattr(space, "shape")
    }
    monkeypatch.delitem(sys.modules, "gymnax.environments.spaces")
    assert isinstance(env.action_space(), Discrete)
    assert isinstance(env.observation_space(), Box)
    assert isinstance(env.state_space(), Dict)
    ours = {name: space.shape for name, space in env.state_space().spaces.items() if hasattr(space, "shape")}
    assert ours == theirs
    assert bool(env.state_space().contains(jax.tree.map(jnp.asarray, from_game_state(game()))))
    assert set(env.state_space().sample(KEY)) == set(env.state_space().spaces)


def test_a_state_lies_in_its_space(env: HackMatrix) -> None:
    state = jax.tree.map(jnp.asarray, from_game_state(game(hp=2)))
    space = env.state_space(env.default_params)
    assert isinstance(space, gymnax_spaces.Dict)
    assert bool(space.contains(state))
    space.sample(KEY)


def test_the_ends_of_states(env: HackMatrix) -> None:
    playing, won, late = (from_game_state(game()) for _ in range(3))
    won = won.replace(outcome=np.int32(Outcome.WON), time=np.int32(1000))
    late = late.replace(time=np.int32(1000))
    params = env.default_params
    facts = [
        (
            bool(env.is_terminal(each, params)),
            bool(env.is_truncated(each, params)),
            float(env.discount(each, params)),
        )
        for each in (playing, won, late)
    ]
    assert facts == [(False, False, 1.0), (True, False, 0.0), (False, True, 1.0)]
    assert bool(env.is_truncated(playing, params.replace(max_steps_in_episode=0)))
    with pytest.raises(ValueError, match="does not support transition gradients"):
        env.with_transition_gradients()


def test_a_copy_and_a_pickle_are_the_same_environment(env: HackMatrix) -> None:
    for original in (env, HackMatrix(undo_depth=3, packed=True)):
        for other in (copy.copy(original), copy.deepcopy(original), pickle.loads(pickle.dumps(original))):
            assert (other.undo_depth, other.packed) == (original.undo_depth, original.packed)
            assert other._functions is original._functions  # nothing is compiled twice


@pytest.mark.parametrize(
    "action", [2.5, 2.0, "up", None, 10**30, -1, np.float32(1), jnp.float32(1)], ids=repr
)
def test_an_action_that_is_none_is_refused(env: HackMatrix, action: Any) -> None:
    state = from_game_state(game())
    with pytest.raises(ValueError, match="actions are the integers 0 to 27"):
        env.step(KEY, state, action)


def test_traced_actions_must_be_whole_numbers(env: HackMatrix, shapes: Any) -> None:
    with pytest.raises(ValueError, match="action of type float32"):
        jax.eval_shape(env.step, KEY, shapes[1], jnp.float32(1))


def trace(wrapped: Any) -> Any:
    """Shapes of what a wrapper's `step` returns from the state of its `reset`."""
    params = wrapped.default_params

    def run(key: jax.Array) -> Any:
        observation, state = wrapped.reset(key, params)
        return observation, wrapped.step(key, state, jnp.int32(3), params)

    return jax.eval_shape(run, KEY)


WRAPPED: dict[str, Callable[[HackMatrix], Any]] = {
    "log": wrappers.LogWrapper,
    "all three": lambda env: wrappers.LogWrapper(
        wrappers.StickyActionWrapper(wrappers.FlattenObservationWrapper(env), 0.25)
    ),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_wrappers_of_pure_functions(name: str, env: HackMatrix) -> None:
    wrapped = WRAPPED[name](env)
    assert wrapped.name == "HackMatrix-v0"
    assert wrapped.observation_space(wrapped.default_params).shape == OBSERVATION
    first, (observation, _, reward, terminated, truncated, info) = trace(wrapped)
    assert first.shape == observation.shape == info["final_observation"].shape == OBSERVATION
    assert (reward.dtype, terminated.dtype, truncated.dtype) == (jnp.float32, jnp.bool, jnp.bool)
    assert {"terminated", "truncated", "discount", "final_observation"} <= set(info)


@pytest.mark.slow
def test_programs_with_64_bit_types_trace_the_same_environment(env: HackMatrix, shapes: Any) -> None:
    with jax.enable_x64(True):
        assert jax.eval_shape(env.reset, KEY) == shapes
        _, (observation, state, reward, *_) = trace(wrappers.LogWrapper(env))
        assert (observation.dtype, reward.dtype) == (jnp.float32, jnp.float32)
        assert jax.tree.map(lambda leaf: leaf.dtype, state.env_state) == jax.tree.map(
            lambda leaf: leaf.dtype, shapes[1]
        )
        keys, actions = jax.random.split(KEY, 3), jnp.zeros(3, jnp.int32)
        states = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((3, *leaf.shape), leaf.dtype), shapes[1])
        step = jax.vmap(jax.jit(env.step))  # batched after it was traced
        assert jax.eval_shape(step, keys, states, actions)[0].dtype == jnp.float32
        masks = jax.ShapeDtypeStruct((3, 28), jnp.bool)
        assert jax.eval_shape(random_legal_action, KEY, mask=masks).dtype == jnp.int32


@pytest.mark.slow
def test_programs_with_64_bit_types_play_the_same_games(env: HackMatrix) -> None:
    wrapped = wrappers.LogWrapper(env)
    params = env.default_params.replace(max_steps_in_episode=5)

    def rollout(key: jax.Array) -> Any:
        def step(carry: Any, key: jax.Array) -> Any:
            action = random_legal_action(key, env.legal_action_mask(carry[1].env_state))
            observation, state, *rest, info = wrapped.step(key, carry[1], action, params)
            return (observation, state), (observation, action, *rest, info["returned_episode_returns"])

        return jax.lax.scan(step, wrapped.reset(key, params), jax.random.split(key, 12))[1]

    keys = jax.random.split(KEY, 4)
    expected = jax.jit(jax.vmap(rollout))(keys)
    with jax.enable_x64(True):
        found = jax.jit(jax.vmap(rollout))(keys)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def test_the_wrapper_of_the_step_with_one_done(env: HackMatrix) -> None:
    _, outputs = trace(wrappers.LegacyStepAPIWrapper(env))
    observation, _, reward, done, _ = outputs
    assert (observation.shape, reward.shape, done.dtype) == (OBSERVATION, (), jnp.bool)


def test_the_wrapper_for_dm_env(env: HackMatrix) -> None:
    wrapped = wrappers.GymnaxToDmEnvWrapper(env)
    timestep = jax.eval_shape(lambda key: wrapped.step(key, wrapped.reset(key), jnp.int32(3)), KEY)
    assert timestep.observation.shape == timestep.final_observation.shape == OBSERVATION


def test_the_wrapper_for_brax(env: HackMatrix, monkeypatch: pytest.MonkeyPatch) -> None:
    """With stand-ins of the two classes that it takes from brax."""

    @struct.dataclass
    class State:
        pipeline_state: Any
        obs: Any
        reward: Any
        done: Any
        metrics: Any
        info: Any

    module: Any = types.ModuleType("brax")
    envs: Any = types.ModuleType("brax.envs")
    module.envs, envs.Env, envs.State = envs, type("Env", (), {}), State
    monkeypatch.setitem(sys.modules, "brax", module)
    monkeypatch.setitem(sys.modules, "brax.envs", envs)
    wrapped = importlib.import_module("gymnax.wrappers.brax").GymnaxToBraxWrapper(env)
    state = jax.eval_shape(lambda key: wrapped.step(wrapped.reset(key), jnp.int32(3)), KEY)
    assert (state.obs.shape, state.done.dtype) == (OBSERVATION, jnp.bool)
    assert wrapped.action_size() == 1
    assert wrapped.observation_size() == 1


@pytest.mark.slow
def test_the_wrapper_for_evojax(monkeypatch: pytest.MonkeyPatch) -> None:
    """With stand-ins of the two classes that it takes from evojax; it makes the environment by its registered name."""
    module: Any = types.ModuleType("evojax.task.base")
    module.TaskState = struct.dataclass(type("TaskState", (), {}))
    module.VectorizedTask = type("VectorizedTask", (), {})
    for name in ("evojax", "evojax.task"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "evojax.task.base", module)
    name = importlib.import_module("matrixrl.envs.hackmatrix.gymnax_env").ENV_ID
    task = importlib.import_module("gymnax.wrappers.evojax").GymnaxToEvoJaxTask(name, max_steps=5)
    assert (task.obs_shape, task.num_actions) == (OBSERVATION, 28)
    keys = jax.random.split(KEY, 2)
    state, reward, done = jax.eval_shape(
        lambda keys: task.step(task.reset(keys), jnp.zeros(2, jnp.int32)), keys
    )
    assert (state.obs.shape, reward.shape, done.shape) == ((2, *OBSERVATION), (2,), (2,))


def test_it_is_registered_and_rolled_out_by_name() -> None:
    name = importlib.import_module("matrixrl.envs.hackmatrix.gymnax_env").ENV_ID
    env, params = gymnax.make(name, undo_depth=2)
    assert (env.undo_depth, params) == (2, EnvParams())
    rollout = importlib.import_module("gymnax.experimental.rollout").RolloutWrapper(
        env_name=name, num_env_steps=3, env_params={"max_steps_in_episode": 9}
    )
    outputs = jax.eval_shape(lambda key: rollout.single_rollout(key, None), KEY)
    assert outputs[0].shape == (3, *OBSERVATION)


@pytest.mark.slow
@pytest.mark.parametrize("x64", [pytest.param(False, marks=pytest.mark.slow), True])
def test_the_wrapper_for_gymnasium_plays_a_game(env: HackMatrix, x64: bool) -> None:
    with jax.enable_x64(x64):
        play(env)


def play(env: HackMatrix) -> None:
    wrapped = wrappers.GymnaxToGymWrapper(env, env.default_params.replace(max_steps_in_episode=3), seed=4)
    assert wrapped.metadata["name"] == "HackMatrix-v0"
    assert wrapped.action_space.n == 28
    assert wrapped.observation_space.shape == OBSERVATION
    first, _ = wrapped.reset(seed=4)
    again, _ = wrapped.reset(seed=4)
    np.testing.assert_array_equal(first, again)
    ends = []
    for _ in range(6):
        action = int(np.flatnonzero(env.legal_action_mask(wrapped.env_state))[0])
        observation, _, terminated, truncated, info = wrapped.step(action)
        ends.append(bool(truncated))
        assert (observation.dtype, info["final_observation"].dtype) == (np.float32, np.float32)
        assert wrapped.observation_space.contains(np.asarray(observation))
        assert bool(info["terminated"]) == bool(terminated)
    assert ends == [False, False, True] * 2
    with pytest.raises(ValueError, match=r"action 2\.5"):
        wrapped.step(2.5)


@pytest.mark.slow
def test_the_wrapper_for_vectors_of_gymnasium(env: HackMatrix, shapes: Any) -> None:
    """Its functions are traced: `reset` is called by its constructor, `step` is the batched one of the environment."""
    wrapped = wrappers.GymnaxToVectorGymWrapper(env, num_envs=2, seed=3)
    assert wrapped.single_action_space.n == 28
    assert wrapped.observation_space.shape == (2, *OBSERVATION)
    observations, _ = wrapped.reset(seed=3)
    assert observations.shape == (2, *OBSERVATION)
    keys = jax.random.split(KEY, 2)
    outputs = jax.eval_shape(
        wrapped._env.step, keys, wrapped.env_state, jnp.zeros(2, jnp.int32), env.default_params
    )
    assert outputs[0].shape == (2, *OBSERVATION)
    assert env.reset.__func__ is HackMatrix.reset  # the wrapper changed its copy only
