"""Metrics of runs as curves: read from journals once, kept as arrays, thinned for the screen.

A curve of a long run is made from the writer's summaries of `BLOCK_ROWS` rows each; a narrow part
of it, for a chart that is zoomed in, from its rows. Each point of a thinned curve stands for
neighbouring values and has their mean, their lowest and their highest value, so that no extreme is
lost.
"""

from __future__ import annotations

import csv
import io
import math
import threading
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from matrixrl.config import require
from matrixrl.dashboard.query import Download, Query
from matrixrl.dashboard.recent import RecentRuns
from matrixrl.tracking.blocks import BLOCK_ROWS, BlockBuilder, StreamBlock
from matrixrl.tracking.journal_reader import EXACT_ROWS, Attempt, JournalReader, training_seconds

if TYPE_CHECKING:
    from matrixrl.dashboard.endpoints import Dashboard

MAX_BYTES = 48_000_000
"""Size of the arrays of all runs together, above which those of the run that was looked at least
recently are dropped.
"""

SMALL_VALUES = 400_000
"""A run with up to this number of rows times metrics is read with all of its metrics at once."""

MAX_POINTS = 5_000
MAX_CURVES = 64
"""Number of runs per request."""

AXES = ("step", "time", "epoch")

EPOCH = "Epoch"


class ThinnedCurve(NamedTuple):
    """A curve for the screen: `low` and `high` are those of the values that a point stands for."""

    x: np.ndarray
    y: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass
class Column:
    """Values of a metric: first those of summaries, then those of single rows.

    Attributes:
      blocks: step, mean, lowest, highest value and number of values, one summary after another.
      steps, values: of single rows.
    """

    blocks: array[float] = field(default_factory=lambda: array("d"))
    steps: array[float] = field(default_factory=lambda: array("d"))
    values: array[float] = field(default_factory=lambda: array("d"))

    @property
    def size_bytes(self) -> int:
        """Size of its arrays."""
        return 8 * (len(self.blocks) + len(self.steps) + len(self.values))

    def entries(self) -> np.ndarray:
        """Returns step, mean, low, high and number of values [5, entries], in order of steps."""
        blocks = np.array(self.blocks).reshape(-1, 5).T
        values = np.array(self.values)
        rows = np.stack([np.array(self.steps), values, values, values, np.ones_like(values)])
        found = np.concatenate([blocks, rows], axis=1)
        steps = found[0]
        return found if (np.diff(steps) >= 0).all() else found[:, np.argsort(steps, kind="stable")]


