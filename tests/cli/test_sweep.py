"""A trial of a W&B sweep trains with the sweep's parameters, however its command hands them over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from matrixrl.cli import hackmatrix, matmul
from matrixrl.cli.sweep import with_sweep_parameters
from matrixrl.config import ConfigError


@pytest.fixture
def trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    parameters = {"learning_rate": 0.5, "seed": 7, "stop_at_record": False}
    path = tmp_path / "config.yaml"
    text = "".join(f"{name}:\n  value: {json.dumps(value)}\n" for name, value in parameters.items())
    path.write_text("wandb_version: 1\n" + text)
    for name, value in (("SWEEP_ID", "s"), ("RUN_ID", "r"), ("SWEEP_PARAM_PATH", str(path))):
        monkeypatch.setenv(f"WANDB_{name}", value)
    return path


def test_parameters_become_flags(trial: Path) -> None:
    wanted = ["--wandb", "--learning-rate=0.5", "--seed=7", "--no-stop-at-record"]
    assert with_sweep_parameters(["--wandb"]) == wanted
    # `${args}` gives them as flags too.
    args = ["--learning_rate=0.5", "--seed=7", "--stop_at_record=False"]
    assert with_sweep_parameters(["--wandb", *args]) == wanted
    assert with_sweep_parameters(["--seed", "7", "--wandb", "--learning-rate", "5e-1"]) == wanted
    assert with_sweep_parameters(["--seed", "7"]) == ["--seed", "7"]  # not for W&B
    tracked = ["--track", "tensorboard", "wandb"]
    assert with_sweep_parameters(tracked) == [*tracked, *wanted[1:]]
    assert with_sweep_parameters(["--track", "tensorboard"]) == ["--track", "tensorboard"]
    resumed = ["--wandb", "--resume-run", "x"]
    assert with_sweep_parameters(resumed) == resumed
    config = matmul.read_config(["--wandb"])
    assert (config.optimizer.learning_rate, config.seed, config.selfplay.stop_at_record) == (0.5, 7, False)


def test_a_flag_that_contradicts_the_sweep_is_refused(trial: Path) -> None:
    with pytest.raises(ConfigError, match="--seed 8: the sweep's parameter is 7"):
        with_sweep_parameters(["--wandb", "--seed=8"])


def test_unknown_parameters_and_broken_files_are_one_line(trial: Path) -> None:
    with pytest.raises(ConfigError, match="--no-stop-at-record"):
        hackmatrix.read_config(["--wandb"])
    trial.write_text("a: [")
    with pytest.raises(ConfigError, match="WANDB_SWEEP_PARAM_PATH"):
        with_sweep_parameters(["--wandb"])
    trial.unlink()
    with pytest.raises(ConfigError, match="WANDB_SWEEP_PARAM_PATH"):
        with_sweep_parameters(["--wandb"])
