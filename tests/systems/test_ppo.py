"""Training on HackMatrix in small: one compiled program with room for all updates serves every way to split them."""

from __future__ import annotations

import gc
import hashlib
import itertools
import json
import re
import shlex
import shutil
import time
import weakref
from collections.abc import Callable, Sequence
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from matrixrl import presets
from matrixrl.checkpoints import format as checkpoint_format
from matrixrl.checkpoints.store import CheckpointStore
from matrixrl.cli.hackmatrix import ENVIRONMENT_VERSION, hackmatrix_session, read_config
from matrixrl.cli.main import main
from matrixrl.config import ConfigError, HackmatrixConfig, with_value
from matrixrl.envs.hackmatrix.env import HackMatrix
from matrixrl.envs.hackmatrix.rules import REWARD_COMPONENTS
from matrixrl.systems.hackmatrix.spec import EPISODE_COLUMNS as HACKMATRIX_EPISODE_COLUMNS
from matrixrl.systems.hackmatrix.task import hackmatrix_task
from matrixrl.systems.ppo import diagnostics
from matrixrl.systems.ppo.program import PPOProgram
from matrixrl.systems.ppo.task import PPOTask
from matrixrl.systems.ppo.trainer import PPOState, PPOTrainer
from matrixrl.tracking.audit import audit
from matrixrl.tracking.events import is_wall_clock
from matrixrl.tracking.identity import MONTHS
from matrixrl.tracking.journal_reader import JournalReader
from matrixrl.tracking.run import open_run
from matrixrl.training.loop import TrainingDivergedError
from matrixrl.training.parameters import params_sha256
from tests.envs.hackmatrix.lanes import QUICKLY
from tests.systems.train_run import assert_offline_rows, train_run

UPDATES, ENVS, STEPS = 12, 4, 6
SETTINGS = shlex.split(f"""
    --preset dev --num-envs {ENVS} --num-steps {STEPS} --total-timesteps {UPDATES * ENVS * STEPS} --num-minibatches 2
    --update-epochs 2 --hidden-dim 8 --num-layers 1 --time-limit 8 --seed 3 --console quiet --learning-rate 0.01
    --final-ent-coef 0.01 --anneal-lr --devices 1 --torso mlp --features observation
""")
EVERY_CHUNK = ["--save-interval-chunks", "1", "--keep-last", "999"]
CONTRACT_TRAIN = (
    "total_loss", "pg_loss", "vf_loss", "entropy", "approx_kl", "clip_fraction", "explained_variance", "mean_reward",
    "mean_episode_length", "steps_per_second", "update_step", "logging_overhead_pct", "learning_rate",
)  # fmt: skip
CONTRACT_EPISODE = (
    "count", "return", "steps", "highest_stage", "final_score", "win_rate", "programs_used", "action_moves",
    "action_siphons", "action_programs", *(f"reward_{name}" for name in REWARD_COMPONENTS),
)  # fmt: skip


class QuickProgram(PPOProgram):
    """Compiled with quick code generation: it runs for a moment only."""

    @cached_property
    def init(self) -> Callable[..., Any]:
        return jax.jit(self.ppo.init, compiler_options=QUICKLY)

    @cached_property
    def _compiled(self) -> Callable[..., Any]:
        return jax.jit(self.updates, donate_argnums=0, compiler_options=QUICKLY)


def test_a_program_goes_when_nothing_uses_it_and_the_command_keeps_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("matrixrl.systems.ppo.program.PPOProgram", QuickProgram)
    config = read_config(SETTINGS)
    session = hackmatrix_session(config)
    assert session.prepare is not None
    program: Any = session.prepare(config)
    program.init(jax.random.key(0))
    gone = weakref.ref(program)
    del program
    # A rollback continues with a lower learning rate.
    session.prepare(with_value(config, "ppo.learning_rate", 1e-3))
    gc.collect()
    assert gone() is None


class Split(PPOTrainer):
    """Asks for so many updates at a time, in turn, where the clock would decide."""

    sizes: Sequence[int] = (1,)

    def _pace(self, count: int) -> None:
        if not hasattr(self, "_turns"):
            self._turns = itertools.cycle(self.sizes)
        self._updates_per_call = next(self._turns)


