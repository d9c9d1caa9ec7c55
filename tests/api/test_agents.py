"""`matrixrl.load`: agents act as `evaluate` lets them act, and import nothing that nobody named."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import matrixrl
from tests.systems.conftest import TINY

SMALL: dict[str, Any] = {
    "num_envs": 8, "num_steps": 8, "num_minibatches": 2, "hidden_dim": 8, "num_layers": 1, "log_interval": 5,
    "console": "quiet", "total_timesteps": 640,
}  # fmt: skip

NAMED = "import pathlib\n(pathlib.Path(__file__).parent / 'imported').touch()\nfrom tests.envs.tiny import Masked, Continuous\n"


@pytest.fixture(scope="module", autouse=True)
def state_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "named.py"
    path.write_text(NAMED)
    return path


@pytest.fixture(scope="module")
def masked(source: Path, tmp_path_factory: pytest.TempPathFactory) -> matrixrl.Run:
    folder = tmp_path_factory.mktemp("runs")
    return matrixrl.train(matrixrl.ppo(env=f"{source}:Masked", runs_dir=folder, **SMALL))


def test_an_agent_acts(masked: matrixrl.Run) -> None:
    agent = matrixrl.load(masked)
    assert (agent.name, agent.step) == (masked.name, 10)
    action = agent.act([1.0])
    assert (action.shape, action.dtype.kind) == ((), "i")
    assert np.array_equal(agent.act(np.ones((3, 1))), [action] * 3)
    others = [number for number in range(3) if number != action]
    mask = np.isin(np.arange(3), others)
    assert agent.act([1.0], mask=mask) in others
    drawn = agent.act(np.ones((200, 1)), mask=mask, greedy=False, key=3)
    assert set(drawn.tolist()) == set(others)
    assert np.array_equal(drawn, agent.act(np.ones((200, 1)), mask, greedy=False, key=jax.random.key(3)))
    # Without a key, draws differ, and another load repeats them.
    two = [
        [a.act(np.ones((50, 1)), greedy=False).tolist() for _ in range(2)]
        for a in (agent, matrixrl.load(masked))
    ]
    assert two[0][0] != two[0][1]
    assert two[0] == two[1]
    assert agent.value([1.0]).shape == ()
    assert agent.value(np.ones((4, 1))).shape == (4,)
    assert masked.agent(best=True).name == masked.name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0, 2.0],), r"observation of shape \(2,\): .* was trained on \(1,\)"),
        (([1.0], [True]), r"mask of shape \(1,\): must be \(3,\)"),
        (([1.0], [False] * 3), "without a legal action"),
    ],
)
def test_what_does_not_fit_is_refused(masked: matrixrl.Run, arguments: Any, message: str) -> None:
    with pytest.raises(matrixrl.ConfigError, match=message):
        matrixrl.load(masked).act(*arguments)


@pytest.mark.parametrize(
    ("run", "keywords", "message"),
    [
        ("absent", {}, r"load\(\) absent: no run"),
        (None, {"step": 7}, "7"),
        (None, {"number": 1}, "number=1: must be from 0 to 0"),
        (None, {"step": 1, "best": True}, "exclude one another"),
        ("wandb:NAME", {}, "must be wandb:entity/project/NAME"),
    ],
)
def test_a_choice_that_is_not_there_is_refused(
    masked: matrixrl.Run, run: str | None, keywords: dict[str, Any], message: str
) -> None:
    with pytest.raises(matrixrl.ConfigError, match=message):
        matrixrl.load(run or masked.name, runs_dir=masked.path.parent, **keywords)


def test_code_that_only_a_run_names_is_not_imported(
    masked: matrixrl.Run, source: Path, tmp_path: Path
) -> None:
    elsewhere, trace = tmp_path / masked.name, source.parent / "imported"
    shutil.copytree(masked.path, elsewhere)
    trace.unlink()
    for call in (
        lambda: matrixrl.load(elsewhere),
        lambda: matrixrl.load("latest", runs_dir=tmp_path),
        lambda: matrixrl.train(resume=elsewhere),
        lambda: matrixrl.train(matrixrl.ppo(total_timesteps=1280), resume=elsewhere),
    ):
        with pytest.raises(matrixrl.ConfigError, match="code that only it names is not imported") as caught:
            call()
        assert str(caught.value).endswith(f"name it once: --env {source}:Masked")
    assert not trace.exists()
    assert matrixrl.load(elsewhere, env=f"{source}:Masked").step == 10
    assert trace.exists()
    assert matrixrl.load(elsewhere).step == 10  # once is enough


def test_actions_are_those_of_the_environment(source: Path, tmp_path: Path) -> None:
    """Continuous ones are in its bounds, 0 to 4, and observations are normalised as in training."""
    run = matrixrl.train(matrixrl.ppo(env=f"{source}:Continuous", runs_dir=tmp_path, num_seeds=2, **SMALL))
    first, second = (matrixrl.load(run, number=number) for number in range(2))
    actions = first.act(np.full((100, 1), 120.0), greedy=False, key=0)
    assert actions.shape == (100, 1)
    assert actions.min() >= 0
    assert actions.max() <= 4
    assert first.value([110.0]) != first.value([130.0])
    assert first.value([110.0]) != second.value([110.0])
    with pytest.raises(matrixrl.ConfigError, match="must be from 0 to 1"):
        matrixrl.load(run, number=2)


def keywords(flags: list[str]) -> dict[str, Any]:
    """A command line as keywords."""
    found: dict[str, list[str]] = {}
    for word in flags:
        if word.startswith("--"):
            found[word[2:].replace("-", "_")] = []
        else:
            found[list(found)[-1]].append(word)
    values: dict[str, Any] = {}
    for name, words in found.items():
        numbers = [int(word) if word.isdigit() else word for word in words]
        values[name.removeprefix("no_")] = not name.startswith("no_") if not words else numbers
    return {
        name: value[0] if isinstance(value, list) and len(value) == 1 else value
        for name, value in values.items()
    }


@pytest.mark.slow
def test_schemes_arrive_as_they_are_proved_and_leaving_saves(tmp_path: Path) -> None:
    given = {
        **keywords(TINY),
        "num_epochs": 10_000,
        "runs_dir": tmp_path,
        "console": "quiet",
        "run_name": "r",
    }
    for found in matrixrl.discover(**given):
        assert found.rank == 2
        assert found.ring == "Z"
        break
    del found
    run = matrixrl.open("r", runs_dir=tmp_path)
    assert run.status == "interrupted"  # the generator was dropped
    assert matrixrl.load(run).step == run.summary.last_step
    # Each different solution; the resumed training ends at the rank that was asked for.
    given = {"resume_run": "r", "runs_dir": tmp_path, "every": True}
    with matrixrl.discover(**given, num_epochs=10_000) as search:
        solutions = [next(search) for _ in range(2)]
        assert search.run == run
    assert solutions[0] != solutions[1]
    assert list(search) == []
    assert run.summary.attempts == 2
    agent = matrixrl.load(run)
    scheme = agent.decompose(games=2)
    assert scheme is not None
    assert scheme.rank == 2
    with pytest.raises(matrixrl.ConfigError, match=r"use decompose\(tensor\)"):
        agent.act([0.0])
    with pytest.raises(matrixrl.ConfigError, match="was trained on"):
        agent.decompose(np.ones((3, 3, 3), int))
    with pytest.raises(matrixrl.ConfigError, match="games=0"):
        agent.decompose(games=0)


def test_walks_discover_schemes_and_resume(tmp_path: Path) -> None:
    given = {"runs_dir": tmp_path, "console": "quiet", "num_walkers": 2}
    with matrixrl.discover(size=(2, 2, 2), run_name="w", target_rank=6, flips=40_000, **given) as search:
        first = next(search)
    assert first.rank < 8
    assert search.run is not None
    assert search.run.system == "flip"
    again = matrixrl.discover(resume_run="w", runs_dir=tmp_path, every=True, console="quiet")
    solutions = list(again)
    assert again.run == search.run
    assert all(found.rank <= 7 for found in solutions)
    assert search.run.status == "finished"
    assert search.run.settings["size"] == (2, 2, 2)
    assert matrixrl.flip(size=(2, 2, 2)).ring == "F2"


def test_discover_chooses_the_engine(tmp_path: Path) -> None:
    with pytest.raises(matrixrl.ConfigError, match=r"flip\(\): unknown setting preset_name"):
        matrixrl.discover(engine="flips", preset_name="quick")
    with pytest.raises(matrixrl.ConfigError, match=r"engine='walks': must be auto, flips or agent"):
        matrixrl.discover(engine="walks")  # pyright: ignore[reportArgumentType]
    with pytest.raises(matrixrl.ConfigError, match="resume_run= nothing"):
        matrixrl.discover(resume_run="nothing", runs_dir=tmp_path)
    # A setting of a training alone.
    with pytest.raises(matrixrl.ConfigError, match="--step-margin"):
        matrixrl.discover(size=(2, 2, 2), step_margin=-8)
    with pytest.raises(matrixrl.ConfigError, match="--size 9 9 9"):
        matrixrl.discover(size=(9, 9, 9), engine="agent")


def test_discover_refuses_at_once() -> None:
    with pytest.raises(matrixrl.ConfigError, match="matmul\\(\\): unknown setting target_ranks"):
        matrixrl.discover(size=(2, 2, 2), target_ranks=7)
    with pytest.raises(matrixrl.ConfigError, match="are one setting"):
        matrixrl.discover(target_rank=7, stop_at_rank=7)
    with pytest.raises(matrixrl.ConfigError, match="--time 0s"):
        matrixrl.discover(time=0)
    search = matrixrl.discover(size=(2, 2, 2))
    search.close()
    assert list(search) == []
