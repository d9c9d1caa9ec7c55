"""A state saved on eight devices goes on with one, and back: the number of devices is no part of a checkpoint."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Restores what the process before saved (if there is one), advances it by one step, and saves it.
ONE_STEP = """
import sys
from pathlib import Path
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from matrixrl.checkpoints import format as checkpoint_format
from matrixrl.checkpoints.format import Snapshot

source, target, devices = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
assert jax.device_count() == devices
mesh = jax.make_mesh((devices,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
split, whole = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
template = {
    "envs": jax.ShapeDtypeStruct((16, 3), jnp.float32, sharding=split),
    "params": jax.ShapeDtypeStruct((3,), jnp.float32, sharding=whole),
    "key": jax.ShapeDtypeStruct((), jax.random.key(0).dtype, sharding=whole),
}
if source == "new":
    state = {"envs": jnp.arange(48.0).reshape(16, 3), "params": jnp.ones(3), "key": jax.random.key(7)}
    state = jax.tree.map(lambda leaf, like: jax.device_put(leaf, like.sharding), state, template)
else:
    state = checkpoint_format.read(Path(source)).restore(template)
for name, leaf in state.items():
    assert leaf.sharding == template[name].sharding, name
    assert len(leaf.sharding.device_set) == devices, name

@jax.jit
def step(state):
    key, draw = jax.random.split(state["key"])
    envs = state["envs"] * 2 + jax.random.randint(draw, (16, 3), 0, 5)
    return {"envs": envs, "params": state["params"] + envs[3], "key": key}

snapshot = Snapshot(1, checkpoint_format.flatten(step(state)), {})
checkpoint_format.write(target, snapshot, {})
print([array.tolist() for array in snapshot.arrays.values()])
"""


def steps(folder: Path, devices: list[int]) -> str:
    """What the last of so many processes, each with its number of devices, ends with."""
    source, said = "new", ""
    for number, count in enumerate(devices):
        target = folder / str(number)
        done = subprocess.run(
            [sys.executable, "-c", ONE_STEP, source, str(target), str(count)],
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT / "src"),
                "JAX_PLATFORMS": "cpu",
                "XLA_FLAGS": f"--xla_force_host_platform_device_count={count}",
            },
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        source, said = str(target), done.stdout
    return said


@pytest.mark.slow
def test_eight_devices_then_one_then_eight_give_what_one_gives(tmp_path: Path) -> None:
    for name in ("changing", "one"):
        (tmp_path / name).mkdir()
    assert steps(tmp_path / "changing", [8, 1, 8]) == steps(tmp_path / "one", [1, 1, 1])
