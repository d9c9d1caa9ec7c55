"""Connection of a training command to a program that runs it, such as a notebook.

The command is the same. The program receives the run, the trainer and the outcome as objects
instead of text and an exit status, and may ask the training to stop.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matrixrl.tracking.recorder import Recorder
    from matrixrl.training.loop import StopRequest

EMBEDDED_GRACE_SECONDS = 86_400.0
"""Grace period in seconds after a signal: a training never ends the program around it."""


class Embedding:
    """State of an embedded training. `ask_to_stop` may be called from any thread.

    Args:
      on_open: called in the training's thread with the run and its trainer, at each attempt.

    Attributes:
      stop: collects signals, once training has begun.
      outcome: a `session.TrainingResult`; None before the end, and after a failure.
      failure: reason of a failure; "" without one.
    """

    def __init__(self, on_open: Callable[[Recorder, Any], None]) -> None:
        self.stop: StopRequest | None = None
        self.outcome: Any = None
        self.failure = ""
        self._on_open = on_open
        self._lock = threading.Lock()
        self._asked: str | None = None

    def begin(self, stop: StopRequest) -> None:
        """Connects the request to stop; passes on what was asked before."""
        with self._lock:
            self.stop = stop
            if self._asked is not None:
                stop.ask(self._asked)

    def ask_to_stop(self, origin: str) -> None:
        """Asks the training to finish its chunk, save and end, now or as soon as it begins.

        Args:
          origin: who asks, in words.
        """
        with self._lock:
            self._asked = origin
            if self.stop is not None:
                self.stop.ask(origin)

    def open(self, run: Recorder, trainer: Any) -> None:
        """Passes on the open run and its trainer."""
        self._on_open(run, trainer)


EMBEDDING: ContextVar[Embedding | None] = ContextVar("embedding", default=None)
"""Embedding of the training in this context; None for a command line."""
