"""What a parser reads, and how a reading becomes a scheme.

A public file often leaves open how its factors are to be read: whether C is transposed, which side
of a table counts the products. A parser returns every reading that its file allows, the documented
one first, and `first_correct` takes the first that multiplies matrices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isqrt
from typing import Any

from matrixrl.schemes.rings import MODULUS, Number, Ring, smallest_ring
from matrixrl.schemes.scheme import Format, Scheme, SchemeError, as_format
from matrixrl.schemes.verify import is_plausible

MAX_NUMBERS = 6_000_000
"""Maximum number of coefficients in a file; the largest public schemes have 1.7 million."""

Rows = Sequence[Sequence[Number]]


class NotASchemeError(SchemeError):
    """The content of a file is no scheme in any known format. A folder's other files are such."""


class FormatError(SchemeError):
    """A file of a known format is malformed. The message says where and what is expected."""


@dataclass(frozen=True)
class Draft:
    """One reading of the factors in a file.

    Attributes:
      format: (n, m, p).
      u, v, w: rows of coefficients, one per product; w is flattened as the file has it.
      transposed: whether w is read as p x n, that is, C transposed.
      ring: as declared by the file; None if it declares none.
      remark: what to say about this reading.
    """

    format: Format
    u: Rows
    v: Rows
    w: Rows
    transposed: bool
    ring: Ring | None = None
    remark: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)

    def scheme(self) -> Scheme:
        """Builds the scheme, with C row-major and not transposed; raises `SchemeError`."""
        w = self.w
        if self.transposed:
            n, _, p = self.format
            order = [k * n + i for i in range(n) for k in range(p)]
            w = [[row[index] for index in order] for row in self.w]
        ring = self.ring
        if ring is None:
            ring = smallest_ring(
                value
                for rows in (self.u, self.v, self.w)
                for row in rows
                for value in row
                if type(value) is not int
            )
        return Scheme(self.format, ring, self.u, self.v, w, self.provenance)  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True)
class Reading:
    """A scheme read from a file.

    Attributes:
      scheme: C is not transposed.
      transposed: whether the file has C transposed; None where the format leaves no choice or both
        are the same.
      declared: whether the file declares its ring.
      remark: how the file was read; empty if there is nothing to say.
    """

    scheme: Scheme
    transposed: bool | None = None
    declared: bool = False
    remark: str = ""


def both_orientations(
    format: Format,
    u: Rows,
    v: Rows,
    w: Rows,
    transposed: bool,
    ring: Ring | None = None,
    shape: tuple[int, int] | None = None,
) -> list[Draft]:
    """Returns the readings with C as documented and the other way round.

    Args:
      format, u, v, w, ring: as in `Draft`.
      transposed: whether C is transposed by the description of the format.
      shape: rows and columns of C, where the file has them; only fitting readings are returned.
    """
    drafts = []
    for turned in (transposed, not transposed):
        n, _, p = format
        if shape is None or shape == ((p, n) if turned else (n, p)):
            drafts.append(Draft(format, u, v, w, turned, ring))
    if min(format.n, format.p) == 1:
        return drafts[:1]
    return drafts


def first_correct(drafts: Sequence[Draft], ring: Ring | None = None) -> Reading:
    """Returns the first reading that multiplies matrices, or the first one if none does.

    Args:
      drafts: at least one.
      ring: the ring in which the file is judged; None is what it declares, or the rationals.

    Raises:
      SchemeError: if the coefficients are impossible.
    """
    schemes = [draft.scheme() for draft in drafts]
    chosen = 0
    if len(drafts) > 1:
        for over in _rings_to_try(schemes[0], ring):
            right = [index for index, scheme in enumerate(schemes) if is_plausible(scheme, over)]
            if right:
                chosen = right[0]
                break
    draft = drafts[chosen]
    choice = len({draft.transposed for draft in drafts}) > 1
    return Reading(
        scheme=schemes[chosen],
        transposed=draft.transposed if choice or draft.transposed else None,
        declared=draft.ring is not None,
        remark=draft.remark,
    )


def _rings_to_try(scheme: Scheme, ring: Ring | None) -> list[Ring]:
    if ring is not None:
        return [ring]
    if scheme.ring in MODULUS:
        return [scheme.ring]
    return [scheme.ring, "F2", "F3"]


def format_of_sides(sides: tuple[int, int, int]) -> Format | None:
    """Returns the format (n, m, p) whose modes have nm, mp and np entries, or None."""
    nm, mp, np = sides
    if min(sides) < 1 or nm * np % mp:
        return None
    n = isqrt(nm * np // mp)
    if n == 0 or nm % n or np % n:
        return None
    m, p = nm // n, np // n
    if (n * m, m * p, n * p) != sides:
        return None
    try:
        return as_format((n, m, p))
    except SchemeError:
        return None
