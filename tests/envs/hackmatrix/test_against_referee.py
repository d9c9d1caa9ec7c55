"""The arrays play exactly the game of the referee: random games and wild positions, the same draws on both sides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from matrixrl.envs.hackmatrix import referee
from matrixrl.envs.hackmatrix.convert import from_game_state, to_game_state
from matrixrl.envs.hackmatrix.referee import GameState
from tests.envs.hackmatrix.keyed import comparable, differences
from tests.envs.hackmatrix.lanes import check_one_step, masks, observation_differences, play_games
from tests.envs.hackmatrix.strategies import game_states

SEEDS = st.integers(0, 2**32 - 1)
WILD = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


def every_action(game: GameState, seed: int) -> tuple[list[GameState], list[int], np.ndarray]:
    """The position 28 times, with every action and as many keys."""
    keys = np.random.default_rng(seed).integers(0, 2**32, (28, 2), dtype=np.uint32)
    return [game] * 28, list(range(28)), keys


@pytest.mark.slow
def test_legal_random_games_agree_in_every_field() -> None:
    counts = play_games(seed=1, num_steps=12, boosted=0.0)
    assert counts["up"]
    assert counts["siphon"]


def test_boosted_games_agree_in_every_field() -> None:
    counts = play_games(seed=2, num_steps=16, boosted=0.08)
    assert sum(count > 0 for count in counts.values()) >= 24


@settings(WILD, max_examples=15)
@given(game_states(), SEEDS)
def test_every_action_from_a_wild_position_agrees(game: GameState, seed: int) -> None:
    check_one_step(*every_action(game, seed))


@settings(WILD, max_examples=20)
@given(game_states())
def test_mask_of_a_wild_position_agrees(game: GameState) -> None:
    assert masks([game])[0].tolist() == referee.legal_action_mask(game).tolist()


@settings(WILD, max_examples=40)
@given(game_states())
def test_conversion_returns_the_same_game(game: GameState) -> None:
    assert not differences(comparable(to_game_state(from_game_state(game))), comparable(game))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(100, 116))
def test_many_legal_random_games_agree(seed: int) -> None:
    play_games(seed=seed, num_steps=60, boosted=0.0)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(200, 216))
def test_many_boosted_games_agree(seed: int) -> None:
    counts = play_games(seed=seed, num_steps=60, boosted=0.05)
    assert min(counts.values()) > 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(WILD, max_examples=400)
@given(game_states(max_history=3), SEEDS)
def test_every_action_from_many_wild_positions_agrees(game: GameState, seed: int) -> None:
    for step in check_one_step(*every_action(game, seed)):
        assert not observation_differences(step.observation, step.state)
