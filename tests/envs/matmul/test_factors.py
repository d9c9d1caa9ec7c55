"""Actions as vectors and as tokens."""

from __future__ import annotations

import itertools
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matrixrl.config.matmul import group_sizes
from matrixrl.envs.matmul import referee
from matrixrl.envs.matmul.factors import ActionCodec
from matrixrl.envs.matmul.tensors import F2, QUINARY, TERNARY, Ring
from tests.jitted import jitted

CODECS = [
    ActionCodec((4, 4, 4), F2),
    ActionCodec((4, 6, 6), TERNARY),
    ActionCodec((9, 9, 9), TERNARY),
    ActionCodec((6, 12, 8), QUINARY),
    ActionCodec((25, 25, 25), F2),
    ActionCodec((3, 2, 4), TERNARY, max_classes=9),
    ActionCodec((6, 12, 8), F2, whole_vectors=True),
    ActionCodec((4, 6, 6), TERNARY, whole_vectors=True),
]
# Small enough to list every action; the token limits cut vectors into one, two and three tokens.
LISTED = [
    ActionCodec((3, 2, 3), F2, max_classes=4),
    ActionCodec((2, 3, 1), TERNARY, max_classes=8),
    ActionCodec((2, 2, 2), TERNARY, max_classes=9),
    ActionCodec((1, 2, 2), QUINARY, max_classes=8),
    ActionCodec((4, 1, 2), F2, max_classes=2),
    ActionCodec((2, 3, 2), F2, whole_vectors=True),
    ActionCodec((2, 2, 2), TERNARY, whole_vectors=True),
]


def named(codec: ActionCodec) -> str:
    return (
        f"{'x'.join(map(str, codec.shape))}-{codec.ring.name}{codec.ring.max_coefficient}-"
        f"{'whole' if codec.whole_vectors else codec.max_classes}"
    )


@pytest.mark.parametrize(
    ("length", "base", "limit", "sizes"),
    [(4, 2, 128, (4,)), (9, 2, 128, (5, 4)), (25, 2, 128, (7, 6, 6, 6)), (9, 3, 128, (3, 3, 3)), (4, 3, 128, (4,)), (5, 3, 128, (3, 2)), (4, 5, 8, (1, 1, 1, 1)), (7, 2, 128, (7,))],
)  # fmt: skip
def test_groups_are_few_and_even(length: int, base: int, limit: int, sizes: tuple[int, ...]) -> None:
    assert group_sizes(length, base, limit) == sizes


@given(length=st.integers(1, 25), base=st.sampled_from([2, 3, 5]), limit=st.integers(8, 1024))
def test_groups_cover_the_vector_within_the_limit(length: int, base: int, limit: int) -> None:
    sizes = group_sizes(length, base, limit)
    assert sum(sizes) == length
    assert all(base**size <= limit for size in sizes)
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("codec", CODECS, ids=named)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_decode_undoes_encode(codec: ActionCodec, data: Any) -> None:
    # Always eight at once: one shape compiles once.
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    vectors = tuple(rng.choice(codec.ring.values, (8, length)) for length in codec.shape)
    tokens = np.asarray(jitted(codec.encode)(*vectors))
    assert tokens.shape == (8, codec.layout.num_tokens)
    assert (tokens < np.array(codec.layout.num_classes)).all()
    assert (tokens >= 0).all()
    decoded = jitted(codec.decode)(tokens)
    for there, back in zip(vectors, decoded, strict=True):
        assert (there == np.asarray(back)).all()
        assert back.dtype == np.int8


def test_most_significant_digit_is_the_first_entry() -> None:
    u, v, w = jnp.array([1, -1]), jnp.array([0, 1]), jnp.array([-1, 0])
    in_base_5 = ActionCodec((2, 2, 2), QUINARY).encode(u, v, w)
    assert np.asarray(in_base_5).tolist() == [1 * 5 + 4, 0 * 5 + 1, 4 * 5 + 0]


def test_ternary_actions_spell_nonzero_entries_before_negative_ones() -> None:
    u, v, w = jnp.array([1, -1]), jnp.array([0, 1]), jnp.array([-1, 0])
    tokens = ActionCodec((2, 2, 2), TERNARY).encode(u, v, w)
    assert np.asarray(tokens).tolist() == [0b11, 0b01, 0b10, 0b01, 0b00, 0b10]


