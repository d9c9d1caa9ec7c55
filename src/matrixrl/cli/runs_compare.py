"""`matrixrl runs compare`: settings that differ, best and final values, and charts of several
runs.
"""

from __future__ import annotations

import math
import string
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro

from matrixrl.cli.runs_common import (
    Common,
    find_folders,
    main_metrics,
    names_of,
    number,
    perform,
    shortened,
    table,
)
from matrixrl.cli.settings import settings_of_system
from matrixrl.config import ConfigError, require
from matrixrl.config.fields import rules_of, settings_of
from matrixrl.config.records import flattened
from matrixrl.tracking.chart import Curve, overlaid
from matrixrl.tracking.identity import read_run_file
from matrixrl.tracking.journal import JournalError
from matrixrl.tracking.journal_reader import JournalReader
from matrixrl.tracking.numbers import plural
from matrixrl.tracking.series import Series, read_series
from matrixrl.tracking.spec import SystemSpec, is_metric
from matrixrl.tracking.status import terminal_width
from matrixrl.tracking.summary import RunSummary, summarize

MARKS = string.ascii_uppercase
"""Names of the runs in tables and charts."""

COLOURS = ("34", "33", "32", "35", "36", "31")
"""Terminal colours of the curves."""

OF_ONE_RUN = frozenset(
    {
        "tracking.runs_dir",
        "tracking.run_name",
        "tracking.run_suffix",
        "tracking.resume_run",
        "json",
        "time",
        "config",
    }
)
"""Settings that identify a run, where its system is not installed."""

OPERATIONAL = ("tracking.", "checkpoint.", "processes.", "benchmark", "monolithic", "auto_tune", "preset")
"""Settings that do not change what is trained, by the start of their names."""

LOWEST_WORDS = ("loss", "error", "rank", "residual", "regret", "cost")
"""Words in the names of metrics of which lower values are better, unless the spec says
otherwise.
"""

MIN_COLUMN = 9
"""Minimum number of characters of a run's column; further runs get a table of their own."""


@dataclass(frozen=True, kw_only=True)
class Compare(Common):
    """Compare runs: settings that differ, best and final values of their metrics, and charts."""

    runs: tyro.conf.Positional[tuple[str, ...]]
    """Names or ids of runs, patterns such as `'ppo-cartpole*'`, folders, or `latest`."""

    metric: tuple[str, ...] = ()
    """Metrics to compare instead of the main ones."""


@dataclass
class Compared:
    """What is known about one of the runs.

    Attributes:
        mark: its letter.
        settings: recorded settings by dotted name, those of its machine included.
        values: lowest, highest and last value of each metric, under its current name.
        series: for the charts, under its current name.
    """

    mark: str
    directory: Path
    summary: RunSummary
    host: str
    spec: SystemSpec | None
    settings: dict[str, Any]
    values: dict[str, tuple[Any, Any, Any]] = field(default_factory=dict)
    series: dict[str, Series] = field(default_factory=dict)


def run_command(command: Compare) -> int:
    """Runs the command; returns the exit status."""
    return perform(command, compare)


def compare(command: Compare) -> tuple[int, dict[str, Any]]:
    """Prints the comparison."""
    folders = find_folders(command.runs_dir, command.runs, "runs compare")
    require(
        2 <= len(folders) <= len(MARKS),
        f"runs compare: {plural(len(folders), 'different run')} given; name from 2 to {len(MARKS)}",
    )
    runs = [_read(folder, mark, command) for folder, mark in zip(folders, MARKS, strict=False)]
    metrics = _metrics(runs, command)
    settings = differing([run.settings for run in runs])
    lowest = {metric: is_lowest_better(metric, [run.spec for run in runs]) for metric in metrics}
    if not command.json:
        width = terminal_width()
        lines = [*_runs_table(runs, width), "", *_settings_tables(settings, runs, width)]
        lines += _metrics_tables(metrics, lowest, runs, width)
        for metric in metrics:
            lines += ["", *_chart(metric, runs, width).split("\n")]
        print("\n".join(lines))
    return 0, {
        "runs": [
            {
                "name": run.summary.name,
                "run_id": run.summary.run_id,
                "system": run.summary.system,
                "state": run.summary.state,
                "last_step": run.summary.last_step,
                "host": run.host,
                "run_dir": str(run.directory),
            }
            for run in runs
        ],
        "settings": settings,
        "metrics": {
            metric: {
                "lowest": lowest[metric],
                "best": [_best(run, metric, lowest[metric]) for run in runs],
                "final": [_plain(run.values.get(metric, (None,) * 3)[2]) for run in runs],
            }
            for metric in metrics
        },
    }


