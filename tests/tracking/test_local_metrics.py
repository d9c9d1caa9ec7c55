"""Metrics that a system keeps in the journal: no sink gets them, and the audit agrees."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from matrixrl.cli.main import main
from matrixrl.config import ConfigError, TrackingConfig
from matrixrl.tracking.audit import audit
from matrixrl.tracking.events import ScalarRow
from matrixrl.tracking.journal_reader import JournalReader
from matrixrl.tracking.run import open_run
from matrixrl.tracking.sinks import wandb_client
from matrixrl.tracking.sinks.registry import find_sink
from matrixrl.tracking.sinks.tensorboard import event_files, read_events
from matrixrl.tracking.spec import SystemSpec, delivered_metrics, spec_from_record

SPEC = SystemSpec("own", "p", {"Number": "int"}, local_metrics=("agent/*", "debug"))


def record(runs_dir: Path, **tracking: Any) -> Path:
    """A run whose second row has local metrics alone."""
    config = TrackingConfig(runs_dir=runs_dir, run_name="r", console="quiet", **tracking)
    run = open_run(config, system=SPEC, name_prefix="x", run_config={})
    rows = [
        {"return": 1.0, "agent/0/return": 0.5, "agent/1/return": 1.5, "debug": 3.0},
        {"agent/0/return": 0.5},
        {"return": 2.0, "debug/more": 1.0, "agents/count": 2.0},
        {"agent/1/return": 9.0},
    ]
    for row in rows:
        run.record([ScalarRow(run.clock.tick(), row)])
    run.finish("finished")
    return run.directory


DELIVERED = [(1, {"return": 1.0}), (3, {"return": 2.0, "debug/more": 1.0, "agents/count": 2.0})]


def test_the_journal_has_all_and_rows_for_sinks_do_not(tmp_path: Path) -> None:
    directory = record(tmp_path)
    with JournalReader(directory) as reader:
        assert reader.local_metrics == ("agent/*", "debug")
        assert len(next(iter(reader.stream())).metrics) == 4
        rows = reader.deliverable(0, 10)
        assert [row.step for row in rows] == [1, 2, 3, 4]  # the cursor passes the empty ones
        assert [(row.step, row.metrics) for row in rows if row.metrics] == DELIVERED
        assert reader.recorded_rows(1, 2) == {1: [{"return": 1.0}], 2: [{}]}


def test_a_sink_gets_the_rest_once_and_the_audit_agrees(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = record(tmp_path)
    for _ in range(2):
        assert main(["runs", "sync", "r", "--to", "tensorboard", "--runs-dir", str(tmp_path)]) == 0
    stored = find_sink("tensorboard").sink.read_rows(directory)
    assert stored is not None
    assert [(row.step, row.values) for row in stored] == DELIVERED
    exported = ["runs", "export", "r", "--format", "tensorboard", "--runs-dir", str(tmp_path)]
    assert main([*exported, "--out", str(tmp_path / "out")]) == 0
    (file,) = event_files(tmp_path / "out" / "tensorboard")
    assert [(event.step, event.values) for event in read_events(file) if event.values] == DELIVERED
    report = audit(directory, server=False)
    assert report.agrees, report.gaps
    assert "metrics agent/*, debug stay in the journal: no tracker gets them" in report.notes
    assert main(["runs", "list", "--runs-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split()[-3] == "0"  # no row is pending


@pytest.mark.slow
def test_wandb_offline_gets_the_rest_and_the_audit_agrees(tmp_path: Path, environment: object) -> None:
    directory = record(tmp_path / "runs", wandb=True)
    rows = [row for path in wandb_client.fragments(directory) for row in wandb_client.offline_rows(path)]
    plain = [
        (row.step, {name: value for name, value in row.values.items() if name[0] != "_"}) for row in rows
    ]
    assert plain == DELIVERED
    report = audit(directory)
    assert report.agrees, report.gaps


def test_patterns() -> None:
    row = {"a/b": 1, "a": 2, "ab/c": 3, "x.y": 4, "xzy": 5}
    assert delivered_metrics(row, ()) == row
    assert list(delivered_metrics(row, ("a/*",))) == ["a", "ab/c", "x.y", "xzy"]
    assert list(delivered_metrics(row, ("a*", "x.y"))) == ["xzy"]


def test_the_spec_records_them_and_refuses_others() -> None:
    assert spec_from_record(SPEC.as_record(), "x") == SPEC
    assert "local_metrics" not in dataclasses.replace(SPEC, local_metrics=()).as_record()
    with pytest.raises(ConfigError, match="local_metrics must be a tuple"):
        dataclasses.replace(SPEC, local_metrics="agent/*")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="local_metrics must hold names"):
        spec_from_record(SPEC.as_record() | {"local_metrics": [1]}, "x")
