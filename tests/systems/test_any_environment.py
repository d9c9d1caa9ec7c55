"""PPO on environments of users: masked and continuous ones, faults, evaluation; no game of the house."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from matrixrl.agents.ppo import TrainState, Transition
from matrixrl.config import CheckpointConfig, ConfigError, PPOConfig, TrackingConfig
from matrixrl.config.environment import EnvironmentRunConfig, PolicyNetworkConfig
from matrixrl.systems.ppo.environment import environment_task
from matrixrl.systems.ppo.evaluation import Agent, Evaluator
from matrixrl.systems.ppo.intervals import interquartile_mean
from matrixrl.systems.ppo.program import PPOProgram
from matrixrl.systems.ppo.trainer import PPOChunk, PPOProgress, PPOState, PPOTrainer
from matrixrl.tracking.clock import StepClock
from matrixrl.training.loop import TrainingDivergedError
from tests.envs.tiny import Masked

SMALL = PPOConfig(
    num_envs=16,
    num_steps=10,
    total_timesteps=16_000,
    learning_rate=2e-2,
    num_minibatches=2,
    update_epochs=4,
    gamma=0.5,
    ent_coef=0.0,
    reward_scale=1.0,
)


def settings(env: str, **changes: Any) -> EnvironmentRunConfig:
    values: dict[str, Any] = {
        "env": env,
        "ppo": SMALL,
        "network": PolicyNetworkConfig(hidden_dim=8, num_layers=1),
        "tracking": TrackingConfig(log_interval=50),
        "checkpoint": CheckpointConfig(),
    }
    return EnvironmentRunConfig(**{**values, **changes})


def trained(config: EnvironmentRunConfig) -> tuple[PPOProgram, TrainState, Any]:
    program = PPOProgram(config, environment_task(config))
    key = jax.random.key(0)
    state, updates = program.init(key), None
    for first in range(0, config.ppo.num_updates, config.chunk):
        state, updates = program.advance(state, key, jnp.int32(first), jnp.int32(config.chunk))
    return program, state, jax.device_get(updates)


@pytest.fixture(scope="module")
def masked() -> tuple[PPOProgram, TrainState, Any]:
    return trained(settings("tests.envs.tiny:Masked"))


def test_an_agent_learns_with_a_mask(masked: tuple[PPOProgram, TrainState, Any]) -> None:
    _, _, updates = masked
    # Half of the episodes pay 2 a step, the others 1.
    assert updates.metrics.mean_reward[-10:].mean() == pytest.approx(1.5, abs=0.2)
    assert not any(numbers.any() for numbers in updates.faults.values())
    # A success is the last step's reward of 2.
    share = updates.sums["success"].sum() / updates.ended.sum()
    assert share == pytest.approx(0.5, abs=0.15)


def test_evaluation_counts_every_episode_and_repeats(masked: tuple[PPOProgram, TrainState, Any]) -> None:
    program, state, _ = masked
    evaluator = Evaluator(program.task, lanes=8)
    agent = Agent(state.params, state.statistics)
    few = evaluator.evaluate(agent, 5, seed=3, greedy=True)
    many = evaluator.evaluate(agent, 20, seed=3, greedy=True)
    assert (few.count, many.count) == (5, 20)
    assert few.values["return"].tolist() == many.values["return"][:5].tolist()
    assert set(many.values["steps"].tolist()) == {Masked.length}
    assert many.cut_off.all()  # the environment truncates
    assert many.values["return"].min() >= Masked.length
    assert many.values["return"].max() <= 2 * Masked.length
    low, high = many.as_record()["success"]["ci95"]
    assert 0 <= low < many.values["success"].mean() < high <= 1
    for number in (1, 9):
        steps = list(evaluator.watch(agent, number, seed=3, greedy=True))
        assert len(steps) == Masked.length
        assert steps[-1].total == many.values["return"][number]


def test_an_episode_without_end_is_cut_off(masked: tuple[PPOProgram, TrainState, Any]) -> None:
    program, state, _ = masked
    evaluator = Evaluator(program.task, lanes=8)
    evaluator.time_limit = 3
    results = evaluator.evaluate(Agent(state.params, state.statistics), 4)
    assert results.values["steps"].tolist() == [3] * 4
    assert results.cut_off.all()


def test_an_agent_learns_continuous_actions_of_an_unscaled_world() -> None:
    program, state, updates = trained(
        settings(
            "tests.envs.tiny:Continuous", ppo=dataclasses.replace(SMALL, total_timesteps=32_000, gamma=0.99)
        )
    )
    assert program.task.normalize_observations
    assert program.task.normalize_rewards
    # A constant action has 750 at best, a random one above 2,000.
    assert -updates.metrics.mean_reward[-10:].mean() < 200
    moments = state.statistics.observation
    assert float(moments.count) == 32_000
    assert float(moments.mean[0]) == pytest.approx(120, abs=2)
    agent = Agent(state.params, state.statistics)
    assert Evaluator(program.task, lanes=8).evaluate(agent, 8, greedy=True).values["return"].mean() > -150


def test_faults_are_counted(masked: tuple[PPOProgram, TrainState, Any]) -> None:
    shape = (SMALL.num_steps, SMALL.num_envs)
    steps: Any = Transition(
        observation=jnp.zeros((*shape, 1)).at[0, :3].set(jnp.inf),
        legal=jnp.ones((*shape, 3), bool).at[1:3, 0].set(False),
        **{name: jnp.zeros(shape) for name in Transition._fields if name not in ("observation", "legal")},
    )
    steps = steps._replace(reward=steps.reward.at[4, 4].set(jnp.nan))
    found = jax.jit(masked[0].ppo._count_faults)(steps)
    assert {name: int(count) for name, count in found.items()} == {
        "nonfinite_reward": 1,
        "nonfinite_observation": 3,
        "no_legal_action": 2,
    }


@pytest.mark.parametrize(
    ("fault", "diverged_at", "expected"),
    [
        ("nonfinite_reward", None, "expected finite rewards, came NaN or infinite rewards (32 of 160 steps)"),
        ("nonfinite_reward", 2, "expected finite rewards, came NaN or infinite rewards (32 of 160 steps)"),
        (
            "nonfinite_observation",
            5,
            "expected finite observations, came observations with NaN or infinity (32",
        ),
        (
            "no_legal_action",
            None,
            "expected a legal action in every state, came masks without a legal action (32",
        ),
        ("nonfinite_reward", 1, None),  # actions that are NaN, after an update that diverged
    ],
)
def test_a_fault_of_the_environment_is_told_from_divergence(
    masked: tuple[PPOProgram, TrainState, Any], fault: str, diverged_at: int | None, expected: str | None
) -> None:
    program, state, updates = masked
    count = program.config.chunk
    metrics = [np.zeros(count, np.float32) for _ in updates.metrics]
    if diverged_at is not None:
        metrics[3][diverged_at:] = np.nan
    faults = {name: np.zeros(count, np.float32) for name in updates.faults}
    faults[fault][2] = 32
    results = updates._replace(metrics=type(updates.metrics)(*metrics), faults=faults)

    class Recorder:
        clock = StepClock(lambda: 0.0)

    trainer, run = PPOTrainer(program.config, program), Recorder()
    start: Any = PPOState(state, PPOProgress())
    with pytest.raises(TrainingDivergedError if expected is None else ConfigError) as caught:
        trainer.record(start, PPOChunk(count, results), run)  # pyright: ignore[reportArgumentType]
    if expected is not None:
        assert expected in str(caught.value)
        assert str(caught.value).startswith("--env tests.envs.tiny:Masked: ")
        assert str(caught.value).endswith("in update 3")
        assert run.clock.step == 0  # so that a new run leaves nothing


def small_network(num_actions: int) -> Any:
    import flax.linen as nn

    class Net(nn.Module):
        @nn.compact
        def __call__(self, observation: jax.Array) -> Any:
            return nn.Dense(num_actions)(observation), nn.Dense(1)(observation)[:, 0]

    return Net()


def wrong_network() -> Any:
    return small_network(7)


def gaussian_network(action_size: int) -> Any:
    return small_network(2 * action_size)


@pytest.mark.parametrize(
    ("env", "network", "message"),
    [
        ("Masked", "small_network", None),
        ("Continuous", "gaussian_network", None),
        ("Masked", "wrong_network", "expected logits (N, 3) and values (N,) for N observations, came (2, 7)"),
        ("Masked", "nothing", "tests.systems.test_any_environment has no nothing"),
        ("Masked", "jax", "expected a function or a class, came module"),
        (
            "Continuous",
            "small_network",
            "expected means (N, 1) and logarithms of standard deviations (N, 1) or (1,)",
        ),
    ],
)
def test_a_network_of_ones_own(env: str, network: str, message: str | None) -> None:
    own = PolicyNetworkConfig(network=f"tests.systems.test_any_environment:{network}")
    config = settings(f"tests.envs.tiny:{env}", network=own)
    if message is None:
        assert environment_task(config).network is not None
        return
    with pytest.raises(ConfigError) as caught:
        environment_task(config)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"--network {own.network}: ")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "--env is missing"),
        ("CartPole-v1", "must be gymnax:NAME, package.module:factory or path/to/file.py:factory"),
        ("no_such_module_at_all:make", "there is no module no_such_module_at_all"),
        ("tests.envs.tiny:Maskd", "tests.envs.tiny has no Maskd; did you mean Masked?"),
        ("nowhere/env.py:make", "there is no file"),
        ("gymnax:CartPole-v7", "gymnax has no environment CartPole-v7; it has, for example, CartPole-v1"),
        ("tests.envs.tiny:np", "came a module without reset"),
    ],
)
def test_an_environment_that_cannot_be_built_is_one_line(spec: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        environment_task(settings(spec))
    text = str(caught.value)
    assert message in text
    assert "\n" not in text
    assert spec in text


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import no_such_thing", "importing it raised ModuleNotFoundError: No module named 'no_such_thing'"),
        ("def make(:", "importing it raised SyntaxError"),
        ("raise SystemExit(3)", "importing it raised SystemExit: 3"),
        ("def make():\n    raise KeyError('x')", "make() raised KeyError: 'x'"),
        ("make = 3", "came an int without reset"),
    ],
)
def test_a_file_that_fails_names_its_line(source: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "env.py"
    path.write_text(source + "\n")
    with pytest.raises(ConfigError) as caught:
        environment_task(settings(f"{path}:make"))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_images_and_categories_have_networks() -> None:
    from matrixrl.networks.policies import PolicyValue

    def shapes(observation: jax.Array, **settings: Any) -> Any:
        network = PolicyValue(action_size=4, hidden_dim=8, **settings)
        return jax.eval_shape(lambda: network.init_with_output(jax.random.key(0), observation))

    for shape, dtype in (
        ((2, 10, 10, 4), bool),
        ((2, 84, 84, 1), jnp.uint8),
        ((2, 9, 9), jnp.float32),
        ((2, 1, 1, 1), bool),
    ):
        (logits, value), _ = shapes(jnp.zeros(shape, dtype))
        assert (logits.shape, value.shape) == ((2, 4), (2,))
    (_, _), params = shapes(jnp.zeros(2, jnp.int32), num_categories=6)
    assert params["params"]["Dense_0"]["kernel"].shape == (6, 8)


def test_interquartile_mean_takes_the_middle_half() -> None:
    assert interquartile_mean(np.array([0.0, 1.0, 2.0, 100.0])) == pytest.approx(1.5)
    assert interquartile_mean(np.array([7.0])) == 7.0
    # Of 3 values the outer two count by a quarter of a value each.
    assert interquartile_mean(np.array([0.0, 3.0, 9.0])) == pytest.approx((0.25 * 0 + 3 + 0.25 * 9) / 1.5)
