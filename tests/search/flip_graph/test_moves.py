"""Every move keeps the sum of the products; the list of matching pairs is right after any number of moves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matrixrl.schemes.families import cyclic, polynomial
from matrixrl.schemes.problem import Problem, as_problem
from matrixrl.search.flip_graph import WalkRing, WalkSettings, canonical, kernels, standard_rows
from matrixrl.search.flip_graph.basis import random_image
from matrixrl.search.flip_graph.memory import WalkMemory
from matrixrl.search.flip_graph.rows import count_pairs, pack
from tests.search.flip_graph.referee import matching_pairs, neighbours, target, terms, total

RINGS: tuple[WalkRing, ...] = ("F2", "Z")
PROBLEMS: list[Problem] = [as_problem((2, 2, 3)), as_problem((3, 3, 3)), polynomial(4, 4), cyclic(5)]

# More than 64 entries over F2, more than 32 over Z, in one factor: the path for several words.
LONG: dict[WalkRing, Problem] = {"F2": as_problem((1, 9, 8)), "Z": as_problem((2, 2, 17))}


def memory_of(rows: np.ndarray, ring: WalkRing, **changes: Any) -> WalkMemory:
    memory = WalkMemory(rows, WalkSettings(ring=ring, **changes), 0)
    memory.load(rows, 1234567)
    return memory


@pytest.mark.parametrize("ring", RINGS)
@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_walks_keep_the_sum_and_the_pairs(problem: Problem, ring: WalkRing) -> None:
    memory = memory_of(
        standard_rows(problem, ring),
        ring,
        plus_after=40,
        max_excess=4,
        reduce_every=17,
        split_probability=0.5,
    )
    want = target(problem, ring)
    for step in range(100):
        memory.walk(1 + 7 * (step % 12))
        rows = memory.rows()
        assert np.array_equal(total(rows, problem, ring), want), step
        assert sorted(memory.pairs()) == matching_pairs(rows, problem, ring), step
    counted = memory.counters()
    assert counted["flips"] > 300
    assert counted["reductions"] > 5
    assert counted["plus"] > 0
    assert counted["splits"] > 0
    # One call of many moves, without the pairs listed again between them.
    memory.walk(20_000)
    assert np.array_equal(total(memory.rows(), problem, ring), want)
    assert sorted(memory.pairs()) == matching_pairs(memory.rows(), problem, ring)


@pytest.mark.parametrize("ring", RINGS)
def test_pairs_after_thousands_of_flips_in_one_call(ring: WalkRing) -> None:
    problem = PROBLEMS[1]
    memory = memory_of(standard_rows(problem, ring), ring, max_excess=0, reduce_every=10**6)
    memory.walk(5_000)
    assert memory.counters()["flips"] > 2_000
    assert sorted(memory.pairs()) == matching_pairs(memory.rows(), problem, ring)
    assert count_pairs(memory.rows(), ring) == len(memory.pairs())


@pytest.mark.parametrize("ring", RINGS)
def test_a_flip_leads_to_a_neighbour_of_the_referee(ring: WalkRing) -> None:
    problem = as_problem((2, 2, 2))
    memory = memory_of(standard_rows(problem, ring), ring, max_excess=0, reduce_every=10**6)
    made = 0
    for _ in range(60):
        before, flips = memory.rows(), memory.counters()["flips"]
        memory.walk(1)
        if memory.counters()["flips"] == flips or len(memory.rows()) < len(before):
            continue
        made += 1
        assert terms(memory.rows(), problem, ring) in neighbours(before, problem, ring)
    assert made > 20


@pytest.mark.parametrize("ring", RINGS)
def test_factors_of_several_words(ring: WalkRing) -> None:
    problem = LONG[ring]
    rows = standard_rows(problem, ring)
    assert rows.shape[2] == 2
    memory = memory_of(rows, ring, plus_after=200, max_excess=3, reduce_every=500, split_probability=0.5)
    for _ in range(5):
        memory.walk(2_000)
        assert np.array_equal(total(memory.rows(), problem, ring), target(problem, ring))
        assert sorted(memory.pairs()) == matching_pairs(memory.rows(), problem, ring)
    assert memory.counters()["plus"] + memory.counters()["splits"] > 5


def random_group(seed: int, ring: WalkRing) -> np.ndarray:
    """Rows with one factor in common and short others, which are often linearly dependent."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(3, 8))
    u, v, w = (rng.choice((-1, 0, 1), (count, 3), p=(0.25, 0.5, 0.25)) for _ in range(3))
    u[:] = (1, 0, -1)
    u *= rng.choice((-1, 1), (count, 1))
    if ring == "F2":
        u, v, w = abs(u), abs(v), abs(w)
    order = rng.permutation(3)
    factors = [(u, v, w)[mode] for mode in order]
    return pack((factors[0], factors[1], factors[2]), ring, 1)


@pytest.mark.parametrize("ring", RINGS)
def test_linear_dependences_remove_rows(ring: WalkRing) -> None:
    removed = 0
    for seed in range(300):
        given_rows = random_group(seed, ring)
        memory = memory_of(given_rows, ring)
        rows = memory.rows()
        if len(rows) < 3:
            continue
        num = kernels.reduce_dependent(memory._x, memory._signs, np.uint64(len(rows)), memory._words)
        memory._registers[kernels.ROWS] = num
        removed += num < len(rows)
        before, after = (_cube(part, ring) for part in (rows, memory.rows()))
        assert np.array_equal(before, after), seed
    assert removed > 30


def _cube(rows: np.ndarray, ring: WalkRing) -> np.ndarray:
    return total(rows, cyclic(3), ring)  # only its sides, 3 each, matter


def test_three_dependent_products_become_two() -> None:
    """The smallest dependence beyond equal pairs: a(b1)c1 + a(b2)c2 + a(b1+b2)c3 over both rings."""
    u, w = np.array([[1, 0, 0]] * 3), np.eye(3, dtype=np.int64)
    v = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0]])
    for ring in RINGS:
        rows = pack((u, v, w), ring, 1)
        memory = memory_of(rows, ring)
        num = kernels.reduce_dependent(memory._x, memory._signs, np.uint64(3), memory._words)
        assert num == 2
        memory._registers[kernels.ROWS] = num
        assert np.array_equal(_cube(memory.rows(), ring), _cube(rows, ring))


def test_equal_products_cancel_or_stay() -> None:
    """Two equal products cancel modulo 2. Over Z their sum, with a 2, is not ternary; opposite ones cancel."""
    row = (np.array([[1, 1, 0]] * 3), np.array([[0, 1, 1]] * 3), np.array([[1, 0, 0]] * 2 + [[0, 0, 1]]))
    assert len(memory_of(pack(row, "F2", 1), "F2").rows()) == 1
    assert len(memory_of(pack(row, "Z", 1), "Z").rows()) == 2  # the third joins one of them
    row[0][0] *= -1
    assert len(memory_of(pack(row, "Z", 1), "Z").rows()) == 1


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), ring=st.sampled_from(RINGS))
def test_sandwiching_keeps_the_sum(seed: int, ring: WalkRing) -> None:
    problem = as_problem((2, 3, 2))
    rows = standard_rows(problem, ring)  # pyright: ignore[reportArgumentType]
    image = random_image(rows, problem, ring, np.random.default_rng(seed))  # pyright: ignore[reportArgumentType]
    assert np.array_equal(total(image, problem, ring), target(problem, ring))
    assert np.array_equal(image, canonical(image, ring))
