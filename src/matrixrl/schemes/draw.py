"""A picture of a scheme: its three factor matrices as coloured grids.

Rows are the entries of A, B and C, columns are the products M1, M2, ..., so one column reads as one multiplication:
what is summed of A, what of B, and to which entries of C the product goes. Few products stand side by side, many are
stacked with their columns aligned.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from matrixrl.schemes.scheme import Format, Scheme, SchemeError, format_labels
from matrixrl.schemes.verify import verify

if TYPE_CHECKING:  # matplotlib takes half a second to import: only when something is drawn
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Blue against orange is told apart with every kind of colour blindness; the signs in the cells say it in grey.
_PLUS = "#1f6fb4"
_MINUS = "#e8833a"
_PLUS_LARGE = "#0d3f70"
_MINUS_LARGE = "#a8480c"
_ZERO = "#edf0f4"
_INK = "#17212b"
_SOFT = "#66727f"

_SIDE_BY_SIDE_RANK = 14
_DPI = 160


def title(scheme: Scheme) -> str:
    """``2x2x2 in 7 multiplications, over the integers, verified``; the verification is done here, exactly."""
    where = "over the integers" if scheme.ring == "Z" else "modulo 2"
    check = "verified" if verify(scheme) else "NOT CORRECT"
    return f"{scheme.format} in {scheme.rank} multiplications, {where}, {check}"


def found_how(scheme: Scheme) -> str:
    """One line from the provenance on how the scheme was found; empty when it does not say."""
    parts = [str(scheme.provenance[name]) for name in ("source", "shown") if name in scheme.provenance]
    if scheme.provenance.get("lifted_from") == "F2":
        parts.append("lifted from a solution modulo 2")
    return ", ".join(parts)


def draw(scheme: Scheme, subtitle: str | None = None) -> Figure:
    """The three factor matrices of a scheme under one title (matplotlib's Agg; no display needed).

    Args:
      scheme: of any rank; made for ranks up to about 100.
      subtitle: how it was found; by default what `found_how` reads in the provenance.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    page = _Page.of(scheme)
    figure = Figure(figsize=(page.width, page.height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    n, m, p = scheme.format
    shapes = ((n, m), (m, p), (n, p))
    for index, (factor, names) in enumerate(zip(scheme.factors, format_labels(scheme.format), strict=True)):
        axes = figure.add_axes(page.box(index))
        _draw_grid(
            axes, factor.T, names, shapes[index][1], page, with_products=page.side_by_side or index == 0
        )
        _draw_heading(figure, page, index)
    x = page.margin / page.width
    figure.text(
        x, 1 - 0.34 / page.height, title(scheme), size=page.title_size, weight="bold", color=_INK, va="top"
    )
    note = page.fitted(found_how(scheme) if subtitle is None else subtitle)
    figure.text(x, 1 - 0.72 / page.height, note, size=page.title_size * 0.68, color=_SOFT, va="top")
    _draw_legend(figure, page, scheme)
    return figure


def save_png(scheme: Scheme, path: Path | str, subtitle: str | None = None) -> None:
    """Draw a scheme into a PNG file, written whole and then renamed; raises `SchemeError` if it cannot be written."""
    path = Path(path)
    figure = draw(scheme, subtitle)
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            figure.savefig(file, format="png", metadata={"Software": None, "Title": title(scheme)})
        os.chmod(temporary, 0o644)  # mkstemp makes it private
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise SchemeError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


@dataclass(frozen=True)
class _Page:
    """Where things stand, in inches.

    Attributes:
      rank: columns of each grid.
      format: (n, m, p).
      cell: side of one cell.
      side_by_side: grids beside one another, else stacked.
    """

    rank: int
    format: Format
    cell: float
    side_by_side: bool

    margin = 0.42
    head = 1.66
    foot = 0.72
    label = 0.40
    gap = 0.62

    @staticmethod
    def of(scheme: Scheme) -> _Page:
        side_by_side = scheme.rank <= _SIDE_BY_SIDE_RANK
        cell = 0.40 if side_by_side else min(0.34, max(0.13, 11.0 / scheme.rank))
        return _Page(scheme.rank, scheme.format, cell, side_by_side)

    @property
    def rows(self) -> tuple[float, float, float]:
        """Heights of the grids in cells, the gaps between matrix rows included."""
        n, m, p = self.format
        return _extent(n, m), _extent(m, p), _extent(n, p)

    @property
    def grid_width(self) -> float:
        return self.rank * self.cell

    @property
    def width(self) -> float:
        grids = 3 * (self.label + self.grid_width) + 2 * self.gap * 0.8
        content = grids if self.side_by_side else self.label + self.grid_width
        return max(content + 2 * self.margin, 7.4)

    @property
    def height(self) -> float:
        rows = max(self.rows) if self.side_by_side else sum(self.rows)
        return self.head + rows * self.cell + (0 if self.side_by_side else 2 * self.gap) + self.foot

    @property
    def title_size(self) -> float:
        return 15.0

    def fitted(self, text: str) -> str:
        """A subtitle cut to what one line of the page holds."""
        room = int((self.width - 2 * self.margin) / 0.086)
        return text if len(text) <= room else text[: room - 3] + "..."

    def left(self, index: int) -> float:
        """Left edge of a grid's cells."""
        step = self.label + self.grid_width + self.gap * 0.8
        return self.margin + self.label + (index * step if self.side_by_side else 0.0)

    def top(self, index: int) -> float:
        """Distance of a grid's upper edge from the upper edge of the page."""
        above = 0.0 if self.side_by_side else sum(self.rows[:index]) * self.cell + index * self.gap
        return self.head + above

    def box(self, index: int) -> tuple[float, float, float, float]:
        """A grid's axes in fractions of the page: left, bottom, width, height."""
        height = self.rows[index] * self.cell
        bottom = self.height - self.top(index) - height
        return (
            self.left(index) / self.width,
            bottom / self.height,
            self.grid_width / self.width,
            height / self.height,
        )


_ROW_GAP = 0.22  # between the rows of one matrix, in cells


def _extent(rows: int, columns: int) -> float:
    """Height in cells of the entries of a rows x columns matrix, one under the other."""
    return rows * columns + (rows - 1) * _ROW_GAP


def _draw_grid(
    axes: Axes, values: np.ndarray, names: Sequence[str], columns: int, page: _Page, *, with_products: bool
) -> None:
    """One factor matrix, [entries, rank], one rounded square per coefficient."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import FancyBboxPatch

    rows, rank = values.shape
    heights = [row + _ROW_GAP * (row // columns) for row in range(rows)]
    pad = 0.05
    squares, colours = [], []
    for (row, column), value in np.ndenumerate(values):
        corner = (column + pad, heights[row] + pad)
        squares.append(
            FancyBboxPatch(corner, 1 - 2 * pad, 1 - 2 * pad, boxstyle="round,pad=0,rounding_size=0.16")
        )
        colours.append(_colour(int(value)))
        if value and (abs(value) > 1 or page.cell >= 0.2):
            axes.text(
                column + 0.5,
                heights[row] + 0.52,
                _cell_text(int(value)),
                ha="center",
                va="center_baseline",
                color="white",
                size=page.cell * (34 if abs(value) == 1 else 26),
                weight="bold",
            )
    axes.add_collection(PatchCollection(squares, facecolors=colours, edgecolors="none"))
    axes.set(xlim=(0, rank), ylim=(_extent(rows // columns, columns), 0))
    axes.set_axis_off()
    size = min(10.0, max(5.8, page.cell * 36))
    for name, height in zip(names, heights, strict=True):
        axes.text(-0.12, height + 0.52, name, ha="right", va="center_baseline", size=size, color=_INK)
    if with_products:
        every = 1 if page.cell >= 0.3 else 5
        for column in range(rank):
            if every == 1 or column == 0 or (column + 1) % every == 0:
                name = f"M{column + 1}"
                axes.text(column + 0.5, -0.14, name, ha="center", va="bottom", size=size * 0.92, color=_SOFT)


def _draw_heading(figure: Figure, page: _Page, index: int) -> None:
    """The letter of a matrix and what its grid says, over the grid."""
    from matplotlib.transforms import ScaledTranslation

    names_above = page.side_by_side or index == 0
    height = 1 - (page.top(index) - (0.30 if names_above else 0.12)) / page.height
    x = page.left(index) / page.width
    figure.text(x, height, "ABC"[index], size=12, weight="bold", color=_INK, va="bottom")
    shift = ScaledTranslation(0.20, 0, figure.dpi_scale_trans)
    words = ("sum on the left", "sum on the right", "where the product goes")[index]
    figure.text(x, height, words, size=9.5, color=_SOFT, va="bottom", transform=figure.transFigure + shift)


def _draw_legend(figure: Figure, page: _Page, scheme: Scheme) -> None:
    """What the colours mean, under the grids."""
    from matplotlib.patches import FancyBboxPatch

    axes = figure.add_axes((0.0, 0.0, 1.0, 0.62 / page.height))
    axes.set(xlim=(0, page.width), ylim=(0, 0.62))
    axes.set_axis_off()
    entries = [(1, "plus" if scheme.ring == "Z" else "added, modulo 2"), (0, "not used")]
    if scheme.ring == "Z":
        entries.insert(1, (-1, "minus"))
        if not scheme.is_ternary:
            entries += [(2, "times the number"), (-2, "minus times the number")]
    x, side = page.margin + page.label, 0.17
    for value, word in entries:
        box = FancyBboxPatch((x, 0.24), side, side, boxstyle="round,pad=0,rounding_size=0.03", linewidth=0)
        box.set_facecolor(_colour(value))
        axes.add_patch(box)
        axes.text(x + side + 0.09, 0.24 + side / 2, word, size=9, color=_SOFT, va="center_baseline")
        x += side + 0.28 + 0.085 * len(word)


def _colour(value: int) -> str:
    if value == 0:
        return _ZERO
    if value > 0:
        return _PLUS if value == 1 else _PLUS_LARGE
    return _MINUS if value == -1 else _MINUS_LARGE


def _cell_text(value: int) -> str:
    """``+`` and ``−`` for one, else the number."""
    text = "" if abs(value) == 1 else str(abs(value))
    return ("+" if value > 0 and not text else "\u2212" if value < 0 else "") + text
