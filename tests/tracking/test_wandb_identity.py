"""Two runs never share a W&B run: default names, given names, offline runs, copies, sweeps, runs of older versions."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from matrixrl.cli.runs import Sync, run_command
from matrixrl.config import ConfigError, TrackingConfig
from matrixrl.tracking.audit import audit
from matrixrl.tracking.copy import copy_run
from matrixrl.tracking.delivery_state import DeliveryState
from matrixrl.tracking.events import ScalarRow
from matrixrl.tracking.identity import find_run, run_id
from matrixrl.tracking.journal_reader import JournalReader
from matrixrl.tracking.run import open_run
from matrixrl.tracking.sinks import wandb_client
from tests.tracking.conftest import Trainer, expected_rows, without_clock
from tests.wandb_server import ENTITY, LoopbackServer, StoredRun

EPOCHS = 1
SHORT = ("--wandb", "--epochs", str(EPOCHS))


@pytest.fixture
def online(
    server: LoopbackServer, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> LoopbackServer:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return server


def write(
    runs_dir: Path,
    rows: int,
    value: float = 1.0,
    resume: str | None = None,
    start: int = 0,
    name: str | None = None,
) -> Path:
    """An attempt that was never sent anywhere."""
    config = TrackingConfig(runs_dir=runs_dir, console="quiet", resume_run=resume, run_name=name)
    with open_run(config, system="matmul", name_prefix="m", run_config={}) as run:
        if resume:
            run.restore_clock(start)
        run.record([ScalarRow(tick, {"loss": value / tick.step}) for tick in run.clock.advance(rows)])
    return run.directory


def sync(folder: Path, **flags: Any) -> int:
    return run_command(Sync(runs=(folder.name,), runs_dir=folder.parent, **flags))


def losses(server: LoopbackServer, name: str) -> list[float]:
    rows = server.runs[run_id(name)].rows()
    assert [row["_step"] for row in rows] == list(range(1, len(rows) + 1))
    return [row["loss"] for row in rows]


def series(*parts: tuple[int, float]) -> list[float]:
    steps = iter(range(1, 1000))
    return [value / next(steps) for count, value in parts for _ in range(count)]


def numbered(name: str, number: int) -> str:
    return f"{name.rpartition('-')[0]}-{number}"


@pytest.mark.slow
def test_two_folders_of_one_day_give_two_runs(
    tmp_path: Path, environment: dict[str, str], server: LoopbackServer
) -> None:
    """The first run of a day has the same name, and so the same id, on every machine."""
    answers = [Trainer(tmp_path / place, environment).run(*SHORT, **server.environment) for place in "ab"]
    assert [answer["pending"] for answer in answers] == [0, 0]
    first = answers[0]["name"]
    assert answers[1]["name"] == first
    second = numbered(first, 2)
    assert server.runs.keys() == {run_id(first), run_id(second)}
    assert server.runs[run_id(second)].display_name == second
    assert f"is delivered as {second}" in answers[1]["output"]
    for identity in server.runs:
        rows = {row["_step"]: without_clock(row) for row in server.runs[identity].rows()}
        assert rows == expected_rows(EPOCHS)
    identities = set()
    for place, name in zip("ab", (first, second), strict=True):
        folder = tmp_path / place / first
        with JournalReader(folder) as reader:
            meta = reader.meta
        assert json.loads((folder / "run.json").read_text())["identity"] == meta["identity"]
        config = json.loads(server.runs[run_id(name)].config)
        assert config["run_identity"] == {"value": meta["identity"]}
        assert config["run_attempts"] == {"value": meta["attempt_tokens"]}
        identities.add(meta["identity"])
        assert find_run(tmp_path / place, name) == folder
    assert len(identities) == 2
    # No artifact of one is a version of the other's.
    owners: dict[str, set[str]] = {}
    for artifact in server.artifacts.values():
        owners.setdefault(artifact.name, set()).add(artifact.run)
    assert owners
    assert all(len(runs) == 1 for runs in owners.values())
    assert {"latest"} <= {alias for a in server.artifacts.values() for alias in a.aliases}


@pytest.mark.slow
def test_a_run_goes_on_in_its_own_run_after_it_was_renamed(online: LoopbackServer, tmp_path: Path) -> None:
    first, second = (write(tmp_path / place, 3, value) for place, value in (("a", 1.0), ("b", 2.0)))
    assert sync(first) == 0
    assert sync(second) == 0
    write(tmp_path / "b", 2, 2.0, resume="latest", start=3)
    assert sync(second) == 0
    write(tmp_path / "a", 1, 1.0, resume="latest", start=3)
    assert sync(first) == 0
    name = first.name
    assert losses(online, name) == series((4, 1.0))
    assert losses(online, numbered(name, 2)) == series((5, 2.0))
    (second / "sinks/wandb/state.json").unlink()  # the server knows it by its identity
    assert sync(second) == 0
    assert len(online.runs) == 2
    assert audit(first).gaps == audit(second).gaps == []
    state = DeliveryState.load(first, "wandb")
    assert state is not None
    state.save(second, "wandb")
    assert "belongs to another run" in str(audit(second).gaps[0])


def test_an_offline_run_that_meets_a_stranger_says_under_which_name_it_is_delivered(
    online: LoopbackServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    online.runs[run_id("mine")] = StoredRun(
        run_id("mine"), "rlmm", config='{"_wandb": {"value": {}}}', history={0: '{"_step": 1}'}
    )
    folder = write(tmp_path, 3, name="mine")
    assert sync(folder) == 0
    assert "there the run is mine-2" in capsys.readouterr().out
    assert losses(online, "mine-2") == series((3, 1.0))
    assert len(online.runs[run_id("mine")].history) == 1
    assert folder.name == "mine"


@pytest.mark.slow
def test_a_name_that_w_and_b_knows_is_refused_before_anything_is_visible(
    online: LoopbackServer, tmp_path: Path
) -> None:
    assert sync(write(tmp_path / "a", 2, name="mine")) == 0
    config = TrackingConfig(runs_dir=tmp_path / "b", wandb=True, run_name="mine")
    with pytest.raises(ConfigError) as refused:
        open_run(config, system="matmul", name_prefix="m", run_config={})
    assert "--resume-run mine" in str(refused.value)
    assert "another name" in str(refused.value)
    assert not (tmp_path / "b").exists()
    # Without an answer it starts.
    online.refuse()
    with open_run(config, system="matmul", name_prefix="m", run_config={}) as run:
        run.finish(deadline_seconds=0.1)
    assert run.directory.exists()


@pytest.mark.slow
def test_of_two_copies_that_go_on_the_later_one_is_a_new_run(online: LoopbackServer, tmp_path: Path) -> None:
    folder = write(tmp_path / "a", 3)
    assert sync(folder) == 0
    copy = copy_run(folder, tmp_path / "b").directory
    write(tmp_path / "b", 2, 2.0, resume="latest", start=3)
    write(tmp_path / "a", 4, 3.0, resume="latest", start=3)
    assert sync(copy) == 0
    assert sync(folder) == 0
    assert losses(online, folder.name) == series((3, 1.0), (2, 2.0))
    assert losses(online, numbered(folder.name, 2)) == series((3, 1.0), (4, 3.0))
    for place in (folder, copy):
        write(place.parent, 1, resume="latest", start=7 if place == folder else 5)
        assert sync(place) == 0
    assert len(online.runs) == 2
    assert json.loads((folder / "run.json").read_text()) == json.loads((copy / "run.json").read_text())


@pytest.mark.parametrize(
    "value",
    [pytest.param(1.0, id="the same rows", marks=pytest.mark.slow), pytest.param(2.0, id="other rows")],
)
def test_a_copy_that_is_behind_the_server_is_compared_with_it(
    online: LoopbackServer, tmp_path: Path, value: float
) -> None:
    """The machine was taken away in the middle of an attempt; a copy of the folder on a drive goes on."""
    config = TrackingConfig(runs_dir=tmp_path / "a", console="quiet")
    with open_run(config, system="matmul", name_prefix="m", run_config={}) as run:
        run.record([ScalarRow(tick, {"loss": 1 / tick.step}) for tick in run.clock.advance(3)])
        copy = copy_run(run.directory, tmp_path / "b").directory
        run.record([ScalarRow(tick, {"loss": 1 / tick.step}) for tick in run.clock.advance(4)])
    assert sync(run.directory) == 0
    write(tmp_path / "b", 2, value, resume="latest", start=3)
    if value == 1.0:
        # As far as it came, all of it is there; nothing is claimed.
        assert sync(copy) == 0
        assert losses(online, run.name) == series((7, 1.0))
    write(tmp_path / "b", 4, value, resume="latest", start=5)
    assert sync(copy) == 0
    if value == 1.0:
        assert losses(online, run.name) == series((9, 1.0))
        assert len(online.runs) == 1
    else:
        assert losses(online, run.name) == series((7, 1.0))
        assert losses(online, numbered(run.name, 2)) == series((3, 1.0), (6, 2.0))


def without_identity(folder: Path) -> None:
    """Make a run what an older version of matrixrl left."""
    with sqlite3.connect(folder / "journal.sqlite") as journal:
        journal.execute("DELETE FROM meta WHERE key IN ('identity', 'attempt_tokens', 'sweep')")
    about = json.loads((folder / "run.json").read_text())
    about.pop("identity")
    (folder / "run.json").write_text(json.dumps(about))


def test_runs_of_older_versions_are_delivered_and_go_on(online: LoopbackServer, tmp_path: Path) -> None:
    old, other = (write(tmp_path / place, 3, value) for place, value in (("a", 1.0), ("b", 2.0)))
    for folder in (old, other):
        without_identity(folder)
    assert sync(old) == 0
    config = json.loads(online.runs[run_id(old.name)].config)
    assert not {"run_identity", "run_attempts"} & config.keys()
    # Its rows say that it is the same run, even when its state file is lost.
    (old / "sinks/wandb/state.json").unlink()
    write(tmp_path / "a", 2, resume="latest", start=3)
    assert sync(old) == 0
    assert losses(online, old.name) == series((5, 1.0))
    # What the fault left: another old run that believes that it was delivered there.
    state = DeliveryState.load(old, "wandb")
    assert state is not None
    state.save(other, "wandb")
    assert sync(other) == 0
    assert losses(online, numbered(old.name, 2)) == series((3, 2.0))
    assert losses(online, old.name) == series((5, 1.0))


@pytest.mark.slow
def test_a_run_that_was_deleted_on_the_server_is_delivered_under_the_next_name(
    online: LoopbackServer, tmp_path: Path
) -> None:
    folder = write(tmp_path, 3)
    assert sync(folder) == 0
    online.delete_run(run_id(folder.name))
    write(tmp_path, 1, resume="latest", start=3)
    assert sync(folder) == 0
    assert losses(online, numbered(folder.name, 2)) == series((4, 1.0))
    (stranger,) = [write(tmp_path / "b", 2)]
    assert stranger.name == folder.name  # the server refuses the id, although it has no such run
    assert sync(stranger) == 0
    assert losses(online, numbered(folder.name, 3)) == series((2, 1.0))


@pytest.mark.slow
def test_a_trial_of_a_sweep_takes_the_run_of_its_agent_and_no_second_training_does(
    tmp_path: Path, environment: dict[str, str], server: LoopbackServer
) -> None:
    trial = server.agent_environment(tmp_path, "trial001", {"learning_rate": 0.5})
    first = Trainer(tmp_path / "a", environment)
    answer = first.run(*SHORT, **trial)
    assert answer["pending"] == 0
    run = server.runs["trial001"]
    assert (run.project, run.sweep) == ("swept", "sweep001")
    assert json.loads(run.config)["learning_rate"] == {"value": 0.5}
    assert {row["_step"]: without_clock(row) for row in run.rows()} == expected_rows(EPOCHS)
    # Again in the same environment: refused, and nothing is left behind.
    process = Trainer(tmp_path / "b", environment).start(*SHORT, **trial)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "WANDB_RUN_ID=trial001" in errors
    assert len(errors.splitlines()) == 1
    assert not (tmp_path / "b").exists()
    # Resumed outside of the sweep it is still the same run.
    answer = first.run("--resume", "latest", "--wandb", "--epochs", "2", **server.environment)
    assert answer["pending"] == 0
    assert {row["_step"] for row in server.runs["trial001"].rows()} == set(expected_rows(2))
    assert list(server.runs) == ["trial001"]


@pytest.mark.slow
def test_a_trial_that_finds_its_run_taken_later_is_delivered_outside_of_the_sweep(
    tmp_path: Path, environment: dict[str, str], server: LoopbackServer, online: LoopbackServer
) -> None:
    trial = server.agent_environment(tmp_path, "trial001", {})
    runners = [Trainer(tmp_path / place, environment) for place in "ab"]
    name = ""
    for runner in runners:
        name = runner.run(*SHORT, **(trial | {"WANDB_MODE": "offline"}))["name"]
    for runner in runners:
        assert sync(runner.runs_dir / name) == 0
    assert server.runs.keys() == {"trial001", run_id(name)}
    for run in server.runs.values():
        assert {row["_step"]: without_clock(row) for row in run.rows()} == expected_rows(EPOCHS)


@pytest.mark.slow
def test_no_variable_makes_two_runs_one(
    online: LoopbackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "WANDB_RUN_ID": "shared00",
        "WANDB_NAME": "shared",
        "WANDB_RESUME": "allow",
        "WANDB_RESUME_FROM": "shared00?_step=1",
        "WANDB_LAUNCH": "true",
    }.items():
        monkeypatch.setenv(name, value)
    folders = [write(tmp_path, 2, value) for value in (1.0, 2.0)]
    for folder in folders:
        assert sync(folder) == 0
    assert online.runs.keys() == {run_id(folder.name) for folder in folders}
    assert [losses(online, folder.name) for folder in folders] == [series((2, 1.0)), series((2, 2.0))]


def test_a_sweep_without_a_run_is_refused(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep001")
    monkeypatch.delenv("WANDB_RUN_ID", raising=False)
    config = TrackingConfig(runs_dir=tmp_path / "runs", wandb=True)
    with pytest.raises(ConfigError, match="without WANDB_RUN_ID"):
        open_run(config, system="matmul", name_prefix="m", run_config={})
    assert not (tmp_path / "runs").exists()


def test_what_the_server_refuses_is_not_retried_and_goes_to_another_project(
    online: LoopbackServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path, 3)
    with sqlite3.connect(folder / "journal.sqlite") as journal:
        for key, value in (("project", "team/name"), ("entity", "nobody")):
            journal.execute("UPDATE meta SET value = ? WHERE key = ?", (json.dumps(value), key))
    journal.close()
    assert sync(folder) == 1
    assert "--project" in (out := capsys.readouterr().out)
    assert "refused the run" in out
    assert sync(folder, project="good") == 1
    assert "refused the run (entity nobody" in capsys.readouterr().out
    assert sync(folder, project="good", entity=ENTITY) == 0
    assert losses(online, folder.name) == series((3, 1.0))
    assert online.runs[run_id(folder.name)].project == "good"
    assert sync(folder) == 0  # stays there
    assert sync(folder, project="third") == 2
    assert "moved on its page" in capsys.readouterr().err
    assert sync(folder, project="a/b") == 2
    assert audit(folder).gaps == []


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("returned error 404: entity nobody not found", wandb_client.RefusedError),
        ("returned error 403 Forbidden: permission denied", wandb_client.RefusedError),
        ("returned error 400: invalid project name", wandb_client.RefusedError),
        (
            "returned error 409: run x was previously created and deleted; try a new one",
            wandb_client.NameGoneError,
        ),
        ("entity nobody not found during upsertBucket", wandb_client.RefusedError),
        ("returned error 500 Internal Server Error", wandb_client.UnavailableError),
        ("returned error 429 Too Many Requests", wandb_client.UnavailableError),
        ("returned error 408 Request Timeout", wandb_client.UnavailableError),
        ('Post "http://127.0.0.1:4030/graphql": connection refused', wandb_client.UnavailableError),
        ("Run initialization has timed out after 20.0 sec", wandb_client.UnavailableError),
    ],
)
def test_refused_is_told_from_unreachable(text: str, kind: type[Exception]) -> None:
    from wandb import errors

    assert type(wandb_client.translated(errors.CommError(text))) is kind


def test_a_server_that_cannot_check_the_key_is_away() -> None:
    from wandb import errors

    text = (
        "Failed to verify credentials with http://s: the service process is busy and did not respond in time."
    )
    error = errors.AuthenticationError(text)
    assert type(wandb_client.translated(error)) is wandb_client.UnavailableError
    bad_key = errors.AuthenticationError("The API key could not be verified.")
    assert type(wandb_client.translated(bad_key)) is wandb_client.RefusedError
