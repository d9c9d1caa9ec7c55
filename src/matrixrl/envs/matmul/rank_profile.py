"""Rank profile of a residual: the ranks of its contractions with vectors (docs/matmul_method.md,
section 9).

For every mode and every non-zero x of F_p^a the matrix x . T has a rank over F_p. Where ranks add,
rank(x . T) counts the terms with <x, u> != 0, so that its Fourier transform over x,

    W(u) = - sum_x Re(omega^<x, u>) rank(x . T) / p^(a-1),   omega = exp(2 pi i / p),

is the number of terms whose factor is u (up to a unit of F_p). Where ranks do not add it is still
informative. The profile is exact, exists for every format and ring, and uses no known solution.

A vector with more entries than fit one token is described group by group: x runs over the vectors
supported on one group of entries, and the transform is the marginal over the entries of that group.
The number of contractions thus stays small for every format (5x5x5 over F2: four groups of up to
seven bits per mode).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float32, Int8, Int32, Integer, UInt32

from matrixrl.envs.matmul.factors import ActionCodec
from matrixrl.envs.matmul.finite_fields import add_mod3, pack_bits, rank_mod2, rank_mod3


def group_vectors(prime: int, entries: int) -> Int8[np.ndarray, "count entries"]:
    """Returns non-zero vectors of F_p^entries up to units, in the order of
    `contractions`.

    Vectors are grown entry by entry; the last non-zero entry is 1, which picks one of x and 2x over
    F3.
    """
    vectors = np.zeros((1, entries), np.int8)  # all vectors of the entries seen so far, zero first
    chosen = []
    for entry in range(entries):
        leading = vectors.copy()
        leading[:, entry] = 1
        chosen.append(leading)
        grown = [vectors]
        for value in range(1, prime):
            more = vectors.copy()
            more[:, entry] = value
            grown.append(more)
        vectors = np.concatenate(grown)
    return np.concatenate(chosen)


@dataclass(frozen=True)
class RankProfile:
    """Computes rank profiles of residuals of one shape and their transforms.

    Attributes:
      codec: the spelling of actions; its groups are the groups of the profile.
    """

    codec: ActionCodec

    @cached_property
    def max_rank(self) -> int:
        """No contraction has a larger rank."""
        a, b, c = self.codec.shape
        return max(min(b, c), min(a, c), min(a, b))

    @cached_property
    def blocks(self) -> tuple[tuple[int, int, slice], ...]:
        """(prime, group, slice of the profile) for each field and group, in order."""
        found, start = [], 0
        for prime in self.codec.ring.primes:
            for group, size in enumerate(size for sizes in self.codec.groups for size in sizes):
                count = (prime**size - 1) // (prime - 1)
                found.append((prime, group, slice(start, start + count)))
                start += count
        return tuple(found)

    @property
    def length(self) -> int:
        """Number of contractions in a profile."""
        return self.blocks[-1][2].stop

    def __call__(self, residual: Integer[Array, "*B a b c"]) -> Int32[Array, "*B length"]:
        """Computes the ranks of all contractions of a residual."""
        return jnp.concatenate(
            [
                self._mode_ranks(jnp.moveaxis(residual, mode - 3, -3), mode, prime)
                for prime in self.codec.ring.primes
                for mode in range(3)
            ],
            axis=-1,
        )

    def _mode_ranks(self, slices: Array, mode: int, prime: int) -> Array:
        """Computes the ranks of the contractions of `slices` [..., k, rows, columns] along k, group
        by group.
        """
        if slices.shape[-2] > slices.shape[-1]:  # fewer, wider rows are cheaper
            slices = jnp.swapaxes(slices, -1, -2)
        residues = jnp.mod(slices, prime)
        if prime == 2:
            packed = (pack_bits(residues == 1),)  # words [..., k, rows]
        else:
            packed = (pack_bits(residues == 1), pack_bits(residues == 2))
        ranks, start = [], 0
        for size in self.codec.groups[mode]:
            # Contract with the vectors supported on this group of entries.
            group = tuple(word[..., start : start + size, :] for word in packed)
            start += size
            if prime == 2:
                ranks.append(rank_mod2(contractions_mod2(group[0])))
            else:
                ranks.append(rank_mod3(*contractions_mod3(*group)))
        return jnp.concatenate(ranks, axis=-1)

    def priors(self, ranks: Int32[Array, "B length"]) -> tuple[tuple[Float32[Array, "B ..."], ...], ...]:
        """Computes transforms of a batch of profiles, per token of the codec's layout.

        Each is float32 [B, classes], or [B, classes of the conditioning token, classes] for a token
        of signs. Over F2 it is W of every class, reduced modulo 2. Over F3 with split signs a
        group's first token has the sum of W over the signs, which counts terms with these non-zero
        entries, and its token of signs has W itself.
        """
        ranks = ranks.astype(jnp.float32)
        found: list[list[Array]] = [[] for _ in range(self.codec.layout.num_tokens)]
        for prime, group, where in self.blocks:
            for token, matrix in self._matrices(prime, group):
                prior = jnp.tensordot(ranks[:, where], jnp.asarray(matrix), axes=1)
                found[token].append(prior)
        return tuple(tuple(parts) for parts in found)

    def _matrices(self, prime: int, group: int) -> list[tuple[int, np.ndarray]]:
        """Returns (token, [contractions, ..., classes]): profile times matrix is the prior of the
        token.
        """
        table = self.codec.tables[group]
        if prime == 2 or not self.codec.splits_signs:
            return [(group, transform_matrix(prime, table))]
        # Transform at every combination of non-zero positions and signs.
        signed = table[:, None, :] * (1 - 2 * table[None, :, :])
        matrix = transform_matrix(prime, signed.reshape(-1, table.shape[1])).reshape(
            -1, len(table), len(table)
        )
        token = self.codec.num_groups + group
        # W is equal for u and -u, so half of the legal signs suffice.
        counted = matrix * self.codec.layout.legal[token] / 2
        return [(group, counted.sum(-1)), (token, matrix)]


def transform_matrix(
    prime: int, vectors: Integer[np.ndarray, "n entries"]
) -> Float32[np.ndarray, "contractions n"]:
    """Returns the matrix that maps ranks to W of each vector; 0 for zero ones."""
    entries = vectors.shape[1]
    x = group_vectors(prime, entries).astype(np.int64)
    products = np.mod(x @ vectors.T.astype(np.int64), prime)
    # x and its multiples c x have one rank, so each x represents its p - 1 multiples; over F2 and
    # F3 the sum of omega^(c t) over the units c is p - 1 for t = 0 and -1 otherwise.
    kernel = np.where(products == 0, prime - 1.0, -1.0)
    matrix = -kernel / prime ** (entries - 1)
    matrix[:, np.mod(vectors, prime).sum(1) == 0] = 0.0
    return matrix.astype(np.float32)


def contractions_mod2(rows: UInt32[Array, "*B entries rows"]) -> UInt32[Array, "*B contractions rows"]:
    """Computes packed rows of x . T for the x of `group_vectors(2, k)`."""
    entries = rows.shape[-2]
    seen = jnp.zeros_like(rows[..., :1, :])
    chosen = []
    for entry in range(entries):
        leading = seen ^ rows[..., entry : entry + 1, :]
        chosen.append(leading)
        if entry < entries - 1:
            seen = jnp.concatenate([seen, leading], axis=-2)
    return jnp.concatenate(chosen, axis=-2)


def contractions_mod3(
    ones: UInt32[Array, "*B entries rows"], twos: UInt32[Array, "*B entries rows"]
) -> tuple[UInt32[Array, "*B contractions rows"], UInt32[Array, "*B contractions rows"]]:
    """Computes the contractions over F3 of pairs of words (ones, twos)."""
    entries = ones.shape[-2]
    zero = jnp.zeros_like(ones[..., :1, :])
    seen = (zero, zero)
    chosen: list[tuple[Array, Array]] = []
    for entry in range(entries):
        row = (ones[..., entry : entry + 1, :], twos[..., entry : entry + 1, :])
        leading = add_mod3(seen, row)
        chosen.append(leading)
        if entry < entries - 1:
            doubled = add_mod3(leading, row)
            seen = (
                jnp.concatenate([seen[0], leading[0], doubled[0]], axis=-2),
                jnp.concatenate([seen[1], leading[1], doubled[1]], axis=-2),
            )
    first, second = (jnp.concatenate(parts, axis=-2) for parts in zip(*chosen, strict=True))
    return first, second
