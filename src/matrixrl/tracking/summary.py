"""A run in a line: its state, how far it came, its best value, and what waits for W&B."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from matrixrl.config import ConfigError
from matrixrl.tracking.courier import STATE_FILE, DeliveryState
from matrixrl.tracking.events import System
from matrixrl.tracking.files import write_whole
from matrixrl.tracking.identity import LOCK_FILE, Lock, read_run_file
from matrixrl.tracking.journal import JOURNAL_FILE, JournalError, JournalLockedError, wal_of
from matrixrl.tracking.local import Attempt, JournalReader

SUMMARY_FILE = "summary.json"
"""What `runs list` shows of a run that has ended, kept by its writer: two thousand journals take seconds to open."""

State = Literal["running", "finished", "interrupted", "crashed", "stale", "damaged"]


class Best(NamedTuple):
    """What counts as the best value of a run.

    Attributes:
        column: of the episode table, of which the best episode counts; None where a single episode says little.
        lowest: whether less is better.
        only_where: a column that must be true.
        metric: a metric of the stream whose best value counts too, with its variants per format.
    """

    label: str
    column: str | None
    lowest: bool
    only_where: str | None
    metric: str | None

    def of(self, reader: JournalReader) -> float | None:
        """Returns the best value in a journal, None where there is none yet."""
        found: list[float | None] = []
        if self.column is not None and self.column in reader.episode_columns:
            found.append(reader.best(self.column, self.lowest, self.only_where))
        if self.metric is not None:
            found.append(reader.best_metric(self.metric, self.lowest))
        there = [value for value in found if value is not None]
        return (min if self.lowest else max)(there, default=None)


BEST: Mapping[System, Best] = {
    "matmul": Best("rank", "Rank", True, "Solved", "rewrite/best_rank"),
    # The mean over the episodes that ended in one chunk: the best single episode is a matter of luck.
    "hackmatrix": Best("mean return", None, False, None, "episode/return"),
    "ppo": Best("mean return", None, False, None, "episode/return"),
}


@dataclass(frozen=True)
class RunSummary:
    """One line of `matrixrl runs list`.

    Attributes:
        state: `running`: a live process writes it; `finished`, `interrupted` (it saved and stopped when asked) and
            `crashed` (an error) as its last process said; `stale`: that process is gone without a word (killed, or its
            machine was taken away): resume it; `damaged`: the journal cannot be read whole.
        last_activity: when its writer last wrote to the journal; reading does not change it.
        best: the best value, with `best_label` saying of what; None where there is none yet.
        pending_rows: rows that the W&B server has not confirmed; None for a run that was never meant for W&B.
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


def summarize(directory: Path) -> RunSummary:
    """Reads a run's folder; a journal that cannot be read gives the state `damaged`.

    Raises:
        ConfigError: if the folder is no run.
    """
    record = read_run_file(directory)
    if record is None:
        raise ConfigError(f"{directory}: this folder is no run; see `matrixrl runs list`")
    return _kept(directory, record) or _summary(directory, record, None)


def keep_summary(directory: Path) -> None:
    """Keeps the summary of a run that has ended in its folder; call it as its writer, once the journal is closed."""
    with contextlib.suppress(OSError, ConfigError):
        summary = _summary(directory, read_run_file(directory) or {}, "ended")
        content = {"of": _fingerprint(directory), "summary": asdict(summary)}
        write_whole(directory / SUMMARY_FILE, json.dumps(content) + "\n")


def drop_summary(directory: Path) -> None:
    """Removes the kept summary: the run continues."""
    with contextlib.suppress(OSError):
        (directory / SUMMARY_FILE).unlink()


def _fingerprint(directory: Path) -> list[Any]:
    """Returns what changes whenever the journal or the state of delivery does."""
    found: list[Any] = []
    for name in (JOURNAL_FILE, STATE_FILE):
        try:
            status = (directory / name).stat()
            found.append([status.st_size, status.st_mtime_ns])
        except FileNotFoundError:
            found.append(None)
    return found


def _kept(directory: Path, record: Mapping[str, Any]) -> RunSummary | None:
    """Returns the summary that the run's writer kept; None if there is none, or the run was continued since."""
    try:
        content = json.loads((directory / SUMMARY_FILE).read_bytes())
        if content["of"] != _fingerprint(directory) or _log_mtime(directory) is not None:
            return None
        return RunSummary(**{**content["summary"], **_identity(record)})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _identity(record: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what `run.json` says of a run: it holds in a copy under another name too."""
    return {
        "name": record["name"],
        "run_id": record.get("run_id", ""),
        "system": record.get("system", ""),
        "started": float(record.get("created", 0.0)),
    }


def _log_mtime(directory: Path) -> float | None:
    """Returns when rows were last added to the write-ahead log; None where it has none."""
    try:
        status = wal_of(directory / JOURNAL_FILE).stat()
    except FileNotFoundError:
        return None
    return status.st_mtime if status.st_size else None


def _summary(directory: Path, record: Mapping[str, Any], running: Literal["ended"] | None) -> RunSummary:
    """Reads the journal.

    Args:
        record: the content of `run.json`.
        running: `ended` if the run's writer asks, who still holds the lock.
    """
    identity = _identity(record)
    measure = BEST.get(identity["system"])
    nothing = RunSummary(
        **identity,
        state="damaged",
        attempts=0,
        last_activity=identity["started"],
        last_step=0,
        episodes=0,
        best_label=measure.label if measure else "",
        best=None,
        pending_rows=None,
    )
    is_running = running is None and Lock.owner(directory / LOCK_FILE) is not None
    try:
        reading = _read(directory, measure)
        if reading.is_outdated:  # a process continued the run just now
            reading = _read(directory, measure)
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


def _read(directory: Path, measure: Best | None) -> _Reading:
    with JournalReader(directory) as reader:
        attempts = reader.attempts()
        best = measure.of(reader) if measure else None
        last_step = reader.last_step()
        episodes, pending, damaged = 0, None, False
        try:
            episodes = reader.count("episodes")
            delivery = DeliveryState.load(directory)
            pending = None if delivery is None else reader.count_deliverable(delivery.confirmed_step)
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
