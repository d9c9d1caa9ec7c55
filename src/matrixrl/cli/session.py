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
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Protocol, TypeVar

from matrixrl.cli.progress import complain
from matrixrl.cli.resume import resumed_settings
from matrixrl.config import (
    CheckpointConfig,
    ConfigError,
    TrackingConfig,
    as_record,
    require,
    value_at,
    with_value,
)
from matrixrl.tracking.events import System
from matrixrl.tracking.identity import find_run
from matrixrl.tracking.numbers import duration, plural
from matrixrl.tracking.status import CLEAR_LINE, Status, activity, notify, terminal_width, use, wrap
from matrixrl.tracking.streams import OutputError, is_first_failure

if TYPE_CHECKING:
    # `--help` answers at once, and signals are handled before JAX is loaded.
    from matrixrl.checkpoints.format import Checkpoint
    from matrixrl.tracking.identity import Reservation
    from matrixrl.tracking.run import FinishReport, Run
    from matrixrl.training.checkpointing import Keeper
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

LOSS_SECONDS = 10.0
"""Time in seconds for the main thread to notice that a peer failed."""

Config = TypeVar("Config", bound=TrainConfig)
TrainerT = TypeVar("TrainerT", bound=SessionTrainer)


@dataclass(frozen=True)
class Outcome(Generic[TrainerT]):
    """A training that was completed, or stopped in time.

    Attributes:
      run: closed; its name, folder and clock can still be read.
      state: the last state of the trainer.
      seconds: since the command began.
    """

    run: Run
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
      name_prefix: of automatic run names.
      config: the settings.
      learning_rate: dotted name of the learning rate among the settings.
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
      episode_columns: columns of the episode table, where they depend on the settings; called after
        `prepare`.
    """

    system: System
    name_prefix: str
    config: Config
    learning_rate: str
    about: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, int] = field(default_factory=dict)
    describe: Callable[[Config], str] | None = None
    prepare: Callable[[Config], object] | None = None
    make_trainer: Callable[[Config, Run], TrainerT]
    summarize: Callable[[TrainerT, Any, float], str]
    show: Callable[[Outcome[TrainerT]], None]
    result: Callable[[Outcome[TrainerT]], Mapping[str, Any]]
    episode_columns: Callable[[Config], Mapping[str, Any]] | None = None

    @property
    def columns(self) -> Mapping[str, Any] | None:
        """Columns of the episode table, if they are not the system's own."""
        return None if self.episode_columns is None else self.episode_columns(self.config)


class GraceExpiry:
    """Ends the process when its grace period is over, at any point; the journal loses no rows.

    Attributes:
      command: continues the run, once there is one.
    """

    def __init__(self, grace_seconds: float) -> None:
        self.command: str | None = None
        self._grace_seconds = grace_seconds

    def __call__(self, number: signal.Signals) -> None:
        """Writes a message, and exits with the status of a process that was stopped by the
        signal.
        """
        after = f"; continue with: {self.command}" if self.command else ""
        text = f"not finished {self._grace_seconds:g} s after {number.name}; stopped at once{after}"
        _exit_at_once(text, 128 + number)


class StopAnswer:
    """Reports a signal at once: otherwise no output would appear until a chunk or a compilation
    ends.

    Attributes:
      stop: knows where a request came from that was no signal.
    """

    def __init__(self, grace_seconds: float) -> None:
        self._grace_seconds = grace_seconds
        self.stop: StopRequest | None = None

    def __call__(self, number: signal.Signals) -> None:
        """Prints a line above the status line."""
        again = "; Ctrl-C again stops at once" if number == signal.SIGINT else ""
        origin = self.stop.origin if self.stop is not None and self.stop.origin else number.name
        notify(f"{origin}: stopping after this chunk, within {self._grace_seconds:g} s{again}")


class ProcessLoss:
    """Ends this process some time after another one was lost, unless the main thread has by then.

    The main thread may wait in a collective that cannot complete, and JAX would then terminate it
    without a message.

    Attributes:
      command: continues the run, once there is one.
      keeper: knows the last checkpoint, on process 0.
    """

    def __init__(self) -> None:
        self.command: str | None = None
        self.keeper: Keeper | None = None

    def __call__(self, number: int) -> None:
        """Waits, then writes a message and exits; the journal loses no rows."""
        time.sleep(LOSS_SECONDS)
        _exit_at_once(_lost_text(f"process {number}", self.keeper, self.command), 1)


