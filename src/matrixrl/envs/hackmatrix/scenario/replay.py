"""Replay of the actions of a scenario, compared with its expectations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from matrixrl.envs.hackmatrix.referee.state import GameState
from matrixrl.envs.hackmatrix.scenario.fields import ScenarioError
from matrixrl.envs.hackmatrix.scenario.reading import Key, Scenario
from matrixrl.envs.hackmatrix.scenario.writing import state_hash

REWARD_TOLERANCE = 1e-4  # relative (rule 18.2)


@dataclass(frozen=True)
class ReplayStep:
    """The result of one step of a replay, for comparison with ``expect``."""

    state: GameState
    reward: float
    done: bool
    breakdown: Mapping[str, float]


def run_replay(
    scenario: Scenario, step: Callable[[GameState, int, Key | None], ReplayStep]
) -> tuple[list[ReplayStep], list[str]]:
    """Plays the actions of a scenario's replay and compares the results with its expectations.

    Play stops early when a game ends.

    Args:
      scenario: a scenario with a replay.
      step: plays one action, given the state before it and the action's key (None if the replay has
        no keys).

    Returns:
      The steps played, and a list of differences from ``expect``, each naming its entry: empty if
      all results match.

    Raises:
      ScenarioError: if the scenario has no replay.
    """
    replay = scenario.replay
    if replay is None:
        raise ScenarioError("replay", "the scenario has none")
    state, steps, differences = scenario.state, [], []
    for index, action in enumerate(replay.actions):
        if state.episode.done:
            differences.append(f"replay.actions[{index}]: the game ended before it ({state.episode.outcome})")
            break
        result = step(state, action, replay.keys[index] if replay.keys is not None else None)
        steps.append(result)
        state = result.state
        expected = replay.expect[index] if replay.expect is not None else None
        if expected is not None:
            differences += [f"replay.expect[{index}].{text}" for text in _differences(expected, result)]
    return steps, differences


def _differences(expected: Mapping[str, Any], result: ReplayStep) -> list[str]:
    def close(first: float, second: float) -> bool:
        return math.isclose(first, second, rel_tol=REWARD_TOLERANCE, abs_tol=1e-6)

    found = []
    if "reward" in expected and not close(expected["reward"], result.reward):
        found.append(f"reward: expected {expected['reward']}, got {result.reward}")
    if "done" in expected and expected["done"] != result.done:
        found.append(f"done: expected {expected['done']}, got {result.done}")
    if "state_hash" in expected and expected["state_hash"] != (got := state_hash(result.state)):
        found.append(f"state_hash: expected {expected['state_hash']}, got {got}")
    for key, value in expected.get("breakdown", {}).items():
        if not close(value, result.breakdown[key]):
            found.append(f"breakdown.{key}: expected {value}, got {result.breakdown[key]}")
    return found
