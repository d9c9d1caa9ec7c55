"""Copies a run folder to another folder, such as a mounted drive, also while the run is written."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from matrixrl.config import ConfigError, require
from matrixrl.run_layout import CHECKPOINTS_FOLDER, MANIFEST_FILE
from matrixrl.tracking.delivery_state import OLD_LOCK_FILE, SINK_LOCK_FILE, SINKS_FOLDER
from matrixrl.tracking.identity import LOCK_FILE, read_run_file
from matrixrl.tracking.journal import JOURNAL_FILE
from matrixrl.tracking.journal_reader import JournalReader
from matrixrl.tracking.locks import OWNER_SUFFIX
from matrixrl.tracking.packed import PACKED_FOLDER
from matrixrl.tracking.summary import SUMMARY_FILE
from matrixrl.whole_files import whole_file

SIDE_FILES = (f"{JOURNAL_FILE}-wal", f"{JOURNAL_FILE}-shm")
OF_THE_PROCESS = {
    *(f"{name}{suffix}" for name in (LOCK_FILE, OLD_LOCK_FILE) for suffix in ("", OWNER_SUFFIX)),
    PACKED_FOLDER,
    SUMMARY_FILE,
    *SIDE_FILES,
}
"""Files of the processes that write a run, which are not copied."""

OF_A_DELIVERY = {SINK_LOCK_FILE, f"{SINK_LOCK_FILE}{OWNER_SUFFIX}", PACKED_FOLDER}
"""Files of a delivery process in its sink's folder, which are not copied."""


@dataclass(frozen=True)
class Copied:
    """A copy that can be resumed.

    Attributes:
        directory: the copy.
        step: of its newest checkpoint; None where there is none yet.
        recorded_until: the last step of its journal.
        new_checkpoints: number of checkpoints that were copied; existing ones are not copied again.
    """

    directory: Path
    step: int | None
    recorded_until: int
    new_checkpoints: int


def copy_run(directory: Path, to: Path) -> Copied:
    """Copies a run folder to `to/<its name>`, or updates an earlier copy of it. Does not block
    the writer of the run.

    Every file of the copy is the old one or the new one, never a part. Recording continues
    while files are copied, so the journal comes last: it reaches at least as far as each checkpoint
    and each line of the transcript.

    Args:
        to: a folder, made if its parent exists: a drive that is not mounted must not become a local
            folder.

    Raises:
        ConfigError: `to` cannot be written, holds the run itself, or a copy of another run of this
            name.
        JournalError: the journal is damaged.
    """
    target = to / directory.name
    flag = f"--to {to}"
    require(
        not to.resolve().is_relative_to(directory.resolve()) and target.resolve() != directory.resolve(),
        f"{flag}: the run itself is stored there; name another folder",
    )
    require(to.parent.is_dir(), f"{flag}: there is no folder {to.parent}; is the drive mounted?")
    earlier, own = read_run_file(target), read_run_file(directory)
    who = ("identity", "created")
    if earlier is not None and own is not None and any(earlier.get(key) != own.get(key) for key in who):
        raise ConfigError(
            f"{flag}: {target} is a copy of another run of this name; move it away, or name another folder"
        )
    try:
        to.mkdir(exist_ok=True)
        if earlier is not None:
            return _update(directory, target, target)
        with tempfile.TemporaryDirectory(prefix=f".copy-{os.getpid()}-", dir=to) as hidden:
            draft = Path(hidden) / directory.name
            draft.mkdir()
            copied = _update(directory, draft, target)
            draft.rename(target)
        return copied
    except OSError as error:
        raise ConfigError(
            f"{flag}: {error.strerror or error}; name a folder that this user can write to"
        ) from error


def _update(directory: Path, copy: Path, shown: Path) -> Copied:
    for path in _small_files(directory):
        _copy_file(path, copy / path.relative_to(directory))
    steps = _steps(directory)
    new = sum(_copy_checkpoint(directory / CHECKPOINTS_FOLDER / str(step), copy) for step in steps)
    recorded_until = _copy_journal(directory, copy)
    for step in set(_steps(copy)) - set(steps):
        shutil.rmtree(copy / CHECKPOINTS_FOLDER / str(step))
    return Copied(shown, max(_steps(copy), default=None), recorded_until, new)


def _steps(directory: Path) -> list[int]:
    folder = directory / CHECKPOINTS_FOLDER
    if not folder.is_dir():
        return []
    return sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isdecimal())


def _small_files(directory: Path) -> Iterator[Path]:
    """Yields all files but journal, checkpoints and drafts; links are left out."""
    for folder, folders, files in os.walk(directory):
        left_out = set[str]()
        if Path(folder) == directory:
            left_out = {*OF_THE_PROCESS, JOURNAL_FILE, CHECKPOINTS_FOLDER}
        elif Path(folder).parent == directory / SINKS_FOLDER:
            left_out = OF_A_DELIVERY
        folders[:] = [name for name in folders if name not in left_out and not name.startswith(".")]
        for name in files:
            path = Path(folder) / name
            if name not in left_out and not name.startswith(".") and not path.is_symlink():
                yield path


def _copy_file(source: Path, target: Path) -> None:
    """Copies one file, whole and then renamed, unless it is there already."""
    try:
        there, here = (target.stat() if target.exists() else None), source.stat()
        if there and (there.st_size, there.st_mtime_ns) == (here.st_size, here.st_mtime_ns):
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(target) as draft:
            shutil.copy2(source, draft)
    except FileNotFoundError:
        if source.exists():
            raise  # else its writer took it away meanwhile


def _copy_checkpoint(source: Path, copy: Path) -> bool:
    """Copies one checkpoint, whole and then renamed. Returns false if it exists already, or was
    pruned meanwhile."""
    target = copy / CHECKPOINTS_FOLDER / source.name
    try:
        # Of one step there can be another one: a run that goes back to a checkpoint passes a step
        # again.
        manifest = (source / MANIFEST_FILE).read_bytes()
        if (target / MANIFEST_FILE).exists() and (target / MANIFEST_FILE).read_bytes() == manifest:
            return False
        target.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".copy-", dir=target.parent) as hidden:
            draft = Path(hidden) / source.name
            shutil.copytree(source, draft)
            if target.exists():
                shutil.rmtree(target)
            draft.rename(target)
    except (FileNotFoundError, shutil.Error):
        if (source / MANIFEST_FILE).exists():
            raise
        return False
    return True


def _copy_journal(directory: Path, copy: Path) -> int:
    """Copies the journal by way of the local disk, because SQLite must not write to a drive.
    Returns the last step of the copy."""
    with tempfile.TemporaryDirectory(prefix="matrixrl-") as local:
        with JournalReader(directory) as reader:
            reader.copy_to(Path(local) / JOURNAL_FILE)
        with JournalReader(Path(local)) as reader:
            last = reader.last_step()
        for name in (*SIDE_FILES, SUMMARY_FILE):
            (copy / name).unlink(missing_ok=True)  # of a process that once opened the copy
        _copy_file(Path(local) / JOURNAL_FILE, copy / JOURNAL_FILE)
    return last
