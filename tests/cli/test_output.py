"""Standard output that is not UTF-8, full or closed: one line at most, no traceback, and training continues."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from matrixrl.config import TrackingConfig
from matrixrl.tracking.journal_reader import JournalReader
from matrixrl.tracking.run import open_run
from tests.cli.descent import STEPS

ROOT = Path(__file__).parents[2]
PROGRAM = "from matrixrl.cli.main import run_as_program; run_as_program()"
TRAINING = "from tests.cli import descent; descent.as_train_command(); "  # imports JAX, which other commands do not need
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}

needs_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")


def start(*arguments: object, shell: str = "", **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Runs `matrixrl`, with `matmul train` as the trainer of `tests.cli.descent`, in a process of its own.

    Args:
        shell: redirections, such as `>/dev/full`.
    """
    program = TRAINING * (arguments[:2] == ("matmul", "train")) + PROGRAM
    command = [sys.executable, "-c", program, *map(str, arguments)]
    if shell:
        command = ["sh", "-c", f'exec "$@" {shell}', "sh", *command]
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    return subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": paths, "JAX_PLATFORMS": "cpu", **environment},
        capture_output=True,
        check=False,
        timeout=300,
    )


def trained(runs: Path, name: str = "r") -> str | None:
    """Returns how the only attempt of a run ended, which has all steps."""
    with JournalReader(runs / name) as reader:
        assert [row.step for row in reader.stream()] == list(range(1, STEPS + 1))
        (attempt,) = reader.attempts()
    return attempt.status


@pytest.mark.parametrize(
    "environment", [{"PYTHONIOENCODING": "ascii"}, pytest.param({"LC_ALL": "C"}, marks=pytest.mark.slow)]
)
def test_a_name_that_the_output_cannot_spell(tmp_path: Path, environment: dict[str, str]) -> None:
    settings = json.dumps({"tracking": {"run_name": "Z\u00fcrich", "console": "episodes"}})
    done = start("matmul", "train", tmp_path, settings, **environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout.splitlines()[-1])["run_name"] == "Z\u00fcrich"
    assert trained(tmp_path, "Z\u00fcrich") == "finished"
    for command in ("list", "show", "audit", "export", "sync"):
        run = [] if command == "list" else ["Z\u00fcrich"]
        more = {"WANDB_MODE": "disabled"} if command == "sync" else {}
        done = start("runs", command, *run, "--runs-dir", tmp_path, **environment, **more)
        assert done.returncode == (2 if command == "sync" else 0), done.stderr
        assert b"Traceback" not in done.stderr
        if command != "sync":
            assert b"rich" in done.stdout


@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C"}, ASCII])
def test_an_error_that_the_output_cannot_spell(tmp_path: Path, environment: dict[str, str]) -> None:
    done = start("runs", "show", "Z\u00fcrich", "--runs-dir", tmp_path, **environment)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(b"matrixrl: ")


def test_a_name_that_cannot_be_a_folder_here(tmp_path: Path) -> None:
    settings = json.dumps({"tracking": {"run_name": "Z\u00fcrich"}})
    done = start("matmul", "train", tmp_path, settings, **ASCII)
    assert (done.returncode, done.stdout) == (2, b"")
    (line,) = done.stderr.decode().splitlines()
    assert "--run-name 'Z\\xfcrich': cannot be a folder's name where the locale's encoding is ascii" in line
    assert list(tmp_path.iterdir()) == []


@needs_full
@pytest.mark.parametrize(
    ("shell", "reason", "as_json"),
    [(">/dev/full", "No space left on device", True), (">&-", "it is closed", False)],
)
def test_training_without_an_output(tmp_path: Path, shell: str, reason: str, as_json: bool) -> None:
    settings = json.dumps({"tracking": {"console": "episodes"}, "json": as_json})
    done = start("matmul", "train", tmp_path, settings, shell=shell)
    (line,) = done.stderr.decode().splitlines()
    assert line == f"matrixrl: standard output cannot be written ({reason}); the run continues without it"
    assert done.returncode == (1 if as_json else 0)  # a script does not get its result
    assert trained(tmp_path) == "finished"


@needs_full
@pytest.mark.parametrize(
    ("command", "shell"),
    [
        ("show r", ">/dev/full"),
        ("show r --json", ">&-"),
        ("list", ">/dev/full 2>/dev/full"),
        ("list --json", ">&- 2>&- <&-"),
        ("show --help", ">/dev/full"),
    ],
)
def test_a_result_that_cannot_be_written(one_run: Path, command: str, shell: str) -> None:
    where = [] if "help" in command else ["--runs-dir", one_run]
    done = start("runs", *command.split(), *where, shell=shell)
    assert done.returncode == 1
    if "2>" in shell:
        assert done.stderr == b""
    else:
        (line,) = done.stderr.decode().splitlines()
        assert line.startswith("matrixrl: standard output cannot be written (")


def test_a_reader_that_leaves_is_no_fault(one_run: Path) -> None:
    done = start("runs", "show", "r", "--runs-dir", one_run, shell="| true; exit 0")
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.fixture(scope="module")
def one_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    config = TrackingConfig(runs_dir=runs, run_name="r", console="quiet")
    with open_run(config, system="matmul", name_prefix="matmul", run_config={}) as run:
        run.finish()
    return runs
