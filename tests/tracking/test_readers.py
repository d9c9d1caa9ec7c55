"""Readers leave a run folder as it is, wait for locks, and find in long runs what they find in short ones."""

from __future__ import annotations

import math
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from matrixrl.cli.runs import Audit, Export, List, Show, run_command
from matrixrl.config import TrackingConfig
from matrixrl.tracking import journal as journal_module
from matrixrl.tracking import journal_reader, series
from matrixrl.tracking.blocks import BLOCK_ROWS, BlockBuilder, kinds
from matrixrl.tracking.clock import StepClock
from matrixrl.tracking.events import EpisodeRow, MoveRow, ScalarRow
from matrixrl.tracking.journal import JOURNAL_FILE, Journal, JournalLockedError, wal_of
from matrixrl.tracking.journal_reader import JournalReader
from matrixrl.tracking.run import open_run
from matrixrl.tracking.series import read_series
from matrixrl.tracking.summary import SUMMARY_FILE, summarize
from matrixrl.tracking.transcript import journal_lines, journal_texts
from tests.tracking.test_journal import episode, new, resumed

Files = dict[str, tuple[int, int, bytes]]


def files(folder: Path) -> Files:
    """Size, time and content of every file of a folder."""
    return {
        path.name: (path.stat().st_size, path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.iterdir())
    }


def read_everything(folder: Path) -> None:
    for command in (
        Show(run=folder.name, runs_dir=folder.parent),
        Audit(run=folder.name, runs_dir=folder.parent, offline=True),
        Export(run=folder.name, runs_dir=folder.parent, format="csv", out=folder.parent / ".out"),
        List(runs_dir=folder.parent, json=True),
    ):
        assert run_command(command) == 0


def open_new(runs_dir: Path, name: str = "r", system: Any = "matmul") -> Any:
    config = TrackingConfig(runs_dir=runs_dir, run_name=name, console="quiet")
    return open_run(config, system=system, name_prefix="m", run_config={})


# ---- nothing is left behind ----


def test_reading_changes_no_file_while_a_run_is_written_and_after_its_end(tmp_path: Path) -> None:
    with open_new(tmp_path) as run:
        for _ in range(3):
            run.record([ScalarRow(run.clock.tick(), {"pretrain/loss": 1.0})])
            before = files(run.directory)
            assert f"{JOURNAL_FILE}-wal" in before
            read_everything(run.directory)
            after = files(run.directory)
            assert {*after} == {*before}
            # The index of the log notes how far its readers are, while there is a writer.
            shared = f"{JOURNAL_FILE}-shm"
            assert {name: after[name] for name in after if name != shared} == {
                name: before[name] for name in before if name != shared
            }
    before = files(run.directory)
    assert not wal_of(run.directory / JOURNAL_FILE).exists()
    os.utime(run.directory / JOURNAL_FILE, (1e9, 1e9))
    read_everything(run.directory)
    assert {*files(run.directory)} == {*before}
    assert summarize(run.directory).last_activity == 1e9


@pytest.mark.parametrize("index", ["there", "gone"])
def test_reading_a_killed_run_changes_no_file(tmp_path: Path, index: str) -> None:
    """The write-ahead log holds rows, its index is the killed writer's, or did not come along in a copy."""
    folder = tmp_path / "runs" / "r"
    with open_new(tmp_path / "live") as run:
        run.record([ScalarRow(run.clock.tick(), {"pretrain/loss": 1.0})])
        shutil.copytree(run.directory, folder)
    if index == "gone":
        folder.joinpath(f"{JOURNAL_FILE}-shm").unlink()
    before = files(folder)
    with JournalReader(folder) as reader:
        assert [row.metrics for row in reader.stream()] == [{"pretrain/loss": 1.0}]
    assert summarize(folder).state == "stale"
    read_everything(folder)
    assert files(folder) == before


def test_a_writer_that_ends_while_it_is_read_takes_its_log_away(tmp_path: Path) -> None:
    journal = new(tmp_path)
    journal.record([ScalarRow(StepClock().tick(), {"a": 1})])
    reader = JournalReader(tmp_path)
    assert reader.count("stream") == 1
    closing = threading.Timer(0.1, reader.close)
    closing.start()
    journal.close()
    closing.join()
    assert {path.name for path in tmp_path.iterdir()} == {JOURNAL_FILE}


# ---- the summary that the writer keeps ----


