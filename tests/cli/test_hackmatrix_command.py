"""`matrixrl hackmatrix train`: its flags, and what it cannot do is one line. Nothing here compiles but the slow tests."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from matrixrl import presets
from matrixrl.cli.hackmatrix import read_config, summary
from matrixrl.cli.main import main
from matrixrl.config import (
    ActorCriticConfig,
    ConfigError,
    HackmatrixConfig,
    PPOConfig,
    as_record,
    from_record,
    may_change_on_resume,
    value_at,
)
from matrixrl.tracking.audit import audit
from matrixrl.tracking.identity import run_id
from matrixrl.tracking.journal_reader import JournalReader
from matrixrl.tracking.run import open_run
from tests.cli.announced import without_announcement

ROOT = Path(__file__).resolve().parents[2]
NAME = re.compile(r"hackmatrix-jax-(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)\d\d-\d\d-\d+(-[a-z]+)?")

AZ = ("--algorithm", "alphazero")

# Command line after `hackmatrix train`, and what the one line must say.
IMPOSSIBLE: list[tuple[list[str], list[str]]] = [
    (
        ["--num-envs", "6", "--num-steps", "5"],
        ["--num-envs 6", "--num-steps 5", "30 steps", "--num-minibatches 4", "make it 3"],
    ),
    (["--num-minibatches", "7"], ["32768 steps", "--num-minibatches 7", "make it 8"]),
    (["--total-timesteps", "100"], ["--total-timesteps 100", "32768", "rounds down to no update"]),
    (["--total-timesteps", "-1"], ["--total-timesteps -1", "32768"]),
    (["--total-timesteps", "1e-6"], ["--total-timesteps", "1e-6"]),
    (["--ent-coef", "-0.1"], ["--ent-coef -0.1", "0 or more"]),
    (["--final-ent-coef", "-0.1"], ["--final-ent-coef -0.1", "0 or more"]),
    (["--vf-coef", "-0.5"], ["--vf-coef -0.5", "0 or more"]),
    (["--clip-eps", "-0.2"], ["--clip-eps -0.2", "0 or more"]),
    (["--clip-eps", "nan"], ["--clip-eps nan", "0 or more"]),
    (["--learning-rate", "0"], ["--learning-rate 0", "above 0"]),
    (["--learning-rate", "nan"], ["--learning-rate nan", "above 0"]),
    (["--max-grad-norm", "0"], ["--max-grad-norm 0", "above 0"]),
    (["--reward-scale", "-1"], ["--reward-scale -1", "above 0"]),
    (["--gamma", "1.5"], ["--gamma 1.5", "0 to 1"]),
    (["--gae-lambda", "-0.1"], ["--gae-lambda -0.1", "0 to 1"]),
    (["--num-envs", "0"], ["--num-envs 0", "1 or more"]),
    (["--num-steps", "-3"], ["--num-steps -3", "1 or more"]),
    (["--num-minibatches", "0"], ["--num-minibatches 0", "1 or more"]),
    (["--update-epochs", "0"], ["--update-epochs 0", "1 or more"]),
    (["--hidden-dim", "0"], ["--hidden-dim 0", "1 or more"]),
    (["--num-layers", "-1"], ["--num-layers -1", "0 or more"]),
    (["--torso", "cnn"], ["--torso cnn", "mlp, grid"]),
    (["--cell-dim", "3"], ["--cell-dim 3", "even"]),
    (["--seed", "-1"], ["--seed -1", "0 to"]),
    (["--log-interval", "0"], ["--log-interval 0", "1 or more"]),
    (["--save-interval", "-1"], ["--save-interval -1", "0 or more"]),
    (["--time-limit", "0"], ["--time-limit 0", "1 or more"]),
    (["--devices", "0"], ["--devices 0", "1 or more"]),
    (["--devices", "99"], ["--devices 99"]),
    (["--preset", "nope"], ["--preset nope", "default, tuned, winning, dev"]),
    (["--preset"], ["--preset", "tuned"]),
    (["--num-env", "4", "--gama", "1"], ["unknown flag --num-env", "--num-envs"]),
    (["--resume-run", "latest"], ["--resume-run latest"]),
    (["--resume-run", "r", "--run-name", "s"], ["--resume-run r"]),
    (["--run-name", "a/b"], ["--run-name", "a/b", "separator"]),
    (["surplus"], ["surplus"]),
    (["--algorithm", "dqn"], ["--algorithm dqn", "ppo, alphazero"]),
    (["--num-simulations", "8"], ["--num-simulations", "only --algorithm alphazero", "leave it out"]),
    (["--replay-size", "1000"], ["--replay-size 1000", "only --algorithm alphazero"]),
    (["--preset", "alphazero", "--algorithm", "ppo"], ["--preset alphazero --algorithm ppo"]),
    ([*AZ, "--clip-eps", "0.3"], ["--clip-eps 0.3", "only --algorithm ppo uses it"]),
    ([*AZ, "--num-minibatches", "2"], ["--num-minibatches 2", "only --algorithm ppo uses it"]),
    ([*AZ, "--no-clip-value"], ["--clip-value", "only --algorithm ppo uses it"]),
    ([*AZ, "--gae-lambda=0.9"], ["--gae-lambda", "only --algorithm ppo uses it"]),
    ([*AZ, "--num-simulations", "0"], ["--num-simulations 0", "from 1 to 10000"]),
    ([*AZ, "--value-lambda", "1.1"], ["--value-lambda 1.1", "from 0 to 1"]),
    ([*AZ, "--value-scale", "0"], ["--value-scale 0", "above 0"]),
    ([*AZ, "--batch-size", "0"], ["--batch-size 0", "1 or more"]),
    ([*AZ, "--updates-per-rollout", "0"], ["--updates-per-rollout 0", "1 or more"]),
    (
        [*AZ, "--replay-size", "1023"],
        ["--replay-size 1023", "1024 positions", "--num-envs 64", "--num-steps 16"],
    ),
    ([*AZ, "--devices", "2"], ["--devices 2", "one device", "leave it out"]),
    ([*AZ, "--auto-tune"], ["--auto-tune", "--algorithm ppo"]),
    (
        [*AZ, "--num-envs", "4096", "--num-simulations", "400", "--replay-size", "99999"],
        ["--num-envs 4096", "--num-simulations 400", "GiB, at most 4"],
    ),
]

# Spelling, a value, the setting's name, and what it becomes.
FLAGS: list[tuple[list[str], str, Any]] = [
    (["--wandb"], "tracking.wandb", True),
    (["--project", "p"], "tracking.project", "p"),
    (["--entity", "e"], "tracking.entity", "e"),
    (["--run-name", "n"], "tracking.run_name", "n"),
    (["--run-suffix", "s"], "tracking.run_suffix", "s"),
    (["--no-artifact"], "tracking.no_artifact", True),
    (["--log-interval", "7"], "tracking.log_interval", 7),
    (["--save-interval", "7"], "checkpoint.save_interval", 7.0),
    (["--runs-dir", "d"], "tracking.runs_dir", Path("d")),
    (["--checkpoint-dir", "d"], "tracking.runs_dir", Path("d")),
    (["--checkpoint-dir=d"], "tracking.runs_dir", Path("d")),
    (["--checkpoint_dir", "d"], "tracking.runs_dir", Path("d")),
    (["--benchmark"], "benchmark", True),
    (["--auto-tune"], "auto_tune", True),
    (["--monolithic"], "monolithic", True),
    (["--json"], "json", True),
    (["--seed", "7"], "seed", 7),
    (["--num-envs", "8"], "ppo.num_envs", 8),
    (["--num-steps", "8"], "ppo.num_steps", 8),
    (["--total-timesteps", "99999"], "ppo.total_timesteps", 99_999),
    (["--learning-rate", "0.5"], "ppo.learning_rate", 0.5),
    (["--anneal-lr"], "ppo.anneal_lr", True),
    (["--gamma", "0.5"], "ppo.gamma", 0.5),
    (["--gae-lambda", "0.5"], "ppo.gae_lambda", 0.5),
    (["--num-minibatches", "2"], "ppo.num_minibatches", 2),
    (["--update-epochs", "2"], "ppo.update_epochs", 2),
    (["--clip-eps", "0.5"], "ppo.clip_eps", 0.5),
    (["--vf-coef", "0.25"], "ppo.vf_coef", 0.25),
    (["--ent-coef", "0.5"], "ppo.ent_coef", 0.5),
    (["--max-grad-norm", "2"], "ppo.max_grad_norm", 2.0),
    (["--hidden-dim", "32"], "network.hidden_dim", 32),
    (["--num-layers", "1"], "network.num_layers", 1),
    (["--torso", "grid"], "network.torso", "grid"),
    ([*AZ], "algorithm", "alphazero"),
    ([*AZ, "--num-simulations", "9"], "alphazero.num_simulations", 9),
    ([*AZ, "--replay-size", "2048"], "alphazero.replay_size", 2048),
    ([*AZ, "--batch-size", "64"], "alphazero.batch_size", 64),
    ([*AZ, "--updates-per-rollout", "3"], "alphazero.updates_per_rollout", 3),
    ([*AZ, "--value-lambda", "0.5"], "alphazero.value_lambda", 0.5),
    ([*AZ, "--value-scale", "0.05"], "alphazero.value_scale", 0.05),
    ([*AZ, "--num-envs", "8"], "ppo.num_envs", 8),
]


def one_line(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["hackmatrix", "train", *arguments]) == 2
    captured = capsys.readouterr()
    assert without_announcement(captured.out) == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("matrixrl: ")
    return line


@pytest.mark.parametrize(("arguments", "said"), IMPOSSIBLE, ids=lambda value: " ".join(value)[:40])
def test_an_impossible_setting_is_one_line_and_leaves_nothing(
    arguments: list[str], said: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = one_line(capsys, "--runs-dir", str(tmp_path / "runs"), *arguments)
    for part in said:
        assert part in line
    runs = tmp_path / "runs"
    assert not runs.exists() or not list(runs.iterdir())


@pytest.mark.parametrize(("arguments", "name", "value"), FLAGS, ids=lambda value: str(value)[:30])
def test_every_flag_has_its_spelling(arguments: list[str], name: str, value: Any) -> None:
    config = read_config(arguments)
    assert value_at(config, name) == value
    changed = as_record(config)
    assert changed != as_record(HackmatrixConfig())


def test_defaults_are_those_of_the_reference_setting() -> None:
    config = read_config([])
    assert config == HackmatrixConfig(network=ActorCriticConfig(critic="separate"))
    assert {field.name: getattr(config.ppo, field.name) for field in dataclasses.fields(PPOConfig)} == {
        "num_envs": 256,
        "num_steps": 128,
        "total_timesteps": 10_000_000,
        "learning_rate": 2.5e-4,
        "anneal_lr": False,
        "gamma": 0.99,
        "gae_lambda": 0.95,
        "num_minibatches": 4,
        "update_epochs": 4,
        "clip_eps": 0.2,
        "vf_coef": 0.5,
        "ent_coef": 0.1,
        "final_ent_coef": None,
        "exploration": 0.0,
        "exploration_until": 0.8,
        "max_grad_norm": 0.5,
        "reward_scale": 0.1,
        "max_reward": None,
        "adam_eps": 1e-5,
        "clip_value": True,
        "normalize_advantages": "minibatch",
    }
    assert (config.network.torso, config.network.hidden_dim, config.network.num_layers) == ("mlp", 256, 2)
    assert (config.seed, config.tracking.log_interval) == (0, 10)
    # A chunk is 327,680 steps; what is left of the last batch is not played.
    assert config.chunk * config.ppo.batch_size == 327_680
    assert config.ppo.num_updates == 10_000_000 // 32_768 == 305


def test_help_shows_every_flag_and_the_other_name_of_the_runs_folder(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["hackmatrix", "train", "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    for arguments, _, _ in FLAGS:
        flag = arguments[0].partition("=")[0]
        assert flag.replace("_", "-") in text, flag
    assert "--resume-run" in text


def test_alphazero_has_defaults_of_its_own_and_takes_network_and_starts_of_other_presets(
    tmp_path: Path,
) -> None:
    config = read_config([*AZ])
    assert config == presets.hackmatrix_alphazero() == read_config(["--preset", "alphazero"])
    assert config.ppo.batch_size <= config.alphazero.replay_size
    tuned = read_config([*AZ, "--preset", "tuned"])
    expected = presets.hackmatrix_tuned()
    assert (tuned.preset, tuned.network, tuned.starts) == ("tuned", expected.network, expected.starts)
    assert (tuned.ppo, tuned.alphazero) == (config.ppo, config.alphazero)
    path = tmp_path / "s.toml"
    path.write_text('algorithm = "alphazero"\nnum_simulations = 5\n')
    from_file = read_config(["--config", str(path)])
    assert from_file == dataclasses.replace(
        config, alphazero=dataclasses.replace(config.alphazero, num_simulations=5), config=path
    )
    path.write_text('algorithm = "alphazero"\nclip_eps = 0.3\n')
    with pytest.raises(ConfigError, match=r"--clip-eps 0\.3: only --algorithm ppo uses it"):
        read_config(["--config", str(path)])


def test_records_of_earlier_runs_are_ppo() -> None:
    record = as_record(read_config(["--preset", "tuned"]))
    for name in ("algorithm", "alphazero", "start_from"):
        del record[name]
    assert from_record(HackmatrixConfig, record) == read_config(["--preset", "tuned"])
    record = json.loads(json.dumps(as_record(read_config([*AZ]))))
    assert from_record(HackmatrixConfig, record) == read_config([*AZ])
    assert not may_change_on_resume(HackmatrixConfig, "algorithm")
    assert not may_change_on_resume(HackmatrixConfig, "alphazero.num_simulations")


@pytest.fixture
def started(tmp_path: Path) -> Path:
    """The folder of a run that was started and not trained."""
    config = read_config(["--run-name", "r", "--runs-dir", str(tmp_path), "--num-envs", "8"])
    with open_run(config.tracking, system="hackmatrix", name_prefix="t", run_config=as_record(config)) as run:
        run.finish()
    return tmp_path / "r"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--hidden-dim", "32"], ["--hidden-dim 32", "started with 256"]),
        (["--num-layers", "3"], ["--num-layers 3", "started with 2"]),
        (["--torso", "grid"], ["--torso grid", "started with mlp"]),
        (["--num-envs", "16"], ["--num-envs 16", "started with 8"]),
        (["--num-steps", "64"], ["--num-steps 64", "started with 128"]),
        (["--seed", "1"], ["--seed 1", "started with 0"]),
        (["--time-limit", "5"], ["--time-limit 5", "started with 1000"]),
        (["--run-name", "s"], ["--resume-run r", "--run-name"]),
        (["--run-suffix", "s"], ["--resume-run r", "--run-suffix"]),
    ],
    ids=lambda value: " ".join(value)[:30],
)
def test_a_resumed_run_keeps_its_network_and_its_games(
    arguments: list[str], said: list[str], started: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    where = ["--resume-run", "r", "--checkpoint-dir", str(started.parent)]
    line = one_line(capsys, *where, *arguments)
    for part in said:
        assert part in line
    with JournalReader(started) as reader:
        assert len(reader.attempts()) == 1


def test_a_resumed_run_has_its_recorded_settings_and_may_change_some(started: Path) -> None:
    where = ["--resume-run", "r", "--checkpoint-dir", str(started.parent)]
    assert read_config(where).ppo.num_envs == 8
    config = read_config([*where, "--learning-rate", "0.5", "--total-timesteps", "20000000", "--monolithic"])
    assert (config.ppo.num_envs, config.ppo.learning_rate, config.monolithic) == (8, 0.5, True)
    assert config.ppo.total_timesteps == 20_000_000
    # By its id, and as the newest one.
    for reference in (run_id("r"), "latest"):
        assert read_config(["--resume-run", reference, *where[2:]]).ppo.num_envs == 8


TINY = shlex.split("""
    --preset dev --num-envs 4 --num-steps 6 --total-timesteps 290 --num-minibatches 2 --update-epochs 2
    --hidden-dim 8 --num-layers 1 --torso mlp --features observation --time-limit 8 --seed 3 --log-interval 5 --json
