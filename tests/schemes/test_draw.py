from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from matrixrl.schemes.draw import Picture, compose, draw, found_how, save_png, title
from matrixrl.schemes.known import known_scheme, laderman, standard, strassen
from matrixrl.schemes.scheme import Scheme, SchemeError


def cells(picture: Picture) -> list[str]:
    return [tile.text for tile in picture.tiles]


@pytest.mark.parametrize(
    "scheme",
    [strassen(), strassen().mod2(), laderman(), known_scheme((4, 5, 5)), standard((1, 1, 1))],
    ids=repr,
)
def test_a_picture_is_a_png_of_readable_size(scheme: Scheme, tmp_path: Path) -> None:
    path = tmp_path / "new" / "scheme.png"
    save_png(scheme, path)
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = (int.from_bytes(data[start : start + 4]) for start in (16, 20))
    assert 1000 <= width <= 6000
    assert 400 <= height <= 8000
    assert [file.name for file in path.parent.iterdir()] == ["scheme.png"]


def test_a_picture_names_entries_and_products_and_has_one_cell_per_coefficient() -> None:
    picture = compose(strassen())
    assert [sum(tile.grid == grid for tile in picture.tiles) for grid in range(3)] == [28, 28, 28]
    words = [word.text for word in picture.words]
    assert all(name in words for name in ("A11", "A22", "B12", "C21", "M1", "M7"))
    assert cells(picture).count("+") == sum(int((factor == 1).sum()) for factor in strassen().factors)
    assert cells(picture).count("\u2212") == sum(int((factor == -1).sum()) for factor in strassen().factors)


def test_larger_coefficients_are_written_in_their_cells() -> None:
    picture = compose(replace(strassen(), w=strassen().w * 3))
    assert cells(picture).count("3") == int((strassen().w == 1).sum())
    assert cells(picture).count("\u22123") == int((strassen().w == -1).sum())


@pytest.mark.parametrize("scheme", [strassen(), strassen().mod2(), laderman(), standard((4, 4, 5))], ids=repr)
def test_every_coefficient_is_painted_in_its_colour_and_nothing_leaves_the_page(scheme: Scheme) -> None:
    picture, image = compose(scheme), draw(scheme)
    scale = image.width / picture.width
    seen: dict[int, set[object]] = {}
    boxes = set()
    for tile in picture.tiles:
        # Left of the middle and low: inside every tile, and outside every sign.
        at = round((tile.x + 0.2 * tile.side) * scale), round((tile.y + 0.85 * tile.side) * scale)
        seen.setdefault(tile.value, set()).add(image.getpixel(at))
        boxes.add((tile.x, tile.y))
        assert 0 <= tile.x <= picture.width - tile.side
        assert 0 <= tile.y <= picture.height - tile.side
    assert len(boxes) == len(picture.tiles)
    assert all(len(colours) == 1 for colours in seen.values())
    assert len(set.union(*seen.values())) == len(seen) == (2 if scheme.ring == "F2" else 3)
    margin = image.crop((0, 0, round(0.2 * scale), image.height))
    assert margin.getextrema() == ((255, 255),) * 3


def test_a_tile_shows_its_sign() -> None:
    picture, image = compose(strassen()), draw(strassen())
    scale = image.width / picture.width
    for tile in picture.tiles:
        if tile.grid is None:
            continue
        middle = round((tile.x + 0.5 * tile.side) * scale), round((tile.y + 0.5 * tile.side) * scale)
        above = middle[0], round((tile.y + 0.36 * tile.side) * scale)
        white = [image.getpixel(at) == (255, 255, 255) for at in (middle, above)]
        assert white == {1: [True, True], -1: [True, False], 0: [False, False]}[tile.value]


def test_the_title_says_what_was_proved() -> None:
    assert title(strassen()) == "2x2x2 in 7 multiplications, over the integers, verified"
    assert title(strassen().mod2()) == "2x2x2 in 7 multiplications, modulo 2, verified"
    assert title(replace(strassen(), u=np.abs(strassen().u))).endswith("NOT CORRECT")
    shown = strassen().with_provenance(source="self-play", shown="nothing shown", lifted_from="F2")
    assert found_how(shown) == "self-play, nothing shown, lifted from a solution modulo 2"


def test_a_picture_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SchemeError, match="cannot write"):
        save_png(strassen(), tmp_path / "file" / "x.png")


def test_a_picture_needs_neither_matplotlib_nor_jax() -> None:
    code = (
        "import sys\n"
        "sys.modules.update({'matplotlib': None, 'jax': None})\n"
        "import matrixrl.cli.schemes\n"
        "assert 'PIL' not in sys.modules, 'Pillow is loaded only to draw'\n"
        "from matrixrl.schemes.draw import draw\n"
        "from matrixrl.schemes.known import strassen\n"
        "draw(strassen())\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
