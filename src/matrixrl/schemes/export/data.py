"""A scheme as data for other programs: JSON, nested lists (.m) and NumPy arrays (.npz)."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any

import numpy as np

from matrixrl.schemes.scheme import Scheme, SchemeError, render_json


def json_text(scheme: Scheme) -> str:
    """Returns the scheme file of this project."""
    return render_json(scheme.to_record())


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


def npz_bytes(scheme: Scheme) -> bytes:
    """Returns an archive with the arrays u [rank, n*m], v [rank, m*p] and w [rank, n*p], and the
    format; C is not transposed.
    """
    if any(factor.dtype == object for factor in scheme.factors):
        raise SchemeError("coefficients that are not whole numbers cannot be stored as integers in an .npz")
    file = io.BytesIO()
    np.savez_compressed(
        file, u=scheme.u, v=scheme.v, w=scheme.w, format=np.array(scheme.format), ring=np.array(scheme.ring)
    )
    return file.getvalue()


def _braces(value: Any) -> str:
    if isinstance(value, list):
        return "{" + ",".join(_braces(item) for item in value) + "}"
    return str(Fraction(value)) if isinstance(value, Fraction) else str(value)
