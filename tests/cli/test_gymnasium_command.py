"""`matrixrl ppo` on environments of Gymnasium: trained, resumed to the same bits, evaluated, watched; failures."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from matrixrl.cli.main import main
from matrixrl.config.environment import EnvironmentRunConfig
from matrixrl.envs.adapters.gymnasium import GymnasiumEnvironment
from matrixrl.systems.ppo.environment import environment_task
from matrixrl.systems.ppo.host_program import HostProgram
from matrixrl.systems.ppo.host_trainer import HostTrainer
from matrixrl.tracking.audit import audit
from matrixrl.tracking.journal_reader import JournalReader

ROOT = Path(__file__).resolve().parents[2]
SPEC = "gymnasium:tests.envs.tiny_gymnasium:tiny/{}-v0"

# One update for all tests of this file, where environments have the same shapes.
TINY = ["--num-envs", "4", "--num-steps", "8", "--num-minibatches", "2"]
TINY += ["--hidden-dim", "8", "--num-layers", "1", "--no-anneal-lr"]
TINY += ["--log-interval", "5", "--console", "quiet", "--json"]
BATCH = 32


@pytest.fixture(scope="module", autouse=True)
def state_folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def train(runs: Path, *arguments: str) -> int:
    return main(["ppo", "train", *TINY, "--runs-dir", str(runs), *arguments])


def resume(runs: Path, name: str, *arguments: str) -> int:
    where = ["--console", "quiet", "--json", "--runs-dir", str(runs)]
    return main(["ppo", "train", "--resume-run", name, *where, *arguments])


def trained(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def complaints(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("matrixrl: ")]


def workers() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children()
        if any("gymnasium_worker" in part for part in child.cmdline())
    ]


def rows(folder: Path) -> list[dict[str, Any]]:
    with JournalReader(folder) as reader:
        return [dict(row.metrics) for row in reader.stream()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run of twenty updates on the walk, and the checksum of its parameters."""
    runs = tmp_path_factory.mktemp("whole")
    result = runs / "result"
    with result.open("w") as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", file)
        steps = str(20 * BATCH)
        assert (
            train(runs, "--env", SPEC.format("Walk"), "--total-timesteps", steps, "--run-name", "whole") == 0
        )
    assert not workers()
    record = json.loads(result.read_text().splitlines()[-1])
    assert record["total_timesteps"] == 20 * BATCH
    assert isinstance(record["mean_return"], float)
    return runs, record["params_sha256"]


