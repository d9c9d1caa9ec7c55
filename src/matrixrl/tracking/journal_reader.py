"""Reader of a run's journal: read-only, also while it is being written or if parts are damaged.

A reader creates no file and changes none, not even a time: SQLite would create a write-ahead log
and its index, and reading a run would look like activity of its writer.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from matrixrl.config import ConfigError
from matrixrl.tracking.blocks import BLOCK_ROWS, BlockBuilder, StreamBlock, decode
from matrixrl.tracking.events import Kind, Scalar
from matrixrl.tracking.journal import (
    JOURNAL_FILE,
    JournalError,
    JournalLockedError,
    check_version,
    copy_database,
    is_locked,
    quoted,
    wal_of,
)
from matrixrl.tracking.numbers import plural
from matrixrl.tracking.spec import VARIANT, SystemSpec, delivered_metrics, recorded_spec

READ_SECONDS = 10.0
"""Maximum time in seconds that a reader waits for a process that has the journal locked."""

STEPPED_TABLES = ("stream", "episodes", "moves", "table_marks", "files")
"""Tables whose rows all have a step and an attempt."""

EXACT_ROWS = 30_000
"""Up to this number of rows of the stream, summaries are of single rows."""


class StreamRow(NamedTuple):
    """A row of the stream. `superseded_by` is the attempt that replaced it in the history."""

    step: int
    attempt: int
    time: float
    metrics: dict[str, Any]
    superseded_by: int | None


class EpisodeRecord(NamedTuple):
    """A row of the episode table; `values` in the order of the run's columns."""

    step: int
    attempt: int
    time: float
    values: tuple[Scalar, ...]
    superseded_by: int | None


class MoveRecord(NamedTuple):
    """A move; `action` as integers."""

    step: int
    attempt: int
    episode: int
    move: int
    action: list[int]
    reward: float
    residual: float
    superseded_by: int | None


class Mark(NamedTuple):
    """A step at which the complete episode table goes to W&B, with the rows it then has."""

    step: int
    attempt: int
    rows: int
    superseded_by: int | None


class FileRecord(NamedTuple):
    """A checkpoint or another file of the run folder."""

    step: int
    attempt: int
    time: float
    kind: str
    path: str
    sha256: str
    size_bytes: int
    seconds: float
    aliases: list[str]


class NoteRecord(NamedTuple):
    """A message that was shown to the user."""

    step: int | None
    attempt: int
    time: float
    level: str
    text: str


class Attempt(NamedTuple):
    """One process that wrote the run: from its start, or from a resume, to its end."""

    attempt: int
    started: float
    ended: float | None
    status: str | None
    host: str
    pid: int
    start_step: int


class PendingRow(NamedTuple):
    """A row for the sinks: the metrics at a step, and the number of rows of the episode table
    there.

    `time` is in seconds since the epoch, 0 for a step that only has a table.
    """

    step: int
    time: float
    metrics: dict[str, Any]
    table_rows: int | None


