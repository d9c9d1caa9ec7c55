"""A run: one folder, one clock, one journal, and the readers that show it. What a trainer talks to."""

from __future__ import annotations

import _thread
import contextlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import matrixrl
from matrixrl.config import ConfigError, TrackingConfig
from matrixrl.tracking.clock import StepClock
from matrixrl.tracking.console import Console
from matrixrl.tracking.courier import DeliveryProcess, DeliverySettings, Outcome, sync_command
from matrixrl.tracking.events import (
    HACKMATRIX_EPISODE_COLUMNS,
    MATMUL_EPISODE_COLUMNS,
    Event,
    FileRow,
    Kind,
    MoveRow,
    Note,
    System,
)
from matrixrl.tracking.files import network_file_system, sha256_of
from matrixrl.tracking.identity import (
    LOCK_FILE,
    Lock,
    Owner,
    Reservation,
    find_run,
    read_run_file,
    reserve,
    run_id,
)
from matrixrl.tracking.journal import JOURNAL_FILE, Journal, JournalError
from matrixrl.tracking.repair import repair_journal
from matrixrl.tracking.status import activity, notify
from matrixrl.tracking.summary import drop_summary, keep_summary
from matrixrl.tracking.system import SystemMonitor
from matrixrl.tracking.transcript import complete_transcript
from matrixrl.tracking.wandb_identity import refuse_taken
from matrixrl.tracking.wandb_names import belonging_of

Status = Literal["finished", "interrupted", "crashed"]

EPISODE_COLUMNS: Mapping[System, Mapping[str, Kind]] = {
    "matmul": MATMUL_EPISODE_COLUMNS,
    "hackmatrix": HACKMATRIX_EPISODE_COLUMNS,
    "ppo": {"Global Episode": "int", "Update": "int", "Return": "float", "Steps": "int"},
}
PROJECTS: Mapping[System, str] = {"matmul": "rlmm", "hackmatrix": "hackmatrix", "ppo": "ppo"}


@dataclass(frozen=True)
class FinishReport:
    """How a run ended, for the summary of a trainer.

    Attributes:
        pending_rows: rows that W&B has not confirmed; 0 without `--wandb`.
        command: delivers them later; None when nothing is pending.
        message: one line that says so.
    """

    status: Status
    pending_rows: int
    command: str | None
    message: str
    logging_overhead_pct: float


def reserve_run(
    config: TrackingConfig, name_prefix: str, wall_time: Callable[[], float] = time.time
) -> Reservation:
    """Reserves the name of a new run, out of sight; see `identity.reserve`. Checks its W&B project and entity first."""
    belonging_of(config.project, config.entity, name_prefix, config.wandb)
    return reserve(
        config.runs_dir,
        prefix=name_prefix,
        name=config.run_name,
        suffix=config.run_suffix,
        today=date.fromtimestamp(wall_time()),
    )


