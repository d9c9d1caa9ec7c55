"""A run that is left on W&B alone goes on from there on another machine."""

from __future__ import annotations

import copy
import json
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import matrixrl
from matrixrl.checkpoints.store import CheckpointStore
from matrixrl.cli.main import main
from matrixrl.cli.resume import run_folder
from matrixrl.config import ConfigError
from matrixrl.tracking.audit import audit
from matrixrl.tracking.identity import run_id
from matrixrl.tracking.journal_reader import JournalReader
from tests.checkpoints.runs import history
from tests.cli.announced import without_announcement
from tests.cli.descent import RESUMED, STEPS, descend
from tests.tracking.conftest import offline_environment
from tests.wandb_server import LoopbackServer

STOPPED = 234
ID = run_id("r")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs_dir = tmp_path_factory.mktemp("undisturbed")
    assert descend(runs_dir) == 0
    return runs_dir / "r"


@pytest.fixture(scope="module")
def loopback() -> Iterator[LoopbackServer]:
    with LoopbackServer() as server:
        yield server


@pytest.fixture
def server(loopback: LoopbackServer) -> Iterator[LoopbackServer]:
    """The server of this module, empty."""
    put_back(loopback, {name: type(value)() for name, value in held(loopback).items()})
    yield loopback
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()  # it remembers the address


@pytest.fixture(scope="module")
def stopped(
    loopback: LoopbackServer, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """A run that was stopped, and what the server holds of it."""
    folder = tmp_path_factory.mktemp("stopped")
    settings: dict[str, Any] = {"save_interval_chunks": 100, "keep_last": 3, "grace_seconds": 200}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**offline_environment(folder), **loopback.environment}.items():
            patch.setenv(name, value)
        status = descend(folder / "old", stop_at=STOPPED, tracking={"wandb": True}, **settings)
    assert status == 143
    return folder / "old", held(loopback)


