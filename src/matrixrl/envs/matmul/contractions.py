"""Contractions of a residual and the information they carry about the vectors of its terms, one
vector at a time.

The residual T is contracted with every vector x of F_p^a along a mode. The resulting matrices x . T
provide

- for the first vector f that is sampled, their ranks (docs/matmul_method.md, section 9);
- for the second vector g, once f is known, whether f is in the column space of y . T;
- for the third vector h, once f and g are known, the effect of subtracting f (x) g on the rank of z
  . T: it decreases if f and g are in the column and row space and f' M^-1 g is 1 there, and
  increases if they are in neither.

Where ranks add, each of these is a count or an indicator of <x, f> = 1, <y, g> = 1, <z, h> = 1 over
the terms, so that its Fourier transform indicates the vectors of terms. A policy whose logits are
transforms of functions of these conditions is equivariant under every change of basis: what it
learns on random tensors holds in every basis of the target.

Over the ternary integers the conditions are taken over F2 and over F3, which together determine the
entries.

A long vector has too many contractions. It is then sampled in two parts, a head and a tail. For the
head x runs over the vectors that are zero on the tail: the transform is the marginal of the head.
For the tail x runs over all tails after a few heads, and a term counts with the sign that its head,
known by then, has under each of these. The bases of games are random, and so are these samples of
x; only in this case the policy is not equivariant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Float32, Int8, Int32, Integer, UInt32

from matrixrl.envs.matmul.factors import ActionCodec
from matrixrl.envs.matmul.finite_fields import FIELDS, Echelon, FieldArithmetic, Packed, eliminate
from matrixrl.envs.matmul.rank_profile import contractions_mod3, group_vectors
from matrixrl.types import Cases, Functions

# Over F2, vectors of more entries than this are sampled in two parts.
MAX_HEAD = 12

# Number of heads in the contractions for a tail: zero, and others sampled once.
NUM_SAMPLED_HEADS = 16

# Maximum number of entries of a transform by one matrix product; longer ones are split in two.
MAX_SINGLE_TRANSFORM = 64


class FieldState(NamedTuple):
    """State of a batch of residuals over one field before any vector is sampled.

    Attributes:
      ranks: per sampled vector, of the contractions of its mode.
      second: echelon forms of y . T with the first vector's mode on one side, words [B,
        contractions].
      third: of z . T, with the first vector's mode on one side and the second's on the other.
    """

    ranks: tuple[Int32[Array, "B _"], Int32[Array, "B _"], Int32[Array, "B _"]]
    second: Echelon
    third: Echelon


@dataclass(frozen=True)
class FieldContractions:
    """Contractions of residuals of one shape over one field.

    Attributes:
      shape: lengths of the first, second and third vector, in sampling order.
      prime: 2 or 3.
      max_head: entries of a vector's head at most, over F2.
    """

    shape: tuple[int, int, int]
    prime: int
    max_head: int = MAX_HEAD

    def tail(self, index: int) -> int:
        """Returns the number of entries that are sampled after the others; 0 for a vector that is
        sampled at once.
        """
        return max(0, self.shape[index] - self.max_head) if self.prime == 2 else 0

    def contracted_with(self, index: int) -> Int8[np.ndarray, "contractions length"]:
        """Returns the vectors x of the contractions for the vector `index`, in order."""
        length, tail = self.shape[index], self.tail(index)
        if self.prime == 3:
            return group_vectors(3, length)
        head = length - tail
        vectors = np.zeros((1 << head, length), np.int8)
        vectors[:, :head] = _spelled(head)
        if not tail:
            return vectors
        sampled = _sampled_heads(head)
        more = np.zeros((len(sampled), 1 << tail, length), np.int8)
        more[:, :, :head], more[:, :, head:] = sampled[:, None], _spelled(tail)
        return np.concatenate([vectors, more.reshape(-1, length)])

    @property
    def field(self) -> FieldArithmetic:
        """Arithmetic."""
        return FIELDS[self.prime]

    def max_rank(self, index: int) -> int:
        """Returns the maximum rank of a contraction for the vector `index`."""
        return min(length for other, length in enumerate(self.shape) if other != index)

    @property
    def num_cases(self) -> tuple[int, int, int]:
        """Number of cases that `cases` distinguishes, per sampled vector."""
        return 1, 2, 5

    def signed(self, index: int) -> bool:
        """Returns true if the cases of the vector `index` have signs: the last vector's over F3."""
        return self.prime == 3 and index == 2

    def __call__(self, residual: Integer[Array, "B first second third"]) -> FieldState:
        """Computes ranks and echelon forms of integer residuals."""
        residues = jnp.mod(residual, self.prime)
        first = self._contract(residues, 0, 1 if self.shape[1] <= self.shape[2] else 2)
        ranks = eliminate(self.field, first).rank
        second = self._echelon(residues, 1, self._side(1))
        third = self._echelon(residues, 2, self._side(2))
        return FieldState((ranks, second.rank, third.rank), second, third)

    def _sides(self, index: int) -> tuple[int, int]:
        """Returns the two modes of the matrices after contraction for the vector `index`."""
        return (0, 2) if index == 1 else (0, 1)

    def _side(self, index: int) -> int:
        """Returns the mode that indexes the rows of the echelon form: the shorter, whose
        elimination is cheaper.
        """
        return min(self._sides(index), key=lambda mode: self.shape[mode])

    def _columns(self, index: int) -> int:
        """Returns the length of the rows."""
        first, second = self._sides(index)
        return self.shape[second if self._side(index) == first else first]

    def _mask(self, index: int) -> Array:
        """Returns the bits of a row; higher bits record the rows that were summed to form it."""
        return jnp.uint32((1 << self._columns(index)) - 1)

    def _contract(self, residues: Array, mode: int, row_mode: int) -> list[Packed]:
        """Computes packed rows, words [B, contractions], of all contractions along `mode`."""
        column_mode = 3 - mode - row_mode
        # Pack the rows of all slices, then add up slices for every vector x.
        slices = jnp.transpose(residues, (row_mode + 1, 0, mode + 1, column_mode + 1))
        packed = self.field.pack(slices)  # words [rows, B, k]
        if self.prime == 2:
            seen: Packed = (self._sums(mode, packed[0]),)
        else:
            ones, twos = (word[..., None] for word in packed)
            seen = tuple(word[..., 0] for word in contractions_mod3(ones, twos))
        return [tuple(word[row] for word in seen) for row in range(len(seen[0]))]

    def _sums(self, mode: int, words: Array) -> Array:
        """Sums words [..., k] over F2 for each of the contractions along `mode`, [...,
        contractions].
        """
        tail = self.tail(mode)
        if not tail:
            return _all_sums(words)
        heads, tails = words[..., :-tail], _all_sums(words[..., -tail:])
        # Contract with all heads alone, then with all tails for each sampled head.
        found = [_all_sums(heads)]
        for chosen in _sampled_heads(heads.shape[-1]):
            total = jnp.zeros_like(words[..., :1])
            for entry in np.flatnonzero(chosen):
                total = total ^ heads[..., entry : entry + 1]
            found.append(total ^ tails)
        return jnp.concatenate(found, axis=-1)

    def _echelon(self, residues: Array, mode: int, row_mode: int) -> Echelon:
        columns = self._columns(mode)
        rows = []
        for index, row in enumerate(self._contract(residues, mode, row_mode)):
            rows.append((row[0] | jnp.uint32(1 << (columns + index)), *row[1:]))
        return eliminate(self.field, rows, self._mask(mode))

    def _lies_in(
        self, echelon: Echelon, index: int, vectors: tuple[Packed | None, Packed | None]
    ) -> tuple[Array | None, Array | None, Array | None]:
        """Tests whether vectors of the two sides are in the spaces that the matrices span there.

        Args:
          vectors: words [B, K, 1] of either side, None if it is not sampled yet.

        Returns:
          bool [B, K, contractions] of either side, and, if both are sampled, f' M^-1 g, uint32 in
          0..p-1.
        """
        field, columns, mask = self.field, self._columns(index), self._mask(index)
        rows_first = self._side(index) == self._sides(index)[0]
        of_rows, of_columns = vectors if rows_first else vectors[::-1]
        # Add an axis for the candidates.
        echelon = Echelon(
            tuple(tuple(word[:, None] for word in row) for row in echelon.rows),
            tuple(low[:, None] for low in echelon.lows),
        )
        in_rows = in_columns = product = None
        if of_rows is not None:
            # A vector of the row side is in the space if vanishing combinations of rows vanish on
            # it.
            outside = False
            for row, low in zip(echelon.rows, echelon.lows, strict=True):
                null = tuple(jnp.where(low == 0, word >> columns, 0) for word in row)
                outside = outside | (field.dot(null, of_rows) != 0)
            in_rows = ~jnp.asarray(outside)
        if of_columns is not None:
            left = echelon.reduce(field, of_columns)
            in_columns = (field.support(left) & mask) == 0
            if of_rows is not None:
                # Extract the subtracted combination of rows, stored negated above the columns.
                product = field.dot(tuple(word >> columns for word in left), of_rows)
                if self.prime == 3:
                    product = (3 - product) % 3
        return (in_rows, in_columns, product) if rows_first else (in_columns, in_rows, product)

    def cases(
        self, index: int, state: FieldState, earlier: tuple[Packed, ...]
    ) -> tuple[UInt32[Array, "B K _"], Float32[Array, "B K _"] | None]:
        """Returns the case of each contraction, conditioned on the vectors sampled so far, and its
        sign.

        For the second vector: 1 if the first is in the space of the contraction, else 0. For the
        third: 1 if the first is in its space, plus 2 if the second is; if both are and f' M^-1 g is
        not 0 the case is 4.

        Args:
          index: index of the vector to sample: 0, 1 or 2.
          earlier: words [B, K] of the vectors sampled before.

        Returns:
          uint32 [B, K or 1, contractions], and for `signed` vectors float32 of the same shape: f'
          M^-1 g as -1, 0 or 1.
        """
        earlier = tuple(tuple(word[..., None] for word in vector) for vector in earlier)
        if index == 0:
            return jnp.zeros_like(state.ranks[0][:, None], jnp.uint32), None
        if index == 1:
            inside, _, _ = self._lies_in(state.second, 1, (earlier[0], None))
            assert inside is not None
            return inside.astype(jnp.uint32), None
        first, second, product = self._lies_in(state.third, 2, (earlier[0], earlier[1]))
        assert first is not None
        assert second is not None
        assert product is not None
        # Combine the three conditions to a case number.
        product = jnp.where(first & second, product, 0)
        case = first.astype(jnp.uint32) + 2 * second.astype(jnp.uint32) + (product != 0)
        return case, (product == 1).astype(jnp.float32) - (product == 2) if self.signed(index) else None

    def transform(
        self, index: int, even: Float32[Array, "*B _"], odd: Float32[Array, "*B _"] | None
    ) -> Float32[Array, "*B classes"]:
        """Computes Fourier transforms at all vectors of mode `index`, or at all of its heads,
        by class.

        Args:
          even: a function with one value at x and 2x.
          odd: likewise, over F3: a function with opposite values at x and 2x.
        """
        length = self.shape[index]
        if self.prime == 2:
            head = length - self.tail(index)
            return hadamard(even[..., : 1 << head]) * (2.0 / 2**head)
        matrices = _transforms_mod3(length)
        transformed = even @ jnp.asarray(matrices[0])
        return transformed if odd is None else transformed + odd @ jnp.asarray(matrices[1])

    def tail_transform(
        self,
        index: int,
        even: Float32[Array, "B #K _"],
        heads: Integer[Array, "B K"],
    ) -> Float32[Array, "B K tails"]:
        """Computes transforms at all tails of the heads, over F2, by class.

        Args:
          heads: classes.
        """
        tail = self.tail(index)
        head = self.shape[index] - tail
        sampled = _sampled_heads(head)
        # Sign (-1)^<x, u> of every head u for every sampled head x.
        signs = 1.0 - 2.0 * (_spelled(head).astype(int) @ sampled.T.astype(int) % 2)
        values = even[..., 1 << head :].reshape(*even.shape[:-1], len(sampled), 1 << tail)
        # Sum over the sampled heads with the sign of each, then transform over the tails.
        summed = (jnp.asarray(signs, jnp.float32)[heads][..., None] * values).sum(-2)
        return hadamard(summed) * (2.0 / (len(sampled) << tail))