@pytest.fixture(scope="module")
def program() -> PPOProgram:
    """With room for all updates in one call, which any smaller number fits too."""
    config = read_config([*SETTINGS, "--monolithic"])
    return QuickProgram(config, hackmatrix_task(config))


Made = tuple[PPOState, PPOTrainer]


def play(
    program: PPOProgram,
    runs_dir: Path,
    *flags: str,
    base: Sequence[str] = SETTINGS,
    trainer_type: type[PPOTrainer] = PPOTrainer,
    version: int = ENVIRONMENT_VERSION,
) -> Made:
    """Trains the run `r`."""
    named = [] if "--resume-run" in flags else ["--run-name", "r"]
    config = read_config([*base, *flags, *named, "--runs-dir", str(runs_dir)])
    more = {"environment_version": version}
    return train_run("hackmatrix", config, lambda run: trainer_type(config, program), more)


@pytest.fixture
def command(
    program: PPOProgram, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, dict[str, Any], str]]:
    """`matrixrl hackmatrix train --json` in this process: exit status, the JSON object and what stderr says."""

    def with_room_for_all(config: HackmatrixConfig, task: PPOTask) -> PPOProgram:
        made = QuickProgram(config, task)
        made.__dict__.update(_compiled=program._compiled, init=program.init)
        return made

    monkeypatch.setattr("matrixrl.systems.ppo.program.PPOProgram", with_room_for_all)

    def train(*arguments: str) -> tuple[int, dict[str, Any], str]:
        capsys.readouterr()
        status = main(["hackmatrix", "train", *arguments, "--json"])
        captured = capsys.readouterr()
        lines = captured.out.splitlines()
        return status, json.loads(lines[-1]) if status == 0 else {}, captured.err

    return train


def split(*sizes: int) -> type[PPOTrainer]:
    return type("SplitBy", (Split,), {"sizes": sizes})


def table(folder: Path) -> list[tuple[Any, ...]]:
    with JournalReader(folder) as reader:
        return [(row.step, *row.values) for row in reader.episodes()]


def stream(folder: Path) -> list[tuple[int, dict[str, float]]]:
    """The stream without what was measured with a watch."""
    with JournalReader(folder) as reader:
        return [
            (row.step, {name: value for name, value in row.metrics.items() if not is_wall_clock(name)})
            for row in reader.stream()
        ]


def warnings(folder: Path) -> list[tuple[int | None, str]]:
    with JournalReader(folder) as reader:
        return [(note.step, note.text) for note in reader.notes() if note.level == "warning"]


def assert_same_state(ours: PPOState, theirs: PPOState) -> None:
    """Bit for bit: weights, optimizer and games."""
    mine, yours = checkpoint_format.flatten(ours.device), checkpoint_format.flatten(theirs.device)
    assert mine.keys() == yours.keys()
    for name, array in mine.items():
        np.testing.assert_array_equal(array, yours[name], err_msg=name)


@pytest.fixture(scope="module")
def whole(program: PPOProgram, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PPOState]:
    """All updates in one call."""
    runs_dir = tmp_path_factory.mktemp("whole")
    state, _ = play(program, runs_dir, "--monolithic")
    return runs_dir / "r", state


@pytest.fixture(scope="module")
def chunked(program: PPOProgram, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PPOState]:
    """Chunks of five updates, so that the last one is shorter; an update at a time, and a checkpoint after each."""
    runs_dir = tmp_path_factory.mktemp("chunked")
    state, _ = play(program, runs_dir, "--log-interval", "5", *EVERY_CHUNK, trainer_type=split(1))
    return runs_dir / "r", state


