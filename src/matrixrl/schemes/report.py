"""What is known about one scheme, as text, Markdown or LaTeX: `matrixrl schemes show`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from matrixrl.schemes.check import TITLES, Checked
from matrixrl.schemes.formulas import formulas, growth_factor, num_additions
from matrixrl.schemes.problem import MatrixMultiplication
from matrixrl.schemes.rings import IN_WORDS
from matrixrl.schemes.scheme import Scheme
from matrixrl.schemes.stabilizer import SymmetryGroup, symmetry_group

Style = Literal["text", "markdown", "latex"]


@dataclass(frozen=True)
class SchemeReport:
    """The properties of a scheme.

    Attributes:
      scheme: the algorithm.
      check: its proof and verdict.
      formulas: its formulas, one per line.
      additions: additions and subtractions of the formulas.
      reduced_additions: the same after common sums are shared; None if that was not searched.
      num_nonzero: coefficients that are not zero.
      num_coefficients: all coefficients.
      growth: growth factor.
      standard_growth: that of the standard algorithm.
      group: symmetries that map it to itself; None if they were not counted.
      omega: exponent of a recursive algorithm with this scheme; None if it has one product.
    """

    scheme: Scheme
    check: Checked
    formulas: list[str]
    additions: int
    reduced_additions: int | None
    num_nonzero: int
    num_coefficients: int
    growth: float
    standard_growth: float
    group: SymmetryGroup | None
    omega: float | None

    @property
    def sparsity(self) -> float:
        """Fraction of coefficients that are zero."""
        return 1 - self.num_nonzero / self.num_coefficients

    def rows(self) -> list[tuple[str, str]]:
        """Returns name and value of each property, for people."""
        check = self.check
        rings = ", ".join(check.rings) or "no ring"
        reduced = (
            "" if self.reduced_additions is None else f", {self.reduced_additions:,} with common sums shared"
        )
        group = "not counted, the group is too large" if self.group is None else self.group.words
        if self.group is None and not self.scheme.is_integral:
            group = "not counted for coefficients that are not integers"
        if not isinstance(self.scheme.problem, MatrixMultiplication):
            group = "not counted for this problem"
        omega = (
            "none"
            if self.omega is None
            else f"{self.omega:.4f} (a recursion on n x n matrices takes O(n^{self.omega:.4f}))"
        )
        source = (
            TITLES[check.source_format]
            + {True: ", C transposed", False: ", C not transposed", None: ""}[check.transposed]
        )
        return [
            ("proof", check.proof.message if check.ok else f"NOT CORRECT: {check.message}"),
            ("rank", f"{self.scheme.rank:,} multiplications, standard {self.scheme.problem.standard_rank:,}"),
            ("verdict", check.verdict.message if check.ok else "none, the scheme is wrong"),
            ("ring", f"{self.scheme.ring}, {IN_WORDS[self.scheme.ring]}; holds over {rings}"),
            ("additions", f"{self.additions:,} additions as written{reduced}"),
            (
                "sparsity",
                f"{100 * self.sparsity:.3g} % of the coefficients are zero ({self.num_nonzero:,} of {self.num_coefficients:,} are not)",
            ),
            (
                "growth factor",
                f"{self.growth:.2f}, standard {self.standard_growth:.3g}: each level of recursion multiplies the "
                "rounding error by up to this factor",
            ),
            ("symmetry group", group),
            ("exponent", omega),
            ("read as", source),
        ]

    def to_record(self) -> dict[str, Any]:
        """Returns the properties as JSON values."""
        return {
            "additions": self.additions,
            "reduced_additions": self.reduced_additions,
            "nonzero": self.num_nonzero,
            "sparsity": self.sparsity,
            "growth_factor": self.growth,
            "standard_growth_factor": self.standard_growth,
            "symmetry_group": None if self.group is None else self.group.order,
            "symmetries_examined": None if self.group is None else self.group.of,
            "omega": self.omega,
            "formulas": self.formulas,
        }

    def render(self, style: Style, picture: Path | None = None) -> str:
        """Returns the report in one of the styles.

        Args:
          style: plain text, Markdown or LaTeX.
          picture: PNG file of the factor matrices, to be shown.
        """
        if style == "markdown":
            return self._markdown(picture)
        if style == "latex":
            return self._latex(picture)
        width = max(len(name) for name, _ in self.rows())
        lines = [f"{name:<{width}}  {value}" for name, value in self.rows()]
        if picture is not None:
            lines.append(f"{'picture':<{width}}  {picture}")
        return "\n".join([*self.formulas, "", *lines])

    def _markdown(self, picture: Path | None) -> str:
        lines = [f"# {self.scheme.problem} in {self.scheme.rank:,} multiplications", ""]
        if picture is not None:
            lines += [f"![the factor matrices]({picture})", ""]
        lines += ["| property | value |", "|---|---|"]
        lines += [f"| {name} | {_escaped(value)} |" for name, value in self.rows()]
        return "\n".join([*lines, "", "```", *self.formulas, "```"])

    def _latex(self, picture: Path | None) -> str:
        lines = [f"% {self.scheme.problem} in {self.scheme.rank} multiplications; needs amsmath"]
        if picture is not None:
            lines += ["% and graphicx", rf"\includegraphics[width=\linewidth]{{{picture}}}"]
        lines += [r"\begin{align*}"]
        equations = [line for line in self.formulas if " = " in line]
        for index, line in enumerate(equations):
            left, _, right = line.partition(" = ")
            end = r" \\" if index < len(equations) - 1 else ""
            lines.append(f"  {_math(left)} &= {_math(right)}{end}")
        lines += [r"\end{align*}", r"\begin{tabular}{lp{0.7\linewidth}}"]
        lines += [rf"  {name} & {_latex_text(value)} \\" for name, value in self.rows()]
        return "\n".join([*lines, r"\end{tabular}"])


def make_report(scheme: Scheme, check: Checked, seconds: float = 1.0) -> SchemeReport:
    """Computes the properties of a scheme.

    Args:
      scheme: the algorithm.
      check: its proof and verdict.
      seconds: time limit of the search for fewer additions; 0 leaves it out.
    """
    problem = scheme.problem
    nonzero = sum(int(np.count_nonzero(factor)) for factor in scheme.factors)
    size = problem.standard_rank
    omega = None
    if isinstance(problem, MatrixMultiplication) and size > 1:
        omega = 3 * math.log(scheme.rank) / math.log(size)
    return SchemeReport(
        scheme=scheme,
        check=check,
        formulas=formulas(scheme).splitlines(),
        additions=num_additions(scheme),
        reduced_additions=_reduced(scheme, seconds) if seconds > 0 else None,
        num_nonzero=nonzero,
        num_coefficients=sum(factor.size for factor in scheme.factors),
        growth=growth_factor(scheme),
        standard_growth=growth_factor(Scheme(problem, "Z", *problem.standard())),
        group=symmetry_group(scheme),
        omega=omega,
    )


def _reduced(scheme: Scheme, seconds: float) -> int:
    from matrixrl.schemes.reduction import reduced_additions

    return min(num_additions(scheme), reduced_additions(scheme, seconds=seconds))


def _escaped(text: str) -> str:
    return text.replace("|", r"\|").replace("*", r"\*")


_ENTRY = re.compile(r"([ABCM])(\d+)(?:_(\d+))?")
_FRACTION = re.compile(r"(\d+)/(\d+)")


def _math(text: str) -> str:
    """Converts a formula to LaTeX."""

    def entry(match: re.Match[str]) -> str:
        letter, first, second = match.groups()
        if letter == "M":
            return f"M_{{{first}}}"
        row, column = (first, second) if second else (first[:1], first[1:])
        return f"{letter.lower()}_{{{row},{column}}}" if second else f"{letter.lower()}_{{{row}{column}}}"

    text = _FRACTION.sub(lambda match: rf"\tfrac{{{match[1]}}}{{{match[2]}}}", text)
    return _ENTRY.sub(entry, text).replace("*", r" \, ")


def _latex_text(text: str) -> str:
    text = re.sub(r"([%&#_{}])", r"\\\1", text)
    return re.sub(r"\^(\d+\.\d+)", r"$^{\1}$", text)
