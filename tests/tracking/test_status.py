"""The status line, with a clock of the test's own and streams that are no terminal, or say they are."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from matrixrl.tracking import status as status_module
from matrixrl.tracking.status import Status, activity, use, wrap


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_no_word_is_broken_and_a_command_can_be_copied() -> None:
    command = "matrixrl matmul train --resume-run matmul-2x2x2-nov27-26-1 --runs-dir /tmp/somewhere/else"
    text = wrap(
        f"stopped at step 1,234, the last checkpoint is checkpoints/1234; continue with: {command}", 60
    )
    *words, last = text.split("\n")
    assert last.strip() == command
    assert all(len(line) <= 60 for line in words)
    assert " ".join(text.split()) == " ".join(
        f"stopped at step 1,234, the last checkpoint is checkpoints/1234; continue with: {command}".split()
    )
    assert wrap("short\n\nlines", 60) == "short\n\nlines"


def test_what_stands_in_columns_keeps_its_margin() -> None:
    text = wrap("trains   one two three four five six", 20)
    assert text.split("\n") == ["trains   one two", "         three four", "         five six"]


def test_a_pipe_gets_a_line_when_an_activity_takes_time(clock: Clock) -> None:
    out = io.StringIO()
    status = Status(lambda: out, clock=clock)
    with status.activity("compiling self-play"):
        clock.now += 0.6
        wait_until(lambda: out.getvalue() == "compiling self-play ...\n")
        clock.now += 12
        wait_until(lambda: out.getvalue().endswith("compiling self-play (13 s so far)\n"))
        clock.now += 1
    status.close()
    assert out.getvalue().splitlines()[-1] == "compiling self-play: done in 14 s"
    assert "\x1b" not in out.getvalue()
    assert "\r" not in out.getvalue()


def test_a_short_activity_leaves_no_line_in_a_pipe(clock: Clock) -> None:
    out = io.StringIO()
    status = Status(lambda: out, clock=clock)
    with status.activity("compiling"):
        clock.now += 0.1
    status.close()
    assert out.getvalue() == ""


def test_a_pipe_hears_of_a_long_phase_now_and_then(clock: Clock) -> None:
    out = io.StringIO()
    status = Status(lambda: out, clock=clock)
    for done in range(0, 1_000, 10):
        status.progress("epoch 3 self-play", done, 4_000, "games", "best rank 8")
        clock.now += 1
    status.close()
    lines = out.getvalue().splitlines()
    assert lines[0] == "epoch 3 self-play: 100 of 4,000 games, 10.0/s, 6 min 30 s left, best rank 8"
    assert len(lines) == 3


def test_the_rate_leaves_compilation_out(clock: Clock) -> None:
    out = io.StringIO()
    status = Status(lambda: out, terminal=True, clock=clock)
    clock.now += 60  # before the phase begins
    status.progress("training", 0, 1_000, "steps")
    clock.now += 10
    status.progress("training", 100, 1_000, "steps")
    with status.activity("compiling the replay buffer"):
        clock.now += 1_000
    clock.now += 10
    status.progress("training", 200, 1_000, "steps")
    assert "10.0/s  1:20 left" in status.status_text(120)
    status.close()


@pytest.mark.parametrize("width", [30, 45, 60, 79, 119])
def test_the_line_fits_the_terminal(clock: Clock, width: int) -> None:
    out = io.StringIO()
    status = Status(lambda: out, terminal=True, clock=clock)
    status.progress("epoch 12 self-play", 0, 100_000, "games", "best rank 23")
    clock.now += 10
    status.progress("epoch 12 self-play", 50_000, 100_000, "games", "best rank 23")
    text = status.status_text(width)
    assert len(text) <= width
    assert "50,000/100,000" in text
    if width >= 60:
        assert "best rank 23" in text
    if width >= 119:
        assert "5,000/s  0:10 left" in text
    with status.activity("compiling " + "x" * 200):
        assert len(status.status_text(width)) == width
        assert status.status_text(width).endswith("0.0 s")
    status.close()


def test_lines_come_above_the_status_line_and_nothing_stays(clock: Clock) -> None:
    out = io.StringIO()
    status = Status(lambda: out, terminal=True, clock=clock)
    with status.activity("compiling self-play"):
        status.line("a line")
    status.close()
    status.line("the end")
    shown = out.getvalue()
    assert re.search(r"compiling self-play  0\.0 s\r +\r\x1b\[Ka line\n", shown)
    assert shown.endswith("\r\x1b[Kthe end\n")


def test_a_stream_without_the_characters_of_the_bar(clock: Clock) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    status = Status(lambda: out, terminal=True, clock=clock)
    status.progress("training", 5, 10, "steps")
    assert "#" in status.status_text(79)
    status.line("Zürich")
    status.close()
    out.seek(0)
    assert "Z\\xfcrich" in out.read()


def test_activities_are_shown_by_the_status_in_use(clock: Clock) -> None:
    outer, inner = io.StringIO(), io.StringIO()
    with activity("nobody listens"):
        pass
    with use(Status(lambda: outer, terminal=True, clock=clock)):
        with use(Status(lambda: inner, terminal=True, clock=clock)), activity("inside"):
            pass
        with activity("outside"):
            pass
    assert "inside" in inner.getvalue()
    assert "outside" in outer.getvalue()
    assert "outside" not in inner.getvalue()
    assert status_module._in_use == []


def test_a_phase_is_shown_inside_what_the_command_does(clock: Clock) -> None:
    status = Status(io.StringIO, terminal=True, clock=clock)
    with status.activity("evaluating r"):
        clock.now += 1
        with status.activity("compiling the game"):
            assert status.status_text(79) == "evaluating r: compiling the game  0.0 s"
            assert status.status_text(30) == "compiling the game  0.0 s"
        clock.now += 1
        status.progress("greedy play", 10, 100, "games")
        assert "10/100 games" in status.status_text(79)
        clock.now += 1
        with status.activity("compiling the policy"):
            assert "compiling the policy" in status.status_text(79)
    status.close()


def test_a_pipe_hears_of_the_outer_activity_first(clock: Clock) -> None:
    out = io.StringIO()
    status = Status(lambda: out, clock=clock)
    with status.activity("evaluating r"), status.activity("starting JAX"):
        clock.now += 0.6
        wait_until(lambda: out.getvalue() == "evaluating r ...\nstarting JAX ...\n")
    status.close()


def test_what_fails_is_not_called_done(clock: Clock) -> None:
    out = io.StringIO()
    status = Status(lambda: out, clock=clock)

    def fail() -> None:
        with status.activity("restoring r"):
            clock.now += 0.6
            wait_until(lambda: out.getvalue() == "restoring r ...\n")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    status.close()
    assert out.getvalue() == "restoring r ...\n"


def test_threads_end_with_what_they_show() -> None:
    out, before = io.StringIO(), set(threading.enumerate())
    status = Status(lambda: out)
    with status.activity("working"):
        assert set(threading.enumerate()) - before
    wait_until(lambda: not set(threading.enumerate()) - before)
    status.close()


def test_a_full_device_costs_the_output_alone() -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full here")
    program = (
        "from matrixrl.tracking.status import Status\n"
        "status = Status()\n"
        "status.line('one')\n"
        "status.line('two')\n"
        "status.close()\n"
    )
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", program], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("matrixrl: the output cannot be written (No space left on device)")


def in_a_notebook(text: str) -> str:
    """Returns what the output of a notebook's cell shows: `\\r` overwrites, other control sequences are dropped."""
    lines = []
    for line in re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text).split("\n"):
        shown = ""
        for part in line.split("\r"):
            shown = part + shown[len(part) :]
        lines.append(shown.rstrip())
    return "\n".join(lines)


def test_the_output_of_a_notebook_shows_one_line_at_a_time(clock: Clock) -> None:
    out = io.StringIO()
    status = Status(lambda: out, terminal=True, clock=clock)
    with use(status):
        with activity("compiling a program with a very long name"):
            clock.now += 1
            wait_until(lambda: "very long name" in out.getvalue())
        with activity("short"):
            clock.now += 1
            wait_until(lambda: "short" in out.getvalue().rpartition("\r")[2])
            last = in_a_notebook(out.getvalue()).split("\n")[-1]
            assert "short" in last
            assert "name" not in last
        status.line("a line")
    assert in_a_notebook(out.getvalue()).strip() == "a line"
