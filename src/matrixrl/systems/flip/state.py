"""State of a search: pools of schemes, positions of walkers, and plain counters that a checkpoint
holds as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from matrixrl.search.flip_graph import Pool, WalkerState

DONE = "done"


@dataclass(frozen=True)
class FlipProgress:
    """Position of a search.

    Attributes:
      rounds: number of finished rounds, of all problems: the clock.
      current: index of the problem that the next round walks on.
      visit: number of visits of problems so far, the current one included; 0 before the first.
      visit_rounds: number of finished rounds of the current visit.
      problem_rounds: number of finished rounds of each problem.
      flips: number of flips so far, of each problem.
      restarts, pluses: numbers of these so far, of all problems.
      moves, moves_changed, moves_shorter: number of long-range moves so far, and of those that
        changed a scheme and that made it shorter.
      finds: number of schemes that were better than those before them.
      core_seconds: processor time of the walks so far, of each problem. Not a result.
      best_ranks: lowest rank of each problem.
    """

    rounds: int = 0
    current: int = 0
    visit: int = 0
    visit_rounds: int = 0
    problem_rounds: tuple[int, ...] = ()
    flips: tuple[int, ...] = ()
    restarts: int = 0
    pluses: int = 0
    moves: int = 0
    moves_changed: int = 0
    moves_shorter: int = 0
    finds: int = 0
    core_seconds: tuple[float, ...] = ()
    best_ranks: tuple[int, ...] = ()

    @property
    def total_flips(self) -> int:
        """Number of flips so far, of all problems."""
        return sum(self.flips)


class FlipState(NamedTuple):
    """Complete state of a search.

    Attributes:
      pools: the pool of each problem.
      progress: the counters.
      walkers: positions of the walkers of each problem; empty before their first round.
    """

    pools: tuple[Pool, ...]
    progress: FlipProgress
    walkers: tuple[tuple[WalkerState | None, ...], ...]


def flip_progress_from_record(record: Mapping[str, Any]) -> FlipProgress:
    """Returns the progress in a checkpoint, where every tuple has become a list."""
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in record.items()
    }
    return FlipProgress(**fields)


def replaced(values: tuple[Any, ...], index: int, value: Any) -> tuple[Any, ...]:
    """Returns a tuple with one value exchanged."""
    return (*values[:index], value, *values[index + 1 :])
