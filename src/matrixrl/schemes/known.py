"""Published algorithms, and the best scheme of any format that can be composed from them.

The library behind `known_scheme` is small on purpose: Strassen, Laderman, the standard algorithm,
and three ways to combine: cutting a side in two, multiplying formats (blocks of blocks), and
re-ordering the sides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from matrixrl.schemes.formulas import parse_formulas
from matrixrl.schemes.neighbours import merge, product, standard_scheme
from matrixrl.schemes.scheme import Format, Scheme, as_format
from matrixrl.schemes.symmetry import reorder

_STRASSEN = """
M1 = (A11 + A22)(B11 + B22)
M2 = (A21 + A22) B11
M3 = A11 (B12 - B22)
M4 = A22 (B21 - B11)
M5 = (A11 + A12) B22
M6 = (A21 - A11)(B11 + B12)
M7 = (A12 - A22)(B21 + B22)
C11 = M1 + M4 - M5 + M7
C12 = M3 + M5
C21 = M2 + M4
C22 = M1 - M2 + M3 + M6
"""

_WINOGRAD = """
M1 = A11 B11
M2 = A12 B21
M3 = (A11 + A12 - A21 - A22) B22
M4 = A22 (B11 - B12 - B21 + B22)
M5 = (A21 + A22)(B12 - B11)
M6 = (A21 + A22 - A11)(B11 - B12 + B22)
M7 = (A11 - A21)(B22 - B12)
C11 = M1 + M2
C12 = M1 + M3 + M5 + M6
C21 = M1 - M4 + M6 + M7
C22 = M1 + M5 + M6 + M7
"""

_LADERMAN = """
M1 = (A11 + A12 + A13 - A21 - A22 - A32 - A33) B22
M2 = (A11 - A21)(-B12 + B22)
M3 = A22 (-B11 + B12 + B21 - B22 - B23 - B31 + B33)
M4 = (-A11 + A21 + A22)(B11 - B12 + B22)
M5 = (A21 + A22)(-B11 + B12)
M6 = A11 B11
M7 = (-A11 + A31 + A32)(B11 - B13 + B23)
M8 = (-A11 + A31)(B13 - B23)
M9 = (A31 + A32)(-B11 + B13)
M10 = (A11 + A12 + A13 - A22 - A23 - A31 - A32) B23
M11 = A32 (-B11 + B13 + B21 - B22 - B23 - B31 + B32)
M12 = (-A13 + A32 + A33)(B22 + B31 - B32)
M13 = (A13 - A33)(B22 - B32)
M14 = A13 B31
M15 = (A32 + A33)(-B31 + B32)
M16 = (-A13 + A22 + A23)(B23 + B31 - B33)
M17 = (A13 - A23)(B23 - B33)
M18 = (A22 + A23)(-B31 + B33)
M19 = A12 B21
M20 = A23 B32
M21 = A21 B13
M22 = A31 B12
M23 = A33 B33
C11 = M6 + M14 + M19
C12 = M1 + M4 + M5 + M6 + M12 + M14 + M15
C13 = M6 + M7 + M9 + M10 + M14 + M16 + M18
C21 = M2 + M3 + M4 + M6 + M14 + M16 + M17
C22 = M2 + M4 + M5 + M6 + M20
C23 = M14 + M16 + M17 + M18 + M21
C31 = M6 + M7 + M8 + M11 + M12 + M13 + M14
C32 = M12 + M13 + M14 + M15 + M22
C33 = M6 + M7 + M8 + M9 + M23
"""


def standard(format: Sequence[int]) -> Scheme:
    """Returns the standard algorithm of a format, n*m*p products A_ij B_jk, each added to C_ik."""
    return standard_scheme(format)


def strassen() -> Scheme:
    """Returns the 2x2x2 scheme with 7 multiplications (Strassen 1969)."""
    return parse_formulas((2, 2, 2), _STRASSEN, provenance={"source": "Strassen 1969"})


def winograd() -> Scheme:
    """Returns the 2x2x2 scheme with 7 multiplications, and 15 additions with common parts shared
    (Winograd 1971).
    """
    return parse_formulas((2, 2, 2), _WINOGRAD, provenance={"source": "Winograd 1971"})


def laderman() -> Scheme:
    """Returns the 3x3x3 scheme with 23 multiplications (Laderman 1976)."""
    return parse_formulas((3, 3, 3), _LADERMAN, provenance={"source": "Laderman 1976"})


def known_rank(format: Sequence[int]) -> int:
    """Returns the rank of `known_scheme` without building it."""
    return _plan(tuple(sorted(as_format(tuple(format)))))[0]


def known_scheme(format: Sequence[int]) -> Scheme:
    """Returns the best integer scheme of a format that the library can compose, in its own order of
    sides.

    This is not the record (`matrixrl.schemes.records`), but the result of 2x2x2:7, 3x3x3:23 and
    compositions: 2x2x3:11, 2x2x4:14, 4x4x4:49 are records, 2x3x3 gets 17 of 15.

    Raises:
      SchemeError: if the format is not three integers in range.
    """
    fmt = as_format(tuple(format))
    return reorder(_compose(tuple(sorted(fmt))), fmt)


# A plan: the rank, the method ("base", "join" or "nest"), and the formats of the parts.
_Sizes = tuple[int, ...]
_Plan = tuple[int, str, tuple[_Sizes, ...]]
_NAMED: dict[_Sizes, Callable[[], Scheme]] = {(2, 2, 2): strassen, (3, 3, 3): laderman}


@cache
def _plan(sizes: _Sizes) -> _Plan:
    """Finds the cheapest composition for the scheme of sorted sizes."""
    if sizes in _NAMED:
        return _NAMED[sizes]().rank, "base", ()
    best: _Plan = (sizes[0] * sizes[1] * sizes[2], "base", ())
    if sizes[0] == 1:  # a matrix times a vector and an outer product have full rank n*m*p
        return best
    for side in range(3):
        for cut in range(1, sizes[side] // 2 + 1):
            parts = tuple((*sizes[:side], part, *sizes[side + 1 :]) for part in (cut, sizes[side] - cut))
            rank = sum(_plan(tuple(sorted(part)))[0] for part in parts)
            if rank < best[0]:
                best = (rank, "join", parts)
    for inner in np.ndindex(*sizes):
        small = tuple(size + 1 for size in inner)
        if any(size % part for size, part in zip(sizes, small, strict=True)) or small in (sizes, (1, 1, 1)):
            continue
        big = tuple(size // part for size, part in zip(sizes, small, strict=True))
        rank = _plan(tuple(sorted(big)))[0] * _plan(tuple(sorted(small)))[0]
        if rank < best[0]:
            best = (rank, "nest", (big, small))
    return best


def _compose(sizes: _Sizes) -> Scheme:
    """Builds the scheme of `_plan`."""
    _, way, parts = _plan(sizes)
    if way == "base":
        if sizes in _NAMED:
            return _NAMED[sizes]()
        return standard(sizes)
    first, second = (reorder(_compose(tuple(sorted(part))), Format(*part)) for part in parts)
    if way == "nest":
        return product(first, second)
    side = next(s for s in range(3) if first.format[s] + second.format[s] == sizes[s])
    return merge(first, second, side)
