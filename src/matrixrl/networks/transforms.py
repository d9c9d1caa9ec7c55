"""A policy whose logits are Fourier transforms: it commutes with every change of basis by construction.

The policy draws an action vector by vector. For each vector the game says which case every contraction of the residual
is in (its rank, and how it lies to the vectors drawn before); a table says what each case is worth, the network's
torso adjusts the table to the state, and the transform of these worths over all contractions is the logit of every
vector. The tables have a few dozen entries whatever the format, so what is learned on random tensors holds for the
target, in any basis.
"""

from __future__ import annotations

from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from matrixrl.networks.heads import MASKED, Candidates, IntegerValue, draw_tokens
from matrixrl.networks.torso import ResidualMLP
from matrixrl.types import TokenLayout

# Entries of the tables are learned at this scale, so that a few hundred steps of Adam can make a policy sharp.
TABLE_SCALE = 10.0


class FieldGeometry(Protocol):
    """Contractions over one field; see `envs.matmul.contractions.FieldContractions`."""

    @property
    def num_cases(self) -> tuple[int, int, int]:
        """Cases per drawn vector."""
        ...

    def signed(self, index: int) -> bool:
        """Whether the cases of this vector come with signs."""
        ...

    def max_rank(self, index: int) -> int:
        """Of a contraction for the vector `index`."""
        ...


class Geometry(Protocol):
    """What the game says of its residuals; see `envs.matmul.contractions.Contractions`."""

    @property
    def order(self) -> tuple[int, int, int]:
        """Tokens in the order they are drawn."""
        ...

    @property
    def fields(self) -> tuple[FieldGeometry, ...]:
        """One per field."""
        ...

    def __call__(self, residual: Array) -> tuple[Any, ...]:
        """Per field, ranks and what else is needed."""
        ...

    def histograms(self, states: Any) -> Array:
        """Features that are the same in every basis."""
        ...

    def cases(self, index: int, states: Any, tokens: Array) -> tuple[tuple[Array, Array | None], ...]:
        """Per field the case and sign of each contraction, [B, K or 1, contractions]."""
        ...

    def logits(self, index: int, functions: tuple[tuple[Array, Array | None], ...]) -> Array:
        """Transforms of even and odd functions at all classes, of a vector with a tail of its head: [B, K or 1, classes]."""
        ...

    def tail(self, index: int) -> int:
        """Binary digits of a class that are drawn after the others; 0 for a vector that is drawn at once."""
        ...

    def tail_logits(
        self, index: int, functions: tuple[tuple[Array, Array | None], ...], heads: Array
    ) -> Array:
        """Transforms at the tails after given heads [B, K], float32 [B, K, tails]."""
        ...


