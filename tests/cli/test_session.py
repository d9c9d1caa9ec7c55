"""The command around a trainer: what happens when training diverges, shown with one that takes no time to compile."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from matrixrl.checkpoints.store import CheckpointStore
from matrixrl.cli import session
from matrixrl.config import (
    CheckpointConfig,
    ConfigError,
    OptimizerConfig,
    TrackingConfig,
    as_record,
    from_record,
    may_change_on_resume,
)
from matrixrl.tracking.audit import audit
from matrixrl.tracking.journal_reader import JournalReader
from matrixrl.tracking.spec import SystemSpec, resolve_spec
from tests.cli.descent import RESUMED, STEPS, Descent, DescentConfig, descend


def told(folder: Path) -> tuple[list[str], list[str]]:
    """Warnings and other notes of a run."""
    with JournalReader(folder) as reader:
        notes = list(reader.notes())
    return [n.text for n in notes if n.level == "warning"], [n.text for n in notes if n.level == "info"]


def test_a_diverging_run_stops_with_one_line_naming_metric_and_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert descend(tmp_path, rate=4.0) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "loss is -inf at step 81" in line
    assert "the last good checkpoint is checkpoints/80 (step 80)" in line
    assert f"matrixrl matmul train --resume-run r --runs-dir {tmp_path} --learning-rate 2" in line
    with JournalReader(tmp_path / "r") as reader:
        assert [attempt.status for attempt in reader.attempts()] == ["crashed"]


def test_a_diverging_run_goes_back_with_a_lower_rate_until_it_does_not_diverge(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert descend(tmp_path, rate=4.0, max_rollbacks=3, rollback_learning_rate_factor=0.6) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    result = json.loads(captured.out.splitlines()[-1])
    assert result["rate"] == pytest.approx(4.0 * 0.6**2)
    assert result["global_step"] == STEPS
    warnings, notes = told(tmp_path / "r")
    rollbacks = [text for text in warnings if "rollback" in text]
    assert len(rollbacks) == 2
    assert "loss is -inf at step 81" in rollbacks[0]
    assert (
        "checkpoints/80 (step 80); going back there with --learning-rate 2.4 (rollback 1 of 3)"
        in rollbacks[0]
    )
    assert "rollback 2 of 3" in rollbacks[1]
    assert [text for text in notes if text.startswith("changed on resume")] == [
        "changed on resume: optimizer.learning_rate from 4.0 to 2.4",
        f"changed on resume: optimizer.learning_rate from 2.4 to {2.4 * 0.6}",
    ]
    with JournalReader(tmp_path / "r") as reader:
        assert [attempt.status for attempt in reader.attempts()] == ["crashed", "crashed", "finished"]
        assert [row.step for row in reader.stream()] == list(range(1, STEPS + 1))
        assert reader.config()["optimizer"]["learning_rate"] == 2.4 * 0.6
    assert audit(tmp_path / "r").agrees


def test_a_single_nan_costs_one_rollback(tmp_path: Path) -> None:
    assert descend(tmp_path, rate=0.1, poisoned=(137,), max_rollbacks=1) == 0
    warnings, notes = told(tmp_path / "r")
    assert (
        "loss is nan at step 137: training diverged; the last good checkpoint is checkpoints/130"
        in warnings[0]
    )
    assert "changed on resume: optimizer.learning_rate from 0.1 to 0.05" in notes
    with JournalReader(tmp_path / "r") as reader:
        assert [row.attempt for row in reader.stream()] == [1] * 130 + [2] * (STEPS - 130)
    assert audit(tmp_path / "r").agrees


def test_without_a_checkpoint_it_goes_back_to_the_beginning(tmp_path: Path) -> None:
    assert descend(tmp_path, rate=0.1, poisoned=(7,), max_rollbacks=1) == 0
    warnings, notes = told(tmp_path / "r")
    assert "no checkpoint was written yet" in warnings[0]
    assert any("at the beginning" in text for text in notes)
    assert CheckpointStore(tmp_path / "r").steps()[-1] == STEPS


def test_after_the_last_rollback_it_stops(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert descend(tmp_path, rate=1000.0, max_rollbacks=2) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "--learning-rate 125" in line
    with JournalReader(tmp_path / "r") as reader:
        assert [attempt.status for attempt in reader.attempts()] == ["crashed"] * 3


class Refused(Descent):
    """Cannot begin, although all checks passed."""

    def init(self) -> Any:
        raise OSError(28, "No space left on device")


class RefusedLater(Descent):
    """Cannot go on after its first step."""

    def advance(self, state: Any) -> Any:
        if state[0] == 1:
            raise OSError(28, "No space left on device")
        return super().advance(state)


def test_a_start_that_is_refused_once_the_run_is_open_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No space left"):
        descend(tmp_path / "a" / "runs", trainer=Refused)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_recorded_a_step_stays_and_so_does_one_that_is_resumed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No space left"):
        descend(tmp_path, trainer=RefusedLater)
    with pytest.raises(ConfigError, match="No space left"):
        descend(tmp_path, trainer=Refused, tracking={"run_name": None, "resume_run": "r"})
    with JournalReader(tmp_path / "r") as reader:
        assert [attempt.status for attempt in reader.attempts()] == ["crashed", "crashed"]
        assert reader.last_step() == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_rollbacks": -1}, "--max-rollbacks -1: must be 0 or more"),
        ({"rollback_learning_rate_factor": 1.0}, "--rollback-learning-rate-factor 1.0: must be above 0"),
        ({"rollback_learning_rate_factor": float("nan")}, "--rollback-learning-rate-factor nan"),
    ],
)
def test_impossible_rollbacks_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(CheckpointConfig(), **changes)


class Short(Descent):
    """Ends before its first step."""

    def finished(self, state: Any) -> bool:
        return True


def test_a_run_has_the_spec_that_its_settings_make(tmp_path: Path) -> None:
    def make_spec(config: DescentConfig) -> SystemSpec:
        columns = {
            **resolve_spec("matmul").episode_columns,
            f"Rate {config.optimizer.learning_rate:g}": "float",
        }
        return replace(resolve_spec("matmul"), episode_columns=columns)

    tracking = TrackingConfig(runs_dir=tmp_path, run_name="r", console="quiet")
    made = session.Session(
        system="matmul",
        name_prefix="descent",
        config=DescentConfig(optimizer=OptimizerConfig(learning_rate=0.25), tracking=tracking),
        learning_rate="optimizer.learning_rate",
        make_trainer=lambda config, run: Short(config, [], None),
        summarize=lambda trainer, state, seconds: "the end",
        show=lambda outcome: None,
        result=lambda outcome: {},
        make_spec=make_spec,
    )
    assert session.train(made) == 0
    with JournalReader(tmp_path / "r") as reader:
        assert list(reader.episode_columns)[-1] == "Rate 0.25"
        assert reader.spec == make_spec(made.config)
    assert list(replace(made, make_spec=None).spec.episode_columns)[-1] == "Solved"


def test_a_run_that_its_time_limit_stops_is_a_success_and_resumes_to_the_same_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert descend(tmp_path, time="0.5s", pause=0.1) == 0
    captured = capsys.readouterr()
    stopped = json.loads(captured.out.splitlines()[-1])
    assert (stopped["status"], stopped["global_step"] < STEPS) == ("finished", True)
    (line,) = captured.err.splitlines()
    assert line.startswith(f"matrixrl: --time 0.5s is over: stopped at step {stopped['global_step']}")
    assert f"continue with: matrixrl matmul train --resume-run r --runs-dir {tmp_path}" in line
    # The limit was that of the command.
    assert descend(tmp_path, tracking=RESUMED) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert json.loads(captured.out.splitlines()[-1])["global_step"] == STEPS
    with JournalReader(tmp_path / "r") as reader:
        assert [row.step for row in reader.stream()] == list(range(1, STEPS + 1))
        assert not [note.text for note in reader.notes() if "time" in note.text and "changed" in note.text]
    assert audit(tmp_path / "r").agrees


def test_a_config_of_another_package_is_recorded_and_resumed_like_ours() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Plain:
        """The settings that a session needs."""

        optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
        tracking: TrackingConfig = field(default_factory=TrackingConfig)
        checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
        json: bool = True

    globals()["Plain"] = Plain
    record = {**as_record(Plain()), "backend": "cpu", "version_jax": "1"}
    assert from_record(Plain, record) == Plain()
    for name in ("optimizer.learning_rate", "tracking.log_interval", "checkpoint.keep_last"):
        assert may_change_on_resume(Plain, name)
    assert not may_change_on_resume(Plain, "optimizer.batch_size")
