"""Evaluation of HackMatrix agents: every game to its end, the same as on the referee, and honest intervals."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from matrixrl.config import ActorCriticConfig, ConfigError, HackmatrixConfig
from matrixrl.envs.hackmatrix.convert import _OUTCOMES
from matrixrl.envs.hackmatrix.observation import PACKED_WORDS
from matrixrl.envs.hackmatrix.referee import GameState
from matrixrl.envs.hackmatrix.rules import Outcome
from matrixrl.systems.hackmatrix import evaluation as hackmatrix_evaluate
from matrixrl.systems.hackmatrix.evaluation import (
    LANES,
    FinishedGames,
    NetworkPolicy,
    evaluate,
    mean_interval,
    uniform_policy,
    wilson_interval,
)
from matrixrl.systems.hackmatrix.game import AgentGame
from matrixrl.systems.hackmatrix.task import build_network

LIMIT = 60


@pytest.fixture(scope="module")
def policy() -> NetworkPolicy:
    network = build_network(HackmatrixConfig(network=ActorCriticConfig(hidden_dim=8, num_layers=1)))
    params = network.init(jax.random.key(1), jnp.zeros((1, PACKED_WORDS), jnp.uint32))
    params = jax.tree.map(lambda leaf: 20 * leaf if leaf.shape[-1:] == (29,) else leaf, params)
    return NetworkPolicy(network, params)


def same(ours: FinishedGames, theirs: FinishedGames, count: int | None = None) -> bool:
    """Whether the first games of two evaluations are the same, bit for bit."""
    names = ("returns", "highest_stages", "scores", "steps", "outcomes")
    return all(np.array_equal(getattr(ours, name)[:count], getattr(theirs, name)[:count]) for name in names)


def expect_end(games: FinishedGames, number: int, game: AgentGame) -> GameState:
    """Compares the results of a game with the end that the referee reached, and returns that position."""
    end = game.positions[-1].state
    found = (games.highest_stages, games.scores, games.steps, games.outcomes)
    assert [int(values[number]) for values in found] == [
        end.stage,
        end.player.score,
        end.episode.steps,
        _OUTCOMES[end.episode.outcome],
    ]
    return end


def expect_as_on_referee(games: FinishedGames, number: int, policy: NetworkPolicy) -> None:
    game = AgentGame(policy, seed=games.seed, game=number, greedy=games.greedy)
    while not game.over and len(game.positions) <= games.time_limit:
        game.play()
    end = expect_end(games, number, game)
    assert games.returns[number] == pytest.approx(end.episode.return_, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(
    ("greedy", "limit"), [pytest.param(True, LIMIT, marks=pytest.mark.slow), (False, LIMIT // 2)]
)
def test_games_go_as_on_the_referee(policy: NetworkPolicy, greedy: bool, limit: int) -> None:
    before = num_programs()
    games = evaluate(policy, 5, seed=7, greedy=greedy, time_limit=limit)
    for number in range(games.count):
        expect_as_on_referee(games, number, policy)
    # Compiling the environment is most of what a small evaluation costs.
    assert num_programs() <= max(before, 1)


def num_programs() -> int:
    """Returns how many programs of a step this process has compiled."""
    return getattr(hackmatrix_evaluate.step_lanes, "_cache_size")()  # noqa: B009


@pytest.mark.slow
def test_a_game_is_the_same_however_many_are_played(policy: NetworkPolicy) -> None:
    told: list[tuple[int, int]] = []
    many = evaluate(
        policy, LANES + 3, seed=7, time_limit=LIMIT, progress=lambda ended, games: told.append((ended, games))
    )
    few = evaluate(policy, 5, seed=7, time_limit=LIMIT)
    assert many.count == LANES + 3
    assert same(few, many, 5)
    assert not same(few, evaluate(policy, 5, seed=8, time_limit=LIMIT))
    expect_as_on_referee(many, LANES + 2, policy)
    assert told == sorted(told)
    assert told[-1] == (LANES + 3, LANES + 3)


def test_a_game_that_does_not_end_counts_and_is_said_to_be_cut_off(policy: NetworkPolicy) -> None:
    games = evaluate(policy, 20, time_limit=3)
    assert set(games.steps) == {3}
    assert games.outcome_count(Outcome.PLAYING) == 20
    assert games.as_record()["truncated"] == 20


@pytest.mark.slow
def test_random_play_is_decided_by_the_seed() -> None:
    first, again, other = (evaluate(uniform_policy, 6, seed=seed, time_limit=LIMIT) for seed in (1, 1, 2))
    assert same(first, again)
    assert not same(first, other)


@pytest.mark.slow
def test_a_policy_is_any_function_of_packed_observations_and_legal_actions() -> None:
    def upwards(strength: float, observations: jax.Array, legal: jax.Array) -> jax.Array:
        assert observations.shape == (LANES, PACKED_WORDS)
        return jnp.where(jnp.arange(28) == 0, strength, jnp.zeros(legal.shape))

    closed = evaluate(lambda observations, legal: upwards(2.0, observations, legal), 6, time_limit=LIMIT)
    leaves = evaluate(jax.tree_util.Partial(upwards, 2.0), 6, time_limit=LIMIT)
    assert same(closed, leaves)


def test_the_example_of_the_docs_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "hackmatrix_training.md"
    (block,) = re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)
    exec(block, {})
    assert "'win_rate'" in capsys.readouterr().out


@pytest.mark.parametrize("numbers", [{"games": 0}, {"seed": -1}, {"time_limit": 0}, {"lanes": 0}])
def test_impossible_numbers_are_refused(numbers: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(numbers))} "):
        evaluate(uniform_policy, **{"games": 1, **numbers})  # pyright: ignore[reportArgumentType]


def test_the_interval_of_a_mean_by_hand() -> None:
    interval = mean_interval(np.array([1.0, 2.0, 3.0, 4.0]))  # s = 1.290994, s / sqrt(4) = 0.645497
    assert (interval.mean, interval.low, interval.high) == pytest.approx((2.5, 1.234826, 3.765174), abs=1e-6)
    alone = mean_interval(np.array([7.0]))
    assert alone.mean == 7
    assert math.isnan(alone.low)
    assert alone.as_record() == {"mean": 7.0, "ci95": None}


@pytest.mark.parametrize(
    ("won", "games", "low", "high"),
    [(0, 10, 0.0, 0.277540), (10, 10, 0.722460, 1.0), (5, 10, 0.236593, 0.763407), (1, 1, 0.206543, 1.0)],
)
def test_the_interval_of_a_share_is_wilsons(won: int, games: int, low: float, high: float) -> None:
    interval = wilson_interval(won, games)
    assert (interval.mean, interval.low, interval.high) == pytest.approx((won / games, low, high), abs=2e-5)


def test_what_games_come_to_by_hand() -> None:
    games = FinishedGames(
        seed=0,
        greedy=True,
        time_limit=9,
        returns=np.array([1.0, 3.0]),
        highest_stages=np.array([1, 8]),
        scores=np.array([0, 4]),
        steps=np.array([9, 5]),
        outcomes=np.array([Outcome.PLAYING, Outcome.WON]),
        seconds=1.0,
    )
    record = games.as_record()
    assert record["return"]["mean"] == 2
    assert record["return"]["ci95"] == pytest.approx([2 - 1.96, 2 + 1.96])  # s = sqrt(2), n = 2
    assert record["highest_stage_counts"] == {**{str(stage): 0 for stage in range(2, 8)}, "1": 1, "8": 1}
    assert (record["won"], record["died"], record["truncated"], record["stuck"]) == (1, 0, 1, 0)
    assert (record["best_stage"], record["best_game"], record["win_rate"]["mean"]) == (8, 1, 0.5)
    assert dataclasses.replace(games, returns=np.array([3.0, 1.0])).best_game == 0


@pytest.mark.slow
def test_batches_of_another_size_play_the_same_games(policy: NetworkPolicy) -> None:
    assert same(
        evaluate(policy, 10, seed=7, time_limit=LIMIT, lanes=4),
        evaluate(policy, 10, seed=7, time_limit=LIMIT),
    )
