"""Rank profiles: exact, covariant, and what their transform counts."""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from matrixrl.envs.matmul import basis, referee
from matrixrl.envs.matmul.factors import ActionCodec
from matrixrl.envs.matmul.features import Features
from matrixrl.envs.matmul.rank_profile import group_vectors
from matrixrl.envs.matmul.tensors import F2, QUINARY, TERNARY, Ring

CASES = [
    ActionCodec((4, 4, 4), F2),
    ActionCodec((4, 4, 4), TERNARY),
    ActionCodec((3, 4, 2), QUINARY, max_classes=25),  # two entries a group: modes of one or two groups
    ActionCodec(
        (2, 10, 11), TERNARY, max_classes=9
    ),  # more than nine rows: the looped elimination of both fields
]
BATCH = 3


def named(codec: ActionCodec) -> str:
    return (
        f"{'x'.join(map(str, codec.shape))}-{codec.ring.name}{codec.ring.max_coefficient}-{codec.max_classes}"
    )


@cache
def compiled(codec: ActionCodec):
    """One program per case: residuals [BATCH, a, b, c] to (profile, features, transforms)."""
    features = Features(codec)
    return features, jax.jit(lambda residuals: (features.profile(residuals), *features(residuals)))


def seen(codec: ActionCodec, residuals: list[np.ndarray]):
    batch = np.zeros((BATCH, *codec.shape), np.int8)
    batch[: len(residuals)] = residuals
    ranks, inputs, transforms = compiled(codec)[1](jnp.asarray(batch))
    return (
        np.asarray(ranks),
        np.asarray(inputs),
        [[np.asarray(part) for part in parts] for parts in transforms],
    )


def random_residual(rng: np.random.Generator, codec: ActionCodec, terms: int) -> np.ndarray:
    values = codec.ring.values
    total = np.zeros(codec.shape, np.int64)
    for _ in range(terms):
        total += referee.outer(*(rng.choice(values, length).tolist() for length in codec.shape))
    return total % 2 if codec.ring.modulus == 2 else total


def blocks_by_hand(codec: ActionCodec) -> list[tuple[int, int, int, int]]:
    """(prime, mode, first entry, entries) of each block of a profile, in order."""
    found = []
    for prime in codec.ring.primes:
        for mode, sizes in enumerate(codec.groups):
            start = 0
            for size in sizes:
                found.append((prime, mode, start, size))
                start += size
    return found


@pytest.mark.parametrize("codec", CASES, ids=named)
def test_profile_equals_contraction_and_plain_elimination(codec: ActionCodec) -> None:
    profile = compiled(codec)[0].profile
    rng = np.random.default_rng(1)
    residuals = [random_residual(rng, codec, terms) for terms in (0, 1, 3)]
    found, _, _ = seen(codec, residuals)
    for residual, ranks in zip(residuals, found, strict=True):
        expected = []
        for prime, mode, start, size in blocks_by_hand(codec):
            for part in group_vectors(prime, size):
                x = np.zeros(codec.shape[mode], int)
                x[start : start + size] = part
                expected.append(referee.rank_mod(referee.contract(residual, mode, x.tolist()), prime))
        assert ranks.tolist() == expected
        assert profile.length == len(expected)
        assert ranks.max() <= profile.max_rank


@pytest.mark.parametrize("prime", [2, 3])
@pytest.mark.parametrize("entries", [1, 2, 4])
def test_group_vectors_hold_one_of_each_line(prime: int, entries: int) -> None:
    vectors = [tuple(vector) for vector in group_vectors(prime, entries).tolist()]
    multiples = {tuple(unit * x % prime for x in vector) for vector in vectors for unit in range(1, prime)}
    assert multiples == set(referee.nonzero_vectors(prime, entries))
    assert len(vectors) == (prime**entries - 1) // (prime - 1)


def test_unsplit_profile_equals_the_referees() -> None:
    codec = ActionCodec((4, 4, 4), F2)
    residual = random_residual(np.random.default_rng(5), codec, 4)
    plain = referee.rank_profile(residual, 2)
    found = seen(codec, [residual])[0][0].reshape(3, 15)
    for mode in range(3):
        by_vector = {
            tuple(x): int(rank) for x, rank in zip(group_vectors(2, 4).tolist(), found[mode], strict=True)
        }
        assert by_vector == plain[mode]


def independent_terms(rng: np.random.Generator, codec: ActionCodec, count: int) -> list[list[list[int]]]:
    """Terms u, v, w with v and w each linearly independent modulo 2 and 3, and u's that repeat.

    Then for every x the rank of x . T is the number of terms with <x, u> != 0: ranks along mode 0 add.
    """
    a, b, c = codec.shape
    assert count <= min(b, c)
    while True:
        few = [rng.choice(codec.ring.values, a) for _ in range(2)]
        us = [few[rng.integers(2)] for _ in range(count)]
        vs, ws = rng.choice(codec.ring.values, (count, b)), rng.choice(codec.ring.values, (count, c))
        whole = all((np.mod(u, p) != 0).any() for u in few for p in codec.ring.primes)
        if whole and all(referee.rank_mod(m, p) == count for m in (vs, ws) for p in codec.ring.primes):
            return [[u.tolist(), v.tolist(), w.tolist()] for u, v, w in zip(us, vs, ws, strict=True)]


