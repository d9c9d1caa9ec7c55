"""Contractions: every case against plain elimination, and their transforms by the definition."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from matrixrl.envs.matmul import referee
from matrixrl.envs.matmul.contractions import Contractions, FieldContractions, hadamard
from matrixrl.envs.matmul.factors import ActionCodec
from matrixrl.envs.matmul.rank_profile import group_vectors
from matrixrl.envs.matmul.tensors import F2, TERNARY, Ring

# Rows of the echelon forms on either side of the matrices, and vectors drawn in another order than u, v, w.
CASES = [
    ((2, 3, 4), F2, 12),
    ((3, 3, 2), F2, 12),
    ((4, 2, 3), F2, 12),
    ((2, 3, 2), TERNARY, 12),
    # Vectors of more than two entries are drawn in two parts.
    ((4, 3, 3), F2, 2),
]
BATCH, CANDIDATES = 3, 4


def named(value: object) -> str:
    if isinstance(value, int):
        return str(value)
    return value.name if isinstance(value, Ring) else "x".join(map(str, value))  # pyright: ignore[reportArgumentType]


def drawn_games(rng: np.random.Generator, codec: ActionCodec) -> tuple[np.ndarray, np.ndarray]:
    """Sums of CANDIDATES random terms, and the terms as candidates."""
    vectors = [
        table[rng.integers(1, len(table), (BATCH, CANDIDATES))].astype(np.int64) for table in codec.tables
    ]
    batch = np.einsum("bra,brc,brd->bacd", *vectors)
    encode = jax.jit(lambda u, v, w: codec.encode(*codec.canonical(u, v, w)))
    tokens = np.array(encode(*vectors))
    # The first game's candidates are mixed from vectors of different terms.
    tokens[0, :, 1], tokens[0, :, 2] = np.roll(tokens[0, :, 1], 1), np.roll(tokens[0, :, 2], 2)
    return (batch % 2 if codec.ring.modulus == 2 else batch), tokens


def rank(matrix: np.ndarray, prime: int) -> int:
    return referee.rank_mod(matrix, prime)


def test_contractions_are_with_all_vectors_or_with_all_heads_and_tails_after_some() -> None:
    whole = FieldContractions((4, 3, 2), 2)
    assert whole.contracted_with(0).tolist() == [list(x) for x in itertools.product((0, 1), repeat=4)]
    assert FieldContractions((4, 3, 2), 3).contracted_with(1).tolist() == group_vectors(3, 3).tolist()
    cut = FieldContractions((5, 6, 2), 2, max_head=2)
    assert [cut.tail(index) for index in range(3)] == [3, 4, 0]
    x = cut.contracted_with(0)
    assert x[:4].tolist() == [[a, b, 0, 0, 0] for a in (0, 1) for b in (0, 1)]
    after = x[4:].reshape(4, 8, 5)
    assert (after[:, :, :2] == after[:, :1, :2]).all()
    assert after[0, 0].tolist() == [0] * 5
    assert len({tuple(head) for head in after[:, 0, :2]}) == 4
    assert (after[:, :, 2:] == list(itertools.product((0, 1), repeat=3))).all()
    assert len(FieldContractions((16, 6, 2), 2).contracted_with(0)) == 2**12 + 16 * 2**4


def test_the_transform_of_a_tail_by_the_definition() -> None:
    """Over the sampled heads and all tails: sum of (-1)^<x, u> f(x), scaled as a transform over all of them is."""
    field = FieldContractions((5, 2, 2), 2, max_head=2)
    x = field.contracted_with(0).astype(int)
    even = np.random.default_rng(0).normal(size=(3, 1, len(x))).astype(np.float32)
    heads = np.array([[0, 1, 3], [2, 2, 0], [1, 3, 2]])
    told = np.asarray(field.tail_transform(0, jnp.asarray(even), jnp.asarray(heads)))
    for game, candidate, tail in itertools.product(range(3), range(3), range(8)):
        head = heads[game, candidate]
        u = np.array([head >> 1 & 1, head & 1, tail >> 2 & 1, tail >> 1 & 1, tail & 1])
        expected = ((-1.0) ** (x[4:] @ u) * even[game, 0, 4:]).sum() * 2 / 32
        assert told[game, candidate, tail] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("shape", "ring", "max_head"), CASES, ids=named)
def test_ranks_and_cases_equal_plain_elimination(
    shape: tuple[int, int, int], ring: Ring, max_head: int
) -> None:
    codec = ActionCodec(shape, ring, whole_vectors=True)
    contractions = Contractions(codec, max_head)
    rng = np.random.default_rng(3)
    batch, tokens = drawn_games(rng, codec)
    drawn = tokens[..., np.array(contractions.order)]

    @jax.jit
    def contracted(batch: jax.Array, drawn: jax.Array) -> Any:
        states = contractions(batch)
        return states, [contractions.cases(index, states, drawn[..., :index]) for index in range(3)]

    states, told = jax.device_get(contracted(jnp.asarray(batch, jnp.int8), jnp.asarray(drawn)))
    seen = set()
    for number, (field, state) in enumerate(zip(contractions.fields, states, strict=True)):
        prime = field.prime
        turned = np.transpose(batch, (0, *(mode + 1 for mode in contractions.order))) % prime
        for game, index in itertools.product(range(BATCH), range(3)):
            cases, signs = told[index][number]
            assert cases.max() < field.num_cases[index]
            assert (signs is not None) == field.signed(index)
            for at, x in enumerate(field.contracted_with(index)):
                matrix = np.tensordot(x.astype(int), turned[game], axes=(0, index)) % prime
                before = rank(matrix, prime)
                assert before == int(state.ranks[index][game, at])
                for candidate in range(CANDIDATES if index else 0):
                    vectors = [
                        np.mod(codec.tables[mode][drawn[game, candidate, position]].astype(int), prime)
                        for position, mode in enumerate(contractions.order[:index])
                    ]
                    case = int(cases[game, candidate, at])
                    first = rank(np.column_stack([matrix, vectors[0]]), prime) == before
                    if index == 1:
                        assert case == int(first)
                        continue
                    second = rank(np.vstack([matrix, vectors[1]]), prime) == before
                    # What subtracting c f (x) g does to the rank.
                    change = {
                        c: rank((matrix - c * np.outer(vectors[0], vectors[1])) % prime, prime) - before
                        for c in range(1, prime)
                    }
                    falls = [c for c, by in change.items() if by == -1]
                    assert case == (4 if falls else int(first) + 2 * int(second))
                    assert (set(change.values()) == {1}) == (case == 0)
                    if signs is not None:
                        assert signs[game, candidate, at] == ({1: 1, 2: -1}[falls[0]] if falls else 0)
                    seen.add((prime, case))
    assert {case for _, case in seen} == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("size", [2, 8, 64, 128, 512])
def test_hadamard_by_the_definition(size: int) -> None:
    values = np.random.default_rng(size).normal(size=(2, 3, size)).astype(np.float32)
    index = np.arange(size)
    signs = (-1.0) ** np.vectorize(int.bit_count)((index[:, None] & index).astype(object)).astype(int)
    assert np.asarray(hadamard(jnp.asarray(values))) == pytest.approx(values @ signs, abs=1e-3)


def test_where_ranks_add_the_transforms_point_at_the_terms() -> None:
    """Three terms with independent vectors: minus the rank has the value 1 at each of them, and 0 elsewhere."""
    codec = ActionCodec((3, 3, 3), F2, whole_vectors=True)
    contractions = Contractions(codec)
    u, v, w = np.eye(3, dtype=np.int64), np.array([[1, 1, 0], [0, 1, 1], [0, 0, 1]]), np.array([[1, 0, 1], [0, 1, 0], [0, 0, 1]])  # fmt: skip
    tensor = np.einsum("ra,rb,rc->abc", u, v, w) % 2
    states = jax.jit(contractions)(tensor.astype(np.int8)[None])
    logits = jax.jit(contractions.logits, static_argnums=0)
    cases = jax.jit(contractions.cases, static_argnums=0)
    tokens = np.asarray(jax.jit(codec.encode)(u, v, w))
    (field,), (state,) = contractions.fields, states

    worth = -np.asarray(state.ranks[0], np.float32)[:, None]
    counts = np.asarray(logits(0, ((worth, None),)))[0, 0]
    assert [int(at) for at in np.flatnonzero(np.asarray(counts[1:]) > 0.5) + 1] == sorted(
        tokens[:, 0].tolist()
    )

    for term in tokens:
        ((case, _),) = cases(1, states, term[None, None, :1])
        second = np.asarray(logits(1, ((-(np.asarray(case) == 1).astype(np.float32), None),)))[0, 0]
        assert int(second[1:].argmax()) + 1 == term[1]
        ((case, _),) = cases(2, states, term[None, None, :2])
        third = np.asarray(logits(2, ((-(np.asarray(case) == 4).astype(np.float32), None),)))[0, 0]
        assert np.asarray(third)[1:] == pytest.approx((np.arange(1, 8) == term[2]).astype(float), abs=1e-5)
    assert field.prime == 2


def test_longest_vectors_are_drawn_first() -> None:
    assert Contractions(ActionCodec((6, 12, 8), F2, whole_vectors=True)).order == (1, 2, 0)
    assert Contractions(ActionCodec((4, 4, 4), F2, whole_vectors=True)).order == (0, 1, 2)
    assert Contractions(ActionCodec((4, 6, 6), TERNARY, whole_vectors=True)).order == (
        1,
        0,
        2,
    )  # w has the sign
