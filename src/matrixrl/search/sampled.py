"""Sampled AlphaZero: tree search over K actions sampled from the policy at every node.

AlphaTensor's search (Fawzi et al. 2022, Methods; Hubert et al. 2021): the actions are too many to
list, so a node keeps K sampled ones, and `mctx` sees a game with K actions whose meaning is stored
in the embedding. Repeated actions are merged: only the first stays, with the policy's own
log-probability over the remaining ones as prior logits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import mctx
from jax import Array
from jaxtyping import Float, Float32, Int32, Integer, Num, PRNGKeyArray, PyTree, Shaped

from matrixrl.networks.heads import MASKED


class Expansion(NamedTuple):
    """Candidates, priors and value of a new node.

    Attributes:
      tokens: the candidate actions.
      prior_logits: `MASKED` where a candidate repeats an earlier one.
      value: expected sum of rewards to come.
    """

    tokens: Integer[Array, "B K tokens"]
    prior_logits: Float32[Array, "B K"]
    value: Float32[Array, "B"]


class Node(NamedTuple):
    """Embedding of a tree node; kept small because the search copies it."""

    state: PyTree
    tokens: Integer[Array, "B K tokens"]


class SearchResult(NamedTuple):
    """Result of a search at each root.

    Attributes:
      action: the action to play.
      tokens: the candidates at the root.
      weights: the improved policy over them; sums to 1.
      value: the root's value after the search.
    """

    action: Integer[Array, "B tokens"]
    tokens: Integer[Array, "B K tokens"]
    weights: Float32[Array, "B K"]
    value: Float32[Array, "B"]


class SearchTree(NamedTuple):
    """The tree of one search, for the record. Node 0 is the root, nodes follow in the order in
    which they were added; a node that was never added has no visits.

    Attributes:
      parent: node above; -1 for the root.
      tokens: the action that leads to a node; that of the root is meaningless.
      visits: number of simulations through a node.
      prior: the policy's probability of the action among the candidates of its parent.
      value: mean value of a node, in returns from there on.
      candidates: the candidates at the root.
      candidate_prior: their probabilities; 0 for a repeat.
    """

    parent: Int32[Array, "*G N"]
    tokens: Integer[Array, "*G N tokens"]
    visits: Int32[Array, "*G N"]
    prior: Float32[Array, "*G N"]
    value: Float32[Array, "*G N"]
    candidates: Integer[Array, "*G K tokens"]
    candidate_prior: Float32[Array, "*G K"]


# (params, key, states) -> Expansion, and (states, actions [B, num_tokens]) -> (states, rewards [B],
# terminated [B])
Expand = Callable[[Any, Array, Any], Expansion]
Step = Callable[[Any, Array], tuple[Any, Array, Array]]


def merge_repeated(
    tokens: Integer[Array, "*B K tokens"], log_prob: Float[Array, "*B K"]
) -> Float[Array, "*B K"]:
    """Returns prior logits: the log-probabilities, `MASKED` for a candidate equal to one
    before it.
    """
    num_candidates = tokens.shape[-2]
    equal = jnp.all(tokens[..., :, None, :] == tokens[..., None, :, :], axis=-1)
    earlier = jnp.tril(jnp.ones((num_candidates, num_candidates), bool), -1)
    return jnp.where(jnp.any(equal & earlier, axis=-1), MASKED, log_prob)


def search(
    params: PyTree,
    key: PRNGKeyArray,
    states: PyTree[Shaped[Array, "B ..."]],
    *,
    expand: Expand,
    step: Step,
    num_simulations: int,
    algorithm: Literal["gumbel", "puct"],
    exploration: Num[Array, ""] | float = 1.0,
    max_depth: int | None = None,
) -> SearchResult:
    """Searches from a batch of states; the arguments are those of `search_with_tree`."""
    return search_with_tree(
        params,
        key,
        states,
        expand=expand,
        step=step,
        num_simulations=num_simulations,
        algorithm=algorithm,
        exploration=exploration,
        max_depth=max_depth,
    )[0]


def search_with_tree(
    params: PyTree,
    key: PRNGKeyArray,
    states: PyTree[Shaped[Array, "B ..."]],
    *,
    expand: Expand,
    step: Step,
    num_simulations: int,
    algorithm: Literal["gumbel", "puct"],
    exploration: Num[Array, ""] | float = 1.0,
    max_depth: int | None = None,
) -> tuple[SearchResult, SearchTree]:
    """Searches from a batch of states, and returns the tree of the first of them as well.

    Compiled without a use of the tree, it costs nothing.

    Args:
      params: passed to `expand`.
      key: consumed. The states hold no key, so the search cannot foresee random events.
      states: a batch of game states.
      expand: returns candidates and values of a batch of states.
      step: applies an action; a finished game must be unchanged and have reward 0.
      num_simulations: nodes added per root.
      algorithm: `gumbel` (Danihelka et al. 2022) or `puct` with Dirichlet noise (Silver et al.
        2018).
      exploration: scales the Gumbel or Dirichlet noise at the root; 0 plays the best action found.
        May be traced.
      max_depth: maximum depth of the tree in actions.
    """
    key_root, key_search = jax.random.split(key)
    root_expansion = expand(params, key_root, states)
    root: Any = mctx.RootFnOutput(
        prior_logits=root_expansion.prior_logits,  # pyright: ignore[reportCallIssue]
        value=root_expansion.value,  # pyright: ignore[reportCallIssue]
        embedding=Node(states, root_expansion.tokens),  # pyright: ignore[reportCallIssue]
    )

    def recurrent_fn(params: Any, key: Array, action: Array, node: Node) -> tuple[Any, Node]:
        # Translate the candidate's index to its action, apply it and expand the new node.
        played = jnp.take_along_axis(node.tokens, action[:, None, None], axis=1)[:, 0]
        next_states, reward, terminated = step(node.state, played)
        expansion = expand(params, key, next_states)
        output = mctx.RecurrentFnOutput(
            reward=reward,  # pyright: ignore[reportCallIssue]
            discount=jnp.where(terminated, 0.0, 1.0),  # pyright: ignore[reportCallIssue]
            prior_logits=expansion.prior_logits,  # pyright: ignore[reportCallIssue]
            value=jnp.where(terminated, 0.0, expansion.value),  # pyright: ignore[reportCallIssue]
        )
        return output, Node(next_states, expansion.tokens)

    # mctx masks invalid actions (not legal ones) and only at the root; deeper nodes have masked
    # logits.
    settings: dict[str, Any] = {
        "invalid_actions": root_expansion.prior_logits <= MASKED,
        "max_depth": max_depth,
    }
    if algorithm == "gumbel":
        policy: Any = mctx.gumbel_muzero_policy
        settings |= {"gumbel_scale": exploration}
    else:
        policy = mctx.muzero_policy
        settings |= {"dirichlet_fraction": 0.25 * exploration, "temperature": exploration}
    output: Any = policy(params, key_search, root, recurrent_fn, num_simulations, **settings)
    action = jnp.take_along_axis(root_expansion.tokens, output.action[:, None, None], axis=1)[:, 0]
    found = SearchResult(
        action, root_expansion.tokens, output.action_weights, output.search_tree.node_values[:, 0]
    )
    return found, _first_tree(output.search_tree, root_expansion)


def _first_tree(tree: Any, root: Expansion) -> SearchTree:
    """Returns the tree of the first state of a batch, from that of `mctx`."""
    parent, action = tree.parents[0], tree.action_from_parent[0]
    above = jnp.maximum(parent, 0)
    # The root's own probabilities: the search may have added noise to those in the tree.
    prior = jax.nn.softmax(tree.children_prior_logits[0].at[0].set(root.prior_logits[0]), axis=-1)
    return SearchTree(
        parent=parent,
        tokens=tree.embeddings.tokens[0][above, action],
        visits=tree.node_visits[0],
        prior=jnp.where(parent < 0, 1.0, prior[above, action]),
        value=tree.node_values[0],
        candidates=root.tokens[0],
        candidate_prior=jax.nn.softmax(root.prior_logits[0]),
    )
