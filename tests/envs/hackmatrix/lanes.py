"""The environment compiled once for a fixed number of lanes, and its comparison with the referee."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from matrixrl.envs.hackmatrix import referee
from matrixrl.envs.hackmatrix.convert import from_game_state, to_game_state
from matrixrl.envs.hackmatrix.env import EnvParams, HackMatrix
from matrixrl.envs.hackmatrix.keyed_draws import KeyedDraws
from matrixrl.envs.hackmatrix.observation import split
from matrixrl.envs.hackmatrix.referee import GameState
from matrixrl.envs.hackmatrix.state import State
from tests.envs.hackmatrix.keyed import comparable, differences

LANES = 64
ENV = HackMatrix()


# The tests compile large programs to run them a few times: quick code generation, the same integers.
QUICKLY = {"xla_backend_optimization_level": 0}


@functools.cache
def compiled(name: str) -> Any:
    """A method of the environment, batched and jitted."""
    return jax.jit(jax.vmap(getattr(ENV, name)), compiler_options=QUICKLY)


@functools.cache
def _compiled_step() -> Any:
    def step(key: jax.Array, state: State, action: jax.Array, limit: jax.Array) -> Any:
        return ENV.step(key, state, action, EnvParams(limit))

    return jax.jit(jax.vmap(step, in_axes=(0, 0, 0, None)), compiler_options=QUICKLY)


def step_and_reset(keys: np.ndarray, states: State, actions: Any, limit: int = 1000) -> Any:
    """`env.step` of every lane, with automatic reset and a time limit."""
    return _compiled_step()(keys, states, actions, limit)


def stack(games: Sequence[GameState]) -> State:
    """The games as a batch, filled up with copies of the first to `LANES`."""
    states = [from_game_state(game) for game in games]
    states += [states[0]] * (LANES - len(states))
    return jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *states)


def unstack(states: State, count: int) -> list[GameState]:
    """The first `count` games of a batch."""
    states = jax.device_get(states)
    return [to_game_state(jax.tree.map(lambda leaf, i=i: leaf[i], states)) for i in range(count)]


def filled(values: Sequence[Any] | np.ndarray, dtype: Any) -> np.ndarray:
    """Values for the first lanes, the first one again for the others."""
    return np.array([*values, *[values[0]] * (LANES - len(values))], dtype)


@dataclass
class Step:
    """One lane's step, without automatic reset."""

    state: GameState
    observation: np.ndarray
    reward: float
    breakdown: dict[str, float]
    terminated: bool
    info: dict[str, Any]


def step_lanes(
    games: Sequence[GameState], actions: Sequence[int], keys: Sequence[Sequence[int]] | np.ndarray
) -> list[Step]:
    """Step up to `LANES` games."""
    count = len(games)
    outputs = compiled("step_env")(filled(keys, np.uint32), stack(games), filled(actions, np.int32))
    observation, states, reward, terminated, info = jax.device_get(outputs)
    after = unstack(states, count)
    return [
        Step(
            state=after[i],
            observation=observation[i],
            reward=float(reward[i]),
            breakdown={name: float(value[i]) for name, value in info["reward_breakdown"].items()},
            terminated=bool(terminated[i]),
            info={name: value[i] for name, value in info.items() if isinstance(value, np.ndarray)},
        )
        for i in range(count)
    ]


def masks(games: Sequence[GameState]) -> np.ndarray:
    """Action masks of up to `LANES` games."""
    return np.asarray(compiled("legal_action_mask")(stack(games)))[: len(games)]


def observation_differences(flat: np.ndarray, game: GameState) -> list[str]:
    """Where an observation differs from the referee's. `split` takes NumPy's arrays, with which this is quick."""
    found = []
    values: Any = np.asarray(flat)
    found_parts, expected = split(values), expected_parts(referee.observe(game))
    for name, ours, theirs in zip(found_parts._fields, found_parts, expected, strict=True):
        wrong = ~np.isclose(ours, theirs, atol=1e-6)
        if wrong.any():
            found.append(f"observation.{name} at {np.argwhere(wrong)[:4].tolist()}")
    return found


def expected_parts(expected: referee.RefereeObservation) -> tuple[np.ndarray, ...]:
    return np.asarray(expected.player), np.asarray(expected.programs), np.asarray(expected.grid)


