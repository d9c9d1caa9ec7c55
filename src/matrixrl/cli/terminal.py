"""Single key presses and whole screens on a terminal that is at least 80 columns wide and 24 lines
high.
"""

from __future__ import annotations

import importlib.util
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager

ENTER_SCREEN, LEAVE_SCREEN = "\x1b[?1049h", "\x1b[?1049l"
HOME, CLEAR_LINE, CLEAR_BELOW = "\x1b[H", "\x1b[2K", "\x1b[J"
ESCAPE = "\x1b"
ESCAPE_SECONDS = 0.05  # input later than this after an escape is another key
ARROWS = {"A": "up", "B": "down", "C": "right", "D": "left"}


def is_interactive() -> bool:
    """Returns true if standard input and output are a terminal whose keys can be read one by
    one.
    """
    known = importlib.util.find_spec("termios") is not None  # absent on Windows
    return known and sys.stdin.isatty() and sys.stdout.isatty()


def in_colour(choice: str) -> bool:
    """Returns true if standard output is to be coloured, for a choice of ``auto``, ``always`` or
    ``never``.
    """
    if choice == "auto":
        return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return choice == "always"


@contextmanager
def full_screen() -> Iterator[None]:
    """Takes over the terminal: keys arrive at once and unechoed, and the previous screen is
    restored at the end.
    """
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        print(ENTER_SCREEN, end="", flush=True)
        yield
    finally:
        print(LEAVE_SCREEN, end="", flush=True)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def show(text: str) -> None:
    """Replaces the screen; the cursor stays after the last character."""
    # Write line by line: clearing the whole screen first flickers at many frames per second.
    lines = "\n".join(CLEAR_LINE + line for line in text.split("\n"))
    print(HOME + lines + CLEAR_BELOW, end="", flush=True)


def wait_for_key(seconds: float | None) -> str | None:
    """Reads a key with `read_key`, or returns None if no key is pressed within `seconds`; None
    waits indefinitely.
    """
    if not select.select([sys.stdin.fileno()], [], [], seconds)[0]:
        return None
    return read_key()


def read_key() -> str:
    """Reads the next key: a character, or ``up``, ``down``, ``left``, ``right``, ``escape``; empty
    at the end of input.
    """
    descriptor = sys.stdin.fileno()
    character = os.read(descriptor, 1).decode("ascii", "replace")
    if character != ESCAPE:
        return character
    sequence = ""
    while select.select([descriptor], [], [], ESCAPE_SECONDS)[0]:
        sequence += os.read(descriptor, 1).decode("ascii", "replace")
        if sequence not in ("[", "O"):
            break
    if len(sequence) == 2:
        return ARROWS.get(sequence[1], "escape")
    return "escape"


def read_line(prompt: str) -> str | None:
    """Reads a line of text typed at a prompt, with backspace; None if cancelled with escape."""
    text = ""
    while True:
        print(f"\r\x1b[K{prompt}{text}", end="", flush=True)
        key = read_key()
        if key in ("\r", "\n"):
            return text
        if key in ("", "escape"):
            return None
        if key in ("\x7f", "\b"):
            text = text[:-1]
        elif len(key) == 1 and key.isprintable():
            text += key