@pytest.fixture
def sent(
    stopped: tuple[Path, dict[str, Any]],
    server: LoopbackServer,
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A run that was stopped, on the server; the machine that it ran on. Trained once, copied for each test."""
    folder, state = stopped
    put_back(server, state)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    shutil.copytree(folder, tmp_path / "old", symlinks=True)
    return tmp_path / "old"


HELD = ("runs", "artifacts", "created", "deleted", "deleted_runs", "unknown")


def held(server: LoopbackServer) -> dict[str, Any]:
    """A copy of what a server holds."""
    with server.lock:
        return {name: copy.deepcopy(getattr(server, name)) for name in HELD}


def put_back(server: LoopbackServer, state: dict[str, Any]) -> None:
    with server.lock:
        for name, value in state.items():
            setattr(server, name, copy.deepcopy(value))


def restore(runs_dir: Path, *flags: str) -> list[str]:
    return ["runs", "restore", "r", "--runs-dir", str(runs_dir), *flags]


def in_one_line(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = without_announcement(captured.err).splitlines()
    return line


@pytest.mark.slow
def test_the_run_goes_on_as_if_nothing_had_happened(
    server: LoopbackServer,
    sent: Path,
    undisturbed: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copies = [a for a in server.artifacts.values() if a.kind == "journal"]
    assert [a.name for a in copies] == [f"journal-{ID}"]  # earlier copies are deleted
    assert not (sent / "r" / "packed").exists()
    new = tmp_path / "new"
    assert main([*restore(new), "--json"]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (answer["run"], answer["step"], answer["recorded_until"]) == ("r", STOPPED, STOPPED)
    assert shlex.split(answer["command"])[:5] == ["matrixrl", "matmul", "train", "--resume-run", "r"]
    assert [path.name for path in new.iterdir()] == ["r"]
    assert audit(new / "r", server=False).agrees
    assert descend(new, tracking={**RESUMED, "wandb": True}) == 0
    assert {k: v for k, v in history(new / "r").items() if k != "files"} == {
        k: v for k, v in history(undisturbed).items() if k != "files"
    }
    report = audit(new / "r")
    assert report.gaps == []
    assert [row["_step"] for row in server.runs[ID].rows()] == list(range(1, STEPS + 1))
    assert in_one_line(capsys, *restore(new)).endswith("or name another folder with --runs-dir")


@pytest.mark.slow
def test_a_step_or_the_id_can_be_named_and_the_rows_after_it_are_recognised(
    sent: Path, undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = tmp_path / "new"
    line = in_one_line(capsys, *restore(new, "--step", "150"))
    assert "--step 150: W&B holds the checkpoints 100, 200, 234" in line
    assert main(["runs", "restore", ID, "--runs-dir", str(new), "--step", "100", "--project", "rlmm"]) == 0
    assert "restored to" in capsys.readouterr().out
    assert CheckpointStore(new / "r").steps() == [100]
    assert descend(new, tracking=RESUMED) == 0
    assert history(new / "r")["counts"] == history(undisturbed)["counts"]
    assert audit(new / "r", server=False).agrees


def test_an_agent_is_loaded_from_wandb(
    sent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = tmp_path / "new"
    agent = matrixrl.load("wandb:rlmm/r", runs_dir=new)
    assert (agent.name, agent.step) == ("r", STOPPED)
    assert "r restored to" in capsys.readouterr().err
    assert CheckpointStore(new / "r").steps() == [STOPPED]
    assert matrixrl.load("wandb:rlmm/r", runs_dir=new).step == STOPPED  # it is here now


def test_a_damaged_checkpoint_is_passed_over(
    server: LoopbackServer, sent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (newest,) = [a for a in server.artifacts.values() if a.name == f"checkpoint-{ID}-{STOPPED}"]
    del newest.files["checkpoint.json"]
    assert main(restore(tmp_path / "new")) == 0
    captured = capsys.readouterr()
    assert f"the checkpoint at step {STOPPED} is damaged on W&B" in captured.err
    assert "at step 200" in captured.out
    line = in_one_line(capsys, *restore(tmp_path / "other", "--step", str(STOPPED)))
    assert "is damaged" in line
    assert not list((tmp_path / "other").iterdir())


@pytest.mark.slow
def test_without_a_copy_of_the_journal_the_checkpoint_is_enough(
    server: LoopbackServer, sent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copy,) = [a for a in server.artifacts.values() if a.kind == "journal"]
    del server.artifacts[copy.identity]
    new = tmp_path / "new"
    assert main(restore(new)) == 0
    assert "W&B holds no copy of the journal" in capsys.readouterr().err
    assert descend(new, tracking=RESUMED) == 0
    assert [step for step, _ in history(new / "r")["stream"]] == list(range(STOPPED + 1, STEPS + 1))


def test_what_cannot_be_restored_is_one_line(
    server: LoopbackServer,
    environment: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    new = tmp_path / "new"
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    line = in_one_line(capsys, *restore(new))
    assert "no run of this name or id" in line
    assert "--project and --entity" in line
    assert descend(tmp_path / "old", tracking={"wandb": True, "no_artifact": True}) == 0
    assert "W&B holds no checkpoint of this run" in in_one_line(capsys, *restore(new))
    assert "give one of them" in in_one_line(capsys, *restore(new, "--best", "--step", "3"))
    server.refuse()
    assert "does not answer" in in_one_line(capsys, *restore(new))
    server.listen()
    assert not new.exists() or not list(new.iterdir())


def test_without_a_key_it_says_so(
    server: LoopbackServer,
    environment: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    assert f"no key for {server.url}" in in_one_line(capsys, *restore(tmp_path))


@pytest.mark.slow
def test_of_a_run_that_went_back_the_newest_version_of_a_checkpoint_is_taken(
    sent: Path, server: LoopbackServer, tmp_path: Path
) -> None:
    """Resumed from step 200 with another learning rate, it passes step 234 again."""
    shutil.rmtree(sent / "r" / "checkpoints" / str(STOPPED))
    again = {**RESUMED, "wandb": True}
    assert (
        descend(sent, rate=0.05, stop_at=STOPPED, tracking=again, save_interval_chunks=100, grace_seconds=200)
        == 143
    )
    assert [a.version for a in server.artifacts.values() if a.name == f"checkpoint-{ID}-{STOPPED}"] == [0, 1]
    assert main(restore(tmp_path / "new")) == 0
    old, new = (CheckpointStore(folder / "r").newest()[0] for folder in (sent, tmp_path / "new"))
    assert old is not None
    assert new is not None
    assert new.record == old.record
    assert history(tmp_path / "new" / "r") == history(sent / "r")


def test_resume_on_an_empty_disk_restores_the_run_first(
    sent: Path, undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = tmp_path / "new"
    capsys.readouterr()
    assert run_folder([f"--runs-dir={new}"], "r", "matmul") == new / "r"
    assert "restored to" in capsys.readouterr().err
    assert identity_of(new / "r") == identity_of(sent / "r")
    assert descend(new, tracking={**RESUMED, "wandb": True}) == 0
    assert history(new / "r")["stream"] == history(undisturbed)["stream"]
    with pytest.raises(ConfigError, match=r"no matmul run of this name .* W&B was asked as well: no run"):
        run_folder([f"--runs-dir={new}"], "another", "matmul")


def test_a_run_without_its_journal_goes_on_in_the_same_run(
    server: LoopbackServer, sent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copy,) = [a for a in server.artifacts.values() if a.kind == "journal"]
    del server.artifacts[copy.identity]
    assert main(restore(tmp_path / "new")) == 0
    assert identity_of(tmp_path / "new" / "r") == identity_of(sent / "r")
    assert descend(tmp_path / "new", tracking={**RESUMED, "wandb": True}) == 0
    assert [row["_step"] for row in server.runs[ID].rows()] == list(range(1, STEPS + 1))
    assert list(server.runs) == [ID]


@pytest.mark.slow
def test_checkpoints_of_older_versions_are_found_through_their_run(
    server: LoopbackServer, sent: Path, tmp_path: Path
) -> None:
    """Before, the checkpoints of all runs of a project shared collections such as `checkpoint-234`."""
    for artifact in server.artifacts.values():
        artifact.name = artifact.name.replace(f"checkpoint-{ID}-", "checkpoint-")
    mine = next(a for a in server.artifacts.values() if a.name == f"checkpoint-{STOPPED}")
    identity = "QXJ0aWZhY3Q6OTk5"
    theirs = replace(mine, identity=identity, run="0therrun", version=mine.version + 1, files={})
    server.artifacts[identity] = theirs
    assert main(restore(tmp_path / "new")) == 0
    assert CheckpointStore(tmp_path / "new" / "r").steps() == [STOPPED]


def identity_of(folder: Path) -> str:
    about = json.loads((folder / "run.json").read_text())
    with JournalReader(folder) if (folder / "journal.sqlite").exists() else nullcontext() as reader:
        assert reader is None or reader.meta["identity"] == about["identity"]
    return about["identity"]