class JournalReader:
    """Reads the journal of a run folder. Each call is one short read transaction, so that it never
    blocks the writer.

    Attributes:
        damage: the parts that could not be read, in words; empty for a good journal. Rows before
            the damage are returned, and rows after it if a page in the middle is bad.
        meta: name, run_id, system, project, entity, config, created, matrixrl, ...
        episode_columns: the columns of the episode table and their kinds; the first is its key.

    Raises:
        ConfigError: if there is no journal, or its schema is newer than this matrixrl.
        JournalError: if nothing in it can be read.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / JOURNAL_FILE
        self.damage: list[str] = []
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        self._still: tuple[int, int] | None = None
        if not self.path.exists():
            raise ConfigError(f"{self.path}: there is no journal here; see `matrixrl runs list`")
        try:
            if not self.path.stat().st_size:
                raise ValueError("the file is empty")
            self._connection, version = self._open()
            self._has_blocks = version >= 2
            rows = self._connection.execute("SELECT key, value FROM meta").fetchall()
            self.meta: dict[str, Any] = {key: json.loads(value) for key, value in rows}
            self.episode_columns: Mapping[str, Kind] = self.meta["episode_columns"]
            if not self.episode_columns or not isinstance(self.episode_columns, dict):
                raise ValueError("the columns of the episode table are not recorded")
        except ConfigError:
            self._remove_copy()
            raise
        except (sqlite3.Error, OSError, TypeError, ValueError, KeyError) as error:
            self._remove_copy()
            if is_locked(error):
                raise self._unreadable("", error) from error
            reason = f"no {error} is recorded" if isinstance(error, KeyError) else error
            raise JournalError(f"{self.path}: nothing of this journal can be read ({reason})") from error

    def _open(self) -> tuple[sqlite3.Connection, int]:
        log = wal_of(self.path)
        if not (log.exists() and log.stat().st_size):
            # No writer: a journal at rest is one file, which SQLite does not need to lock.
            status = self.path.stat()
            self._still = status.st_size, status.st_mtime_ns
            return self._connected(f"{self.path.resolve().as_uri()}?immutable=1")
        try:
            # Leave the index of the log unchanged; if a killed writer left none, SQLite builds one
            # in memory.
            return self._connected(f"{self.path.resolve().as_uri()}?mode=ro&readonly_shm=1")
        except sqlite3.OperationalError as error:
            if is_locked(error):
                raise
        # A log without its index: the folder is a copy.
        self._copy = tempfile.TemporaryDirectory(prefix="matrixrl-")
        own = Path(self._copy.name) / JOURNAL_FILE
        shutil.copyfile(self.path, own)
        shutil.copyfile(log, wal_of(own))
        return self._connected(own.as_uri())

    def _connected(self, uri: str) -> tuple[sqlite3.Connection, int]:
        connection = sqlite3.connect(uri, uri=True, timeout=READ_SECONDS, check_same_thread=False)
        try:
            version = self._version(connection)
            check_version(version, self.path)
        except BaseException:
            connection.close()
            raise
        return connection, version

    def _version(self, connection: sqlite3.Connection) -> int:
        try:
            return connection.execute("PRAGMA user_version").fetchone()[0]
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            # A file that is shorter than its header says is read only with this setting.
            connection.execute("PRAGMA writable_schema = ON")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            self.damage.append(f"{self.path}: the file is cut off ({error})")
            return version

    def _remove_copy(self) -> None:
        if self._copy is not None:
            self._copy.cleanup()
            self._copy = None

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()
        self._remove_copy()

    def __enter__(self) -> JournalReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_outdated(self) -> bool:
        """True if a journal at rest was written to since it was opened: its rows may be of two
        times.
        """
        if self._still is None:
            return False
        status = self.path.stat()
        return self._still != (status.st_size, status.st_mtime_ns)

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Makes all reads inside the block see one state; does not block the writer."""
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")

    @property
    def data_version(self) -> int:
        """Number that changes when the writer commits; cheap to poll."""
        return self._connection.execute("PRAGMA data_version").fetchone()[0]

    def stream(
        self,
        after: int | None = None,
        limit: int | None = None,
        history: bool = True,
        after_id: int = 0,
        containing: Sequence[str] = (),
    ) -> Iterator[StreamRow]:
        """Yields rows of the stream in order.

        Args:
            after: only rows with a greater step.
            limit: maximum number of rows.
            history: skip rows that a later attempt superseded. False yields all rows in the order
                of recording.
            after_id: only rows recorded after the one with this id.
            containing: only rows whose metrics, as text, contain one of these.
        """
        columns = "step, attempt, time, metrics, superseded_by"
        condition, given = containing_one(containing)
        for step, attempt, time, metrics, by in self._rows(
            "stream", columns, after, limit, history, f"id > {after_id:d} AND {condition}", given
        ):
            if (values := self._parsed(metrics, "stream")) is not None:
                yield StreamRow(step, attempt, time, values, by)

    def recorded_rows(self, first: int, last: int) -> dict[int, list[dict[str, Any]]]:
        """Returns the metrics for sinks that were recorded at the steps from `first` to `last`,
        superseded attempts included.

        A step with only a table snapshot has an empty mapping.
        """
        found: dict[int, list[dict[str, Any]]] = {}
        between = f"step >= {first:d} AND step <= {last:d}"
        for step, metrics in self._rows("stream", "step, metrics", None, None, False, between):
            if (values := self._parsed(metrics, "stream")) is not None:
                found.setdefault(step, []).append(self.delivered(values))
        for (step,) in self._rows("table_marks", "step", None, None, False, between):
            found.setdefault(step, [{}])
        return found

    def last_stream_step(self) -> int:
        """Returns the last step of the stream's history; 0 if there is none."""
        query = "SELECT coalesce(max(step), 0) FROM stream WHERE superseded_by IS NULL"
        return self._connection.execute(query).fetchone()[0]

    def episodes(
        self,
        after: int | None = None,
        limit: int | None = None,
        history: bool = True,
        after_id: int = 0,
    ) -> Iterator[EpisodeRecord]:
        """Yields rows of the episode table in the order in which the episodes ended."""
        names = list(self.episode_columns)
        columns = ", ".join(["step", "attempt", "time", *map(quoted, names), "superseded_by"])
        truths = [index for index, name in enumerate(names) if self.episode_columns[name] == "bool"]
        for step, attempt, time, *values, by in self._rows(
            "episodes", columns, after, limit, history, f"id > {after_id:d}"
        ):
            for index in truths:
                if values[index] is not None:
                    values[index] = bool(values[index])
            yield EpisodeRecord(step, attempt, time, tuple(values), by)

    def episode_id(self, number: int) -> int | None:
        """Returns the id of the episode in the history with this global number; None if there is
        none.
        """
        key = quoted(next(iter(self.episode_columns)))
        query = f"SELECT id FROM episodes WHERE {key} = ? AND superseded_by IS NULL"
        try:
            row = self._connection.execute(query, (number,)).fetchone()
        except sqlite3.DatabaseError as error:
            self._damaged("episodes", error)
            return None
        return row[0] if row else None

    def moves(
        self, history: bool = True, after_id: int = 0, episode: int | None = None
    ) -> Iterator[MoveRecord]:
        """Yields moves in order, if the run recorded them; those of one episode if it is given."""
        columns = "step, attempt, episode, move, action, reward, residual, superseded_by"
        condition = f"id > {after_id:d}" + ("" if episode is None else f" AND episode = {episode:d}")
        for row in self._rows("moves", columns, None, None, history, condition):
            step, attempt, of_episode, move, action, reward, residual, by = row
            if (integers := self._parsed(action, "moves", list)) is not None:
                yield MoveRecord(step, attempt, of_episode, move, integers, reward, residual, by)

    def move_episodes(self) -> tuple[int, int] | None:
        """Returns the first and the last number of an episode whose moves were recorded; None if
        none were.
        """
        try:
            query = "SELECT min(episode), max(episode) FROM moves WHERE superseded_by IS NULL"
            first, last = self._connection.execute(query).fetchone()
        except sqlite3.DatabaseError as error:
            self._damaged("moves", error)
            return None
        return (first, last) if type(first) is int and type(last) is int else None

    def marks(self, after: int | None = None, history: bool = True) -> Iterator[Mark]:
        """Yields the steps at which the episode table goes to W&B."""
        for row in self._rows("table_marks", "step, attempt, rows, superseded_by", after, None, history):
            if type(row[2]) is int:
                yield Mark(*row)
            else:
                self._damaged("table_marks", ValueError("a mark without a number of rows"))

    def files(self) -> Iterator[FileRecord]:
        """Yields checkpoints and other files, the newest of each path."""
        columns = "step, attempt, time, kind, path, sha256, size_bytes, seconds, aliases"
        for row in self._rows("files", columns, None, None, True):
            step, attempt, time, kind, path, sha256, size_bytes, seconds, aliases = row
            if not (isinstance(path, str) and isinstance(sha256, str) and isinstance(kind, str)):
                self._damaged("files", ValueError("a row without a path"))
            elif (names := self._parsed(aliases, "files", list)) is not None:
                yield FileRecord(step, attempt, time, kind, path, sha256, size_bytes, seconds, names)

    def notes(self) -> Iterator[NoteRecord]:
        """Yields messages to the user, in order."""
        for row in self._rows("notes", "step, attempt, time, level, text", None, None, False):
            if isinstance(row[3], str) and isinstance(row[4], str):
                yield NoteRecord(*row)
            else:
                self._damaged("notes", ValueError("a note without text"))

    def system(self) -> Iterator[StreamRow]:
        """Yields samples of the local system metrics, in order."""
        for step, attempt, time, metrics in self._rows(
            "system", "step, attempt, time, metrics", None, None, False
        ):
            if (values := self._parsed(metrics, "system")) is not None:
                yield StreamRow(step, attempt, time, values, None)

    def attempts(self) -> list[Attempt]:
        """Returns every process that wrote this run."""
        columns = "attempt, started, ended, status, host, pid, start_step"
        try:
            rows = self._connection.execute(f"SELECT {columns} FROM attempts ORDER BY attempt").fetchall()
        except sqlite3.DatabaseError as error:
            self._damaged("attempts", error)
            return []
        return [Attempt(*row) for row in rows if self.is_attempt(row)]

    def config(self) -> dict[str, Any]:
        """Returns the settings of the newest attempt, with which a resumed run continues."""
        query = "SELECT config FROM attempts ORDER BY attempt DESC LIMIT 1"
        try:
            return json.loads(self._connection.execute(query).fetchone()[0])
        except (sqlite3.DatabaseError, TypeError, ValueError) as error:
            raise self._unreadable("the run's settings cannot be read", error) from error

    @property
    def spec(self) -> SystemSpec | None:
        """Spec of the run's system; None if the run recorded none and the system is not known here.

        Raises:
            ConfigError: if it has a field that this version does not know.
        """
        return recorded_spec(self.meta, str(self.path))

    @cached_property
    def local_metrics(self) -> tuple[str, ...]:
        """Patterns of the metrics that stay in the journal (`SystemSpec.local_metrics`), as the run
        recorded them.
        """
        recorded = self.meta.get("spec")
        patterns = recorded.get("local_metrics", ()) if isinstance(recorded, dict) else ()
        return tuple(pattern for pattern in patterns if isinstance(pattern, str))

    def delivered(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the metrics of a row that go to sinks."""
        return delivered_metrics(metrics, self.local_metrics)

    def deliverable(self, after: int, limit: int) -> list[PendingRow]:
        """Returns the next rows for a sink: stream rows and table marks of the history, one per
        step, in order.

        They are without the metrics that stay in the journal. A row that has no others is empty: it
        only moves the cursor on.

        Raises:
            JournalError: the journal is damaged.
        """
        connection = self._connection
        try:
            # One transaction, so that a row and a mark that were committed together are seen
            # together.
            connection.execute("BEGIN")
            try:
                rows = connection.execute(
                    "SELECT step, time, metrics FROM stream WHERE superseded_by IS NULL AND step > ? ORDER BY step LIMIT ?",
                    (after, limit),
                ).fetchall()
                until = rows[-1][0] if len(rows) == limit else 2**62
                marks = connection.execute(
                    "SELECT step, rows FROM table_marks WHERE superseded_by IS NULL AND step > ? AND step <= ?",
                    (after, until),
                ).fetchall()
            finally:
                connection.execute("COMMIT")
            merged = {
                step: PendingRow(step, at, self.delivered(json.loads(metrics)), None)
                for step, at, metrics in rows
            }
        except (sqlite3.DatabaseError, TypeError, ValueError) as error:
            raise self._unreadable("damaged", error) from error
        for step, table_rows in marks:
            row = merged.get(step, PendingRow(step, 0.0, {}, None))
            merged[step] = row._replace(table_rows=table_rows)
        return [merged[step] for step in sorted(merged)]

    def count_deliverable(self, after: int = 0) -> int:
        """Returns the number of rows that `deliverable` has after a step."""
        query = (
            "SELECT (SELECT count(*) FROM stream WHERE superseded_by IS NULL AND step > ?1) + (SELECT count(*) FROM"
            " table_marks AS mark WHERE superseded_by IS NULL AND step > ?1 AND NOT EXISTS (SELECT 1 FROM stream"
            " WHERE superseded_by IS NULL AND step = mark.step))"
        )
        try:
            return self._connection.execute(query, (after,)).fetchone()[0]
        except sqlite3.DatabaseError as error:
            raise self._unreadable("damaged", error) from error

    def last_episodes(self, until_step: int, limit: int) -> list[list[Scalar]]:
        """Values of the last episodes of the history up to a step, in order."""
        names = list(self.episode_columns)
        truths = [index for index, name in enumerate(names) if self.episode_columns[name] == "bool"]
        query = (
            f"SELECT {', '.join(map(quoted, names))} FROM episodes WHERE superseded_by IS NULL AND step <= ?"
            " ORDER BY id DESC LIMIT ?"
        )
        try:
            rows = [list(row) for row in self._connection.execute(query, (until_step, limit))]
        except sqlite3.DatabaseError as error:
            raise self._unreadable("damaged", error) from error
        for row in rows:
            for index in truths:
                row[index] = None if row[index] is None else bool(row[index])
        return rows[::-1]

    def best(self, column: str, lowest: bool, only_where: str | None = None) -> float | None:
        """Returns the best value of a column of the episode table; None if there is none.

        Args:
            lowest: lower values are better.
            only_where: a column that must be true.
        """
        where = f" AND {quoted(only_where)}" if only_where else ""
        query = f"SELECT {'min' if lowest else 'max'}({quoted(column)}) FROM episodes WHERE superseded_by IS NULL{where}"
        try:
            value = self._connection.execute(query).fetchone()[0]
        except sqlite3.DatabaseError as error:
            self._damaged("episodes", error)
            return None
        return value if isinstance(value, int | float) else None

    def best_metric(self, name: str, lowest: bool) -> float | None:
        """Returns the best finite value of a metric of the stream, or of its variants per problem
        size (`_2x2x3`).

        Args:
            lowest: lower values are better.
        """
        pattern = re.compile(f"{re.escape(name)}({VARIANT})?")
        found = [
            metric.low if lowest else metric.high
            for block in self.blocks(name)
            for other, metric in block.metrics.items()
            if metric.count and pattern.fullmatch(other)
        ]
        there = [value for value in found if value is not None]
        return (min if lowest else max)(there, default=None)

    def last_id(self) -> int:
        """Returns the last id of the stream."""
        return self._one("SELECT coalesce(max(id), 0) FROM stream", "stream") or 0

    def parts(self, metric: str | None = None) -> Iterator[StreamBlock | range]:
        """Yields the history of the stream in the order of recording: the writer's summaries, and
        ranges of ids that it did not summarise.

        Journals of older versions have no summaries; those of later ones lack a few rows after a
        resume and at their end. A stream of up to `EXACT_ROWS` rows is not summarised.

        Args:
            metric: the start of a metric's name; summaries without such a metric are left out.
        """
        position, last = 0, self.last_id()
        kept: list[tuple[Any, ...]] = []
        if self._has_blocks and last > EXACT_ROWS:
            contains, given = containing_one([] if metric is None else [f'"{metric}'])
            metrics_if = f"CASE WHEN {contains} THEN metrics END"
            query = f"SELECT first_id, last_id, rows, {metrics_if} FROM stream_blocks ORDER BY first_id"
            try:
                kept = self._connection.execute(query, given).fetchall()
            except sqlite3.DatabaseError as error:
                self._damaged("stream_blocks", error)
        for first_id, last_id, rows, metrics in kept:
            if not all(type(value) is int for value in (first_id, last_id, rows)) or first_id <= position:
                continue
            if metrics is None:
                block = None
            else:
                try:
                    block = StreamBlock(first_id, last_id, rows, decode(metrics))
                except (TypeError, ValueError, AttributeError) as error:
                    self._damaged("stream_blocks", error)
                    continue
            if first_id > position + 1:
                yield range(position + 1, first_id)
            position = last_id
            if block is not None:
                yield block
        yield range(position + 1, last + 1)

    def blocks(self, metric: str | None = None) -> Iterator[StreamBlock]:
        """Yields summaries of the complete history of the stream in the order of recording."""
        for part in self.parts(metric):
            if isinstance(part, StreamBlock):
                yield part
                continue
            builder = BlockBuilder()
            for identity, step, metrics in self.rows_where(
                part, *containing_one([f'"{metric}'] if metric else [])
            ):
                builder.add(identity, step, metrics)
                if builder.rows == BLOCK_ROWS:
                    yield builder.take()
            if builder.rows:
                yield builder.take()

    def rows_where(
        self, ids: range, condition: str = "1", given: tuple[Any, ...] = (), limit: int | None = None
    ) -> Iterator[tuple[int, int, dict[str, Any]]]:
        """Yields id, step and metrics of rows of the stream's history.

        Args:
            ids: consecutive ids.
            condition: in SQL, on the columns of the stream.
            given: the values of its placeholders.
            limit: maximum number of rows.
        """
        between = f"id BETWEEN {ids.start:d} AND {ids.stop - 1:d} AND {condition}"
        for identity, step, text in self._rows(
            "stream", "id, step, metrics", None, limit, True, between, given
        ):
            if type(step) is not int:
                self._damaged("stream", ValueError("a row without a step"))
            elif (metrics := self._parsed(text, "stream")) is not None:
                yield identity, step, metrics

    def last_row_where(self, ids: range, condition: str, given: tuple[Any, ...]) -> dict[str, Any] | None:
        """Returns the metrics of the last row among `rows_where`."""
        between = f"id BETWEEN {ids.start:d} AND {ids.stop - 1:d} AND {condition}"
        query = (
            f"SELECT metrics FROM stream WHERE superseded_by IS NULL AND {between} ORDER BY id DESC LIMIT 1"
        )
        try:
            row = self._connection.execute(query, given).fetchone()
        except sqlite3.DatabaseError as error:
            self._damaged("stream", error)
            return None
        return self._parsed(row[0], "stream") if row else None

    def timed_rows(self, ids: range) -> Iterator[tuple[int, int, int, float, dict[str, Any]]]:
        """Yields id, step, attempt, time and metrics of rows of the stream's history.

        Args:
            ids: consecutive ids.
        """
        between = f"id BETWEEN {ids.start:d} AND {ids.stop - 1:d}"
        columns = "id, step, attempt, time, metrics"
        for identity, step, attempt, time, text in self._rows("stream", columns, None, None, True, between):
            if not (type(step) is int and type(attempt) is int and isinstance(time, float)):
                self._damaged("stream", ValueError("a row without step, attempt or time"))
            elif (metrics := self._parsed(text, "stream")) is not None:
                yield identity, step, attempt, time, metrics

    def ids_of_steps(self, first: float, last: float) -> range:
        """Returns the range of ids of the rows of the stream's history with steps from `first` to
        `last`.
        """
        query = "SELECT min(id), max(id) FROM stream WHERE superseded_by IS NULL AND step BETWEEN ? AND ?"
        try:
            low, high = self._connection.execute(query, (first, last)).fetchone()
        except sqlite3.DatabaseError as error:
            self._damaged("stream", error)
            return range(0)
        return range(0) if low is None else range(low, high + 1)

    def moments(self, ids: Sequence[int]) -> list[tuple[int, int, float]]:
        """Returns step, attempt and time of rows of the stream that exist, in the order of ids."""
        found: list[tuple[int, int, float]] = []
        query = "SELECT step, attempt, time FROM stream WHERE id = ?"
        try:
            for identity in ids:
                row = self._connection.execute(query, (identity,)).fetchone()
                if row is not None and isinstance(row[2], float):
                    found.append(row)
        except sqlite3.DatabaseError as error:
            self._damaged("stream", error)
        return found

    def is_history(self, table: str, identity: int) -> bool:
        """Returns true if a row is there and no later attempt replaced it."""
        query = f"SELECT superseded_by IS NULL FROM {table} WHERE id = ?"
        try:
            row = self._connection.execute(query, (identity,)).fetchone()
        except sqlite3.DatabaseError as error:
            self._damaged(table, error)
            return False
        return row is not None and bool(row[0])

    def episode_values(self, names: Sequence[str], after_id: int = 0) -> Iterator[tuple[Any, ...]]:
        """Yields id and values of some columns of the episode table's history, as they are stored
        (truth values as 0 and 1), in the order of recording.
        """
        columns = ", ".join(["id", *map(quoted, names)])
        query = f"SELECT {columns} FROM episodes WHERE superseded_by IS NULL AND id > ? ORDER BY id"
        try:
            yield from self._connection.execute(query, (after_id,))
        except sqlite3.DatabaseError as error:
            self._damaged("episodes", error)

    def episode_rows(self, ids: Sequence[int]) -> list[EpisodeRecord]:
        """Returns rows of the episode table by their ids, in the order of these."""
        names = list(self.episode_columns)
        columns = ", ".join(["step", "attempt", "time", *map(quoted, names), "superseded_by"])
        truths = [index for index, name in enumerate(names) if self.episode_columns[name] == "bool"]
        found: list[EpisodeRecord] = []
        try:
            for identity in ids:
                query = f"SELECT {columns} FROM episodes WHERE id = ?"
                row = self._connection.execute(query, (identity,)).fetchone()
                if row is None:
                    continue
                step, attempt, time, *values, by = row
                for index in truths:
                    values[index] = None if values[index] is None else bool(values[index])
                found.append(EpisodeRecord(step, attempt, time, tuple(values), by))
        except sqlite3.DatabaseError as error:
            self._damaged("episodes", error)
        return found

    def ids(self, table: str, step: int | None = None) -> list[int]:
        """Returns ids of all rows of a table (at a step) in the order of recording.

        A good journal has no gaps in them.
        """
        where = "1" if step is None else f"step = {step:d}"
        try:
            rows = self._connection.execute(f"SELECT id FROM {table} WHERE {where} ORDER BY id").fetchall()
        except sqlite3.DatabaseError as error:
            self._damaged(table, error)
            return []
        return [row[0] for row in rows]

    def fault(self) -> str | None:
        """Returns the first damage in a line; None for a good journal. Reads the complete file."""
        try:
            (answer,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
            if answer != "ok":
                self.damage.append(f"{self.path}: {' '.join(str(answer).split())}")
            for table in STEPPED_TABLES:
                where = "typeof(step) <> 'integer' OR typeof(attempt) <> 'integer'"
                query = f"SELECT count(*) FROM {table} WHERE {where}"
                if count := self._connection.execute(query).fetchone()[0]:
                    self._damaged(table, ValueError(f"{plural(count, 'row')} without a step"))
        except sqlite3.DatabaseError as error:
            if is_locked(error):
                raise self._unreadable("", error) from error
            self.damage.append(f"{self.path}: {error}")
        self.check_stream()
        self.attempts()
        return self.damage[0].removeprefix(f"{self.path}: ") if self.damage else None

    def raw_rows(self, table: str) -> Iterator[tuple[Any, ...]]:
        """Yields all readable rows of a table with all columns, superseded ones included."""
        try:
            found = self._connection.execute(f"PRAGMA table_info({table})").fetchall()
        except sqlite3.DatabaseError as error:
            self._damaged(table, error)
            return
        names = [name for _, name, *_ in found]
        if "id" in names:
            # The id once more: `_rows` expects an integer there.
            yield from self._rows(table, ", ".join(map(quoted, names)), None, None, False)
        elif names:
            try:
                yield from self._connection.execute(f"SELECT {', '.join(map(quoted, names))} FROM {table}")
            except sqlite3.DatabaseError as error:
                self._damaged(table, error)

    def count_rows(self, table: str) -> tuple[int, int | None]:
        """Returns the number of rows of a table, superseded ones included, and the first missing
        id, if any.
        """
        try:
            count, last = self._connection.execute(f"SELECT count(*), max(id) FROM {table}").fetchone()
        except sqlite3.DatabaseError as error:
            self._damaged(table, error)
            return 0, None
        if count == (last or 0):
            return count, None
        missing = (expected for expected, identity in enumerate(self.ids(table), 1) if identity != expected)
        return count, next(missing, None)

    def typed_rows(
        self, table: str, columns: Mapping[str, Kind]
    ) -> Iterator[tuple[int, tuple[Any, ...] | None]]:
        """Yields all rows of a table, superseded ones included, in the order of recording.

        Args:
            columns: names and kinds.

        Yields:
            The id of a row, and its step and values; None instead of these if a value is not of its
            column's kind. A bool is `yes` or `no`.
        """
        selected, tests = ["step"], ["typeof(step) = 'integer'"]
        types = {"int": "integer", "float": "real", "str": "text", "bool": "integer"}
        for name, kind in columns.items():
            column = quoted(name)
            selected.append(f"CASE {column} WHEN 0 THEN 'no' ELSE 'yes' END" if kind == "bool" else column)
            tests.append(f"typeof({column}) = '{types[kind]}'")
        # The id is repeated where `_rows` expects an integer, so that every row gets here.
        query = f"id, {' AND '.join(tests)}, {', '.join(selected)}"
        for row in self._rows(table, query, None, None, False):
            yield row[0], row[2:] if row[1] else None

    def steps(self, table: str) -> Iterator[int]:
        """Yields the steps of the history of a table in the order of recording."""
        for (step,) in self._rows(table, "step", None, None, True):
            yield step

    def episode_numbers(self) -> Iterator[tuple[int, Any]]:
        """Yields step and number of the episodes of the history in the order of recording."""
        key = quoted(next(iter(self.episode_columns)))
        yield from self._rows("episodes", f"step, {key}", None, None, True)

    def check_stream(self) -> None:
        """Records damage if the metrics of a row are not a JSON object."""
        # SQLite's JSON has no NaN and no infinity: the few rows that it refuses are read once more.
        suspect = "(NOT json_valid(metrics) OR substr(metrics, 1, 1) <> '{')"
        for _, text in self._rows("stream", "step, metrics", None, None, False, suspect):
            self._parsed(text, "stream")

    def copy_to(self, path: Path) -> None:
        """Copies the complete journal, also while it is being written; does not block the writer.

        Raises:
            JournalError: if the journal is damaged, or the copy cannot be written.
        """
        copy_database(self._connection, path)

    def is_empty(self, table: str) -> bool:
        """Returns true if a table has no row, superseded or not."""
        try:
            return self._connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() is None
        except sqlite3.DatabaseError as error:
            self._damaged(table, error)
            return False

    def has_superseded(self, table: str, step: int) -> bool:
        """Returns true if a later attempt replaced rows of a table at a step."""
        query = f"SELECT 1 FROM {table} WHERE step = ? AND superseded_by IS NOT NULL LIMIT 1"
        try:
            return self._connection.execute(query, (step,)).fetchone() is not None
        except sqlite3.DatabaseError as error:
            self._damaged(table, error)
            return True

    def count(self, table: str, after: int = 0) -> int:
        """Returns the number of rows in the history of a table with a step greater than `after`.

        Raises:
            JournalError: if the index is damaged.
        """
        query = f"SELECT count(*) FROM {table} WHERE superseded_by IS NULL AND step > ?"
        try:
            return self._connection.execute(query, (after,)).fetchone()[0]
        except sqlite3.DatabaseError as error:
            raise self._unreadable(f"{table} cannot be counted", error) from error

    def last_step(self) -> int:
        """Returns the last step of stream, episodes and moves."""
        steps = [0]
        for table in ("stream", "episodes", "moves"):
            try:
                row = self._connection.execute(
                    f"SELECT step FROM {table} WHERE superseded_by IS NULL ORDER BY id DESC LIMIT 1"
                ).fetchone()
            except sqlite3.DatabaseError as error:
                self._damaged(table, error)
                continue
            steps += [step for step in row or () if isinstance(step, int)]
        return max(steps)

    def _rows(
        self,
        table: str,
        columns: str,
        after: int | None,
        limit: int | None,
        history: bool,
        condition: str = "",
        values: tuple[Any, ...] = (),
    ) -> Iterator[tuple[Any, ...]]:
        conditions = [condition or "1"]
        if history:
            conditions.append("superseded_by IS NULL")
        if after is not None:
            conditions.append(f"step > {after:d}")
        where = " AND ".join(conditions)
        # In the history rows are in the order of their steps: except for superseded rows, a journal
        # is append-only.
        order = "step, id" if after is not None else "id"
        last = 0
        query = f"SELECT id, {columns} FROM {table} WHERE {where}"
        try:
            cursor = self._connection.execute(
                f"{query} ORDER BY {order} LIMIT {-1 if limit is None else limit:d}", values
            )
            for row in cursor:
                last = row[0]
                if type(row[1]) is int or self._is_sound(row, table):
                    yield row[1:]
            return
        except sqlite3.DatabaseError as error:
            self._damaged(table, error)
        # Read the rows after a bad page from the other end.
        rest: list[tuple[Any, ...]] = []
        try:
            for row in self._connection.execute(f"{query} AND id > {last:d} ORDER BY id DESC", values):
                if self._is_sound(row, table):
                    rest.append(row[1:])
        except sqlite3.DatabaseError:
            pass
        yield from reversed(rest)

    def is_attempt(self, row: tuple[Any, ...]) -> bool:
        """Returns true if a row of the attempts has values of the right types: a bad page may hold
        anything.
        """
        attempt, started, ended, status, host, pid, start_step = row
        sound = all(type(value) is int for value in (attempt, pid, start_step))
        sound = sound and isinstance(started, float) and isinstance(ended, float | None)
        if sound and isinstance(status, str | None) and isinstance(host, str):
            return True
        self._damaged("attempts", ValueError("a row that is no attempt"))
        return False

    def _is_sound(self, row: tuple[Any, ...], table: str) -> bool:
        """Returns true if a row has a step after its id: a bad page may hold anything."""
        if type(row[1]) is int or (row[1] is None and table == "notes"):
            return True
        self._damaged(table, ValueError("a row without a step"))
        return False

    def _parsed(self, text: str, table: str, kind: type = dict) -> Any:
        """Returns a JSON value; None, with the damage recorded, if it is of another type."""
        try:
            value = json.loads(text)
            if isinstance(value, kind):
                return value
            error: Exception = ValueError(f"a {type(value).__name__} instead of a {kind.__name__}")
        except (ValueError, TypeError) as caught:
            error = caught
        self._damaged(table, error)
        return None

    def _unreadable(self, what: str, error: Exception) -> JournalError:
        """Returns the error to raise if nothing can be returned."""
        if is_locked(error):
            return JournalLockedError(
                f"{self.path}: another process has had the journal locked for {READ_SECONDS:.0f} s; try again later"
            )
        return JournalError(f"{self.path}: {what} ({error})")

    def _damaged(self, table: str, error: Exception) -> None:
        if is_locked(error):
            raise self._unreadable("", error) from error
        text = f"{self.path}: a part of {table} cannot be read ({error})"
        if text not in self.damage:
            self.damage.append(text)

    def _one(self, query: str, table: str) -> Any:
        """Returns the value of a query; None, with the damage recorded, if it cannot be read."""
        try:
            return self._connection.execute(query).fetchone()[0]
        except sqlite3.DatabaseError as error:
            self._damaged(table, error)
            return None


def training_seconds(attempts: Sequence[Attempt], number: int, at: float) -> float:
    """Returns the time in training at a moment of an attempt: pauses between attempts do not
    count.
    """
    total = 0.0
    for index, attempt in enumerate(attempts):
        if attempt.attempt == number:
            return total + max(at - attempt.started, 0.0)
        # A killed attempt has no end: its time is known up to the start of the next one at most.
        following = attempts[index + 1].started if index + 1 < len(attempts) else attempt.started
        total += max((attempt.ended or following) - attempt.started, 0.0)
    return total


def containing_one(texts: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """Returns an SQL condition that the text of metrics contains one of some texts, and the values
    of its placeholders.

    It is far cheaper than parsing each row.
    """
    return (f"({' OR '.join(['instr(metrics, ?)'] * len(texts))})" if texts else "1"), tuple(texts)
