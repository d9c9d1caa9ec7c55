"""Line charts for a terminal, in braille dots."""

from __future__ import annotations

import math
from collections.abc import Sequence

# Bit of each dot of a braille character, by row (from the top) and column.
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


def chart(
    title: str,
    xs: Sequence[float],
    ys: Sequence[float],
    width: int = 60,
    height: int = 6,
    x_label: str = "step",
    last_value: float | None = None,
) -> str:
    """Returns a chart of y over x; values that share a column are averaged, those that are not
    finite left out.

    Args:
        width: of the plot in characters, two dots each.
        height: of the plot in lines, four dots each.
        last_value: stands in the title; by default the last y.
    """
    points = [(x, y) for x, y in zip(xs, ys, strict=True) if math.isfinite(y)]
    if not points:
        return f"{title}: no values"
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    columns: dict[int, list[float]] = {}
    for x, y in points:
        share = (x - left) / (right - left) if right > left else 0.0
        columns.setdefault(round(share * (2 * width - 1)), []).append(y)
    means = {column: sum(values) / len(values) for column, values in columns.items()}
    low, high = min(means.values()), max(means.values())
    cells = [[0] * width for _ in range(height)]
    last: tuple[int, int] | None = None
    for column, mean in sorted(means.items()):
        share = (mean - low) / (high - low) if high > low else 0.5
        row = round((1 - share) * (4 * height - 1))
        for dot_column, dot_row in _between(last, (column, row)):
            cells[dot_row // 4][dot_column // 2] |= DOTS[dot_row % 4][dot_column % 2]
        last = column, row
    labels = [f"{high:.4g}", *[""] * (height - 2), f"{low:.4g}"]
    margin = max(map(len, labels))
    lines = [f"{title}   last {points[-1][1] if last_value is None else last_value:.6g}"]
    for label, row_cells in zip(labels, cells, strict=True):
        lines.append(f"{label:>{margin}} |" + "".join(chr(0x2800 + bits) for bits in row_cells))
    ends = f"{x_label} {left:g}", f"{right:g}"
    lines.append(" " * (margin + 2) + ends[0] + f"{ends[1]:>{max(width - len(ends[0]), 1)}}")
    return "\n".join(lines)


def _between(start: tuple[int, int] | None, end: tuple[int, int]) -> list[tuple[int, int]]:
    """Dots of the line from `start` (left out) to `end`."""
    if start is None:
        return [end]
    count = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1)
    return [
        (
            start[0] + round((end[0] - start[0]) * part / count),
            start[1] + round((end[1] - start[1]) * part / count),
        )
        for part in range(1, count + 1)
    ]
