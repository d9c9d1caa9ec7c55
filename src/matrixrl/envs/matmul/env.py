"""The tensor game: subtract rank-one terms from a tensor until nothing is left (AlphaTensor, Fawzi et al. 2022).

A state is the integer residual, an action is a triple (u, v, w) spelled in tokens, and playing it subtracts
u (x) v (x) w. The game is solved when the residual is exactly zero and ends, solved or not, at the step limit. Each
action costs 1; at the step limit a residual that is not zero costs an upper bound on its rank more. No reward
mentions a known rank. The functions here are for one game; `jax.vmap` makes a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from matrixrl.envs.base import in_standard_settings
from matrixrl.envs.matmul.factors import ActionCodec
from matrixrl.envs.matmul.finite_fields import pack_bits, rank_mod2

# Ranks of integer matrices are taken modulo this prime: products stay below 2^31, and it divides no minor of a matrix
# whose minors are smaller (all 4x4 matrices with entries up to 6, by Hadamard's bound).
LARGE_PRIME = 32_749


class TensorState(NamedTuple):
    """One game.

    Attributes:
      residual: int8 [a, b, c], what is left of the target.
      num_factors: int32, actions played.
      step_limit: int32, the game ends after so many actions.
      terminated: bool, the game is over; further actions change nothing.
    """

    residual: Array
    num_factors: Array
    step_limit: Array
    terminated: Array

    @property
    def solved(self) -> Array:
        """The residual is exactly zero: an integer test."""
        return ~jnp.any(self.residual != 0, axis=(-3, -2, -1))


@in_standard_settings
@dataclass(frozen=True)
class TensorGame:
    """The rules, for tensors of one shape over one ring.

    Attributes:
      codec: shape, ring and spelling of actions.
    """

    codec: ActionCodec

    def reset(self, target: Array, step_limit: Array | int) -> TensorState:
        """A game that starts from `target` [a, b, c]."""
        residual = jnp.asarray(target, jnp.int8)
        return TensorState(
            residual,
            jnp.int32(0),
            jnp.asarray(step_limit, jnp.int32),
            ~jnp.any(residual != 0, axis=(-3, -2, -1)),
        )

    def step(self, state: TensorState, tokens: Array) -> tuple[TensorState, Array]:
        """Play the action spelled by `tokens` [num_tokens].

        Returns:
          The next state and the reward: -1, and at the step limit minus `leftover_bound` of the residual besides. A
          game that is over stays as it is, with reward 0.
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

    def subtract(self, residual: Array, u: Array, v: Array, w: Array) -> Array:
        """`residual` minus u (x) v (x) w in the ring, int8.

        Over Z an entry that reaches +-127 stays there: it must not wrap around and come back to a false zero.
        """
        term = u[..., :, None, None] * v[..., None, :, None] * w[..., None, None, :]
        if self.codec.ring.modulus == 2:
            return residual ^ term
        left = jnp.clip(residual.astype(jnp.int16) - term.astype(jnp.int16), -127, 127).astype(jnp.int8)
        return jnp.where(jnp.abs(residual) == 127, residual, left)

    def leftover_bound(self, residual: Array) -> Array:
        """An upper bound on the rank of `residual` [..., a, b, c], int32.

        The smallest over the three modes of the sum of the ranks of the slices: a slice of rank r is r terms.
        """
        bounds = []
        for mode in range(3):
            slices = jnp.moveaxis(residual, mode - 3, -3)
            if slices.shape[-2] > slices.shape[-1]:
                slices = jnp.swapaxes(slices, -1, -2)
            if self.codec.ring.modulus == 2:
                ranks = rank_mod2(pack_bits(slices != 0))
            else:
                ranks = rank_mod_large_prime(slices)
            bounds.append(ranks.sum(-1))
        return jnp.minimum(jnp.minimum(bounds[0], bounds[1]), bounds[2])


def rank_mod_large_prime(matrices: Array) -> Array:
    """Rank, int32 [...], of small integer matrices [..., rows, columns], modulo `LARGE_PRIME`.

    Elimination without division: a later row becomes row * pivot - pivot_row * entry, in residues below the prime.
    """
    # Unsigned, since XLA turns the remainder by a constant into products then.
    prime = jnp.uint32(LARGE_PRIME)
    rows = jnp.mod(matrices.astype(jnp.int32), LARGE_PRIME).astype(jnp.uint32)
    num_rows = rows.shape[-2]
    rank = jnp.zeros(rows.shape[:-2], jnp.int32)
    for index in range(num_rows):
        pivot_row = rows[..., index, :]
        # The first non-zero column as a mask: a sum over it is far cheaper than a gather.
        is_column = jnp.argmax(pivot_row != 0, axis=-1)[..., None] == jnp.arange(rows.shape[-1])
        pivot = jnp.where(is_column, pivot_row, 0).sum(-1, keepdims=True)
        rank += pivot[..., 0] != 0
        if index + 1 < num_rows:
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
