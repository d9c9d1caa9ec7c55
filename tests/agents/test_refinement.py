"""Refined solutions keep their sum, get no longer, and change as the policy says. The toy game: add up to a number."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from matrixrl import presets
from matrixrl.agents.refinement import RefinementTotals, refine, shuffled
from matrixrl.systems.matmul.program import MatmulProgram
from tests.jitted import jitted

# An action [1] is a number; a solution is numbers that add up to what is asked for.
MOVES = jnp.array([[5, 1, 2, 0, 0], [3, -3, 4, 1, 0], [7, 0, 0, 0, 0], [0, 0, 0, 0, 0]])[..., None]
NUM_MOVES = jnp.array([3, 4, 1, 0])


def total(actions: Array, taken: Array) -> Array:
    return jnp.where(taken[..., None], actions, 0).sum(1)


@functools.cache
def compiled_round(draw: Any, max_terms: int) -> Any:
    return jax.jit(
        lambda key, moves, num_moves, terms: refine(
            key,
            moves,
            num_moves,
            terms,
            max_terms,
            total=total,
            draw=draw,
            subtract=lambda residual, action: residual - action,
        )
    )


def one_round(
    key: int, terms: int, draw: object, max_terms: int = 4
) -> tuple[np.ndarray, np.ndarray, RefinementTotals]:
    round_of = compiled_round(draw, max_terms)
    actions, num_moves, outcome = round_of(jax.random.key(key), MOVES, NUM_MOVES, jnp.int32(terms))
    return np.asarray(actions[..., 0]), np.asarray(num_moves), outcome


def sums(actions: np.ndarray, num_moves: np.ndarray) -> list[int]:
    return [int(row[:count].sum()) for row, count in zip(actions, num_moves, strict=True)]


def test_what_one_move_can_do_is_one_move() -> None:
    actions, num_moves, outcome = one_round(0, 3, lambda key, residual: residual)
    # The second has four: three become one, or none where they add up to zero already.
    assert num_moves[0] == 1
    assert num_moves[1] in (1, 2)
    assert num_moves[2:].tolist() == [1, 0]
    assert sums(actions, num_moves) == [8, 5, 7, 0]
    assert int(outcome.tried) == 3
    assert int(outcome.solved) == 3
    assert int(outcome.saved) == int((NUM_MOVES - num_moves).sum())


def test_moves_that_cancel_go_without_a_draw() -> None:
    """All four of the second solution but its 4 and 1 cancel; a policy of no use solves only what is zero already."""
    saved = set()

    def nothing(key: Array, residual: Array) -> Array:
        del key
        return 0 * residual

    for key in range(40):
        actions, num_moves, _ = one_round(key, 2, nothing)
        assert sums(actions, num_moves) == [8, 5, 7, 0]
        saved.add(int(NUM_MOVES[1] - num_moves[1]))
    assert saved == {0, 2}


def test_a_policy_that_does_not_get_there_changes_nothing() -> None:
    actions, num_moves, outcome = one_round(1, 3, lambda key, residual: residual * 0 + 100)
    assert num_moves.tolist() == NUM_MOVES.tolist()
    for row, old in zip(actions, np.asarray(MOVES[..., 0]), strict=True):
        assert sorted(row) == sorted(old)
    assert [int(value) for value in outcome] == [3, 0, 0, 0]


def test_as_many_other_moves_are_welcome_and_the_same_ones_are_no_change() -> None:
    """Two moves for two: half, rounded down, then the rest."""

    def halves(key: Array, residual: Array) -> Array:
        del key
        return jnp.where(residual == 8, 3, jnp.where(residual == 5, 5, residual))

    # 5 + 1 + 2 = 8 is taken apart as 3 + 5.
    actions, num_moves, outcome = one_round(2, 3, halves)
    assert num_moves[0] == 2
    assert sorted(actions[0, :2]) == [3, 5]
    assert int(outcome.changed) >= 1
    again, num_moves, outcome = one_round(2, 1, lambda key, residual: residual)
    assert int(outcome.changed) == 0
    for row, old, count in zip(again, np.asarray(MOVES[..., 0]), num_moves, strict=True):
        assert sorted(row[:count]) == sorted(old[:count])


def test_shuffling_keeps_what_counts_in_front() -> None:
    orders = set()
    for key in range(60):
        rows = np.asarray(jitted(shuffled)(jax.random.key(key), MOVES, NUM_MOVES)[..., 0])
        assert sorted(rows[0, :3]) == [1, 2, 5]
        assert rows[0, 3:].tolist() == [0, 0]
        orders.add(tuple(rows[0, :3].tolist()))
    assert len(orders) == 6


@pytest.mark.slow
@pytest.mark.parametrize("ring", ["F2", "Z"])
def test_refined_solutions_still_sum_to_their_targets(ring: str) -> None:
    """Games of a 2x1x2 product, solved by hand in any basis, refined by an untrained policy."""
    preset = presets.matmul("dev")
    config = dataclasses.replace(
        preset,
        game=dataclasses.replace(preset.game, size=(2, 1, 2), ring=ring),
        network=dataclasses.replace(preset.network, width=8, num_blocks=0),
        search=dataclasses.replace(preset.search, num_simulations=4, num_candidates=4),
        selfplay=dataclasses.replace(
            preset.selfplay, parallel_games=16, episodes_per_epoch=16, replay_size=32
        ),
    )
    program = MatmulProgram(config)
    key = jax.random.key(1)
    state = program.init(key)
    assert not program.start_refinement(key, state.replay).active.any()
    games = program.start_games(key, program.move_limits, jnp.int32(16), jnp.float32(1))
    for number in range(config.game.moves):
        games, _ = program.play_move(state.params, games, jax.random.fold_in(key, number), jnp.float32(1))
    solved = np.asarray(games.state.solved & games.active)
    assert solved.any()
    buffer = program.keep(state.replay, games)
    taken = program.start_refinement(key, buffer)
    assert taken.active.any()
    refined, outcome, lengths = program.refine(state.params, taken, key, jnp.int32(30))
    assert int(outcome.tried) == 30 * int(taken.active.sum())
    assert float(outcome.solved) > 0
    assert (refined.num_moves <= taken.num_moves).all()
    assert (refined.num_moves == lengths).all()
    assert (refined.cost == refined.num_moves).all()
    kept = jnp.arange(refined.actions.shape[1]) < refined.num_moves[:, None]
    residual_of = jax.jit(jax.vmap(program._residual))
    left = residual_of(refined.target, refined.actions.astype(jnp.int32), kept)
    assert not left[np.asarray(refined.active)].any()
    assert (refined.weights.sum(-1) == kept).all()
    # Games from partial solutions: the residual is the target minus the applied moves.
    middle = program.start_partial_games(key, buffer, program.move_limits, jnp.int32(12), jnp.float32(1))
    made = jnp.arange(middle.actions.shape[1]) < middle.num_moves[:, None]
    left = residual_of(middle.target, middle.actions.astype(jnp.int32), made)
    assert (left == middle.state.residual).all()
    assert not middle.active[12:].any()
