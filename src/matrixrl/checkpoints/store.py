"""The checkpoints of a run: written by a thread beside training, pruned, and found again."""

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

CHECKPOINTS_FOLDER = "checkpoints"
DRAFT = ".draft-"
REPLACED = ".replaced-"
DAMAGED = "damaged-"


@dataclass(frozen=True)
class Saved:
    """A checkpoint became visible.

    Attributes:
      step: where the clock stood.
      folder: where it lies.
      is_best: it is the best one there is.
    """

    step: int
    folder: Path
    is_best: bool


@dataclass(frozen=True)
class Failed:
    """A checkpoint could not be written; those before it are as they were."""

    step: int
    reason: str


class CheckpointStore:
    """One folder of checkpoints, `checkpoints/<step>/`, and its one writer.

    Args:
      run_directory: the run folder.
      about: what every `checkpoint.json` says besides: run, system, config.
      keep_last: newest checkpoints that stay.
      keep_best: checkpoints with the highest scores that stay besides; of equal scores the newest.
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
        self._size_bytes = 0  # of the last one that was written here
        self._writer: ThreadPoolExecutor | None = None
        self._pending: Future[Saved | Failed] | None = None

    # ---- finding ----

    def steps(self) -> list[int]:
        """Steps of the checkpoints there are, ascending; nothing is said about their bytes."""
        if not self.folder.is_dir():
            return []
        return sorted(int(entry.name) for entry in self.folder.iterdir() if entry.name.isdecimal())

    def newest(self) -> tuple[Checkpoint | None, list[str]]:
        """The newest checkpoint that is whole, and a line about each damaged one that was passed over.

        Changes nothing on the disk.

        Raises:
          ConfigError: the newest whole one has a format version that cannot be read.
        """
        skipped: list[str] = []
        for step in reversed(self.steps()):
            try:
                return checkpoint_format.read(self.folder / str(step)), skipped
            except DamagedCheckpointError as error:
                skipped.append(f"the checkpoint at step {step} is damaged ({error})")
        return None, skipped

    def at(self, step: int) -> Checkpoint:
        """The checkpoint of a step.

        Raises:
          ConfigError: there is none, it is damaged, or it has a format version that cannot be read.
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
        """The whole checkpoint of the highest score, of equal ones the newest, and a line about each damaged one.

        Raises:
          ConfigError: a whole one has a format version that cannot be read.
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
        """Make the folder ready for this process to write: what a killed writer left is cleared away.

        Raises:
          OSError: the folder cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for entry in list(self.folder.iterdir()):
            name = entry.name.removeprefix(REPLACED)
            if name != entry.name and not (self.folder / name).exists():
                entry.rename(self.folder / name)
            elif entry.name.startswith((DRAFT, REPLACED)):
                shutil.rmtree(entry)

    def set_aside(self, after: int) -> None:
        """Rename checkpoints of later steps, which were found damaged, to `damaged-<step>`.

        Args:
          after: the step that the run goes on from.

        Raises:
          OSError: the folder cannot be written.
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
        """Whether a checkpoint is being written, or was written and not yet collected."""
        return self._pending is not None

    def start(self, snapshot: Snapshot, together: Path | None = None) -> None:
        """Begin to write a checkpoint in another thread.

        Args:
          together: a folder from `draft_for_all`, where all processes wrote the arrays already.

        Raises:
          RuntimeError: the one before was not collected.
        """
        if self._pending is not None:
            raise RuntimeError("a checkpoint is still being written: collect it first")
        if self._writer is None:
            self._writer = ThreadPoolExecutor(1, "checkpoint")
        self._pending = self._writer.submit(self._write, snapshot, together)

    def collect(self, wait_seconds: float | None = 0.0) -> Saved | Failed | None:
        """What became of the checkpoint that was begun, or None while there is nothing to tell.

        Args:
          wait_seconds: wait at most so long for it; None waits until it is written.
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
        """Let the writing thread end; a checkpoint that is being written is finished by it."""
        if self._writer is not None:
            self._writer.shutdown(wait=False)
            self._writer = None

    def draft_for_all(self, step: int) -> Path:
        """Where all processes write the arrays of the checkpoint of a step; `begin` clears it away if it stays one."""
        return self.folder / f"{DRAFT}{step}-together"

    def _write(self, snapshot: Snapshot, together: Path | None) -> Saved | Failed:
        step = snapshot.step
        draft = together or self.folder / f"{DRAFT}{step}-{os.getpid()}-{time.monotonic_ns()}"
        target, replaced = self.folder / str(step), self.folder / f"{REPLACED}{step}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._require_room()
            checkpoint_format.write(draft, snapshot, self._about)
            if target.exists():
                target.rename(replaced)
            draft.rename(target)
            checkpoint_format.force(self.folder)
        # orbax says ValueError or RuntimeError when a file cannot be written.
        except (OSError, ValueError, RuntimeError) as error:
            shutil.rmtree(draft, ignore_errors=True)
            if replaced.exists() and not target.exists():
                replaced.rename(target)
            return Failed(step, one_line(error))
        shutil.rmtree(replaced, ignore_errors=True)
        self._size_bytes = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
        self._scores[step] = snapshot.score
        self._prune()
        return Saved(step, target, is_best=self._best(1) == [step])

    def _require_room(self) -> None:
        """A checkpoint that cannot fit must not take the last bytes of the disk from the journal, which stops the run.

        Raises:
          OSError: there is less room than one like the last one takes, and a quarter.
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
            # Renamed first: a checkpoint that is half deleted must not be taken for a damaged one.
            doomed = self.folder / f"{DRAFT}{step}-pruned"
            try:
                (self.folder / str(step)).rename(doomed)
            except OSError:
                continue  # it is tried again after the next checkpoint
            shutil.rmtree(doomed, ignore_errors=True)
            del self._scores[step]


def one_line(error: Exception) -> str:
    """Why a checkpoint could not be written."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    # What tensorstore says is long, and has the operating system's reason at its end.
    if code := re.search(r"os_error_code='(\d+)'", str(error)):
        return os.strerror(int(code[1]))
    text = str(error).strip().splitlines()
    return text[0][:300] if text else type(error).__name__
