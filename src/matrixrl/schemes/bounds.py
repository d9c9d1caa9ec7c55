"""Upper bounds on ranks that follow from others by joining and multiplying, for any format.

Joining cuts one side of a format in two, and ranks add; multiplying nests one scheme in another,
and ranks multiply. A bound computed here is no record: nobody needs to have written the scheme
down, and whoever finds one of that rank has found nothing new.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from matrixrl.schemes.scheme import Format

Sizes = tuple[int, int, int]


@dataclass(frozen=True)
class Bound:
    """An upper bound on a rank.

    Attributes:
      format: the sides, sorted.
      rank: the bound.
      parts: the formats it was made of, sorted; empty for a published rank and for the standard
        algorithm.
      how: ``published``, ``standard``, ``joined`` or ``multiplied``.
    """

    format: Format
    rank: int
    parts: tuple[Format, ...] = ()
    how: str = "published"

    @property
    def is_computed(self) -> bool:
        """True if the bound follows from others."""
        return self.how in ("joined", "multiplied")

    def words(self, rank_of: Callable[[Sizes], Bound]) -> str:
        """Describes the last step: ``joining 8x8x8:336 and 8x8x8:336``."""
        first, second = (f"{part}:{rank_of(part).rank}" for part in self.parts)
        return (
            f"joining {first} and {second}" if self.how == "joined" else f"multiplying {first} and {second}"
        )


class Bounds:
    """The bounds that follow from a table of published ranks.

    Args:
      published: returns the published rank of a sorted format, or None.
    """

    def __init__(self, published: Callable[[Sizes], int | None]) -> None:
        self._published = published
        self.of = cache(self._of)

    def _of(self, sizes: Sizes) -> Bound:
        """Returns the lowest bound of a format with sorted sides that any step gives; a published
        rank is preferred to a computed one of the same rank.
        """
        fmt = Format(*sizes)
        given = self._published(sizes)
        best = Bound(fmt, fmt.naive_rank, how="standard") if given is None else Bound(fmt, given)
        if sizes[0] == 1:
            return best
        for side in range(3):
            for cut in range(1, sizes[side] // 2 + 1):
                best = self._better(
                    best, "joined", _with(sizes, side, cut), _with(sizes, side, sizes[side] - cut)
                )
        for a in _divisors(sizes[0]):
            for b in _divisors(sizes[1]):
                for c in _divisors(sizes[2]):
                    inner = (a, b, c)
                    if inner in ((1, 1, 1), sizes) or inner > (outer := _quotient(sizes, inner)):
                        continue
                    if min(inner) == max(inner) == 1 or min(outer) == max(outer) == 1:
                        continue
                    best = self._better(best, "multiplied", outer, inner)
        return best

    def _better(self, best: Bound, how: str, first: Sizes, second: Sizes) -> Bound:
        parts = [Format(*sorted(part)) for part in (first, second)]
        ranks = [self.of((part.n, part.m, part.p)).rank for part in parts]
        rank = ranks[0] + ranks[1] if how == "joined" else ranks[0] * ranks[1]
        return Bound(best.format, rank, tuple(parts), how) if rank < best.rank else best


def _with(sizes: Sizes, side: int, value: int) -> Sizes:
    changed = list(sizes)
    changed[side] = value
    return changed[0], changed[1], changed[2]


def _quotient(sizes: Sizes, inner: Sizes) -> Sizes:
    return sizes[0] // inner[0], sizes[1] // inner[1], sizes[2] // inner[2]


@cache
def _divisors(number: int) -> tuple[int, ...]:
    return tuple(divisor for divisor in range(1, number + 1) if number % divisor == 0)