@pytest.mark.parametrize("codec", CASES[:3], ids=named)
def test_where_ranks_add_the_transform_counts_the_terms_of_each_factor(codec: ActionCodec) -> None:
    """W(u) is the number of terms whose factor is u, up to a unit; for a group, whose entries there are u's."""
    rng = np.random.default_rng(2)
    count = min(3, min(codec.shape[1:]))
    terms = independent_terms(rng, codec, count)
    residual = sum(referee.outer(*term) for term in terms)
    residual = residual % 2 if codec.ring.modulus == 2 else residual
    _, _, transforms = seen(codec, [np.asarray(residual)])
    assert len(transforms) == codec.layout.num_tokens
    start = 0
    for group, size in enumerate(codec.groups[0]):
        there = [np.array(term[0][start : start + size]) for term in terms]
        start += size
        supports = codec.tables[group]
        for class_index, entries in enumerate(supports):
            modulo_2 = sum((np.mod(u, 2) == np.mod(entries, 2)).all() for u in there)
            expected = modulo_2 if np.mod(entries, 2).any() else 0
            assert transforms[group][0][0][class_index] == pytest.approx(expected, abs=1e-4), entries
        if not codec.splits_signs:
            continue
        for class_index, support in enumerate(supports):
            same_support = sum((np.abs(u) == support).all() for u in there) if support.any() else 0
            assert transforms[group][1][0][class_index] == pytest.approx(same_support, abs=1e-4), support
            for sign_index, negative in enumerate(supports):
                u = support * (1 - 2 * negative)
                same = sum((other == u).all() or (other == -u).all() for other in there) if u.any() else 0
                counted = transforms[codec.num_groups + group][0][0][class_index, sign_index]
                assert counted == pytest.approx(same, abs=1e-4), u


@pytest.mark.parametrize("ring", [F2, TERNARY], ids=["F2", "Z"])
def test_profile_commutes_with_a_change_of_basis(ring: Ring) -> None:
    """x . (P T) = (P^T x) . T up to invertible Q and R: a change of basis only reorders the profile of each mode."""
    codec = ActionCodec((4, 4, 4), ring)
    assert codec.groups == ((4,), (4,), (4,))
    rng = np.random.default_rng(8)
    make = jax.jit(lambda key: basis.random_basis(key, codec.shape, ring, density=0.2))
    for seed in range(4):
        residual = random_residual(rng, codec, 1 + seed)
        p, q, r = map(np.asarray, make(jax.random.key(seed)).forward)
        changed = referee.change_basis(residual, p, q, r, ring.modulus)
        before, after, _ = seen(codec, [residual, changed])[0]
        for _, _, where in compiled(codec)[0].profile.blocks:
            assert sorted(before[where]) == sorted(after[where])


@pytest.mark.parametrize("codec", CASES, ids=named)
def test_features_have_one_fixed_width_and_hold_what_they_say(codec: ActionCodec) -> None:
    rng = np.random.default_rng(4)
    residuals = [random_residual(rng, codec, 2), np.zeros(codec.shape, np.int64)]
    features = compiled(codec)[0]
    ranks, inputs, transforms = seen(codec, residuals)
    size = int(np.prod(codec.shape))
    profile = features.profile
    width = profile.length * (profile.max_rank + 1 if profile.max_rank <= 9 else 1)
    planes = 1 if codec.ring.modulus == 2 else 4
    assert inputs.shape == (BATCH, planes * size + width)
    assert inputs.dtype == np.float32
    scale = 1.0 if codec.ring.modulus == 2 else 0.5
    entries = np.array(residuals).reshape(2, -1)
    assert (inputs[:2, :size] == scale * entries).all()
    if planes == 4:
        residues = [entries % 2, entries % 3 == 1, entries % 3 == 2]
        assert (inputs[:2, size : 4 * size] == np.concatenate(residues, axis=1)).all()
    size *= planes
    if profile.max_rank <= 9:
        one_hot = inputs[:, size:].reshape(BATCH, profile.length, profile.max_rank + 1)
        assert (one_hot.argmax(-1) == ranks).all()
        assert (one_hot.sum(-1) == 1).all()
    else:
        assert np.allclose(inputs[:, size:], ranks / profile.max_rank)
    assert np.isfinite(inputs).all()
    layout = codec.layout
    for index, parts in enumerate(transforms):
        given = layout.given[index]
        rows = () if given < 0 else (layout.num_classes[given],)
        assert 1 <= len(parts) <= features.num_transforms
        assert all(part.shape == (BATCH, *rows, layout.num_classes[index]) for part in parts)
    assert all((part[1] == 0).all() for parts in transforms for part in parts)  # nothing left: no counts


def test_without_the_profile_only_the_residual_is_seen() -> None:
    codec = ActionCodec((4, 4, 4), F2)
    features = Features(codec, rank_profile=False)
    inputs, transforms = features(jnp.ones((3, 4, 4, 4), jnp.int8))
    assert inputs.shape == (3, 64)
    assert transforms == ()
    assert features.num_transforms == 0
