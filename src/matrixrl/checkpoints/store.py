"""Checkpoints of a run: written by a background thread, pruned, and located."""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matrixrl.checkpoints import format as checkpoint_format
from matrixrl.checkpoints.format import Checkpoint, DamagedCheckpointError, Snapshot
from matrixrl.config import ConfigError
from matrixrl.errors import first_line
from matrixrl.run_layout import CHECKPOINTS_FOLDER
from matrixrl.whole_files import sync

DRAFT = ".draft-"
REPLACED = ".replaced-"
DAMAGED = "damaged-"


@dataclass(frozen=True)
class Saved:
    """Event: a checkpoint became visible.

    Attributes:
      step: value of the clock.
      folder: where it is stored.
      is_best: true if it is the best one.
    """

    step: int
    folder: Path
    is_best: bool


@dataclass(frozen=True)
class Failed:
    """Event: a checkpoint could not be written; the earlier ones are unchanged."""

    step: int
    reason: str


class CheckpointStore:
    """One folder of checkpoints, `checkpoints/<step>/`, with a single writer.

    Args:
      run_directory: the run folder.
      about: further entries of every `checkpoint.json`: run, system, config.
      keep_last: number of newest checkpoints to keep.
      keep_best: number of checkpoints with the highest scores to keep in addition; of equal scores
        the newest.
    """

    def __init__(
        self,
        run_directory: Path,
        about: Mapping[str, Any] | None = None,
        *,
        keep_last: int = 3,
        keep_best: int = 1,
    ) -> None:
        self.folder = run_directory / CHECKPOINTS_FOLDER
        self._about = dict(about or {})
        self._keep_last = keep_last
        self._keep_best = keep_best
        self._scores: dict[int, float | None] = {}
        self._size_bytes = 0  # size of the last checkpoint written here
        self._writer: ThreadPoolExecutor | None = None
        self._pending: Future[Saved | Failed] | None = None

    # ---- finding ----

    def steps(self) -> list[int]:
        """Returns the steps of the existing checkpoints, ascending; does not validate their
        bytes.
        """
        if not self.folder.is_dir():
            return []
        return sorted(int(entry.name) for entry in self.folder.iterdir() if entry.name.isdecimal())

    def newest(self) -> tuple[Checkpoint | None, list[str]]:
        """Returns the newest complete checkpoint, and a line about each damaged one that was
        skipped.

        Changes nothing on the disk.

        Raises:
          ConfigError: if the newest complete one has an unsupported format version.
        """
        skipped: list[str] = []
        for step in reversed(self.steps()):
            try:
                return checkpoint_format.read(self.folder / str(step)), skipped
            except DamagedCheckpointError as error:
                skipped.append(f"the checkpoint at step {step} is damaged ({error})")
        return None, skipped

    def at(self, step: int) -> Checkpoint:
        """Returns the checkpoint of a step.

        Raises:
          ConfigError: if there is none, it is damaged, or it has an unsupported format version.
        """
        if step not in self.steps():
            there = ", ".join(map(str, self.steps())) or "none"
            raise ConfigError(f"{self.folder}: there is no checkpoint of step {step}; there are: {there}")
        try:
            return checkpoint_format.read(self.folder / str(step))
        except DamagedCheckpointError as error:
            raise ConfigError(
                f"{self.folder}: the checkpoint at step {step} is damaged ({error}); name another step"
            ) from error

    def best(self) -> tuple[Checkpoint | None, list[str]]:
        """Returns the complete checkpoint of the highest score, of equal ones the newest, and a
        line about each damaged one.

        Raises:
          ConfigError: if a complete one has an unsupported format version.
        """
        skipped: list[str] = []
        best: Checkpoint | None = None
        for step in reversed(self.steps()):
            try:
                found = checkpoint_format.read(self.folder / str(step))
            except DamagedCheckpointError as error:
                skipped.append(f"the checkpoint at step {step} is damaged ({error})")
                continue
            if best is None or (found.score is not None and (best.score is None or found.score > best.score)):
                best = found
        return best, skipped

    def begin(self) -> None:
        """Prepares the folder for writing by this process: removes partial files of a killed
        writer.

        Raises:
          OSError: if the folder cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for entry in list(self.folder.iterdir()):
            name = entry.name.removeprefix(REPLACED)
            if name != entry.name and not (self.folder / name).exists():
                entry.rename(self.folder / name)
            elif entry.name.startswith((DRAFT, REPLACED)):
                shutil.rmtree(entry)

    def set_aside(self, after: int) -> None:
        """Renames checkpoints of later steps, which were found damaged, to `damaged-<step>`.

        Args:
          after: the step from which the run resumes.

        Raises:
          OSError: if the folder cannot be written.
        """
        for step in [found for found in self.steps() if found > after]:
            aside = self.folder / f"{DAMAGED}{step}"
            shutil.rmtree(aside, ignore_errors=True)
            (self.folder / str(step)).rename(aside)
        self._scores = {}
        for step in self.steps():
            try:
                self._scores[step] = checkpoint_format.read(self.folder / str(step)).score
            except (DamagedCheckpointError, ConfigError):
                self._scores[step] = None

    # ---- writing ----

    @property
    def busy(self) -> bool:
        """True while a checkpoint is being written, or is written and not yet collected."""
        return self._pending is not None

    def start(self, snapshot: Snapshot, shared_draft: Path | None = None) -> None:
        """Starts to write a checkpoint in another thread.

        Args:
          shared_draft: the folder in which all processes have written the arrays.

        Raises:
          RuntimeError: if the previous one was not collected.
        """
        if self._pending is not None:
            raise RuntimeError("a checkpoint is still being written: collect it first")
        if self._writer is None:
            self._writer = ThreadPoolExecutor(1, "checkpoint")
        self._pending = self._writer.submit(self._write, snapshot, shared_draft)

    def collect(self, wait_seconds: float | None = 0.0) -> Saved | Failed | None:
        """Returns the outcome of the checkpoint that was started, or None while it is still being
        written.

        Args:
          wait_seconds: maximum time in seconds to wait; None waits until it is written.
        """
        if self._pending is None:
            return None
        try:
            result = self._pending.result(timeout=wait_seconds)
        except TimeoutError:
            return None
        self._pending = None
        return result

    def close(self) -> None:
        """Stops the writing thread after it finishes the checkpoint that is being written."""
        if self._writer is not None:
            self._writer.shutdown(wait=False)
            self._writer = None

    def shared_draft(self, step: int) -> Path:
        """Returns the folder in which all processes write the arrays of a step's checkpoint;
        `begin` removes it if it stays a draft.
        """
        return self.folder / f"{DRAFT}{step}-together"

    def _write(self, snapshot: Snapshot, shared_draft: Path | None) -> Saved | Failed:
        step = snapshot.step
        draft = shared_draft or self.folder / f"{DRAFT}{step}-{os.getpid()}-{time.monotonic_ns()}"
        target, replaced = self.folder / str(step), self.folder / f"{REPLACED}{step}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._require_room()
            checkpoint_format.write(draft, snapshot, self._about)
            if target.exists():
                target.rename(replaced)
            draft.rename(target)
            sync(self.folder)
        # orbax raises ValueError or RuntimeError when a file cannot be written.
        except (OSError, ValueError, RuntimeError) as error:
            shutil.rmtree(draft, ignore_errors=True)
            if replaced.exists() and not target.exists():
                replaced.rename(target)
            return Failed(step, failure_reason(error))
        shutil.rmtree(replaced, ignore_errors=True)
        self._size_bytes = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
        self._scores[step] = snapshot.score
        self._prune()
        return Saved(step, target, is_best=self._best(1) == [step])

    def _require_room(self) -> None:
        """Checks the free space: a checkpoint that cannot fit must not take the last bytes from the
        journal, which stops the run.

        Raises:
          OSError: if less space is free than 1.25 times the size of the last checkpoint.
        """
        free = shutil.disk_usage(self.folder).free
        if free < self._size_bytes * 5 // 4:
            text = f"{os.strerror(errno.ENOSPC)}: {free / 1e6:.1f} MB are free, the last one took {self._size_bytes / 1e6:.1f}"
            raise OSError(errno.ENOSPC, text)

    def _best(self, count: int) -> list[int]:
        scored = [(score, step) for step, score in self._scores.items() if score is not None]
        return [step for _, step in sorted(scored, reverse=True)[:count]]

    def _prune(self) -> None:
        kept = {*sorted(self._scores)[-self._keep_last :], *self._best(self._keep_best)}
        for step in [found for found in self._scores if found not in kept]:
            # Rename first, so that a partly deleted checkpoint is not mistaken for a damaged one.
            doomed = self.folder / f"{DRAFT}{step}-pruned"
            try:
                (self.folder / str(step)).rename(doomed)
            except OSError:
                continue  # retried after the next checkpoint
            shutil.rmtree(doomed, ignore_errors=True)
            del self._scores[step]


def failure_reason(error: Exception) -> str:
    """Returns one line that states why a checkpoint could not be written."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    # Messages of tensorstore are long and end with the operating system's reason.
    if code := re.search(r"os_error_code='(\d+)'", str(error)):
        return os.strerror(int(code[1]))
    return first_line(error, 300)
