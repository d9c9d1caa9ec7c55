"""PPO solves environments whose optimal values are known; one compiled program plays all of them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from matrixrl.agents.masked import masked_log_softmax
from matrixrl.agents.ppo import PPO
from matrixrl.envs.probes import NUM_ACTIONS, PROBES, ProbeEnvironment, Tables
from matrixrl.networks.actor_critic import MLP, ActorCritic

GAMMA = 0.8
UPDATES = 200
NETWORK = ActorCritic(lambda observation: observation, MLP(16, 1), NUM_ACTIONS)


def train(tables: Tables, key: jax.Array) -> tuple[Any, jax.Array]:
    """Weights after `UPDATES` updates, and how many illegal actions were taken in all."""
    ppo = PPO(
        env=ProbeEnvironment(),
        apply=NETWORK.apply,  # pyright: ignore[reportArgumentType]
        init_params=NETWORK.init,
        optimizer=optax.chain(optax.clip_by_global_norm(0.5), optax.adam(1e-2)),
        num_envs=16,
        num_steps=8,
        num_minibatches=2,
        update_epochs=4,
        gamma=GAMMA,
        gae_lambda=0.95,
        clip_eps=0.2,
        vf_coef=0.5,
        ent_coef=0.01,
        env_params=tables,
    )

    def update(state: Any, key: jax.Array) -> tuple[Any, jax.Array]:
        state, _, episodes = ppo.update(state, key)
        return state, jnp.where(episodes.ended, episodes.values["illegal"], 0).sum()

    key_init, key_updates = jax.random.split(key)
    state, illegal = jax.lax.scan(update, ppo.init(key_init), jax.random.split(key_updates, UPDATES))
    return state.params, illegal.sum()


# Quick code generation: the program is compiled for some seconds and runs for one.
compiled = jax.jit(train, compiler_options={"xla_backend_optimization_level": 0})


@pytest.mark.parametrize("name", PROBES)
def test_ppo_finds_optimal_values_and_actions(name: str) -> None:
    probe = PROBES[name]()
    params, illegal = compiled(probe.tables, jax.random.key(0))
    values = np.asarray(probe.values(GAMMA))
    count = len(values)
    logits, found = NETWORK.apply(params, probe.tables.observation[:count])
    # Exploration by the entropy bonus costs a little where actions matter.
    np.testing.assert_allclose(np.asarray(found), values, atol=0.05)
    probabilities = np.exp(masked_log_softmax(logits, jnp.asarray(probe.tables.legal[:count])))
    assert probabilities.argmax(-1).tolist() == list(probe.actions)
    assert probabilities.max(-1).min() > 0.9
    assert int(illegal) == 0
