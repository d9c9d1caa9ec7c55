from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from matrixrl.cli.main import main
from matrixrl.cli.runs_plot import (
    Member,
    centre_and_band,
    grouped,
    line_of,
    read_members,
    smoothed,
    training_seconds,
)
from matrixrl.tracking.journal_reader import Attempt
from tests.cli.runs_made import MANY, make_run, many_rows, ppo_settings


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs of equal settings, one of others, and one of four agents whose second point equals the first three."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in range(3):
        rows = [{"episode/return": float(seed + index)} for index in range(5)]
        config = ppo_settings(seed=seed, learning_rate=1e-3)
        make_run(folder, f"seed-{seed}", rows, config, about={"device_type": f"kind {seed}"})
    make_run(folder, "other", [{"episode/return": 1.0}] * 5, ppo_settings(learning_rate=5e-4))
    many = ppo_settings(num_seeds=2, sweep=("learning-rate=2e-3,1e-3",))
    make_run(folder, "many", many_rows(), many, MANY)
    return folder


def plot(runs: Path, *arguments: str) -> int:
    return main(["runs", "plot", *arguments, "--runs-dir", str(runs), "--metric", "episode/return"])


def test_runs_and_agents_of_equal_settings_are_one_curve(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / "curves.png"
    capsys.readouterr()
    assert plot(runs, "seed-*", "other", "many", "--output", str(output), "--json") == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    curves = {curve["label"]: (curve["agents"], len(curve["runs"])) for curve in found["curves"]}
    assert curves == {
        "learning_rate 0.001": (5, 4),
        "learning_rate 0.0005": (1, 1),
        "learning_rate 0.002": (2, 1),
    }
    with Image.open(output) as image:
        assert image.size == (1920, 1200)  # 6.4 by 4 inches at 300 pixels per inch
        colours = {colour for _, colour in image.convert("RGB").getcolors(1_000_000) or ()}
    assert {(0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00), (0x00, 0x9E, 0x73)} <= colours
    assert [path.name for path in output.parent.iterdir()] == ["curves.png"]


def test_labels_axes_and_legend(runs: Path, tmp_path: Path) -> None:
    output = tmp_path / "curves.svg"
    flags = ["--x", "time", "--log", "--smooth", "3", "--band", "interquartile", "--title", "All"]
    assert plot(runs, "seed-*", "--output", str(output), *flags) == 0
    text = output.read_text()
    for words in (
        "time in training (s)",
        "episode/return",
        "interquartile mean, middle half; mean of 3 points",
        "seed-0, seed-1... (3 agents of 3 runs)",
        ">All<",
    ):
        assert words in text
    assert plot(runs, "seed-0", "--output", str(output)) == 0
    assert ">step<" in output.read_text()
    assert "interval" not in output.read_text()  # one agent has no band


def test_metric_and_file_have_defaults(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["runs", "plot", "other", "--runs-dir", str(runs), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (found["metric"], found["output"]) == ("episode/return", "plot.png")
    assert (tmp_path / "plot.png").exists()


def test_the_same_plot_has_the_same_bytes(runs: Path, tmp_path: Path) -> None:
    files = [tmp_path / "a.svg", tmp_path / "b.svg"]
    for file in files:
        assert plot(runs, "many", "--output", str(file)) == 0
    assert files[0].read_bytes() == files[1].read_bytes()


def test_members_of_a_run_of_many_agents(runs: Path) -> None:
    members = read_members(runs / "many", "episode/return")
    assert [member.values[0] for member in members] == [0.0, 1.0, 2.0, 3.0]
    assert [member.settings["ppo.learning_rate"] for member in members] == [2e-3, 2e-3, 1e-3, 1e-3]
    assert list(members[0].steps) == [10, 20, 30, 40, 50]


def test_bands() -> None:
    rows = np.array([[0.0, 1.0], [2.0, np.nan], [4.0, np.nan], [6.0, np.nan]])
    mean, low, high = centre_and_band(rows, "interval")
    assert low is not None
    assert high is not None
    half = 1.96 * float(np.std([0, 2, 4, 6], ddof=1)) / 2
    np.testing.assert_allclose([mean[0], low[0], high[0]], [3, 3 - half, 3 + half])
    np.testing.assert_allclose([mean[1], low[1], high[1]], [1, 1, 1])
    centre, low, high = centre_and_band(rows, "interquartile")
    assert low is not None
    assert high is not None
    np.testing.assert_allclose([centre[0], low[0], high[0]], [3, 1.5, 4.5])
    assert centre_and_band(rows[:1], "interval")[1:] == (None, None)


def test_curves_of_different_steps_are_interpolated_within_their_range() -> None:
    one = Member({}, "a", [0, 10, 20], [0, 1, 2], [0.0, 10.0, 20.0])
    two = Member({}, "b", [5, 15], [0, 1], [5.0, 15.0])
    line = line_of([one, two], "step", 1, "none")
    np.testing.assert_allclose(line.xs, [0, 5, 10, 15, 20])
    np.testing.assert_allclose(line.centre, [0, 5, 10, 15, 20])
    far = Member({}, "c", [3000, 3001], [0, 1], [7.0, 7.0])
    many = Member({}, "d", list(range(2000)), list(range(2000)), [1.0] * 2000)
    gap = line_of([many, far], "step", 1, "interquartile")
    assert not np.isnan(gap.centre).any()


def test_smoothing_keeps_a_straight_line_in_its_middle() -> None:
    values = np.arange(5.0)
    np.testing.assert_allclose(smoothed(values, 3), [0.5, 1, 2, 3, 3.5])
    assert smoothed(values, 1) is values
    np.testing.assert_allclose(smoothed(np.ones(2), 9), [1, 1])


def test_time_in_training_leaves_out_pauses() -> None:
    attempts = [
        Attempt(1, 100.0, 110.0, "interrupted", "h", 1, 0),
        Attempt(2, 500.0, None, None, "h", 1, 5),
        Attempt(3, 600.0, None, None, "h", 1, 9),
    ]
    assert training_seconds(attempts, 1, 104.0) == 4
    assert training_seconds(attempts, 2, 507.0) == 17
    assert training_seconds(attempts, 3, 601.0) == 111


def test_curves_that_differ_in_much_have_the_names_of_runs() -> None:
    settings = [dict.fromkeys("abcd", number) for number in range(2)]
    groups = grouped([Member(one, f"run-{i}", [0], [0], [0.0]) for i, one in enumerate(settings)])
    assert [group.label for group in groups] == ["run-0", "run-1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["seed-0", "--output", "x.pdf"], "--output x.pdf: must end in .png or .svg"),
        (["seed-0", "--output", "x.png", "--smooth", "0"], "--smooth 0: must be 1 or more"),
        (["nobody", "--output", "x.png"], "runs plot nobody: no run of this name"),
        (["seed-0", "--output", "/proc/x/y.png"], "--output /proc/x/y.png: "),
    ],
)
def test_bad_input(
    runs: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert plot(runs, *arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.splitlines()[-1].startswith("matrixrl: ")
    assert captured.out == ""


def test_a_metric_that_no_run_has(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "x.png"
    given = ["--runs-dir", str(runs), "--metric", "nope", "--output", str(output)]
    assert main(["runs", "plot", "many", *given]) == 2
    text = capsys.readouterr().err
    assert "--metric nope: none of these runs has it; they have episode/return" in text
    assert "agent/" not in text
    assert not output.exists()


def test_without_matplotlib_one_line_says_what_to_install(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = __import__("importlib.util").util.find_spec
    monkeypatch.setattr(
        sys.modules["importlib.util"], "find_spec", lambda name: None if name == "matplotlib" else find(name)
    )
    capsys.readouterr()
    assert plot(runs, "seed-0", "--output", str(tmp_path / "x.png")) == 2
    text = capsys.readouterr().err
    assert "pip install 'matrixrl[plots]'" in text
    assert text.count("\n") == 1


def test_size_and_resolution_are_chosen(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "column.png"
    assert plot(runs, "seed-0", "--output", str(output), "--size", "3.4", "2.5", "--dpi", "100") == 0
    with Image.open(output) as image:
        assert image.size == (340, 250)
    for flags, message in ((["--size", "1", "2"], "--size 1 2"), (["--dpi", "5"], "--dpi 5")):
        assert plot(runs, "seed-0", "--output", str(output), *flags) == 2
        assert message in capsys.readouterr().err
