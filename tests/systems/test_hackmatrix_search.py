"""The player that searches: the real game as the model, without its chance."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from matrixrl.config import ActorCriticConfig, HackmatrixConfig
from matrixrl.envs.hackmatrix.env import HackMatrix
from matrixrl.envs.hackmatrix.observation import PACKED_WORDS
from matrixrl.search.chance import ChanceSearchResult
from matrixrl.systems.hackmatrix import search as search_module
from matrixrl.systems.hackmatrix.evaluation import (
    LANES,
    FinishedGames,
    NetworkPolicy,
    evaluate,
    game_key,
    step_keys,
    step_lanes,
)
from matrixrl.systems.hackmatrix.game import AgentGame
from matrixrl.systems.hackmatrix.search import (
    GROUP,
    MAX_LANES,
    MAX_TREE_BYTES,
    SearchPlayer,
    _lane_keys,
    bytes_per_node,
    evaluate_search,
    lanes_of,
    recent_history,
)
from matrixrl.systems.hackmatrix.task import build_network
from tests.systems.test_hackmatrix_evaluation import expect_end

LIMIT, SIMULATIONS = 8, 4


def test_memory_is_bounded_for_any_number_of_simulations() -> None:
    assert 1_000 < bytes_per_node(64) < 8_192
    assert lanes_of(64) == MAX_LANES
    for simulations in (1, 64, 400, 1_000, 4_000, 10_000):
        lanes = lanes_of(simulations)
        assert lanes & (lanes - 1) == 0
        assert lanes * (simulations + 1) * bytes_per_node(simulations) <= MAX_TREE_BYTES
    assert lanes_of(4_000) < MAX_LANES


def test_a_node_keeps_the_newest_snapshots_in_order() -> None:
    shapes: Any = jax.eval_shape(lambda: HackMatrix(undo_depth=5).reset(jax.random.key(0))[1])
    state = jax.tree.map(lambda leaf: jnp.zeros((3, *leaf.shape), leaf.dtype), shapes)
    words = state.history.words + jnp.arange(5, dtype=jnp.uint32)[None, :, None]
    # The newest snapshot is in slot next - 1.
    history = state.history._replace(words=words, next=jnp.array([1, 4, 0]), size=jnp.array([5, 1, 0]))
    kept = recent_history(state._replace(history=history)).history
    assert kept.words[:, :, 0].tolist() == [[4, 0], [2, 3], [3, 4]]
    assert kept.size.tolist() == [2, 1, 0]
    assert kept.next.tolist() == [0, 0, 0]  # slot 1 is the newest: next - 1 modulo 2


@pytest.fixture(scope="module")
def player() -> SearchPlayer:
    network = build_network(HackmatrixConfig(network=ActorCriticConfig(hidden_dim=8, num_layers=1)))
    params = network.init(jax.random.key(1), jnp.zeros((1, PACKED_WORDS), jnp.uint32))
    return SearchPlayer(network, params, SIMULATIONS, jnp.float32(0.99), jnp.float32(0.1))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_games_by_search_go_as_on_the_referee(player: SearchPlayer) -> None:
    games = evaluate_search(player, 2, seed=3, time_limit=LIMIT, lanes=1)
    for number in range(games.count):
        game = AgentGame(_policy(player), seed=3, game=number, search=player)
        while not game.over and len(game.positions) <= LIMIT:
            assert sum(game.positions[-1].thoughts.probabilities) == pytest.approx(1, abs=1e-4)
            game.play()
        expect_end(games, number, game)


@partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["num_simulations"])
@dataclass(frozen=True)
class FirstLegal:
    """Plays the first legal action."""

    num_simulations: int = 1

    def __call__(self, keys: Any, states: Any) -> ChanceSearchResult:
        legal = HackMatrix(packed=True).legal_action_mask_batch(states)
        action = jnp.argmax(legal, axis=-1).astype(jnp.int32)
        weights = jax.nn.one_hot(action, 28)
        return ChanceSearchResult(
            action, weights, jnp.zeros(action.shape), jnp.zeros(weights.shape, jnp.int32)
        )


COUNT, STEPS = LANES + 4, 9


@pytest.fixture(scope="module")
def first_legal_games() -> FinishedGames:
    return evaluate(
        lambda observations, legal: -jnp.cumsum(legal, -1) * 1.0, COUNT, 7, greedy=True, time_limit=STEPS
    )


def expect_same_games(ours: FinishedGames, theirs: FinishedGames) -> None:
    for name in ("returns", "highest_stages", "scores", "steps", "outcomes"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), err_msg=name)


def test_lanes_are_refilled_and_games_are_those_of_the_other_evaluation(
    first_legal_games: FinishedGames,
) -> None:
    """The same boards and the same chance: a player that needs no search plays the same games."""
    heard: list[tuple[int, int]] = []
    player: Any = FirstLegal()
    ours = evaluate_search(
        player,
        COUNT,
        seed=7,
        time_limit=STEPS,
        lanes=LANES,
        group=LANES,
        progress=lambda *numbers: heard.append(numbers),
    )
    expect_same_games(ours, first_legal_games)
    assert heard[-1] == (COUNT, COUNT)
    assert heard == sorted(heard)


def test_games_move_into_fewer_groups_and_stay_the_same(
    first_legal_games: FinishedGames, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    act, compiled = search_module._act, step_lanes._cache_size()  # pyright: ignore

    def counted(player: Any, games: Any, seed_key: Any, numbers: Any, steps: Any) -> Any:
        sizes.append(len(numbers))
        return act(player, games, seed_key, numbers, steps)

    monkeypatch.setattr(search_module, "_act", counted)
    player: Any = FirstLegal()
    ours = evaluate_search(player, COUNT, seed=7, time_limit=STEPS, lanes=2 * LANES, group=LANES)
    expect_same_games(ours, first_legal_games)
    # As many groups as the games that are not over fill.
    alive = [int((first_legal_games.steps >= step).sum()) for step in range(1, STEPS + 1)]
    assert sizes == [LANES] * sum(-(-count // LANES) for count in alive)
    assert len(sizes) < 2 * STEPS
    assert step_lanes._cache_size() == compiled  # pyright: ignore  the program of the other evaluation


@partial(jax.tree_util.register_dataclass, data_fields=["policy"], meta_fields=["num_simulations"])
@dataclass(frozen=True)
class ByNetwork:
    """Plays the action that a network prefers."""

    policy: NetworkPolicy
    num_simulations: int = 1

    def __call__(self, keys: Any, states: Any) -> ChanceSearchResult:
        model = HackMatrix(packed=True)
        legal = model.legal_action_mask_batch(states)
        logits = self.policy(jax.vmap(model.observation)(states), legal)
        action = jnp.argmax(jnp.where(legal, logits, -jnp.inf), axis=-1).astype(jnp.int32)
        return ChanceSearchResult(action, logits, jnp.zeros(action.shape), jnp.zeros(logits.shape, jnp.int32))


def test_a_game_does_not_depend_on_the_others_nor_on_its_lane(player: SearchPlayer) -> None:
    """Floats too round alike: games that are packed, refilled, or alone."""
    by_network: Any = ByNetwork(_policy(player))
    play = partial(evaluate_search, by_network, seed=7, time_limit=STEPS, group=LANES)
    packed, refilled, few = play(COUNT, lanes=2 * LANES), play(COUNT, lanes=LANES), play(20, lanes=LANES)
    expect_same_games(packed, refilled)
    for name in ("returns", "highest_stages", "scores", "steps", "outcomes"):
        np.testing.assert_array_equal(getattr(packed, name)[:20], getattr(few, name), err_msg=name)
    assert len(set(packed.returns)) > 10


def test_few_games_take_few_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU; the default number of lanes at once depends on the memory."""
    begun: list[int] = []

    def begin(seed_key: Any, numbers: np.ndarray, *_: Any) -> Any:
        begun.append(len(numbers))
        raise InterruptedError

    monkeypatch.setattr(search_module, "_begun", begin)
    for games, expected in ((1, GROUP), (MAX_LANES + 1, GROUP)):
        with pytest.raises(InterruptedError):
            evaluate_search(FirstLegal(), games)  # pyright: ignore
        assert begun.pop() == expected


def test_the_search_gets_no_key_of_the_game() -> None:
    """Its keys are the first half of a split, those of the game the other; states hold none."""
    numbers = jnp.arange(3, dtype=jnp.int32)
    given, environment = _lane_keys(jax.random.key(7), numbers, jnp.full(3, 4, jnp.int32))
    for number in range(3):
        choice, chance = step_keys(game_key(jax.random.key(7), number), 4)
        assert given[number] == choice
        assert environment[number] == chance  # that of `evaluate`, whatever plays
        assert choice != chance
    shapes: Any = jax.eval_shape(lambda: HackMatrix().reset(jax.random.key(0))[1])
    assert not [leaf for leaf in jax.tree.leaves(shapes) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)]
    assert "key" not in shapes._fields


def _policy(player: SearchPlayer) -> Any:
    return NetworkPolicy(player.network, player.params)


def test_more_parameters_do_not_compile_again(player: SearchPlayer) -> None:
    other = dataclasses.replace(player, params=jax.tree.map(lambda leaf: 2 * leaf, player.params))
    assert jax.tree.structure(player) == jax.tree.structure(other)
    assert jax.tree.structure(player) != jax.tree.structure(dataclasses.replace(player, num_simulations=7))
