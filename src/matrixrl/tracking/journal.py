"""The journal: one SQLite file per run, written by one process, one transaction per batch of rows
(tracking contract, rule 2).

Everything else (console, W&B, dashboard, exports) reads the committed rows. docs/events.md
documents the tables.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import secrets
import socket
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from matrixrl.config import ConfigError
from matrixrl.tracking.blocks import BLOCK_ROWS, BlockBuilder, encode
from matrixrl.tracking.events import (
    EpisodeRow,
    Event,
    FileRow,
    Kind,
    LogMessage,
    MoveRow,
    ScalarRow,
    TableSnapshot,
    is_wall_clock,
)
from matrixrl.tracking.numbers import duration
from matrixrl.tracking.spec import VARIANT, SystemSpec
from matrixrl.tracking.status import activity, notify
from matrixrl.whole_files import whole_file

JOURNAL_FILE = "journal.sqlite"
SCHEMA_VERSION = 2
SQL_TYPES: Mapping[Kind, str] = {"int": "INTEGER", "float": "REAL", "bool": "INTEGER", "str": "TEXT"}

DURABILITY = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;"
"""A commit survives a kill of the process. A crash of the machine may lose the last commits; the
next resume compares the journal with the checkpoint and reports it.
"""

HISTORY_TABLES = ("stream", "episodes", "moves", "table_marks", "files")
"""Tables with a `superseded_by`: their history is the rows where it is NULL, in order of ids."""

COMPARED_TABLES = ("stream", "episodes", "moves")
"""Tables whose rows a resumed run recomputes."""

LOCK_SECONDS = 300.0
"""Maximum time in seconds to wait for another process that has the journal locked, such as a backup
or an SQLite shell.
"""

LOCK_NOTICE_SECONDS = 2.0
"""Time in seconds after which the user is notified that the run waits."""

LOCK_POLL_SECONDS = 1.0
"""Time in seconds that SQLite itself waits per attempt."""

CLOSE_ATTEMPTS, CLOSE_POLL_SECONDS = 10, 0.05
"""Number of attempts to remove the write-ahead log while readers are open, and the interval in
seconds between them.
"""

T = TypeVar("T")


def plain(value: Any) -> Any:
    """Converts a number of NumPy or JAX to Python's own type; returns everything else unchanged."""
    if value is None or type(value) in (int, float, bool, str):
        return value
    return value.item() if hasattr(value, "item") else value


_to_json = json.JSONEncoder(separators=(",", ":"), default=plain).encode


class TrackingError(RuntimeError):
    """Tracking cannot continue as requested. The message is one line that says what was kept and
    what to do.
    """


class JournalError(TrackingError):
    """The journal cannot be written or read. What was committed before stays readable."""


class JournalLockedError(JournalError):
    """Another process has the journal locked, and did not unlock it within `LOCK_SECONDS`."""


def wal_of(path: Path) -> Path:
    """Returns the path of the write-ahead log of a journal."""
    return path.with_name(f"{path.name}-wal")


def is_locked(error: Exception) -> bool:
    """Returns whether SQLite failed because another process has the file locked."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def wait_for_lock(path: Path, operation: Callable[[], T]) -> T:
    """Calls an operation on a journal, and retries while another process has the file locked.

    Raises:
        JournalLockedError: if it is still locked after `LOCK_SECONDS`.
    """
    began = time.monotonic()
    with contextlib.ExitStack() as shown:
        notified = False
        while True:
            try:
                return operation()
            except sqlite3.OperationalError as error:
                if not is_locked(error):
                    raise
                waited = time.monotonic() - began
                if waited >= LOCK_SECONDS:
                    raise JournalLockedError(
                        f"{path}: another process has had the journal locked for {duration(waited)}; every row committed "
                        f"before is safe; end that process and continue with --resume-run {path.parent.name}"
                    ) from error
            if not notified and waited >= LOCK_NOTICE_SECONDS:
                notified = True
                notify(
                    f"{path}: another process has the journal locked; waiting for it, up to {duration(LOCK_SECONDS)}"
                )
                shown.enter_context(activity("waiting for the journal's lock"))
            time.sleep(0.05)


def quoted(name: str) -> str:
    """Returns a column name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True)