def _exit_at_once(text: str, status: int) -> NoReturn:
    """Writes a final message and exits immediately, skipping interpreter shutdown."""
    # Straight to the file: the main thread may hold the stream's lock.
    line = f"matrixrl: {text}"
    if os.isatty(2):
        line = CLEAR_LINE + wrap(line, terminal_width())  # there may be a status line
    with contextlib.suppress(OSError):  # nobody may be there to read it
        os.write(2, f"{line}\n".encode(errors="backslashreplace"))
    os._exit(status)


def _lost_text(reason: str, keeper: Keeper | None, command: str | None) -> str:
    """Returns the message that a peer failed, and on process 0 how to continue."""
    where = ""
    if keeper is not None:
        where = f"; {keeper.where}; continue, with as many processes as there are, with: {command}"
    return f"another process of this training ended or cannot be reached ({reason}){where}"


def resume_command(system: System, tracking: TrackingConfig, name: str, *flags: str) -> str:
    """Returns the command that resumes a run."""
    folder = tracking.runs_dir
    where = () if folder == TrackingConfig().runs_dir else ("--runs-dir", str(folder))
    return shlex.join(["matrixrl", system, "train", "--resume-run", name, *where, *flags])


def train(session: Session[Any, Any]) -> int:
    """Trains, and prints the results. Returns the exit status.

    Raises:
      ConfigError: if the run cannot be opened or resumed, or one of its files cannot be written.
    """
    began = time.perf_counter()
    from matrixrl.training.loop import StopRequest

    grace_seconds = session.config.checkpoint.grace_seconds
    expiry = GraceExpiry(grace_seconds)
    answer = StopAnswer(grace_seconds)
    time_limit = getattr(session.config, "time_seconds", None)
    with StopRequest(grace_seconds, expiry, answer, time_limit) as stop, contextlib.ExitStack() as start:
        answer.stop = stop
        reservation = None
        if _is_leader():
            # Before JAX is loaded, which takes seconds, so that the user sees the announcement at
            # once.
            reservation = _reserve(session, start)
            announce(session, reservation)
        with use(Status(shown=session.config.tracking.console != "quiet")), activity("starting JAX"):
            from matrixrl.devices import processes

        loss, rollbacks = ProcessLoss(), 0
        processes.on_loss(loss)
        try:
            outcome = _attempt(session, rollbacks, stop, expiry, loss, began, reservation)
            while isinstance(outcome, Session):
                session, rollbacks = outcome, rollbacks + 1
                outcome = _attempt(session, rollbacks, stop, expiry, loss, began)
        finally:
            _cancel_compilations()
        if outcome is None:
            return 1
        processes.part()
        shown = _show(session, outcome) if processes.leads() else True
    if outcome.ending == "interrupted":
        # The signal may have come to another process of this training.
        return 128 + (stop.signal or signal.SIGTERM)
    return 0 if shown else 1


def _show(session: Session[Any, Any], outcome: Outcome[Any]) -> bool:
    """Prints what came out.

    Returns:
      False if a script asked for the result and it could not be printed. Interactively the run is a
      success without it.
    """
    try:
        if session.config.json:
            print(json.dumps(_result(session, outcome)))
        else:
            session.show(outcome)
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


def _is_leader() -> bool:
    """Returns whether this process records, without loading JAX if there is only one process."""
    processes = sys.modules.get("matrixrl.devices.processes")
    return processes is None or processes.leads()


def _reserve(session: Session[Any, Any], start: contextlib.ExitStack) -> Reservation | None:
    """Reserves the name of a new run until `start` is closed; None if a run is resumed."""
    from matrixrl.tracking.run import reserve_run

    tracking: TrackingConfig = session.config.tracking
    if tracking.resume_run is not None:
        return None
    reservation = reserve_run(tracking, session.name_prefix)
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
        lines.append(("trains", session.describe(session.config)))
    lines.append(("folder", str(folder)))
    if tracking.wandb:
        from matrixrl.tracking.run import PROJECTS

        lines.append(("W&B", f"project {tracking.project or PROJECTS[session.system]}"))
    else:
        lines.append(("W&B", "off (--wandb turns it on)"))
    lines.append(("stop", "Ctrl-C: finishes the chunk, saves, and says how to resume"))
    Status(shown=False).line("\n".join(f"{name:<8} {text}" for name, text in lines))