def open_run(
    config: TrackingConfig,
    *,
    system: System,
    name_prefix: str,
    run_config: Mapping[str, Any],
    episode_columns: Mapping[str, Kind] | None = None,
    accelerator_bytes: Callable[[], int | None] | None = None,
    wall_time: Callable[[], float] = time.time,
    reservation: Reservation | None = None,
) -> Run:
    """Start a run, or continue one (`config.resume_run`), ready to record within 0.2 s.

    W&B is imported and initialised by a process beside this one, which reads the journal: nothing here waits for it.

    Args:
        system: which trainer; `--resume-run latest` finds runs of the same one.
        name_prefix: such as `matmul-2x2x2`; the date and the next free number follow it.
        run_config: every setting as JSON values (`matrixrl.config.as_record`), with device, versions, commit, seed.
        episode_columns: columns of `episode_history` where they are not the system's own; the first is its key.
        accelerator_bytes: returns the accelerator memory in use, for the local system metrics.
        wall_time: returns seconds since the epoch; tests pass their own.
        reservation: of the name of a new run, if it was reserved before; this consumes it.

    Raises:
        ConfigError: an impossible name, an unwritable folder, a run that does not exist, or one that another process
            is writing (the message names process and host).
        JournalError: the journal cannot be written, or is damaged.
    """
    columns = dict(episode_columns or EPISODE_COLUMNS[system])
    if config.resume_run is not None:
        directory = find_run(config.runs_dir, config.resume_run, system)
        lock = take_over(directory)
        belonging = None
        reservation = None
    else:
        belonging = belonging_of(config.project, config.entity, PROJECTS[system], config.wandb)
        if reservation is None:
            reservation = reserve_run(config, name_prefix, wall_time)
        record = {
            "identity": secrets.token_hex(16),
            "system": system,
            "created": wall_time(),
            "matrixrl": matrixrl.__version__,
            "config": dict(run_config),
        }
        try:
            if config.wandb and (belonging.sweep or config.run_name is not None):
                with activity("asking W&B whether the run's name is free"):
                    refuse_taken(reservation.name, belonging)
            directory, lock = reservation.publish(record), reservation.lock
        finally:
            reservation.release()
    path = directory / JOURNAL_FILE
    repaired = None
    try:
        if path.exists():
            repaired = repair_journal(directory)
            drop_summary(directory)
            journal = Journal.resume(path, run_config)
            complete_transcript(directory)
        else:
            # Of a run whose journal is lost, `run.json` says who it is.
            about = read_run_file(directory) or {}
            if belonging is None:
                belonging = belonging_of(config.project, config.entity, PROJECTS[system], config.wandb)
            meta = {
                "name": directory.name,
                "run_id": run_id(directory.name),
                "identity": about.get("identity"),
                "attempt_tokens": about.get("attempt_tokens", []),
                "system": system,
                "project": belonging.project,
                "entity": belonging.entity,
                "sweep": belonging.sweep,
                "created": wall_time(),
                "matrixrl": matrixrl.__version__,
                "config": dict(run_config),
            }
            journal = Journal.create(path, meta, columns)
    except BaseException:
        if reservation is not None:
            reservation.withdraw()  # a full disk leaves no half of a run
        lock.release()
        raise
    monitor = SystemMonitor(accelerator_bytes)
    run = Run(config, system, directory, lock, journal, monitor, wall_time, reservation)
    if repaired is not None:
        run.warn(repaired)
    return run


def take_over(directory: Path) -> Lock:
    """Takes the lock of a run that is resumed; waits for an owner on another host that may be dead, and says so.

    Raises:
        ConfigError: if another process is writing the run, or it belongs to another user.
    """
    flag = f"--resume-run {directory.name}"
    try:
        lock = Lock.take(directory / LOCK_FILE)
        if isinstance(lock, Owner) and lock.seconds_left is not None:
            seconds = lock.seconds_left
            notify(
                f"waiting up to {seconds:.0f} s: {lock} may still write this run. Its machine cannot be asked from here; "
                f"it counts as gone once it has been silent for {Lock.GRACE_SECONDS:.0f} s"
            )
            with activity(f"waiting for {lock}"):
                deadline = time.monotonic() + seconds + 1.0
                while isinstance(lock, Owner) and time.monotonic() < deadline:
                    time.sleep(min(1.0, max(deadline - time.monotonic(), 0.0)))
                    lock = Lock.take(directory / LOCK_FILE)
                    if isinstance(lock, Owner) and (lock.seconds_left or 0.0) > seconds:
                        break  # it gave a sign of life
    except PermissionError as error:
        raise ConfigError(
            f"{flag}: {error.filename} belongs to another user and cannot be written; copy the run first "
            f"(`matrixrl runs copy {directory.name} --runs-dir {directory.parent} --to FOLDER`), then resume the copy with "
            "--runs-dir FOLDER"
        ) from error
    except OSError as error:
        raise ConfigError(f"{flag}: {directory} cannot be locked ({error.strerror or error})") from error
    if isinstance(lock, Owner):
        raise ConfigError(f"{flag}: {lock} is writing this run; stop it first, or start a new run")
    return lock