class Recorded:
    """Result of one `Journal.record`.

    Attributes:
        events: the events that were written, without recognised ones; readers may show them.
        recognised: number of rows that were recorded before a resume and are equal.
        differing: number of rows of earlier attempts that left the history because this attempt
            differs.
        first_difference: the first step that differs.
    """

    events: Sequence[Event]
    recognised: int = 0
    differing: int = 0
    first_difference: int | None = None


@dataclass
class Counts:
    """Counts of `record` while it writes; see `Recorded`."""

    recognised: int = 0
    differing: int = 0
    first_difference: int | None = None


class Journal:
    """The only writer of a run's journal; `create` starts a new one, `resume` continues one.

    Not thread-safe: `Run` holds a lock around it.
    """

    def __init__(
        self, connection: sqlite3.Connection, path: Path, attempt: int, columns: Mapping[str, Kind]
    ) -> None:
        self.path = path
        self.attempt = attempt
        self.episode_columns = dict(columns)
        self._connection = connection
        # Rows of a compared table are recomputed after a resume (rule 10) in order of recording.
        # These are ids: of the last row of earlier attempts, and of the last row compared with this
        # attempt.
        # Episode numbers do not work here: of parallel games a later one may end first.
        self._recorded_until: dict[str, int] = {table: self._last_id(table) for table in COMPARED_TABLES}
        self._compared_until: dict[str, int] = dict.fromkeys(COMPARED_TABLES, 0)
        # Table snapshots and files of earlier attempts that this attempt recorded again.
        self._confirmed: dict[str, list[int]] = {
            table: [] for table in HISTORY_TABLES if table not in COMPARED_TABLES
        }
        # Current names of metrics and episode columns -> those that this run recorded before they
        # were renamed: a run keeps the names that it was started with.
        self._old_metrics: dict[str, str] = {}
        self._old_columns: dict[str, str] = {}
        self._block = BlockBuilder()
        self._last_stream_step = 0
        # Number of episodes in the history of this attempt: counting them in SQL takes longer as
        # the run grows.
        self._episodes = 0
        names = ", ".join(quoted(name) for name in columns)
        marks = ", ".join("?" * len(columns))
        self._insert = {
            "stream": "INSERT INTO stream (step, attempt, time, metrics) VALUES (?, ?, ?, ?)",
            "moves": "INSERT INTO moves (step, attempt, episode, move, action, reward, residual)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            "episodes": f"INSERT INTO episodes (step, attempt, time, {names}) VALUES (?, ?, ?, {marks})",
        }

    @classmethod
    def create(cls, path: Path, meta: Mapping[str, Any], columns: Mapping[str, Kind]) -> Journal:
        """Creates the journal of a new run.

        Args:
            path: the file; it must not exist.
            meta: JSON values of the table `meta` (name, run_id, system, config, ...).
            columns: of the episode table; the first is its key.

        Raises:
            JournalError: if the file cannot be written.
        """
        connection = connect(path)
        try:
            connection.executescript(DURABILITY)
            connection.executescript(f"BEGIN;\n{schema(columns)}\nCOMMIT;")
            connection.execute("BEGIN")
            rows = [*meta.items(), ("episode_columns", dict(columns))]
            connection.executemany(
                "INSERT INTO meta VALUES (?, ?)", [(key, _to_json(value)) for key, value in rows]
            )
            attempt = cls._begin_attempt(connection, meta.get("config", {}))
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            connection.close()
            raise JournalError(f"{path}: the journal cannot be created ({error}); see --runs-dir") from error
        return cls(connection, path, attempt, columns)

    @classmethod
    def resume(cls, path: Path, config: Mapping[str, Any], spec: SystemSpec | None = None) -> Journal:
        """Resumes the journal of a run with the next attempt number.

        Args:
            spec: the current spec of the system. What it renamed since the run was started is
                recorded under its earlier name. A journal of an earlier version keeps it.

        Raises:
            ConfigError: if there is no journal, its schema is newer than this version of matrixrl,
                or its episode columns are not those of the system.
            JournalError: if the journal is damaged, or stays locked by another process.
        """
        if not path.exists():
            raise ConfigError(f"{path}: the run has no journal; start a new one without --resume-run")
        connection = connect(path)
        try:
            return wait_for_lock(path, lambda: cls._continue(connection, path, config, spec))
        except (ConfigError, JournalError):
            connection.close()
            raise
        except (sqlite3.Error, TypeError, ValueError) as error:
            connection.close()
            raise JournalError(f"{path}: the journal is damaged ({error}); nothing was changed") from error

    @classmethod
    def _continue(
        cls, connection: sqlite3.Connection, path: Path, config: Mapping[str, Any], spec: SystemSpec | None
    ) -> Journal:
        connection.executescript(DURABILITY)
        migrate(connection, path)
        value = connection.execute("SELECT value FROM meta WHERE key = 'episode_columns'").fetchone()[0]
        columns = json.loads(value)
        old_columns = {} if spec is None else _old_columns(spec, columns, path)
        connection.execute("BEGIN IMMEDIATE")
        attempt = cls._begin_attempt(connection, config)
        if spec is not None:
            connection.execute("INSERT OR IGNORE INTO meta VALUES ('spec', ?)", (_to_json(spec.as_record()),))
        connection.execute("COMMIT")
        journal = cls(connection, path, attempt, columns)
        if spec is not None:
            journal._old_columns = old_columns
            journal._old_metrics = journal._renamed_metrics(spec)
        return journal

    def _renamed_metrics(self, spec: SystemSpec) -> dict[str, str]:
        """Returns the earlier names that this run's stream has, by current name."""
        found = {}
        for old, current in spec.aliases.items():
            # In the text of a row a metric ends with a quote, and a variant begins with a digit.
            start = json.dumps(old)[:-1]
            texts = [f'{start}":', *(f"{start}_{digit}" for digit in range(10))]
            condition = " OR ".join(["instr(metrics, ?)"] * len(texts))
            query = f"SELECT 1 FROM stream WHERE {condition} LIMIT 1"
            if self._connection.execute(query, texts).fetchone() is not None:
                found[current] = old
        return found

    def _as_recorded(self, event: Event) -> Event:
        """Returns an event with the names that this run uses."""
        if isinstance(event, ScalarRow) and self._old_metrics:
            metrics = {self._recorded_metric(name): value for name, value in event.metrics.items()}
            return dataclasses.replace(event, metrics=metrics)
        if isinstance(event, EpisodeRow) and self._old_columns:
            values = {self._old_columns.get(name, name): value for name, value in event.values.items()}
            return dataclasses.replace(event, values=values)
        return event

    def _recorded_metric(self, name: str) -> str:
        if name in self._old_metrics:
            return self._old_metrics[name]
        variant = re.search(f"{VARIANT}$", name)
        stem = name[: variant.start()] if variant else name
        return self._old_metrics.get(stem, stem) + name[len(stem) :]

    @staticmethod
    def _begin_attempt(connection: sqlite3.Connection, config: Mapping[str, Any]) -> int:
        (last,) = connection.execute("SELECT coalesce(max(attempt), 0) FROM attempts").fetchone()
        connection.execute(
            "INSERT INTO attempts VALUES (?, ?, NULL, NULL, ?, ?, 0, ?)",
            (last + 1, time.time(), socket.gethostname(), os.getpid(), _to_json(config)),
        )
        # Copies of a run share the tokens of the attempts before the copy, and no others.
        row = connection.execute("SELECT value FROM meta WHERE key = 'attempt_tokens'").fetchone()
        tokens = [*(json.loads(row[0]) if row else ()), secrets.token_hex(8)]
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('attempt_tokens', ?)", (_to_json(tokens),))
        return last + 1

    def started_at(self, step: int) -> None:
        """Records the step of the checkpoint; the first tick of this attempt follows it."""
        self._last_stream_step = step
        self._episodes = self._one(
            f"SELECT count(*) FROM episodes WHERE superseded_by IS NULL AND step <= {step:d}"
        )
        self._compared_until = {table: self._last_id(table, step) for table in COMPARED_TABLES}
        self._transaction(
            lambda: self._connection.execute(
                "UPDATE attempts SET start_step = ? WHERE attempt = ?", (step, self.attempt)
            )
        )

    @property
    def recorded_until(self) -> int:
        """The last step of the history: j of rule 10 after a resume."""
        return max(
            self._one(f"SELECT coalesce(max(step), 0) FROM {table} WHERE superseded_by IS NULL")
            for table in COMPARED_TABLES
        )

    def record(
        self, events: Iterable[Event], system: Mapping[str, float] | None = None, now: float | None = None
    ) -> Recorded:
        """Commits all events in one transaction, or none of them.

        Stream rows of one step are merged if they are in the same call. After a resume a row that
        equals the recorded one is recognised and not written; otherwise both are kept and the newer
        one is the history.

        Args:
            events: in order of their ticks.
            system: local system metrics, recorded at the step of the last event.
            now: seconds since the epoch, for rows without a tick.

        Raises:
            ValueError: for two stream rows of one step in different calls, the same metric twice at
                one step, an `epoch_*` metric without `Epoch`, or an episode with other columns than
                the run's.
            JournalError: if the disk is full or the file cannot be written; nothing of this call
                was kept.
        """
        events = merged(self._as_recorded(event) for event in events)
        for event in events:
            if isinstance(event, ScalarRow | TableSnapshot) and event.tick.step <= self._last_stream_step:
                raise ValueError(
                    f"a {type(event).__name__} at step {event.tick.step}, but the stream stands at step "
                    f"{self._last_stream_step}: W&B takes one row per step; record what belongs to one step in one call"
                )
        now = time.time() if now is None else now
        kept: list[Event] = []
        counts = Counts()
        before = dict(self._compared_until), dict(self._recorded_until), self._episodes

        def write() -> None:
            # Table snapshots last: they count the episodes of this call, too.
            for event in sorted(events, key=lambda event: isinstance(event, TableSnapshot)):
                if isinstance(event, ScalarRow | EpisodeRow | MoveRow):
                    written = self._write_compared(event, counts)
                else:
                    written = self._write_other(event, now)
                if written:
                    kept.append(event)
            if system:
                step = next((e.tick.step for e in reversed(events) if e.tick is not None), 0)
                self._connection.execute(
                    "INSERT INTO system (step, attempt, time, metrics) VALUES (?, ?, ?, ?)",
                    (step, self.attempt, now, _to_json(system)),
                )

        try:
            self._transaction(write)
        except (JournalError, ValueError):
            self._compared_until, self._recorded_until, self._episodes = before
            self._block = BlockBuilder()  # readers summarise the rows that no block covers
            raise
        streamed = [event.tick.step for event in events if isinstance(event, ScalarRow | TableSnapshot)]
        self._last_stream_step = max([self._last_stream_step, *streamed])
        return Recorded(kept, counts.recognised, counts.differing, counts.first_difference)

    def _write_compared(self, event: ScalarRow | EpisodeRow | MoveRow, counts: Counts) -> bool:
        """Inserts a row unless an equal one is recorded. Returns true if it was inserted."""
        step = event.tick.step
        if isinstance(event, ScalarRow):
            table = "stream"
            values: tuple[Any, ...] = (step, self.attempt, event.tick.seconds, _to_json(event.metrics))
        elif isinstance(event, EpisodeRow):
            table = "episodes"
            if event.values.keys() != self.episode_columns.keys():
                unknown = [name for name in event.values if name not in self.episode_columns]
                missing = [name for name in self.episode_columns if name not in event.values]
                which = f"{unknown[0]!r} is unknown" if unknown else f"{missing[0]!r} is missing"
                raise ValueError(
                    f"an episode with other columns than the run's: {which}; they are {list(self.episode_columns)}"
                )
            row = [plain(event.values[name]) for name in self.episode_columns]
            values = (step, self.attempt, event.tick.seconds, *row)
            self._episodes += 1
        else:
            table = "moves"
            action = _to_json([int(part) for part in event.action])
            values = (step, self.attempt, event.episode, event.move, action)
            values += (plain(event.reward), plain(event.residual))
        behind = self._compared_until[table] < self._recorded_until[table]
        if behind and self._recognised(table, values, counts):
            return False
        try:
            cursor = self._connection.execute(self._insert[table], values)
        except sqlite3.IntegrityError as error:
            raise ValueError(f"{table}: a second row of step or number ({error}): {values}") from error
        if isinstance(event, ScalarRow):
            self._block.add(cursor.lastrowid or 0, step, event.metrics)
            if self._block.rows == BLOCK_ROWS:
                block = self._block.take()
                self._connection.execute(
                    "INSERT INTO stream_blocks VALUES (?, ?, ?, ?, ?)",
                    (block.first_id, block.last_id, self.attempt, block.rows, encode(block)),
                )
        return True

    def _recognised(self, table: str, values: tuple[Any, ...], counts: Counts) -> bool:
        """Returns true if a recomputed row equals the next recorded one (rule 10).

        Otherwise all rows of earlier attempts from here on leave the history, in every table: the
        history is one trajectory. They stay in the journal, marked with the attempt that superseded
        them.
        """
        recorded = self._connection.execute(
            f"SELECT * FROM {table} WHERE superseded_by IS NULL AND id > ? ORDER BY id LIMIT 1",
            (self._compared_until[table],),
        ).fetchone()
        compared = dict(self._compared_until)
        self._compared_until[table] = recorded[0]
        if _equal(table, recorded[1:-1], values):
            counts.recognised += 1
            return True
        step = min(values[0], recorded[1])
        # Rows that this attempt recomputed as equal stay in the history, whatever their step.
        for name in COMPARED_TABLES:
            cursor = self._connection.execute(
                f"UPDATE {name} SET superseded_by = ? WHERE superseded_by IS NULL AND id > ? AND attempt < ?",
                (self.attempt, compared[name], self.attempt),
            )
            counts.differing += cursor.rowcount
        self._connection.execute(
            "DELETE FROM stream_blocks WHERE last_id > ? AND attempt < ?", (compared["stream"], self.attempt)
        )
        for name in set(HISTORY_TABLES) - set(COMPARED_TABLES):
            confirmed = ", ".join(map(str, self._confirmed[name]))
            self._connection.execute(
                f"UPDATE {name} SET superseded_by = ? WHERE superseded_by IS NULL AND step >= ? AND attempt < ?"
                f" AND id NOT IN ({confirmed})",
                (self.attempt, step, self.attempt),
            )
        counts.first_difference = step
        self._recorded_until = dict.fromkeys(COMPARED_TABLES, 0)
        return False

    def _write_other(self, event: TableSnapshot | LogMessage | FileRow, now: float) -> bool:
        execute = self._connection.execute
        match event:
            case TableSnapshot(tick):
                there = "SELECT id FROM table_marks WHERE step = ? AND superseded_by IS NULL"
                if recorded := execute(there, (tick.step,)).fetchone():
                    self._confirmed["table_marks"].append(recorded[0])
                    return False
                execute(
                    "INSERT INTO table_marks (step, attempt, rows) VALUES (?, ?, ?)",
                    (tick.step, self.attempt, self._episodes),
                )
            case LogMessage(tick, text, level):
                # A resumed run that passes a step again repeats its messages.
                there = "SELECT 1 FROM notes WHERE step = ? AND text = ? AND attempt < ?"
                if tick is not None and execute(there, (tick.step, text, self.attempt)).fetchone():
                    return False
                execute(
                    "INSERT INTO notes (step, attempt, time, level, text) VALUES (?, ?, ?, ?, ?)",
                    (tick.step if tick else None, self.attempt, tick.seconds if tick else now, level, text),
                )
            case FileRow(tick):
                there = "SELECT id FROM files WHERE step = ? AND path = ? AND sha256 = ? AND superseded_by IS NULL"
                if recorded := execute(there, (tick.step, event.path, event.sha256)).fetchone():
                    self._confirmed["files"].append(recorded[0])
                    return False
                execute(
                    "UPDATE files SET superseded_by = ? WHERE path = ? AND superseded_by IS NULL",
                    (self.attempt, event.path),
                )
                execute(
                    "INSERT INTO files (step, attempt, time, kind, path, sha256, size_bytes, seconds, aliases)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        *(tick.step, self.attempt, tick.seconds, event.kind, event.path, event.sha256),
                        *(event.size_bytes, event.seconds, _to_json(list(event.aliases))),
                    ),
                )
        return True

    def end_attempt(self, status: str) -> None:
        """Records the end of this attempt: `finished`, `interrupted` or `crashed`."""
        self._transaction(
            lambda: self._connection.execute(
                "UPDATE attempts SET ended = ?, status = ? WHERE attempt = ?",
                (time.time(), status, self.attempt),
            )
        )

    def copy_to(self, path: Path) -> None:
        """Copies the journal as it is to `path`: written beside it, then renamed.

        Raises:
            JournalError: the copy cannot be written.
        """
        copy_database(self._connection, path)

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()
        # The last connection removes the write-ahead log, but a read-only one cannot.
        log = wal_of(self.path)
        for _ in range(CLOSE_ATTEMPTS):
            if not log.exists():
                return
            time.sleep(CLOSE_POLL_SECONDS)
            with contextlib.suppress(sqlite3.Error), contextlib.closing(connect(self.path)) as again:
                again.execute("SELECT count(*) FROM attempts").fetchone()

    def _transaction(self, write: Callable[[], object]) -> None:
        try:
            wait_for_lock(self.path, lambda: self._connection.execute("BEGIN IMMEDIATE"))
            write()
            self._connection.execute("COMMIT")
        except BaseException as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise self._explained(error) from error
            raise

    def _explained(self, error: sqlite3.Error) -> JournalError:
        name = self.path.parent.name
        full = "full" in str(error)
        remedy = "free some space" if full else "check the disk"
        return JournalError(
            f"{self.path}: {'the disk is full' if full else f'cannot be written ({error})'}; every row committed "
            f"before is safe; {remedy} and continue with --resume-run {name}"
        )

    def _one(self, query: str) -> int:
        return wait_for_lock(self.path, lambda: self._connection.execute(query).fetchone()[0])

    def _last_id(self, table: str, until_step: int | None = None) -> int:
        """Returns the id of the last row of a table's history (up to a step).

        Searches from the end, so that the length of the history does not matter.
        """
        until = "" if until_step is None else f" AND step <= {until_step:d}"
        query = f"SELECT id FROM {table} WHERE superseded_by IS NULL{until} ORDER BY id DESC LIMIT 1"
        row = wait_for_lock(self.path, lambda: self._connection.execute(query).fetchone())
        return row[0] if row else 0


