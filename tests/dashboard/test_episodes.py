"""The episode table: pages, sorted and filtered as a plain loop over the rows would do it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from matrixrl.config import ConfigError
from matrixrl.dashboard.episodes import EpisodeIndex, EpisodeIndexes, TableColumn, parsed_condition
from matrixrl.systems.matmul.spec import SPEC as MATMUL
from matrixrl.tracking.journal_reader import JournalReader
from tests.cli.runs_made import open_made
from tests.dashboard.client import Client
from tests.dashboard.runs_made import episode, make_matmul, record_episodes

COLUMNS = MATMUL.episode_columns
ALL = [list(episode(number).values()) for number in range(1, 31)]


def get(client: Client, **parameters: Any) -> dict[str, Any]:
    response = client.get("/api/runs/matmul-1/episodes", params=parameters)
    assert response.status_code == 200, response.text
    return response.json()


def position(name: str) -> int:
    return list(COLUMNS).index(name)


def test_pages_have_every_row_once(client: Client) -> None:
    rows = [row for start in (0, 12, 24) for row in get(client, start=start, count=12)["rows"]]
    assert rows == ALL
    page = get(client)
    assert page["columns"] == dict(COLUMNS)
    assert (page["total"], page["matching"]) == (30, 30)
    assert page["steps"][:6] == [1, 2, 3, 4, 5, 7]  # the row of the epoch is between them


@pytest.mark.parametrize("column", list(COLUMNS))
def test_each_column_sorts(client: Client, column: str) -> None:
    at = position(column)
    rising = sorted(ALL, key=lambda row: row[at])
    assert get(client, sort=column, count=30)["rows"] == rising
    falling = get(client, sort=column, descending=1, count=30)["rows"]
    assert falling == rising[::-1]


@pytest.mark.parametrize(
    ("where", "keep"),
    [
        (["Reward:>=-5"], lambda row: row[3] >= -5),
        (["Reward:< -5"], lambda row: row[3] < -5),
        (["Rank:7..8"], lambda row: 7 <= row[5] <= 8),
        (["Rank:7"], lambda row: row[5] == 7),
        (["Rank:!=7"], lambda row: row[5] != 7),
        (["Solved:yes"], lambda row: row[7]),
        (["Solved:no", "Epoch:>4"], lambda row: not row[7] and row[1] > 4),
        (["Rank:>100"], lambda row: False),
    ],
)
def test_filters(client: Client, where: list[str], keep: Any) -> None:
    expected = [row for row in ALL if keep(row)]
    page = get(client, where=where, count=30)
    assert page["rows"] == expected
    assert (page["matching"], page["total"]) == (len(expected), 30)
    page = get(client, where=where, count=30, sort="Reward", descending=1)
    assert page["rows"] == sorted(expected, key=lambda row: row[3])[::-1]


def test_conditions_name_what_is_wrong() -> None:
    assert parsed_condition("Rank: 7 .. 9 ", COLUMNS)[1:3] == (7, 9)
    assert parsed_condition("a:b:>=3", {"a": "str", "a:b": "int"}).column == "a:b"
    for text, named in (
        ("Rang:3", "Global Episode"),
        ("Rank:>=7..9", "LOW..HIGH"),
        ("Rank:nan", "a number"),
        ("Rank:", "a number"),
    ):
        with pytest.raises(ConfigError, match=named):
            parsed_condition(text, COLUMNS)


def test_a_table_grows_with_its_run(tmp_path: Path) -> None:
    run = open_made(tmp_path, "growing", None, MATMUL)
    table = EpisodeIndex(run.directory)

    def rewards() -> list[float]:
        with JournalReader(run.directory) as reader:
            table.update(reader, ["Reward"])
            ids, matching, total = table.select("Reward", False, [], 0, 1_000)
            assert matching == total == len(ids)
            return [row.values[3] for row in reader.episode_rows(ids)]  # type: ignore[misc]

    assert rewards() == []
    last = 0
    for count in (1, 2, 20, 3, 1):
        record_episodes(run, range(last + 1, last + count + 1))
        last += count
        assert rewards() == sorted(episode(number)["Reward"] for number in range(1, last + 1))
    run.finish("finished")


def test_rows_that_a_resumed_run_replaced_leave_the_table(tmp_path: Path) -> None:
    from matrixrl.config import TrackingConfig
    from matrixrl.tracking.events import EpisodeRow
    from matrixrl.tracking.run import open_run

    run = open_made(tmp_path, "resumed", None, MATMUL)
    record_episodes(run, range(1, 11))
    run.finish("interrupted")
    table = EpisodeIndex(run.directory)
    with JournalReader(run.directory) as reader:
        table.update(reader, ["Rank"])
        assert table.select(None, False, [], 0, 100)[2] == 10
    tracking = TrackingConfig(runs_dir=tmp_path, resume_run="resumed", console="quiet")
    run = open_run(tracking, system=MATMUL, name_prefix="x", run_config={})
    run.restore_clock(6)
    run.record([EpisodeRow(run.clock.advance()[-1], episode(7, Rank=77))])
    with JournalReader(run.directory) as reader:
        table.update(reader, ["Rank", "Reward"])
        ids, _, total = table.select("Rank", True, [], 0, 1)
        assert total == 7
        assert reader.episode_rows(ids)[0].values[5] == 77
    run.finish("finished")


def test_a_new_column_and_new_rows_at_once(tmp_path: Path) -> None:
    run = open_made(tmp_path, "both", None, MATMUL)
    table = EpisodeIndex(run.directory)
    for last, column in ((5, "Rank"), (9, "Reward"), (14, "Steps")):
        record_episodes(run, range(table.select(None, False, [], 0, 1)[2] + 1, last + 1))
        with JournalReader(run.directory) as reader:
            table.update(reader, [column])
            for name in table._columns:
                assert len(table._columns[name].values) == last
                ids, _, total = table.select(name, False, [], 0, 100)
                assert len(ids) == total == last
    run.finish("finished")


def test_orders_are_merged_as_if_sorted_at_once() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 20, 500).astype(float)
    values[rng.integers(0, 500, 60)] = math.nan
    merged, at_once = TableColumn("float"), TableColumn("float")
    at_once.extend(values.tolist())
    for part in np.split(values, [200, 230, 231, 300, 400]):
        merged.extend(part.tolist())
        merged.order()
    np.testing.assert_array_equal(merged.order(), at_once.order())
    ends = np.isnan(values[at_once.order()])
    assert not ends[: -int(ends.sum())].any()  # rows without a value are last


def test_texts_sort_and_filter() -> None:
    column = TableColumn("str")
    column.extend(["b", "a", "c", "a"])
    assert column.order().tolist() == [1, 3, 0, 2]
    column.extend(["aa"])
    assert column.order().tolist() == [1, 3, 4, 0, 2]
    condition = parsed_condition("x:A", {"x": "str"})
    assert column.matching(condition).tolist() == [False, True, False, True, True]


def test_missing_values_stay_last() -> None:
    column = TableColumn("int")
    column.extend([3, None, 1, None, 2])
    assert column.order().tolist() == [2, 4, 0, 1, 3]
    assert not column.matching(parsed_condition("x:!=3", {"x": "int"}))[1]


def test_memory_is_bounded(tmp_path: Path) -> None:
    folders = [make_matmul(tmp_path, f"run-{i}", 20) for i in range(3)]
    tables = EpisodeIndexes(max_bytes=1)
    for folder in folders:
        with tables.of(folder) as table, JournalReader(folder) as reader:
            table.update(reader, ["Rank"])
    assert not tables._known
