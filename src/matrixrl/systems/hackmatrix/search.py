"""A stronger player: Gumbel search with the game itself as the model, guided by an agent's network.

Chance inside the tree comes from keys of the search's own; those of the game are derived separately
(`evaluation.step_keys`), and no state holds a key. So the search cannot foresee the game.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Key, PyTree, UInt32

from matrixrl.config import require
from matrixrl.envs.hackmatrix.env import EnvParams, HackMatrix
from matrixrl.envs.hackmatrix.rules import DEFAULT_TIME_LIMIT, NUM_ACTIONS
from matrixrl.envs.hackmatrix.state import State, bytes_per_state
from matrixrl.search.chance import (
    VALUE_SCALE,
    ChanceSearchResult,
    Prediction,
    Transitions,
    num_draws,
    search_with_chance,
)
from matrixrl.systems.hackmatrix.evaluation import (
    NO_ACTION,
    RESULTS,
    FinishedGames,
    GameLanes,
    Network,
    blank_lanes,
    finished_games,
    game_key,
    start_key,
    step_keys,
    step_lanes,
)
from matrixrl.tracking.status import activity

TREE_UNDO_DEPTH = 2
"""Number of snapshots for UNDO that a node keeps. The tree therefore never plans three UNDO in a
row; the game that is played keeps all of its snapshots.
"""

MAX_TREE_BYTES = 256 * 2**20
"""Memory of the trees of all games that are searched at once."""

MAX_LANES = 64
"""Maximum number of games that are searched at once."""

GROUP = 32
"""Number of games that one program searches on a CPU. A call has a fixed cost, about that of 16
games with 16 simulations: a smaller group is slower while all lanes are busy, a larger one near the
end, where few lanes are.
"""

_MODEL = HackMatrix(TREE_UNDO_DEPTH, packed=True)
_NO_LIMIT = EnvParams(2**31 - 1)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["params", "discount", "reward_scale", "exploration", "value_scale"],
    meta_fields=["network", "num_simulations"],
)
@dataclass(frozen=True)
class SearchPlayer:
    """Selects actions by search. Parameters are data: others do not compile again.

    Attributes:
      network: actor and critic.
      params: its parameters.
      num_simulations: nodes added to the tree for each action that is played.
      discount: factor per step, as in training.
      reward_scale: factor of the rewards that the critic was trained with.
      exploration: scale of the Gumbel noise at the root: 1 in self-play, 0 for the best play.
      value_scale: weight of the values against the prior (`search_with_chance`).
    """

    network: Network
    params: PyTree
    num_simulations: int
    discount: Any = 1.0
    reward_scale: Any = 1.0
    exploration: Any = 0.0
    value_scale: Any = VALUE_SCALE

    def __call__(self, keys: Key[Array, "B"] | UInt32[Array, "B 2"], states: State) -> ChanceSearchResult:
        """Searches from a batch of games that are not over."""

        def predict(params: Any, states: State) -> Prediction:
            observations = jax.vmap(_MODEL.observation)(states)
            logits, value = self.network.apply(params, observations)
            return Prediction(logits, _MODEL.legal_action_mask_batch(states), value)

        def step(keys: Array, states: State, actions: Array) -> Transitions:
            moved = jax.vmap(_MODEL.step_env, (0, 0, 0, None))(keys, states, actions, _NO_LIMIT)
            return Transitions(moved[1], moved[2] * self.reward_scale, moved[3])

        return search_with_chance(
            self.params,
            keys,
            recent_history(states),
            predict=predict,
            step=step,
            num_simulations=self.num_simulations,
            discount=self.discount,
            exploration=self.exploration,
            value_scale=self.value_scale,
        )


def recent_history(states: State, depth: int = TREE_UNDO_DEPTH) -> State:
    """Returns games with only their newest snapshots for UNDO, [B, ...] each."""
    history = states.history
    slots = (history.next[:, None] - depth + jnp.arange(depth)) % history.words.shape[1]
    words = jnp.take_along_axis(history.words, slots[:, :, None], axis=1)
    return states._replace(
        history=history._replace(
            words=words, next=jnp.zeros_like(history.next), size=jnp.minimum(history.size, depth)
        )
    )


def bytes_per_node(num_simulations: int) -> int:
    """Returns the memory of a node of the tree: its game and its edges."""
    state: Any = jax.eval_shape(lambda: _MODEL.reset(jax.random.key(0))[1])
    edges = NUM_ACTIONS * num_draws(num_simulations)
    # An edge has index, prior, visits, value, reward and discount; a node has five more numbers.
    return bytes_per_state(state) + 24 * edges + 20


def lanes_of(num_simulations: int) -> int:
    """Returns the number of games that are searched at once: a power of two whose trees fit into
    `MAX_TREE_BYTES`.
    """
    size = bytes_per_node(num_simulations) * (num_simulations + 1)
    lanes = MAX_LANES
    while lanes > 1 and lanes * size > MAX_TREE_BYTES:
        lanes //= 2
    return lanes


def evaluate_search(
    player: SearchPlayer,
    games: int,
    seed: int = 0,
    time_limit: int = DEFAULT_TIME_LIMIT,
    *,
    lanes: int | None = None,
    group: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FinishedGames:
    """Plays games 0 to N - 1 of a seed to their ends: those that `evaluation.evaluate` plays under
    the same numbers.

    A lane whose game has ended starts the next one. Lanes are searched in groups of one size, by
    one program; near the end the remaining games move into fewer groups, so that idle lanes cost
    little. Every call has the same shapes, so that a game depends only on its number.

    Args:
      player: the search.
      games: N, 1 or more.
      seed: 0 to 2**32 - 1.
      time_limit: maximum number of steps of a game.
      lanes: maximum number of games at once. Default: what the memory allows (`lanes_of`).
      group: number of lanes of the program. Groups of another size may round differently, and so
        lead to other games. Default: `GROUP` on a CPU, all lanes on an accelerator.
      progress: called after each step with the number of games that have ended, and N.

    Raises:
      ConfigError: if a number is out of range.
    """
    require(games >= 1, f"games {games}: must be 1 or more")
    require(0 <= seed < 2**32, f"seed {seed}: must be from 0 to 4294967295")
    require(time_limit >= 1, f"time_limit {time_limit}: must be 1 or more")
    began, compile_seconds = time.perf_counter(), 0.0
    lanes = lanes_of(player.num_simulations) if lanes is None else lanes
    if group is None:
        group = min(lanes, GROUP) if jax.default_backend() == "cpu" else lanes
    seed_key, limit = jax.random.key(seed), jnp.int32(time_limit)
    found = {name: np.zeros(games, dtype) for name, dtype in RESULTS.items()}
    with activity("compiling the game"):
        following = group * min(max(1, lanes // group), -(-games // group))
        first_games = np.arange(following).reshape(-1, group)
        groups = [_begun(seed_key, numbers, games, limit) for numbers in first_games]
    ended = 0
    while ended < games:
        for number, lane_group in enumerate(groups):
            with activity("compiling the search") if not compile_seconds else contextlib.nullcontext():
                moved, over = _moved(lane_group, player, seed_key, limit)
            if not compile_seconds:
                compile_seconds = time.perf_counter() - began
            # Keep the results of games that ended in this step; their lanes take the next numbers.
            for name, values in jax.device_get(moved.batch.results).items():
                found[name][moved.numbers[over]] = values[over]
            new = np.arange(following, following + int(over.sum()))
            groups[number] = moved.restarted(over, new, games)
            ended, following = ended + new.size, following + new.size
        if progress is not None:
            progress(ended, games)
        groups = _packed(groups, group)
    seconds = time.perf_counter() - began
    return finished_games(found, seed, True, time_limit, seconds, compile_seconds)


@dataclass(frozen=True, eq=False)
class _LaneGroup:
    """Games that one call of the programs advances by a step.

    Attributes:
      batch: the games.
      numbers: of the games, int64 [W].
      steps: number of the next step of each game, counted from 1, int32 [W]. Step 0 starts a game:
        an invalid action ends whatever is there.
      active: bool [W], false for lanes without a game.
    """

    batch: GameLanes
    numbers: np.ndarray
    steps: np.ndarray
    active: np.ndarray

    def restarted(self, over: np.ndarray, numbers: np.ndarray, games: int) -> _LaneGroup:
        """Returns the group with new games in the lanes whose game is over, as long as there are
        any.
        """
        own, steps = self.numbers.copy(), np.where(over, 0, self.steps)
        own[over] = numbers
        return _LaneGroup(self.batch, own, steps, self.active & (own < games))


def _begun(seed_key: Array, numbers: np.ndarray, games: int, limit: Array) -> _LaneGroup:
    """Returns a group whose games are at their beginning."""
    steps = np.zeros(len(numbers), np.int32)
    keys = _lane_keys(seed_key, jnp.asarray(numbers), jnp.asarray(steps))
    actions = jnp.full(len(numbers), NO_ACTION, jnp.int32)
    batch = step_lanes(blank_lanes(keys.environment), actions, keys.environment, limit)
    return _LaneGroup(batch, numbers, steps + 1, numbers < games)


def _moved(
    group: _LaneGroup, player: SearchPlayer, seed_key: Array, limit: Array
) -> tuple[_LaneGroup, np.ndarray]:
    """Searches, and plays a step of each game.

    Returns:
      The group, and bool [W]: whether a game ended.
    """
    numbers, steps = jnp.asarray(group.numbers), jnp.asarray(group.steps)
    playing = group.active & (group.steps > 0)
    actions, env_keys = _act(player, group.batch.games, seed_key, numbers, steps)
    # A copy: the program may reuse the memory of its argument.
    batch = step_lanes(group.batch._replace(playing=jnp.array(playing)), actions, env_keys, limit)
    over = playing & ~np.asarray(batch.playing)
    return _LaneGroup(batch, group.numbers, group.steps + 1, group.active), over


def _packed(groups: list[_LaneGroup], size: int) -> list[_LaneGroup]:
    """Returns the games in as few groups as possible; the same groups if there are no fewer."""
    active = np.flatnonzero(np.concatenate([group.active for group in groups]))
    count = -(-len(active) // size)
    if count >= len(groups) or count == 0:
        return groups
    # Spare lanes repeat the first game, inactive.
    chosen = np.concatenate([active, np.full(count * size - len(active), active[0])])
    arrays = [(group.numbers, group.steps, jax.device_get(group.batch)) for group in groups]
    numbers, steps, batch = jax.tree.map(lambda *leaves: np.concatenate(leaves)[chosen], *arrays)
    is_game = np.arange(len(chosen)) < len(active)
    packed = []
    for first in range(0, len(chosen), size):
        own = slice(first, first + size)
        lanes = jax.tree.map(lambda leaf, own=own: jnp.array(leaf[own]), batch)
        packed.append(_LaneGroup(lanes, numbers[own], steps[own], is_game[own]))
    return packed


class _LaneKeys(NamedTuple):
    """Keys of a step: of the search, and of the environment."""

    choice: Array
    environment: Array


@jax.jit
def _lane_keys(seed_key: Array, numbers: Array, steps: Array) -> _LaneKeys:
    """Derives the keys of a step of each lane as `evaluation.evaluate` does; step 0 starts a
    game.
    """

    def of_lane(number: Array, step: Array) -> _LaneKeys:
        key = game_key(seed_key, number)
        choice, environment = step_keys(key, step)
        return _LaneKeys(choice, jnp.where(step == 0, start_key(key), environment))

    return jax.vmap(of_lane)(numbers, steps)


@jax.jit
def _act(
    player: SearchPlayer, games: State, seed_key: Array, numbers: Array, steps: Array
) -> tuple[Array, Array]:
    """Searches in all games; also returns the environments' keys of the step."""
    keys = _lane_keys(seed_key, numbers, steps)
    chosen = player(keys.choice, games).action
    return jnp.where(steps == 0, NO_ACTION, chosen), keys.environment
