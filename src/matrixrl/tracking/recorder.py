"""Interface between a trainer and tracking: `Run` records, `NullRecorder` does not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, TypeVar

from matrixrl.tracking.clock import StepClock
from matrixrl.tracking.events import Event
from matrixrl.tracking.identity import run_id

Status = Literal["finished", "interrupted", "crashed"]
Level = Literal["info", "warning"]

Self = TypeVar("Self", bound="Recorder")


@dataclass(frozen=True)
class FinishReport:
    """End of a run, for the summary of a trainer.

    Attributes:
        pending_rows: rows that at least one sink has not confirmed; 0 without a sink.
        command: delivers them later; None when nothing is pending.
        message: one line that says so.
    """

    status: Status
    pending_rows: int
    command: str | None
    message: str
    logging_overhead_pct: float


class Recorder(Protocol):
    """What a trainer, the training loop and the checkpoint manager need of a run.

    Attributes:
        system: name of the system.
        name: name of the run; also that of its folder.
        run_id: `md5(name)[:8]`.
        directory: folder for files of the trainer.
        attempt: 1 for a new run, one more for each resume.
        clock: the master clock. `restore_clock` sets it after a resume.
        records_moves: true if `MoveRow` events are kept.
        on_stop: called from another thread with the origin of a request to stop.
    """

    system: str
    name: str
    run_id: str
    directory: Path
    attempt: int
    clock: StepClock
    records_moves: bool
    on_stop: Callable[[str], None] | None

    @property
    def resumed(self) -> bool:
        """True for a later attempt of an existing run."""
        ...

    @property
    def recorded_until(self) -> int:
        """The last recorded step."""
        ...

    @property
    def logging_overhead_pct(self) -> float:
        """Time that tracking took from the training thread, in percent of the time since the run
        was opened.
        """
        ...

    def restore_clock(self, saved_step: int, recorded_until: int | None = None) -> None:
        """Sets the clock to the step that a checkpoint saved, before the first tick."""
        ...

    def record(self, events: Iterable[Event]) -> None:
        """Commits events in one transaction."""
        ...

    def record_file(
        self,
        path: Path,
        *,
        kind: Literal["checkpoint", "artifact"],
        aliases: Iterable[str] = (),
        seconds: float = 0.0,
    ) -> None:
        """Records a file or folder of the run folder, at the step of the clock."""
        ...

    def copy_journal(self, path: Path) -> None:
        """Copies the journal as it stands."""
        ...

    def warn(self, text: str) -> None:
        """Shows a warning and keeps it. May be called from any thread."""
        ...

    def note(self, text: str, level: Level = "info") -> None:
        """Shows a message and keeps it. May be called from any thread."""
        ...

    def progress(self, phase: str, done: int, total: int, unit: str = "", best: str = "") -> None:
        """Shows the progress of a phase."""
        ...

    def finish(self, status: Status = "finished", deadline_seconds: float | None = None) -> FinishReport:
        """Ends the run; a second call returns the report of the first."""
        ...

    def discard(self) -> None:
        """Removes a new run that recorded no step, because its start is refused."""
        ...

    def __enter__(self: Self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class NullRecorder:
    """A recorder that keeps and shows nothing, with a clock of its own.

    In distributed training the processes other than process 0 have one; benchmarks of training
    without tracking use it too.

    Args:
        system: name of the system.
        name: name of the run.
        directory: for files that the trainer writes; nobody reads them.
    """

    def __init__(self, system: str, name: str, directory: Path) -> None:
        self.system = system
        self.name = name
        self.run_id = run_id(name)
        self.directory = directory
        self.attempt = 1
        self.clock = StepClock(time.time)
        self.records_moves = False
        self.on_stop: Callable[[str], None] | None = None

    @property
    def resumed(self) -> bool:
        """False: only the recording process knows it."""
        return False

    @property
    def recorded_until(self) -> int:
        """0: nothing is recorded."""
        return 0

    @property
    def logging_overhead_pct(self) -> float:
        """0: no time is spent."""
        return 0.0

    def restore_clock(self, saved_step: int, recorded_until: int | None = None) -> None:
        """Sets the clock to the step that a checkpoint saved."""
        self.clock.restore(saved_step)

    def record(self, events: Iterable[Event]) -> None:
        """Discards the events."""

    def record_file(
        self,
        path: Path,
        *,
        kind: Literal["checkpoint", "artifact"],
        aliases: Iterable[str] = (),
        seconds: float = 0.0,
    ) -> None:
        """Leaves the file unrecorded."""

    def copy_journal(self, path: Path) -> None:
        """Copies nothing: there is no journal."""

    def warn(self, text: str) -> None:
        """Discards the warning: the recording process shows the same."""

    def note(self, text: str, level: Level = "info") -> None:
        """Discards the message: the recording process shows the same."""

    def progress(self, phase: str, done: int, total: int, unit: str = "", best: str = "") -> None:
        """Shows nothing."""

    def finish(self, status: Status = "finished", deadline_seconds: float | None = None) -> FinishReport:
        """Returns a report without pending rows."""
        return FinishReport(status, 0, None, f"{self.name} {status}", 0.0)

    def discard(self) -> None:
        """Leaves the removal of the run to the recording process."""

    def __enter__(self) -> NullRecorder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes nothing."""