class Run:
    """An open run. Use it as a context manager: an exception ends it as `crashed`.

    Attributes:
        system: which trainer.
        name: the run's name; also its folder's.
        run_id: `md5(name)[:8]`.
        directory: the run folder.
        clock: the master clock. After a resume, `restore_clock` sets it to what the checkpoint saved.
        attempt: 1 for a new run, one more for each resume.
        on_stop: called from another thread with the origin of a request to stop, such as the stop button of the W&B
            page. Without it the main thread is interrupted (KeyboardInterrupt).
    """

    on_stop: Callable[[str], None] | None = None

    def __init__(
        self,
        config: TrackingConfig,
        system: System,
        directory: Path,
        lock: Lock,
        journal: Journal,
        monitor: SystemMonitor,
        wall_time: Callable[[], float],
        reservation: Reservation | None = None,
    ) -> None:
        self.system: System = system
        self.name = directory.name
        self.run_id = run_id(directory.name)
        self.directory = directory
        self.attempt = journal.attempt
        self.clock = StepClock(wall_time)
        self.records_moves = config.record_moves or config.console == "steps"
        self._config = config
        self._lock = lock
        self._journal = journal
        self._monitor = monitor
        self._wall_time = wall_time
        self._mutex = threading.RLock()
        self._busy_seconds = 0.0
        self._started = time.perf_counter()
        self._report: FinishReport | None = None
        self._reservation = reservation
        self._told_difference = False
        self._console = Console(config.console, directory)
        self._delivery = self._start_delivery() if config.wandb else None
        if not lock.is_guarded:
            self.warn(
                f"{directory} is on a file system without locks: nothing keeps a second process that starts at the same "
                "moment from writing this run; start one at a time, or use a --runs-dir on a local disk"
            )
        if kind := network_file_system(directory):
            self.warn(
                f"{directory} is on a network drive ({kind}), where SQLite is not safe: keep --runs-dir on a local disk"
            )

    def _start_delivery(self) -> DeliveryProcess:
        settings = DeliverySettings(
            training_pid=os.getpid(),
            backlog_rows=self._config.backlog_rows,
            keep_artifacts=self._config.keep_artifacts,
            artifacts=not self._config.no_artifact,
            patient=True,
        )
        return DeliveryProcess(self.directory, settings, self._tell, on_stop=self._stop)

    def _stop(self, origin: str) -> None:
        """Passes on a request to stop from W&B; a program that does not listen is interrupted, as wandb does it."""
        self._tell(f"{origin} asks this run to stop", "info")
        if self.on_stop is not None:
            self.on_stop(origin)
        elif self._report is None:
            _thread.interrupt_main()

    @property
    def resumed(self) -> bool:
        """Whether this is a later attempt of a run that was there before, even if its journal was lost."""
        return self.attempt > 1 or self._config.resume_run is not None

    @property
    def recorded_until(self) -> int:
        """The last step in the journal's history; after a resume rows up to here are recognised, not doubled."""
        with self._mutex:
            return self._journal.recorded_until

    @property
    def logging_overhead_pct(self) -> float:
        """Time that tracking took from the training thread, in percent of the time since the run was opened."""
        return 100.0 * self._busy_seconds / max(time.perf_counter() - self._started, 1e-9)

    def restore_clock(self, saved_step: int, recorded_until: int | None = None) -> None:
        """Set the clock to the step that a checkpoint saved, before the first tick of this attempt.

        Args:
            recorded_until: the last step that the journal held a row of when the checkpoint was made; by default the
                step itself.

        Raises:
            ConfigError: the clock has ticked already.
        """
        with self._mutex:
            self.clock.restore(saved_step)
            self._journal.started_at(saved_step)
            held = saved_step if recorded_until is None else recorded_until
            if held > self._journal.recorded_until:
                self.warn(
                    f"the checkpoint was made when the journal stood at step {held}, now it stands at "
                    f"{self._journal.recorded_until}: rows between were lost with the machine's memory"
                )

    def record(self, events: Iterable[Event]) -> None:
        """Commit events in one journal transaction; then the readers see them. Never waits for the network.

        Raises:
            ValueError: events that contradict the journal's rules (see `Journal.record`).
            JournalError: the disk is full or the file cannot be written.
        """
        begun = time.perf_counter()
        with self._mutex:
            kept = [e for e in events if self.records_moves or not isinstance(e, MoveRow)]
            system = self._monitor.due()
            if system is not None:
                self._lock.refresh()
            recorded = self._journal.record(kept, system, self._wall_time())
            self._show(recorded.events)
            if recorded.differing and not self._told_difference:
                self._told_difference = True
                self.warn(
                    f"resumed training differs from what was recorded, from step {recorded.first_difference} on: "
                    f"{recorded.differing} rows of earlier attempts are kept aside, the new ones are the history"
                )
        self._busy_seconds += time.perf_counter() - begun

    def _show(self, events: Sequence[Event]) -> None:
        try:
            self._console.show(events)
        except OSError as error:
            raise JournalError(
                f"{self.directory}: console.log cannot be written ({error.strerror or error}); the journal holds every row; "
                f"free some space and continue with --resume-run {self.name}"
            ) from error

    def record_file(
        self,
        path: Path,
        *,
        kind: Literal["checkpoint", "artifact"],
        aliases: Iterable[str] = (),
        seconds: float = 0.0,
    ) -> None:
        """Record a file or folder that was just written in the run folder, at the step where the clock stands.

        Args:
            path: inside the run folder; it must not change afterwards.
            kind: a `checkpoint` goes to W&B as `checkpoint-<run id>-<step>`.
            aliases: such as `best`.
            seconds: how long writing it held up the training thread.
        """
        digest, size = sha256_of(path)
        name = path.relative_to(self.directory).as_posix()
        self.record([FileRow(self.clock.now(), kind, name, digest, size, seconds, tuple(aliases))])

    def copy_journal(self, path: Path) -> None:
        """Copy the journal as it stands, whole, to a folder that may be on a network drive (call it at a checkpoint).

        Raises:
            JournalError: the copy cannot be written.
        """
        with self._mutex:
            self._journal.copy_to(path)

    def warn(self, text: str) -> None:
        """Tell the user about an illness; the journal keeps it. May be called from any thread."""
        self.note(text, "warning")

    def note(self, text: str, level: Literal["info", "warning"] = "info") -> None:
        """Tell the user something; the journal keeps it. May be called from any thread."""
        with self._mutex:
            if self._report is None:
                self.record([Note(None, text, level)])

    def _tell(self, text: str, level: Literal["info", "warning"]) -> None:
        """Pass on what the delivery process says; when the disk is full, the training thread is told by its own row."""
        with contextlib.suppress(JournalError):
            self.note(text, level)

    def progress(self, phase: str, done: int, total: int, unit: str = "", best: str = "") -> None:
        """Shows how far a phase is, with its rate and the time left.

        Args:
            phase: its name, such as `epoch 3 self-play`.
            done: counted so far, out of `total`.
            unit: what is counted, such as `games`.
            best: the best so far, in words.
        """
        begun = time.perf_counter()
        with self._mutex:
            self._console.progress(phase, done, total, unit, best)
        self._busy_seconds += time.perf_counter() - begun

    def finish(self, status: Status = "finished", deadline_seconds: float | None = None) -> FinishReport:
        """End the run: close the journal and wait for W&B, at most `deadline_seconds` (default: the config's).

        A second call returns the report of the first.
        """
        if self._report is not None:
            return self._report
        deadline = self._config.finish_seconds if deadline_seconds is None else deadline_seconds
        overhead = self.logging_overhead_pct
        # On a full disk the end cannot be noted either; the run then counts as stale, which is true.
        with self._mutex, contextlib.suppress(JournalError):
            self._journal.end_attempt(status)
        outcome = self._delivery.finish(status, deadline) if self._delivery else Outcome.none()
        command = None
        message = f"{self.name} {status}: {self.clock.step:,} steps in {self.directory}"
        if outcome.pending_rows:
            command = sync_command(self.directory)
            message += f"; {outcome.pending_rows} rows wait for W&B ({outcome.reason}): {command}"
        elif self._delivery:
            message += f"; {outcome.reason}"
        self._report = FinishReport(status, outcome.pending_rows, command, message, overhead)
        with self._mutex:
            self._console.close(message)
            self._journal.close()
            keep_summary(self.directory)
            self._lock.release()
        return self._report

    def discard(self) -> None:
        """Removes a new run that recorded no step, because its start is refused; any other run stays."""
        if self._reservation is None or self.clock.step > 0 or self._report is not None:
            return
        self.finish("crashed", 0.0)
        self._reservation.withdraw()

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.finish()
        else:
            self.finish("interrupted" if isinstance(error, KeyboardInterrupt) else "crashed")
