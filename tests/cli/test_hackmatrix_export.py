"""`matrixrl hackmatrix export-agent`, and the agents that `evaluate` and `watch` take from files."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from matrixrl.cli.hackmatrix_agent import load_agent
from matrixrl.cli.main import main
from matrixrl.systems.hackmatrix.agent_file import read_agent
from tests.cli.conftest import BEST, NEWEST


@pytest.fixture(scope="module")
def exported(hackmatrix_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "mine.npz"
    assert main(["hackmatrix", "export-agent", "agent", "--output", str(path), "--precision", "float32", "--runs-dir", str(hackmatrix_runs)]) == 0  # fmt: skip
    return path


def test_an_exported_agent_is_that_of_the_run(hackmatrix_runs: Path, exported: Path) -> None:
    ours = load_agent("watch", str(exported), Path("nowhere"), None, False)
    theirs = load_agent("watch", "agent", hackmatrix_runs, None, False)
    assert (ours.name, ours.step) == ("mine.npz", NEWEST)
    assert ours.where == theirs.where.replace("agent", "mine.npz", 1)
    assert ours.policy.network == theirs.policy.network
    for mine, yours in zip(
        jax.tree.leaves(ours.policy.params), jax.tree.leaves(theirs.policy.params), strict=True
    ):
        np.testing.assert_array_equal(mine, yours)


def test_the_command_says_where_and_how_large(
    hackmatrix_runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "best.npz"
    results = tmp_path / "results.json"
    results.write_text('{"games": 3}')
    command = ["hackmatrix", "export-agent", "agent", "--best", "--output", str(path), "--json"]
    command += ["--results", str(results)]
    assert main([*command, "--runs-dir", str(hackmatrix_runs)]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert json.loads(last) == {
        "run_name": "agent",
        "step": BEST,
        "output": str(path),
        "bytes": path.stat().st_size,
    }
    assert lines[-1] == f"  matrixrl hackmatrix watch {path}"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["best.npz", "results.json"]
    assert read_agent(path).results == {"games": 3}
    results.write_text("[3]")
    assert main([*command, "--runs-dir", str(hackmatrix_runs)]) == 2
    assert "must hold the JSON object" in capsys.readouterr().err


def test_an_exported_agent_is_watched(
    exported: Path, hackmatrix_runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    played = []
    for run, where in ((str(exported), "nowhere"), ("agent", str(hackmatrix_runs))):
        assert main(["hackmatrix", "watch", run, "--max-steps", "2", "--runs-dir", where]) == 0
        played.append(capsys.readouterr().out.splitlines()[1:])
    assert played[0] == played[1]


# Command line after `hackmatrix`, and what the one line must say.
IMPOSSIBLE: list[tuple[list[str], list[str]]] = [
    (["export-agent"], ["RUN"]),
    (["export-agent", "agent", "--output", "x.bin"], ["--output x.bin", ".npz"]),
    (["export-agent", "agent", "--output", "no/x.npz"], ["--output no/x.npz", "there is no folder"]),
    (["export-agent", "nobody", "--output", "x.npz"], ["export-agent nobody"]),
    (["export-agent", "agent", "--output", "x.npz", "--precision", "int8"], ["--precision int8", "float16"]),
    (
        ["export-agent", "agent", "--output", "x.npz", "--results", "none"],
        ["--results none", "cannot be read"],
    ),
    (["evaluate", "pretrained", "--best"], ["evaluate pretrained", "--best"]),
    (["watch", "pretrained", "--step", "3"], ["watch pretrained", "--step 3"]),
    (["evaluate", "absent.npz"], ["evaluate absent.npz", "cannot be read"]),
]


@pytest.mark.parametrize(("arguments", "said"), IMPOSSIBLE, ids=lambda value: " ".join(value)[:40])
def test_bad_input_is_one_line_and_status_2(
    arguments: list[str],
    said: list[str],
    hackmatrix_runs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["hackmatrix", *arguments, "--runs-dir", str(hackmatrix_runs)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("matrixrl: ")
    assert all(part in line for part in said)
    assert list(tmp_path.iterdir()) == []
