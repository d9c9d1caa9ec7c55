"""Failure of a peer in a distributed training: its shards of the state are lost, and no collective
can complete, so the other processes end as well.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING, NoReturn

from matrixrl.errors import first_line
from matrixrl.tracking.status import CLEAR_LINE, terminal_width, wrap

if TYPE_CHECKING:
    # A command imports this module before it loads JAX.
    from matrixrl.tracking.recorder import Recorder
    from matrixrl.training.checkpointing import CheckpointManager

PEER_FAILURE_SECONDS = 10.0
"""Time in seconds for the main thread to notice that a peer failed."""

UPLOAD_SECONDS = 5.0
"""Maximum time in seconds that a run which has to end waits for uploads."""

REASON_CHARACTERS = 160
"""Maximum number of characters of a collective's error in the message."""


class PeerFailureHandler:
    """Ends this process some time after a peer failed, unless the main thread has by then.

    The main thread may wait in a collective that cannot complete, and JAX would then terminate it
    without a message.

    Attributes:
      command: resumes the run, once there is one.
      manager: knows the last checkpoint, on the leader.
    """

    def __init__(self) -> None:
        self.command: str | None = None
        self.manager: CheckpointManager | None = None

    def __call__(self, number: int) -> None:
        """Waits, then writes a message and exits; the journal loses no rows."""
        time.sleep(PEER_FAILURE_SECONDS)
        exit_at_once(peer_failure_message(f"process {number}", self.manager, self.command), 1)


def exit_after_peer_failure(
    run: Recorder, manager: CheckpointManager | None, error: Exception, command: str
) -> NoReturn:
    """Closes the run, and ends this process because a collective failed.

    Args:
      manager: on the leader.
      error: that of the collective.
      command: resumes the run.
    """
    if manager is not None:
        from matrixrl.training.checkpointing import CheckpointError

        with contextlib.suppress(CheckpointError):
            manager.wait()
    text = peer_failure_message(first_line(error, REASON_CHARACTERS), manager, command)
    run.warn(text)
    run.finish("crashed", UPLOAD_SECONDS)
    sys.stdout.flush()
    # Normal interpreter shutdown would wait for the failed peers.
    exit_at_once(text, 1)


def peer_failure_message(reason: str, manager: CheckpointManager | None, command: str | None) -> str:
    """Returns the message that a peer failed, and on the leader how to continue."""
    where = ""
    if manager is not None:
        where = f"; {manager.where}; continue, with as many processes as there are, with: {command}"
    return f"another process of this training ended or cannot be reached ({reason}){where}"


def exit_at_once(text: str, status: int) -> NoReturn:
    """Writes a final message and exits immediately, skipping interpreter shutdown."""
    # Straight to the file: the main thread may hold the stream's lock.
    line = f"matrixrl: {text}"
    if os.isatty(2):
        line = CLEAR_LINE + wrap(line, terminal_width())  # there may be a status line
    with contextlib.suppress(OSError):  # nobody may be there to read it
        os.write(2, f"{line}\n".encode(errors="backslashreplace"))
    os._exit(status)
