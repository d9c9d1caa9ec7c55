"""Network input for a residual: its entries, and the rank profile with its transform
(docs/matmul_method.md, section 9).

The number of terms of a synthetic demonstration and the move number are not inputs: a value head
would learn the answer from them, and with the leftover bound as penalty the value does not depend
on the remaining moves.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float32, Integer

from matrixrl.envs.matmul.factors import ActionCodec
from matrixrl.envs.matmul.rank_profile import RankProfile

# Up to this rank each contraction is a one-hot input, above it a scalar in [0, 1].
MAX_ONE_HOT_RANK = 9


@dataclass(frozen=True)
class Features:
    """Network inputs of a batch of residuals.

    Attributes:
      codec: shape, ring and spelling of actions.
      rank_profile: whether the profile and its transforms are among them.
    """

    codec: ActionCodec
    rank_profile: bool = True

    @cached_property
    def profile(self) -> RankProfile:
        """The profile of this shape and ring."""
        return RankProfile(self.codec)

    @property
    def num_transforms(self) -> int:
        """Transforms per token, at most: one for each field."""
        return len(self.codec.ring.primes) if self.rank_profile else 0

    def __call__(
        self, residual: Integer[Array, "B a b c"]
    ) -> tuple[Float32[Array, "B F"], tuple[tuple[Float32[Array, "B ..."], ...], ...]]:
        """Computes features of residuals, and per token its transforms
        (`RankProfile.priors`).
        """
        batch = residual.shape[0]
        entries = residual.reshape(batch, -1)
        if self.codec.ring.modulus == 2:
            parts = [entries.astype(jnp.float32)]
        else:
            # The fields depend on residues, which a perceptron cannot easily compute from a number.
            residues = jnp.mod(entries, 3)
            parts = [0.5 * entries.astype(jnp.float32), (entries & 1).astype(jnp.float32)]
            parts += [(residues == 1).astype(jnp.float32), (residues == 2).astype(jnp.float32)]
        if not self.rank_profile:
            return jnp.concatenate(parts, axis=-1), ()
        ranks = self.profile(residual)
        if self.profile.max_rank <= MAX_ONE_HOT_RANK:
            parts.append(jax.nn.one_hot(ranks, self.profile.max_rank + 1).reshape(batch, -1))
        else:
            parts.append(ranks / np.float32(self.profile.max_rank))
        return jnp.concatenate(parts, axis=-1), self.profile.priors(ranks)
