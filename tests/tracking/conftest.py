"""Processes of the script trainer, a loopback W&B server, and what an undisturbed run must look like."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.tracking.script_trainer import GAMES, MOVES, PRETRAIN, UPDATES
from tests.wandb_server import LoopbackServer

ROOT = Path(__file__).resolve().parents[2]
TRAINER = Path(__file__).with_name("script_trainer.py")


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer() as loopback:
        yield loopback
        # Where a test let this process ask the server, wandb remembers its address.
        if "wandb" in sys.modules:
            sys.modules["wandb"].teardown()


def offline_environment(folder: Path) -> dict[str, str]:
    """Of a process that must never reach beyond the loopback: no key, no home, a server that is not there."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    return {
        "HOME": str(home),
        "WANDB_BASE_URL": "http://127.0.0.1:9",
        "WANDB_MODE": "offline",
        "WANDB_API_KEY": "",
        "WANDB_ERROR_REPORTING": "false",
        # wandb sends rows every 15 seconds; a test need not wait so long.
        "WANDB__FILE_STREAM_TRANSMIT_INTERVAL": "0.5",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
        "NETRC": str(home / "netrc"),
    }


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """`offline_environment`, in this process too."""
    for name, value in offline_environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    return dict(os.environ)


class Trainer:
    """Starts the script trainer on one runs folder."""

    def __init__(self, runs_dir: Path, environment: dict[str, str]) -> None:
        self.runs_dir = runs_dir
        self.environment = environment

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(TRAINER), str(self.runs_dir), *arguments],
            env={**os.environ, **self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **environment: str) -> dict[str, Any]:
        """Run to the end; what it reported, with its whole output under `output`."""
        process = self.start(*arguments, **environment)
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        return {**json.loads(output.splitlines()[-1]), "output": output}


@pytest.fixture
def trainer(tmp_path: Path, environment: dict[str, str]) -> Trainer:
    return Trainer(tmp_path / "runs", environment)


def kill_everything(process: subprocess.Popen[Any]) -> None:
    """SIGKILL a process and all that it started, wandb's own service included."""
    try:
        family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    except psutil.NoSuchProcess:
        family = []
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(family, timeout=10)
    process.communicate()


def expected_rows(epochs: int) -> dict[int, dict[str, Any]]:
    """Step to metrics of an undisturbed run of the script trainer (wall-clock metrics left out)."""
    rows: dict[int, dict[str, Any]] = {step: {"pretrain/loss": 1 / step} for step in range(1, PRETRAIN + 1)}
    step = PRETRAIN
    for epoch in range(1, epochs + 1):
        step += GAMES * MOVES
        rows[step] = {"episode/reward": -math.sin(epoch), "episode/count": GAMES}
        for _ in range(UPDATES):
            step += 1
            rows[step] = {"train/loss": 1 / step}
        step += 1
        rows[step] = {"Epoch": epoch, "epoch_loss": math.exp(-epoch / 10)}
    return rows


def without_clock(metrics: dict[str, Any]) -> dict[str, Any]:
    """Metrics that training recomputes alike, without tables."""
    return {
        name: value
        for name, value in metrics.items()
        if not name.endswith("_per_second") and not name.startswith(("_", "episode_history"))
    }
