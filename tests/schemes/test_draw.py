from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from matrixrl.schemes.draw import draw, found_how, save_png, title
from matrixrl.schemes.known import known_scheme, laderman, standard, strassen
from matrixrl.schemes.scheme import Scheme, SchemeError


def texts(scheme: Scheme) -> list[str]:
    figure = draw(scheme)
    return [text.get_text() for axes in figure.axes for text in axes.texts]


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
    figure = draw(strassen())
    grids = [axes for axes in figure.axes if axes.collections]
    assert [len(axes.collections[0].get_paths()) for axes in grids] == [28, 28, 28]
    words = texts(strassen())
    assert all(name in words for name in ("A11", "A22", "B12", "C21", "M1", "M7"))
    assert words.count("+") == sum(int((factor == 1).sum()) for factor in strassen().factors)
    assert words.count("\u2212") == sum(int((factor == -1).sum()) for factor in strassen().factors)


def test_larger_coefficients_are_written_in_their_cells() -> None:
    scheme = replace(strassen(), w=strassen().w * 3)
    words = texts(scheme)
    assert words.count("3") == int((strassen().w == 1).sum())
    assert words.count("\u22123") == int((strassen().w == -1).sum())


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


def test_matplotlib_is_loaded_only_to_draw() -> None:
    code = "import sys, matrixrl.cli.schemes; sys.exit('matplotlib' in sys.modules or 'jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
