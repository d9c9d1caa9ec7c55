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
    """Returns an archive in AlphaTensor's layout: under the key ``n,m,p`` the factors [nm, rank],
    [mp, rank] and [pn, rank], with C transposed; an object array where they differ in shape.
    """
    if any(factor.dtype == object for factor in scheme.factors):
        raise SchemeError("coefficients that are not whole numbers cannot be stored as integers in an .npz")
    n, m, p = scheme.format
    w = scheme.w.reshape(-1, n, p).transpose(0, 2, 1).reshape(scheme.rank, p * n)
    factors = [scheme.u.T, scheme.v.T, w.T]
    entry = np.empty(3, dtype=object)
    entry[:] = factors
    if n == m == p:
        entry = np.array(factors)
    file = io.BytesIO()
    arrays: dict[str, Any] = {f"{n},{m},{p}": entry}
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def _braces(value: Any) -> str:
    if isinstance(value, list):
        return "{" + ",".join(_braces(item) for item in value) + "}"
    return str(Fraction(value)) if isinstance(value, Fraction) else str(value)
