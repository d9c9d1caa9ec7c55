"""What all exports share: the checked scheme, its program with signs moved, and names of values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

import numpy as np

from matrixrl.schemes.cheaper import is_rational
from matrixrl.schemes.programs import (
    MODULI,
    BilinearProgram,
    LinearProgram,
    Number,
    ProgramBuilder,
    Term,
    is_negative,
)
from matrixrl.schemes.reduction import reduced_program
from matrixrl.schemes.scheme import Format, Scheme, SchemeError, entry_labels
from matrixrl.schemes.verify import verify


@dataclass(frozen=True)
class Plan:
    """A scheme that is ready to be written as code.

    Every product is the product of a value of `left` and a value of `right` with the coefficient 1:
    signs and scales of the sums have been moved into `result`.

    Attributes:
      scheme: the scheme without products that are zero.
      left: the sums of entries of A.
      right: the sums of entries of B.
      result: the entries of C from the products.
      labels: names of the entries of A, B and C.
    """

    scheme: Scheme
    left: LinearProgram
    right: LinearProgram
    result: LinearProgram
    labels: tuple[list[str], list[str], list[str]]

    @property
    def format(self) -> Format:
        """(n, m, p)."""
        return self.scheme.format

    @property
    def rank(self) -> int:
        """Number of products."""
        return self.scheme.rank

    @property
    def modulus(self) -> int | None:
        """2 or 3 if the scheme holds modulo this prime only."""
        return MODULI.get(self.scheme.ring)

    @property
    def over_f2(self) -> bool:
        """True if the scheme holds modulo 2 only."""
        return self.modulus == 2

    @property
    def num_additions(self) -> int:
        """Number of additions of the three programs."""
        return sum(part.num_additions for part in (self.left, self.right, self.result))

    @property
    def has_fractions(self) -> bool:
        """True if a coefficient of the scheme is not a whole number."""
        return any(Fraction(x).denominator != 1 for f in self.scheme.factors for x in f.ravel().tolist())

    def operand(self, side: Literal["left", "right"], product: int) -> int:
        """Returns the index of the value that is the left or right factor of a product."""
        term = (self.left if side == "left" else self.right).outputs[product]
        assert term is not None  # products that are zero were removed
        return term.value


def make_plan(scheme: Scheme, *, seconds: float = 1.0, seed: int = 0) -> Plan:
    """Verifies a scheme, shares its common sums, and moves signs from the sums to the result.

    Args:
      scheme: the scheme to export.
      seconds: time limit of the reduction.
      seed: seed of the reduction.

    Raises:
      SchemeError: if the scheme is wrong, or its coefficients are not rational numbers.
    """
    check = verify(scheme)
    if not check:
        raise SchemeError(f"not a correct scheme: {check.message}")
    if not is_rational(scheme):
        raise SchemeError("the scheme has complex coefficients; only rational ones are exported as code")
    scheme = _normalised(scheme)
    program = reduced_program(scheme, seconds=seconds, seed=seed)
    return plan_of(scheme, program)


def plan_of(scheme: Scheme, program: BilinearProgram) -> Plan:
    """Returns the plan of a scheme without products that are zero, and its program."""
    scales: list[Number] = []
    for left, right in zip(program.left.outputs, program.right.outputs, strict=True):
        assert left is not None
        assert right is not None
        scales.append(left.scale * right.scale)
    n, m, p = scheme.format
    labels = (entry_labels("a", n, m), entry_labels("b", m, p), entry_labels("c", n, p))
    return Plan(scheme, program.left, program.right, _with_scaled_inputs(program.result, scales), labels)


def _normalised(scheme: Scheme) -> Scheme:
    """Removes products that are zero, and makes the first coefficient of u and v positive."""
    nonzero = np.logical_and.reduce([(factor != 0).any(axis=1) for factor in scheme.factors])
    u, v, w = (factor[nonzero].copy() for factor in scheme.factors)
    for factor in (u, v):
        for row in range(len(factor)):
            first = next(value for value in factor[row] if value != 0)
            if is_negative(first):
                factor[row], w[row] = -factor[row], -w[row]
    return replace(scheme, u=u, v=v, w=w)


def _with_scaled_inputs(program: LinearProgram, scales: Sequence[Number]) -> LinearProgram:
    """Returns the program of M diag(scales)."""
    builder = ProgramBuilder(program.num_inputs)
    values = [Term(index, scale) for index, scale in enumerate(scales)]

    def scaled(term: Term) -> Term:
        of = values[term.value]
        return Term(of.value, of.scale * term.scale)

    for step in program.steps:
        values.append(builder.add(scaled(step.first), scaled(step.second)))
    return builder.build([None if term is None else scaled(term) for term in program.outputs])


@dataclass(frozen=True)
class Action:
    """One line of the algorithm in an order that keeps few values alive.

    Attributes:
      kind: ``left``, ``right`` and ``result`` are steps of these programs, ``product`` is a
        multiplication, ``output`` an entry of C.
      index: of the step, product or entry.
      dead: values that nothing needs afterwards, as (program, value); inputs of the left and right
        program are never among them.
    """

    kind: Literal["left", "right", "product", "result", "output"]
    index: int
    dead: tuple[tuple[str, int], ...] = ()


def schedule(plan: Plan) -> list[Action]:
    """Orders all steps: sums just before their first product, the result as soon as possible."""
    order = list(_ordered(plan))
    last: dict[tuple[str, int], int] = {}
    for position, action in enumerate(order):
        for value in _reads(plan, action):
            last[value] = position
    dead: list[list[tuple[str, int]]] = [[] for _ in order]
    inputs = {"left": plan.left.num_inputs, "right": plan.right.num_inputs, "result": 0}
    for (program, value), position in last.items():
        if value >= inputs[program]:
            dead[position].append((program, value))
    return [
        Action(action.kind, action.index, tuple(sorted(values)))
        for action, values in zip(order, dead, strict=True)
    ]


def _ordered(plan: Plan) -> Iterator[Action]:
    done: set[tuple[str, int]] = set()

    def sums(kind: Literal["left", "right"], value: int) -> Iterator[Action]:
        program = plan.left if kind == "left" else plan.right
        step = value - program.num_inputs
        if step < 0 or (kind, step) in done:
            return
        done.add((kind, step))
        for term in (program.steps[step].first, program.steps[step].second):
            yield from sums(kind, term.value)
        yield Action(kind, step)

    ready: set[int] = set()
    for product in range(plan.rank):
        yield from sums("left", plan.operand("left", product))
        yield from sums("right", plan.operand("right", product))
        yield Action("product", product)
        ready.add(product)
        for index, step in enumerate(plan.result.steps):
            value = plan.result.num_inputs + index
            if value not in ready and {step.first.value, step.second.value} <= ready:
                ready.add(value)
                yield Action("result", index)
        for index, output in enumerate(plan.result.outputs):
            if output is not None and output.value in ready and ("output", index) not in done:
                done.add(("output", index))
                yield Action("output", index)


def _reads(plan: Plan, action: Action) -> list[tuple[str, int]]:
    """Returns the values that an action reads, as (program, value)."""
    if action.kind == "product":
        return [
            ("left", plan.operand("left", action.index)),
            ("right", plan.operand("right", action.index)),
        ]
    if action.kind == "output":
        output = plan.result.outputs[action.index]
        return [] if output is None else [("result", output.value)]
    step = getattr(plan, action.kind).steps[action.index]
    return [(action.kind, step.first.value), (action.kind, step.second.value)]


_LETTERS = {"left": "s", "right": "t", "result": "q"}


class Names:
    """Names of the values of a plan: entries ``a12`` and ``b21``, sums ``s1`` of A and ``t1`` of B,
    products ``m1``, sums of products ``q1``.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def value(self, program: str, value: int) -> str:
        """Returns the name of a value of the program ``left``, ``right`` or ``result``."""
        inputs = getattr(self._plan, program).num_inputs
        if value >= inputs:
            return f"{_LETTERS[program]}{value - inputs + 1}"
        if program == "result":
            return f"m{value + 1}"
        return self._plan.labels[("left", "right").index(program)][value]


