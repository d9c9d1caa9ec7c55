from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from matrixrl.config import ConfigError, TrackingConfig
from matrixrl.tracking.benchmark import (
    Slowdown,
    Timing,
    as_json,
    as_table,
    benchmark,
    compare,
    wait_for_start,
)
from matrixrl.tracking.events import ScalarRow
from matrixrl.tracking.run import open_run


def test_runs_alternate_and_each_is_compared_with_its_neighbour() -> None:
    order: list[str] = []
    speed = {"alone": iter([9.0, 10.0, 20.0, 10.0, 20.0, 10.0]), "with": iter([10.1, 20.4, 10.1, 20.2, 10.1])}

    def run(name: str):
        def call() -> float:
            order.append(name)
            return next(speed[name])

        return call

    (result,) = compare({"alone": run("alone"), "with": run("with")}, "alone", pairs=5)
    assert order == ["alone", *["alone", "with", "with", "alone"] * 2, "alone", "with"]
    assert result.slowdowns_pct == pytest.approx((1.0, 2.0, 1.0, 1.0, 1.0))
    assert result.median_pct == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("slowdowns", "verdict"),
    [
        ((0.1, 0.2, 0.3, 0.1, 0.2), "below 1 %"),
        ((-0.5, -0.2, 0.1, 0.1, 0.2), "below 1 %"),
        ((3.0, 2.0, 4.0, 3.0, 2.0), "above 1 %"),
        (
            (-5.0, 0.2, 0.3, 4.0, 6.0),
            "below 1 % by the median, but the spread reaches across: run more pairs",
        ),
    ],
)
def test_the_verdict_follows_the_spread(slowdowns: tuple[float, ...], verdict: str) -> None:
    result = Slowdown("wandb", 1.0, 1.0, slowdowns)
    assert result.verdict == verdict
    assert result.verdict in as_table([result])
    record = json.loads(json.dumps(as_json([result])))
    assert record["pairs"] == 5
    assert record["trackers"]["wandb"]["verdict"] == verdict


def test_every_tracker_is_run_offline_and_leaves_nothing_behind(
    tmp_path: Path,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("WANDB_MODE")
    seen: list[tuple[str, bool, str | None]] = []

    def train(config: TrackingConfig) -> float:
        seen.append((config.console, config.wandb, os.environ.get("WANDB_MODE")))
        # Without --wandb here: starting six delivery processes is the business of the benchmarks.
        with open_run(
            TrackingConfig(runs_dir=config.runs_dir, console=config.console),
            system="matmul",
            name_prefix="m",
            run_config={},
        ) as run:
            run.record([ScalarRow(run.clock.tick(), {"loss": 1.0})])
        return 1.0

    results = benchmark(train, TrackingConfig(runs_dir=tmp_path / "runs", console="episodes", wandb=True))
    assert [result.variant for result in results] == ["console", "wandb"]
    assert seen.count(("quiet", False, "offline")) == 6
    assert seen.count(("episodes", False, "offline")) == 5
    assert seen.count(("episodes", True, "offline")) == 5
    assert not (tmp_path / "runs").exists()
    assert "WANDB_MODE" not in os.environ


def test_fewer_than_five_pairs_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 5"):
        benchmark(lambda config: 1.0, TrackingConfig(), pairs=4)


def test_the_start_of_wandb_is_no_cost_of_rows(tmp_path: Path) -> None:
    def train(config: TrackingConfig) -> Timing:
        return Timing(2.02 if config.wandb else 2.0, 3.0 if config.wandb else None)

    results = benchmark(train, TrackingConfig(runs_dir=tmp_path, wandb=True))
    console, wandb = results
    assert (console.start_seconds, wandb.start_seconds) == (None, 3.0)
    assert wandb.median_pct == pytest.approx(1.0)
    assert "wandb: ready 3.00 s after the run began" in as_table(results)


def test_a_run_is_waited_for_until_wandb_takes_its_rows(tmp_path: Path, environment: dict[str, str]) -> None:
    config = TrackingConfig(runs_dir=tmp_path, wandb=True, console="quiet")
    with open_run(config, system="matmul", name_prefix="m", run_config={}) as run:
        assert wait_for_start(run.directory)
    (tmp_path / "none").mkdir()
    assert not wait_for_start(tmp_path / "none", timeout=0.1)
