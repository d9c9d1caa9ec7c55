"""Run folders that grow on one machine, are kept on another one, and are resumed on a third."""

from __future__ import annotations

from pathlib import Path

import pytest

from matrixrl.config import ConfigError, TrackingConfig
from matrixrl.run_layout import CHECKPOINTS_FOLDER, MANIFEST_FILE
from matrixrl.studies.store import (
    AttemptReplacedError,
    FolderStore,
    RunFolderStore,
    RunSender,
    UrlStore,
    fetch_run,
)
from matrixrl.tracking.events import ScalarRow
from matrixrl.tracking.journal import JOURNAL_FILE
from matrixrl.tracking.journal_reader import JournalReader
from matrixrl.tracking.run import Run, open_run


def begun(runs: Path, resume: str | None = None) -> Run:
    name = None if resume else "walk"
    tracking = TrackingConfig(runs_dir=runs, run_name=name, resume_run=resume, console="quiet")
    return open_run(tracking, system="ppo", name_prefix="ppo", run_config={"seed": 1})


def tick(run: Run, count: int) -> None:
    for _ in range(count):
        run.record([ScalarRow(run.clock.tick(), {"train/loss": 0.5})])


def checkpoint(run: Run) -> None:
    """Writes files that stand for a checkpoint."""
    folder = run.directory / CHECKPOINTS_FOLDER / str(run.clock.step)
    folder.mkdir(parents=True)
    (folder / "arrays").write_bytes(bytes(range(256)) * 40)
    (folder / MANIFEST_FILE).write_text(f'{{"step": {run.clock.step}}}')


def stores(folder: Path) -> list[RunFolderStore]:
    return [FolderStore(folder / "kept"), UrlStore(f"memory://{folder.name}/kept")]


@pytest.mark.parametrize("kind", [0, 1], ids=["folder", "url"])
def test_a_run_grows_here_and_is_resumed_elsewhere(
    tmp_path: Path, kind: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("matrixrl.studies.store.PART_BYTES", 1000)
    store = stores(tmp_path)[kind]
    first = tmp_path / "first"
    run = begun(first)
    sender = RunSender(store, run.directory, store.begin("walk"), tmp_path / "mirror")
    tick(run, 3)
    checkpoint(run)
    assert sender.send()
    tick(run, 2)
    checkpoint(run)
    assert sender.send()
    tick(run, 4)  # the node is lost with these
    kept = set(store.files("walk"))
    assert {JOURNAL_FILE, f"{CHECKPOINTS_FOLDER}/3/arrays", f"{CHECKPOINTS_FOLDER}/5/{MANIFEST_FILE}"} <= kept
    assert not [path for path in kept if ".part" in path or path.startswith("lock")]

    second = tmp_path / "second"
    fetch_run(store, "walk", second)
    with JournalReader(second / "walk") as reader:
        assert [row.step for row in reader.stream()] == [1, 2, 3, 4, 5]
    assert (second / "walk" / CHECKPOINTS_FOLDER / "5" / "arrays").read_bytes() == bytes(range(256)) * 40
    # The new attempt replaces the one of the lost node, which may still run.
    resumed = begun(second, "walk")
    attempt = store.begin("walk")
    with pytest.raises(AttemptReplacedError):
        sender.send()
    resumed.restore_clock(5)
    tick(resumed, 4)
    resumed.finish()
    assert RunSender(store, resumed.directory, attempt, tmp_path / "mirror2").send()
    run.finish("crashed")

    third = tmp_path / "third"
    fetch_run(store, "walk", third)
    with JournalReader(third / "walk") as reader:
        assert [row.step for row in reader.stream()] == list(range(1, 10))
        assert [attempt.status for attempt in reader.attempts()] == [None, "finished"]


def test_every_prefix_of_what_is_sent_can_be_resumed(tmp_path: Path) -> None:
    """The journal reaches at least as far as each complete checkpoint, wherever the node is lost."""

    class Cut(FolderStore):
        left = 1000

        def write(self, run: str, attempt: int, path: str, draft: str, content: bytes, last: bool) -> None:
            if self.left == 0:
                raise ConnectionError("lost")
            self.left -= 1
            super().write(run, attempt, path, draft, content, last)

    run = begun(tmp_path / "node")
    tick(run, 2)
    checkpoint(run)
    store = Cut(tmp_path / "kept")
    sender = RunSender(store, run.directory, store.begin("walk"), tmp_path / "mirror")
    assert sender.send()
    tick(run, 3)
    checkpoint(run)
    complete = 0
    for left in range(12):
        store.left = left
        try:
            sender.send()
        except ConnectionError:
            pass
        else:
            complete += 1
        fetch_run(store, "walk", tmp_path / f"node{left}")
        copy = tmp_path / f"node{left}" / "walk"
        steps = [int(path.parent.name) for path in copy.glob(f"{CHECKPOINTS_FOLDER}/*/{MANIFEST_FILE}")]
        with JournalReader(copy) as reader:
            assert reader.last_step() >= max(steps)
    assert complete
    assert max(steps) == 5
    run.finish()


def test_a_copy_of_the_current_attempt_is_kept(tmp_path: Path) -> None:
    """A task that is started again on its node continues with the rows that the store lacks."""
    store = FolderStore(tmp_path / "kept")
    node = tmp_path / "node"
    run = begun(node)
    attempt = store.begin("walk")
    (node / "walk.attempt").write_text(str(attempt))
    tick(run, 2)
    RunSender(store, run.directory, attempt, tmp_path / "mirror").send()
    tick(run, 2)
    run.finish()
    fetch_run(store, "walk", node)
    with JournalReader(node / "walk") as reader:
        assert reader.last_step() == 4
    store.begin("walk")  # another node continued the run
    fetch_run(store, "walk", node)
    with JournalReader(node / "walk") as reader:
        assert reader.last_step() == 2


def test_a_url_that_nothing_serves_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--study-dir nothing://x: .*; name a local folder"):
        UrlStore("nothing://x")


def test_paths_do_not_leave_the_folder(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    attempt = store.begin("walk")
    for path in ("../other", "/etc/other", ""):
        with pytest.raises(ValueError, match="leads out"):
            store.write("walk", attempt, path, "draft", b"", True)
