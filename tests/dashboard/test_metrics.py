"""Curves: exact where there are few rows, and thinned without a lost extreme where there are many."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from matrixrl.dashboard import metrics
from matrixrl.dashboard.metrics import MetricHistories, MetricHistory, thinned
from matrixrl.systems.matmul.spec import SPEC as MATMUL
from matrixrl.systems.ppo.spec import SPEC
from matrixrl.tracking import journal_reader, series
from matrixrl.tracking.events import ScalarRow
from matrixrl.tracking.journal_reader import JournalReader
from tests.cli.runs_made import make_run, open_made
from tests.dashboard.client import Client
from tests.dashboard.runs_made import returns


def curves(client: Client, **parameters: Any) -> dict[str, list[dict[str, Any]]]:
    response = client.get("/api/series", params=parameters)
    assert response.status_code == 200, response.text
    return response.json()["curves"]


def test_a_short_curve_is_exact(client: Client) -> None:
    (curve,) = curves(client, run="seed-1", metric="episode/return")["episode/return"]
    assert curve["run"] == "seed-1"
    assert curve["x"] == [10 * (i + 1) for i in range(40)]
    assert curve["y"] == curve["low"] == curve["high"] == [2 * i for i in range(40)]


def test_several_runs_and_metrics(client: Client) -> None:
    found = curves(
        client, run=["seed-0", "other-rate"], metric=["episode/return", "train/total_loss", "absent"]
    )
    assert [curve["run"] for curve in found["episode/return"]] == ["seed-0", "other-rate"]
    assert len(found["train/total_loss"][1]["x"]) == 20
    assert found["absent"] == []


def test_a_band_over_seeds_is_mean_and_interval(client: Client) -> None:
    keys = ["seed-0", "seed-1", "seed-2"]
    (curve,) = curves(client, run=keys, metric="episode/return", band=1)["episode/return"]
    assert curve["runs"] == keys
    values = np.array([[(seed + 1) * i for i in range(40)] for seed in range(3)], float)
    half = 1.96 * values.std(0, ddof=1) / math.sqrt(3)
    np.testing.assert_allclose(curve["y"], values.mean(0))
    np.testing.assert_allclose(curve["low"], values.mean(0) - half)
    np.testing.assert_allclose(curve["high"], values.mean(0) + half)


def test_axes(client: Client) -> None:
    (by_epoch,) = curves(client, run="matmul-1", metric="epoch_loss", x="epoch")["epoch_loss"]
    assert by_epoch["x"] == [1, 2, 3, 4, 5, 6]
    (by_time,) = curves(client, run="seed-0", metric="episode/return", x="time")["episode/return"]
    assert by_time["x"] == sorted(by_time["x"])
    assert 0 <= by_time["x"][0] < by_time["x"][-1] < 600
    # A run without epochs has no curve over epochs.
    (without,) = curves(client, run="seed-0", metric="episode/return", x="epoch")["episode/return"]
    assert len(without["x"]) == 40


def test_a_part_of_a_curve(client: Client) -> None:
    parameters = {"run": "seed-0", "metric": "episode/return", "from": 100, "to": 200}
    (curve,) = curves(client, **parameters)["episode/return"]
    assert curve["x"] == [90, *range(100, 201, 10), 210]  # and a neighbour on each side
    (nothing,) = curves(client, **{**parameters, "from": 101, "to": 105})["episode/return"]
    assert nothing["x"] == [100, 110]


def test_thinning_keeps_extremes() -> None:
    rng = np.random.default_rng(0)
    count = 100_000
    values = rng.normal(size=count)
    values[[12_345, 77_777]] = 50.0, -50.0
    ones = np.ones(count)
    curve = thinned(np.stack([np.arange(count, dtype=float), values, values, values, ones]), 500)
    assert len(curve.x) == 500
    assert curve.high.max() == 50
    assert curve.low.min() == -50
    assert (np.diff(curve.x) > 0).all()
    assert ((curve.low <= curve.y) & (curve.y <= curve.high)).all()
    width = count / 500
    np.testing.assert_allclose(curve.y[0], values[: int(width)].mean(), atol=1e-2)


@pytest.fixture
def long_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of 3,000 rows for which 500 count as many, with two extremes and epochs."""
    for module in (metrics, journal_reader, series):
        monkeypatch.setattr(module, "EXACT_ROWS", 500)
    run = open_made(tmp_path, "long", None, MATMUL)
    rows = []
    for number, tick in enumerate(run.clock.advance(3_000)):
        value = 99.0 if number == 1_234 else -99.0 if number == 2_001 else math.sin(number / 100)
        row: dict[str, float] = {"pretrain/loss": value}
        if number % 100 == 99:
            row |= {"Epoch": number // 100 + 1, "epoch_loss": float(number)}
        rows.append(ScalarRow(tick, row))
    run.record(rows)
    run.finish("finished")
    return run.directory


def test_a_long_run_is_read_from_summaries(long_run: Path) -> None:
    history = MetricHistory(long_run)
    history.update(["pretrain/loss", "epoch_loss"])
    assert history.num_rows == 3_000
    assert history.names["epoch_loss"] == 2_999
    column = history.entries("pretrain/loss")
    assert column.shape[1] < 200
    assert column[4].sum() == 3_000
    curve = history.curve("pretrain/loss", 20)
    assert (curve.high.max(), curve.low.min()) == (99, -99)
    # Metrics of an epoch are summarised over epochs; their steps are found again.
    of_epochs = history.curve("epoch_loss", 1_000)
    np.testing.assert_allclose(of_epochs.x, of_epochs.y + 1)
    assert history.curve("epoch_loss", 1_000, "epoch").x[-1] == pytest.approx(29.5)


def test_a_part_of_a_long_run_is_read_from_its_rows(long_run: Path) -> None:
    history = MetricHistory(long_run)
    history.update(["pretrain/loss"])
    curve = history.curve("pretrain/loss", 1_000, first=1_200, last=1_300)
    assert len(curve.x) == 101
    assert curve.y[list(curve.x).index(1_235)] == 99


def test_a_metric_that_is_asked_for_later_is_complete(long_run: Path) -> None:
    together, apart = MetricHistory(long_run), MetricHistory(long_run)
    together.update(["pretrain/loss", "epoch_loss"])
    apart.update(["epoch_loss"])
    apart.update(["pretrain/loss"])
    assert apart.num_rows == together.num_rows
    np.testing.assert_array_equal(apart.entries("pretrain/loss"), together.entries("pretrain/loss"))


def test_rows_without_summaries_are_summarised(long_run: Path) -> None:
    import sqlite3

    with sqlite3.connect(long_run / "journal.sqlite") as connection:
        connection.execute("DELETE FROM stream_blocks")
    connection.close()
    history = MetricHistory(long_run)
    history.update(["pretrain/loss"])
    curve = history.curve("pretrain/loss", 20)
    assert (curve.high.max(), curve.low.min()) == (99, -99)
    assert history.entries("pretrain/loss")[4].sum() == 3_000


def test_a_curve_grows_with_its_run(tmp_path: Path) -> None:
    run = open_made(tmp_path, "growing", None, SPEC)
    history = MetricHistory(run.directory)
    history.update()
    assert history.names == {}
    for number in range(3):
        run.record([ScalarRow(run.clock.advance()[-1], {"episode/return": float(number)})])
        history.update(["episode/return"])
        assert history.curve("episode/return", 100).y.tolist() == list(range(number + 1))
    run.record([ScalarRow(run.clock.advance()[-1], {"new": 7.0, "episode/return": math.nan})])
    history.update(["new"])
    assert history.curve("new", 100).x.tolist() == [4]
    assert history.curve("episode/return", 100).y.tolist() == [0, 1, 2]  # NaN is no point
    run.finish("finished")


def test_rows_that_a_resumed_run_replaced_leave_the_curve(tmp_path: Path) -> None:
    from matrixrl.config import TrackingConfig
    from matrixrl.tracking.run import open_run

    folder = make_run(tmp_path, "resumed", returns(10), status="interrupted")
    history = MetricHistory(folder)
    history.update(["episode/return"])
    assert history.curve("episode/return", 100).y.tolist() == list(range(10))
    tracking = TrackingConfig(runs_dir=tmp_path, resume_run="resumed", console="quiet")
    run = open_run(tracking, system=SPEC, name_prefix="x", run_config={})
    run.restore_clock(40)
    for value in (70.0, 80.0):
        run.record([ScalarRow(run.clock.advance(10)[-1], {"episode/return": value})])
    history.update(["episode/return"])
    assert history.curve("episode/return", 100).y.tolist() == [0, 1, 2, 3, 70, 80]
    run.finish("finished")


def test_memory_is_bounded(tmp_path: Path) -> None:
    folders = [make_run(tmp_path, f"run-{i}", returns(50)) for i in range(4)]
    with MetricHistories().of(folders[0]) as history:
        history.update()
        size = history.size_bytes
    histories = MetricHistories(max_bytes=int(2.5 * size))
    for folder in folders:
        with histories.of(folder) as history:
            history.update()
    assert [path.name for path in histories._known] == ["run-2", "run-3"]


def test_csv_has_every_row(client: Client) -> None:
    parameters = {"run": ["seed-0", "seed-1"], "metric": "episode/return"}
    response = client.get("/api/series.csv", params=parameters)
    assert response.headers["content-disposition"].startswith("attachment")
    rows = list(csv.DictReader(io.StringIO(response.text)))
    assert len(rows) == 80
    assert [float(row["episode/return"]) for row in rows[-2:]] == [76, 78]
    assert rows[0]["step"] == "10"


def test_csv_holds_no_formula(client: Client) -> None:
    response = client.get("/api/series.csv", params={"run": "-rf", "metric": "=cmd()"})
    head, first, *_ = response.text.splitlines()
    assert head == "run,step,seconds,'=cmd()"
    assert first.startswith("'-rf,1,")


def test_curves_are_those_of_the_journal(client: Client, runs_dir: Path) -> None:
    """All metrics of a run of many agents, against the reader that the other commands use."""
    names = client.get("/api/runs/many/metrics").json()["metrics"]
    with JournalReader(runs_dir / "many") as reader:
        expected: dict[str, list[float]] = {}
        for row in reader.stream():
            for name, value in row.metrics.items():
                expected.setdefault(name, []).append(value)
    assert list(names) == list(expected)
    found = curves(client, run="many", metric=list(names))
    assert {name: curve["y"] for name, (curve,) in found.items()} == expected
