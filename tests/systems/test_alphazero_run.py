"""A run of AlphaZero through the trainer, journal and checkpoints of the house, on a game of two moves."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from matrixrl.agents.gumbel import SearchMetrics, SearchTrainState
from matrixrl.agents.masked import masked_log_softmax
from matrixrl.checkpoints.store import CheckpointStore
from matrixrl.cli import hackmatrix
from matrixrl.cli.hackmatrix import make_spec, read_config, summary
from matrixrl.cli.main import main
from matrixrl.config import HackmatrixConfig
from matrixrl.dashboard.server import create_app
from matrixrl.systems.hackmatrix.spec import ALPHAZERO_SPEC, SPEC
from matrixrl.systems.ppo.trainer import PPOState, PPOTrainer
from matrixrl.tracking.audit import audit
from matrixrl.tracking.journal_reader import JournalReader
from matrixrl.training.parameters import params_sha256
from tests.agents.test_gumbel import NETWORK
from tests.checkpoints import runs
from tests.dashboard.client import Client
from tests.systems.doors_run import SETTINGS, UPDATES, DoorsProgram
from tests.systems.train_run import assert_offline_rows, train_run
from tests.tracking.conftest import environment

__all__ = ["environment"]  # a fixture


@pytest.fixture(scope="module")
def program() -> DoorsProgram:
    return DoorsProgram(read_config(SETTINGS))


def play(program: DoorsProgram, runs_dir: Path, *flags: str) -> tuple[PPOState, PPOTrainer]:
    """Trains the run `r`, or resumes it."""
    named = ["--resume-run", "r"] if "--resume-run" in flags else SETTINGS
    config = read_config([*named, "--runs-dir", str(runs_dir)])
    more = {"environment_version": 0}
    return train_run(make_spec(config), config, lambda run: PPOTrainer(config, program), more)


@pytest.fixture(scope="module")
def whole(
    program: DoorsProgram, tmp_path_factory: pytest.TempPathFactory
) -> tuple[PPOState, PPOTrainer, Path]:
    runs_dir = tmp_path_factory.mktemp("runs")
    return *play(program, runs_dir), runs_dir


def test_a_run_is_recorded_like_every_other(whole: tuple[PPOState, PPOTrainer, Path]) -> None:
    state, trainer, runs_dir = whole
    folder = runs_dir / "r"
    assert audit(folder).agrees
    with JournalReader(folder) as reader:
        rows = list(reader.stream())
        episodes = list(reader.episodes())
        columns = list(reader.episode_columns)
    assert [row.step for row in rows] == [20, 40, 60]
    for name in SearchMetrics._fields:
        assert f"train/{name}" in rows[-1].metrics, name
    assert {"train/learning_rate", "train/steps_per_second", "episode/return"} <= rows[-1].metrics.keys()
    assert len(episodes) == state.progress.episodes > 0
    assert columns == list(SPEC.episode_columns)
    config: Any = trainer.config
    assert summary(config, trainer, state, 1.0).startswith("60 of 60 updates, 3,840 steps, ")


def test_the_best_play_is_learned_and_its_worth(
    program: DoorsProgram, whole: tuple[PPOState, PPOTrainer, Path]
) -> None:
    def policy(params: Any) -> tuple[np.ndarray, np.ndarray]:
        outputs: Any = NETWORK.apply(params, jnp.eye(2))  # before the door, and behind it
        legal = jnp.array([[True, True, False], [True, True, True]])
        return np.exp(np.asarray(masked_log_softmax(outputs[0], legal))), np.asarray(outputs[1])

    before, _ = policy(program.init(jax.random.key(0)).params)
    assert before[0, 1] < 0.6
    assert before[1, 2] < 0.5
    after, value = policy(whole[0].device.params)
    assert after[0, 1] > 0.95
    # A search that foresaw the coin would learn to bet: it would always win.
    assert after[1, 2] > 0.85
    assert value == pytest.approx([0.9 * 0.8, 0.8], abs=0.15)


def test_no_target_lies_on_an_illegal_action(whole: tuple[PPOState, PPOTrainer, Path]) -> None:
    device: Any = whole[0].device
    legal, weights = np.asarray(device.replay.legal), np.asarray(device.replay.weights)
    assert (~legal).any()
    assert (weights[~legal] == 0).all()
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
    # The illegal action would pay 100.
    assert float(device.replay.target.max()) <= 1.1


def test_the_search_does_not_foresee_the_coin(whole: tuple[PPOState, PPOTrainer, Path]) -> None:
    with JournalReader(whole[2] / "r") as reader:
        table = [dict(zip(reader.episode_columns, row.values, strict=True)) for row in reader.episodes()]
    returns = np.array([row["Return"] for row in table], float)
    steps = np.array([row["Steps"] for row in table], int)
    bets = returns[(steps == 2) & (np.abs(returns - 0.8) > 1e-3)]
    assert len(bets) > 100
    assert np.mean(bets) == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(len(bets)))


@pytest.mark.parametrize("kept", [20, 40])
def test_a_killed_run_continues_to_the_same_bits(
    kept: int, program: DoorsProgram, whole: tuple[PPOState, PPOTrainer, Path], tmp_path: Path
) -> None:
    """What a `kill -9` leaves behind: the journal may be ahead of the newest checkpoint."""
    shutil.copytree(whole[2] / "r", tmp_path / "r")
    for step in CheckpointStore(tmp_path / "r").steps():
        if step > kept:
            shutil.rmtree(tmp_path / "r" / "checkpoints" / str(step))
    state, _ = play(program, tmp_path, "--resume-run")
    same = jax.tree.map(
        lambda a, b: bool((np.asarray(a) == np.asarray(b)).all()), state.device, whole[0].device
    )
    assert all(jax.tree.leaves(same)), same
    assert state.progress == whole[0].progress
    with JournalReader(tmp_path / "r") as ours, JournalReader(whole[2] / "r") as theirs:
        assert [row.values for row in ours.episodes()] == [row.values for row in theirs.episodes()]
    assert audit(tmp_path / "r").agrees


def saved_arrays(folder: Path) -> dict[str, np.ndarray]:
    checkpoint, _ = CheckpointStore(folder).newest()
    assert checkpoint is not None
    assert checkpoint.step == UPDATES
    return checkpoint.host_arrays()


@pytest.mark.slow
def test_a_process_that_was_killed_is_resumed_by_the_command_to_the_same_bits(
    program: DoorsProgram,
    whole: tuple[PPOState, PPOTrainer, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["hackmatrix", "train", *SETTINGS, "--log-interval", "2", "--runs-dir", str(tmp_path)]
    command = [sys.executable, "-m", "tests.systems.doors_process", *words]
    runs.kill_at_first_checkpoint(command, tmp_path / "r", runs.environment(tmp_path / "cache"))
    monkeypatch.setattr(hackmatrix, "make_program", lambda config: program)
    capsys.readouterr()
    assert main(["hackmatrix", "train", "--resume-run", "r", "--runs-dir", str(tmp_path), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (answer["global_step"], answer["status"]) == (UPDATES, "finished")
    ours, theirs = saved_arrays(tmp_path / "r"), saved_arrays(whole[2] / "r")
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array, err_msg=name)
    with JournalReader(tmp_path / "r") as one, JournalReader(whole[2] / "r") as other:
        assert [row.values for row in one.episodes()] == [row.values for row in other.episodes()]
    assert audit(tmp_path / "r").agrees


@pytest.mark.slow
def test_rows_reach_the_offline_file_of_wandb(
    program: DoorsProgram,
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hackmatrix, "make_program", lambda config: program)
    words = ["hackmatrix", "train", *SETTINGS, "--runs-dir", str(tmp_path), "--wandb"]
    assert main([*words, "--finish-seconds", "200"]) == 0
    folder = tmp_path / "r"
    for sent in assert_offline_rows(folder, [20, 40, 60]):
        assert "train/search_kl" in sent
    report = audit(folder)
    assert report.agrees, report.gaps


def test_the_dashboard_shows_it(whole: tuple[PPOState, PPOTrainer, Path]) -> None:
    state, _, runs_dir = whole
    client = Client(create_app(runs_dir))
    (row,) = client.get("/api/runs").json()["runs"]
    assert (row["key"], row["system"], row["state"], row["step"]) == ("r", "hackmatrix", "finished", UPDATES)
    details = client.get("/api/runs/r").json()
    assert details["settings"]["alphazero.num_simulations"] == 24
    assert details["charts"] == list(ALPHAZERO_SPEC.charts)
    assert not details["damage"]
    known = set(client.get("/api/runs/r/metrics").json()["metrics"])
    assert {name for name in ALPHAZERO_SPEC.charts if name.startswith("train/")} <= known
    page = client.get("/api/runs/r/episodes", params={"count": 10}).json()
    assert page["total"] == state.progress.episodes


def test_the_buffer_is_part_of_the_checkpoint(whole: tuple[PPOState, PPOTrainer, Path]) -> None:
    checkpoint, _ = CheckpointStore(whole[2] / "r").newest()
    assert checkpoint is not None
    saved = checkpoint.host_arrays("replay/")
    assert saved.keys() == {"observation", "legal", "weights", "target", "expiry", "clock"}
    device = whole[0].device
    assert isinstance(device, SearchTrainState)
    np.testing.assert_array_equal(saved["weights"], device.replay.weights)
    assert (saved["expiry"] >= UPDATES - 4).all()  # of the last four rollouts
    assert len(params_sha256(device.params)) == 64


def test_the_spec_has_the_metrics_of_the_search_and_the_columns_of_the_game() -> None:
    config = read_config(SETTINGS)
    assert make_spec(config) == ALPHAZERO_SPEC
    assert ALPHAZERO_SPEC.episode_columns == SPEC.episode_columns
    names = {metric if isinstance(metric, str) else metric.name for metric in ALPHAZERO_SPEC.console_metrics}
    assert {"train/search_kl", "train/target_entropy", "episode/highest_stage"} <= names
    assert "train/approx_kl" not in names
    for name in names:
        assert not name.startswith("train/") or name[6:] in {
            *SearchMetrics._fields, "update_step", "learning_rate", "steps_per_second", "logging_overhead_pct",
        }, name  # fmt: skip
    later = make_spec(read_config([*SETTINGS, "--later-starts", "0.3"]))
    assert list(later.episode_columns) == [*SPEC.episode_columns, "Start Stage"]
    assert later.console_metrics == ALPHAZERO_SPEC.console_metrics


def test_coefficients_reach_the_learner(program: DoorsProgram) -> None:
    learner = program._learner(program.coefficients, np.int32(0))  # pyright: ignore[reportArgumentType]
    assert float(learner.gamma) == pytest.approx(0.9)
    assert learner.value_lambda == 0.5
    assert program.learning_rate(0) == pytest.approx(0.01)
    assert program.learning_rate(UPDATES - 1) == pytest.approx(0.01 / UPDATES)
    assert isinstance(program.config, HackmatrixConfig)
