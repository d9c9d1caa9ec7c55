"""Policy whose logits are Fourier transforms, which is equivariant under every change of basis by
construction.

The policy samples an action vector by vector. For each vector the game assigns a case to every
contraction of the residual (its rank, and its relation to the vectors sampled before); a table
assigns a score to each case, the network's torso adjusts the table to the state, and the transform
of these scores over all contractions is the logit of every vector. The tables have a few dozen
entries for every format, so what is learned on random tensors holds for the target, in any basis.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Float32, Integer, PRNGKeyArray

from matrixrl.networks.heads import MASKED, Candidates, IntegerValue, draw_tokens
from matrixrl.networks.torso import ResidualMLP
from matrixrl.types import Cases, Functions, TokenLayout

# Scale of the learned table entries, so that a few hundred steps of Adam can make a policy
# sharp.
TABLE_SCALE = 10.0


class FieldFeatures(Protocol):
    """Contractions of residuals over one field."""

    @property
    def num_cases(self) -> tuple[int, int, int]:
        """Number of cases per sampled vector."""
        ...

    def signed(self, index: int) -> bool:
        """Returns true if the cases of this vector have signs."""
        ...

    def max_rank(self, index: int) -> int:
        """Returns the maximum rank of a contraction for the vector `index`."""
        ...


class ContractionFeatures(Protocol):
    """Interface to the features of a game's residuals: contractions over one or more fields."""

    @property
    def order(self) -> tuple[int, int, int]:
        """Tokens in sampling order."""
        ...

    @property
    def fields(self) -> tuple[FieldFeatures, ...]:
        """One per field."""
        ...

    def __call__(self, residual: Integer[Array, "B a b c"]) -> tuple[Any, ...]:
        """Computes ranks and the other state per field."""
        ...

    def histograms(self, states: Any) -> Float32[Array, "B F"]:
        """Returns features that are invariant under changes of basis."""
        ...

    def cases(self, index: int, states: Any, tokens: Integer[Array, "B K index"]) -> Cases:
        """Returns, per field, the case and sign of each contraction."""
        ...

    def logits(self, index: int, functions: Functions) -> Float[Array, "B _ classes"]:
        """Transforms even and odd functions to logits of all classes, or of all heads of a vector
        with a tail.
        """
        ...

    def tail(self, index: int) -> int:
        """Returns the number of binary digits of a class that are sampled after the others; 0 for a
        vector sampled at once.
        """
        ...

    def tail_logits(
        self, index: int, functions: Functions, heads: Integer[Array, "B K"]
    ) -> Float[Array, "B K tails"]:
        """Transforms functions to logits of the tails for given heads."""
        ...


