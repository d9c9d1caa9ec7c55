"""Sinks: destinations of a run's rows. `Sink` is the protocol, `register` adds one by name."""

from matrixrl.tracking.sinks.base import (
    AheadError,
    EpisodeTable,
    Opened,
    RefusedError,
    Row,
    Sink,
    SinkContext,
    SinkError,
    StoredRow,
    TakenOverError,
    UnavailableError,
    Upload,
    UploadItem,
)
from matrixrl.tracking.sinks.registry import register

__all__ = [
    "AheadError",
    "EpisodeTable",
    "Opened",
    "RefusedError",
    "Row",
    "Sink",
    "SinkContext",
    "SinkError",
    "StoredRow",
    "TakenOverError",
    "UnavailableError",
    "Upload",
    "UploadItem",
    "register",
]
