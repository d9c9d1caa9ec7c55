"""Generalised advantage estimation against its definition, a sum over the future, and against worked cases."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from matrixrl.agents.returns import gae

T, B = 7, 3

compiled = jax.jit(gae)
floats = hnp.arrays(np.float32, (T, B), elements=st.floats(-10, 10, width=32))
lasts = hnp.arrays(np.float32, B, elements=st.floats(-10, 10, width=32))
endings = hnp.arrays(np.int8, (T, B), elements=st.sampled_from([0, 0, 0, 1, 2]))
shares = st.floats(0, 1)


def by_definition(
    reward: np.ndarray,
    value: np.ndarray,
    terminated: np.ndarray,
    truncated: np.ndarray,
    final_value: np.ndarray,
    last_value: np.ndarray,
    gamma: float,
    gae_lambda: float,
) -> np.ndarray:
    """A_t = sum over k of (gamma lambda)^k delta_{t+k}, as far as the episode of step t goes (equation 16)."""
    steps, lanes = reward.shape
    advantage = np.zeros((steps, lanes))
    for lane in range(lanes):
        for t in range(steps):
            for k in range(steps - t):
                at = t + k
                if terminated[at, lane]:
                    following = 0.0
                elif truncated[at, lane]:
                    following = float(final_value[at, lane])
                else:
                    following = float(last_value[lane] if at + 1 == steps else value[at + 1, lane])
                delta = float(reward[at, lane]) + gamma * following - float(value[at, lane])
                advantage[t, lane] += (gamma * gae_lambda) ** k * delta
                if terminated[at, lane] or truncated[at, lane]:
                    break
    return advantage


@settings(max_examples=100, deadline=None)
@given(floats, floats, endings, floats, lasts, shares, shares)
def test_gae_is_the_discounted_sum_of_the_deltas_of_its_episode(
    reward: np.ndarray,
    value: np.ndarray,
    ending: np.ndarray,
    final_value: np.ndarray,
    last_value: np.ndarray,
    gamma: float,
    gae_lambda: float,
) -> None:
    inputs = (reward, value, ending == 1, ending == 2, final_value, last_value, gamma, gae_lambda)
    expected = by_definition(*inputs)
    advantage, target = compiled(*inputs)
    assert advantage.dtype == target.dtype == jnp.float32
    np.testing.assert_allclose(advantage, expected, rtol=1e-4, atol=2e-4)
    np.testing.assert_allclose(target, expected + value, rtol=1e-4, atol=2e-4)


@settings(max_examples=50, deadline=None)
@given(floats, floats, endings, floats, lasts, shares)
def test_lambda_one_gives_discounted_returns_and_lambda_zero_one_step_targets(
    reward: np.ndarray,
    value: np.ndarray,
    ending: np.ndarray,
    final_value: np.ndarray,
    last_value: np.ndarray,
    gamma: float,
) -> None:
    inputs = (reward, value, ending == 1, ending == 2, final_value, last_value, gamma)
    returns, one_step = np.zeros((T, B)), np.zeros((T, B))
    later, value_later = last_value.astype(float), last_value.astype(float)
    for t in reversed(range(T)):
        cut = [np.zeros(B), final_value[t]]
        later = np.select([ending[t] == 1, ending[t] == 2], cut, later)
        value_later = np.select([ending[t] == 1, ending[t] == 2], cut, value_later)
        returns[t] = later = reward[t] + gamma * later
        one_step[t] = reward[t] + gamma * value_later
        value_later = value[t].astype(float)
    np.testing.assert_allclose(compiled(*inputs, 1.0)[1], returns, rtol=1e-4, atol=3e-4)
    np.testing.assert_allclose(compiled(*inputs, 0.0)[1], one_step, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("terminated", "truncated", "expected"),
    [
        # gamma 1/2, lambda 1/2, rewards 1, 2, 4, values 8, 4, 2, the next value 16, final values 32:
        # deltas 1 + 2 - 8 = -5, 2 + 1 - 4 = -1, 4 + 8 - 2 = 10; A = 10, -1 + 10/4 = 1.5, -5 + 1.5/4.
        ([0, 0, 0], [0, 0, 0], [-4.625, 1.5, 10]),
        # The second step terminates: its delta is 2 - 4 = -2, and the third belongs to another episode.
        ([0, 1, 0], [0, 0, 0], [-5.5, -2, 10]),
        # It truncates: its delta is 2 + 16 - 4 = 14.
        ([0, 0, 0], [0, 1, 0], [-1.5, 14, 10]),
        # The last step ends the rollout and an episode: the next value does not count.
        ([0, 0, 1], [0, 0, 0], [-5.125, -0.5, 2]),
        ([0, 0, 0], [0, 0, 1], [-4.125, 3.5, 18]),
    ],
)  # fmt: skip
def test_worked_cases(terminated: list[int], truncated: list[int], expected: list[float]) -> None:
    def column(values: Sequence[float]) -> np.ndarray:
        return np.array(values, np.float32)[:, None]

    advantage, target = compiled(
        column([1, 2, 4]),
        column([8, 4, 2]),
        column(terminated).astype(bool),
        column(truncated).astype(bool),
        column([32, 32, 32]),
        np.array([16.0], np.float32),
        0.5,
        0.5,
    )
    np.testing.assert_array_equal(advantage[:, 0], expected)
    np.testing.assert_array_equal(target[:, 0], np.add(expected, [8, 4, 2]))
