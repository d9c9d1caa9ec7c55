"""Random walks on flip graphs: schemes that flips turn into one another, searched for lower ranks.

Host code: it uses threads and clocks, and numba, which is imported when the first walk starts.
"""

from __future__ import annotations

from matrixrl.search.flip_graph.cyclic import from_orbits, random_start, to_orbits
from matrixrl.search.flip_graph.polish import polish
from matrixrl.search.flip_graph.pool import Pool
from matrixrl.search.flip_graph.rederive import rederive
from matrixrl.search.flip_graph.rows import (
    WalkRing,
    canonical,
    from_scheme,
    standard_rows,
    to_scheme,
    words_per_factor,
)
from matrixrl.search.flip_graph.settings import WalkSettings
from matrixrl.search.flip_graph.walk import (
    RoundResult,
    ThreadWalkers,
    Walkers,
    WalkersFailedError,
    WrongSchemeError,
    run_round,
)
from matrixrl.search.flip_graph.walkers import WalkerState, walkers_from_arrays, walkers_to_arrays

__all__ = [
    "Pool",
    "RoundResult",
    "ThreadWalkers",
    "WalkRing",
    "WalkSettings",
    "WalkerState",
    "Walkers",
    "WalkersFailedError",
    "WrongSchemeError",
    "canonical",
    "from_orbits",
    "from_scheme",
    "polish",
    "random_start",
    "rederive",
    "run_round",
    "standard_rows",
    "to_orbits",
    "to_scheme",
    "walkers_from_arrays",
    "walkers_to_arrays",
    "words_per_factor",
]
