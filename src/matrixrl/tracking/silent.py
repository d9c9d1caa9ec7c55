"""What a trainer talks to on the processes that do not record."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Literal

from matrixrl.tracking.clock import StepClock
from matrixrl.tracking.events import Event, System
from matrixrl.tracking.identity import run_id
from matrixrl.tracking.run import FinishReport, Run, Status


class SilentRun(Run):
    """A run that another process records: the same clock, and nothing is kept or told.

    Args:
        name: the run's name.
        directory: for files that the trainer writes; nobody reads them.
    """

    def __init__(self, system: System, name: str, directory: Path) -> None:
        self.system: System = system
        self.name = name
        self.run_id = run_id(name)
        self.directory = directory
        self.attempt = 1
        self.clock = StepClock(time.time)
        self.records_moves = False

    @property
    def resumed(self) -> bool:
        """Whether it was there before is known to the process that records."""
        return False

    @property
    def recorded_until(self) -> int:
        """Nothing is recorded here."""
        return 0

    @property
    def logging_overhead_pct(self) -> float:
        """Nothing is spent."""
        return 0.0

    def restore_clock(self, saved_step: int, recorded_until: int | None = None) -> None:
        """Set the clock to the step that a checkpoint saved."""
        self.clock.restore(saved_step)

    def record(self, events: Iterable[Event]) -> None:
        """Keep nothing."""

    def record_file(
        self,
        path: Path,
        *,
        kind: Literal["checkpoint", "artifact"],
        aliases: Iterable[str] = (),
        seconds: float = 0.0,
    ) -> None:
        """Keep nothing."""

    def copy_journal(self, path: Path) -> None:
        """There is none."""

    def note(self, text: str, level: Literal["info", "warning"] = "info") -> None:
        """Tell nothing: the process that records says the same."""

    def progress(self, phase: str, done: int, total: int, unit: str = "", best: str = "") -> None:
        """Shows nothing."""

    def finish(self, status: Status = "finished", deadline_seconds: float | None = None) -> FinishReport:
        """The end; nothing was pending."""
        return FinishReport(status, 0, None, f"{self.name} {status}", 0.0)

    def discard(self) -> None:
        """The process that records removes the run."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing is open."""
