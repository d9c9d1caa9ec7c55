from __future__ import annotations

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from matrixrl.envs.hackmatrix.gymnasium_env import ENV_ID, HackMatrixEnv, HackMatrixVectorEnv


@pytest.fixture(scope="module")
def env() -> HackMatrixEnv:
    return HackMatrixEnv()


@pytest.fixture(scope="module")
def vector_env() -> HackMatrixVectorEnv:
    return HackMatrixVectorEnv(num_envs=64, max_episode_steps=5)


def test_check_env_is_clean(env: HackMatrixEnv) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env, skip_render_check=True)


def test_the_environment_is_registered_with_its_time_limit() -> None:
    spec = gymnasium.spec(ENV_ID)
    assert spec.max_episode_steps == 1000
    assert isinstance(gymnasium.make(ENV_ID).unwrapped, HackMatrixEnv)
    vector = gymnasium.make_vec(ENV_ID, num_envs=3)
    assert isinstance(vector.unwrapped, HackMatrixVectorEnv)
    assert vector.num_envs == 3


def test_environments_of_one_process_share_their_compiled_functions(env: HackMatrixEnv) -> None:
    assert HackMatrixEnv()._game is env._game


def test_the_same_seed_gives_the_same_game(env: HackMatrixEnv) -> None:
    games = []
    for _ in range(2):
        observations = [env.reset(seed=11)[0]]
        rng = np.random.default_rng(0)
        for _ in range(12):
            legal = np.flatnonzero(env.action_masks())
            observation, _, terminated, _, _ = env.step(int(rng.choice(legal)))
            observations.append(observation)
            if terminated:
                break
        games.append(observations)
    assert len(games[0]) == len(games[1])
    np.testing.assert_array_equal(games[0], games[1])


def test_masked_actions_end_the_episode_and_legal_ones_do_not(env: HackMatrixEnv) -> None:
    env.reset(seed=1)
    mask = env.action_masks()
    _, reward, terminated, _, info = env.step(int(np.flatnonzero(~mask)[0]))
    assert (reward, terminated, info["outcome"]) == (0.0, True, "invalid_action")
    env.reset(seed=1)
    _, _, terminated, _, info = env.step(int(np.flatnonzero(mask)[0]))
    assert not terminated
    assert info["outcome"] == "playing"
    assert len(info["reward_breakdown"]) == 14


def test_a_scenario_can_be_played(env: HackMatrixEnv) -> None:
    scenario = {
        "format": "hackmatrix-scenario",
        "version": 1,
        "player": {"row": 5, "col": 4, "hp": 2, "credits": 7, "energy": 3},
    }
    env.reset(seed=0, options={"scenario": scenario})
    assert env.game_state.player.credits == 7
    _, reward, _, _, info = env.step(3)
    assert info["stage_completed"]
    assert reward == pytest.approx(2.15, rel=1e-6)


def test_calls_in_the_wrong_order_get_the_usual_errors() -> None:
    with pytest.raises(gymnasium.error.ResetNeeded):
        HackMatrixEnv().step(0)
    with pytest.raises(gymnasium.error.ResetNeeded):
        HackMatrixVectorEnv(num_envs=2).step(np.zeros(2, int))
    with pytest.raises(gymnasium.error.Error, match="render_mode 'human'"):
        HackMatrixEnv(render_mode="human")


def test_an_action_out_of_range_is_refused(env: HackMatrixEnv) -> None:
    env.reset(seed=0)
    with pytest.raises(gymnasium.error.InvalidAction, match="0 to 27"):
        env.step(28)


def test_both_pictures_are_drawn() -> None:
    text = HackMatrixEnv(render_mode="ansi")
    text.reset(seed=2)
    assert "\n" in text.render()
    picture = HackMatrixEnv(render_mode="rgb_array")
    picture.reset(seed=2)
    image = picture.render()
    assert image.dtype == np.uint8
    assert image.ndim == 3


@pytest.mark.slow
def test_the_vector_environment_resets_in_the_same_step(vector_env: HackMatrixVectorEnv) -> None:
    observations, _ = vector_env.reset(seed=3)
    assert vector_env.observation_space.contains(observations)
    rng = np.random.default_rng(0)
    ended = 0
    for _ in range(5):
        masks = vector_env.action_masks()
        actions = np.array([rng.choice(np.flatnonzero(mask)) for mask in masks])
        observations, rewards, terminated, truncated, info = vector_env.step(actions)
        done = terminated | truncated
        ended += int(done.sum())
        np.testing.assert_array_equal(info["_final_obs"], done)
        np.testing.assert_array_equal(observations[~done], info["final_obs"][~done])
        assert rewards.shape == (64,)
    assert truncated.sum() >= 32  # the limit of five steps
    assert ended >= truncated.sum()
    fresh = observations[done]
    assert np.allclose(fresh[:, 2], 1)  # new games start at full hp
