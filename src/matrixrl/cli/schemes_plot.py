"""Plot of ``matrixrl schemes bench``: the speed-up over BLAS by size, drawn with Pillow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from matrixrl.schemes.scheme import SchemeError
from matrixrl.user_files import display_path
from matrixrl.whole_files import whole_file

_SIZE = (1200, 720)
_LEFT, _TOP, _RIGHT, _BOTTOM = 110, 90, 250, 80
_COLOURS = ("#2563eb", "#dc2626", "#059669", "#9333ea", "#d97706", "#0891b2")


def save_ratio_plot(results: Sequence[dict[str, Any]], title: str, path: Path) -> None:
    """Draws the time of BLAS divided by that of the scheme, one line per threads and levels.

    A vertical line marks where a curve crosses 1.

    Args:
      results: rows with `size`, `threads`, `levels`, `blas_seconds` and `scheme_seconds`.
      title: the heading.
      path: PNG file.

    Raises:
      SchemeError: if the file cannot be written.
    """
    image = Image.new("RGB", _SIZE, "white")
    canvas = ImageDraw.Draw(image)
    font, small = ImageFont.load_default(24), ImageFont.load_default(18)
    canvas.text((_LEFT, 28), title, "#111827", font)
    curves: dict[tuple[int, int], list[tuple[int, float]]] = {}
    for row in results:
        point = (row["size"], row["blas_seconds"] / row["scheme_seconds"])
        curves.setdefault((row["threads"], row["levels"]), []).append(point)
    sizes = sorted({row["size"] for row in results})
    ratios = [ratio for points in curves.values() for _, ratio in points]
    low, high = min(0.8, *ratios), max(1.2, *ratios)
    low, high = math.floor(low * 10) / 10, math.ceil(high * 10) / 10

    def place(size: float, ratio: float) -> tuple[float, float]:
        span = math.log(sizes[-1] / sizes[0]) or 1.0
        x = _LEFT + (_SIZE[0] - _LEFT - _RIGHT) * (math.log(size / sizes[0]) / span)
        y = _SIZE[1] - _BOTTOM - (_SIZE[1] - _TOP - _BOTTOM) * (ratio - low) / (high - low)
        return x, y

    step = 0.1 if high - low < 1.5 else 0.5
    for index in range(round((high - low) / step) + 1):
        value = low + index * step
        left, right = place(sizes[0], value), place(sizes[-1], value)
        canvas.line([left, right], "#9ca3af" if abs(value - 1) < 1e-9 else "#e5e7eb", 1)
        canvas.text((left[0] - 14, left[1]), f"{value:.1f}", "#374151", small, anchor="rm")
    one = [place(sizes[0], 1.0), place(sizes[-1], 1.0)]
    canvas.line(one, "#111827", 2)
    for size in sizes:
        x, y = place(size, low)
        canvas.line([(x, y), (x, y + 6)], "#374151", 1)
        canvas.text((x, y + 12), f"{size:,}", "#374151", small, anchor="ma")
    canvas.text((_LEFT, _TOP - 26), "time of BLAS / time of the scheme", "#374151", small)
    canvas.text((_SIZE[0] - _RIGHT, _SIZE[1] - 30), "size", "#374151", small, anchor="ra")
    for index, ((threads, levels), points) in enumerate(sorted(curves.items())):
        colour = _COLOURS[index % len(_COLOURS)]
        places = [place(*point) for point in points]
        if len(places) > 1:
            canvas.line(places, colour, 3)
        for x, y in places:
            canvas.ellipse([x - 5, y - 5, x + 5, y + 5], colour)
        crossing = _crossing(points)
        if crossing is not None:
            x, y = place(crossing, 1.0)
            canvas.line([(x, y), (x, place(crossing, low)[1])], colour, 1)
            canvas.text(
                (x + 4, place(crossing, low)[1] - 22 * (index + 1)), f"{crossing:,.0f}", colour, small
            )
        words = f"{levels} level{'s' * (levels != 1)}, {threads} thread{'s' * (threads != 1)}"
        y = _TOP + 28 * index
        canvas.line([(_SIZE[0] - _RIGHT + 20, y), (_SIZE[0] - _RIGHT + 50, y)], colour, 3)
        canvas.text((_SIZE[0] - _RIGHT + 60, y), words, "#374151", small, anchor="lm")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as draft:
            image.save(draft, format="PNG")
    except OSError as error:
        raise SchemeError(f"cannot write {display_path(path)}: {error.strerror or error}") from error


def _crossing(points: Sequence[tuple[int, float]]) -> float | None:
    """Returns the size at which the last stretch above 1 begins, interpolated; None if a curve ends
    below 1 or is never below.
    """
    if points[-1][1] <= 1:
        return None
    for (size, ratio), (larger, above) in reversed(list(pairwise(points))):
        if ratio <= 1:
            share = (1 - ratio) / (above - ratio)
            return size * (larger / size) ** share
    return None
