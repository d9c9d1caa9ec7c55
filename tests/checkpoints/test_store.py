"""The folder of checkpoints: which one is found, which ones stay, and what a failure leaves."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from matrixrl.checkpoints.format import Snapshot
from matrixrl.checkpoints.store import CheckpointStore, Failed, Saved
from matrixrl.config import ConfigError


def snapshot(step: int, score: float | None = None, size: int = 3) -> Snapshot:
    noise = np.random.default_rng(step).integers(0, 255, size).astype(np.uint8)
    return Snapshot(step, {"x": noise}, {"step": step}, score=score)


def store_of(path: Path, keep_last: int = 3, keep_best: int = 1) -> CheckpointStore:
    store = CheckpointStore(path, {"run": "r"}, keep_last=keep_last, keep_best=keep_best)
    store.begin()
    store.set_aside(10**9)
    return store


def save(
    store: CheckpointStore, step: int, score: float | None = None, size: int = 3
) -> Saved | Failed | None:
    store.start(snapshot(step, score, size))
    return store.collect(None)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Every file that grows beyond `size` bytes fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_newest_is_found_and_only_the_last_stay(tmp_path: Path) -> None:
    store = store_of(tmp_path, keep_last=2, keep_best=0)
    for step in (5, 10, 15, 100):
        assert isinstance(save(store, step), Saved)
    assert store.steps() == [15, 100]
    newest, skipped = store.newest()
    assert newest is not None
    assert (newest.step, skipped) == (100, [])
    assert [entry.name for entry in sorted(store.folder.iterdir())] == ["100", "15"]


def test_the_best_stay_besides_the_last_also_after_a_restart(tmp_path: Path) -> None:
    store = store_of(tmp_path, keep_last=1, keep_best=2)
    scores = {1: 0.5, 2: 3.0, 3: 1.0, 4: 2.0, 5: None, 6: 0.0}
    best = {
        step: result.is_best
        for step, score in scores.items()
        if isinstance(result := save(store, step, score), Saved)
    }
    assert best == {1: True, 2: True, 3: False, 4: False, 5: False, 6: False}
    assert store.steps() == [2, 4, 6]
    again = store_of(tmp_path, keep_last=1, keep_best=2)
    save(again, 7, 2.5)
    assert again.steps() == [2, 7]


def test_of_equal_scores_the_newest_is_the_best(tmp_path: Path) -> None:
    store = store_of(tmp_path, keep_last=1, keep_best=1)
    for step in (1, 2, 3):
        result = save(store, step, 1.0)
        assert isinstance(result, Saved)
        assert result.is_best
    assert store.steps() == [3]


def test_a_damaged_newest_is_passed_over_and_told_and_set_aside(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    save(store, 1)
    save(store, 2)
    (store.folder / "2" / "checkpoint.json").write_text("{}")
    newest, skipped = store.newest()
    assert newest is not None
    assert newest.step == 1
    assert len(skipped) == 1
    assert "step 2 is damaged" in skipped[0]
    store.set_aside(1)
    assert store.steps() == [1]
    assert (store.folder / "damaged-2").is_dir()


def test_where_all_are_damaged_there_is_none(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    for step in (1, 2):
        save(store, step)
        (store.folder / str(step) / "manifest.json").unlink()
    newest, skipped = store.newest()
    assert newest is None
    assert len(skipped) == 2


def test_a_folder_without_checkpoints_has_none(tmp_path: Path) -> None:
    assert CheckpointStore(tmp_path).newest() == (None, [])


def test_another_format_version_is_refused_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(tmp_path)
    save(store, 1)
    monkeypatch.setattr("matrixrl.checkpoints.format.FORMAT_VERSION", 9)
    save(store, 2)
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="format 9; this matrixrl reads format 3"):
        store.newest()


def test_a_full_disk_leaves_the_one_before_and_no_rest(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    assert isinstance(save(store, 1), Saved)
    with files_of_at_most(100_000):
        failed = save(store, 2, size=1_000_000)
    assert isinstance(failed, Failed)
    assert failed.reason
    assert "\n" not in failed.reason
    assert [entry.name for entry in store.folder.iterdir()] == ["1"]
    assert isinstance(save(store, 3, size=1_000_000), Saved)
    assert store.steps() == [1, 3]


def test_a_step_that_is_saved_again_replaces_the_first(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    save(store, 1, score=1.0)
    save(store, 1, score=2.0)
    newest, _ = store.newest()
    assert newest is not None
    assert newest.score == 2.0
    assert [entry.name for entry in store.folder.iterdir()] == ["1"]


def test_what_a_killed_writer_left_is_cleared_or_put_back(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    save(store, 1)
    save(store, 2)
    (store.folder / "2").rename(store.folder / ".replaced-2")  # killed between two renames
    (store.folder / ".draft-3-99-1").mkdir()  # killed while writing
    again = store_of(tmp_path)
    assert [entry.name for entry in sorted(again.folder.iterdir())] == ["1", "2"]


def test_a_second_one_cannot_begin_before_the_first_is_collected(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    store.start(snapshot(1))
    with pytest.raises(RuntimeError, match="collect"):
        store.start(snapshot(2))
    assert isinstance(store.collect(None), Saved)


WRITER = """
import sys
from pathlib import Path
from tests.checkpoints.test_store import save, store_of
store = store_of(Path(sys.argv[1]), keep_last=2)
print("ready", flush=True)
for step in range(1, 1000):
    save(store, step, size=200_000)
"""


def test_sigkill_while_writing_leaves_whole_checkpoints_only(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    for delay in (0.05, 0.3, 0.61):
        command = [sys.executable, "-c", WRITER, str(tmp_path)]
        with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(delay)
            process.kill()
        store = CheckpointStore(tmp_path)
        assert store.newest()[1] == []
        assert all(store.newest()[0] is not None for _ in store.steps())


def test_the_best_and_any_other_checkpoint_can_be_named(tmp_path: Path) -> None:
    store = store_of(tmp_path, keep_last=9)
    assert store.best() == (None, [])
    for step, score in ((1, None), (2, 5.0), (3, 7.0), (4, 7.0), (5, 6.0), (6, None)):
        save(store, step, score)
    best, skipped = store.best()
    assert best is not None
    assert (best.step, skipped) == (4, [])  # of equal ones the newest
    (store.folder / "4" / "checkpoint.json").write_text("{}")
    best, skipped = store.best()
    assert best is not None
    assert best.step == 3
    assert len(skipped) == 1
    assert "step 4 is damaged" in skipped[0]
    assert store.at(5).step == 5
    with pytest.raises(ConfigError, match="step 4 is damaged"):
        store.at(4)
    with pytest.raises(ConfigError, match="no checkpoint of step 9; there are: 1, 2, 3, 4, 5, 6"):
        store.at(9)
