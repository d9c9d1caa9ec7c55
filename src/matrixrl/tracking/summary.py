"""Summary of a run: its state, its last step, its best value, and the rows that wait for W&B."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from matrixrl.config import ConfigError
from matrixrl.tracking.delivery_state import load_states, state_files, unconfirmed_from
from matrixrl.tracking.identity import LOCK_FILE, RUN_FILE, Lock, read_run_file
from matrixrl.tracking.journal import JOURNAL_FILE, JournalError, JournalLockedError, wal_of
from matrixrl.tracking.journal_reader import Attempt, JournalReader
from matrixrl.tracking.spec import SystemSpec, recorded_spec
from matrixrl.whole_files import write_whole

SUMMARY_FILE = "summary.json"
"""Summary of a run that has ended, kept by its writer: opening 2,000 journals takes seconds."""

State = Literal["running", "finished", "interrupted", "crashed", "stale", "damaged"]


def best_value(reader: JournalReader, spec: SystemSpec) -> float | None:
    """Returns the best value of a run by the measure of its system; None if there is none yet."""
    best = spec.best
    if best is None:
        return None
    found: list[float | None] = []
    columns = reader.episode_columns
    column = None if best.column is None else spec.recorded_column(best.column, columns)
    condition = None if best.only_where is None else spec.recorded_column(best.only_where, columns)
    if column is not None and (best.only_where is None or condition is not None):
        found.append(reader.best(column, best.lowest, condition))
    if best.metric is not None:
        found += [
            reader.best_metric(name, best.lowest) for name in (best.metric, *spec.old_names(best.metric))
        ]
    there = [value for value in found if value is not None]
    return (min if best.lowest else max)(there, default=None)


@dataclass(frozen=True)
class RunSummary:
    """One line of `matrixrl runs list`.

    Attributes:
        state: `running`: a live process writes it; `finished`, `interrupted` (it saved and stopped
            on request) and `crashed` (an error) as its last process recorded; `stale`: that process
            ended without recording it (killed, or its machine was lost): resume it; `damaged`: the
            journal cannot be read completely.
        last_activity: time of the writer's last row; reading does not change it.
        best: the best value; None if there is none yet.
        best_label: noun in front of it.
        pending_rows: rows that at least one sink has not confirmed; None for a run without a sink.
    """

    name: str
    run_id: str
    system: str
    state: State
    attempts: int
    started: float
    last_activity: float
    last_step: int
    episodes: int
    best_label: str
    best: float | None
    pending_rows: int | None


def summarize(directory: Path, record: Mapping[str, Any] | None = None) -> RunSummary:
    """Reads a run's folder; a journal that cannot be read gives the state `damaged`.

    Args:
        record: the content of `run.json`, where the caller has read it.

    Raises:
        ConfigError: if the folder is no run.
    """
    record = read_run_file(directory) if record is None else record
    if record is None:
        raise ConfigError(f"{directory}: this folder is no run; see `matrixrl runs list`")
    return _kept(directory, record) or _summary(directory, record, None)


def keep_summary(directory: Path) -> None:
    """Keeps the summary of a run that has ended in its folder.

    Only its writer may call this, after it has closed the journal.
    """
    with contextlib.suppress(OSError, ConfigError):
        summary = _summary(directory, read_run_file(directory) or {}, "ended")
        content = {"of": _fingerprint(directory), "summary": asdict(summary)}
        write_whole(directory / SUMMARY_FILE, json.dumps(content) + "\n")


def drop_summary(directory: Path) -> None:
    """Removes the kept summary: the run continues."""
    with contextlib.suppress(OSError):
        (directory / SUMMARY_FILE).unlink()


def _fingerprint(directory: Path) -> list[Any]:
    """Returns sizes and times that change whenever the journal or the state of a sink does."""
    found: list[Any] = []
    # Plain texts: this runs for every run of a list, and `Path` is several times as slow.
    for path in (f"{directory}/{JOURNAL_FILE}", *state_files(directory)):
        try:
            status = os.stat(path)
            found.append([status.st_size, status.st_mtime_ns])
        except FileNotFoundError:
            found.append(None)
    return found


def _kept(directory: Path, record: Mapping[str, Any]) -> RunSummary | None:
    """Returns the summary that the run's writer kept; None if there is none, or the run was resumed
    since.
    """
    try:
        with open(f"{directory}/{SUMMARY_FILE}", "rb") as file:
            content = json.loads(file.read())
        if content["of"] != _fingerprint(directory) or _log_mtime(directory) is not None:
            return None
        return RunSummary(**{**content["summary"], **_identity(record)})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _identity(record: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the identity from `run.json`, which is right in a copy under another name too."""
    return {
        "name": record["name"],
        "run_id": record.get("run_id", ""),
        "system": record.get("system", ""),
        "started": float(record.get("created", 0.0)),
    }


def _log_mtime(directory: Path) -> float | None:
    """Returns the time of the last row in the write-ahead log; None if it has none."""
    try:
        status = os.stat(wal_of(Path(f"{directory}/{JOURNAL_FILE}")))
    except FileNotFoundError:
        return None
    return status.st_mtime if status.st_size else None


def _summary(directory: Path, record: Mapping[str, Any], running: Literal["ended"] | None) -> RunSummary:
    """Reads the journal.

    Args:
        record: the content of `run.json`.
        running: `ended` if the run's writer asks, which still holds the lock.
    """
    identity = _identity(record)
    try:
        spec = recorded_spec(record, str(directory / RUN_FILE))
    except ConfigError:  # `runs show` names the field
        spec = None
    best = None if spec is None else spec.best
    nothing = RunSummary(
        **identity,
        state="damaged",
        attempts=0,
        last_activity=identity["started"],
        last_step=0,
        episodes=0,
        best_label=best.label if best else "",
        best=None,
        pending_rows=None,
    )
    is_running = running is None and Lock.owner(directory / LOCK_FILE) is not None
    try:
        reading = _read(directory, spec)
        if reading.is_outdated:  # a process continued the run just now
            reading = _read(directory, spec)
    except JournalLockedError:
        return replace(nothing, state="running" if is_running else "stale")
    except (ConfigError, JournalError):
        return replace(nothing, state="running" if is_running else "damaged")
    return replace(
        nothing,
        state=_state(reading, is_running),
        attempts=len(reading.attempts),
        last_activity=max((directory / JOURNAL_FILE).stat().st_mtime, _log_mtime(directory) or 0.0),
        last_step=reading.last_step,
        episodes=reading.episodes,
        best=reading.best,
        pending_rows=reading.pending,
    )


class _Reading(NamedTuple):
    attempts: list[Attempt]
    best: float | None
    last_step: int
    episodes: int
    pending: int | None
    damaged: bool
    is_outdated: bool


def _read(directory: Path, spec: SystemSpec | None) -> _Reading:
    with JournalReader(directory) as reader:
        attempts = reader.attempts()
        best = best_value(reader, spec) if spec else None
        last_step = reader.last_step()
        episodes, pending, damaged = 0, None, False
        try:
            episodes = reader.count("episodes")
            confirmed = unconfirmed_from(load_states(directory))
            pending = None if confirmed is None else reader.count_deliverable(confirmed)
        except JournalLockedError:
            raise
        except JournalError:
            damaged = True
        return _Reading(
            attempts, best, last_step, episodes, pending, damaged or bool(reader.damage), reader.is_outdated
        )


def _state(reading: _Reading, is_running: bool) -> State:
    if reading.damaged or not reading.attempts:
        return "damaged"
    if is_running:
        return "running"
    status = reading.attempts[-1].status
    return status if status in ("finished", "interrupted", "crashed") else "stale"
