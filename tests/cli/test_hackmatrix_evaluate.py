"""`matrixrl hackmatrix evaluate`: what it prints, which checkpoint plays, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from matrixrl.cli.hackmatrix_agent import load_agent
from matrixrl.cli.main import main
from matrixrl.config import ConfigError
from matrixrl.search.chance import VALUE_SCALE
from matrixrl.systems.hackmatrix.evaluation import NetworkPolicy, evaluate
from matrixrl.tracking.journal import JOURNAL_FILE
from matrixrl.whole_files import write_whole
from tests.cli.announced import without_announcement
from tests.cli.conftest import BEST, NEWEST


def result(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[list[str], dict[str, Any]]:
    """The lines and the JSON object that an evaluation prints."""
    assert main(["hackmatrix", "evaluate", *map(str, arguments), "--json"]) == 0
    captured = capsys.readouterr()
    assert without_announcement(captured.err) == ""
    *lines, last = captured.out.splitlines()
    return lines, json.loads(last)


@pytest.mark.slow
def test_an_agent_is_measured_greedy_and_sampled(
    hackmatrix_runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines, record = result(capsys, "latest", "--runs-dir", hackmatrix_runs, "--games", "12", "--seed", "3")
    assert (record["run_name"], record["step"], record["time_limit"]) == ("agent", NEWEST, 60)
    policy = load_agent("evaluate", "agent", hackmatrix_runs, None, False).policy
    for way in ("greedy", "sampled"):
        expected = evaluate(policy, 12, 3, way == "greedy", 60).as_record()
        assert {**record[way], "seconds": 0} == {**expected, "seconds": 0}
        assert sum(record[way]["highest_stage_counts"].values()) == 12
    assert record["greedy"] != record["sampled"]
    assert lines[0].startswith("agent after 9 updates (4,608 steps): 12 games, seed 3, at most 60 steps each")
    assert lines[1].split() == ["greedy", "sampled"]
    names = [line[:15].strip() for line in lines[2:]]
    assert names[:7] == ["return", "highest stage", "score", "won", "steps", "best return", "games"]
    assert names[7] == "in stage 1"
    mean = record["greedy"]["return"]["mean"]
    assert lines[2].split()[1] == f"{mean:.2f}"
    assert max(map(len, lines[1:])) <= 80


def test_search_plays_the_same_games_beside_the_policy(
    hackmatrix_runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The search itself is replaced by its network: the real one takes a minute to compile."""
    searched: list[Any] = []

    def by_policy(player: Any, games: int, seed: int, limit: int, progress: Any) -> Any:
        searched.append(player)
        progress(games, games)
        return evaluate(NetworkPolicy(player.network, player.params), games, seed, True, limit)

    monkeypatch.setattr("matrixrl.systems.hackmatrix.search.evaluate_search", by_policy)
    arguments = (
        "agent",
        "--runs-dir",
        hackmatrix_runs,
        "--games",
        "12",
        "--seed",
        "3",
        "--num-simulations",
        "6",
        "--time-limit",
        "8",
    )
    lines, record = result(capsys, *arguments)
    assert lines[1].split() == ["greedy", "sampled", "search"]
    assert record["num_simulations"] == 6
    assert {**record["search"], "seconds": 0} == {**record["greedy"], "seconds": 0}
    assert set(record["search"]["win_rate"]) == {"mean", "ci95"}
    _, record = result(capsys, *arguments, "--policy", "search")
    assert not {"greedy", "sampled"} & set(record)
    config = load_agent("evaluate", "agent", hackmatrix_runs, None, False).config.ppo
    assert [player.num_simulations for player in searched] == [6, 6]
    assert float(searched[0].discount) == pytest.approx(config.gamma)
    assert float(searched[0].reward_scale) == pytest.approx(config.reward_scale)
    assert float(searched[0].value_scale) == pytest.approx(VALUE_SCALE)