def _cancel_compilations() -> None:
    """Drops compilations that were queued for later."""
    first_calls = sys.modules.get("matrixrl.training.first_calls")
    if first_calls is not None:
        first_calls.cancel_all()


def _result(session: Session[Any, Any], outcome: Outcome[Any]) -> dict[str, Any]:
    run = outcome.run
    return {
        "run_name": run.name,
        "run_id": run.run_id,
        "run_dir": str(run.directory),
        **session.result(outcome),
        "global_step": run.clock.step,
        "seconds": round(outcome.seconds, 3),
        "status": outcome.report.status,
        "pending_rows": outcome.report.pending_rows,
    }


def _attempt(
    session: Session[Any, Any],
    rollbacks: int,
    stop: StopRequest,
    expiry: GraceExpiry,
    loss: ProcessLoss,
    began: float,
    reservation: Reservation | None = None,
) -> Outcome[Any] | Session[Any, Any] | None:
    """Performs one attempt at a run, from opening to closing it.

    Args:
      rollbacks: number of rollbacks of this command so far.
      reservation: reservation of a new run's name.

    Returns:
      The outcome; the session to continue with if training diverged and may roll back; None if it
      failed and the failure was reported.
    """
    config, system = session.config, session.system
    starting = Status(shown=config.tracking.console != "quiet")
    with use(starting), activity("starting JAX"):
        from jax.errors import JaxRuntimeError

        from matrixrl.devices import processes
        from matrixrl.devices.compilation_cache import use_compilation_cache
        from matrixrl.devices.machine import describe_machine
        from matrixrl.tracking.run import open_run
        from matrixrl.tracking.silent import SilentRun
        from matrixrl.training.checkpointing import CheckpointError, Keeper, PartKeeper
        from matrixrl.training.loop import TrainingDivergedError, run_loop

        use_compilation_cache()
        machine = describe_machine()
        settings = {**as_record(config), **machine, **session.about, **session.versions}
        leads, several = processes.leads(), processes.count() > 1
        changes = changes_on_resume(session) if leads else {}
        if session.prepare is not None:
            session.prepare(config)
    if leads and rollbacks == 0 and config.tracking.console != "quiet":
        starting.line(
            f"{'device':<8} {device_line(machine)}, ready after {duration(time.perf_counter() - began)}"
        )
    with contextlib.ExitStack() as files:
        copies = Path(files.enter_context(tempfile.TemporaryDirectory())) if several else Path()
        if leads:
            name = b""
            try:
                run = open_run(
                    config.tracking,
                    system=system,
                    name_prefix=session.name_prefix,
                    run_config=settings,
                    episode_columns=session.columns,
                    reservation=reservation,
                )
                name = run.name.encode()
            finally:
                processes.share(name)
        else:
            told = processes.share(None).decode()
            require(bool(told), "process 0 could not open the run, and says why")
            run = SilentRun(system, told, copies)
        loss.command = expiry.command = resume_command(system, config.tracking, run.name)
        run.on_stop = stop.ask
        files.enter_context(run)
        files.push(partial(_discard_if_refused, run))
        loss.keeper = keeper = Keeper(config.checkpoint, run, settings) if leads else None
        trainer: Any = session.make_trainer(config, run)
        try:
            checkpoint = keeper.resume() if keeper is not None else None
            for name, (old, new) in changes.items():
                run.note(f"changed on resume: {name} from {old} to {new}")
            part_keeper = None
            if several:
                folder = processes.agree_on_folder(run.directory if leads else None)
                checkpoint = _shared(checkpoint, folder, run, copies)
                if folder is not None and not leads:
                    part_keeper = PartKeeper(folder)
            resumed = processes.leaders(int(run.resumed))
            state = trainer.resume(checkpoint) if resumed else trainer.init()
            state, ending = run_loop(
                trainer,
                state,
                run,
                stop,
                keeper,
                agree=processes.agree if several else None,
                part_keeper=part_keeper,
            )
        except OSError as error:
            raise ConfigError(
                f"{run.directory}: {error.strerror or error}; the journal keeps what was recorded. Free some space, or "
                f"name another folder with --runs-dir"
            ) from error
        except TrainingDivergedError as error:
            if keeper is not None:
                with contextlib.suppress(CheckpointError):
                    keeper.settle()  # if it could not be written, the previous one is the last good one
            return _diverged(session, error, rollbacks, run, keeper)
        except CheckpointError as error:
            run.warn(str(error))
            run.finish("crashed")
            complain(f"{error}; free some space, then: {expiry.command}")
            return None
        except (JaxRuntimeError, ValueError) as error:
            if not (several and processes.is_loss(error)):
                raise
            _leave(run, keeper, error, expiry.command)
        finally:
            if keeper is not None:
                keeper.close()
        seconds = time.perf_counter() - began
        run.note(session.summarize(trainer, state, seconds))
        left = config.tracking.finish_seconds
        if stop.seconds_left is not None:
            left = min(left, stop.seconds_left / 2)
        # A run that its time limit ends has done what was asked.
        report = run.finish("finished" if ending == "time limit" else ending, left)
    if ending != "finished" and keeper is not None:
        why = f"--time {config.time} is over: " if ending == "time limit" else ""
        complain(f"{why}stopped at step {run.clock.step:,}, {keeper.where}; continue with: {expiry.command}")
    return Outcome(run, trainer, state, ending, report, seconds)


