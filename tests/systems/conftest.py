"""Tiny runs through the command line: one config for all, so that its programs compile once."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from matrixrl.cli.main import main
from matrixrl.config import CheckpointConfig, MatmulConfig, TrackingConfig
from matrixrl.systems.matmul import program as programs
from matrixrl.tracking.journal_reader import EpisodeRecord, JournalReader, MoveRecord, StreamRow

PRETRAINING, UPDATES, EPOCHS, EPISODES, EVALUATED = 5, 7, 2, 5, 3

# A 1x2 matrix times a 2x1 matrix: two products, few actions, solved by almost every game. Two games at once make an
# epoch of five games three batches and an evaluation of three games two; chunks of three updates have remainders.
TINY = [
    "--preset", "dev", "--size", "1", "2", "1", "--width", "8", "--head-width", "8", "--num-blocks", "0",
    "--num-simulations", "4", "--num-candidates", "4", "--pretraining-steps", str(PRETRAINING),
    "--num-epochs", str(EPOCHS), "--episodes-per-epoch", str(EPISODES), "--parallel-games", "2",
    "--updates-per-epoch", str(UPDATES), "--log-interval", "3", "--evaluation-interval", "2",
    "--evaluation-games", str(EVALUATED), "--batch-size", "8", "--replay-size", "16",
    "--no-stop-at-record",
]  # fmt: skip


@dataclass
class Result:
    """A finished run: what it printed and what its journal holds."""

    status: int
    output: str
    errors: str
    directory: Path
    stream: list[StreamRow]
    episodes: list[EpisodeRecord]
    moves: list[MoveRecord]
    summary: dict[str, Any]

    @property
    def scheme(self) -> Path:
        return self.directory / "scheme.json"


def only_run(runs_dir: Path) -> Path:
    (directory,) = [entry for entry in runs_dir.iterdir() if not entry.name.startswith(".")]
    return directory


_PROGRAMS: dict[MatmulConfig, programs.MatmulProgram] = {}
_MatmulProgram = programs.MatmulProgram


def shared_program(config: MatmulConfig) -> programs.MatmulProgram:
    """Returns the program of an earlier run that differs in its name, seed or tracking only: tracing it takes longer
    than the run.
    """
    same = dataclasses.replace(
        config,
        seed=0,
        json=False,
        tracking=TrackingConfig(
            log_interval=config.tracking.log_interval, record_moves=config.tracking.record_moves
        ),
        checkpoint=CheckpointConfig(),
    )
    if same not in _PROGRAMS:
        _PROGRAMS[same] = _MatmulProgram(config)
    return _PROGRAMS[same]


def train(runs_dir: Path, *arguments: str, base: Sequence[str] = TINY) -> Result:
    """Train in this process; the command line is the preset's, then `base`, then `arguments`."""
    output, errors = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(programs, "MatmulProgram", shared_program)
        status = main(["matmul", "train", "--runs-dir", str(runs_dir), "--json", *base, *arguments])
    return read(only_run(runs_dir), status, output.getvalue(), errors.getvalue())


def read(directory: Path, status: int, output: str, errors: str) -> Result:
    with JournalReader(directory) as reader:
        stream, episodes, moves = list(reader.stream()), list(reader.episodes()), list(reader.moves())
    lines = output.splitlines()
    summary = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
    return Result(status, output, errors, directory, stream, episodes, moves, summary)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return train(tmp_path_factory.mktemp("tiny"), "--seed", "3")
