"""Spec of searches on flip graphs: the table of finds, charts and console rows."""

from __future__ import annotations

from collections.abc import Mapping

from matrixrl.systems.spec import System, metrics_from
from matrixrl.tracking.events import Kind
from matrixrl.tracking.spec import BestMetric, ConsoleMetric, SystemSpec

FIND_COLUMNS: Mapping[str, Kind] = {
    "Find": "int",
    "Round": "int",
    "Problem": "str",
    "Rank": "int",
    "Ring": "str",
    "Flips": "int",
}
"""Columns of the table of finds: a row for each scheme that is better than those before it."""

SPEC = SystemSpec(
    name="flip",
    project="rlmm",
    episode_columns=FIND_COLUMNS,
    best_metric=BestMetric("rank", "walk/best_rank", lowest=True),
    charts=("walk/best_rank", "walk/flips_per_second", "pool/size", "walk/restarts"),
    console_metrics=(
        ConsoleMetric("walk/round", "round", 8, 0),
        ConsoleMetric("walk/best_rank", "best rank", 11, 1, always=True),
        ConsoleMetric("pool/best", "at best", 9, 4),
        ConsoleMetric("pool/next", "one above", 11, 5),
        ConsoleMetric("pool/size", "pool", 8, 3),
        ConsoleMetric("walk/flips", "flips", 10, 6),
        ConsoleMetric("walk/flips_per_second", "flips/s", 10, 2),
        ConsoleMetric("walk/restarts", "restarts", 10, 7),
        ConsoleMetric("walk/pluses", "pluses", 9, 8),
    ),
    console_columns=(
        ConsoleMetric("Find", "find", 6, 0),
        ConsoleMetric("Round", "round", 8, 2),
        ConsoleMetric("Problem", "problem", 10, 3),
        ConsoleMetric("Rank", "rank", 6, 1),
        ConsoleMetric("Ring", "ring", 6, 4),
        ConsoleMetric("Flips", "flips", 12, 5),
    ),
)


SYSTEM = System(SPEC, metrics=metrics_from("matrixrl.systems.flip.rows:flip_metrics"))
