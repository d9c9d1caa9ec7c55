"""Sinks of users and several at once: killed, failing, stuck, registered; and states of version 0.1."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from matrixrl.cli.main import main
from matrixrl.cli.resume import resumed_settings
from matrixrl.cli.runs import Sync, run_command
from matrixrl.config import ConfigError, MatmulConfig, TrackingConfig
from matrixrl.tracking.audit import audit
from matrixrl.tracking.copy import copy_run
from matrixrl.tracking.delivery_state import DeliveryState, delivering, load_states
from matrixrl.tracking.events import ScalarRow
from matrixrl.tracking.identity import find_run
from matrixrl.tracking.locks import Lock
from matrixrl.tracking.run import Run, open_run
from matrixrl.tracking.sinks import Sink, register
from matrixrl.tracking.sinks.registry import find_sink, find_sinks, remember_named
from matrixrl.tracking.summary import summarize
from tests.tracking import toy_sinks
from tests.tracking.conftest import TRAINER, Trainer, expected_rows, kill_everything, without_clock
from tests.wandb_server import LoopbackServer

EPOCHS = 6
DOCS = Path(__file__).resolve().parents[2] / "docs" / "trackers.md"
TOYS = "tests.tracking.toy_sinks"
BY_REGISTER = f"""
import sys
from matrixrl.tracking.sinks import register
from tests.tracking.script_trainer import main
from {TOYS} import LineSink, OtherSink

class MineSink(LineSink):
    name = "mine"

if __name__ == "__main__":
    register(MineSink)
    register(OtherSink, "other")
    sys.exit(main())