def test_the_search_has_the_value_scale_of_a_run_of_alphazero(
    hackmatrix_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(hackmatrix_runs / "agent", tmp_path / "agent")
    (tmp_path / "agent" / JOURNAL_FILE).unlink()
    file = tmp_path / "agent" / "run.json"
    record = json.loads(file.read_text())
    record["config"] |= {"algorithm": "alphazero"}
    record["config"]["ppo"]["num_minibatches"] = 1
    record["config"]["alphazero"]["value_scale"] = 0.03
    file.write_text(json.dumps(record))
    searched: list[Any] = []

    def seen(player: Any) -> Any:
        searched.append(player)
        raise ConfigError("seen")

    monkeypatch.setattr(
        "matrixrl.systems.hackmatrix.search.evaluate_search", lambda player, *_, **__: seen(player)
    )
    monkeypatch.setattr("matrixrl.systems.hackmatrix.game.AgentGame", lambda *_, search, **__: seen(search))
    for words in (["evaluate", "agent", "--policy", "search"], ["watch", "agent"]):
        assert main(["hackmatrix", *words, "--num-simulations", "6", "--runs-dir", str(tmp_path)]) == 2
    assert [float(player.value_scale) for player in searched] == pytest.approx([0.03, 0.03])


@pytest.mark.slow
def test_one_policy_alone_and_random_play(hackmatrix_runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--games", "1", "--time-limit", "20")
    lines, record = result(
        capsys, "agent", "--runs-dir", hackmatrix_runs, "--policy", "greedy", "--best", *arguments
    )
    assert record["step"] == BEST
    assert "sampled" not in record
    assert record["greedy"]["return"]["ci95"] is None
    assert "+-" not in lines[2]
    lines, record = result(capsys, "--agent", "random", *arguments)
    assert lines[0].startswith("random legal play: 1 game, seed 0, at most 20 steps each")
    assert record["run_name"] is None
    again = result(capsys, "--agent", "random", *arguments)[1]
    assert {**again["random"], "seconds": 0} == {**record["random"], "seconds": 0}


def test_which_checkpoint_plays(
    hackmatrix_runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def step(step: int | None = None, best: bool = False, runs: Path = hackmatrix_runs) -> int:
        return load_agent("evaluate", "agent", runs, step, best).step

    assert (step(), step(best=True), step(BEST), step(NEWEST)) == (NEWEST, BEST, BEST, NEWEST)
    with pytest.raises(ConfigError, match="no checkpoint of step 7; there are: 5, 9"):
        step(7)
    copy = tmp_path / "runs"
    shutil.copytree(hackmatrix_runs, copy)
    newest = copy / "agent" / "checkpoints" / str(NEWEST)
    (newest / "checkpoint.json").write_text("{}")
    assert step(runs=copy) == step(best=True, runs=copy) == BEST
    assert "the checkpoint at step 9 is damaged" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="step 9 is damaged"):
        step(NEWEST, runs=copy)
    shutil.rmtree(copy / "agent" / "checkpoints")
    with pytest.raises(ConfigError, match="there is no whole checkpoint"):
        step(runs=copy)


def test_an_agent_of_another_version_of_the_game_is_refused(hackmatrix_runs: Path, tmp_path: Path) -> None:
    from matrixrl.checkpoints import format as checkpoint_format

    copy = tmp_path / "runs"
    shutil.copytree(hackmatrix_runs, copy)
    folder = copy / "agent" / "checkpoints" / str(NEWEST)
    record = json.loads((folder / "checkpoint.json").read_text())
    record["config"]["environment_version"] = 99
    write_whole(folder / "checkpoint.json", checkpoint_format.render(record))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["checkpoint.json"] = checkpoint_format.checksum(folder / "checkpoint.json")
    write_whole(folder / "manifest.json", json.dumps(manifest))
    with pytest.raises(ConfigError, match="version 99 of HackMatrix, this matrixrl plays version 0"):
        load_agent("evaluate", "agent", copy, None, False)


# Command line after `hackmatrix evaluate`, and what the one line must say.
IMPOSSIBLE: list[tuple[list[str], list[str]]] = [
    ([], ["name a run", "--agent random"]),
    (["nobody"], ["evaluate nobody", "newest there: agent"]),
    (["matrices"], ["evaluate matrices", "no hackmatrix run"]),
    (["agent", "--agent", "random"], ["evaluate agent --agent random", "leave one"]),
    (["--agent", "random", "--best"], ["--agent random", "--best"]),
    (["--agent", "random", "--step", "3"], ["--agent random", "--step"]),
    (["--agent", "random", "--policy", "greedy"], ["--policy greedy", "sampled"]),
    (["--agent", "clever"], ["--agent clever", "trained, random"]),
    (["agent", "--policy", "shy"], ["--policy shy", "both, greedy, sampled"]),
    (["agent", "--num-simulations", "-1"], ["--num-simulations -1", "from 0", "10000"]),
    (["agent", "--policy", "search"], ["--policy search", "--num-simulations 64"]),
    (["--agent", "random", "--num-simulations", "8"], ["--num-simulations 8", "--agent random"]),
    (["agent", "--games", "0"], ["--games 0", "from 1"]),
    (["agent", "--games", "many"], ["--games", "many"]),
    (["agent", "--seed", "-1"], ["--seed -1", "from 0"]),
    (["agent", "--time-limit", "0"], ["--time-limit 0", "from 1"]),
    (["agent", "--step", "-1"], ["--step -1"]),
    (["agent", "--step", "7"], ["no checkpoint of step 7", "5, 9"]),
    (["agent", "--step", "5", "--best"], ["--step 5 and --best"]),
    (["agent", "--gmaes", "2"], ["unknown flag --gmaes", "--games"]),
    (["agent", "surplus"], ["surplus"]),
]


@pytest.mark.parametrize(("arguments", "said"), IMPOSSIBLE, ids=lambda value: " ".join(value)[:40])
def test_bad_input_is_one_line_and_status_2(
    arguments: list[str], said: list[str], hackmatrix_runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["hackmatrix", "evaluate", *arguments, "--runs-dir", str(hackmatrix_runs)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("matrixrl: ")
    for part in said:
        assert part in line
