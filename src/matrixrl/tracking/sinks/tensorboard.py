"""The sink that writes TensorBoard event files to the folder `tensorboard` of the run folder."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from matrixrl.config import ConfigError
from matrixrl.tracking.journal_reader import JournalReader
from matrixrl.tracking.sinks.base import Opened, RefusedError, Row, Sink, SinkContext, StoredRow

FOLDER = "tensorboard"
INSTALL_HINT = "install it with `pip install 'matrixrl[tensorboard]'`"
SINGLE = struct.Struct("<f")
HEADER, FOOTER = struct.Struct("<QI"), struct.Struct("<I")
"""Around each record of an event file: its length and the checksum of that, its own checksum."""


class TensorboardSink(Sink):
    """Event files: one per attempt, with one event per row, so that a row is there whole or not at
    all.
    """

    name: ClassVar[str] = "tensorboard"
    label: ClassVar[str] = "TensorBoard"

    def __init__(self, context: SinkContext) -> None:
        super().__init__(context)
        self._folder = context.directory / FOLDER
        self._writer: Any = None
        self._last_step = 0

    def open(self) -> Opened:
        """Starts a new event file after the rows of earlier ones."""
        try:
            from tensorboardX.event_file_writer import EventsWriter
        except ImportError as error:
            raise RefusedError(f"tensorboardX cannot be imported ({error}); {INSTALL_HINT}") from error
        self._folder.mkdir(exist_ok=True)
        number, has_config = 0, False
        for path in event_files(self._folder):
            end = 0
            for event in read_events(path):
                end = event.end
                self._last_step = max(self._last_step, event.step if event.values else 0)
                has_config |= event.has_text
            # A kill may have cut off the last record.
            os.truncate(path, end)
            number += 1
        # Attempts that start in the same second need names of their own.
        self._writer = EventsWriter(str(self._folder / "events"), f".{number:04d}")
        if not has_config:
            self._write_config()
        self._writer.flush()
        self.context.notify(
            f"event files in {self._folder}; `tensorboard --logdir {self.context.directory.parent}` shows them",
            "info",
        )
        return Opened(self._last_step, {"folder": str(self._folder)})

    def write(self, rows: Sequence[Row]) -> None:
        """Writes an event per row, and flushes the file."""
        for row in rows:
            self._writer.write_event(_event(row.step, row.time, row.metrics))
        self._writer.flush()
        self._last_step = rows[-1].step

    def confirmed_step(self) -> int:
        """Returns the step of the last flushed row."""
        return self._last_step

    def close(self, status: str, seconds: float) -> bool:
        """Closes the event file."""
        self._writer.close()
        return True

    @classmethod
    def read_rows(cls, directory: Path) -> Iterable[StoredRow] | None:
        """Reads the event files back; None without tensorboardX."""
        try:
            import tensorboardX  # noqa: F401
        except ImportError:
            return None
        return [
            StoredRow(event.step, dict(event.values))
            for path in event_files(directory / FOLDER)
            for event in read_events(path)
            if event.values
        ]

    @classmethod
    def stored(cls, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the numbers among the metrics with the seven digits that an event holds."""
        return {name: _single(value) for name, value in metrics.items() if isinstance(value, int | float)}

    def _write_config(self) -> None:
        """Writes the settings of the run as text."""
        from tensorboardX import summary
        from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]

        meta = self.context.reader.meta
        text = "\n".join(f"    {line}" for line in json.dumps(meta["config"], indent=2).splitlines())
        self._writer.write_event(Event(wall_time=meta["created"], summary=summary.text("config", text)))


class StoredEvent(NamedTuple):
    """An event of an event file.

    Attributes:
        values: scalars by tag.
        has_text: whether it holds the settings.
        end: offset of its end in the file.
    """

    step: int
    values: Mapping[str, float]
    has_text: bool
    end: int


def event_files(folder: Path) -> list[Path]:
    """Returns the event files of a folder in the order in which they were written."""
    return sorted(folder.glob("events.out.tfevents.*"))


def read_events(path: Path) -> Iterator[StoredEvent]:
    """Yields the events of a file, as far as it was written."""
    from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]

    position = 0
    with path.open("rb") as file:
        while len(header := file.read(HEADER.size)) == HEADER.size:
            length, _ = HEADER.unpack(header)
            data = file.read(length + FOOTER.size)
            if len(data) < length + FOOTER.size or length == 0:
                return
            position += HEADER.size + len(data)
            event = Event.FromString(data[:length])
            values = event.summary.value
            scalars = {v.tag: v.simple_value for v in values if v.WhichOneof("value") == "simple_value"}
            yield StoredEvent(event.step, scalars, len(values) > len(scalars), position)


def write_events(reader: JournalReader, folder: Path) -> int:
    """Writes the scalars of a run's history as one event file in `folder`, which is replaced.

    They are those that the sink gets: local metrics stay in the journal.

    Returns:
        The number of rows.

    Raises:
        ConfigError: if tensorboardX is not installed.
        OSError: if the folder cannot be written.
    """
    try:
        from tensorboardX.event_file_writer import EventsWriter
    except ImportError as error:
        raise ConfigError(f"--format tensorboard: needs tensorboardX; {INSTALL_HINT}") from error
    draft = folder.with_name(f".{folder.name}.{os.getpid()}")
    draft.mkdir()
    try:
        writer, count = EventsWriter(str(draft / "events")), 0
        for row in reader.stream():
            if metrics := reader.delivered(row.metrics):
                writer.write_event(_event(row.step, row.time, metrics))
                count += 1
        writer.close()
        if folder.exists():
            shutil.rmtree(folder)
        draft.rename(folder)
    finally:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(draft)
    return count


def _event(step: int, time: float, metrics: Mapping[str, Any]) -> Any:
    from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
    from tensorboardX.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]

    values = [
        Summary.Value(tag=name, simple_value=_single(value))
        for name, value in metrics.items()
        if isinstance(value, int | float)
    ]
    return Event(wall_time=time, step=step, summary=Summary(value=values))


def _single(value: float) -> float:
    """Returns a number in single precision; one that is too large becomes infinite."""
    try:
        return SINGLE.unpack(SINGLE.pack(value))[0]
    except OverflowError:
        return math.copysign(math.inf, value)
