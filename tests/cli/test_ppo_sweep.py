"""A sweep over settings of the program: one run for each combination, one after the other."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from matrixrl.cli import ppo, ppo_sweep
from matrixrl.cli.main import main
from matrixrl.config import ConfigError, TrackingConfig, from_record
from matrixrl.config.environment import EnvironmentRunConfig
from matrixrl.tracking.identity import read_run_file
from tests.cli.runs_made import make_run, ppo_settings

SWEEP = ("num_envs=16,32", "ent-coef=0,0.1", "activation=tanh,relu")


def sweep_settings(runs_dir: Path, **changes: Any) -> EnvironmentRunConfig:
    tracking = TrackingConfig(runs_dir=runs_dir, console="quiet", run_name="group")
    return ppo_settings(**{"sweep": SWEEP, "num_seeds": 2, "tracking": tracking, "json": True} | changes)


def trainer(
    seen: list[EnvironmentRunConfig],
    codes: Mapping[int, int] | None = None,
    seconds: list[float | None] | None = None,
) -> ppo_sweep.TrainOne:
    """Trains nothing; the run's folder and its result are made. `seconds` collects the time limits."""

    def train(
        config: EnvironmentRunConfig,
        about: Mapping[str, Any],
        on_result: Callable[[dict[str, Any]], None],
        seconds_left: float | None,
    ) -> int:
        number = len(seen)
        if seconds is not None:
            seconds.append(seconds_left)
        seen.append(config)
        name = config.tracking.run_name
        assert name is not None
        make_run(config.tracking.runs_dir, name, [], config, about=about)
        if (code := (codes or {}).get(number, 0)) == 1:
            return code
        agents = [
            {"agent": k, "seed": k, "settings": {"ent_coef": k / 10}, "mean_return": 4.0, "diverged": k == 1}
            for k in range(2)
        ]
        on_result(
            {
                "run_name": name, "run_id": "id", "run_dir": "d", "mean_return": 4.0, "seed": 0,
                "total_timesteps": 100, "seconds": 2.0, "agents": agents if config.is_many else [],
            }
        )  # fmt: skip
        return code

    return train


def test_each_combination_of_the_others_is_a_run(tmp_path: Path) -> None:
    config = sweep_settings(tmp_path)
    assert config.grid == {"ppo.ent_coef": (0.0, 0.1)}
    assert config.outer_grid == {"ppo.num_envs": (16, 32), "network.activation": ("tanh", "relu")}
    runs = list(config.each_run())
    assert [(one.ppo.num_envs, one.network.activation) for _, one in runs] == [
        (16, "tanh"), (16, "relu"), (32, "tanh"), (32, "relu"),
    ]  # fmt: skip
    assert all(one.sweep == ("ent-coef=0,0.1",) and one.num_seeds == 2 for _, one in runs)


def test_values_of_every_type() -> None:
    config = ppo_settings(
        sweep=("total_timesteps=1e4,20_000", "anneal_lr=true,false", "time_limit=none,50", "gae-lambda=1")
    )
    assert config.outer_grid == {
        "ppo.total_timesteps": (10_000, 20_000),
        "ppo.anneal_lr": (True, False),
        "time_limit": (None, 50),
    }
    assert config.grid == {"ppo.gae_lambda": (1.0,)}
    # A combination that is possible although a part of it alone is not.
    both = ppo_settings(
        num_minibatches=8, num_envs=8, num_steps=10, sweep=("num_envs=9", "num_minibatches=9")
    )
    assert [one.ppo.batch_size for _, one in both.each_run()] == [90]
    with pytest.raises(ConfigError, match="must be NAME=NUMBER,NUMBER"):
        ppo_settings(sweep=("final_ent_coef=none",))  # an argument of the program: numbers alone


