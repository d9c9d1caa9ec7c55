"""Heads: an autoregressive policy over tokens, and a value as a distribution over small integers.

The policy samples an action token by token, each conditioned on those before: u, then v given u,
then w given u and v. Candidates are sampled with one uniform number per state and token (arithmetic
sampling, Vilnis et al. 2023, section 3): the K candidates are K equally spaced points of the unit
interval, each token's distribution cuts it, and the position within the selected piece is the point
for the next token. Every candidate alone is an exact sample from the policy, and together they
cover it far better than K independent samples, at the cost of a comparison with thresholds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Float32, Integer, PRNGKeyArray

from matrixrl.types import TokenLayout

MASKED = -1e9

# With more classes than this, sampling takes two steps.
MAX_THRESHOLDS = 32


class Candidates(NamedTuple):
    """K actions sampled from a policy.

    Attributes:
      log_prob: of each action under the policy (not the flattened one that drew
        it).
    """

    tokens: Integer[Array, "*B K tokens"]
    log_prob: Float32[Array, "*B K"]


class TokenPolicy(nn.Module):
    """Distribution over actions, as tokens of a layout, conditioned on the torso's output.

    Attributes:
      layout: the tokens, and which classes are legal.
      width: units of the layer that joins state and earlier tokens.
    """

    layout: TokenLayout
    width: int

    def setup(self) -> None:
        """Creates the layers of every token."""
        layout = self.layout
        self.state_layers = [nn.Dense(self.width, name=f"state_{t}") for t in range(layout.num_tokens)]
        # Rows of all classes of all earlier tokens: their contribution to the layer of token t.
        self.context = [
            self.param(
                f"context_{t}",
                nn.initializers.normal(0.5 / np.sqrt(t)),
                (sum(layout.num_classes[:t]), self.width),
            )
            for t in range(1, layout.num_tokens)
        ]
        self.logit_layers = [
            nn.Dense(
                classes,
                name=f"logits_{t}",
                kernel_init=nn.initializers.variance_scaling(0.1, "fan_in", "normal"),
            )
            for t, classes in enumerate(layout.num_classes)
        ]

    def state_parts(self, hidden: Float[Array, "*B D"]) -> tuple[Float[Array, "*B width"], ...]:
        """Computes the state's contribution to each token's layer, once per state."""
        return tuple(layer(hidden) for layer in self.state_layers)

    def token_logits(
        self,
        index: int,
        state_part: Float[Array, "B 1 width"],
        earlier: Integer[Array, "B K index"],
        prior: Float[Array, "B classes"] | Float[Array, "B given classes"] | None,
    ) -> Float[Array, "B _ classes"]:
        """Computes logits of token `index` conditioned on the tokens before it; illegal ones are
        masked. There is one row for all candidates if the token does not depend on them.

        Args:
          prior: may depend on the class of the conditioning token.
        """
        layout = self.layout
        given = layout.given[index]
        if index:
            # Add the contributions of the earlier tokens.
            offsets = np.cumsum([0, *layout.num_classes[: index - 1]])
            state_part = state_part + jnp.take(self.context[index - 1], earlier + offsets, axis=0).sum(-2)
        logits = self.logit_layers[index](jax.nn.relu(state_part))
        if prior is not None:
            if prior.ndim == 2:
                prior = prior[:, None]
            else:
                prior = jnp.take_along_axis(prior, earlier[..., given, None], axis=1)
            logits = logits + prior
        row = 0 if given < 0 else earlier[..., given]
        # Mask illegal classes, which depend on whether the vector is still zero.
        allowed = jnp.asarray(layout.legal_while_zero[index])[row]
        if layout.zero_after[index]:
            nonzero = jnp.any(earlier[..., np.array(layout.zero_after[index])] != 0, axis=-1, keepdims=True)
            allowed = jnp.where(nonzero, jnp.asarray(layout.legal[index])[row], allowed)
        return jnp.where(allowed, logits, MASKED)

    def log_prob(
        self,
        hidden: Float[Array, "B D"],
        tokens: Integer[Array, "B M tokens"],
        priors: tuple[Float[Array, "B ..."], ...] | None,
    ) -> Float[Array, "B M"]:
        """Computes the log-probability of actions `tokens` in states `hidden`."""
        total = jnp.zeros(tokens.shape[:-1])
        for index, part in enumerate(self.state_parts(hidden)):
            prior = None if priors is None else priors[index]
            earlier, chosen = tokens[..., :index], tokens[..., index, None]
            if index == 0:  # the first token does not depend on the action
                log_probs = jax.nn.log_softmax(self.token_logits(0, part[:, None], earlier, prior))
                log_probs = jnp.broadcast_to(log_probs, (*tokens.shape[:-1], log_probs.shape[-1]))
            else:
                log_probs = jax.nn.log_softmax(self.token_logits(index, part[:, None], earlier, prior))
            total += jnp.take_along_axis(log_probs, chosen, axis=-1)[..., 0]
        return total

    def draw(
        self,
        key: PRNGKeyArray,
        hidden: Float[Array, "B D"],
        num_candidates: int,
        temperature: float,
        priors: tuple[Float[Array, "B ..."], ...] | None,
    ) -> Candidates:
        """Samples K actions for each state `hidden` from the policy flattened by
        `temperature` (1: unchanged).
        """
        parts = self.state_parts(hidden)

        def logits_of(index: int, tokens: Array) -> Array:
            prior = None if priors is None else priors[index]
            return self.token_logits(index, parts[index][:, None], tokens, prior)

        return draw_tokens(
            key, logits_of, (hidden.shape[0], num_candidates, self.layout.num_tokens), temperature
        )


def draw_tokens(
    key: PRNGKeyArray,
    logits_of: Callable[[int, Array], Array],
    shape: tuple[int, int, int],
    temperature: float | Float[Array, ""],
) -> Candidates:
    """Samples actions token by token, with one uniform number per state and token.

    Args:
      key: consumed.
      logits_of: (index, tokens sampled so far [B, K, index]) to logits [B, K or 1, classes].
      shape: (B, K, number of tokens).
      temperature: flattens the sampling distribution; log-probabilities are those of the policy
        itself.
    """
    batch, num_candidates, num_tokens = shape
    rotations = jax.random.uniform(key, (num_tokens, batch, 1))
    # K equally spaced points; the random rotation of the first token makes each of them uniform.
    points = jnp.broadcast_to(jnp.arange(num_candidates) / num_candidates, (batch, num_candidates))
    tokens = jnp.zeros((batch, num_candidates, 0), jnp.int32)
    log_prob = jnp.zeros((batch, num_candidates))
    for index in range(num_tokens):
        # A new rotation per token keeps the spacing and restores the precision that the earlier
        # tokens consumed.
        points = jnp.mod(points + rotations[index], 1.0)
        logits = logits_of(index, tokens)
        shifted = logits - logits.max(-1, keepdims=True)
        weights = jnp.exp(shifted)
        log_total = jnp.log(weights.sum(-1))
        plain = isinstance(temperature, float) and temperature == 1.0
        chosen, points = _choose(weights if plain else jnp.exp(shifted / temperature), points)
        log_prob += _at(shifted, chosen) - log_total
        tokens = jnp.concatenate([tokens, chosen[..., None]], axis=-1)
    return Candidates(tokens, log_prob)


def _choose(weights: Array, points: Array) -> tuple[Array, Array]:
    """Finds the class that contains each point of the unit interval, and the point's position
    within the class's piece.

    Args:
      weights: float32 [B, K or 1, classes]; a class's piece is as long as its share of them.
      points: float32 [B, K].

    Returns:
      int32 [B, K] and float32 [B, K].
    """
    classes = weights.shape[-1]
    if classes <= MAX_THRESHOLDS:
        return _choose_by_thresholds(weights, points)
    # Many classes: select a block, then a class within it, which needs few thresholds.
    block = 1 << (classes.bit_length() // 2)
    padded = jnp.pad(weights, ((0, 0), (0, 0), (0, -classes % block)))
    blocks = padded.reshape(*padded.shape[:-1], -1, block)
    where, points = _choose(blocks.sum(-1), points)
    if blocks.shape[1] == 1:
        inside = jnp.take_along_axis(blocks[:, 0], where[..., None], axis=1)
    else:
        inside = jnp.take_along_axis(blocks, where[..., None, None], axis=2)[..., 0, :]
    chosen, points = _choose(inside, points)
    return jnp.minimum(where * block + chosen, classes - 1), points


def _choose_by_thresholds(weights: Array, points: Array) -> tuple[Array, Array]:
    """Performs `_choose` with weights [B, K or 1, n] that need not sum to 1."""
    size = weights.shape[-1]
    # Accelerators round float32 products by default, and sampling must be exact.
    upper = jnp.triu(jnp.ones((size, size), jnp.float32))
    thresholds = jnp.matmul(weights, upper, precision="highest")
    below = points[..., None] * thresholds[..., -1:] >= thresholds
    chosen = jnp.minimum(below.sum(-1), size - 1)
    # Rescale the point's position within the chosen piece to [0, 1).
    weight = jnp.where(chosen[..., None] == jnp.arange(size), weights, 0.0).sum(-1)
    start = jnp.where(below, weights, 0.0).sum(-1)
    inside = (points * thresholds[..., -1] - start) / jnp.maximum(weight, 1e-30)
    return chosen, jnp.clip(inside, 0.0, 1.0 - 1e-7)


def _at(values: Array, index: Array) -> Array:
    """Selects values [B, K or 1, n] at index [B, K]."""
    if values.shape[1] == 1:
        return jnp.take_along_axis(values[:, 0], index, axis=-1)
    return jnp.take_along_axis(values, index[..., None], axis=-1)[..., 0]


class IntegerValue(nn.Module):
    """Distribution over 0..max_value: the number of further terms needed, including the leftover
    bound.

    Attributes:
      max_value: largest value that is distinguished.
    """

    max_value: int

    @nn.compact
    def __call__(self, hidden: Float[Array, "*B D"]) -> Float[Array, "*B values"]:
        """Returns logits."""
        hidden = jax.nn.relu(nn.Dense(hidden.shape[-1] // 2)(hidden))
        return nn.Dense(
            self.max_value + 1, kernel_init=nn.initializers.variance_scaling(0.1, "fan_in", "normal")
        )(hidden)


def best_fraction_mean(logits: Float[Array, "*B values"], fraction: float) -> Float[Array, "*B"]:
    """Computes the mean of the best (lowest) `fraction` of a distribution over 0..n given by
    logits.

    With fraction 1 it is the mean. AlphaTensor (Fawzi et al. 2022, Methods) acts on the best
    quarter: the search aims for the best game, not the average one.
    """
    weights = jax.nn.softmax(logits, axis=-1)
    if fraction < 1.0:
        size = weights.shape[-1]
        upper = jnp.triu(jnp.ones((size, size), weights.dtype))
        total = jnp.matmul(weights, upper, precision="highest")
        weights = jnp.clip(fraction - (total - weights), 0.0, weights) / fraction
    return weights @ jnp.arange(logits.shape[-1], dtype=weights.dtype)
