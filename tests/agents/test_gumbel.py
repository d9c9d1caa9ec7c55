"""The parts of AlphaZero's learner: targets, replay buffer and loss. `tests/systems/test_alphazero_run.py` trains it."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from matrixrl.agents.gumbel import (
    GumbelAlphaZero,
    SearchedPositions,
    SearchedRollout,
    SearchedSteps,
    SearchTrainState,
    loss,
)
from matrixrl.agents.ppo import Episodes, RolloutState
from matrixrl.networks.actor_critic import MLP, ActorCritic
from matrixrl.search.chance import ChanceSearchResult, Prediction, Transitions, search_with_chance
from tests.envs.tiny import Doors, Room

DOORS = Doors()
LANES, STEPS, GAMMA = 16, 4, 0.9
NETWORK = ActorCritic(lambda observation: observation, MLP(16, 1), DOORS.num_actions)
OUTSIDE, INSIDE = jnp.eye(2)


def search(
    params: Any, keys: Any, env_state: Room, discount: Any, reward_scale: Any, num_simulations: int = 24
) -> ChanceSearchResult:
    def predict(params: Any, states: Room) -> Prediction:
        outputs: Any = NETWORK.apply(params, jax.vmap(DOORS.observe)(states))
        logits, value = outputs
        return Prediction(logits, jax.vmap(DOORS.legal_action_mask)(states), value)

    def step(keys: Any, states: Room, actions: Any) -> Transitions:
        after, reward, over = jax.vmap(DOORS.transition)(keys, states, actions)
        return Transitions(after, reward * reward_scale, over)

    return search_with_chance(
        params, keys, env_state, predict=predict, step=step,
        num_simulations=num_simulations, discount=discount, exploration=1.0,
    )  # fmt: skip


LEARNER = GumbelAlphaZero(
    env=DOORS,  # pyright: ignore[reportArgumentType]
    search=search,
    apply=NETWORK.apply,  # pyright: ignore[reportArgumentType]
    init_params=NETWORK.init,
    optimizer=optax.adam(1e-2),
    num_envs=LANES,
    num_steps=STEPS,
    replay_size=4 * LANES * STEPS,
    batch_size=64,
    updates_per_rollout=4,
    gamma=GAMMA,
    value_lambda=0.5,
    vf_coef=1.0,
)


@pytest.fixture(scope="module")
def begun() -> SearchTrainState:
    return jax.jit(LEARNER.init)(jax.random.key(0))


def test_targets_are_lambda_returns_over_the_values_of_the_search() -> None:
    steps = SearchedSteps(
        observation=jnp.zeros((3, 2, 2)),
        legal=jnp.ones((3, 2, 3), bool),
        weights=jnp.full((3, 2, 3), 1 / 3),
        reward=jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]),
        value=jnp.array([[10.0, 20.0], [30.0, 40.0], [50.0, 60.0]]),
        terminated=jnp.array([[False, False], [False, True], [False, False]]),
        truncated=jnp.array([[False, False], [True, False], [False, False]]),
        final_value=jnp.array([[0.0, 0.0], [7.0, 0.0], [0.0, 0.0]]),
    )
    rollout = RolloutState((), jnp.stack([OUTSIDE, INSIDE]), jnp.arange(2, dtype=jnp.int32))
    learner = dataclasses.replace(
        LEARNER, apply=lambda params, seen: (None, 100 * seen[:, 1]), reward_scale=0.5
    )

    def targets(value_lambda: float) -> np.ndarray:
        made = dataclasses.replace(learner, value_lambda=value_lambda).positions(
            None, SearchedRollout(rollout, steps, Episodes(steps.terminated, {}))
        )
        return np.asarray(made.target).reshape(3, 2)

    one_step = [[0.5 + 0.9 * 30, 1 + 0.9 * 40], [1.5 + 0.9 * 7, 2], [2.5, 3 + 0.9 * 100]]
    np.testing.assert_allclose(targets(0.0), one_step, rtol=1e-6)
    returns = [[0.5 + 0.9 * (1.5 + 0.9 * 7), 1 + 0.9 * 2], *one_step[1:]]
    np.testing.assert_allclose(targets(1.0), returns, rtol=1e-6)


def test_new_positions_replace_the_oldest_and_only_filled_slots_are_drawn(begun: SearchTrainState) -> None:
    def batch(label: float, count: int = 48) -> SearchedPositions:
        return SearchedPositions(
            jnp.full((count, 2), label),
            jnp.ones((count, 3), bool),
            jnp.full((count, 3), 1 / 3),
            jnp.full(count, label),
        )

    insert, sample = jax.jit(LEARNER.insert), jax.jit(LEARNER.sample)
    replay = insert(begun.replay, batch(1.0))
    assert set(np.asarray(sample(replay, jax.random.key(0)).target)) == {1.0}
    for label in range(2, 8):
        replay = insert(replay, batch(label))
    # 256 slots hold the last five batches of 48, and 16 positions of the one before.
    counts = {label: int((np.asarray(replay.target) == label).sum()) for label in range(1, 8)}
    assert counts == {1: 0, 2: 16, 3: 48, 4: 48, 5: 48, 6: 48, 7: 48}
    assert float(replay.clock) == 7


def test_the_loss_is_cross_entropy_and_half_the_squared_error() -> None:
    batch = SearchedPositions(
        jnp.zeros((1, 2)), jnp.array([[True, True, False]]), jnp.array([[0.25, 0.75, 0.0]]), jnp.array([3.0])
    )
    apply = lambda params, seen: (jnp.array([[0.0, 1.0, 50.0]]), jnp.array([1.0]))  # noqa: E731
    total, parts = partial(loss, None, apply)(batch, 0.5)
    expected = np.log(1 + np.e) - 0.75
    assert float(parts.policy) == pytest.approx(expected, rel=1e-5)
    assert float(parts.value) == pytest.approx(2.0)
    assert float(total) == pytest.approx(expected + 1, rel=1e-5)
