"""Rounds of walks: what they find, that they repeat, and when they restart and stop."""

from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np
import pytest

from matrixrl.config.fields import ConfigError
from matrixrl.schemes.known import strassen
from matrixrl.schemes.problem import MatrixMultiplication, as_problem
from matrixrl.schemes.scheme import Format, Scheme, SchemeError
from matrixrl.schemes.verify import verify
from matrixrl.search.flip_graph import (
    Pool,
    WalkRing,
    WalkSettings,
    canonical,
    from_scheme,
    run_round,
    standard_rows,
    to_scheme,
    words_per_factor,
)
from matrixrl.search.flip_graph.rows import negated

RINGS: tuple[WalkRing, ...] = ("F2", "Z")
CUBE = as_problem((3, 3, 3))


@pytest.mark.parametrize("ring", RINGS)
def test_finds_strassens_rank(ring: WalkRing) -> None:
    problem = as_problem((2, 2, 2))
    pool = Pool.standard(problem, ring)
    settings = WalkSettings(ring=ring, target_rank=7, plus_after=1_000)
    result = run_round(pool, settings, seed=0, round=0, num_walkers=2, flips_per_walker=200_000)
    assert pool.best_rank == result.best_rank == 7
    assert all(verify(to_scheme(rows, problem, ring)) for rows in result.found[7])
    assert result.flips < 400_000
    assert result.reductions > 0


@pytest.mark.parametrize("ring", RINGS)
def test_finds_rank_23_of_3x3x3(ring: WalkRing) -> None:
    pool = Pool.standard(CUBE, ring)
    settings = WalkSettings(ring=ring, target_rank=23)
    for number in range(20):
        run_round(pool, settings, seed=1, round=number, num_walkers=1, flips_per_walker=1_000_000)
        if pool.best_rank == 23:
            break
    assert pool.best_rank == 23
    assert verify(to_scheme(pool.members(23)[0], CUBE, ring))


@pytest.mark.parametrize("ring", RINGS)
def test_result_does_not_depend_on_threads(ring: WalkRing) -> None:
    def run(threads: int, seed: int = 5) -> tuple[Any, ...]:
        pool = Pool.standard(CUBE, ring)
        settings = WalkSettings(ring=ring, plus_after=2_000, restart_after=20_000)
        counts = []
        for number in range(2):
            result = run_round(
                pool,
                settings,
                seed=seed,
                round=number,
                num_walkers=4,
                flips_per_walker=60_000,
                threads=threads,
            )
            counts.append((result.flips, result.plus, result.splits, result.restarts, result.reductions))
        state = pool.state()
        return counts, list(state), [state[name].tobytes() for name in state]

    assert run(1) == run(3)
    assert run(1) != run(1, seed=6)


def test_walkers_and_rounds_differ() -> None:
    found = []
    for number, seed in ((0, 0), (1, 0), (0, 1)):
        pool = Pool.standard(CUBE, "F2")
        run_round(pool, WalkSettings(), seed=seed, round=number, num_walkers=1, flips_per_walker=20_000)
        found.append(pool.state())
    assert len({str([(name, state[name].tobytes()) for name in state]) for state in found}) == 3


@pytest.mark.parametrize("ring", RINGS)
def test_a_scheme_without_flips_restarts(ring: WalkRing) -> None:
    """Strassen's scheme shares no factor between products: walks end at once, or leave by a plus transition."""
    problem = as_problem((2, 2, 2))
    pool = Pool(problem, ring)
    pool.add(from_scheme(strassen(), ring))
    still = WalkSettings(ring=ring, max_excess=0, fresh_probability=0)
    result = run_round(pool, still, seed=0, round=0, num_walkers=1, flips_per_walker=10_000)
    assert (result.flips, result.restarts) == (0, 9)
    moving = WalkSettings(ring=ring, max_excess=2, plus_after=500, fresh_probability=0)
    result = run_round(pool, moving, seed=0, round=0, num_walkers=1, flips_per_walker=20_000)
    assert result.flips > 0
    assert result.plus > 0
    assert set(pool.counts()) == {7}


