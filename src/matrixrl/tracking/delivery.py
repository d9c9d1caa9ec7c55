"""The delivery process: carries rows from a run's journal to W&B, beside the training process and never inside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matrixrl.config import TrackingConfig


@dataclass(frozen=True)
class Outcome:
    """How delivery ended.

    Attributes:
        pending_rows: rows that the destination has not confirmed.
        reason: what happened, for the run's last line.
    """

    pending_rows: int
    reason: str

    @classmethod
    def none(cls) -> Outcome:
        """W&B was not asked for."""
        return cls(0, "")


class DeliveryProcess:
    """Starts the delivery process of a run and talks to it (skeleton)."""

    def __init__(self, directory: Path, config: TrackingConfig, tell: Callable[..., Any]) -> None:
        raise NotImplementedError

    def finish(self, status: str, deadline_seconds: float) -> Outcome:
        """Deliver what is left, at most for `deadline_seconds`."""
        raise NotImplementedError
