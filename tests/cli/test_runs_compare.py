from __future__ import annotations

import json
from pathlib import Path

import pytest

from matrixrl.cli.main import main
from matrixrl.cli.runs_compare import columns_of, is_lowest_better
from matrixrl.tracking.chart import Curve, overlaid
from matrixrl.tracking.spec import BestMetric, SystemSpec
from tests.cli.runs_made import make_run, ppo_settings


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of one system, one of another with other settings, and one of a system that is unknown here."""
    folder = tmp_path_factory.mktemp("runs")
    rising = [{"episode/return": value, "train/total_loss": 1 / (value + 1)} for value in (1.0, 9.87654, 5.0)]
    make_run(folder, "ppo-a", rising, ppo_settings(learning_rate=1e-3), about={"device_type": "cpu"})
    flat = [{"episode/return": 2.0}] * 3
    make_run(folder, "ppo-b", flat, ppo_settings(learning_rate=3e-4), about={"device_type": "H100"})
    make_run(folder, "matmul-c", [{"Epoch": 1, "epoch_best_rank": 8, "epoch_loss": 0.5}], system="matmul")
    elsewhere = SystemSpec(
        "elsewhere", "p", {"Number": "int"}, BestMetric("score", "score"), charts=("score",)
    )
    make_run(folder, "own-d", [{"score": 4.0}], system=elsewhere, about={"size": [1, 2]})
    return folder


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(["runs", "compare", *arguments]) == 0
    return capsys.readouterr().out


def test_settings_that_differ_and_best_and_final_values(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said(capsys, "ppo-a", "ppo-b", "--runs-dir", str(runs))
    lines = {" ".join(line.split()) for line in text.splitlines()}
    assert "ppo.learning_rate 0.001 0.0003" in lines
    assert "device_type cpu H100" in lines
    assert not any(line.startswith("ppo.gamma") for line in lines)  # the same in both
    assert not any("run_name" in line for line in lines)
    assert "episode/return highest 9.88 2" in lines
    assert "episode/return final 5 2" in lines
    assert max(map(len, text.splitlines())) <= 80


def test_json_has_exact_values_in_the_order_of_the_runs(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = json.loads(
        said(
            capsys, "ppo-b", "ppo-a", "--runs-dir", str(runs), "--json",
            "--metric", "train/total_loss", "episode/return",
        )
    )  # fmt: skip
    assert [run["name"] for run in found["runs"]] == ["ppo-b", "ppo-a"]
    assert found["settings"]["ppo.learning_rate"] == [3e-4, 1e-3]
    assert found["metrics"]["episode/return"] == {
        "lowest": False,
        "best": [2.0, 9.87654],
        "final": [2.0, 5.0],
    }
    loss = found["metrics"]["train/total_loss"]
    assert loss["lowest"]
    assert loss["best"] == [None, pytest.approx(1 / 10.87654)]


@pytest.mark.parametrize("columns", [80, 120])
def test_runs_of_different_systems_fit_the_terminal(
    runs: Path, columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    text = said(capsys, "*", "--runs-dir", str(runs))
    lines = text.splitlines()
    assert max(map(len, lines)) <= columns
    assert max(map(len, lines)) > columns - 20  # the width is used
    for name in ("ppo-a", "ppo-b", "matmul-c", "own-d", "epoch_best_rank  lowest", "score  highest"):
        assert name in text
    assert "system" in text.split("settings that differ")[1]


def test_the_chart_shows_every_run_with_its_letter(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "ppo-a", "ppo-b", "--runs-dir", str(runs), "--metric", "episode/return")
    drawing = [line for line in text.splitlines() if " |" in line]
    assert len(drawing) == 12
    assert any("A" in line for line in drawing)
    assert any(line.count("B") > 30 for line in drawing)  # a flat line over the width
    assert drawing[0].split(" |")[0].strip() == "9.88"


def test_many_runs_get_several_tables_that_fit() -> None:
    marks = [chr(65 + number) for number in range(20)]
    lines = columns_of([("a.very.long.name.of.a.setting.that.goes.on", ["0.123456789"] * 20)], marks, 80)
    assert max(map(len, lines)) <= 80
    for mark in marks:
        assert sum(mark in line.split() for line in lines) == 1


def test_overlaid_curves_that_meet() -> None:
    text = overlaid("m", [Curve("A", [0, 1], [0, 1]), Curve("B", [0, 1], [0, 1])], width=20, height=4)
    assert "*" in text
    assert "A" not in text
    coloured = overlaid("m", [Curve("A", [0, 1], [0, 1], "34")], width=20, height=4, colours=True)
    assert "\x1b[34mA\x1b[0m" in coloured
    assert overlaid("m", [Curve("A", [0.0], [float("nan")])]) == "m: no values"


def test_which_direction_is_better() -> None:
    spec = SystemSpec("x", "p", {"N": "int"}, BestMetric("rank", "good", lowest=True))
    assert is_lowest_better("good_2x2x2", [None, spec])
    assert is_lowest_better("train/value_loss", [None])
    assert not is_lowest_better("episode/return", [spec])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ppo-a"], "1 different run given; name from 2 to 26"),
        (["ppo-a", "ppo-a"], "1 different run given"),
        (["ppo-a", "nobody"], "runs compare nobody: no run of this name"),
        (["ppo-a", "z*"], "runs compare z*: no run of this name"),
        (
            ["ppo-a", "ppo-b", "--metric", "nope"],
            "--metric nope: none of these runs has it; they have episode/",
        ),
    ],
)
def test_bad_input(
    runs: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["runs", "compare", *arguments, "--runs-dir", str(runs)]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
