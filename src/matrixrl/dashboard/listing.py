"""The list of runs, and a small curve for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matrixrl.config import ConfigError, require
from matrixrl.dashboard import studies
from matrixrl.dashboard.metrics import ThinnedCurve
from matrixrl.dashboard.query import NotFoundError, Query
from matrixrl.dashboard.store import RunEntry
from matrixrl.tracking.journal import TrackingError
from matrixrl.tracking.spec import is_metric

if TYPE_CHECKING:
    from matrixrl.dashboard.endpoints import Dashboard

SPARKLINE_POINTS = 60
MAX_SPARKLINES = 60
"""Number of runs per request of sparklines; each may mean reading a journal."""

SORT_KEYS = ("age", "name", "state", "system", "steps", "episodes", "best", "started")


def runs(dashboard: Dashboard, query: Query) -> dict[str, Any]:
    """Returns all runs, filtered and sorted: `/api/runs`. Studies are rows of their own.

    Parameters: `q` (a part of name, id, system or state), `state`, `system` (each may repeat),
    `sort` (`age`, `name`, `state`, `system`, `steps`, `episodes`, `best`, `started`), `reverse=1`;
    `study`: the runs of this study alone.
    """
    chosen = query.text("study")
    keys = None
    if chosen:
        keys = dashboard.store.listing().of_studies[dashboard.studies.entry(chosen).key].values()
    entries = dashboard.store.entries(keys)
    systems = sorted({entry.summary.system for entry in entries})
    states = sorted({entry.summary.state for entry in entries})
    total = len(entries)
    words = query.text("q").lower().split()
    entries = [entry for entry in entries if all(word in _searched(entry) for word in words)]
    if wanted := query.every("state"):
        entries = [entry for entry in entries if entry.summary.state in wanted]
    if wanted := query.every("system"):
        entries = [entry for entry in entries if entry.summary.system in wanted]
    order = query.choice("sort", SORT_KEYS)
    entries.sort(key=lambda entry: entry.key)
    entries.sort(key=lambda entry: sort_value(entry, order))
    if query.choice("reverse", ("0", "1")) == "1":
        entries.reverse()
    return {
        "runs": [as_row(entry) for entry in entries],
        "total": total,
        "systems": systems,
        "states": states,
        "runs_dir": str(dashboard.store.runs_dir),
        **({} if chosen else studies.in_list(dashboard, query)),
    }


def as_row(entry: RunEntry) -> dict[str, Any]:
    """Returns a run as the list has it."""
    return {
        **vars(entry.summary),  # numbers and texts: `asdict` would copy each, for thousands of runs
        "key": entry.key,
        "id": entry.summary.run_id,
        "step": entry.summary.last_step,
        "lowest": entry.lowest,
    }


def _searched(entry: RunEntry) -> str:
    run = entry.summary
    return f"{entry.key}\n{run.name}\n{run.run_id}\n{run.system}\n{run.state}".lower()


def sort_value(entry: RunEntry, order: str) -> tuple[Any, ...]:
    """Returns the sort key of a run: names from A to Z, the newest, largest or best first."""
    run = entry.summary
    match order:
        case "name":
            return (run.name,)
        case "state":
            return (run.state,)
        case "system":
            return (run.system,)
        case "steps":
            return (-run.last_step,)
        case "episodes":
            return (-run.episodes,)
        case "started":
            return (-run.started,)
        case "best":
            if run.best is None:
                return True, "", 0.0
            # Values of different measures cannot be compared.
            return False, run.best_label, run.best if entry.lowest else -run.best
    return (-run.last_activity,)


def sparklines(dashboard: Dashboard, query: Query) -> dict[str, Any]:
    """Returns small curves of the main metric of runs (`run`, may repeat): `/api/sparklines`."""
    keys = query.every("run")
    require(
        len(keys) <= MAX_SPARKLINES, f"run: {len(keys)} runs; ask for {MAX_SPARKLINES} sparklines at a time"
    )
    found: dict[str, Any] = {}
    for key in keys:
        try:
            entry = dashboard.store.entry(dashboard.store.folder(key))
            found[key] = _sparkline(dashboard, entry)
        except (NotFoundError, ConfigError, TrackingError):  # gone, or damaged: no curve
            found[key] = None
    return {"sparklines": found}


def _sparkline(dashboard: Dashboard, entry: RunEntry) -> dict[str, Any] | None:
    with dashboard.histories.of(entry.folder) as history:
        history.update()
        name = next(
            (name for chart in entry.charts for name in sorted(history.names) if is_metric(name, chart)),
            None,
        )
        if name is None:
            return None
        curve: ThinnedCurve = history.curve(name, SPARKLINE_POINTS)
        return {"metric": name, "x": curve.x, "y": curve.y, "last": history.names[name]}
