"""An action as vectors and as tokens: spelling, canonical signs, and back.

A vector of length L over a ring with `base` values is cut into groups of consecutive entries, each a token with
`base ** entries` classes. Class c spells the digits of c in that base, most significant first, and digit d stands for
`ring.values[d]`. (u, v, w) and (-u, -v, w) are one action: the first non-zero entry of u and of v is positive, and w
carries the sign.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import jax.numpy as jnp
import numpy as np
from jax import Array

from matrixrl.envs.matmul.tensors import Ring
from matrixrl.types import TokenLayout


def group_sizes(length: int, base: int, max_classes: int) -> tuple[int, ...]:
    """Cut `length` entries into the fewest groups of at most `max_classes` classes, as even as can be."""
    largest = 1
    while base ** (largest + 1) <= max_classes:
        largest += 1
    count = -(-length // largest)
    return tuple(length // count + (index < length % count) for index in range(count))


@dataclass(frozen=True)
class ActionCodec:
    """Spells the actions of a game with tensors of shape (a, b, c).

    Attributes:
      shape: lengths of u, v and w.
      ring: the values of an entry.
      max_classes: largest number of classes of a token.
    """

    shape: tuple[int, int, int]
    ring: Ring
    max_classes: int = 128

    @cached_property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Group sizes of each of the three vectors."""
        return tuple(group_sizes(length, self.ring.base, self.max_classes) for length in self.shape)

    @cached_property
    def tables(self) -> tuple[np.ndarray, ...]:
        """Entry values of each class, per token, int8 [classes, entries]."""
        return tuple(self._table(size) for sizes in self.groups for size in sizes)

    def _table(self, entries: int) -> np.ndarray:
        digits = np.indices((self.ring.base,) * entries).reshape(entries, -1).T
        return self.ring.values[digits]

    @cached_property
    def token_slices(self) -> tuple[slice, slice, slice]:
        """Which tokens spell u, v and w."""
        counts = np.cumsum([0, *(len(sizes) for sizes in self.groups)])
        return tuple(slice(int(counts[i]), int(counts[i + 1])) for i in range(3))  # pyright: ignore[reportReturnType]

    @cached_property
    def layout(self) -> TokenLayout:
        """What a network has to know to draw legal, canonical actions."""
        vector, starts, legal = [], [], []
        for index, sizes in enumerate(self.groups):
            for position in range(len(sizes)):
                table = self.tables[len(vector)]
                nonzero = table != 0
                first = table[np.arange(len(table)), nonzero.argmax(axis=1)]
                allowed = np.ones(len(table), bool)
                if self.ring.modulus == 0 and index < 2:
                    allowed &= first >= 0
                if position == len(sizes) - 1:
                    allowed &= nonzero.any(axis=1)
                vector.append(index)
                starts.append(position == 0)
                legal.append(allowed)
        return TokenLayout(
            tuple(len(table) for table in self.tables), tuple(vector), tuple(starts), tuple(legal)
        )

    def decode(self, tokens: Array) -> tuple[Array, Array, Array]:
        """Tokens [..., num_tokens] to vectors u [..., a], v [..., b], w [..., c], int8."""
        parts = [jnp.asarray(table)[tokens[..., index]] for index, table in enumerate(self.tables)]
        u, v, w = (jnp.concatenate(parts[part], axis=-1) for part in self.token_slices)
        return u, v, w

    def encode(self, u: Array, v: Array, w: Array) -> Array:
        """Vectors to tokens [..., num_tokens] int32, without changing signs (see `canonical`)."""
        tokens = []
        for vector, sizes in zip((u, v, w), self.groups, strict=True):
            digits = jnp.mod(vector.astype(jnp.int32), self.ring.base)
            start = 0
            for size in sizes:
                powers = self.ring.base ** np.arange(size - 1, -1, -1)
                tokens.append((digits[..., start : start + size] * powers).sum(-1))
                start += size
        return jnp.stack(tokens, axis=-1)

    def canonical(self, u: Array, v: Array, w: Array) -> tuple[Array, Array, Array]:
        """The same rank-one term with the first non-zero entry of u and of v positive."""
        if self.ring.modulus == 2:
            return u, v, w
        sign_u, sign_v = leading_sign(u), leading_sign(v)
        return u * sign_u, v * sign_v, w * sign_u * sign_v


def leading_sign(vector: Array) -> Array:
    """Sign of the first non-zero entry along the last axis, kept as a dimension of one; +1 for the zero vector."""
    first = jnp.take_along_axis(vector, jnp.argmax(vector != 0, axis=-1, keepdims=True), axis=-1)
    return jnp.where(first < 0, -1, 1).astype(vector.dtype)
