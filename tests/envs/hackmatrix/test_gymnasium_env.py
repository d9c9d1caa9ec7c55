from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.envs.classic_control import cartpole
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, VectorEnv

from matrixrl.envs.hackmatrix.gymnasium_env import ENV_ID, HackMatrixEnv, HackMatrixVectorEnv
from matrixrl.envs.hackmatrix.scenario import ScenarioError


@pytest.fixture(scope="module")
def env() -> HackMatrixEnv:
    return HackMatrixEnv()


@pytest.fixture(scope="module")
def vector_env() -> HackMatrixVectorEnv:
    """One batch for all tests: its step is a large program."""
    return HackMatrixVectorEnv(
        num_envs=4, max_episode_steps=3, render_mode="ansi", autoreset_mode=AutoresetMode.NEXT_STEP
    )


SCENARIO = {
    "format": "hackmatrix-scenario",
    "version": 1,
    "player": {"row": 5, "col": 4, "hp": 2, "credits": 7, "energy": 3},
}

NO_ACTIONS = [2.5, 2.0, "up", None, 10**30, -1, 28, [1], np.array([1]), np.float32(1), jnp.float32(1)]


@pytest.mark.slow
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
    env.reset(seed=0, options={"scenario": SCENARIO})
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


@pytest.mark.parametrize("action", NO_ACTIONS, ids=repr)
def test_what_is_no_action_is_refused(env: HackMatrixEnv, action: Any) -> None:
    env.reset(seed=0)
    with pytest.raises(gymnasium.error.InvalidAction, match=r"^action .*: must be an integer 0 to 27$"):
        env.step(action)


@pytest.mark.parametrize("kind", [int, np.int8, np.uint64, np.array, jnp.int32], ids=repr)
def test_whole_numbers_of_any_type_are_actions(env: HackMatrixEnv, kind: Any) -> None:
    env.reset(seed=1)
    legal = int(np.flatnonzero(env.action_masks())[0])
    assert not env.step(kind(legal))[2]


def test_arrays_are_writable_and_of_their_own(env: HackMatrixEnv, vector_env: HackMatrixVectorEnv) -> None:
    observation, _ = env.reset(seed=1)
    mask = env.action_masks()
    legal = int(np.flatnonzero(mask)[0])
    kept = observation.copy()
    observation[:] = -1
    mask[:] = False
    assert env.action_masks().any()
    np.testing.assert_array_equal(env.reset(seed=1)[0], kept)
    assert env.step(legal)[0].flags.writeable
    first, _ = vector_env.reset(seed=1)
    outputs = vector_env.step(np.argmax(vector_env.action_masks(), axis=1))
    for array in (first, vector_env.action_masks(), *outputs[:4], *outputs[4].values()):
        assert array.flags.writeable
        array[:] = 0
    np.testing.assert_array_equal(vector_env.reset(seed=1)[0].shape, first.shape)


def test_masks_fit_the_samples_of_the_spaces(env: HackMatrixEnv, vector_env: HackMatrixVectorEnv) -> None:
    env.reset(seed=1)
    mask = env.action_masks()
    assert mask.dtype == np.bool_
    for given in (mask, mask.astype(np.int8)):
        assert all(mask[env.action_space.sample(mask=given)] for _ in range(20))
    vector_env.reset(seed=1)
    masks = vector_env.action_masks()
    for given in (masks, tuple(masks), tuple(masks.astype(np.int8))):
        for _ in range(10):
            assert masks[np.arange(4), vector_env.action_space.sample(mask=given)].all()
    assert masks[0][vector_env.single_action_space.sample(mask=masks[0])]
    several = gymnasium.vector.SyncVectorEnv([HackMatrixEnv, HackMatrixEnv])
    several.reset(seed=1)
    chosen = several.action_space.sample(mask=np.stack(several.call("action_masks")))
    assert several.action_space.contains(chosen)
    with pytest.raises(AssertionError, match="dtype"):
        env.action_space.sample(mask=mask.astype(np.float32))


