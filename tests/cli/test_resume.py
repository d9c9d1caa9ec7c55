"""Which settings a resumed run continues with, and which changes it refuses."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrixrl import presets
from matrixrl.cli.matmul import read_config
from matrixrl.config import ConfigError, MatmulConfig, as_record, differences, from_record
from matrixrl.tracking.run import open_run


def started(runs_dir: Path, *flags: str) -> MatmulConfig:
    config = read_config(["--runs-dir", str(runs_dir), "--run-name", "r", "--console", "quiet", *flags])
    open_run(
        config.tracking, system="matmul", name_prefix="t", run_config={**as_record(config), "device_count": 1}
    ).finish()
    return config


def resumed(runs_dir: Path, *flags: str) -> MatmulConfig:
    return read_config(["--runs-dir", str(runs_dir), "--resume-run", "r", *flags])


@pytest.mark.parametrize("name", presets.MATMUL)
def test_a_config_survives_being_recorded(name: str) -> None:
    config = presets.matmul(name)
    assert from_record(MatmulConfig, json.loads(json.dumps(as_record(config)))) == config


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.floats(1e-6, 1.0))
def test_any_settings_survive_being_recorded(seed: int, side: int, rate: float) -> None:
    config = presets.quick()
    config = dataclasses.replace(
        config,
        seed=seed,
        game=dataclasses.replace(config.game, size=(side, 2, 2)),
        optimizer=dataclasses.replace(config.optimizer, learning_rate=rate),
    )
    assert from_record(MatmulConfig, json.loads(json.dumps(as_record(config)))) == config


def test_recorded_settings_are_taken_up(tmp_path: Path) -> None:
    old = started(tmp_path, "--preset", "dev", "--seed", "9", "--width", "24")
    new = resumed(tmp_path)
    assert set(differences(old, new)) == {"tracking.run_name", "tracking.resume_run"}


@pytest.mark.parametrize(
    ("flags", "field", "value"),
    [
        (["--num-epochs", "7"], "num_epochs", 7),
        (["--learning-rate", "0.5"], "learning_rate", 0.5),
        (["--log-interval", "4"], "log_interval", 4),
        (["--keep-last", "9"], "keep_last", 9),
        (["--console", "steps"], "console", "steps"),
    ],
)
def test_what_may_change_changes(tmp_path: Path, flags: list[str], field: str, value: object) -> None:
    started(tmp_path)
    config = resumed(tmp_path, *flags)
    groups = (config.selfplay, config.optimizer, config.tracking, config.checkpoint)
    assert [getattr(group, field) for group in groups if hasattr(group, field)] == [value]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--width", "128"], r"--width 128: r was started with 64"),
        (["--size", "3", "3", "3"], r"--size 3 3 3: r was started with 2 2 2"),
        (["--ring", "Z"], r"--ring Z: r was started with F2"),
        (["--seed", "1"], r"--seed 1: r was started with 0"),
        (["--batch-size", "8"], r"--batch-size 8"),
        (["--preset", "full"], r"--preset full: r was started with quick"),
    ],
)
def test_what_may_not_change_is_refused_naming_the_field(
    tmp_path: Path, flags: list[str], message: str
) -> None:
    started(tmp_path)
    with pytest.raises(ConfigError, match=message):
        resumed(tmp_path, *flags)


def test_latest_is_settled_when_the_command_line_is_read(tmp_path: Path) -> None:
    started(tmp_path)
    config = read_config(["--runs-dir", str(tmp_path), "--resume-run", "latest"])
    assert config.tracking.resume_run == "r"


def test_latest_and_the_id_name_the_run(tmp_path: Path) -> None:
    started(tmp_path, "--seed", "5")
    for reference in ("latest", "4b43b0ae"):
        config = read_config(["--runs-dir", str(tmp_path), f"--resume-run={reference}"])
        assert config.seed == 5


def test_an_unknown_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--resume-run other: no matmul run"):
        read_config(["--runs-dir", str(tmp_path), "--resume-run", "other"])


def test_a_run_that_lost_its_journal_goes_on_with_run_json(tmp_path: Path) -> None:
    started(tmp_path, "--seed", "5")
    (tmp_path / "r" / "journal.sqlite").unlink()
    assert resumed(tmp_path).seed == 5


def test_settings_of_another_version_are_refused_in_one_line(tmp_path: Path) -> None:
    started(tmp_path)
    (tmp_path / "r" / "journal.sqlite").unlink()
    path = tmp_path / "r" / "run.json"
    record = json.loads(path.read_text())
    record["config"]["network"]["width"] = -1
    path.write_text(json.dumps(record))
    with pytest.raises(ConfigError, match="do not fit this matrixrl"):
        resumed(tmp_path)
