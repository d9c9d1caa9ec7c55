"""Curves of a study: the mean of a metric over the trials of each setting, with its band.

A study may have a thousand runs, and reading a journal takes a millisecond or more. A request reads
for a bounded time, answers with the curves so far, and says how many runs are still to be read;
what was read is kept until the journal changes.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from matrixrl.config import ConfigError, require
from matrixrl.dashboard.metrics import MetricHistory, averaged
from matrixrl.dashboard.query import Query
from matrixrl.dashboard.store import Mark, is_held, journal_mark, spec_of
from matrixrl.dashboard.studies import StudyEntry
from matrixrl.studies.file import SPECIAL
from matrixrl.studies.launcher import words_of
from matrixrl.studies.objective import over_seeds
from matrixrl.studies.record import Study
from matrixrl.studies.table import differing
from matrixrl.tracking.journal import TrackingError

if TYPE_CHECKING:
    from matrixrl.dashboard.endpoints import Dashboard

POINTS = 200
"""Number of points of a curve."""

READ_SECONDS = 0.35
"""Time in seconds that a request spends on journals that were not read yet."""

MAX_KEPT = 10_000
"""Number of curves that are kept in memory."""

MAX_RUNS = 5_000
"""Number of runs of a study whose curves are read, the first ones."""

MAX_GROUPS = 8
"""Number of curves in the chart: the best settings. The page has colours for 8."""

AXES = ("step", "time")


@dataclass(frozen=True)
class RunCurve:
    """A metric of a run, thinned.

    Attributes:
      x: steps, and seconds in training, by the name of the axis.
      y: values.
      last: the last recorded value.
    """

    x: Mapping[str, np.ndarray]
    y: np.ndarray
    last: Any


@dataclass
class KeptRun:
    """What was read of a run.

    Attributes:
      mark: of its journal at that time.
      names: its metrics, those of single agents left out.
      curves: by the name under which they were asked for; None if the run does not have the metric.
    """

    mark: Mark
    names: tuple[str, ...] = ()
    curves: dict[str, RunCurve | None] = field(default_factory=dict)


class StudyCurves:
    """Curves of the runs of studies that were looked at last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[Path, KeptRun] = OrderedDict()

    def read(
        self, dashboard: Dashboard, wanted: Mapping[Path, Sequence[str]], seconds: float
    ) -> tuple[dict[Path, KeptRun], int]:
        """Returns what is known of runs, and the number of those that are still to be read.

        Args:
          wanted: names of metrics by run folder.
          seconds: time to spend on runs that were not read yet, or that grew.
        """
        with self._lock:
            until = time.monotonic() + seconds
            missing: list[tuple[Path, Mark]] = []
            for folder, names in wanted.items():
                mark = journal_mark(folder)
                kept = self._kept.get(folder)
                if kept is None or kept.mark != mark or any(name not in kept.curves for name in names):
                    missing.append((folder, mark))
            # Runs that were never read come before those that grew.
            missing.sort(key=lambda item: item[0] in self._kept)
            done = 0
            for folder, mark in missing:
                if done and time.monotonic() > until:
                    break
                before = self._kept.get(folder)
                names = wanted[folder]
                if before is not None and before.mark == mark:
                    names = [*dict.fromkeys([*before.curves, *names])]
                self._kept[folder] = _read_run(dashboard, folder, mark, names)
                self._kept.move_to_end(folder)
                done += 1
            found = {folder: self._kept[folder] for folder in wanted if folder in self._kept}
            self._drop()
            return found, len(missing) - done

    def _drop(self) -> None:
        total = sum(max(len(kept.curves), 1) for kept in self._kept.values())
        while total > MAX_KEPT:
            _, kept = self._kept.popitem(last=False)
            total -= max(len(kept.curves), 1)


def _read_run(dashboard: Dashboard, folder: Path, mark: Mark, names: Sequence[str]) -> KeptRun:
    kept = KeptRun(mark, curves=dict.fromkeys(names))
    try:
        if is_held(folder):
            # A run in training grows: what was read of it is read once.
            with dashboard.histories.of(folder) as history:
                _take_curves(history, kept, names)
        else:
            _take_curves(MetricHistory(folder), kept, names)
    except (ConfigError, TrackingError, OSError):  # damaged, or gone: no curve
        pass
    return kept


def _take_curves(history: MetricHistory, kept: KeptRun, names: Sequence[str]) -> None:
    history.update([alternative for name in names for alternative in (name, _of_run(name))])
    kept.names = tuple(name for name in history.names if not name.startswith(("agent/", "setting/")))
    for name in names:
        recorded = _recorded(history, name)
        if recorded is None:
            continue
        curve = history.curve(recorded, POINTS)
        x = {axis: history.on_axis(curve.x, axis) for axis in AXES}
        kept.curves[name] = RunCurve(x, curve.y, history.names[recorded])


def _of_run(name: str) -> str:
    """Returns the metric of the whole run where `name` is that of one of its agents."""
    parts = name.split("/", 2)
    return parts[2] if len(parts) == 3 and parts[0] == "agent" else name


def _recorded(history: MetricHistory, name: str) -> str | None:
    """Returns the name under which a run recorded a metric; None if it has none."""
    whole = _of_run(name)
    for own in (name, whole):
        if own in history.names:
            return own
    spec = spec_of(history.folder)
    others = () if spec is None else (spec.current_name(whole), *spec.old_names(whole))
    found = next((other for other in others if other in history.names), None)
    if found is not None:
        history.update([found])
    return found


