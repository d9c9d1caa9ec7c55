from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matrixrl.config import ConfigError
from matrixrl.systems.matmul.spec import EPISODE_COLUMNS as MATMUL_EPISODE_COLUMNS
from matrixrl.tracking.clock import StepClock
from matrixrl.tracking.events import (
    EpisodeRow,
    Event,
    FileRow,
    LogMessage,
    MoveRow,
    ScalarRow,
    TableSnapshot,
)
from matrixrl.tracking.journal import JOURNAL_FILE, Journal, JournalError
from matrixrl.tracking.journal_reader import JournalReader
from tests.tracking.conftest import TRAINER

META = {"name": "r", "run_id": "id", "system": "matmul", "config": {}}


def new(folder: Path) -> Journal:
    return Journal.create(folder / JOURNAL_FILE, META, MATMUL_EPISODE_COLUMNS)


def resumed(folder: Path, step: int) -> tuple[Journal, StepClock]:
    journal = Journal.resume(folder / JOURNAL_FILE, {})
    clock = StepClock()
    clock.restore(step)
    journal.started_at(step)
    return journal, clock


def episode(number: int, reward: float = -7.0) -> dict[str, Any]:
    values = [number, 1, number, reward, 0.0, 7, 7, True]
    return dict(zip(MATMUL_EPISODE_COLUMNS, values, strict=True))


def history(folder: Path) -> list[tuple[int, dict[str, Any]]]:
    with JournalReader(folder) as reader:
        return [(row.step, row.metrics) for row in reader.stream()]


def test_what_was_recorded_is_read_back_by_kind(tmp_path: Path) -> None:
    journal, clock = new(tmp_path), StepClock(lambda: 12.5)
    ticks = clock.advance(2)
    journal.record(
        [
            MoveRow(ticks[0], 1, 1, [0, 1, -1], -1.0, 5.0),
            EpisodeRow(ticks[1], episode(1)),
            ScalarRow(ticks[1], {"episode/reward": -7.0, "count": 3}),
            TableSnapshot(ticks[1]),
            FileRow(ticks[1], "checkpoint", "c/1", "ab", 10, 0.5, ("best",)),
            LogMessage(ticks[1], "careful", "warning"),
        ],
        system={"cpu_percent": 3.0},
    )
    journal.close()
    with JournalReader(tmp_path) as reader:
        (row,) = reader.stream()
        assert row == (2, 1, 12.5, {"episode/reward": -7.0, "count": 3}, None)
        assert [e.values for e in reader.episodes()] == [(1, 1, 1, -7.0, 0.0, 7, 7, True)]
        assert next(reader.episodes()).values[-1] is True
        (move,) = reader.moves()
        assert (move.step, move.action, move.residual) == (1, [0, 1, -1], 5.0)
        assert [mark[:3] for mark in reader.marks()] == [(2, 1, 1)]
        assert [file.aliases for file in reader.files()] == [["best"]]
        assert [note.text for note in reader.notes()] == ["careful"]
        assert [sample.metrics for sample in reader.system()] == [{"cpu_percent": 3.0}]
        assert reader.meta["run_id"] == "id"
        assert reader.last_step() == 2
        assert not reader.damage


def test_rows_of_one_step_are_merged_in_one_call(tmp_path: Path) -> None:
    journal, clock = new(tmp_path), StepClock()
    tick = clock.tick()
    journal.record([ScalarRow(tick, {"a": 1}), ScalarRow(tick, {"b": 2})])
    journal.close()
    assert history(tmp_path) == [(1, {"a": 1, "b": 2})]


def test_a_metric_twice_at_one_step_is_an_error_and_keeps_nothing(tmp_path: Path) -> None:
    journal, clock = new(tmp_path), StepClock()
    first, tick = clock.advance(2)
    with pytest.raises(ValueError, match="a recorded twice"):
        journal.record([ScalarRow(first, {"x": 1}), ScalarRow(tick, {"a": 1}), ScalarRow(tick, {"a": 2})])
    journal.close()
    assert history(tmp_path) == []


@pytest.mark.parametrize("second", ["stream", "mark"])
def test_a_second_call_for_the_same_step_is_refused(tmp_path: Path, second: str) -> None:
    journal, clock = new(tmp_path), StepClock()
    tick = clock.tick()
    journal.record([ScalarRow(tick, {"a": 1})])
    event = ScalarRow(tick, {"b": 1}) if second == "stream" else TableSnapshot(tick)
    with pytest.raises(ValueError, match="one call"):
        journal.record([event])
    journal.close()


