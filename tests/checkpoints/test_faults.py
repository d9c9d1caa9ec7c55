"""Disks that fill up, bytes that change, folders that move: the run goes on from the last good checkpoint."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from matrixrl.checkpoints.store import CheckpointStore
from matrixrl.tracking.audit import audit
from matrixrl.tracking.journal_reader import JournalReader
from tests.checkpoints import runs
from tests.cli import descent
from tests.cli.descent import RESUMED, STEPS, descend

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs_dir = tmp_path_factory.mktemp("undisturbed")
    assert descend(runs_dir) == 0
    return runs_dir / "r"


def in_a_process(runs_dir: Path, file_size_limit: int | None = None, **arguments: Any) -> tuple[int, str]:
    """Exit status and errors of `descend` in a process, whose files may not grow beyond a limit."""
    done = subprocess.run(
        [sys.executable, descent.__file__, str(runs_dir), json.dumps(arguments), str(file_size_limit or "")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stderr


def warnings_of(folder: Path) -> list[str]:
    with JournalReader(folder) as reader:
        return [note.text for note in reader.notes() if note.level == "warning"]


def assert_goes_on(folder: Path, undisturbed: Path) -> None:
    assert descend(folder.parent, tracking=RESUMED) == 0
    runs.assert_equal_runs(folder, undisturbed)


def test_a_checkpoint_that_breaks_off_half_written_leaves_the_run_as_it_was(
    undisturbed: Path, tmp_path: Path
) -> None:
    assert descend(tmp_path, stop_at=40) == 143
    # The journal is smaller than the limit, the arrays are not.
    status, _ = in_a_process(
        tmp_path, 6_000_000, ballast=8_000_000, tracking=RESUMED, save_interval_chunks=100
    )
    assert status == 0
    texts = warnings_of(tmp_path / "r")
    assert len(texts) == 4  # at 140, 240, 340 and the end
    assert all(
        "could not be written" in text and "step 40 stays good; training continues" in text for text in texts
    )
    assert [entry.name for entry in (tmp_path / "r" / "checkpoints").iterdir() if entry.name > "40"] == []
    with JournalReader(tmp_path / "r") as reader:
        assert reader.last_step() == STEPS
    assert_goes_on(tmp_path / "r", undisturbed)


def test_or_stops_it_where_that_was_asked_for(undisturbed: Path, tmp_path: Path) -> None:
    assert descend(tmp_path, stop_at=40) == 143
    status, errors = in_a_process(
        tmp_path, 6_000_000, ballast=8_000_000, tracking=RESUMED, failed_checkpoint="stop"
    )
    assert status == 1
    (line,) = errors.splitlines()
    assert "step 40 stays good; stopped as --failed-checkpoint asks; free some space, then: matrixrl" in line
    with JournalReader(tmp_path / "r") as reader:
        assert reader.attempts()[-1].status == "crashed"
    assert_goes_on(tmp_path / "r", undisturbed)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk is not permitted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_checkpoints_that_do_not_fit_leave_the_rest_of_the_disk_to_the_journal(
    undisturbed: Path, small_disk: Path, tmp_path: Path
) -> None:
    assert descend(small_disk, ballast=5_000_000, keep_last=10) == 0
    folder = small_disk / "r"
    texts = warnings_of(folder)
    assert texts
    assert all("No space left on device" in text and "training continues" in text for text in texts)
    kept = CheckpointStore(folder).steps()
    assert kept
    assert kept[-1] < STEPS
    assert audit(folder).agrees
    # On a disk with room it goes on from the last good one.
    shutil.copytree(folder, tmp_path / "large" / "r")
    assert_goes_on(tmp_path / "large" / "r", undisturbed)


def flip(checkpoint: Path) -> None:
    path = checkpoint / "checkpoint.json"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE: dict[str, Callable[[Path], None]] = {
    "flipped bytes": flip,
    "a missing file": lambda checkpoint: (checkpoint / "manifest.json").unlink(),
    "an empty folder": lambda checkpoint: (shutil.rmtree(checkpoint), checkpoint.mkdir())[1],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_newest_checkpoint_is_passed_over(damage: str, undisturbed: Path, tmp_path: Path) -> None:
    assert descend(tmp_path, stop_at=137) == 143
    folder = tmp_path / "r"
    newest, before = CheckpointStore(folder).steps()[:-3:-1]
    assert newest == 137
    DAMAGE[damage](folder / "checkpoints" / str(newest))
    assert_goes_on(folder, undisturbed)
    (text,) = warnings_of(folder)
    assert f"step {newest} is damaged" in text
    assert f"resumes from step {before}" in text
    assert (folder / "checkpoints" / f"damaged-{newest}").is_dir()


def test_the_run_folder_alone_is_enough_on_another_machine(undisturbed: Path, tmp_path: Path) -> None:
    assert descend(tmp_path / "here", stop_at=137) == 143
    shutil.copytree(tmp_path / "here" / "r", tmp_path / "there" / "r")
    shutil.rmtree(tmp_path / "here")
    assert_goes_on(tmp_path / "there" / "r", undisturbed)
