"""Short walks from given schemes: shorter ones, and others of the same rank."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from matrixrl.schemes.scheme import Scheme
from matrixrl.search.flip_graph.pool import Pool
from matrixrl.search.flip_graph.rows import from_scheme, to_scheme
from matrixrl.search.flip_graph.settings import WalkSettings
from matrixrl.search.flip_graph.walk import Stop, run_round


def polish(
    schemes: Iterable[Scheme],
    settings: WalkSettings,
    flips: int,
    *,
    seed: int = 0,
    round: int = 0,
    num_results: int = 16,
    stop: Stop | None = None,
    threads: int | None = 1,
) -> list[Scheme]:
    """Returns schemes near given ones that are shorter, or of the same rank but different.

    Schemes of one problem share a pool, so a scheme is returned once. The result depends on the
    arguments alone, whatever the number of threads, unless `stop` cuts it.

    Args:
      schemes: where to start, of any problems.
      settings: how to walk; its ring is the ring of the results.
      flips: number of flips from each scheme.
      seed: of the random choices.
      round: number of the call, for other random choices with the same seed.
      num_results: maximum number of schemes that are returned for each problem.
      stop: ends the walks early when it returns true.
      threads: number of threads; None is the number of processors.

    Returns:
      New schemes in the ring of the settings, lowest rank first. Their sum is that of the scheme
      they come from: whether that one was right is not examined.

    Raises:
      SchemeError: if a scheme has coefficients that the ring of the settings cannot hold.
    """
    settings = replace(settings, fresh_probability=0.0)
    pools: dict[str, Pool] = {}
    starts: dict[str, list[np.ndarray]] = {}
    for scheme in schemes:
        name = scheme.problem.name
        pools.setdefault(name, Pool(scheme.problem, settings.ring, settings.pool_size, settings.pool_ranks))
        starts.setdefault(name, []).append(from_scheme(scheme, settings.ring))
    results = []
    for name, pool in pools.items():
        found: list[np.ndarray] = []
        for number, rows in enumerate(starts[name]):
            own = Pool(pool.problem, settings.ring, settings.pool_size, settings.pool_ranks)
            own.add(rows)
            pool.add(rows)
            done = run_round(
                own,
                settings,
                seed=seed,
                round=round * 1_000_003 + number,
                num_walkers=1,
                flips_per_walker=flips,
                stop=stop,
                threads=threads,
            )
            new = [rows for rank in sorted(done.found) for rows in done.found[rank]]
            found += [rows for rows in new if pool.add(rows)]
        found.sort(key=len)
        results += [
            to_scheme(rows, pool.problem, settings.ring, {"method": "flips"}) for rows in found[:num_results]
        ]
    return results
