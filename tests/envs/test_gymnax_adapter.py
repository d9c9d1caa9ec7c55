"""Environments of others behind the protocol of `envs.base`, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from matrixrl.config import ConfigError
from matrixrl.envs.adapters.gymnax import GymnaxEnvironment
from tests.envs.tiny import Box, Continuous, Discrete, Masked, State

KEY = jax.random.key(0)


def test_values_masks_and_ends_of_an_episode() -> None:
    env = GymnaxEnvironment(Masked(), None, "tiny:Masked")
    assert (env.num_actions, env.actions.is_continuous, env.max_steps) == (3, False, None)
    assert list(env.episode_values) == ["return", "steps", "nested_score", "success", "info_time"]
    observation, state = env.reset(KEY)
    assert env.legal_action_mask(state).tolist() == [True, True, bool(observation[0] > 0)]
    total = 0.0
    for number in range(1, 6):
        shown = float(observation[0])
        observation, state, reward, terminated, truncated, info = env.step(KEY, state, jnp.int32(1))
        total += shown
        assert float(reward) == shown
        assert float(info["episode"]["return"]) == total
        assert int(info["episode"]["steps"]) == number
        assert float(info["episode"]["nested_score"]) == 2 * shown
        assert not terminated
        assert bool(truncated) == (number == 5)
    assert float(state.total) == 0.0  # of the next episode
    assert int(state.steps) == 0


def test_an_episode_that_ends_in_both_ways_terminated() -> None:
    class Both(Masked):
        def step(self, *arguments: Any) -> tuple[Any, ...]:
            observation, state, reward, _, truncated, info = super().step(*arguments)
            return observation, state, reward, truncated, truncated, info

    env = GymnaxEnvironment(Both(), None, "both")
    _, state = env.reset(KEY)
    for _ in range(5):
        *_, terminated, truncated, _ = env.step(KEY, state, jnp.int32(0))
        state = env.step(KEY, state, jnp.int32(0))[1]
    assert terminated
    assert not truncated


def test_continuous_actions_are_clipped_and_scaled_to_the_bounds() -> None:
    env = GymnaxEnvironment(Continuous(), None, "tiny:Continuous")
    assert env.actions.is_continuous
    _, state = env.reset(KEY)
    given = [
        float(env.step(KEY, state, jnp.array([a]))[-1]["episode"]["clipped"]) for a in (-9.0, 0.0, 0.5, 3.0)
    ]
    assert given == [0.0, 2.0, 3.0, 4.0]

    class HalfBounded(Continuous):
        def action_space(self, params: Any) -> Box:
            return Box(np.array([-np.inf]), np.array([1.5]), (1,))

    env = GymnaxEnvironment(HalfBounded(), None, "half")
    given = [float(env.step(KEY, state, jnp.array([a]))[-1]["episode"]["clipped"]) for a in (-9.0, 0.5, 3.0)]
    assert given == [-9.0, 0.5, 1.5]


def test_without_a_final_observation_the_one_before_the_last_step_stands_in() -> None:
    class Forgetful(Masked):
        def step(self, *arguments: Any) -> tuple[Any, ...]:
            *rest, _ = super().step(*arguments)
            return *rest, {}

    env = GymnaxEnvironment(Forgetful(), None, "forgetful")
    assert not env.keeps_final_observations
    observation, state = env.reset(KEY)
    for _ in range(5):
        before = observation
        observation, state, *_, info = env.step(KEY, state, jnp.int32(0))
        assert info["final_observation"].tolist() == before.tolist()


def test_a_state_of_python_numbers_keeps_its_types() -> None:
    env = GymnaxEnvironment(Masked(), None, "tiny:Masked")
    shapes = jax.eval_shape(lambda: env.reset(KEY))
    after = jax.eval_shape(lambda: env.step(KEY, env.reset(KEY)[1], jnp.int32(0))[:2])
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), shapes) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), after
    )


@pytest.mark.parametrize("name", ["state", "method_with_params"])
def test_masks_come_from_a_method_or_a_field(name: str) -> None:
    env = OfField() if name == "state" else OfParams()
    _, state = GymnaxEnvironment(env, None, "masks").reset(KEY)
    assert GymnaxEnvironment(env, None, "masks").legal_action_mask(state).tolist() == [False, True, True]


class OfField(Masked):
    legal_action_mask = None  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]

    def reset(self, key: jax.Array, params: Any) -> tuple[jax.Array, Any]:
        return jnp.zeros(1), {"action_mask": jnp.array([False, True, True])}

    def step(self, key: jax.Array, state: Any, action: jax.Array, params: Any) -> tuple[Any, ...]:
        return jnp.zeros(1), state, 0.0, False, False, {}


class OfParams(OfField):
    def action_mask(self, state: Any, params: Any) -> jax.Array:
        return state["action_mask"] & (params is None)


class NoStep:
    def reset(self, key: Any, params: Any) -> Any: ...


def broken(**methods: Any) -> Any:
    return type("Broken", (Masked,), methods)()


def returns(*, at: int, value: Any) -> Callable[..., Any]:
    def step(self: Any, *arguments: Any) -> tuple[Any, ...]:
        results = list(Masked.step(self, *arguments))
        results[at] = value
        return tuple(results)

    return step


def old_step(self: Any, *arguments: Any) -> tuple[Any, ...]:
    observation, state, reward, terminated, truncated, info = Masked.step(self, *arguments)
    return observation, state, reward, terminated | truncated, info


BAD: dict[str, tuple[Any, str]] = {
    "no_step": (NoStep(), "expected an environment with the methods reset and step of gymnax 1.0, came a NoStep without step"),
    "no_reset": (object(), "came an object without reset"),
    "old_gymnax": (broken(step=old_step), "expected 6 values (observation, state, reward, terminated, truncated, info), came 5"),
    "reset_of_one": (broken(reset=lambda s, k, p: jnp.zeros(1)), "reset(key, params): expected 2 values (observation, state), came a"),
    "reset_raises": (broken(reset=lambda s, k, p: 1 // 0), "reset(key, params) raised ZeroDivisionError"),
    "declared": (
        broken(observation_space=lambda s, p: Box(0, 1, (4,))),
        "expected observations of shape (4,), which observation_space declares, came (1,) from reset",
    ),
    "observation": (
        broken(step=returns(at=0, value=jnp.zeros(2))),
        "step(key, state, action, params): expected an observation of float32(1,), as from reset, came float32(2,)",
    ),
    "type": (
        broken(step=returns(at=1, value=State(jnp.float32(0), jnp.float32(0.5)))),
        "expected a state.time of int32(), as from reset, came float32()",
    ),
    "structure": (broken(step=returns(at=1, value=(jnp.float32(0),))), "expected a state of the structure that reset returns"),
    "reward": (broken(step=returns(at=2, value=jnp.zeros(3))), "expected one number as reward, came shape (3,)"),
    "ending": (broken(step=returns(at=3, value=jnp.zeros(2, bool))), "expected one number as terminated, came shape (2,)"),
    "info": (broken(step=returns(at=5, value=jnp.zeros(2))), "expected a dict as info"),
    "mask": (
        broken(legal_action_mask=lambda s, state: jnp.ones(4, bool)),
        "legal_action_mask: expected a mask of shape (3,), one for each action, came (4,)",
    ),
    "actions": (broken(action_space=lambda s, p: "left or right"), "expected discrete actions (Discrete) or continuous ones (Box)"),
    "no_actions": (broken(action_space=lambda s, p: Discrete(0)), "expected 1 action or more"),
    "bounds": (broken(action_space=lambda s, p: Box(1.0, 1.0)), "expected continuous actions with low < high"),
    "undeclared": (broken(action_space=None, num_actions=None), "expected action_space(params) or num_actions"),
    "nothing": (broken(reset=lambda s, k, p: ((), ())), "expected an observation of numbers, came nothing"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_breaks_the_interface_is_one_line(case: str) -> None:
    env, message = BAD[case]
    with pytest.raises(ConfigError) as caught:
        GymnaxEnvironment(env, None, "file.py:make")
    text = str(caught.value)
    assert text.startswith("--env file.py:make: ")
    assert message in text
    assert "\n" not in text
