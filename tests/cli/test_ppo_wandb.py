"""`ppo train` and W&B: many agents, a run that is resumed, one that was offline, and an agent on another machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import matrixrl
from matrixrl.cli.main import main
from matrixrl.tracking.audit import audit
from matrixrl.tracking.identity import run_id
from matrixrl.tracking.journal_reader import JournalReader
from tests.tracking.conftest import environment, server
from tests.wandb_server import LoopbackServer

__all__ = ["environment", "server"]  # fixtures

ENV = "tests.envs.tiny:Masked"
SIZES = [
    "--num-envs",
    "8",
    "--num-steps",
    "10",
    "--num-minibatches",
    "2",
    "--hidden-dim",
    "8",
    "--num-layers",
    "1",
]
SIZES += ["--log-interval", "2", "--console", "quiet"]


def train(runs_dir: Path, *flags: str) -> int:
    return main(["ppo", "train", "--runs-dir", str(runs_dir), *flags])


def stream(folder: Path) -> list[tuple[int, dict[str, Any]]]:
    with JournalReader(folder) as reader:
        return [(row.step, dict(row.metrics)) for row in reader.stream()]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_means_over_agents_are_on_wandb_once_and_the_agents_are_loaded_from_there(
    server: LoopbackServer,
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    # The first half is tracked without a network, the second with one.
    start = ["--env", ENV, *SIZES, "--num-seeds", "2", "--wandb", "--run-name", "r"]
    assert train(old, *start, "--total-timesteps", "320") == 0
    assert not server.runs
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    assert train(old, "--resume-run", "r", "--total-timesteps", "640") == 0
    recorded = stream(old / "r")
    assert [step for step, _ in recorded] == [2, 4, 6, 8]
    stored = server.runs[run_id("r")].rows()
    assert [row["_step"] for row in stored] == [2, 4, 6, 8]
    for (_, metrics), row in zip(recorded, stored, strict=True):
        assert any(name.startswith("agent/1/") for name in metrics)
        assert not any(name.startswith("agent/") for name in row)
        for name in ("episode/return", "episode/return_iqm", "episode/return_low", "train/entropy"):
            assert row[name] == pytest.approx(metrics[name]), name
    report = audit(old / "r")
    assert report.agrees, report.gaps

    # Another machine: the run alone names the environment.
    reference = f"wandb:{server.runs[run_id('r')].project}/r"
    with pytest.raises(matrixrl.ConfigError, match=f"name it once: --env {ENV}"):
        matrixrl.load(reference, runs_dir=new)
    agent = matrixrl.load(reference, runs_dir=new, env=ENV, number=1)
    assert (agent.name, agent.step) == ("r", 8)
    here = matrixrl.load("r", runs_dir=old, number=1)
    observations = [[-1.0], [1.0]]
    assert agent.act(observations).tolist() == here.act(observations).tolist()
    assert agent.value(observations).tolist() == here.value(observations).tolist()
    capsys.readouterr()
    assert train(new, "--resume-run", "r", "--total-timesteps", "800", "--json") == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (answer["global_step"], answer["pending_rows"]) == (10, 0)
    assert [row["_step"] for row in server.runs[run_id("r")].rows()] == [2, 4, 6, 8, 10]