def _old_columns(spec: SystemSpec, columns: Mapping[str, Kind], path: Path) -> dict[str, str]:
    """Returns the recorded names of renamed episode columns, by current name.

    Raises:
        ConfigError: if the columns of a run are not those of the system; the message names one.
    """
    renamed, found = {}, set()
    for name, kind in spec.episode_columns.items():
        recorded = spec.recorded_column(name, columns)
        if recorded is None:
            raise ConfigError(
                f"{path.parent.name}: its episode table has no column {name!r}, which this version of {spec.name} "
                f"records; it has {', '.join(columns)}; start a new run, or resume with the version that wrote it"
            )
        if columns[recorded] != kind:
            raise ConfigError(
                f"{path.parent.name}: the episode column {recorded!r} is {columns[recorded]} there and {kind} in this "
                f"version of {spec.name}; start a new run, or resume with the version that wrote it"
            )
        found.add(recorded)
        if recorded != name:
            renamed[name] = recorded
    if unknown := [name for name in columns if name not in found]:
        raise ConfigError(
            f"{path.parent.name}: this version of {spec.name} does not know the episode column {unknown[0]!r}; start a "
            "new run, or resume with the version that wrote it"
        )
    return renamed


def _equal(table: str, recorded: tuple[Any, ...], values: tuple[Any, ...]) -> bool:
    """Returns true if two rows agree, except for attempt and wall-clock values."""
    if recorded[0] != values[0]:
        return False
    if table == "stream":
        old, new = (
            {name: value for name, value in json.loads(row[3]).items() if not is_wall_clock(name)}
            for row in (recorded, values)
        )
        # NaN differs from itself: compare as it is written.
        return old == new or _to_json(old) == _to_json(new)
    first = 3 if table == "episodes" else 2
    # SQLite keeps NaN as NULL.
    return all(
        a == b or (a is None and b != b) for a, b in zip(recorded[first:], values[first:], strict=True)
    )


