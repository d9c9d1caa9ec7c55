"""Answers of a training command to signals."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from matrixrl.tracking.status import notify
from matrixrl.training.faults import exit_at_once

if TYPE_CHECKING:
    from matrixrl.training.loop import StopRequest


class GraceExpiry:
    """Ends the process when its grace period is over, at any point; the journal loses no rows.

    Attributes:
      command: continues the run, once there is one.
    """

    def __init__(self, grace_seconds: float) -> None:
        self.command: str | None = None
        self._grace_seconds = grace_seconds

    def __call__(self, number: signal.Signals) -> None:
        """Writes a message, and exits with the status of a process that was stopped by the
        signal.
        """
        after = f"; continue with: {self.command}" if self.command else ""
        text = f"not finished {self._grace_seconds:g} s after {number.name}; stopped at once{after}"
        exit_at_once(text, 128 + number)


class StopAnswer:
    """Reports a signal at once: otherwise no output would appear until a chunk or a compilation
    ends.

    Attributes:
      stop: knows where a request came from that was no signal.

    Args:
      grace_seconds: grace period; None if there is none.
    """

    def __init__(self, grace_seconds: float | None) -> None:
        self._grace_seconds = grace_seconds
        self.stop: StopRequest | None = None

    def __call__(self, number: signal.Signals) -> None:
        """Prints a line above the status line."""
        again = "; Ctrl-C again stops at once" if number == signal.SIGINT else ""
        origin = self.stop.origin if self.stop is not None and self.stop.origin else number.name
        limit = "" if self._grace_seconds is None else f", within {self._grace_seconds:g} s"
        notify(f"{origin}: stopping after this chunk{limit}{again}")
