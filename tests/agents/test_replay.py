"""The replay buffer and the bookkeeping of self-play."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from matrixrl.agents import replay, selfplay
from matrixrl.search.sampled import SearchResult
from tests.jitted import jitted

MOVES, CANDIDATES, TOKENS = 4, 3, 2


class State(NamedTuple):
    residual: Any
    terminated: Any
    solved: Any


def games(label: int, costs: list[float], moves: list[int]) -> selfplay.Games:
    """A finished batch; everything of a game holds `label`, so that it can be recognised."""
    batch = len(costs)
    state = State(np.zeros((batch, 2), np.int8), np.ones(batch, bool), np.ones(batch, bool))
    played = start(
        state, np.zeros(batch, np.int32), np.arange(batch), np.array(moves) > 0, MOVES, CANDIDATES, TOKENS
    )
    return played._replace(
        target=np.full((batch, 2), label, np.int8),
        actions=np.asarray(played.actions) + np.uint16(label),
        candidates=np.asarray(played.candidates) + np.arange(MOVES, dtype=np.uint16)[None, :, None, None],
        weights=np.full_like(played.weights, label),
        cost=np.array(costs, np.float32),
        num_moves=np.array(moves, np.int32),
    )


def insert(buffer: replay.Replay, games: selfplay.Games, good_lifetime: float) -> replay.Replay:
    return _insert(buffer, games, jitted(replay.is_good)(games), good_lifetime=good_lifetime)


_insert = jax.jit(replay.insert, static_argnames="good_lifetime")
sample = jax.jit(replay.sample, static_argnames="count")
start = jax.jit(selfplay.start, static_argnums=(4, 5, 6))
empty = jax.jit(replay.empty, static_argnums=1)
costs_of_good_games = jax.jit(replay.costs_of_good_games, static_argnums=(1, 2))


def labels(buffer: replay.Replay) -> list[int]:
    return sorted(
        int(x)
        for x, n in zip(np.asarray(buffer.target)[:, 0], np.asarray(buffer.num_moves), strict=True)
        if n > 0
    )


def test_good_games_outlive_the_others_of_their_batch() -> None:
    """Ten games a batch in a buffer of twenty: ordinary ones stay two batches, the best of each longer."""
    first = games(1, [9.0] * 4 + [5.0] + [9.0] * 5, [4] * 10)
    buffer = empty(first, 20)
    assert int(buffer.num_games) == 0
    buffer = insert(buffer, first, good_lifetime=4.0)
    present = []
    for label in range(2, 9):
        buffer = insert(buffer, games(label, [9.0] * 10, [4] * 10), good_lifetime=4.0)
        present.append(labels(buffer).count(1))
    assert int(buffer.num_games) == 20
    # With the second batch the buffer is full; from the third on only the good game of the first is left.
    assert present[0] == 10
    assert present[1] == 1
    assert present[2] == 1
    assert present[-1] == 0
    # What stays is the game with the lowest cost.
    buffer = insert(empty(first, 10), first, good_lifetime=4.0)
    buffer = insert(buffer, games(2, [9.0] * 9 + [9.0], [4] * 9 + [0]), good_lifetime=4.0)
    kept = [
        float(cost)
        for cost, target in zip(np.asarray(buffer.cost), np.asarray(buffer.target)[:, 0], strict=True)
        if target == 1
    ]
    assert kept == [5.0]


def test_empty_lanes_are_dropped() -> None:
    buffer = insert(empty(games(1, [1.0] * 3, [1] * 3), 5), games(1, [3.0, 2.0, 0.0], [3, 2, 0]), good_lifetime=2.0)  # fmt: skip
    assert int(buffer.num_games) == 2
    assert labels(buffer) == [1, 1]
    assert sorted(buffer.cost.tolist()) == [0.0, 0.0, 0.0, 2.0, 3.0]


def test_samples_are_uniform_over_games_then_over_moves_and_know_their_cost_to_go() -> None:
    buffer = empty(games(1, [1.0] * 2, [1] * 2), 6)
    buffer = insert(buffer, games(1, [7.0, 2.0], [4, 2]), good_lifetime=2.0)
    buffer = insert(buffer, games(3, [1.0, 0.0], [1, 0]), good_lifetime=2.0)
    drawn = sample(jax.random.key(0), buffer, count=6000)
    assert np.asarray(drawn.filled).all()
    found = {}
    for target, move, cost in zip(drawn.target[:, 0].tolist(), drawn.move.tolist(), drawn.cost.tolist(), strict=True):  # fmt: skip
        found[target, move, cost] = found.get((target, move, cost), 0) + 1
    expected = {
        (1, 0, 7): 500, (1, 1, 6): 500, (1, 2, 5): 500, (1, 3, 4): 500,  # a game of four moves that cost 7
        (1, 0, 2): 1000, (1, 1, 1): 1000,
        (3, 0, 1): 2000,
    }  # fmt: skip
    assert set(found) == set(expected)
    assert all(abs(found[key] - count) < 6 * np.sqrt(count) for key, count in expected.items())
    # The candidates are those of the very move.
    assert (np.asarray(drawn.candidates)[:, 0, 0] == np.asarray(drawn.move)).all()
    assert (np.asarray(drawn.weights)[:, 0] == np.asarray(drawn.target)[:, 0]).all()


def test_an_empty_buffer_says_that_it_is() -> None:
    drawn = sample(jax.random.key(0), empty(games(1, [1.0], [1]), 4), count=5)
    assert not np.asarray(drawn.filled).any()


def found_at(step: int, batch: int) -> SearchResult:
    return SearchResult(
        action=jnp.full((batch, TOKENS), step),
        tokens=jnp.full((batch, CANDIDATES, TOKENS), step),
        weights=jnp.full((batch, CANDIDATES), float(step)),
        value=jnp.full(batch, -1.0),
    )


def test_games_that_are_over_take_no_more_part() -> None:
    """Lane 0 ends after its second move, lane 1 plays on, lane 2 never starts."""
    residual = jnp.array([[3, -2], [4, 0], [5, 5]], jnp.int8)
    state = State(residual, jnp.zeros(3, bool), jnp.zeros(3, bool))
    played = start(
        state,
        jnp.zeros(3, jnp.int32),
        jnp.arange(3),
        jnp.array([True, True, False]),
        MOVES,
        CANDIDATES,
        TOKENS,
    )
    assert played.state.terminated.tolist() == [False, False, True]
    assert (played.target == residual).all()
    over = [[False, False, True], [True, False, True], [True, False, True], [True, True, True]]
    rewards = [[-1.0, -1.0, 0.0], [-1.0, -1.0, 0.0], [0.0, -1.0, 0.0], [0.0, -3.0, 0.0]]
    live = []
    for number in range(4):
        after = State(residual, jnp.array(over[number]), jnp.array([number >= 1, False, False]))
        played, move = jitted(selfplay.play)(
            played, found_at(number + 1, 3), after, jnp.array(rewards[number])
        )
        live.append(move.live.tolist())
        assert move.residual.tolist() == [5, 4, 10]
    assert live == [[True, True, False], [True, True, False], [False, True, False], [False, True, False]]
    assert played.num_moves.tolist() == [2, 4, 0]
    assert played.cost.tolist() == [2.0, 6.0, 0.0]
    assert played.actions[:, :, 0].tolist() == [[1, 2, 0, 0], [1, 2, 3, 4], [0, 0, 0, 0]]
    assert played.candidates[:, :, 0, 0].tolist() == [[1, 2, 0, 0], [1, 2, 3, 4], [0, 0, 0, 0]]
    assert played.weights[:, :, 0].tolist() == [[1, 2, 0, 0], [1, 2, 3, 4], [0, 0, 0, 0]]


def test_labels_are_drawn_by_their_weights() -> None:
    candidates = jnp.arange(6).reshape(1, 3, 2)
    drawn = jitted(selfplay.sample_labels, 3)(
        jax.random.key(0), candidates, jnp.array([[0.0, 0.25, 0.75]]), 4000
    )
    first, counts = np.unique(np.asarray(drawn)[0, :, 0], return_counts=True)
    assert first.tolist() == [2, 4]
    assert counts[1] / 4000 == pytest.approx(0.75, abs=0.05)


def test_good_games_are_chosen_per_format() -> None:
    """The better half: 3 and 4 of the first kind, 20 of the second; the cheap kind does not outshine the other."""
    played = games(1, [3.0, 4.0, 9.0, 9.0, 20.0, 30.0], [4] * 6)
    played = played._replace(format_id=jnp.array([0, 0, 0, 0, 1, 1]))
    buffer = insert(empty(played, 10), played, good_lifetime=4.0)
    assert costs_of_good_games(buffer, 0.5, 2).tolist() == [4.0, 20.0]
    # A third of the first kind is one game; three quarters would be three, but the two of cost 9 are alike.
    assert costs_of_good_games(buffer, 0.34, 2).tolist() == [3.0, 20.0]
    assert costs_of_good_games(buffer, 0.75, 2).tolist() == [4.0, 20.0]
    assert costs_of_good_games(buffer, 0.01, 2).tolist() == [3.0, 20.0]
    none = sample(jax.random.key(0), buffer, 50, costs_of_good_games(buffer, 0.0, 2))
    assert not none.good.any()
    assert costs_of_good_games(buffer, 1.0, 2).tolist() == [9.0, 30.0]
    positions = sample(jax.random.key(0), buffer, 200, costs_of_good_games(buffer, 0.5, 2))
    costs = np.asarray(positions.cost + positions.move)
    assert {int(cost) for cost in costs} == {3, 4, 9, 20, 30}
    assert ((costs <= 4) | (costs == 20)).tolist() == positions.good.tolist()


def test_a_good_game_of_each_format_is_kept_longer() -> None:
    first = games(1, [3.0] * 10 + [20.0] * 9 + [19.0], [4] * 20)._replace(
        format_id=jnp.array([0] * 10 + [1] * 10)
    )
    buffer = insert(empty(first, 40), first, good_lifetime=4.0)
    for label in (2, 3):
        buffer = insert(buffer, games(label, [9.0] * 20, [4] * 20), good_lifetime=4.0)
    kept = np.asarray(buffer.target[:, 0]) == 1
    assert sorted(np.asarray(buffer.cost)[kept].tolist()) == [3.0, 19.0]


def test_partial_solutions_are_good_ones_of_the_same_format_with_their_moves_in_any_order() -> None:
    """Slots: format 0 solved in 3 and in 4 moves, unsolved, format 1 solved in 2; only the cheapest of a format are good."""
    batch = games(0, [3.0, 4.0, 6.0, 2.0], [3, 4, 4, 2])
    batch = batch._replace(
        format_id=jnp.array([0, 0, 0, 1]),
        target=jnp.arange(4, dtype=jnp.int8)[:, None] * jnp.ones(2, jnp.int8),
        actions=(10 * jnp.arange(4)[:, None, None] + jnp.arange(MOVES)[:, None] + jnp.zeros(TOKENS)).astype(
            jnp.uint16
        ),
    )
    buffer = insert(empty(batch, 8), batch, 4.0)
    kinds = jnp.array([0, 1, 2] * 50)
    drawn = jitted(replay.partial_solutions)(
        jax.random.key(0), buffer, kinds, jnp.int32(2), jnp.array([3.0, 9.0, 9.0])
    )
    assert drawn.found.tolist() == [True, True, False] * 50
    assert drawn.target[0::3].tolist() == [[0, 0]] * 50
    assert drawn.target[1::3].tolist() == [[3, 3]] * 50
    assert drawn.basis[1::3].tolist() == [3] * 50
    assert drawn.prefix_length[0::3].tolist() == [1] * 50
    assert drawn.prefix_length[1::3].tolist() == [0] * 50
    orders = {tuple(row) for row in drawn.actions[0::3, :3, 0].tolist()}
    assert len(orders) == 6
    assert all(sorted(order) == [0, 1, 2] for order in orders)


def test_a_game_placed_in_the_middle_has_made_its_first_moves() -> None:
    residual = jnp.array([[3, -2], [4, 0]], jnp.int8)
    state = State(residual, jnp.zeros(2, bool), jnp.zeros(2, bool))
    fresh = start(
        state, jnp.zeros(2, jnp.int32), jnp.zeros(2, jnp.int32), jnp.ones(2, bool), MOVES, CANDIDATES, TOKENS
    )
    placed = jitted(selfplay.overlay)(
        fresh,
        jnp.array([False, True]),
        state._replace(residual=residual - 1),
        residual + 1,
        jnp.array([7, 7]),
        jnp.full((2, MOVES, TOKENS), 5, jnp.uint16),
        jnp.array([2, 2]),
    )
    assert jax.tree.all(jax.tree.map(lambda new, old: (new[0] == old[0]).all(), placed, fresh))
    assert placed.target[1].tolist() == [5, 1]
    assert placed.state.residual[1].tolist() == [3, -1]
    assert placed.actions[1, :, 0].tolist() == [5, 5, 0, 0]
    assert placed.candidates[1, :, :, 0].tolist() == [[5, 0, 0], [5, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert placed.weights[1].tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert (int(placed.num_moves[1]), float(placed.cost[1]), int(placed.basis[1])) == (2, 2.0, 7)
