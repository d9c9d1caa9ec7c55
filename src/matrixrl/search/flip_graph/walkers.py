"""Positions of walkers between rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class WalkerState:
    """Position of a walker, from which its walk continues in the next round.

    Attributes:
      rows: the scheme where the walk is, uint64 [rank, 3, words], in the order of the walk.
      generator: state of its random number generator.
      best: lowest rank of the walk.
      since: number of flips since the last reduction or transition.
      idle: number of flips since the walk found its lowest rank.
      moved_at: `idle` at the last long-range move; 0 without one since the lowest rank.
      origin: serial number in the pool of the scheme that it started from; 0 for another start.
      features: of that start, if starts are learned; else empty.
    """

    rows: np.ndarray
    generator: int
    best: int
    since: int
    idle: int
    moved_at: int = 0
    origin: int = 0
    features: tuple[float, ...] = ()


def walkers_to_arrays(walkers: Sequence[WalkerState | None]) -> dict[str, np.ndarray]:
    """Returns positions as plain arrays for a checkpoint; None is a walker that starts again."""
    present = [walker for walker in walkers if walker is not None]
    if not walkers:
        return {}
    words = present[0].rows.shape[2] if present else 1
    most = max((len(walker.rows) for walker in present), default=0)
    width = max((len(walker.features) for walker in present), default=0)
    rows = np.zeros((len(walkers), most, 3, words), np.uint64)
    counters = np.zeros((len(walkers), 8), np.uint64)
    features = np.zeros((len(walkers), width), np.float64)
    for number, walker in enumerate(walkers):
        if walker is None:
            continue
        rows[number, : len(walker.rows)] = walker.rows
        counters[number] = (
            len(walker.rows),
            walker.generator,
            walker.best,
            walker.since,
            walker.idle,
            walker.moved_at,
            walker.origin,
            len(walker.features),
        )
        features[number, : len(walker.features)] = walker.features
    return {"rows": rows, "counters": counters, "features": features}


def walkers_from_arrays(arrays: Mapping[str, np.ndarray]) -> tuple[WalkerState | None, ...]:
    """Returns the positions that `walkers_to_arrays` packed; none of an empty mapping."""
    if not arrays:
        return ()
    found: list[WalkerState | None] = []
    for rows, counters, features in zip(
        np.asarray(arrays["rows"], np.uint64),
        np.asarray(arrays["counters"], np.uint64),
        np.asarray(arrays["features"], np.float64),
        strict=True,
    ):
        num_rows, generator, best, since, idle, moved_at, origin, width = map(int, counters)
        if num_rows == 0:
            found.append(None)
            continue
        own = tuple(map(float, features[:width]))
        found.append(WalkerState(rows[:num_rows].copy(), generator, best, since, idle, moved_at, origin, own))
    return tuple(found)
