"""Self-play and learning on several devices are those on one: a process with eight forced CPU devices compares them."""

from __future__ import annotations

import pytest

from tests.forced_devices import said_on_eight_devices

SCRIPT = """
import dataclasses, functools, sys
import jax, jax.numpy as jnp, numpy as np
from matrixrl import presets
from matrixrl.systems.matmul.program import MatmulProgram

assert jax.device_count() == 8
preset = presets.matmul("dev")
config = dataclasses.replace(
    preset,
    game=dataclasses.replace(preset.game, size=(1, 2, 2), ring="F2"),
    network=dataclasses.replace(preset.network, width=8, num_blocks=1, head_width=8),
    search=dataclasses.replace(preset.search, num_simulations=6, num_candidates=4),
    selfplay=dataclasses.replace(preset.selfplay, parallel_games=16, episodes_per_epoch=16, replay_size=32),
    optimizer=dataclasses.replace(preset.optimizer, batch_size=16, warmup_steps=0),
    tracking=dataclasses.replace(preset.tracking, log_interval=4),
)
key = jax.random.key(0)


@functools.cache
def built(devices):
    return MatmulProgram(dataclasses.replace(config, devices=devices))


def history(devices):
    program = built(devices)
    state = program.init(key)
    for leaf, like in zip(jax.tree.leaves(state), jax.tree.leaves(program.template), strict=True):
        assert devices == 1 or leaf.sharding.is_equivalent_to(like.sharding, leaf.ndim), (leaf.sharding, like)
    # A device holds its share of the games and of the replay buffer, and no more.
    assert state.games.target.addressable_shards[0].data.shape[0] == 16 // devices
    assert state.replay.target.addressable_shards[0].data.shape[0] == 32 // devices
    params, opt_state, pretrained = program.learn(
        state.params, state.opt_state, state.replay, key, jnp.int32(4), jnp.bool_(False)
    )
    params = jax.device_get(params)
    batch = program.start_games(key, jnp.array([4]), jnp.int32(13), jnp.float32(0.5))
    moves = []
    # The weights differ in their last bits by now, and a search may fall either way: it gets the same ones.
    for number in range(4):
        batch, move = program.play_move(weights or params, batch, jax.random.fold_in(key, number), jnp.float32(1))
        moves.append(move)
    buffer = program.keep(state.replay, batch)
    whole = program.start_refinement(key, buffer)
    refined, outcome, _ = program.refine(weights or params, whole, key, jnp.int32(5))
    middle = program.start_partial_games(key, buffer, jnp.array([4]), jnp.int32(13), jnp.float32(0.5))
    assert float(outcome.tried) > 0
    learned = program.learn(weights or params, opt_state, buffer, key, jnp.int32(3), jnp.bool_(True))
    return jax.device_get((params, moves, buffer, (refined, outcome, middle), pretrained, learned))


weights = None
params, *_ = history(1)
weights = params
first, *one = history(1)
for devices in map(int, sys.argv[1:]):
    also, *several = history(devices)
    for name, alone, spread in (("params", first, also), *zip(("moves", "replay", "refined", "pretrained", "learned"), one, several)):
        for left, right in zip(jax.tree.leaves(alone), jax.tree.leaves(spread), strict=True):
            if name in ("moves", "replay", "refined") and not np.issubdtype(left.dtype, np.floating):
                np.testing.assert_array_equal(right, left, err_msg=name)
            else:
                # Sums over the batch are made in another order. An n-fold gradient would give an n-fold norm.
                np.testing.assert_allclose(right, left, rtol=2e-4, atol=2e-4, err_msg=name)
assert one[1].num_moves.max() > 0 and one[3].grad_norm[3] > 0 and one[4][2].grad_norm[2] > 0
print("equal")
"""


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 8])
def test_several_devices_play_and_learn_what_one_does(devices: int) -> None:
    said, complaint = said_on_eight_devices(SCRIPT, str(devices))
    assert said == "equal\n", complaint
