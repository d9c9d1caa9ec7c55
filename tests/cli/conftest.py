"""A run folder with a HackMatrix agent in it: real journal and checkpoints, without the minutes of training."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from matrixrl import presets
from matrixrl.checkpoints.format import Snapshot, flatten
from matrixrl.checkpoints.store import CheckpointStore
from matrixrl.config import ActorCriticConfig, PPOConfig, TrackingConfig, as_record
from matrixrl.envs.hackmatrix.observation import PACKED_WORDS
from matrixrl.systems.hackmatrix.task import build_network
from matrixrl.tracking.run import open_run

NEWEST, BEST = 9, 5  # steps of the agent's two checkpoints


@pytest.fixture(scope="session")
def hackmatrix_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the runs `agent` of the hackmatrix trainer and `matrices` of the other one."""
    runs = tmp_path_factory.mktemp("agents")
    config = dataclasses.replace(
        presets.hackmatrix("dev"),
        ppo=PPOConfig(num_envs=16, num_steps=32, total_timesteps=20_480, num_minibatches=2),
        network=ActorCriticConfig(hidden_dim=8, num_layers=1),
        tracking=TrackingConfig(runs_dir=runs, run_name="agent"),
        time_limit=60,
    )
    settings = {**as_record(config), "environment_version": 0}
    other = TrackingConfig(runs_dir=runs, run_name="matrices")
    with open_run(other, system="matmul", name_prefix="matmul", run_config={}) as run:
        run.finish("finished")
    with open_run(
        config.tracking, system="hackmatrix", name_prefix="hackmatrix-jax", run_config=settings
    ) as run:
        store = CheckpointStore(run.directory, {"run": run.name, "config": settings})
        store.begin()
        for step, score in ((BEST, 2.0), (NEWEST, 1.0)):
            network = build_network(config)
            params = network.init(jax.random.key(step), jnp.zeros((1, PACKED_WORDS), jnp.uint32))
            # At initialisation a policy is all but uniform: this one has likes and dislikes.
            params = jax.tree.map(lambda leaf: 20 * leaf if leaf.shape[-1:] == (29,) else leaf, params)
            store.start(Snapshot(step, flatten({"params": params}), {}, score=score))
            store.collect(None)
        store.close()
        run.finish("finished")
    return runs
