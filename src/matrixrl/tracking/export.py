"""A run's journal as tables for other tools: scalars, episodes and moves, as Parquet or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from matrixrl.config import ConfigError, require
from matrixrl.tracking.files import write_whole
from matrixrl.tracking.local import JournalReader
from matrixrl.tracking.parquet import has_pyarrow, write_columns


def default_form() -> Literal["parquet", "csv"]:
    """Returns `parquet` where pyarrow is installed, otherwise `csv`, which needs nothing."""
    return "parquet" if has_pyarrow() else "csv"


def export(reader: JournalReader, folder: Path, form: Literal["parquet", "csv"]) -> dict[str, int]:
    """Write the history of a run to `scalars`, `episodes` and, where there are any, `moves`.

    Scalars have a row per step and a column per metric, empty where a step does not have it.

    Returns:
        The rows of each file, by its name.

    Raises:
        ConfigError: if the folder cannot be written, or Parquet is asked for without pyarrow.
    """
    require(
        form == "csv" or has_pyarrow(),
        "--format parquet: needs pyarrow, which is not installed here; give --format csv, or install "
        "matrixrl with the extra wandb",
    )
    written: dict[str, int] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, columns in (
            ("scalars", _scalars(reader)),
            ("episodes", _episodes(reader)),
            ("moves", _moves(reader)),
        ):
            count = len(columns["step"])
            if count or name != "moves":
                path = folder / f"{name}.{form}"
                if form == "parquet":
                    write_columns(path, columns)
                else:
                    write_csv(path, list(columns), zip(*columns.values(), strict=True))
                written[path.name] = count
    except OSError as error:
        raise ConfigError(
            f"--out {folder}: {error.strerror or error}; name a folder that can be written"
        ) from error
    return written


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write rows as CSV, whole, then renamed; an empty field is no value."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_whole(path, text.getvalue())


def _scalars(reader: JournalReader) -> dict[str, list[Any]]:
    rows = list(reader.stream())
    names = dict.fromkeys(name for row in rows for name in row.metrics)
    columns: dict[str, list[Any]] = {
        "step": [row.step for row in rows],
        "time": [row.time for row in rows],
        "attempt": [row.attempt for row in rows],
    }
    return columns | {name: [row.metrics.get(name) for row in rows] for name in names}


def _episodes(reader: JournalReader) -> dict[str, list[Any]]:
    rows = list(reader.episodes())
    columns: dict[str, list[Any]] = {"step": [row.step for row in rows], "time": [row.time for row in rows]}
    return columns | {
        name: [row.values[index] for row in rows] for index, name in enumerate(reader.episode_columns)
    }


def _moves(reader: JournalReader) -> dict[str, list[Any]]:
    rows = list(reader.moves())
    return {
        "step": [row.step for row in rows],
        "episode": [row.episode for row in rows],
        "move": [row.move for row in rows],
        "action": [" ".join(map(str, row.action)) for row in rows],
        "reward": [row.reward for row in rows],
        "residual": [row.residual for row in rows],
    }
