"""Delivery: carries rows from a run's journal to W&B, in a process of its own beside the training process.

A thread would share the interpreter lock with the training loop: importing wandb takes it for half a second, and every
`wandb.log` for up to a millisecond. A process costs the training loop nothing, can be killed when its time is up, and goes on
for a moment when the training process is killed. It reads the journal, and writes `delivery.json` and wandb's own files.

`python -m matrixrl.tracking.delivery RUN_FOLDER` is started by `courier.DeliveryProcess`; commands come as JSON lines on its standard
input, and its reports leave as JSON lines on its standard output.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from matrixrl.tracking import wandb as tracking_wandb
from matrixrl.tracking import wandb_identity
from matrixrl.tracking.courier import (
    DELIVERY_LOCK_FILE,
    FIRST_RETRY_SECONDS,
    DeliverySettings,
    DeliveryState,
    sync_command,
)
from matrixrl.tracking.events import EPISODE_TABLE
from matrixrl.tracking.files import sha256_of
from matrixrl.tracking.identity import Lock, Owner, run_id
from matrixrl.tracking.journal import JournalError
from matrixrl.tracking.journal_reader import Delivery as Row
from matrixrl.tracking.journal_reader import FileRecord, JournalReader
from matrixrl.tracking.packed import PACKED_FOLDER, pack_journal
from matrixrl.tracking.parquet import HISTORY_FOLDER, has_pyarrow, write_episode_parts
from matrixrl.tracking.wandb_names import artifact_part, next_names, set_identity_variables

POLL_SECONDS = 0.25
BATCH_ROWS = 500
LAST_RETRY_SECONDS = 30.0
STATE_SECONDS = 1.0
HISTORY_ARTIFACT_SECONDS = 600.0
"""The Parquet of a long episode table is sent so often while the run goes on, and always at its end."""

JOURNAL_SECONDS = 60.0
"""Between two copies of the journal on the server lie so many seconds at least while the run goes on, ..."""

JOURNAL_SHARE = 0.05
"""... and so many that making and sending copies takes at most this share of the time."""

OWNER_SECONDS = 60.0
"""Between two looks whether another copy of the run, which was resumed meanwhile, took the W&B run over."""

WAITING_SECONDS = 5.0
"""Between two looks whether the journal of a copy has reached what the server has."""

NICENESS = 10
"""Added to the niceness of the training process: about a tenth of a core that training keeps busy."""

ORPHAN_SECONDS = 30.0
"""How long delivery goes on after the training process was killed."""


class Delivery:
    """The loop of the delivery process.

    Args:
        directory: the run folder.
        commands: parsed lines of standard input; None when the training process is gone.
        report: is given each message for the user, as a line of JSON.
    """

    def __init__(
        self,
        directory: Path,
        settings: DeliverySettings,
        commands: queue.Queue[dict[str, Any] | None],
        report: Callable[[str], None],
    ) -> None:
        self.directory = directory
        self.settings = settings
        self.reader = JournalReader(directory)
        self.state = DeliveryState.load(directory) or DeliveryState()
        self.session: tracking_wandb.Session | None = None
        self.cursor = 0
        self._commands = commands
        self._report = report
        self._status = "crashed"
        self._deadline: float | None = None
        self._next_try = 0.0
        self._behind = False
        self._next_look = time.monotonic() + OWNER_SECONDS
        self._retry_seconds = FIRST_RETRY_SECONDS
        self._told: set[str] = set()
        self._saved = time.monotonic()
        self._version: int | None = None
        self._next_history = 0.0
        self._uploads: list[tuple[FileRecord, tracking_wandb.Upload]] = []
        self._history_upload: tuple[int, tracking_wandb.Upload] | None = None
        self._journal_upload: tuple[str, float, tracking_wandb.Upload] | None = None
        self._next_journal = 0.0
        self._seen_files: set[tuple[str, str]] = set()
        sweep = self.reader.meta.get("sweep")
        if unused := set_identity_variables(sweep if not self.state.name else None):
            self.tell(
                f"W&B: {', '.join(unused)} is not used: a run takes its W&B run from its own name, see --run-name"
            )

    @property
    def _server_id(self) -> str:
        """The id of the open W&B run."""
        assert self.session is not None
        return str(self.session.place["path"]).rpartition("/")[2]

    @property
    def finishing(self) -> bool:
        """Whether training has ended."""
        return self._deadline is not None

    @property
    def seconds_left(self) -> float:
        """Until the deadline; infinite while training goes on."""
        return float("inf") if self._deadline is None else self._deadline - time.monotonic()

    def tell(self, text: str, level: str = "info") -> None:
        """Tell the user something once."""
        if text not in self._told:
            self._told.add(text)
            self._report(json.dumps({"tell": text, "level": level}) + "\n")

    def _stop_training(self) -> None:
        """Passes a stop that was asked for on the run's page to the training process."""
        self._report(json.dumps({"stop": "the stop button of the W&B page"}) + "\n")

    def run(self) -> None:
        """Deliver until training has ended and everything is delivered, or the deadline has passed."""
        lock = self._wait_for_lock()
        if lock is None:
            return
        try:
            while self.seconds_left > 0:
                behind = self._behind and self.finishing  # the last chance to compare
                if self.session is None and (behind or time.monotonic() >= self._next_try):
                    self._open_session()
                    if self.state.mode == "none":
                        break
                delivered = self._deliver() if self.session else 0
                if self.session and not delivered and self._taken_over():
                    continue
                if self.session and not delivered:
                    self._send_files()
                    if self.finishing:
                        break
                elif self.session is None and self.finishing and not self.settings.patient:
                    break
                self._save(every=STATE_SECONDS)
                self._wait(0.0 if delivered else POLL_SECONDS)
            self._finish()
        finally:
            self._save(every=0.0)
            lock.release()

    def _wait_for_lock(self) -> Lock | None:
        """The lock on delivery: of two processes only one may send. A killed run's process may still be at it."""
        while True:
            lock = Lock.take(self.directory / DELIVERY_LOCK_FILE)
            if isinstance(lock, Lock):
                return lock
            assert isinstance(lock, Owner)
            if self.settings.training_pid is None:
                self.tell(f"{lock} is delivering this run already", "warning")
                return None
            if self.seconds_left <= 0:
                return None
            self._wait(POLL_SECONDS)

    def _wait(self, seconds: float) -> None:
        """Take commands for so long."""
        until = time.monotonic() + seconds
        while True:
            try:
                left = until - time.monotonic()
                command = self._commands.get(timeout=left) if left > 0 else self._commands.get_nowait()
            except queue.Empty:
                return
            if command is None:
                if not self.finishing:
                    self._deadline = time.monotonic() + ORPHAN_SECONDS
            else:
                self._status = command["finish"]
                self._deadline = time.monotonic() + command["seconds"]
            return

    def _open_session(self) -> None:
        plan = tracking_wandb.settle()
        self.state.mode, self.state.reason = plan
        later = f"`{sync_command(self.directory)}` delivers them later"
        if plan.mode in ("none", "offline"):
            where = "an offline file and the journal" if plan.mode == "offline" else "the journal"
            self.tell(f"W&B: {plan.reason}; rows are kept in {where}, {later}")
        if plan.mode == "none":
            return
        if plan.mode == "wait":
            self._try_later(
                f"W&B: {plan.reason}; rows wait in the journal while it is tried again, or {later}"
            )
            return
        mode = "online" if plan.mode == "online" else "offline"
        try:
            meta = self._choose_run() if mode == "online" else self._offline_run()
            if meta is None:
                return
            self.session = tracking_wandb.Session(
                self.directory, meta, mode, self.settings.training_pid, self._stop_training
            )
        except tracking_wandb.NameGoneError as error:
            # The next free name is tried at once.
            self.state.name = next(next_names(self.state.name or str(self.reader.meta["name"])))
            self.state.forget_server()
            self.tell(f"W&B: {error}; this run is delivered as {self.state.name}", "warning")
            self._open_session()
            return
        except tracking_wandb.RefusedError as error:
            self.state.mode, self.state.reason = "none", f"{plan.reason} refused the run ({error})"
            other = "; another project is named with `runs sync --project`"
            self.tell(f"W&B: {self.state.reason}; rows are kept in the journal, {later}{other}", "warning")
            return
        except tracking_wandb.UnreachableError as error:
            self.state.mode, self.state.reason = "wait", f"{plan.reason} failed ({error})"
            self._try_later(
                f"W&B: {self.state.reason}; rows wait in the journal while it is tried again, or {later}"
            )
            return
        if mode == "online":
            self.state.place = self.session.place
            self.cursor = max(self.session.starting_step - 1, 0)
            self.state.confirmed_step = self.cursor
            self.state.forget_thinned_after(self.cursor)
            self.tell(f"W&B: {self.session.place['url']}")
            self._send_tables_again(self.session)
        else:
            self.cursor = self._last_offline_step()
        self._retry_seconds = FIRST_RETRY_SECONDS

    def _choose_run(self) -> dict[str, Any] | None:
        """Returns the W&B run to open, as the journal's `meta` with its name, id and place; None to ask again later."""
        in_sweep = bool(self.reader.meta.get("sweep")) and not self.state.name
        target = wandb_identity.choose(self.reader, self.state)
        if target.news:
            self.tell(f"W&B: {target.news}", "warning")
        if in_sweep and not target.meta.get("sweep"):
            # The trial's run is another training's: this one is delivered outside of the sweep.
            tracking_wandb.forget_settings()
            set_identity_variables(None)
            tracking_wandb.settle()
        self._behind = target.waits
        if not target.waits:
            return target.meta
        # The server has rows that this copy of the run has not computed yet: equal ones, or the copy is another run.
        self._next_try = time.monotonic() + WAITING_SECONDS
        if self.finishing:
            self.state.place = {"url": target.url, "path": target.path}
            self.state.confirmed_step = target.last_step
            self._deadline = time.monotonic()
        return None

    def _taken_over(self) -> bool:
        """Leaves the W&B run if another copy of this run continues it by now; the rows go to a run of their own then."""
        session = self.session
        if (
            session is None
            or session.mode != "online"
            or self.finishing
            or time.monotonic() < self._next_look
        ):
            return False
        self._next_look = time.monotonic() + OWNER_SECONDS
        entity, project, identity = str(session.place["path"]).split("/", 2)
        try:
            found = tracking_wandb.server_run(project, entity, identity)
        except (tracking_wandb.UnreachableError, tracking_wandb.RefusedError):
            return False
        if found is None or set(found.attempts) <= set(self.reader.meta.get("attempt_tokens", ())):
            return False
        session.finish(1, 10.0)
        self.session, self.cursor, self._version = None, 0, None
        self._uploads, self._history_upload, self._journal_upload = [], None, None
        self._seen_files = set()
        self._next_try = 0.0
        return True

    def _offline_run(self) -> dict[str, Any]:
        name = self.state.name or str(self.reader.meta["name"])
        identity = run_id(name) if self.state.name else self.reader.meta["run_id"]
        return {**self.reader.meta, "name": name, "run_id": identity}

    def _send_tables_again(self, session: tracking_wandb.Session) -> None:
        """Sends the episode tables whose rows the server has but whose files it has not: a kill came between."""
        steps = [mark.step for mark in self.reader.marks() if mark.step <= self.cursor]
        if not steps:
            return
        try:
            there = tracking_wandb.table_steps(session.place["path"])
        except tracking_wandb.UnreachableError:
            return  # the next attempt, or `runs sync`, looks again
        missing = [step for step in steps if step not in there]
        files = tracking_wandb.local_tables(self.directory) if missing else {}
        for step in missing:
            intact = [file for file in files.get(step, []) if tracking_wandb.is_intact(file[0])]
            for path, name in intact:
                session.send_again(path, name)
            if not intact:
                self._rebuild_table(session, step)

    def _rebuild_table(self, session: tracking_wandb.Session, step: int) -> None:
        """Sends an episode table whose file is not in this run folder, as after `runs restore`: the journal has its rows."""
        try:
            name = tracking_wandb.table_file_of_row(session.place["path"], step)
        except tracking_wandb.UnreachableError:
            return  # the next attempt, or `runs sync`, looks again
        if name is not None:
            rows = self.reader.last_episodes(step, tracking_wandb.MAX_TABLE_ROWS)
            session.write_table(name, list(self.reader.episode_columns), rows)

    def _try_later(self, text: str) -> None:
        self.tell(text, "warning")
        self._next_try = time.monotonic() + self._retry_seconds
        self._retry_seconds = min(self._retry_seconds * 2, LAST_RETRY_SECONDS)

    def _last_offline_step(self) -> int:
        """Where earlier offline files of this run really end: a kill loses rows that wandb had been given."""
        for fragment in reversed(tracking_wandb.fragments(self.directory)):
            last = 0
            for row in tracking_wandb.offline_rows(fragment):
                last = row.step
            if last:
                return last
        return 0

    def _deliver(self) -> int:
        """Hand the next rows to wandb; how many there were."""
        version = self.reader.data_version
        if version == self._version:
            return 0
        rows = self.reader.deliverable(self.cursor, BATCH_ROWS)
        if len(rows) < BATCH_ROWS:
            # Everything that this version of the journal holds.
            self._version = version
        live = self.settings.training_pid is not None and not self.finishing
        sent = self._thin(rows) if live and len(rows) >= BATCH_ROWS else rows
        assert self.session is not None
        for row in sent:
            self.session.log(row.step, self._with_table(row))
            self.cursor = row.step
            if self.seconds_left <= 0:
                break
        else:
            if rows:
                self.cursor = rows[-1].step
        self.state.handed_step = self.cursor
        return len(rows)

    def _thin(self, rows: list[Row]) -> list[Row]:
        """Leave out stream rows when too many wait; epochs, evaluations and tables are always sent."""
        backlog = self.reader.count_deliverable(self.cursor)
        if backlog <= self.settings.backlog_rows:
            return rows
        stride = -(-backlog // self.settings.backlog_rows)
        # The last row of a batch is always sent: by it the server confirms the batch.
        kept = [
            row
            for index, row in enumerate(rows)
            if index % stride == 0 or row is rows[-1] or self._must_send(row)
        ]
        out = len(rows) - len(kept)
        first, last = rows[0].step, rows[-1].step
        if self.state.thinned and self.state.thinned[-1][1] == self.cursor:
            self.state.thinned[-1][1] = last
            self.state.thinned[-1][2] += out
        else:
            self.state.thinned.append([first, last, out])
        self.tell(
            f"W&B: more than {self.settings.backlog_rows} rows wait; the live stream is thinned, the journal keeps "
            "every row",
            "warning",
        )
        return kept

    @staticmethod
    def _must_send(row: Row) -> bool:
        return row.table_rows is not None or any(
            name == "Epoch" or name.startswith(("epoch_", "eval/")) for name in row.metrics
        )

    def _with_table(self, row: Row) -> dict[str, Any]:
        if row.table_rows is None:
            return row.metrics
        assert self.session is not None
        limit = tracking_wandb.MAX_TABLE_ROWS
        rows = self.reader.last_episodes(row.step, limit)
        values = {**row.metrics, EPISODE_TABLE: self.session.table(self.reader.episode_columns, rows)}
        if row.table_rows > len(rows):
            artifact = f"artifact {history_artifact(self._server_id)}"
            values[tracking_wandb.TABLE_ROWS_KEY] = (
                f"the last {len(rows)} of {row.table_rows} rows; all of them are in the "
                + (artifact if has_pyarrow() else "journal")
            )
        return values

    def _send_files(self) -> None:
        """Send checkpoints and other files that the server does not have yet; prune old ones."""
        session = self.session
        if session is None or session.mode != "online":
            return
        if self.settings.artifacts:
            self._send_journal(session)
        for record in self.reader.files() if self.settings.artifacts else ():
            known = self.state.artifacts.get(record.path, {}).get("sha256")
            key = (record.path, record.sha256)
            if known == record.sha256 or key in self._seen_files:
                continue
            self._seen_files.add(key)
            path = self.directory / record.path
            if not path.exists():
                continue
            if sha256_of(path)[0] != record.sha256:
                self.tell(f"W&B: {record.path} is not what the journal recorded and is not sent", "warning")
                continue
            name, kind, aliases = artifact_name(record, self._server_id)
            metadata = {"run_id": self._server_id, "step": record.step, "sha256": record.sha256}
            self._uploads.append((record, session.send_files(name, kind, [path], aliases, metadata)))
        self._send_history()
        self._settle_uploads(0.05)

    def _send_journal(self, session: tracking_wandb.Session) -> None:
        """Send a copy of the journal when there is a checkpoint that the last one does not know.

        A checkpoint and a journal that reaches as far are what `matrixrl runs restore` makes a run folder of.
        """
        saved = [record for record in self.reader.files() if record.kind == "checkpoint"]
        due = self.finishing or time.monotonic() >= self._next_journal
        if not saved or not due or self._journal_upload is not None:
            return
        newest = saved[-1].sha256  # not its step: a run that went back to a checkpoint passes a step again
        if newest == self.state.journal.get("checkpoint"):
            return
        began = time.monotonic()
        self.state.save(self.directory)
        try:
            metadata = pack_journal(self.reader, self.directory / PACKED_FOLDER)
        except (JournalError, OSError) as error:
            self.tell(f"W&B: no copy of the journal is sent ({error})", "warning")
            self._next_journal = time.monotonic() + JOURNAL_SECONDS
            return
        handle = session.send_files(
            journal_artifact(self._server_id),
            "journal",
            [self.directory / PACKED_FOLDER],
            ["latest"],
            metadata,
        )
        self._journal_upload = (newest, began, handle)

    def _settle_journal(self, seconds: float) -> None:
        """Note that the server has a copy of the journal; the copy before is not needed any more."""
        if self._journal_upload is None:
            return
        newest, began, upload = self._journal_upload
        if not upload.settled(min(seconds, self.seconds_left)):
            return
        self._journal_upload = None
        shutil.rmtree(self.directory / PACKED_FOLDER, ignore_errors=True)
        now = time.monotonic()
        self._next_journal = now + max(JOURNAL_SECONDS, (now - began) / JOURNAL_SHARE)
        before = self.state.journal.get("name")
        if upload.full_name is not None and self.session is not None:
            self.state.journal = {"name": upload.full_name, "checkpoint": newest}
            if before not in (None, upload.full_name):
                self.session.delete_artifact(before)

    def _send_history(self) -> None:
        """Send the complete episode table as Parquet where W&B's table cannot hold it."""
        assert self.session is not None
        total = self.reader.count("episodes")
        due = self.finishing or time.monotonic() >= self._next_history
        if total <= tracking_wandb.MAX_TABLE_ROWS or total == self.state.history_rows or not due:
            return
        if self._history_upload is not None:
            return
        if not has_pyarrow():
            if self._next_history < math.inf:  # warn once
                self.tell(
                    f"W&B: the complete table of {total:,} episodes is not sent, which needs pyarrow "
                    "(extra wandb); the newest ones are in W&B's table, and all are in the journal",
                    "warning",
                )
            self._next_history = math.inf
            return
        self._next_history = time.monotonic() + HISTORY_ARTIFACT_SECONDS
        rows, _ = write_episode_parts(self.reader, self.directory / HISTORY_FOLDER)
        handle = self.session.send_files(
            history_artifact(self._server_id),
            "episode_history",
            [self.directory / HISTORY_FOLDER],
            ["latest"],
            {"rows": rows, "run_id": self._server_id},
        )
        self._history_upload = (rows, handle)

    def _settle_uploads(self, seconds: float) -> None:
        """Note the uploads that the server has committed, waiting at most `seconds` for each."""
        waiting = []
        for record, upload in self._uploads:
            if not upload.settled(min(seconds, self.seconds_left)):
                waiting.append((record, upload))
            elif upload.full_name is not None:
                self.state.artifacts[record.path] = {
                    "sha256": record.sha256,
                    "name": upload.full_name,
                    "step": record.step,
                    "kind": record.kind,
                    "aliases": artifact_name(record, self._server_id)[2],
                }
                self._prune()
        self._uploads = waiting
        self._settle_journal(seconds)
        if self._history_upload is not None:
            rows, upload = self._history_upload
            if upload.settled(min(seconds, self.seconds_left)):
                self.state.history_rows = rows if upload.full_name else 0
                self._history_upload = None

    def _prune(self) -> None:
        """Delete all but the newest checkpoints on the server, and the best one."""
        assert self.session is not None
        sent = [item for item in self.state.artifacts.values() if item["kind"] == "checkpoint"]
        there = sorted((item for item in sent if not item.get("pruned")), key=lambda item: item["step"])
        best = [item for item in there if "best" in item["aliases"]][-1:]
        keep = self.settings.keep_artifacts
        for item in there[:-keep] if keep else []:
            if item not in best:
                self.session.delete_artifact(item["name"])
                item["pruned"] = True

    @property
    def _sending(self) -> bool:
        return bool(self._uploads or self._history_upload or self._journal_upload)

    def _finish(self) -> None:
        session = self.session
        if session is None:
            return
        if session.mode == "online":
            while self._sending and self.seconds_left > 2.0:
                self._settle_uploads(1.0)
        self._save(every=0.0)
        # Something has to be left for asking the server.
        closed = session.finish(0 if self._status == "finished" else 1, self.seconds_left - 1.0)
        if session.mode == "offline":
            return
        while closed and self.seconds_left > 0:
            try:
                step = tracking_wandb.last_step_on_server(session.place["path"])
            except tracking_wandb.UnreachableError:
                step = 0
            self.state.confirmed_step = max(self.state.confirmed_step, min(step, self.cursor))
            if self.state.confirmed_step >= self.cursor:
                return
            time.sleep(0.2)

    def _save(self, every: float) -> None:
        if time.monotonic() - self._saved >= every:
            self._saved = time.monotonic()
            try:
                self.state.save(self.directory)
            except OSError as error:
                # The cursor is a convenience: the server says what it has, and the offline file too.
                self.tell(
                    f"W&B: {self.directory.name}/delivery.json cannot be written ({error.strerror or error})",
                    "warning",
                )


def history_artifact(run_id: str) -> str:
    """The name of the artifact that holds the complete episode table."""
    return f"episode-history-{run_id}"


def journal_artifact(run_id: str) -> str:
    """The name of the artifact that holds a copy of the journal."""
    return f"journal-{run_id}"


def artifact_name(record: FileRecord, run_id: str) -> tuple[str, str, list[str]]:
    """Name, type and aliases of the artifact of a file: the name holds the run's id, so that no two runs share one."""
    aliases = list(dict.fromkeys(["latest", *record.aliases]))
    if record.kind == "checkpoint":
        return f"checkpoint-{run_id}-{record.step}", "model", aliases
    path = Path(record.path)
    return artifact_part(f"{path.stem[:80]}-{run_id}{path.suffix}"), "result", aliases


def yield_to_training() -> None:
    """Lowers the priority of this process, and of the service that wandb starts from it.

    The lowest priority would be too low, since it cannot be raised again: where other trainings keep every core busy,
    the rows that remain at the end would not be delivered within the deadline.
    """
    if hasattr(os, "nice"):  # absent on Windows
        os.nice(NICENESS)


def main(directory: Path) -> None:
    """The delivery process: quiet, unhurried, deaf to Ctrl-C (the training process tells it when to end)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # wandb's service inherits 0, 1 and 2: keep the pipes to the training process for this process alone.
    commands_in, report_out = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    log = os.open(directory / "delivery.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for target, source in ((0, null), (1, log), (2, log)):
        os.dup2(source, target)
    # Bytes that wandb stages for upload stay inside the run folder.
    os.environ.setdefault("WANDB_DATA_DIR", str(directory / "wandb"))
    source = os.fdopen(commands_in, encoding="utf-8")
    settings = DeliverySettings(**json.loads(source.readline()))
    if settings.training_pid is not None:
        yield_to_training()
    commands: queue.Queue[dict[str, Any] | None] = queue.Queue()

    def listen() -> None:
        for line in source:
            commands.put(json.loads(line))
        commands.put(None)

    threading.Thread(target=listen, daemon=True).start()

    def report(line: str) -> None:
        # A training process that was killed does not listen any more; delivery goes on for a moment.
        with contextlib.suppress(BrokenPipeError):
            os.write(report_out, line.encode())

    code = 1
    try:
        Delivery(directory, settings, commands, report).run()
        code = 0
    finally:
        # Neither wandb's exit hooks nor its service may hold up the end.
        if code:
            traceback.print_exc()
        sys.stderr.flush()
        tracking_wandb.end_service()
        os._exit(code)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
