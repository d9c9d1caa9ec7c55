from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest

from matrixrl.cli.main import main
from matrixrl.tracking.summary import RunSummary
from tests.cli.runs_made import make_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    make_run(folder, "ppo-2", [{"episode/return": 5.0}])
    make_run(folder, "ppo-1", [{"episode/return": 9.0}] * 3, status="crashed")
    make_run(folder, "ppo-3", [])
    make_run(folder, "mm-7", [{"Epoch": 1, "epoch_best_rank": 7}] * 1, system="matmul")
    make_run(folder, "mm-8", [{"Epoch": 1, "epoch_best_rank": 8}] * 1, system="matmul")
    for number, name in enumerate(("ppo-2", "ppo-1", "ppo-3", "mm-7", "mm-8")):
        os.utime(folder / name / "lock", (1e9 + number, 1e9 + number))
        os.utime(folder / name / "journal.sqlite", (2e9 - number, 2e9 - number))
    return folder


def listed(runs: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> list[str]:
    capsys.readouterr()
    assert main(["runs", "list", "--runs-dir", str(runs), "--json", *flags]) == 0
    found = json.loads(capsys.readouterr().out)["runs"]
    assert all(set(run) == {item.name for item in dataclasses.fields(RunSummary)} for run in found)
    return [run["name"] for run in found]


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        ([], ["ppo-2", "ppo-1", "ppo-3", "mm-7", "mm-8"]),
        (["--reverse"], ["mm-8", "mm-7", "ppo-3", "ppo-1", "ppo-2"]),
        (["--limit", "2"], ["mm-7", "mm-8"]),
        (["--limit", "2", "--reverse"], ["mm-8", "mm-7"]),
        (["--sort", "name"], ["mm-7", "mm-8", "ppo-1", "ppo-2", "ppo-3"]),
        (["--sort", "name", "--reverse", "--limit", "1"], ["ppo-3"]),
        (["--sort", "steps", "--system", "ppo"], ["ppo-1", "ppo-2", "ppo-3"]),
        (["--sort", "best"], ["ppo-1", "ppo-2", "mm-7", "mm-8", "ppo-3"]),
        (["--sort", "age", "--limit", "2"], ["ppo-2", "ppo-1"]),
        (["--sort", "state", "--limit", "1"], ["ppo-1"]),
        (["--sort", "system", "--limit", "3"], ["mm-7", "mm-8", "ppo-1"]),
        (["--system", "matmul"], ["mm-7", "mm-8"]),
        (["--state", "crashed", "stale"], ["ppo-1"]),
        (["--state", "finished", "--limit", "1"], ["mm-8"]),
        (["--name", "*-[12]"], ["ppo-2", "ppo-1"]),
        (["--name", "ppo-3", "mm*", "--state", "finished"], ["ppo-3", "mm-7", "mm-8"]),
        (["--system", "nobody"], []),
    ],
)
def test_order_and_filters(
    runs: Path, flags: list[str], names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert listed(runs, capsys, *flags) == names


def test_the_table_is_filtered_too(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["runs", "list", "--runs-dir", str(runs), "--name", "ppo-1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert "mean return 9" in lines[1]
    assert main(["runs", "list", "--runs-dir", str(runs), "--name", "none*"]) == 0
    assert capsys.readouterr().out == f"no such runs in {runs}\n"


@pytest.mark.parametrize("flags", [["--limit", "0"], ["--sort", "colour"], ["--state", "happy"]])
def test_bad_flags(runs: Path, flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["runs", "list", "--runs-dir", str(runs), *flags]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("matrixrl: ")
    assert captured.err.count("\n") == 1
