"""A system of another package: it trains, resumes and is shown without a change of the house."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from matrixrl.checkpoints.store import CheckpointStore
from matrixrl.cli.main import main
from matrixrl.config import ConfigError
from matrixrl.systems import spec as systems
from matrixrl.tracking.audit import audit
from matrixrl.tracking.journal_reader import JournalReader
from matrixrl.tracking.spec import spec_from_record
from matrixrl.tracking.summary import summarize
from tests.systems import toy_system

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Trained:
    folder: Path
    first: dict[str, Any]
    second: dict[str, Any]
    screen: str


def command(*words: str) -> tuple[int, str, str]:
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        status = main(list(words))
    return status, output.getvalue(), errors.getvalue()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    """Two updates, then two more after a resume."""
    folder = tmp_path_factory.mktemp("corridor")
    systems.register(toy_system.SYSTEM)
    try:
        flags = ("--runs-dir", str(folder), "--json")
        status, output, errors = command("corridor", "train", "--run-name", "walk", *flags)
        assert status == 0, errors
        again = command("corridor", "train", "--resume-run", "latest", "--total-timesteps", "128", *flags)
        assert again[0] == 0, again[2]
        results = [json.loads(text.splitlines()[-1]) for text in (output, again[1])]
        yield Trained(folder / "walk", results[0], results[1], output)
    finally:
        systems.unregister("corridor")


def outside(*words: str) -> str:
    """Standard output of a command in a process that knows nothing of the corridor."""
    done = subprocess.run(
        [sys.executable, "-m", "matrixrl.cli.main", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_system_is_short() -> None:
    assert len(Path(toy_system.__file__).read_text().splitlines()) < 120


def test_it_trains_in_the_loop_of_the_house_and_resumes(trained: Trained) -> None:
    assert (trained.first["global_step"], trained.second["global_step"]) == (2, 4)
    assert CheckpointStore(trained.folder).steps()[-1] == 4
    with JournalReader(trained.folder) as reader:
        assert [row.step for row in reader.stream()] == [1, 2, 3, 4]
        assert [row.attempt for row in reader.stream()] == [1, 1, 2, 2]
        assert list(reader.episode_columns) == ["Global Episode", "Update", "Return", "Steps", "Farthest"]
        assert 1 <= next(reader.episodes()).values[4] <= toy_system.LENGTH  # pyright: ignore[reportOperatorIssue, reportOptionalOperand]
        assert reader.meta["project"] == "walks"
        assert spec_from_record(reader.meta["spec"], "journal") == toy_system.SPEC
    recorded = json.loads((trained.folder / "run.json").read_text())
    assert spec_from_record(recorded["spec"], "run.json") == toy_system.SPEC
    assert audit(trained.folder, server=False).agrees


def test_the_console_has_its_columns(trained: Trained) -> None:
    head = next(line for line in trained.screen.splitlines() if line.split()[:1] == ["update"])
    assert head.split()[:3] == ["update", "return", "far"]
    assert "W&B      off" in trained.screen
    lines = (trained.folder / "console.log").read_text().splitlines()
    assert any(line.startswith("1\tepoch\tUpdate 1 | ") and "farthest: " in line for line in lines)


def test_runs_show_what_the_spec_names_where_the_system_is_not_installed(trained: Trained) -> None:
    best = summarize(trained.folder).best
    place = ("--runs-dir", str(trained.folder.parent))
    shown = outside("runs", "show", "walk", *place)
    assert f"farthest {best:g}" in shown
    assert "episode/farthest   last" in shown
    assert "episode/return   last" not in shown
    answer = json.loads(outside("runs", "show", "walk", *place, "--json").splitlines()[-1])
    assert (answer["system"], answer["best_label"], answer["best"]) == ("corridor", "farthest", best)
    assert list(answer["last"]) == ["episode/farthest"]
    assert f"farthest {best:g}" in outside("runs", "list", *place)
    assert "everything agrees" in outside("runs", "audit", "walk", *place, "--offline")
    outside("runs", "export", "walk", *place, "--format", "csv", "--out", str(trained.folder / "out"))
    assert (trained.folder / "out" / "episodes.csv").read_text().splitlines()[0].endswith(",Farthest")


def test_its_commands_are_those_of_the_house(trained: Trained) -> None:
    _, output, _ = command("corridor", "--help")
    assert "matrixrl corridor train  Train an agent in the corridor." in output
    assert "matrixrl corridor ..." in command("--help")[1]
    status, _, errors = command("corridor", "dance")
    assert (status, errors.count("\n")) == (2, 1)
    assert "unknown command corridor dance: must be one of train" in errors
    with pytest.raises(ConfigError, match="matrixrl has a system of this name"):
        systems.register(toy_system.ppo_spec("matmul", "p", {"Return": "float"}))


def test_an_installed_system_is_found_by_its_entry_point(tmp_path: Path, trained: Trained) -> None:
    """A distribution whose metadata names the system; its module is imported when a command needs it."""
    (tmp_path / "walks.py").write_text(
        "from matrixrl.systems.spec import System, SystemSpec\n"
        "def train(arguments):\n    'Walk.'\n    print('walked', *arguments)\n    return 0\n"
        "SYSTEM = System(SystemSpec('walks', 'p', {'Episode': 'int'}), commands={'train': train})\n"
    )
    information = tmp_path / "walks-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: walks\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(
        "[matrixrl.systems]\nwalks = walks:SYSTEM\nbroken = nowhere:SYSTEM\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(tmp_path)])}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "matrixrl.cli.main", *words],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    assert run("walks", "train", "--far").stdout == "walked --far\n"
    broken = run("broken", "train")
    assert (broken.returncode, broken.stderr.count("\n")) == (2, 1)
    assert "matrixrl: system 'broken': its entry point nowhere:SYSTEM cannot be imported" in broken.stderr
    # A system that cannot be imported does not prevent reading runs.
    listed = run("runs", "list", "--runs-dir", str(trained.folder.parent))
    assert listed.returncode == 0, listed.stderr


def test_specs_of_the_house_have_the_columns_that_their_trainers_record() -> None:
    from matrixrl.systems.hackmatrix import task
    from matrixrl.systems.hackmatrix.spec import SPEC
    from matrixrl.systems.ppo.spec import EPISODE_COLUMNS

    kinds = {name: column.kind for name, column in task.COLUMNS.items()}
    assert SPEC.episode_columns == {**EPISODE_COLUMNS, **kinds}
