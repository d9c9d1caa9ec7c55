"""A run's journal as tables for other tools: scalars, episodes and moves, as Parquet or CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from matrixrl.config import ConfigError, require
from matrixrl.tracking.blocks import ValueKind, kinds
from matrixrl.tracking.journal_reader import JournalReader
from matrixrl.tracking.parquet import has_pyarrow, write_stream
from matrixrl.tracking.sinks.tensorboard import write_events
from matrixrl.whole_files import whole_file

MOVE_COLUMNS: Mapping[str, ValueKind] = {
    "step": "int", "episode": "int", "move": "int", "action": "str", "reward": "float", "residual": "float",
}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """A table that is read row by row: a run may have more rows than fit in memory.

    Attributes:
        columns: names and the kinds of their values.
        rows: in order, a value or None per column.
    """

    columns: Mapping[str, ValueKind]
    rows: Iterable[Sequence[Any]]


def default_form() -> Literal["parquet", "csv"]:
    """Returns `parquet` where pyarrow is installed, otherwise `csv`, which needs nothing."""
    return "parquet" if has_pyarrow() else "csv"


def export(
    reader: JournalReader, folder: Path, form: Literal["parquet", "csv", "tensorboard"]
) -> dict[str, int]:
    """Writes the history of a run to `scalars`, `episodes` and, where there are any, `moves`.

    Scalars have a row per step and a column per metric, empty where a step does not have it.

    Returns:
        The rows of each file, by its name.

    Raises:
        ConfigError: if the folder cannot be written, or Parquet is asked for without pyarrow.
    """
    require(
        form != "parquet" or has_pyarrow(),
        "--format parquet: needs pyarrow, which is not installed here; give --format csv, or install "
        "matrixrl with the extra wandb",
    )
    written: dict[str, int] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with reader.snapshot():
            if form == "tensorboard":
                return {"tensorboard": write_events(reader, folder / "tensorboard")}
            tables = {"scalars": _scalars(reader), "episodes": _episodes(reader)}
            if not reader.is_empty("moves"):
                tables["moves"] = _moves(reader)
            for name, table in tables.items():
                path = folder / f"{name}.{form}"
                if form == "parquet":
                    count = write_stream(path, table.columns, table.rows)
                else:
                    count = write_csv(path, list(table.columns), table.rows)
                if count or name != "moves":
                    written[path.name] = count
                else:
                    path.unlink()
    except OSError as error:
        raise ConfigError(
            f"--out {folder}: {error.strerror or error}; name a folder that can be written"
        ) from error
    return written


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> int:
    """Writes rows as CSV, whole, then renamed; a missing value is an empty field. Returns the
    number of rows."""
    count = 0

    def counted() -> Iterator[Sequence[Any]]:
        nonlocal count
        for row in rows:
            count += 1
            yield row

    with whole_file(path) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(counted())
    return count


def _scalars(reader: JournalReader) -> Table:
    metrics = kinds(reader.blocks())
    names = list(metrics)

    def rows() -> Iterator[list[Any]]:
        for row in reader.stream():
            get = row.metrics.get
            yield [row.step, row.time, row.attempt, *[get(name) for name in names]]

    return Table({"step": "int", "time": "float", "attempt": "int", **metrics}, rows())


def _episodes(reader: JournalReader) -> Table:
    columns: dict[str, ValueKind] = {"step": "int", "time": "float", **reader.episode_columns}
    return Table(columns, ([row.step, row.time, *row.values] for row in reader.episodes()))


def _moves(reader: JournalReader) -> Table:
    def rows() -> Iterator[list[Any]]:
        for row in reader.moves():
            action = " ".join(map(str, row.action))
            yield [row.step, row.episode, row.move, action, row.reward, row.residual]

    return Table(MOVE_COLUMNS, rows())
