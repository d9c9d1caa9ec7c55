"""The fast proof of rows agrees with the proof of schemes, and pools travel whole."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from matrixrl.schemes.known import known_scheme
from matrixrl.schemes.problem import as_problem
from matrixrl.schemes.tensor_files import problem_from_text
from matrixrl.schemes.verify import verify
from matrixrl.search.flip_graph import (
    Pool,
    WalkRing,
    WalkSettings,
    from_scheme,
    run_round,
    standard_rows,
    to_scheme,
)
from matrixrl.search.flip_graph.expansion import is_scheme


@pytest.mark.parametrize("ring", ["F2", "Z"])
@pytest.mark.parametrize("name", ["2x2x2", "poly-3x3", "9x2x9"])
def test_every_changed_bit_is_noticed_exactly_when_the_proof_notices_it(ring: WalkRing, name: str) -> None:
    problem = known_scheme((2, 2, 2)).problem if name == "2x2x2" else problem_from_text(name)
    rows = from_scheme(known_scheme((2, 2, 2)), ring) if name == "2x2x2" else standard_rows(problem, ring)
    assert is_scheme(rows, problem, ring)
    assert not is_scheme(rows[1:], problem, ring)
    twice = np.concatenate([rows, rows[:1], rows[:1]])
    assert is_scheme(twice, problem, ring) == (ring == "F2")
    rng = np.random.default_rng(0)
    for _ in range(40):
        changed = np.array(rows)
        place = tuple(rng.integers(size) for size in changed.shape)
        bit = int(rng.integers(64))
        changed[place] ^= np.uint64(1) << np.uint64(bit)
        half = bit % 32 if ring == "Z" else bit
        side = problem.sides[place[1]] - (32 if ring == "Z" else 64) * int(place[2])
        both = ring == "Z" and int(changed[place]) >> half & int(changed[place]) >> (half + 32) & 1
        expected = half < side and not both and bool(verify(to_scheme(changed, problem, ring)))
        assert is_scheme(changed, problem, ring) == expected


def test_rows_of_another_shape_are_no_scheme() -> None:
    problem = as_problem((2, 2, 2))
    rows = standard_rows(problem, "F2")
    for other in (rows[:, :2], rows[..., None], rows.astype(np.int64), np.zeros((0, 3, 2), np.uint64)):
        assert not is_scheme(other, problem, "F2")


def test_a_pool_travels_whole() -> None:
    """What a node gets is the pool of the head: the same walks start from it."""
    pool = Pool.standard(as_problem((3, 3, 3)), "F2", size=5)
    settings = WalkSettings(weighting="flips")
    run_round(pool, settings, seed=0, round=0, num_walkers=2, flips_per_walker=30_000)
    copy = pickle.loads(pickle.dumps(pool))
    results = [
        run_round(p, settings, seed=0, round=1, num_walkers=2, flips_per_walker=30_000) for p in (pool, copy)
    ]
    assert results[0].flips == results[1].flips
    assert pool.counts() == copy.counts()
    for name, rows in pool.state().items():
        np.testing.assert_array_equal(rows, copy.state()[name])
