"""Standard output and standard error of a command: no text, full device or closed descriptor ends
it with a traceback.

Characters that a stream's encoding lacks are escaped, as in `Z\\xfcrich`. A stream that fails is
given up, which is said once.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

_reported: weakref.WeakSet[Any] = weakref.WeakSet()


class OutputError(Exception):
    """Standard output cannot be written.

    Attributes:
        reader_gone: the reader of a pipe closed it, as `head` does, which is not an error.
    """

    def __init__(self, reason: str, reader_gone: bool = False) -> None:
        super().__init__(f"standard output cannot be written ({reason})")
        self.reader_gone = reader_gone


def encodable(text: str, encoding: str | None) -> str:
    """Returns the text with the characters escaped that an encoding lacks."""
    encoding = encoding or "ascii"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def write(stream: TextIO, text: str) -> None:
    """Writes text, whatever the encoding of the stream.

    Raises:
        OSError: the stream cannot be written.
    """
    try:
        stream.write(text)
    except UnicodeEncodeError:
        stream.write(encodable(text, stream.encoding))


def drop_buffered(stream: TextIO) -> None:
    """Drops the buffer of a failed stream, which would fail again when the interpreter ends."""
    with contextlib.suppress(OSError, ValueError):
        descriptor = stream.fileno()
        kept, nowhere = os.dup(descriptor), os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, descriptor)
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        finally:
            os.dup2(kept, descriptor)
            os.close(kept)
            os.close(nowhere)


def is_first_failure(stream: TextIO) -> bool:
    """Returns true if the failure of a stream has not been reported yet, and marks it as
    reported."""
    stream = stream.wrapped if isinstance(stream, CheckedStream) else stream
    first = stream not in _reported
    _reported.add(stream)
    return first


class CheckedStream:
    """A text stream whose failure is one exception of its own, or nothing. Everything else is the
    stream's.

    Args:
        stream: None where the descriptor was closed before the interpreter started.
        required: raise `OutputError` when the stream fails; otherwise what is written is dropped
            from then on.
    """

    def __init__(self, stream: TextIO | None, *, required: bool) -> None:
        self._failure = None if stream is not None else OutputError("it is closed")
        self.wrapped: TextIO = io.StringIO() if stream is None else stream
        self._required = required

    def write(self, text: str) -> int:
        """Writes text.

        Raises:
            OutputError: the stream is required and failed, now or before.
        """
        if self._failure is None:
            self._try(lambda: write(self.wrapped, text))
        if self._failure is not None and self._required:
            raise self._failure
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Writes lines; see `write`."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Writes what is buffered.

        Raises:
            OutputError: the stream is required and failed just now.
        """
        if self._failure is None:
            self._try(self.wrapped.flush)
            if self._failure is not None and self._required:
                raise self._failure

    def _try(self, action: Any) -> None:
        try:
            action()
        except OSError as error:
            self._failure = OutputError(error.strerror or str(error), isinstance(error, BrokenPipeError))
        except ValueError:
            if not self.wrapped.closed:
                raise
            self._failure = OutputError("it is closed")
        if self._failure is not None:
            drop_buffered(self.wrapped)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wrapped, name)


@contextmanager
def checked_streams() -> Iterator[None]:
    """Checks standard output and standard error until the block ends, and puts back the streams
    that were there.

    Raises:
        OutputError: from `print` and the like, where standard output cannot be written.
    """
    before = sys.stdout, sys.stderr
    if isinstance(before[0], CheckedStream):
        yield
        return
    out, err = CheckedStream(before[0], required=True), CheckedStream(before[1], required=False)
    sys.stdout, sys.stderr = out, err  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        if sys.stdout is out:
            sys.stdout = before[0]
        if sys.stderr is err:
            sys.stderr = before[1]
