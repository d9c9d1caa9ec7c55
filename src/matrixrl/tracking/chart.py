"""Line charts for a terminal, in braille dots."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from matrixrl.tracking.numbers import significant

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
    means = _column_means(points, left, right, 2 * width)
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


@dataclass(frozen=True)
class Curve:
    """One of several curves of a chart.

    Attributes:
        mark: one character, which draws it.
        colour: SGR code of a terminal colour, such as `34`.
    """

    mark: str
    xs: Sequence[float]
    ys: Sequence[float]
    colour: str = ""


def overlaid(
    title: str,
    curves: Sequence[Curve],
    width: int = 60,
    height: int = 12,
    x_label: str = "step",
    colours: bool = False,
) -> str:
    """Returns a chart of several curves over one pair of axes. Each is drawn with its mark; `*` is
    where curves meet.

    Args:
        width: of the plot in characters.
        colours: use terminal colours.
    """
    points = [
        [(x, y) for x, y in zip(curve.xs, curve.ys, strict=True) if math.isfinite(x) and math.isfinite(y)]
        for curve in curves
    ]
    every = list(chain.from_iterable(points))
    if not every:
        return f"{title}: no values"
    left, right = min(x for x, _ in every), max(x for x, _ in every)
    means = [_column_means(of_curve, left, right, width) for of_curve in points]
    values = [mean for columns in means for mean in columns.values()]
    low, high = min(values), max(values)
    cells: dict[tuple[int, int], set[int]] = {}
    for number, columns in enumerate(means):
        last: tuple[int, int] | None = None
        for column, mean in sorted(columns.items()):
            share = (mean - low) / (high - low) if high > low else 0.5
            place = column, round((1 - share) * (height - 1))
            for cell in _between(last, place):
                cells.setdefault(cell, set()).add(number)
            last = place
    labels = [significant(high), *[""] * (height - 2), significant(low)]
    margin = max(map(len, labels))
    lines = [title]
    for row, label in enumerate(labels):
        drawn = "".join(_cell(cells.get((column, row)), curves, colours) for column in range(width))
        lines.append(f"{label:>{margin}} |{drawn.rstrip()}")
    ends = f"{x_label} {left:,.10g}", f"{right:,.10g}"
    lines.append(" " * (margin + 2) + ends[0] + f"{ends[1]:>{max(width - len(ends[0]), 1)}}")
    return "\n".join(lines)


def _column_means(
    points: Sequence[tuple[float, float]], left: float, right: float, columns: int
) -> dict[int, float]:
    """Returns the mean of the values that share a column, by its number."""
    found: dict[int, list[float]] = {}
    for x, y in points:
        share = (x - left) / (right - left) if right > left else 0.0
        found.setdefault(round(share * (columns - 1)), []).append(y)
    return {column: sum(values) / len(values) for column, values in found.items()}


def _cell(numbers: set[int] | None, curves: Sequence[Curve], colours: bool) -> str:
    if not numbers:
        return " "
    if len(numbers) > 1:
        return "*"
    curve = curves[next(iter(numbers))]
    return f"\x1b[{curve.colour}m{curve.mark}\x1b[0m" if colours and curve.colour else curve.mark