class MetricHistory:
    """Metrics of the stream of one run. Callers hold its lock (`MetricHistories.of`).

    Attributes:
      names: last value of every metric.
      num_rows: number of rows that were read or summarised.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.Lock()
        self._reset()

    def _reset(self) -> None:
        self.names: dict[str, Any] = {}
        self.num_rows = 0
        self._columns: dict[str, Column] = {EPOCH: Column()}
        # Step and seconds in training of rows, to convert one into the other.
        self._clock_steps, self._clock_seconds = array("d"), array("d")
        self._attempts: list[Attempt] = []
        self._last_id = 0
        self._rows_since_load = 0
        self._every = False

    @property
    def size_bytes(self) -> int:
        """Size of its arrays."""
        clock = len(self._clock_steps) + len(self._clock_seconds)
        return 8 * clock + sum(column.size_bytes for column in self._columns.values())

    def update(self, wanted: Iterable[str] = ()) -> None:
        """Reads what the journal has since the last call, and metrics that were not read yet.

        Raises:
          JournalError: if nothing can be read.
        """
        with JournalReader(self.folder) as reader:
            attempts = reader.attempts()
            is_replaced = self._last_id > 0 and not reader.is_history("stream", self._last_id)
            if is_replaced or self._rows_since_load > 2 * EXACT_ROWS:
                self._reset()
            self._attempts = attempts
            if self._last_id == 0:
                self._load(reader, {*wanted, EPOCH})
                return
            self._read_rows(reader, range(self._last_id + 1, reader.last_id() + 1))
            missing = [name for name in wanted if name in self.names and name not in self._columns]
            if missing:
                self._add_columns(reader, missing)

    def _load(self, reader: JournalReader, wanted: set[str]) -> None:
        last = reader.last_id()
        if last <= EXACT_ROWS:
            first = next(iter(reader.timed_rows(range(1, last + 1))), None)
            if first is not None and last * len(first[4]) <= SMALL_VALUES:
                wanted = set()  # all
        self._every = not wanted
        for name in wanted:
            self._columns.setdefault(name, Column())
        self._read_parts(reader, self._columns if wanted else None)

    def _add_columns(self, reader: JournalReader, names: Sequence[str]) -> None:
        """Reads the complete history again, for metrics that were not asked for so far."""
        added = {name: Column() for name in names}
        before = self._clock_steps, self._clock_seconds, self._rows_since_load, self.num_rows
        self._clock_steps, self._clock_seconds = array("d"), array("d")
        self._read_parts(reader, added, until=self._last_id)
        self._clock_steps, self._clock_seconds, self._rows_since_load, self.num_rows = before
        self._columns |= added

    def _read_parts(
        self, reader: JournalReader, columns: dict[str, Column] | None, until: int | None = None
    ) -> None:
        """Reads the history: summaries where the writer left them, rows elsewhere.

        Args:
          columns: to add to; None adds to those of all metrics.
          until: last id to read; the last one of the journal by default.
        """
        parts = list(reader.parts())
        blocks = [part for part in parts if isinstance(part, StreamBlock)]
        if columns is None or until is None:
            self._add_moments(reader.moments([block.last_id for block in blocks]))
        epochs = _epochs(blocks)
        for part in parts:
            if isinstance(part, StreamBlock):
                if until is None or part.last_id <= until:
                    self._add_block(part, columns, epochs)
                continue
            ids = range(part.start, part.stop if until is None else min(part.stop, until + 1))
            if len(ids) <= EXACT_ROWS:
                self._read_rows(reader, ids, columns)
            else:
                self._summarize(reader, ids, columns)

    def _summarize(self, reader: JournalReader, ids: range, columns: dict[str, Column] | None) -> None:
        """Reads rows that the writer did not summarise (journals of earlier versions)."""
        builder = BlockBuilder()
        moments: list[tuple[int, int, float]] = []
        taken: list[StreamBlock] = []
        for identity, step, attempt, time, metrics in reader.timed_rows(ids):
            builder.add(identity, step, metrics)
            if builder.rows == BLOCK_ROWS:
                moments.append((step, attempt, time))
                taken.append(builder.take())
        if builder.rows:
            taken.append(builder.take())
        self._add_moments(moments)
        epochs = _epochs(taken)
        for block in taken:
            self._add_block(block, columns, epochs)

    def _add_block(self, block: StreamBlock, columns: dict[str, Column] | None, epochs: np.ndarray) -> None:
        self._last_id = max(self._last_id, block.last_id)
        self.num_rows += block.rows
        for name, metric in block.metrics.items():
            self.names[name] = metric.last
            column = self._column(name, columns)
            if column is None or metric.mean is None or metric.x is None:
                continue
            step = float(metric.x)
            if name.startswith("epoch_") and epochs.size:
                step = float(np.interp(step, epochs[1], epochs[0]))
            assert metric.low is not None
            assert metric.high is not None
            column.blocks.extend((step, metric.mean, metric.low, metric.high, metric.count))

    def _read_rows(self, reader: JournalReader, ids: range, columns: dict[str, Column] | None = None) -> None:
        known = self._columns if columns is None else columns
        clock: list[tuple[int, int, float]] = []
        for identity, step, attempt, time, metrics in reader.timed_rows(ids):
            self._last_id = max(self._last_id, identity)
            self._rows_since_load += 1
            clock.append((step, attempt, time))
            for name, value in metrics.items():
                self.names[name] = value
                column = known.get(name)
                if column is None:
                    if columns is not None or not self._every:
                        continue
                    column = known[name] = Column()
                if isinstance(value, int | float) and math.isfinite(value):
                    column.steps.append(step)
                    column.values.append(value)
        self.num_rows += len(clock)
        self._add_moments(clock)

    def _column(self, name: str, columns: dict[str, Column] | None) -> Column | None:
        if columns is not None:
            return columns.get(name)
        return self._columns.setdefault(name, Column()) if self._every else self._columns.get(name)

    def _add_moments(self, moments: Sequence[tuple[int, int, float]]) -> None:
        for step, attempt, time in moments:
            self._clock_steps.append(step)
            self._clock_seconds.append(training_seconds(self._attempts, attempt, time))

    def entries(self, name: str, first: float | None = None, last: float | None = None) -> np.ndarray:
        """Returns step, mean, low, high and number of values [5, entries] of a metric.

        Args:
          name: of a metric that was asked for at the last `update`.
          first, last: steps; where they leave few rows these are read instead of their summaries.
        """
        column = self._columns.get(name)
        if column is None:
            return np.zeros((5, 0))
        found = column.entries()
        if first is None and last is None:
            return found
        low = -math.inf if first is None else first
        high = math.inf if last is None else last
        there = (found[0] >= low) & (found[0] <= high)
        if len(column.blocks) and found[4, there].sum() <= EXACT_ROWS:
            return self._exact(name, low, high)
        # One neighbour on each side, so that the line reaches the edges of the chart.
        indices = np.flatnonzero(there)
        if indices.size:
            return found[:, max(indices[0] - 1, 0) : indices[-1] + 2]
        following = int(np.searchsorted(found[0], low))
        return found[:, max(following - 1, 0) : following + 1]

    def _exact(self, name: str, first: float, last: float) -> np.ndarray:
        """Returns the single values between two steps."""
        steps, values = array("d"), array("d")
        with JournalReader(self.folder) as reader:
            ids = reader.ids_of_steps(max(first, -(2**62)), min(last, 2**62))
            for _, step, metrics in reader.rows_where(ids):
                value = metrics.get(name)
                if isinstance(value, int | float) and math.isfinite(value):
                    steps.append(step)
                    values.append(value)
        return Column(steps=steps, values=values).entries()

    def on_axis(self, steps: np.ndarray, axis: str) -> np.ndarray:
        """Returns steps as values of an axis: `step`, `time` (seconds in training) or `epoch`."""
        if axis == "time":
            known = np.array(self._clock_steps), np.array(self._clock_seconds)
        elif axis == "epoch":
            entries = self._columns[EPOCH].entries()
            known = np.append(0.0, entries[0]), np.append(0.0, entries[1])
        else:
            return steps
        return _interpolated(steps, *known)

    def to_steps(self, values: Sequence[float | None], axis: str) -> list[float | None]:
        """Returns the steps at values of an axis."""
        if axis == "step":
            return list(values)
        steps = np.array(self._clock_steps) if axis == "time" else self._columns[EPOCH].entries()[0]
        if not steps.size:
            return [None for _ in values]
        steps = np.append(0.0, np.sort(steps))
        on_axis = np.maximum.accumulate(self.on_axis(steps, axis))
        return [None if v is None else float(_interpolated(np.array([v]), on_axis, steps)[0]) for v in values]

    def curve(
        self,
        name: str,
        points: int,
        axis: str = "step",
        first: float | None = None,
        last: float | None = None,
    ) -> ThinnedCurve:
        """Returns a metric over an axis, thinned to a number of points.

        Args:
          first, last: values of the axis.
        """
        start, end = self.to_steps([first, last], axis)
        entries = self.entries(name, start, end)
        xs = self.on_axis(entries[0], axis)
        if axis != "step":
            xs = np.maximum.accumulate(xs) if xs.size else xs
        return thinned(np.concatenate([xs[None], entries[1:]]), points)


def thinned(entries: np.ndarray, points: int) -> ThinnedCurve:
    """Returns at most `points` points: means of neighbours, with their lowest and highest value.

    Args:
      entries: x, mean, low, high and number of values [5, entries] in order of x.
    """
    if entries.shape[1] <= points:
        return ThinnedCurve(*entries[:4])
    xs, mean, low, high, counts = entries
    width = (xs[-1] - xs[0]) / points or 1.0
    places = np.minimum(((xs - xs[0]) / width).astype(np.int64), points - 1)
    starts = np.flatnonzero(np.diff(places, prepend=-1))
    number = np.add.reduceat(counts, starts)
    return ThinnedCurve(
        np.add.reduceat(xs * counts, starts) / number,
        np.add.reduceat(mean * counts, starts) / number,
        np.minimum.reduceat(low, starts),
        np.maximum.reduceat(high, starts),
    )


def _interpolated(xs: np.ndarray, known_x: np.ndarray, known_y: np.ndarray) -> np.ndarray:
    """Returns y at x between known points, and beyond the last one with the slope of the last
    two.
    """
    if known_x.size == 0:
        return np.full_like(xs, np.nan)
    order = np.argsort(known_x, kind="stable")
    known_x, known_y = known_x[order], known_y[order]
    found = np.interp(xs, known_x, known_y)
    beyond = xs > known_x[-1]
    if beyond.any() and known_x.size > 1 and known_x[-1] > known_x[0]:
        before = max(int(np.searchsorted(known_x, known_x[-1])) - 1, 0)
        slope = (known_y[-1] - known_y[before]) / (known_x[-1] - known_x[before])
        found[beyond] = known_y[-1] + slope * (xs[beyond] - known_x[-1])
    return found


def _epochs(blocks: Sequence[StreamBlock]) -> np.ndarray:
    """Returns steps and epochs [2, blocks] of summaries: metrics of an epoch have the epoch for
    x.
    """
    found = [
        (metric.x, metric.mean)
        for block in blocks
        if (metric := block.metrics.get(EPOCH)) is not None and metric.x is not None
    ]
    return np.array(found, float).reshape(-1, 2).T


class MetricHistories(RecentRuns[MetricHistory]):
    """Metrics of the runs that were looked at last, up to a total size."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        super().__init__(MetricHistory, max_bytes)


