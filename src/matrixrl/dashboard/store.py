"""Run folders of a dashboard: their listing, summaries and marks of change.

Only names of the listing lead to folders. Summaries are kept in memory until a file of the run
changes, so that a list of thousands of runs reads few of them.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matrixrl.config import ConfigError
from matrixrl.dashboard.query import NotFoundError
from matrixrl.tracking.delivery_state import SINKS_FOLDER, STATE_FILE
from matrixrl.tracking.identity import LOCK_FILE, RUN_FILE, Lock, read_run_file
from matrixrl.tracking.journal import JOURNAL_FILE
from matrixrl.tracking.spec import SystemSpec, recorded_spec
from matrixrl.tracking.summary import SUMMARY_FILE, RunSummary, summarize

LISTING_SECONDS = 0.3
"""Age in seconds up to which a listing of the runs folder is used again."""

READ_SHARE = 0.05
"""Maximum share of the time that is spent on summaries of one run that is being written."""

Mark = tuple[int, ...]
"""Times and sizes of files, which change when these do."""


@dataclass(frozen=True)
class RunEntry:
    """A run in the list.

    Attributes:
      key: name of its folder, which identifies it here.
      summary: what `matrixrl runs list` shows.
      lowest: lower values of its best metric are better.
      charts: its main metrics, patterns of the spec.
    """

    key: str
    folder: Path
    summary: RunSummary
    lowest: bool
    charts: tuple[str, ...]


@dataclass
class _Kept:
    mark: Mark
    entry: RunEntry
    until: float = 0.0


class RunStore:
    """Runs of a folder.

    Args:
      runs_dir: folder that holds a folder per run; it need not exist yet.
    """

    def __init__(self, runs_dir: Path) -> None:
        self.runs_dir = runs_dir
        self._lock = threading.Lock()
        self._listed_at = -float("inf")
        self._folders: dict[str, Path] = {}
        self._kept: dict[str, _Kept] = {}
        self._summarizing = threading.Lock()
        # Most runs of a folder have one of a few specs.
        self._of_specs: dict[str, tuple[bool, tuple[str, ...]]] = {}

    def folders(self) -> dict[str, Path]:
        """Returns the folders of all runs by name.

        Raises:
          ConfigError: if the runs folder cannot be read.
        """
        with self._lock:
            if time.monotonic() - self._listed_at > LISTING_SECONDS:
                self._folders = self._list()
                self._listed_at = time.monotonic()
            return self._folders

    def _list(self) -> dict[str, Path]:
        try:
            names = sorted(os.listdir(self.runs_dir))
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            raise ConfigError(
                f"{self.runs_dir}: {error.strerror or error}; name a folder that this user can read"
            ) from error
        return {
            name: self._folders.get(name) or self.runs_dir / name
            for name in names
            if not name.startswith(".") and os.path.isfile(f"{self.runs_dir}/{name}/{RUN_FILE}")
        }

    def folder(self, reference: str) -> Path:
        """Returns the folder of a run by the name of its folder, or by its id.

        Raises:
          NotFoundError: if there is none.
        """
        folders = self.folders()
        if reference in folders:
            return folders[reference]
        for key, kept in list(self._kept.items()):
            if kept.entry.summary.run_id == reference and key in folders:
                return folders[key]
        for entry in self.entries():
            if entry.summary.run_id == reference:
                return entry.folder
        raise NotFoundError(f"no run {reference[:150]!r} in {self.runs_dir}")

    def entries(self) -> list[RunEntry]:
        """Returns all runs; summaries of those that did not change are not read again."""
        with self._summarizing:
            found = {key: self._entry(key, folder) for key, folder in self.folders().items()}
            for key in set(self._kept) - set(found):
                self._kept.pop(key, None)
        return [entry for entry in found.values() if entry is not None]

    def entry(self, folder: Path) -> RunEntry:
        """Returns one run.

        Raises:
          NotFoundError: if its folder is no run any more.
        """
        with self._summarizing:
            entry = self._entry(folder.name, folder)
        if entry is None:
            raise NotFoundError(f"no run {folder.name!r} in {self.runs_dir}")
        return entry

    def _entry(self, key: str, folder: Path) -> RunEntry | None:
        kept = self._kept.get(key)
        mark = summary_mark(folder)
        now = time.monotonic()
        # Without a change of its files a run ends if its process is killed.
        if (
            kept is not None
            and (kept.mark == mark or now < kept.until)
            and (kept.entry.summary.state != "running" or is_held(folder))
        ):
            return kept.entry
        record = read_run_file(folder)
        if record is None:  # removed, or not complete yet
            self._kept.pop(key, None)
            return None
        summary = summarize(folder, record)
        seconds = time.monotonic() - now
        lowest, charts = self._of_spec(folder, record)
        entry = RunEntry(key, folder, summary, lowest, charts)
        until = time.monotonic() + (seconds / READ_SHARE if summary.state == "running" else 0.0)
        self._kept[key] = _Kept(mark, entry, until)
        return entry

    def _of_spec(self, folder: Path, record: Mapping[str, Any]) -> tuple[bool, tuple[str, ...]]:
        """Returns whether lower values of a run's best metric are better, and its main metrics."""
        key = f"{record.get('system')} {record.get('spec')}"
        if key not in self._of_specs:
            self._of_specs[key] = _lowest_and_charts(spec_of(folder))
        return self._of_specs[key]


def spec_of(folder: Path) -> SystemSpec | None:
    """Returns the spec that a run recorded; None if this version cannot read it."""
    try:
        return recorded_spec(read_run_file(folder) or {}, str(folder))
    except ConfigError:
        return None


def _lowest_and_charts(spec: SystemSpec | None) -> tuple[bool, tuple[str, ...]]:
    if spec is None:
        return False, ()
    best = spec.best
    first = (best.metric,) if best is not None and best.metric is not None else ()
    return best is not None and best.lowest, (*first, *spec.charts)


def is_held(folder: Path) -> bool:
    """Returns whether a process writes a run."""
    return Lock.owner(folder / LOCK_FILE) is not None


def journal_mark(folder: Path) -> Mark:
    """Returns a mark that changes when the run's journal does."""
    journal = f"{folder}/{JOURNAL_FILE}"
    return (*_stat(journal), *_stat(f"{journal}-wal"))


def summary_mark(folder: Path) -> Mark:
    """Returns a mark that changes when a run's summary may: with its files and those of its
    sinks.
    """
    # Plain texts: this runs for every run at every look, and `Path` is several times as slow.
    found = [*_stat(f"{folder}/{RUN_FILE}"), *_stat(f"{folder}/{SUMMARY_FILE}"), *journal_mark(folder)]
    try:
        sinks = sorted(os.listdir(f"{folder}/{SINKS_FOLDER}"))
    except OSError:
        sinks = []
    for sink in sinks:
        found += _stat(f"{folder}/{SINKS_FOLDER}/{sink}/{STATE_FILE}")
    return tuple(found)


def _stat(path: str) -> Mark:
    try:
        status = os.stat(path)
    except OSError:
        return (0, 0, 0)
    return status.st_mtime_ns, status.st_size, status.st_ino
