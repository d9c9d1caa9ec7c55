"""PPO on several devices is PPO on one: a process with eight forced CPU devices compares them."""

from __future__ import annotations

import pytest

from tests.forced_devices import said_on_eight_devices

SCRIPT = """
import dataclasses
import jax, jax.numpy as jnp, numpy as np, optax
from jax.sharding import NamedSharding, PartitionSpec
from matrixrl.agents.ppo import PPO, TrainState, Update
from matrixrl.devices.mesh import DATA, data_mesh
from matrixrl.envs.probes import NUM_ACTIONS, PROBES, ProbeEnvironment
from matrixrl.networks.actor_critic import MLP, ActorCritic

assert jax.device_count() == 8
network = ActorCritic(lambda observation: observation, MLP(16, 1), NUM_ACTIONS)
ppo = PPO(
    env=ProbeEnvironment(), apply=network.apply, init_params=network.init,
    # Plain gradient descent: Adam's first step is the sign of the gradient and would hide a factor.
    optimizer=optax.sgd(0.1), num_envs=16, num_steps=8, num_minibatches=2, update_epochs=2, gamma=0.9,
    gae_lambda=0.95, clip_eps=0.2, vf_coef=0.5, ent_coef=0.01,
    env_params=PROBES["seen_and_chosen_reward"]().tables,
)
assert ppo.groups == 8


def updated(devices):
    mesh = data_mesh(devices, ppo.groups, "groups")
    state, key = jax.jit(ppo.init)(jax.random.key(0)), jax.random.key(1)
    before = state.params
    if mesh is None:
        state, metrics, episodes = jax.jit(ppo.update)(state, key)
    else:
        whole, spread = PartitionSpec(), PartitionSpec(DATA)
        specs = TrainState(whole, whole, spread)
        update = jax.shard_map(
            dataclasses.replace(ppo, axis_name=DATA).update, mesh=mesh, in_specs=(specs, whole),
            out_specs=Update(specs, whole, PartitionSpec(None, DATA)), check_vma=False,
        )
        state = TrainState(*(
            jax.tree.map(lambda leaf: jax.device_put(leaf, NamedSharding(mesh, spec)), part)
            for part, spec in zip(state, specs)
        ))
        state, metrics, episodes = jax.jit(update)(state, key)
        assert len(state.rollout.lane.sharding.device_set) == devices
    moved = max(float(jnp.abs(a - b).max()) for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(state.params)))
    assert moved > 1e-3, moved
    return jax.device_get((state, metrics, episodes))


one = updated(1)
for devices in (2, 8):
    several = updated(devices)
    for alone, spread in zip(jax.tree.leaves(one), jax.tree.leaves(several), strict=True):
        # The same games, minibatches and gradients, up to the rounding of products over fewer rows.
        if np.issubdtype(alone.dtype, np.floating):
            np.testing.assert_allclose(spread, alone, rtol=1e-5, atol=1e-6)
        else:
            np.testing.assert_array_equal(spread, alone)
print("equal")
"""


@pytest.mark.slow
def test_two_and_eight_devices_learn_what_one_learns() -> None:
    said, complaint = said_on_eight_devices(SCRIPT)
    assert said == "equal\n", complaint


ANY_ENVIRONMENT = """
import dataclasses
import jax, jax.numpy as jnp, numpy as np
from matrixrl.systems.ppo.environment import environment_task
from matrixrl.systems.ppo.program import PPOProgram
from tests.systems.test_any_environment import SMALL, settings

ppo = dataclasses.replace(SMALL, total_timesteps=320, learning_rate=1e-3)
config = settings("tests.envs.tiny:Continuous", ppo=ppo)
task = environment_task(config)
assert task.normalize_observations and task.normalize_rewards


def trained(devices):
    program = PPOProgram(dataclasses.replace(config, devices=devices), task)
    key = jax.random.key(0)
    state, updates = program.advance(program.init(key), key, jnp.int32(0), jnp.int32(2))
    assert len(state.rollout.discounted.sharding.device_set) == devices
    return jax.device_get((state, updates))


one, two = trained(1), trained(2)
assert float(one[0].statistics.observation.count) == 320
for alone, spread in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
    np.testing.assert_allclose(spread, alone, rtol=2e-4, atol=2e-4)
print("equal")
"""


@pytest.mark.slow
def test_statistics_of_two_devices_are_those_of_one() -> None:
    said, complaint = said_on_eight_devices(ANY_ENVIRONMENT)
    assert said == "equal\n", complaint
