"""Replay buffer of complete games that keeps good ones longer."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float32, Int8, Int32, Integer, PRNGKeyArray, PyTree, UInt16

from matrixrl.agents import slots
from matrixrl.agents.refinement import shuffled
from matrixrl.agents.selfplay import Games

STORED = ("target", "format_id", "basis", "actions", "candidates", "weights", "cost", "num_moves")
"""Fields of `Games` that the buffer stores, under the same names."""


class Replay(NamedTuple):
    """G games of at most M moves.

    Residuals are not stored: the residual before move t is the target minus the first t terms,
    which is far smaller.

    Attributes:
      format_id: index of the format.
      basis: arrays of G, the transformation of the actions back to the format `format_id`.
      cost: minus the return of the complete game.
      num_moves: 0 marks an empty slot.
      expiry: the slot with the smallest is overwritten first, empty ones before all.
      clock: float32, batches inserted so far.
    """

    target: Int8[Array, "G ..."]
    format_id: Int32[Array, "G"]
    basis: PyTree[Int32[Array, "G ..."]]
    actions: UInt16[Array, "G M tokens"]
    candidates: UInt16[Array, "G M K tokens"]
    weights: Float32[Array, "G M K"]
    cost: Float32[Array, "G"]
    num_moves: Int32[Array, "G"]
    expiry: Float32[Array, "G"]
    clock: Float32[Array, ""]

    @property
    def num_games(self) -> Integer[Array, ""]:
        """Number of filled slots."""
        return (self.num_moves > 0).sum()


class Positions(NamedTuple):
    """Sampled positions.

    Attributes:
      actions: of the complete game.
      move: the position is the one before this move.
      cost: minus the return from here on.
      good: the game is among the best of its format in the buffer.
      filled: false if the buffer is empty.
    """

    target: Int8[Array, "B ..."]
    actions: UInt16[Array, "B M tokens"]
    move: Int32[Array, "B"]
    candidates: UInt16[Array, "B K tokens"]
    weights: Float32[Array, "B K"]
    cost: Int32[Array, "B"]
    good: Bool[Array, "B"]
    filled: Bool[Array, "B"]


def empty(games: Games, size: int) -> Replay:
    """Returns an empty buffer of `size` games shaped like `games` (arrays or shapes)."""

    def zeros(leaf: Array) -> Array:
        return jnp.zeros((size, *leaf.shape[1:]), leaf.dtype)

    stored = {name: jax.tree.map(zeros, getattr(games, name)) for name in STORED}
    return Replay(**stored, expiry=jnp.full(size, -1.0, jnp.float32), clock=jnp.float32(0))


def is_good(games: Games) -> Bool[Array, "B"]:
    """Selects the best tenth of a finished batch, of each format, and at least one."""
    played = games.num_moves > 0
    cost = jnp.where(played, games.cost, jnp.inf)
    same = (games.format_id[:, None] == games.format_id) & played
    order = jnp.arange(cost.shape[0])
    # Rank each game within its format by cost, ties by position.
    before = (cost < cost[:, None]) | ((cost == cost[:, None]) & (order < order[:, None]))
    return played & ((same & before).sum(-1) < jnp.maximum(1, same.sum(-1) // 10))


def insert(replay: Replay, games: Games, good: Bool[Array, "B"], good_lifetime: float) -> Replay:
    """Writes a finished batch over the games that expire first.

    A game expires one batch after insertion, a good one (`is_good`) after `good_lifetime` batches;
    expired games stay until their slot is needed.
    """
    played = games.num_moves > 0
    expiry = replay.clock + jnp.where(good, good_lifetime, 1.0)
    free = slots.first_to_expire(replay.expiry, games.target.shape[0])
    free = jnp.where(played, free, replay.expiry.shape[0])  # empty lanes are dropped
    stored = {name: slots.write(getattr(replay, name), free, getattr(games, name)) for name in STORED}
    return Replay(**stored, expiry=slots.write(replay.expiry, free, expiry), clock=replay.clock + 1)


def costs_of_good_games(replay: Replay, fraction: float, num_formats: int) -> Float32[Array, "formats"]:
    """Returns the largest cost of a good game of each format.

    At most the `fraction` of a format's games reach this cost, unless more have the minimum cost:
    if many games have equal costs and a few are better, only these count. With a fraction of 0 no
    game is good.
    """
    if fraction == 0:
        return jnp.full(num_formats, -jnp.inf)
    filled = replay.num_moves > 0
    limits = []
    for format_id in range(num_formats):
        mine = filled & (replay.format_id == format_id)
        costs = jnp.sort(jnp.where(mine, replay.cost, jnp.inf))
        # Number of games at least as good as each one.
        as_good = jnp.searchsorted(costs, costs, side="right")
        few = (as_good <= fraction * mine.sum()) & jnp.isfinite(costs)
        limits.append(jnp.maximum(costs[0], jnp.max(jnp.where(few, costs, -jnp.inf))))
    return jnp.stack(limits)


def sample(
    key: PRNGKeyArray, replay: Replay, count: int, good_costs: Float32[Array, "formats"] | None = None
) -> Positions:
    """Samples positions: a filled slot uniformly, then one of its moves uniformly.

    Args:
      key: consumed.
      replay: the buffer.
      count: positions.
      good_costs: the largest cost of a good game (`costs_of_good_games`); by
        default all are good.
    """
    key_game, key_move = jax.random.split(key)
    filled = replay.num_moves > 0
    # Sample a filled slot, then a move of its game.
    slot = slots.sample_filled(key_game, filled, count)
    num_moves = replay.num_moves[slot]
    move = jnp.floor(jax.random.uniform(key_move, (count,)) * num_moves).astype(jnp.int32)
    move = jnp.clip(move, 0, jnp.maximum(num_moves - 1, 0))
    return Positions(
        replay.target[slot],
        replay.actions[slot],
        move,
        replay.candidates[slot, move],
        replay.weights[slot, move],
        jnp.round(replay.cost[slot]).astype(jnp.int32) - move,
        jnp.ones(count, bool)
        if good_costs is None
        else replay.cost[slot] <= good_costs[replay.format_id[slot]],
        filled[slot],
    )


class PartialSolutions(NamedTuple):
    """Partial solutions from the buffer: some moves are already applied, the rest is to be found.

    Attributes:
      basis: arrays of B.
      actions: all moves of the solution in random order.
      prefix_length: number of them that are applied.
      found: false where the buffer holds no solution of the format.
    """

    target: Int8[Array, "B ..."]
    basis: PyTree[Int32[Array, "B ..."]]
    actions: UInt16[Array, "B M tokens"]
    prefix_length: Int32[Array, "B"]
    found: Bool[Array, "B"]


def partial_solutions(
    key: PRNGKeyArray,
    replay: Replay,
    format_id: Int32[Array, "B"],
    num_remaining: Integer[Array, ""],
    good_costs: Float32[Array, "formats"],
) -> PartialSolutions:
    """Samples a good solution of the same format for each game and shuffles its actions (they
    commute).

    Args:
      key: consumed.
      replay: the buffer. A game is solved if its cost equals its number of moves.
      num_remaining: number of moves that are not applied.
      good_costs: the largest cost of a good game.
    """
    key_game, key_order = jax.random.split(key)
    # Mark the good, solved games of each lane's format, then sample one by inverse transform.
    solved = (replay.num_moves > 0) & (replay.cost == replay.num_moves)
    usable = solved & (replay.cost <= good_costs[replay.format_id]) & (replay.format_id == format_id[:, None])
    reached = jnp.cumsum(usable, axis=-1)
    drawn = jax.random.uniform(key_game, format_id.shape) * reached[:, -1]
    slot = (reached <= drawn[:, None]).sum(-1)
    found = reached[:, -1] > 0
    slot = jnp.minimum(slot, replay.num_moves.shape[0] - 1)
    num_moves = replay.num_moves[slot]
    return PartialSolutions(
        replay.target[slot],
        jax.tree.map(lambda leaf: leaf[slot], replay.basis),
        shuffled(key_order, replay.actions[slot], num_moves),
        jnp.maximum(num_moves - num_remaining, 0),
        found,
    )
