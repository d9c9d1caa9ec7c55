"""Summaries of consecutive stream rows, so that a reader of a long run needs a fraction of its
rows.

The journal's writer keeps one summary per `BLOCK_ROWS` rows of the stream, in the table
`stream_blocks`. A block stands for all rows of the history whose ids are in its range; rows outside
of every block are summarised by the reader.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

BLOCK_ROWS = 200
"""Number of rows per block: a chart of 1,000,000 rows has 5,000 points."""

ValueKind = Literal["null", "bool", "int", "float", "str"]

NUMBERS = ("bool", "int", "float")


class MetricSummary(NamedTuple):
    """What the rows of a block say about one metric. Means and extremes leave out values that are
    not finite.

    Attributes:
        kind: the narrowest kind that holds every value.
        count: number of finite values.
        x: mean of the steps of these values, or of their epochs for metrics of an epoch.
        mean: of the values; None where there is none.
        low: the lowest value.
        high: the highest value.
        last: the last value, finite or not.
    """

    kind: ValueKind
    count: int
    x: float | None
    mean: float | None
    low: float | int | None
    high: float | int | None
    last: Any


class StreamBlock(NamedTuple):
    """A summary of the rows with ids from `first_id` to `last_id`."""

    first_id: int
    last_id: int
    rows: int
    metrics: dict[str, MetricSummary]


@dataclass(slots=True)
class _Metric:
    kind: ValueKind = "null"
    count: int = 0
    x: float = 0.0
    total: float = 0.0
    low: float | int = math.inf
    high: float | int = -math.inf
    last: Any = None


class BlockBuilder:
    """Summarises rows one after another.

    Attributes:
        rows: number of rows since the last `take`.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._first_id = self._last_id = 0
        self._metrics: dict[str, _Metric] = {}

    def add(self, identity: int, step: int, metrics: Mapping[str, Any]) -> None:
        """Adds the next row."""
        if not self.rows:
            self._first_id = identity
        self._last_id = identity
        self.rows += 1
        summaries = self._metrics
        for name, value in metrics.items():
            metric = summaries.get(name)
            if metric is None:
                metric = summaries[name] = _Metric()
            kind = type(value)
            if kind is not float and kind is not int and hasattr(value, "item"):
                value = value.item()  # a number of NumPy or JAX
                kind = type(value)
            metric.last = value
            if kind is float:
                metric.kind = "float" if metric.kind != "str" else "str"
                if not math.isfinite(value):
                    continue
            else:
                metric.kind = wider(metric.kind, kind_of(value))
                if kind is not int:
                    continue
                if not -(2**63) <= value < 2**63:
                    value = float(value)
            metric.count += 1
            metric.x += float(metrics.get("Epoch", step)) if name.startswith("epoch_") else step
            metric.total += value
            if value < metric.low:
                metric.low = value
            if value > metric.high:
                metric.high = value

    def take(self) -> StreamBlock:
        """Returns the summary of the rows since the last call, and starts over."""
        metrics = {
            name: MetricSummary(
                metric.kind,
                metric.count,
                metric.x / metric.count if metric.count else None,
                metric.total / metric.count if metric.count else None,
                metric.low if metric.count else None,
                metric.high if metric.count else None,
                metric.last,
            )
            for name, metric in self._metrics.items()
        }
        block = StreamBlock(self._first_id, self._last_id, self.rows, metrics)
        self.rows = 0
        self._metrics = {}
        return block


def kind_of(value: Any) -> ValueKind:
    """Returns the kind of a metric's value; integers beyond 64 bits count as floats."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if -(2**63) <= value < 2**63 else "float"
    return "float" if isinstance(value, float) else "str"


def wider(first: ValueKind, second: ValueKind) -> ValueKind:
    """Returns the narrowest kind that holds the values of both."""
    if first == second or second == "null":
        return first
    if first == "null":
        return second
    if "str" in (first, second):
        return "str"
    return NUMBERS[max(NUMBERS.index(first), NUMBERS.index(second))]


def kinds(blocks: Iterable[StreamBlock]) -> dict[str, ValueKind]:
    """Returns the kind of every metric, in the order in which the metrics appear first."""
    found: dict[str, ValueKind] = {}
    for block in blocks:
        for name, metric in block.metrics.items():
            before = found.get(name)
            if before != metric.kind:
                found[name] = metric.kind if before is None else wider(before, metric.kind)
    return found


def encode(block: StreamBlock) -> str:
    """Returns the metrics of a block as the journal keeps them."""
    return json.dumps(block.metrics, separators=(",", ":"))


def decode(text: str) -> dict[str, MetricSummary]:
    """Returns the metrics that `encode` wrote.

    Raises:
        ValueError: if the text is damaged.
        TypeError: if the text is damaged.
    """
    return {name: MetricSummary(*values) for name, values in json.loads(text).items()}