def _read(directory: Path, mark: str, command: Compare) -> Compared:
    """Reads a run.

    Raises:
        ConfigError: if there is no journal.
        JournalError: if nothing of it can be read.
    """
    summary = summarize(directory)
    with JournalReader(directory) as reader:
        try:
            spec = reader.spec
        except ConfigError:  # of a later version: its metrics can be compared all the same
            spec = None
        try:
            record = reader.config()
        except JournalError:
            record = (read_run_file(directory) or {}).get("config") or {}
        attempts = reader.attempts()
        run = Compared(
            mark,
            directory,
            summary,
            attempts[-1].host if attempts else "",
            spec,
            comparable_settings(summary.system, record),
        )
        asked = {name for metric in command.metric for name in names_of(metric, spec)}

        def is_wanted(name: str) -> bool:
            return name in asked if asked else bool(main_metrics(spec, [name]) or _is_best(spec, name))

        _, series = read_series(reader, is_wanted)
        values: dict[str, list[Any]] = {}
        for block in reader.blocks():
            for name, metric in block.metrics.items():
                known = values.setdefault(name, [None, None, None])
                if metric.count:
                    known[0] = metric.low if known[0] is None else min(known[0], metric.low)  # pyright: ignore[reportArgumentType]
                    known[1] = metric.high if known[1] is None else max(known[1], metric.high)  # pyright: ignore[reportArgumentType]
                known[2] = metric.last
        for name, shown in series.items():
            current = name if spec is None else spec.current_name(name)
            run.series[current] = shown
            run.values[current] = tuple(values.get(name, (None, None, shown.last)))  # pyright: ignore[reportAttributeAccessIssue]
    return run


def _is_best(spec: SystemSpec | None, name: str) -> bool:
    best = None if spec is None else spec.best
    return best is not None and best.metric is not None and is_metric(name, best.metric)


