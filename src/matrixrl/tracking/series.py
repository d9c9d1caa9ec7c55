"""Metrics of a run's stream over its steps, for charts: takes a second for a million rows."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from matrixrl.tracking.blocks import StreamBlock
from matrixrl.tracking.journal_reader import EXACT_ROWS, JournalReader, containing_one

DENSE_VALUES = 200
"""A metric with this many values in the sample of a long range of rows is drawn from the sample, a
rarer one from all rows."""

MAX_SHAPES = 30
"""Number of different sets of metrics beyond which every row is parsed for its names."""


@dataclass
class Series:
    """A metric over its steps, or over epochs for metrics of an epoch.

    Attributes:
        xs: steps or epochs, in order.
        ys: a value for each, or the mean of neighbouring values.
        last: the last value.
    """

    xs: list[float] = field(default_factory=list)
    ys: list[float] = field(default_factory=list)
    last: Any = None


def read_series(reader: JournalReader, wanted: Callable[[str], bool]) -> tuple[list[str], dict[str, Series]]:
    """Reads the metrics that are asked for.

    Args:
        wanted: returns whether the metric of a name is asked for; it is called once per name.

    Returns:
        The names of all metrics of the stream, and the series of those that are wanted.
    """
    collected = _Collected(wanted)
    for part in reader.parts():
        if isinstance(part, StreamBlock):
            collected.add_block(part)
        elif len(part) <= EXACT_ROWS:
            for _, step, metrics in reader.rows_where(part):
                collected.add_row(step, metrics)
        else:
            _sample(reader, part, collected)
    return list(collected.names), {
        name: series for name, series in collected.names.items() if series is not None
    }


class _Collected:
    """Names of metrics, each with its series if that is wanted."""

    def __init__(self, wanted: Callable[[str], bool]) -> None:
        self.names: dict[str, Series | None] = {}
        self._wanted = wanted

    def note(self, name: str) -> Series | None:
        """Returns the series of a metric; None if it is not wanted."""
        if name not in self.names:
            self.names[name] = Series() if self._wanted(name) else None
        return self.names[name]

    def add_block(self, block: StreamBlock) -> None:
        for name, metric in block.metrics.items():
            series = self.note(name)
            if series is not None:
                series.last = metric.last
                if metric.x is not None and metric.mean is not None:
                    series.xs.append(metric.x)
                    series.ys.append(metric.mean)

    def add_row(self, step: int, metrics: dict[str, Any], only: Sequence[str] | None = None) -> None:
        for name in metrics if only is None else only:
            value = metrics.get(name)
            if name not in metrics or (series := self.note(name)) is None:
                continue
            series.last = value
            x = metrics.get("Epoch", step) if name.startswith("epoch_") else step
            if isinstance(value, int | float) and isinstance(x, int | float) and math.isfinite(value):
                series.xs.append(x)
                series.ys.append(value)


def _sample(reader: JournalReader, ids: range, collected: _Collected) -> None:
    """Reads a long range of rows that the writer did not summarise: metrics of most rows from a
    sample of the rows."""
    for name in _names(reader, ids):
        collected.note(name)
    wanted = [name for name, series in collected.names.items() if series is not None]
    stride = -(-len(ids) // EXACT_ROWS)
    sample = list(reader.rows_where(ids, f"id % {stride:d} = 0"))
    counts = {name: sum(name in metrics for _, _, metrics in sample) for name in wanted}
    dense = [name for name in wanted if counts[name] >= DENSE_VALUES]
    sparse = [name for name in wanted if counts[name] < DENSE_VALUES]
    for _, step, metrics in sample:
        collected.add_row(step, metrics, dense)
    if sparse:
        for _, step, metrics in reader.rows_where(ids, *containing_one([_key(name) for name in sparse])):
            collected.add_row(step, metrics, sparse)
    for name in dense:
        series, row = collected.names[name], reader.last_row_where(ids, *containing_one([_key(name)]))
        if series is not None and row is not None and name in row:
            series.last = row[name]


def _names(reader: JournalReader, ids: range) -> Iterator[str]:
    """Yields the metrics of a range of rows. Parses a row only if its shape is new."""
    conditions: list[str] = []
    given: list[str] = []
    position = ids.start
    while len(conditions) < MAX_SHAPES:
        others = " AND ".join(conditions) or "1"
        found = next(reader.rows_where(range(position, ids.stop), others, tuple(given), limit=1), None)
        if found is None:
            return
        position = found[0] + 1
        yield from found[2]
        # The same names in the same order, and no others: each name has two quotes.
        quotes = json.dumps(found[2]).count('"')
        conditions.append(
            f"NOT (metrics GLOB ? AND length(metrics) - length(replace(metrics, '\"', '')) = {quotes})"
        )
        given.append("{" + ",".join(f"{_glob(_key(name))}*" for name in found[2]) + "}")
    for _, _, metrics in reader.rows_where(range(position, ids.stop)):
        yield from metrics


def _key(name: str) -> str:
    """Returns a metric's name as it stands in the text of a row, with the colon behind it."""
    return json.dumps(name) + ":"


def _glob(text: str) -> str:
    """Returns a pattern that matches a text and nothing else."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in text)
