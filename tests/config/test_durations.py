"""`--time`: which texts are durations, and that each trainer refuses the others in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrixrl.cli.main import main
from matrixrl.config import ConfigError, HackmatrixConfig, MatmulConfig, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("50s", 50),
        ("10m", 600),
        ("2h", 7200),
        ("1h30m", 5400),
        ("1h30m10s", 5410),
        ("90m", 5400),
        ("1.5h", 5400),
        ("0.5s", 0.5),
        ("0h1s", 1),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds
    assert MatmulConfig(time=text).time_seconds == seconds
    assert HackmatrixConfig(time=text).time_seconds == seconds


@given(st.integers(0, 999), st.integers(0, 999), st.integers(1, 999))
def test_parts_add_up(hours: int, minutes: int, seconds: int) -> None:
    assert parse_duration(f"{hours}h{minutes}m{seconds}s") == hours * 3600 + minutes * 60 + seconds


REFUSED = [
    "", "0", "30", "0s", "0h0m", "-5m", "5", "10 m", "10min", "m", "1m1h", "1e3s", "nan", "infs", "1h30", "5m5m",
    "9999999h", "\u0661s", ".5s", "5.s",
]  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--time .*: must be a duration above 0, such as 50s, 10m, 2h"):
        parse_duration(text)


@pytest.mark.parametrize("system", ["matmul", "hackmatrix"])
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--time", "10min"], "--time 10min: must be a duration"),
        (["--time=0s"], "--time 0s: must be a duration"),
        (["--time", "5s", "--benchmark"], "--benchmark"),
    ],
)
def test_a_wrong_time_is_one_line_and_leaves_nothing(
    system: str, flags: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([system, "train", "--runs-dir", str(tmp_path / "runs"), *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("matrixrl: ")
    assert said in line
    assert not (tmp_path / "runs").exists()


def test_one_call_on_the_device_has_no_time_limit() -> None:
    with pytest.raises(ConfigError, match="--time 5s: --monolithic"):
        HackmatrixConfig(time="5s", monolithic=True)
