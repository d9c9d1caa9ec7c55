"""The tensor game: subtract rank-one terms from a tensor until nothing is left (AlphaTensor, Fawzi
et al. 2022).

A state is the integer residual, an action is a triple (u, v, w) encoded as tokens, and playing it
subtracts u (x) v (x) w. The game is solved when the residual is exactly zero and ends, solved or
not, at the step limit. Each action costs 1; at the step limit a residual that is not zero costs an
upper bound on its rank more. No reward mentions a known rank. The functions here are for one game;
`jax.vmap` makes a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float32, Int8, Int32, Integer

from matrixrl.envs.base import in_standard_settings
from matrixrl.envs.matmul.factors import ActionCodec
from matrixrl.envs.matmul.finite_fields import pack_bits, rank_mod2

# Ranks of integer matrices are computed modulo this prime: products stay below 2^31, and it divides
# no minor of a matrix whose minors are smaller (all 4x4 matrices with entries up to 6, by
# Hadamard's bound).
LARGE_PRIME = 32_749


class TensorState(NamedTuple):
    """State of one game.

    Attributes:
      residual: target minus the terms so far.
      num_factors: number of actions played.
      step_limit: maximum number of actions.
      terminated: true if the game is over; further actions have no effect.
    """

    residual: Int8[Array, "*B a b c"]
    num_factors: Int32[Array, "*B"]
    step_limit: Int32[Array, "*B"]
    terminated: Bool[Array, "*B"]

    @property
    def solved(self) -> Bool[Array, "*B"]:
        """True if the residual is exactly zero, by an integer test."""
        return ~jnp.any(self.residual != 0, axis=(-3, -2, -1))


@in_standard_settings
@dataclass(frozen=True)
class TensorGame:
    """The rules, for tensors of one shape over one ring.

    Attributes:
      codec: shape, ring and spelling of actions.
    """

    codec: ActionCodec

    def reset(
        self,
        target: Integer[Array, "a b c"] | Integer[np.ndarray, "a b c"],
        step_limit: Integer[Array, ""] | int,
    ) -> TensorState:
        """Returns a game that starts from `target`."""
        residual = jnp.asarray(target, jnp.int8)
        return TensorState(
            residual,
            jnp.int32(0),
            jnp.asarray(step_limit, jnp.int32),
            ~jnp.any(residual != 0, axis=(-3, -2, -1)),
        )

    def step(
        self, state: TensorState, tokens: Integer[Array, "tokens"]
    ) -> tuple[TensorState, Float32[Array, ""]]:
        """Applies the action encoded by `tokens`.

        Returns:
          The next state and the reward: -1, and at the step limit additionally minus
            `leftover_bound` of the residual. A finished game is unchanged, with reward 0.
        """
        residual = jnp.where(
            state.terminated, state.residual, self.subtract(state.residual, *self.codec.decode(tokens))
        )
        num_factors = state.num_factors + jnp.where(state.terminated, 0, 1)
        solved = ~jnp.any(residual != 0)
        terminated = state.terminated | solved | (num_factors >= state.step_limit)
        cost = 1.0 + jnp.where(terminated & ~solved, self.leftover_bound(residual), 0)
        reward = jnp.where(state.terminated, 0.0, -cost).astype(jnp.float32)
        return TensorState(residual, num_factors, state.step_limit, terminated), reward

    def subtract(
        self,
        residual: Int8[Array, "*B a b c"],
        u: Int8[Array, "*B a"],
        v: Int8[Array, "*B b"],
        w: Int8[Array, "*B c"],
    ) -> Int8[Array, "*B a b c"]:
        """Subtracts u (x) v (x) w from `residual` in the ring.

        Over Z an entry saturates at +-127: it must not wrap around to a false zero.
        """
        term = u[..., :, None, None] * v[..., None, :, None] * w[..., None, None, :]
        if self.codec.ring.modulus == 2:
            return residual ^ term
        left = jnp.clip(residual.astype(jnp.int16) - term.astype(jnp.int16), -127, 127).astype(jnp.int8)
        return jnp.where(jnp.abs(residual) == 127, residual, left)

    def leftover_bound(self, residual: Integer[Array, "*B a b c"]) -> Int32[Array, "*B"]:
        """Computes an upper bound on the rank of `residual`.

        It is the minimum over the three modes of the sum of the ranks of the slices: a slice of
        rank r is r terms.
        """
        bounds = []
        for mode in range(3):
            slices = jnp.moveaxis(residual, mode - 3, -3)
            # Orient the slices to have fewer rows than columns, which eliminates faster.
            if slices.shape[-2] > slices.shape[-1]:
                slices = jnp.swapaxes(slices, -1, -2)
            if self.codec.ring.modulus == 2:
                ranks = rank_mod2(pack_bits(slices != 0))
            else:
                ranks = rank_mod_large_prime(slices)
            bounds.append(ranks.sum(-1))
        return jnp.minimum(jnp.minimum(bounds[0], bounds[1]), bounds[2])


def rank_mod_large_prime(matrices: Integer[Array, "*B rows columns"]) -> Int32[Array, "*B"]:
    """Computes the rank of small integer matrices modulo `LARGE_PRIME`.

    Elimination without division: a later row becomes row * pivot - pivot_row * entry, in residues
    below the prime.
    """
    # Unsigned, so that XLA converts the remainder by a constant into products.
    prime = jnp.uint32(LARGE_PRIME)
    rows = jnp.mod(matrices.astype(jnp.int32), LARGE_PRIME).astype(jnp.uint32)
    num_rows = rows.shape[-2]
    rank = jnp.zeros(rows.shape[:-2], jnp.int32)
    for index in range(num_rows):
        pivot_row = rows[..., index, :]
        # Select the first non-zero column by a mask: a sum is far cheaper than a gather.
        is_column = jnp.argmax(pivot_row != 0, axis=-1)[..., None] == jnp.arange(rows.shape[-1])
        pivot = jnp.where(is_column, pivot_row, 0).sum(-1, keepdims=True)
        rank += pivot[..., 0] != 0
        if index + 1 < num_rows:
            # Clear the pivot column from the later rows.
            later = rows[..., index + 1 :, :]
            entries = jnp.where(is_column[..., None, :], later, 0).sum(-1, keepdims=True)
            kept = jax.lax.rem(later * pivot[..., None], prime)
            cleared = jax.lax.rem(
                kept + (prime - jax.lax.rem(pivot_row[..., None, :] * entries, prime)), prime
            )
            rows = jnp.concatenate(
                [rows[..., : index + 1, :], jnp.where((pivot != 0)[..., None], cleared, later)], axis=-2
            )
    return rank
