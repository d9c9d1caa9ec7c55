from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from matrixrl.config import TrackingConfig
from matrixrl.systems.hackmatrix.spec import SPEC as HACKMATRIX
from matrixrl.systems.matmul.spec import EPISODE_COLUMNS as MATMUL_EPISODE_COLUMNS
from matrixrl.systems.matmul.spec import SPEC
from matrixrl.tracking.clock import StepClock
from matrixrl.tracking.console import Console, episode_line, line_of, move_line, row_line
from matrixrl.tracking.events import EpisodeRow, LogMessage, MoveRow, ScalarRow
from matrixrl.tracking.run import Run, open_run
from matrixrl.tracking.transcript import complete_transcript, read_transcript
from tests.tracking.conftest import TRAINER, Trainer
from tests.tracking.test_journal import episode


def start(runs_dir: Path, console: str, resume: str | None = None) -> Run:
    config = TrackingConfig(runs_dir=runs_dir, console=console, resume_run=resume)  # pyright: ignore[reportArgumentType]
    return open_run(config, system="matmul", name_prefix="m", run_config={})


def play(run: Run, first: int, count: int) -> None:
    for number in range(first, first + count):
        tick = run.clock.tick()
        run.record([MoveRow(tick, number, 1, [1], -1.0, 2.0), EpisodeRow(tick, episode(number))])
    tick = run.clock.tick()
    run.record([ScalarRow(tick, {"Epoch": first, "epoch_loss": 0.25, "epoch_best_rank": 7})])


def test_lines_have_their_forms() -> None:
    values = dict(zip(MATMUL_EPISODE_COLUMNS, [12, 2, 3, -7.25, 0.0, None, 9, False], strict=True))
    assert episode_line(values) == (
        "Episode 12 | Epoch: 2 | Episode in Epoch: 3 | Reward: -7.25 | Residual: 0 | Rank: - | Steps: 9 | Solved: no"
    )
    assert move_line(3, 12, -1.0, 6.0) == "Step  3 [Ep 12] | Reward: -1 | Residual: 6"
    assert row_line({"Epoch": 2, "epoch_policy_loss": 0.123456789, "eval/rank": 7}, SPEC) == (
        "Epoch 2 | policy loss: 0.123457 | evaluated rank: 7"
    )
    assert row_line({"eval/rank": 8, "eval/solved": 1}, None) == "Evaluation | rank: 8 | solved: 1"
    update = {"train/update_step": 20, "train/entropy": 1.5, "train/vf_loss": 3.0, "episode/count": 7}
    assert row_line(update, HACKMATRIX) == "Update 20 | entropy: 1.5"
    assert row_line(update, SPEC) is None
    assert row_line({"episode/reward": 1.0}, SPEC) is None


def tables(output: str) -> dict[str, list[list[str]]]:
    """Rows of the tables on the screen by the name of their first column; `Step` lines under that name."""
    found: dict[str, list[list[str]]] = {}
    head = ""
    for line in output.splitlines():
        words = line.split()
        if words[0] in ("epoch", "episode"):
            head = words[0]
        elif words[0] == "Step":
            found.setdefault("Step", []).append(words)
        elif head and words[0].replace(",", "").isdigit():
            found.setdefault(head, []).append(words)
    return found


@pytest.mark.parametrize(
    ("level", "kinds"),
    [
        ("quiet", set()),
        ("epochs", {"epoch"}),
        ("episodes", {"epoch", "episode"}),
        ("steps", {"epoch", "episode", "Step"}),
    ],
)
def test_each_level_shows_its_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], level: str, kinds: set[str]
) -> None:
    with start(tmp_path, level) as run:
        play(run, 1, 2)
        run.warn("entropy collapsed")
    output = capsys.readouterr().out
    lines = output.splitlines()
    assert set(tables(output)) == kinds
    assert lines[-2] == "warning: entropy collapsed"
    assert lines[-1].startswith(f"{run.name} finished")
    assert not re.search("\x1b", "\n".join(lines))


def test_the_console_counts_episodes_as_the_table_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with start(tmp_path, "episodes") as run:
        play(run, 1, 5)
    with start(tmp_path, "episodes", "latest") as run:
        run.restore_clock(6)
        play(run, 6, 3)
    shown = [int(row[0]) for row in tables(capsys.readouterr().out)["episode"]]
    assert shown == list(range(1, 9))


def test_what_was_recognised_after_a_resume_is_not_shown_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with start(tmp_path, "episodes") as run:
        play(run, 1, 3)
    with start(tmp_path, "episodes", "latest") as run:
        play(run, 1, 3)
        play(run, 4, 1)
    rows = tables(capsys.readouterr().out)["episode"]
    assert [int(row[0]) for row in rows] == [1, 2, 3, 4]


@pytest.mark.parametrize("lost", [1, 17, 200, 10_000])
def test_lines_that_a_kill_kept_from_the_transcript_are_added_on_resume(tmp_path: Path, lost: int) -> None:
    with start(tmp_path, "steps") as run:
        play(run, 1, 4)
        play(run, 5, 2)
    path = run.directory / "console.log"
    whole = path.read_bytes()
    path.write_bytes(whole[: max(len(whole) - lost, 0)])
    added = complete_transcript(run.directory)
    assert path.read_bytes() == whole or sorted(path.read_bytes().splitlines()) == sorted(whole.splitlines())
    assert added >= 1
    assert complete_transcript(run.directory) == 0
    kinds = [line.kind for line in read_transcript(run.directory)]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {"move": 6, "episode": 6, "epoch": 2}


def test_a_reader_that_left_does_not_stop_the_run(trainer: Trainer) -> None:
    process = trainer.start("--epochs", "30", "--sleep", "0.001")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=60) == 0
    folder = next(trainer.runs_dir.iterdir())
    assert len([line for line in read_transcript(folder) if line.kind == "epoch"]) == 30


def test_a_terminal_gets_a_progress_bar_and_a_pipe_does_not(trainer: Trainer) -> None:
    def bar(text: str) -> bool:
        return "pretrain" in text and "━" in text

    plain = trainer.run("--sleep", "0.01", "--epochs", "1")["output"]
    assert not bar(plain)
    assert "\x1b" not in plain
    here, there = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, str(TRAINER), str(trainer.runs_dir), "--sleep", "0.06", "--epochs", "1"],
        env={**trainer.environment, "TERM": "xterm-256color", "COLUMNS": "100"},
        stdin=subprocess.DEVNULL,
        stdout=there,
        stderr=subprocess.DEVNULL,
    )
    os.close(there)
    shown = b""
    while True:
        try:
            part = os.read(here, 65536)
        except OSError:  # Linux says so when the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(here)
    assert process.wait(timeout=60) == 0
    text = shown.decode()
    assert bar(text)
    assert "epoch" in text
    assert "best rank" in text


def test_progress_without_a_terminal_draws_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    console = Console("epochs", tmp_path)
    for done in range(100):
        console.progress("self-play", done, 100)
    console.close("end")
    assert capsys.readouterr().out == "end\n"


def test_notes_and_plain_rows_have_no_line_in_the_transcript() -> None:
    clock = StepClock()
    assert line_of(LogMessage(None, "x"), SPEC) is None
    assert line_of(ScalarRow(clock.tick(), {"pretrain/loss": 1.0}), SPEC) is None