def _discard_if_refused(run: Run, kind: type[BaseException] | None, *_: object) -> None:
    """Leaves nothing of a run whose start is refused after it was opened."""
    if kind is not None and issubclass(kind, ConfigError):
        run.discard()


def _shared(
    checkpoint: Checkpoint | None, run_folder: Path | None, run: Run, copies: Path
) -> Checkpoint | None:
    """Broadcasts process 0's checkpoint to every process, and sets the clock to its step.

    Args:
      run_folder: that of process 0, if all processes see it; otherwise they receive a copy of the
        checkpoint.
    """
    from matrixrl.checkpoints import format as checkpoint_format
    from matrixrl.devices import processes

    if run_folder is None:
        folder = processes.share_folder(None if checkpoint is None else checkpoint.folder, copies)
    else:
        told = processes.share(b"" if checkpoint is None else str(checkpoint.folder.resolve()).encode())
        folder = Path(told.decode()) if told else None
    if folder is None or checkpoint is not None:
        return checkpoint
    checkpoint = checkpoint_format.read(folder)
    run.restore_clock(checkpoint.step)
    return checkpoint


def _leave(run: Run, keeper: Keeper | None, error: Exception, command: str) -> NoReturn:
    """Ends this process because a peer failed: its part of the state is lost, and no collective can
    complete.
    """
    if keeper is not None:
        from matrixrl.training.checkpointing import CheckpointError

        with contextlib.suppress(CheckpointError):
            keeper.settle()
    text = _lost_text(str(error).strip().splitlines()[0][:160], keeper, command)
    run.warn(text)
    run.finish("crashed", ROLLBACK_SECONDS)
    sys.stdout.flush()
    # Normal interpreter shutdown would wait for the failed peers.
    _exit_at_once(text, 1)


def _diverged(
    session: Session[Any, Any], error: TrainingDivergedError, rollbacks: int, run: Run, keeper: Keeper | None
) -> Session[Any, Any] | None:
    """Closes a diverged attempt; returns the session to roll back with, or None if the run ends
    here.
    """
    from matrixrl.devices import processes

    config = session.config
    where = "" if keeper is None else keeper.where
    rate, allowed = value_at(config, session.learning_rate), config.checkpoint.max_rollbacks
    if rollbacks < allowed:
        lower = rate * config.checkpoint.rollback_learning_rate_factor
        run.warn(
            f"{error}; {where}; going back there with --learning-rate {lower:g} (rollback {rollbacks + 1} of {allowed})"
        )
        # The next attempt uploads the rows that W&B does not have by then.
        run.finish("crashed", min(ROLLBACK_SECONDS, config.tracking.finish_seconds))
        tracking = dataclasses.replace(config.tracking, run_name=None, run_suffix=None, resume_run=run.name)
        config = with_value(dataclasses.replace(config, tracking=tracking), session.learning_rate, lower)
        return dataclasses.replace(session, config=config)
    command = resume_command(session.system, config.tracking, run.name, "--learning-rate", f"{rate / 2:g}")
    text = f"{error}; {where}; go on from there with: {command}"
    run.warn(text)
    run.finish("crashed")
    if keeper is not None:
        complain(text)
    processes.part()  # all processes saw the same metric
    return None


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