def describe_sum(first: str, second: str, scales: tuple[Number, Number], plus: str = "+") -> str:
    """Formats ``2 * x - y``; fractions as ``1 / 2 * x``."""
    a, b = scales
    sign = "-" if is_negative(b) else plus
    return f"{scaled(first, a)} {sign} {scaled(second, -b if is_negative(b) else b)}"


def scaled(name: str, scale: Number, cast: str = "") -> str:
    """Formats ``x``, ``-x``, ``3 * x`` or ``(1 / 2) * x``; `cast` stands before the parts of a
    fraction.
    """
    if scale == 1:
        return name
    if scale == -1:
        return f"-{name}"
    fraction = Fraction(scale)
    if fraction.denominator == 1:
        return f"{fraction.numerator} * {name}"
    return f"({cast}{fraction.numerator} / {cast}{fraction.denominator}) * {name}"


def provenance_lines(plan: Plan) -> list[str]:
    """Returns a description for the head of a file: format, rank, additions, source, ring."""
    scheme = plan.scheme
    n, m, p = plan.format
    lines = [
        f"A {n}x{m} by {m}x{p} block product with {plan.rank} multiplications instead of {plan.format.naive_rank},",
        f"and {plan.num_additions} additions of blocks.",
    ]
    source = scheme.provenance.get("source")
    if isinstance(source, str):
        # The file's comment must not end early, whatever a scheme file says about its source.
        clean = "".join(c if c.isprintable() and c not in '"\\*/' else " " for c in source)
        lines.append(f"Scheme: {clean[:200]}.")
    if plan.modulus:
        values = "0 or 1" if plan.over_f2 else "0, 1 or 2"
        lines.append(f"The scheme holds modulo {plan.modulus} only: entries are integers, results {values}.")
    elif plan.has_fractions:
        lines.append("Coefficients are fractions, so entries must be floating-point numbers.")
    return lines
