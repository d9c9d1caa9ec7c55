"""Tiny environments with known optimal values: tests that a learner must pass before larger
problems are debugged.

Each isolates one possible fault (after Jones 2021, "Debugging RL without the agonizing pain"):

| probe | what it tests | optimal value |
|---|---|---|
| `constant_reward` | the value loss | 1 |
| `seen_reward` | observations reach the value | the observation, -1 or 1 |
| `delayed_reward` | discounting | gamma, then 1 |
| `chosen_reward` | the policy loss | 1 |
| `seen_and_chosen_reward` | observations reach the policy | 1 |
| `masked_reward` | illegal actions are never taken | 1/2 where the best action is illegal, else 1 |
| `endless_reward` | a time limit bootstraps from its last observation | -+1 / (1 - gamma) |
| `ending_reward` | the end of a game does not | -+(1 - gamma^k) / (1 - gamma), k steps to go |

All are tables of one shape, passed to one environment as its parameters, so that a learner compiles
once for all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float32, Int32, Integer, PRNGKeyArray

NUM_STATES = 8
NUM_ACTIONS = 3
NUM_FEATURES = 8
LIMIT = 4
"""Number of steps of an episode of `endless_reward` and `ending_reward`."""


class Tables(NamedTuple):
    """A small Markov decision process whose actions affect rewards only; S states, A actions, F
    features.

    Attributes:
      observation: float32 [S, F].
      legal: bool [S, A].
      reward: float32 [S, A]. An illegal action is rewarded like any other: only the mask prevents
        it.
      following: int32 [S], the next state.
      terminates, truncates: bool [S], whether the step from this state ends the episode.
      start: bool [S]; an episode starts in one of these, drawn uniformly.
    """

    observation: Any
    legal: Any
    reward: Any
    following: Any
    terminates: Any
    truncates: Any
    start: Any


class ProbeState(NamedTuple):
    """An episode in progress.

    Attributes:
      number: int32, index of the state in the tables.
      legal: its legal actions.
      total: float32, sum of rewards so far.
      steps: int32, number of steps so far.
      illegal: int32, number of illegal actions so far.
    """

    number: Int32[Array, "*B"]
    legal: Bool[Array, "*B A"]
    total: Float32[Array, "*B"]
    steps: Int32[Array, "*B"]
    illegal: Int32[Array, "*B"]


class ProbeEnvironment:
    """The environment of a probe's tables, which are its parameters; see `matrixrl.envs.base`.

    ``info`` of a step holds `final_observation` and `episode`: a dict of `return`, `steps` and
    `illegal` (number of illegal actions) of the episode so far.
    """

    @property
    def default_params(self) -> Tables:
        """Tables of `constant_reward`."""
        return constant_reward().tables

    @property
    def num_actions(self) -> int:
        """Three actions; most probes have fewer legal ones."""
        return NUM_ACTIONS

    def reset(
        self, key: PRNGKeyArray, params: Tables | None = None
    ) -> tuple[Float32[Array, "F"], ProbeState]:
        """Starts an episode in one of its start states and returns the observation and the
        state.
        """
        tables = self._tables(params)
        number = jax.random.categorical(key, jnp.where(tables.start, 0.0, -jnp.inf)).astype(jnp.int32)
        state = ProbeState(number, tables.legal[number], jnp.float32(0), jnp.int32(0), jnp.int32(0))
        return tables.observation[number], state

    def step(
        self, key: PRNGKeyArray, state: ProbeState, action: Integer[Array, ""], params: Tables | None = None
    ) -> tuple[
        Float32[Array, "F"], ProbeState, Float32[Array, ""], Bool[Array, ""], Bool[Array, ""], dict[str, Any]
    ]:
        """Runs one step; the key determines only where the next episode starts."""
        tables = self._tables(params)
        reward = tables.reward[state.number, action]
        following = tables.following[state.number]
        after = ProbeState(
            following,
            tables.legal[following],
            state.total + reward,
            state.steps + 1,
            state.illegal + ~state.legal[action],
        )
        terminated, truncated = tables.terminates[state.number], tables.truncates[state.number]
        _, fresh = self.reset(key, tables)
        now = jax.tree.map(lambda new, old: jnp.where(terminated | truncated, new, old), fresh, after)
        info = {
            "final_observation": tables.observation[following],
            "episode": {"return": after.total, "steps": after.steps, "illegal": after.illegal},
        }
        return tables.observation[now.number], now, reward, terminated, truncated, info

    def legal_action_mask(self, state: ProbeState) -> Bool[Array, "A"]:
        """Returns the mask of legal actions."""
        return state.legal

    def _tables(self, params: Tables | None) -> Tables:
        return jax.tree.map(jnp.asarray, self.default_params if params is None else params)


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A process and its solution.

    Attributes:
      tables: the process, padded to one shape for all probes with states that are never entered.
      values: function of gamma that returns the optimal values of the entered states, [N]; the
        first N of the tables.
      actions: the best legal action of each, [N].
    """

    tables: Tables
    values: Callable[[float], Sequence[float]]
    actions: Sequence[int]


