from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from matrixrl.envs.hackmatrix.draws import Stream, Words, block, key_words, pick
from matrixrl.envs.hackmatrix.keyed_draws import threefry

WORD = st.integers(0, 2**32 - 1)


def test_the_reference_implementation_gives_the_published_answers() -> None:
    # Known answers of Random123 for threefry2x32 with 20 rounds.
    assert threefry((0, 0), (0, 0)) == (0x6B200159, 0x99BA4EFE)
    full = 0xFFFFFFFF
    assert threefry((full, full), (full, full)) == (0x1CB996FC, 0xBB002BE7)
    assert threefry((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3)) == (0xC4923A9C, 0x483DF7A0)


@settings(deadline=None, derandomize=True, database=None, max_examples=20)
@given(WORD, WORD, st.sampled_from(Stream), st.integers(0, 599))
def test_a_block_is_threefry_of_stream_and_index(k0: int, k1: int, stream: Stream, index: int) -> None:
    words = block(Words(jnp.array([k0], jnp.uint32), jnp.array([k1], jnp.uint32)), stream, index)
    assert (int(words.first[0]), int(words.second[0])) == threefry((k0, k1), (index, 0x484D0000 | stream))


@settings(deadline=None, derandomize=True, database=None, max_examples=100)
@given(WORD, st.integers(1, 65535))
def test_pick_is_the_high_half_of_the_product(word: int, n: int) -> None:
    assert int(pick(jnp.uint32(word), n)) == (word * n) >> 32


def test_typed_and_raw_keys_give_the_same_words() -> None:
    typed = jax.random.split(jax.random.key(3), 5)
    raw = jax.random.key_data(typed)
    for ours, theirs in zip(key_words(typed), key_words(raw), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_keys_of_other_generators_are_turned_into_two_words() -> None:
    words = key_words(jax.random.split(jax.random.key(3, impl="rbg"), 4))
    assert words.first.shape == (4,)
    assert len({int(word) for word in words.first}) == 4
