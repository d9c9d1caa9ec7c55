"""Both recorders satisfy the protocol that trainers are written for."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from matrixrl.config import TrackingConfig
from matrixrl.tracking.clock import StepClock
from matrixrl.tracking.events import LogMessage, ScalarRow
from matrixrl.tracking.recorder import NullRecorder, Recorder
from matrixrl.tracking.run import Run, open_run

PUBLIC = [name for name in vars(Recorder) if not name.startswith("_")] + ["__enter__", "__exit__"]
ATTRIBUTES = list(Recorder.__annotations__)


def recorder(kind: type[Any], folder: Path) -> Recorder:
    """The assignment is what pyright checks."""
    if kind is NullRecorder:
        null: Recorder = NullRecorder("matmul", "quiet", folder)
        return null
    config = TrackingConfig(runs_dir=folder, console="quiet")
    run: Recorder = open_run(config, system="matmul", name_prefix="m", run_config={})
    return run


def parameters(member: Any) -> Any:
    if isinstance(member, property):
        return "property"
    signature = inspect.signature(member)
    return [(p.name, p.kind, p.default) for p in signature.parameters.values()]


@pytest.mark.parametrize("kind", [Run, NullRecorder])
def test_a_recorder_has_every_member_of_the_protocol(kind: type[Any], tmp_path: Path) -> None:
    assert {"record", "finish", "restore_clock", "resumed"} <= set(PUBLIC)
    for name in PUBLIC:
        assert parameters(inspect.getattr_static(kind, name)) == parameters(
            inspect.getattr_static(Recorder, name)
        ), name
    with recorder(kind, tmp_path) as made:
        assert {"clock", "on_stop", "attempt"} <= set(ATTRIBUTES)
        assert all(hasattr(made, name) for name in ATTRIBUTES)


def test_no_recorder_inherits_from_another() -> None:
    assert not issubclass(NullRecorder, Run)
    assert "__init__" in vars(NullRecorder)


def test_the_null_recorder_has_a_clock_and_keeps_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with NullRecorder("matmul", "quiet", tmp_path) as run:
        run.restore_clock(7, 9)
        tick = run.clock.tick()
        run.record([ScalarRow(tick, {"loss": 1.0}), LogMessage(tick, "careful", "warning")])
        run.record_file(tmp_path / "x", kind="artifact")
        run.warn("careful")
        run.note("so be it")
        run.progress("training", 1, 2)
        run.copy_journal(tmp_path / "copy")
        run.discard()
        assert isinstance(run.clock, StepClock)
        assert (run.clock.step, run.recorded_until, run.logging_overhead_pct, run.resumed) == (
            8,
            0,
            0.0,
            False,
        )
    report = run.finish("interrupted")
    assert (report.status, report.pending_rows, report.command) == ("interrupted", 0, None)
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr() == ("", "")
