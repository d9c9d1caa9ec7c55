from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from matrixrl.tracking.chart import chart

BLANK = chr(0x2800)


def plot(text: str) -> list[str]:
    return [line.split("|")[1] for line in text.splitlines() if "|" in line]


def test_a_rising_line_goes_from_the_lower_left_to_the_upper_right() -> None:
    lines = plot(chart("loss", [0, 1], [0.0, 1.0], width=10, height=3))
    assert lines[-1][0] != BLANK
    assert lines[0][-1] != BLANK
    assert lines[0][0] == BLANK
    assert lines[-1][-1] == BLANK


def test_axes_are_labelled_with_their_ends() -> None:
    text = chart("loss", [10, 20, 30], [1.5, 0.5, 2.5], width=20, height=4, x_label="epoch")
    assert text.startswith("loss   last 2.5")
    assert "2.5 |" in text
    assert "0.5 |" in text
    assert text.splitlines()[-1].split() == ["epoch", "10", "30"]


def test_values_that_are_not_finite_are_left_out() -> None:
    assert chart("loss", [1, 2], [float("nan"), float("inf")]) == "loss: no values"
    assert "last 1" in chart("loss", [1, 2], [1.0, float("nan")])


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300), st.integers(5, 80), st.integers(2, 12))
def test_every_chart_has_its_size(ys: list[float], width: int, height: int) -> None:
    lines = plot(chart("y", list(range(len(ys))), ys, width=width, height=height))
    assert len(lines) == height
    assert all(len(line) == width for line in lines)
    assert any(set(line) - {BLANK} for line in lines)
