"""Schedule of checkpoints: connects the loop, the checkpoint store and the journal."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from matrixrl.checkpoints import format as checkpoint_format
from matrixrl.checkpoints.format import Checkpoint, Snapshot
from matrixrl.checkpoints.store import CheckpointStore, Failed, Saved, failure_reason
from matrixrl.config import CheckpointConfig, ConfigError
from matrixrl.devices.coordinator import SINGLE, Coordinator
from matrixrl.run_layout import CHECKPOINTS_FOLDER
from matrixrl.tracking.clock import Tick
from matrixrl.tracking.events import FileRow
from matrixrl.tracking.files import sha256_of
from matrixrl.tracking.recorder import Recorder


class CheckpointError(RuntimeError):
    """A checkpoint could not be written, and the run is configured to stop. The message is one
    line.
    """


class Checkpoints(Protocol):
    """Interface of checkpointing to the loop: a `CheckpointManager`, or its follower."""

    def due(self) -> bool:
        """Returns true if the state should be saved before the next chunk."""
        ...

    def save(self, snapshot: Snapshot, held_since: float) -> None:
        """Starts to write a snapshot in parallel to training."""
        ...

    def save_last(self, snapshot: Snapshot, held_since: float, wait_seconds: float | None = None) -> None:
        """Saves the final state of a run, and waits until it is written."""
        ...


class CheckpointFollower:
    """Counterpart of the leader's `CheckpointManager` on the other processes.

    It participates in the checkpoints that the leader wants: it writes its own shards on shared
    storage, or contributes them to the leader's arrays. The leader reports failures to write.

    Args:
      coordinator: of this process.
      shared_folder: the leader's run folder, if all processes see it.
    """

    def __init__(self, coordinator: Coordinator, shared_folder: Path | None) -> None:
        self._coordinator = coordinator
        self._store = None if shared_folder is None else CheckpointStore(shared_folder)

    def due(self) -> bool:
        """Returns false: the leader decides."""
        return False

    def save(self, snapshot: Snapshot, held_since: float) -> None:
        """Participates in a checkpoint, if the leader wants it."""
        if not self._coordinator.broadcast(0):
            return
        if self._store is None:
            checkpoint_format.gather(snapshot, self._coordinator)
            return
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            checkpoint_format.write_together(self._store.shared_draft(snapshot.step), snapshot)

    def save_last(self, snapshot: Snapshot, held_since: float, wait_seconds: float | None = None) -> None:
        """Participates in the final checkpoint."""
        self.save(snapshot, held_since)


class CheckpointManager:
    """Saves a run at intervals, notes it in the journal, and finds where a resumed run continues.

    Call it only between two chunks, when every started chunk is recorded.

    Args:
      config: schedule and retention.
      run: the open run; its clock is saved with the state.
      settings: the run's config as JSON values, written into every checkpoint.
      coordinator: of the processes that train the run.
      uses_shared_storage: whether all processes write their own shards to the run folder. Otherwise
        this one gathers the arrays.
    """

    def __init__(
        self,
        config: CheckpointConfig,
        run: Recorder,
        settings: Mapping[str, Any],
        coordinator: Coordinator = SINGLE,
        uses_shared_storage: bool = False,
    ) -> None:
        self._config = config
        self._run = run
        self._coordinator = coordinator
        self._uses_shared_storage = uses_shared_storage
        about = {"run": run.name, "run_id": run.run_id, "system": run.system, "config": dict(settings)}
        self._store = CheckpointStore(
            run.directory, about, keep_last=config.keep_last, keep_best=config.keep_best
        )
        self._chunks = -1  # the first call precedes the first chunk
        self._saved_at = time.monotonic()
        # For the checkpoint that is being written: its tick, and the seconds that training was
        # paused for it.
        self._tick: Tick | None = None
        self._held_seconds = 0.0
        self.last_step: int | None = None

    def resume(self) -> Checkpoint | None:
        """Finds where this run continues: sets the clock, reports skipped checkpoints, and prepares
        the folder.

        Returns:
          The newest complete checkpoint; None for a run that starts, or restarts, at step 0.

        Raises:
          ConfigError: if a checkpoint has another format version, or the folder cannot be written.
        """
        try:
            self._store.begin()
            checkpoint, skipped = self._store.newest()
            self._store.set_aside(0 if checkpoint is None else checkpoint.step)
        except OSError as error:
            raise ConfigError(
                f"{self._store.folder}: {error.strerror}; checkpoints cannot be kept here"
            ) from error
        if not self._run.resumed:
            return None
        step = 0 if checkpoint is None else checkpoint.step
        where = f"step {step}" if checkpoint else "the beginning (there is no whole checkpoint)"
        self._run.restore_clock(step, 0 if checkpoint is None else checkpoint.recorded_until)
        if skipped:
            self._run.warn(f"{'; '.join(skipped)}: the run resumes from {where}; set aside as damaged-<step>")
        self._run.note(f"resumed {self._run.name} at {where}, attempt {self._run.attempt}")
        if checkpoint is not None:
            self.last_step = step
            self._note_if_unrecorded(checkpoint)
        return checkpoint

    def _note_if_unrecorded(self, checkpoint: Checkpoint) -> None:
        """Notes a checkpoint in the journal, once, if the run was killed between writing and noting
        it.
        """
        self._record(Saved(checkpoint.step, checkpoint.folder, is_best=False), self._run.clock.now(), 0.0)

    def due(self) -> bool:
        """Returns true if the state should be saved before the next chunk. The loop calls it once
        per chunk.

        Raises:
          CheckpointError: if the last one could not be written and the run is configured to stop.
        """
        self._chunks += 1
        every, interval = self._config.save_interval_chunks, self._config.save_interval
        if every is not None:
            if self._chunks < every:
                self._collect(0.0)
                return False
            self._collect(None)  # requested by chunk number: wait for the previous one
            return True
        self._collect(0.0)
        if self._store.busy:
            return False
        return interval > 0 and time.monotonic() - self._saved_at >= interval

    def save(self, snapshot: Snapshot, held_since: float) -> None:
        """Starts to write a snapshot in parallel to training.

        Args:
          held_since: `time.perf_counter()` when training was paused for it.
        """
        self._chunks, self._saved_at = 0, time.monotonic()
        wanted = snapshot.step != self.last_step and not self._store.busy
        shared_draft = None
        if wanted and self._uses_shared_storage:
            shared_draft = self._store.shared_draft(snapshot.step)
        failed = _prepare_folder(shared_draft, snapshot.step)
        wanted = bool(self._coordinator.broadcast(int(wanted and failed is None)))
        if wanted and shared_draft is not None:
            failed = _write_together(shared_draft, snapshot)
        elif wanted:
            snapshot = checkpoint_format.gather(snapshot, self._coordinator)
        if failed is not None:
            self._report_failure(failed)
        elif wanted:
            self._tick = self._run.clock.now()
            self._store.start(
                dataclasses.replace(snapshot, recorded_until=self._run.recorded_until), shared_draft
            )
            self._held_seconds = time.perf_counter() - held_since

    def save_last(self, snapshot: Snapshot, held_since: float, wait_seconds: float | None = None) -> None:
        """Saves the final state of a run, and waits until it is written, at most `wait_seconds`.

        Raises:
          CheckpointError: if it could not be written and the run is configured to stop.
        """
        began = time.monotonic()
        self._collect(wait_seconds)
        self.save(snapshot, held_since)
        left = None if wait_seconds is None else max(0.0, wait_seconds - (time.monotonic() - began))
        self._collect(left)

    def wait(self) -> None:
        """Waits for the checkpoint that is being written, if there is one, and notes it."""
        self._collect(None)

    def close(self) -> None:
        """Releases the writing thread."""
        self._store.close()

    def _collect(self, wait_seconds: float | None) -> None:
        """Notes the checkpoint that was being written, once it is."""
        result = self._store.collect(wait_seconds)
        if result is None:
            return
        assert self._tick is not None
        if isinstance(result, Saved):
            self.last_step = result.step
            self._record(result, self._tick, self._held_seconds)
            return
        self._report_failure(result)

    def _record(self, saved: Saved, tick: Tick, seconds: float) -> None:
        digest, size = sha256_of(saved.folder)
        name = saved.folder.relative_to(self._run.directory).as_posix()
        aliases = ("best",) if saved.is_best else ()
        self._run.record([FileRow(tick, "checkpoint", name, digest, size, seconds, aliases)])

    def _report_failure(self, failed: Failed) -> None:
        kept = "there is none before it"
        if self.last_step is not None:
            kept = f"the one at step {self.last_step} stays good"
        text = f"the checkpoint at step {failed.step} could not be written ({failed.reason}): {kept}"
        if self._config.failed_checkpoint == "stop":
            raise CheckpointError(f"{text}; stopped as --failed-checkpoint asks")
        self._run.warn(f"{text}; training continues")

    @property
    def where(self) -> str:
        """The last good checkpoint in words."""
        if self.last_step is None:
            return "no checkpoint was written yet"
        return f"the last good checkpoint is {CHECKPOINTS_FOLDER}/{self.last_step} (step {self.last_step})"


def _prepare_folder(draft: Path | None, step: int) -> Failed | None:
    """Creates the empty folder in which all processes write; returns why that failed."""
    if draft is None:
        return None
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
    except OSError as error:
        return Failed(step, failure_reason(error))
    return None


def _write_together(draft: Path, snapshot: Snapshot) -> Failed | None:
    """Lets all processes write their shards of a snapshot; returns why that failed."""
    try:
        checkpoint_format.write_together(draft, snapshot)
    except (OSError, ValueError, RuntimeError) as error:
        shutil.rmtree(draft, ignore_errors=True)
        return Failed(snapshot.step, failure_reason(error))
    return None