def test_every_instance_has_spaces_of_its_own() -> None:
    first, second = HackMatrixEnv(), HackMatrixEnv()
    assert first.action_space is not second.action_space
    assert first.action_space == second.action_space == gymnasium.spaces.Discrete(28)
    assert first.observation_space is not second.observation_space
    first.action_space.seed(0)
    expected = [first.action_space.sample() for _ in range(8)]
    first.action_space.seed(0)
    second.action_space.seed(1)  # does not reseed the first
    assert [first.action_space.sample() for _ in range(8)] == expected
    batches = HackMatrixVectorEnv(2), HackMatrixVectorEnv(2)
    assert batches[0].action_space is not batches[1].action_space
    assert batches[0].single_action_space is not batches[1].single_action_space


def test_the_members_of_cartpole_are_there() -> None:
    def public(value: Any) -> set[str]:
        return {name for name in dir(value) if not name.startswith("_")}

    physics = public(cartpole.CartPoleEnv()) & public(cartpole.CartPoleVectorEnv()) - public(VectorEnv)
    physics -= {
        "action_space",
        "observation_space",
        "step",
        "reset",
        "render",
        "close",
        "metadata",
        "np_random",
    }
    own = {
        "isopen",
        "low",
        "high",
        "steps",
        "prev_done",
        "screens",
        "max_episode_steps",
        "surf",
        "screen",
        "clock",
    }
    assert public(cartpole.CartPoleEnv()) - physics - own <= public(HackMatrixEnv())
    wanted = public(cartpole.CartPoleVectorEnv()) - physics - own | {"max_episode_steps"}
    assert wanted <= public(HackMatrixVectorEnv(2))


def test_the_members_behave_as_those_of_cartpole(vector_env: HackMatrixVectorEnv) -> None:
    seeds = []
    for single in (HackMatrixEnv(), cartpole.CartPoleEnv()):
        single.reset(seed=5)
        seeds.append((single.np_random_seed, int(single.np_random.integers(1000))))
        assert single.spec is None
        assert single.unwrapped is single
        with single:
            pass
    for batch in (vector_env, cartpole.CartPoleVectorEnv(4)):
        batch.reset(seed=5)
        assert batch.np_random_seed == 5
        assert not batch.closed
        assert batch.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert seeds[0][0] == seeds[1][0] == 5
    assert HackMatrixVectorEnv.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP


@pytest.mark.parametrize("make", [HackMatrixEnv, lambda: HackMatrixVectorEnv(2)], ids=["single", "vector"])
def test_rendering_without_a_mode_warns(make: Any) -> None:
    with pytest.warns(UserWarning, match="without specifying any render mode"):
        assert make().render() is None


def test_a_step_after_the_end_changes_nothing_and_warns(env: HackMatrixEnv) -> None:
    env.reset(seed=1)
    illegal = int(np.flatnonzero(~env.action_masks())[0])
    last, _, terminated, _, _ = env.step(illegal)
    assert terminated
    with pytest.warns(UserWarning, match="already returned terminated = True"):
        observation, reward, terminated, truncated, _ = env.step(0)
    np.testing.assert_array_equal(observation, last)
    assert (reward, terminated, truncated) == (0.0, True, False)
    env.reset(seed=1)
    assert not env.step(int(np.flatnonzero(env.action_masks())[0]))[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 1}, r"options\['seed'\]: is not a known key; known: scenario"),
        ({"scenario": SCENARIO, "Scenario": 1}, r"options\['Scenario'\]"),
        ("scenario", "must be None or a dict"),
        ({"scenario": 7}, "must be a scenario, a dict or its JSON text"),
        ({"scenario": {**SCENARIO, "turn": -1}}, "turn: -1 is not within"),
        ({"scenario": "{"}, "not JSON"),
        ({"scenario": {**SCENARIO, "episode": {"done": True, "outcome": "won"}}}, "the game is over"),
    ],
)
def test_options_that_mean_nothing_are_refused(
    options: Any, message: str, env: HackMatrixEnv, vector_env: HackMatrixVectorEnv
) -> None:
    for each in (env, vector_env):
        with pytest.raises((gymnasium.error.Error, ScenarioError), match=message) as caught:
            each.reset(seed=0, options=options)
        assert "\n" not in str(caught.value)
    assert env.reset(options={})[0].shape == (1545,)
    assert env.reset(options={"scenario": None})[0].shape == (1545,)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_envs": 0}, "num_envs 0: must be an integer from 1"),
        ({"num_envs": -1}, "num_envs -1"),
        ({"num_envs": 2.0}, r"num_envs 2\.0"),
        ({"num_envs": "2"}, "num_envs '2'"),
        ({"num_envs": None}, "num_envs None"),
        ({"num_envs": 10**30}, "num_envs 1000"),
        ({"max_episode_steps": 0}, "max_episode_steps 0"),
        ({"max_episode_steps": 2**31}, "max_episode_steps 2147483648"),
        ({"render_mode": "human"}, "render_mode 'human'"),
        ({"autoreset_mode": "Never"}, "autoreset_mode 'Never': must be AutoresetMode.SAME_STEP or"),
        ({"autoreset_mode": AutoresetMode.DISABLED}, "autoreset_mode .*DISABLED"),
    ],
)
def test_impossible_settings_of_the_vector_environment_are_refused(settings: Any, message: str) -> None:
    with pytest.raises(gymnasium.error.Error, match=message):
        HackMatrixVectorEnv(**settings)