@pytest.mark.parametrize(
    ("chunk", "sizes"), [(1, (1,)), (3, (3,)), (4, (1, 3)), (5, (2, 4)), (7, (7,)), (100, (5, 9))]
)
def test_chunks_of_any_size_equal_one_go_bit_for_bit(
    chunk: int,
    sizes: tuple[int, ...],
    program: PPOProgram,
    whole: tuple[Path, PPOState],
    tmp_path: Path,
) -> None:
    state, _ = play(program, tmp_path, "--log-interval", str(chunk), trainer_type=split(*sizes))
    assert_same_state(state, whole[1])
    assert table(tmp_path / "r") == table(whole[0])
    steps = [step for step, _ in stream(tmp_path / "r")]
    assert steps == sorted({*range(chunk, UPDATES + 1, chunk), UPDATES})
    assert state.progress.maxima["highest_stage"] == whole[1].progress.maxima["highest_stage"]
    assert audit(tmp_path / "r").agrees


@pytest.mark.parametrize("sizes", [(5,), (3, 1), (2,)])
def test_how_updates_are_split_into_calls_changes_no_number(
    sizes: tuple[int, ...],
    program: PPOProgram,
    chunked: tuple[Path, PPOState],
    tmp_path: Path,
) -> None:
    state, _ = play(program, tmp_path, "--log-interval", "5", trainer_type=split(*sizes))
    assert_same_state(state, chunked[1])
    assert stream(tmp_path / "r") == stream(chunked[0])
    assert table(tmp_path / "r") == table(chunked[0])
    assert state.progress == chunked[1].progress


def test_the_row_of_a_chunk_has_every_metric_of_the_contract(chunked: tuple[Path, PPOState]) -> None:
    with JournalReader(chunked[0]) as reader:
        rows = list(reader.stream())
    assert [row.step for row in rows] == [5, 10, 12]
    names = {f"train/{name}" for name in CONTRACT_TRAIN} | {f"episode/{name}" for name in CONTRACT_EPISODE}
    assert len(REWARD_COMPONENTS) == 14
    for row in rows:
        assert names <= set(row.metrics)
        assert set(row.metrics) - names == {"train/grad_norm"}
        assert np.isfinite(list(row.metrics.values())).all()
        assert row.metrics["train/update_step"] == row.step
        assert row.metrics["train/steps_per_second"] > 0
        annealed = 0.01 * (1 - (row.step - 1) / UPDATES)
        assert row.metrics["train/learning_rate"] == pytest.approx(annealed, rel=1e-6)


def test_the_row_of_a_chunk_speaks_of_the_episodes_of_the_table(
    chunked: tuple[Path, PPOState],
) -> None:
    episodes = [dict(zip(HACKMATRIX_EPISODE_COLUMNS, row[1:], strict=True)) for row in table(chunked[0])]
    before = 0
    for step, metrics in stream(chunked[0]):
        ended = [episode for episode in episodes if before < episode["Update"] <= step]
        before = step
        assert metrics["episode/count"] == len(ended) > 0
        for metric, column in (
            ("return", "Return"),
            ("steps", "Steps"),
            ("highest_stage", "Highest Stage"),
            ("final_score", "Final Score"),
            ("win_rate", "Won"),
        ):
            mean = np.mean([episode[column] for episode in ended])
            np.testing.assert_allclose(metrics[f"episode/{metric}"], mean, rtol=1e-5, err_msg=metric)
        assert metrics["train/mean_episode_length"] == metrics["episode/steps"]
        of_kinds = sum(metrics[f"episode/action_{kind}"] for kind in ("moves", "siphons", "programs"))
        np.testing.assert_allclose(of_kinds, metrics["episode/steps"], rtol=1e-6)
        components = sum(metrics[f"episode/reward_{name}"] for name in REWARD_COMPONENTS)
        np.testing.assert_allclose(components, metrics["episode/return"], rtol=1e-4, atol=1e-4)


def test_episodes_are_numbered_in_the_order_of_their_ends(chunked: tuple[Path, PPOState]) -> None:
    rows = table(chunked[0])
    assert [row[1] for row in rows] == list(range(1, len(rows) + 1))
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)
    columns = [dict(zip(HACKMATRIX_EPISODE_COLUMNS, row[1:], strict=True)) for row in rows]
    assert all(row[0] == episode["Update"] for row, episode in zip(rows, columns, strict=True))
    assert all(1 <= episode["Steps"] <= 8 for episode in columns)
    # No step is lost: what is not in the table belongs to episodes under way, at most the time limit for each game.
    played = sum(episode["Steps"] for episode in columns)
    assert UPDATES * ENVS * STEPS - 8 * ENVS < played <= UPDATES * ENVS * STEPS
    assert chunked[1].progress.episodes == len(rows)


