"""The games in a program that has switched JAX to other settings: the same bits as in one that has not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STRICT = {
    "JAX_ENABLE_X64": "1",
    "JAX_NUMPY_DTYPE_PROMOTION": "strict",
    "JAX_NUMPY_RANK_PROMOTION": "raise",
}
GAMES = """
import hashlib
import jax, jax.numpy as jnp, numpy as np
from matrixrl.envs.hackmatrix.env import HackMatrix
from matrixrl.envs.matmul.env import TensorGame
from matrixrl.envs.matmul.factors import ActionCodec
from matrixrl.envs.matmul.tensors import F2, matmul_tensor, standard_factors

digest = hashlib.sha256()

def note(tree):
    for leaf in jax.tree.leaves(tree):
        array = np.asarray(leaf)
        digest.update(str(array.dtype).encode() + array.tobytes())

env = HackMatrix()
keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), jnp.arange(2, dtype=np.uint32))
# Traced, not compiled: types are what could differ.
observation, state = jax.eval_shape(jax.vmap(env.reset), keys)
mask = jax.eval_shape(jax.vmap(env.legal_action_mask), state)
action = jax.eval_shape(lambda mask: jnp.argmax(mask, axis=-1), mask)  # int64 under 64 bits
outcome = jax.eval_shape(jax.vmap(env.step), keys, state, action)
digest.update(str((observation, state, mask, outcome)).encode())

codec = ActionCodec(shape=(4, 4, 4), ring=F2)
game = TensorGame(codec)
state = game.reset(matmul_tensor((2, 2, 2)), step_limit=8)
u, v, w = standard_factors((2, 2, 2))
for tokens in codec.encode(jnp.asarray(u), jnp.asarray(v), jnp.asarray(w)):
    state, reward = game.step(state, tokens)
    note((state, reward))
print(bool(state.solved), digest.hexdigest())
"""


def said(program: str, **settings: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in ODD}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**environment, "PYTHONPATH": str(ROOT / "src"), **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_games_play_alike_under_64_bits_and_strict_promotion() -> None:
    plain = said(GAMES)
    assert plain.startswith("True ")
    assert said(GAMES, **STRICT) == plain


ODD = {
    **STRICT,
    "JAX_DEFAULT_PRNG_IMPL": "rbg",
    "JAX_THREEFRY_PARTITIONABLE": "0",
    "JAX_RANDOM_SEED_OFFSET": "5",
    "JAX_LEGACY_PRNG_KEY": "error",
    "JAX_DEBUG_NANS": "1",
    "JAX_DEBUG_INFS": "1",
    "JAX_DISABLE_JIT": "1",
    "JAX_DEBUG_KEY_REUSE": "1",
    "JAX_TRANSFER_GUARD_DEVICE_TO_HOST": "disallow",
}
TRAINING = """
import json, sys, jax, os
from matrixrl.cli.main import main
from matrixrl.cli.jax_settings import STANDARD
before = {name: getattr(jax.config, name) for name in STANDARD}
variables = dict(os.environ)
flags = "--size 1 2 1 --width 8 --head-width 8 --num-blocks 0 --num-simulations 4 --num-candidates 4 --num-epochs 1"
flags += " --pretraining-steps 2 --updates-per-epoch 1 --episodes-per-epoch 2 --batch-size 8 --replay-size 16 --json"
assert main(["matmul", "train", "--preset", "dev", "--console", "quiet", "--runs-dir", sys.argv[1], *flags.split()]) == 0
assert before == {name: getattr(jax.config, name) for name in before}
assert variables == dict(os.environ)
"""


@pytest.mark.slow
def test_training_does_not_depend_on_settings_and_puts_them_back(tmp_path: Path) -> None:
    program = TRAINING.replace("sys.argv[1]", repr(str(tmp_path)))
    assert '"status": "finished"' in said(program, **ODD).splitlines()[-1]


@pytest.mark.parametrize(
    ("variable", "value"),
    [("JAX_PLATFORMS", "nonsense"), ("JAX_PLATFORM_NAME", "nonsense"), ("JAX_LOG_COMPILES", "maybe")],
)
def test_a_variable_that_jax_refuses_is_one_line(tmp_path: Path, variable: str, value: str) -> None:
    runs = tmp_path / "new" / "runs"
    done = subprocess.run(
        [sys.executable, "-m", "matrixrl.cli.main", "hackmatrix", "train", "--runs-dir", str(runs)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), variable: value},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("matrixrl: ")
    assert variable in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