class TransformPolicy(nn.Module):
    """Distribution over actions (f, g, h), each one token, from conditions of the residual's
    contractions.

    Attributes:
      layout: the tokens, and which classes are legal.
      contractions: the game's contractions.
    """

    layout: TokenLayout
    contractions: ContractionFeatures

    def setup(self) -> None:
        """Creates the tables and the layers that adjust them."""
        self.tables = [
            [self._table(number, field, index) for index in range(3)]
            for number, field in enumerate(self.contractions.fields)
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
            for number, field in enumerate(self.contractions.fields)
        ]

    def _shape(self, field: FieldFeatures, index: int) -> tuple[int, int]:
        """Returns the table's shape: a row for each case and one for the score of a sign, a column
        for each rank.
        """
        return field.num_cases[index] + field.signed(index), field.max_rank(index) + 1

    def _table(self, number: int, field: FieldFeatures, index: int) -> Array:
        shape = self._shape(field, index)

        def start(key: Array) -> Array:
            """Initialises a table: minus the rank, and minus the indicator of <x, f> = 1, transform
            to term counts if ranks add.
            """
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

    def case_scores(
        self, hidden: Float[Array, "B D"], states: tuple[Any, ...]
    ) -> tuple[tuple[Float[Array, "B _ _"], ...], ...]:
        """Computes, per vector and field, the score of each case at each contraction.

        Args:
          hidden: from the torso.
          states: states of the contractions.
        """
        found = []
        for index in range(3):
            of_fields = []
            for number, (field, state) in enumerate(zip(self.contractions.fields, states, strict=True)):
                shape = self._shape(field, index)
                table = TABLE_SCALE * self.tables[number][index]
                table = table + self.adjustments[number][index](hidden).reshape(-1, *shape)
                # Select each contraction's table column by its rank.
                is_rank = state.ranks[index][:, None] == jnp.arange(shape[1])[:, None]
                of_fields.append(jnp.einsum("bsr,brn->bsn", table, is_rank.astype(jnp.float32)))
            found.append(tuple(of_fields))
        return tuple(found)

    def functions(
        self,
        index: int,
        states: tuple[Any, ...],
        case_scores: tuple[tuple[Float[Array, "B _ _"], ...], ...],
        tokens: Integer[Array, "B K index"],
    ) -> Functions:
        """Computes, per field, the score of each contraction for the vector `index`, conditioned on
        the tokens of those before it.
        """
        functions = []
        cases = self.contractions.cases(index, states, tokens)
        for field, (case, sign), scores in zip(
            self.contractions.fields, cases, case_scores[index], strict=True
        ):
            # Select each contraction's score by its case.
            even = jnp.broadcast_to(scores[:, None, 0], case.shape)
            for number in range(1, field.num_cases[index]):
                even = jnp.where(case == number, scores[:, None, number], even)
            functions.append((even, None if sign is None else sign * scores[:, None, -1]))
        return tuple(functions)

    def vector_logits(self, index: int, functions: Functions) -> Float[Array, "B _ classes"]:
        """Computes logits of all classes of the vector `index`, or of all its heads."""
        logits = self.contractions.logits(index, functions)
        legal = self.layout.legal_while_zero[self.contractions.order[index]][0]
        return jnp.where(legal.reshape(logits.shape[-1], -1).any(-1), logits, MASKED)

    def tail_logits(
        self, index: int, functions: Functions, heads: Integer[Array, "B K"]
    ) -> Float[Array, "B K tails"]:
        """Computes logits of the tails for heads."""
        logits = self.contractions.tail_logits(index, functions, heads)
        legal = self.layout.legal_while_zero[self.contractions.order[index]][0]
        return jnp.where(jnp.asarray(legal.reshape(-1, logits.shape[-1]))[heads], logits, MASKED)

    def log_prob(
        self, hidden: Float[Array, "B D"], states: tuple[Any, ...], tokens: Integer[Array, "B M 3"]
    ) -> Float[Array, "B M"]:
        """Computes the log-probability of actions `tokens`."""
        case_scores = self.case_scores(hidden, states)
        tokens = tokens[..., np.array(self.contractions.order)]
        total = jnp.zeros(tokens.shape[:-1])

        def add(total: Array, logits: Array, classes: Array) -> Array:
            log_probs = jax.nn.log_softmax(logits)
            log_probs = jnp.broadcast_to(log_probs, (*classes.shape, log_probs.shape[-1]))
            return total + jnp.take_along_axis(log_probs, classes[..., None], axis=-1)[..., 0]

        for index in range(3):
            functions = self.functions(index, states, case_scores, tokens[..., :index])
            tail = self.contractions.tail(index)
            heads = tokens[..., index] >> tail
            total = add(total, self.vector_logits(index, functions), heads)
            if tail:
                tails = tokens[..., index] & ((1 << tail) - 1)
                total = add(total, self.tail_logits(index, functions, heads), tails)
        return total

    def draw(
        self,
        key: PRNGKeyArray,
        hidden: Float[Array, "B D"],
        states: tuple[Any, ...],
        num_candidates: int,
        temperature: float,
    ) -> Candidates:
        """Samples K actions for each state from the policy flattened by `temperature` (1:
        unchanged).
        """
        case_scores = self.case_scores(hidden, states)
        tails = [self.contractions.tail(index) for index in range(3)]
        # Sampling stages in order: (vector, whether its tail).
        stages = [
            (index, part) for index in range(3) for part in ((False, True) if tails[index] else (False,))
        ]
        functions: dict[int, Any] = {}

        def vectors(drawn: Array) -> Array:
            """Returns classes [B, K, vectors] of the vectors whose stages are all sampled, [B, K,
            stages].
            """
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
            functions[index] = self.functions(index, states, case_scores, vectors(drawn))
            return self.vector_logits(index, functions[index])

        shape = (hidden.shape[0], num_candidates, len(stages))
        drawn = draw_tokens(key, logits_of, shape, temperature)
        return Candidates(vectors(drawn.tokens)[..., np.argsort(self.contractions.order)], drawn.log_prob)


class Evaluated(NamedTuple):
    """Outputs of `TransformNetwork` for a batch.

    Attributes:
      hidden: output of the torso.
      states: states of the contractions, per field.
      value_logits: of each value from 0 to the maximum.
    """

    hidden: Float32[Array, "B width"]
    states: tuple[Any, ...]
    value_logits: Float32[Array, "B values"]


class TransformNetwork(nn.Module):
    """Policy and value that are equivariant and invariant, respectively, under changes of basis.

    Attributes:
      layout: tokens of an action.
      contractions: the game's contractions.
      width, num_blocks, max_value: sizes.
      dtype: type of the torso's products; None: float32.
    """

    layout: TokenLayout
    contractions: ContractionFeatures
    width: int
    num_blocks: int
    max_value: int
    dtype: Any = None

    def setup(self) -> None:
        """Creates the submodules."""
        self.torso = ResidualMLP(self.width, self.num_blocks, self.dtype)
        self.policy = TransformPolicy(self.layout, self.contractions)
        self.value = IntegerValue(self.max_value)

    def __call__(self, residual: Integer[Array, "B a b c"]) -> Evaluated:
        """Evaluates a batch of residuals."""
        states = self.contractions(residual)
        hidden = self.torso(4.0 * self.contractions.histograms(states))
        return Evaluated(hidden, states, self.value(hidden))

    def log_prob(
        self, residual: Integer[Array, "B a b c"], tokens: Integer[Array, "B M 3"]
    ) -> tuple[Float[Array, "B M"], Float[Array, "B values"]]:
        """Computes log-probabilities of actions, and value logits."""
        hidden, states, value_logits = self(residual)
        return self.policy.log_prob(hidden, states, tokens), value_logits

    def expand(
        self, key: PRNGKeyArray, residual: Integer[Array, "B a b c"], num_candidates: int, temperature: float
    ) -> tuple[Candidates, Float[Array, "B values"]]:
        """Samples candidates for each state; also returns value logits."""
        hidden, states, value_logits = self(residual)
        return self.policy.draw(key, hidden, states, num_candidates, temperature), value_logits