# Endpoints


def names(dashboard: Dashboard, folder: Path, _: Query) -> dict[str, Any]:
    """Returns the metrics of a run and their last values: `/api/runs/RUN/metrics`."""
    with dashboard.histories.of(folder) as history:
        history.update()
        return {"metrics": dict(history.names), "rows": history.num_rows}


def series(dashboard: Dashboard, query: Query) -> dict[str, Any]:
    """Returns curves of metrics (`metric`) of runs (`run`; both may repeat): `/api/series`.

    Parameters: `x` (`step`, `time` or `epoch`), `from` and `to` (values of that axis), `points`
    (maximum number of points per curve), `band=1` (one curve for all runs: mean and 95 % interval).
    """
    keys = query.every("run", MAX_CURVES)
    metrics = query.every("metric")
    axis = query.choice("x", AXES)
    points = query.integer("points", 1_000, 2, MAX_POINTS)
    first, last = query.number("from"), query.number("to")
    require(first is None or last is None or first < last, f"from {first}: must be below to {last}")
    curves: dict[str, list[dict[str, Any]]] = {name: [] for name in metrics}
    for key in keys:
        folder = dashboard.store.folder(key)
        with dashboard.histories.of(folder) as history:
            history.update(metrics)
            for name in metrics:
                if name in history.names:
                    curve = history.curve(name, points, axis, first, last)
                    curves[name].append({"run": key, **curve._asdict()})
    if query.choice("band", ("0", "1")) == "1":
        curves = {name: [averaged(found, points)] if found else [] for name, found in curves.items()}
    return {"x": axis, "curves": curves}


