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
from jaxtyping import Float, Float32, Integer, Num, PRNGKeyArray, PyTree, Shaped

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
    """Searches from a batch of states.

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
    return SearchResult(
        action, root_expansion.tokens, output.action_weights, output.search_tree.node_values[:, 0]
    )
