"""A run in a line: its state, how far it came, its best value, and what waits for W&B."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from matrixrl.config import ConfigError
from matrixrl.tracking.courier import DeliveryState
from matrixrl.tracking.events import System
from matrixrl.tracking.identity import LOCK_FILE, Lock, read_run_file
from matrixrl.tracking.journal import JOURNAL_FILE, JournalError
from matrixrl.tracking.local import JournalReader

State = Literal["running", "finished", "interrupted", "crashed", "stale", "damaged"]


class Best(NamedTuple):
    """What counts as the best value of a run.

    Attributes:
        column: of the episode table, of which the best episode counts.
        lowest: whether less is better.
        only_where: a column that must be true.
        metrics: metrics of the stream whose names begin so count too; None where there are no such.
    """

    label: str
    column: str
    lowest: bool
    only_where: str | None
    metrics: str | None

    def of(self, reader: JournalReader) -> float | None:
        """The best value in a journal, None where there is none yet."""
        found = [reader.best(self.column, self.lowest, self.only_where)]
        if self.metrics is not None:
            found.append(reader.best_metric(self.metrics, self.lowest))
        there = [value for value in found if value is not None]
        return (min if self.lowest else max)(there, default=None)


BEST: Mapping[System, Best] = {
    "matmul": Best("rank", "Rank", True, "Solved", "rewrite/best_rank"),
    "hackmatrix": Best("return", "Return", False, None, None),
}


@dataclass(frozen=True)
class RunSummary:
    """One line of `matrixrl runs list`.

    Attributes:
        state: `running`: a live process writes it; `finished`, `interrupted` (it saved and stopped when asked) and
            `crashed` (an error) as its last process said; `stale`: that process is gone without a word (killed, or its
            machine was taken away): resume it; `damaged`: the journal cannot be read whole.
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
    """Read a run's folder; a journal that cannot be read gives the state `damaged`."""
    record = read_run_file(directory)
    if record is None:
        raise ConfigError(f"{directory}: this folder is no run; see `matrixrl runs list`")
    system = record.get("system", "")
    measure = BEST.get(system)
    label = measure.label if measure else ""
    created = float(record.get("created", 0.0))
    names = (record["name"], record["run_id"], system)
    try:
        with JournalReader(directory) as reader:
            attempts = reader.attempts()
            best = None
            if measure and measure.column in reader.episode_columns:
                best = measure.of(reader)
            last_step, episodes = reader.last_step(), reader.count("episodes")
            delivery = DeliveryState.load(directory)
            pending = None if delivery is None else reader.count_deliverable(delivery.confirmed_step)
            damaged = bool(reader.damage)
    except (ConfigError, JournalError):
        state: State = "running" if Lock.owner(directory / LOCK_FILE) else "damaged"
        return RunSummary(*names, state, 0, created, created, 0, 0, label, None, None)
    if damaged:
        state = "damaged"
    elif Lock.owner(directory / LOCK_FILE):
        state = "running"
    elif attempts[-1].status in ("finished", "interrupted", "crashed"):
        state = attempts[-1].status
    else:
        state = "stale"
    files = [directory / JOURNAL_FILE, directory / f"{JOURNAL_FILE}-wal"]
    activity = max(path.stat().st_mtime for path in files if path.exists())
    return RunSummary(
        *names, state, len(attempts), created, activity, last_step, episodes, label, best, pending
    )