def curves(dashboard: Dashboard, entry: StudyEntry, query: Query) -> dict[str, Any]:
    """Returns curves with bands per setting: `/api/studies/STUDY/curves`.

    Parameters: `metric` (by default that of the objective), `by` (a setting, may repeat; by default
    all that differ), `x` (`step` or `time`), `points`. `groups` has the best settings first, at
    most `MAX_GROUPS`; `lasts` the last value of the metric of each trial, in the order of the
    study's rows; `unread` the number of runs that a further request would read.
    """
    axis = query.choice("x", AXES)
    points = query.integer("points", POINTS, 2, 2_000)
    study, table = entry.study, entry.table
    if study is None or table is None:
        return {**_EMPTY, "x": axis}
    names = differing(table.rows)
    by = query.every("by") or names
    for name in by:
        require(name in names, f"by {name!r}: must be a setting that differs: {', '.join(names) or 'none'}")
    keys = dashboard.store.listing()
    of_study = keys.of_studies.get(entry.key, {})
    folders = {name: keys.runs[key] for name, key in list(of_study.items())[:MAX_RUNS] if key in keys.runs}
    metric = query.text("metric") or default_metric(study, folders)
    members = [
        (
            row,
            folders.get(row["run_name"]),
            metric if row["agent"] is None else f"agent/{row['agent']}/{metric}",
        )
        for row in table.rows
    ]
    wanted: dict[Path, list[str]] = {}
    for _, folder, name in members:
        if folder is not None and metric:
            wanted.setdefault(folder, []).append(name)
    kept, unread = dashboard.study_curves.read(dashboard, wanted, READ_SECONDS)
    found = [None if folder not in kept else kept[folder].curves.get(name) for _, folder, name in members]
    groups = grouped(study, table.rows, found, by)
    return {
        "x": axis,
        "metric": metric,
        "metrics": sorted({name for run in kept.values() for name in run.names} | ({metric} - {""})),
        "by": by,
        "groups": [_as_curve(group, axis, points) for group in groups[:MAX_GROUPS]],
        "total_groups": len(groups),
        "runs": len(wanted),
        "unread": unread,
        "lasts": [None if curve is None else curve.last for curve in found],
    }


_EMPTY: Mapping[str, Any] = {
    "metric": "",
    "metrics": [],
    "by": [],
    "groups": [],
    "total_groups": 0,
    "runs": 0,
    "unread": 0,
    "lasts": [],
}


def default_metric(study: Study, folders: Mapping[str, Path]) -> str:
    """Returns the objective's metric; of a study without one, or with a special one, the metric by
    which its runs are judged, or their first chart.
    """
    objective = study.objective
    if objective is not None and objective.metric not in SPECIAL:
        return objective.metric
    for folder in folders.values():
        spec = spec_of(folder)
        if spec is not None:
            best = None if spec.best is None else spec.best.metric
            return best or next((chart for chart in spec.charts if "*" not in chart), "")
    return ""


@dataclass
class CurveGroup:
    """Trials that share the settings by which curves are grouped.

    Attributes:
      objective: mean of the trials' objectives over those that have one; None without any.
      curves: of the trials that have the metric.
    """

    settings: dict[str, Any]
    num_trials: int = 0
    objective: float | None = None
    curves: list[RunCurve] = field(default_factory=list)


def grouped(
    study: Study, rows: Sequence[Mapping[str, Any]], found: Sequence[RunCurve | None], by: Sequence[str]
) -> list[CurveGroup]:
    """Returns the groups that have a curve, those with the best objective first."""
    groups: dict[str, tuple[CurveGroup, list[float]]] = {}
    for row, curve in zip(rows, found, strict=True):
        settings = {name: row["settings"].get(name) for name in by}
        group, objectives = groups.setdefault(repr(settings), (CurveGroup(settings), []))
        group.num_trials += 1
        if curve is not None and curve.y.size:
            group.curves.append(curve)
        if row["objective"] is not None:
            objectives.append(row["objective"])
    objective = study.objective
    for group, objectives in groups.values():
        if objective is not None and objectives:
            group.objective = over_seeds(objectives, objective)
    sign = -1.0 if objective is None or objective.mode == "max" else 1.0
    there = [group for group, _ in groups.values() if group.curves]
    return sorted(there, key=lambda group: (group.objective is None, sign * (group.objective or 0.0)))


def _as_curve(group: CurveGroup, axis: str, points: int) -> dict[str, Any]:
    """Returns the mean of a group and its 95 % interval, where at least half of its curves have
    values: the mean of the few that are longer is not that of the setting.
    """
    members = [{"run": "", "x": np.maximum.accumulate(curve.x[axis]), "y": curve.y} for curve in group.curves]
    curve = averaged(members, points)
    ends = np.array([(member["x"][0], member["x"][-1]) for member in members])
    counts = ((ends[:, :1] <= curve["x"]) & (curve["x"] <= ends[:, 1:])).sum(0)
    kept = 2 * counts >= len(members)
    return {
        **{name: curve[name][kept] for name in ("x", "y", "low", "high")},
        "label": words_of(group.settings) or "all trials",
        "settings": group.settings,
        "trials": group.num_trials,
        "curves": len(group.curves),
        "objective": group.objective,
    }
