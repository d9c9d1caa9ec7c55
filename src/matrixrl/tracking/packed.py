"""A run's journal in transit: with a checkpoint, it is all that another machine needs to resume.

A packed journal is a folder with the compressed journal, and the small files of the run folder that
belong to it.
"""

from __future__ import annotations

import gzip
import shutil
import zlib
from pathlib import Path
from typing import Any

from matrixrl.tracking.delivery_state import OLD_STATE_FILE, SINKS_FOLDER, STATE_FILE
from matrixrl.tracking.files import sha256_of
from matrixrl.tracking.identity import RUN_FILE
from matrixrl.tracking.journal import JOURNAL_FILE, JournalError
from matrixrl.tracking.journal_reader import JournalReader

PACKED_FOLDER = "packed"
PACKED_JOURNAL = f"{JOURNAL_FILE}.gz"
SMALL_FILES = (RUN_FILE, OLD_STATE_FILE, f"{SINKS_FOLDER}/*/{STATE_FILE}")


def pack_journal(reader: JournalReader, folder: Path) -> dict[str, Any]:
    """Packs a journal that may be being written, without holding up its writer.

    Args:
        folder: replaced.

    Returns:
        Metadata: run, run_id, system, the last `step` that it holds, sha256 of the journal.

    Raises:
        JournalError: the journal is damaged.
        OSError: the folder cannot be written.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    whole = folder / JOURNAL_FILE
    reader.copy_to(whole)
    with JournalReader(folder) as copy:
        step = max([copy.last_step(), *(record.step for record in copy.files())])
        meta = copy.meta
    for side in ("-wal", "-shm"):
        (folder / f"{JOURNAL_FILE}{side}").unlink(missing_ok=True)
    digest, _ = sha256_of(whole)
    # The lowest level: the table of episodes shrinks to a fifth, and no core is busy for long.
    with whole.open("rb") as source, gzip.open(folder / PACKED_JOURNAL, "wb", compresslevel=1) as target:
        shutil.copyfileobj(source, target, 1 << 20)
    whole.unlink()
    _copy_small_files(reader.directory, folder)
    return {
        "run": meta["name"],
        "run_id": meta["run_id"],
        "system": meta["system"],
        "step": step,
        "sha256": digest,
    }


def unpack_journal(folder: Path, target: Path, sha256: str) -> None:
    """Unpacks a journal into a run folder.

    Args:
        sha256: of the journal, from `pack_journal`.

    Raises:
        JournalError: it is not what was packed.
        OSError: the run folder cannot be written.
    """
    path = target / JOURNAL_FILE
    try:
        with gzip.open(folder / PACKED_JOURNAL) as source, path.open("wb") as whole:
            shutil.copyfileobj(source, whole, 1 << 20)
    except (gzip.BadGzipFile, EOFError, zlib.error, FileNotFoundError) as error:
        raise JournalError(f"{folder / PACKED_JOURNAL}: cannot be unpacked ({error})") from error
    if sha256_of(path)[0] != sha256:
        raise JournalError(f"{path}: the bytes are not those that were packed")
    _copy_small_files(folder, target)


def _copy_small_files(source: Path, target: Path) -> None:
    for pattern in SMALL_FILES:
        for path in source.glob(pattern):
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
