"""The sink protocol: a destination that delivery carries the rows of a run's journal to.

A sink knows how to write to one destination, and nothing else. Everything that all sinks need is in
`tracking/delivery.py`: the cursor, retries with backoff, the deadline at the end of a run, thinning
of a backlog, and which files to upload. Each sink runs in a delivery process of its own, with its
own state file and lock, so sinks neither wait for nor disturb one another.

docs/trackers.md shows how to write one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from matrixrl.tracking.events import Kind, Scalar

if TYPE_CHECKING:
    from matrixrl.tracking.delivery_state import DeliveryState
    from matrixrl.tracking.journal_reader import JournalReader


class SinkError(Exception):
    """An expected failure of a sink; the text is the reason, for the user."""


class UnavailableError(SinkError):
    """The destination cannot be used now. Delivery closes the sink and opens it again later."""


class RefusedError(SinkError):
    """The destination cannot be used at all; a retry does not help.

    Attributes:
        advice: appended to the message for the user.
        is_expected: the user configured it so; the message is then no warning.
    """

    def __init__(self, reason: str, *, advice: str = "", is_expected: bool = False) -> None:
        super().__init__(reason)
        self.advice = advice
        self.is_expected = is_expected


class AheadError(SinkError):
    """The destination holds rows that the journal does not have yet, so they cannot be compared.

    Attributes:
        last_step: last step that the destination holds.
        place: as in `Opened`.
    """

    def __init__(self, last_step: int, place: Mapping[str, Any]) -> None:
        super().__init__(f"the destination has rows until step {last_step:,}")
        self.last_step = last_step
        self.place = place


class TakenOverError(SinkError):
    """The opened destination now belongs to another copy of the run, and is opened again."""


class Opened(NamedTuple):
    """An opened destination.

    Attributes:
        last_step: last step that the destination holds; 0 if it holds no row. Delivery starts at
            the first row after it, so rows arrive once if this is what is really there.
        place: where the rows go; `url` is shown to the user, and the state file keeps all of it.
        offline: why rows only go to a local spool that does not count as delivered; "" otherwise.
        spool: name of the spool, for the user.
    """

    last_step: int
    place: Mapping[str, Any] = {}
    offline: str = ""
    spool: str = ""


class EpisodeTable(NamedTuple):
    """The episode table at the step of a row.

    Attributes:
        columns: names and kinds.
        rows: newest rows, at most `Sink.max_table_rows`.
        total: number of rows of the whole table.
    """

    columns: Mapping[str, Kind]
    rows: list[list[Scalar]]
    total: int


class Row(NamedTuple):
    """A row of the run's history.

    Attributes:
        step: increases from row to row.
        time: seconds since the epoch.
        metrics: values by metric name.
        table: the episode table, at the rows that carry it.
    """

    step: int
    time: float
    metrics: dict[str, Any]
    table: EpisodeTable | None = None


class StoredRow(NamedTuple):
    """A row that a destination holds."""

    step: int
    values: dict[str, Any]


class UploadItem(NamedTuple):
    """A file or folder to upload.

    Attributes:
        kind: `checkpoint` or `artifact`: recorded by the trainer; `journal`: a packed copy of the
            journal; `episode_history`: the whole episode table as Parquet.
        path: file or folder, unchanged until the upload is done.
        step: at which the trainer wrote it.
        aliases: such as `latest` and `best`.
        metadata: what else is known about it.
    """

    kind: str
    path: Path
    step: int
    aliases: list[str]
    metadata: dict[str, Any]


class Upload(Protocol):
    """An upload in progress.

    Attributes:
        full_name: name at the destination; None before the upload is done, and if it failed.
    """

    full_name: str | None

    def done(self, seconds: float) -> bool:
        """Returns whether the upload has ended, waiting at most `seconds`."""
        ...


@dataclass
class SinkContext:
    """What a sink gets from delivery.

    Attributes:
        directory: the run folder.
        folder: folder of the sink's own files below the run folder.
        reader: reads the run's journal; `reader.meta` has the run's name, id, system and settings.
        state: the sink's state file; a sink keeps values of its own in `state.own`.
        training_pid: process that trains; None if the run has ended (`runs sync`).
        notify: shows a message to the user, once; takes the text and its level (info, warning).
        stop_training: asks the training process to stop; takes the origin of the request.
    """

    directory: Path
    folder: Path
    reader: JournalReader
    state: DeliveryState
    training_pid: int | None = None
    notify: Callable[[str, str], None] = field(default=lambda text, level: None)
    stop_training: Callable[[str], None] = field(default=lambda origin: None)


class Sink(Protocol):
    """A destination of rows. Subclass it, and write `open`, `write`, `confirmed_step` and `close`.

    All methods are called from one thread of the sink's own process. A method that raises
    `UnavailableError` or `OSError` is retried: the sink is closed, and a new one is opened after 1,
    2, 4, ... 30 seconds. `RefusedError` ends delivery; the journal keeps the rows.

    Attributes:
        name: of the sink: on the command line, and of its folder in the run folder.
        label: for messages.
        max_table_rows: number of rows of the episode table that a row carries; None to get rows
            without the table.
        uploads: kinds of `UploadItem` that the sink takes.
        sync_environment: environment variables of its process in `runs sync`.
        unset_variables: environment variables that its process must not inherit.
    """

    name: ClassVar[str] = ""
    label: ClassVar[str] = ""
    uploads: ClassVar[frozenset[str]] = frozenset()
    sync_environment: ClassVar[Mapping[str, str]] = {}
    unset_variables: ClassVar[tuple[str, ...]] = ()
    context: SinkContext

    def __init__(self, context: SinkContext) -> None:
        self.context = context

    @property
    def max_table_rows(self) -> int | None:
        """Number of rows of the episode table that a row carries; None for rows without it."""
        return None

    def open(self) -> Opened:
        """Opens the destination, or continues it, and returns what it holds."""
        ...

    def write(self, rows: Sequence[Row]) -> None:
        """Writes rows, in order. At most the last of them has a table."""
        ...

    def confirmed_step(self) -> int:
        """Returns the last step that the destination certainly holds.

        Called about once per second while the sink is open, where it must return at once, and after
        `close` until every row is confirmed or the deadline has passed.
        """
        ...

    def close(self, status: str, seconds: float) -> bool:
        """Closes the destination within `seconds`.

        Args:
            status: of the run: finished, interrupted or crashed.

        Returns:
            Whether it was closed; otherwise `confirmed_step` is not called.
        """
        ...

    def check(self) -> None:
        """Checks the target while no row waits. May raise `TakenOverError`."""

    def upload(self, item: UploadItem) -> Upload:
        """Starts the upload of a file or folder. Only called for kinds in `uploads`."""
        raise NotImplementedError(f"{type(self).__name__} takes no files")

    def delete_upload(self, full_name: str) -> None:
        """Deletes an upload that is not kept; one that does not exist is no error."""

    @classmethod
    def read_rows(cls, directory: Path) -> Iterable[StoredRow] | None:
        """Returns the rows that the destination holds, for `runs audit`; None if they cannot be
        read.
        """
        return None

    @classmethod
    def stored(cls, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """Returns metrics as the destination stores them, such as numbers with fewer digits."""
        return dict(metrics)

    @classmethod
    def check_sync(cls) -> None:
        """Raises `ConfigError` if the user's configuration forbids `runs sync` to this sink."""
