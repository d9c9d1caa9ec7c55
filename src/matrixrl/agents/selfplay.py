"""Batched games, advanced by one move of all of them at a time.

The games of a batch start together; a finished game waits for the others and is no longer active. A
move is one search over the whole batch. The data needed for learning is recorded as the games are
played.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Float32, Int8, Int32, Integer, PRNGKeyArray, PyTree, Shaped, UInt16

from matrixrl.search.sampled import SearchResult, SearchTree


class GameState(Protocol):
    """A state with its observation and termination; a NamedTuple of arrays."""

    @property
    def residual(self) -> Int8[Array, "B ..."]:
        """Observation."""
        ...

    @property
    def terminated(self) -> Bool[Array, "B"]:
        """True if the game is over."""
        ...

    @property
    def solved(self) -> Bool[Array, "B"]:
        """True if it ended at the goal."""
        ...


class Games(NamedTuple):
    """A batch of B games of at most M moves, with K candidates at each.

    Attributes:
      state: game states, B of each leaf.
      target: the residuals that the games started from.
      format_id: index of the format.
      basis: arrays of B, the transformation of the actions back to the format `format_id`; not used
        by the learner.
      actions: actions played.
      candidates: candidates of the search.
      weights: the improved policy over the candidates.
      cost: minus the return so far.
      num_moves: moves played.
      active: false for the lanes that a smaller batch leaves empty.
    """

    state: PyTree[Shaped[Array, "B ..."]]
    target: Int8[Array, "B ..."]
    format_id: Int32[Array, "B"]
    basis: PyTree[Int32[Array, "B ..."]]
    actions: UInt16[Array, "B M tokens"]
    candidates: UInt16[Array, "B M K tokens"]
    weights: Float32[Array, "B M K"]
    cost: Float32[Array, "B"]
    num_moves: Int32[Array, "B"]
    active: Bool[Array, "B"]


class Move(NamedTuple):
    """Results of one move of all games, for the record.

    Attributes:
      live: games in which a move was played.
      residual: sum of the absolute values of the residual after this move (tracking rule
        8).
      terminated: the game ended.
      solved: the game ended with a residual of zero.
      cost: minus the return of the game so far.
      value: root value of the search.
      tree: the tree of the first game of each group, if it is recorded.
    """

    live: Bool[Array, "B"]
    action: UInt16[Array, "B tokens"]
    reward: Float32[Array, "B"]
    residual: Int32[Array, "B"]
    terminated: Bool[Array, "B"]
    solved: Bool[Array, "B"]
    cost: Float32[Array, "B"]
    num_moves: Int32[Array, "B"]
    value: Float32[Array, "B"]
    tree: SearchTree | None = None


def start(
    state: Any,
    format_id: Int32[Array, "B"],
    basis: PyTree[Shaped[Array, "B ..."]],
    active: Bool[Array, "B"],
    max_moves: int,
    num_candidates: int,
    num_tokens: int,
) -> Games:
    """Returns a new batch of games from a batch of states; lanes that are not active are over
    before they start.
    """
    batch = active.shape[0]
    state = state._replace(terminated=state.terminated | ~active)
    return Games(
        state=state,
        target=state.residual,
        format_id=format_id,
        basis=basis,
        actions=jnp.zeros((batch, max_moves, num_tokens), jnp.uint16),
        candidates=jnp.zeros((batch, max_moves, num_candidates, num_tokens), jnp.uint16),
        weights=jnp.zeros((batch, max_moves, num_candidates), jnp.float32),
        cost=jnp.zeros(batch, jnp.float32),
        num_moves=jnp.zeros(batch, jnp.int32),
        active=active,
    )


def overlay(
    games: Games,
    chosen: Bool[Array, "B"],
    state: PyTree[Shaped[Array, "B ..."]],
    target: Int8[Array, "B ..."],
    basis: PyTree[Shaped[Array, "B ..."]],
    actions: UInt16[Array, "B M tokens"],
    prefix_length: Int32[Array, "B"],
) -> Games:
    """Overlays partial solutions on the games selected by `chosen`: their first `prefix_length`
    moves are already applied.

    Args:
      games: new games, or games whose moves are to be replaced.
      chosen: the other games are unchanged.
      state: game states after the applied moves.
      target, basis: of the games that supply these moves.
      actions: the first `prefix_length` count.
    """
    prefix_mask = jnp.arange(actions.shape[1]) < prefix_length[:, None]
    actions = jnp.where(prefix_mask[..., None], actions, 0)
    partial_games = games._replace(
        state=state,
        target=target,
        basis=basis,
        actions=actions,
        # An applied move is its own single candidate.
        candidates=jnp.zeros_like(games.candidates).at[:, :, 0].set(actions),
        weights=jnp.zeros_like(games.weights).at[:, :, 0].set(prefix_mask),
        cost=prefix_length.astype(jnp.float32),
        num_moves=prefix_length,
    )

    def choose(new: Array, old: Array) -> Array:
        return jnp.where(chosen.reshape(-1, *(1,) * (old.ndim - 1)), new, old)

    return jax.tree.map(choose, partial_games, games)


def play(games: Games, found: SearchResult, state: Any, reward: Float32[Array, "B"]) -> tuple[Games, Move]:
    """Records one move of every live game.

    Args:
      games: before the move.
      found: the search's result at `games.state`.
      state, reward: result of the action `found.action`.
    """
    live = ~games.state.terminated
    batch = jnp.arange(live.shape[0])
    # Finished games write their move out of bounds, where it is dropped.
    at = jnp.where(live, games.num_moves, games.actions.shape[1])
    cost = games.cost - reward
    num_moves = games.num_moves + live
    action = found.action.astype(jnp.uint16)
    played = Games(
        state=state,
        target=games.target,
        format_id=games.format_id,
        basis=games.basis,
        actions=games.actions.at[batch, at].set(action, mode="drop"),
        candidates=games.candidates.at[batch, at].set(found.tokens.astype(jnp.uint16), mode="drop"),
        weights=games.weights.at[batch, at].set(found.weights, mode="drop"),
        cost=cost,
        num_moves=num_moves,
        active=games.active,
    )
    residual = jnp.abs(state.residual.astype(jnp.int32)).sum(axis=tuple(range(1, state.residual.ndim)))
    move = Move(live, action, reward, residual, state.terminated, state.solved, cost, num_moves, found.value)
    return played, move


def sample_labels(
    key: PRNGKeyArray, candidates: Integer[Array, "B K tokens"], weights: Float[Array, "B K"], count: int
) -> Integer[Array, "B M tokens"]:
    """Samples `count` of the candidates by their weights."""
    chosen = jax.random.categorical(key, jnp.log(weights + 1e-12)[:, None], shape=(weights.shape[0], count))
    return jnp.take_along_axis(candidates, chosen[..., None], axis=1)