def test_a_resumed_run_equals_one_that_was_not_stopped(
    whole: tuple[Path, str], runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Episodes are replayed; the number of workers does not matter."""
    command = ["--env", SPEC.format("Walk"), "--run-name", "halves", "--num-workers", "1"]
    assert train(runs, *command, "--total-timesteps", str(7 * BATCH)) == 0
    steps = ["--total-timesteps", str(20 * BATCH)]
    assert resume(runs, "halves", *steps, "--num-workers", "3") == 0
    assert trained(capsys)["params_sha256"] == whole[1]
    assert audit(runs / "halves", server=False).agrees
    assert [row.get("episode/return") for row in rows(runs / "halves")][-1] == (
        rows(whole[0] / "whole")[-1]["episode/return"]
    )
    assert not list((runs / "halves" / "checkpoints").rglob("*.pkl"))


def test_the_journal_has_the_episodes(whole: tuple[Path, str]) -> None:
    with JournalReader(whole[0] / "whole") as reader:
        columns, episodes = reader.episode_columns, list(reader.episodes())
    assert list(columns) == ["Global Episode", "Update", "Return", "Steps", "reached"]
    assert columns["reached"] == "bool"
    assert len(episodes) == sum(row["episode/count"] for row in rows(whole[0] / "whole")) > 20


def test_evaluate_and_watch_play_the_same_episodes(
    whole: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--runs-dir", str(whole[0])]
    assert (
        main(["ppo", "evaluate", "whole", *where, "--episodes", "18", "--policy", "sampled", "--json"]) == 0
    )
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert record["sampled"]["episodes"] == 18
    assert 0 <= record["sampled"]["reached"]["mean"] <= 1
    picture, best = tmp_path / "episode.gif", record["sampled"]["best_episode"]
    assert main(["ppo", "watch", "whole", *where, "--episode", str(best), "--gif", str(picture)]) == 0
    last = capsys.readouterr().out.splitlines()[-2]
    assert last.startswith(f"return {record['sampled']['best_return']:.2f} after ")
    with Image.open(picture) as film:
        assert np.asarray(film.convert("L")).min() < 128  # something is drawn
    assert not workers()


@pytest.mark.parametrize(
    ("name", "how"),
    [
        pytest.param("raise", "raised RuntimeError: the wheel", marks=pytest.mark.slow),
        ("exit", "ended with exit status 7"),
    ],
)
def test_a_worker_that_fails_ends_the_run_with_a_checkpoint(
    name: str,
    how: str,
    whole: tuple[Path, str],
    runs: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spec = SPEC.format(f"Late-{name}")
    assert train(runs, "--env", spec, "--total-timesteps", str(20 * BATCH), "--run-name", "late") == 2
    (line,) = complaints(capsys)
    assert f"--env {spec}: " in line
    assert how in line
    assert "the last good checkpoint is checkpoints/12 (step 12); continue with: matrixrl ppo train" in line
    assert not workers()
    monkeypatch.setenv("TINY_REPAIRED", "1")
    assert resume(runs, "late") == 0
    assert trained(capsys)["params_sha256"] == whole[1]


def test_states_that_are_offered_are_restored(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An environment that depends on the episodes before cannot be replayed."""
    hashes = []
    for name, lengths in (("whole", [12]), ("parts", [5, 12])):
        command = ["--env", SPEC.format("Stateful"), "--run-name", name]
        assert train(runs, *command, "--total-timesteps", str(lengths[0] * BATCH)) == 0
        for length in lengths[1:]:
            assert resume(runs, name, "--total-timesteps", str(length * BATCH)) == 0
        hashes.append(trained(capsys)["params_sha256"])
    assert hashes[0] == hashes[1]


def test_what_cannot_be_resumed_exactly_is_said(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = SPEC.format("Forgetful")
    assert train(runs, "--env", spec, "--total-timesteps", str(5 * BATCH), "--run-name", "new") == 0
    said = f"--env {spec}: it offers no state, and replayed actions lead elsewhere: a resumed run starts new episodes"
    assert resume(runs, "new", "--total-timesteps", str(10 * BATCH)) == 0
    assert trained(capsys)["update_step"] == 10
    with JournalReader(runs / "new") as reader:
        warnings = [note.text for note in reader.notes() if note.level == "warning"]
    assert warnings == [said, said, f"--env {spec}: the run continues with new episodes"]


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ("Broken-reset", "reset(seed) raised RuntimeError: no reset today"),
        ("Broken-raise", "step(action) raised RuntimeError: the wheel"),
        ("Broken-nan", "expected finite rewards, came nan"),
        (
            "Broken-shape",
            "expected an observation of float32(2,), which observation_space declares, came float32(3,)",
        ),
        ("Broken-infinity", "expected finite observations"),
        ("Broken-mask", "expected a legal action in every state"),
        ("Odd", "expected Discrete, MultiDiscrete or continuous Box actions, came MultiBinary(3)"),
        ("Wolk", "Gymnasium has no environment tiny/Wolk-v0; it has, for example, tiny/Walk-v0"),
    ],
)
def test_a_bad_environment_is_one_line_before_anything_compiles(
    env: str, message: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = SPEC.format(env)
    assert train(runs, "--env", spec, "--total-timesteps", str(BATCH)) == 2
    (line,) = complaints(capsys)
    assert line.startswith(f"matrixrl: --env {spec}: ")
    assert message in line
    assert not list(runs.glob("*/run.json"))
    assert not workers()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--env", "gymnasium:"], "must be gymnasium:NAME"),
        (["--env", "gymnasium:a b"], "must be gymnasium:NAME"),
        (
            ["--env", "gymnasium:CartPole-v1", "--num-seeds", "2"],
            "--num-seeds: --env gymnasium:CartPole-v1 runs in worker",
        ),
        (["--env", "gymnasium:CartPole-v1", "--monolithic"], "--monolithic: "),
        (
            ["--env", "gymnax:CartPole-v1", "--num-workers", "2"],
            "--num-workers 2: only environments of gymnasium:NAME",
        ),
        (["--env", "gymnasium:no_module_here:X-v0"], "importing no_module_here raised ModuleNotFoundError"),
    ],
)
def test_bad_arguments_are_one_line(
    arguments: list[str], message: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(runs, *arguments) == 2
    (line,) = complaints(capsys)
    assert message in line
    assert not list(runs.glob("*/run.json"))


def test_gymnasium_missing_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    assert train(runs, "--env", "gymnasium:CartPole-v1") == 2
    (line,) = complaints(capsys)
    assert line.endswith("pip install 'matrixrl[gymnasium]'")


def test_the_module_that_registers_is_named_once(
    whole: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run from elsewhere imports no module that nobody named; `gymnasium:NAME` names none."""
    shutil.copytree(whole[0] / "whole", tmp_path / "whole")
    assert main(["ppo", "evaluate", "whole", "--runs-dir", str(tmp_path)]) == 2
    (line,) = complaints(capsys)
    assert line.endswith(f"name it once: --env {SPEC.format('Walk')}")


def test_a_rollout_has_the_values_of_the_last_observations() -> None:
    """Continuous actions of a dict, in an environment that is cut off after ten steps."""
    config = EnvironmentRunConfig(env=SPEC.format("Push"))
    shape = dataclasses.replace(config.ppo, num_envs=2, num_steps=12, num_minibatches=1, total_timesteps=24)
    config = dataclasses.replace(config, ppo=shape, network=dataclasses.replace(config.network, hidden_dim=8))
    task = environment_task(config)
    assert isinstance(task.env, GymnasiumEnvironment)
    assert task.normalize_observations
    trainer = HostTrainer(config, HostProgram(config, task))
    try:
        state = trainer.init()
        episodes, steps, ended, table = trainer._rollout(state.device, state.episodes, 0)
        assert ended[9].all()
        assert ended.sum() == 2
        assert np.array_equal(steps.truncated, ended)
        assert not steps.terminated.any()
        final = trainer._host.value(
            state.device.params, state.device.statistics, trainer.pool.arrays["final"].copy()
        )
        assert np.allclose(steps.final_value[9], final)
        assert (np.asarray(steps.final_value)[~ended] == 0).all()
        assert np.allclose(table["return"][9], np.asarray(steps.reward)[:10].sum(0), atol=1e-5)
        assert (table["steps"][9] == 10).all()
        assert [len(actions) for actions in episodes.actions] == [2, 2]
        again = trainer._continue(episodes, (), trainer.pool.arrays["observation"].copy())
        assert again
    finally:
        trainer.close()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_killed_in_the_middle_resumes_to_the_same_hash(tmp_path: Path) -> None:
    program = [
        sys.executable,
        "-m",
        "matrixrl.cli.main",
        "ppo",
        "train",
        "--runs-dir",
        str(tmp_path),
        "--json",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    start = [*program, "--env", "gymnasium:CartPole-v1", *TINY, "--total-timesteps", str(BATCH * 400)]
    start += ["--save-interval-chunks", "4", "--run-name"]
    whole = subprocess.run([*start, "whole"], env=environment, capture_output=True, text=True, check=True)
    process = subprocess.Popen(
        [*start, "killed"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 240
    while not list((tmp_path / "killed" / "checkpoints").glob("[0-9]*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert len(children) >= 2
    assert not psutil.wait_procs(children, 60)[1]
    resumed = subprocess.run(
        [*program, "--resume-run", "killed", "--console", "quiet"],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    results = [json.loads(done.stdout.splitlines()[-1]) for done in (whole, resumed)]
    assert results[0]["params_sha256"] == results[1]["params_sha256"]
    assert audit(tmp_path / "killed", server=False).agrees
