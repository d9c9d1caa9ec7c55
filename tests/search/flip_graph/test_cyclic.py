"""Walks among schemes with cyclic symmetry: every move keeps the sum and the symmetry."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matrixrl.config.fields import ConfigError
from matrixrl.schemes.families import polynomial
from matrixrl.schemes.known import known_scheme
from matrixrl.schemes.problem import as_problem
from matrixrl.schemes.scheme import SchemeError
from matrixrl.search.flip_graph import (
    Pool,
    WalkSettings,
    canonical,
    from_orbits,
    from_scheme,
    kernels,
    random_start,
    run_round,
    standard_rows,
    to_orbits,
)
from matrixrl.search.flip_graph.cyclic import start_from_groups, transposed
from matrixrl.search.flip_graph.cyclic_memory import CyclicMemory
from matrixrl.search.flip_graph.rows import unpack
from tests.search.flip_graph.referee import target, total


def images(rows: np.ndarray, side: int) -> list[tuple[bytes, bytes, bytes]]:
    """Returns the products of a scheme written with the transposed product, in their order."""
    u, v, w = unpack(rows, (side * side, side * side, side * side), "F2")
    w = w.reshape(-1, side, side).swapaxes(1, 2).reshape(-1, side * side)
    return [(a.tobytes(), b.tobytes(), c.tobytes()) for a, b, c in zip(u, v, w, strict=True)]


def is_symmetric(rows: np.ndarray, side: int) -> bool:
    products = images(rows, side)
    return sorted(products) == sorted((b, c, a) for a, b, c in products)


def slot_pairs(orbits: np.ndarray) -> list[tuple[int, int, int, int]]:
    """Returns all (factor, orbit, factor, orbit) with equal factors of different orbits, the lower slot first."""
    slots = list(product(range(3), range(len(orbits))))
    return [
        (f, r, g, s)
        for (f, r), (g, s) in product(slots, slots)
        if r != s and (f, r) < (g, s) and np.array_equal(orbits[r, f], orbits[s, g])
    ]


def memory_of(rows: np.ndarray, side: int, **changes: int) -> CyclicMemory:
    memory = CyclicMemory(rows, WalkSettings(symmetry="cyclic", **changes), 0, side)  # pyright: ignore[reportArgumentType]
    memory.load(rows, 1234567)
    return memory


@pytest.mark.parametrize("side", [2, 3, 4])
def test_every_partition_of_the_diagonal_is_a_start(side: int) -> None:
    problem = as_problem((side, side, side))
    for labels in product(range(side), repeat=side):
        groups = [[i for i in range(side) if labels[i] == label] for label in sorted(set(labels))]
        rows = start_from_groups(problem, groups)
        assert np.array_equal(total(rows, problem, "F2"), target(problem, "F2"))
        assert is_symmetric(rows, side)
        orbits, fixed = to_orbits(rows, side)
        assert len(fixed) == len(groups)
        assert 3 * len(orbits) + len(fixed) == len(rows)


def test_single_groups_are_the_standard_algorithm() -> None:
    problem = as_problem((3, 3, 3))
    rows = start_from_groups(problem, [[2], [0], [1]])
    assert np.array_equal(rows, standard_rows(problem, "F2"))


@given(seed=st.integers(0, 2**32 - 1), target_rank=st.integers(85, 101))
@settings(max_examples=20, deadline=None)
def test_random_starts_have_as_many_fixed_products_as_the_target_needs(seed: int, target_rank: int) -> None:
    problem = as_problem((5, 5, 5))
    rows = random_start(problem, target_rank, np.random.default_rng(seed))
    assert len(rows) % 3 == target_rank % 3
    orbits, fixed = to_orbits(rows, 5)
    assert np.array_equal(canonical(from_orbits(orbits, fixed, 5), "F2"), rows)


def test_orbits_keep_their_order_and_three_equal_products_are_an_orbit() -> None:
    orbits = np.array([[5, 6, 7], [9, 9, 9], [1, 2, 1]], np.uint64)[:, :, None]
    fixed = np.array([9, 4], np.uint64)[:, None]
    rows = from_orbits(orbits, fixed, 2)
    assert rows.shape == (11, 3, 1)
    again = to_orbits(rows, 2)
    assert np.array_equal(again[0], orbits)
    assert np.array_equal(again[1], fixed)
    assert np.array_equal(transposed(transposed(rows, 2), 2), rows)


def test_schemes_without_the_symmetry_are_refused() -> None:
    rows = from_scheme(known_scheme((2, 2, 2)), "F2")
    assert is_symmetric(rows, 2)
    with pytest.raises(SchemeError, match=r"product . of 7 has no cyclic images"):
        to_orbits(np.concatenate([rows[:-1], rows[-1:, [1, 0, 2]]]), 2)
    with pytest.raises(SchemeError, match="3x3x4: cyclic symmetry is for products of square matrices"):
        random_start(as_problem((3, 3, 4)), None, np.random.default_rng(0))
    with pytest.raises(SchemeError, match="square"):
        random_start(polynomial(3, 3), None, np.random.default_rng(0))
    with pytest.raises(ConfigError, match="over F2"):
        WalkSettings(symmetry="cyclic", ring="Z")
    with pytest.raises(ConfigError, match="none or cyclic"):
        WalkSettings(symmetry="mirror")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("side", [2, 3, 4, 9])
def test_walks_keep_the_sum_the_symmetry_and_the_pairs(side: int) -> None:
    problem = as_problem((side, side, side))
    groups = [[0, *range(2, side)], [1]]
    memory = memory_of(start_from_groups(problem, groups), side, plus_after=40, max_excess=12)
    want = target(problem, "F2") if side < 9 else None
    for step in range(60 if side < 9 else 3):
        memory.walk(1 + 7 * (step % 12) if side < 9 else 400)
        rows = memory.rows()
        assert is_symmetric(rows, side), step
        assert len(rows) == memory.rank
        if want is not None:
            assert np.array_equal(total(rows, problem, "F2"), want), step
        assert sorted(memory.pairs()) == slot_pairs(to_orbits(rows, side)[0]), step
    counted = memory.counters()
    assert counted["flips"] > 300
    assert counted["plus"] > 0
    assert counted["reductions"] > 0
    if side < 9:
        # One call of many moves, without the pairs listed again between them.
        memory.walk(20_000)
    rows = memory.rows()
    assert np.array_equal(total(rows, problem, "F2"), target(problem, "F2"))
    assert sorted(memory.pairs()) == slot_pairs(to_orbits(rows, side)[0])


def test_a_flip_is_that_of_two_orbits_with_an_equal_factor() -> None:
    side = 3
    problem = as_problem((side, side, side))
    memory = memory_of(standard_rows(problem, "F2"), side, max_excess=0)
    made = 0
    for _ in range(60):
        before = to_orbits(memory.rows(), side)
        memory.walk(1)
        if 3 * len(before[0]) + len(before[1]) != memory.rank:
            continue
        made += 1
        after = sorted(images(memory.rows(), side))
        candidates = []
        for f, r, g, s in slot_pairs(before[0]):
            for (p, i), (q, j) in (((f, r), (g, s)), ((g, s), (f, r))):
                orbits = before[0].copy()
                orbits[i, (p + 2) % 3] ^= orbits[j, (q + 2) % 3]
                orbits[j, (q + 1) % 3] ^= orbits[i, (p + 1) % 3]
                candidates.append(sorted(images(from_orbits(orbits, before[1], side), side)))
        assert after in candidates
    assert made > 20


def test_orbits_are_merged_as_their_products_are() -> None:
    def reduced(orbits: list[list[int]], fixed: list[int]) -> tuple[list[list[int]], list[int]]:
        x = np.zeros((3, 1, 64), np.uint64)
        x[:, 0, : len(orbits)] = np.array(orbits, np.uint64).T
        cubes = np.zeros((1, 64), np.uint64)
        cubes[0, : len(fixed)] = fixed
        counts = np.uint64(len(orbits)), np.uint64(len(fixed))
        num, num_fixed = kernels.reduce_orbits(x, cubes, *counts, (0,))
        assert not x[:, :, int(num) :].any()
        return x[:, 0, : int(num)].T.tolist(), cubes[0, : int(num_fixed)].tolist()

    # a b c + a b d = a b (c + d), with the second one turned: b d a.
    assert reduced([[1, 2, 4], [2, 8, 1]], []) == ([[1, 2, 12]], [])
    assert reduced([[1, 2, 4], [4, 1, 2]], [7]) == ([], [7])
    assert reduced([[1, 0, 4], [1, 2, 4]], []) == ([[1, 2, 4]], [])
    # Three equal products are one modulo 2; two are none.
    assert reduced([[5, 5, 5]], []) == ([], [5])
    assert reduced([[5, 5, 5]], [3, 5]) == ([], [3])
    # a a c + a a d = a a (c + d) = a a a if c + d = a.
    assert reduced([[1, 1, 4], [1, 1, 5]], []) == ([], [1])


def test_small_records_are_found() -> None:
    for side, rank, rounds in ((2, 7, 1), (3, 23, 4)):
        pool = Pool.standard(as_problem((side, side, side)), "F2")
        walk = WalkSettings(symmetry="cyclic", target_rank=rank, plus_after=5_000, max_excess=30)
        walkers = ()
        for number in range(rounds):
            result = run_round(
                pool,
                walk,
                seed=0,
                round=number,
                num_walkers=2,
                flips_per_walker=500_000,
                walkers=walkers,
                proves=True,
            )
            walkers = result.walkers
            if pool.best_rank == rank:
                break
        assert pool.best_rank == rank
        assert all(is_symmetric(rows, side) for rows in pool.members(rank))