"""


def lines(directory: Path, name: str) -> dict[int, dict[str, Any]]:
    """Step to metrics of what a toy sink holds, once each and in order."""
    rows = [json.loads(line) for line in (directory / f"{name}.jsonl").read_text().splitlines()]
    steps = [row.pop("step") for row in rows]
    assert steps == sorted(set(steps))
    return {step: without_clock(row) for step, row in zip(steps, rows, strict=True)}


def texts(runs_dir: Path) -> list[str]:
    return [file.read_text() for file in runs_dir.glob("*/*.jsonl")]


def track(runs_dir: Path, *names: str, rows: int = 5, **settings: Any) -> Run:
    config = TrackingConfig(runs_dir=runs_dir, console="quiet", track=names, **settings)
    with open_run(config, system="matmul", name_prefix="m", run_config={}) as run:
        if run.resumed:
            run.restore_clock(run.recorded_until)
        run.record([ScalarRow(tick, {"loss": 1 / tick.step}) for tick in run.clock.advance(rows)])
    return run


@pytest.mark.parametrize("how", ["module", "docs", "register"])
def test_sinks_of_a_user_are_complete_and_free_of_duplicates_after_kill_9(
    tmp_path: Path, environment: dict[str, str], how: str
) -> None:
    """Two at once, each with a cursor of its own; resumed, they need not be named again."""
    script, names = TRAINER, (f"{TOYS}:LineSink", f"{TOYS}:OtherSink")
    if how == "docs":
        (code,) = re.findall(r"^```python\n(.*?)^```$", DOCS.read_text(), flags=re.DOTALL | re.MULTILINE)
        assert code.count("\n") < 100
        (tmp_path / "my_tracker.py").write_text(code.replace("rows.jsonl", "jsonlines.jsonl"))
        names = (f"{tmp_path / 'my_tracker.py'}:JsonLines", f"{toy_sinks.__file__}:OtherSink")
    if how == "register":
        script, names = tmp_path / "program.py", ("mine", "other")
        script.write_text(BY_REGISTER)
    first, second = {"module": "lines", "docs": "jsonlines", "register": "mine"}[how], "other"

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(script), str(tmp_path / "runs"), "--epochs", str(EPOCHS)]
        return subprocess.Popen(
            [*command, "--track", *names, *arguments], env=environment, stdout=subprocess.PIPE, text=True
        )

    killed = start("--sleep", "0.4")
    try:
        while [text.count("\n") > 11 for text in texts(tmp_path / "runs")] != [True, True]:
            assert killed.poll() is None
            time.sleep(0.05)
    finally:
        kill_everything(killed)
    (directory,) = (tmp_path / "runs").iterdir()
    assert 0 < len(lines(directory, first)) + len(lines(directory, second)) < 2 * len(expected_rows(EPOCHS))
    with (directory / f"{second}.jsonl").open("a") as file:
        file.write('{"step": 1')  # as a kill leaves it
    output, _ = start("--resume", "latest").communicate(timeout=200)
    assert json.loads(output.splitlines()[-1])["pending"] == 0, output
    assert lines(directory, first) == lines(directory, second) == expected_rows(EPOCHS)
    assert summarize(directory).pending_rows == 0
    for name in (first, second):
        state = DeliveryState.load(directory, name)
        assert state is not None
        assert (state.mode, state.confirmed_step) == ("online", max(expected_rows(EPOCHS)))


def test_a_sink_that_fails_in_the_middle_gets_every_row_once(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIL", "1")
    run = track(tmp_path, f"{TOYS}:FailingSink", rows=2000, finish_seconds=60.0)
    assert run.finish().pending_rows == 0
    assert list(lines(run.directory, "failing")) == list(range(1, 2001))
    state = DeliveryState.load(run.directory, "failing")
    assert state is not None
    assert state.own["writes"] > 4
    assert state.thinned == []


def test_a_sink_that_does_not_return_delays_neither_the_end_nor_another_sink(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    run = track(tmp_path, f"{TOYS}:StuckSink", f"{TOYS}:LineSink", finish_seconds=15.0)
    report = run.finish()
    assert report.status == "finished"
    assert len(lines(run.directory, "lines")) == 5
    state = DeliveryState.load(run.directory, "lines")
    assert state is not None
    assert state.confirmed_step == 5
    assert delivering(run.directory, "stuck") is None


def test_runs_sync_delivers_to_the_sinks_of_a_run_and_to_named_ones(
    tmp_path: Path, environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    run = track(tmp_path, f"{TOYS}:LineSink")
    track(tmp_path, resume_run=run.name)  # without a tracker
    assert len(lines(run.directory, "lines")) == 5
    assert summarize(run.directory).pending_rows == 5
    assert run_command(Sync(runs=(run.name,), runs_dir=tmp_path, json=True)) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert answer["runs"][0]["sinks"].keys() == {"lines"}
    assert list(lines(run.directory, "lines")) == list(range(1, 11))
    assert run_command(Sync(runs=(run.name,), runs_dir=tmp_path, to=(f"{TOYS}:OtherSink",))) == 0
    assert list(lines(run.directory, "other")) == list(range(1, 11))
    assert "Lines has every row" in capsys.readouterr().out
    assert load_states(run.directory).keys() == {"lines", "other"}


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("nope", ["no sink of this name", "tensorboard, wandb", "module:Sink"]),
        ("no.such.module:Sink", ["no.such.module cannot be imported"]),
        ("missing.py:Sink", ["there is no file", "missing.py"]),
        (f"{TOYS}:Nope", ["has no Nope", "LineSink"]),
        ("json:JSONDecoder", ["JSONDecoder is no sink", "matrixrl.tracking.sinks.Sink"]),
        ("json:loads", ["is no class"]),
        (":Sink", ["module:Sink"]),
        ("matrixrl.tracking.sinks:Sink", ["has no open, write"]),
    ],
)
def test_a_tracker_that_cannot_be_found_is_refused_before_the_run_exists(
    tmp_path: Path, reference: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [
        "matmul",
        "train",
        "--preset",
        "quick",
        "--runs-dir",
        str(tmp_path / "runs"),
        "--track",
        reference,
    ]
    assert main(flags) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"matrixrl: --track {reference}: ")
    assert not [word for word in words if word not in line], line
    assert not (tmp_path / "runs").exists()


def test_names_of_sinks_are_unique() -> None:
    with pytest.raises(ConfigError, match="there is a sink 'wandb'"):
        register(toy_sinks.LineSink, "wandb")

    class LocalSink(toy_sinks.LineSink):
        pass

    with pytest.raises(ConfigError, match="inside a function"):
        register(LocalSink, "local")
    with pytest.raises(ConfigError, match="is named 'lines' too"):
        find_sinks([f"{TOYS}:LineSink", f"{toy_sinks.__file__}:LineSink"])
    assert [found.name for found in find_sinks(["wandb", "wandb", "tensorboard"])] == ["wandb", "tensorboard"]


def test_a_sink_is_found_by_the_entry_point_of_a_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "lines-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: lines\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text(f"[matrixrl.sinks]\nlines-of-text = {TOYS}:LineSink\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = find_sink("lines-of-text")
    assert (found.name, found.source, found.sink) == ("lines-of-text", f"{TOYS}:LineSink", toy_sinks.LineSink)
    assert issubclass(found.sink, object)
    assert Sink in found.sink.__mro__


def test_track_wandb_is_the_flag_wandb() -> None:
    config = TrackingConfig(track=("tensorboard", "wandb"))
    assert config == TrackingConfig(wandb=True, track=("tensorboard",))
    assert config.sinks == ("wandb", "tensorboard")


def test_code_that_only_a_run_folder_names_is_not_imported(
    tmp_path: Path, environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """It may be a downloaded run; a class that this user named for it before is imported again."""
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')\n")
    evil = f"{tmp_path / 'evil.py'}:Sink"
    run = track(tmp_path / "runs", f"{TOYS}:LineSink")
    recorded = TrackingConfig(track=(evil, f"{TOYS}:LineSink"))
    config = MatmulConfig(tracking=recorded)
    from matrixrl.config import as_record

    about = json.loads((run.directory / "run.json").read_text())
    (run.directory / "run.json").write_text(json.dumps({**about, "config": as_record(config)}))
    (run.directory / "journal.sqlite").unlink()
    settings, _ = resumed_settings(MatmulConfig, run.directory, run.name, lambda settings: settings)
    assert settings.tracking.track == (f"{TOYS}:LineSink",)
    assert f"--track {evil}" in capsys.readouterr().err
    # A copy of the run may come from elsewhere, whoever named the class for another run.
    copy = shutil.copytree(run.directory, tmp_path / "copies" / run.name)
    settings, _ = resumed_settings(MatmulConfig, copy, run.name, lambda settings: settings)
    assert settings.tracking.track == ()
    capsys.readouterr()
    remember_named(copy, find_sinks([f"{TOYS}:LineSink"]))
    settings, _ = resumed_settings(MatmulConfig, copy, run.name, lambda settings: settings)
    assert settings.tracking.track == (f"{TOYS}:LineSink",)


OLD_STATE = {
    "mode": "online", "reason": "http://server", "place": {}, "confirmed_step": 0, "handed_step": 0, "thinned": [],
    "artifacts": {}, "history_rows": 0, "journal": {}, "project": "", "entity": "", "name": "",
}  # fmt: skip
"""The fields of `delivery.json` of version 0.1."""


def as_version_0_1(directory: Path) -> dict[str, Any]:
    """Makes the folder of a run what version 0.1 would have left; returns the state."""
    state = json.loads((directory / "sinks" / "wandb" / "state.json").read_text())
    old = {**OLD_STATE, **{key: value for key, value in state.items() if key in OLD_STATE}}
    for path in (directory / "sinks" / "wandb").iterdir():
        path.unlink()
    (directory / "sinks" / "wandb").rmdir()
    (directory / "delivery.json").write_text(json.dumps(old) + "\n")
    (directory / "delivery.log").write_text("old\n")
    (directory / "delivery.lock").write_text("")
    return old


def test_a_run_of_version_0_1_is_read_resumed_synced_and_audited(
    tmp_path: Path, trainer: Trainer, server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = trainer.run("--wandb", "--epochs", "2", **server.environment)
    directory = trainer.runs_dir / result["name"]
    old = as_version_0_1(directory)
    state = DeliveryState.load(directory, "wandb")
    assert state is not None
    assert (state.place, state.artifacts, state.journal) == (old["place"], old["artifacts"], old["journal"])
    assert state.artifacts
    assert summarize(directory).pending_rows == 0
    assert find_run(trainer.runs_dir, old["place"]["path"].rpartition("/")[2]) == directory
    assert (directory / "delivery.json").exists()  # a reader changes nothing
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    assert audit(directory).agrees
    copied = copy_run(directory, tmp_path / "drive").directory
    assert DeliveryState.load(copied, "wandb") == state
    sent = len(server.artifacts)
    resumed = trainer.run("--wandb", "--resume", "latest", "--epochs", "3", **server.environment)
    assert resumed["pending"] == 0
    assert not list(directory.glob("delivery.*"))
    (run,) = server.runs.values()
    assert {row["_step"]: without_clock(row) for row in run.rows()} == expected_rows(3)
    # Checkpoints that the old state knows are not sent again: one of epoch 3, a journal, a table.
    assert len([a for a in server.artifacts.values() if a.kind == "model"]) == 3
    assert len(server.artifacts) <= sent + 3
    assert run_command(Sync(runs=(result["name"],), runs_dir=trainer.runs_dir)) == 0
    report = audit(directory)
    assert report.agrees, report.gaps
    assert report.checks["W&B server"] == len(expected_rows(3))


def test_the_state_of_version_0_1_keeps_where_a_run_was_readdressed(tmp_path: Path) -> None:
    (tmp_path / "delivery.json").write_text(json.dumps({**OLD_STATE, "project": "p", "name": "r-2"}))
    state = DeliveryState.load(tmp_path, "wandb")
    assert state is not None
    assert (state.own, state.name) == ({"project": "p"}, "r-2")
    assert DeliveryState.load(tmp_path, "tensorboard") is None
    state.save(tmp_path, "wandb")
    assert not (tmp_path / "delivery.json").exists()
    assert DeliveryState.load(tmp_path, "wandb") == state


def test_a_delivery_process_of_version_0_1_keeps_the_run_to_itself(tmp_path: Path) -> None:
    lock = Lock.take(tmp_path / "delivery.lock")
    assert isinstance(lock, Lock)
    owner = delivering(tmp_path, "wandb")
    assert owner is not None
    assert owner.pid == os.getpid()
    assert delivering(tmp_path, "tensorboard") is None
    lock.release()
    assert delivering(tmp_path, "wandb") is None
