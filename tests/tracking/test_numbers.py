from __future__ import annotations

import pytest

from matrixrl.tracking.numbers import clock, duration, percent, plural, significant


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (7, "7"),
        (1_234_567, "1,234,567"),
        (0.0123456, "0.0123"),
        (-3.9249, "-3.92"),
        (12.345, "12.3"),
        (999.6, "1,000"),
        (12_345.6, "12,300"),
        (1.234e-6, "1.23e-06"),
        (0.001, "0.00100"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
    ],
)
def test_three_significant_digits(value: float, text: str) -> None:
    assert significant(value) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0 %"), (0.046875, "4.69 %"), (0.123, "12.3 %"), (1.0, "100 %"), (0.999_99, "100 %"), (-0.5, "-50.0 %")],
)  # fmt: skip
def test_percent(share: float, text: str) -> None:
    assert percent(share) == text


@pytest.mark.parametrize(
    ("seconds", "text", "narrow"),
    [
        (0.42, "0.4 s", "0:00"),
        (9.97, "10 s", "0:10"),
        (59.6, "1 min 00 s", "1:00"),
        (65, "1 min 05 s", "1:05"),
        (7_625, "2 h 07 min", "2:07:05"),
        (273_600, "3 d 04 h", "76:00:00"),
    ],
)
def test_durations(seconds: float, text: str, narrow: str) -> None:
    assert duration(seconds) == text
    assert clock(seconds) == narrow


def test_counts_have_their_noun() -> None:
    assert plural(1, "game") == "1 game"
    assert plural(1_200, "game") == "1,200 games"
    assert plural(2, "class", "classes") == "2 classes"
