"""`matrixrl hackmatrix train --start-from`: whose network and parameters a run takes over, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

from matrixrl.agents.ppo import TrainState
from matrixrl.cli.hackmatrix import hackmatrix_session, read_config
from matrixrl.cli.hackmatrix_start import StartAgent
from matrixrl.cli.main import main
from matrixrl.config import ConfigError, HackmatrixConfig, as_record, from_record, may_change_on_resume
from matrixrl.devices.coordinator import SINGLE
from matrixrl.systems.hackmatrix.agent_file import pretrained_agent, read_agent, write_agent
from matrixrl.systems.hackmatrix.evaluation import NetworkPolicy
from matrixrl.systems.hackmatrix.task import build_network
from matrixrl.systems.ppo.trainer import PPOTrainer
from matrixrl.tracking.audit import audit
from matrixrl.tracking.journal_reader import JournalReader
from matrixrl.training.first_calls import FirstCalls
from matrixrl.training.parameters import params_sha256
from tests.cli.descent import descend

SMALL = ["--hidden-dim", "8", "--num-layers", "1", "--gamma", "0.9", "--reward-scale", "0.25"]


@pytest.fixture(scope="module")
def agent_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of `export-agent` with a tiny network."""
    config = read_config(SMALL)
    network = build_network(config)
    params = network.init(jax.random.key(1), np.zeros((1, 117), np.uint32))
    path = tmp_path_factory.mktemp("agent") / "tiny.npz"
    write_agent(
        path,
        run_name="tiny",
        step=3,
        config=config,
        policy=NetworkPolicy(network, params),
        precision="float32",
    )
    return path


def test_a_run_takes_over_network_discount_and_reward_scale(agent_file: Path) -> None:
    config = read_config(["--preset", "tuned", "--start-from", str(agent_file)])
    assert config.network == read_config(SMALL).network
    assert (config.ppo.gamma, config.ppo.reward_scale) == (0.9, 0.25)
    # The rest is the preset's, and flags come last.
    assert config.ppo.learning_rate == read_config(["--preset", "tuned"]).ppo.learning_rate
    flags = ["--gamma", "0.99", "--precision", "bfloat16", "--hidden-dim", "8"]
    other = read_config(["--start-from", str(agent_file), *flags])
    assert (other.ppo.gamma, other.network.precision) == (0.99, "bfloat16")
    shipped = read_config(["--start-from", "pretrained"])
    assert shipped.network == pretrained_agent().config.network
    assert shipped.start_from == "pretrained"


def test_it_is_recorded_and_older_records_have_none(
    agent_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(agent_file.parent)
    config = read_config(["--start-from", agent_file.name])
    # A run resumes in any folder.
    assert config.start_from == str(agent_file)
    record = json.loads(json.dumps(as_record(config)))
    assert from_record(HackmatrixConfig, record) == config
    del record["start_from"]
    assert from_record(HackmatrixConfig, record).start_from is None
    assert not may_change_on_resume(HackmatrixConfig, "start_from")


def test_a_settings_file_may_name_it(agent_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(f'start_from = "{agent_file}"\n[ppo]\ngamma = 0.5\n')
    config = read_config(["--config", str(path)])
    assert (config.network.hidden_dim, config.ppo.gamma, config.ppo.reward_scale) == (8, 0.5, 0.25)


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--start-from", "pretrained", "--hidden-dim", "8"], ["--hidden-dim 8", "pretrained has 128"]),
        (["--start-from", "pretrained", "--torso", "mlp"], ["--torso mlp", "has grid"]),
        (
            ["--start-from", "pretrained", "--features", "observation"],
            ["--features observation", "pretrained has"],
        ),
        (["--start-from", "pretrained", "--activation", "tanh"], ["--activation tanh", "has relu"]),
        (["--start-from", "nobody"], ["--start-from nobody", "no hackmatrix run of this name"]),
        (["--start-from", "missing.npz"], ["--start-from", "missing.npz"]),
        (["--start-from", __file__.replace(".py", ".npz")], ["--start-from"]),
        (["--start-from"], ["--start-from", "must follow"]),
    ],
    ids=lambda value: " ".join(value)[-30:],
)
def test_what_does_not_fit_is_one_line_and_leaves_nothing(
    flags: list[str], parts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["hackmatrix", "train", "--runs-dir", str(tmp_path / "runs"), *flags]) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("matrixrl: ")
    assert all(part in line for part in parts), line
    assert captured.out == ""
    assert not (tmp_path / "runs").exists()


def test_a_damaged_file_is_refused_before_the_run_is_opened(agent_file: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.npz"
    damaged.write_bytes(agent_file.read_bytes()[:-200])
    with pytest.raises(ConfigError, match=r"--start-from .*damaged\.npz: not an archive"):
        read_config(["--start-from", str(damaged)])


def test_training_begins_with_the_parameters_of_the_agent(agent_file: Path) -> None:
    config = read_config(["--start-from", str(agent_file)])
    start = StartAgent(SINGLE)
    start.prepare(config)
    notes: list[str] = []
    run: Any = SimpleNamespace(resumed=False, note=notes.append)
    params_for = start.params_for(config, run)
    network = build_network(config)
    random = network.init(jax.random.key(7), np.zeros((1, 117), np.uint32))
    state: Any = TrainState(random, (), (), ())  # pyright: ignore[reportArgumentType]
    program: Any = SimpleNamespace(
        task=None,
        template=jax.eval_shape(lambda: state),
        compile_ahead=lambda: None,
        first_calls=FirstCalls(),
        init=lambda key: state,
    )
    trainer = PPOTrainer(config, program, start=params_for)
    expected = params_sha256(read_agent(agent_file).policy.params)
    assert params_sha256(trainer.init().device.params) == expected
    assert notes == [f"starts from tiny.npz after 3 updates (98,304 steps), parameters {expected[:12]}"]
    # They are placed as results of `init` are, so that the training program compiles once.
    assert not any(leaf.committed for leaf in jax.tree.leaves(trainer.init().device.params))
    # Without a checkpoint a resumed run loads it again.
    assert params_sha256(trainer.init().device.params) == expected
    assert params_sha256(PPOTrainer(config, program).init().device.params) == params_sha256(random)


def test_the_session_saves_the_start_so_that_the_run_does_not_need_the_agent_any_more(
    agent_file: Path, tmp_path: Path
) -> None:
    assert hackmatrix_session(read_config(["--start-from", str(agent_file)])).saves_start
    assert not hackmatrix_session(read_config([])).saves_start
    # Training diverges before its first regular checkpoint.
    assert descend(tmp_path, rate=0.1, poisoned=(7,), max_rollbacks=1, saves_start=True) == 0
    with JournalReader(tmp_path / "r") as reader:
        saved = [row.path for row in reader.files() if row.kind == "checkpoint"]
        texts = [note.text for note in reader.notes()]
    assert saved[0] == "checkpoints/0"
    assert any("the last good checkpoint is checkpoints/0 (step 0)" in text for text in texts)
    assert "resumed r at step 0, attempt 2" in texts
    assert audit(tmp_path / "r").agrees
