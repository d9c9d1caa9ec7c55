"""Progress of a training in the output of a notebook cell."""

from __future__ import annotations

import contextvars
import html
import math
import sys
import threading
from collections.abc import Iterator, Sequence
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


def sparkline_svg(
    xs: Sequence[float], ys: Sequence[float], text: str, width: int = 240, height: int = 48
) -> str:
    """Returns a curve as a small picture for a page.

    Args:
      text: what it shows, for readers that do not see it.
    """
    points = [(x, y) for x, y in zip(xs, ys, strict=True) if math.isfinite(y)]
    if len(points) > 2 * width:
        # Of each group of neighbours the lowest and the highest, so that no extreme is lost.
        size = -(-len(points) // width)
        groups = [points[start : start + size] for start in range(0, len(points), size)]
        ends = [(min(group, key=lambda p: p[1]), max(group, key=lambda p: p[1])) for group in groups]
        points = [point for pair in ends for point in sorted(pair)]
    low, high = min((y for _, y in points), default=0.0), max((y for _, y in points), default=0.0)
    first, last = (points[0][0], points[-1][0]) if points else (0.0, 0.0)
    spread_x, spread_y = (last - first) or 1.0, (high - low) or 1.0
    places = " ".join(
        f"{2 + (x - first) / spread_x * (width - 4):.1f},{height - 3 - (y - low) / spread_y * (height - 6):.1f}"
        for x, y in points
    )
    return (
        f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{html.escape(text, quote=True)}"><title>{html.escape(text)}</title>'
        f'<polyline points="{places}" fill="none" stroke="#2f7fc1" stroke-width="1.5"/></svg>'
    )


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