@pytest.mark.parametrize(
    "actions",
    [2, [1, 2, 3], [1, 2, 3, 4, 5], [[1], [2], [3], [4]], [1.5] * 4, ["up"] * 4, None, [None] * 4, [10**30] * 4,
     [0, 0, 0, 28], [-1, 0, 0, 0], [1, [2], 3, 4], np.zeros(4), np.zeros((4, 1), int)],
    ids=repr,
)  # fmt: skip
def test_what_are_no_actions_is_refused(vector_env: HackMatrixVectorEnv, actions: Any) -> None:
    vector_env.reset(seed=0)
    with pytest.raises(gymnasium.error.InvalidAction, match="must be 4 integers 0 to 27") as caught:
        vector_env.step(actions)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", [-1, 1.5, "a", [1, 2], [1, 2, 3, -4], [1, 2, 3, None]], ids=repr)
def test_impossible_seeds_are_refused(vector_env: HackMatrixVectorEnv, seed: Any) -> None:
    with pytest.raises(gymnasium.error.Error, match=r"^seed"):
        vector_env.reset(seed=seed)


def test_games_of_a_batch_start_from_scenarios(vector_env: HackMatrixVectorEnv) -> None:
    observations, _ = vector_env.reset(seed=0, options={"scenario": SCENARIO})
    assert [state.player.credits for state in vector_env.game_states] == [7] * 4
    np.testing.assert_array_equal(observations[0], observations[3])
    several = [{**SCENARIO, "player": {**SCENARIO["player"], "credits": 10 + i}} for i in range(4)]
    vector_env.reset(seed=0, options={"scenario": several})
    assert [state.player.credits for state in vector_env.game_states] == [10, 11, 12, 13]
    _, rewards, *_, info = vector_env.step(np.full(4, 3))
    assert info["stage_completed"].all()
    assert rewards[0] == pytest.approx(1 + 0.05 + 1 + 0.01 * 13, abs=0.06)
    with pytest.raises(gymnasium.error.Error, match="2 scenarios for 4 games"):
        vector_env.reset(options={"scenario": several[:2]})


def test_a_batch_is_drawn_game_by_game(vector_env: HackMatrixVectorEnv) -> None:
    vector_env.reset(seed=0)
    texts = vector_env.render()
    assert len(texts) == 4
    assert all("\n" in text for text in texts)
    assert {"ansi", "rgb_array"} == set(vector_env.metadata["render_modes"])


def test_the_next_step_mode_shows_the_last_observation_and_resets_one_step_later(
    vector_env: HackMatrixVectorEnv,
) -> None:
    observations, _ = vector_env.reset(seed=3)
    for step in range(1, 9):
        masks = vector_env.action_masks()
        observations, rewards, terminated, truncated, info = vector_env.step(np.argmax(masks, axis=1))
        assert not terminated.any()
        assert truncated.tolist() == [step % 4 == 3] * 4  # the limit of three steps, and one step that resets
        assert "final_obs" not in info
        if step % 4 == 0:
            assert rewards.tolist() == [0.0] * 4
            assert info["stage"].tolist() == [1] * 4
            fresh = vector_env.game_states
            assert all(state.episode.steps == 0 and state.turn == 0 for state in fresh)
            np.testing.assert_array_equal(observations, np.array(vector_env._observe(vector_env._states)))
        elif step % 4 != 3:  # after the step that ends them the states are those of the next games
            np.testing.assert_array_equal(observations, np.array(vector_env._observe(vector_env._states)))
    vector_env.reset(seed=3)
    illegal = np.argmin(vector_env.action_masks(), axis=1)
    last, _, terminated, _, _ = vector_env.step(illegal)
    assert terminated.all()
    first, rewards, terminated, _, _ = vector_env.step(illegal)
    assert not terminated.any()
    assert rewards.tolist() == [0.0] * 4
    assert (first != last).any()


