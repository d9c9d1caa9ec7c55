"""Repairs a damaged journal before its run is resumed: what can be read is saved to a new one, the
damaged file is kept."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

from matrixrl.tracking.journal import JOURNAL_FILE, JournalError, JournalLockedError, schema, wal_of
from matrixrl.tracking.journal_reader import STEPPED_TABLES, JournalReader
from matrixrl.tracking.numbers import plural
from matrixrl.whole_files import whole_file

SAVED_TABLES = ("meta", "attempts", "stream", "episodes", "moves", "table_marks", "files", "notes", "system")


def repair_journal(directory: Path) -> str | None:
    """Repairs the journal of a run if it is damaged. Call it with the run's lock held.

    Returns:
        What was damaged and what was done, in a line; None for a good journal, which is left as it
        is.

    Raises:
        JournalError: if nothing of it can be read, or the repaired one cannot be written; nothing
            was changed then.
        ConfigError: if its schema is newer than this version of matrixrl.
    """
    path = directory / JOURNAL_FILE
    name = directory.name
    try:
        reader = JournalReader(directory)
    except JournalLockedError:
        raise
    except JournalError as error:
        raise JournalError(
            f"{error}; nothing was changed. To continue from the newest checkpoint with a new journal, move this one away "
            f"(mv {path} {path}.damaged) and give --resume-run {name} again"
        ) from error
    with reader:
        fault = reader.fault()
        if fault is None:
            return None
        try:
            with whole_file(path) as draft:
                saved = _save(reader, draft)
                kept = _free_name(path)
                shutil.copyfile(path, kept)
                if wal_of(path).exists():
                    shutil.copyfile(wal_of(path), wal_of(kept))
                last = reader.last_step()
                # In this order: a log must never meet another journal than its own.
                for side in ("-wal", "-shm"):
                    path.with_name(f"{JOURNAL_FILE}{side}").unlink(missing_ok=True)
        except (OSError, sqlite3.Error) as error:
            raise JournalError(
                f"{path}: the journal is damaged ({fault}) and cannot be repaired ({error}); free some space and give "
                f"--resume-run {name} again"
            ) from error
    return (
        f"the journal was damaged ({fault}): {plural(saved, 'row')} until step {last:,} could be read and are in the "
        f"repaired journal; rows that the newest checkpoint does not cover are computed again, others are lost. The damaged "
        f"file is kept as {kept.name}"
    )


def _free_name(path: Path) -> Path:
    number = 1
    while (kept := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    return kept


def _save(reader: JournalReader, draft: Path) -> int:
    """Writes what can be read to a new journal. Returns the number of rows in and outside its
    history."""
    saved = 0
    with contextlib.closing(sqlite3.connect(draft, isolation_level=None)) as connection:
        connection.executescript(f"BEGIN;\n{schema(reader.episode_columns)}\nCOMMIT;")
        connection.execute("BEGIN")
        for table in SAVED_TABLES:
            for row in reader.raw_rows(table):
                if not _is_sound(reader, table, row):
                    continue
                marks = ", ".join("?" * len(row))
                with contextlib.suppress(sqlite3.IntegrityError):
                    connection.execute(f"INSERT INTO {table} VALUES ({marks})", row)
                    saved += table in STEPPED_TABLES
        # Every attempt that recorded something is listed, so that the next one gets a number of its
        # own.
        used = [
            connection.execute(f"SELECT coalesce(max(attempt), 0) FROM {table}").fetchone()[0]
            for table in STEPPED_TABLES
        ]
        connection.execute(
            "INSERT OR IGNORE INTO attempts VALUES (?, 0.0, NULL, NULL, 'unknown', 0, 0, '{}')",
            (max([1, *used]),),
        )
        connection.execute("COMMIT")
    return saved


def _is_sound(reader: JournalReader, table: str, row: tuple[Any, ...]) -> bool:
    """Returns true if the values of a row have the types that readers need; a damaged page may hold
    any bytes."""
    if table == "attempts":
        return reader.is_attempt(row[:7]) and isinstance(row[7], str)
    if table in STEPPED_TABLES and not (type(row[1]) is int and type(row[2]) is int):
        return False
    if table != "stream":
        return True
    try:
        return isinstance(json.loads(row[4]), dict)
    except (TypeError, ValueError):
        return False