def test_a_chunk_without_an_ended_episode_has_no_means_of_episodes(
    program: PPOProgram, tmp_path: Path
) -> None:
    state, _ = play(program, tmp_path, "--log-interval", "1", trainer_type=split(1))
    rows = stream(tmp_path / "r")
    empty = [metrics for _, metrics in rows if metrics["episode/count"] == 0]
    assert 0 < len(empty) < UPDATES
    for metrics in empty:
        assert [name for name in metrics if name.startswith("episode/")] == ["episode/count"]
        assert "train/mean_episode_length" not in metrics
    last = [metrics for _, metrics in rows if metrics["episode/count"]][-1]
    assert state.progress.mean_return == last["episode/return"]


def test_resuming_from_any_update_gives_the_same_run(
    program: PPOProgram, chunked: tuple[Path, PPOState], tmp_path: Path
) -> None:
    folder, expected = chunked
    steps = CheckpointStore(folder).steps()
    assert steps == list(range(1, UPDATES + 1))
    for step in (1, 4, 5, 11, 12):
        runs_dir = tmp_path / str(step)
        shutil.copytree(folder, runs_dir / "r")
        for later in [found for found in steps if found > step]:
            shutil.rmtree(runs_dir / "r" / "checkpoints" / str(later))
        state, _ = play(program, runs_dir, "--resume-run", "r", base=(), trainer_type=split(2))
        assert_same_state(state, expected)
        assert state.progress == expected.progress
        assert stream(runs_dir / "r") == stream(folder)
        assert table(runs_dir / "r") == table(folder)
        with JournalReader(runs_dir / "r") as reader:
            assert all(row.attempt == 1 for row in reader.stream())  # recognised, not written again
        assert audit(runs_dir / "r").agrees


def test_a_finished_run_goes_on_when_it_may_have_more_steps(
    program: PPOProgram, chunked: tuple[Path, PPOState], tmp_path: Path
) -> None:
    shutil.copytree(chunked[0], tmp_path / "r")
    more = str((UPDATES + 2) * ENVS * STEPS)
    state, _ = play(program, tmp_path, "--resume-run", "r", "--total-timesteps", more, base=())
    assert state.progress.recorded == UPDATES + 2
    assert [step for step, _ in stream(tmp_path / "r")] == [5, 10, 12, 14]
    rows = table(tmp_path / "r")
    assert rows[: len(table(chunked[0]))] == table(chunked[0])
    assert [row[1] for row in rows] == list(range(1, len(rows) + 1))


def test_the_rate_of_a_resumed_chunk_counts_its_own_updates_only(
    program: PPOProgram, chunked: tuple[Path, PPOState], tmp_path: Path
) -> None:
    """Four of the chunk's five updates were made by the process before, and took this one no time."""
    config = read_config([*SETTINGS, "--log-interval", "5", "--runs-dir", str(tmp_path), "--run-name", "r"])
    trainer = PPOTrainer(config, program)
    state = trainer.resume(checkpoint_format.read(chunked[0] / "checkpoints" / "4"))
    with open_run(config.tracking, system="hackmatrix", name_prefix="t", run_config={}) as run:
        run.clock.restore(4)
        state, outcome = trainer.advance(state)
        time.sleep(0.2)
        trainer.record(state, outcome, run)
    assert 0 < trainer.steps_per_second <= ENVS * STEPS / 0.2


class Poisoned(Split):
    """Its parameters turn into NaN before the eighth update."""

    def advance(self, state: PPOState) -> Any:
        if state.progress.updates == 7:
            bad = jax.tree.map(lambda leaf: leaf * np.float32("nan"), state.device.params)
            state = state._replace(device=state.device._replace(params=bad))
        return super().advance(state)