def _tables(
    observation: Sequence[Sequence[float]],
    reward: Sequence[Sequence[float]],
    *,
    following: Sequence[int] | None = None,
    terminates: Sequence[bool] | None = None,
    truncates: Sequence[bool] | None = None,
    start: Sequence[bool] | None = None,
    legal: Sequence[Sequence[bool]] | None = None,
) -> Tables:
    """Pads tables to the common shape; by default every step ends an episode that starts anywhere.

    Args:
      reward: rewards of each state, one for each of its actions, which are legal by default.
    """
    count = len(observation)

    def filled(values: Any, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        given = np.asarray(values, dtype)
        whole = np.zeros(shape, dtype)
        whole[tuple(slice(size) for size in given.shape)] = given
        return whole

    ones = np.ones(count, bool)
    return Tables(
        observation=filled(observation, (NUM_STATES, NUM_FEATURES), np.float32),
        legal=filled(np.ones_like(reward, bool) if legal is None else legal, (NUM_STATES, NUM_ACTIONS), bool),
        reward=filled(reward, (NUM_STATES, NUM_ACTIONS), np.float32),
        following=filled(np.arange(count) if following is None else following, (NUM_STATES,), np.int32),
        terminates=filled(ones if terminates is None else terminates, (NUM_STATES,), bool),
        truncates=filled(~ones if truncates is None else truncates, (NUM_STATES,), bool),
        start=filled(ones if start is None else start, (NUM_STATES,), bool),
    )


def constant_reward() -> Probe:
    """Returns the probe with one observation, one action, one step and reward 1. V = 1."""
    return Probe(tables=_tables([[1]], [[1]]), values=lambda gamma: [1], actions=[0])


def seen_reward() -> Probe:
    """Returns the probe of one step whose observation, -1 or 1, equals the reward. V(o) = o."""
    return Probe(tables=_tables([[-1], [1]], [[-1], [1]]), values=lambda gamma: [-1, 1], actions=[0, 0])


def delayed_reward() -> Probe:
    """Returns the probe of two steps with different observations, of which only the second pays 1.

    V(0) = gamma, V(1) = 1.
    """
    tables = _tables([[0], [1]], [[0], [1]], following=[1, 1], terminates=[False, True], start=[True, False])
    return Probe(tables=tables, values=lambda gamma: [gamma, 1], actions=[0, 0])


def chosen_reward() -> Probe:
    """Returns the probe of one step in which action 0 pays -1 and action 1 pays 1. V = 1."""
    return Probe(tables=_tables([[1]], [[-1, 1]]), values=lambda gamma: [1], actions=[1])


def seen_and_chosen_reward() -> Probe:
    """Returns the probe of one step in which action 1 pays the observation, -1 or 1, and action 0
    its opposite. V = 1.
    """
    tables = _tables([[-1], [1]], [[1, -1], [-1, 1]])
    return Probe(tables=tables, values=lambda gamma: [1, 1], actions=[0, 1])


def masked_reward() -> Probe:
    """Returns the probe of one step in which actions 0, 1, 2 pay 0, 1/2, 1, and action 2 is illegal
    at observation -1.

    V(-1) = 1/2, V(1) = 1.
    """
    tables = _tables([[-1], [1]], [[0, 0.5, 1]] * 2, legal=[[True, True, False], [True, True, True]])
    return Probe(tables=tables, values=lambda gamma: [0.5, 1], actions=[1, 2])


def endless_reward() -> Probe:
    """Returns the probe with reward 1 forever, or -1 forever, truncated after `LIMIT` steps.

    V = 1 / (1 - gamma), or its opposite. The sign of an episode and its steps modulo the limit are
    observed together, one-hot. So its last observation equals its first; the first one of the next
    episode may have the other sign.
    """
    return Probe(
        tables=_two_chains(truncates=True),
        values=lambda gamma: [sign / (1 - gamma) for sign in (-1, 1) for _ in range(LIMIT)],
        actions=[0] * (2 * LIMIT),
    )


def ending_reward() -> Probe:
    """Returns the variant of `endless_reward` that terminates after `LIMIT` steps.

    V = -+(1 - gamma^k) / (1 - gamma) with k steps to go.
    """
    return Probe(
        tables=_two_chains(truncates=False),
        values=lambda gamma: [
            sign * (1 - gamma ** (LIMIT - step)) / (1 - gamma) for sign in (-1, 1) for step in range(LIMIT)
        ],
        actions=[0] * (2 * LIMIT),
    )


def _two_chains(truncates: bool) -> Tables:
    last = [step == LIMIT - 1 for _ in range(2) for step in range(LIMIT)]
    never = [False] * (2 * LIMIT)
    return _tables(
        np.eye(2 * LIMIT).tolist(),
        [[-1]] * LIMIT + [[1]] * LIMIT,
        following=[LIMIT * chain + (step + 1) % LIMIT for chain in range(2) for step in range(LIMIT)],
        terminates=never if truncates else last,
        truncates=last if truncates else never,
        start=[step == 0 for _ in range(2) for step in range(LIMIT)],
    )


PROBES: dict[str, Callable[[], Probe]] = {
    build.__name__: build
    for build in (
        constant_reward,
        seen_reward,
        delayed_reward,
        chosen_reward,
        seen_and_chosen_reward,
        masked_reward,
        endless_reward,
        ending_reward,
    )
}
