"""kill -9 of the whole process tree at random moments: every committed row arrives once, in order."""

from __future__ import annotations

import random
import subprocess

import pytest

from matrixrl.cli.runs import Sync, run_command
from matrixrl.tracking.audit import audit
from matrixrl.tracking.journal_reader import JournalReader
from tests.tracking.conftest import Trainer, expected_rows, kill_everything, without_clock
from tests.wandb_server import LoopbackServer

EPOCHS = 20
STEPS = len(expected_rows(EPOCHS))


def kill_at_random_moments(trainer: Trainer, kills: int, seed: int, **environment: str) -> int:
    """Start, kill, resume, kill ...; how many kills came before the run had ended."""
    moments = random.Random(seed)
    done = 0
    # Slow enough that no attempt reaches the end before it is killed.
    arguments = ["--wandb", "--sleep", str(0.015 * kills), "--epochs", str(EPOCHS), "--finish-seconds", "60"]
    for attempt in range(kills):
        resume = ["--resume", "latest"] if attempt and list(trainer.runs_dir.glob("*/journal.sqlite")) else []
        process = trainer.start(*arguments, *resume, **environment)
        try:
            process.wait(timeout=moments.uniform(0.15, 3.5))
            process.communicate()
        except subprocess.TimeoutExpired:
            kill_everything(process)
            done += 1
    return done


def check_journal(trainer: Trainer) -> None:
    (directory,) = [entry for entry in trainer.runs_dir.iterdir() if not entry.name.startswith(".")]
    with JournalReader(directory) as reader:
        rows = {row.step: without_clock(row.metrics) for row in reader.stream()}
        assert rows == expected_rows(EPOCHS)
        assert [row.step for row in reader.stream()] == sorted(rows)
        assert [episode.values[0] for episode in reader.episodes()] == list(range(1, 3 * EPOCHS + 1))
        assert not [row for row in reader.stream(history=False) if row.superseded_by]


@pytest.mark.parametrize("kills", [pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(900)]), 3])
def test_online_run_killed_and_resumed_arrives_exactly_once(
    trainer: Trainer, server: LoopbackServer, kills: int
) -> None:
    assert kill_at_random_moments(trainer, kills, seed=kills, **server.environment) >= kills - 1
    final = trainer.run(
        "--wandb",
        "--resume",
        "latest",
        "--epochs",
        str(EPOCHS),
        "--finish-seconds",
        "60",
        **server.environment,
    )
    assert final["pending"] == 0, final["output"]
    check_journal(trainer)
    (run,) = server.runs.values()
    rows = run.rows()
    assert [row["_step"] for row in rows] == sorted(expected_rows(EPOCHS))
    assert {row["_step"]: without_clock(row) for row in rows} == expected_rows(EPOCHS)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        report = audit(trainer.runs_dir / final["name"])
    assert report.agrees, report.gaps
    assert report.checks["W&B server"] == STEPS


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
        pytest.param(2, marks=pytest.mark.slow),
    ],
)
def test_offline_run_killed_and_resumed_is_whole_in_its_files_and_after_sync(
    trainer: Trainer, server: LoopbackServer, kills: int
) -> None:
    assert kill_at_random_moments(trainer, kills, seed=100 + kills) >= kills - 1
    final = trainer.run("--wandb", "--resume", "latest", "--epochs", str(EPOCHS), "--finish-seconds", "60")
    check_journal(trainer)
    directory = trainer.runs_dir / final["name"]
    report = audit(directory)
    assert report.agrees, report.gaps
    assert report.checks["W&B offline file"] == STEPS, final["output"]
    assert final["pending"] == STEPS
    command = final["command"].split()
    assert command[:3] == ["matrixrl", "runs", "sync"]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        sync = Sync(runs=(command[3],), runs_dir=trainer.runs_dir)
        assert run_command(sync) == 0
        assert run_command(sync) == 0
        report = audit(directory)
    assert report.agrees, report.gaps
    (run,) = server.runs.values()
    assert {row["_step"]: without_clock(row) for row in run.rows()} == expected_rows(EPOCHS)
    assert len(run.rows()) == STEPS