def merged(events: Iterable[Event]) -> list[Event]:
    """Merges the stream rows of each step and checks them; `epoch_*` metrics need `Epoch` (rule 7).

    Raises:
        ValueError: if a metric is recorded twice at one step, steps go backwards, or `Epoch` is
            missing.
    """
    result: list[Event] = []
    last: int | None = None
    for event in events:
        if not isinstance(event, ScalarRow):
            result.append(event)
            continue
        if last is not None and (previous := result[last]).tick == event.tick:
            assert isinstance(previous, ScalarRow)
            if twice := previous.metrics.keys() & event.metrics.keys():
                raise ValueError(
                    f"step {event.tick.step}: {', '.join(sorted(twice))} recorded twice at one step"
                )
            result[last] = dataclasses.replace(previous, metrics={**previous.metrics, **event.metrics})
        else:
            last = len(result)
            result.append(event)
    step = 0
    for event in result:
        if isinstance(event, ScalarRow):
            if event.tick.step <= step:
                raise ValueError(f"stream rows out of order: step {event.tick.step} after step {step}")
            step = event.tick.step
            if "Epoch" not in event.metrics and any(name.startswith("epoch_") for name in event.metrics):
                raise ValueError(f"step {step}: a row with an epoch_* metric must carry Epoch too")
    return result


