"""Rows of the journal: conversion of rounds to metrics."""

from __future__ import annotations

from collections.abc import Mapping

from matrixrl.config import FlipConfig
from matrixrl.systems.flip.state import FlipState

MOVE_METRICS = ("move/tried", "move/changed", "move/shorter")
"""Numbers of long-range moves, from the first one on."""


def is_shown(round: int) -> bool:
    """Returns whether the console shows a row for a round without a find: rounds 1 to 10, every
    tenth up to 100, every hundredth up to 1,000 and so on.
    """
    step = 10 ** (len(str(round)) - 1)
    return round % step == 0


def names_of_problem(name: str, several: bool) -> tuple[str, str, str]:
    """Returns the names of the lowest rank, the processor time and the number of flips of a
    problem; a search for several has them for each.
    """
    if not several:
        return "walk/best_rank", "walk/core_seconds", "walk/flips"
    return f"walk/best_rank_{name}", f"walk/core_{name}_seconds", f"walk/flips_{name}"


def round_metrics(
    state: FlipState, index: int, flips_per_second: float, several: bool
) -> dict[str, float | int]:
    """Returns the row of a round.

    Args:
      state: after the round.
      index: of the problem that it walked on.
      flips_per_second: of the round, by the clock.
      several: whether the search has several problems.
    """
    pool, progress = state.pools[index], state.progress
    counts = pool.counts()
    best = progress.best_ranks[index]
    best_name, core_name, flips_name = names_of_problem(pool.problem.name, several)
    return {
        best_name: best,
        "walk/flips": progress.total_flips,
        flips_name: progress.flips[index],
        "walk/flips_per_second": flips_per_second,
        "walk/restarts": progress.restarts,
        "walk/pluses": progress.pluses,
        **_moves(state),
        core_name: progress.core_seconds[index],
        "pool/size": len(pool),
        "pool/best": counts.get(best, 0),
        "pool/next": counts.get(best + 1, 0),
    }


def _moves(state: FlipState) -> dict[str, int]:
    """Returns the numbers of long-range moves; none before the first one."""
    progress = state.progress
    if progress.moves == 0:
        return {}
    counts = progress.moves, progress.moves_changed, progress.moves_shorter
    return dict(zip(MOVE_METRICS, counts, strict=True))


def pool_in_words(counts: Mapping[int, int]) -> str:
    """Returns the number of schemes per rank: `pool 23: 12, 24: 500`."""
    return "pool " + ", ".join(f"{rank}: {count:,}" for rank, count in counts.items())


def flip_metrics(config: FlipConfig) -> list[str]:
    """Returns the metrics of the stream, before there is a run."""
    several = config.graph.all
    names = [names_of_problem(problem.name, several) for problem in config.graph.problems]
    moves = () if config.walk.move == "none" else MOVE_METRICS
    return [
        "walk/round",
        "walk/flips",
        "walk/flips_per_second",
        "walk/restarts",
        "walk/pluses",
        "pool/size",
        "pool/best",
        "pool/next",
        *moves,
        *dict.fromkeys(name for of_problem in names for name in of_problem if name != "walk/flips"),
    ]
