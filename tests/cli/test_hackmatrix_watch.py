"""`matrixrl hackmatrix watch`: lines, keys, GIF and replay of a trained agent's game."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

from matrixrl.cli.hackmatrix_agent import load_agent
from matrixrl.cli.hackmatrix_policy import answer
from matrixrl.cli.hackmatrix_watch import HackmatrixWatchCommand, Viewer
from matrixrl.cli.main import main
from matrixrl.config import ConfigError
from matrixrl.dashboard.hackmatrix import frames_of
from matrixrl.dashboard.policies import Policies
from matrixrl.envs.hackmatrix.keyed_draws import replay_step
from matrixrl.envs.hackmatrix.referee import ACTION_NAMES
from matrixrl.envs.hackmatrix.scenario import dump_text, load, run_replay, state_hash
from matrixrl.systems.hackmatrix.game import AgentGame
from tests.cli.test_hackmatrix_play import Tmux
from tests.envs.hackmatrix.boards import data, game, rich, stunned


def watch(runs: Path, *arguments: str | Path) -> int:
    return main(["hackmatrix", "watch", "agent", "--runs-dir", str(runs), *map(str, arguments)])


def agent_game(runs: Path, **settings) -> AgentGame:
    agent = load_agent("watch", "agent", runs, None, False)
    return AgentGame(agent.policy, **{"seed": 0, "reward_scale": agent.config.ppo.reward_scale, **settings})


# Without a terminal


def test_each_step_is_a_line_and_the_seed_decides(
    hackmatrix_runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = []
    for flags in ([], [], ["--game", "1"], ["--seed", "1"], ["--greedy"], ["--sampled"]):
        assert watch(hackmatrix_runs, "--max-steps", "12", *flags) == 0
        outputs.append(capsys.readouterr().out)
    first, again, *others, sampled = outputs
    assert first == again == sampled
    assert len({first, *others}) == 4
    lines = first.splitlines()
    assert "\x1b" not in first
    assert lines[0] == "agent after 9 updates (4,608 steps), sampled, seed 0, game 0"
    assert lines[1].split() == ["step", "action", "chance", "expects", "reward", "from"]

    played = agent_game(hackmatrix_runs)
    while not played.over and len(played.positions) <= 12:
        played.play()
    for number, position in enumerate(played.positions[1:], start=1):
        thoughts = played.positions[number - 1].thoughts
        assert position.action == thoughts.chosen
        assert position.action is not None
        assert position.result is not None
        assert lines[1 + number].split()[:5] == [
            str(number),
            ACTION_NAMES[position.action],
            f"{thoughts.probabilities[position.action]:.0%}",
            f"{thoughts.value:+.2f}",
            f"{position.result.reward:+.2f}",
        ]
    assert lines[-1].endswith(f"{len(played.positions) - 1} steps, return {played.positions[-1].state.episode.return_:.2f}")  # fmt: skip


def test_boards_show_what_the_agent_thinks(hackmatrix_runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert watch(hackmatrix_runs, "--max-steps", "2", "--boards") == 0
    out = capsys.readouterr().out
    assert out.count(" expects ") == 1 + 2  # the heading, and two positions
    assert out.count("\n> ") == 0
    assert out.count("| > ") + out.count("+ > ") + out.count("  > ") == 2


def test_greedy_play_takes_the_likeliest_action(hackmatrix_runs: Path) -> None:
    played = agent_game(hackmatrix_runs, greedy=True)
    for _ in range(5):
        thoughts = played.positions[-1].thoughts
        assert thoughts.chosen == thoughts.probabilities.index(max(thoughts.probabilities))
        assert sum(thoughts.probabilities) == pytest.approx(1)
        played.play()


def test_values_are_told_in_the_rewards_of_the_game(hackmatrix_runs: Path) -> None:
    plain, scaled = (
        agent_game(hackmatrix_runs, reward_scale=scale).positions[0].thoughts.value for scale in (1.0, 0.1)
    )
    assert plain is not None
    assert scaled == pytest.approx(10 * plain)


# Files


def test_a_replay_goes_the_same_way_to_the_same_end(
    hackmatrix_runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "game.json"
    assert watch(hackmatrix_runs, "--replay", file, "--seed", "3") == 0
    assert f"saved to {file}" in capsys.readouterr().out
    scenario = load(file.read_text())
    steps, differences = run_replay(scenario, replay_step)
    assert differences == []
    played = agent_game(hackmatrix_runs, seed=3)
    while not played.over and len(played.positions) <= 60:
        played.play()
    assert len(steps) == len(played.positions) - 1
    assert state_hash(steps[-1].state) == state_hash(played.positions[-1].state)
    assert scenario.meta["run"] == "agent"
    assert [path.name for path in tmp_path.iterdir()] == ["game.json"]

    arguments = ["hackmatrix", "play", "--agent", "replay", "--scenario", str(file)]
    assert main(arguments) == 0
    assert capsys.readouterr().out.splitlines()[-1] == scenario.meta["end"]
    record = json.loads(file.read_text())
    record["replay"]["expect"][2]["reward"] += 1
    file.write_text(json.dumps(record))
    assert main(arguments) == 1
    assert "not as recorded: replay.expect[2].reward" in capsys.readouterr().err
    del record["replay"]
    file.write_text(json.dumps(record))
    assert main(arguments) == 2
    assert "holds no replay" in capsys.readouterr().err


@pytest.mark.slow
def test_a_replay_goes_the_same_way_on_the_arrays(hackmatrix_runs: Path) -> None:
    from matrixrl.envs.hackmatrix.scenario import ReplayStep
    from tests.envs.hackmatrix.lanes import step_lanes

    played = agent_game(hackmatrix_runs, seed=3)
    while not played.over and len(played.positions) <= 60:
        played.play()

    def step(state, action, key) -> ReplayStep:
        (taken,) = step_lanes([state], [action], [key])
        return ReplayStep(taken.state, taken.reward, taken.terminated, taken.breakdown)

    steps, differences = run_replay(load(played.replay_text({})), step)
    assert differences == []
    assert len(steps) == len(played.positions) - 1


def test_a_gif_has_a_picture_for_each_position(
    hackmatrix_runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "game.gif"
    assert watch(hackmatrix_runs, "--gif", file, "--max-steps", "3", "--delay", "0.25") == 0
    assert f"saved to {file}, 4 pictures" in capsys.readouterr().out
    with Image.open(file) as image:
        assert (image.format, image.size, image.info["loop"]) == ("GIF", (940, 496), 0)
        assert getattr(image, "n_frames") == 4  # noqa: B009
        durations, pictures = [], []
        for index in range(4):
            image.seek(index)
            durations.append(image.info["duration"])
            pictures.append(image.convert("RGB").tobytes())
    assert durations == [250, 250, 250, 3000]
    assert len(set(pictures)) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["game.gif"]


def test_a_scenario_is_where_the_game_starts(
    hackmatrix_runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, replay = tmp_path / "position.json", tmp_path / "replay.json"
    start = rich((2, 2), siphons=2, blocks={(2, 3): data(4)}, enemies=[stunned("daemon", 5, 2)])
    file.write_text(dump_text(start))
    assert watch(hackmatrix_runs, "--scenario", file, "--max-steps", "2", "--replay", replay) == 0
    assert state_hash(load(replay.read_text()).state) == state_hash(start)
    # All 23 programs fill the panel: what the agent thinks is in the line below the board.
    capsys.readouterr()
    assert watch(hackmatrix_runs, "--scenario", file, "--max-steps", "1", "--boards") == 0
    assert any(line.startswith("expects ") for line in capsys.readouterr().out.splitlines())


# Bad input


def test_bad_input_is_one_line_and_status_2(
    hackmatrix_runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    over, large = tmp_path / "over.json", tmp_path / "large.json"
    lost = game()
    lost.episode.done, lost.episode.outcome = True, "died"
    over.write_text(dump_text(lost))
    large.write_text(dump_text(game(blocks={(2, 3): data(999)})))
    impossible: list[tuple[list[str | Path], list[str]]] = [
        ([], ["missing", "RUN"]),
        (["nobody"], ["watch nobody", "newest there: agent"]),
        (["matrices"], ["watch matrices", "no hackmatrix run"]),
        (["agent", "--greedy", "--sampled"], ["--greedy and --sampled"]),
        (["agent", "--delay", "-1"], ["--delay -1", "0 to 60"]),
        (["agent", "--max-steps", "0"], ["--max-steps 0"]),
        (["agent", "--seed", "-1"], ["--seed -1"]),
        (["agent", "--game", "-1"], ["--game -1"]),
        (["agent", "--step", "7"], ["no checkpoint of step 7"]),
        (["agent", "--gif", tmp_path], ["--gif", "is a folder"]),
        (["agent", "--gif", tmp_path / "no" / "x.gif"], ["--gif", "there is no folder"]),
        (["agent", "--replay", tmp_path / "no" / "x"], ["--replay", "there is no folder"]),
        (["agent", "--scenario", tmp_path / "absent"], ["absent: cannot be read"]),
        (["agent", "--scenario", over], ["over.json", "is over (died)"]),
        (["agent", "--scenario", large], ["--scenario", "large.json", "blocks[0].points: 999", "0..255"]),
        (["agent", "--agent", "random"], ["--agent"]),
    ]
    for arguments, said in impossible:
        status = main(["hackmatrix", "watch", *map(str, arguments), "--runs-dir", str(hackmatrix_runs)])
        captured = capsys.readouterr()
        assert (status, captured.out) == (2, ""), arguments
        (line,) = captured.err.splitlines()
        for part in said:
            assert part in line


# The screen


def viewer(runs: Path, most: int = 5) -> Viewer:
    command = HackmatrixWatchCommand(run="agent", colour="never", delay=0.4)
    return Viewer(agent_game(runs), command, most, "agent, sampled")


def test_time_moves_the_game_until_it_is_paused_or_over(hackmatrix_runs: Path) -> None:
    view = viewer(hackmatrix_runs)
    assert "agent, sampled" in view.screen()
    for at in (1, 2):
        assert view.wait_seconds == 0.4
        assert view.press(None)
        assert view.at == at
    assert view.press(" ")
    assert view.wait_seconds is None
    assert "paused" in view.screen()
    assert view.press(" ")
    for _ in range(9):
        view.press(None)
    assert view.at == 5
    assert view.wait_seconds is None
    assert "not over: stage" in view.screen()
    assert "the end" in view.screen()


def test_keys_step_forward_and_back_and_change_the_speed(hackmatrix_runs: Path) -> None:
    view = viewer(hackmatrix_runs)
    for key, at in (("right", 1), ("s", 2), ("left", 1), ("b", 0), ("left", 0), ("x", 0), ("right", 1)):
        assert view.press(key)
        assert view.at == at
    assert len(view.game.positions) == 3  # what was seen before is not played again
    assert view.paused
    view.press("+")
    assert view.delay == 0.2
    view.press("-")
    view.press("-")
    assert view.delay == 0.8
    assert view.press("e")
    assert view.at == 5
    for key in ("q", "Q", ""):
        assert not view.press(key)


def test_the_screen_has_24_lines_of_80_columns(hackmatrix_runs: Path) -> None:
    view = viewer(hackmatrix_runs)
    for _ in range(4):
        lines = view.screen().split("\n")
        assert len(lines) == 24
        assert max(map(len, lines)) <= 80
        assert lines[-1].endswith("Q quit")
        view.press(None)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")
def test_keys_in_a_real_terminal(hackmatrix_runs: Path, tmp_path: Path) -> None:
    program = f"{sys.executable} -m matrixrl.cli.main hackmatrix watch agent --runs-dir {hackmatrix_runs}"
    terminal = Tmux(f"{program} --seed 3 --delay 60 --gif game.gif; echo status $?; sleep 60", tmp_path)
    try:
        first = terminal.wait_for("Q quit")
        assert len(first.rstrip("\n").split("\n")) == 24
        assert first.split("\n")[0].startswith("  +-------+")  # nothing scrolled away
        assert "expects" in first
        terminal.keys("Space")
        terminal.wait_for("paused")
        terminal.keys("Right", "Right")
        terminal.wait_for("   2 ")
        terminal.keys("Left")
        terminal.wait_for("   1 ")
        terminal.keys("e")
        terminal.wait_for("the end")
        terminal.keys("q")
        end = terminal.wait_for("status 0")
        assert "saved to game.gif" in end
    finally:
        terminal.close()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")
def test_interrupting_gives_the_terminal_back(hackmatrix_runs: Path, tmp_path: Path) -> None:
    program = f"{sys.executable} -m matrixrl.cli.main hackmatrix watch agent --runs-dir {hackmatrix_runs}"
    terminal = Tmux(f"trap : INT; {program} --delay 1; status=$?; stty -a; echo status $status; sleep 60", tmp_path)  # fmt: skip
    try:
        terminal.wait_for("Q quit")
        terminal.keys("C-c")
        end = terminal.wait_for("status 0")
        assert " icanon" in end
        assert " echo " in end
        assert "Traceback" not in end
    finally:
        terminal.close()


# For the dashboard


def test_the_dashboards_process_plays_the_game_that_watch_shows(hackmatrix_runs: Path) -> None:
    agent = load_agent("dashboard", "agent", hackmatrix_runs, None, False)
    answered = answer(agent, {"op": "game", "seed": 0, "game": 1, "max_steps": 12})
    played = agent_game(hackmatrix_runs, game=1)
    while not played.over and len(played.positions) <= 12:
        played.play()
    scenario = load(answered["replay"])
    assert scenario.replay is not None
    assert list(scenario.replay.actions) == [position.action for position in played.positions[1:]]
    for thoughts, position in zip(answered["thoughts"], played.positions, strict=True):
        if thoughts is None:
            assert position.state.episode.done
            continue
        assert thoughts["chosen"] == position.thoughts.chosen
        assert thoughts["value"] == position.thoughts.value
        assert thoughts["probabilities"] == pytest.approx(position.thoughts.probabilities, abs=1e-5)
    # The page replays it on the plain game, with the recorded chance.
    shown = frames_of(scenario, answered["thoughts"])
    assert [frame["hash"] for frame in shown["frames"]] == [state_hash(p.state) for p in played.positions]
    assert shown["differences"] == []
    middle = played.positions[3]
    thought = answer(agent, {"op": "think", "scenario": dump_text(middle.state)})["thoughts"]
    assert thought["value"] == pytest.approx(middle.thoughts.value)
    over = json.loads(dump_text(middle.state))
    over["episode"] |= {"done": True, "outcome": "won"}
    with pytest.raises(ConfigError, match="is over"):
        answer(agent, {"op": "think", "scenario": json.dumps(over)})


@pytest.mark.slow
def test_the_dashboards_process_answers_line_by_line(hackmatrix_runs: Path) -> None:
    policies = Policies()
    try:
        facts, answered = policies.ask(hackmatrix_runs / "agent", {"op": "game", "seed": 0, "max_steps": 3})
        assert facts["agent"] == "agent after 9 updates (4,608 steps)"
        assert len(answered["thoughts"]) == 4
        with pytest.raises(ConfigError, match="format"):
            policies.ask(hackmatrix_runs / "agent", {"op": "think", "scenario": "{}"})
    finally:
        policies.close()
