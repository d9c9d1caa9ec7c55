from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tyro

from matrixrl.cli.runs import Export, List, Show, Sync, run_command
from matrixrl.config import TrackingConfig
from matrixrl.tracking.clock import StepClock
from matrixrl.tracking.events import EpisodeRow, ScalarRow
from matrixrl.tracking.run import open_run
from tests.tracking.conftest import Trainer, offline_environment
from tests.tracking.test_journal import episode


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A finished run, and one that crashed."""
    for name, rank in (("good", 7), ("bad", 8)):
        config = TrackingConfig(runs_dir=tmp_path, run_name=name, console="quiet")
        run = open_run(config, system="matmul", name_prefix="m", run_config={})
        for tick in run.clock.advance(20):
            run.record(
                [
                    ScalarRow(tick, {"pretrain/loss": 1 / tick.step}),
                    EpisodeRow(tick, episode(tick.step) | {"Rank": rank}),
                ]
            )
        run.warn("the loss is too good")
        run.finish("finished" if name == "good" else "crashed")
    return tmp_path


def answer(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_list_says_state_best_value_and_rows_pending(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run_command(List(runs_dir=runs)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:1] == ["good"]
    assert "finished" in lines[1]
    assert "rank 7" in lines[1]
    assert "crashed" in lines[2]
    assert "rank 8" in lines[2]
    assert run_command(List(runs_dir=runs, json=True)) == 0
    good, bad = answer(capsys)["runs"]
    assert (good["name"], good["state"], good["best"], good["episodes"]) == ("good", "finished", 7, 20)
    assert (bad["last_step"], bad["pending_rows"]) == (20, None)


def test_list_of_no_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(List(runs_dir=tmp_path / "none")) == 0
    assert "no runs" in capsys.readouterr().out


def test_a_killed_run_is_stale_and_a_live_one_running(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = Trainer(tmp_path / "runs", offline_environment(tmp_path))
    process = trainer.start("--epochs", "1", "--hold", "60")
    assert process.stdout is not None
    process.stdout.readline()
    run_command(List(runs_dir=trainer.runs_dir, json=True))
    assert answer(capsys)["runs"][0]["state"] == "running"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    run_command(List(runs_dir=trainer.runs_dir, json=True))
    assert answer(capsys)["runs"][0]["state"] == "stale"


def test_a_damaged_run_does_not_hide_the_others(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "bad" / "journal.sqlite").write_bytes(b"rubbish" * 99)
    capsys.readouterr()
    assert run_command(List(runs_dir=runs, json=True)) == 0
    assert {run["name"]: run["state"] for run in answer(capsys)["runs"]} == {
        "good": "finished",
        "bad": "damaged",
    }


def test_show_draws_the_main_metrics_and_says_the_warnings(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert run_command(Show(run="good", runs_dir=runs)) == 0
    text = capsys.readouterr().out
    assert "pretrain/loss   last 0.05" in text
    assert "warning: the loss is too good" in text
    assert "attempt 1: finished, process" in text
    assert run_command(Show(run="good", runs_dir=runs, json=True)) == 0
    assert answer(capsys)["last"] == {"pretrain/loss": 0.05}
    assert run_command(Show(run="good", runs_dir=runs, metric=("nope",))) == 2
    assert "it has pretrain/loss" in capsys.readouterr().err


def test_export_of_a_truncated_journal_writes_what_is_good_and_says_so(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = TrackingConfig(runs_dir=runs, run_name="long", console="quiet")
    with open_run(config, system="matmul", name_prefix="m", run_config={}) as run:
        assert isinstance(run.clock, StepClock)
        run.record([ScalarRow(tick, {"loss": 1 / tick.step}) for tick in run.clock.advance(3000)])
    path = run.directory / "journal.sqlite"
    os.truncate(path, path.stat().st_size * 2 // 3)
    capsys.readouterr()
    assert run_command(Export(run="long", runs_dir=runs, format="csv", json=True)) == 0
    captured = capsys.readouterr()
    assert "warning:" in captured.err
    assert "what is good was exported" in captured.err
    result = json.loads(captured.out.splitlines()[-1])
    assert 100 < result["rows"]["scalars.csv"] < 3000
    assert (
        len((run.directory / "export" / "scalars.csv").read_text().splitlines())
        == result["rows"]["scalars.csv"] + 1
    )


@pytest.mark.parametrize("command", [Show(run="x"), Export(run="x"), Sync(runs=("x",)), Sync()])
def test_bad_input_is_one_line_and_exit_2(
    command: Show | Export | Sync,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(command) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("matrixrl: ")
    assert captured.err.count("\n") == 1


def test_the_commands_parse_as_they_are_written() -> None:
    assert tyro.cli(List, args=["--json"]) == List(json=True)
    assert tyro.cli(Show, args=["latest", "--metric", "a", "b"]) == Show(run="latest", metric=("a", "b"))
    wanted = Sync(runs=("one", "two"), runs_dir=Path("x"))
    assert tyro.cli(Sync, args=["one", "two", "--runs-dir", "x"]) == wanted
    assert tyro.cli(Sync, args=["--all"]) == Sync(all=True)
    assert tyro.cli(Export, args=["r", "--format", "csv"]) == Export(run="r", format="csv")


def test_runs_answers_without_wandb_or_jax(tmp_path: Path) -> None:
    code = "import sys; import matrixrl.cli.runs; print(sorted({'wandb', 'jax', 'pyarrow', 'numpy'} & sys.modules.keys()))"
    source = Path(__file__).resolve().parents[2] / "src"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