def schema(columns: Mapping[str, Kind]) -> str:
    """Returns the SQL that creates the tables of an empty journal.

    Args:
        columns: of the episode table; the first is its key.
    """
    definitions = "".join(f"    {quoted(name)} {SQL_TYPES[kind]},\n" for name, kind in columns.items())
    return (
        resources.files("matrixrl.tracking").joinpath("schema.sql").read_text(encoding="utf-8")
        + "\nCREATE TABLE episodes (\n    id INTEGER PRIMARY KEY,\n    step INTEGER NOT NULL,\n"
        f"    attempt INTEGER NOT NULL,\n    time REAL NOT NULL,\n{definitions}    superseded_by INTEGER\n);\n"
        f"CREATE UNIQUE INDEX episodes_history ON episodes ({quoted(next(iter(columns)))})"
        " WHERE superseded_by IS NULL;\n"
        "CREATE INDEX episodes_steps ON episodes (step);\n"
        f"PRAGMA user_version = {SCHEMA_VERSION};"
    )


def connect(path: Path) -> sqlite3.Connection:
    """Opens a journal for writing with explicit transactions; run `DURABILITY` before the first."""
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=LOCK_POLL_SECONDS)


def copy_database(connection: sqlite3.Connection, path: Path) -> None:
    """Copies a database as it is to `path`: written beside it, then renamed.

    Raises:
        JournalError: the copy cannot be written.
    """
    try:
        with whole_file(path) as draft, contextlib.closing(sqlite3.connect(draft)) as copy:
            connection.backup(copy)
    except (sqlite3.Error, OSError) as error:
        raise JournalError(f"{path}: the journal cannot be copied there ({error})") from error


