"""Names by W&B's rules, and what the user configured in the environment and in W&B's settings files."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from matrixrl.config import ConfigError, TrackingConfig
from matrixrl.tracking.journal_reader import JournalReader
from matrixrl.tracking.run import open_run
from matrixrl.tracking.sinks import wandb_client
from matrixrl.tracking.sinks.wandb_names import (
    artifact_part,
    belonging_of,
    check_entity,
    check_project,
    configured,
    may_ask_wandb,
    next_names,
    set_identity_variables,
)
from tests.tracking.conftest import Trainer
from tests.wandb_server import API_KEY, LoopbackServer


@pytest.fixture
def place(tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory where nothing is configured."""
    for name in list(os.environ):
        if name.startswith("WANDB_") and name != "WANDB_ERROR_REPORTING":
            monkeypatch.delenv(name)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def settings(folder: Path, **values: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{name} = {value}\n" for name, value in values.items()]
    (folder / "settings").write_text("[default]\n" + "".join(lines))


@pytest.mark.parametrize(
    "name", ["", " x", "a/b", "a\\b", "a#b", "a?b", "a%b", "a:b", "x" * 129, "a\nb", "/", "team/"]
)
def test_projects_that_w_and_b_refuses_are_refused_before_the_start(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--project"):
        check_project(name)
    config = TrackingConfig(runs_dir=tmp_path / "runs", project=name)
    with pytest.raises(ConfigError, match="--project"):
        open_run(config, system="matmul", name_prefix="m", run_config={})
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["rlmm", "x" * 128, "Größe mit Leerzeichen", "a-b_c.d (2)"])
def test_what_we_accept_as_a_project_wandb_accepts(name: str) -> None:
    import wandb

    assert check_project(name) == name
    assert wandb.Settings(project=name).project == name


def test_team_and_project_in_one_flag_says_how_they_are_given() -> None:
    with pytest.raises(ConfigError, match="--entity team --project name"):
        check_project("team/name")


@pytest.mark.parametrize("name", ["", "a b", "a/b", "-a", "ä", "x" * 129])
def test_entities_that_w_and_b_refuses(name: str) -> None:
    with pytest.raises(ConfigError, match="--entity"):
        check_entity(name)


def test_next_names() -> None:
    def after(name: str) -> list[str]:
        return list(islice(next_names(name), 2))

    assert after("m-nov27-26-9") == ["m-nov27-26-10", "m-nov27-26-11"]
    assert after("m-nov27-26-1-net2") == ["m-nov27-26-2-net2", "m-nov27-26-3-net2"]
    assert after("mine") == ["mine-2", "mine-3"]
    assert after("m-7") == ["m-7-2", "m-7-3"]
    assert [len(name) for name in after("x" * 128)] == [128, 128]
    assert artifact_part("schéma 2x2.json") == "sch_ma_2x2.json"


def test_flags_count_before_variables_and_those_before_the_settings_files(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert belonging_of(None, None, "rlmm", True) == ("rlmm", None, None)
    settings(Path.home() / ".config" / "wandb", project="home", entity="me")
    assert belonging_of(None, None, "rlmm", True) == ("home", "me", None)
    settings(place / "wandb", project="here")
    assert belonging_of(None, None, "rlmm", True) == ("here", "me", None)
    monkeypatch.setenv("WANDB_PROJECT", "variable")
    assert belonging_of(None, None, "rlmm", True) == ("variable", "me", None)
    assert belonging_of("flag", "team", "rlmm", True) == ("flag", "team", None)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(place / "other"))
    assert configured("entity") is None
    settings(place / "other", entity="third")
    assert configured("entity") == ("third", str(place / "other" / "settings"))
    monkeypatch.setenv("WANDB_PROJECT", "a/b")
    with pytest.raises(ConfigError, match="WANDB_PROJECT"):
        belonging_of(None, None, "rlmm", True)
    assert belonging_of(None, None, "rlmm", False).project == "rlmm"  # W&B is not asked for
    (place / "wandb" / "settings").write_text("no settings file")
    assert configured("mode") is None


def test_settings_files_are_those_that_wandb_reads(place: Path) -> None:
    """Written by wandb's own commands, read without wandb."""
    environment = {**os.environ, "PYTHONPATH": ""}
    subprocess.run(
        [sys.executable, "-m", "wandb", "offline"], env=environment, check=True, capture_output=True
    )
    setting = configured("mode")
    assert setting is not None
    assert setting.value == "offline"
    plan = wandb_client.resolve_mode()
    assert plan.mode == "offline"
    assert "wandb online" in plan.reason
    assert not may_ask_wandb()
    subprocess.run(
        [sys.executable, "-m", "wandb", "disabled"], env=environment, check=True, capture_output=True
    )
    assert wandb_client.resolve_mode().mode == "none"
    subprocess.run(
        [sys.executable, "-m", "wandb", "online"], env=environment, check=True, capture_output=True
    )
    assert configured("mode") is None


@pytest.mark.slow
def test_wandb_offline_is_honoured_and_does_not_hide_the_key(
    place: Path, trainer: Trainer, server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings(place / "wandb", mode="offline", base_url=server.url)
    known = {"WANDB_API_KEY": API_KEY, "WANDB_MODE": "", "WANDB_BASE_URL": ""}
    for name, value in known.items():
        if value:
            monkeypatch.setenv(name, value)
    trainer.environment = {k: v for k, v in trainer.environment.items() if not k.startswith("WANDB_")}
    result = trainer.run("--wandb", "--epochs", "1", WANDB_API_KEY=API_KEY)
    assert "says mode = offline" in result["output"]
    assert "no key" not in result["output"]
    assert not server.runs
    # `runs sync` and the audit are asked for by name: the key and the server of the settings file are used.
    command = [sys.executable, "-m", "matrixrl.cli.main", "runs"]
    where = ["latest", f"--runs-dir={trainer.runs_dir}"]
    environment = {**os.environ, "PYTHONPATH": trainer.environment["PYTHONPATH"]}
    subprocess.run([*command, "sync", *where], env=environment, check=True, capture_output=True)
    assert len(server.runs) == 1
    answer = subprocess.run(
        [*command, "audit", *where], env=environment, check=True, capture_output=True, text=True
    )
    assert "W&B server: " in answer.stdout
    assert "could not be asked" not in answer.stdout
    with JournalReader(trainer.runs_dir / result["name"]) as reader:
        assert reader.meta["project"] == "rlmm"


def test_variables_of_another_run_are_taken_away(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_RUN_ID", "WANDB_SWEEP_ID", "WANDB_FORK_FROM", "WANDB_NAME"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("WANDB_PROJECT", "q")  # so that what is set here is undone
    sweep = {
        "sweep_id": "s",
        "run_id": "r",
        "project": "p",
        "entity": None,
        "parameters": str(place / "gone"),
    }
    assert set_identity_variables(sweep) == ["WANDB_NAME"]
    there = {
        name: value for name, value in os.environ.items() if name.startswith("WANDB_") and "ERROR" not in name
    }
    assert there == {"WANDB_SWEEP_ID": "s", "WANDB_RUN_ID": "r", "WANDB_PROJECT": "p"}
    assert set_identity_variables(None) == ["WANDB_RUN_ID", "WANDB_SWEEP_ID"]
    assert "WANDB_RUN_ID" not in os.environ