def test_nan_stops_naming_metric_and_step_and_leaves_the_last_good_checkpoint(
    program: PPOProgram, tmp_path: Path
) -> None:
    with pytest.raises(TrainingDivergedError, match=r"^train/\w+ is nan at step 8: .*--learning-rate"):
        play(program, tmp_path, "--log-interval", "5", *EVERY_CHUNK, trainer_type=Poisoned)
    newest, _ = CheckpointStore(tmp_path / "r").newest()
    assert newest is not None
    assert newest.step == 7
    params = newest.restore({"params": program.template.params})
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))
    # What was recorded before stays, and nothing of what diverged.
    assert [step for step, _ in stream(tmp_path / "r")] == [5]
    assert max(row[0] for row in table(tmp_path / "r")) <= 7
    assert audit(tmp_path / "r").agrees


def test_the_command_names_the_run_and_answers_scripts(
    command: Callable[..., Any], whole: tuple[Path, PPOState], tmp_path: Path
) -> None:
    today = date.today()
    stem = f"hackmatrix-jax-{MONTHS[today.month - 1]}{today.day:02d}-{today.year % 100:02d}"
    for flags, name in (([], f"{stem}-1"), (["--run-suffix", "bignet"], f"{stem}-2-bignet")):
        status, result, errors = command(*SETTINGS, "--checkpoint-dir", str(tmp_path), *flags)
        assert (status, errors) == (0, "")
        assert result["run_name"] == name
        assert result["run_id"] == hashlib.md5(name.encode()).hexdigest()[:8]
        assert Path(result["run_dir"]) == tmp_path / name
        assert result["update_step"] == result["global_step"] == UPDATES
        assert result["total_timesteps"] == UPDATES * ENVS * STEPS
        assert result["steps_per_second"] > 0
        assert result["params_sha256"] == params_sha256(whole[1].device.params)
        assert result["highest_stage"] == whole[1].progress.maxima["highest_stage"]
        assert result["status"] == "finished"
    with JournalReader(tmp_path / name) as reader:
        config = reader.config()
        assert result["mean_return"] == list(reader.stream())[-1].metrics["episode/return"]
    assert config["ppo"]["num_envs"] == ENVS
    assert config["environment_version"] == HackMatrix.version
    assert {"device_type", "device_count", "backend", "seed"} <= set(config)


