from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from matrixrl.config import ConfigError
from matrixrl.tracking.clock import StepClock
from matrixrl.tracking.events import EpisodeRow, ScalarRow, TableSnapshot
from matrixrl.tracking.journal import JOURNAL_FILE, JournalError
from matrixrl.tracking.journal_reader import JournalReader
from tests.tracking.test_journal import episode, new

ROWS = 2000


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    journal, clock = new(folder), StepClock()
    for _ in range(ROWS // 100):
        ticks = clock.advance(100)
        journal.record([EpisodeRow(tick, episode(tick.step)) for tick in ticks])
        journal.record([ScalarRow(tick, {"loss": 1 / tick.step}) for tick in ticks])
    journal.close()
    return folder


def copied(whole: Path, tmp_path: Path) -> Path:
    shutil.copy(whole / JOURNAL_FILE, tmp_path / JOURNAL_FILE)
    return tmp_path / JOURNAL_FILE


@pytest.mark.parametrize("share", [0.5, 0.75, 0.95])
def test_a_truncated_journal_is_read_as_far_as_it_is_good(whole: Path, tmp_path: Path, share: float) -> None:
    path = copied(whole, tmp_path)
    size = int(path.stat().st_size * share)
    with path.open("r+b") as file:
        file.truncate(size)
    with JournalReader(tmp_path) as reader:
        rows = list(reader.stream())
        episodes = list(reader.episodes())
        assert reader.damage
        assert str(path) in reader.damage[0]
    assert 100 < len(rows) + len(episodes) < 2 * ROWS
    for row in rows:
        assert row.metrics == {"loss": 1 / row.step}
    steps = [row.step for row in rows]
    assert steps == sorted(set(steps))


def test_a_bad_page_in_the_middle_costs_only_what_it_held(whole: Path, tmp_path: Path) -> None:
    path = copied(whole, tmp_path)
    data = bytearray(path.read_bytes())
    page = data.find(b'{"loss":0.001}') // 4096
    data[page * 4096 : (page + 1) * 4096] = b"\xff" * 4096
    path.write_bytes(bytes(data))
    with JournalReader(tmp_path) as reader:
        rows = list(reader.stream())
        assert reader.damage
        assert len(list(reader.episodes())) == ROWS
    assert {1, ROWS} <= {row.step for row in rows}
    assert ROWS - 300 < len(rows) < ROWS


def test_a_journal_of_which_nothing_is_good_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / JOURNAL_FILE).write_bytes(b"\0" * 5000)
    with pytest.raises(JournalError, match="nothing of this journal can be read") as caught:
        JournalReader(tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="no journal"):
        JournalReader(tmp_path / "nowhere")


def test_a_reader_sees_each_commit_while_the_run_is_written(tmp_path: Path) -> None:
    journal, clock = new(tmp_path), StepClock()
    with JournalReader(tmp_path) as reader:
        for _ in range(5):
            before = reader.data_version
            journal.record([ScalarRow(clock.tick(), {"a": 1})])
            assert reader.data_version != before
            assert [row.step for row in reader.stream()] == list(range(1, clock.step + 1))
    journal.close()


def test_a_row_and_a_table_mark_of_one_step_are_delivered_together(tmp_path: Path) -> None:
    journal, clock = new(tmp_path), StepClock()
    for number in range(1, 8):
        tick = clock.tick()
        journal.record([EpisodeRow(tick, episode(number)), ScalarRow(tick, {"a": number})])
        if number % 3 == 0:
            tick = clock.tick()
            journal.record([ScalarRow(tick, {"Epoch": number}), TableSnapshot(tick)])
    journal.record([TableSnapshot(clock.tick())])
    journal.close()
    with JournalReader(tmp_path) as reader:
        rows = []
        while batch := reader.deliverable(rows[-1].step if rows else 0, 2):
            rows += batch
        assert [row.step for row in rows] == list(range(1, 11))
        assert {row.step: row.table_rows for row in rows if row.table_rows} == {4: 3, 8: 6, 10: 7}
        assert rows[3].metrics == {"Epoch": 3}
        assert rows[-1].metrics == {}
        assert [reader.count_deliverable(after) for after in (0, 4, 10)] == [10, 6, 0]
        assert [row[0] for row in reader.last_episodes(8, 4)] == [3, 4, 5, 6]


def test_a_journal_in_a_folder_that_cannot_be_written_is_read(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    shutil.copy(whole / JOURNAL_FILE, folder)
    folder.chmod(0o555)
    try:
        with JournalReader(folder) as reader:
            assert reader.count("stream") == ROWS
    finally:
        folder.chmod(0o755)


def test_the_best_value_of_a_column_is_found(whole: Path) -> None:
    with JournalReader(whole) as reader:
        assert reader.best("Rank", True, "Solved") == 7
        assert reader.best("Reward", False) == -7.0
