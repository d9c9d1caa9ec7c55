"""Event files: complete and free of duplicates after kill -9, later by `runs sync`, exported, audited."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from matrixrl.cli.runs import Audit, Export, Sync, run_command
from matrixrl.config import ConfigError, TrackingConfig
from matrixrl.tracking.audit import audit
from matrixrl.tracking.delivery_state import load_states
from matrixrl.tracking.events import ScalarRow
from matrixrl.tracking.export import export
from matrixrl.tracking.journal_reader import JournalReader
from matrixrl.tracking.run import open_run
from matrixrl.tracking.sinks.tensorboard import TensorboardSink, event_files, read_events
from tests.tracking.conftest import Trainer, expected_rows, kill_everything, without_clock
from tests.wandb_server import LoopbackServer

EPOCHS = 5


def events(directory: Path) -> list[tuple[int, dict[str, float]]]:
    files = event_files(directory / "tensorboard")
    return [(e.step, dict(e.values)) for file in files for e in read_events(file) if e.values]


def single(metrics: dict[str, Any]) -> dict[str, float]:
    return TensorboardSink.stored(metrics)


def write(runs_dir: Path, rows: int, *track: str, resume: str | None = None, value: float = 1.0) -> Path:
    config = TrackingConfig(runs_dir=runs_dir, console="quiet", track=track, resume_run=resume)
    with open_run(config, system="matmul", name_prefix="m", run_config={"seed": 7}) as run:
        if resume:
            run.restore_clock(run.recorded_until)
        run.record([ScalarRow(tick, {"loss": value / tick.step}) for tick in run.clock.advance(rows)])
    return run.directory


def test_w_and_b_and_tensorboard_are_both_complete_after_kill_9(
    trainer: Trainer, server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("--track", "wandb", "tensorboard", "--no-artifact", "--epochs", str(EPOCHS))
    killed = trainer.start(*flags, "--sleep", "0.5", **server.environment)
    try:
        while len([e for d in trainer.runs_dir.glob("m*") for e in events(d)]) < 12:
            assert killed.poll() is None
            time.sleep(0.1)
    finally:
        kill_everything(killed)
    (directory,) = trainer.runs_dir.iterdir()
    before = len(events(directory))
    assert 0 < before < len(expected_rows(EPOCHS))
    newest = event_files(directory / "tensorboard")[-1]
    newest.write_bytes(newest.read_bytes() + b"\x20\0\0\0\0\0\0\0cut off")  # as a kill may leave it
    result = trainer.run(*flags, "--resume", "latest", "--finish-seconds", "150", **server.environment)
    assert result["pending"] == 0, result["output"]
    wanted = {step: single(row) for step, row in expected_rows(EPOCHS).items()}
    assert [step for step, _ in events(directory)] == sorted(wanted)
    assert {step: without_clock(row) for step, row in events(directory)} == wanted
    (run,) = server.runs.values()
    assert [row["_step"] for row in run.rows()] == sorted(wanted)
    states = load_states(directory)
    assert states.keys() == {"wandb", "tensorboard"}
    assert len({state.confirmed_step for state in states.values()}) == 1
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    report = audit(directory)
    assert report.agrees, report.gaps
    assert report.checks["TensorBoard"] == report.checks["W&B server"] == len(wanted)


def test_a_run_is_sent_later_and_only_once(
    tmp_path: Path, environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    directory = write(tmp_path, 20)
    for _ in range(2):
        assert run_command(Sync(runs=("latest",), runs_dir=tmp_path, to=("tensorboard",))) == 0
        assert [step for step, _ in events(directory)] == list(range(1, 21))
    write(tmp_path, 5, "tensorboard", resume=directory.name)
    assert events(directory) == [(step, single({"loss": 1 / step})) for step in range(1, 26)]
    # Each attempt has a file of its own; the settings are in the first one only.
    texts = [any(e.has_text for e in read_events(file)) for file in event_files(directory / "tensorboard")]
    assert texts == [True, False, False]
    assert run_command(Audit(run="latest", runs_dir=tmp_path)) == 0
    newest = event_files(directory / "tensorboard")[-1]
    newest.rename(newest.with_name("lost"))
    assert run_command(Audit(run="latest", runs_dir=tmp_path)) == 1
    assert "GAP TensorBoard: missing at step 21" in capsys.readouterr().out


def test_special_numbers_are_stored_and_audited(tmp_path: Path, environment: dict[str, str]) -> None:
    config = TrackingConfig(runs_dir=tmp_path, console="quiet", track=("tensorboard",))
    with open_run(config, system="matmul", name_prefix="m", run_config={}) as run:
        values = {"nan": math.nan, "inf": -math.inf, "large": 1e300, "count": 3, "yes": True}
        run.record([ScalarRow(run.clock.tick(), values)])
    ((_, there),) = events(run.directory)
    assert math.isnan(there.pop("nan"))
    assert there == {"inf": -math.inf, "large": math.inf, "count": 3.0, "yes": 1.0}
    assert audit(run.directory).agrees


def test_an_export_has_the_history_and_replaces_an_earlier_one(tmp_path: Path) -> None:
    directory = write(tmp_path, 4)
    for _ in range(2):
        assert run_command(Export(run="latest", runs_dir=tmp_path, format="tensorboard", json=True)) == 0
        assert events(directory / "export") == [(step, single({"loss": 1 / step})) for step in range(1, 5)]
    assert os.listdir(directory / "export") == ["tensorboard"]


def test_without_the_library_one_line_says_what_to_install(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tensorboardX.py").write_text("raise ImportError('no tensorboardX here')\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{environment['PYTHONPATH']}")
    directory = write(tmp_path / "runs", 3, "tensorboard")
    with JournalReader(directory) as reader:
        (note,) = [note.text for note in reader.notes()]
        assert "pip install 'matrixrl[tensorboard]'" in note
        assert "rows are kept in the journal" in note
        monkeypatch.setitem(sys.modules, "tensorboardX.event_file_writer", None)
        with pytest.raises(ConfigError, match=r"pip install 'matrixrl\[tensorboard\]'"):
            export(reader, tmp_path / "out", "tensorboard")
    state = json.loads((directory / "sinks" / "tensorboard" / "state.json").read_text())
    assert state["mode"] == "none"
