"""Packed observations hold the flat ones, bit for bit, whenever training looks at one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from matrixrl.envs.hackmatrix import observation
from matrixrl.envs.hackmatrix.env import HackMatrix
from tests.envs.hackmatrix.counted import LIMIT, NUM_STEPS, steps
from tests.envs.hackmatrix.lanes import LANES, QUICKLY

unpack = jax.jit(observation.unpack, compiler_options=QUICKLY)
parts = jax.jit(observation.parts, compiler_options=QUICKLY)


def bits(flat: np.ndarray) -> np.ndarray:
    """Floats as whole numbers: -0.0 is another one than 0.0."""
    return np.asarray(flat).view(np.uint32)


def test_unpacked_observations_are_the_flat_ones_bit_for_bit() -> None:
    reset = truncated = 0
    for step in steps():
        flat, packed = step.plain[0], step.counted[0]
        assert packed.dtype == np.uint32
        np.testing.assert_array_equal(bits(unpack(packed)), bits(flat))
        last, packed_last = step.plain[5]["final_observation"], step.counted[5]["final_observation"]
        np.testing.assert_array_equal(bits(unpack(packed_last)), bits(last))
        over = step.plain[3] | step.plain[4]
        reset += int(over.sum())
        truncated += int(step.plain[4].sum())
        # Where an episode ended the two are of different games.
        np.testing.assert_array_equal((packed == packed_last).all(1), ~over)
    assert reset > truncated > LANES // 4


def test_packed_and_plain_environments_play_the_same_game() -> None:
    for step in steps():
        for ours, theirs in zip(
            jax.tree.leaves((step.counted[1].game, step.counted[2:5])),
            jax.tree.leaves((step.plain[1], step.plain[2:5])),
            strict=True,
        ):
            np.testing.assert_array_equal(ours, theirs)


def test_parts_are_those_of_the_flat_observation_and_the_players_cell() -> None:
    for step in steps()[:: NUM_STEPS // 6]:
        flat, packed = step.plain[0], step.counted[0]
        head, cells, cell = parts(packed)
        assert head.shape == (LANES, 33)
        assert cells.shape == (LANES, 36, 42)
        assert cell.dtype == jnp.int32
        rest = np.asarray(cells).reshape(LANES, -1)
        np.testing.assert_array_equal(bits(np.concatenate([head, rest], axis=1)), bits(flat))
        np.testing.assert_array_equal(cell, step.counted[1].game.player.cell)
        # Row and column as the observation tells them, in fifths.
        np.testing.assert_allclose(flat[:, 0] * 5 * 6 + flat[:, 1] * 5, cell, atol=1e-4)


def test_batches_of_any_shape_unpack_alike() -> None:
    packed = steps()[3].counted[0]
    flat = np.asarray(unpack(packed))
    cube = packed.reshape(4, 2, LANES // 8, -1)
    np.testing.assert_array_equal(unpack(cube), flat.reshape(4, 2, LANES // 8, -1))
    np.testing.assert_array_equal(unpack(packed[0]), flat[0])
    for whole, cut in zip(parts(packed), parts(cube), strict=True):
        np.testing.assert_array_equal(np.asarray(whole).reshape(cut.shape), cut)


def test_a_packed_observation_takes_a_thirteenth_of_the_memory() -> None:
    packed, flat = HackMatrix(packed=True), HackMatrix()
    assert observation.PACKED_WORDS == packed.observation_size == 117
    assert flat.observation_size == 1545
    assert packed.observation_space().shape == (117,)
    assert packed.observation_space().dtype == jnp.uint32
    shapes = jax.eval_shape(packed.reset, jax.random.key(0))[0]
    assert (shapes.shape, shapes.dtype) == ((117,), jnp.uint32)
    assert flat.observation_size // packed.observation_size == 13
    assert LIMIT < NUM_STEPS
