"""HackMatrix whose games may start in a later stage: a curriculum of own positions.

Whenever a game enters one of the stages 3 to 8, its position is kept: one for each stage and game
of the batch, the newest. A share of the games that would start afresh starts from such a position
instead, drawn uniformly among the stages and then among the games of the same group. The share
falls linearly to 0.

All of it is part of the environment's state: it is stored in checkpoints with the games, and a
resumed run continues with the same bits. Groups do not depend on the number of devices.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Float32, Int32, Integer, Key, PRNGKeyArray, UInt32

from matrixrl.config import require
from matrixrl.envs.base import in_standard_settings
from matrixrl.envs.hackmatrix.env import EnvParams, HackMatrix
from matrixrl.envs.hackmatrix.observation import Encoded, EncodedBatch
from matrixrl.envs.hackmatrix.rules import NUM_STAGES
from matrixrl.envs.hackmatrix.state import History, State
from matrixrl.envs.hackmatrix.wrapper import GameWrapper

FIRST_STAGE = 3
"""Earliest stage whose positions are kept."""

NUM_KEPT = NUM_STAGES - FIRST_STAGE + 1

_USE = 0x5354  # separates the draws of a start from those of the game


class KeptPositions(NamedTuple):
    """Positions at the entry of a stage, one for each stage from `FIRST_STAGE`.

    Attributes:
      filled: whether there is a position.
      games: the positions, without the words of their histories, which are empty there.
      observations: of the positions.
    """

    filled: Bool[Array, "*B 6"]
    games: State
    observations: Any


class StartedGame(NamedTuple):
    """A game, where it started, and the positions kept of it and of its predecessors.

    Attributes:
      game: state of the game.
      start_stage: int32, stage in which its episode started.
      steps: int32, steps of this lane so far; the share of later starts falls with it.
      kept: see `KeptPositions`.
    """

    game: State
    start_stage: Int32[Array, "*B"]
    steps: Int32[Array, "*B"]
    kept: KeptPositions

    @property
    def time(self) -> Int32[Array, "*B"]:
        """Steps of the episode."""
        return self.game.time


@in_standard_settings
class FadingStarts(GameWrapper):
    """HackMatrix of whose episodes a share starts otherwise. The share falls linearly to 0.

    Args:
      game: the environment.
      share: initial share of the episodes that start otherwise.
      steps: number of steps of each lane after which the share is 0.
    """

    def __init__(self, game: Any, share: float, steps: int) -> None:
        require(0 < share <= 1, f"share {share}: must be above 0 and at most 1")
        require(steps >= 1, f"steps {steps}: must be 1 or more")
        super().__init__(game)
        self.share = share
        self.steps = steps

    def current_share(self, steps: Integer[Array, "*B"]) -> Float[Array, "*B"]:
        """Returns the share after this many steps of a lane."""
        return self.share * jnp.maximum(0.0, 1 - steps.astype(jnp.float32) / self.steps)


@in_standard_settings
class LaterStarts(FadingStarts):
    """HackMatrix with later starts. Info has one more entry, `start_stage`: int32, 1 for a whole
    game.

    Args:
      game: the environment.
      share: initial share of the episodes that start from a kept position.
      steps: number of steps of each lane after which the share is 0.
      group: number of neighbouring lanes that share their positions; it divides every batch.
    """

    def __init__(self, game: HackMatrix, share: float, steps: int, group: int) -> None:
        super().__init__(game, share, steps)
        require(group >= 1, f"group {group}: must be 1 or more")
        self.group = group

    def reset(self, key: PRNGKeyArray, params: EnvParams | None = None) -> tuple[Encoded, StartedGame]:
        """Starts a new game, in stage 1."""
        observation, game = self.game.reset(key, params)
        return observation, _first(observation, game)

    def reset_batch(
        self, keys: Key[Array, "B"] | UInt32[Array, "B 2"], params: EnvParams | None = None
    ) -> tuple[EncodedBatch, StartedGame]:
        """Starts games for keys [B], in stage 1."""
        observations, games = self.game.reset_batch(keys, params)
        return observations, jax.vmap(_first)(observations, games)

    def step_batch(
        self,
        keys: Key[Array, "B"] | UInt32[Array, "B 2"],
        states: StartedGame,
        actions: Integer[Array, "B"],
        params: EnvParams | None = None,
    ) -> tuple[
        EncodedBatch, StartedGame, Float32[Array, "B"], Bool[Array, "B"], Bool[Array, "B"], dict[str, Any]
    ]:
        """Runs one step of B games; B is a multiple of the size of a group."""
        observations, games, reward, terminated, truncated, info = self.game.step_batch(
            keys, states.game, actions, params
        )
        ended = terminated | truncated
        info = {**info, "start_stage": states.start_stage}
        kept = _keep(states.kept, info["stage_completed"] & ~ended, games, observations)
        started = StartedGame(games, jnp.where(ended, 1, states.start_stage), states.steps + 1, kept)
        # Few steps end a game, and none is replaced once the share is 0.
        observations, started = jax.lax.cond(
            jnp.any(ended & (self.current_share(started.steps) > 0)),
            lambda: self._restarted(keys, ended, observations, started),
            lambda: (observations, started),
        )
        return observations, started, reward, terminated, truncated, info

    def step(
        self,
        key: PRNGKeyArray,
        state: StartedGame,
        action: Integer[Array, ""],
        params: EnvParams | None = None,
    ) -> tuple[Encoded, StartedGame, Float32[Array, ""], Bool[Array, ""], Bool[Array, ""], dict[str, Any]]:
        """Runs one step of one game, a group of its own."""
        one = jax.tree.map(lambda leaf: leaf[None], (key, state, action))
        return jax.tree.map(lambda leaf: leaf[0], self.alone().step_batch(one[0], one[1], one[2], params))

    def alone(self) -> LaterStarts:
        """Returns the environment of a single lane, a group of its own."""
        return LaterStarts(self.game, self.share, self.steps, 1)

    def _restarted(
        self, keys: Array, ended: Array, observations: Array, started: StartedGame
    ) -> tuple[Array, StartedGame]:
        """Replaces a share of the games that have just started by kept positions."""
        uniform = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, _USE), (3,)))(keys)
        kept = started.kept
        # Which positions the lanes of a group may take: [B, group, stages].
        filled = kept.filled.reshape(-1, self.group, NUM_KEPT)
        offered = jnp.repeat(filled, self.group, axis=0)
        stage = drawn(uniform[:, 1], offered.any(1))
        of_stage = jnp.take_along_axis(offered, stage[:, None, None], axis=2)[:, :, 0]
        lane = jnp.arange(ended.size) // self.group * self.group + drawn(uniform[:, 2], of_stage)
        later = ended & (uniform[:, 0] < self.current_share(started.steps)) & of_stage.any(1)

        def taken(positions: Array, now: Array) -> Array:
            condition = later.reshape((-1,) + (1,) * (now.ndim - 1))
            return jnp.where(condition, positions[lane, stage], now)

        fresh = started.game
        # Whole games have empty histories too; the words are never read.
        bare = fresh._replace(history=fresh.history._replace(words=()))
        game = jax.tree.map(taken, kept.games, bare)
        zero = jnp.zeros_like(game.time)
        game = game._replace(
            history=History(fresh.history.words, game.history.next, game.history.size),
            time=jnp.where(later, zero, game.time),
            episode_return=jnp.where(later, 0.0, game.episode_return),
        )
        start_stage = jnp.where(later, stage + FIRST_STAGE, started.start_stage)
        after = started._replace(game=game, start_stage=start_stage)
        return taken(kept.observations, observations), after


def _first(observation: Array, game: State) -> StartedGame:
    """Returns a lane that has kept nothing yet."""
    one = jnp.ones_like(game.time)
    bare = game._replace(history=game.history._replace(words=()))

    def empty(leaf: Array) -> Array:
        return jnp.zeros((NUM_KEPT, *leaf.shape), leaf.dtype)

    filled = jnp.zeros(NUM_KEPT, jnp.bool_)
    kept = KeptPositions(filled, jax.tree.map(empty, bare), empty(observation))
    return StartedGame(game, one, jnp.zeros_like(game.time), kept)


def _keep(kept: KeptPositions, entered: Array, games: State, observations: Array) -> KeptPositions:
    """Keeps the positions of lanes that have just entered one of the stages."""
    slot = games.stage - FIRST_STAGE
    # Positions before `FIRST_STAGE` are written to a slot that does not exist.
    slot = jnp.where(entered & (slot >= 0), slot, NUM_KEPT)
    lanes = jnp.arange(slot.size)

    def write(positions: Array, now: Array) -> Array:
        return positions.at[lanes, slot].set(now, mode="drop")

    bare = games._replace(history=games.history._replace(words=()))
    return KeptPositions(
        write(kept.filled, jnp.ones_like(entered)),
        jax.tree.map(write, kept.games, bare),
        write(kept.observations, observations),
    )


def drawn(uniform: Float[Array, "B"], allowed: Bool[Array, "B N"]) -> Int32[Array, "B"]:
    """Draws the index of an allowed entry uniformly, by one number in [0, 1) for each row; 0 if
    there is none.
    """
    reached = jnp.cumsum(allowed, axis=-1)
    threshold = jnp.floor(uniform * reached[:, -1])
    return jnp.argmax(reached > threshold[:, None], axis=-1).astype(jnp.int32)
