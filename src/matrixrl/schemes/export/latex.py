"""A scheme as a LaTeX document: the products, the entries of C, and the additions one by one."""

from __future__ import annotations

import re
from fractions import Fraction

from matrixrl.schemes.export.plan import Names, Plan
from matrixrl.schemes.programs import Number

_HEAD = r"""\documentclass{article}
\usepackage{amsmath}
\usepackage[margin=2cm]{geometry}
\allowdisplaybreaks
\begin{document}
\section*{Multiplying $@N@ \times @M@$ by $@M@ \times @P@$ matrices with $@RANK@$ multiplications}
"""


def latex_source(plan: Plan) -> str:
    """Returns the document."""
    n, m, p = plan.format
    head = _HEAD
    for mark, value in (("@N@", n), ("@M@", m), ("@P@", p), ("@RANK@", plan.rank)):
        head = head.replace(mark, str(value))
    ring = " All equations hold modulo 2." if plan.over_f2 else ""
    lines = [
        head
        + f"The standard algorithm needs ${plan.format.naive_rank}$ multiplications. Entries may be matrices: "
        + f"the products do not commute.{ring}",
        r"\subsection*{Products}",
    ]
    names = Names(plan)
    scheme = plan.scheme
    products = []
    for r in range(plan.rank):
        left = _form(scheme.u[r].tolist(), [_symbol(label) for label in plan.labels[0]])
        right = _form(scheme.v[r].tolist(), [_symbol(label) for label in plan.labels[1]])
        products.append((f"m_{{{r + 1}}}", f"{_bracket(left)}\\,{_bracket(right)}"))
    lines.append(_aligned(products))
    lines.append(r"\subsection*{Result}")
    symbols = [f"m_{{{r + 1}}}" for r in range(plan.rank)]
    lines.append(
        _aligned(
            [
                (_symbol(label), _form(column.tolist(), symbols))
                for label, column in zip(plan.labels[2], scheme.w.T, strict=True)
            ]
        )
    )
    lines.append(rf"\subsection*{{With shared sums: ${plan.num_additions}$ additions}}")
    steps = []
    for side in ("left", "right"):
        steps += [_step(plan, names, side, index) for index in range(getattr(plan, side).num_additions)]
    for r in range(plan.rank):
        factors = [_symbol(names.value(side, plan.operand(side, r))) for side in ("left", "right")]
        steps.append((f"m_{{{r + 1}}}", rf"{factors[0]}\,{factors[1]}"))
    steps += [_step(plan, names, "result", index) for index in range(plan.result.num_additions)]
    for label, term in zip(plan.labels[2], plan.result.outputs, strict=True):
        assert term is not None
        steps.append((_symbol(label), _form([term.scale], [_symbol(names.value("result", term.value))])))
    lines.append(_aligned(steps))
    return "\n".join(lines) + "\n\\end{document}\n"


def _step(plan: Plan, names: Names, program: str, index: int) -> tuple[str, str]:
    part = getattr(plan, program)
    step = part.steps[index]
    symbols = [_symbol(names.value(program, term.value)) for term in (step.first, step.second)]
    right = _form([step.first.scale, step.second.scale], symbols)
    return _symbol(names.value(program, part.num_inputs + index)), right


def _symbol(name: str) -> str:
    """Returns ``a12`` as ``a_{12}`` and ``a1_12`` as ``a_{1,12}``."""
    match = re.fullmatch(r"([a-z])(\d+)(?:_(\d+))?", name)
    assert match is not None
    return f"{match[1]}_{{{match[2]}{',' + match[3] if match[3] else ''}}}"


def _form(coefficients: list[Number], symbols: list[str]) -> str:
    text = ""
    for coefficient, symbol in zip(coefficients, symbols, strict=True):
        if coefficient == 0:
            continue
        sign = "-" if coefficient < 0 else "+" if text else ""
        size = Fraction(abs(coefficient))
        number = "" if size == 1 else str(size.numerator)
        if size.denominator != 1:
            number = rf"\tfrac{{{size.numerator}}}{{{size.denominator}}}"
        text += f" {sign} {number}{symbol}" if text else f"{sign}{number}{symbol}"
    return text or "0"


def _bracket(form: str) -> str:
    return f"({form})" if " " in form or form.startswith("-") else form


def _aligned(equations: list[tuple[str, str]]) -> str:
    rows = " \\\\\n".join(f"{left} &= {right}" for left, right in equations)
    return f"\\begin{{align*}}\n{rows}\n\\end{{align*}}"
