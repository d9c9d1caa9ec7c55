"""Connection of a training command to a program that runs it, such as a notebook.

The command is the same. The program receives the run, the trainer and the outcome as objects
instead of text and an exit status, and may ask the training to stop.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from matrixrl.config import program_arguments, value_at
from matrixrl.config.fields import rules_of, settings_of

if TYPE_CHECKING:
    from matrixrl.tracking.recorder import Recorder
    from matrixrl.training.loop import StopRequest

EMBEDDED_GRACE_SECONDS = 86_400.0
"""Grace period in seconds after a signal: a training never ends the program around it."""


class ProgramCache:
    """Keeps the compiled programs of the last run for the next one, if that differs only in numbers
    that are arguments of the program.
    """

    def __init__(self) -> None:
        self._key: tuple[Any, ...] | None = None
        self._program: Any = None

    def get(self, config: Any, make: Callable[[], Any]) -> Any:
        """Returns the programs of a config.

        Args:
          config: the settings of the run.
          make: builds the programs if they are not there.
        """
        key = program_key(config)
        if key != self._key:
            self._key = self._program = None  # frees the former ones first
            self._program, self._key = make(), key
        elif self._program.config != config:
            self._program = self._program.with_config(config)
        return self._program


OF_NO_PROGRAM = ("tracking.", "checkpoint.", "processes.")
"""Groups of settings that no program depends on, but for the size of a chunk."""


def program_key(config: Any) -> tuple[Any, ...]:
    """Returns the settings that a compiled program depends on."""
    left_out = {*program_arguments(type(config)), "seed", "time", "preset", "start_from"}
    key: list[Any] = [type(config), config.tracking.log_interval]
    for name, item, _ in settings_of(type(config)):
        if name not in left_out and not rules_of(item).of_run and not name.startswith(OF_NO_PROGRAM):
            key.append((name, value_at(config, name)))
    return tuple(key)


class Embedding:
    """State of an embedded training. `ask_to_stop` may be called from any thread.

    Args:
      on_open: called in the training's thread with the run and its trainer, at each attempt.
      programs: shared with other trainings of this process.

    Attributes:
      stop: collects signals, once training has begun.
      outcome: a `session.TrainingResult`; None before the end, and after a failure.
      failure: reason of a failure; "" without one.
    """

    def __init__(
        self, on_open: Callable[[Recorder, Any], None], programs: ProgramCache | None = None
    ) -> None:
        self.programs = programs
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


def shared_program(config: Any, make: Callable[[], Any]) -> Any:
    """Returns the compiled programs of a config: those of an earlier training of this process, if
    it shares them, otherwise new ones.
    """
    embedding = EMBEDDING.get()
    if embedding is None or embedding.programs is None:
        return make()
    return embedding.programs.get(config, make)