def test_an_epoch_metric_without_epoch_is_refused(tmp_path: Path) -> None:
    journal, clock = new(tmp_path), StepClock()
    with pytest.raises(ValueError, match="must carry Epoch"):
        journal.record([ScalarRow(clock.tick(), {"epoch_loss": 1.0})])
    journal.close()


def test_a_call_is_committed_whole_or_not_at_all(tmp_path: Path) -> None:
    journal, clock = new(tmp_path), StepClock()
    ticks = clock.advance(3)
    journal.record([EpisodeRow(ticks[0], episode(1))])
    with pytest.raises(ValueError, match="second row"):
        journal.record([ScalarRow(ticks[1], {"a": 1}), EpisodeRow(ticks[2], episode(1))])
    with pytest.raises(ValueError, match="columns"):
        journal.record([ScalarRow(ticks[1], {"a": 1}), EpisodeRow(ticks[2], {"Reward": 1.0})])
    journal.record([ScalarRow(ticks[1], {"a": 2})])
    journal.close()
    assert history(tmp_path) == [(2, {"a": 2})]
    with JournalReader(tmp_path) as reader:
        assert reader.count("episodes") == 1


def test_numpy_scalars_are_kept_as_numbers(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    journal, clock = new(tmp_path), StepClock()
    ticks = clock.advance(2)
    row = episode(1) | {
        "Global Episode": numpy.int64(1),
        "Reward": numpy.float32(-0.5),
        "Solved": numpy.bool_(True),
    }
    journal.record(
        [ScalarRow(ticks[0], {"x": numpy.float32(0.1), "n": numpy.int32(4)}), EpisodeRow(ticks[1], row)]
    )
    journal.close()
    assert history(tmp_path) == [(1, {"x": float(numpy.float32(0.1)), "n": 4})]
    with JournalReader(tmp_path) as reader:
        assert next(reader.episodes()).values[3] == -0.5


def test_recomputed_rows_that_are_equal_are_not_written_again(tmp_path: Path) -> None:
    journal, clock = new(tmp_path), StepClock()

    def train(journal: Journal, clock: StepClock, until: int, speed: float) -> list[int]:
        recognised = []
        while clock.step < until:
            ticks = clock.advance(2)
            number = ticks[1].step // 2
            loss = float("nan") if number == 3 else 1 / number
            events: list[Event] = [
                MoveRow(ticks[0], number, 1, [1], -1.0, 2.0),
                EpisodeRow(ticks[1], episode(number, -float(number))),
                ScalarRow(ticks[1], {"loss": loss, "steps_per_second": speed}),
                TableSnapshot(ticks[1]),
            ]
            recognised.append(journal.record(events).recognised)
        return recognised

    train(journal, clock, 10, speed=1.0)
    journal.close()
    journal, clock = resumed(tmp_path, 4)
    assert journal.recorded_until == 10
    assert train(journal, clock, 14, speed=2.0) == [3, 3, 3, 0, 0]
    journal.close()
    with JournalReader(tmp_path) as reader:
        assert [row.attempt for row in reader.stream(history=False)] == [1] * 5 + [2] * 2
        assert [e.values[0] for e in reader.episodes()] == list(range(1, 8))
        assert [mark.step for mark in reader.marks(history=False)] == list(range(2, 15, 2))
        assert reader.ids("moves") == list(range(1, 8))


def test_rows_that_differ_are_both_kept_and_the_newer_is_the_history(tmp_path: Path) -> None:
    journal, clock = new(tmp_path), StepClock()
    for tick in clock.advance(6):
        journal.record([ScalarRow(tick, {"loss": float(tick.step)}), EpisodeRow(tick, episode(tick.step))])
    journal.close()
    journal, clock = resumed(tmp_path, 2)
    results = []
    for tick in clock.advance(3):
        loss = float(tick.step) if tick.step < 4 else 100.0
        results.append(
            journal.record([ScalarRow(tick, {"loss": loss}), EpisodeRow(tick, episode(tick.step))])
        )
    journal.close()
    assert [(r.recognised, r.differing, r.first_difference) for r in results] == [
        (2, 0, None), (0, 6, 4), (0, 0, None),
    ]  # fmt: skip
    assert history(tmp_path) == [
        (1, {"loss": 1.0}), (2, {"loss": 2.0}), (3, {"loss": 3.0}), (4, {"loss": 100.0}), (5, {"loss": 100.0}),
    ]  # fmt: skip
    with JournalReader(tmp_path) as reader:
        aside = [(row.step, row.superseded_by) for row in reader.stream(history=False) if row.attempt == 1]
        assert aside == [(1, None), (2, None), (3, None), (4, 2), (5, 2), (6, 2)]
        assert [e.values[0] for e in reader.episodes()] == [1, 2, 3, 4, 5]


def test_a_recorded_row_that_is_not_recomputed_leaves_the_history(tmp_path: Path) -> None:
    journal, clock = new(tmp_path), StepClock()
    for tick in clock.advance(4):
        journal.record([ScalarRow(tick, {"loss": 1.0})])
    journal.close()
    journal, clock = resumed(tmp_path, 1)
    clock.tick()
    result = journal.record([ScalarRow(clock.tick(), {"loss": 1.0})])
    journal.close()
    assert result.first_difference == 2
    assert [step for step, _ in history(tmp_path)] == [1, 3]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 12), st.integers(0, 12)), max_size=5), st.integers(1, 30))