def test_wrappers_of_gymnasium_for_vectors_take_the_next_step_mode(vector_env: HackMatrixVectorEnv) -> None:
    wrappers = gymnasium.wrappers.vector
    wrapped = wrappers.NormalizeObservation(wrappers.RecordEpisodeStatistics(vector_env))
    wrapped = wrappers.DictInfoToList(wrappers.NormalizeReward(wrapped))
    wrapped.reset(seed=1)
    episodes = []
    for _ in range(4):
        actions = np.argmax(vector_env.action_masks(), axis=1)
        observations, *_, infos = wrapped.step(actions)
        episodes += [info["episode"]["l"] for info in infos if "episode" in info]
    assert observations.dtype == np.float32
    assert episodes == [3] * 4


def test_environments_are_pickled_and_copied_with_their_games(
    env: HackMatrixEnv, vector_env: HackMatrixVectorEnv
) -> None:
    fresh = pickle.loads(pickle.dumps(HackMatrixEnv(render_mode="ansi")))
    assert fresh.render_mode == "ansi"
    with pytest.raises(gymnasium.error.ResetNeeded):
        fresh.step(0)
    env.reset(seed=2)
    action = int(np.flatnonzero(env.action_masks())[-1])
    copies = [pickle.loads(pickle.dumps(env)), copy.deepcopy(env), copy.copy(env)]
    expected = env.step(action)
    for other in copies[:2]:
        observation, reward, *_ = other.step(action)
        np.testing.assert_array_equal(observation, expected[0])
        assert reward == expected[1]
    vector_env.reset(seed=2)
    restored = pickle.loads(pickle.dumps(vector_env))
    assert restored.metadata == vector_env.metadata
    np.testing.assert_array_equal(restored.action_masks(), vector_env.action_masks())
    assert restored.game_states == vector_env.game_states
    assert restored.action_space == vector_env.action_space


def test_a_program_with_64_bit_types_plays_the_same_games(
    env: HackMatrixEnv, vector_env: HackMatrixVectorEnv
) -> None:
    def play() -> list[np.ndarray]:
        arrays = [env.reset(seed=6)[0], env.action_masks()]
        arrays += [env.step(int(np.flatnonzero(arrays[1])[0]))[0]]
        arrays += [vector_env.reset(seed=6)[0]]
        arrays += list(vector_env.step(np.argmax(vector_env.action_masks(), axis=1))[:4])
        return [*arrays, env.reset(seed=6, options={"scenario": SCENARIO})[0]]

    expected = play()
    with jax.enable_x64(True):
        assert jnp.asarray(1.5).dtype == jnp.float64
        found = play()
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def test_a_process_forked_after_jax_was_used_is_refused_before_it_hangs(env: HackMatrixEnv) -> None:
    env.reset(seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python and JAX warn of the fork, and Gymnasium of the error
        envs = gymnasium.vector.AsyncVectorEnv([HackMatrixEnv] * 2, context="fork")
        try:
            envs.reset_async(seed=0)
            with pytest.raises(gymnasium.error.Error, match=r'forked after JAX was used.*context="spawn"'):
                envs.reset_wait(timeout=60)
        finally:
            envs.close(terminate=True)


@pytest.mark.slow
def test_processes_that_were_spawned_play() -> None:
    HackMatrixEnv().reset(seed=0)  # JAX is in use here
    envs = gymnasium.vector.AsyncVectorEnv([HackMatrixEnv] * 2, context="spawn")
    try:
        observations, _ = envs.reset(seed=[1, 2])
        masks = np.stack(envs.call("action_masks"))
        stepped, *_ = envs.step(np.argmax(masks, axis=1))
    finally:
        envs.close(terminate=True)
    single = HackMatrixEnv()
    np.testing.assert_array_equal(single.reset(seed=2)[0], observations[1])
    np.testing.assert_array_equal(single.step(int(np.argmax(masks[1])))[0], stepped[1])


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
def test_the_vector_environment_resets_in_the_same_step() -> None:
    vector_env = HackMatrixVectorEnv(num_envs=64, max_episode_steps=5)
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
