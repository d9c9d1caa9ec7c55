"""Refinement of stored solutions: a few terms at a time are re-derived by the policy alone.

The order of a solution's moves does not matter, so any few of them can be applied last. Their sum
is a small game of its own: the policy plays it without a search, and if it needs no more moves than
before, the new moves replace the old ones. Equal numbers are accepted too: the solution changes,
and other small subsets become available later. It is a large neighbourhood search (Shaw 1998) whose
repairs are sampled from the learned policy; a flip (Kauers and Moosbauer 2022) is the case of two
terms that share a factor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float32, Integer, PRNGKeyArray


class RefinementTotals(NamedTuple):
    """Results of refinement rounds, as sums over rounds and games.

    Attributes:
      tried: float32, active games.
      solved: float32, games in which the policy needed no more moves than before.
      changed: float32, solved games with different moves.
      saved: float32, number of moves saved.
    """

    tried: Float32[Array, "*G"]
    solved: Float32[Array, "*G"]
    changed: Float32[Array, "*G"]
    saved: Float32[Array, "*G"]


class Refinement(NamedTuple):
    """Result of one refinement round.

    Attributes:
      actions: of the solutions after the round.
      num_moves: how many of them count.
      totals: sums of the round.
    """

    actions: Integer[Array, "B M tokens"]
    num_moves: Integer[Array, "B"]
    totals: RefinementTotals


def empty_totals() -> RefinementTotals:
    """Returns the sums over no rounds."""
    return RefinementTotals(*(jnp.float32(0) for _ in RefinementTotals._fields))


def shuffled(
    key: PRNGKeyArray, actions: Integer[Array, "B M tokens"], num_moves: Integer[Array, "B"]
) -> Integer[Array, "B M tokens"]:
    """Shuffles the first `num_moves` actions of each lane; the others follow."""
    order = jax.random.uniform(key, actions.shape[:2])
    order = jnp.argsort(jnp.where(jnp.arange(actions.shape[1]) < num_moves[:, None], order, 2.0), axis=-1)
    return jnp.take_along_axis(actions, order[..., None], axis=1)


def refine(
    key: PRNGKeyArray,
    actions: Integer[Array, "B M tokens"],
    num_moves: Integer[Array, "B"],
    terms: Integer[Array, ""],
    max_terms: int,
    *,
    total: Callable[[Array, Array], Array],
    draw: Callable[[Array, Array], Array],
    subtract: Callable[[Array, Array], Array],
) -> Refinement:
    """Performs one refinement round over B solutions.

    Args:
      key: consumed.
      actions: of each solution the first `num_moves` count.
      num_moves: 0 for a lane without a solution.
      terms: number of moves removed from each, at most `max_terms`.
      max_terms: at least `terms` and at most M.
      total: sum of the removed moves, (actions [B, M, num_tokens], bool [B, M]) to residuals.
      draw: samples one move for each residual.
      subtract: subtracts a move from each residual.
    """
    key_order, key_draw = jax.random.split(key)
    actions = shuffled(key_order, actions, num_moves)
    at = jnp.arange(actions.shape[1])
    # Remove the first terms of the shuffled solution and add them up.
    terms_of = jnp.minimum(terms, num_moves)
    taken = at < terms_of[:, None]
    residual = total(actions, taken)
    drawn = jnp.zeros((actions.shape[0], max_terms, actions.shape[2]), actions.dtype)

    def is_unsolved(residual: Array) -> Array:
        return jnp.any(residual != 0, axis=tuple(range(1, residual.ndim)))

    def move(index: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        residual, drawn, count = carry
        live = is_unsolved(residual) & (index < terms_of)
        action = draw(jax.random.fold_in(key_draw, index), residual)
        after = subtract(residual, action)
        residual = jnp.where(live.reshape(-1, *(1,) * (residual.ndim - 1)), after, residual)
        drawn = drawn.at[:, index].set(jnp.where(live[:, None], action.astype(drawn.dtype), 0))
        return residual, drawn, count + live

    start = (residual, drawn, jnp.zeros_like(num_moves))
    residual, drawn, count = jax.lax.fori_loop(0, terms, move, start)
    solved = (num_moves > 0) & ~is_unsolved(residual)
    is_new = jnp.arange(max_terms) < count[:, None]
    # Compare the new moves with the removed ones, ignoring order.
    same = (drawn[:, :, None] == actions[:, None, :max_terms]).all(-1) & taken[:, None, :max_terms]
    changed = solved & ~(same.any(-1) | ~is_new).all(-1)
    # Compact: remaining moves first, then the new ones, then unused entries.
    joined = jnp.concatenate([actions, drawn], axis=1)
    counts = jnp.concatenate([(at >= terms_of[:, None]) & (at < num_moves[:, None]), is_new], axis=1)
    order = jnp.argsort(~counts, axis=1, stable=True)[:, : actions.shape[1]]
    refined = jnp.take_along_axis(joined, order[..., None], axis=1)
    saved = jnp.where(solved, terms_of - count, 0)
    totals = RefinementTotals(
        *(values.astype(jnp.float32).sum() for values in (num_moves > 0, solved, changed, saved))
    )
    return Refinement(jnp.where(solved[:, None, None], refined, actions), num_moves - saved, totals)