def test_fresh_starts_leave_the_pool() -> None:
    """From Strassen's scheme alone, without transitions, no walk can flip; from the standard algorithm it can."""
    problem = as_problem((2, 2, 2))
    pool = Pool(problem, "F2")
    pool.add(from_scheme(strassen(), "F2"))
    settings = WalkSettings(max_excess=0, fresh_probability=1.0)
    result = run_round(pool, settings, seed=0, round=0, num_walkers=1, flips_per_walker=50_000)
    assert result.flips > 1_000
    assert pool.counts()[7] > 1


def test_fresh_starts_take_the_seeds_of_the_pool() -> None:
    """A walk from Strassen's scheme cannot flip; a fresh one from the schemes of rank 8 has a lower rank to find."""
    problem = as_problem((2, 2, 2))
    pool = Pool(problem, "F2")
    pool.add(from_scheme(strassen(), "F2"))
    pool.set_seeds([from_scheme(strassen(), "F2")])
    settings = WalkSettings(max_excess=0, fresh_probability=1.0)
    stuck = run_round(pool, settings, seed=0, round=0, num_walkers=1, flips_per_walker=50_000)
    assert (stuck.flips, pool.counts()) == (0, {7: 1})
    pool.set_seeds([standard_rows(problem, "F2"), from_scheme(strassen(), "F2")])
    assert [len(rows) for rows in pool.seeds] == [7, 8]
    copy = Pool.from_state(problem, "F2", pool.state())
    assert [rows.tobytes() for rows in copy.seeds] == [rows.tobytes() for rows in pool.seeds]
    for found in (pool, copy):
        result = run_round(found, settings, seed=0, round=0, num_walkers=1, flips_per_walker=50_000)
        assert result.flips > 1_000
        assert found.counts()[7] > 1
    assert pool.counts() == copy.counts()


def test_restart_after_flips_without_a_lower_rank() -> None:
    pool = Pool.standard(CUBE, "F2")
    settings = WalkSettings(restart_after=5_000, max_excess=0)
    result = run_round(pool, settings, seed=0, round=0, num_walkers=1, flips_per_walker=100_000)
    assert result.restarts >= 5


def test_stop_cuts_a_round() -> None:
    pool = Pool.standard(CUBE, "F2")
    asked = count()
    result = run_round(
        pool,
        WalkSettings(),
        seed=0,
        round=0,
        num_walkers=1,
        flips_per_walker=10**12,
        stop=lambda: next(asked) >= 1,
    )
    assert result.stopped
    assert 0 < result.flips <= 2_000_000
    assert result.found


def test_a_target_ends_a_walk() -> None:
    pool = Pool.standard(CUBE, "F2")
    settings = WalkSettings(target_rank=26)
    result = run_round(pool, settings, seed=0, round=0, num_walkers=1, flips_per_walker=10**12)
    assert result.best_rank == 26


def test_rows_round_trip() -> None:
    rng = np.random.default_rng(0)
    for ring in RINGS:
        for fmt in ((2, 3, 4), (5, 7, 6), (1, 9, 8), (2, 2, 32)):
            low = 0 if ring == "F2" else -1
            u, v, w = (rng.integers(low, 2, (6, side)) for side in Format(*fmt).sides)
            u[:, 0] = v[:, 0] = w[:, 0] = 1
            scheme = Scheme(fmt, ring, u, v, w)
            rows = from_scheme(scheme, ring)
            again = to_scheme(rows, scheme.problem, ring)
            order = np.lexsort(rows.reshape(len(rows), -1).T[::-1])
            assert (order == np.arange(len(rows))).all()
            mine = sorted(map(str, zip(*(factor.tolist() for factor in again.factors), strict=True)))
            theirs = sorted(map(str, zip(*(factor.tolist() for factor in scheme.factors), strict=True)))
            assert mine == theirs


