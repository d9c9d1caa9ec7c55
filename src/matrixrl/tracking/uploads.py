"""Uploads of a delivery process: checkpoints, other files, copies of the journal, whole episode
tables.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from matrixrl.tracking.delivery_state import DeliveryState
from matrixrl.tracking.files import sha256_of
from matrixrl.tracking.journal import JournalError
from matrixrl.tracking.journal_reader import FileRecord, JournalReader
from matrixrl.tracking.packed import PACKED_FOLDER, pack_journal
from matrixrl.tracking.parquet import HISTORY_FOLDER, has_pyarrow, write_episode_parts
from matrixrl.tracking.sinks.base import Sink, Upload, UploadItem

HISTORY_SECONDS = 600.0
"""Interval between two uploads of a long episode table as Parquet; one more follows at the end."""

JOURNAL_SECONDS = 60.0
"""Minimum interval between two uploads of the journal while the run is active."""

JOURNAL_SHARE = 0.05
"""Maximum share of the time that making and uploading copies of the journal takes."""


class UploadLimits(Protocol):
    """Limits of a delivery process.

    Attributes:
        finishing: whether training has ended.
        seconds_left: time until the deadline; infinite while training continues.
    """

    @property
    def finishing(self) -> bool:
        """Whether training has ended."""
        ...

    @property
    def seconds_left(self) -> float:
        """Time in seconds until the deadline."""
        ...


class Uploader:
    """Uploads what an opened sink takes and does not have yet, and prunes old checkpoints.

    Args:
        save: writes the state file.
        notify: shows a message to the user, with its level.
    """

    def __init__(
        self,
        sink: Sink,
        reader: JournalReader,
        state: DeliveryState,
        folder: Path,
        keep: int,
        limits: UploadLimits,
        save: Callable[[], None],
        notify: Callable[[str, str], None],
    ) -> None:
        self._sink = sink
        self._reader = reader
        self._state = state
        self._folder = folder
        self._keep = keep
        self._limits = limits
        self._save = save
        self._notify = notify
        self._files: list[tuple[FileRecord, Upload]] = []
        self._history: tuple[int, Upload] | None = None
        self._journal: tuple[str, float, Upload] | None = None
        self._next_history = 0.0
        self._next_journal = 0.0
        self._seen: set[tuple[str, str]] = set()

    @property
    def is_busy(self) -> bool:
        """Whether an upload has not ended."""
        return bool(self._files or self._history or self._journal)

    def start(self, *, with_files: bool) -> None:
        """Starts the uploads that are due.

        Args:
            with_files: also those of checkpoints, other files and the journal.
        """
        takes = self._sink.uploads
        if with_files and "journal" in takes:
            self._start_journal()
        for record in self._reader.files() if with_files and takes else ():
            if record.kind in takes:
                self._start_file(record)
        if "episode_history" in self._sink.uploads:
            self._start_history()

    def poll(self, seconds: float) -> None:
        """Records the uploads that have ended, waiting at most `seconds` for each."""
        waiting = []
        for record, upload in self._files:
            if not self._done(upload, seconds):
                waiting.append((record, upload))
            elif upload.full_name is not None:
                self._state.artifacts[record.path] = {
                    "sha256": record.sha256,
                    "name": upload.full_name,
                    "step": record.step,
                    "kind": record.kind,
                    "aliases": _aliases(record),
                }
                self._prune()
        self._files = waiting
        self._poll_journal(seconds)
        if self._history is not None and self._done(self._history[1], seconds):
            rows, upload = self._history
            self._state.history_rows = rows if upload.full_name else 0
            self._history = None

    def _done(self, upload: Upload, seconds: float) -> bool:
        return upload.done(min(seconds, self._limits.seconds_left))

    def _start_file(self, record: FileRecord) -> None:
        key = (record.path, record.sha256)
        known = self._state.artifacts.get(record.path, {}).get("sha256")
        if known == record.sha256 or key in self._seen:
            return
        self._seen.add(key)
        path = self._reader.directory / record.path
        if not path.exists():
            return
        if sha256_of(path)[0] != record.sha256:
            self._notify(f"{record.path} is not what the journal recorded and is not sent", "warning")
            return
        item = UploadItem(record.kind, path, record.step, _aliases(record), {"sha256": record.sha256})
        self._files.append((record, self._sink.upload(item)))

    def _start_journal(self) -> None:
        """Uploads a copy of the journal when there is a checkpoint that the last copy does not
        contain.

        A checkpoint and a journal that reaches as far are what `matrixrl runs restore` rebuilds a
        run folder from.
        """
        saved = [record for record in self._reader.files() if record.kind == "checkpoint"]
        due = self._limits.finishing or time.monotonic() >= self._next_journal
        if not saved or not due or self._journal is not None:
            return
        newest = saved[-1].sha256  # not its step: after a rollback a run passes a step again
        if newest == self._state.journal.get("checkpoint"):
            return
        began = time.monotonic()
        self._save()
        packed = self._folder / PACKED_FOLDER
        try:
            metadata = pack_journal(self._reader, packed)
        except (JournalError, OSError) as error:
            self._notify(f"no copy of the journal is sent ({error})", "warning")
            self._next_journal = time.monotonic() + JOURNAL_SECONDS
            return
        item = UploadItem("journal", packed, int(metadata["step"]), ["latest"], metadata)
        self._journal = (newest, began, self._sink.upload(item))

    def _poll_journal(self, seconds: float) -> None:
        """Records that the destination has a copy of the journal; deletes the copy before it."""
        if self._journal is None:
            return
        newest, began, upload = self._journal
        if not self._done(upload, seconds):
            return
        self._journal = None
        shutil.rmtree(self._folder / PACKED_FOLDER, ignore_errors=True)
        now = time.monotonic()
        self._next_journal = now + max(JOURNAL_SECONDS, (now - began) / JOURNAL_SHARE)
        before = self._state.journal.get("name")
        if upload.full_name is not None:
            self._state.journal = {"name": upload.full_name, "checkpoint": newest}
            if before not in (None, upload.full_name):
                self._sink.delete_upload(before)

    def _start_history(self) -> None:
        """Uploads the complete episode table as Parquet where the sink's table does not show all of
        it.
        """
        total = self._reader.count("episodes")
        due = self._limits.finishing or time.monotonic() >= self._next_history
        shown = self._sink.max_table_rows
        if shown is None or total <= shown or total == self._state.history_rows or not due:
            return
        if self._history is not None:
            return
        if not has_pyarrow():
            if self._next_history < math.inf:  # warn once
                self._notify(
                    f"the complete table of {total:,} episodes is not sent, which needs pyarrow "
                    f"(extra wandb); the newest ones are in {self._sink.label}'s table, and all are in the journal",
                    "warning",
                )
            self._next_history = math.inf
            return
        self._next_history = time.monotonic() + HISTORY_SECONDS
        folder = self._folder / HISTORY_FOLDER
        rows, _ = write_episode_parts(self._reader, folder)
        item = UploadItem("episode_history", folder, self._reader.last_step(), ["latest"], {"rows": rows})
        self._history = (rows, self._sink.upload(item))

    def _prune(self) -> None:
        """Deletes all but the newest checkpoints at the destination, and the best one."""
        sent = [item for item in self._state.artifacts.values() if item["kind"] == "checkpoint"]
        there = sorted((item for item in sent if not item.get("pruned")), key=lambda item: item["step"])
        best = [item for item in there if "best" in item["aliases"]][-1:]
        for item in there[: -self._keep] if self._keep else []:
            if item not in best:
                self._sink.delete_upload(item["name"])
                item["pruned"] = True


def _aliases(record: FileRecord) -> list[str]:
    return list(dict.fromkeys(["latest", *record.aliases]))