def test_the_kept_summary_holds_until_the_run_is_continued(tmp_path: Path) -> None:
    with open_new(tmp_path) as run:
        run.record([EpisodeRow(run.clock.tick(), episode(1))])
    kept = summarize(run.directory)
    (run.directory / SUMMARY_FILE).unlink()
    assert summarize(run.directory) == kept
    assert (kept.state, kept.episodes, kept.best) == ("finished", 1, 7)

    config = TrackingConfig(runs_dir=tmp_path, resume_run="r", console="quiet")
    with open_run(config, system="matmul", name_prefix="m", run_config={}) as run:
        run.restore_clock(1)
        assert summarize(run.directory).state == "running"
        run.record([EpisodeRow(run.clock.tick(), episode(2))])
        assert summarize(run.directory).episodes == 2
    assert (run.directory / SUMMARY_FILE).exists()
    # A copy under another name, and one whose journal is another.
    shutil.copytree(run.directory, tmp_path / "copy")
    text = (run.directory / "run.json").read_text().replace('"r"', '"copy"')
    (tmp_path / "copy" / "run.json").write_text(text)
    assert (summarize(tmp_path / "copy").name, summarize(tmp_path / "copy").episodes) == ("copy", 2)
    shutil.copytree(run.directory, tmp_path / "other")
    connection = sqlite3.connect(tmp_path / "other" / JOURNAL_FILE)
    connection.execute("DELETE FROM episodes WHERE id = 2")
    connection.commit()
    connection.close()
    assert summarize(tmp_path / "other").episodes == 1


def test_the_best_of_a_hackmatrix_run_is_its_best_mean(tmp_path: Path) -> None:
    columns = ("Global Episode", "Update", "Return", "Steps", "Highest Stage", "Final Score", "Won")
    with open_new(tmp_path, system="hackmatrix") as run:
        for number, (mean, lucky) in enumerate([(0.5, 9.0), (1.5, 3.0), (1.0, 2.0)], 1):
            tick = run.clock.tick()
            values: dict[str, Any] = dict(zip(columns, (number, 1, lucky, 5, 1, 0.0, False), strict=True))
            metrics = {"episode/return": mean, "episode/return_best": lucky, "train/update_step": number}
            run.record([EpisodeRow(tick, values), ScalarRow(tick, metrics)])
    summary = summarize(run.directory)
    assert (summary.best_label, summary.best) == ("mean return", 1.5)


# ---- locks ----


@contextmanager
def locked(path: Path, seconds: float) -> Iterator[None]:
    """Another process has a journal locked for a while."""
    code = (
        "import sqlite3, sys, time\n"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('BEGIN IMMEDIATE')\nprint(flush=True)\ntime.sleep(float(sys.argv[2]))\nc.execute('ROLLBACK')\n"
    )
    command = [sys.executable, "-c", code, str(path), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


def test_a_run_waits_for_a_journal_that_is_locked_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(journal_module, "LOCK_POLL_SECONDS", 0.05)
    monkeypatch.setattr(journal_module, "LOCK_NOTICE_SECONDS", 0.1)
    with open_new(tmp_path) as run, locked(run.directory / JOURNAL_FILE, 0.7):
        run.record([ScalarRow(run.clock.tick(), {"a": 1})])
    assert (
        "another process has the journal locked; waiting for it, up to 5 min 00 s" in capsys.readouterr().out
    )
    with JournalReader(run.directory) as reader:
        assert reader.count("stream") == 1
    config = TrackingConfig(runs_dir=tmp_path, resume_run="r", console="quiet")
    with locked(run.directory / JOURNAL_FILE, 0.7):
        open_run(config, system="matmul", name_prefix="m", run_config={}).finish()


def test_a_journal_that_stays_locked_ends_the_wait_and_keeps_what_was_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "LOCK_POLL_SECONDS", 0.05)
    monkeypatch.setattr(journal_module, "LOCK_SECONDS", 0.2)
    journal, clock = new(tmp_path), StepClock()
    journal.record([ScalarRow(clock.tick(), {"a": 1})])
    with locked(journal.path, 60.0):
        with pytest.raises(JournalLockedError, match=r"locked for .* --resume-run"):
            journal.record([ScalarRow(clock.tick(), {"a": 2})])
        with pytest.raises(JournalLockedError, match="locked"):
            Journal.resume(journal.path, {})
        with JournalReader(tmp_path) as reader:
            assert reader.count("stream") == 1
    journal.record([ScalarRow(clock.tick(), {"a": 3})])
    journal.close()


# ---- long streams ----

ROWS = 3 * BLOCK_ROWS + 7