class TransformPolicy(nn.Module):
    """Distribution over actions (f, g, h), each one token, from conditions of the residual's contractions.

    Attributes:
      layout: the tokens, and which classes are legal.
      geometry: the game's contractions.
    """

    layout: TokenLayout
    geometry: Geometry

    def setup(self) -> None:
        """Make the tables and what adjusts them."""
        self.tables = [
            [self._table(number, field, index) for index in range(3)]
            for number, field in enumerate(self.geometry.fields)
        ]
        self.adjustments = [
            [
                nn.Dense(
                    int(np.prod(self._shape(field, index))),
                    name=f"adjustment_{number}_{index}",
                    kernel_init=nn.initializers.variance_scaling(0.1, "fan_in", "normal"),
                )
                for index in range(3)
            ]
            for number, field in enumerate(self.geometry.fields)
        ]

    def _shape(self, field: FieldGeometry, index: int) -> tuple[int, int]:
        """A row for each case, and one more for what a sign is worth."""
        return field.num_cases[index] + field.signed(index), field.max_rank(index) + 1

    def _table(self, number: int, field: FieldGeometry, index: int) -> Array:
        shape = self._shape(field, index)

        def start(key: Array) -> Array:
            """Where ranks add: minus the rank, and minus the indicator of <x, f> = 1, transform to counts of terms."""
            del key
            table = np.zeros(shape)
            if index == 0:
                table[0] = -0.15 * np.arange(shape[1])
            elif index == 1:
                table[1] = -0.4
            else:
                table[4] = -0.8 / (1 + field.signed(index))
                table[5:] = 0.4
            return jnp.asarray(table, jnp.float32)

        return self.param(f"table_{number}_{index}", start)

    def worths(self, hidden: Array, states: tuple[Any, ...]) -> Any:
        """Per vector and field what each case is worth at each contraction, float32 [B, cases, contractions].

        Args:
          hidden: float32 [B, D], from the torso.
          states: of the geometry.
        """
        found = []
        for index in range(3):
            of_fields = []
            for number, (field, state) in enumerate(zip(self.geometry.fields, states, strict=True)):
                shape = self._shape(field, index)
                table = TABLE_SCALE * self.tables[number][index]
                table = table + self.adjustments[number][index](hidden).reshape(-1, *shape)
                is_rank = state.ranks[index][:, None] == jnp.arange(shape[1])[:, None]
                of_fields.append(jnp.einsum("bsr,brn->bsn", table, is_rank.astype(jnp.float32)))
            found.append(tuple(of_fields))
        return tuple(found)

    def functions(self, index: int, states: tuple[Any, ...], worths: Any, tokens: Array) -> Any:
        """Per field what each contraction is worth for the vector `index`, given those before it, tokens [B, K, index]."""
        functions = []
        cases = self.geometry.cases(index, states, tokens)
        for field, (case, sign), worth in zip(self.geometry.fields, cases, worths[index], strict=True):
            even = jnp.broadcast_to(worth[:, None, 0], case.shape)
            for number in range(1, field.num_cases[index]):
                even = jnp.where(case == number, worth[:, None, number], even)
            functions.append((even, None if sign is None else sign * worth[:, None, -1]))
        return tuple(functions)

    def vector_logits(self, index: int, functions: Any) -> Array:
        """Logits of all classes of the vector `index`, or of all its heads, float32 [B, K or 1, classes]."""
        logits = self.geometry.logits(index, functions)
        legal = self.layout.legal_while_zero[self.geometry.order[index]][0]
        return jnp.where(legal.reshape(logits.shape[-1], -1).any(-1), logits, MASKED)

    def tail_logits(self, index: int, functions: Any, heads: Array) -> Array:
        """Logits of the tails after heads [B, K], float32 [B, K, tails]."""
        logits = self.geometry.tail_logits(index, functions, heads)
        legal = self.layout.legal_while_zero[self.geometry.order[index]][0]
        return jnp.where(jnp.asarray(legal.reshape(-1, logits.shape[-1]))[heads], logits, MASKED)

    def log_prob(self, hidden: Array, states: tuple[Any, ...], tokens: Array) -> Array:
        """Log-probability [B, M] of actions `tokens` [B, M, 3]."""
        worths = self.worths(hidden, states)
        tokens = tokens[..., np.array(self.geometry.order)]
        total = jnp.zeros(tokens.shape[:-1])

        def add(total: Array, logits: Array, classes: Array) -> Array:
            log_probs = jax.nn.log_softmax(logits)
            log_probs = jnp.broadcast_to(log_probs, (*classes.shape, log_probs.shape[-1]))
            return total + jnp.take_along_axis(log_probs, classes[..., None], axis=-1)[..., 0]

        for index in range(3):
            functions = self.functions(index, states, worths, tokens[..., :index])
            tail = self.geometry.tail(index)
            heads = tokens[..., index] >> tail
            total = add(total, self.vector_logits(index, functions), heads)
            if tail:
                tails = tokens[..., index] & ((1 << tail) - 1)
                total = add(total, self.tail_logits(index, functions, heads), tails)
        return total

    def draw(
        self, key: Array, hidden: Array, states: tuple[Any, ...], num_candidates: int, temperature: float
    ) -> Candidates:
        """Draw K actions for each state, from the policy flattened by `temperature` (1: as it is)."""
        worths = self.worths(hidden, states)
        tails = [self.geometry.tail(index) for index in range(3)]
        # What is drawn one after the other: (vector, whether its tail).
        stages = [
            (index, part) for index in range(3) for part in ((False, True) if tails[index] else (False,))
        ]
        functions: dict[int, Any] = {}

        def vectors(drawn: Array) -> Array:
            """Classes [B, K, vectors] of the vectors whose stages are all drawn, [B, K, stages]."""
            whole: list[Array] = []
            for at, (index, is_tail) in enumerate(stages[: drawn.shape[-1]]):
                if is_tail:
                    whole[-1] = (whole[-1] << tails[index]) | drawn[..., at]
                else:
                    whole.append(drawn[..., at])
            return jnp.stack(whole, axis=-1) if whole else drawn

        def logits_of(stage: int, drawn: Array) -> Array:
            index, is_tail = stages[stage]
            if is_tail:
                return self.tail_logits(index, functions[index], drawn[..., -1])
            functions[index] = self.functions(index, states, worths, vectors(drawn))
            return self.vector_logits(index, functions[index])

        shape = (hidden.shape[0], num_candidates, len(stages))
        drawn = draw_tokens(key, logits_of, shape, temperature)
        return Candidates(vectors(drawn.tokens)[..., np.argsort(self.geometry.order)], drawn.log_prob)


class TransformNetwork(nn.Module):
    """Policy and value that are the same in every basis.

    Attributes:
      layout: tokens of an action.
      geometry: the game's contractions.
      width, num_blocks, max_value: sizes.
      dtype: what the torso's products are computed in; None: float32.
    """

    layout: TokenLayout
    geometry: Geometry
    width: int
    num_blocks: int
    max_value: int
    dtype: Any = None

    def setup(self) -> None:
        """Make the parts."""
        self.torso = ResidualMLP(self.width, self.num_blocks, self.dtype)
        self.policy = TransformPolicy(self.layout, self.geometry)
        self.value = IntegerValue(self.max_value)

    def __call__(self, residual: Array) -> tuple[Array, tuple[Any, ...], Array]:
        """Torso output [B, width], the geometry's states, value logits [B, max_value + 1]."""
        states = self.geometry(residual)
        hidden = self.torso(4.0 * self.geometry.histograms(states))
        return hidden, states, self.value(hidden)

    def log_prob(self, residual: Array, tokens: Array) -> tuple[Array, Array]:
        """Log-probabilities [B, M] of actions [B, M, 3], and value logits."""
        hidden, states, value_logits = self(residual)
        return self.policy.log_prob(hidden, states, tokens), value_logits

    def expand(
        self, key: Array, residual: Array, num_candidates: int, temperature: float
    ) -> tuple[Candidates, Array]:
        """Candidates of each state, and value logits."""
        hidden, states, value_logits = self(residual)
        return self.policy.draw(key, hidden, states, num_candidates, temperature), value_logits
