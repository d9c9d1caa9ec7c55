"""`--record-search`: the trees of one game per epoch, which disturb nothing and survive a resume."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from matrixrl.checkpoints.store import CheckpointStore
from matrixrl.cli.main import main
from matrixrl.schemes.problem import as_problem
from matrixrl.systems.matmul.search_log import SPELLING
from matrixrl.tracking.audit import audit
from matrixrl.tracking.events import is_wall_clock
from matrixrl.tracking.journal_reader import JournalReader
from tests.systems.conftest import EPOCHS, TINY, Result, train

SAVING = ["--save-interval-chunks", "1", "--keep-last", "999", "--seed", "3"]


@pytest.fixture(scope="module")
def searched_run(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return train(tmp_path_factory.mktemp("searched"), *SAVING, "--record-search")


def records(directory: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted((directory / "search").iterdir())]


def vectors(term: str) -> list[np.ndarray]:
    return [np.array([SPELLING.index(character) - 2 for character in word]) for word in term.split(" ")]


def test_recording_changes_no_result(tiny_run: Result, searched_run: Result) -> None:
    def content(run: Result) -> list:
        stream = [
            (row.step, {name: value for name, value in row.metrics.items() if not is_wall_clock(name)})
            for row in run.stream
        ]
        return [stream, [(row.step, row.values) for row in run.episodes], [tuple(move) for move in run.moves]]

    assert content(searched_run) == content(tiny_run)
    assert not (tiny_run.directory / "search").exists()


def test_a_game_of_each_epoch_is_recorded_with_its_checksum(searched_run: Result) -> None:
    assert searched_run.status == 0
    found = records(searched_run.directory)
    assert [record["epoch"] for record in found] == list(range(1, EPOCHS + 1))
    with JournalReader(searched_run.directory) as reader:
        files = {file.path: file for file in reader.files()}
    assert {f"search/epoch-{epoch:06d}.json" for epoch in range(1, EPOCHS + 1)} <= set(files)
    report = audit(searched_run.directory)
    assert report.agrees
    assert report.checks["files"] >= EPOCHS


def test_the_recorded_games_are_those_of_the_journal(searched_run: Result) -> None:
    """The terms of a game, subtracted from its start, leave the residuals that the journal has."""
    for record in records(searched_run.directory):
        played = [move for move in searched_run.moves if move.episode == record["episode"]]
        assert len(played) == len(record["moves"]) == len(record["terms"])
        residual = np.array(record["target"]).reshape(record["shape"])
        if record["standard_basis"]:
            assert np.array_equal(residual, as_problem([1, 2, 1]).tensor())
        for move, made, term in zip(played, record["moves"], record["terms"], strict=True):
            u, v, w = vectors(term)
            residual = residual - np.einsum("i,j,k->ijk", u, v, w)
            assert np.abs(residual).sum() == move.residual == made["residual"]
            assert made["reward"] == move.reward
        assert record["solved"] == (played[-1].residual == 0)


def test_trees_have_their_simulations_and_the_move_that_was_played(searched_run: Result) -> None:
    for record in records(searched_run.directory):
        for move, term in zip(record["moves"], record["terms"], strict=True):
            lengths = {len(move[name]) for name in ("parent", "term", "visits", "prior", "value")}
            assert len(lengths) == 1
            assert move["visits"][0] == 4 + 1  # --num-simulations 4
            assert all(0 <= parent < index for index, parent in enumerate(move["parent"]) if index)
            assert move["value"][0] == move["root_value"]
            assert term in move["candidates"]
            assert sum(move["weights"]) == pytest.approx(1, abs=1e-3)
            assert sum(move["candidate_prior"]) == pytest.approx(1, abs=1e-3)


@pytest.mark.slow
def test_a_resumed_run_writes_the_same_trees(searched_run: Result, tmp_path: Path) -> None:
    """From a checkpoint in the middle of the recorded game, whose first trees the checkpoint holds."""
    folder, name = searched_run.directory, searched_run.directory.name
    expected = {path.name: path.read_bytes() for path in (folder / "search").iterdir()}
    steps = CheckpointStore(folder).steps()
    middle = next(step for step in steps if (folder / "checkpoints" / str(step) / "search.json").exists())
    shutil.copytree(folder, tmp_path / name)
    shutil.rmtree(tmp_path / name / "search")
    for later in (step for step in steps if step > middle):
        shutil.rmtree(tmp_path / name / "checkpoints" / str(later))
    assert (
        main(["matmul", "train", "--runs-dir", str(tmp_path), *TINY, "--record-search", "--resume-run", name])
        == 0
    )
    assert {path.name: path.read_bytes() for path in (tmp_path / name / "search").iterdir()} == expected
    with JournalReader(tmp_path / name) as reader:
        assert len([file for file in reader.files() if file.path.startswith("search/")]) == EPOCHS
    assert audit(tmp_path / name).agrees
