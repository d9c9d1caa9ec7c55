"""The stop button of the W&B page, with real training processes and a server that asks for the stop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from matrixrl.checkpoints.store import CheckpointStore
from matrixrl.tracking.journal_reader import JournalReader
from tests.tracking.conftest import ROOT, Trainer, environment, offline_environment, server, trainer
from tests.wandb_server import LoopbackServer

__all__ = ["environment", "server", "trainer"]  # fixtures

QUICK = (
    "import sys; from wandb.sdk.lib import run_stopping; run_stopping._POLL_INTERVAL = 0.2; "
    "run_stopping.RunStopChecker.__init__.__kwdefaults__['poll_interval'] = 0.2"
)
"""wandb asks every 15 s; a test need not wait so long."""


@pytest.fixture
def quick(tmp_path: Path) -> Path:
    """A folder for PYTHONPATH in which every process asks for stops often."""
    folder = tmp_path / "quick"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import importlib.abc, importlib.util, sys\n"
        "class Quick(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name != 'wandb.sdk.wandb_run':\n"
        "            return None\n"
        "        sys.meta_path.remove(self)\n"
        f"        exec({QUICK!r})\n"
        "        return importlib.util.find_spec(name)\n"
        "sys.meta_path.insert(0, Quick())\n"
    )
    return folder


def press_stop(server: LoopbackServer) -> None:
    """Waits until the server has rows of the run, then asks it to stop."""
    deadline = time.monotonic() + 90
    while not any(run.history for run in server.runs.values()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for run in server.runs.values():
        run.stopped = True


@pytest.mark.slow
def test_training_stops_after_the_chunk_and_says_how_to_resume(
    tmp_path: Path, server: LoopbackServer, quick: Path
) -> None:
    settings = {
        "tracking": {"wandb": True, "console": "epochs"},
        "pause": 0.2,
        "grace_seconds": 60.0,
        "json": False,
    }
    runs = tmp_path / "runs"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.cli.descent", str(runs), json.dumps(settings)],
        env={
            **os.environ,
            **offline_environment(tmp_path),
            **server.environment,
            "PYTHONPATH": os.pathsep.join(map(str, [quick, ROOT / "src", ROOT])),
            "JAX_PLATFORMS": "cpu",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    press_stop(server)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + 15, errors
    assert "the stop button of the W&B page: stopping after this chunk, within 60 s" in output
    (line,) = errors.splitlines()
    assert "continue with: matrixrl matmul train --resume-run r" in line
    with JournalReader(runs / "r") as reader:
        (attempt,) = reader.attempts()
        steps = [row.step for row in reader.stream()]
    assert attempt.status == "interrupted"
    assert CheckpointStore(runs / "r").steps()[-1] == steps[-1]
    (stored,) = server.runs.values()
    assert [row["_step"] for row in stored.rows()] == steps


@pytest.mark.slow
def test_a_program_of_its_own_is_interrupted(trainer: Trainer, server: LoopbackServer, quick: Path) -> None:
    paths = os.pathsep.join([str(quick), trainer.environment["PYTHONPATH"]])
    process = trainer.start(
        "--wandb", "--epochs", "1000", "--sleep", "0.05", **server.environment, PYTHONPATH=paths
    )
    press_stop(server)
    output, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "KeyboardInterrupt" in errors
    (folder,) = [path for path in trainer.runs_dir.iterdir() if not path.name.startswith(".")]
    with JournalReader(folder) as reader:
        (attempt,) = reader.attempts()
    assert attempt.status == "interrupted"
    assert "asks this run to stop" in output
