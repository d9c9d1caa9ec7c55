"""Policy and value of a perceptron over features of a residual; vectors are encoded as tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
from jax import Array
from jaxtyping import Float, Float32, Integer, PRNGKeyArray

from matrixrl.networks.heads import Candidates, IntegerValue, TokenPolicy
from matrixrl.networks.torso import ResidualMLP
from matrixrl.types import TokenLayout


class Evaluated(NamedTuple):
    """Outputs of `TokenNetwork` for a batch.

    Attributes:
      hidden: output of the torso.
      priors: per token, logits [B, classes]; None without direct priors.
      value_logits: of each value from 0 to the maximum.
    """

    hidden: Float32[Array, "B width"]
    priors: tuple[Float[Array, "B ..."], ...] | None
    value_logits: Float[Array, "B values"]


class TokenNetwork(nn.Module):
    """Network of a torso, a token policy and an integer value over features of a residual.

    Attributes:
      layout: tokens of an action.
      features: residual [B, ...] to features [B, F], and per token at most `num_transforms` direct
        priors [B, classes] (or [B, classes of the conditioning token, classes]).
      num_transforms: maximum number of direct priors per token; 0 for none.
      width, num_blocks, head_width, max_value: sizes.
      dtype: type of the torso's products; None: float32. The heads are float32.
    """

    layout: TokenLayout
    features: Callable[[Array], tuple[Array, tuple[tuple[Array, ...], ...]]]
    num_transforms: int
    width: int
    num_blocks: int
    head_width: int
    max_value: int
    dtype: Any = None

    def setup(self) -> None:
        """Creates the submodules."""
        self.torso = ResidualMLP(self.width, self.num_blocks, self.dtype)
        self.policy = TokenPolicy(self.layout, self.head_width)
        self.value = IntegerValue(self.max_value)
        # One learned scale per token and transform: the transform is a direct prior over classes.
        self.prior_scale = self.param(
            "prior_scale", nn.initializers.constant(0.5), (self.layout.num_tokens, self.num_transforms)
        )

    def __call__(self, residual: Integer[Array, "B ..."]) -> Evaluated:
        """Evaluates a batch of residuals."""
        features, transforms = self.features(residual)
        hidden = self.torso(features)
        priors = None
        if transforms:
            priors = tuple(
                sum(self.prior_scale[token, index] * part for index, part in enumerate(parts))
                for token, parts in enumerate(transforms)
            )
        return Evaluated(hidden, priors, self.value(hidden))  # pyright: ignore[reportArgumentType]

    def log_prob(
        self, residual: Integer[Array, "B ..."], tokens: Integer[Array, "B M tokens"]
    ) -> tuple[Float[Array, "B M"], Float[Array, "B values"]]:
        """Computes log-probabilities of actions, and value logits."""
        hidden, priors, value_logits = self(residual)
        return self.policy.log_prob(hidden, tokens, priors), value_logits

    def expand(
        self, key: PRNGKeyArray, residual: Integer[Array, "B ..."], num_candidates: int, temperature: float
    ) -> tuple[Candidates, Float[Array, "B values"]]:
        """Samples candidates for each state; also returns value logits."""
        hidden, priors, value_logits = self(residual)
        return self.policy.draw(key, hidden, num_candidates, temperature, priors), value_logits