def test_the_runs_are_grouped_and_the_answer_lists_all_agents(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[EnvironmentRunConfig] = []
    assert ppo_sweep.train_sweep(sweep_settings(tmp_path), trainer(seen)) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert len(lines) == 1
    answer = json.loads(lines[0])
    names = [
        f"group-num-envs-{count}-activation-{activation}"
        for count in (16, 32)
        for activation in ("tanh", "relu")
    ]
    assert [run["run_name"] for run in answer["runs"]] == names
    assert [agent["run_name"] for agent in answer["agents"]] == [name for name in names for _ in range(2)]
    assert answer["agents"][3]["settings"] == {
        "num_envs": 16,
        "network.activation": "relu",
        "ent_coef": 0.1,
    }
    assert (answer["sweep_group"], answer["total_timesteps"], answer["mean_return"]) == ("group", 400, 4.0)
    assert answer["steps_per_second"] == 50
    record = (read_run_file(tmp_path / names[1]) or {})["config"]
    assert record["sweep_group"] == {
        "name": "group",
        "sweep": list(SWEEP),
        "settings": {"ppo.num_envs": 16, "network.activation": "relu"},
    }
    restored = from_record(
        EnvironmentRunConfig, record
    )  # it can be resumed: the group is beside the settings
    assert (restored.sweep, restored.network.activation) == (("ent-coef=0,0.1",), "relu")
    resumed = ppo_settings(tracking=TrackingConfig(runs_dir=tmp_path, resume_run=names[1]))
    assert ppo_sweep.recorded_group(resumed) == {"sweep_group": record["sweep_group"]}


def test_a_single_agent_per_run_is_in_the_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = sweep_settings(tmp_path, num_seeds=1, sweep=("num_envs=16,32",))
    assert ppo_sweep.train_sweep(config, trainer([])) == 0
    agents = json.loads(capsys.readouterr().out.splitlines()[-1])["agents"]
    assert [(a["agent"], a["seed"], a["settings"], a["mean_return"]) for a in agents] == [
        (0, 0, {"num_envs": 16}, 4.0),
        (0, 0, {"num_envs": 32}, 4.0),
    ]


def test_a_signal_ends_the_sweep_and_a_failure_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[EnvironmentRunConfig] = []
    assert ppo_sweep.train_sweep(sweep_settings(tmp_path / "a"), trainer(seen, {0: 1, 2: 130})) == 130
    captured = capsys.readouterr()
    assert len(seen) == 3
    assert "1 run not started: group-num-envs-32-activation-relu" in captured.err
    assert len(json.loads(captured.out.splitlines()[-1])["runs"]) == 2  # the one that failed has no result
    assert ppo_sweep.train_sweep(sweep_settings(tmp_path / "b"), trainer([], {0: 1})) == 1


def test_the_time_is_that_of_all_runs_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[EnvironmentRunConfig] = []
    left: list[float | None] = []
    clock = iter([0.0, 0.0, 40.0, 100.0]).__next__  # the beginning, then before each run
    config = sweep_settings(tmp_path, time="1m30s")
    assert ppo_sweep.train_sweep(config, trainer(seen, seconds=left), clock) == 0
    assert left == [90.0, 50.0]
    captured = capsys.readouterr()
    not_started = ["group-num-envs-32-activation-tanh", "group-num-envs-32-activation-relu"]
    assert f"--time 1m30s is over; 2 runs not started: {', '.join(not_started)}" in captured.err
    answer = json.loads(captured.out.splitlines()[-1])
    assert (len(answer["runs"]), answer["not_started"]) == (2, not_started)


def test_the_command_that_compares_the_runs_finds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only in the default folder, not in any folder named `runs`, the flag is left out."""
    monkeypatch.chdir(tmp_path)
    for folder, flag in ((Path("a b/runs"), " --runs-dir 'a b/runs'"), (Path("runs"), "")):
        tracking = TrackingConfig(runs_dir=folder, console="quiet", run_name="group")
        config = sweep_settings(tmp_path, tracking=tracking, json=False)
        assert ppo_sweep.train_sweep(config, trainer([])) == 0
        assert capsys.readouterr().out.endswith(f"  matrixrl runs compare 'group-*'{flag}\n")


def test_names_that_are_taken_are_refused_before_anything_starts(tmp_path: Path) -> None:
    make_run(tmp_path, "group-num-envs-32-activation-relu", [])
    seen: list[EnvironmentRunConfig] = []
    with pytest.raises(ConfigError, match="exists; continue it with --resume-run group-num-envs-32"):
        ppo_sweep.train_sweep(sweep_settings(tmp_path), trainer(seen))
    assert not seen


def test_names_that_would_be_too_long_are_numbers() -> None:
    points = [{"network.activation": value} for value in ("x" * 200, "y")]
    assert ppo_sweep.run_names("g", points, "end") == ["g-1-end", "g-2-end"]
    assert ppo_sweep.run_names("g", [{"a.b_c": None}, {"a.b_c": 0.5}], None) == ["g-b-c-none", "g-b-c-0.5"]


def test_an_automatic_group_is_a_free_number(tmp_path: Path) -> None:
    config = sweep_settings(tmp_path, tracking=TrackingConfig(runs_dir=tmp_path))
    first = ppo_sweep.sweep_group(config)
    assert first.startswith("ppo-cartpole-v1-")
    assert first.endswith("-1")
    make_run(tmp_path, f"{first}-num-envs-16", [])
    assert ppo_sweep.sweep_group(config) == first[:-1] + "2"


def test_a_session_of_one_run_refuses_a_sweep(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="trains several runs, one after the other"):
        ppo.environment_session(sweep_settings(tmp_path))


@pytest.mark.slow
def test_two_runs_are_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--env", "tests.envs.tiny:Masked", "--num-steps", "10", "--num-minibatches", "2"]
    flags += ["--hidden-dim", "8", "--num-layers", "1", "--total-timesteps", "320", "--console", "quiet"]
    flags += ["--runs-dir", str(tmp_path), "--run-name", "g", "--num-seeds", "2", "--json"]
    assert main(["ppo", "train", *flags, "--sweep", "num_envs=8,16", "learning_rate=1e-3,1e-2"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [(a["run_name"], a["settings"]) for a in answer["agents"]][::2] == [
        ("g-num-envs-8", {"num_envs": 8, "learning_rate": 0.001}),
        ("g-num-envs-8", {"num_envs": 8, "learning_rate": 0.01}),
        ("g-num-envs-16", {"num_envs": 16, "learning_rate": 0.001}),
        ("g-num-envs-16", {"num_envs": 16, "learning_rate": 0.01}),
    ]
    assert answer["total_timesteps"] == 2 * 4 * 320
    resume = ["--resume-run", "g-num-envs-8", "--total-timesteps", "640", "--console", "quiet"]
    assert main(["ppo", "train", *resume, "--runs-dir", str(tmp_path)]) == 0
