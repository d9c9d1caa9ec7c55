"""Products replaced by others with the same sum, and short walks from given schemes."""

from __future__ import annotations

import numpy as np
import pytest

from matrixrl.schemes.families import polynomial
from matrixrl.schemes.known import laderman, standard
from matrixrl.schemes.problem import as_problem
from matrixrl.schemes.scheme import Scheme, SchemeError
from matrixrl.schemes.verify import verify
from matrixrl.search.flip_graph import (
    Pool,
    WalkSettings,
    from_scheme,
    polish,
    rederive,
    run_round,
    standard_rows,
)
from matrixrl.search.flip_graph.rows import pack
from tests.search.flip_graph.referee import target, total


@pytest.mark.parametrize("count", [3, 4])
def test_rederived_products_have_the_same_sum(count: int) -> None:
    problem = as_problem((2, 2, 3))
    rng = np.random.default_rng(count)
    rows, changed = standard_rows(problem, "F2"), 0
    for _ in range(12):
        other = rederive(rows, count, rng)
        if other is None:
            continue
        assert len(other) <= len(rows)
        assert not np.array_equal(other, rows)
        assert np.array_equal(total(other, problem, "F2"), target(problem, "F2"))
        rows, changed = other, changed + 1
    assert changed > 3


@pytest.mark.parametrize("count", [5, 6, 8])
def test_many_products_of_small_spaces(count: int) -> None:
    """Products whose factors have 2, 2 and 3 entries; nine, so that some stay."""
    problem = as_problem((1, 2, 3))  # only its sides, of which the first entries are used, matter
    rng, fewer = np.random.default_rng(count), 0
    for _ in range(6):
        factors = [np.zeros((9, side), np.int64) for side in problem.sides]
        for factor, side in zip(factors, (2, 2, 3), strict=True):
            factor[:, :side] = rng.integers(0, 2, (9, side))
            factor[~factor.any(axis=1), 0] = 1
        rows = pack((factors[0], factors[1], factors[2]), "F2", 1)
        other = rederive(rows, count, rng)
        if other is not None:
            assert np.array_equal(total(other, problem, "F2"), total(rows, problem, "F2"))
            fewer += len(other) < len(rows)
    assert fewer > 3


def test_rederivation_finds_fewer_products() -> None:
    """(1, 0) and (0, 1) in the first factor of two products with equal others become (1, 1)."""
    u = np.array([[1, 0], [0, 1], [1, 1]])
    v = np.array([[1, 0], [1, 0], [0, 1]])
    w = np.array([[1, 0], [1, 0], [0, 1]])
    rows = pack((u, v, w), "F2", 1)
    other = rederive(rows, 3, np.random.default_rng(0))
    assert other is not None
    assert len(other) == 2


def test_three_unrelated_products_have_no_other_decomposition() -> None:
    unit = np.eye(3, dtype=np.int64)
    assert rederive(pack((unit, unit, unit), "F2", 1), 3, np.random.default_rng(0)) is None


def test_walks_with_rederivation_repeat() -> None:
    problem = as_problem((2, 2, 3))
    settings = WalkSettings(rederive_probability=1.0, rederive_rows=3, restart_after=5_000, max_excess=0)

    def run(threads: int) -> tuple[int, dict[str, bytes]]:
        pool = Pool.standard(problem, "F2")
        done = run_round(
            pool, settings, seed=0, round=0, num_walkers=3, flips_per_walker=40_000, threads=threads
        )
        for rank in pool.counts():
            for rows in pool.members(rank):
                assert np.array_equal(total(rows, problem, "F2"), target(problem, "F2"))
        return done.rederived, {name: array.tobytes() for name, array in pool.state().items()}

    first = run(1)
    assert first[0] > 3
    assert run(2) == first


@pytest.mark.parametrize("ring", ["F2", "Z"])
def test_polish_returns_shorter_and_other_schemes(ring: str) -> None:
    settings = WalkSettings(ring=ring, plus_after=2_000)  # pyright: ignore[reportArgumentType]
    given = [standard((2, 2, 2)), laderman()]
    results = polish(given, settings, 30_000)
    assert results
    assert all(verify(scheme) for scheme in results)
    small = [scheme for scheme in results if scheme.problem == given[0].problem]
    assert small[0].rank == 7
    large = [scheme for scheme in results if scheme.problem == given[1].problem]
    assert all(scheme.rank <= 23 for scheme in large)
    start = from_scheme(laderman(), settings.ring)
    assert not any(np.array_equal(from_scheme(scheme, settings.ring), start) for scheme in large)
    assert polish(given, settings, 30_000) == results
    assert polish([], settings, 30_000) == []


def test_polish_of_another_problem_and_ring() -> None:
    problem = polynomial(3, 3)
    u, v, w = problem.standard()
    results = polish([Scheme(problem, "Z", u, v, w)], WalkSettings(plus_after=1_000), 50_000)
    assert results[0].rank == 6
    assert results[0].ring == "F2"
    assert all(map(verify, results))
    with pytest.raises(SchemeError, match="coefficients -1, 0 and 1"):
        polish([Scheme((1, 1, 1), "Z", [[2]], [[1]], [[1]])], WalkSettings(ring="Z"), 1)
