"""Objectives of trials, read from the journals of their runs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from matrixrl.config import ConfigError
from matrixrl.studies.file import BEST_METRIC, TIME_METRIC, Objective
from matrixrl.tracking.identity import RUN_FILE, read_run_file
from matrixrl.tracking.journal import JournalError
from matrixrl.tracking.journal_reader import JournalReader, containing_one
from matrixrl.tracking.spec import SystemSpec, recorded_spec
from matrixrl.tracking.summary import best_value

MISSED_FACTOR = 2.0
"""`time_to_rank` of a run that did not reach the rank: its seconds times this."""


class ObjectiveReader:
    """Reads the objective of a run while it grows.

    Args:
      directory: the run folder.
      objective: what to read.
      agent: number of the agent in a run of several; None for a run of one.
    """

    def __init__(self, directory: Path, objective: Objective, agent: int | None = None) -> None:
        self.directory = directory
        self.objective = objective
        self._name = objective.metric if agent is None else f"agent/{agent}/{objective.metric}"

    def value(self) -> float | None:
        """Returns the objective; None if there is none yet, or it is not finite."""
        point = self.point()
        return None if point is None else point[1]

    def point(self) -> tuple[int, float] | None:
        """Returns the last step with a value of the metric, and the objective up to there."""
        try:
            spec = recorded_spec(read_run_file(self.directory) or {}, str(self.directory / RUN_FILE))
            with JournalReader(self.directory) as reader:
                if self.objective.metric == BEST_METRIC:
                    best = None if spec is None else best_value(reader, spec)
                    return None if best is None else (reader.last_step(), best)
                if self.objective.metric == TIME_METRIC:
                    seconds = seconds_to(reader, spec, self.objective.rank or 0)
                    return None if seconds is None else (reader.last_step(), seconds)
                steps, values = series(reader, self._name, spec)
        except (ConfigError, JournalError):
            return None
        number = combined(steps, values, self.objective)
        return None if number is None else (steps[-1], number)


def series(reader: JournalReader, name: str, spec: SystemSpec | None) -> tuple[list[int], list[float]]:
    """Returns steps and values of a metric of the stream's history, under any name it ever had."""
    names = (
        [name]
        if spec is None
        else list(dict.fromkeys([name, spec.current_name(name), *spec.old_names(name)]))
    )
    condition, given = containing_one([f'"{one}"' for one in names])
    steps: list[int] = []
    values: list[float] = []
    for _, step, metrics in reader.rows_where(range(1, reader.last_id() + 1), condition, given):
        for one in names:
            value = metrics.get(one)
            if isinstance(value, int | float):
                steps.append(step)
                values.append(float(value))
                break
    return steps, values


def combined(steps: Sequence[int], values: Sequence[float], objective: Objective) -> float | None:
    """Returns the last or best value, or the area under the curve divided by its length; None if it
    is not finite, or there is none.
    """
    if not values:
        return None
    if objective.value == "last":
        found = values[-1]
    elif objective.value == "best":
        known = [value for value in values if math.isfinite(value)]
        found = (max if objective.mode == "max" else min)(known, default=math.nan)
    elif steps[-1] == steps[0]:
        found = values[-1]
    else:
        area = sum(
            (after - before) * (first + second) / 2
            for before, after, first, second in zip(steps, steps[1:], values, values[1:], strict=False)
        )
        found = area / (steps[-1] - steps[0])
    return found if math.isfinite(found) else None


def over_seeds(values: Iterable[float | None], objective: Objective) -> float | None:
    """Returns the mean or the lower quartile (of a `min` objective: the upper one) over seeds; None
    if a seed has no value.
    """
    known = list(values)
    if not known or any(value is None for value in known):
        return None
    numbers = sorted(float(value) for value in known if value is not None)
    if objective.over_seeds == "mean" or len(numbers) == 1:
        return statistics.fmean(numbers)
    lower, _, upper = statistics.quantiles(numbers, n=4, method="inclusive")
    return lower if objective.mode == "max" else upper


def seconds_to(reader: JournalReader, spec: SystemSpec | None, rank: int) -> float | None:
    """Returns the seconds of training until the best value of the system first reached a rank; of a
    run that ended without it, its seconds times `MISSED_FACTOR`.
    """
    reached = [at for at in _reached(reader, spec, rank) if at is not None]
    first: tuple[int, float] | None = min(reached, default=None, key=lambda at: at[1])
    seconds = 0.0
    attempts = reader.attempts()
    for attempt in attempts:
        if first is not None and attempt.attempt == first[0]:
            return seconds + max(0.0, first[1] - attempt.started)
        if attempt.ended is not None:
            seconds += attempt.ended - attempt.started
    has_ended = bool(attempts) and attempts[-1].status == "finished"
    return seconds * MISSED_FACTOR if has_ended else None


def _reached(reader: JournalReader, spec: SystemSpec | None, rank: int) -> list[tuple[int, float] | None]:
    """Returns attempt and time of the first row of the stream, and of the first episode, at a rank
    or below.
    """
    best = None if spec is None else spec.best
    if spec is None or best is None:
        return []
    found: list[tuple[int, float] | None] = []
    if best.metric is not None:
        names = (best.metric, *spec.old_names(best.metric))
        rows = reader.stream(containing=[f'"{name}"' for name in names])
        found.append(
            next(((row.attempt, row.time) for row in rows if _any_at_most(row.metrics, names, rank)), None)
        )
    columns = list(reader.episode_columns)
    column = None if best.column is None else spec.recorded_column(best.column, reader.episode_columns)
    if column is not None:
        only = (
            None if best.only_where is None else spec.recorded_column(best.only_where, reader.episode_columns)
        )
        index, where = columns.index(column), None if only is None else columns.index(only)
        episodes = reader.episodes()
        found.append(
            next(
                (
                    (row.attempt, row.time)
                    for row in episodes
                    if (where is None or row.values[where]) and _at_most(row.values[index], rank)
                ),
                None,
            )
        )
    return found


def _any_at_most(metrics: dict[str, Any], names: Sequence[str], rank: int) -> bool:
    return any(_at_most(metrics.get(name), rank) for name in names)


def _at_most(value: Any, rank: int) -> bool:
    return isinstance(value, int | float) and value <= rank


def metric_names(directory: Path) -> list[str]:
    """Returns the metrics of a run's stream, those of single agents left out."""
    names: dict[str, None] = {}
    try:
        with JournalReader(directory) as reader:
            for block in reader.blocks():
                names |= dict.fromkeys(block.metrics)
    except (ConfigError, JournalError):
        return []
    return [name for name in names if not name.startswith(("agent/", "setting/"))]