def test_canonical_rows_ignore_order_and_signs() -> None:
    rows = from_scheme(strassen(), "Z")
    rng = np.random.default_rng(0)
    mixed = rows[rng.permutation(len(rows))].copy()
    for r in range(len(mixed)):
        for pair in ((0, 1), (1, 2)):
            if rng.random() < 0.5:
                for mode in pair:
                    mixed[r, mode] = negated(mixed[r, mode])
    assert not np.array_equal(mixed, rows)
    assert np.array_equal(canonical(mixed, "Z"), rows)
    pool = Pool(as_problem((2, 2, 2)), "Z")
    assert pool.add(rows)
    assert not pool.add(mixed)
    mixed[0, 2] = negated(mixed[0, 2])  # another scheme
    assert pool.add(mixed)


def test_pool_is_bounded_and_round_trips() -> None:
    problem = as_problem((2, 2, 2))
    base = standard_rows(problem, "F2")
    pool = Pool(problem, "F2", size=3, num_ranks=2)
    for bit in range(5):
        changed = base.copy()
        changed[0, 0, 0] = bit + 1
        pool.add(changed)
    assert pool.counts() == {8: 3}
    assert not pool.add(np.concatenate([base, base, base[:1] + np.uint64(2)]))  # rank 17 of 8 + 2
    pool.add(base[:7])
    assert pool.counts() == {7: 1, 8: 3}
    again = Pool.from_state(problem, "F2", pool.state(), size=3, num_ranks=2)
    assert again.counts() == pool.counts()
    for rank in pool.counts():
        assert all(map(np.array_equal, again.members(rank), pool.members(rank)))
    rng, other = np.random.default_rng(3), np.random.default_rng(3)
    for weighting in ("uniform", "flips"):
        for _ in range(5):
            assert np.array_equal(pool.choose(rng, weighting, 2), again.choose(other, weighting, 2))
    pool.add(base[:5])  # ranks 7 and 8 are too far above
    assert pool.counts() == {5: 1}


def test_weighting_by_flips_prefers_schemes_with_pairs() -> None:
    problem = as_problem((2, 2, 2))
    pool = Pool(problem, "F2")
    pool.add(standard_rows(problem, "F2")[:7])  # 7 of the 8 products: many pairs
    pool.add(from_scheme(strassen(), "F2"))  # none
    rng = np.random.default_rng(0)
    assert all(
        not np.array_equal(pool.choose(rng, "flips"), from_scheme(strassen(), "F2")) for _ in range(20)
    )


def test_impossible_arguments_are_refused() -> None:
    with pytest.raises(SchemeError, match=r"factors of 289 entries; flips handle at most 256"):
        words_per_factor(MatrixMultiplication(Format(17, 17, 1)), "F2")
    with pytest.raises(SchemeError, match="flips walk over F2 or Z"):
        words_per_factor(CUBE, "F3")  # pyright: ignore[reportArgumentType]
    doubled = Scheme((1, 1, 1), "Z", [[2]], [[1]], [[1]])
    with pytest.raises(SchemeError, match="coefficients -1, 0 and 1"):
        from_scheme(doubled, "Z")
    with pytest.raises(SchemeError, match="shape"):
        Pool(CUBE, "F2").add(np.zeros((3, 3, 2), np.uint64))
    with pytest.raises(SchemeError, match="no scheme to start from"):
        run_round(Pool(CUBE, "F2"), WalkSettings(), seed=0, round=0, num_walkers=1, flips_per_walker=1)
    for wrong in (
        {"ring": "Q"},
        {"plus_after": 0},
        {"split_probability": 2},
        {"weighting": "none"},
        {"max_excess": -1},
    ):
        with pytest.raises(ConfigError):
            WalkSettings(**wrong)  # pyright: ignore[reportArgumentType]
