"""`matrixrl ppo`: the page docs/own_environment.md is true, and nothing is imported that nobody named."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from matrixrl.cli.main import main
from matrixrl.tracking.audit import audit
from matrixrl.tracking.journal_reader import JournalReader

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "own_environment.md").read_text()

# Enough to be a run; one program for all tests of this file.
TINY = [
    "--num-envs",
    "8",
    "--num-steps",
    "8",
    "--num-minibatches",
    "2",
    "--hidden-dim",
    "8",
    "--num-layers",
    "1",
]
TINY += ["--no-anneal-lr", "--log-interval", "5", "--console", "quiet"]
STEPS = 64 * 20


def walk() -> str:
    """The environment of the page, with a picture and a trace of its import."""
    (source,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    return source


RENDER = """
    def render(self, state):
        return "".join("@" if cell == state.cell else "x" if cell == state.goal else "." for cell in range(9))
"""
TRACE = "import pathlib; (pathlib.Path(__file__).parent / 'imported').touch()\n"


@pytest.fixture(scope="module", autouse=True)
def state_folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "walk.py"
    path.write_text(TRACE + walk() + RENDER)
    return path


def train(capsys: Any, *arguments: str) -> dict[str, Any]:
    assert main(["ppo", "train", "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.fixture(scope="module")
def runs(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds `whole`, trained at once, and `halves`, stopped and resumed in another folder."""
    folder, here = tmp_path_factory.mktemp("runs"), os.getcwd()
    where = ["--runs-dir", str(folder), "--console", "quiet"]
    os.chdir(source.parent)  # the page names the file as it lies there
    try:
        command = ["ppo", "train", "--env", "walk.py:Walk", *TINY, "--runs-dir", str(folder)]
        assert main([*command, "--total-timesteps", str(STEPS), "--run-name", "whole"]) == 0
        assert main([*command, "--total-timesteps", str(STEPS // 2), "--run-name", "halves"]) == 0
    finally:
        os.chdir(here)
    resume = ["ppo", "train", "--resume-run", "halves", "--total-timesteps", str(STEPS), *where]
    assert main(resume) == 0
    return folder


def hashes(capsys: Any, runs: Path, name: str) -> str:
    """Resumes a finished run, which does nothing but print its result."""
    arguments = ["--resume-run", name, "--runs-dir", str(runs), "--console", "quiet"]
    return train(capsys, *arguments)["params_sha256"]


def rows(folder: Path) -> list[dict[str, Any]]:
    with JournalReader(folder) as reader:
        return [dict(row.metrics) for row in reader.stream()]


def test_the_page_has_thirty_lines() -> None:
    commands = re.findall(r"```bash\n(matrixrl ppo train --env walk.*?)```", PAGE, re.DOTALL)
    lines = [line for line in walk().splitlines() + commands[0].splitlines() if line.strip()]
    assert len(lines) <= 30


def test_a_resumed_run_equals_one_that_was_not_stopped(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hashes(capsys, runs, "whole") == hashes(capsys, runs, "halves")
    assert audit(runs / "halves", server=False).agrees
    first, second = rows(runs / "whole"), rows(runs / "halves")
    for name in ("train/total_loss", "episode/return", "episode/reached", "episode/count"):
        assert [row.get(name) for row in first] == [row.get(name) for row in second], name
    assert len(first) == 4


def test_scalars_of_info_are_columns(runs: Path) -> None:
    with JournalReader(runs / "whole") as reader:
        columns = reader.episode_columns
        episodes = list(reader.episodes())
    assert list(columns) == ["Global Episode", "Update", "Return", "Steps", "reached"]
    assert columns["reached"] == "bool"
    assert len(episodes) > 20
    assert "episode/reached" in rows(runs / "whole")[-1]


def test_the_result_for_scripts(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = train(capsys, "--resume-run", "whole", "--runs-dir", str(runs), "--console", "quiet")
    assert result["run_name"] == "whole"
    assert result["run_dir"] == str(runs / "whole")
    assert result["total_timesteps"] == STEPS
    assert isinstance(result["mean_return"], float)
    assert {"run_id", "steps_per_second", "params_sha256", "episodes"} <= result.keys()
    assert main(["runs", "show", "whole", "--runs-dir", str(runs)]) == 0
    output = capsys.readouterr().out
    assert "episode/return" in output
    assert "episode/reached" in output  # the environment's own number has a chart


def test_evaluate_prints_intervals(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["ppo", "evaluate", "whole", "--runs-dir", str(runs), "--games", "2e1"]
    assert main([*command, "--json"]) == 0
    output = capsys.readouterr().out
    record = json.loads(output.splitlines()[-1])
    assert (record["run_name"], record["episodes"], record["step"]) == ("whole", 20, 20)
    for way in ("greedy", "sampled"):
        low, high = record[way]["return"]["ci95"]
        assert low <= record[way]["return"]["mean"] <= high
        low, high = record[way]["reached"]["ci95"]
        assert 0 <= low <= record[way]["reached"]["mean"] <= high <= 1
    assert "+-" in output
    assert "%" in output


def test_watch_shows_an_episode_and_saves_a_picture(
    runs: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    picture = tmp_path / "episode.gif"
    assert main(["ppo", "watch", "whole", "--runs-dir", str(runs), "--gif", str(picture)]) == 0
    output = capsys.readouterr().out
    steps = [line for line in output.splitlines() if " action " in line]
    assert f"after {len(steps)} step" in output
    with Image.open(picture) as film:
        assert film.format == "GIF"
        assert np.asarray(film.convert("L")).min() < 128  # something is drawn


def test_code_that_only_a_run_from_elsewhere_names_is_not_imported(
    runs: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere, trace = tmp_path / "elsewhere", source.parent / "imported"
    shutil.copytree(runs / "whole", elsewhere / "whole")
    trace.unlink(missing_ok=True)
    where = ["--runs-dir", str(elsewhere)]
    for command in (
        ["ppo", "train", "--resume-run", "whole", "--console", "quiet", *where],
        ["ppo", "evaluate", "whole", *where],
        ["ppo", "watch", "whole", *where],
    ):
        assert main(command) == 2
        (line,) = [text for text in capsys.readouterr().err.splitlines() if text.startswith("matrixrl: ")]
        assert "code that only it names is not imported" in line
        assert line.endswith(f"name it once: --env {source}:Walk")
    assert not trace.exists()
    assert main(["ppo", "evaluate", "whole", "--episodes", "1", "--env", f"{source}:Walk", *where]) == 0
    assert trace.exists()
    assert main(["ppo", "evaluate", "whole", "--episodes", "1", *where]) == 0  # once is enough


FAULTY = """
import jax, jax.numpy as jnp
from walk import Walk

class Broken(Walk):
    def step(self, key, state, action, params):
        observation, *rest = super().step(key, state, action, params)
        return jnp.append(observation, 1.0), *rest

class NanReward(Walk):
    def step(self, key, state, action, params):
        observation, state, reward, *rest = super().step(key, state, action, params)
        return observation, state, reward * jnp.nan, *rest

class NoReset:
    num_actions = 2
"""


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (
            "{folder}/faulty.py:Broken",
            "expected an observation of float32(2,), as from reset, came float32(3,)",
        ),
        ("{folder}/faulty.py:NoReset", "came a NoReset without reset"),
        ("{folder}/faulty.py:Absent", "has no Absent"),
        ("{folder}/missing.py:Walk", "there is no file"),
        ("nothing_of_this_name:make", "there is no module nothing_of_this_name"),
        ("CartPole", "must be gymnax:NAME, package.module:factory or path/to/file.py:factory"),
        pytest.param(
            "{folder}/faulty.py:NanReward",
            "expected finite rewards, came NaN or infinite rewards (64 of 64 steps) in update 1",
            id="nan",
        ),
    ],
)
def test_a_bad_environment_is_one_line_and_leaves_no_run(
    env: str, message: str, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source.parent / "faulty.py").write_text(FAULTY)
    spec = env.format(folder=source.parent)
    runs = tmp_path / "runs"
    command = ["ppo", "train", "--env", spec, *TINY, "--total-timesteps", "64", "--runs-dir", str(runs)]
    assert main(command) == 2
    lines = [text for text in capsys.readouterr().err.splitlines() if text.startswith("matrixrl: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert spec in lines[0]
    assert not list(runs.glob("*/run.json"))


def test_the_environment_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ppo", "train"]) == 2
    assert "--env is missing: name an environment, gymnax:NAME" in capsys.readouterr().err


def test_gymnax_missing_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "gymnax", None)
    command = [
        "ppo",
        "train",
        "--env",
        "gymnax:CartPole-v1",
        "--runs-dir",
        str(tmp_path),
        "--console",
        "quiet",
    ]
    assert main(command) == 2
    assert "pip install 'matrixrl[gymnax]'" in capsys.readouterr().err


@pytest.mark.slow
def test_the_cost_of_tracking_is_measured(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    command = [
        "ppo",
        "train",
        "--env",
        f"{source}:Walk",
        *TINY,
        "--total-timesteps",
        str(STEPS),
        "--benchmark",
    ]
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_killed_in_the_middle_resumes_to_the_same_hash(
    runs: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The commands of the page as processes, one of them killed."""
    program = [
        sys.executable,
        "-m",
        "matrixrl.cli.main",
        "ppo",
        "train",
        "--runs-dir",
        str(tmp_path),
        "--json",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    long = ["--total-timesteps", str(64 * 2000), "--save-interval-chunks", "4", "--run-name"]
    start = [*program, "--env", "walk.py:Walk", *TINY, *long]
    whole = subprocess.run(
        [*start, "whole"], cwd=source.parent, env=environment, capture_output=True, text=True, check=True
    )
    process = subprocess.Popen(
        [*start, "killed"],
        cwd=source.parent,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 240
    while not list((tmp_path / "killed" / "checkpoints").glob("[0-9]*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    resumed = subprocess.run(
        [*program, "--resume-run", "killed", "--console", "quiet"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    results = [json.loads(done.stdout.splitlines()[-1]) for done in (whole, resumed)]
    assert results[0]["params_sha256"] == results[1]["params_sha256"]
    assert audit(tmp_path / "killed", server=False).agrees
