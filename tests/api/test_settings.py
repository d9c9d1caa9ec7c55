"""`matrixrl.ppo` and the like: every flag as a keyword, with the checks of the command line; nothing heavy is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import matrixrl
from matrixrl.cli import hackmatrix, matmul, ppo
from matrixrl.config import settings_toml
from matrixrl.config.fields import settings_of

SYSTEMS = {"ppo": matrixrl.ppo, "hackmatrix": matrixrl.hackmatrix, "matmul": matrixrl.matmul}
COMMANDS = {"ppo": ppo, "hackmatrix": hackmatrix, "matmul": matmul}


def test_import_is_light() -> None:
    code = (
        "import sys, matrixrl\n"
        "assert {'train', 'load', 'discover', 'open', 'ppo', 'matmul', 'hackmatrix'} <= set(dir(matrixrl))\n"
        "print([name for name in ('jax', 'numpy', 'tyro', 'wandb', 'rich') if name in sys.modules])\n"
        "matrixrl.ppo(env='gymnax:CartPole-v1')\n"
        "print('jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "False"]
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        matrixrl.trian  # noqa: B018  # pyright: ignore


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_flag_is_a_keyword(system: str) -> None:
    given = {"env": "gymnax:CartPole-v1"} if system == "ppo" else {}
    settings = SYSTEMS[system](**given)
    names = [name.rpartition(".")[2] for name, _, _ in settings_of(type(settings.config))]
    assert list(settings) == names
    defaults = COMMANDS[system].read_config([f"--{name}={value}" for name, value in given.items()])
    assert settings.config == defaults
    # Each default may be given again, as it is.
    left_out = ("resume_run", "config", "distributed", "coordinator", "num_processes", "process_id")
    again = {name: value for name, value in settings.items() if name not in left_out}
    assert SYSTEMS[system](**again).config == defaults


def test_values_arrive_as_on_the_command_line(tmp_path: Path) -> None:
    settings = matrixrl.ppo(
        env="gymnax:CartPole-v1", total_timesteps=1e6, learning_rate=np.float32(0.5), num_envs=np.int64(32), anneal_lr=False,
        final_ent_coef=None, sweep={"gamma": [0.9, 0.99]}, track=["tensorboard"], run_suffix="-x", runs_dir=tmp_path,
    )  # fmt: skip
    flags = [
        "--env=gymnax:CartPole-v1",
        "--total-timesteps=1e6",
        "--learning-rate=0.5",
        "--num-envs=32",
        "--no-anneal-lr",
    ]
    flags += [
        "--sweep",
        "gamma=0.9,0.99",
        "--track",
        "tensorboard",
        "--run-suffix=-x",
        f"--runs-dir={tmp_path}",
    ]
    assert settings.config == ppo.read_config(flags)
    assert (settings.num_envs, settings["learning_rate"], settings.runs_dir) == (32, 0.5, tmp_path)
    assert settings.replace(num_envs=64).num_envs == 64
    assert settings.num_envs == 32
    assert repr(matrixrl.matmul(size=(2, 2, 3))) == "matrixrl.matmul(size=(2, 2, 3))"
    assert matrixrl.matmul(size=np.array([2, 2, 3])) == matrixrl.matmul(size=[2, 2, 3])
    # A former name, a preset, a file and a tensor.
    assert matrixrl.hackmatrix(checkpoint_dir=tmp_path, preset="tuned").runs_dir == tmp_path
    (tmp_path / "settings.toml").write_text(settings_toml(settings.config))
    assert matrixrl.ppo(config=tmp_path / "settings.toml", num_envs=8).gamma == settings.gamma
    cube = np.zeros((2, 2, 2), int)
    cube[0, 0, 0] = cube[1, 1, 1] = 1
    problem: Any = matrixrl.matmul(tensor=cube).config
    assert np.array_equal(problem.game.problems[0].tensor(), cube)


@pytest.mark.parametrize(
    ("system", "given", "message"),
    [
        ("ppo", {"learning_rat": 1}, r"ppo\(\): unknown setting learning_rat; did you mean learning_rate\?"),
        ("ppo", {"xyzzy": 1}, r"unknown setting xyzzy; see the flags of: matrixrl ppo train --help"),
        ("ppo", {"learning_rate": -1}, r"learning_rate=-1: must be above 0"),
        ("ppo", {"learning_rate": "fast"}, r"learning_rate='fast': must be a number"),
        ("ppo", {"num_envs": None}, r"num_envs=None: must have a value"),
        ("ppo", {"anneal_lr": 1}, r"anneal_lr=1: must be true or false"),
        ("ppo", {"env": "CartPole"}, r"--env CartPole: must be gymnax:NAME"),
        ("ppo", {"env": "gymnax:X", "num_envs": 3, "num_steps": 3}, "does not divide"),
        ("matmul", {"preset": "quickest"}, r"--preset quickest: must be one of quick"),
        ("matmul", {"size": (2, 2)}, r"size=\(2, 2\): must be a list of 3 entries"),
        ("matmul", {"tensor": np.ones((2, 2))}, r"matmul\(\): tensor"),
        ("hackmatrix", {"runs_dir": "a", "checkpoint_dir": "b"}, "are one setting"),
        ("hackmatrix", {"runs_dir": "gs://bucket/runs"}, "a local folder or file is needed"),
    ],
)
def test_what_is_not_allowed_is_refused(system: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(matrixrl.ConfigError, match=message) as caught:
        SYSTEMS[system](**given)
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)


def test_settings_that_only_fit_the_run_to_resume_are_checked_later() -> None:
    assert matrixrl.ppo(total_timesteps=64).total_timesteps == 64
    with pytest.raises(matrixrl.ConfigError, match=r"--env is missing|smaller than one batch"):
        matrixrl.train(matrixrl.ppo(total_timesteps=64))
    with pytest.raises(matrixrl.ConfigError, match="settings are missing"):
        matrixrl.train()