MIGRATIONS: Mapping[int, str] = {
    # Rows that were recorded before get no blocks: readers summarise them themselves.
    1: (
        "CREATE TABLE stream_blocks (first_id INTEGER PRIMARY KEY, last_id INTEGER NOT NULL, attempt INTEGER NOT NULL,"
        " rows INTEGER NOT NULL, metrics TEXT NOT NULL)"
    ),
}
"""From a schema version to the SQL that makes it the next one."""


def check_version(version: int, path: Path) -> None:
    """Checks that this matrixrl reads a schema version.

    Raises:
        ConfigError: if the schema is newer than this version of matrixrl, or unknown.
    """
    if version > SCHEMA_VERSION:
        raise ConfigError(
            f"{path}: journal schema {version}; this matrixrl knows up to {SCHEMA_VERSION}: install a newer matrixrl"
        )
    if version < SCHEMA_VERSION and version not in MIGRATIONS:
        raise ConfigError(f"{path}: journal schema {version} is none that matrixrl ever wrote")


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Migrates an older schema in place, in one transaction.

    Raises:
        ConfigError: if the schema is newer than this version of matrixrl.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    check_version(version, path)
    for older in range(version, SCHEMA_VERSION):
        connection.executescript(
            f"BEGIN IMMEDIATE; {MIGRATIONS[older]}; PRAGMA user_version = {older + 1}; COMMIT;"
        )
