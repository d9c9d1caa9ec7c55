"""Evaluation of an agent for HackMatrix: complete games, many in parallel, and their results.

A lane plays one game. Every game that is started counts and is played to its end, so that short
ones have no more weight than long ones. All randomness derives from the seed, the number of the
game and the step, and games are always played in batches of one size: game 7 of a seed is the same
game for any number of games.

The policy and the environment are two programs. The first is small; the second takes long to
compile and serves every agent.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import (
    Bool,
    Float,
    Float32,
    Float64,
    Int32,
    Int64,
    Integer,
    PRNGKeyArray,
    PyTree,
    Shaped,
    UInt32,
)

from matrixrl.agents import masked
from matrixrl.config import require
from matrixrl.envs.hackmatrix.env import EnvParams, HackMatrix
from matrixrl.envs.hackmatrix.rules import DEFAULT_TIME_LIMIT, NUM_ACTIONS, NUM_STAGES, Outcome
from matrixrl.envs.hackmatrix.state import State
from matrixrl.systems.ppo.intervals import Interval, mean_interval, wilson_interval
from matrixrl.tracking.status import activity

LANES = 256
"""Number of games in parallel, constant also for fewer games: one compiled program, and identical
results, for any number.
"""

STEPS_BETWEEN_LOOKS = 16
"""Number of steps between two checks by the host for unfinished games. A check waits for the
device, which otherwise works ahead.
"""

Policy = Callable[[Array, Array], Array]
"""(packed observations uint32 [N, 117], legal actions bool [N, 28]) to logits or log-probabilities
float [N, 28].
"""


class Network(Protocol):
    """An actor-critic network such as `networks.actor_critic.ActorCritic`; equal ones compile
    once.
    """

    def apply(self, params: PyTree, observations: UInt32[Array, "N 117"], /) -> Any:
        """Maps packed observations uint32 [N, 117] to logits [N, 28] and values [N]."""
        ...


@partial(jax.tree_util.register_dataclass, data_fields=["params"], meta_fields=["network"])
@dataclass(frozen=True)
class NetworkPolicy:
    """The policy of an actor-critic network. Its parameters are data: other parameters do not
    compile again.
    """

    network: Network
    params: PyTree

    def __call__(
        self, observations: UInt32[Array, "N 117"], legal: Bool[Array, "N 28"]
    ) -> Float[Array, "N 28"]:
        """Returns logits [N, 28]."""
        del legal
        return self.network.apply(self.params, observations)[0]


def uniform_policy(
    observations: UInt32[Array, "N 117"], legal: Bool[Array, "N 28"]
) -> Float32[Array, "N 28"]:
    """Returns equal probability for every legal action."""
    del observations
    return jnp.zeros(legal.shape, jnp.float32)


# Randomness and action selection, shared with `watch` so that it shows the evaluated games.


def game_key(seed_key: PRNGKeyArray, game: Integer[Array, ""] | int) -> PRNGKeyArray:
    """Derives the key of a game from its number."""
    return jax.random.fold_in(seed_key, game)


def start_key(key: PRNGKeyArray) -> PRNGKeyArray:
    """Derives the key of the step before a game; its automatic reset starts the game."""
    return jax.random.fold_in(key, 0)


def step_keys(key: PRNGKeyArray, step: Integer[Array, ""] | int) -> tuple[PRNGKeyArray, PRNGKeyArray]:
    """Derives the keys of a game's step, numbered from 1: of the policy's choice, and of the
    environment.
    """
    chance = jax.random.split(jax.random.fold_in(key, step))
    return chance[0], chance[1]


def choose(
    key: PRNGKeyArray, log_probs: Float[Array, "A"], greedy: Bool[Array, ""] | bool
) -> Int32[Array, ""]:
    """Selects the most probable action (the first of several), or samples one: int32 for
    log-probabilities [28].
    """
    drawn = masked.sample(jax.random.uniform(key), log_probs)
    return jnp.where(greedy, jnp.argmax(log_probs).astype(jnp.int32), drawn)


# The outcome --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FinishedGames:
    """Finished games, in order of their numbers; arrays are [N].

    Attributes:
      seed: of all chance.
      greedy: true if the most probable action was played; false if actions were sampled.
      time_limit: steps after which a game was cut off.
      returns: float64, sum of rewards.
      highest_stages: int64, 1 to 8.
      scores: int64.
      steps: int64.
      outcomes: int64, a `rules.Outcome`; `PLAYING` where the game was cut off.
      seconds: of play, with compilation.
      compile_seconds: of tracing and compilation, or of reading the programs from the cache.
    """

    seed: int
    greedy: bool
    time_limit: int
    returns: Float64[np.ndarray, "N"]
    highest_stages: Int64[np.ndarray, "N"]
    scores: Int64[np.ndarray, "N"]
    steps: Int64[np.ndarray, "N"]
    outcomes: Int64[np.ndarray, "N"]
    seconds: float
    compile_seconds: float = 0.0

    @property
    def count(self) -> int:
        """Number of games."""
        return self.returns.size

    def outcome_count(self, outcome: Outcome) -> int:
        """Counts the games with this outcome; `PLAYING`: those that were truncated."""
        return int((self.outcomes == outcome).sum())

    @property
    def stage_counts(self) -> dict[int, int]:
        """Number of games by the highest stage reached."""
        return {stage: int((self.highest_stages == stage).sum()) for stage in range(1, NUM_STAGES + 1)}

    @property
    def best_game(self) -> int:
        """Number of the game of the highest return."""
        return int(self.returns.argmax())

    @property
    def intervals(self) -> dict[str, Interval]:
        """Means with 95 % confidence intervals: `return`, `highest_stage`, `score`, `win_rate`,
        `steps`.
        """
        return {
            "return": mean_interval(self.returns),
            "highest_stage": mean_interval(self.highest_stages),
            "score": mean_interval(self.scores),
            "win_rate": wilson_interval(self.outcome_count(Outcome.WON), self.count),
            "steps": mean_interval(self.steps),
        }

    def as_record(self) -> dict[str, Any]:
        """Returns the results of the games as JSON values."""
        return {
            **{name: interval.as_record() for name, interval in self.intervals.items()},
            "highest_stage_counts": {str(stage): count for stage, count in self.stage_counts.items()},
            "best_stage": int(self.highest_stages.max()),
            "best_game": self.best_game,
            "games": self.count,
            "won": self.outcome_count(Outcome.WON),
            "died": self.outcome_count(Outcome.DIED),
            "stuck": self.outcome_count(Outcome.INVALID_ACTION),
            "truncated": self.outcome_count(Outcome.PLAYING),
            "seconds": round(self.seconds, 3),
        }


# Play ---------------------------------------------------------------------------------------------


class GameLanes(NamedTuple):
    """Games in progress.

    Attributes:
      games: states, [W, ...].
      observations: packed, uint32 [W, 117].
      legal: bool [W, 28].
      playing: bool [W], true until the lane's own game ends.
      results: by name [W], the last step of the lane's game once it has ended.
    """

    games: State
    observations: Array
    legal: Array
    playing: Array
    results: dict[str, Array]


RESULTS: dict[str, Any] = {
    "episode_return": jnp.float32,
    "stage": jnp.int32,
    "score": jnp.int32,
    "episode_length": jnp.int32,
    "outcome": jnp.int32,
}
"""Names and types of the results of a game in ``info``."""

_ENV = HackMatrix(packed=True)
NO_ACTION = -1
"""An action that is invalid in every position."""


def evaluate(
    policy: Policy,
    games: int,
    seed: int = 0,
    greedy: bool = False,
    time_limit: int = DEFAULT_TIME_LIMIT,
    *,
    lanes: int = LANES,
    progress: Callable[[int, int], None] | None = None,
) -> FinishedGames:
    """Plays games 0 to N - 1 of a seed to their ends.

    Args:
      policy: traced under `jit`; illegal actions are masked here, so it may ignore `legal`.
        `observation.unpack` turns packed observations into flat ones. If it is a pytree
        (`NetworkPolicy`, `jax.tree_util.Partial(f, params)`) its leaves are arguments of the
        program; a plain function is compiled with the arrays it closes over.
      games: N, 1 or more.
      seed: 0 to 2**32 - 1.
      greedy: selects the most probable action instead of sampling one.
      time_limit: maximum number of steps of a game.
      lanes: number of games in parallel. Batches of another size may round differently, and so lead
        to other games.
      progress: called at intervals with the number of games that have ended, and N.

    Raises:
      ConfigError: if a number is out of range.
    """
    require(games >= 1, f"games {games}: must be 1 or more")
    require(0 <= seed < 2**32, f"seed {seed}: must be from 0 to 4294967295")
    require(time_limit >= 1, f"time_limit {time_limit}: must be 1 or more")
    require(lanes >= 1, f"lanes {lanes}: must be 1 or more")
    began, compile_seconds = time.perf_counter(), 0.0
    if jax.tree_util.all_leaves([policy]):
        policy = jax.tree_util.Partial(policy)
    seed_key, mode, limit = jax.random.key(seed), jnp.bool_(greedy), jnp.int32(time_limit)
    batches: list[dict[str, np.ndarray]] = []
    for first in range(0, games, lanes):
        numbers = jnp.arange(first, first + lanes, dtype=jnp.int32)
        # A first call returns as soon as its program is compiled.
        with activity("compiling the game") if not batches else contextlib.nullcontext():
            keys, start_keys = _keys(seed_key, numbers)
            batch = step_lanes(
                blank_lanes(start_keys), jnp.full(lanes, NO_ACTION, jnp.int32), start_keys, limit
            )
        batch = batch._replace(playing=numbers < games)
        for step in itertools.count(1):
            first_call = not batches and step == 1
            with activity("compiling the policy") if first_call else contextlib.nullcontext():
                actions, env_keys = _act(policy, batch.observations, batch.legal, keys, jnp.int32(step), mode)
                batch = step_lanes(batch, actions, env_keys, limit)
            if first_call:
                compile_seconds = time.perf_counter() - began
                if progress is not None:
                    progress(0, games)
            if step % STEPS_BETWEEN_LOOKS == 0:
                playing = int(np.asarray(batch.playing).sum())
                if progress is not None:
                    progress(min(first + lanes, games) - playing, games)
                if not playing:
                    break
        batches.append(jax.device_get(batch.results))
    found = {name: np.concatenate([batch[name] for batch in batches])[:games] for name in RESULTS}
    seconds = time.perf_counter() - began
    return finished_games(found, seed, greedy, time_limit, seconds, compile_seconds)


def finished_games(
    found: Mapping[str, Shaped[np.ndarray, "N"]],
    seed: int,
    greedy: bool,
    time_limit: int,
    seconds: float,
    compile_seconds: float,
) -> FinishedGames:
    """Returns the finished games from the arrays of `RESULTS`, [N] each."""
    return FinishedGames(
        seed=seed,
        greedy=greedy,
        time_limit=time_limit,
        returns=found["episode_return"].astype(np.float64),
        highest_stages=found["stage"].astype(np.int64),
        scores=found["score"].astype(np.int64),
        steps=found["episode_length"].astype(np.int64),
        outcomes=found["outcome"].astype(np.int64),
        seconds=seconds,
        compile_seconds=compile_seconds,
    )


def blank_lanes(keys: PRNGKeyArray) -> GameLanes:
    """Returns games that the next action, an invalid one, ends.

    The environment's automatic reset then starts the games, without a second program that generates
    stages.
    """
    lanes = keys.shape[0]
    observations, games = jax.eval_shape(_ENV.reset_batch, keys)
    observations, games = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), (observations, games))
    results = {name: jnp.zeros(lanes, dtype) for name, dtype in RESULTS.items()}
    nothing = jnp.zeros((lanes, NUM_ACTIONS), jnp.bool_)
    return GameLanes(games, observations, nothing, jnp.zeros(lanes, jnp.bool_), results)


@jax.jit
def _keys(seed_key: Array, numbers: Array) -> tuple[Array, Array]:
    """Derives the keys of games, and those they start with."""
    keys = jax.vmap(game_key, (None, 0))(seed_key, numbers)
    return keys, jax.vmap(start_key)(keys)


@jax.jit
def _act(
    policy: Policy, observations: Array, legal: Array, keys: Array, step: Array, greedy: Array
) -> tuple[Array, Array]:
    """Selects the actions of a step; also returns the environments' keys for it."""
    key_choice, key_env = jax.vmap(step_keys, (0, None))(keys, step)
    log_probs = masked.masked_log_softmax(policy(observations, legal), legal)
    return jax.vmap(choose, (0, 0, None))(key_choice, log_probs, greedy), key_env


@partial(jax.jit, donate_argnums=0)
def step_lanes(
    lanes: GameLanes, actions: Int32[Array, "B"], keys: PRNGKeyArray, time_limit: Int32[Array, ""]
) -> GameLanes:
    """Performs one step of all games. A lane whose game has ended continues with another one, which
    is ignored.
    """
    observations, games, _, terminated, truncated, info = _ENV.step_batch(
        keys, lanes.games, actions, EnvParams(time_limit)
    )
    ended = lanes.playing & (terminated | truncated)
    results = {name: jnp.where(ended, info[name], old) for name, old in lanes.results.items()}
    legal = jax.vmap(_ENV.legal_action_mask)(games)
    return GameLanes(games, observations, legal, lanes.playing & ~ended, results)
