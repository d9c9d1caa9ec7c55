"""The first thing that every long command says comes before JAX is loaded, on a terminal and in a pipe."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from matrixrl.tracking.identity import run_folders

# Runs each command in a process of its own, forked from one that has loaded little, until it shows its first text; says
# what that was, and whether JAX was there by then.
PROGRAM = """
import json, os, sys, traceback
import matrixrl.cli.parse
from matrixrl.cli.main import main

class First:
    encoding = "utf-8"
    def __init__(self, terminal, answers):
        self.terminal, self.answers = terminal, answers
    def isatty(self):
        return self.terminal
    def write(self, text):
        os.write(self.answers, json.dumps({"text": text, "jax": "jax" in sys.modules}).encode())
        os._exit(0)
    def flush(self):
        pass
    def fileno(self):
        return self.answers

found = []
for where, arguments in json.load(sys.stdin):
    here, there = os.pipe()
    child = os.fork()
    if child == 0:
        sys.stdout = sys.stderr = First(where == "terminal", there)
        main(arguments)
        os._exit(1)
    os.close(there)
    with open(here) as file:
        found.append(file.read())
    os.waitpid(child, 0)
print(json.dumps([json.loads(text) if text else None for text in found]))
"""

LONG: list[tuple[list[str], str]] = [
    (["matmul", "train", "--run-name", "new"], "run      new\n"),
    (["matmul", "flip", "--run-name", "new"], "run      new\n"),
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


@dataclass(frozen=True)
class First:
    text: str
    jax: bool


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("first")


@pytest.fixture(scope="module")
def first_texts(folder: Path, hackmatrix_runs: Path) -> list[First]:
    """What each command of `LONG` shows first on a terminal, and the first of them in a pipe."""
    cases = []
    for arguments, _ in LONG:
        runs = folder if "new" in arguments or arguments[1] == "restore" else hackmatrix_runs
        given = [] if arguments[1] == "bench" or "random" in arguments else ["--runs-dir", str(runs)]
        cases.append(("terminal", [*arguments, *given]))
    cases.append(("pipe", cases[0][1]))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        timeout=120,
        cwd=folder,
        check=False,
    )
    return [First(**answer) for answer in json.loads(done.stdout)]


@pytest.mark.parametrize("number", range(len(LONG)), ids=[" ".join(arguments)[:40] for arguments, _ in LONG])
def test_the_first_line_comes_before_jax(number: int, first_texts: list[First]) -> None:
    first = first_texts[number]
    assert LONG[number][1] in first.text
    assert not first.jax


def test_a_pipe_gets_the_same_first_line(first_texts: list[First], folder: Path) -> None:
    lines = first_texts[-1].text.splitlines()
    assert [line.split()[0] for line in lines] == ["run", "trains", "folder", "W&B", "stop"]
    assert "matrix multiplication 2x2x2 over F2: 150 weight updates" in lines[1]
    assert lines[2].endswith(str(folder / "new"))
    assert "Ctrl-C" in lines[4]


def test_a_run_that_only_has_its_name_is_no_run_yet(first_texts: list[First], folder: Path) -> None:
    del first_texts
    assert run_folders(folder) == []
