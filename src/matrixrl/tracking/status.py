"""The status line: what a command does at the moment, with the time so far, how far it is and what
is best.

On a terminal it is the last line, redrawn in place, and it disappears when the command prints or
ends. Elsewhere (a pipe, a log file) a plain line says the same now and then. A thread of its own
keeps the time, because compilation holds the main thread for a minute or more.

Deep code, such as the first call of a compiled program, names what it does with `activity`; whoever
talks to the user shows it. Without a `Status` in use it costs nothing and shows nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO

from matrixrl.tracking import streams
from matrixrl.tracking.numbers import clock, duration, significant
from matrixrl.tracking.streams import OutputError

TICK_SECONDS = 0.25
"""Interval at which a terminal is redrawn."""

ANNOUNCE_SECONDS = 0.5
"""Without a terminal, an activity that is over sooner is not worth a line."""

PLAIN_SECONDS = 10.0
"""Interval between plain lines about an activity, and before the first one about a phase."""

QUIET_SECONDS = 30.0
"""Interval between later plain lines about a phase, where nothing else was printed."""

DEFAULT_WIDTH = 80
MAX_BAR, MIN_BAR = 24, 6
CLEAR_LINE = "\r\x1b[K"

# A command at the end of a message stays on one line, so that it can be copied.
_COMMAND = re.compile(r"^(?P<text>.*\S:) (?P<command>matrixrl \S.*)$", re.DOTALL)


def wrap(text: str, width: int) -> str:
    """Returns the text with line breaks between words, so that a terminal breaks none of them.

    A command at the end gets a line of its own, unbroken: it is there to be copied.
    """
    lines: list[str] = []
    for line in text.split("\n"):
        if len(line) <= width or line.lstrip().startswith("matrixrl "):
            lines.append(line)
            continue
        found = _COMMAND.match(line)
        words, command = (found["text"], found["command"]) if found else (line, None)
        # What stands in columns keeps its indentation on the lines that continue it.
        margin = re.match(r"\s*(\S+\s{2,})?", words)
        indent = " " * (len(margin[0]) if margin and len(margin[0]) <= width // 2 else 0) or "  "
        lines += textwrap.wrap(
            words,
            width,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
            drop_whitespace=True,
        )
        if command:
            lines.append(f"{indent}{command}")
    return "\n".join(lines)


def terminal_width() -> int:
    """Returns the number of columns of the terminal, or 80 where it does not say."""
    return shutil.get_terminal_size((DEFAULT_WIDTH, 24)).columns


@dataclass
class _Activity:
    text: str
    began: float
    announced: bool = False
    next_line: float = 0.0


@dataclass
class _Phase:
    """How far a phase is.

    Attributes:
        first, first_at: the count and the time when the phase was first seen: the rate counts from
            there, so that compilation before it is left out.
        paused: seconds since then that went into activities.
    """

    name: str
    done: int
    total: int
    unit: str
    best: str
    first: int
    first_at: float
    last_at: float
    paused: float = 0.0

    @property
    def rate(self) -> float | None:
        """Counts per second, or None before there is anything to measure."""
        seconds, counted = self.last_at - self.first_at - self.paused, self.done - self.first
        return counted / seconds if counted > 0 and seconds > 0.2 else None

    @property
    def seconds_left(self) -> float | None:
        """Time until the phase is over at this rate."""
        return None if self.rate is None else (self.total - self.done) / self.rate

    def facts(self, short: bool) -> list[str]:
        """Returns the count, rate, time left and best result, the most important first."""
        if not self.total:
            return [text for text in (f"{self.done:,} {self.unit}".rstrip(), self.best) if text]
        counted = f"{self.done:,}/{self.total:,}" if short else f"{self.done:,} of {self.total:,}"
        found = [f"{counted} {self.unit}".rstrip()]
        if self.rate is not None and self.done < self.total:
            left = self.seconds_left or 0.0
            found += [f"{significant(self.rate)}/s", f"{clock(left) if short else duration(left)} left"]
        return [*found, self.best] if self.best else found


class Status:
    """Prints lines and keeps a status line below them. May be used from several threads.

    Args:
        stream: returns the stream to write to; standard output by default. Looked up at each line,
            because programs and tests replace it.
        terminal: whether to redraw in place; by default if the stream is a terminal.
        shown: False prints lines but shows no status.
        clock: returns seconds.
    """

    def __init__(
        self,
        stream: Callable[[], TextIO] = lambda: sys.stdout,
        *,
        terminal: bool | None = None,
        shown: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        capable = os.environ.get("TERM") != "dumb"
        self._terminal = capable and stream().isatty() if terminal is None else terminal
        self._shown = shown
        self._clock = clock
        self._lock = threading.RLock()
        self._activities: list[_Activity] = []
        self._phase: _Phase | None = None
        self._drawn = 0  # characters of the status line on the screen
        self._next_draw = 0.0
        self._next_plain = clock() + PLAIN_SECONDS
        self._wake = threading.Event()
        self._closed = False
        self._broken = False
        self._thread: threading.Thread | None = None
        self._began = clock()

    @property
    def terminal(self) -> bool:
        """Whether the status line is redrawn in place."""
        return self._terminal

    @property
    def width(self) -> int | None:
        """Number of columns for text; None where lines may be of any length."""
        return terminal_width() if self._terminal else None

    @property
    def elapsed(self) -> float:
        """Seconds since the status was made."""
        return self._clock() - self._began

    def line(self, text: str) -> None:
        """Prints text above the status line."""
        with self._lock:
            width = self.width
            self._clear()
            self._write((text if width is None else wrap(text, width)) + "\n")
            self._next_plain = self._clock() + QUIET_SECONDS
            self._draw()

    @contextmanager
    def activity(self, text: str) -> Iterator[None]:
        """Shows that something is under way, with the time so far, until the block ends.

        Args:
            text: what is done, such as `compiling self-play`.
        """
        now = self._clock()
        entry = _Activity(text, now, next_line=now + ANNOUNCE_SECONDS)
        with self._lock:
            self._activities.append(entry)
            self._draw()
        self._keep_time()
        done = False
        try:
            yield
            done = True
        finally:
            with self._lock:
                now = self._clock()
                self._activities.remove(entry)
                if entry.announced and self._activities and self._activities[-1].announced:
                    self._activities[-1].next_line = now + PLAIN_SECONDS  # its part was just spoken of
                if self._phase is not None and not self._activities:
                    self._phase.paused += now - max(entry.began, self._phase.first_at)
                if entry.announced and done and not self._closed:
                    self._plain(f"{text}: done in {duration(now - entry.began)}")
                self._draw()

    def progress(self, name: str, done: int, total: int, unit: str = "", best: str = "") -> None:
        """Shows how far a phase is.

        Args:
            name: of the phase, such as `epoch 3 self-play`.
            done: counted so far, out of `total`.
            total: number of units of the phase; 0 if it is not known.
            unit: what is counted, such as `games`.
            best: the best so far, in words.
        """
        with self._lock:
            now, phase = self._clock(), self._phase
            if phase is None or phase.name != name or done < phase.done:
                self._phase = _Phase(name, done, total, unit, best, done, now, now)
            else:
                phase.done, phase.total, phase.unit, phase.best, phase.last_at = done, total, unit, best, now
            if self._terminal and (now >= self._next_draw or 0 < total <= done):
                self._draw()
            elif not self._terminal:
                self._plain_progress(now)
        if self._terminal:
            self._keep_time()

    def end_progress(self) -> None:
        """Takes the phase away."""
        with self._lock:
            self._phase = None
            self._draw()

    def clear(self) -> None:
        """Takes the status line away until it is drawn next."""
        with self._lock:
            self._clear()

    def close(self) -> None:
        """Takes the status line away and ends the thread. Lines may still be printed."""
        with self._lock:
            self._closed = True
            self._clear()
            self._phase = None
        self._wake.set()

    # ---- drawing ----

    def status_text(self, width: int) -> str:
        """Returns the status line for a number of columns; empty where there is nothing to show."""
        if self._shows_activity():
            entry = self._activities[-1]
            spent = f"  {duration(self._clock() - entry.began)}"
            text = ": ".join(dict.fromkeys(activity.text for activity in self._activities))
            if len(text) + len(spent) > width:
                text = entry.text
            return text[: max(width - len(spent), 0)] + spent
        phase = self._phase
        if phase is None:
            return ""
        name, facts = phase.name, phase.facts(short=True)
        if not phase.total:  # nothing to draw a bar of
            return "  ".join([name, *facts])[:width]
        room = width - len(name) - len("  ".join(facts)) - 4
        while room < MIN_BAR and len(facts) > 1:
            if room >= 0:
                return f"{name}  {'  '.join(facts)}"  # facts before the bar
            # The best so far stays longest, after the count.
            facts.pop(-2 if phase.best and len(facts) > 2 else -1)
            room = width - len(name) - len("  ".join(facts)) - 4
        text = "  ".join(facts)
        if room < MIN_BAR:
            return f"{name}  {text}" if len(name) + len(text) + 2 <= width else text[:width]
        room = min(room, MAX_BAR)
        filled = room * phase.done // phase.total if phase.total else room
        full, empty = ("━", "─") if self._encodes("━─") else ("#", "-")
        return f"{name}  {full * filled}{empty * (room - filled)}  {text}"

    def snapshot(self, width: int) -> tuple[str, float | None]:
        """Returns the status line for a number of columns, and the fraction of the phase that is
        done.

        The fraction is None during an activity, and without a phase.
        """
        with self._lock:
            text, phase = self.status_text(width), self._phase
            if phase is None or not phase.total or self._shows_activity():
                return text, None
            return "  ".join([phase.name, *phase.facts(short=False)]), min(1.0, phase.done / phase.total)

    def _shows_activity(self) -> bool:
        """Returns whether an activity is what happens now: one that began before the phase only
        stands around it."""
        if not self._activities:
            return False
        return self._phase is None or self._activities[-1].began >= self._phase.first_at

    def _encodes(self, text: str) -> bool:
        try:
            text.encode(getattr(self._stream(), "encoding", None) or "ascii")
        except (UnicodeEncodeError, LookupError):
            return False
        return True

    def _draw(self) -> None:
        if not (self._terminal and self._shown) or self._closed:
            return
        self._next_draw = self._clock() + TICK_SECONDS
        text = self.status_text(terminal_width() - 1)
        if text:
            # The output of a notebook's cell handles carriage returns only: there a shorter line
            # has to cover the longer one.
            self._write(f"{CLEAR_LINE}{text.ljust(self._drawn)}")
            self._drawn = len(text)
        else:
            self._clear()

    def _clear(self) -> None:
        if self._drawn:
            self._write("\r" + " " * self._drawn + CLEAR_LINE)
            self._drawn = 0

    def _plain(self, text: str) -> None:
        self._write(text + "\n")
        self._next_plain = self._clock() + QUIET_SECONDS

    def _plain_progress(self, now: float) -> None:
        if not self._shown or self._closed or now < self._next_plain or self._phase is None:
            return
        phase = self._phase
        self._plain(f"{phase.name}: {', '.join(phase.facts(short=False))}")

    def _plain_activity(self, now: float) -> None:
        """Announces activities that take time, the outer ones first; says of the innermost how long
        it has taken."""
        for entry in self._activities:
            if not entry.announced and now >= entry.next_line:
                self._plain(f"{entry.text} ...")
                entry.announced, entry.next_line = True, now + PLAIN_SECONDS
        if now >= entry.next_line and self._shows_activity():
            self._plain(f"{entry.text} ({duration(now - entry.began)} so far)")
            entry.next_line = now + PLAIN_SECONDS

    def _write(self, text: str) -> None:
        """Writes to the stream. After a failure nothing more is written; the work continues."""
        if self._broken:
            return
        stream = self._stream()
        try:
            streams.write(stream, text)
            stream.flush()
        except (OSError, OutputError) as error:
            self._broken = True
            streams.drop_buffered(stream)
            reader_gone = isinstance(error, BrokenPipeError) or getattr(error, "reader_gone", False)
            if streams.is_first_failure(stream) and not reader_gone and stream is not sys.stderr:
                reason = (
                    error
                    if isinstance(error, OutputError)
                    else f"the output cannot be written ({error.strerror or error})"
                )
                with contextlib.suppress(OSError):
                    streams.write(sys.stderr, f"matrixrl: {reason}; the run continues without it\n")

    def _keep_time(self) -> None:
        """Starts the thread that keeps the time, unless it runs."""
        with self._lock:
            if self._thread is None and self._shown and not self._closed:
                self._thread = threading.Thread(target=self._run, name="status", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        """Redraws until there is nothing to show."""
        while not self._wake.wait(TICK_SECONDS):
            with self._lock:
                if self._closed or not (self._activities or (self._terminal and self._phase)):
                    self._thread = None
                    return
                now = self._clock()
                if self._terminal:
                    self._draw()
                else:
                    self._plain_activity(now)


_in_use: list[Status] = []


@contextmanager
def use(status: Status) -> Iterator[Status]:
    """Makes a status the one that `activity` and `progress` show on, until the block ends, and
    closes it then."""
    _in_use.append(status)
    try:
        yield status
    finally:
        _in_use.remove(status)
        status.close()


def notify(text: str) -> None:
    """Prints a line on the status in use, if there is one."""
    if _in_use:
        _in_use[-1].line(text)


def in_use() -> Status | None:
    """Returns the status in use, if there is one."""
    return _in_use[-1] if _in_use else None


def clear() -> None:
    """Clears drawn status lines before other output to the terminal; the next update redraws
    them."""
    for status in _in_use:
        status.clear()


def begin_use(status: Status) -> None:
    """Makes a status the one that `activity` and `progress` show on, until `end_use`."""
    _in_use.append(status)


def end_use(status: Status) -> None:
    """Ends what `begin_use` began, and closes the status."""
    if status in _in_use:
        _in_use.remove(status)
    status.close()


@contextmanager
def activity(text: str) -> Iterator[None]:
    """Shows that something is under way on the status in use, if there is one; see
    `Status.activity`."""
    if not _in_use:
        yield
        return
    with _in_use[-1].activity(text):
        yield


def progress(name: str, done: int, total: int, unit: str = "", best: str = "") -> None:
    """Shows how far a phase is on the status in use, if there is one; see `Status.progress`."""
    if _in_use:
        _in_use[-1].progress(name, done, total, unit, best)