def step_differences(ours: Step, theirs: referee.StepResult) -> list[str]:
    """Every field of the state, every reward component, the end and the observation."""
    found = differences(comparable(ours.state), comparable(theirs.state))
    found += observation_differences(ours.observation, theirs.state)
    expected = {**theirs.breakdown, "reward": theirs.reward}
    for name, value in {**ours.breakdown, "reward": ours.reward}.items():
        if abs(value - expected[name]) > 1e-4 * max(1.0, abs(expected[name])):
            found.append(f"{name}: arrays {value}, referee {expected[name]}")
    facts = {
        "terminated": (ours.terminated, theirs.done),
        "stage_completed": (bool(ours.info["stage_completed"]), theirs.stage_completed),
        "invalid_action": (bool(ours.info["invalid_action"]), theirs.invalid),
        "died": (bool(ours.info["died"]), theirs.died),
        "won": (bool(ours.info["won"]), theirs.won),
    }
    return found + [f"{name}: arrays {a}, referee {b}" for name, (a, b) in facts.items() if a != b]


def check_one_step(
    games: Sequence[GameState], actions: Sequence[int], keys: Sequence[Sequence[int]] | np.ndarray
) -> list[Step]:
    """Both sides take one step from the same positions; fails with what differs."""
    steps = step_lanes(games, actions, keys)
    for i, (ours, game) in enumerate(zip(steps, games, strict=True)):
        theirs = referee.step(game, actions[i], KeyedDraws(keys[i]))
        found = step_differences(ours, theirs)
        assert not found, f"{referee.ACTION_NAMES[actions[i]]}, key {list(keys[i])}: {found[:6]}\n{game}"
    return steps


def boost(game: GameState, rng: np.random.Generator) -> None:
    """All programs and many resources, in place."""
    game.owned_programs = set(referee.PROGRAM_NUMBER)
    game.player.credits += int(rng.integers(20, 200))
    game.player.energy += int(rng.integers(20, 200))
    game.player.data_siphons += int(rng.integers(0, 5))
    game.player.hp = 3


def play_games(seed: int, num_steps: int, boosted: float, invalid: float = 0.002) -> dict[str, int]:
    """`LANES` random games on both sides, step by step; how often each action was taken.

    The arrays play with automatic reset. Lanes are boosted now and then: the referee's position is changed and
    loaded into the arrays.

    Args:
      seed: of positions, actions and keys.
      num_steps: steps of each game.
      boosted: chance of a boost for each lane and step.
      invalid: chance that an action is drawn from all 28.
    """
    rng = np.random.default_rng(seed)
    counts = dict.fromkeys(referee.ACTION_NAMES, 0)
    keys = rng.integers(0, 2**32, (LANES, 2), dtype=np.uint32)
    observations, states = compiled("reset")(keys)
    games = [referee.new_game(KeyedDraws(key)) for key in keys]
    for _ in range(num_steps):
        lucky = np.flatnonzero(rng.random(LANES) < boosted)
        if lucky.size:
            for lane in lucky:
                boost(games[lane], rng)
            states = stack(games)
            observations = compiled("observation")(states)
        legal = np.asarray(compiled("legal_action_mask")(states))
        flat = np.asarray(observations)
        actions = np.zeros(LANES, np.int32)
        for lane, (game, record) in enumerate(zip(games, unstack(states, LANES), strict=True)):
            found = differences(comparable(record), comparable(game))
            found += observation_differences(flat[lane], game)
            expected = referee.legal_action_mask(game)
            if (expected != legal[lane]).any():
                found.append(f"mask of {np.flatnonzero(expected != legal[lane])}")
            assert not found, f"{found[:6]}\n{game}"
            anything = rng.random() < invalid or not expected.any()
            actions[lane] = rng.integers(28) if anything else rng.choice(np.flatnonzero(expected))
            counts[referee.ACTION_NAMES[actions[lane]]] += 1
        keys = rng.integers(0, 2**32, (LANES, 2), dtype=np.uint32)
        observations, states, reward, terminated, truncated, info = step_and_reset(keys, states, actions)
        reward, terminated, info = jax.device_get((reward, terminated, info))
        assert not np.any(truncated)
        for lane in range(LANES):
            draws = KeyedDraws(keys[lane])
            theirs = referee.step(games[lane], int(actions[lane]), draws)
            found = observation_differences(info["final_observation"][lane], theirs.state)
            for name, value in theirs.breakdown.items():
                if abs(info["reward_breakdown"][name][lane] - value) > 1e-4 * max(1.0, abs(value)):
                    found.append(f"{name}: arrays {info['reward_breakdown'][name][lane]}, referee {value}")
            if abs(reward[lane] - theirs.reward) > 1e-4 * max(1.0, abs(theirs.reward)):
                found.append(f"reward: arrays {reward[lane]}, referee {theirs.reward}")
            if terminated[lane] != theirs.done:
                found.append(f"terminated: arrays {terminated[lane]}, referee {theirs.done}")
            action = referee.ACTION_NAMES[actions[lane]]
            assert not found, f"{action}, key {keys[lane].tolist()}: {found[:6]}\n{games[lane]}"
            games[lane] = referee.new_game(draws.reset()) if theirs.done else theirs.state
    return counts
