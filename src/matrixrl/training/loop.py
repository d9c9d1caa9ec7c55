"""The loop that both systems use: the only place where a jitted result meets a clock, a file or a signal.

A trainer advances its state by one chunk at a time and records what a chunk gave. While the device works on the next
chunk the host writes the last one, unless the trainer needs the record first to know what comes next.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Literal, Protocol, TypeVar

from matrixrl.tracking.run import Run

State = TypeVar("State")
Outcome = TypeVar("Outcome")

Ending = Literal["finished", "interrupted"]


class TrainingDivergedError(RuntimeError):
    """A metric is NaN or infinite. The message names the metric and the step."""


class Trainer(Protocol[State, Outcome]):
    """What the loop asks of a system."""

    def finished(self, state: State) -> bool:
        """Nothing is left to do."""
        ...

    def advance(self, state: State) -> tuple[State, Outcome]:
        """Start the next chunk on the device; returns without waiting for its result where it can."""
        ...

    def needs_record(self, state: State) -> bool:
        """Whether the next chunk depends on what recording the last one tells."""
        ...

    def record(self, state: State, outcome: Outcome, run: Run) -> State:
        """Fetch a chunk's result, stamp it and commit it; returns the state with what it told.

        Raises:
          TrainingDivergedError: a metric is NaN or infinite.
        """
        ...


class StopRequest:
    """Turns SIGINT and SIGTERM into a wish to stop after the chunk; a second SIGINT stops at once.

    Use it as a context manager; it restores the handlers that were there.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._previous: dict[signal.Signals, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether a signal came."""
        return self.signal is not None

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)


def run_loop(
    trainer: Trainer[State, Outcome], state: State, run: Run, stop: StopRequest
) -> tuple[State, Ending]:
    """Advance until the trainer is finished or a signal asks to stop; every chunk that was started is recorded."""
    pending: Outcome | None = None
    while not stop.requested:
        if pending is not None and trainer.needs_record(state):
            state, pending = trainer.record(state, pending, run), None
        if trainer.finished(state):
            break
        state, outcome = trainer.advance(state)
        if pending is not None:
            state = trainer.record(state, pending, run)
        pending = outcome
    if pending is not None:
        state = trainer.record(state, pending, run)
    return state, "interrupted" if stop.requested and not trainer.finished(state) else "finished"
