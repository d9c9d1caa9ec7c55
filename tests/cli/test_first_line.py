"""The first thing that every long command says comes before JAX is loaded, on a terminal and in a pipe."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from matrixrl.tracking.identity import run_folders

# Ends the process at the first text that is shown, and says what it was and whether JAX is there by then.
PROGRAM = """
import json, os, sys
from matrixrl.cli.main import main

class First:
    encoding = "utf-8"
    def __init__(self, terminal):
        self.terminal = terminal
    def isatty(self):
        return self.terminal
    def write(self, text):
        answer = json.dumps({"text": text, "jax": "jax" in sys.modules})
        os.write(1, answer.encode())
        os._exit(0)
    def flush(self):
        pass
    def fileno(self):
        return 1

terminal = sys.argv[1] == "terminal"
sys.stdout = sys.stderr = First(terminal)
main(sys.argv[2:])
"""

LONG: list[tuple[list[str], str]] = [
    (["matmul", "train", "--run-name", "new"], "run      new\n"),
    (["hackmatrix", "train", "--run-name", "new"], "run      new\n"),
    (["hackmatrix", "train", "--resume-run", "agent"], "run      agent (resumed)\n"),
    (["hackmatrix", "train", "--run-name", "new", "--console", "quiet"], "run new in "),
    (["hackmatrix", "train", "--auto-tune"], "auto-tune  measures"),
    (["hackmatrix", "train", "--benchmark"], "measuring what tracking costs"),
    (["matmul", "train", "--benchmark"], "measuring what tracking costs"),
    (["matmul", "bench"], "measuring 2x2x2 over Z"),
    (["hackmatrix", "bench"], "measuring HackMatrix"),
    (["hackmatrix", "evaluate", "agent"], "evaluating agent"),
    (["hackmatrix", "evaluate", "--agent", "random"], "evaluating random legal play"),
    (["hackmatrix", "watch", "agent"], "watching agent"),
    (["matmul", "evaluate", "matrices"], "evaluating matrices"),
    (["runs", "audit", "agent", "--offline"], "auditing agent"),
    (["runs", "export", "agent"], "exporting agent"),
    (["runs", "copy", "agent", "--to", "copies"], "copying agent to copies"),
    (["runs", "restore", "agent"], "restoring agent"),
]


def first_text(where: str, arguments: list[str], folder: Path) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, where, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=folder,
        check=False,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize(("arguments", "said"), LONG, ids=lambda value: " ".join(value)[:40])
def test_the_first_line_comes_before_jax(
    arguments: list[str], said: str, tmp_path: Path, hackmatrix_runs: Path
) -> None:
    runs = tmp_path if "new" in arguments or arguments[1] == "restore" else hackmatrix_runs
    given = [] if arguments[1] == "bench" or "random" in arguments else ["--runs-dir", str(runs)]
    first = first_text("terminal", [*arguments, *given], tmp_path)
    assert said in str(first["text"])
    assert first["jax"] is False


def test_a_pipe_gets_the_same_first_line(tmp_path: Path) -> None:
    first = first_text(
        "pipe", ["matmul", "train", "--run-name", "new", "--runs-dir", str(tmp_path)], tmp_path
    )
    lines = str(first["text"]).splitlines()
    assert [line.split()[0] for line in lines] == ["run", "trains", "folder", "W&B", "stop"]
    assert "matrix multiplication 2x2x2 over F2: 150 weight updates" in lines[1]
    assert lines[2].endswith(str(tmp_path / "new"))
    assert "Ctrl-C" in lines[4]


def test_a_run_that_only_has_its_name_is_no_run_yet(tmp_path: Path) -> None:
    first_text("pipe", ["matmul", "train", "--run-name", "new", "--runs-dir", str(tmp_path)], tmp_path)
    assert run_folders(tmp_path) == []
