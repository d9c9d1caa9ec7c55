from __future__ import annotations

import csv
import math
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from matrixrl.config import ConfigError
from matrixrl.tracking.clock import StepClock
from matrixrl.tracking.events import EpisodeRow, MoveRow, ScalarRow
from matrixrl.tracking.export import default_form, export
from matrixrl.tracking.journal_reader import JournalReader
from matrixrl.tracking.parquet import PART_ROWS, part_name, write_episode_parts
from tests.tracking.test_journal import episode, new, resumed


@pytest.fixture
def run(tmp_path: Path) -> Path:
    journal, clock = new(tmp_path), StepClock(lambda: 1.5)
    ticks = clock.advance(4)
    journal.record(
        [
            ScalarRow(ticks[0], {"loss": 0.1, "count": 1}),
            MoveRow(ticks[1], 1, 1, [0, -1], -1.0, 2.0),
            EpisodeRow(ticks[1], episode(1) | {"Rank": None, "Solved": False}),
            ScalarRow(ticks[2], {"loss": math.nan}),
            ScalarRow(ticks[3], {"count": 3, "best": 7}),
        ]
    )
    journal.close()
    return tmp_path


def test_parquet_holds_the_same_values(run: Path) -> None:
    with JournalReader(run) as reader:
        assert export(reader, run / "out", "parquet") == {
            "scalars.parquet": 3,
            "episodes.parquet": 1,
            "moves.parquet": 1,
        }
    scalars = pq.read_table(run / "out" / "scalars.parquet").to_pydict()
    assert scalars["step"] == [1, 3, 4]
    assert scalars["count"] == [1, None, 3]
    assert scalars["loss"][0] == 0.1
    assert math.isnan(scalars["loss"][1])
    (row,) = pq.read_table(run / "out" / "episodes.parquet").to_pylist()
    assert row == {"step": 2, "time": 1.5, **episode(1), "Rank": None, "Solved": False}
    assert pq.read_table(run / "out" / "moves.parquet").to_pylist()[0]["action"] == "0 -1"


def test_csv_holds_the_same_values(run: Path) -> None:
    with JournalReader(run) as reader:
        export(reader, run / "out", "csv")
    with (run / "out" / "scalars.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {"step": "1", "time": "1.5", "attempt": "1", "loss": "0.1", "count": "1", "best": ""}
    assert [row["loss"] for row in rows] == ["0.1", "nan", ""]


def test_without_pyarrow_csv_is_the_default_and_parquet_is_refused(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert default_form() == "parquet"
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert default_form() == "csv"
    with JournalReader(run) as reader:
        with pytest.raises(ConfigError, match=r"--format parquet: needs pyarrow.*--format csv.*wandb"):
            export(reader, run / "out", "parquet")
        assert not (run / "out").exists()
        assert export(reader, run / "out", default_form()) == {
            "scalars.csv": 3,
            "episodes.csv": 1,
            "moves.csv": 1,
        }


def test_an_empty_run_is_exported_as_empty_tables(tmp_path: Path) -> None:
    new(tmp_path).close()
    with JournalReader(tmp_path) as reader:
        assert export(reader, tmp_path / "out", "parquet") == {"scalars.parquet": 0, "episodes.parquet": 0}


def test_a_folder_that_cannot_be_written_is_told(run: Path) -> None:
    (run / "file").write_text("")
    with JournalReader(run) as reader, pytest.raises(ConfigError, match="--out"):
        export(reader, run / "file", "csv")


def test_full_parts_of_the_episode_table_are_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("matrixrl.tracking.parquet.PART_ROWS", 10)
    journal, clock = new(tmp_path), StepClock()
    folder = tmp_path / "history"
    written = []

    def number(step: int) -> int:
        """Of three games that are played at once, the third ends first."""
        return step + 2 if step % 3 == 1 else step - 1

    with JournalReader(tmp_path) as reader:
        for batch in range(5):
            for _ in range(7):
                tick = clock.tick()
                journal.record([EpisodeRow(tick, episode(number(tick.step)))])
            total, rows = write_episode_parts(reader, folder)
            assert total == 7 * (batch + 1)
            written.append(rows)
        assert written == [7, 14, 11, 8, 15]
        stored = [
            n
            for part in sorted(folder.iterdir())
            for n in pq.read_table(part).column("Global Episode").to_pylist()
        ]
        assert stored == [number(step) for step in range(1, 36)]
        journal.close()
        # A resumed run that comes out different from episode 18 on: the parts from there are written anew.
        journal, clock = resumed(tmp_path, 17)
        for _ in range(6):
            tick = clock.tick()
            journal.record([EpisodeRow(tick, episode(number(tick.step), reward=99.0))])
        journal.close()
        assert write_episode_parts(reader, folder) == (23, 13)
        rewards = [
            r for part in sorted(folder.iterdir()) for r in pq.read_table(part).column("Reward").to_pylist()
        ]
        assert rewards == [-7.0] * 17 + [99.0] * 6
    assert part_name(3) == "episodes-00003.parquet"
    assert PART_ROWS == 10_000
