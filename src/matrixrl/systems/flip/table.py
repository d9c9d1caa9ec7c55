"""Search for all formats up to a size: the order of visits, and seeds from neighbouring formats."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from matrixrl.schemes.neighbours import best_seed, extend, project
from matrixrl.schemes.problem import format_of
from matrixrl.schemes.scheme import Format, Scheme
from matrixrl.schemes.symmetry import reorder
from matrixrl.search.flip_graph import Pool, WalkRing, to_scheme
from matrixrl.systems.flip.state import FlipProgress


def next_visit(progress: FlipProgress, done: Sequence[bool], visit_rounds: int) -> FlipProgress:
    """Returns the progress at the next round: of the same visit, or at the next problem that is not
    done.

    Args:
      done: whether each problem is at its target.
      visit_rounds: number of rounds of a visit.
    """
    continues = progress.visit > 0 and progress.visit_rounds < visit_rounds and not done[progress.current]
    if continues:
        return progress
    number = len(done)
    first = progress.current + 1 if progress.visit else 0
    order = [(first + offset) % number for offset in range(number)]
    following = next((index for index in order if not done[index]), progress.current)
    return dataclasses.replace(progress, current=following, visit=progress.visit + 1, visit_rounds=0)


def best_in_pools(pools: Sequence[Pool], visit: int) -> list[Scheme]:
    """Returns a scheme of the lowest rank of each pool; each visit takes another one."""
    found = []
    for pool in pools:
        assert pool.best_rank is not None
        members = pool.members(pool.best_rank)
        found.append(to_scheme(members[visit % len(members)], pool.problem, pool.ring))
    return found


def seeds_for(pool: Pool, schemes: Sequence[Scheme]) -> list[Scheme]:
    """Returns schemes of a pool's format that moves between formats make of schemes of others.

    Args:
      pool: of matrix multiplication.
      schemes: one of each format, in the ring of the pool.
    """
    others = [scheme for scheme in schemes if scheme.problem != pool.problem]
    return moved_to(format_of(pool.problem), others, pool.ring)


def moved_to(fmt: Format, schemes: Sequence[Scheme], ring: WalkRing) -> list[Scheme]:
    """Returns schemes of a format that moves between formats make of schemes: the best composition
    of all of them, and each one that is a row or column larger or smaller, or has the sides in
    another order.

    Args:
      fmt: the format.
      schemes: of other formats, in the ring.
      ring: of walks. Over Z all coefficients are -1, 0 and 1.
    """
    ternary = ring == "Z"
    composed = best_seed(fmt, schemes, ring=ring, ternary=ternary)
    found = [composed, *(moved for scheme in schemes for moved in _moved(scheme, fmt, ternary))]
    return [scheme for scheme in found if not ternary or scheme.is_ternary]


def _moved(scheme: Scheme, fmt: Format, ternary: bool) -> Iterator[Scheme]:
    """Yields the scheme of a format that another order of the sides, or one row or column more or
    less, makes of a scheme.
    """
    wanted = sorted(fmt)
    if sorted(scheme.format) == wanted:
        yield reorder(scheme, fmt)
        return
    for side in range(3):
        sizes = list(scheme.format)
        sizes[side] += 1
        if sorted(sizes) == wanted:
            yield reorder(extend(scheme, side), fmt)
            return  # another side of the same length gives an equivalent scheme
        sizes[side] -= 2
        if sizes[side] and sorted(sizes) == wanted:
            yield reorder(project(scheme, side, ternary=ternary), fmt)
            return
