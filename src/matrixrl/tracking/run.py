"""A run: one folder, one clock, one journal and its readers. The recorder of a trainer."""

from __future__ import annotations

import _thread
import contextlib
import dataclasses
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import matrixrl
from matrixrl.config import ConfigError, TrackingConfig
from matrixrl.tracking.clock import StepClock
from matrixrl.tracking.console import Console
from matrixrl.tracking.events import Event, FileRow, LogMessage, MoveRow
from matrixrl.tracking.files import network_file_system, sha256_of
from matrixrl.tracking.identity import (
    LOCK_FILE,
    RUN_FILE,
    Lock,
    Owner,
    Reservation,
    check_run_fields,
    find_run,
    read_run_file,
    reserve,
    run_id,
)
from matrixrl.tracking.journal import JOURNAL_FILE, Journal, JournalError
from matrixrl.tracking.numbers import plural
from matrixrl.tracking.recorder import FinishReport, Level, Recorder, Status
from matrixrl.tracking.repair import repair_journal
from matrixrl.tracking.sinks.registry import find_sinks, remember_named
from matrixrl.tracking.sinks.wandb_identity import refuse_taken
from matrixrl.tracking.sinks.wandb_names import Belonging, belonging_of
from matrixrl.tracking.spec import SystemSpec, resolve_spec, spec_from_record
from matrixrl.tracking.status import activity, notify
from matrixrl.tracking.summary import drop_summary, keep_summary
from matrixrl.tracking.system import SystemMonitor
from matrixrl.tracking.transcript import complete_transcript
from matrixrl.tracking.uploader_client import (
    DeliveryOutcome,
    DeliveryProcess,
    delivery_settings,
    sync_command,
)
from matrixrl.whole_files import write_whole

__all__ = ["FinishReport", "Recorder", "Run", "Status", "open_run", "reserve_run", "take_over"]


def reserve_run(
    config: TrackingConfig,
    system: SystemSpec | str,
    name_prefix: str,
    wall_time: Callable[[], float] = time.time,
) -> Reservation:
    """Reserves the name of a new run without showing it; see `identity.reserve`.

    Checks the sinks, and the W&B project and entity, first.
    """
    find_sinks(config.sinks)
    project = resolve_spec(system).project
    belonging = belonging_of(config.project, config.entity, project, config.wandb)
    reservation = reserve(
        config.runs_dir,
        prefix=name_prefix,
        name=config.run_name,
        suffix=config.run_suffix,
        today=date.fromtimestamp(wall_time()),
    )
    reservation.belonging = belonging
    return reservation


