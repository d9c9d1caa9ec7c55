"""`matrixrl hackmatrix play`: words, files, the random agent, and the screen."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from matrixrl.cli.hackmatrix_play import (
    MAX_LINE,
    HackmatrixPlayCommand,
    PlaySession,
    help_screen,
    main,
    parse_action,
    play_key,
    run_command,
    screen,
    why_illegal,
    words_of,
)
from matrixrl.config import ConfigError
from matrixrl.envs.hackmatrix.referee import PROGRAMS
from matrixrl.envs.hackmatrix.scenario import dump_text, load
from tests.envs.hackmatrix.boards import ACTION, data, enemy, game, rich, stunned

SOURCE = Path(__file__).resolve().parents[2] / "src"


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    """A file with a position in which much is possible."""
    path = tmp_path / "position.json"
    path.write_text(
        dump_text(rich((2, 2), siphons=2, blocks={(2, 3): data(4)}, enemies=[stunned("daemon", 5, 2)]))
    )
    return path


def play(*arguments: str | Path) -> int:
    return main([str(argument) for argument in arguments])


def saved(path: Path):
    return load(path.read_text()).state


# Words


@pytest.mark.parametrize(
    ("word", "action"),
    [("up", 0), ("SIPHON", 4), ("siph_plus", 16), ("SIPH+", 16), ("anti-v", 23), ("27", 27), ("0", 0)],
)
def test_actions_are_named_as_in_the_rules_or_numbered(word: str, action: int) -> None:
    assert parse_action(word) == action


@pytest.mark.parametrize("word", ["jump", "28", "-1", "", "1.0", "²", "999999999999"])
def test_other_words_are_no_actions(word: str) -> None:
    assert parse_action(word) is None


def test_commas_are_spaces_and_hashes_start_comments() -> None:
    assert list(words_of(iter(["up, down  # siphon", "", "#", "4,left"]))) == ["up", "down", "4", "left"]


# Files of actions


def test_actions_of_a_file_are_played_and_the_last_state_is_saved(scenario, tmp_path, capsys) -> None:
    actions, save = tmp_path / "actions.txt", tmp_path / "end.json"
    actions.write_text("siphon # takes the block\nwait\n")
    assert play("--scenario", scenario, "--actions", actions, "--save", save) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["1", "siphon", "+2.00", "score", "+2.00"]
    assert lines[-1] == f"saved to {save}"
    state = saved(save)
    assert (state.player.score, state.turn, state.episode.steps) == (4, 2, 2)
    assert os.listdir(tmp_path).count("end.json") == 1
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".part")]


def test_back_takes_the_whole_step_back_and_played_again_it_goes_the_same_way(scenario, tmp_path) -> None:
    once, twice, none = (tmp_path / name for name in ("once.json", "twice.json", "none.json"))
    for words, save in (
        ("siphon wait poly", once),
        ("siphon wait poly back back back siphon wait poly", twice),
        ("siphon back", none),
    ):
        (tmp_path / "words").write_text(words)
        assert (
            play("--scenario", scenario, "--actions", tmp_path / "words", "--save", save, "--seed", "5") == 0
        )
    assert once.read_text() == twice.read_text()
    assert saved(none) == saved(scenario)


def test_nothing_can_be_taken_back_at_the_start(scenario, tmp_path, capsys) -> None:
    (tmp_path / "words").write_text("back")
    assert play("--scenario", scenario, "--actions", tmp_path / "words") == 0
    assert capsys.readouterr().out.startswith("nothing to take back\n")


def test_an_illegal_action_ends_the_game_as_in_the_rules_and_says_why(scenario, tmp_path, capsys) -> None:
    (tmp_path / "words").write_text("right up")
    assert play("--scenario", scenario, "--actions", tmp_path / "words") == 0
    out = capsys.readouterr().out
    assert "not possible: the way is blocked" in out
    assert "the game was over before word 2" in out
    assert out.rstrip().splitlines()[-1].startswith("ended by an invalid action")


def test_boards_shows_the_board_after_each_step(scenario, tmp_path, capsys) -> None:
    (tmp_path / "words").write_text("show wait")
    assert play("--scenario", scenario, "--actions", tmp_path / "words", "--boards") == 0
    assert capsys.readouterr().out.count("stage 1 of 8") == 3


def test_without_a_terminal_words_come_from_standard_input(scenario, monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("show\nwait\n"))
    assert play("--scenario", scenario) == 0
    assert "2 wait" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.StringIO("show"))
    assert play("--scenario", scenario, "--actions", "-") == 0


# The random agent


def test_the_random_agent_plays_to_the_end_and_the_seed_decides(tmp_path, capsys) -> None:
    outputs = []
    for seed in ("7", "7", "8"):
        assert play("--agent", "random", "--seed", seed) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] != outputs[2]
    assert outputs[0].rstrip().splitlines()[-1].startswith(("died", "won"))


def test_the_random_agent_stops_at_max_steps(capsys) -> None:
    assert play("--agent", "random", "--max-steps", "3") == 0
    assert "not over: stage 1, score 0, 3 steps" in capsys.readouterr().out


# Bad input


def one_line(capsys) -> str:
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("matrixrl: ")
    return error


@pytest.mark.parametrize("flag", ["--scenario", "--actions"])
def test_pipes_devices_and_huge_files_are_refused_without_waiting(flag, tmp_path, scenario, capsys) -> None:
    fifo, huge = tmp_path / "fifo", tmp_path / "huge"
    os.mkfifo(fifo)
    huge.touch()
    os.truncate(huge, 200_000_000)
    for path, reason in ((fifo, "is a pipe"), ("/dev/zero", "is a device"), (huge, "200,000,000 bytes")):
        assert play(flag, path, *(["--agent", "random"] if flag == "--scenario" else [])) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert str(path) in err
        assert reason in err


def test_a_replay_with_a_key_twice_is_refused(scenario, capsys) -> None:
    scenario.write_text(scenario.read_text().replace('"turn"', '"stage": 1, "turn"', 1))
    assert play("--scenario", scenario, "--agent", "replay") == 2
    assert "the key 'stage' stands twice in one object" in capsys.readouterr().err


def test_a_stream_that_is_no_text_is_refused(scenario, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("\0" * (MAX_LINE + 1)))
    assert play("--scenario", scenario) == 2
    assert f"a line has more than {MAX_LINE:,} characters" in capsys.readouterr().err


def test_bad_input_is_one_line_and_status_2(tmp_path, scenario, capsys) -> None:
    absent = tmp_path / "absent.json"
    assert play("--scenario", absent) == 2
    assert f"{absent}: cannot be read: No such file" in one_line(capsys)
    faulty = tmp_path / "faulty.json"
    faulty.write_text('{"format": "hackmatrix-scenario", "version": 1, "player": {"row": 9, "col": 0}}')
    assert play("--scenario", faulty) == 2
    assert f"{faulty}: player.row: 9 is not within 0..5" in one_line(capsys)
    faulty.write_bytes(b"\xff\xfe")
    assert play("--scenario", faulty) == 2
    assert "not UTF-8" in one_line(capsys)
    assert play("--actions", absent) == 2
    assert "--actions" in one_line(capsys)
    (tmp_path / "words").write_text("up jump")
    assert play("--scenario", scenario, "--actions", tmp_path / "words") == 2
    assert "word 2 is 'jump'; allowed are up, down" in one_line(capsys)
    (tmp_path / "words").write_text("show")
    assert (
        play("--scenario", scenario, "--actions", tmp_path / "words", "--save", tmp_path / "no" / "dir.json")
        == 2
    )
    assert "cannot be written" in one_line(capsys)


@pytest.mark.parametrize(
    "fields",
    [{"seed": -1}, {"max_steps": 0}, {"agent": "random", "actions": Path("x")}],
)
def test_impossible_settings_are_refused(fields) -> None:
    with pytest.raises(ConfigError, match="--"):
        HackmatrixPlayCommand(**fields)


def test_run_command_raises_for_the_caller_to_report(tmp_path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        run_command(HackmatrixPlayCommand(scenario=tmp_path / "absent"))


# Screens


def session(**fields) -> PlaySession:
    return PlaySession(
        rich((2, 2), **{"enemies": [stunned("daemon", 5, 2)], "blocks": {(2, 3): data(4)}, **fields}), seed=0
    )


def test_the_screen_has_24_lines_of_80_columns() -> None:
    now = session()
    for state in (now.state, game(siphons=1)):
        lines = screen(PlaySession(state, 0), HackmatrixPlayCommand(colour="never")).split("\n")
        assert len(lines) == 24
        assert max(map(len, lines)) <= 80
        assert len(help_screen(state).split("\n")) <= 22
        assert max(map(len, help_screen(state).split("\n"))) <= 80


def test_the_screen_names_moves_and_attacks_and_usable_programs() -> None:
    text = screen(session(siphons=1), HackmatrixPlayCommand(colour="never"))
    assert text.split("\n")[-1].startswith("up! down left space:siphon")
    assert "b PULL   2e" in text
    assert "  DEBUG  3c" in text


def test_a_key_that_is_not_legal_is_explained_and_does_not_end_the_game() -> None:
    now = session()
    play_key(now, "right")
    assert now.message == "right is not possible: the way is blocked"
    assert not now.state.episode.done
    assert now.past == []


def test_keys_play_actions_and_after_the_end_only_taking_back_is_left() -> None:
    now = session(hp=1, enemies=[enemy("daemon", 3, 2)])
    play_key(now, "f")
    assert now.state.episode.outcome == "died"
    assert "U takes the step back" in screen(now, HackmatrixPlayCommand())
    play_key(now, "f")
    play_key(now, "N")
    assert now.state.episode.steps == 1
    now.back()
    assert now.state.player.hp == 1


def test_every_reason_is_known() -> None:
    state = game()
    assert why_illegal(state, ACTION["siphon"]) == "you have no data siphon"
    assert why_illegal(state, ACTION["push"]) == "you do not own it"
    poor = game(own=["calm"], credits=1)
    assert why_illegal(poor, ACTION["calm"]) == "it costs 2c4e, you have 1c 0e"
    for program in PROGRAMS:
        if program.name not in ("wait", "step", "siph_plus"):
            assert why_illegal(rich(), ACTION[program.name]).startswith("it needs ")


# Real processes


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(SOURCE), "TERM": "xterm-256color"}


def test_a_process_without_a_terminal_writes_no_escape_codes(scenario) -> None:
    command = [sys.executable, "-m", "matrixrl.cli.hackmatrix_play", "--scenario", str(scenario)]
    result = subprocess.run(
        command,
        input="siphon\nback\nwait\n",
        capture_output=True,
        text=True,
        env=environment(),
        timeout=120,
        check=False,
    )
    assert result.returncode == 0
    assert result.stderr == ""
    assert "\x1b" not in result.stdout
    assert "back at step 0" in result.stdout


class Tmux:
    """A real terminal of 80 x 24 that runs one command."""

    def __init__(self, command: str, folder: Path) -> None:
        self.socket = f"matrixrl-{uuid.uuid4().hex[:8]}"
        self._run("new-session", "-d", "-x", "80", "-y", "24", "-s", "play", "-c", str(folder), command)

    def _run(self, *arguments: str) -> str:
        return subprocess.run(
            ["tmux", "-L", self.socket, *arguments],
            capture_output=True, text=True, env=environment(), timeout=30, check=True,
        ).stdout  # fmt: skip

    def keys(self, *keys: str) -> None:
        self._run("send-keys", "-t", "play", *keys)

    def wait_for(self, text: str, *, seconds: float = 60) -> str:
        """The screen, once it shows a text."""
        seen = ""
        for _ in range(int(seconds / 0.1)):
            seen = self._run("capture-pane", "-p", "-t", "play")
            if text in seen:
                return seen
            time.sleep(0.1)
        raise AssertionError(f"{text!r} did not appear on\n{seen}")

    def close(self) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            self._run("kill-server")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")
def test_keys_in_a_real_terminal(scenario, tmp_path) -> None:
    play_it = (
        f"{sys.executable} -m matrixrl.cli.hackmatrix_play --scenario {scenario}; echo status $?; sleep 60"
    )
    terminal = Tmux(play_it, tmp_path)
    try:
        first = terminal.wait_for("Q quit")
        assert "up! down left space:siphon" in first
        assert len(first.rstrip("\n").split("\n")) == 24
        assert first.split("\n")[0].startswith("  +-------+")  # nothing scrolled away
        terminal.keys("Up")
        terminal.wait_for("1 up")
        terminal.keys("Space")
        terminal.wait_for("2 siphon")
        terminal.keys("b")
        terminal.wait_for("3 pull")
        terminal.keys("U")
        terminal.wait_for("back at step 2")
        terminal.keys("g")
        terminal.wait_for("debug is not possible: it needs an enemy on a block")
        terminal.keys("?")
        terminal.wait_for("any key continues")
        terminal.keys("x")
        terminal.wait_for("Q quit")
        terminal.keys("S")
        terminal.wait_for("save to")
        terminal.keys("mine.jsonn", "BSpace", "Enter")
        terminal.wait_for("saved to mine.json")
        terminal.keys("Left")
        terminal.wait_for("3 left")
        terminal.keys("L")
        terminal.keys("mine.json", "Enter")
        terminal.wait_for("loaded mine.json")
        terminal.keys("L")
        terminal.keys("absent", "Enter")
        terminal.wait_for("absent: cannot be read")
        terminal.keys("L")
        terminal.wait_for("load from")
        terminal.keys("Escape")
        terminal.wait_for("nothing saved or loaded")
        terminal.keys("Q")
        end = terminal.wait_for("status 0")
        assert "not over: stage 1, score 4, 2 steps" in end
    finally:
        terminal.close()
    assert saved(tmp_path / "mine.json").player.score == 4


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")
def test_interrupting_gives_the_terminal_back(scenario, tmp_path) -> None:
    program = f"{sys.executable} -m matrixrl.cli.hackmatrix_play --scenario {scenario}"
    play_it = f"trap : INT; {program}; status=$?; stty -a; echo status $status; sleep 60"
    terminal = Tmux(play_it, tmp_path)
    try:
        terminal.wait_for("Q quit")
        terminal.keys("C-c")
        end = terminal.wait_for("status 0")
        assert " icanon" in end
        assert " echo " in end
        assert "Traceback" not in end
    finally:
        terminal.close()
