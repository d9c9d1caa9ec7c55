"""From the settings of a trainer to the exit status of its command: the part that both systems
share.

A `Session` holds the system-specific part. Everything else is implemented here once: signals and
their grace period, opening or resuming the run, checkpoints, the loop, reporting each type of
ending, and the last lines of output.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from matrixrl.cli.embedding import EMBEDDED_GRACE_SECONDS, EMBEDDING
from matrixrl.cli.progress import complain
from matrixrl.cli.resume import resumed_settings
from matrixrl.cli.settings import command_words
from matrixrl.cli.signals import GraceExpiry, StopAnswer
from matrixrl.config import (
    CheckpointConfig,
    ConfigError,
    TrackingConfig,
    as_record,
    value_at,
    with_value,
)
from matrixrl.devices.coordinator import SINGLE, Coordinator
from matrixrl.tracking.identity import find_run, runs_dir_flag
from matrixrl.tracking.numbers import duration, plural
from matrixrl.tracking.spec import SystemSpec, resolve_spec
from matrixrl.tracking.status import Status, activity, use
from matrixrl.tracking.streams import OutputError, is_first_failure
from matrixrl.training.faults import PeerFailureHandler, exit_after_peer_failure

if TYPE_CHECKING:
    # `--help` answers at once, and signals are handled before JAX is loaded.
    from matrixrl.checkpoints.format import Checkpoint
    from matrixrl.tracking.identity import Reservation
    from matrixrl.tracking.recorder import FinishReport, Recorder
    from matrixrl.training.checkpointing import CheckpointFollower, CheckpointManager
    from matrixrl.training.loop import Ending, StopRequest, TrainingDivergedError


class TrainConfig(Protocol):
    """Settings shared by every trainer."""

    @property
    def tracking(self) -> TrackingConfig:
        """Name of the run and destinations of its rows."""
        ...

    @property
    def checkpoint(self) -> CheckpointConfig:
        """Schedule and retention of checkpoints."""
        ...

    @property
    def json(self) -> bool:
        """True if the last line of output is one JSON object."""
        ...


class SessionTrainer(Protocol):
    """A `training.loop.Trainer` that can also start and resume."""

    def init(self) -> Any:
        """Returns the state of a new run."""
        ...

    def resume(self, checkpoint: Checkpoint | None) -> Any:
        """Restores the state from a checkpoint; without one the run continues from its beginning.

        Raises:
          ConfigError: if the checkpoint belongs to other settings.
        """
        ...


ROLLBACK_SECONDS = 5.0
"""Maximum time in seconds that a rollback to a checkpoint waits for W&B."""

Config = TypeVar("Config", bound=TrainConfig)
TrainerT = TypeVar("TrainerT", bound=SessionTrainer)


@dataclass(frozen=True)
class TrainingResult(Generic[TrainerT]):
    """A training that was completed, or stopped in time.

    Attributes:
      run: closed; its name, folder and clock can still be read.
      state: the last state of the trainer.
      seconds: since the command began.
    """

    run: Recorder
    trainer: TrainerT
    state: Any
    ending: Ending
    report: FinishReport
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Session(Generic[Config, TrainerT]):
    """System-specific part of a training command.

    Attributes:
      system: its name on the command line: `matrixrl <system> train`.
      make_spec: returns the spec of a run whose episode columns depend on its settings; otherwise
        the run has the spec of `system`. Called after `prepare`.
      name_prefix: of automatic run names.
      config: the settings.
      learning_rate: dotted name of the learning rate among the settings; "" without one.
      verb: what the command does, for its first lines.
      about: recorded beside the settings and the machine.
      versions: recorded as well; a run whose checkpoint has a different version cannot be resumed.
      describe: describes the training in a line or two, from the settings alone.
      prepare: called before the run is opened: refuses settings that this machine does not support,
        so that no run folder is created.
      make_trainer: called once the run is open, with the settings and the run.
      summarize: returns the summary line, from the trainer, its last state and its duration in
        seconds.
      show: prints further output at the end, without `--json`.
      result: further entries of the JSON object of `--json`, after identity, end and duration of
        the run.
      on_result: takes the result as JSON values instead of printing it: the run is one of several.
      seconds_left: of `--time`, for a run that is one of several; None for a run of its own.
      saves_start: True to save a checkpoint before the first chunk, for a run whose start depends
        on files outside of its folder.
      min_chunks: number of chunks that are computed before `--time` ends the command.
    """

    system: str
    name_prefix: str
    config: Config
    learning_rate: str = ""
    verb: str = "trains"
    about: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, int] = field(default_factory=dict)
    describe: Callable[[Config], str] | None = None
    prepare: Callable[[Config], object] | None = None
    make_trainer: Callable[[Config, Recorder], TrainerT]
    summarize: Callable[[TrainerT, Any, float], str]
    show: Callable[[TrainingResult[TrainerT]], None]
    result: Callable[[TrainingResult[TrainerT]], Mapping[str, Any]]
    make_spec: Callable[[Config], SystemSpec] | None = None
    on_result: Callable[[dict[str, Any]], None] | None = None
    seconds_left: float | None = None
    saves_start: bool = False
    min_chunks: int = 0

    @property
    def spec(self) -> SystemSpec:
        """Spec of the run."""
        return resolve_spec(self.system) if self.make_spec is None else self.make_spec(self.config)


@dataclass
class CommandState:
    """State of a training command over its attempts: a rollback begins another one.

    Attributes:
      coordinator: of the processes that train the run.
      stop: collects signals.
      expiry: ends the process after the grace period.
      peer_failure: ends the process after a peer failed.
      began: `time.perf_counter()` at the beginning of the command.
      rollbacks: number of rollbacks so far.
    """

    coordinator: Coordinator
    stop: StopRequest
    expiry: GraceExpiry
    peer_failure: PeerFailureHandler
    began: float
    rollbacks: int = 0


def resume_command(system: str, tracking: TrackingConfig, name: str, *flags: str) -> str:
    """Returns the command that resumes a run."""
    where = runs_dir_flag(tracking.runs_dir)
    return shlex.join(["matrixrl", *command_words(system), "--resume-run", name, *where, *flags])


def train(session: Session[Any, Any], coordinator: Coordinator = SINGLE) -> int:
    """Trains, and prints the results. Returns the exit status.

    Args:
      coordinator: of the processes that train the run together.

    Raises:
      ConfigError: if the run cannot be opened or resumed, or one of its files cannot be written.
    """
    began = time.perf_counter()
    from matrixrl.training.loop import StopRequest

    embedding = EMBEDDING.get()
    grace_seconds = session.config.checkpoint.grace_seconds
    expiry, answer = GraceExpiry(grace_seconds), StopAnswer(grace_seconds)
    on_expiry: Callable[[signal.Signals], None] = expiry
    if embedding is not None:
        # The program around the training outlives it.
        grace_seconds, answer, on_expiry = EMBEDDED_GRACE_SECONDS, StopAnswer(None), lambda _: None
    time_limit = session.seconds_left
    if time_limit is None:
        time_limit = getattr(session.config, "time_seconds", None)
    with StopRequest(grace_seconds, on_expiry, answer, time_limit) as stop, contextlib.ExitStack() as start:
        answer.stop = stop
        if embedding is not None:
            embedding.begin(stop)
        reservation = None
        if coordinator.is_leader:
            # Before JAX is loaded, which takes seconds, so that the user sees the announcement at
            # once.
            reservation = _reserve(session, start)
            announce(session, reservation)
        command = CommandState(coordinator, stop, expiry, PeerFailureHandler(), began)
        coordinator.watch_peers(command.peer_failure)
        try:
            result = _attempt(session, command, reservation)
            while isinstance(result, Session):
                session, command.rollbacks = result, command.rollbacks + 1
                result = _attempt(session, command)
        finally:
            _cancel_compilations()
        if result is None:
            return 1
        coordinator.announce_exit()
        if embedding is not None:
            embedding.outcome = result
        shown = _show(session, result) if coordinator.is_leader and embedding is None else True
    if result.ending == "interrupted":
        # The signal may have come to another process of this training.
        return 128 + (stop.signal or signal.SIGTERM)
    return 0 if shown else 1


def _show(session: Session[Any, Any], result: TrainingResult[Any]) -> bool:
    """Prints what came out.

    Returns:
      False if a script asked for the result and it could not be printed. Interactively the run is a
      success without it.
    """
    try:
        if session.on_result is not None:
            session.on_result(_result(session, result))
        elif session.config.json:
            print(json.dumps(_result(session, result)))
        else:
            session.show(result)
        sys.stdout.flush()
    except OutputError as error:
        if not error.reader_gone and is_first_failure(sys.stdout):
            complain(str(error))
        return error.reader_gone or not session.config.json
    return True


def device_line(machine: Mapping[str, Any]) -> str:
    """Returns the devices that JAX found, in words.

    Args:
      machine: what `describe_machine` returns.
    """
    kind, count = str(machine["device_type"]), int(machine["device_count"])
    if machine["backend"] == "cpu":
        kind = "CPU" if kind == "cpu" else kind
        cores = os.cpu_count() or 1
        return f"{plural(count, kind + ' device')}, {plural(cores, 'core')}, JAX {machine.get('version_jax', '')}"
    return f"{count:,} x {kind} ({machine['backend']}), JAX {machine.get('version_jax', '')}"


def _reserve(session: Session[Any, Any], start: contextlib.ExitStack) -> Reservation | None:
    """Reserves the name of a new run until `start` is closed; None if a run is resumed."""
    from matrixrl.tracking.run import reserve_run

    tracking: TrackingConfig = session.config.tracking
    if tracking.resume_run is not None:
        return None
    reservation = reserve_run(tracking, session.system, session.name_prefix)
    start.callback(reservation.release)
    return reservation


def announce(session: Session[Any, Any], reservation: Reservation | None) -> None:
    """Announces the run, its settings, its folder and how to stop it.

    Args:
      reservation: that of the new run; None if a run is resumed.
    """
    tracking: TrackingConfig = session.config.tracking
    if reservation is None:
        assert tracking.resume_run is not None
        folder = find_run(tracking.runs_dir, tracking.resume_run, session.system)
        lines = [("run", f"{folder.name} (resumed)")]
    else:
        folder = reservation.directory
        lines = [("run", reservation.name)]
    if tracking.console == "quiet":
        Status(shown=False).line(f"run {lines[0][1]} in {folder}")
        return
    if session.describe is not None:
        lines.append((session.verb, session.describe(session.config)))
    lines.append(("folder", str(folder)))
    if tracking.wandb:
        project = tracking.project or resolve_spec(session.system).project
        lines.append(("W&B", f"project {project}"))
    else:
        lines.append(("W&B", "off (--wandb turns it on)"))
    if tracking.track:
        lines.append(("trackers", ", ".join(tracking.track)))
    lines.append(("stop", "Ctrl-C: finishes the chunk, saves, and says how to resume"))
    Status(shown=False).line("\n".join(f"{name:<8} {text}" for name, text in lines))


def _report_failure(text: str) -> None:
    """Reports why a training failed: on standard error, or to the program that runs it."""
    embedding = EMBEDDING.get()
    if embedding is None:
        complain(text)
    else:
        embedding.failure = text


def _cancel_compilations() -> None:
    """Drops compilations that were queued for later."""
    first_calls = sys.modules.get("matrixrl.training.first_calls")
    if first_calls is not None:
        first_calls.cancel_all()


def _result(session: Session[Any, Any], result: TrainingResult[Any]) -> dict[str, Any]:
    run = result.run
    return {
        "run_name": run.name,
        "run_id": run.run_id,
        "run_dir": str(run.directory),
        **session.result(result),
        "global_step": run.clock.step,
        "seconds": round(result.seconds, 3),
        "status": result.report.status,
        "pending_rows": result.report.pending_rows,
    }


def _attempt(
    session: Session[Any, Any], command: CommandState, reservation: Reservation | None = None
) -> TrainingResult[Any] | Session[Any, Any] | None:
    """Performs one attempt at a run, from opening to closing it.

    Args:
      reservation: reservation of a new run's name.

    Returns:
      The result; the session to continue with if training diverged and may roll back; None if it
      failed and the failure was reported.
    """
    settings, changes = _start_jax(session, command)

    from jax.errors import JaxRuntimeError

    from matrixrl.training.checkpointing import CheckpointError
    from matrixrl.training.loop import ChunkFailedError, TrainingDivergedError

    with contextlib.ExitStack() as resources:
        attempt = _open_attempt(session, command, settings, reservation, resources)
        run, manager = attempt.run, attempt.manager
        try:
            state, ending = attempt.train(changes)
        except OSError as error:
            raise ConfigError(
                f"{run.directory}: {error.strerror or error}; the journal keeps what was recorded. Free some space, or "
                f"name another folder with --runs-dir"
            ) from error
        except TrainingDivergedError as error:
            return attempt.close_diverged(error)
        except ChunkFailedError as error:
            raise attempt.close_failed(error) from error
        except CheckpointError as error:
            run.warn(str(error))
            run.finish("crashed")
            _report_failure(f"{error}; free some space, then: {attempt.resume_command}")
            return None
        except (JaxRuntimeError, ValueError) as error:
            if not command.coordinator.is_peer_failure(error):
                raise
            exit_after_peer_failure(run, manager, error, attempt.resume_command)
        finally:
            if manager is not None:
                manager.close()
        result = attempt.finish(state, ending)
    if ending != "finished" and manager is not None:
        why = f"--time {session.config.time} is over: " if ending == "time limit" else ""
        how = attempt.resume_command
        complain(f"{why}stopped at step {run.clock.step:,}, {manager.where}; continue with: {how}")
    return result


def _start_jax(
    session: Session[Any, Any], command: CommandState
) -> tuple[dict[str, Any], dict[str, tuple[Any, Any]]]:
    """Loads JAX, and refuses settings that this machine or the run to resume does not support.

    Returns:
      The settings to record, and the changes of a resumed run (`changes_on_resume`).
    """
    config, leads = session.config, command.coordinator.is_leader
    starting = Status(shown=config.tracking.console != "quiet")
    with use(starting), activity("starting JAX"):
        from matrixrl.devices.compilation_cache import use_compilation_cache
        from matrixrl.devices.machine import describe_machine

        use_compilation_cache()
        machine = describe_machine()
        changes = changes_on_resume(session) if leads else {}
        if session.prepare is not None:
            session.prepare(config)
    if leads and command.rollbacks == 0 and config.tracking.console != "quiet":
        seconds = time.perf_counter() - command.began
        starting.line(f"{'device':<8} {device_line(machine)}, ready after {duration(seconds)}")
    return {**as_record(config), **machine, **session.about, **session.versions}, changes


def _open_attempt(
    session: Session[Any, Any],
    command: CommandState,
    settings: Mapping[str, Any],
    reservation: Reservation | None,
    resources: contextlib.ExitStack,
) -> TrainingAttempt:
    """Opens the run on the leader, a silent one on the other processes, and creates the trainer.

    Args:
      resources: closes the run.
    """
    from matrixrl.devices.coordinator import broadcast_result, find_shared_folder
    from matrixrl.tracking.recorder import NullRecorder
    from matrixrl.tracking.run import open_run
    from matrixrl.training.checkpointing import CheckpointFollower, CheckpointManager

    config, coordinator = session.config, command.coordinator
    several = coordinator.num_processes > 1
    copies = Path(resources.enter_context(tempfile.TemporaryDirectory())) if several else Path()

    def open_recorded() -> Recorder:
        return open_run(
            config.tracking,
            system=session.spec,
            name_prefix=session.name_prefix,
            run_config=settings,
            reservation=reservation,
        )

    run = broadcast_result(
        coordinator,
        open_recorded,
        to_record=lambda run: run.name,
        from_record=lambda name: NullRecorder(session.system, name, copies),
    )
    run.on_stop = command.stop.ask
    resources.enter_context(run)
    resources.push(partial(_discard_if_refused, run))
    how = resume_command(session.system, config.tracking, run.name)
    command.expiry.command = command.peer_failure.command = how
    shared_folder = find_shared_folder(coordinator, run.directory if coordinator.is_leader else None)
    manager = follower = None
    if coordinator.is_leader:
        manager = CheckpointManager(config.checkpoint, run, settings, coordinator, shared_folder is not None)
    else:
        follower = CheckpointFollower(coordinator, shared_folder)
    command.peer_failure.manager = manager
    trainer = session.make_trainer(config, run)
    if (embedding := EMBEDDING.get()) is not None:
        embedding.open(run, trainer)
    return TrainingAttempt(session, command, run, trainer, manager, follower, shared_folder, copies, how)


@dataclass(frozen=True)
class TrainingAttempt:
    """An attempt at a run that is open.

    Attributes:
      manager: of the checkpoints, on the leader.
      follower: counterpart of the manager on the other processes.
      shared_folder: the leader's run folder, if all processes see it.
      copies: folder for what the leader sends to this process.
      resume_command: the command that resumes the run.
    """

    session: Session[Any, Any]
    command: CommandState
    run: Recorder
    trainer: Any
    manager: CheckpointManager | None
    follower: CheckpointFollower | None
    shared_folder: Path | None
    copies: Path
    resume_command: str

    def train(self, changes: Mapping[str, tuple[Any, Any]]) -> tuple[Any, Ending]:
        """Starts or resumes the run, and trains until it is finished or a signal asks to stop.

        Args:
          changes: of the settings of a resumed run, by dotted name (old, new).
        """
        from matrixrl.training.loop import run_loop

        coordinator = self.command.coordinator
        checkpoint = self.manager.resume() if self.manager is not None else None
        for name, (old, new) in changes.items():
            self.run.note(f"changed on resume: {name} from {old} to {new}")
        checkpoint = self._broadcast_checkpoint(checkpoint)
        resumed = coordinator.broadcast(int(self.run.resumed))
        state = self.trainer.resume(checkpoint) if resumed else self.trainer.init()
        checkpoints = self.manager or self.follower
        if self.session.saves_start and checkpoint is None and checkpoints is not None:
            checkpoints.save(self.trainer.snapshot(state, self.run.clock.step), time.perf_counter())
        return run_loop(
            self.trainer,
            state,
            self.run,
            self.command.stop,
            checkpoints,
            coordinator,
            self.session.min_chunks,
        )

    def _broadcast_checkpoint(self, checkpoint: Checkpoint | None) -> Checkpoint | None:
        """Returns the leader's checkpoint on every process, and sets the clock to its step.

        On shared storage all processes read the same files; otherwise the others receive a copy.
        """
        coordinator = self.command.coordinator
        if coordinator.num_processes == 1:
            return checkpoint
        from matrixrl.checkpoints import format as checkpoint_format
        from matrixrl.devices.coordinator import copy_folder

        folder = None if checkpoint is None else checkpoint.folder
        if self.shared_folder is None:
            folder = copy_folder(coordinator, folder, self.copies)
        else:
            name = coordinator.broadcast(b"" if folder is None else str(folder.resolve()).encode())
            folder = Path(name.decode()) if name else None
        if folder is None or checkpoint is not None:
            return checkpoint
        checkpoint = checkpoint_format.read(folder)
        self.run.restore_clock(checkpoint.step)
        return checkpoint

    def finish(self, state: Any, ending: Ending) -> TrainingResult[Any]:
        """Closes the run after training was finished, or stopped in time."""
        seconds = time.perf_counter() - self.command.began
        self.run.note(self.session.summarize(self.trainer, state, seconds))
        upload_seconds = self.session.config.tracking.finish_seconds
        if (seconds_left := self.command.stop.seconds_left) is not None:
            upload_seconds = min(upload_seconds, seconds_left / 2)
        # A run that its time limit ends has done what was asked.
        report = self.run.finish("finished" if ending == "time limit" else ending, upload_seconds)
        return TrainingResult(self.run, self.trainer, state, ending, report, seconds)

    def close_failed(self, error: Exception) -> ConfigError:
        """Closes an attempt that a cause outside of the trainer ended, after its state was saved.

        Returns:
          The error to raise. A new run that recorded nothing is discarded by it.
        """
        if self.run.clock.step == 0 or self.manager is None:
            return ConfigError(str(error))
        self.run.note(str(error))
        self.run.finish("crashed")
        return ConfigError(f"{error}; {self.manager.where}; continue with: {self.resume_command}")

    def close_diverged(self, error: TrainingDivergedError) -> Session[Any, Any] | None:
        """Closes a diverged attempt.

        Returns:
          The session to roll back with; None if the run ends here.
        """
        from matrixrl.training.checkpointing import CheckpointError

        where = ""
        if self.manager is not None:
            with contextlib.suppress(CheckpointError):
                self.manager.wait()  # if it could not be written, the previous one is the last good one
            where = self.manager.where
        checkpoint = self.session.config.checkpoint
        rate = value_at(self.session.config, self.session.learning_rate)
        if self.command.rollbacks < checkpoint.max_rollbacks:
            lower = rate * checkpoint.rollback_learning_rate_factor
            self.run.warn(
                f"{error}; {where}; going back there with --learning-rate {lower:g} "
                f"(rollback {self.command.rollbacks + 1} of {checkpoint.max_rollbacks})"
            )
            return self._rollback(lower)
        tracking = self.session.config.tracking
        how = resume_command(self.session.system, tracking, self.run.name, "--learning-rate", f"{rate / 2:g}")
        text = f"{error}; {where}; continue from there with: {how}"
        self.run.warn(text)
        self.run.finish("crashed")
        if self.manager is not None:
            _report_failure(text)
        self.command.coordinator.announce_exit()  # all processes saw the same metric
        return None

    def _rollback(self, learning_rate: float) -> Session[Any, Any]:
        """Closes the run, and returns the session that resumes it with a lower learning rate."""
        config = self.session.config
        # The next attempt uploads the rows that W&B does not have by then.
        self.run.finish("crashed", min(ROLLBACK_SECONDS, config.tracking.finish_seconds))
        tracking = dataclasses.replace(
            config.tracking, run_name=None, run_suffix=None, resume_run=self.run.name
        )
        config = dataclasses.replace(config, tracking=tracking)
        config = with_value(config, self.session.learning_rate, learning_rate)
        return dataclasses.replace(self.session, config=config)


def _discard_if_refused(run: Recorder, kind: type[BaseException] | None, *_: object) -> None:
    """Leaves nothing of a run whose start is refused after it was opened."""
    if kind is not None and issubclass(kind, ConfigError):
        run.discard()


def changes_on_resume(session: Session[Any, Any]) -> dict[str, tuple[Any, Any]]:
    """Returns the changes of a resumed run, by dotted name (old, new). Read-only: a refused run is
    unchanged.

    Raises:
      ConfigError: if there is no such run, its checkpoint cannot be read by this version, or a
        change is not allowed.
    """
    from matrixrl.checkpoints.store import CheckpointStore

    tracking: TrackingConfig = session.config.tracking
    if tracking.resume_run is None:
        return {}
    folder = find_run(tracking.runs_dir, tracking.resume_run, session.system)
    checkpoint, _ = CheckpointStore(folder).newest()
    recorded = {} if checkpoint is None else checkpoint.record["config"]
    for name, version in session.versions.items():
        if (theirs := recorded.get(name, version)) != version:
            raise ConfigError(
                f"--resume-run {folder.name}: {name} is {theirs} there and {version} in this matrixrl; start a new run, or "
                "resume with the matrixrl that wrote it"
            )
    return resumed_settings(type(session.config), folder, folder.name, lambda _: session.config)[1]
