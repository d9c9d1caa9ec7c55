"""Reading a run's journal: read-only, while it is being written, and as far as it is good when it is damaged."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from matrixrl.config import ConfigError
from matrixrl.tracking.events import Kind, Scalar
from matrixrl.tracking.journal import (
    JOURNAL_FILE,
    SCHEMA_VERSION,
    JournalError,
    connect,
    copy_database,
    migrate,
    quoted,
)


class StreamRow(NamedTuple):
    """A row of the stream. `superseded_by` is the attempt whose rows replaced it in the history, or None."""

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
    """Something the user was told."""

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


class Delivery(NamedTuple):
    """A row for W&B: the metrics at a step, and the rows of the episode table where it goes with them."""

    step: int
    metrics: dict[str, Any]
    table_rows: int | None


class JournalReader:
    """Reads the journal of a run folder. Each call is one short read transaction, so a writer is never held up.

    Attributes:
        damage: what could not be read, in words; empty for a good journal. Rows before (and, where a page in the middle
            is bad, after) the damage are given.
        meta: name, run_id, system, project, entity, config, created, matrixrl, ...
        episode_columns: the columns of the episode table and their kinds; the first is its key.

    Raises:
        ConfigError: there is no journal, or its schema is newer than this matrixrl.
        JournalError: nothing in it can be read.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / JOURNAL_FILE
        self.damage: list[str] = []
        if not self.path.exists():
            raise ConfigError(f"{self.path}: there is no journal here; see `matrixrl runs list`")
        try:
            self._connection = self._open()
            rows = self._connection.execute("SELECT key, value FROM meta").fetchall()
            self.meta: dict[str, Any] = {key: json.loads(value) for key, value in rows}
            self.episode_columns: Mapping[str, Kind] = self.meta["episode_columns"]
        except ConfigError:
            raise
        except (sqlite3.Error, ValueError, KeyError) as error:
            raise JournalError(f"{self.path}: nothing of this journal can be read ({error})") from error

    def _open(self) -> sqlite3.Connection:
        for options in ("mode=ro", "immutable=1"):
            connection = sqlite3.connect(
                f"{self.path.resolve().as_uri()}?{options}", uri=True, timeout=10.0, check_same_thread=False
            )
            try:
                version = self._version(connection)
            except sqlite3.OperationalError:
                # A read-only folder cannot hold the shared memory of the write-ahead log.
                connection.close()
                continue
            if version != SCHEMA_VERSION:
                connection.close()
                writable = connect(self.path)
                try:
                    migrate(writable, self.path)
                finally:
                    writable.close()
                return self._open()
            return connection
        raise sqlite3.OperationalError("unable to open the file")

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

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> JournalReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def data_version(self) -> int:
        """Changes whenever the writer commits: a cheap question for a poll."""
        return self._connection.execute("PRAGMA data_version").fetchone()[0]

    def stream(
        self, after: int | None = None, limit: int | None = None, history: bool = True, after_id: int = 0
    ) -> Iterator[StreamRow]:
        """Rows of the stream in order.

        Args:
            after: only rows with a greater step.
            limit: at most so many.
            history: leave out rows that a later attempt superseded; without it, rows come in the order of recording.
            after_id: only rows recorded after the one with this id.
        """
        columns = "step, attempt, time, metrics, superseded_by"
        for step, attempt, time, metrics, by in self._rows(
            "stream", columns, after, limit, history, f"id > {after_id:d}"
        ):
            if (values := self._parsed(metrics, "stream")) is not None:
                yield StreamRow(step, attempt, time, values, by)

    def recorded_rows(self, first: int, last: int) -> dict[int, list[dict[str, Any]]]:
        """Returns the metrics recorded at the steps from `first` to `last`, of superseded attempts as well.

        A step at which only the episode table goes to W&B has metrics without a name in them.
        """
        found: dict[int, list[dict[str, Any]]] = {}
        between = f"step >= {first:d} AND step <= {last:d}"
        for step, metrics in self._rows("stream", "step, metrics", None, None, False, between):
            if (values := self._parsed(metrics, "stream")) is not None:
                found.setdefault(step, []).append(values)
        for (step,) in self._rows("table_marks", "step", None, None, False, between):
            found.setdefault(step, [{}])
        return found

    def last_stream_step(self) -> int:
        """Returns the last step of the stream's history; 0 where there is none."""
        query = "SELECT coalesce(max(step), 0) FROM stream WHERE superseded_by IS NULL"
        return self._connection.execute(query).fetchone()[0]

    def episodes(
        self,
        after: int | None = None,
        limit: int | None = None,
        history: bool = True,
        after_id: int = 0,
    ) -> Iterator[EpisodeRecord]:
        """Rows of the episode table in the order in which the episodes ended, as `stream`."""
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
        """The id of the episode of the history that has this global number."""
        key = quoted(next(iter(self.episode_columns)))
        query = f"SELECT id FROM episodes WHERE {key} = ? AND superseded_by IS NULL"
        try:
            row = self._connection.execute(query, (number,)).fetchone()
        except sqlite3.DatabaseError as error:
            self._damaged("episodes", error)
            return None
        return row[0] if row else None

    def moves(self, history: bool = True, after_id: int = 0) -> Iterator[MoveRecord]:
        """Moves in order, where the run recorded them."""
        columns = "step, attempt, episode, move, action, reward, residual, superseded_by"
        for row in self._rows("moves", columns, None, None, history, f"id > {after_id:d}"):
            step, attempt, episode, move, action, reward, residual, by = row
            if (integers := self._parsed(action, "moves")) is not None:
                yield MoveRecord(step, attempt, episode, move, integers, reward, residual, by)

    def marks(self, after: int | None = None, history: bool = True) -> Iterator[Mark]:
        """Steps at which the episode table goes to W&B."""
        for row in self._rows("table_marks", "step, attempt, rows, superseded_by", after, None, history):
            yield Mark(*row)

    def files(self) -> Iterator[FileRecord]:
        """Checkpoints and other files that are the newest of their path."""
        columns = "step, attempt, time, kind, path, sha256, size_bytes, seconds, aliases"
        for row in self._rows("files", columns, None, None, True):
            step, attempt, time, kind, path, sha256, size_bytes, seconds, aliases = row
            yield FileRecord(
                step, attempt, time, kind, path, sha256, size_bytes, seconds, json.loads(aliases)
            )

    def notes(self) -> Iterator[NoteRecord]:
        """What the user was told, in order."""
        for row in self._rows("notes", "step, attempt, time, level, text", None, None, False):
            yield NoteRecord(*row)

    def system(self) -> Iterator[StreamRow]:
        """Samples of the local system metrics, in order."""
        for step, attempt, time, metrics in self._rows(
            "system", "step, attempt, time, metrics", None, None, False
        ):
            if (values := self._parsed(metrics, "system")) is not None:
                yield StreamRow(step, attempt, time, values, None)

    def attempts(self) -> list[Attempt]:
        """Every process that wrote this run."""
        columns = "attempt, started, ended, status, host, pid, start_step"
        try:
            rows = self._connection.execute(f"SELECT {columns} FROM attempts ORDER BY attempt").fetchall()
        except sqlite3.DatabaseError as error:
            self._damaged("attempts", error)
            return []
        return [Attempt(*row) for row in rows]

    def config(self) -> dict[str, Any]:
        """The settings of the newest attempt: those a resumed run continues with."""
        query = "SELECT config FROM attempts ORDER BY attempt DESC LIMIT 1"
        try:
            return json.loads(self._connection.execute(query).fetchone()[0])
        except (sqlite3.DatabaseError, TypeError, ValueError) as error:
            raise JournalError(f"{self.path}: the run's settings cannot be read ({error})") from error

    def deliverable(self, after: int, limit: int) -> list[Delivery]:
        """The next rows for W&B: stream rows and table marks of the history, one per step, in order.

        Raises:
            JournalError: the journal is damaged.
        """
        connection = self._connection
        try:
            # One transaction, so that a row and a mark that were committed together are seen together.
            connection.execute("BEGIN")
            try:
                rows = connection.execute(
                    "SELECT step, metrics FROM stream WHERE superseded_by IS NULL AND step > ? ORDER BY step LIMIT ?",
                    (after, limit),
                ).fetchall()
                until = rows[-1][0] if len(rows) == limit else 2**62
                marks = connection.execute(
                    "SELECT step, rows FROM table_marks WHERE superseded_by IS NULL AND step > ? AND step <= ?",
                    (after, until),
                ).fetchall()
            finally:
                connection.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            raise JournalError(f"{self.path}: damaged ({error})") from error
        merged = {step: Delivery(step, json.loads(metrics), None) for step, metrics in rows}
        for step, table_rows in marks:
            metrics = merged[step].metrics if step in merged else {}
            merged[step] = Delivery(step, metrics, table_rows)
        return [merged[step] for step in sorted(merged)]

    def count_deliverable(self, after: int = 0) -> int:
        """How many rows `deliverable` has after a step."""
        query = (
            "SELECT count(*) FROM (SELECT step FROM stream WHERE superseded_by IS NULL AND step > ?1"
            " UNION SELECT step FROM table_marks WHERE superseded_by IS NULL AND step > ?1)"
        )
        try:
            return self._connection.execute(query, (after,)).fetchone()[0]
        except sqlite3.DatabaseError as error:
            raise JournalError(f"{self.path}: damaged ({error})") from error

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
            raise JournalError(f"{self.path}: damaged ({error})") from error
        for row in rows:
            for index in truths:
                row[index] = None if row[index] is None else bool(row[index])
        return rows[::-1]

    def best(self, column: str, lowest: bool, only_where: str | None = None) -> float | None:
        """The best value of a column of the episode table; None where there is none.

        Args:
            lowest: whether less is better.
            only_where: a column that must be true.
        """
        where = f" AND {quoted(only_where)}" if only_where else ""
        query = f"SELECT {'min' if lowest else 'max'}({quoted(column)}) FROM episodes WHERE superseded_by IS NULL{where}"
        try:
            return self._connection.execute(query).fetchone()[0]
        except sqlite3.DatabaseError as error:
            self._damaged("episodes", error)
            return None

    def best_metric(self, prefix: str, lowest: bool) -> float | None:
        """The best value of the metrics of the stream whose names begin so; None where there is none.

        Args:
            prefix: letters, digits, `/` and `_`.
            lowest: whether less is better.
        """
        query = f"""
            SELECT {"min" if lowest else "max"}(metric.value) FROM stream, json_each(stream.metrics) AS metric
            WHERE stream.superseded_by IS NULL AND instr(stream.metrics, ?) AND instr(metric.key, ?) = 1
        """  # the rows are told by their text first, which is far cheaper than reading each
        try:
            return self._connection.execute(query, (f'"{prefix}', prefix)).fetchone()[0]
        except sqlite3.DatabaseError as error:
            self._damaged("stream", error)
            return None

    def ids(self, table: str, step: int | None = None) -> list[int]:
        """Ids of all rows of a table (at a step) in the order of recording; they have no gaps in a good journal."""
        where = "1" if step is None else f"step = {step:d}"
        try:
            rows = self._connection.execute(f"SELECT id FROM {table} WHERE {where} ORDER BY id").fetchall()
        except sqlite3.DatabaseError as error:
            self._damaged(table, error)
            return []
        return [row[0] for row in rows]

    def copy_to(self, path: Path) -> None:
        """Copy the journal as it stands, whole, while it is being written; its writer is not held up.

        Raises:
            JournalError: the journal is damaged, or the copy cannot be written.
        """
        copy_database(self._connection, path)

    def is_empty(self, table: str) -> bool:
        """Whether a table has no row, superseded or not."""
        try:
            return self._connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() is None
        except sqlite3.DatabaseError as error:
            self._damaged(table, error)
            return False

    def has_superseded(self, table: str, step: int) -> bool:
        """Whether a later attempt replaced rows of a table at a step."""
        query = f"SELECT 1 FROM {table} WHERE step = ? AND superseded_by IS NOT NULL LIMIT 1"
        try:
            return self._connection.execute(query, (step,)).fetchone() is not None
        except sqlite3.DatabaseError as error:
            self._damaged(table, error)
            return True

    def count(self, table: str, after: int = 0) -> int:
        """Rows of the history of a table with a step greater than `after`.

        Raises:
            JournalError: the index is damaged.
        """
        query = f"SELECT count(*) FROM {table} WHERE superseded_by IS NULL AND step > ?"
        try:
            return self._connection.execute(query, (after,)).fetchone()[0]
        except sqlite3.DatabaseError as error:
            raise JournalError(f"{self.path}: {table} cannot be counted ({error})") from error

    def last_step(self) -> int:
        """The last step of stream, episodes and moves."""
        steps = [0]
        for table in ("stream", "episodes", "moves"):
            try:
                row = self._connection.execute(
                    f"SELECT step FROM {table} WHERE superseded_by IS NULL ORDER BY id DESC LIMIT 1"
                ).fetchone()
            except sqlite3.DatabaseError as error:
                self._damaged(table, error)
                continue
            steps += row or ()
        return max(steps)

    def _rows(
        self,
        table: str,
        columns: str,
        after: int | None,
        limit: int | None,
        history: bool,
        condition: str = "",
    ) -> Iterator[tuple[Any, ...]]:
        conditions = [condition or "1"]
        if history:
            conditions.append("superseded_by IS NULL")
        if after is not None:
            conditions.append(f"step > {after:d}")
        where = " AND ".join(conditions)
        # In the history the order of the rows is that of the steps: superseded rows aside, a journal is append-only.
        order = "step, id" if after is not None else "id"
        last = 0
        try:
            for identity, *row in self._connection.execute(
                f"SELECT id, {columns} FROM {table} WHERE {where} ORDER BY {order} LIMIT {-1 if limit is None else limit:d}"
            ):
                last = identity
                if row[0] is None and table != "notes":
                    self._damaged(table, ValueError("a row without a step"))
                    continue
                yield tuple(row)
            return
        except sqlite3.DatabaseError as error:
            self._damaged(table, error)
        # What lies behind a bad page can be reached from the other end.
        rest: list[tuple[Any, ...]] = []
        try:
            for _, *row in self._connection.execute(
                f"SELECT id, {columns} FROM {table} WHERE {where} AND id > {last:d} ORDER BY id DESC"
            ):
                rest.append(tuple(row))
        except sqlite3.DatabaseError:
            pass
        yield from reversed(rest)

    def _parsed(self, text: str, table: str) -> Any:
        """A JSON value; None, and damage noted, where a bad page gives something else."""
        try:
            return json.loads(text)
        except (ValueError, TypeError) as error:
            self._damaged(table, error)
            return None

    def _damaged(self, table: str, error: Exception) -> None:
        text = f"{self.path}: a part of {table} cannot be read ({error})"
        if text not in self.damage:
            self.damage.append(text)
