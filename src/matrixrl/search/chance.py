"""Gumbel search in games of chance, with the game itself as the model (Danihelka et al. 2022,
"Policy improvement by planning with Gumbel").

A tree of `mctx` stores one following state for each edge. In a game of chance that would be a
single draw, and a search would trust lucky ones. Here an action has several edges, each with a draw
of its own: an edge is action x draws + draw. The statistics of an action are pooled over its edges,
so that its value is a mean over chance. An action that was visited N times has about sqrt(N) draws
(progressive widening, Couëtoux et al. 2011); the next visit takes the least visited one.

The search gets states and keys of its own. An environment keeps no randomness in its state, so the
search cannot foresee the chance of the game that is played.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mctx
from jax import Array
from jaxtyping import Bool, Float, Float32, Int32, Key, Num, PyTree, Shaped, UInt32

from matrixrl.networks.heads import MASKED

MAX_CONSIDERED = 16
"""Maximum number of actions that are tried at the root."""

VALUE_SCALE = 0.1
"""Default weight of the values against the prior logits, that of mctx."""


class Prediction(NamedTuple):
    """Output of a network for a batch of states.

    Attributes:
      logits: of the policy, over all actions.
      legal: legal actions.
      value: expected discounted sum of rewards.
    """

    logits: Float[Array, "B A"]
    legal: Bool[Array, "B A"]
    value: Float32[Array, "B"]


class Transitions(NamedTuple):
    """Result of an action in a batch of states, without automatic reset."""

    states: PyTree[Shaped[Array, "B ..."]]
    reward: Float32[Array, "B"]
    terminated: Bool[Array, "B"]


class ChanceNode(NamedTuple):
    """Embedding of a node: its state, and whether the game is over."""

    state: PyTree[Shaped[Array, "B ..."]]
    over: Bool[Array, "B"]


class ChanceSearchResult(NamedTuple):
    """Result of a search at each root.

    Attributes:
      action: the action to play.
      weights: the improved policy; sums to 1 over the legal actions.
      value: of the root after the search.
      visits: number of simulations that began with each action.
    """

    action: Int32[Array, "B"]
    weights: Float32[Array, "B A"]
    value: Float32[Array, "B"]
    visits: Int32[Array, "B A"]


Predict = Callable[[Any, Any], Prediction]
"""(params, states) to `Prediction`."""

Step = Callable[[Array, Any, Array], Transitions]
"""(keys [B], states, actions [B]) to `Transitions`."""


def num_draws(num_simulations: int, most: int = 8) -> int:
    """Returns the maximum number of draws of chance for an action: that of an action which gets all
    simulations, and at most `most`.
    """
    return max(1, min(most, math.isqrt(max(num_simulations - 1, 0)) + 1))


def search_with_chance(
    params: PyTree,
    keys: Key[Array, "B"] | UInt32[Array, "B 2"],
    states: PyTree[Shaped[Array, "B ..."]],
    *,
    predict: Predict,
    step: Step,
    num_simulations: int,
    discount: Num[Array, ""] | float = 1.0,
    exploration: Num[Array, ""] | float = 0.0,
    max_draws: int = 8,
    value_scale: Num[Array, ""] | float = VALUE_SCALE,
) -> ChanceSearchResult:
    """Searches from a batch of states of games that are not over.

    Args:
      params: passed to `predict`.
      keys: of each state, consumed; they must be independent of the keys that the game uses. The
        result of a state depends on its own key and on no other state.
      states: a batch of states.
      predict: policy, legal actions and value of a batch of states.
      step: applies actions with chance from the keys.
      num_simulations: nodes added per root.
      discount: factor per step.
      exploration: scale of the Gumbel noise at the root; 0 plays the best action found.
      max_draws: maximum number of draws of chance for an action in a state.
      value_scale: weight of the values against the prior logits in the improved policy: with at
        most N visits of an action, the best and the worst one differ by (50 + N) times it.
    """
    qtransform: Any = partial(mctx.qtransform_completed_by_mix_value, value_scale=value_scale)
    draws = num_draws(num_simulations, max_draws)
    predicted = predict(params, states)
    num_actions = predicted.logits.shape[-1]
    split = jax.vmap(jax.random.split)(keys)
    gumbel = exploration * jax.vmap(lambda key: jax.random.gumbel(key, (num_actions,)))(split[:, 0])
    legal_at_root = _at_least_one(predicted.legal)

    def recurrent_fn(inputs: Any, key: Array, edge: Any, node: Any) -> tuple[Any, Any]:
        params, lane_keys = inputs
        # Chance of this expansion: a key of each lane's own, whatever the other lanes are.
        chance = jax.vmap(jax.random.fold_in, (0, None))(lane_keys, jax.random.bits(key))
        moved = step(chance, node.state, edge // draws)
        # A game that is over stays as it is.
        after = ChanceNode(_where(node.over, node.state, moved.states), node.over | moved.terminated)
        found = predict(params, after.state)
        output = mctx.RecurrentFnOutput(
            reward=jnp.where(node.over, 0.0, moved.reward),  # pyright: ignore[reportCallIssue]
            discount=jnp.where(after.over, 0.0, discount),  # pyright: ignore[reportCallIssue]
            prior_logits=_edge_logits(found, draws),  # pyright: ignore[reportCallIssue]
            value=jnp.where(after.over, 0.0, found.value),  # pyright: ignore[reportCallIssue]
        )
        return output, after

    root: Any = mctx.RootFnOutput(
        prior_logits=_edge_logits(predicted, draws),  # pyright: ignore[reportCallIssue]
        value=predicted.value,  # pyright: ignore[reportCallIssue]
        embedding=ChanceNode(states, jnp.zeros(predicted.value.shape, jnp.bool_)),  # pyright: ignore[reportCallIssue]
    )
    tree = mctx.search(
        params=(params, split[:, 1]),
        rng_key=jax.random.key(0),  # all chance comes from the keys of the lanes
        root=root,
        recurrent_fn=recurrent_fn,
        root_action_selection_fn=_root_selection(num_simulations, draws, qtransform),
        interior_action_selection_fn=_interior_selection(draws, qtransform),
        num_simulations=num_simulations,
        invalid_actions=~legal_at_root,
        extra_data=mctx.GumbelMuZeroExtraData(root_gumbel=gumbel),  # pyright: ignore[reportCallIssue]
    )
    return _result(tree, gumbel, legal_at_root, draws, qtransform)


def _result(
    tree: Any, gumbel: Array, legal: Array, draws: int, qtransform: Callable[..., Array]
) -> ChanceSearchResult:
    """Returns the best of the most visited actions at the roots, and the improved policy."""
    pooled = jax.vmap(lambda lane: _pooled(lane, jnp.int32(0), draws))(tree)
    quality = jax.vmap(qtransform, (0, None))(pooled, 0)
    visits, logits = pooled.children_visits[:, 0], pooled.children_prior_logits[:, 0]
    most = (visits == visits.max(-1, keepdims=True)) & legal
    action = jnp.argmax(jnp.where(most, gumbel + logits + quality, -jnp.inf), axis=-1)
    weights = jax.nn.softmax(jnp.where(legal, logits + quality, MASKED))
    return ChanceSearchResult(action.astype(jnp.int32), weights, tree.node_values[:, 0], visits)


def _at_least_one(legal: Array) -> Array:
    """Returns the mask, with every action legal where none is."""
    return legal | ~legal.any(-1, keepdims=True)


def _where(condition: Array, yes: Any, no: Any) -> Any:
    """Returns the states of `yes` in the lanes where the condition holds, of `no` elsewhere."""

    def chosen(a: Array, b: Array) -> Array:
        return jnp.where(condition.reshape(condition.shape + (1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(chosen, yes, no)


def _edge_logits(found: Prediction, draws: int) -> Array:
    """Returns prior logits of all edges, [B, A * draws]: `MASKED` where an action is illegal, at
    the root and below it.
    """
    masked = jnp.where(_at_least_one(found.legal), found.logits.astype(jnp.float32), MASKED)
    return jnp.repeat(jax.nn.log_softmax(masked), draws, axis=-1)


# Selection, one tree at a time -------------------------------------------------------------------


def _pooled(tree: Any, node: Array, draws: int) -> Any:
    """Returns a tree of one node with one edge for each action: visits are summed and values
    averaged over its draws.
    """

    def by_action(values: Array) -> Array:
        return values[node].reshape(-1, draws)

    visits = by_action(tree.children_visits)
    values = by_action(tree.children_rewards) + by_action(tree.children_discounts) * by_action(
        tree.children_values
    )
    total = visits.sum(-1)
    mean = (visits * values).sum(-1) / jnp.maximum(total, 1)
    return tree.replace(
        raw_values=tree.raw_values[node][None],
        node_values=tree.node_values[node][None],
        node_visits=tree.node_visits[node][None],
        children_index=jnp.zeros((1, total.size), jnp.int32),
        children_prior_logits=by_action(tree.children_prior_logits)[:, 0][None],
        children_visits=total[None],
        children_rewards=mean[None],
        children_discounts=jnp.zeros((1, total.size), mean.dtype),
        children_values=jnp.zeros((1, total.size), mean.dtype),
    )


def _with_draw(tree: Any, node: Array, action: Any, draws: int) -> Array:
    """Returns the edge of an action to follow: the least visited of its opened draws."""
    visits = tree.children_visits[node].reshape(-1, draws)[action]
    opened = jnp.ceil(jnp.sqrt(visits.sum() + 1.0))
    waiting = jnp.where(jnp.arange(draws) < opened, visits, jnp.iinfo(jnp.int32).max)
    return (action * draws + jnp.argmin(waiting)).astype(jnp.int32)


def _root_selection(
    num_simulations: int, draws: int, qtransform: Callable[..., Array]
) -> Callable[..., Array]:
    """Returns the selection at the root: sequential halving with Gumbel."""

    def select(key: Array, tree: Any, node: Array) -> Array:
        action = mctx.gumbel_muzero_root_action_selection(
            key,
            _pooled(tree, node, draws),
            jnp.int32(0),
            num_simulations=num_simulations,
            max_num_considered_actions=MAX_CONSIDERED,
            qtransform=qtransform,
        )
        return _with_draw(tree, node, action, draws)

    return select


def _interior_selection(draws: int, qtransform: Callable[..., Array]) -> Callable[..., Array]:
    """Returns the selection below the root: visits in proportion to the improved policy. Illegal
    actions have probability 0 in it, and some legal one is always below its share.
    """

    def select(key: Array, tree: Any, node: Array, depth: Array) -> Array:
        action = mctx.gumbel_muzero_interior_action_selection(
            key, _pooled(tree, node, draws), jnp.int32(0), depth, qtransform=qtransform
        )
        return _with_draw(tree, node, action, draws)

    return select
