"""Delivery: carries rows from a run's journal to one sink, in a process beside the training
process.

A thread would share the interpreter lock with the training loop: importing a tracker's library
takes it for half a second, and each row for up to a millisecond. A process costs the training loop
nothing, can be killed at its deadline, and outlives a killed training process for a moment. It
reads the journal, and writes to the sink's folder of the run folder (`delivery_state`) alone.

The cursor, retries, deadlines and thinning are here; what is particular to a destination is in its
sink (`sinks/base.py`).

`python -m matrixrl.tracking.delivery RUN_FOLDER` is started by `uploader_client.DeliveryProcess`.
Its settings and commands arrive as JSON lines on standard input, and its reports leave as JSON
lines on standard output.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from matrixrl.tracking.delivery_state import (
    LOG_FILE,
    DeliveryState,
    sink_folder,
    take_delivery_lock,
)
from matrixrl.tracking.identity import Lock, Owner
from matrixrl.tracking.journal_reader import JournalReader, PendingRow
from matrixrl.tracking.processes import end_children
from matrixrl.tracking.sinks.base import (
    AheadError,
    EpisodeTable,
    Opened,
    RefusedError,
    Row,
    Sink,
    SinkContext,
    TakenOverError,
    UnavailableError,
)
from matrixrl.tracking.sinks.registry import load_sink
from matrixrl.tracking.uploader_client import FIRST_RETRY_SECONDS, DeliverySettings, sync_command
from matrixrl.tracking.uploads import Uploader

POLL_SECONDS = 0.25
BATCH_ROWS = 500
LAST_RETRY_SECONDS = 30.0
STATE_SECONDS = 1.0
CONFIRM_SECONDS = 0.2
AHEAD_SECONDS = 5.0
"""Interval between two tries while the destination holds rows that the journal does not have yet.
"""

CLOSE_SECONDS = 10.0
"""Time that closing a sink takes at most when it is opened again."""

NICENESS = 10
"""Added to the niceness of the training process: about a tenth of a core that training keeps busy.
"""

ORPHAN_SECONDS = 30.0
"""Time that delivery has left after the training process was killed."""

OVERDUE_SECONDS = 5.0
"""Time after its deadline at which a process whose sink does not return ends itself."""


class OpenSink(NamedTuple):
    """A sink that takes rows, and its uploads; `is_online` if its rows count as delivered."""

    sink: Sink
    is_online: bool
    uploader: Uploader


class DeliveryLoop:
    """The loop of the delivery process of one sink.

    Args:
        directory: the run folder.
        sink: class of the sink.
        commands: parsed lines of standard input; None when the training process is gone.
        report: takes each message for the training process, as a line of JSON.
    """

    def __init__(
        self,
        directory: Path,
        settings: DeliverySettings,
        sink: type[Sink],
        commands: queue.Queue[dict[str, Any] | None],
        report: Callable[[str], None],
    ) -> None:
        self.directory = directory
        self.settings = settings
        self.reader = JournalReader(directory)
        self.state = DeliveryState.load(directory, settings.sink) or DeliveryState()
        self.state.source = settings.source
        self.label = sink.label or settings.sink
        self.open: OpenSink | None = None
        self.cursor = 0
        self._written = 0
        self._sink_type = sink
        self._commands = commands
        self._report = report
        self._status = "crashed"
        self._deadline: float | None = None
        self._next_try = 0.0
        self._is_ahead = False
        self._retry_seconds = FIRST_RETRY_SECONDS
        self._notified: set[str] = set()
        self._saved = time.monotonic()
        self._version: int | None = None
        self._context = SinkContext(
            directory=directory,
            folder=sink_folder(directory, settings.sink),
            reader=self.reader,
            state=self.state,
            training_pid=settings.training_pid,
            notify=self.notify,
            stop_training=self._stop_training,
        )

    @property
    def finishing(self) -> bool:
        """Whether training has ended."""
        return self._deadline is not None

    @property
    def seconds_left(self) -> float:
        """Time in seconds until the deadline; infinite while training continues."""
        return float("inf") if self._deadline is None else self._deadline - time.monotonic()

    def notify(self, text: str, level: str = "info") -> None:
        """Shows a message to the user, once."""
        if text not in self._notified:
            self._notified.add(text)
            self._report(json.dumps({"notify": f"{self.label}: {text}", "level": level}) + "\n")

    def _stop_training(self, origin: str) -> None:
        """Passes a request to stop on to the training process."""
        self._report(json.dumps({"stop": origin}) + "\n")

    def run(self) -> None:
        """Delivers until training has ended and everything is delivered, or the deadline has
        passed.
        """
        lock = self._wait_for_lock()
        if lock is None:
            return
        try:
            while self.seconds_left > 0:
                last_chance = self._is_ahead and self.finishing
                if self.open is None and (last_chance or time.monotonic() >= self._next_try):
                    self._open_sink()
                delivered = self._work() if self.open else 0
                if self.state.mode == "none":
                    break
                if self.finishing and not delivered and self._has_ended():
                    break
                self._save(every=STATE_SECONDS)
                self._wait(0.0 if delivered else POLL_SECONDS)
            self._finish()
        finally:
            self._save(every=0.0)
            lock.release()

    def _has_ended(self) -> bool:
        """Returns whether there is nothing left to do once training has ended and no row waits."""
        return self.open is not None or not self.settings.patient

    def _wait_for_lock(self) -> Lock | None:
        """Takes the lock of the sink: only one process may deliver. That of a killed run may still
        hold it.
        """
        while True:
            lock = take_delivery_lock(self.directory, self.settings.sink)
            if isinstance(lock, Lock):
                return lock
            assert isinstance(lock, Owner)
            if self.settings.training_pid is None:
                self.notify(f"{lock} is delivering this run already", "warning")
                return None
            if self.seconds_left <= 0:
                return None
            self._wait(POLL_SECONDS)

    def _wait(self, seconds: float) -> None:
        """Handles the next command, waiting at most `seconds` for it."""
        until = time.monotonic() + seconds
        try:
            left = until - time.monotonic()
            command = self._commands.get(timeout=left) if left > 0 else self._commands.get_nowait()
        except queue.Empty:
            return
        if command is not None:
            self._status = command["finish"]
            self._deadline = time.monotonic() + command["seconds"]
        elif not self.finishing:
            self._deadline = time.monotonic() + ORPHAN_SECONDS

    # Opening, retries

    def _open_sink(self) -> None:
        self._is_ahead = False
        later = f"`{sync_command(self.directory)}` delivers them later"
        try:
            sink = self._sink_type(self._context)
            opened = sink.open()
        except RefusedError as error:
            self._refuse(error)
        except AheadError as error:
            self._wait_for_journal(error)
        except (UnavailableError, OSError) as error:
            self._try_later(_reason(error))
        else:
            self._start(sink, opened)
            if opened.offline:
                self.notify(f"{opened.offline}; rows are kept in {opened.spool} and the journal, {later}")
            elif opened.place.get("url"):
                self.notify(str(opened.place["url"]))

    def _start(self, sink: Sink, opened: Opened) -> None:
        """Sets the cursor to what the destination holds."""
        is_online = not opened.offline
        uploader = Uploader(
            sink,
            self.reader,
            self.state,
            self._context.folder,
            self.settings.keep_artifacts,
            self,
            lambda: self._save(every=0.0),
            self.notify,
        )
        self.open = OpenSink(sink, is_online, uploader)
        self.cursor = self._written = opened.last_step
        self._version = None
        self._retry_seconds = FIRST_RETRY_SECONDS
        self.state.mode, self.state.reason = "online" if is_online else "offline", opened.offline
        if is_online:
            self.state.place = dict(opened.place)
            self.state.confirmed_step = self.cursor
            self.state.forget_thinned_after(self.cursor)

    def _refuse(self, error: RefusedError) -> None:
        later = f"`{sync_command(self.directory)}` delivers them later"
        self.open = None
        self.state.mode, self.state.reason = "none", str(error)
        self.notify(
            f"{error}; rows are kept in the journal, {later}{error.advice}",
            "info" if error.is_expected else "warning",
        )

    def _wait_for_journal(self, error: AheadError) -> None:
        """Waits for rows that the destination has already: equal ones, or another run's."""
        self._is_ahead = True
        self.state.mode, self.state.reason = "ahead", str(error)
        self._next_try = time.monotonic() + AHEAD_SECONDS
        if self.finishing:
            self.state.place = dict(error.place)
            self.state.mode, self.state.confirmed_step = "online", error.last_step
            self._deadline = time.monotonic()

    def _try_later(self, reason: str) -> None:
        """Schedules the next try, with exponential backoff."""
        self.state.mode, self.state.reason = "wait", reason
        self.notify(
            f"{reason}; rows wait in the journal while it is tried again, or "
            f"`{sync_command(self.directory)}` delivers them later",
            "warning",
        )
        self._next_try = time.monotonic() + self._retry_seconds
        self._retry_seconds = min(self._retry_seconds * 2, LAST_RETRY_SECONDS)

    def _close_again(self) -> None:
        """Closes the sink, which is opened again with a cursor from the destination."""
        assert self.open is not None
        sink, self.open = self.open.sink, None
        with contextlib.suppress(UnavailableError, OSError):
            sink.close("interrupted", min(CLOSE_SECONDS, max(self.seconds_left, 0.0)))
        self.cursor, self._version = 0, None

    # Rows

    def _work(self) -> int:
        """Delivers the next rows, or uploads files while no row waits; returns the number of rows.

        A failure of the sink closes it, and the loop opens it again.
        """
        assert self.open is not None
        try:
            if delivered := self._deliver(self.open.sink):
                return delivered
            if self.open.is_online:
                if not self.finishing:
                    self.open.sink.check()
                self.open.uploader.start(with_files=self.settings.artifacts)
                self.open.uploader.poll(0.05)
        except TakenOverError:
            self._close_again()
            self._next_try = 0.0
            return 1  # look again at once
        except RefusedError as error:
            self._close_again()
            self._refuse(error)
        except (UnavailableError, OSError) as error:
            self._close_again()
            self._try_later(_reason(error))
        return 0

    def _deliver(self, sink: Sink) -> int:
        """Writes the next rows to the sink; returns how many the journal had."""
        version = self.reader.data_version
        if version == self._version:
            return 0
        rows = self.reader.deliverable(self.cursor, BATCH_ROWS)
        if len(rows) < BATCH_ROWS:
            # Everything that this version of the journal holds.
            self._version = version
        live = self.settings.training_pid is not None and not self.finishing
        kept = self._thin(rows) if live and len(rows) >= BATCH_ROWS else rows
        for part in self._parts(kept, sink.max_table_rows):
            sink.write(part)
            self.cursor = self._written = part[-1].step
            if self.seconds_left <= 0:
                self._version = None
                break
        else:
            if rows:
                self.cursor = rows[-1].step
        self.state.handed_step = self.cursor
        return len(rows)

    def _parts(self, rows: list[PendingRow], max_table_rows: int | None) -> Iterator[list[Row]]:
        """Splits rows so that only the last of a part has a table, which may be large."""
        part: list[Row] = []
        for row in rows:
            table = None
            if row.table_rows is not None and max_table_rows is not None:
                shown = self.reader.last_episodes(row.step, max_table_rows)
                table = EpisodeTable(self.reader.episode_columns, shown, row.table_rows)
            if row.metrics or table is not None:
                part.append(Row(row.step, row.time, row.metrics, table))
            if table is not None:
                yield part
                part = []
        if part:
            yield part

    def _thin(self, rows: list[PendingRow]) -> list[PendingRow]:
        """Leaves out rows of the stream when too many wait; epochs, evaluations and tables are
        always sent.
        """
        backlog = self.reader.count_deliverable(self.cursor)
        if backlog <= self.settings.backlog_rows:
            return rows
        stride = -(-backlog // self.settings.backlog_rows)
        # The last row of a batch is always sent: with it the destination confirms the batch.
        kept = [
            row for index, row in enumerate(rows) if index % stride == 0 or row is rows[-1] or _must_send(row)
        ]
        out = len(rows) - len(kept)
        first, last = rows[0].step, rows[-1].step
        if self.state.thinned and self.state.thinned[-1][1] == self.cursor:
            self.state.thinned[-1][1] = last
            self.state.thinned[-1][2] += out
        else:
            self.state.thinned.append([first, last, out])
        self.notify(
            f"more than {self.settings.backlog_rows} rows wait; the live stream is thinned, the journal keeps "
            "every row",
            "warning",
        )
        return kept

    # The end

    def _finish(self) -> None:
        """Waits for uploads, the end of the sink and its confirmation, until the deadline."""
        if self.open is None:
            return
        sink, is_online, uploader = self.open
        try:
            while is_online and uploader.is_busy and self.seconds_left > 2.0:
                uploader.poll(1.0)
            self._save(every=0.0)
            # Some time has to remain for the confirmation.
            closed = sink.close(self._status, self.seconds_left - 1.0)
            while is_online and closed and self.seconds_left > 0 and not self._confirm(sink):
                time.sleep(CONFIRM_SECONDS)
        except (UnavailableError, RefusedError, OSError) as error:
            self.state.mode, self.state.reason = "wait", _reason(error)

    def _confirm(self, sink: Sink) -> bool:
        """Asks the sink what it holds; returns whether that is every row."""
        step = sink.confirmed_step()
        # A sink without tables gets no row at a step that only has a table.
        known = self.cursor if step >= self._written else step
        self.state.confirmed_step = max(self.state.confirmed_step, known)
        return self.state.confirmed_step >= self.cursor

    def _save(self, every: float) -> None:
        if time.monotonic() - self._saved < every:
            return
        self._saved = time.monotonic()
        try:
            if self.open is not None and self.open.is_online and not self.finishing:
                self._confirm(self.open.sink)
            self.state.save(self.directory, self.settings.sink)
        except (UnavailableError, RefusedError):
            return  # the next write says so as well
        except OSError as error:
            # The state is a convenience: the destination says what it has.
            where = sink_folder(Path(self.directory.name), self.settings.sink)
            self.notify(f"{where} cannot be written ({error.strerror or error})", "warning")


def _must_send(row: PendingRow) -> bool:
    return row.table_rows is not None or any(
        name == "Epoch" or name.startswith(("epoch_", "eval/")) for name in row.metrics
    )


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def yield_to_training() -> None:
    """Lowers the priority of this process, and of the services that a sink starts from it.

    The lowest priority would be too low, since it cannot be raised again: where other trainings
        keep
    every core busy, the rows that remain at the end would not be delivered before the deadline.
    """
    if hasattr(os, "nice"):  # absent on Windows
        os.nice(NICENESS)


def main(directory: Path) -> None:
    """Runs the delivery process, which ignores Ctrl-C: the training process sends it the command to
    finish.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # Services of a sink inherit 0, 1 and 2: keep the pipes to the training process for this one.
    commands_in, report_out = os.dup(0), os.dup(1)
    source = os.fdopen(commands_in, encoding="utf-8")
    settings = DeliverySettings(**json.loads(source.readline()))
    folder = sink_folder(directory, settings.sink)
    folder.mkdir(parents=True, exist_ok=True)
    null = os.open(os.devnull, os.O_RDWR)
    log = os.open(folder / LOG_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for target, opened in ((0, null), (1, log), (2, log)):
        os.dup2(opened, target)
    if settings.training_pid is not None:
        yield_to_training()
    commands: queue.Queue[dict[str, Any] | None] = queue.Queue()

    def listen() -> None:
        for line in source:
            commands.put(json.loads(line))
        commands.put(None)

    def report(line: str) -> None:
        # Nobody reads it after the training process was killed.
        with contextlib.suppress(BrokenPipeError):
            os.write(report_out, line.encode())

    code = 1
    try:
        loop = DeliveryLoop(
            directory, settings, load_sink(settings.source, settings.search_path), commands, report
        )
        threading.Thread(target=listen, daemon=True).start()
        threading.Thread(target=_end_when_overdue, args=(loop,), daemon=True).start()
        loop.run()
        code = 0
    finally:
        # Neither exit hooks of a library nor its service may hold up the end.
        if code:
            traceback.print_exc()
        sys.stderr.flush()
        end_children()
        os._exit(code)


def _end_when_overdue(loop: DeliveryLoop) -> None:
    """Ends the process if a sink does not return, and nobody is there to kill it."""
    while loop.seconds_left > -OVERDUE_SECONDS:
        time.sleep(1.0)
    end_children()
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
