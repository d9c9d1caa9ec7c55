"""Training that is killed or stopped, and resumed, equals training that was left alone."""

from __future__ import annotations

import random
import shlex
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from matrixrl.checkpoints.store import CheckpointStore
from matrixrl.tracking.audit import audit
from matrixrl.tracking.journal_reader import JournalReader
from tests.checkpoints import runs
from tests.checkpoints.runs import System

Reference = tuple[Path, dict[str, Any]]


def disturb(
    env: dict[str, str],
    command: list[str],
    folder: Path,
    at_step: int,
    jitter: float,
    number: signal.Signals,
) -> tuple[int, str, str]:
    """Start a trainer and send it a signal soon after it recorded a step. Status and what it said."""
    with subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 900
        while (
            process.poll() is None and runs.recorded_steps(folder) < at_step and time.monotonic() < deadline
        ):
            time.sleep(0.002)
        time.sleep(jitter)
        if process.poll() is None:
            process.send_signal(number)
        out, err = process.communicate(timeout=900)
    return process.returncode, out, err


def kill_and_resume(
    env: dict[str, str], system: System, reference: Reference, runs_dir: Path, kills: int, seed: int
) -> None:
    draw = random.Random(seed)
    expected_folder, expected = reference
    last = expected["global_step"]
    folder = runs_dir / "r"
    where = ["--runs-dir", str(runs_dir)]
    begin = system.command(*system.tiny, *where, "--run-name", "r", "--save-interval-chunks", "3")
    resume = system.command("--resume-run", "r", *where)
    for kill in range(kills):
        # Further on each time, now and then in the middle of writing a checkpoint, now and then at the very end.
        at_step = draw.randint(last * kill // kills, last * (kill + 1) // kills)
        command = resume if folder.exists() else begin
        status, _, err = disturb(env, command, folder, at_step, draw.uniform(0, 0.2), signal.SIGKILL)
        assert status in (-signal.SIGKILL, 0), err
        assert "Traceback" not in err
    done = runs.run(env, [*resume, "--json"])
    found = runs.result(done)
    assert {name: found[name] for name in system.same} == {name: expected[name] for name in system.same}
    assert "differs from what was recorded" not in done.stdout
    runs.assert_equal_runs(folder, expected_folder)


@pytest.mark.slow
def test_two_kills_at_random_moments_leave_no_trace(
    env: dict[str, str], system: System, reference: Reference, tmp_path: Path
) -> None:
    kill_and_resume(env, system, reference, tmp_path, kills=2, seed=random.randrange(10**6))


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("seed", range(3))
def test_ten_kills_at_random_moments_leave_no_trace(
    env: dict[str, str], system: System, reference: Reference, tmp_path: Path, seed: int
) -> None:
    kill_and_resume(env, system, reference, tmp_path, kills=10, seed=seed)


@pytest.mark.slow
def test_stopped_runs_say_how_to_go_on_and_that_command_does(
    env: dict[str, str], system: System, reference: Reference, tmp_path: Path
) -> None:
    folder = tmp_path / "r"
    last = reference[1]["global_step"]
    command = system.command(*system.tiny, "--runs-dir", str(tmp_path), "--run-name", "r")
    for at_step, number, expected in ((last // 5, signal.SIGTERM, 143), (last // 2, signal.SIGINT, 130)):
        status, _, err = disturb(env, command, folder, at_step, 0.0, number)
        assert status == expected, err
        stopped = CheckpointStore(folder).steps()[-1]
        assert stopped == runs.recorded_steps(folder)
        assert f"stopped at step {stopped}" in err
        line = err.splitlines()[-1]
        told = shlex.split(line.split("continue with: ")[1])
        resume = ["--resume-run", "r", "--runs-dir", str(tmp_path)]
        assert told == ["matrixrl", system.name, "train", *resume]
        command = system.command(*resume)
    found = runs.result(runs.run(env, [*command, "--json"]))
    assert found["params_sha256"] == reference[1]["params_sha256"]
    runs.assert_equal_runs(folder, reference[0])


@pytest.mark.slow
def test_sigterm_while_compiling_ends_within_the_grace_time(
    env: dict[str, str], system: System, tmp_path: Path
) -> None:
    cold = {**env, "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cold")}
    folder = tmp_path / "r"
    where = ["--runs-dir", str(tmp_path), "--run-name", "r"]
    command = system.command(*system.tiny, *where, "--grace-seconds", "0.5")
    with subprocess.Popen(command, env=cold, stderr=subprocess.PIPE, text=True) as process:
        while not (folder / "console.log").exists():
            time.sleep(0.01)
        time.sleep(0.5)
        process.terminate()
        _, err = process.communicate(timeout=300)
    assert process.returncode == 143
    assert "not finished 0.5 s after SIGTERM" in err
    assert "--resume-run r" in err


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_signal_at_any_moment_leaves_no_trace(
    env: dict[str, str],
    system: System,
    reference: Reference,
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    """The process sends itself the signal at exactly this moment."""
    for name, moment in system.moments.items():
        where = ["--runs-dir", str(tmp_path / name.replace(" ", "-"))]
        folder = tmp_path / name.replace(" ", "-") / "r"
        begin = [*system.tiny, *where, "--run-name", "r", "--save-interval-chunks", "3"]
        command = system.command(*begin, moment=moment, number=number.name)
        stopped = subprocess.run(command, env=env, capture_output=True, text=True, timeout=900, check=False)
        told = name, stopped.returncode, stopped.stdout, stopped.stderr
        assert "Traceback" not in stopped.stderr, told
        over = name in ("finish", "last checkpoint")
        killed = number == signal.SIGKILL
        assert stopped.returncode == (-signal.SIGKILL if killed else 0 if over else 143), told
        report = audit(folder)
        assert report.gaps == [], (name, report.gaps)
        if not killed and not over:  # a step may pass without a row
            assert CheckpointStore(folder).steps()[-1] >= runs.recorded_steps(folder), told
        done = runs.run(env, system.command("--resume-run", "r", *where, "--json"))
        assert killed or "were lost" not in done.stdout, told
        found = runs.result(done)
        assert {n: found[n] for n in system.same} == {n: reference[1][n] for n in system.same}, name
        runs.assert_equal_runs(folder, reference[0])
        with JournalReader(folder) as reader:
            starts = [attempt.start_step for attempt in reader.attempts()]
        assert starts == sorted(starts), name  # the clock never goes back