def averaged(curves: Sequence[dict[str, Any]], points: int) -> dict[str, Any]:
    """Returns the mean of curves and its 95 % interval, each curve within its own range."""
    every = np.unique(np.concatenate([curve["x"] for curve in curves]))
    if every.size > points:
        every = np.linspace(every[0], every[-1], points)
    rows = np.stack(
        [np.interp(every, c["x"], c["y"], left=np.nan, right=np.nan) for c in curves if c["x"].size]
    )
    known = ~np.isnan(rows).all(0)
    every, rows = every[known], rows[:, known]
    counts = (~np.isnan(rows)).sum(0)
    mean = np.nansum(rows, 0) / counts
    spread = np.sqrt(np.nansum((rows - mean) ** 2, 0) / np.maximum(counts - 1, 1))
    half = 1.96 * spread / np.sqrt(counts)
    return {
        "runs": [curve["run"] for curve in curves],
        "x": every,
        "y": mean,
        "low": mean - half,
        "high": mean + half,
    }


def series_csv(dashboard: Dashboard, query: Query) -> Download:
    """Returns all rows of metrics (`metric`) of runs (`run`) as CSV: `/api/series.csv`."""
    keys, metrics = query.every("run", MAX_CURVES), query.every("metric")
    require(bool(keys and metrics), "series.csv: needs run and metric")
    folders = {key: dashboard.store.folder(key) for key in keys}
    name = f"{keys[0]}-{metrics[0].replace('/', '-')}.csv"
    return Download(_csv_lines(folders, metrics), name, "text/csv")


def _csv_lines(folders: dict[str, Path], metrics: Sequence[str]) -> Iterator[str]:
    yield _csv_line(["run", "step", "seconds", *metrics])
    for key, folder in folders.items():
        with JournalReader(folder) as reader:
            attempts = reader.attempts()
            for _, step, attempt, time, values in reader.timed_rows(range(1, reader.last_id() + 1)):
                if any(name in values for name in metrics):
                    seconds = round(training_seconds(attempts, attempt, time), 3)
                    yield _csv_line([key, step, seconds, *(values.get(name, "") for name in metrics)])


def _csv_line(values: Iterable[Any]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerow([_cell(value) for value in values])
    return buffer.getvalue()


def _cell(value: Any) -> Any:
    """Returns a value that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