def comparable_settings(system: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """Returns recorded settings by dotted name, without those that identify one run."""
    kind = settings_of_system(system)
    of_run = set(OF_ONE_RUN)
    if kind is not None:
        of_run |= {name for name, item, _ in settings_of(kind) if rules_of(item).of_run}
    found = {name: value for name, value in flattened(record).items() if name not in of_run}
    return {"system": system, **found}


def differing(settings: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Returns the values of the settings in which runs differ, None where a run has none, by name.

    Of settings that do not change what is trained, such as those of tracking, only those that every
    run has.
    """
    names = dict.fromkeys(name for one in settings for name in one)
    found: dict[str, list[Any]] = {}
    for name in names:
        values = [one.get(name) for one in settings]
        is_everywhere = all(name in one for one in settings)
        if any(value != values[0] for value in values) and (
            is_everywhere or not name.startswith(OPERATIONAL)
        ):
            found[name] = values
    return found


def _metrics(runs: Sequence[Compared], command: Compare) -> list[str]:
    """Returns the metrics to compare, under their current names.

    Raises:
        ConfigError: if no run has one that is asked for.
    """
    if not command.metric:
        return list(dict.fromkeys(name for run in runs for name in run.series))
    found: list[str] = []
    for asked in command.metric:
        names = {name for run in runs for name in names_of(asked, run.spec)}
        there = [name for run in runs for name in run.series if name in names]
        if not there:
            names_there = ", ".join(sorted({name for run in runs for name in _metric_names(run)})[:40])
            raise ConfigError(
                f"--metric {asked}: none of these runs has it; they have {names_there or 'no metrics'}"
            )
        found.append(there[0])
    return list(dict.fromkeys(found))


def _metric_names(run: Compared) -> list[str]:
    with JournalReader(run.directory) as reader:
        return read_series(reader, lambda name: False)[0]


def is_lowest_better(metric: str, specs: Sequence[SystemSpec | None]) -> bool:
    """Returns whether lower values of a metric are better: by the best metric of a system, or by
    its name.
    """
    for spec in specs:
        best = None if spec is None else spec.best
        if best is not None and best.metric is not None and is_metric(metric, best.metric):
            return best.lowest
    return any(word in metric.lower() for word in LOWEST_WORDS)


def _best(run: Compared, metric: str, lowest: bool) -> Any:
    low, high, _ = run.values.get(metric, (None, None, None))
    return low if lowest else high


def _plain(value: Any) -> Any:
    """Returns a value as JSON has it: None for NaN and infinities."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


# Output


def _runs_table(runs: Sequence[Compared], width: int) -> list[str]:
    rows = [
        [
            run.mark,
            run.summary.name,
            run.summary.system,
            run.summary.state,
            f"{run.summary.last_step:,}",
            run.host,
        ]
        for run in runs
    ]
    head = ["", "run", "system", "state", "steps", "machine"]
    # The name and the machine become shorter where the terminal is narrow.
    for column, least in ((5, 8), (1, 16)):
        excess = max(map(len, table(head, rows, right=(4,)))) - width
        if excess > 0:
            longest = max(len(row[column]) for row in rows)
            for row in rows:
                row[column] = shortened(row[column], max(least, longest - excess))
    return [line[:width] for line in table(head, rows, right=(4,))]


def _settings_tables(
    settings: Mapping[str, Sequence[Any]], runs: Sequence[Compared], width: int
) -> list[str]:
    if not settings:
        return ["settings: the same"]
    rows = [(name, [_setting(value) for value in values]) for name, values in settings.items()]
    return ["settings that differ", *columns_of(rows, [run.mark for run in runs], width)]


def _setting(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"  # a setting is exact: three digits could hide the difference
    if isinstance(value, list | tuple):
        return " ".join(map(str, value)) or "none"
    return str(value)


def _metrics_tables(
    metrics: Sequence[str], lowest: Mapping[str, bool], runs: Sequence[Compared], width: int
) -> list[str]:
    if not metrics:
        return ["", "metrics: none recorded"]
    rows: list[tuple[str, list[str]]] = []
    for metric in metrics:
        which = "lowest" if lowest[metric] else "highest"
        best = [number(_best(run, metric, lowest[metric])) for run in runs]
        rows.append((f"{metric}  {which}", best))
        rows.append(
            (
                f"{metric}  final",
                [number(run.values.get(metric, (None, None, None))[2]) for run in runs],
            )
        )
    return ["", "metrics", *columns_of(rows, [run.mark for run in runs], width)]


def columns_of(
    rows: Sequence[tuple[str, Sequence[str]]], marks: Sequence[str], width: int, indent: str = "  "
) -> list[str]:
    """Returns tables with a column per run that fit the width: values become shorter, and where
    there are too many runs for one table the others get tables of their own.
    """
    stem = min(max(len(name) for name, _ in rows), max(width // 3, 20))
    room = width - len(indent) - stem
    widest = max(len(value) for _, values in rows for value in values)
    column = min(max(widest, MIN_COLUMN), max(room // len(marks) - 2, MIN_COLUMN))
    count = max(room // (column + 2), 1)
    column = min(max(widest, MIN_COLUMN), max(room // min(count, len(marks)) - 2, MIN_COLUMN))
    lines: list[str] = []
    for start in range(0, len(marks), count):
        part = slice(start, start + count)
        lines.append((indent + " " * stem + "".join(f"  {mark:>{column}}" for mark in marks[part])).rstrip())
        for name, values in rows:
            cells = "".join(f"  {shortened(value, column):>{column}}" for value in values[part])
            lines.append(f"{indent}{shortened(name, stem):<{stem}}{cells}")
    return lines


def _chart(metric: str, runs: Sequence[Compared], width: int) -> str:
    curves = [
        Curve(run.mark, run.series[metric].xs, run.series[metric].ys, COLOURS[index % len(COLOURS)])
        for index, run in enumerate(runs)
        if metric in run.series
    ]
    label = "epoch" if metric.startswith("epoch_") else "step"
    absent = [run.mark for run in runs if metric not in run.series]
    title = metric + (f" (not in {', '.join(absent)})" if absent else "")
    return overlaid(title, curves, width=max(width - 14, 20), x_label=label, colours=sys.stdout.isatty())
