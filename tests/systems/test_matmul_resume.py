"""A matmul run resumed from any of its checkpoints goes on exactly as it did."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from matrixrl.checkpoints.store import CheckpointStore
from matrixrl.cli.main import main
from matrixrl.cli.matmul import read_config
from matrixrl.config import MatmulConfig
from matrixrl.systems.matmul.discoveries import Discoveries
from matrixrl.systems.matmul.program import MatmulProgram
from matrixrl.systems.matmul.state import RECORDED_NAMES, MatmulState
from matrixrl.systems.matmul.trainer import MatmulTrainer
from matrixrl.tracking.journal_reader import JournalReader
from matrixrl.tracking.run import Run
from matrixrl.training.loop import TrainingDivergedError
from matrixrl.training.parameters import params_sha256
from tests.checkpoints import runs
from tests.systems.train_run import train_run

SETTINGS = [*runs.TINY, "--console", "quiet", "--save-interval-chunks", "1", "--keep-last", "999"]


@pytest.fixture(scope="module", autouse=True)
def _compilation_cache(env: dict[str, str]) -> Iterator[None]:
    before = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", env["JAX_COMPILATION_CACHE_DIR"])
    yield
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture(scope="module")
def env(request: pytest.FixtureRequest) -> dict[str, str]:
    return runs.environment(Path(request.config.cache.mkdir("jax")))


@pytest.fixture(scope="module")
def program() -> MatmulProgram:
    return MatmulProgram(read_config(SETTINGS))


def play(
    program: MatmulProgram, runs_dir: Path, *flags: str, trainer_type: type[MatmulTrainer] = MatmulTrainer
) -> tuple[MatmulState, MatmulTrainer]:
    config: MatmulConfig = read_config([*flags, "--runs-dir", str(runs_dir)])

    def make_trainer(run: Run) -> MatmulTrainer:
        return trainer_type(config, [Discoveries(run.directory, {"run": run.name})], program)

    return train_run("matmul", config, make_trainer)


@pytest.fixture(scope="module")
def whole(program: MatmulProgram, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """An undisturbed run with a checkpoint after every chunk, and its checksum."""
    runs_dir = tmp_path_factory.mktemp("whole")
    state, _ = play(program, runs_dir, *SETTINGS, "--run-name", "r")
    return runs_dir / "r", params_sha256(state.device.params)


def test_the_epoch_row_stands_at_its_last_update_and_holds_them_all(whole: tuple[Path, str]) -> None:
    with JournalReader(whole[0]) as reader:
        rows = list(reader.stream())
        epochs = [row for row in rows if "epoch_loss" in row.metrics]
        moves = {move.step for move in reader.moves()}
    rewritten = {row.step for row in rows if "rewrite/solved" in row.metrics}
    assert len(rewritten) == 2 * len(epochs)  # 20 rounds, by 16 and 4
    assert [row.metrics["Epoch"] for row in epochs] == [1, 2, 3]
    for row in epochs:
        assert row.step + 1 in moves or row is epochs[-1]
        # 7 updates, by 3, 3 and 1: the rounds of rewriting end just before the first of them.
        assert row.step - 7 in rewritten


def test_resuming_from_every_kind_of_place_gives_the_same_run(
    program: MatmulProgram, whole: tuple[Path, str], tmp_path: Path
) -> None:
    folder, expected = whole
    steps = CheckpointStore(folder).steps()
    phases = {}
    for step in steps:
        progress = json.loads((folder / "checkpoints" / str(step) / "checkpoint.json").read_text())[
            "progress"
        ]
        # Half a phase, half-played games, and the beginnings.
        phases.setdefault((progress["phase"], progress["playing"] > 0, progress["done"] > 0), step)
    assert {phase for phase, *_ in phases} == {
        "pretrain",
        "self-play",
        "rewrite",
        "train",
        "evaluate",
        "done",
    }
    assert ("self-play", True, True) in phases
    assert ("rewrite", True, True) in phases
    for step in phases.values():
        runs_dir = tmp_path / str(step)
        copy = runs_dir / "r"
        shutil.copytree(folder, copy)
        for later in [found for found in steps if found > step]:
            shutil.rmtree(copy / "checkpoints" / str(later))
        state, trainer = play(program, runs_dir, "--resume-run", "r", "--save-interval-chunks", "20")
        assert params_sha256(state.device.params) == expected
        assert CheckpointStore(copy).steps()[-1] == steps[-1]
        runs.assert_equal_runs(copy, folder)
        assert trainer.discoveries[0].best is not None
        assert trainer.discoveries[0].num_verified > 0


def test_replay_and_half_played_games_come_back(program: MatmulProgram, whole: tuple[Path, str]) -> None:
    store = CheckpointStore(whole[0])
    newest, _ = store.newest()
    assert newest is not None
    trainer = MatmulTrainer(read_config(SETTINGS), [Discoveries(whole[0], {})])
    trainer.program = program
    state = trainer.resume(newest)
    again = trainer.snapshot(state, newest.step)
    # Six games an epoch and the four solutions that were rewritten: the sixteen slots are full.
    assert int(state.device.replay.num_games) == 16
    assert again.progress == newest.progress
    loaded = newest.restore(state.device, RECORDED_NAMES)
    for old, new in zip(jax.tree.leaves(loaded), jax.tree.leaves(state.device), strict=True):
        assert np.array_equal(old, new)


def test_a_finished_run_goes_on_when_it_may_have_more_epochs(
    program: MatmulProgram, whole: tuple[Path, str], tmp_path: Path
) -> None:
    shutil.copytree(whole[0], tmp_path / "r")
    state, _ = play(program, tmp_path, "--resume-run", "r")
    assert (state.progress.phase, state.progress.epoch) == ("done", 3)
    state, _ = play(program, tmp_path, "--resume-run", "r", "--num-epochs", "4")
    assert (state.progress.phase, state.progress.epoch) == ("done", 4)
    with JournalReader(tmp_path / "r") as reader:
        assert reader.config()["selfplay"]["num_epochs"] == 4
        # Games of one batch end when they end; each number is there once.
        numbers = sorted(int(e.values[0] or 0) for e in reader.episodes())
        assert numbers == list(range(1, state.progress.episodes + 1))
    # The newest settings are those that the next resume goes on with.
    assert read_config(["--resume-run", "r", "--runs-dir", str(tmp_path)]).selfplay.num_epochs == 4


class Poisoned(MatmulTrainer):
    """Its parameters turn into NaN in the second chunk of training."""

    def advance(self, state: MatmulState) -> tuple[MatmulState, Any]:
        if state.progress.phase == "train" and state.progress.done == 3:
            bad = jax.tree.map(lambda x: x * np.float32("nan"), state.device.params)
            state = state._replace(device=state.device._replace(params=bad))
        return super().advance(state)


def test_nan_stops_naming_metric_and_step_and_leaves_the_last_good_checkpoint(
    program: MatmulProgram, tmp_path: Path
) -> None:
    with pytest.raises(TrainingDivergedError, match=r"loss is nan at step (\d+)") as caught:
        play(program, tmp_path, *SETTINGS, "--run-name", "r", trainer_type=Poisoned)
    step = int(str(caught.value).split("at step ")[1].split(":")[0])
    newest, _ = CheckpointStore(tmp_path / "r").newest()
    assert newest is not None
    assert newest.step < step
    assert newest.progress["phase"] == "train"
    template = jax.eval_shape(program.init, jax.random.key(0))
    params = newest.restore({"params": template.params})
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


def test_parameters_that_are_not_finite_are_never_saved(program: MatmulProgram, tmp_path: Path) -> None:
    trainer = MatmulTrainer(read_config(SETTINGS), [Discoveries(tmp_path, {})])
    trainer.program = program
    state = trainer.init()
    bad = jax.tree.map(lambda x: x + np.float32("inf"), state.device.params)
    with pytest.raises(TrainingDivergedError, match=r"params/.* is not finite at step 7"):
        trainer.snapshot(state._replace(device=state.device._replace(params=bad)), 7)


def test_evaluate_plays_with_the_newest_whole_checkpoint(
    whole: tuple[Path, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "matrixrl.systems.matmul.evaluation.MAX_GAMES_AT_ONCE", 4
    )  # the run's own batch is compiled
    shutil.copytree(whole[0], tmp_path / "r")
    newest, before = CheckpointStore(tmp_path / "r").steps()[:-3:-1]
    (tmp_path / "r" / "checkpoints" / str(newest) / "checkpoint.json").write_text("{}")
    status = main(["matmul", "evaluate", "r", "--runs-dir", str(tmp_path), "--games", "9", "--json"])
    captured = capsys.readouterr()
    assert status == 0
    answer = json.loads(captured.out.splitlines()[-1])
    assert answer["step"] == before
    assert f"step {newest} is damaged" in captured.err
    assert answer["games"] == 9
    assert answer["solved"] == sum(answer["ranks"].values())
    assert answer["solved_share"] == answer["solved"] / 9
    assert CheckpointStore(tmp_path / "r").steps()[-1] == newest  # evaluation changes nothing


def test_evaluate_without_a_checkpoint_is_one_line(
    whole: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(whole[0], tmp_path / "r", ignore=shutil.ignore_patterns("checkpoints"))
    assert main(["matmul", "evaluate", "r", "--runs-dir", str(tmp_path)]) == 2
    assert main(["matmul", "evaluate", "other", "--runs-dir", str(tmp_path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "no whole checkpoint" in lines[0]
    assert "other" in lines[1]