def test_killed_and_resumed_at_any_step_the_history_is_that_of_an_undisturbed_run(
    tmp_path_factory: pytest.TempPathFactory, kills: list[tuple[int, int]], until: int
) -> None:
    """Each kill: how many steps the attempt gets, and how far before its end the checkpoint lies.

    Two games are played at once, and the second ends first.
    """
    numbers = [number for pair in range(1, 20, 2) for number in (pair + 1, pair)]
    folder = tmp_path_factory.mktemp("journal")
    journal, clock = new(folder), StepClock()

    def advance(count: int) -> None:
        for tick in clock.advance(min(count, until - clock.step)):
            events: list[Event] = [ScalarRow(tick, {"loss": 1 / tick.step})] if tick.step % 3 else []
            if tick.step % 2:
                events.append(EpisodeRow(tick, episode(numbers[tick.step // 2], 1 / tick.step)))
            journal.record(events)

    for steps, back in kills:
        advance(steps)
        checkpoint = max(clock.step - back, 0)
        journal.close()
        journal, clock = resumed(folder, checkpoint)
    advance(until)
    journal.close()
    assert history(folder) == [(s, {"loss": 1 / s}) for s in range(1, until + 1) if s % 3]
    with JournalReader(folder) as reader:
        assert [e.values[0] for e in reader.episodes()] == numbers[: (until + 1) // 2]
        assert not [row for row in reader.stream(history=False) if row.superseded_by]


def test_a_full_disk_stops_with_one_line_and_what_was_committed_is_readable(tmp_path: Path) -> None:
    """SQLite's own limit of pages gives the error that a full disk gives."""
    journal, clock = new(tmp_path), StepClock()
    journal.record([ScalarRow(clock.tick(), {"loss": 0.0})])
    journal._connection.execute("PRAGMA max_page_count = 40")
    committed = 1

    def record_for_ever() -> None:
        nonlocal committed
        while True:
            journal.record([ScalarRow(clock.tick(), {f"metric {i}": 1 / 3 for i in range(50)})])
            committed += 1

    with pytest.raises(JournalError, match=r"the disk is full.*--resume-run") as caught:
        record_for_ever()
    assert "\n" not in str(caught.value)
    journal.close()
    assert len(history(tmp_path)) == committed > 10


@pytest.mark.skipif(Path("/proc/self/uid_map").read_text().split()[:2] != ["0", "0"], reason="needs root")
def test_a_full_file_system_stops_the_trainer_with_one_line(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(small)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this machine does not allow a small file system to be mounted")
    try:
        done = subprocess.run(
            [sys.executable, str(TRAINER), str(small / "runs"), "--epochs", "100000", "--moves"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 2
        lines = done.stderr.splitlines()
        assert len(lines) == 1, lines
        assert "No space left" in lines[0] or "disk is full" in lines[0] or "disk I/O" in lines[0]
        (folder,) = (small / "runs").iterdir()
        with JournalReader(folder) as reader:
            episodes = [row.values[0] for row in reader.episodes()]
            assert episodes == list(range(1, len(episodes) + 1))
            assert len(episodes) > 10
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_newer_schema_is_refused_and_an_older_one_migrated(
    tmp_path: Path,
) -> None:
    journal, clock = new(tmp_path), StepClock()
    journal.record([ScalarRow(clock.tick(), {"loss": 1.0})])
    journal.close()
    path = tmp_path / JOURNAL_FILE
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(ConfigError, match=r"schema 99.*knows up to 2.*newer matrixrl"):
        Journal.resume(path, {})
    with pytest.raises(ConfigError, match="schema 99"):
        JournalReader(tmp_path)
    with sqlite3.connect(path) as connection:
        connection.executescript("DROP TABLE stream_blocks; PRAGMA user_version = 1;")
    connection.close()

    before = path.read_bytes()
    assert history(tmp_path) == [(1, {"loss": 1.0})]
    assert path.read_bytes() == before, "a reader migrated the journal"
    Journal.resume(path, {}).close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)
        assert connection.execute("SELECT count(*) FROM stream_blocks").fetchone() == (0,)
    connection.close()
    assert history(tmp_path) == [(1, {"loss": 1.0})]


def test_a_journal_that_cannot_be_continued_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    new(tmp_path).close()
    (tmp_path / JOURNAL_FILE).write_bytes(b"garbage" * 1000)
    with pytest.raises(JournalError, match="nothing was changed"):
        Journal.resume(tmp_path / JOURNAL_FILE, {})
    with pytest.raises(ConfigError, match="no journal"):
        Journal.resume(tmp_path / "nothing.sqlite", {})


def record_step(
    journal: Journal, clock: StepClock, numbers: list[int], step: tuple[float, int, bool]
) -> None:
    """Records a step: its loss, as many episodes as it says, and the table's mark if it says so.

    Args:
      numbers: the last number that an episode got; advanced.
    """
    loss, episodes, marked = step
    (tick,) = clock.advance(1)
    events: list[Event] = []
    for _ in range(episodes):
        numbers[0] += 1
        events.append(EpisodeRow(tick, episode(numbers[0])))
    events.append(ScalarRow(tick, {"loss": loss}))
    if marked:
        events.append(TableSnapshot(tick))
    journal.record(events)


def as_steps(losses: list[float], start: int) -> list[tuple[float, int, bool]]:
    """Returns steps that differ in their episodes where their losses do, as those of a real trainer."""
    return [
        (loss, (number + 2 * int(loss > 1.0)) % 3, number % 2 == 0)
        for number, loss in enumerate(losses, start)
    ]


LOSSES = st.lists(st.sampled_from([1.0, 1.5]), min_size=1, max_size=4)


@given(attempts=st.lists(LOSSES, min_size=3, max_size=3), data=st.data())
@settings(max_examples=40, deadline=None)
def test_the_history_is_what_the_newest_attempts_computed(
    attempts: list[list[float]], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("history")
    expected: list[Any] = []
    for number, losses in enumerate(attempts):
        start = data.draw(st.integers(0, len(expected))) if number else 0
        steps = as_steps(losses, start)
        if number:
            journal, clock = resumed(folder, start)
        else:
            journal, clock = new(folder), StepClock()
        # A run that stopped early leaves rows of earlier attempts behind it, until they are computed again.
        beyond = expected[start + len(steps) :] if expected[start : start + len(steps)] == steps else []
        expected = [*expected[:start], *steps, *beyond]
        numbers = [sum(episodes for _, episodes, _ in expected[:start])]
        for step in steps:
            record_step(journal, clock, numbers, step)
        journal.close()
    with JournalReader(folder) as reader:
        assert [row.metrics["loss"] for row in reader.stream()] == [loss for loss, _, _ in expected]
        ended = [step for step, (_, count, _) in enumerate(expected, 1) for _ in range(count)]
        assert [row.step for row in reader.episodes()] == ended
        assert [row.values[0] for row in reader.episodes()] == list(range(1, len(ended) + 1))
        marks = [step for step, (_, _, marked) in enumerate(expected, 1) if marked]
        assert [mark.step for mark in reader.marks()] == marks
        for mark in reader.marks():
            assert mark.rows == sum(count for _, count, _ in expected[: mark.step])


def test_an_equal_episode_stays_in_a_history_whose_numbers_differ(tmp_path: Path) -> None:
    for loss in (1.0, 1.5):
        journal, clock = (new(tmp_path), StepClock()) if loss == 1.0 else resumed(tmp_path, 0)
        record_step(journal, clock, [0], (loss, 1, True))
        journal.close()
    with JournalReader(tmp_path) as reader:
        assert [mark.rows for mark in reader.marks()] == [1]
        assert len(list(reader.episodes())) == 1


def test_an_episode_that_is_not_computed_again_leaves_the_history(tmp_path: Path) -> None:
    journal, clock = new(tmp_path), StepClock()
    record_step(journal, clock, [0], (1.0, 1, False))
    record_step(journal, clock, [1], (1.0, 1, False))
    journal.close()
    journal, clock = resumed(tmp_path, 0)
    record_step(journal, clock, [0], (1.0, 0, False))
    record_step(journal, clock, [0], (1.5, 1, False))
    journal.close()
    with JournalReader(tmp_path) as reader:
        assert [(row.step, row.values[0]) for row in reader.episodes()] == [(2, 1)]
