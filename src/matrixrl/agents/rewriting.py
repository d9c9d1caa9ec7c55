"""Own solutions written anew, a few terms at a time, by the policy alone.

The order of a solution's moves does not matter, so any few of them can stand last. What these leave to be done is a
small game of its own: the policy plays it without a search, and where it needs no more moves than before, they take the
place of the old ones. Equally many are welcome too: the solution has become another one, with other few terms to be
taken next time. It is a large neighbourhood search (Shaw 1998) whose repairs are drawn from the learned policy; a flip
(Kauers and Moosbauer 2022) is the case of two terms that share a factor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class Rewritten(NamedTuple):
    """What rounds of rewriting gave, as sums over rounds and games.

    Attributes:
      tried: float32, games that took part.
      solved: float32, the policy needed no more moves than there were.
      changed: float32, and they are not the same moves.
      saved: float32, moves that became superfluous.
    """

    tried: Array
    solved: Array
    changed: Array
    saved: Array


def nothing_rewritten() -> Rewritten:
    """Sums over no rounds."""
    return Rewritten(*(jnp.float32(0) for _ in Rewritten._fields))


def shuffled(key: Array, actions: Array, num_moves: Array) -> Array:
    """The first `num_moves` [B] of actions [B, M, num_tokens] in random order, the others after them."""
    order = jax.random.uniform(key, actions.shape[:2])
    order = jnp.argsort(jnp.where(jnp.arange(actions.shape[1]) < num_moves[:, None], order, 2.0), axis=-1)
    return jnp.take_along_axis(actions, order[..., None], axis=1)


def rewrite(
    key: Array,
    actions: Array,
    num_moves: Array,
    terms: Array,
    max_terms: int,
    *,
    total: Callable[[Array, Array], Array],
    draw: Callable[[Array, Array], Array],
    subtract: Callable[[Array, Array], Array],
) -> tuple[Array, Array, Rewritten]:
    """One round over B solutions.

    Args:
      key: consumed.
      actions: int32 [B, M, num_tokens]; of each solution the first `num_moves` count.
      num_moves: int32 [B]; 0 for a lane without a solution.
      terms: int32, so many moves of each are taken out, at most `max_terms`.
      max_terms: at least `terms` and at most M.
      total: what taken moves do together, (actions [B, M, num_tokens], bool [B, M]) to residuals.
      draw: one move for each residual.
      subtract: what a move for each leaves of the residuals.

    Returns:
      Actions and their number as given, and what became of them.
    """
    key_order, key_draw = jax.random.split(key)
    actions = shuffled(key_order, actions, num_moves)
    at = jnp.arange(actions.shape[1])
    terms_of = jnp.minimum(terms, num_moves)
    taken = at < terms_of[:, None]
    residual = total(actions, taken)
    drawn = jnp.zeros((actions.shape[0], max_terms, actions.shape[2]), actions.dtype)

    def left(residual: Array) -> Array:
        return jnp.any(residual != 0, axis=tuple(range(1, residual.ndim)))

    def move(index: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        residual, drawn, count = carry
        live = left(residual) & (index < terms_of)
        action = draw(jax.random.fold_in(key_draw, index), residual)
        after = subtract(residual, action)
        residual = jnp.where(live.reshape(-1, *(1,) * (residual.ndim - 1)), after, residual)
        drawn = drawn.at[:, index].set(jnp.where(live[:, None], action.astype(drawn.dtype), 0))
        return residual, drawn, count + live

    start = (residual, drawn, jnp.zeros_like(num_moves))
    residual, drawn, count = jax.lax.fori_loop(0, terms, move, start)
    solved = (num_moves > 0) & ~left(residual)
    is_new = jnp.arange(max_terms) < count[:, None]
    same = (drawn[:, :, None] == actions[:, None, :max_terms]).all(-1) & taken[:, None, :max_terms]
    changed = solved & ~(same.any(-1) | ~is_new).all(-1)
    # The moves that stay come first, then the new ones, then what does not count.
    joined = jnp.concatenate([actions, drawn], axis=1)
    counts = jnp.concatenate([(at >= terms_of[:, None]) & (at < num_moves[:, None]), is_new], axis=1)
    order = jnp.argsort(~counts, axis=1, stable=True)[:, : actions.shape[1]]
    written = jnp.take_along_axis(joined, order[..., None], axis=1)
    saved = jnp.where(solved, terms_of - count, 0)
    outcome = Rewritten(
        *(values.astype(jnp.float32).sum() for values in (num_moves > 0, solved, changed, saved))
    )
    return jnp.where(solved[:, None, None], written, actions), num_moves - saved, outcome
