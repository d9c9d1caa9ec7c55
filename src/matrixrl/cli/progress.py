"""Progress output of every command, and the common form of its messages on standard error."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from matrixrl.tracking import streams
from matrixrl.tracking.status import Status, clear, terminal_width, use, wrap


def complain(text: str) -> None:
    """Prints a message with the prefix that all messages on standard error have."""
    line = f"matrixrl: {text}"
    clear()
    if sys.stderr is None:  # it was closed before this process started; `print` would use standard output
        return
    with contextlib.suppress(OSError):  # a message that cannot be written does not end the command
        streams.write(sys.stderr, (wrap(line, terminal_width()) if sys.stderr.isatty() else line) + "\n")
        sys.stderr.flush()


def say(text: str) -> None:
    """Prints sentences on standard output; on a terminal no word is broken."""
    print(wrap(text, terminal_width()) if sys.stdout.isatty() else text)


@contextmanager
def working(text: str) -> Iterator[Status]:
    """Shows on standard error the current work of a command, with the elapsed time, until the block
    ends.

    The block may show more with `tracking.status.activity` and `progress`. Standard output
    stays the result's.

    Args:
      text: what the command does, such as `auditing matmul-2x2x2-jan25-26-1`.
    """
    with use(Status(lambda: sys.stderr)) as status, status.activity(text):
        yield status
