"""Progress of a training in the output of a notebook cell."""

from __future__ import annotations

import contextvars
import html
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from matrixrl.tracking import status

INTERVAL_SECONDS = 0.5
"""Interval in seconds between two updates of the display."""

WIDTH = 100
"""Number of columns of the text."""


def in_notebook() -> bool:
    """Returns whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


def progress_html(text: str, fraction: float | None) -> str:
    """Returns a progress bar with its text; without a fraction, the text alone."""
    bar = ""
    if fraction is not None:
        bar = f'<progress value="{fraction:.4f}" max="1" style="width: 20em; vertical-align: middle"></progress> '
    return f'<div style="font-family: monospace">{bar}{html.escape(text)}</div>'


@contextmanager
def notebook_progress(wanted: bool | None) -> Iterator[None]:
    """Shows the status of a training below the cell until the block ends.

    Args:
      wanted: None shows it in notebooks alone.
    """
    if not (in_notebook() if wanted is None else wanted):
        yield
        return
    from IPython.display import HTML, display

    handle: Any = display(HTML(progress_html("", None)), display_id=True)
    done = threading.Event()

    def show() -> None:
        shown = ""
        while not done.wait(INTERVAL_SECONDS):
            current = status.in_use()
            if current is None or handle is None:
                continue
            content = progress_html(*current.snapshot(WIDTH))
            if content != shown:
                shown = content
                handle.update(HTML(content))

    # The kernel finds the cell of an output in the context of the thread.
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(show,), name="notebook progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        if handle is not None:
            handle.update(HTML(""))
