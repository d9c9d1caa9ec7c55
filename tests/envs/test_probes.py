"""The probes: their values are optimal, and their environment keeps the protocol."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from matrixrl.envs.probes import LIMIT, PROBES, ProbeEnvironment, endless_reward, masked_reward

LANES, STEPS = 32, 2 * LIMIT + 1
ENV = ProbeEnvironment()
reset = jax.jit(jax.vmap(ENV.reset, (0, None)))
step = jax.jit(jax.vmap(ENV.step, (0, 0, 0, None)))


def keys(seed: int) -> jax.Array:
    return jax.random.split(jax.random.key(seed), LANES)


@pytest.mark.parametrize("name", PROBES)
@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.9])
def test_values_and_actions_are_those_of_value_iteration(name: str, gamma: float) -> None:
    probe = PROBES[name]()
    tables, values = probe.tables, np.asarray(probe.values(gamma))
    found = np.zeros(len(values))
    paid = np.where(tables.legal, tables.reward, -np.inf)[: len(values)]
    for _ in range(400):
        following = np.where(tables.terminates, 0, found[np.minimum(tables.following, len(found) - 1)])
        found = paid.max(1) + gamma * following[: len(values)]
    np.testing.assert_allclose(values, found, rtol=1e-6)
    assert probe.actions == paid.argmax(1).tolist()


@pytest.mark.parametrize("name", PROBES)
def test_only_states_with_a_value_are_entered(name: str) -> None:
    probe = PROBES[name]()
    count = len(probe.values(0.5))
    assert probe.tables.start.any()
    assert not probe.tables.start[count:].any()
    assert (probe.tables.following[:count] < count).all()
    assert not (probe.tables.terminates & probe.tables.truncates).any()
    assert probe.tables.legal[:count].any(1).all()


def test_both_kinds_of_episode_start_equally_often() -> None:
    tables = masked_reward().tables
    observations = np.concatenate([np.asarray(reset(keys(seed), tables)[0][:, 0]) for seed in range(16)])
    assert set(observations) == {-1.0, 1.0}
    assert abs((observations > 0).mean() - 0.5) < 0.1


def test_a_truncated_episode_keeps_its_own_last_observation_and_the_next_one_begins() -> None:
    tables = endless_reward().tables
    observation, state = reset(keys(0), tables)
    first, others = np.asarray(observation), 0
    for number in range(1, STEPS + 1):
        observation, state, reward, terminated, truncated, info = step(
            keys(number), state, jnp.zeros(LANES, jnp.int32), tables
        )
        assert not terminated.any()
        assert truncated.all() if number % LIMIT == 0 else not truncated.any()
        kind = first[:, LIMIT] * 2 - 1
        np.testing.assert_array_equal(reward, kind)
        since = (number - 1) % LIMIT + 1
        np.testing.assert_array_equal(info["episode"]["steps"], since)
        np.testing.assert_array_equal(info["episode"]["return"], kind * since)
        if number % LIMIT:
            np.testing.assert_array_equal(info["final_observation"], observation)
        else:
            np.testing.assert_array_equal(info["final_observation"], first)
            others += int((np.asarray(observation) != first).any(1).sum())
            first = np.asarray(observation)
            np.testing.assert_array_equal(state.steps, 0)
            np.testing.assert_array_equal(state.total, 0)
    assert others > LANES // 4


def test_illegal_actions_are_paid_and_counted() -> None:
    tables = masked_reward().tables
    observation, state = reset(keys(0), tables)
    legal = np.asarray(jax.vmap(ENV.legal_action_mask)(state))
    np.testing.assert_array_equal(legal[:, 2], observation[:, 0] > 0)
    assert legal[:, :2].all()
    _, _, reward, terminated, _, info = step(keys(1), state, jnp.full(LANES, 2), tables)
    np.testing.assert_array_equal(reward, 1.0)
    np.testing.assert_array_equal(info["episode"]["illegal"], ~legal[:, 2])
    assert terminated.all()
