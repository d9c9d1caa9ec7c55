"""Runs as objects: status, settings, scalars and episodes, read from the journal."""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matrixrl.api.settings import TrainingSettings
from matrixrl.cli.resume import recorded_settings
from matrixrl.cli.settings import settings_of_system
from matrixrl.config import ConfigError, TrackingConfig
from matrixrl.tracking.events import Kind
from matrixrl.tracking.identity import RUN_FILE, find_run, has_records, read_run_file
from matrixrl.tracking.journal_reader import JournalReader
from matrixrl.tracking.numbers import plural, significant
from matrixrl.tracking.summary import RunSummary, summarize

if TYPE_CHECKING:
    import numpy as np

    from matrixrl.api.agents import Agent

Columns = dict[str, "np.ndarray"]
"""Columns of a table by name: NumPy arrays of one length, for pandas, Polars and pyarrow."""


class Run:
    """A run: what `matrixrl.train` and `matrixrl.open` return. Reads the run folder at each call,
    also while the run is being trained.

    Args:
      path: the run folder.

    Raises:
      ConfigError: if the folder holds no run.

    Example:
      >>> import matrixrl
      >>> run = matrixrl.open("latest")
      >>> run.status
      'finished'
      >>> sorted(run.scalars("episode/return"))
      ['step', 'time', 'value']
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        if not (self._path / RUN_FILE).is_file():
            raise ConfigError(f"{self._path}: holds no run; see `matrixrl runs list`")

    @property
    def path(self) -> Path:
        """The run folder."""
        return self._path

    @property
    def name(self) -> str:
        """Name of the run."""
        return self._path.resolve().name

    @property
    def system(self) -> str:
        """Name of the system: `ppo`, `hackmatrix`, `matmul` or another one."""
        return str((read_run_file(self._path) or {}).get("system", ""))

    @property
    def summary(self) -> RunSummary:
        """The line of `matrixrl runs list`: state, attempts, last step, best value."""
        return summarize(self._path)

    @property
    def status(self) -> str:
        """`running`, `finished`, `interrupted`, `crashed`, `stale` (killed) or `damaged`."""
        return self.summary.state

    @property
    def settings(self) -> Mapping[str, Any]:
        """Settings of the newest attempt, by the names of the flags with underscores. Those of
        systems of other packages are as they were recorded.
        """
        system = self.system
        kind = settings_of_system(system)
        if kind is None:
            with JournalReader(self._path) as reader:
                return reader.config()
        return TrainingSettings(system, {}, recorded_settings(kind, self._path))

    def scalars(self, name: str | None = None) -> Any:
        """Returns the history of a metric, or of all metrics.

        Args:
          name: of the metric, such as `episode/return`; former names find it as well. None for all.

        Returns:
          A dict of three NumPy columns: `step` (int64), `value` (float64) and `time` (float64,
          seconds since 1970). Without a name, a dict of such dicts by metric.

        Raises:
          ConfigError: if the run has no such metric; the message has the nearest one.
          JournalError: if the journal cannot be read.

        Example:
          >>> import matrixrl
          >>> run = matrixrl.open("latest")
          >>> "episode/return" in run.scalars()
          True
          >>> run.scalars("episode/return")["value"].dtype
          dtype('float64')
        """
        found: dict[str, tuple[list[int], list[float], list[float]]] = {}
        with JournalReader(self._path) as reader, reader.snapshot():
            names = None if name is None else _names_of(name, reader)
            containing = [] if names is None else [f'"{one}"' for one in names]
            for row in reader.stream(containing=containing):
                for metric, value in row.metrics.items():
                    if (names is None or metric in names) and _is_number(value):
                        steps, values, times = found.setdefault(metric, ([], [], []))
                        steps.append(row.step)
                        values.append(float(value))
                        times.append(row.time)
        import numpy as np

        columns = {
            metric: {
                "step": np.array(steps, np.int64),
                "value": np.array(values, np.float64),
                "time": np.array(times, np.float64),
            }
            for metric, (steps, values, times) in found.items()
        }
        if names is None:
            return columns
        if not columns:
            raise ConfigError(self._unknown_metric(str(name)))
        return next(iter(columns.values()))

    def episodes(self) -> Columns:
        """Returns the episode table.

        Returns:
          A dict of NumPy columns of one length: `step`, `time` and the columns of the run, such as
          `Return` and `Steps`. A missing number is NaN, a missing text None.

        Raises:
          JournalError: if the journal cannot be read.

        Example:
          >>> import matrixrl
          >>> table = matrixrl.open("latest").episodes()
          >>> len(table["Return"]) == len(table["step"])
          True
        """
        with JournalReader(self._path) as reader, reader.snapshot():
            kinds: dict[str, Kind] = {"step": "int", "time": "float", **reader.episode_columns}
            rows = [(row.step, row.time, *row.values) for row in reader.episodes()]
        columns = zip(*rows, strict=True) if rows else [()] * len(kinds)
        return {
            name: _column(values, kind) for (name, kind), values in zip(kinds.items(), columns, strict=True)
        }

    def agent(self, **choice: Any) -> Agent:
        """Returns the agent of the run: `matrixrl.load` of this folder.

        Args:
          choice: keywords of `matrixrl.load`: `step`, `best`, `env`, `network`, `number`.

        Returns:
          The agent.

        Raises:
          ConfigError: if there is no such checkpoint, or code that only the run names would be
            imported.

        Example:
          >>> import matrixrl
          >>> matrixrl.open("latest").agent().step > 0
          True
        """
        from matrixrl.api.agents import load

        return load(self, **choice)

    def _unknown_metric(self, name: str) -> str:
        from difflib import get_close_matches

        there = list(self.scalars())
        near = get_close_matches(name, there, n=1)
        meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(there[:5]) or 'none'}"
        return f"scalars({name!r}): {self.name} has no such metric; {meant}"

    def _facts(self) -> list[tuple[str, str]]:
        summary = self.summary
        best = "" if summary.best is None else f"{summary.best_label} {significant(summary.best)}"
        return [
            ("run", summary.name),
            ("system", summary.system),
            ("status", summary.state),
            ("step", f"{summary.last_step:,}"),
            ("episodes", f"{summary.episodes:,}"),
            *([("best", best)] if best else []),
            ("attempts", plural(summary.attempts, "attempt")),
            ("folder", str(self._path)),
        ]

    def __fspath__(self) -> str:
        return str(self._path)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and self._path.resolve() == other._path.resolve()

    def __hash__(self) -> int:
        return hash(self._path.resolve())

    def __repr__(self) -> str:
        return f"<run {self.name}: {self.status}, in {self._path}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{html.escape(name)}</th><td>{html.escape(text)}</td></tr>"
            for name, text in self._facts()
        )
        return f"<table>{rows}{self._curve_html()}</table>"

    def _curve_html(self) -> str:
        """Returns a row with the curve of the main metric; empty if there is none."""
        from matrixrl.api.display import sparkline_svg
        from matrixrl.tracking.series import read_series

        with JournalReader(self._path) as reader:
            spec = reader.spec
            best = None if spec is None else spec.best
            names = [best.metric] if best is not None and best.metric is not None else []
            names += [] if spec is None else [name for name in spec.charts if "*" not in name]
            wanted = {old for name in names for old in (name, *(spec.old_names(name) if spec else ()))}
            _, found = read_series(reader, lambda name: name in wanted)
        for name in names:
            for one in (name, *(spec.old_names(name) if spec else ())):
                if one in found and len(found[one].ys) > 1:
                    series = found[one]
                    text = f"{one}: {significant(series.ys[0])} to {significant(series.ys[-1])}"
                    curve = sparkline_svg(series.xs, series.ys, text)
                    return f"<tr><th>{html.escape(one)}</th><td>{curve}</td></tr>"
        return ""

    def __rich__(self) -> Any:
        from rich.table import Table

        table = Table(show_header=False, box=None)
        for name, text in self._facts():
            table.add_row(name, text)
        return table


def open(run: str | os.PathLike[str], *, runs_dir: str | os.PathLike[str] | None = None) -> Run:
    """Returns an existing run.

    Args:
      run: name, id or folder of the run, or `latest`.
      runs_dir: folder that holds one folder per run; default `runs`.

    Returns:
      The run.

    Raises:
      ConfigError: if there is no such run; the message has the newest ones.

    Example:
      >>> import matrixrl
      >>> run = matrixrl.open("latest")
      >>> matrixrl.open(run.name) == run == matrixrl.open(run.path)
      True
    """
    reference, folder = run_location(run, runs_dir)
    return Run(find_folder(reference, folder, flag="open()"))


def run_location(run: str | os.PathLike[str], runs_dir: str | os.PathLike[str] | None) -> tuple[str, Path]:
    """Returns a run's reference, and the folder that holds the runs.

    Args:
      run: name, id or folder of the run, or `latest`.
      runs_dir: None for the default one.
    """
    path = Path(run)
    if (path / RUN_FILE).is_file():
        path = path.resolve()
        return path.name, path.parent
    return os.fspath(run), Path(TrackingConfig().runs_dir if runs_dir is None else runs_dir)


def find_folder(
    reference: str, runs_dir: Path, flag: str, has_something: Callable[[Path], bool] = has_records
) -> Path:
    """Returns the folder of a run.

    Args:
      flag: start of the message.
      has_something: whether a run counts as the latest.

    Raises:
      ConfigError: if there is no such run.
    """
    return find_run(runs_dir, reference, flag=flag, has_something=has_something)


def _names_of(name: str, reader: JournalReader) -> list[str]:
    """Returns the names under which a run may have recorded a metric, the given one first."""
    spec = reader.spec
    if spec is None:
        return [name]
    return list(dict.fromkeys([name, spec.current_name(name), *spec.old_names(name)]))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _column(values: Sequence[Any], kind: Kind) -> np.ndarray:
    """Returns values of the journal as an array, with NaN for a missing number."""
    import numpy as np

    if kind == "str":
        return _objects(values)
    has_gap = any(value is None for value in values)
    if kind == "bool":
        return _objects(values) if has_gap else np.array(values, np.bool_)
    if kind == "int" and not has_gap:
        return np.array(values, np.int64)
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _objects(values: Iterable[Any]) -> np.ndarray:
    import numpy as np

    values = list(values)
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column
