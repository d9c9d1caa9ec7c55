"""Picture of a scheme: its three factor matrices as coloured grids.

Rows are the entries of x, y and z (of A, B and C for matrices), columns are the products M1, M2,
..., so one column reads as one multiplication: the entries of x that are summed, those of y, and
the entries of z to which the product is added. Grids with few columns are placed side by side,
wider ones are stacked with their columns aligned.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from matrixrl.schemes.rings import IN_WORDS, ComplexRational, Number, number_text, parts, simplify
from matrixrl.schemes.scheme import Scheme, SchemeError
from matrixrl.schemes.verify import verify
from matrixrl.whole_files import whole_file

if TYPE_CHECKING:  # `schemes verify` and `records` answer without Pillow
    from PIL import Image, ImageDraw, ImageFont

# Blue and orange are distinct for every type of colour blindness; the signs in the cells carry
# the same information.
_PLUS = "#1f6fb4"
_MINUS = "#e8833a"
_PLUS_LARGE = "#0d3f70"
_MINUS_LARGE = "#a8480c"
_ZERO = "#edf0f4"
_INK = "#17212b"
_SOFT = "#66727f"

_SIDE_BY_SIDE_RANK = 14
_DPI = 160
_OVERSAMPLING = 8
"""Factor by which tiles are drawn larger and then reduced, which smooths their corners."""


def title(scheme: Scheme) -> str:
    """Returns ``2x2x2 in 7 multiplications, over the integers, verified``; verifies the scheme
    exactly.
    """
    where = IN_WORDS[scheme.ring]
    check = "verified" if verify(scheme) else "NOT CORRECT"
    return f"{scheme.problem} in {scheme.rank} multiplications, {where}, {check}"


def found_how(scheme: Scheme) -> str:
    """Returns one line from the provenance on how the scheme was found; empty if the provenance
    does not record it.
    """
    parts = [str(scheme.provenance[name]) for name in ("source", "shown") if name in scheme.provenance]
    if scheme.provenance.get("lifted_from") == "F2":
        parts.append("lifted from a solution modulo 2")
    return ", ".join(parts)


@dataclass(frozen=True)
class Tile:
    """A rounded square with its coefficient.

    Attributes:
      x: left edge in inches.
      y: upper edge in inches.
      side: in inches.
      value: -2 to 2, which determines the colour; 2 stands for every positive number but 1.
      text: ``+``, ``−``, a number with its sign, or nothing.
      grid: index of the factor matrix; None in the legend.
    """

    x: float
    y: float
    side: float
    value: int
    text: str
    grid: int | None


@dataclass(frozen=True)
class TextLine:
    """A text.

    Attributes:
      x: position of the anchor in inches.
      y: position of the anchor in inches.
      text: one line.
      size: in points.
      colour: of the letters.
      anchor: Pillow's two letters: horizontal (l, m, r), vertical (a ascender, m middle, s
        baseline).
      bold: whether letters are thicker.
    """

    x: float
    y: float
    text: str
    size: float
    colour: str
    anchor: str
    bold: bool = False


@dataclass(frozen=True)
class Picture:
    """Everything that is drawn, in inches from the upper left corner."""

    width: float
    height: float
    tiles: tuple[Tile, ...]
    words: tuple[TextLine, ...]


def compose(scheme: Scheme, subtitle: str | None = None) -> Picture:
    """Lays out the three factor matrices of a scheme under one title.

    Args:
      scheme: of any rank; the layout suits ranks up to about 100.
      subtitle: how it was found; by default the result of `found_how`.
    """
    page = _Page.of(scheme)
    note = page.fitted(found_how(scheme) if subtitle is None else subtitle)
    tiles: list[Tile] = []
    words = [
        TextLine(page.margin, 0.34, title(scheme), page.title_size, _INK, "la", bold=True),
        TextLine(page.margin, 0.72, note, page.title_size * 0.68, _SOFT, "la"),
    ]
    columns, letters = page.columns, scheme.problem.letters
    for index, (factor, names) in enumerate(zip(scheme.factors, scheme.problem.labels, strict=True)):
        tiles += _grid_tiles(factor.T, columns[index], page, index)
        words += _grid_names(factor.T, names, columns[index], page, index)
        words += _heading(page, index, letters[index])
    legend = list(_legend(page, scheme))
    tiles += [tile for tile, _ in legend]
    words += [word for _, word in legend]
    return Picture(page.width, page.height, tuple(tiles), tuple(words))


def draw(scheme: Scheme, subtitle: str | None = None) -> Image.Image:
    """Draws the three factor matrices of a scheme under one title; the arguments are those of
    `compose`.
    """
    from PIL import Image, ImageDraw

    picture = compose(scheme, subtitle)
    image = Image.new("RGB", (_pixels(picture.width), _pixels(picture.height)), "white")
    for tile in picture.tiles:
        image.paste(_painted(tile.value, tile.text, _pixels(tile.side)), (_pixels(tile.x), _pixels(tile.y)))
    canvas = ImageDraw.Draw(image)
    for words in picture.words:
        _write(canvas, words)
    return image


def save_png(scheme: Scheme, path: Path | str, subtitle: str | None = None) -> None:
    """Draws a scheme into a PNG file, written completely and then renamed.

    Raises:
      SchemeError: if the file cannot be written.
    """
    from PIL.PngImagePlugin import PngInfo

    path = Path(path)
    image = draw(scheme, subtitle)
    information = PngInfo()
    information.add_text("Title", title(scheme))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as draft:
            image.save(draft, format="png", pnginfo=information, dpi=(_DPI, _DPI), optimize=True)
    except OSError as error:
        raise SchemeError(f"cannot write {path}: {error.strerror or error}") from error


@dataclass(frozen=True)
class _Page:
    """Positions in inches.

    Attributes:
      rank: columns of each grid.
      sides: entries of x, y and z.
      columns: number of entries in a row of x, y and z as matrices.
      cell: side of one cell.
      side_by_side: grids in one row, else stacked.
    """

    rank: int
    sides: tuple[int, int, int]
    columns: tuple[int, int, int]
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
        return _Page(scheme.rank, scheme.problem.sides, scheme.problem.row_lengths, cell, side_by_side)

    @property
    def rows(self) -> tuple[float, float, float]:
        """Heights of the grids in cells, the gaps between matrix rows included."""
        x, y, z = (_extent(*pair) for pair in zip(self.sides, self.columns, strict=True))
        return x, y, z

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

    @property
    def name_size(self) -> float:
        """Points of the names of entries and products."""
        return min(10.0, max(5.8, self.cell * 36))

    def fitted(self, text: str) -> str:
        """Returns a subtitle, shortened to one line of the page."""
        room = int((self.width - 2 * self.margin) / 0.086)
        return text if len(text) <= room else text[: room - 3] + "..."

    def left(self, index: int) -> float:
        """Returns the left edge of a grid's cells."""
        step = self.label + self.grid_width + self.gap * 0.8
        return self.margin + self.label + (index * step if self.side_by_side else 0.0)

    def top(self, index: int) -> float:
        """Returns the distance of a grid's upper edge from the upper edge of the page."""
        above = 0.0 if self.side_by_side else sum(self.rows[:index]) * self.cell + index * self.gap
        return self.head + above

    def has_product_names(self, index: int) -> bool:
        """Returns true if M1, M2, ... are written above a grid; stacked grids share those of the
        first.
        """
        return self.side_by_side or index == 0

    def cell_top(self, index: int, row: int, columns: int) -> float:
        """Returns the upper edge of a row of cells; `columns` is the length of a row of x, y
        or z.
        """
        return self.top(index) + self.cell * (row + _ROW_GAP * (row // columns))


_ROW_GAP = 0.22  # between the rows of one matrix, in cells
_PAD = 0.05  # between a tile and the edge of its cell, in cells


def _extent(entries: int, columns: int) -> float:
    """Returns the height in cells of entries in rows of `columns`, one under the other."""
    return entries + (-(-entries // columns) - 1) * _ROW_GAP


def _grid_tiles(values: np.ndarray, columns: int, page: _Page, index: int) -> Iterator[Tile]:
    """Yields one tile per coefficient of a factor matrix, [entries, rank]."""
    for (row, column), value in np.ndenumerate(values):
        text = _cell_text(value) if page.cell >= 0.2 or value not in (-1, 0, 1) else ""
        x = page.left(index) + page.cell * (column + _PAD)
        y = page.cell_top(index, row, columns) + page.cell * _PAD
        yield Tile(x, y, page.cell * (1 - 2 * _PAD), _colour_class(value), text, index)


def _grid_names(
    values: np.ndarray, names: Sequence[str], columns: int, page: _Page, index: int
) -> Iterator[TextLine]:
    """Yields the names of the entries beside a grid, and those of the products over it."""
    size = page.name_size
    for row, name in enumerate(names):
        middle = page.cell_top(index, row, columns) + page.cell / 2
        yield TextLine(page.left(index) - 0.12 * page.cell, middle, name, size, _INK, "rm")
    if page.has_product_names(index):
        every = 1 if page.cell >= 0.3 else 5
        for column in range(values.shape[1]):
            if column == 0 or (column + 1) % every == 0:
                x = page.left(index) + page.cell * (column + 0.5)
                y = page.top(index) - 0.16 * page.cell
                yield TextLine(x, y, f"M{column + 1}", size * 0.92, _SOFT, "ms")


def _heading(page: _Page, index: int, letter: str) -> Iterator[TextLine]:
    """Yields the letter of x, y or z and the meaning of its grid."""
    y = page.top(index) - (0.30 if page.has_product_names(index) else 0.12)
    words = ("sum on the left", "sum on the right", "where the product goes")[index]
    yield TextLine(page.left(index), y, letter, 12, _INK, "ls", bold=True)
    yield TextLine(page.left(index) + 0.20, y, words, 9.5, _SOFT, "ls")


def _legend(page: _Page, scheme: Scheme) -> Iterator[tuple[Tile, TextLine]]:
    """Yields the meaning of each colour, under the grids."""
    entries = [(1, "added, modulo 2" if scheme.ring == "F2" else "plus"), (0, "not used")]
    if scheme.ring != "F2":
        entries.insert(1, (-1, "minus"))
        if not scheme.is_ternary:
            entries += [(2, "times the number"), (-2, "minus times the number")]
    x, side = page.margin + page.label, 0.17
    y = page.height - 0.24 - side
    for value, word in entries:
        yield Tile(x, y, side, value, "", None), TextLine(x + side + 0.09, y + side / 2, word, 9, _SOFT, "lm")
        x += side + 0.28 + 0.085 * len(word)


def _colour_class(value: Number) -> int:
    """Returns 0, 1, -1, or 2 and -2 for other numbers, by the sign of the first part that is not
    zero.
    """
    if value in (-1, 0, 1):
        return int(value)  # pyright: ignore[reportArgumentType]
    real, imaginary = parts(value)
    return 2 if (real or imaginary) > 0 else -2


def _colour(value: int) -> str:
    if value == 0:
        return _ZERO
    if value > 0:
        return _PLUS if value == 1 else _PLUS_LARGE
    return _MINUS if value == -1 else _MINUS_LARGE


def _cell_text(value: Number) -> str:
    """Returns ``+`` or ``−`` for one and minus one, nothing for zero, else the number."""
    if value in (-1, 0, 1):
        return {-1: "\u2212", 0: "", 1: "+"}[int(value)]  # pyright: ignore[reportArgumentType]
    text = number_text(value if isinstance(value, ComplexRational) else simplify(value))
    return "\u2212" + text[1:] if text.startswith("-") else text


def _pixels(inches: float) -> int:
    return round(inches * _DPI)


def _font(pixels: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Returns the font bundled with Pillow, so that a picture is the same on every machine."""
    from PIL import ImageFont

    return ImageFont.load_default(max(pixels, 1.0))


def _write(canvas: ImageDraw.ImageDraw, words: TextLine) -> None:
    pixels = words.size * _DPI / 72
    canvas.text(
        (words.x * _DPI, words.y * _DPI),
        words.text,
        fill=words.colour,
        font=_font(pixels),
        anchor=words.anchor,
        stroke_width=round(pixels / 30) if words.bold else 0,
    )


@cache
def _painted(value: int, text: str, side: int) -> Image.Image:
    """Returns the picture of a tile. A scheme has few distinct ones, so each is drawn once."""
    from PIL import Image, ImageDraw

    large = side * _OVERSAMPLING
    image = Image.new("RGB", (large, large), "white")
    canvas = ImageDraw.Draw(image)
    canvas.rounded_rectangle((0, 0, large - 1, large - 1), radius=large * 0.18, fill=_colour(value))
    # The signs are bars: sharp at every size, and centred exactly.
    half, thick, middle = large * 0.2, large * 0.055, large / 2
    if text[1:]:
        half, middle = large * 0.13, large * 0.24
    if text[:1] in ("+", "\u2212"):
        canvas.rectangle((middle - half, large / 2 - thick, middle + half, large / 2 + thick), fill="white")
    if text[:1] == "+":
        canvas.rectangle((middle - thick, large / 2 - half, middle + thick, large / 2 + half), fill="white")
    number = text.lstrip("+\u2212")
    if number:
        # The width of the tile holds a sign and one digit; longer numbers are written smaller.
        font = _font(large * min(0.62, 0.9 / (len(text) * 0.62)))
        centre = large * (0.5 if number == text else 0.62)
        canvas.text(
            (centre, large / 2), number, fill="white", font=font, anchor="mm", stroke_width=large // 60
        )
    return image.resize((side, side), Image.Resampling.LANCZOS)
