"""Delivery with real processes: modes, a server that fails, thinning, tables beyond the caps, artifacts, sync."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from matrixrl.cli.runs import Sync, run_command
from matrixrl.config import TrackingConfig
from matrixrl.tracking.delivery_state import DeliveryState
from matrixrl.tracking.events import EpisodeRow, ScalarRow, TableSnapshot
from matrixrl.tracking.identity import run_folders
from matrixrl.tracking.journal_reader import JournalReader
from matrixrl.tracking.run import open_run
from tests.tracking.conftest import Trainer, expected_rows, kill_everything, without_clock
from tests.tracking.test_journal import episode
from tests.wandb_server import LoopbackServer

EPOCHS = 4
EXPECTED = expected_rows(EPOCHS)
SHORT = ("--wandb", "--epochs", str(EPOCHS))


def rows_of(server: LoopbackServer) -> dict[int, dict[str, Any]]:
    """Step to metrics, once each and in order."""
    (run,) = server.runs.values()
    rows = run.rows()
    assert [row["_step"] for row in rows] == sorted({row["_step"] for row in rows})
    return {row["_step"]: without_clock(row) for row in rows}


def journal_is_whole(trainer: Trainer) -> None:
    (folder,) = run_folders(trainer.runs_dir)
    with JournalReader(folder) as reader:
        assert {row.step: without_clock(row.metrics) for row in reader.stream()} == EXPECTED


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"WANDB_MODE": "online"}, "no key for http://127.0.0.1"),
        ({"WANDB_MODE": "", "WANDB_API_KEY": "too-short"}, "malformed"),
        ({"WANDB_MODE": "online", "WANDB_API_KEY": "f" * 40}, "refused the run"),
        ({"WANDB_MODE": "disabled"}, "WANDB_MODE=disabled"),
        ({"WANDB_MODE": "offline"}, "WANDB_MODE=offline"),
        (
            {"fake wandb": "raise ImportError('libfoo is missing')"},
            "wandb cannot be imported (libfoo is missing)",
        ),
    ],
    ids=["no key", "malformed key", "wrong key", "disabled", "offline", "not importable"],
)
def test_the_run_goes_on_and_one_line_says_what_will_happen_to_its_rows(
    trainer: Trainer, server: LoopbackServer, tmp_path: Path, settings: dict[str, str], said: str
) -> None:
    environment = {"WANDB_BASE_URL": server.url, **settings}
    if "fake wandb" in environment:
        (tmp_path / "fake").mkdir()
        (tmp_path / "fake" / "wandb.py").write_text(environment.pop("fake wandb"))
        environment["PYTHONPATH"] = os.pathsep.join(
            [str(tmp_path / "fake"), trainer.environment["PYTHONPATH"]]
        )
    result = trainer.run(*SHORT, **environment)
    lines = [line for line in result["output"].splitlines() if line.startswith(("W&B: ", "warning: W&B: "))]
    assert len(lines) == 1, result["output"]
    assert said in lines[0]
    assert f"matrixrl runs sync {result['name']} --runs-dir {trainer.runs_dir}`" in lines[0]
    assert result["pending"] == len(EXPECTED)
    assert not server.runs
    journal_is_whole(trainer)


@pytest.mark.skipif(importlib.util.find_spec("pandas") is None, reason="pandas is not installed")
def test_wandb_imports_no_pandas_for_a_table_and_pyarrow_sees_it_all_the_same() -> None:
    code = (
        "import sys; from matrixrl.tracking.sinks.wandb_client import pandas_hidden\n"
        "with pandas_hidden(): import wandb\n"
        "assert not wandb.util.is_pandas_data_frame(1) and 'pandas' not in sys.modules\n"
        "import pyarrow; assert pyarrow.table({'a': [1, None]}).num_rows == 2\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def niceness_of_delivery(parent: psutil.Process) -> int:
    """Returns the niceness that the delivery process has once it has begun to open the run."""
    for _ in range(600):
        for child in parent.children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if (
                    "matrixrl.tracking.delivery" in child.cmdline() and child.children()
                ):  # wandb's service is there
                    return child.nice()
        time.sleep(0.05)
    raise AssertionError("no delivery process")


@pytest.mark.skipif(not hasattr(os, "nice"), reason="no priorities here")
def test_delivery_yields_to_training_and_a_sync_yields_to_nobody(
    trainer: Trainer, server: LoopbackServer
) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    process = trainer.start(*SHORT, "--hold", "60", "--finish-seconds", "0", **server.environment)
    try:
        assert niceness_of_delivery(psutil.Process(process.pid)) == min(own + 10, 19)
    finally:
        kill_everything(process)
    (folder,) = run_folders(trainer.runs_dir)
    command = ["runs", "sync", folder.name, "--runs-dir", str(trainer.runs_dir)]
    sync = subprocess.Popen(
        [sys.executable, "-m", "matrixrl.cli.main", *command],
        env={**trainer.environment, **server.environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert niceness_of_delivery(psutil.Process(sync.pid)) == own
    finally:
        kill_everything(sync)


def test_a_server_that_comes_late_gets_everything(trainer: Trainer, server: LoopbackServer) -> None:
    server.refuse()
    process = trainer.start(*SHORT, "--hold", "4", "--finish-seconds", "60", **server.environment)
    assert process.stdout is not None
    while "does not answer" not in (line := process.stdout.readline()):
        assert line
    server.listen()
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert json.loads(output.splitlines()[-1])["pending"] == 0, output
    assert rows_of(server) == EXPECTED


@pytest.mark.parametrize(
    "fault", ["refuse", *(pytest.param(fault, marks=pytest.mark.slow) for fault in ("500", "429", "cut"))]
)
def test_a_server_that_fails_in_the_middle_gets_everything_once(
    trainer: Trainer, server: LoopbackServer, fault: str
) -> None:
    process = trainer.start(*SHORT, "--sleep", "0.15", "--finish-seconds", "100", **server.environment)
    while not (server.runs and next(iter(server.runs.values())).history):
        time.sleep(0.05)
        assert process.poll() is None
    with server.failing(fault):
        time.sleep(2.0)
    output, errors = process.communicate(timeout=150)
    assert process.returncode == 0, errors
    assert json.loads(output.splitlines()[-1])["pending"] == 0, output
    assert rows_of(server) == EXPECTED


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(("fault", "seconds"), [("429", 5.0), ("hang", 60.0), ("refuse", 60.0)])
def test_a_minute_without_a_server_loses_nothing(
    trainer: Trainer, server: LoopbackServer, fault: str, seconds: float
) -> None:
    process = trainer.start(*SHORT, "--sleep", "0.2", "--finish-seconds", "250", **server.environment)
    while not (server.runs and next(iter(server.runs.values())).history):
        time.sleep(0.05)
    with server.failing(fault):
        time.sleep(seconds)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert json.loads(output.splitlines()[-1])["pending"] == 0, output
    assert rows_of(server) == EXPECTED


@pytest.mark.slow
def test_a_server_that_is_away_at_the_end_does_not_hold_up_the_end(
    trainer: Trainer,
    server: LoopbackServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    deadline = 4.0
    process = trainer.start(
        *SHORT, "--sleep", "0.3", "--finish-seconds", str(deadline), "--no-artifact", **server.environment
    )
    while not (server.runs and next(iter(server.runs.values())).history):
        time.sleep(0.05)
        assert process.poll() is None
    server.refuse()
    output, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors
    result = json.loads(output.splitlines()[-1])
    assert result["finished"] < deadline + 4.0
    assert 0 < result["pending"] <= len(EXPECTED)
    assert result["command"] in output.splitlines()[-2]
    journal_is_whole(trainer)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    command = Sync(runs=(result["name"],), runs_dir=trainer.runs_dir, json=True)
    assert run_command(command) == 1  # still away
    server.listen()
    assert run_command(command) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["pending_rows"] == 0
    assert rows_of(server) == EXPECTED


def test_a_slow_server_does_not_slow_down_training(trainer: Trainer, server: LoopbackServer) -> None:
    server.delay_seconds = 2.0
    result = trainer.run(*SHORT, "--finish-seconds", "3", "--no-artifact", **server.environment)
    # Training ended before a single answer of the server could arrive.
    assert result["trained"] < server.delay_seconds
    assert result["finished"] < 3 + 4
    journal_is_whole(trainer)


def test_rows_of_a_killed_process_are_delivered_by_the_process_beside_it(
    trainer: Trainer, server: LoopbackServer
) -> None:
    process = trainer.start(*SHORT, "--hold", "100", "--no-artifact", **server.environment)
    assert process.stdout is not None
    for line in process.stdout:
        if line.split()[:1] == ["4"]:  # the row of epoch 4
            break
    process.kill()
    process.communicate()
    until = time.monotonic() + 60
    while not (server.runs and next(iter(server.runs.values())).complete) and time.monotonic() < until:
        time.sleep(0.1)
    assert rows_of(server) == EXPECTED
    assert next(iter(server.runs.values())).exit_code == 1


def test_checkpoints_are_sent_as_models_and_old_ones_pruned(trainer: Trainer, server: LoopbackServer) -> None:
    result = trainer.run(*SHORT, "--keep-artifacts", "1", **server.environment)
    (identity,) = server.runs  # in the name of each artifact, so that no two runs share one
    models = {a.name: a for a in server.artifacts.values() if a.kind == "model"}
    newest = f"checkpoint-{identity}-82"
    assert {name: sorted(a.aliases) for name, a in models.items()} == {
        f"checkpoint-{identity}-46": ["best", "latest"],
        newest: ["latest"],
    }
    assert sorted(server.deleted) == [f"checkpoint-{identity}-{step}" for step in (28, 64)]
    folder = trainer.runs_dir / result["name"]
    (content,) = models[newest].files.values()
    assert content == (folder / "checkpoints" / "000004.json").read_bytes()
    with JournalReader(folder) as reader:
        recorded = {record.step: record.sha256 for record in reader.files()}
    assert json.loads(models[newest].metadata)["sha256"] == recorded[82]


def test_no_artifact_sends_no_checkpoint(trainer: Trainer, server: LoopbackServer) -> None:
    trainer.run(*SHORT, "--no-artifact", **server.environment)
    assert {a.kind for a in server.artifacts.values()} == {"run_table"}
    assert rows_of(server) == EXPECTED


def test_w_and_b_gets_names_config_and_the_axis_of_epochs(trainer: Trainer, server: LoopbackServer) -> None:
    result = trainer.run(*SHORT, "--no-artifact", **server.environment)
    (run,) = server.runs.values()
    folder = trainer.runs_dir / result["name"]
    assert (run.name, run.display_name, run.project) == (
        json.loads((folder / "run.json").read_text())["run_id"],
        result["name"],
        "rlmm",
    )
    config = json.loads(run.config)
    assert config["epochs"] == {"value": EPOCHS}
    metrics = config["_wandb"]["value"]["m"]
    glob = next(metric for metric in metrics if metric.get("2") == "epoch_*")
    assert metrics[glob["5"] - 1]["1"] == "Epoch"
    tables = [row["episode_history"]["nrows"] for row in run.rows() if "episode_history" in row]
    assert tables == [3, 6, 9, 12]
    assert (run.complete, run.exit_code) == (True, 0)


def write_journal(runs_dir: Path, rows: int, episodes: int = 0) -> Path:
    """A finished run that was never sent anywhere."""
    config = TrackingConfig(runs_dir=runs_dir, console="quiet")
    with open_run(config, system="matmul", name_prefix="m", run_config={}) as run:
        run.record([ScalarRow(tick, {"pretrain/loss": 1 / tick.step}) for tick in run.clock.advance(rows)])
        if episodes:
            run.record(
                [EpisodeRow(t, episode(n)) for n, t in enumerate(run.clock.advance(episodes), start=1)]
            )
            tick = run.clock.tick()
            run.record([ScalarRow(tick, {"Epoch": 1, "epoch_loss": 1.0}), TableSnapshot(tick)])
    return run.directory


@pytest.mark.slow
def test_several_runs_are_synced_at_once_each_exactly_once(
    tmp_path: Path,
    environment: dict[str, str],
    server: LoopbackServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folders = [write_journal(tmp_path / "runs", rows) for rows in (7, 700)]
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    names = tuple(folder.name for folder in folders)
    for _ in range(2):
        assert run_command(Sync(runs=names, runs_dir=tmp_path / "runs")) == 0
    for folder, rows in zip(folders, (7, 700), strict=True):
        run = server.runs[json.loads((folder / "run.json").read_text())["run_id"]]
        assert [row["_step"] for row in run.rows()] == list(range(1, rows + 1))
        assert [row["pretrain/loss"] for row in run.rows()] == [1 / step for step in range(1, rows + 1)]
    assert "has every row" in capsys.readouterr().out
    capsys.readouterr()
    assert run_command(Sync(runs_dir=tmp_path / "runs")) == 2
    assert run_command(Sync(all=True, runs_dir=tmp_path / "runs", json=True)) == 0
    assert json.loads(capsys.readouterr().out) == {"runs": [], "pending_rows": 0}


@pytest.mark.slow
def test_a_table_beyond_the_cap_says_so_and_goes_up_whole_as_parquet(
    tmp_path: Path, environment: dict[str, str], server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    total = 10_050
    folder = write_journal(tmp_path / "runs", 3, episodes=total)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    assert run_command(Sync(runs=("latest",), runs_dir=tmp_path / "runs")) == 0
    (run,) = server.runs.values()
    row = run.rows()[-1]
    assert row["episode_history"]["nrows"] == 10_000
    assert row["episode_history/rows"].startswith(f"the last 10000 of {total} rows")
    table = json.loads(run.files[row["episode_history"]["path"]])
    assert [cells[0] for cells in table["data"]] == list(range(total - 9999, total + 1))
    (artifact,) = [a for a in server.artifacts.values() if a.kind == "episode_history"]
    assert artifact.name == f"episode-history-{run.name}"
    numbers = []
    for part in sorted(artifact.files):
        path = tmp_path / "sent.parquet"
        path.write_bytes(artifact.files[part])
        numbers += pq.read_table(path).column("Global Episode").to_pylist()
    assert numbers == list(range(1, total + 1))
    state = DeliveryState.load(folder, "wandb")
    assert state is not None
    assert state.history_rows == total


def test_two_processes_that_sync_one_run_send_it_once(
    tmp_path: Path, environment: dict[str, str], server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_journal(tmp_path / "runs", 900)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    answers: list[int] = []

    def sync() -> None:
        answers.append(run_command(Sync(runs=("latest",), runs_dir=tmp_path / "runs")))

    threads = [threading.Thread(target=sync) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0 in answers
    (run,) = server.runs.values()
    assert [row["_step"] for row in run.rows()] == list(range(1, 901))


def test_the_last_line_says_why_rows_wait_even_if_nothing_was_tried(
    trainer: Trainer, server: LoopbackServer
) -> None:
    result = trainer.run("--wandb", "--epochs", "1", "--finish-seconds", "0", **server.environment)
    assert "rows wait for W&B (" in result["output"]
    assert "W&B ()" not in result["output"]
