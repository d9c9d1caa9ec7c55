"""Walks that continue from round to round, and the learned choice of where they start."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from matrixrl.schemes.known import strassen
from matrixrl.schemes.problem import as_problem
from matrixrl.search.flip_graph import (
    Pool,
    WalkerState,
    WalkRing,
    WalkSettings,
    from_scheme,
    run_round,
    standard_rows,
    walkers_from_arrays,
    walkers_to_arrays,
)
from matrixrl.search.flip_graph.restarts import DISCOUNT, FEATURES, FRESH, NOISE_PRECISION, RestartModel
from tests.search.flip_graph.referee import target, total

CUBE = as_problem((3, 3, 3))


def test_the_posterior_after_one_outcome() -> None:
    """A prior of 1 and one outcome y at x: precision 1 + p x x^T, mean p y x / (1 + p |x|^2)."""
    model = RestartModel()
    model.observe(FRESH, 1.0)
    x = np.array(FRESH)
    np.testing.assert_allclose(model.precision, np.eye(len(FEATURES)) + NOISE_PRECISION * np.outer(x, x))
    np.testing.assert_allclose(model.mean, NOISE_PRECISION * x / (1 + NOISE_PRECISION * 2))
    # Without further news the outcome fades, and the prior returns.
    for _ in range(2_000):
        model.observe([0.0] * len(FEATURES), 0.0)
    np.testing.assert_allclose(model.precision, np.eye(len(FEATURES)), atol=1e-6)
    assert DISCOUNT**2_000 < 1e-6


def test_what_succeeds_is_chosen() -> None:
    model, rng = RestartModel(), np.random.default_rng(0)
    good = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
    bad = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0)
    for _ in range(60):
        model.observe(good, 1.0)
        model.observe(bad, 0.0)
    chosen = [model.choose(np.array([FRESH, bad, good]), rng) for _ in range(200)]
    assert chosen.count(2) > 120
    assert chosen.count(0) > 0, "a start that was not tried keeps a chance"
    again = RestartModel.from_state(model.state())
    assert again.outcomes == 120
    one, other = np.random.default_rng(3), np.random.default_rng(3)
    candidates = np.array([bad, good, FRESH])
    assert [model.choose(candidates, one) for _ in range(9)] == [
        again.choose(candidates, other) for _ in range(9)
    ]
    assert RestartModel.from_state({}).outcomes == 0


def test_a_pool_counts_starts_and_wins() -> None:
    problem = as_problem((2, 2, 2))
    pool = Pool(problem, "F2", size=2)
    pool.add(standard_rows(problem, "F2"))
    pool.add(from_scheme(strassen(), "F2"))
    pool.note_start(2)
    pool.note_start(2)
    pool.note_outcome(2, FRESH, True)
    pool.note_outcome(99, FRESH, True)  # a scheme that the pool does not hold any more
    again = Pool.from_state(problem, "F2", pool.state(), size=2)
    state, same = pool.state(), again.state()
    assert state.keys() == same.keys()
    assert all(np.array_equal(state[name], same[name]) for name in state)
    assert state["facts_7"].tolist() == [[2, 2, 1]]
    assert (int(state["arrivals"]), int(state["restart_outcomes"])) == (2, 2)
    # A scheme of the lowest rank without flips: excess 0, flips 0, newest, 2 starts, 1 win.
    features = {
        start.features for start in (pool.start(np.random.default_rng(n), "learned") for n in range(40))
    }
    assert features == {FRESH, (1, 0, 0, 0, 1, 2 / 3, 1 / 2), (1, 0, 1, 1, 1 / 2, 0, 0)}


def test_pools_of_earlier_checkpoints_are_read() -> None:
    pool = Pool.standard(CUBE, "F2")
    run_round(pool, WalkSettings(), seed=0, round=0, num_walkers=1, flips_per_walker=30_000)
    old = {name: rows for name, rows in pool.state().items() if name.startswith("rank_")}
    again = Pool.from_state(CUBE, "F2", old)
    assert again.counts() == pool.counts()
    assert again.start(np.random.default_rng(0), "learned").rows.shape[1:] == (3, 1)


def walk_rounds(
    ring: WalkRing,
    weighting: Any,
    cut: bool,
    threads: int = 1,
    **changes: Any,
) -> tuple[dict[str, np.ndarray], tuple[WalkerState | None, ...], list[int]]:
    """Performs six rounds; with a cut, everything passes through arrays after the third."""
    pool = Pool.standard(CUBE, ring)
    moves = {"plus_after": 2_000, "restart_after": 15_000, **changes}
    settings = WalkSettings(ring=ring, weighting=weighting, **moves)
    walkers: tuple[WalkerState | None, ...] = ()
    counts = []
    for number in range(6):
        done = run_round(
            pool,
            settings,
            seed=1,
            round=number,
            num_walkers=3,
            flips_per_walker=10_000,
            threads=threads,
            walkers=walkers,
        )
        walkers = done.walkers
        counts += [done.flips, done.restarts, done.plus]
        if cut and number == 2:
            pool = Pool.from_state(CUBE, ring, pool.state())
            walkers = walkers_from_arrays(walkers_to_arrays(walkers))
    for rank in pool.counts():
        for rows in pool.members(rank):
            assert np.array_equal(total(rows, CUBE, ring), target(CUBE, ring))
    return pool.state(), walkers, counts


@pytest.mark.parametrize(
    ("ring", "weighting", "changes"),
    [
        ("F2", "learned", {}),
        ("Z", "learned", {}),
        ("Z", "uniform", {}),
        ("F2", "learned", {"symmetry": "cyclic", "plus_after": 500, "max_excess": 12}),
    ],
)
def test_rounds_resume_exactly(ring: WalkRing, weighting: str, changes: dict[str, Any]) -> None:
    state, walkers, counts = walk_rounds(ring, weighting, cut=False, **changes)
    assert sum(counts[1::3]) > 0, "walks ended, and others started"
    assert any(walker is not None for walker in walkers)
    if weighting == "learned":
        assert state["restart_outcomes"] > 0
        assert sum(int(facts[:, 1].sum()) for name, facts in state.items() if name.startswith("facts_")) > 0
    for cut, threads in ((True, 1), (False, 2)):
        again, others, numbers = walk_rounds(ring, weighting, cut, threads, **changes)
        assert numbers == counts
        assert again.keys() == state.keys()
        assert all(np.array_equal(again[name], state[name]) for name in state)
        packed, expected = walkers_to_arrays(others), walkers_to_arrays(walkers)
        assert all(np.array_equal(packed[name], expected[name]) for name in expected)


def test_a_walk_continues_in_the_next_round() -> None:
    pool = Pool.standard(CUBE, "F2")
    settings = WalkSettings(fresh_probability=1.0)
    first = run_round(pool, settings, seed=0, round=0, num_walkers=1, flips_per_walker=5_000)
    second = run_round(
        pool, settings, seed=0, round=1, num_walkers=1, flips_per_walker=5_000, walkers=first.walkers
    )
    assert second.restarts == 0
    before, after = first.walkers[0], second.walkers[0]
    assert before is not None
    assert after is not None
    assert after.best <= before.best < 27
    if after.best == before.best:
        assert after.idle == before.idle + 5_000
    ended = run_round(pool, settings, seed=0, round=2, num_walkers=1, flips_per_walker=5_000, walkers=[None])
    assert ended.restarts == 1


def test_walkers_round_trip_through_arrays() -> None:
    rows = standard_rows(CUBE, "Z")
    walkers = (None, WalkerState(rows, 2**64 - 1, 23, 5, 6, 7, 8, FRESH), WalkerState(rows[:20], 1, 20, 0, 0))
    again = walkers_from_arrays(walkers_to_arrays(walkers))
    assert again[0] is None
    for one, other in zip(again[1:], walkers[1:], strict=True):
        assert one is not None
        assert other is not None
        assert np.array_equal(one.rows, other.rows)
        assert [getattr(one, name) for name in ("generator", "best", "since", "idle", "moved_at")] == [
            getattr(other, name) for name in ("generator", "best", "since", "idle", "moved_at")
        ]
        assert (one.origin, one.features) == (other.origin, other.features)
    assert walkers_from_arrays(walkers_to_arrays(())) == ()
    assert walkers_from_arrays(walkers_to_arrays((None, None))) == (None, None)
