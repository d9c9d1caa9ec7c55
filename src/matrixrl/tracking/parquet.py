"""Writes the complete episode table as Parquet, in parts so that the cost does not grow with the
square of the run's length."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from matrixrl.tracking.blocks import ValueKind
from matrixrl.tracking.events import Kind, Scalar
from matrixrl.tracking.journal_reader import JournalReader
from matrixrl.whole_files import whole_file

HISTORY_FOLDER = "episode_history"
PART_ROWS = 10_000
ROW_GROUP_ROWS = 1_000
EXPORT_GROUP_ROWS = 20_000


def has_pyarrow() -> bool:
    """Returns whether pyarrow is installed; the extra `wandb` brings it."""
    return importlib.util.find_spec("pyarrow") is not None


def write_episode_parts(reader: JournalReader, folder: Path) -> tuple[int, int]:
    """Updates the Parquet parts of the episode table.

    A part that is full never changes again (W&B then sends it once); only the last one is
    rewritten. A history that was shortened after a resume rewrites the parts that differ.

    Returns:
        The rows in all parts, and the rows that had to be written.
    """
    folder.mkdir(exist_ok=True)
    key = next(iter(reader.episode_columns))
    parts = sorted(folder.glob("episodes-*.parquet"))
    full = last_id = 0
    for index, path in enumerate(parts):
        identity = _last_id(reader, path, key) if path.name == part_name(index) else None
        if identity is None:
            break
        full, last_id = full + 1, identity
    for path in parts[full:]:
        path.unlink()
    total = full * PART_ROWS
    written, index, rows = 0, full, []
    for episode in reader.episodes(after_id=last_id):
        rows.append(episode.values)
        if len(rows) == PART_ROWS:
            write_parquet(folder / part_name(index), reader.episode_columns, rows)
            written, index, rows = written + len(rows), index + 1, []
    if rows:
        write_parquet(folder / part_name(index), reader.episode_columns, rows)
        written += len(rows)
    return total + written, written


def part_name(index: int) -> str:
    """Returns the file name of a part."""
    return f"episodes-{index:05d}.parquet"


def write_parquet(path: Path, columns: Mapping[str, Kind], rows: Iterable[Sequence[Scalar]]) -> None:
    """Writes rows as one Parquet file, whole, then renamed."""
    import pyarrow as pa

    types = {"int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "str": pa.string()}
    values = list(zip(*rows, strict=True)) or [()] * len(columns)
    arrays = [pa.array(column, types[kind]) for column, kind in zip(values, columns.values(), strict=True)]
    _write_table(path, pa.Table.from_arrays(arrays, list(columns)))


def write_stream(path: Path, columns: Mapping[str, ValueKind], rows: Iterable[Sequence[Any]]) -> int:
    """Writes rows as one Parquet file, whole, then renamed, with a part of them in memory at a
    time.

    Args:
        columns: names and the kinds of their values; rows may lack values, and a column without any
            is of the type null.

    Returns:
        The number of rows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {
        "null": pa.null(),
        "bool": pa.bool_(),
        "int": pa.int64(),
        "float": pa.float64(),
        "str": pa.string(),
    }
    schema = pa.schema([(name, types[kind]) for name, kind in columns.items()])
    count = 0
    with whole_file(path) as draft, pq.ParquetWriter(draft, schema) as writer:
        remaining = iter(rows)
        while part := list(islice(remaining, EXPORT_GROUP_ROWS)):
            count += len(part)
            values = zip(*part, strict=True)
            arrays = [
                pa.array(_converted(column, kind), types[kind])
                for column, kind in zip(values, columns.values(), strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
    return count


def _converted(values: Sequence[Any], kind: ValueKind) -> Sequence[Any]:
    """Returns the values of a column as the type of its kind; a damaged journal may hold others,
    which are left out."""
    if kind == "float":
        # pyarrow refuses integers that a floating-point number only comes close to.
        return [float(value) if isinstance(value, int | float) else None for value in values]
    if kind == "str":
        return [value if isinstance(value, str) or value is None else str(value) for value in values]
    if kind == "bool":
        return [bool(value) if isinstance(value, int) else None for value in values]
    return [value if isinstance(value, int) and kind == "int" else None for value in values]


def _write_table(path: Path, table: Any) -> None:
    import pyarrow.parquet as pq

    with whole_file(path) as draft:
        pq.write_table(table, draft, row_group_size=ROW_GROUP_ROWS)


def _last_id(reader: JournalReader, path: Path, key: str) -> int | None:
    """Returns the id of the last episode of a part; None if the part is not full, or the history
    has another one there.

    Not by number: of games played at once a later one may end first.
    """
    import pyarrow.parquet as pq

    if pq.read_metadata(path).num_rows != PART_ROWS:
        return None
    last = _last_row(path)
    identity = reader.episode_id(last[key])
    if identity is None:
        return None
    there = next(reader.episodes(after_id=identity - 1, limit=1))
    return identity if dict(zip(reader.episode_columns, there.values, strict=True)) == last else None


def _last_row(path: Path) -> dict[str, Any]:
    """Returns the last row of a file; reads its last row group only."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        return file.read_row_group(file.num_row_groups - 1).to_pylist()[-1]
