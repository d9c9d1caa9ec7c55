"""Sampled AlphaZero on a game of tokens: the network, its losses, and one weight update.

Everything here is pure. The learner accesses the game only through the functions passed to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jaxtyping import Float32, Int8, Int32, Integer, PRNGKeyArray, PyTree

from matrixrl.networks.heads import best_fraction_mean
from matrixrl.networks.tokens import TokenNetwork
from matrixrl.networks.transforms import TransformNetwork
from matrixrl.search.sampled import Expansion, merge_repeated


class Targets(NamedTuple):
    """A batch to learn from.

    Attributes:
      residual: observations.
      tokens: actions that the policy should sample.
      weights: how much each counts; a row sums to 1, or to 0 to leave the policy
        alone.
      cost: minus the return from here on.
    """

    residual: Int8[Array, "B ..."]
    tokens: Integer[Array, "B M tokens"]
    weights: Float32[Array, "B M"]
    cost: Int32[Array, "B"]


class LossMetrics(NamedTuple):
    """Scalars of one weight update."""

    loss: Float32[Array, ""]
    policy_loss: Float32[Array, ""]
    value_loss: Float32[Array, ""]
    grad_norm: Float32[Array, ""]


class Losses(NamedTuple):
    """The parts of the loss, before their coefficients."""

    policy: Float32[Array, ""]
    value: Float32[Array, ""]


class Update(NamedTuple):
    """Result of one weight update."""

    params: PyTree
    opt_state: PyTree
    metrics: LossMetrics


def weight_update(
    loss: Callable[[Any, Any], tuple[Float32[Array, ""], Losses]],
    optimizer: optax.GradientTransformation,
    params: PyTree,
    opt_state: PyTree,
    targets: Any,
) -> Update:
    """Performs one weight update.

    Args:
      loss: (params, targets) to the loss and its parts.
      optimizer: its state is `opt_state`.
      targets: a batch to learn from.
    """
    (total, losses), grads = jax.value_and_grad(loss, has_aux=True)(params, targets)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    metrics = LossMetrics(total, losses.policy, losses.value, optax.tree.norm(grads))
    return Update(optax.apply_updates(params, updates), opt_state, metrics)


@dataclass(frozen=True)
class AlphaZero:
    """The learner.

    Attributes:
      network: policy and value.
      optimizer: built once and kept out of the carry.
      num_candidates: K.
      temperature: flattens the distribution from which candidates are sampled.
      best_fraction: the value is the mean over this best fraction (1: the mean).
      value_coefficient: weight of the value loss.
    """

    network: TokenNetwork | TransformNetwork
    optimizer: optax.GradientTransformation
    num_candidates: int
    temperature: float
    best_fraction: float
    value_coefficient: float

    def init(self, key: PRNGKeyArray, residual: Integer[Array, "B ..."]) -> tuple[PyTree, PyTree]:
        """Returns initial parameters and optimizer state; `residual` [1, ...] gives the shapes."""
        tokens = jnp.zeros((residual.shape[0], 1, self.network.layout.num_tokens), jnp.int32)
        params = self.network.init(key, residual, tokens, method="log_prob")
        return params, self.optimizer.init(params)

    def loss(self, params: PyTree, targets: Targets) -> tuple[Float32[Array, ""], Losses]:
        """Computes the cross-entropy of policy and value: -sum_k weights_k log pi(a_k | s) -
        coefficient log p(cost | s).
        """
        applied: Any = self.network.apply(params, targets.residual, targets.tokens, method="log_prob")
        log_prob, value_logits = applied
        policy_loss = -jnp.where(targets.weights > 0, targets.weights * log_prob, 0.0).sum(-1).mean()
        cost = jnp.clip(targets.cost, 0, self.network.max_value)
        value_loss = optax.softmax_cross_entropy_with_integer_labels(value_logits, cost).mean()
        return policy_loss + self.value_coefficient * value_loss, Losses(policy_loss, value_loss)

    def update(self, params: PyTree, opt_state: PyTree, targets: Targets) -> Update:
        """Performs one weight update."""
        return weight_update(self.loss, self.optimizer, params, opt_state, targets)

    def expand(self, params: PyTree, key: PRNGKeyArray, residual: Integer[Array, "B ..."]) -> Expansion:
        """Returns the candidates, priors and values of a batch of residuals for the search."""
        applied: Any = self.network.apply(
            params, key, residual, self.num_candidates, self.temperature, method="expand"
        )
        candidates, value_logits = applied
        prior_logits = merge_repeated(candidates.tokens, candidates.log_prob)
        return Expansion(
            candidates.tokens, prior_logits, -best_fraction_mean(value_logits, self.best_fraction)
        )

    def draw(
        self, params: PyTree, key: PRNGKeyArray, residual: Integer[Array, "B ..."]
    ) -> Int32[Array, "B tokens"]:
        """Samples one action from the policy for each of a batch of residuals."""
        applied: Any = self.network.apply(params, key, residual, 1, 1.0, method="expand")
        return applied[0].tokens[:, 0]
