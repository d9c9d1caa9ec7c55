"""Hypothesis strategies for schemes."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import strategies as st

from matrixrl.schemes.known import known_scheme, laderman, standard, strassen, winograd
from matrixrl.schemes.rings import ComplexRational
from matrixrl.schemes.scheme import Format, Scheme
from matrixrl.schemes.symmetry import change_basis, random_basis


def formats(largest: int = 3) -> st.SearchStrategy[Format]:
    return st.builds(Format, *[st.integers(1, largest)] * 3)


@st.composite
def factor_schemes(draw: st.DrawFn, ring: str | None = None, bound: int = 3) -> Scheme:
    """Any factor matrices, nearly always a wrong scheme."""
    fmt = draw(formats())
    over = ring or draw(st.sampled_from(["Z", "F2"]))
    rank = draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    low, high = (0, 1) if over == "F2" else (-bound, bound)
    u, v, w = (rng.integers(low, high + 1, (rank, side)) for side in fmt.sides)
    return Scheme(fmt, over, u, v, w)  # pyright: ignore[reportArgumentType]


@st.composite
def correct_schemes(draw: st.DrawFn, ring: str = "Z", largest: int = 3) -> Scheme:
    """A known scheme in a random basis, its products in random order."""
    named = st.sampled_from([strassen(), winograd(), laderman()])
    base = draw(st.one_of(named, formats(largest).map(known_scheme), formats(largest).map(standard)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scheme = change_basis(base, *(random_basis(size, rng) for size in base.format))
    order = rng.permutation(scheme.rank)
    u, v, w = (factor[order] for factor in scheme.factors)
    scheme = Scheme(scheme.format, "Z", u, v, w)
    return scheme if ring == "Z" else scheme.mod2()


def rescaled(scheme: Scheme, ring: str) -> Scheme:
    """The scheme in another ring: reduced, or with u scaled by a number of the ring and v by its
    inverse.
    """
    if ring == "Z":
        return scheme
    if ring in ("F2", "F3"):
        return scheme.modulo(ring)  # pyright: ignore[reportArgumentType]
    scale = {
        "Z[1/2]": Fraction(1, 4),
        "Q": Fraction(3, 2),
        "Q[i]": ComplexRational(Fraction(1, 2), Fraction(-1, 2)),
    }[ring]
    u = [[value * scale for value in row] for row in scheme.u.tolist()]
    v = [[value * (1 / scale) for value in row] for row in scheme.v.tolist()]
    return Scheme(scheme.format, None, u, v, scheme.w)  # pyright: ignore[reportArgumentType]
