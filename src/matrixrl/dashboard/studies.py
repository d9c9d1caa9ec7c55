"""Studies: rows for the list of runs, and all about one but its curves, from its record."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matrixrl.config import ConfigError
from matrixrl.dashboard.query import NotFoundError, Query
from matrixrl.dashboard.store import Mark, RunStore
from matrixrl.studies.file import Range
from matrixrl.studies.importance import SettingImportance, importance_of
from matrixrl.studies.launcher import words_of
from matrixrl.studies.record import LOCK_FILE, RECORD_FILE, Study, read_study, space_of_record
from matrixrl.studies.table import StudyTable, differing, is_logarithmic, is_number, state_of, study_table
from matrixrl.tracking.locks import Lock

if TYPE_CHECKING:
    from matrixrl.dashboard.endpoints import Dashboard

MAX_STUDIES = 200
"""Number of studies whose records are kept in memory."""


@dataclass(frozen=True)
class StudyEntry:
    """A study of the runs folder.

    Attributes:
      key: name of its folder.
      mark: time and size of its record.
      state: `running`, `interrupted`, `failed`, `finished`; `damaged` if the record cannot be read.
      study, table: its record; None if that cannot be read.
      error: why it cannot be read; "" otherwise.
    """

    key: str
    folder: Path
    mark: Mark
    state: str
    study: Study | None = None
    table: StudyTable | None = None
    error: str = ""


class StudyStore:
    """Records of the studies of a runs folder, which are read again when they change.

    Args:
      store: the runs folder.
    """

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._kept: dict[str, StudyEntry] = {}
        self._importance: dict[str, tuple[Mark, SettingImportance]] = {}

    def entries(self) -> list[StudyEntry]:
        """Returns all studies, by the names of their folders."""
        return [self._entry(key, folder) for key, folder in self._store.listing().studies.items()]

    def entry(self, key: str) -> StudyEntry:
        """Returns a study.

        Raises:
          NotFoundError: if there is none.
        """
        folder = self._store.listing().studies.get(key)
        if folder is None:
            raise NotFoundError(f"no study {key[:150]!r} in {self._store.runs_dir}")
        return self._entry(key, folder)

    def _entry(self, key: str, folder: Path) -> StudyEntry:
        with self._lock:
            mark = record_mark(folder)
            kept = self._kept.get(key)
            if kept is None or kept.mark != mark or kept.folder != folder:
                kept = _read(key, folder, mark)
                if len(self._kept) >= MAX_STUDIES:
                    self._kept.clear()
                self._kept[key] = kept
            if kept.study is None:
                return kept
            # Without a change of its record a study ends if its process is killed.
            return replace(kept, state=state_of(kept.study))

    def importance(self, entry: StudyEntry) -> SettingImportance:
        """Returns the importance of settings; it is computed again when the record changes."""
        assert entry.study is not None
        kept = self._importance.get(entry.key)
        if kept is None or kept[0] != entry.mark:
            kept = entry.mark, importance_of(entry.study)
            self._importance[entry.key] = kept
        return kept[1]


def record_mark(folder: Path) -> Mark:
    """Returns a mark that changes when the record of a study does."""
    try:
        status = os.stat(f"{folder}/{RECORD_FILE}")
    except OSError:
        return (0, 0, 0)
    return status.st_mtime_ns, status.st_size, status.st_ino


def is_run_by_command(folder: Path) -> bool:
    """Returns whether a command runs the study of a folder."""
    return Lock.owner(folder / LOCK_FILE) is not None


def _read(key: str, folder: Path, mark: Mark) -> StudyEntry:
    try:
        study = read_study(folder)
        if study is None:
            raise ConfigError(f"{folder / RECORD_FILE}: gone; is the study being deleted?")
        table = study_table(study)
    except ConfigError as error:
        return StudyEntry(key, folder, mark, "damaged", error=str(error))
    return StudyEntry(key, folder, mark, state_of(study), study, table)


# Endpoints


def as_row(entry: StudyEntry) -> dict[str, Any]:
    """Returns a study as the list has it."""
    row: dict[str, Any] = {
        "key": entry.key,
        "name": entry.key,
        "kind": "",
        "command": "",
        "state": entry.state,
        "error": entry.error,
        "counts": {},
        "trials": 0,
        "planned": None,
        "metric": "",
        "mode": "",
        "best": None,
        "confirmed_seeds": 0,
        "best_settings": "",
        "last_activity": entry.mark[0] / 1e9,
        "created": 0.0,
    }
    study, table = entry.study, entry.table
    if study is None or table is None:
        return row
    best = table.best
    return row | {
        "name": study.name,
        "kind": study.kind,
        "command": table.command,
        "counts": table.counts,
        "trials": len(study.trials),
        "planned": planned_points(study),
        "metric": table.metric,
        "mode": table.mode,
        "best": None if best is None else best["objective"],
        "confirmed_seeds": len(best["confirmed"][0]["seeds"]) if best and best.get("confirmed") else 0,
        "best_settings": "" if best is None else words_of(best["settings"]),
        "created": study.created,
    }


def planned_points(study: Study) -> int | None:
    """Returns the number of points that a search tries; None for a sweep, which has all of its
    trials from the start.
    """
    options = study.about.get("tune")
    trials = options.get("trials") if isinstance(options, dict) else None
    return trials if study.kind == "tune" and isinstance(trials, int) else None


def in_list(dashboard: Dashboard, query: Query) -> dict[str, Any]:
    """Returns the studies that the filters of the list of runs leave, and the number of all;
    nothing for a folder without studies.
    """
    found = [as_row(entry) for entry in dashboard.studies.entries()]
    if not found:
        return {}
    words = query.text("q").lower().split()
    states, systems = query.every("state"), query.every("system")
    chosen = [row for row in found if all(word in _searched(row) for word in words)]
    if states:
        chosen = [row for row in chosen if row["state"] in states]
    if systems:
        chosen = [row for row in chosen if set(row["command"].split()) & set(systems)]
    chosen.sort(key=lambda row: (-row["last_activity"], row["key"]))
    return {"studies": chosen, "total_studies": len(found)}


def _searched(row: dict[str, Any]) -> str:
    return f"study\n{row['key']}\n{row['name']}\n{row['kind']}\n{row['command']}\n{row['state']}".lower()


def study(dashboard: Dashboard, entry: StudyEntry, _: Query) -> dict[str, Any]:
    """Returns a study with all of its trials: `/api/studies/STUDY`.

    `axes` has the settings that differ, `same` those that do not; `trials` has a row for each point
    and seed, with the key of its run (None before it starts).
    """
    answer: dict[str, Any] = {**as_row(entry), "study_dir": str(entry.folder.absolute())}
    study, table = entry.study, entry.table
    if study is None or table is None:
        return answer | {"axes": [], "same": {}, "shared": {}, "seeds": [], "objective": None, "rows": []}
    keys = dashboard.store.listing().of_studies.get(entry.key, {})
    names = differing(table.rows)
    first = table.rows[0]["settings"] if table.rows else {}
    shared = study.about.get("settings")
    return answer | {
        "axes": axes_of(study, table, names),
        "same": {name: value for name, value in first.items() if name not in names and name != "seed"},
        "shared": shared if isinstance(shared, dict) else {},
        "seeds": sorted({row["settings"]["seed"] for row in table.rows}),
        "objective": study.about.get("objective"),
        "rows": [
            {
                "trial": row["trial"],
                "run_name": row["run_name"],
                "run": keys.get(row["run_name"]),
                "agent": row["agent"],
                "settings": {name: row["settings"].get(name) for name in names},
                "seed": row["settings"]["seed"],
                # A command that was killed leaves its trials as running.
                "status": "interrupted" if row["status"] == "running" != entry.state else row["status"],
                "confirms": bool(row.get("confirms")),
                "objective": row["objective"],
                "seconds": row["seconds"],
                "attempts": row["attempts"],
                "error": row["error"],
            }
            for row in table.rows
        ],
    }


def axes_of(study: Study, table: StudyTable, names: Sequence[str]) -> list[dict[str, Any]]:
    """Returns an axis for each setting that differs: its name, whether its values are numbers,
    whether these belong on a logarithmic axis, and its values if they are no numbers.
    """
    space = space_of_record(study.about)
    found = []
    for name in names:
        values = [row["settings"].get(name) for row in table.rows]
        there = [value for value in values if value is not None]
        are_numbers = all(map(is_number, there))
        dimension = space.get(name)
        log = dimension.log if isinstance(dimension, Range) else is_logarithmic(there)
        axis: dict[str, Any] = {"name": name, "is_number": are_numbers, "log": are_numbers and log}
        if not are_numbers:
            distinct = {repr(value): value for value in there}
            axis["values"] = [distinct[key] for key in sorted(distinct)]
        found.append(axis)
    return found


def importance(dashboard: Dashboard, entry: StudyEntry, _: Query) -> dict[str, Any]:
    """Returns the importance of settings: `/api/studies/STUDY/importance`."""
    if entry.study is None:
        return {"shares": {}, "reason": entry.error, "points": 0}
    found = dashboard.studies.importance(entry)
    return {"shares": dict(found.shares), "reason": found.reason, "points": found.num_points}
