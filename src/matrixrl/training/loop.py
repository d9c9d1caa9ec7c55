"""Training loop of every system: the only place where a jitted result meets a clock, a file or a
signal.

A trainer advances its state by one chunk at a time and records the chunk's results. While the
device runs the next chunk the host writes the last one, unless the trainer needs the record first
to determine the next chunk.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from matrixrl.devices.coordinator import SINGLE, Coordinator
from matrixrl.tracking.recorder import Recorder

if TYPE_CHECKING:
    # Signals are handled before JAX is loaded; checkpointing needs JAX.
    from matrixrl.checkpoints.format import Snapshot
    from matrixrl.training.checkpointing import Checkpoints

State = TypeVar("State")
Result = TypeVar("Result")

Ending = Literal["finished", "interrupted", "time limit"]


class TrainingDivergedError(RuntimeError):
    """A metric is NaN or infinite. The message names the metric and the step."""


class ChunkFailedError(RuntimeError):
    """A chunk could not be computed by a cause outside of the trainer. The message is one line.

    The state before it is intact, and saved before the run ends.
    """


class Trainer(Protocol[State, Result]):
    """Interface of a system to the loop."""

    def finished(self, state: State) -> bool:
        """Returns true if no work is left."""
        ...

    def advance(self, state: State) -> tuple[State, Result]:
        """Starts the next chunk on the device; returns without waiting for its result if
        possible.

        Raises:
          ChunkFailedError: if the chunk cannot be computed. The state stays as it was.
        """
        ...

    def needs_record(self, state: State) -> bool:
        """Returns true if the next chunk depends on the record of the last one."""
        ...

    def record(self, state: State, outcome: Result, run: Recorder) -> State:
        """Fetches a chunk's result, stamps it and commits it; returns the state updated from it.

        Raises:
          TrainingDivergedError: if a metric is NaN or infinite.
        """
        ...

    def snapshot(self, state: State, step: int) -> Snapshot:
        """Copies the complete state of the run to the host. Called only when every chunk is
        recorded.

        Raises:
          TrainingDivergedError: if the state holds a NaN or an infinity and must not be saved.
        """
        ...


class StopRequest:
    """Converts SIGINT and SIGTERM to a request to stop after the chunk; a second SIGINT stops
    immediately.

    Use it as a context manager. It restores the handlers and the wakeup descriptor that were there,
    and forwards the bytes of other signals to that descriptor meanwhile: an event loop of asyncio
    may hear its signals through it.

    Args:
      grace_seconds: grace period in seconds after the first signal.
      on_expiry: called from another thread with the signal when the process is still there after
        that time; a compilation keeps the main thread from hearing a signal, but not this one. None
        waits for ever.
      on_request: called from its own thread with the first signal, immediately; needs
        `on_expiry`.
      time_limit: seconds from now after which it asks to stop, without a grace period.
    """

    def __init__(
        self,
        grace_seconds: float = 20.0,
        on_expiry: Callable[[signal.Signals], None] | None = None,
        on_request: Callable[[signal.Signals], None] | None = None,
        time_limit: float | None = None,
    ) -> None:
        self._time_limit = None if time_limit is None else time.monotonic() + time_limit
        self.signal: signal.Signals | None = None
        self.origin: str | None = None
        self.grace_seconds = grace_seconds
        self._on_expiry = on_expiry
        self._on_request = on_request
        self._deadline: float | None = None
        self._previous: dict[signal.Signals, Any] = {}
        self._sockets: tuple[socket.socket, socket.socket] | None = None
        self._previous_wakeup = -1
        self._closed = False

    @property
    def requested(self) -> bool:
        """Whether a signal came, `ask` was called, or the time limit is reached."""
        return self.signal is not None or (
            self._time_limit is not None and time.monotonic() >= self._time_limit
        )

    def ask(self, origin: str) -> None:
        """Asks to stop as SIGTERM does. May be called from any thread.

        Args:
          origin: who asks, in words.
        """
        if self.signal is not None or self._closed:
            return
        self.origin = origin
        if self._deadline is None:
            self._deadline = time.monotonic() + self.grace_seconds
        self.signal = signal.SIGTERM
        if self._sockets is not None:
            with contextlib.suppress(OSError):  # closed just now
                self._sockets[1].send(bytes([signal.SIGTERM]))

    @property
    def seconds_left(self) -> float | None:
        """Seconds left of the grace period; None before a signal."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
            if self._on_expiry is not None:
                # Python's handlers wait for the main thread; the wake-up byte of a signal does not.
                receiver, sender = self._sockets = socket.socketpair()
                sender.setblocking(False)
                self._previous_wakeup = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
                threading.Thread(target=self._watch, args=(receiver,), name="grace", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        if self._sockets is not None:
            try:
                signal.set_wakeup_fd(self._previous_wakeup)
            except (OSError, ValueError):  # its owner closed it meanwhile
                signal.set_wakeup_fd(-1)
            self._sockets[1].close()  # ends the watching thread
        for number, handler in self._previous.items():
            # None: it was not installed by Python, and Python cannot install it again.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _watch(self, receiver: socket.socket) -> None:
        """Waits for a signal, then for the end of the grace period or of the program, whichever is
        first.
        """
        with receiver:
            number = 0
            while number not in self._previous:
                data = receiver.recv(1)
                if not data:
                    return
                number = data[0]
                self._forward(data)
            if self._deadline is None:
                self._deadline = time.monotonic() + self.grace_seconds
            if self._on_request is not None:
                # Blocked output may delay this thread, but not the end of the grace period.
                answer = threading.Thread(
                    target=self._on_request, args=(signal.Signals(number),), daemon=True
                )
                answer.start()
            while (left := self._deadline - time.monotonic()) > 0:
                receiver.settimeout(left)
                try:
                    if not (data := receiver.recv(1)):
                        return
                except TimeoutError:
                    break
                self._forward(data)
        if self._on_expiry is not None:
            self._on_expiry(signal.Signals(number))

    def _forward(self, data: bytes) -> None:
        """Writes the byte of a signal that is not handled here to the wakeup descriptor that was
        there before.
        """
        if self._previous_wakeup >= 0 and data[0] not in self._previous:
            with contextlib.suppress(OSError):  # closed, or full: Python would drop the byte, too
                os.write(self._previous_wakeup, data)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        # The watching thread may have received it first, or not yet.
        if self._deadline is None:
            self._deadline = time.monotonic() + self.grace_seconds
        self.signal = signal.Signals(number)


def run_loop(
    trainer: Trainer[State, Result],
    state: State,
    run: Recorder,
    stop: StopRequest,
    checkpoints: Checkpoints | None = None,
    coordinator: Coordinator = SINGLE,
    min_chunks: int = 0,
) -> tuple[State, Ending]:
    """Advances until the trainer is finished or a signal asks to stop; every started chunk is
    recorded.

    With checkpoints the state is saved at intervals and at the end. No chunk is pending at these
    points, so that the clock, the journal and the saved state agree.

    Several processes perform the same steps in the same order: each chunk is recorded before the
    next one, and whether to stop or to save is agreed once per chunk.

    Args:
      min_chunks: number of chunks that are computed even if the time limit is over; a signal stops
        at once.

    Raises:
      TrainingDivergedError: if a metric is NaN or infinite.
      ChunkFailedError: if a chunk could not be computed; the state before it is saved.
      CheckpointError: if a checkpoint could not be written and the run is configured to stop.
    """
    lockstep = coordinator.num_processes > 1
    pending: Result | None = None
    chunks = 0

    def must_stop() -> bool:
        return stop.requested and (stop.signal is not None or chunks >= min_chunks)

    while True:
        due = checkpoints is not None and not must_stop() and checkpoints.due()
        halt, due = coordinator.agree(must_stop(), due)
        if halt:
            break
        if pending is not None and (due or lockstep or trainer.needs_record(state)):
            state, pending = trainer.record(state, pending, run), None
        # After a signal during recording, no further chunk starts.
        stopped_meanwhile = must_stop() and pending is None and not lockstep
        if trainer.finished(state) or stopped_meanwhile:
            break
        if due and checkpoints is not None:
            held_since = time.perf_counter()
            checkpoints.save(trainer.snapshot(state, run.clock.step), held_since)
        try:
            state, result = trainer.advance(state)
        except ChunkFailedError:
            if pending is not None:
                state = trainer.record(state, pending, run)
            if checkpoints is not None and run.clock.step > 0:
                held_since = time.perf_counter()
                checkpoints.save_last(trainer.snapshot(state, run.clock.step), held_since, stop.seconds_left)
            raise
        chunks += 1
        if pending is not None:
            state = trainer.record(state, pending, run)
        pending = result
    if pending is not None:
        state = trainer.record(state, pending, run)
    if checkpoints is not None:
        held_since = time.perf_counter()
        checkpoints.save_last(trainer.snapshot(state, run.clock.step), held_since, stop.seconds_left)
    if trainer.finished(state) or not (halt or must_stop()):
        return state, "finished"
    signalled, _ = coordinator.agree(stop.signal is not None, False)
    return state, "interrupted" if signalled else "time limit"
