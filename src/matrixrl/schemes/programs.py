"""Straight-line programs: the additions of a scheme written out one by one, with shared sums.

A linear map y = M x becomes a list of steps, each ``a * first + b * second`` of inputs and earlier
steps. A scheme needs three: one that forms the sums of A, one for those of B, and one that forms C
from the products. The matrix of a program is computed from its steps in exact arithmetic, so a
program is checked against the factors of its scheme (`BilinearProgram.check`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from matrixrl.schemes.problem import Problem
from matrixrl.schemes.scheme import Scheme

Number = Any
"""A coefficient: `int`, `Fraction`, or another exact number such as a complex rational."""

MODULI = {"F2": 2, "F3": 3}
"""The rings in which everything is computed modulo a prime."""


def is_negative(value: Number) -> bool:
    """Returns true for a rational number below zero; other numbers have no sign."""
    return isinstance(value, int | Fraction) and value < 0


def divide(value: Number, divisor: Number) -> Number:
    """Divides exactly; whole numbers stay integers."""
    if not isinstance(value, int | Fraction) or not isinstance(divisor, int | Fraction):
        return value / divisor
    quotient = Fraction(value) / divisor
    return quotient.numerator if quotient.denominator == 1 else quotient


@dataclass(frozen=True)
class Term:
    """A multiple of a value of a program.

    Attributes:
      value: index of an input, or the number of inputs plus the index of a step.
      scale: the coefficient, not zero.
    """

    value: int
    scale: Number


@dataclass(frozen=True)
class Step:
    """One addition, ``first.scale * first.value + second.scale * second.value``."""

    first: Term
    second: Term


@dataclass(frozen=True)
class LinearProgram:
    """A linear map as a list of additions.

    Attributes:
      num_inputs: number of entries of x.
      steps: the additions, each of inputs and earlier steps.
      outputs: the entries of y; None is an entry that is zero.
    """

    num_inputs: int
    steps: tuple[Step, ...]
    outputs: tuple[Term | None, ...]

    @property
    def num_additions(self) -> int:
        """Number of additions and subtractions."""
        return len(self.steps)

    @property
    def num_scalings(self) -> int:
        """Number of multiplications by constants other than 1 and -1."""
        terms = [term for step in self.steps for term in (step.first, step.second)]
        terms += [term for term in self.outputs if term is not None]
        return sum(term.scale not in (1, -1) for term in terms)

    def evaluate(self, inputs: Sequence[Any]) -> list[Any]:
        """Computes y for entries of x that can be added and multiplied by numbers."""
        values = list(inputs)
        for step in self.steps:
            values.append(
                step.first.scale * values[step.first.value] + step.second.scale * values[step.second.value]
            )
        return [0 if term is None else term.scale * values[term.value] for term in self.outputs]

    def matrix(self) -> list[list[Number]]:
        """Computes the matrix M of the map exactly, one list per output."""
        rows = [[int(i == j) for j in range(self.num_inputs)] for i in range(self.num_inputs)]
        for step in self.steps:
            pairs = zip(rows[step.first.value], rows[step.second.value], strict=True)
            rows.append([step.first.scale * x + step.second.scale * y for x, y in pairs])
        zero = [0] * self.num_inputs
        return [
            zero[:] if term is None else [term.scale * x for x in rows[term.value]] for term in self.outputs
        ]

    def transposed(self) -> LinearProgram:
        """Returns the program of the transposed map, by reversing every step.

        Without inputs or outputs that are zero, its number of additions is that of this program
        plus the number of outputs minus the number of inputs (Tellegen's principle).
        """
        builder = ProgramBuilder(len(self.outputs))
        uses: list[list[Term]] = [[] for _ in range(self.num_inputs + len(self.steps))]
        for index, output in enumerate(self.outputs):
            if output is not None:
                uses[output.value].append(Term(index, output.scale))
        for index in reversed(range(len(self.steps))):
            adjoint = builder.sum(uses[self.num_inputs + index])
            if adjoint is None:
                continue
            for term in (self.steps[index].first, self.steps[index].second):
                uses[term.value].append(Term(adjoint.value, adjoint.scale * term.scale))
        return builder.build([builder.sum(uses[index]) for index in range(self.num_inputs)])


class ProgramBuilder:
    """Collects the steps of a `LinearProgram`."""

    def __init__(self, num_inputs: int) -> None:
        self._num_inputs = num_inputs
        self._steps: list[Step] = []

    def add(self, first: Term, second: Term) -> Term:
        """Appends a step for the sum of two terms, and returns the term that equals the sum.

        The step is ``x + y``, ``x - y`` or has other coefficients; it never starts with a minus.
        """
        scale: Number = 1
        if is_negative(first.scale) and is_negative(second.scale):
            scale = -1
        elif is_negative(first.scale):
            first, second = second, first
        if first.scale in (second.scale, -second.scale) and first.scale not in (1, -1):
            scale = -first.scale if is_negative(first.scale) and scale == 1 else first.scale
        parts = [Term(term.value, divide(term.scale, scale)) for term in (first, second)]
        self._steps.append(Step(parts[0], parts[1]))
        return Term(self._num_inputs + len(self._steps) - 1, scale)

    def sum(self, terms: Sequence[Term]) -> Term | None:
        """Appends the steps that add all terms; returns the sum, None if there are no terms."""
        if not terms:
            return None
        # A positive term first saves a negation.
        ordered = sorted(terms, key=lambda term: is_negative(term.scale))
        total = ordered[0]
        for term in ordered[1:]:
            total = self.add(total, term)
        return total

    def build(self, outputs: Sequence[Term | None]) -> LinearProgram:
        """Returns the program with these outputs."""
        return LinearProgram(self._num_inputs, tuple(self._steps), tuple(outputs))


@dataclass(frozen=True)
class BilinearProgram:
    """A scheme as three straight-line programs.

    Attributes:
      problem: the bilinear map.
      ring: the ring of the scheme.
      left: the sums of entries of A, one output per product.
      right: the sums of entries of B, one output per product.
      result: the entries of C, from the products.
    """

    problem: Problem
    ring: str
    left: LinearProgram
    right: LinearProgram
    result: LinearProgram

    @property
    def rank(self) -> int:
        """Number of multiplications."""
        return len(self.left.outputs)

    @property
    def num_additions(self) -> int:
        """Number of additions and subtractions of all three programs."""
        return sum(part.num_additions for part in (self.left, self.right, self.result))

    @property
    def num_scalings(self) -> int:
        """Number of multiplications by constants other than 1 and -1, of all three programs."""
        return sum(part.num_scalings for part in (self.left, self.right, self.result))

    def check(self, scheme: Scheme) -> None:
        """Compares the matrices of the programs with the factors of a scheme, exactly.

        Raises:
          AssertionError: if the program computes something else.
        """
        modulus = MODULI.get(self.ring)
        wanted = (scheme.u.tolist(), scheme.v.tolist(), scheme.w.T.tolist())
        for name, part, rows in zip("uvw", (self.left, self.right, self.result), wanted, strict=True):
            found = part.matrix()
            if modulus:
                found = [[value % modulus for value in row] for row in found]
                rows = [[value % modulus for value in row] for row in rows]
            if found != rows:
                raise AssertionError(f"the reduced program does not compute the factor {name}")
