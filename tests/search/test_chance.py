"""Search in games of chance, on games whose values are known by hand."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from matrixrl.search.chance import (
    ChanceSearchResult,
    Prediction,
    Transitions,
    num_draws,
    search_with_chance,
)

LANES, SIMULATIONS = 32, 100


class Guess(NamedTuple):
    """A game of two moves. First: open the box (action 0) or take 0.3 and leave (action 1). In the open box, guess a
    coin that falls after the guess (actions 1, 2 pay 1 if right) or take 0.7 (action 3); action 0 is illegal and would
    pay 100.
    """

    stage: Any


def keys_of(seed: int) -> Any:
    return jax.random.split(jax.random.key(seed), LANES)


def step(keys: Any, states: Guess, actions: Any) -> Transitions:
    coin = jax.vmap(jax.random.bernoulli)(keys).astype(jnp.int32)
    opened = jnp.where(actions == 0, 0.0, jnp.where(actions == 1, 0.3, 0.0))
    guessed = jnp.array([100.0, 0.0, 0.0, 0.7])[actions] + ((actions == coin + 1) & (actions != 3))
    reward = jnp.where(states.stage == 0, opened, guessed)
    over = (states.stage == 1) | (actions != 0)
    return Transitions(Guess(states.stage + 1), reward, over)


def predict(value: Any, states: Guess) -> Prediction:
    legal = jnp.where(
        (states.stage == 0)[:, None],
        jnp.array([True, True, False, False]),
        jnp.array([False, True, True, True]),
    )
    # The policy likes best what is illegal in the box.
    logits = jnp.broadcast_to(jnp.array([3.0, 0.0, 0.0, 0.0]), (LANES, 4))
    return Prediction(logits, legal, jnp.full(LANES, value))


@partial(jax.jit, static_argnames="max_draws")
def _search(
    keys: Any, stage: Any, value: Any, discount: Any, exploration: Any, max_draws: int
) -> ChanceSearchResult:
    return search_with_chance(
        value, keys, Guess(jnp.broadcast_to(stage, LANES)), predict=predict, step=step,
        num_simulations=SIMULATIONS, discount=discount, exploration=exploration, max_draws=max_draws,
    )  # fmt: skip


def run(
    keys: Any, stage: int, *, value: float = 0.0, max_draws: int = 64, discount: float = 1.0,
    exploration: float = 0.0,
) -> ChanceSearchResult:  # fmt: skip
    """Passes every argument: `jax.jit` compiles another program where one is left to its default."""
    return _search(keys, jnp.int32(stage), value, discount, exploration, max_draws)


@pytest.fixture(scope="module")
def in_the_box() -> ChanceSearchResult:
    return run(keys_of(0), 1)


def test_chance_is_averaged_and_not_foreseen(in_the_box: ChanceSearchResult) -> None:
    """A search that knew the coin, or trusted one lucky draw of it, would guess: 1 is more than 0.7."""
    assert float((in_the_box.action == 3).mean()) > 0.7
    one_draw = run(keys_of(0), 1, max_draws=1)
    assert float((one_draw.action == 3).mean()) < 0.5


def test_the_choice_says_nothing_about_the_coin_that_falls(in_the_box: ChanceSearchResult) -> None:
    """Played with the keys of the game, guesses that the search prefers are right half of the time."""
    actions = jnp.where(in_the_box.weights[:, 1] > in_the_box.weights[:, 2], 1, 2)
    right = [
        float(step(keys_of(100 + seed), Guess(jnp.ones(LANES)), actions).reward.mean()) for seed in range(16)
    ]
    assert np.mean(right) == pytest.approx(0.5, abs=0.1)  # 512 coins: four standard deviations are 0.09


def test_illegal_actions_are_never_visited_at_the_root_or_below(in_the_box: ChanceSearchResult) -> None:
    assert (np.asarray(in_the_box.visits)[:, 0] == 0).all()
    assert (np.asarray(in_the_box.weights)[:, 0] == 0).all()
    assert np.asarray(in_the_box.weights.sum(-1)) == pytest.approx(1, abs=1e-5)
    # From the first move: a visit of the illegal action in the box would lift the value to 100.
    found = run(keys_of(1), 0)
    assert float(found.value.max()) <= 1.0
    assert (np.asarray(found.visits)[:, 2:] == 0).all()


def test_a_game_that_is_over_is_worth_nothing_whatever_the_network_says() -> None:
    found = run(keys_of(2), 1, value=50.0)
    # The root's own estimate counts once among all visits; the rest is at most 1.
    assert float(found.value.max()) < 50.0 / (SIMULATIONS + 1) + 1


def test_the_best_plan_is_found_two_moves_deep_and_the_discount_counts() -> None:
    assert (np.asarray(run(keys_of(3), 0).action) == 0).all()  # 0.7 later is more than 0.3 now
    assert (np.asarray(run(keys_of(3), 0, discount=0.2).action) == 1).all()


def test_a_lane_depends_on_its_own_key_alone(in_the_box: ChanceSearchResult) -> None:
    keys = keys_of(0)
    mixed = jnp.concatenate([keys[:4], keys_of(7)[4:]])
    found = run(mixed, 1)
    for name in ("action", "weights", "value", "visits"):
        ours, theirs = np.asarray(getattr(found, name)), np.asarray(getattr(in_the_box, name))
        np.testing.assert_array_equal(ours[:4], theirs[:4])
    assert not np.array_equal(np.asarray(found.visits)[4:], np.asarray(in_the_box.visits)[4:])


def test_exploration_changes_what_is_played() -> None:
    calm, noisy = run(keys_of(4), 0), run(keys_of(4), 0, exploration=50.0)
    assert (np.asarray(calm.action) == 0).all()
    assert 0.2 < float((noisy.action == 1).mean()) < 0.8
    assert (np.asarray(noisy.action) < 2).all()


def test_the_number_of_draws_grows_with_the_root_of_the_simulations() -> None:
    assert [num_draws(count) for count in (1, 2, 4, 5, 16, 17, 64, 1000)] == [1, 2, 2, 3, 4, 5, 8, 8]