def _spelled(entries: int) -> np.ndarray:
    """Returns all vectors over F2 by class, int8 [2^entries, entries]: the first entry is the most
    significant digit.
    """
    return (np.arange(1 << entries)[:, None] >> np.arange(entries - 1, -1, -1) & 1).astype(np.int8)


def _sampled_heads(entries: int) -> np.ndarray:
    """Samples zero and other vectors over F2, all different, int8 [count, entries]."""
    count = min(NUM_SAMPLED_HEADS, 1 << entries)
    others = np.random.default_rng(entries).permutation((1 << entries) - 1)[: count - 1] + 1
    return _spelled(entries)[np.concatenate([[0], others])]


def _all_sums(words: Array) -> Array:
    """Computes sums over F2 of every subset of the last axis, [..., k] to [..., 2^k].

    The index encodes the subset with the first entry most significant, as a class encodes a vector.
    """
    seen = jnp.zeros_like(words[..., :1])
    for index in reversed(range(words.shape[-1])):
        seen = jnp.concatenate([seen, seen ^ words[..., index : index + 1]], axis=-1)
    return seen


def hadamard(values: Float32[Array, "*B size"]) -> Float32[Array, "*B size"]:
    """Computes sum_x (-1)^<x, u> values[x] for every u."""
    size = values.shape[-1]
    if size <= MAX_SINGLE_TRANSFORM:
        return values @ jnp.asarray(_hadamard_matrix(size))
    low = 1 << (size.bit_length() // 2)
    high = size // low
    # The matrix factors into one on the low bits and one on the high bits of the index. Apply the
    # plain product first: XLA fuses the computation of the values into the other one, and repeats
    # it for every row.
    half = (values.reshape(-1, low) @ jnp.asarray(_hadamard_matrix(low))).reshape(-1, high, low)
    return jnp.einsum("gh,bhl->bgl", jnp.asarray(_hadamard_matrix(high)), half).reshape(values.shape)


def _hadamard_matrix(size: int) -> np.ndarray:
    matrix = np.ones((1, 1), np.float32)
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


def _transforms_mod3(length: int) -> np.ndarray:
    """Returns float32 [2, contractions, 3^length]: real and imaginary part of omega^<x, u>, summed
    over x and 2x, scaled.
    """
    x = group_vectors(3, length).astype(np.int64)
    u = np.indices((3,) * length).reshape(length, -1)
    products = np.mod(x @ u, 3)
    even = np.where(products == 0, 2.0, -1.0)
    odd = np.choose(products, [0.0, math.sqrt(3.0), -math.sqrt(3.0)])
    return (np.stack([even, odd]) / 3 ** (length - 1)).astype(np.float32)


@dataclass(frozen=True)
class Contractions:
    """Contractions of a game's residuals, and the encoding of its actions.

    Attributes:
      codec: a token is a complete vector.
      max_head: maximum number of entries of a vector's head, over F2.
    """

    codec: ActionCodec
    max_head: int = MAX_HEAD

    @property
    def order(self) -> tuple[int, int, int]:
        """Modes in sampling order: the longest first, which has no candidates yet to evaluate.

        Over the integers w is last: it carries the sign of the term, and only the last vector's
        cases have signs.
        """
        last = 2 if self.codec.ring.modulus == 0 else 3
        first, second, third = sorted(range(3), key=lambda mode: (mode == last, -self.codec.shape[mode]))
        return first, second, third

    @property
    def fields(self) -> tuple[FieldContractions, ...]:
        """Contractions over each field of the ring."""
        first, second, third = (self.codec.shape[mode] for mode in self.order)
        shape = (first, second, third)
        return tuple(FieldContractions(shape, prime, self.max_head) for prime in self.codec.ring.primes)

    def tail(self, index: int) -> int:
        """Returns the number of entries of the vector `index` that are sampled after the others; 0
        for a vector that is sampled at once.
        """
        return self.fields[0].tail(index)

    def tail_logits(
        self, index: int, functions: Functions, heads: Integer[Array, "B K"]
    ) -> Float32[Array, "B K tails"]:
        """Computes `logits` at the tails of the heads."""
        ((field, (even, _)),) = zip(self.fields, functions, strict=True)
        return field.tail_transform(index, even, heads)

    def __call__(self, residual: Integer[Array, "B a b c"]) -> tuple[FieldState, ...]:
        """Computes the states of residuals."""
        turned = jnp.transpose(residual, (0, *(mode + 1 for mode in self.order)))
        return tuple(field(turned) for field in self.fields)

    def histograms(self, states: tuple[FieldState, ...]) -> Float32[Array, "B F"]:
        """Computes the fraction of contractions of every rank, by field and mode:
        the same in every basis.
        """
        parts = []
        for field, state in zip(self.fields, states, strict=True):
            for index, ranks in enumerate(state.ranks):
                counted = ranks[..., None] == jnp.arange(field.max_rank(index) + 1)
                parts.append(counted.mean(axis=1, dtype=jnp.float32))
        return jnp.concatenate(parts, axis=-1)

    def cases(self, index: int, states: tuple[FieldState, ...], tokens: Integer[Array, "B K index"]) -> Cases:
        """Returns, per field, the case and sign of each contraction, conditioned on the
        tokens sampled so far.
        """
        found = []
        for field, state in zip(self.fields, states, strict=True):
            earlier = tuple(self._packed(drawn, tokens[..., drawn], field.field) for drawn in range(index))
            found.append(field.cases(index, state, earlier))
        return tuple(found)

    def _packed(self, index: int, token: Array, field: FieldArithmetic) -> Packed:
        """Packs vectors, identified by their classes, into words."""
        vectors = self.codec.tables[self.order[index]].astype(np.int64)
        residues = np.mod(vectors, field.prime)
        weights = 1 << np.arange(vectors.shape[1])
        return tuple(
            jnp.asarray(((residues == value) * weights).sum(1).astype(np.uint32))[token]
            for value in range(1, field.prime)
        )

    def logits(self, index: int, functions: Functions) -> Float[Array, "B _ classes"]:
        """Sums over the fields the transforms at the vectors of the classes.

        For a vector with a tail the classes are those of its head.
        """
        total = None
        for field, (even, odd) in zip(self.fields, functions, strict=True):
            part = field.transform(index, even, odd)
            if len(self.fields) > 1:
                part = jnp.take(part, self._class_modulo(index, field.prime), axis=-1)
            total = part if total is None else total + part
        assert total is not None
        return total

    def _class_modulo(self, index: int, prime: int) -> np.ndarray:
        """Returns the class modulo the prime of each class's vector."""
        vectors = np.mod(self.codec.tables[self.order[index]].astype(np.int64), prime)
        return vectors @ prime ** np.arange(vectors.shape[1] - 1, -1, -1)