@pytest.mark.parametrize("ring", [TERNARY, QUINARY], ids=["ternary", "quinary"])
def test_all_four_sign_patterns_are_one_canonical_action(ring: Ring) -> None:
    codec = ActionCodec((3, 2, 2), ring)
    rng = np.random.default_rng(0)
    for _ in range(20):
        u, v, w = (rng.choice(ring.values, length) for length in codec.shape)
        if not (u.any() and v.any() and w.any()):
            continue
        spelled = set()
        for sign_u, sign_v in itertools.product((1, -1), repeat=2):
            given_vectors = (sign_u * u, sign_v * v, sign_u * sign_v * w)
            found = [np.asarray(x).tolist() for x in jitted(codec.canonical)(*given_vectors)]
            assert found == list(referee.canonical(*given_vectors))
            assert (referee.outer(*found) == referee.outer(u, v, w)).all()
            spelled.add(str(found))
        assert len(spelled) == 1


def test_over_f2_canonical_changes_nothing() -> None:
    codec = ActionCodec((2, 2, 2), F2)
    vectors = (np.array([0, 1]), np.array([1, 1]), np.array([1, 0]))
    assert all((x == y).all() for x, y in zip(codec.canonical(*vectors), vectors, strict=True))  # pyright: ignore[reportArgumentType]


def mask_allows(codec: ActionCodec, tokens: tuple[int, ...]) -> bool:
    """What the layout says of a whole action, token by token, as its docstring explains."""
    layout = codec.layout
    for index, token in enumerate(tokens):
        row = 0 if layout.given[index] < 0 else tokens[layout.given[index]]
        zero_so_far = all(tokens[earlier] == 0 for earlier in layout.zero_after[index])
        table = layout.legal_while_zero[index] if zero_so_far else layout.legal[index]
        if not table[row][token]:
            return False
    return True


@pytest.mark.parametrize("codec", LISTED, ids=named)
def test_masks_allow_exactly_the_canonical_nonzero_actions(codec: ActionCodec) -> None:
    every = list(itertools.product(*(range(classes) for classes in codec.layout.num_classes)))
    u, v, w = (np.asarray(part) for part in jitted(codec.decode)(np.array(every)))
    legal = [referee.is_legal(*action, codec.ring.modulus) for action in zip(u, v, w, strict=True)]
    # A sign of an entry that is zero has no meaning: only one spelling of each action is allowed.
    again = np.asarray(jitted(codec.encode)(u, v, w))
    legal = [
        fine and spelled == tuple(back)
        for fine, spelled, back in zip(legal, every, again.tolist(), strict=True)
    ]
    assert [mask_allows(codec, tokens) for tokens in every] == legal
    # The canonical actions are all different terms, and no other terms exist.
    terms = {referee.outer(*action).tobytes() for action in zip(u, v, w, strict=True)} - {
        np.zeros(codec.shape, np.int64).tobytes()
    }
    assert len(terms) <= sum(legal)
    if (
        codec.ring.max_coefficient == 1
    ):  # with 2 = 2 x 1 x 1 = 1 x 2 x 1 one term has several canonical spellings
        assert len(terms) == sum(legal)


@pytest.mark.parametrize("codec", LISTED + CODECS, ids=named)
def test_layout_describes_the_groups(codec: ActionCodec) -> None:
    layout = codec.layout
    sizes = [size for groups in codec.groups for size in groups]
    base = 2 if codec.splits_signs else codec.ring.base
    spelled = tuple(base**size for size in sizes)
    assert layout.num_classes == (spelled * 2 if codec.splits_signs else spelled)
    assert layout.given[: len(sizes)] == (-1,) * len(sizes)
    assert layout.given[len(sizes) :] == (tuple(range(len(sizes))) if codec.splits_signs else ())
    for index, classes in enumerate(layout.num_classes):
        rows = 1 if layout.given[index] < 0 else layout.num_classes[layout.given[index]]
        assert layout.legal[index].shape == layout.legal_while_zero[index].shape == (rows, classes)
