"""Actions as vectors and as tokens: encoding, canonical signs, and decoding.

A vector is cut into groups of consecutive entries, and each group is encoded by one token: class c
has the digits of c in base `ring.base`, most significant first, and digit d represents
`ring.values[d]`. Over the ternary integers a group has two tokens, both in base 2: first the
positions of the non-zero entries, and, once those of all three vectors are known, which of them are
negative. The action modulo 2 is thus sampled first, and the signs are what a lift would add.

(u, v, w) and (-u, -v, w) are one action: the first non-zero entry of u and of v is positive, and w
carries the sign.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Int8, Int32, Integer

from matrixrl.config.matmul import group_sizes
from matrixrl.envs.base import in_standard_settings
from matrixrl.envs.matmul.tensors import TERNARY, Ring
from matrixrl.types import TokenLayout


@in_standard_settings
@dataclass(frozen=True)
class ActionCodec:
    """Encodes the actions of a game with tensors of shape (a, b, c).

    Attributes:
      shape: lengths of u, v and w.
      ring: the values of an entry.
      max_classes: largest number of values of a group.
      whole_vectors: a token is a complete vector, including signs; `max_classes` is ignored.
    """

    shape: tuple[int, int, int]
    ring: Ring
    max_classes: int = 128
    whole_vectors: bool = False

    @property
    def splits_signs(self) -> bool:
        """True if signs have their own tokens: over the ternary integers, unless a token is a
        complete vector.
        """
        return self.ring == TERNARY and not self.whole_vectors

    @cached_property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Group sizes of each of the three vectors."""
        if self.whole_vectors:
            return tuple((length,) for length in self.shape)
        return tuple(group_sizes(length, self.ring.base, self.max_classes) for length in self.shape)

    @cached_property
    def group_slices(self) -> tuple[slice, slice, slice]:
        """Ranges of the groups of u, v and w, counted through all three vectors."""
        counts = np.cumsum([0, *(len(sizes) for sizes in self.groups)])
        u, v, w = (slice(int(counts[i]), int(counts[i + 1])) for i in range(3))
        return u, v, w

    @property
    def num_groups(self) -> int:
        """Number of groups of all three vectors; token g encodes group g, and its signs are token
        `num_groups` + g.
        """
        return sum(len(sizes) for sizes in self.groups)

    @cached_property
    def tables(self) -> tuple[Int8[np.ndarray, "_ _"], ...]:
        """Entry values of each class of each group: of its non-zero
        entries, if split.
        """
        values = np.array([0, 1], np.int8) if self.splits_signs else self.ring.values
        return tuple(_spell(size, values) for sizes in self.groups for size in sizes)

    @cached_property
    def layout(self) -> TokenLayout:
        """Information that a network needs to sample legal, canonical actions."""
        num_classes, given, zero_after, legal, legal_while_zero = [], [], [], [], []
        for index, groups in enumerate(self.group_slices):
            for group in range(groups.start, groups.stop):
                table = self.tables[group]
                allowed = np.ones(len(table), bool)
                if self.ring.modulus == 0 and index < 2:
                    allowed &= _first_nonzero(table) >= 0
                if group == groups.stop - 1:
                    allowed &= (table != 0).any(axis=1)
                num_classes.append(len(table))
                given.append(-1)
                zero_after.append(tuple(range(groups.start, group)))
                legal.append(np.ones((1, len(table)), bool))
                legal_while_zero.append(allowed[None])
        if self.splits_signs:
            for index, groups in enumerate(self.group_slices):
                for group in range(groups.start, groups.stop):
                    support = self.tables[group]
                    signed = support[:, None, :] * (1 - 2 * support[None, :, :])
                    allowed = ~((support[:, None, :] == 0) & (support[None, :, :] == 1)).any(axis=-1)
                    num_classes.append(len(support))
                    given.append(group)
                    zero_after.append(tuple(range(groups.start, group)))
                    legal.append(allowed)
                    legal_while_zero.append(allowed & (_first_nonzero(signed) >= 0) if index < 2 else allowed)
        return TokenLayout(
            tuple(num_classes), tuple(given), tuple(zero_after), tuple(legal), tuple(legal_while_zero)
        )

    def decode(
        self, tokens: Integer[Array, "*B tokens"]
    ) -> tuple[Int8[Array, "*B a"], Int8[Array, "*B b"], Int8[Array, "*B c"]]:
        """Decodes tokens to vectors u, v and w."""
        parts = [jnp.asarray(table)[tokens[..., group]] for group, table in enumerate(self.tables)]
        if self.splits_signs:
            parts = [
                part * (1 - 2 * jnp.asarray(table)[tokens[..., self.num_groups + group]])
                for group, (part, table) in enumerate(zip(parts, self.tables, strict=True))
            ]
        u, v, w = (jnp.concatenate(parts[groups], axis=-1) for groups in self.group_slices)
        return u, v, w

    def encode(
        self, u: Integer[Array, "*B a"], v: Integer[Array, "*B b"], w: Integer[Array, "*B c"]
    ) -> Int32[Array, "*B tokens"]:
        """Encodes vectors as tokens, without changing signs (see
        `canonical`).
        """
        if self.splits_signs:
            supports = self._classes(2, *(jnp.abs(vector) for vector in (u, v, w)))
            return jnp.concatenate(
                [supports, self._classes(2, *(vector < 0 for vector in (u, v, w)))], axis=-1
            )
        return self._classes(self.ring.base, u, v, w)

    def _classes(self, base: int, *vectors: Array) -> Array:
        """Computes the class of each group, int32 [..., groups], of vectors whose entries are
        digits modulo the base.
        """
        classes = []
        for vector, sizes in zip(vectors, self.groups, strict=True):
            digits = jnp.mod(vector.astype(jnp.int32), base)
            start = 0
            for size in sizes:
                powers = base ** np.arange(size - 1, -1, -1)
                classes.append((digits[..., start : start + size] * powers).sum(-1))
                start += size
        return jnp.stack(classes, axis=-1)

    def canonical(
        self, u: Integer[Array, "*B a"], v: Integer[Array, "*B b"], w: Integer[Array, "*B c"]
    ) -> tuple[Integer[Array, "*B a"], Integer[Array, "*B b"], Integer[Array, "*B c"]]:
        """Returns the same rank-one term with the first non-zero entry of u and of v positive."""
        if self.ring.modulus == 2:
            return u, v, w
        sign_u, sign_v = leading_sign(u), leading_sign(v)
        return u * sign_u, v * sign_v, w * sign_u * sign_v


def _spell(entries: int, values: np.ndarray) -> np.ndarray:
    """Returns the values [classes, entries] of all classes of a group."""
    return values[np.indices((len(values),) * entries).reshape(entries, -1).T]


def _first_nonzero(vectors: np.ndarray) -> np.ndarray:
    """Returns the first non-zero entry along the last axis; 0 for a zero vector."""
    first = (vectors != 0).argmax(axis=-1)[..., None]
    return np.take_along_axis(vectors, first, axis=-1)[..., 0]


def leading_sign(vector: Integer[Array, "*B length"]) -> Integer[Array, "*B 1"]:
    """Returns the sign of the first non-zero entry along the last axis, kept as a dimension of one;
    +1 for the zero vector.
    """
    first = jnp.take_along_axis(vector, jnp.argmax(vector != 0, axis=-1, keepdims=True), axis=-1)
    return jnp.where(first < 0, -1, 1).astype(vector.dtype)
