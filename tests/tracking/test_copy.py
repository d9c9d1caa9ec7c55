"""A run that was copied to a drive while it went on continues from there on another machine."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from matrixrl.checkpoints.store import CheckpointStore
from matrixrl.cli.main import main
from matrixrl.config import ConfigError
from matrixrl.tracking.audit import audit
from matrixrl.tracking.copy import copy_run
from matrixrl.tracking.identity import read_run_file
from matrixrl.tracking.journal_reader import JournalReader
from tests.checkpoints.runs import history
from tests.cli.announced import without_announcement
from tests.cli.descent import RESUMED, STEPS, descend

SETTINGS: dict[str, Any] = {"save_interval_chunks": 50, "keep_last": 2, "grace_seconds": 200}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs_dir = tmp_path_factory.mktemp("undisturbed")
    assert descend(runs_dir) == 0
    return runs_dir / "r"


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    assert descend(tmp_path / "runs", stop_at=234, **SETTINGS) == 143
    return tmp_path / "runs" / "r"


@pytest.mark.slow
def test_a_copy_made_while_the_run_went_on_continues_to_the_same_end(
    undisturbed: Path, tmp_path: Path
) -> None:
    drive, copies, ended = tmp_path / "drive", 0, threading.Event()

    def copy_again_and_again() -> None:
        nonlocal copies
        while not ended.wait(0.02):
            if (runs / "r" / "checkpoints").exists():
                copied = copy_run(runs / "r", drive)
                assert copied.step is None or copied.step <= copied.recorded_until
                copies += 1

    runs = tmp_path / "runs"
    copying = threading.Thread(target=copy_again_and_again)
    copying.start()
    try:
        # Pruning takes checkpoints away while they are copied.
        assert descend(runs, ballast=100_000, save_interval_chunks=20, keep_last=1) == 0
    finally:
        ended.set()
        copying.join()
    assert copies > 0
    with JournalReader(drive / "r") as reader:
        assert reader.damage == []
        assert reader.last_step() <= STEPS
    shutil.rmtree(runs)
    assert descend(drive, tracking=RESUMED, ballast=100_000, save_interval_chunks=20, keep_last=1) == 0
    assert history(drive / "r")["stream"] == history(undisturbed)["stream"]
    assert history(drive / "r")["episodes"] == history(undisturbed)["episodes"]
    assert audit(drive / "r", server=False).gaps == []


def test_a_later_copy_takes_what_is_new_and_drops_what_was_pruned(
    stopped: Path, undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = ["runs", "copy", "r", "--runs-dir", str(stopped.parent), "--to", str(tmp_path / "drive"), "--json"]
    answers = []
    for settings in ({}, {"tracking": RESUMED}):
        assert not settings or descend(stopped.parent, **settings, **SETTINGS) == 0
        capsys.readouterr()
        assert main(copy) == 0
        answers.append(json.loads(capsys.readouterr().out.splitlines()[-1]))
    assert [(a["step"], a["recorded_until"]) for a in answers] == [(234, 234), (STEPS, STEPS)]
    assert answers[0]["directory"] == str(tmp_path / "drive" / "r")
    kept = CheckpointStore(tmp_path / "drive" / "r").steps()
    assert kept == CheckpointStore(stopped).steps()
    assert 234 not in kept
    assert history(tmp_path / "drive" / "r") == history(undisturbed)
    assert copy_run(stopped, tmp_path / "drive").new_checkpoints == 0
    left = {path.name for path in (tmp_path / "drive" / "r").iterdir()}
    assert left == {"run.json", "journal.sqlite", "console.log", "checkpoints"}


def test_a_copy_of_another_run_of_the_same_name_is_not_overwritten(stopped: Path, tmp_path: Path) -> None:
    copy_run(stopped, tmp_path / "drive")
    before = read_run_file(tmp_path / "drive" / "r")
    assert descend(tmp_path / "other", stop_at=20, **SETTINGS) == 143
    with pytest.raises(ConfigError, match="is a copy of another run of this name"):
        copy_run(tmp_path / "other" / "r", tmp_path / "drive")
    assert read_run_file(tmp_path / "drive" / "r") == before


@pytest.mark.parametrize(
    ("to", "says"),
    [
        ("runs", "the run itself is stored there"),
        ("runs/r/copy", "the run itself is stored there"),
        ("not/mounted", "is the drive mounted?"),
        ("file", "name a folder that this user can write to"),
    ],
)
def test_an_impossible_place_is_told_in_one_line(
    stopped: Path, tmp_path: Path, to: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    capsys.readouterr()
    runs = str(stopped.parent)
    assert main(["runs", "copy", "r", "--runs-dir", runs, "--to", str(tmp_path / to)]) == 2
    (line,) = without_announcement(capsys.readouterr().err).splitlines()
    assert says in line
