"""A scheme as nested lists (.m) in which C is not transposed (`formats.mathematica` does that)."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from matrixrl.schemes.scheme import Scheme


def m_text(scheme: Scheme) -> str:
    """Returns nested lists, ``{{{{a}},{{b}},{{c}}}, ...}``: per product the matrices of its
    coefficients, n x m, m x p and n x p; C is not transposed.
    """
    n, m, p = scheme.format
    products = []
    for rows in zip(*scheme.factors, strict=True):
        matrices = [
            _braces(np.asarray(row).reshape(shape).tolist())
            for row, shape in zip(rows, ((n, m), (m, p), (n, p)), strict=True)
        ]
        products.append("{" + ",".join(matrices) + "}")
    return "{" + ",\n".join(products) + "}\n"


def _braces(value: Any) -> str:
    if isinstance(value, list):
        return "{" + ",".join(_braces(item) for item in value) + "}"
    return str(Fraction(value)) if isinstance(value, Fraction) else str(value)