""")


SPLITS = {"five": [], "four": ["--log-interval", "4"], "whole": ["--monolithic"]}
SAME = ("params_sha256", "episodes", "highest_stage", "update_step", "total_timesteps")


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def trained(request: pytest.FixtureRequest, runs_dir: Path) -> Callable[[str], dict[str, Any]]:
    """The JSON object of a process that trains with the program of its own chunk size, which is compiled for it."""
    assert request.config.cache is not None
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "src"),
        "JAX_COMPILATION_CACHE_DIR": str(request.config.cache.mkdir("jax")),
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # it runs for a moment only
    }

    @cache
    def train(name: str) -> dict[str, Any]:
        flags = [*TINY, "--runs-dir", str(runs_dir), "--run-suffix", name, *SPLITS[name]]
        done = subprocess.run(
            [sys.executable, "-m", "matrixrl.cli.main", "hackmatrix", "train", *flags],
            env=environment,
            capture_output=True,
            text=True,
            timeout=800,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "matrixrl" not in done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return train


@pytest.mark.slow
@pytest.mark.timeout(850)  # a large compilation, on a machine that may be busy
def test_a_process_names_its_run_and_answers_scripts(
    trained: Callable[[str], dict[str, Any]], runs_dir: Path
) -> None:
    result = trained("five")
    assert NAME.fullmatch(result["run_name"])
    assert result["run_name"].endswith("-1-five")
    assert result["run_id"] == run_id(result["run_name"])
    assert Path(result["run_dir"]) == runs_dir / result["run_name"]
    assert result["update_step"] == 12
    assert result["total_timesteps"] == 288  # of 290: whole batches
    assert len(result["params_sha256"]) == 64
    assert result["steps_per_second"] > 0
    assert isinstance(result["mean_return"], float)
    assert audit(Path(result["run_dir"])).agrees


@pytest.mark.slow
@pytest.mark.timeout(850)  # a large compilation, on a machine that may be busy
@pytest.mark.parametrize("name", ["four", "whole"])
def test_chunks_and_one_go_are_equal_when_each_is_compiled_by_itself(
    name: str, trained: Callable[[str], dict[str, Any]]
) -> None:
    ours, theirs = trained(name), trained("five")
    assert [ours[field] for field in SAME] == [theirs[field] for field in SAME]
    with JournalReader(Path(ours["run_dir"])) as mine, JournalReader(Path(theirs["run_dir"])) as yours:
        assert [row.values for row in mine.episodes()] == [row.values for row in yours.episodes()]
        assert [row.step for row in mine.stream()] == ([4, 8, 12] if name == "four" else [12])
        assert [row.step for row in yours.stream()] == [5, 10, 12]


def test_the_summary_of_a_run_without_a_whole_chunk_names_no_rate() -> None:
    from matrixrl.systems.ppo.trainer import PPOProgress

    config = read_config(["--preset", "dev"])
    state: Any = SimpleNamespace(progress=PPOProgress(recorded=3, episodes=3_052))
    trainer: Any = SimpleNamespace(steps_per_second=0.0)
    text = summary(config, trainer, state, 75.0)
    assert text == "3 of 80 updates, 12,288 steps, 3,052 episodes; 1 min 15 s"
    state.progress = dataclasses.replace(state.progress, mean_return=-3.9249, maxima={"highest_stage": 2})
    trainer.steps_per_second = 11_234.5
    text = summary(config, trainer, state, 75.0)
    assert "mean return -3.92 over the last chunk, highest stage 2, 11,200 steps/s; 1 min 15 s" in text