def test_a_learning_rate_that_is_too_high_ends_in_one_line(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    where = ["--runs-dir", str(tmp_path), "--run-name", "r"]
    status, _, errors = command(*SETTINGS, *where, "--learning-rate", "1e30", "--max-grad-norm", "1e30")
    assert status == 1
    (line,) = errors.splitlines()
    assert re.search(
        r"train/\w+ is (nan|inf|-inf) at step \d+: training diverged; lower --learning-rate", line
    )
    assert "--resume-run r" in line
    assert audit(tmp_path / "r").agrees


@pytest.mark.slow
def test_rows_reach_the_offline_file_of_wandb(
    command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    for name, value in {
        "HOME": str(home), "NETRC": str(home / "netrc"), "WANDB_MODE": "offline", "WANDB_API_KEY": "",
        "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_ERROR_REPORTING": "false",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    where = ["--runs-dir", str(tmp_path / "runs"), "--run-name", "r"]
    status, result, _ = command(
        *SETTINGS, *where, "--wandb", "--log-interval", "5", "--finish-seconds", "200"
    )
    assert status == 0
    folder = Path(result["run_dir"])
    assert_offline_rows(folder, [5, 10, 12])
    assert audit(folder).agrees


def test_parameters_that_are_not_finite_are_never_saved(program: PPOProgram) -> None:
    trainer = PPOTrainer(read_config(SETTINGS), program)
    state = trainer.init()
    bad = jax.tree.map(lambda leaf: leaf + np.float32("inf"), state.device.params)
    with pytest.raises(TrainingDivergedError, match=r"params/.* is not finite at step 7"):
        trainer.snapshot(state._replace(device=state.device._replace(params=bad)), 7)


def test_a_run_of_another_version_of_the_game_is_not_resumed_and_stays_as_it_is(
    program: PPOProgram, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert HackMatrix.version == ENVIRONMENT_VERSION
    play(program, tmp_path, "--monolithic", version=ENVIRONMENT_VERSION + 1)
    checkpoint, _ = CheckpointStore(tmp_path / "r").newest()
    assert checkpoint is not None
    with pytest.raises(ConfigError, match=rf"^environment_version: .* version {ENVIRONMENT_VERSION + 1} "):
        PPOTrainer(read_config(SETTINGS), program).resume(checkpoint)
    capsys.readouterr()
    assert main(["hackmatrix", "train", "--resume-run", "r", "--runs-dir", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"environment_version is {ENVIRONMENT_VERSION + 1} there and {ENVIRONMENT_VERSION} in" in line
    with JournalReader(tmp_path / "r") as reader:
        assert [attempt.status for attempt in reader.attempts()] == ["finished"]


def test_an_illness_is_told_in_the_journal_once(
    program: PPOProgram, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    diagnostic = diagnostics.Diagnostic("train/entropy", -1.0, 0.0, "it is alive", "kill it")
    monkeypatch.setattr(PPOProgram, "diagnostics", (diagnostic,))
    state, _ = play(program, tmp_path, "--log-interval", "1")
    (told,) = [(step, text) for step, text in warnings(tmp_path / "r") if "train/entropy" in text]
    assert told[0] == diagnostics.PATIENCE < UPDATES
    assert "it is alive; usual remedy: kill it" in told[1]
    assert state.progress.streaks == {"train/entropy": UPDATES}


WELL = {"train/entropy": 1.0, "train/approx_kl": 0.01, "train/explained_variance": 0.5}


@pytest.mark.parametrize(
    ("metric", "ill", "remedy"),
    [
        ("train/entropy", 0.001, "--ent-coef"),
        ("train/approx_kl", 0.5, "--learning-rate"),
        ("train/explained_variance", -2.0, "--vf-coef"),
    ],
)
def test_an_illness_is_told_when_it_has_lasted_and_again_after_a_recovery(
    metric: str, ill: float, remedy: str
) -> None:
    counts: dict[str, int] = {}
    told_at = []
    course = [ill] * (diagnostics.PATIENCE - 1) + [WELL[metric]] + [ill] * (2 * diagnostics.PATIENCE)
    course += [WELL[metric]] + [ill] * diagnostics.PATIENCE
    for number, value in enumerate(course, start=1):
        counts, told = diagnostics.check(counts, WELL | {metric: value})
        for text in told:
            assert metric in text
            assert remedy in text
            assert f"{value:.3g}" in text
            told_at.append(number)
    # Not for nine; then at the tenth in a row, once; and again after it had been well.
    assert told_at == [2 * diagnostics.PATIENCE, len(course)]


def test_the_healthy_are_told_nothing() -> None:
    counts: dict[str, int] = {}
    for _ in range(3 * diagnostics.PATIENCE):
        counts, told = diagnostics.check(counts, WELL)
        assert not told
    assert set(counts.values()) == {0}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_dev_preset_learns_and_compiles_its_program_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    jax.config.update("jax_log_compiles", True)
    try:
        assert (
            main(["hackmatrix", "train", "--preset", "dev", "--runs-dir", str(tmp_path), "--run-name", "r"])
            == 0
        )
    finally:
        jax.config.update("jax_log_compiles", False)
    assert sum("Compiling jit(updates)" in record.getMessage() for record in caplog.records) == 1
    with JournalReader(tmp_path / "r") as reader:
        returns = [row.metrics["episode/return"] for row in reader.stream()]
    assert np.mean(returns[-3:]) > max(-1.5, returns[0] + 1.5)


@pytest.mark.parametrize(("seconds", "warnings"), [((135.0, 0.1, 135.0, 0.1), 0), ((135.0, 135.0, 135.0), 1)])
def test_one_update_that_was_held_up_is_no_slow_machine(seconds: tuple[float, ...], warnings: int) -> None:
    class Told:
        def __init__(self) -> None:
            self.texts: list[str] = []

        def warn(self, text: str) -> None:
            self.texts.append(text)

    trainer = object.__new__(PPOTrainer)
    trainer.config, trainer._slow_calls, trainer._updates_per_call = presets.hackmatrix("dev"), 0, 1
    told: Any = Told()
    for trainer._seconds_per_call in seconds:
        trainer._warn_if_slow(told)
    assert len(told.texts) == warnings
