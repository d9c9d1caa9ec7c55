"""Rows of the journal on the screen: tables with aligned columns, units and few digits.

`console.log` keeps the same rows with six digits and their recorded names (`tracking.console`), for
the audit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from matrixrl.tracking.events import EpisodeRow, Event, MoveRow, Scalar, ScalarRow
from matrixrl.tracking.numbers import clock, percent, significant
from matrixrl.tracking.spec import VARIANT, ConsoleMetric, SystemSpec, is_metric

HEADER_INTERVAL = 20
"""Number of rows after which the names of the columns are repeated."""

Form = Callable[[Scalar], str]


def show(value: Scalar) -> str:
    """Returns a value with three significant digits: yes or no, a dash for None."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    # Counts that the journal keeps as floating-point numbers.
    return significant(int(value) if float(value).is_integer() and abs(value) < 1e15 else value)


def _share(value: Scalar) -> str:
    return percent(value) if isinstance(value, int | float) else "-"


def _percent(value: Scalar) -> str:
    return f"{significant(float(value))} %" if isinstance(value, int | float) else "-"


FORMS: Mapping[str, Form] = {"number": show, "fraction": _share, "percent": _percent}

EPOCH = ConsoleMetric("Epoch", width=7, priority=0)

ELAPSED = ConsoleMetric("elapsed", "elapsed", 9, 4)
"""Column of the time since the run was opened; it has no metric."""


class Screen:
    """Formats events as lines; remembers the table that was printed last, to repeat its head.

    Args:
        spec: of the run's system. Without it the tables have default columns.
    """

    def __init__(self, spec: SystemSpec | None = None) -> None:
        console = () if spec is None else spec.console
        self._key = None if spec is None else spec.row_key
        self._row_columns = tuple(metric for metric in console if not metric.name.startswith("eval/"))
        self._evaluated = {metric.name: metric for metric in console if metric.name.startswith("eval/")}
        self._epoch_columns = self._row_columns if self._key is None and console else (EPOCH,)
        self._episode_columns = () if spec is None else spec.console_episode
        self._head: tuple[ConsoleMetric, ...] = ()
        self._rows = 0

    def lines(self, event: Event, elapsed: float, width: int | None) -> list[str]:
        """Returns the lines of an event.

        Args:
            elapsed: seconds since the run was opened.
            width: number of columns of the terminal; None for any number.
        """
        match event:
            case ScalarRow(_, metrics) if self._key in metrics and "Epoch" not in metrics:
                return self._row(_columns(self._row_columns, metrics, ()), metrics, width, elapsed)
            case ScalarRow(_, metrics):
                lines = []
                if "Epoch" in metrics and (own := [name for name in metrics if name.startswith("epoch_")]):
                    lines += self._row(_columns(self._epoch_columns, metrics, own), metrics, width, elapsed)
                return lines + self._evaluation(metrics)
            case EpisodeRow(_, values):
                return self._row(_columns(self._episode_columns, values, values), values, width)
            case MoveRow():
                self.interrupt()
                text = f"Step {event.move:2d} [Ep {event.episode}] | Reward: {show(event.reward)}"
                return [f"{text} | Residual: {show(event.residual)}"]
            case _:
                return []

    def interrupt(self) -> None:
        """Repeats the head before the next row of a table: other text was printed."""
        self._head, self._rows = (), 0

    def _row(
        self,
        columns: Sequence[ConsoleMetric],
        values: Mapping[str, Scalar],
        width: int | None,
        elapsed: float | None = None,
    ) -> list[str]:
        kept = [*columns, *([] if elapsed is None else [ELAPSED])]
        while width is not None and len(kept) > 1 and sum(column.columns for column in kept) > width:
            kept.remove(max(kept, key=lambda column: column.priority))
        lines = []
        if self._head != tuple(kept) or self._rows == HEADER_INTERVAL:
            lines.append("".join(_cell(column.title, column.columns) for column in kept))
            self._head, self._rows = tuple(kept), 0
        self._rows += 1
        cells = [
            _cell(clock(elapsed or 0.0) if column is ELAPSED else _text(column, values), column.columns)
            for column in kept
        ]
        return [*lines, "".join(cells)]

    def _evaluation(self, metrics: Mapping[str, float | int]) -> list[str]:
        """Returns a sentence for each problem size that was evaluated."""
        sizes: dict[str, list[str]] = {}
        for metric, value in metrics.items():
            if not metric.startswith("eval/"):
                continue
            variant = re.search(f"{VARIANT}$", metric)
            stem = metric[: variant.start()] if variant else metric
            known = self._evaluated.get(stem, ConsoleMetric(stem))
            text = f"{known.title} {FORMS[known.form](value)}"
            sizes.setdefault(variant[0][1:] if variant else "", []).append(text)
        if sizes:
            self.interrupt()
        when = f" after epoch {metrics['Epoch']:,}" if "Epoch" in metrics else ""
        return [
            f"evaluation{when}{f', {size}' if size else ''}: {', '.join(parts)}"
            for size, parts in sizes.items()
        ]


def _columns(
    known: Sequence[ConsoleMetric], values: Mapping[str, Scalar], also: Sequence[str] | Mapping[str, Scalar]
) -> list[ConsoleMetric]:
    """Returns the columns that a row has values for, and default columns for further metrics."""
    found = [column for column in known if column.always or _metrics_of(column, values)]
    named = {metric for column in known for metric in _metrics_of(column, values)}
    return found + [ConsoleMetric(metric) for metric in also if metric not in named]


def _metrics_of(column: ConsoleMetric, values: Mapping[str, Scalar]) -> list[str]:
    """Returns the names under which a row has a metric: its own, or those of its variants."""
    if column.name in values:
        return [column.name]
    return [name for name in values if is_metric(name, column.name)]


def _text(column: ConsoleMetric, values: Mapping[str, Scalar]) -> str:
    form = FORMS[column.form]
    return ", ".join(form(values[name]) for name in _metrics_of(column, values)) or "-"


def _cell(text: str, width: int) -> str:
    return f" {text}".rjust(width)
