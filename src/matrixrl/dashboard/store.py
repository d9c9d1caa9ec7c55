"""Run folders of a dashboard: their listing, summaries and marks of change.

Only names of the listing lead to folders. Summaries are kept in memory until a file of the run
changes, so that a list of thousands of runs reads few of them. The runs of a study are stored in
its folder; here they have the study in front of their names.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matrixrl.config import ConfigError
from matrixrl.dashboard.query import NotFoundError
from matrixrl.studies.record import RECORD_FILE, RUNS_FOLDER
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
class FolderListing:
    """Folders of runs and studies.

    Attributes:
      runs: all run folders by key: the name of the folder, of a run of a study after the study's
        key and a colon.
      own: keys of the runs that are stored in the runs folder itself.
      studies: folders of the studies by key, the name of the folder.
      of_studies: keys of the runs of each study, by the names of the runs.
    """

    runs: Mapping[str, Path] = field(default_factory=dict)
    own: tuple[str, ...] = ()
    studies: Mapping[str, Path] = field(default_factory=dict)
    of_studies: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class RunEntry:
    """A run in the list.

    Attributes:
      key: identifies it here (`FolderListing`).
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
        self._listing = FolderListing()
        self._keys: dict[Path, str] = {}
        self._kept: dict[str, _Kept] = {}
        self._summarizing = threading.Lock()
        # Most runs of a folder have one of a few specs.
        self._of_specs: dict[str, tuple[bool, tuple[str, ...]]] = {}

    def listing(self) -> FolderListing:
        """Returns the folders of all runs and studies.

        Raises:
          ConfigError: if the runs folder cannot be read.
        """
        with self._lock:
            if time.monotonic() - self._listed_at > LISTING_SECONDS:
                self._listing = self._list()
                self._keys = {folder: key for key, folder in self._listing.runs.items()}
                self._listed_at = time.monotonic()
            return self._listing

    def folders(self) -> Mapping[str, Path]:
        """Returns the folders of all runs by key, those of studies included."""
        return self.listing().runs

    def _list(self) -> FolderListing:
        where = str(self.runs_dir)
        try:
            names = sorted(os.listdir(where))
        except (FileNotFoundError, NotADirectoryError):
            return FolderListing()
        except OSError as error:
            raise ConfigError(
                f"{self.runs_dir}: {error.strerror or error}; name a folder that this user can read"
            ) from error
        known = self._listing.runs
        runs: dict[str, Path] = {}
        studies: dict[str, Path] = {}
        for name in names:
            if name.startswith("."):
                continue
            if os.path.isfile(f"{where}/{name}/{RUN_FILE}"):
                runs[name] = known.get(name) or self.runs_dir / name
            elif os.path.isfile(f"{where}/{name}/{RECORD_FILE}"):
                studies[name] = self.runs_dir / name
        own = tuple(runs)
        of_studies = {key: self._runs_of(key, folder, runs) for key, folder in studies.items()}
        # The folder may be a study itself, or hold the runs of one.
        here = Path(os.path.abspath(where))
        if os.path.isfile(here / RECORD_FILE) and here.name not in studies:
            studies[here.name] = self.runs_dir
            of_studies[here.name] = self._runs_of(here.name, self.runs_dir, runs)
        above = here.parent
        if here.name == RUNS_FOLDER and os.path.isfile(above / RECORD_FILE) and above.name not in studies:
            studies[above.name] = above
            of_studies[above.name] = {name: name for name in own}
        return FolderListing(runs, own, studies, of_studies)

    def _runs_of(self, study: str, folder: Path, runs: dict[str, Path]) -> dict[str, str]:
        """Adds the runs of a study to `runs`; returns their keys by their names."""
        where = f"{folder}/{RUNS_FOLDER}"
        try:
            names = sorted(os.listdir(where))
        except OSError:  # none yet
            return {}
        found: dict[str, str] = {}
        for name in names:
            key = f"{study}:{name}"
            if key not in runs and not name.startswith(".") and os.path.isfile(f"{where}/{name}/{RUN_FILE}"):
                runs[key] = self._listing.runs.get(key) or Path(where) / name
                found[name] = key
        return found

    def folder(self, reference: str) -> Path:
        """Returns the folder of a run by its key, or by its id.

        Raises:
          NotFoundError: if there is none.
        """
        folders = self.folders()
        if reference in folders:
            return folders[reference]
        for key, kept in list(self._kept.items()):
            if kept.entry.summary.run_id == reference and key in folders:
                return folders[key]
        for entry in self.entries(folders):
            if entry.summary.run_id == reference:
                return entry.folder
        raise NotFoundError(f"no run {reference[:150]!r} in {self.runs_dir}")

    def entries(self, keys: Iterable[str] | None = None) -> list[RunEntry]:
        """Returns runs; summaries of those that did not change are not read again.

        Args:
          keys: of the runs; by default of those that belong to no study's folder.
        """
        listing = self.listing()
        chosen = listing.own if keys is None else keys
        with self._summarizing:
            found = [self._entry(key, listing.runs[key]) for key in chosen if key in listing.runs]
            for key in set(self._kept) - listing.runs.keys():
                self._kept.pop(key, None)
        return [entry for entry in found if entry is not None]

    def entry(self, folder: Path) -> RunEntry:
        """Returns one run.

        Raises:
          NotFoundError: if its folder is no run any more.
        """
        self.listing()
        key = self._keys.get(folder, folder.name)
        with self._summarizing:
            entry = self._entry(key, folder)
        if entry is None:
            raise NotFoundError(f"no run {key!r} in {self.runs_dir}")
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
