"""What the environment promises beyond the rules: batches, automatic reset, time limit, interfaces."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from matrixrl.config import ConfigError
from matrixrl.envs.hackmatrix import observation, referee
from matrixrl.envs.hackmatrix.batch import block_size
from matrixrl.envs.hackmatrix.convert import from_game_state
from matrixrl.envs.hackmatrix.draws import Stream
from matrixrl.envs.hackmatrix.env import HackMatrix, random_legal_action
from matrixrl.envs.hackmatrix.keyed_draws import KeyedDraws
from matrixrl.envs.hackmatrix.rules import Outcome
from matrixrl.envs.hackmatrix.state import bytes_per_state
from tests.envs.hackmatrix.boards import data, enemy, game, transmission
from tests.envs.hackmatrix.keyed import comparable, differences
from tests.envs.hackmatrix.lanes import (
    ENV,
    LANES,
    QUICKLY,
    compiled,
    stack,
    step_and_reset,
    step_lanes,
    unstack,
)


def keys(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**32, (count, 2), dtype=np.uint32)


def played(count: int, steps: int, seed: int) -> tuple[Any, Any]:
    """Observations and states of `count` games, `steps` random legal steps in, played in batches of `LANES`."""
    parts = []
    for start in range(0, count, LANES):
        chosen = slice(start, start + LANES)
        observations, states = compiled("reset")(keys(seed, count)[chosen])
        for step in range(steps):
            mask = compiled("legal_action_mask")(states)
            action = random_legal_action(jax.random.key(1000 * start + step), mask)
            observations, states, *_ = step_and_reset(keys(seed + step + 1, count)[chosen], states, action)
        parts.append((observations, states))
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)


def assert_same(ours: Any, theirs: Any) -> None:
    """Bit for bit, but for history words beyond its size, which no one reads."""
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def positions(total: int) -> tuple[np.ndarray, Any, jax.Array]:
    """Keys, states six steps into their games, and legal actions."""
    _, states = played(total, 6, seed=5)
    masks = []
    for start in range(0, total, LANES):
        chosen = jax.tree.map(lambda leaf, at=start: leaf[at : at + LANES], states)
        masks.append(compiled("legal_action_mask")(chosen))
    return keys(77, total), states, random_legal_action(jax.random.key(9), jnp.concatenate(masks))


def lanes_of(tree: Any, start: int, count: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[start : start + count], tree)


@pytest.mark.slow
def test_a_batch_in_blocks_equals_small_batches_bit_for_bit() -> None:
    total = 6 * LANES
    assert LANES < block_size(total) < total
    inputs = positions(total)
    whole = jax.jit(jax.vmap(ENV.step), compiler_options=QUICKLY)(*inputs)
    for start in range(0, total, LANES):
        assert_same(step_and_reset(*lanes_of(inputs, start, LANES)), lanes_of(whole, start, LANES))


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 4, 32])
def test_tiny_batches_equal_a_larger_one_bit_for_bit(count: int) -> None:
    inputs = positions(LANES)
    whole = step_and_reset(*inputs)
    step = jax.jit(jax.vmap(ENV.step))
    for start in range(0, LANES, count):
        assert_same(step(*lanes_of(inputs, start, count)), lanes_of(whole, start, count))


@pytest.mark.slow
def test_a_single_step_without_vmap_equals_a_lane() -> None:
    inputs = positions(LANES)
    whole = step_and_reset(*inputs)
    single = jax.jit(ENV.step)
    for lane in range(3):
        one, expected = (jax.tree.map(lambda leaf, i=lane: leaf[i], tree) for tree in (inputs, whole))
        assert_same(single(*one), expected)


def test_a_state_is_at_most_eight_kilobytes() -> None:
    state = from_game_state(game())
    assert state.history.words.shape[0] == 8
    assert bytes_per_state(state) <= 8192


def test_no_value_of_a_new_game_is_weakly_typed_so_a_jitted_step_compiles_once() -> None:
    _, state = jax.eval_shape(ENV.reset, jax.random.key(0))
    weak = [path for path, leaf in jax.tree_util.tree_leaves_with_path(state) if leaf.weak_type]
    assert weak == []


def test_an_ended_episode_starts_anew_and_keeps_its_last_observation() -> None:
    dying = game((2, 2), hp=1, energy=1, own=["wait"], enemies=[enemy("daemon", 2, 3)])
    living = game((2, 2), energy=1, own=["wait"])
    wait = referee.ACTION_NAMES.index("wait")
    use = keys(3, LANES)
    states = stack([dying, living])
    outputs = step_and_reset(use, states, np.full(LANES, wait, np.int32))
    observations, after, reward, terminated, truncated, info = jax.device_get(outputs)
    without_reset = step_lanes([dying, living], [wait, wait], use[:2])
    assert terminated[:2].tolist() == [True, False]
    assert not truncated.any()
    assert Outcome(info["outcome"][0]) is Outcome.DIED
    for lane in range(2):
        assert reward[lane] == without_reset[lane].reward
        np.testing.assert_array_equal(info["final_observation"][lane], without_reset[lane].observation)
    new, same = unstack(after, 2)
    draws = KeyedDraws(use[0]).reset()
    assert not differences(comparable(new), comparable(referee.new_game(draws)))
    assert not differences(comparable(same), comparable(without_reset[1].state))
    reset_keys = np.tile(np.array(KeyedDraws(use[0]).words(Stream.RESET, 0), np.uint32), (LANES, 1))
    np.testing.assert_array_equal(observations[0], compiled("reset")(reset_keys)[0][0])
    np.testing.assert_array_equal(observations[1], info["final_observation"][1])


def test_the_time_limit_truncates_and_is_no_termination() -> None:
    long_ago = game((2, 2), energy=9, own=["wait"])
    long_ago.episode.steps = 2
    recent = game((2, 2), energy=9, own=["wait"])
    dying = game((2, 2), hp=1, energy=1, own=["wait"], enemies=[enemy("daemon", 2, 3)])
    dying.episode.steps = 2
    wait = np.full(LANES, referee.ACTION_NAMES.index("wait"), np.int32)
    _, after, _, terminated, truncated, info = step_and_reset(
        keys(4, LANES), stack([long_ago, recent, dying]), wait, limit=3
    )
    assert truncated[:3].tolist() == [True, False, False]
    assert terminated[:3].tolist() == [False, False, True]
    assert info["episode_length"][:3].tolist() == [3, 1, 3]
    assert after.time[:3].tolist() == [0, 1, 0]


def test_a_number_beyond_the_actions_is_refused_outside_jit_and_invalid_inside() -> None:
    states = stack([game()])
    one = jax.tree.map(lambda leaf: leaf[0], states)
    for action in (28, -1):
        with pytest.raises(ValueError, match="actions are the integers 0 to 27"):
            ENV.step(jax.random.key(0), one, action)
        outputs = compiled("step_env")(keys(0, LANES), states, np.full(LANES, action, np.int32))
        assert bool(outputs[3][0])
        assert bool(outputs[4]["invalid_action"][0])
        assert float(outputs[2][0]) == 0


def test_the_parts_of_the_observation_have_names_shapes_and_types() -> None:
    parts = observation.split(compiled("reset")(keys(1, LANES))[0])
    assert parts.player.shape == (LANES, 10)
    assert parts.programs.shape == (LANES, 23)
    assert parts.grid.shape == (LANES, 6, 6, 42)
    assert (parts.player.dtype, parts.programs.dtype, parts.grid.dtype) == (
        jnp.float32,
        jnp.int32,
        jnp.float32,
    )
    for part in parts:
        assert float(part.min()) >= 0
        assert float(part.max()) <= 1


def test_new_games_spread_evenly_over_corners_bonuses_and_block_counts() -> None:
    games = []
    for seed in range(16):
        games += unstack(compiled("reset")(keys(seed, LANES))[1], LANES)
    count = len(games)
    corners = [item.player.cell for item in games]
    assert all(abs(corners.count(corner) / count - 1 / 4) < 0.05 for corner in set(corners))
    assert len(set(corners)) == 4
    bonuses = [(item.player.credits, item.player.energy, item.player.data_siphons) for item in games]
    assert set(bonuses) == {(10, 0, 0), (0, 11, 0), (0, 0, 1)}
    assert all(abs(bonuses.count(bonus) / count - 1 / 3) < 0.05 for bonus in set(bonuses))
    sizes = [len(item.blocks) for item in games]
    assert set(sizes) == set(range(5, 12))
    assert all(abs(sizes.count(size) / count - 1 / 7) < 0.05 for size in set(sizes))
    blocks = [block for item in games for block in item.blocks.values()]
    questions = sum(block.kind == "question" for block in blocks) / len(blocks)
    programs = sum(block.content == "program" for block in blocks) / len(blocks)
    assert abs(questions - 0.1) < 0.02
    assert abs(programs - 0.5) < 0.03
    amounts = [item.credits + item.energy for each in games for item in each.resources.values()]
    for amount, share in ((1, 0.45), (2, 0.45), (3, 0.10)):
        assert abs(amounts.count(amount) / len(amounts) - share) < 0.02
    assert all(len(item.transmissions) == 1 and not item.enemies for item in games)


def test_an_impossible_undo_depth_is_refused() -> None:
    with pytest.raises(ConfigError, match="undo_depth 0"):
        HackMatrix(undo_depth=0)


def test_numbers_that_do_not_fit_are_refused_by_name() -> None:
    for state, name in (
        (game(blocks={(1, 1): data(300)}), "points"),
        (game(enemies=[enemy("virus", 1, 1, hp=5000)]), "enemies[0].hp"),
        (game(enemies=[enemy("virus", 1, 1, disabled_turns=256)]), "enemies[0].disabled_turns"),
        (game(transmissions=[transmission(1, 1, turns_left=70_000)]), "transmissions[0].turns_left"),
        (game(credits=2**31), "player.credits"),
    ):
        with pytest.raises(ConfigError) as error:
            from_game_state(state)
        assert name in str(error.value)


def test_a_history_longer_than_the_depth_is_refused() -> None:
    state = game((2, 2), energy=9, own=["wait"])
    for _ in range(3):
        state = referee.step(state, referee.ACTION_NAMES.index("wait"), KeyedDraws((0, 0))).state
    with pytest.raises(ConfigError, match="history: 3 snapshots"):
        from_game_state(state, undo_depth=2)


@pytest.mark.slow
def test_a_shallow_history_drops_its_oldest_snapshot() -> None:
    env = HackMatrix(undo_depth=2)
    sizes = referee.Sizes(undo_depth=2)
    theirs = game((2, 2), credits=9, energy=9, own=["wait", "undo"], sizes=sizes)
    state = jax.tree.map(jnp.asarray, from_game_state(theirs, undo_depth=2))
    step = jax.jit(env.step_env)
    for i, name in enumerate(["wait", "wait", "wait", "undo", "wait", "undo", "undo", "undo"]):
        action = referee.ACTION_NAMES.index(name)
        key = keys(i, 1)[0]
        _, state, _, terminated, _ = step(key, state, action)
        result = referee.step(theirs, action, KeyedDraws(key))
        theirs = result.state
        ours = unstack(jax.tree.map(lambda leaf: leaf[None], state), 1)[0]
        assert not differences(comparable(ours), comparable(theirs)), name
        assert bool(terminated) == result.done


@pytest.mark.slow
def test_code_written_for_gymnax_runs_unchanged() -> None:
    pytest.importorskip("six")  # gymnax imports it without asking for it
    wrappers = pytest.importorskip("gymnax.wrappers")
    env = wrappers.LogWrapper(HackMatrix())
    params = env.default_params
    assert env.action_space(params).n == 28
    assert env.observation_space(params).shape == (1545,)

    def one_step(carry: tuple[Any, Any], key: jax.Array) -> tuple[Any, Any]:
        observations, states = carry
        action_key, step_key = jax.random.split(key)
        logits = observations @ jnp.zeros((1545, 28))
        actions = jax.random.categorical(action_key, logits)
        step = jax.vmap(env.step, in_axes=(0, 0, 0, None))
        outputs = step(jax.random.split(step_key, 4), states, actions, params)
        observations, states, reward, terminated, truncated, info = outputs
        return (observations, states), (reward, terminated | truncated, info["returned_episode_lengths"])

    reset = jax.vmap(env.reset, in_axes=(0, None))(jax.random.split(jax.random.key(0), 4), params)
    _, (_, done, lengths) = jax.jit(lambda c, k: jax.lax.scan(one_step, c, k))(
        reset, jax.random.split(jax.random.key(1), 64)
    )
    assert int(done.sum()) > 4
    assert int(lengths.max()) >= 1
