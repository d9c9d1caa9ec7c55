"""Schemes of the same rank with fewer additions, found by walks on the flip graph over a pool.

Every generation walks short distances from the cheapest schemes found so far, estimates the
additions of the new ones by a quick reduction, and keeps the cheapest. The best of them are then
refined by the annealing of `matrixrl.schemes.cheaper`, which also changes bases.
"""

from __future__ import annotations

import random
import time

import numpy as np

from matrixrl.schemes.cheaper import Cheaper, can_search, find_cheaper
from matrixrl.schemes.programs import MODULI
from matrixrl.schemes.reduction import balanced, greedy_additions, reduced_program
from matrixrl.schemes.scheme import Scheme, SchemeError
from matrixrl.schemes.verify import verify
from matrixrl.search.flip_graph.pool import Pool
from matrixrl.search.flip_graph.rows import WalkRing, from_scheme, to_scheme
from matrixrl.search.flip_graph.settings import WalkSettings
from matrixrl.search.flip_graph.walk import MIN_COST, Stop, run_round

_BEAM = 48  # schemes from which a generation walks
_STARTS = 96  # walks of a generation
_LENGTHS = (1, 2, 4, 8, 16, 64, 256)  # flips of a walk, drawn for each generation
_WALKING = 0.1  # fraction of the time for the pool
_ANNEALED = 3  # schemes of the pool that are annealed beside the given one
_TRIAL = 0.1  # fraction of the time for the first annealing of each; the best one gets the rest


def cheapest_of_pool(
    scheme: Scheme,
    *,
    seconds: float,
    seed: int = 0,
    target: int | None = None,
    max_generations: int | None = None,
) -> Cheaper:
    """Searches the flip graph around a scheme for one with fewer additions, or of a lower rank.

    Args:
      scheme: a correct scheme over F2, or with coefficients -1, 0, 1.
      seconds: time limit. Compilation, at the first call, counts.
      seed: seed of the random choices. The result also depends on the time limit.
      target: stops at this number of additions.
      max_generations: stops after this number of generations.

    Returns:
      The cheapest scheme found, verified; `moves` counts flips and moves of the annealing.

    Raises:
      SchemeError: if the scheme is wrong, or has other coefficients.
    """
    ring = walk_ring(scheme)
    check = verify(scheme)
    if not check:
        raise SchemeError(f"not a correct scheme: {check.message}")
    began = time.monotonic()
    beam = _Beam(scheme, ring, seed)
    walking_ends = began + _WALKING * seconds
    generation = 0
    while time.monotonic() < walking_ends and (max_generations is None or generation < max_generations):
        beam.advance(generation, lambda: time.monotonic() >= walking_ends)
        generation += 1
        if target is not None and beam.lowest_cost <= target - 2:
            break
    best = scheme
    program = reduced_program(scheme, seconds=min(1.0, seconds / 8), seed=seed)
    moves, number = beam.flips, 0
    trials = [scheme, *beam.cheapest(_ANNEALED)] if can_search(scheme) else []
    for candidate in beam.cheapest(_ANNEALED):
        if not verify(candidate):
            raise AssertionError(f"a walk produced a wrong scheme: {verify(candidate).message}")
        reduced = reduced_program(candidate, seconds=min(1.0, seconds / 8), seed=seed)
        if (candidate.rank, reduced.num_additions) < (best.rank, program.num_additions):
            best, program = candidate, reduced
    while trials and not (target is not None and program.num_additions <= target):
        left = began + seconds - time.monotonic()
        if left <= 0:
            break
        # First a short annealing of each, then all that is left for the best.
        first = number < len(trials)
        found = find_cheaper(
            trials[number] if first else best,
            seconds=min(left, _TRIAL * seconds) if first else left,
            seed=seed + number,
            flips=True,
            target=target,
        )
        moves, number = moves + found.moves, number + 1
        if (found.scheme.rank, found.program.num_additions) < (best.rank, program.num_additions):
            best, program = found.scheme, found.program
    return Cheaper(best, program, moves, time.monotonic() - began)


def walk_ring(scheme: Scheme) -> WalkRing:
    """Returns the ring in which flips walk from a scheme.

    Raises:
      SchemeError: if there is none.
    """
    if scheme.ring == "F2":
        return "F2"
    if scheme.ring == "Z" and scheme.is_ternary:
        return "Z"
    raise SchemeError(f"flips walk over F2 or with coefficients -1, 0, 1, and {scheme!r} has others")


class _Beam:
    """The cheapest schemes found so far, with the estimates of all that were seen.

    Attributes:
      flips: number of flips made.
    """

    def __init__(self, scheme: Scheme, ring: WalkRing, seed: int) -> None:
        self._scheme, self._seed = scheme, seed
        self._ring: WalkRing = ring
        self._rng = random.Random(seed)
        self._costs: dict[bytes, int] = {}
        self._members: list[tuple[int, int, np.ndarray]] = []  # rank, cost, rows
        self.flips = 0
        self._add(from_scheme(scheme, ring))

    @property
    def lowest_cost(self) -> int:
        """Lowest estimate of the number of additions."""
        return self._members[0][1]

    def advance(self, generation: int, stop: Stop) -> None:
        """Walks from the members, and keeps the cheapest of old and new ones."""
        length = self._rng.choice(_LENGTHS)
        settings = WalkSettings(
            ring=self._ring, plus_after=10**9, max_excess=0, restart_after=length, sandwich_probability=0.0
        )
        pool = Pool(self._scheme.problem, self._ring, size=4 * _BEAM, num_ranks=1)
        for _, _, rows in self._members:
            pool.add(rows)
        done = run_round(
            pool,
            settings,
            seed=self._seed,
            round=generation,
            num_walkers=1,
            flips_per_walker=_STARTS * MIN_COST,
            stop=stop,
            threads=1,
        )
        self.flips += done.flips
        for found in done.found.values():
            for rows in found:
                self._add(rows)
        self._members.sort(key=lambda member: member[:2])
        del self._members[_BEAM:]

    def cheapest(self, number: int) -> list[Scheme]:
        """Returns the cheapest schemes, of the lowest rank."""
        provenance = dict(self._scheme.provenance)
        return [
            to_scheme(rows, self._scheme.problem, self._ring, provenance)
            for _, _, rows in self._members[:number]
        ]

    def _add(self, rows: np.ndarray) -> None:
        key = rows.tobytes()
        if key not in self._costs:
            scheme = to_scheme(rows, self._scheme.problem, self._ring, {})
            modulus = MODULI.get(scheme.ring)
            parts = [
                greedy_additions(balanced(factor, modulus), self._rng)
                for factor in (scheme.u, scheme.v, scheme.w)
            ]
            self._costs[key] = sum(parts) + scheme.rank - scheme.problem.sides[2]
            self._members.append((len(rows), self._costs[key], rows))