def metrics_of(number: int) -> dict[str, Any]:
    metrics: dict[str, Any] = {"loss": math.nan if number == 5 else 1 / number, "count": number}
    if number % 100 == 0:
        metrics |= {"Epoch": number // 100, "epoch_loss": float(number)}
    if number == 300:
        metrics["rare [*?]"] = 2**70
    return metrics


def write(folder: Path, rows: range, journal: Journal, clock: StepClock) -> None:
    for _ in rows:
        tick = clock.tick()
        journal.record([ScalarRow(tick, metrics_of(tick.step))])


@pytest.fixture(params=["blocks", "resumed", "older", "damaged"])
def long_run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stream that counts as long, with blocks, a resume that changed it, none at all, or bad ones."""
    journal, clock = new(tmp_path), StepClock()
    if request.param == "resumed":
        for _ in range(ROWS):
            tick = clock.tick()
            journal.record(
                [ScalarRow(tick, metrics_of(tick.step) | ({"loss": 9.0} if tick.step > 250 else {}))]
            )
        journal.close()
        journal, clock = resumed(tmp_path, 150)
        write(tmp_path, range(150, ROWS), journal, clock)
    else:
        write(tmp_path, range(ROWS), journal, clock)
    journal.close()
    statement = {
        "older": "DROP TABLE stream_blocks; PRAGMA user_version = 1;",
        "damaged": "UPDATE stream_blocks SET metrics = '{\"loss\":[1]}' WHERE first_id = 1;",
    }.get(request.param)
    if statement is not None:
        connection = sqlite3.connect(tmp_path / JOURNAL_FILE)
        connection.executescript(statement)
        connection.close()
    monkeypatch.setattr(journal_reader, "EXACT_ROWS", 50)
    monkeypatch.setattr(series, "EXACT_ROWS", 50)
    monkeypatch.setattr(series, "DENSE_VALUES", 20)
    return tmp_path


def test_summaries_of_a_long_stream_hold_what_its_rows_hold(long_run: Path) -> None:
    with JournalReader(long_run) as reader:
        rows = list(reader.stream())
        blocks = list(reader.blocks())
        assert sum(block.rows for block in blocks) == len(rows) == ROWS
        assert kinds(blocks) == {
            "loss": "float", "count": "int", "Epoch": "int", "epoch_loss": "float", "rare [*?]": "float",
        }  # fmt: skip
        assert sum(b.metrics["count"].count for b in blocks) == ROWS
        assert sum(b.metrics["loss"].count for b in blocks) == ROWS - 1
        total = sum((b.metrics["count"].mean or 0.0) * b.rows for b in blocks)
        assert total == pytest.approx(sum(range(1, ROWS + 1)))
        assert reader.best_metric("loss", lowest=True) == 1 / ROWS
        assert reader.best_metric("loss", lowest=False) == 1.0
        assert reader.best_metric("epoch_loss", lowest=False) == ROWS // 100 * 100
        assert reader.best_metric("nothing", lowest=False) is None


def test_series_of_a_long_stream_cover_its_rows(long_run: Path) -> None:
    with JournalReader(long_run) as reader:
        names, found = read_series(reader, lambda name: name != "count")
    assert set(names) == {"loss", "count", "Epoch", "epoch_loss", "rare [*?]"}
    assert "count" not in found
    assert found["loss"].last == 1 / ROWS
    rare = found["rare [*?]"]
    assert rare.xs == pytest.approx([300], abs=BLOCK_ROWS)
    assert (rare.ys, rare.last) == ([float(2**70)], 2.0**70)
    assert sorted(found["epoch_loss"].xs) == found["epoch_loss"].xs
    assert found["epoch_loss"].last == ROWS // 100 * 100
    assert all(
        x * 100 == pytest.approx(y)
        for x, y in zip(found["epoch_loss"].xs, found["epoch_loss"].ys, strict=True)
    )
    assert found["loss"].xs[0] < BLOCK_ROWS
    assert found["loss"].xs[-1] > ROWS - BLOCK_ROWS
    assert all(map(math.isfinite, found["loss"].ys))


def test_a_metric_of_a_superset_of_names_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, clock = new(tmp_path), StepClock()
    for number in range(60):
        extra = {"hidden": 1} if number == 40 else {}
        journal.record([ScalarRow(clock.tick(), {"a": 1, **extra, "b": 2})])
    journal.close()
    monkeypatch.setattr(journal_reader, "EXACT_ROWS", 50)
    monkeypatch.setattr(series, "EXACT_ROWS", 50)
    with JournalReader(tmp_path) as reader:
        assert set(read_series(reader, lambda name: False)[0]) == {"a", "b", "hidden"}


def test_kinds_are_the_narrowest_that_hold_every_value() -> None:
    builder = BlockBuilder()
    rows: list[dict[str, Any]] = [
        {"a": 1, "b": True, "c": None, "d": 1},
        {"a": 0.5, "b": 2, "c": 3, "d": "x"},
    ]
    for number, row in enumerate(rows, 1):
        builder.add(number, number, row)
    assert kinds([builder.take()]) == {"a": "float", "b": "int", "c": "int", "d": "str"}
    assert builder.rows == 0


def test_lines_made_by_template_are_those_made_one_by_one(tmp_path: Path) -> None:
    journal, clock = new(tmp_path), StepClock()
    values: list[Any] = [-7.0, 0.1 + 0.2, 1e9, -0.0, math.nan, math.inf, None]
    for number, value in enumerate(values, 1):
        tick = clock.tick()
        row = episode(number, reward=value) | ({"Rank": None} if number == 2 else {"Solved": number % 2 == 0})
        journal.record([EpisodeRow(tick, row), MoveRow(tick, number, 3 * number, [1], 0.5 * number, 1e-9)])
        journal.record(
            [ScalarRow(clock.tick(), {"Epoch": number, "epoch_loss": 1.0} if number > 3 else {"a": 1})]
        )
    journal.close()
    with JournalReader(tmp_path) as reader:
        for kind, count in (("epoch", 4), ("episode", 7), ("move", 7)):
            texts = list(journal_texts(reader, kind))
            assert texts == [str(line)[:-1] for line in journal_lines(reader, kind)]
            assert len(texts) == count
