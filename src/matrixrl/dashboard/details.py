"""One run in full: summary, attempts, settings, files, deliveries; and settings of several runs
side by side.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matrixrl.config import require
from matrixrl.config.records import MACHINE, flattened
from matrixrl.dashboard.listing import as_row
from matrixrl.dashboard.query import Query
from matrixrl.dashboard.store import spec_of
from matrixrl.tracking.agents import grid_of, label_of
from matrixrl.tracking.delivery_state import load_states
from matrixrl.tracking.identity import read_run_file
from matrixrl.tracking.journal import JournalError
from matrixrl.tracking.journal_reader import FileRecord, JournalReader

if TYPE_CHECKING:
    from matrixrl.dashboard.endpoints import Dashboard

MAX_COMPARED = 64
"""Number of runs whose settings are compared at a time."""

OF_ONE_RUN = ("seed", "json", "time", "config", "identity")
"""Settings that identify one run, or one seed of several."""

OPERATIONAL = ("tracking", "checkpoint", "processes", "devices", "sweep_group", *MACHINE)
"""Parts of the settings that do not change what is trained."""


def run(dashboard: Dashboard, folder: Path, _: Query) -> dict[str, Any]:
    """Returns all about a run but its metrics and rows: `/api/runs/RUN`."""
    entry = dashboard.store.entry(folder)
    answer: dict[str, Any] = {**as_row(entry), "run_dir": str(folder.absolute())}
    record = read_run_file(folder) or {}
    spec = spec_of(folder)
    answer |= {
        "matrixrl": record.get("matrixrl"),
        "charts": list(spec.charts) if spec is not None else [],
        "best_metric": spec.best.metric if spec is not None and spec.best is not None else None,
    }
    with JournalReader(folder) as reader:
        config = _config(reader, folder)
        grid = grid_of(config)
        answer |= {
            "attempts_list": [attempt._asdict() for attempt in reader.attempts()],
            "columns": dict(reader.episode_columns),
            "settings": flattened(config),
            "points": [label_of(point) for point in grid.points] if len(grid.points) > 1 else [],
            "num_seeds": grid.num_seeds,
            "has_moves": not reader.is_empty("moves"),
            "files": [_file(folder, file) for file in reader.files()],
            "delivery": _deliveries(reader, folder),
            "warnings": [note._asdict() for note in reader.notes() if note.level != "info"][-20:],
        }
        answer["damage"] = list(reader.damage)
    return answer


def _config(reader: JournalReader, folder: Path) -> dict[str, Any]:
    """Returns the settings of a run, from `run.json` where the journal's cannot be read."""
    try:
        return reader.config()
    except JournalError:
        found = (read_run_file(folder) or {}).get("config")
        return found if isinstance(found, dict) else {}


def _file(folder: Path, file: FileRecord) -> dict[str, Any]:
    return {**file._asdict(), "is_present": _is_inside(folder, file.path)}


def _is_inside(folder: Path, name: str) -> bool:
    """Returns whether a recorded path exists within the run folder; a journal may name anything."""
    try:
        path = (folder / name).resolve()
        return path.is_relative_to(folder.resolve()) and path.exists()
    except (OSError, ValueError):
        return False


def _deliveries(reader: JournalReader, folder: Path) -> list[dict[str, Any]]:
    """Returns the state of each tracker that the run is delivered to."""
    found = []
    for name, state in load_states(folder).items():
        try:
            pending = reader.count_deliverable(state.confirmed_step)
        except JournalError:
            pending = None
        found.append(
            {
                "tracker": name,
                "mode": state.mode,
                "reason": state.reason,
                "url": state.place.get("url"),
                "confirmed_step": state.confirmed_step,
                "handed_step": state.handed_step,
                "pending_rows": pending,
                "left_out_rows": sum(part[2] for part in state.thinned if len(part) == 3),
                "artifacts": sorted(state.artifacts),
                "name": state.name,
            }
        )
    return found


def settings(dashboard: Dashboard, query: Query) -> dict[str, Any]:
    """Returns the settings of runs (`run`, repeated) side by side: `/api/settings`.

    `names` has a row per setting: `values` in the order of the runs, and whether they `differ`.
    `groups` has the runs that differ in their seed alone.
    """
    keys = query.every("run", MAX_COMPARED)
    require(bool(keys), "settings: needs run")
    found: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for key in keys:
        folder = dashboard.store.folder(key)
        rows.append(as_row(dashboard.store.entry(folder)))
        with JournalReader(folder) as reader:
            found.append(flattened(_config(reader, folder)))
    names = sorted({name for one in found for name in one})
    table = []
    for name in names:
        values = [one.get(name) for one in found]
        table.append({"name": name, "values": values, "differ": any(value != values[0] for value in values)})
    groups: dict[str, list[str]] = {}
    for key, row, one in zip(keys, rows, found, strict=True):
        groups.setdefault(_group(row["system"], one), []).append(key)
    return {"runs": rows, "names": table, "groups": list(groups.values())}


def _group(system: str, config: Mapping[str, Any]) -> str:
    """Returns a text that is equal for runs that train the same with other seeds."""
    kept = {
        name: value
        for name, value in config.items()
        if name not in OF_ONE_RUN
        and name.partition(".")[0] not in OPERATIONAL
        and not name.startswith("version_")
    }
    return repr((system, sorted((name, repr(value)) for name, value in kept.items())))