def open_run(
    config: TrackingConfig,
    *,
    system: SystemSpec | str,
    name_prefix: str,
    run_config: Mapping[str, Any],
    wall_time: Callable[[], float] = time.time,
    reservation: Reservation | None = None,
) -> Run:
    """Starts a run, or resumes one (`config.resume_run`); it can record within 0.2 s.

    W&B is imported and initialised by another process, which reads the journal: nothing here waits
    for it.

    Args:
        system: spec of the system, or the name of one that is known here. The spec is recorded in
            the run folder; a resumed run keeps the one it was started with. `--resume-run latest`
            finds runs of the same system.
        name_prefix: such as `cartpole`; the date and the next free number follow it.
        run_config: every setting as JSON values (`matrixrl.config.as_record`), with device,
            versions, commit and seed.
        wall_time: returns seconds since the epoch; tests pass their own.
        reservation: of the name of a new run, if it was reserved before; this consumes it.

    Raises:
        ConfigError: if the system is unknown, the name is impossible, the folder cannot be written,
            the run does not exist, holds fields that this version does not know, or another process
            is writing it (the message names process and host).
        JournalError: if the journal cannot be written, or is damaged.
    """
    spec = recorded = resolve_spec(system)
    sinks = find_sinks(config.sinks)
    if config.resume_run is not None:
        directory = find_run(config.runs_dir, config.resume_run, spec.name)
        recorded = _resumed_spec(directory, spec)
        lock = take_over(directory)
        belonging = None
        reservation = None
    else:
        if reservation is None:
            reservation = reserve_run(config, system, name_prefix, wall_time)
        belonging = reservation.belonging
        assert belonging is not None
        record = {
            "identity": secrets.token_hex(16),
            "system": spec.name,
            "created": wall_time(),
            "matrixrl": matrixrl.__version__,
            "config": dict(run_config),
            "spec": spec.as_record(),
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
    remember_named(directory, sinks)
    try:
        if path.exists():
            repaired = repair_journal(directory)
            drop_summary(directory)
            _record_spec(directory, spec)
            journal = Journal.resume(path, run_config, spec)
            complete_transcript(directory)
        else:
            if belonging is None:
                belonging = belonging_of(config.project, config.entity, spec.project, config.wandb)
            meta = _journal_meta(directory, spec, belonging, run_config, wall_time())
            journal = Journal.create(path, meta, spec.episode_columns)
    except BaseException:
        if reservation is not None:
            reservation.withdraw()  # a full disk leaves no partial run
        lock.release()
        raise
    run = Run(config, recorded, directory, lock, journal, wall_time, reservation)
    if repaired is not None:
        run.warn(repaired)
    return run


def _journal_meta(
    directory: Path,
    spec: SystemSpec,
    belonging: Belonging,
    run_config: Mapping[str, Any],
    created: float,
) -> dict[str, Any]:
    """Returns the description of the run that a new journal starts with."""
    # If the journal of a run is lost, `run.json` still has its identity.
    about = read_run_file(directory) or {}
    return {
        "name": directory.name,
        "run_id": run_id(directory.name),
        "identity": about.get("identity"),
        "attempt_tokens": about.get("attempt_tokens", []),
        "system": spec.name,
        "project": belonging.project,
        "entity": belonging.entity,
        "sweep": belonging.sweep,
        "created": created,
        "matrixrl": matrixrl.__version__,
        "config": dict(run_config),
        "spec": spec.as_record(),
    }


def _resumed_spec(directory: Path, spec: SystemSpec) -> SystemSpec:
    """Returns the spec that a resumed run continues with: the recorded one, with the aliases of the
    current one.

    Raises:
        ConfigError: if `run.json` has a field that this version does not know.
    """
    about = read_run_file(directory) or {}
    check_run_fields(about, directory)
    if "spec" not in about:
        return spec
    recorded = spec_from_record(about["spec"], f"{directory / RUN_FILE}, spec")
    return dataclasses.replace(recorded, aliases={**recorded.aliases, **spec.aliases})


def _record_spec(directory: Path, spec: SystemSpec) -> None:
    """Adds the spec to the `run.json` of a run that an earlier version started."""
    about = read_run_file(directory)
    if about is not None and "spec" not in about:
        content = json.dumps({**about, "spec": spec.as_record()}, indent=2)
        with contextlib.suppress(OSError):  # the journal has it too
            write_whole(directory / RUN_FILE, content + "\n")


def take_over(directory: Path) -> Lock:
    """Takes the lock of a run that is resumed.

    Waits, with a message, for an owner on another host that may be dead.

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
                        break  # it is alive
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
    """An open run, the recorder that keeps everything.

    Use it as a context manager: an exception ends it as `crashed`.

    Attributes:
        spec: of the system, as recorded in the run folder.
        system: name of the system.
        name: the run's name; also its folder's.
        run_id: `md5(name)[:8]`.
        directory: the run folder.
        clock: the master clock. After a resume, `restore_clock` sets it to the checkpoint's.
        attempt: 1 for a new run, one more for each resume.
        records_moves: true if `MoveRow` events are kept.
        on_stop: called from another thread with the origin of a request to stop, such as the stop
            button of the W&B page. Without it the main thread is interrupted (KeyboardInterrupt).
    """

    def __init__(
        self,
        config: TrackingConfig,
        spec: SystemSpec,
        directory: Path,
        lock: Lock,
        journal: Journal,
        wall_time: Callable[[], float],
        reservation: Reservation | None = None,
    ) -> None:
        self.spec = spec
        self.system = spec.name
        self.on_stop: Callable[[str], None] | None = None
        self.name = directory.name
        self.run_id = run_id(directory.name)
        self.directory = directory
        self.attempt = journal.attempt
        self.clock = StepClock(wall_time)
        self.records_moves = config.record_moves or config.console == "steps"
        self._config = config
        self._lock = lock
        self._journal = journal
        self._monitor = SystemMonitor()
        self._wall_time = wall_time
        self._mutex = threading.RLock()
        self._busy_seconds = 0.0
        self._started = time.perf_counter()
        self._report: FinishReport | None = None
        self._reservation = reservation
        self._reported_difference = False
        self._console = Console(config.console, directory, spec)
        self._deliveries = self._start_deliveries()
        if not lock.is_guarded:
            self.warn(
                f"{directory} is on a file system without locks: nothing keeps a second process that starts at the same "
                "moment from writing this run; start one at a time, or use a --runs-dir on a local disk"
            )
        if kind := network_file_system(directory):
            self.warn(
                f"{directory} is on a network drive ({kind}), where SQLite is not safe: keep --runs-dir on a local disk"
            )

    def _start_deliveries(self) -> list[DeliveryProcess]:
        """Starts a delivery process for each sink."""
        settings = {
            "training_pid": os.getpid(),
            "backlog_rows": self._config.backlog_rows,
            "keep_artifacts": self._config.keep_artifacts,
            "artifacts": not self._config.no_artifact,
            "patient": True,
        }
        return [
            DeliveryProcess(
                self.directory, found, delivery_settings(found, **settings), self._notify, on_stop=self._stop
            )
            for found in find_sinks(self._config.sinks)
        ]

    def _finish_deliveries(self, status: Status, deadline_seconds: float) -> DeliveryOutcome:
        """Ends all delivery processes, which have the same deadline."""
        for delivery in self._deliveries:
            delivery.request_finish(status, deadline_seconds)
        return DeliveryOutcome.joined([delivery.wait() for delivery in self._deliveries])

    def _stop(self, origin: str) -> None:
        """Forwards a request to stop from W&B.

        A program without a handler is interrupted, as wandb does it.
        """
        self._notify(f"{origin} asks this run to stop", "info")
        if self.on_stop is not None:
            self.on_stop(origin)
        elif self._report is None:
            _thread.interrupt_main()

    @property
    def resumed(self) -> bool:
        """True for a later attempt of an existing run, even if its journal was lost."""
        return self.attempt > 1 or self._config.resume_run is not None

    @property
    def recorded_until(self) -> int:
        """The last step in the journal's history; after a resume rows up to here are recognised and
        not written again.
        """
        with self._mutex:
            return self._journal.recorded_until

    @property
    def logging_overhead_pct(self) -> float:
        """Time that tracking took from the training thread, in percent of the time since the run
        was opened.
        """
        return 100.0 * self._busy_seconds / max(time.perf_counter() - self._started, 1e-9)

    def restore_clock(self, saved_step: int, recorded_until: int | None = None) -> None:
        """Sets the clock to the step that a checkpoint saved, before this attempt's first tick.

        Args:
            recorded_until: the last step in the journal when the checkpoint was made. Default: the
                step itself.

        Raises:
            ConfigError: if the clock has ticked already.
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
        """Commits events in one journal transaction; then the readers see them.

        Never waits for the network.

        Raises:
            ValueError: if events contradict the journal's rules (see `Journal.record`).
            JournalError: if the disk is full or the file cannot be written.
        """
        begun = time.perf_counter()
        with self._mutex:
            kept = [e for e in events if self.records_moves or not isinstance(e, MoveRow)]
            system = self._monitor.due()
            if system is not None:
                self._lock.refresh()
            recorded = self._journal.record(kept, system, self._wall_time())
            self._show(recorded.events)
            if recorded.differing and not self._reported_difference:
                self._reported_difference = True
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
        """Records a file or folder that was just written in the run folder, at the step of the
        clock.

        Args:
            path: inside the run folder; it must not change afterwards.
            kind: a `checkpoint` goes to W&B as `checkpoint-<run id>-<step>`.
            aliases: such as `best`.
            seconds: time in seconds that the training thread was paused for it.
        """
        digest, size = sha256_of(path)
        name = path.relative_to(self.directory).as_posix()
        self.record([FileRow(self.clock.now(), kind, name, digest, size, seconds, tuple(aliases))])

    def copy_journal(self, path: Path) -> None:
        """Copies the complete journal to a file that may be on a network drive.

        Raises:
            JournalError: if the copy cannot be written.
        """
        with self._mutex:
            self._journal.copy_to(path)

    def warn(self, text: str) -> None:
        """Shows a warning, which the journal keeps. May be called from any thread."""
        self.note(text, "warning")

    def note(self, text: str, level: Level = "info") -> None:
        """Shows a message, which the journal keeps. May be called from any thread."""
        with self._mutex:
            if self._report is None:
                self.record([LogMessage(None, text, level)])

    def _notify(self, text: str, level: Level) -> None:
        """Shows a message of the delivery process; on a full disk the next row of the training
        thread raises the error.
        """
        with contextlib.suppress(JournalError):
            self.note(text, level)

    def progress(self, phase: str, done: int, total: int, unit: str = "", best: str = "") -> None:
        """Shows the progress of a phase, with its rate and the time left.

        Args:
            phase: its name, such as `epoch 3 self-play`.
            done: number of units done, out of `total`.
            unit: name of a unit, such as `games`.
            best: the best result so far, in words.
        """
        begun = time.perf_counter()
        with self._mutex:
            self._console.progress(phase, done, total, unit, best)
        self._busy_seconds += time.perf_counter() - begun

    def finish(self, status: Status = "finished", deadline_seconds: float | None = None) -> FinishReport:
        """Ends the run: closes the journal and waits for W&B.

        A second call returns the report of the first.

        Args:
            deadline_seconds: maximum time in seconds to wait. Default: the config's.
        """
        if self._report is not None:
            return self._report
        deadline = self._config.finish_seconds if deadline_seconds is None else deadline_seconds
        overhead = self.logging_overhead_pct
        # On a full disk the end cannot be recorded either; the run then counts as stale.
        with self._mutex, contextlib.suppress(JournalError):
            self._journal.end_attempt(status)
        outcome = self._finish_deliveries(status, deadline)
        command = None
        message = f"{self.name} {status}: {plural(self.clock.step, 'step')} in {self.directory}"
        if outcome.pending_rows:
            command = sync_command(self.directory)
            message += (
                f"; {plural(outcome.pending_rows, 'row waits', 'rows wait')} for {outcome.waiting_for} "
                f"({outcome.reason}): {command}"
            )
        elif outcome.reason:
            message += f"; {outcome.reason}"
        self._report = FinishReport(status, outcome.pending_rows, command, message, overhead)
        with self._mutex:
            self._console.close(message)
            self._journal.close()
            keep_summary(self.directory)
            self._lock.release()
        return self._report

    def discard(self) -> None:
        """Removes a new run that recorded no step, because its start is refused; others stay."""
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
